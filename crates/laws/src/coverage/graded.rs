//! How hard tasks are where that changes along a set: a beta distribution whose mean moves with a task's grade.
//!
//! A grade is a number that is known of a task before it is sampled, such as its place in a set. The logit of the mean
//! pass probability is linear in it, as in a logistic regression; the smaller shape is the same at every grade, so on the
//! hard side all pass probabilities shrink in proportion. The likelihood is that of [`super::beta`] at each task's own
//! grade, and holds for adaptive runs for the same reason. With a slope of 0 it is the plain law.

use super::beta::{Coordinates, Difficulty, Hyperprior, STEP, start_of};
use super::simplex::least;
use super::{Counts, Tally};
use std::collections::BTreeMap;

/// Grades that differ by less than one in this many are one: a straight line needs no more, and a set of thousands of
/// tasks is then fitted about as fast as one of dozens.
const GRADE_PARTS: f64 = 16.0;

/// A difficulty that changes along a set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Graded {
    /// That of tasks of grade 0.
    pub middle: Difficulty,
    /// By how much the logit of the mean pass probability rises with each unit of the grade.
    pub slope: f64,
}

/// What is believed of a slope before any sample: a normal distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slope {
    /// Its mean.
    pub centre: f64,
    /// Its standard deviation.
    pub deviation: f64,
}

/// Tallies of the tasks of each grade, which is rounded.
pub fn by_grade(tasks: impl Iterator<Item = (f64, Counts)>) -> Vec<(f64, Tally)> {
    let mut found: BTreeMap<i64, Vec<Counts>> = BTreeMap::new();
    for (grade, counts) in tasks {
        found.entry((grade * GRADE_PARTS).round() as i64).or_default().push(counts);
    }
    found.into_iter().map(|(part, counts)| (part as f64 / GRADE_PARTS, Tally::new(&counts))).collect()
}

impl Graded {
    /// The same at every grade.
    pub fn level(middle: Difficulty) -> Self {
        Self { middle, slope: 0.0 }
    }

    /// The difficulty of tasks of this grade.
    pub fn at(&self, grade: f64) -> Difficulty {
        let (at, _) = moved(Coordinates::of(self.middle), self.slope * grade).bounded();
        at.difficulty()
    }

    /// The one under which the counts at these grades are likeliest, without a share of unsolvable tasks.
    pub fn fit(grades: &[(f64, Tally)], hyperprior: &Hyperprior, believed: Slope) -> Self {
        let centre = |logit_mean, log_shape| Coordinates { logit_mean, log_shape, logit_unsolvable: None };
        let rows = grades.iter().flat_map(|(_, tally)| tally.rows());
        let start = [start_of(rows), hyperprior.log_shape[0], believed.centre];
        let cost = |&[logit_mean, log_shape, slope]: &[f64; 3]| {
            let centre = centre(logit_mean, log_shape);
            let unlikely = |(grade, tally): &(f64, Tally)| {
                let (at, off) = moved(centre, slope * grade).bounded();
                off - at.difficulty().ln_likelihood_of(tally)
            };
            let (bounded, off) = centre.bounded();
            let steep = ((slope - believed.centre) / believed.deviation).powi(2) / 2.0;
            hyperprior.penalty(&bounded) + off + steep + grades.iter().map(unlikely).sum::<f64>()
        };
        let ([logit_mean, log_shape, slope], _) = least(start, STEP, cost);
        Self { middle: centre(logit_mean, log_shape).bounded().0.difficulty(), slope }
    }
}

fn moved(at: Coordinates, shift: f64) -> Coordinates {
    Coordinates { logit_mean: at.logit_mean + shift, ..at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::simulation::{Family, until_first_pass};
    use crate::random::Random;

    const WIDE: Slope = Slope { centre: 0.0, deviation: 10.0 };

    /// Tasks at evenly spread grades, each sampled until its first pass.
    fn sampled(law: Graded, tasks: u32, stream: u64) -> Vec<(f64, Tally)> {
        let mut random = Random::new(77, stream);
        by_grade((0..tasks).map(|task| {
            let grade = 2.0 * f64::from(task) / f64::from(tasks - 1) - 1.0;
            let p = Family::Beta(law.at(grade)).draw(&mut random);
            (grade, until_first_pass(64, p, &mut random))
        }))
    }

    #[test]
    fn a_grade_moves_the_logit_of_the_mean() {
        let law = Graded { middle: Difficulty { alpha: 0.5, beta: 1.5, unsolvable: 0.0 }, slope: -2.0 };
        let logit = |law: Difficulty| (law.alpha / law.beta).ln();
        assert_eq!(law.at(0.0), law.middle);
        for grade in [-1.0, -0.25, 0.5, 1.0] {
            let at = law.at(grade);
            assert!((logit(at) - logit(law.middle) + 2.0 * grade).abs() < 1e-12, "{grade}: {at:?}");
            assert!((at.alpha.min(at.beta) - 0.5).abs() < 1e-12, "{grade}: {at:?}");
        }
        let far = Graded { slope: 1e9, ..law };
        assert!([-1.0, 1.0].map(|grade| far.at(grade).pass_probability()).iter().all(|p| p.is_finite()));
    }

    #[test]
    fn slopes_are_found_in_adaptive_data() {
        let middle = Difficulty { alpha: 0.6, beta: 4.0, unsolvable: 0.0 };
        for slope in [-3.0, 0.0, 1.5] {
            let fit = |stream| {
                Graded::fit(&sampled(Graded { middle, slope }, 600, stream), &Hyperprior::FLAT, WIDE)
            };
            let found: f64 = (0..8).map(|stream| fit(stream).slope / 8.0).sum();
            assert!((found - slope).abs() < 0.25, "{found} for {slope}");
        }
    }

    #[test]
    fn without_a_slope_it_is_the_plain_law() {
        let middle = Difficulty { alpha: 0.4, beta: 3.0, unsolvable: 0.0 };
        let data = sampled(Graded::level(middle), 300, 9);
        let none = Slope { centre: 0.0, deviation: 1e-6 };
        let graded = Graded::fit(&data, &Hyperprior::WEAK, none).middle;
        let rows: Vec<Counts> = data
            .iter()
            .flat_map(|(_, tally)| tally.counts())
            .flat_map(|(counts, weight)| vec![*counts; *weight as usize])
            .collect();
        let plain = Difficulty::fit(&Tally::new(&rows), &Hyperprior::WEAK);
        assert!((graded.alpha / plain.alpha - 1.0).abs() < 0.01, "{graded:?} {plain:?}");
        assert!((graded.beta / plain.beta - 1.0).abs() < 0.01, "{graded:?} {plain:?}");
    }

    #[test]
    fn nothing_known_is_what_was_believed() {
        let found = Graded::fit(&[], &Hyperprior::WEAK, Slope { centre: 0.5, deviation: 2.0 });
        let weak = Difficulty::fit(&Tally::default(), &Hyperprior::WEAK);
        assert!((found.slope - 0.5).abs() < 0.01, "{found:?}");
        assert!((found.middle.alpha / weak.alpha - 1.0).abs() < 0.01, "{found:?} {weak:?}");
    }
}
