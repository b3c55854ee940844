//! How far a run is.

use super::spend::Sitting;
use qeil_laws::interval::{Interval, wilson};
use qeil_laws::law::LEVEL;
use qeil_units::{Joules, Labelled};

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
        let share = solved / asked;
        Some((share, wilson(share, asked, LEVEL)?))
    }
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
    fn time_left() {
        assert_eq!(remaining_s(0, 10, 5.0), None);
        assert_eq!(remaining_s(4, 10, 8.0), Some(12.0));
        assert_eq!(remaining_s(10, 10, 8.0), Some(0.0));
    }
}
