//! What a run may cost, and why it ended.

use super::spend::Sitting;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Bounds of a run, all of its sittings together. The first one reached ends the sitting; a larger one goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Budget {
    /// Gross joules.
    pub energy_j: Option<f64>,
    /// Seconds.
    pub wall_s: Option<f64>,
    /// Share of the tasks to solve, 0 to 1.
    pub coverage: Option<f64>,
}

/// Why a sitting ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Every task has all the samples it needs.
    Settled,
    /// The energy budget, in joules.
    Energy(f64),
    /// The time budget, in seconds.
    Time(f64),
    /// The share of tasks that was to be solved.
    Coverage(f64),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settled => write!(f, "every task has all the samples it needs"),
            Self::Energy(joules) => write!(f, "the budget of {joules} J is spent"),
            Self::Time(seconds) => write!(f, "the budget of {seconds} s is spent"),
            Self::Coverage(share) => write!(f, "the target of {:.1} % coverage is reached", share * 100.0),
        }
    }
}

impl Budget {
    /// Which bound is reached after these sittings, when `solved` of `tasks` tasks are.
    pub fn reached<'a>(
        &self,
        sittings: impl Iterator<Item = &'a Sitting> + Clone,
        solved: usize,
        tasks: usize,
    ) -> Option<Ended> {
        let spent_j: f64 =
            sittings.clone().filter_map(|sitting| Some(sitting.energy.as_ref()?.gross.value.0)).sum();
        let spent_s: f64 = sittings.map(|sitting| sitting.wall_s).sum();
        // Shares come from a person or from another run's division: a rounded third of 120 is 40 tasks.
        let share = |share: &f64| solved as f64 >= share * tasks as f64 - 1e-6 * tasks as f64;
        let coverage = self.coverage.filter(|target| tasks > 0 && share(target)).map(Ended::Coverage);
        coverage
            .or(self.energy_j.filter(|most_j| spent_j >= *most_j).map(Ended::Energy))
            .or(self.wall_s.filter(|most_s| spent_s >= *most_s).map(Ended::Time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::spend::Spent;
    use qeil_units::{Joules, Labelled};

    #[test]
    fn bounds() {
        let sitting = |joules: Option<f64>, wall_s| Sitting {
            wall_s,
            energy: joules.map(|joules| Spent {
                gross: Labelled::estimated(Joules(joules), "a model"),
                net: None,
                flags: Vec::new(),
            }),
            ..Sitting::default()
        };
        let budget = |energy_j, wall_s, coverage| Budget { energy_j, wall_s, coverage };
        let spent = [sitting(Some(30.0), 10.0), sitting(None, 5.0), sitting(Some(12.0), 5.0)];
        for (budget, solved, expected) in [
            (Budget::default(), 120, None),
            (budget(Some(42.0), None, None), 0, Some(Ended::Energy(42.0))),
            (budget(Some(42.1), None, None), 0, None),
            (budget(None, Some(20.0), None), 0, Some(Ended::Time(20.0))),
            (budget(None, Some(21.0), None), 0, None),
            (budget(None, None, Some(0.5)), 59, None),
            (budget(None, None, Some(0.5)), 60, Some(Ended::Coverage(0.5))),
            (budget(None, None, Some(0.333_333_4)), 40, Some(Ended::Coverage(0.333_333_4))),
            (budget(Some(1.0), Some(1.0), Some(0.1)), 12, Some(Ended::Coverage(0.1))),
            (budget(Some(1.0), Some(1.0), Some(0.1)), 11, Some(Ended::Energy(1.0))),
        ] {
            assert_eq!(budget.reached(spent.iter(), solved, 120), expected, "{budget:?}, {solved}");
        }
        assert_eq!(budget(None, None, Some(0.0)).reached(spent.iter(), 0, 0), None, "no tasks, no coverage");
    }
}
