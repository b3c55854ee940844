//! Intervals of a fitted difficulty by its profile likelihood.
//!
//! The interval of a figure holds every value that the counts do not speak against: fix the figure at the value, fit
//! all else anew, and see how far the log-likelihood falls. It needs no scale on which an estimate is normal, and ends
//! at a bound where the counts reach it (no unsolvable task at all), where a bootstrap puts a heap of equal draws.
//! Bootstraps were tried first: of simulated zero-inflated tasks their 95 % intervals hold the shapes in 88 to 92 %,
//! these in 94 to 96 %. The fall allowed is half the square of Student's t with the tasks less one as degrees of
//! freedom, which is Wilks's half of chi-squared for many tasks and a little more for few.

use super::{Coordinates, Difficulty, Hyperprior, LOGIT_UNSOLVABLE_MAX, penalised};
use crate::coverage::Tally;
use crate::coverage::simplex::least;
use crate::coverage::spread::{quantile, relax, stretch};
use crate::interval::Interval;

/// First step away from the estimate, on the scale of the figure: most intervals end after one to four of them.
const FIRST_STEP: f64 = 0.25;
/// Each step over the one before.
const STEP_GROWTH: f64 = 1.6;
/// Steps until the search gives up and takes the bound.
const STEPS_MAX: usize = 12;
/// Halvings, by secant, of the last step: an end is then known to a thousandth of the interval.
const SECANTS: usize = 6;
/// Size of the simplex of the other parameters, which begins at the last fit.
const SIMPLEX: f64 = 0.2;
/// Logarithms of β between which the one with a given coverage is looked for.
const LN_BETA: [f64; 2] = [-15.0, 25.0];
/// Halvings of that range.
const HALVINGS: usize = 40;

/// What an interval is asked of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Figure {
    /// Coverage of so many samples.
    Coverage(f64),
    /// First shape.
    Alpha,
    /// Second shape.
    Beta,
    /// Share of unsolvable tasks.
    Unsolvable,
}

impl Figure {
    fn of(self, difficulty: &Difficulty) -> f64 {
        match self {
            Self::Coverage(k) => difficulty.coverage(k),
            Self::Alpha => difficulty.alpha,
            Self::Beta => difficulty.beta,
            Self::Unsolvable => difficulty.unsolvable,
        }
    }

    /// The figure on a scale without ends.
    fn out(self, value: f64) -> f64 {
        match self {
            Self::Coverage(_) => stretch(value),
            Self::Alpha | Self::Beta => value.ln(),
            Self::Unsolvable => logit(value),
        }
    }

    /// And back.
    fn back(self, scaled: f64) -> f64 {
        match self {
            Self::Coverage(_) => relax(scaled),
            Self::Alpha | Self::Beta => scaled.exp(),
            Self::Unsolvable => logistic(scaled),
        }
    }

    /// The difficulty with this figure and other parameters `free`, unbounded; the second is of unsolvable tasks, if
    /// there are any.
    fn with(self, value: f64, free: [f64; 2], inflated: bool) -> Difficulty {
        let unsolvable = if inflated { logistic(free[1]) } else { 0.0 };
        match self {
            Self::Alpha => Difficulty { alpha: value, beta: free[0].exp(), unsolvable },
            Self::Beta => Difficulty { alpha: free[0].exp(), beta: value, unsolvable },
            Self::Unsolvable => Difficulty { alpha: free[0].exp(), beta: free[1].exp(), unsolvable: value },
            Self::Coverage(k) => {
                // No more can be unsolvable than coverage leaves.
                let unsolvable = unsolvable * (1.0 - value);
                let at = |ln_beta: f64| Difficulty { alpha: free[0].exp(), beta: ln_beta.exp(), unsolvable };
                let [mut low, mut high] = LN_BETA;
                for _ in 0..HALVINGS {
                    let middle = f64::midpoint(low, high);
                    if at(middle).coverage(k) > value { low = middle } else { high = middle }
                }
                at(low)
            }
        }
    }

    /// The other parameters of a difficulty.
    fn free(self, difficulty: &Difficulty) -> [f64; 2] {
        let Difficulty { alpha, beta, unsolvable } = *difficulty;
        match self {
            Self::Alpha => [beta.ln(), logit(unsolvable)],
            Self::Beta => [alpha.ln(), logit(unsolvable)],
            Self::Unsolvable => [alpha.ln(), beta.ln()],
            Self::Coverage(k) => [alpha.ln(), logit(unsolvable / (1.0 - difficulty.coverage(k)))],
        }
    }
}

/// Of a share, held off its ends.
fn logit(share: f64) -> f64 {
    (share / (1.0 - share)).ln().clamp(-LOGIT_UNSOLVABLE_MAX, LOGIT_UNSOLVABLE_MAX)
}

fn logistic(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

impl Difficulty {
    /// The interval of a figure of this difficulty, the likeliest one under the counts; missing for a level that is no
    /// probability.
    pub fn interval(&self, tally: &Tally, figure: Figure, level: f64) -> Option<Interval> {
        let allowed = quantile(tally.tasks(), level)?;
        let inflated = self.unsolvable > 0.0;
        let cost = |difficulty: Difficulty| penalised(tally, &Hyperprior::FLAT, Coordinates::of(difficulty));
        let lowest = cost(*self);
        let estimate = figure.out(figure.of(self));
        let end = |direction: f64| {
            let mut free = figure.free(self);
            // How far the counts speak against a value, in standard deviations.
            let mut against = |scaled: f64| {
                let value = figure.back(scaled);
                let (found, least) = if inflated {
                    least(free, SIMPLEX, |at| cost(figure.with(value, *at, true)))
                } else {
                    let ([found], least) =
                        least([free[0]], SIMPLEX, |&[at]| cost(figure.with(value, [at, 0.0], false)));
                    ([found, 0.0], least)
                };
                free = found;
                (2.0 * (least - lowest)).max(0.0).sqrt()
            };
            let (mut inside, mut step) = ((estimate, 0.0), direction * FIRST_STEP);
            for _ in 0..STEPS_MAX {
                let at = inside.0 + step;
                let found = (at, against(at));
                if found.1 > allowed {
                    return between(inside, found, allowed, &mut against);
                }
                inside = found;
                step *= STEP_GROWTH;
            }
            direction * f64::INFINITY
        };
        let [low, high] = [end(-1.0), end(1.0)].map(|scaled| figure.back(scaled));
        // A shape without an end is as large as the fit allows; JSON knows no infinity.
        Some(Interval { low, high: high.min(f64::MAX) })
    }
}

/// Where `against` reaches `allowed`, between a point where it is less and one where it is more.
fn between(
    mut inside: (f64, f64),
    mut outside: (f64, f64),
    allowed: f64,
    against: &mut impl FnMut(f64) -> f64,
) -> f64 {
    for _ in 0..SECANTS {
        let share = ((allowed - inside.1) / (outside.1 - inside.1)).clamp(0.05, 0.95);
        let at = inside.0 + share * (outside.0 - inside.0);
        let found = (at, against(at));
        if (found.1 - allowed).abs() < 1e-3 {
            return at;
        }
        if found.1 > allowed { outside = found } else { inside = found }
    }
    f64::midpoint(inside.0, outside.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::Counts;

    #[test]
    fn an_interval_by_hand() {
        // Any difficulty whose figures the counts fix alone: one sample of each of 100 tasks, 30 of which passed, is a
        // binomial share, whose likelihood interval is where 30 ln p + 70 ln(1 − p) has fallen by t²/2.
        let counts: Vec<Counts> =
            (0..100).map(|task| Counts::new(1, u32::from(task < 30)).unwrap()).collect();
        let tally = Tally::new(&counts);
        let fit = Difficulty::fit(&tally, &Hyperprior::FLAT);
        let found = fit.interval(&tally, Figure::Coverage(1.0), 0.95).unwrap();
        let fall = |p: f64| {
            30.0 * (0.3 / p).ln() + 70.0 * (0.7 / (1.0 - p)).ln()
                - quantile(100.0, 0.95).unwrap().powi(2) / 2.0
        };
        assert!(fall(found.low).abs() < 0.01 && fall(found.high).abs() < 0.01, "{found:?}");
        assert_eq!(fit.interval(&tally, Figure::Alpha, 1.5), None);
    }

    #[test]
    fn no_unsolvable_task_is_an_end() {
        let counts: Vec<Counts> = (0..60).map(|task| Counts::new(20, 1 + task % 20).unwrap()).collect();
        let tally = Tally::new(&counts);
        let fit = Difficulty::fit_zero_inflated(&tally, &Hyperprior::FLAT);
        let found = fit.interval(&tally, Figure::Unsolvable, 0.95).unwrap();
        assert!(found.low < 1e-3 && found.high > 0.01 && found.high < 0.2, "{found:?}");
    }
}
