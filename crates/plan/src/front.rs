//! The Pareto front: which points no other point beats on every objective.
//!
//! All objectives are minimised. Points are sorted by the first objective (ties by the others, then by number), so a
//! point can only be beaten by one that comes before it, and the first objective needs no further look. What remains is
//! to ask of each point, in order: is there a kept point that is at most as large in the other three? Kept points live
//! in a forest of k-d trees of doubling size (Bentley and Saxe 1980: "Decomposable searching problems"), each node with
//! the least and the greatest corner of its points. A node whose least corner is too large holds no answer, and one whose
//! greatest corner is small enough is the answer, so a question seldom goes deep. Of equal points the first is kept.

/// How many objectives there are.
pub const OBJECTIVES: usize = 4;
/// Points in a leaf: below this a plain look is quicker than a node.
const LEAF: usize = 16;

/// A point: its objectives, all minimised, and its number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Objectives; one that is unknown is the same for all.
    pub at: [f64; OBJECTIVES],
    /// Its number: of equal points the smallest is kept.
    pub id: u64,
}

/// The points of the front, by ascending objectives.
pub fn front(mut points: Vec<Point>) -> Vec<Point> {
    points.sort_unstable_by(order);
    let mut forest = Forest::default();
    let mut kept: Vec<Point> = Vec::new();
    // What beat the last point often beats the next.
    let mut strongest: Option<Point> = None;
    for point in points {
        let rest = rest(&point);
        if strongest.is_some_and(|strong| at_most(&self::rest(&strong), &rest)) {
            continue;
        }
        if let Some(beaten_by) = forest.find(&rest) {
            strongest = Some(Point { at: [0.0, beaten_by[0], beaten_by[1], beaten_by[2]], id: 0 });
            continue;
        }
        forest.insert(rest);
        kept.push(point);
    }
    kept
}

/// By objectives, then by number.
pub fn order(a: &Point, b: &Point) -> std::cmp::Ordering {
    let objectives = a.at.iter().zip(&b.at).map(|(a, b)| a.total_cmp(b));
    objectives.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then).then(a.id.cmp(&b.id))
}

type Rest = [f64; OBJECTIVES - 1];

fn rest(point: &Point) -> Rest {
    [point.at[1], point.at[2], point.at[3]]
}

fn at_most(a: &Rest, b: &Rest) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b)
}

/// Trees of 1, 2, 4, … leaves, like the digits of a binary number.
#[derive(Default)]
struct Forest {
    fresh: Vec<Rest>,
    trees: Vec<Option<Tree>>,
}

impl Forest {
    fn insert(&mut self, point: Rest) {
        self.fresh.push(point);
        if self.fresh.len() < LEAF {
            return;
        }
        let mut points = std::mem::take(&mut self.fresh);
        for tree in &mut self.trees {
            match tree.take() {
                Some(full) => points.extend(full.points),
                None => {
                    *tree = Some(Tree::new(points));
                    return;
                }
            }
        }
        self.trees.push(Some(Tree::new(points)));
    }

    fn find(&self, bound: &Rest) -> Option<Rest> {
        let fresh = self.fresh.iter().find(|point| at_most(point, bound)).copied();
        fresh.or_else(|| self.trees.iter().rev().flatten().find_map(|tree| tree.find(bound)))
    }
}

/// A k-d tree over a slice that is halved again and again; node i has the children 2i + 1 and 2i + 2.
struct Tree {
    points: Vec<Rest>,
    corners: Vec<(Rest, Rest)>,
}

impl Tree {
    fn new(points: Vec<Rest>) -> Self {
        let leaves = points.len().div_ceil(LEAF).next_power_of_two();
        let mut tree =
            Self { corners: vec![([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]); 2 * leaves - 1], points };
        let all = tree.points.len();
        tree.build(0, 0, all);
        tree
    }

    fn build(&mut self, node: usize, from: usize, until: usize) {
        let (mut least, mut most) = ([f64::INFINITY; 3], [f64::NEG_INFINITY; 3]);
        for point in &self.points[from..until] {
            for axis in 0..3 {
                least[axis] = least[axis].min(point[axis]);
                most[axis] = most[axis].max(point[axis]);
            }
        }
        self.corners[node] = (least, most);
        if 2 * node + 2 < self.corners.len() && until - from > 1 {
            let width = |axis: &usize| most[*axis] - least[*axis];
            let axis = (0..3).max_by(|a, b| width(a).total_cmp(&width(b))).unwrap_or(0);
            let middle = (from + until) / 2;
            self.points[from..until]
                .select_nth_unstable_by(middle - from, |a, b| a[axis].total_cmp(&b[axis]));
            self.build(2 * node + 1, from, middle);
            self.build(2 * node + 2, middle, until);
        }
    }

    fn find(&self, bound: &Rest) -> Option<Rest> {
        self.find_in(bound, 0, 0, self.points.len())
    }

    fn find_in(&self, bound: &Rest, node: usize, from: usize, until: usize) -> Option<Rest> {
        let (least, most) = &self.corners[node];
        if from == until || !at_most(least, bound) {
            return None;
        }
        if at_most(most, bound) {
            return Some(self.points[from]);
        }
        if 2 * node + 2 >= self.corners.len() || until - from == 1 {
            return self.points[from..until].iter().find(|point| at_most(point, bound)).copied();
        }
        let middle = (from + until) / 2;
        self.find_in(bound, 2 * node + 1, from, middle)
            .or_else(|| self.find_in(bound, 2 * node + 2, middle, until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qeil_laws::random::Random;

    fn slow(points: &[Point]) -> Vec<u64> {
        let beats = |a: &Point, b: &Point| {
            a.at.iter().zip(&b.at).all(|(a, b)| a <= b) && (a.at != b.at || a.id < b.id)
        };
        let mut ids: Vec<u64> = points
            .iter()
            .filter(|point| !points.iter().any(|other| beats(other, point)))
            .map(|point| point.id)
            .collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn as_by_comparing_all_pairs() {
        // Coarse values make ties and equal points; a plane makes everything part of the front.
        for (seed, levels, plane) in
            [(1, 3, false), (2, 8, false), (3, 1 << 20, false), (4, 50, true), (5, 1, false)]
        {
            for count in [0, 1, 2, 15, 16, 17, 33, 400, 900] {
                let mut random = Random::new(seed, count);
                let points: Vec<Point> = (0..count)
                    .map(|id| {
                        let mut at = [0.0; OBJECTIVES].map(|_: f64| random.below(levels) as f64);
                        if plane {
                            at[3] = -(at[0] + at[1] + at[2]);
                        }
                        Point { at, id }
                    })
                    .collect();
                let mut ids: Vec<u64> = front(points.clone()).iter().map(|point| point.id).collect();
                ids.sort_unstable();
                assert_eq!(ids, slow(&points), "{count} points, {levels} levels");
            }
        }
    }

    #[test]
    fn the_order_of_points_does_not_matter() {
        let mut random = Random::new(9, 0);
        let mut points: Vec<Point> = (0..300)
            .map(|id| Point { at: [0.0; OBJECTIVES].map(|_: f64| random.below(6) as f64), id })
            .collect();
        let there = front(points.clone());
        points.reverse();
        assert_eq!(front(points), there);
    }
}
