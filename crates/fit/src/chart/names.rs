//! Where the names of points go, so that none covers a point, another name or the legend.
//!
//! Greedy and good enough for a few dozen points: for each point the places around it are tried from near to far, and
//! the first one that covers nothing is taken; where all do, the one that covers least.

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

    fn size(self) -> f64 {
        self.width * self.height
    }
}

/// Distances from the point that are tried, in pixels; from the third on a thin line leads back to the point.
const DISTANCES: [f64; 5] = [9.0, 14.0, 26.0, 40.0, 58.0];
/// From this distance on a name is far from its point.
const FAR: f64 = 20.0;
/// What covering a curve counts beside covering a point or a name: it is ugly, not wrong.
const CURVE_WEIGHT: f64 = 0.25;

/// Names being placed.
#[derive(Debug)]
pub struct Names {
    plot: Area,
    taken: Vec<Area>,
    disliked: Vec<Area>,
}

impl Names {
    pub fn new(plot: Area, taken: Vec<Area>) -> Self {
        Self { plot, taken, disliked: Vec::new() }
    }

    /// Nothing may be written here.
    pub fn avoid(&mut self, area: Area) {
        self.taken.push(area);
    }

    /// Better to write nothing here.
    pub fn prefer_not(&mut self, area: Area) {
        self.disliked.push(area);
    }

    /// A place for a name of this width and text size beside a point: left end of its base line, and whether it is far.
    pub fn place(&mut self, x: f64, y: f64, width: f64, size: f64) -> (f64, f64, bool) {
        let mut best: Option<(f64, Area, bool)> = None;
        for distance in DISTANCES {
            for area in around(x, y, width, size, distance) {
                let cost = self.cost(area);
                if best.as_ref().is_none_or(|(least, _, _)| cost < *least) {
                    best = Some((cost, area, distance > FAR));
                }
            }
            if best.as_ref().is_some_and(|(cost, _, _)| *cost <= 0.0) {
                break;
            }
        }
        let (area, far) =
            best.map_or((Area { x, y, width, height: size }, false), |(_, area, far)| (area, far));
        self.taken.push(area);
        (area.x, area.y + size * 0.85, far)
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
        let mut names = Names::new(PLOT, Vec::new());
        for (x, y) in points {
            names.avoid(Area::around(x, y, 6.0));
        }
        let placed: Vec<Area> = points
            .iter()
            .map(|&(x, y)| {
                let (left, base, _) = names.place(x, y, 80.0, 11.0);
                Area { x: left, y: base - 11.0 * 0.85, width: 80.0, height: 11.0 }
            })
            .collect();
        for (at, area) in placed.iter().enumerate() {
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
