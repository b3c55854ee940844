//! How far a run is.

use super::spend::Sitting;
use qeil_laws::interval::Interval;
use qeil_units::{Joules, Labelled};

/// The normal quantile of a two-sided 95 % interval.
const NORMAL_95: f64 = 1.959_963_984_540_054;

/// See the module's text. Figures are of the whole run, earlier sittings included.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Tasks.
    pub tasks: usize,
    /// Tasks that need nothing more.
    pub settled: usize,
    /// Tasks that can be solved: those with a known answer.
    pub solvable: usize,
    /// Of these, tasks with at least one sample.
    pub asked: usize,
    /// Of these, tasks with a sample that passed.
    pub solved: usize,
    /// Samples judged.
    pub samples: u64,
    /// Energy, gross.
    pub energy: Option<Labelled<Joules>>,
    /// Seconds spent.
    pub wall_s: f64,
    /// Seconds left at the present pace; `None` where nobody can say.
    pub remaining_s: Option<f64>,
}

impl Progress {
    /// Share of the tasks asked so far that are solved, with its 95 % interval; `None` before the first verdict.
    pub fn coverage(&self) -> Option<(f64, Interval)> {
        let (solved, asked) = (self.solved as f64, self.asked as f64);
        (self.asked > 0).then(|| (solved / asked, wilson(solved, asked)))
    }
}

/// The score interval of a share (Wilson 1927), which stays inside 0 to 1 and holds up for few tasks.
fn wilson(passed: f64, of: f64) -> Interval {
    let z2 = NORMAL_95 * NORMAL_95;
    let middle = (passed + z2 / 2.0) / (of + z2);
    let half = NORMAL_95 / (of + z2) * (passed * (of - passed) / of + z2 / 4.0).sqrt();
    Interval { low: (middle - half).max(0.0), high: (middle + half).min(1.0) }
}

/// Energy of all sittings; missing where one has none.
pub fn energy(sittings: &[&Sitting]) -> Option<Labelled<Joules>> {
    let each: Option<Vec<Labelled<Joules>>> =
        sittings.iter().map(|sitting| Some(sitting.energy.as_ref()?.gross.clone())).collect();
    Labelled::sum(each?)
}

/// Seconds left when `done` of `all` parts took `spent_s`.
pub fn remaining_s(done: usize, all: usize, spent_s: f64) -> Option<f64> {
    (done > 0).then(|| spent_s * all.saturating_sub(done) as f64 / done as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn score_intervals() {
        // Published values: Newcombe 1998, table I, rows (a) to (d), method 3.
        for (passed, of, low, high) in [
            (81.0, 263.0, 0.2553, 0.3662),
            (15.0, 148.0, 0.0624, 0.1605),
            (0.0, 20.0, 0.0000, 0.1611),
            (1.0, 29.0, 0.0061, 0.1718),
        ] {
            let found = wilson(passed, of);
            assert!(
                (found.low - low).abs() < 5e-5 && (found.high - high).abs() < 5e-5,
                "{passed}/{of}: {found:?}"
            );
        }
    }

    #[test]
    fn time_left() {
        assert_eq!(remaining_s(0, 10, 5.0), None);
        assert_eq!(remaining_s(4, 10, 8.0), Some(12.0));
        assert_eq!(remaining_s(10, 10, 8.0), Some(0.0));
    }
}
