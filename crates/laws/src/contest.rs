//! Which law is better: the one that errs less on models it has not seen.
//!
//! Both laws have two coefficients, so a better fit of seen points is a fair hint and no more. Leaving out one model at
//! a time and predicting it is the question that a user asks ("how fast will the model be that I have not run?"), and
//! needs no assumption on the errors.
//!
//! Choosing the best of several laws by that error flatters the winner: among six laws one is lucky. So the contest is
//! also held blind: for each model, the law is chosen anew by leave-one-out among the other models, and only then
//! predicts the one that had no say. That error is what choosing *this way* costs.

use crate::LawError;
use crate::interval::median;
use crate::law::{Form, GROUPS_MIN, Law, Point, count_groups};
use serde::{Deserialize, Serialize};

/// A left-out point and what the law of the others said of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its group.
    pub group: u32,
    /// What was measured.
    pub measured: f64,
    /// What the law of the others gives.
    pub predicted: f64,
    /// Predicted over measured, less one: positive where the law gives too much.
    pub relative_error: f64,
}

impl LeftOut {
    /// A measured value of a group beside what was predicted for it.
    pub fn new(group: u32, measured: f64, predicted: f64) -> Self {
        Self { group, measured, predicted, relative_error: predicted / measured - 1.0 }
    }

    fn by(law: Law, point: &Point) -> Self {
        Self::new(point.group, point.y, law.at(point.x))
    }
}

/// Errors on left-out groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeaveOneOut {
    /// In the order of the points.
    pub each: Vec<LeftOut>,
    /// Median size of the relative error.
    pub median_error: f64,
    /// Largest size of the relative error.
    pub max_error: f64,
}

impl LeaveOneOut {
    /// The errors of these.
    ///
    /// # Errors
    /// There are none, or one of the errors is NaN.
    pub fn of(each: Vec<LeftOut>) -> Result<Self, LawError> {
        let errors: Vec<f64> = each.iter().map(|left| left.relative_error.abs()).collect();
        let (Some(median_error), Some(max_error)) =
            (median(&errors), errors.iter().copied().reduce(f64::max))
        else {
            return Err(LawError::TooFew { what: "models", found: 0, least: GROUPS_MIN });
        };
        Ok(Self { each, median_error, max_error })
    }
}

/// Predict each group from all others.
///
/// # Errors
/// Fewer than three groups, or others that allow no law.
pub fn leave_one_out(form: Form, points: &[Point]) -> Result<LeaveOneOut, LawError> {
    let groups = count_groups(points);
    if groups < GROUPS_MIN {
        return Err(LawError::TooFew { what: "models", found: groups, least: GROUPS_MIN });
    }
    let each: Result<Vec<LeftOut>, LawError> = points
        .iter()
        .map(|point| Ok(LeftOut::by(Law::through(form, &without(points, point.group))?, point)))
        .collect();
    LeaveOneOut::of(each?)
}

fn without(points: &[Point], group: u32) -> Vec<Point> {
    points.iter().filter(|point| point.group != group).copied().collect()
}

/// A law that takes part: a form over a predictor.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Which law.
    pub form: Form,
    /// The same measurements in the same order for all candidates, with this candidate's predictor.
    pub points: Vec<Point>,
}

/// What came of a contest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contest {
    /// For each candidate, in their order; missing where no law could be had from it.
    pub standings: Vec<Option<LeaveOneOut>>,
    /// The candidate with the least median error; of equals the one with the least maximum, then the first.
    pub winner: usize,
    /// The errors where each model's law was chosen without it; missing below four groups, where no choice can be
    /// made among the other two.
    pub blind: Option<LeaveOneOut>,
}

/// Let the candidates predict what they have not seen.
///
/// # Errors
/// No candidate gives a law: the first one's reason.
pub fn hold(candidates: &[Candidate]) -> Result<Contest, LawError> {
    let results: Vec<Result<LeaveOneOut, LawError>> =
        candidates.iter().map(|candidate| leave_one_out(candidate.form, &candidate.points)).collect();
    let Some(winner) = best(&results) else {
        let none = LawError::TooFew { what: "candidate laws", found: 0, least: 1 };
        return Err(results.into_iter().find_map(Result::err).unwrap_or(none));
    };
    let blind = blind(candidates);
    Ok(Contest { standings: results.into_iter().map(Result::ok).collect(), winner, blind })
}

fn best(results: &[Result<LeaveOneOut, LawError>]) -> Option<usize> {
    let key = |result: &LeaveOneOut| (result.median_error, result.max_error);
    let ranked = results.iter().enumerate().filter_map(|(at, result)| Some((at, key(result.as_ref().ok()?))));
    ranked.min_by(|(_, a), (_, b)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))).map(|(at, _)| at)
}

fn blind(candidates: &[Candidate]) -> Option<LeaveOneOut> {
    let points = &candidates.first()?.points;
    let each: Option<Vec<LeftOut>> = (0..points.len())
        .map(|at| {
            let group = points[at].group;
            let results: Vec<Result<LeaveOneOut, LawError>> = candidates
                .iter()
                .map(|candidate| leave_one_out(candidate.form, &without(&candidate.points, group)))
                .collect();
            let chosen = &candidates[best(&results)?];
            let law = Law::through(chosen.form, &without(&chosen.points, group)).ok()?;
            Some(LeftOut::by(law, chosen.points.get(at)?))
        })
        .collect();
    LeaveOneOut::of(each?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const SIZES: [f64; 6] = [124e6, 350e6, 494e6, 1.24e9, 1.54e9, 2.57e9];

    fn points(y: impl Fn(f64) -> f64) -> Vec<Point> {
        SIZES.iter().enumerate().map(|(i, &x)| Point { group: i as u32, x, y: y(x) }).collect()
    }

    fn both(points: &[Point]) -> Vec<Candidate> {
        Form::ALL.map(|form| Candidate { form, points: points.to_vec() }).to_vec()
    }

    #[test]
    fn the_true_law_wins() {
        for (data, winner) in
            [(points(|x| 1e-7 * x.powf(0.8)), Form::Power), (points(|x| 5.0 + 1e-8 * x), Form::Affine)]
        {
            let candidates = both(&data);
            let contest = hold(&candidates).unwrap();
            assert_eq!(candidates[contest.winner].form, winner);
            let standing = contest.standings[contest.winner].as_ref().unwrap();
            assert!(standing.max_error < 1e-6, "{standing:?}");
            let loser = contest.standings[1 - contest.winner].as_ref().unwrap();
            assert!(loser.median_error > 0.01, "{loser:?}");
            assert!(contest.blind.unwrap().max_error < 1e-6);
        }
    }

    #[test]
    fn errors_are_of_the_left_out_model() {
        // On a line but for the fourth: only its own error is the full 50 %.
        let mut data = points(|x| x);
        data[3].y *= 2.0;
        let left = leave_one_out(Form::Power, &data).unwrap();
        assert!((left.each[3].relative_error + 0.5).abs() < 1e-9, "{left:?}");
        assert!((left.max_error - 0.5).abs() < 1e-9);
        assert!(left.median_error < 0.3);
        assert_eq!(left.each.iter().map(|l| l.group).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn twins_leave_together() {
        // A weightless twin with the same outlying figure would betray it.
        let mut data = points(|x| x);
        data[3].y *= 2.0;
        data.push(data[3]);
        let left = leave_one_out(Form::Power, &data).unwrap();
        assert!((left.each[3].relative_error + 0.5).abs() < 1e-9, "{left:?}");
        assert_eq!(left.each[3], left.each[6]);
    }

    #[test]
    fn the_blind_choice_is_no_better_than_the_flattered_one() {
        let (mut seen, mut blind) = (0.0, 0.0);
        for stream in 0..200 {
            let mut random = Random::new(9, stream);
            let data: Vec<Point> = points(|x| x.powf(0.9))
                .into_iter()
                .map(|p| Point { y: p.y * (0.1 * random.normal()).exp(), ..p })
                .collect();
            let contest = hold(&both(&data)).unwrap();
            seen += contest.standings[contest.winner].as_ref().unwrap().median_error;
            blind += contest.blind.unwrap().median_error;
        }
        assert!(blind > seen, "blind {blind}, seen {seen}");
    }

    #[test]
    fn a_predictor_without_spread_loses_and_does_not_stop_the_rest() {
        let good = points(|x| x);
        let flat: Vec<Point> = good.iter().map(|p| Point { x: 1.0, ..*p }).collect();
        let candidates = [
            Candidate { form: Form::Power, points: flat.clone() },
            Candidate { form: Form::Power, points: good },
        ];
        let contest = hold(&candidates).unwrap();
        assert_eq!(contest.winner, 1);
        assert!(contest.standings[0].is_none());
        assert_eq!(
            hold(&[Candidate { form: Form::Power, points: flat }]),
            Err(LawError::NoSpread { what: "x".into() })
        );
        assert!(matches!(hold(&[]), Err(LawError::TooFew { .. })));
        assert!(matches!(
            leave_one_out(Form::Affine, &points(|x| x)[..2]),
            Err(LawError::TooFew { found: 2, least: 3, .. })
        ));
    }
}
