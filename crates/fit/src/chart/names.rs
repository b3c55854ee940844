//! Where the names of points go, so that none covers a point, another name or the legend.
//!
//! Greedy and good enough for a few dozen points: for each point the places around it are tried from near to far, and
//! the first one that covers nothing and is not nearer to another point is taken; where there is none, the one that
//! offends least. A name that ends up far from its point, or nearer to another, gets a line to its own.

/// A rectangle, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

impl Area {
    pub fn around(x: f64, y: f64, half: f64) -> Self {
        Self { x: x - half, y: y - half, width: 2.0 * half, height: 2.0 * half }
    }

    pub fn grown(self, by: f64) -> Self {
        Self { x: self.x - by, y: self.y - by, width: self.width + 2.0 * by, height: self.height + 2.0 * by }
    }

    pub fn holds(self, x: f64, y: f64) -> bool {
        (self.x..=self.x + self.width).contains(&x) && (self.y..=self.y + self.height).contains(&y)
    }

    /// Square pixels that both cover.
    pub fn overlap(self, other: Self) -> f64 {
        let along = |a: f64, a_size: f64, b: f64, b_size: f64| (a + a_size).min(b + b_size) - a.max(b);
        let width = along(self.x, self.width, other.x, other.width);
        let height = along(self.y, self.height, other.y, other.height);
        width.max(0.0) * height.max(0.0)
    }

    /// How far a place lies outside.
    pub fn distance(self, x: f64, y: f64) -> f64 {
        let (nx, ny) = self.nearest(x, y);
        (x - nx).hypot(y - ny)
    }

    /// The place inside that is nearest to another place.
    pub fn nearest(self, x: f64, y: f64) -> (f64, f64) {
        (x.clamp(self.x, self.x + self.width), y.clamp(self.y, self.y + self.height))
    }

    fn size(self) -> f64 {
        self.width * self.height
    }
}

/// Distances from the point that are tried, in pixels.
const DISTANCES: [f64; 5] = [9.0, 14.0, 26.0, 40.0, 58.0];
/// From this distance on a name is far from its point.
const FAR: f64 = 20.0;
/// What being nearer to another point counts, in square pixels covered: more than some of a curve, less than a name.
const AMBIGUOUS: f64 = 60.0;
/// What covering a curve counts beside covering a point or a name: it is ugly, not wrong.
const CURVE_WEIGHT: f64 = 0.25;

/// Names being placed.
#[derive(Debug)]
pub struct Names {
    plot: Area,
    points: Vec<(f64, f64)>,
    taken: Vec<Area>,
    disliked: Vec<Area>,
}

/// Where a name goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placed {
    /// What it covers.
    pub area: Area,
    /// Whether a line must say whose name it is.
    pub needs_line: bool,
}

impl Names {
    /// Names of `points` in `plot`.
    pub fn new(plot: Area, points: &[(f64, f64)]) -> Self {
        Self { plot, points: points.to_vec(), taken: Vec::new(), disliked: Vec::new() }
    }

    /// Nothing may be written here.
    pub fn avoid(&mut self, area: Area) {
        self.taken.push(area);
    }

    /// Better to write nothing here.
    pub fn prefer_not(&mut self, area: Area) {
        self.disliked.push(area);
    }

    /// A place for a name of this width and text size beside a point.
    pub fn place(&mut self, x: f64, y: f64, width: f64, size: f64) -> Placed {
        let mut best: Option<(f64, Placed)> = None;
        for distance in DISTANCES {
            for area in around(x, y, width, size, distance) {
                let ambiguous = self.is_ambiguous(area, x, y);
                let cost = self.cost(area) + if ambiguous { AMBIGUOUS } else { 0.0 };
                if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                    best = Some((cost, Placed { area, needs_line: ambiguous || distance > FAR }));
                }
            }
            if best.as_ref().is_some_and(|(cost, _)| *cost <= 0.0) {
                break;
            }
        }
        let anywhere = Placed { area: Area { x, y, width, height: size }, needs_line: false };
        let placed = best.map_or(anywhere, |(_, placed)| placed);
        self.taken.push(placed.area);
        placed
    }

    /// Whether another point is about as near as the name's own.
    fn is_ambiguous(&self, area: Area, x: f64, y: f64) -> bool {
        const CLEARLY: f64 = 1.5;
        let own = area.distance(x, y) * CLEARLY;
        self.points.iter().any(|&(ox, oy)| (ox, oy) != (x, y) && area.distance(ox, oy) < own)
    }

    fn cost(&self, area: Area) -> f64 {
        let outside = area.size() - area.overlap(self.plot.grown(-2.0));
        let covered: f64 = self.taken.iter().map(|taken| area.grown(1.0).overlap(*taken)).sum();
        let disliked: f64 = self.disliked.iter().map(|disliked| area.overlap(*disliked)).sum();
        4.0 * outside.max(0.0) + covered + CURVE_WEIGHT * disliked
    }
}

/// Places at this distance: right, left, and above and below at three offsets.
fn around(x: f64, y: f64, width: f64, size: f64, distance: f64) -> [Area; 8] {
    let middle = y - size / 2.0;
    let (right, left) = (x + distance, x - distance - width);
    let (above, below) = (y - distance - size, y + distance);
    [
        (right, middle),
        (left, middle),
        (right - 4.0, below - size / 2.0),
        (left + 4.0, above + size / 2.0),
        (x - width / 2.0, above),
        (x - width / 2.0, below),
        (right - 4.0, above + size / 2.0),
        (left + 4.0, below - size / 2.0),
    ]
    .map(|(x, y)| Area { x, y, width, height: size })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLOT: Area = Area { x: 0.0, y: 0.0, width: 400.0, height: 300.0 };

    #[test]
    fn overlaps() {
        let a = Area { x: 0.0, y: 0.0, width: 10.0, height: 10.0 };
        for (x, y, expected) in [(5.0, 5.0, 25.0), (10.0, 0.0, 0.0), (0.0, 0.0, 100.0), (50.0, 50.0, 0.0)] {
            assert_eq!(a.overlap(Area { x, y, ..a }), expected, "{x}, {y}");
        }
        assert!(a.holds(10.0, 0.0) && !a.holds(10.1, 0.0));
    }

    #[test]
    fn crowded_names_do_not_cover_each_other() {
        let points = [(200.0, 150.0), (208.0, 146.0), (216.0, 142.0), (395.0, 20.0), (5.0, 295.0)];
        let mut names = Names::new(PLOT, &points);
        for (x, y) in points {
            names.avoid(Area::around(x, y, 6.0));
        }
        let placed: Vec<Area> = points.iter().map(|&(x, y)| names.place(x, y, 80.0, 11.0).area).collect();
        for (at, (area, own)) in placed.iter().zip(points).enumerate() {
            assert!(area.distance(own.0, own.1) < 60.0, "{at} is far from its point");
            assert!((area.overlap(PLOT) - area.size()).abs() < 1e-9, "{at} leaves the plot: {area:?}");
            for (other, b) in placed.iter().enumerate().skip(at + 1) {
                assert_eq!(area.overlap(*b), 0.0, "{at} covers {other}");
            }
            for (x, y) in points {
                assert!(!area.holds(x, y), "{at} covers the point at {x}, {y}");
            }
        }
    }
}
