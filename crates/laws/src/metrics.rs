//! The three metrics, and what they are worth.
//!
//! For a run over a set of `|T|` tasks with k samples each: wall time t, energy E, mean power P = E / t, device price D,
//! coverage C(k), the share of tasks solved by at least one of k samples.
//!
//! | metric | definition | unit | source |
//! |---|---|---|---|
//! | intelligence per watt, IPW | C / P | 1/W | Saad-Falcon et al. 2025, "Intelligence per Watt" |
//! | intelligence per joule, IPJ | C / (E / \|T\|) | 1/J | the same |
//! | energy coverage efficiency, ECE | C·\|T\| / E | solved tasks per J | ours |
//! | marginal ECE | Δ(C·\|T\|) / ΔE against a run with fewer samples | solved tasks per J | ours |
//! | price power performance, PPP | (C·\|T\| / t) / (P·D) | 1/(s·W·USD) | ours |
//! | cost | D·t / life + E·(price of a joule), for a thousand solved tasks | USD | ours |
//!
//! IPJ and ECE are the same number when accuracy is coverage; both names are kept because readers look for both.
//!
//! Intervals come from resampling: the repetitions of the run (energy and time of one repetition stay together) and the
//! draws that the coverage brings along from its own bootstrap over tasks. Where a run knows what each task took, a draw
//! carries the time and energy of the tasks in it, too: hard tasks are solved less often and cost more, and the interval
//! of solved tasks by joule must hold both. Where none was solved, or all were, the share is drawn within its score interval. A
//! metric whose input is missing is missing, with the reason, and never zero.

use crate::LawError;
use crate::interval::{Interval, REPLICATES, draw_of_none, of_draws};
use crate::law::LEVEL;
use crate::random::Random;
use qeil_units::{Joules, Labelled, Provenance, Seconds, Usd};
use serde::{Deserialize, Serialize};

/// Joules in a kilowatt-hour.
pub const JOULES_PER_KWH: f64 = 3.6e6;
/// Tasks that a cost is stated for.
const COST_TASKS: f64 = 1_000.0;

/// One pass over all tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct Repetition {
    /// Wall time.
    pub wall: Seconds,
    /// Energy; missing where nothing covers the device.
    pub energy: Option<Labelled<Joules>>,
}

/// How many tasks were solved.
#[derive(Debug, Clone, PartialEq)]
pub struct Coverage {
    /// Samples a task.
    pub samples: u32,
    /// Share of the tasks that at least one of them solved, 0 to 1.
    pub share: f64,
    /// The same share in resamples of the tasks; empty where its uncertainty is not known.
    pub draws: Vec<f64>,
    /// Time and energy of the tasks of each of these resamples, as a factor of the run's; empty where they are not known
    /// task by task. Draw i of two runs over the same tasks then resamples the same ones.
    pub spend: Vec<f64>,
}

/// What the device costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Price {
    /// To buy.
    pub device: Usd,
    /// Seconds of work it does in its life.
    pub life: Seconds,
    /// A kilowatt-hour.
    pub electricity_per_kwh: Usd,
}

/// A run to be judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Tasks, `|T|`.
    pub tasks: u32,
    /// Passes over all of them.
    pub repetitions: Vec<Repetition>,
    /// How many were solved; missing where nobody checked.
    pub coverage: Option<Coverage>,
    /// What the device costs, if known.
    pub price: Option<Price>,
}

/// Why a metric is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// Nobody checked the answers.
    #[error("no accuracy: the answers of this run were not checked against tasks")]
    Accuracy,
    /// No energy.
    #[error("no energy: nothing covers the device in at least one repetition")]
    Energy,
    /// No price.
    #[error("no price of the device is known: give one")]
    Price,
    /// No run to compare with.
    #[error("no run of the same tasks with fewer samples to compare with")]
    SmallerRun,
    /// Not one task was solved.
    #[error("no task was solved, so solving one has no cost")]
    NothingSolved,
    /// More samples did not cost more.
    #[error("the run with more samples did not use more energy")]
    NoMoreEnergy,
}

/// A metric, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The figure.
    Known {
        /// Its value.
        value: f64,
        /// 95 % interval; missing where there was one repetition and nothing else is uncertain.
        interval: Option<Interval>,
        /// The weakest label of what it was computed from.
        provenance: Provenance,
    },
    /// There is none.
    Missing(Missing),
}

impl Metric {
    /// The figure, if there is one.
    pub fn value(&self) -> Option<f64> {
        match self {
            Self::Known { value, .. } => Some(*value),
            Self::Missing(_) => None,
        }
    }
}

/// All metrics of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Samples a task, where answers were checked.
    pub samples: Option<u32>,
    /// Mean power, W.
    pub power_w: Metric,
    /// Energy of one task, all its samples together, J.
    pub energy_per_task_j: Metric,
    /// Tasks a second, solved or not, 1/s.
    pub tasks_per_s: Metric,
    /// Hardware and electricity of a thousand tasks, solved or not, USD.
    pub usd_per_thousand_tasks: Metric,
    /// Intelligence per watt, 1/W.
    pub ipw: Metric,
    /// Intelligence per joule, 1/J.
    pub ipj: Metric,
    /// Energy coverage efficiency, solved tasks per J.
    pub ece: Metric,
    /// Marginal energy coverage efficiency, solved tasks per J.
    pub marginal_ece: Metric,
    /// Price power performance, 1/(s·W·USD).
    pub ppp: Metric,
    /// Hardware and electricity of a thousand solved tasks, USD.
    pub usd_per_thousand_solved: Metric,
}

impl Metrics {
    /// The metrics of `run`; `smaller` is a run of the same tasks with fewer samples, for the marginal one.
    ///
    /// # Errors
    /// No task or repetition; a time, energy or price that is not above zero; a coverage outside of 0 to 1.
    pub fn new(run: &Run, smaller: Option<&Run>, seed: u64) -> Result<Self, LawError> {
        run.check()?;
        smaller.map_or(Ok(()), Run::check)?;
        let of = |needs: Needs, f: &dyn Fn(&State) -> Result<f64, Missing>| run.metric(needs, seed, f);
        let cost = |state: &State, price: Price| {
            let hardware = price.device.0 * state.wall_s / price.life.0;
            hardware + state.energy_j * price.electricity_per_kwh.0 / JOULES_PER_KWH
        };
        let tasks = f64::from(run.tasks);
        let price = |state: &State| state.price.ok_or(Missing::Price);
        Ok(Self {
            samples: run.coverage.as_ref().map(|coverage| coverage.samples),
            power_w: of(Needs::ENERGY, &|s| Ok(s.energy_j / s.wall_s)),
            energy_per_task_j: of(Needs::ENERGY, &|s| Ok(s.energy_j / tasks)),
            tasks_per_s: of(Needs::NOTHING, &|s| Ok(tasks / s.wall_s)),
            usd_per_thousand_tasks: of(Needs::ENERGY, &|s| Ok(COST_TASKS / tasks * cost(s, price(s)?))),
            ipw: of(Needs::BOTH, &|s| Ok(s.share / (s.energy_j / s.wall_s))),
            ipj: of(Needs::BOTH, &|s| Ok(s.share / (s.energy_j / tasks))),
            ece: of(Needs::BOTH, &|s| Ok(s.share * tasks / s.energy_j)),
            marginal_ece: run.marginal_ece(smaller, seed),
            ppp: of(Needs::BOTH, &|s| {
                let power_w = s.energy_j / s.wall_s;
                Ok(s.share * tasks / s.wall_s / (power_w * price(s)?.device.0))
            }),
            usd_per_thousand_solved: of(Needs::BOTH, &|s| {
                let solved = s.share * tasks;
                if solved > 0.0 {
                    Ok(COST_TASKS / solved * cost(s, price(s)?))
                } else {
                    Err(Missing::NothingSolved)
                }
            }),
        })
    }
}

/// What a metric is computed from.
#[derive(Debug, Clone, Copy)]
struct Needs {
    energy: bool,
    coverage: bool,
}

impl Needs {
    const NOTHING: Self = Self { energy: false, coverage: false };
    const ENERGY: Self = Self { energy: true, coverage: false };
    const BOTH: Self = Self { energy: true, coverage: true };
}

/// The inputs of one draw: means over the repetitions. What a metric does not need may be 0 here.
#[derive(Debug, Clone, Copy)]
struct State {
    wall_s: f64,
    energy_j: f64,
    share: f64,
    price: Option<Price>,
}

impl Run {
    fn check(&self) -> Result<(), LawError> {
        let positive = |what: &str, index, value| LawError::positive(what, index, value).map(|_| ());
        positive("number of tasks", 0, f64::from(self.tasks))?;
        if self.repetitions.is_empty() {
            return Err(LawError::TooFew { what: "repetitions", found: 0, least: 1 });
        }
        for (index, repetition) in self.repetitions.iter().enumerate() {
            positive("wall time in seconds", index, repetition.wall.0)?;
            if let Some(energy) = &repetition.energy {
                positive("energy in joules", index, energy.value.0)?;
            }
        }
        if let Some(coverage) = &self.coverage {
            let bad = |share: &&f64| !(0.0..=1.0).contains(*share);
            if let Some(&value) = std::iter::once(&coverage.share).chain(&coverage.draws).find(bad) {
                return Err(LawError::Coverage { value });
            }
            if !coverage.spend.is_empty() && coverage.spend.len() != coverage.draws.len() {
                return Err(LawError::Draws { draws: coverage.draws.len(), spend: coverage.spend.len() });
            }
            for (index, &factor) in coverage.spend.iter().enumerate() {
                positive("factor of time and energy of a resample", index, factor)?;
            }
        }
        if let Some(price) = &self.price {
            positive("price of the device in USD", 0, price.device.0)?;
            positive("life of the device in seconds", 0, price.life.0)?;
            positive("price of a kilowatt-hour in USD", 0, price.electricity_per_kwh.0)?;
        }
        Ok(())
    }

    /// The weakest label of its energies; missing where one of them is.
    fn provenance(&self) -> Option<Provenance> {
        let labels: Option<Vec<Provenance>> =
            self.repetitions.iter().map(|r| r.energy.as_ref().map(|energy| energy.provenance)).collect();
        labels?.into_iter().min()
    }

    fn missing(&self, needs: Needs) -> Option<Missing> {
        if needs.coverage && self.coverage.is_none() {
            return Some(Missing::Accuracy);
        }
        (needs.energy && self.provenance().is_none()).then_some(Missing::Energy)
    }

    fn label(&self, needs: Needs) -> Provenance {
        // A clock is a measurement; so is a checked answer.
        let energy = if needs.energy { self.provenance() } else { None };
        energy.unwrap_or(Provenance::Measured)
    }

    fn state(&self, chosen: &[usize], share: f64) -> State {
        let mean = |f: &dyn Fn(&Repetition) -> f64| {
            chosen.iter().map(|&at| f(&self.repetitions[at])).sum::<f64>() / chosen.len() as f64
        };
        State {
            wall_s: mean(&|r| r.wall.0),
            energy_j: mean(&|r| r.energy.as_ref().map_or(0.0, |energy| energy.value.0)),
            share,
            price: self.price,
        }
    }

    fn point(&self) -> State {
        let all: Vec<usize> = (0..self.repetitions.len()).collect();
        self.state(&all, self.coverage.as_ref().map_or(0.0, |coverage| coverage.share))
    }

    fn drawn(&self, random: &mut Random) -> State {
        let count = self.repetitions.len();
        let chosen: Vec<usize> = (0..count).map(|_| random.below(count)).collect();
        let (share, factor) = self.coverage.as_ref().map_or((0.0, 1.0), |coverage| {
            let (at, uncertain) = (random.below(coverage.draws.len()), !coverage.draws.is_empty());
            let share = match coverage.share {
                // Resamples of tasks of which none was solved, or all were, never doubt it.
                0.0 if uncertain => draw_of_none(random, self.tasks.into()),
                1.0 if uncertain => 1.0 - draw_of_none(random, self.tasks.into()),
                share => coverage.draws.get(at).copied().unwrap_or(share),
            };
            (share, coverage.spend.get(at).copied().unwrap_or(1.0))
        });
        let mut state = self.state(&chosen, share);
        state.wall_s *= factor;
        state.energy_j *= factor;
        state
    }

    /// Resamples of its tasks that know their time and energy.
    fn paired_draws(&self) -> usize {
        self.coverage.as_ref().map_or(0, |coverage| coverage.spend.len())
    }

    fn is_uncertain(&self, needs: Needs) -> bool {
        let coverage = || self.coverage.as_ref().is_some_and(|coverage| !coverage.draws.is_empty());
        self.repetitions.len() > 1 || self.paired_draws() > 0 || (needs.coverage && coverage())
    }

    fn metric(&self, needs: Needs, seed: u64, f: &dyn Fn(&State) -> Result<f64, Missing>) -> Metric {
        if let Some(missing) = self.missing(needs) {
            return Metric::Missing(missing);
        }
        let value = match f(&self.point()) {
            Ok(value) => value,
            Err(missing) => return Metric::Missing(missing),
        };
        let interval = self.is_uncertain(needs).then(|| draws(seed, |random| f(&self.drawn(random)).ok()));
        Metric::Known { value, interval: interval.flatten(), provenance: self.label(needs) }
    }

    fn marginal_ece(&self, smaller: Option<&Self>, seed: u64) -> Metric {
        let needs = Needs::BOTH;
        if let Some(missing) = self.missing(needs) {
            return Metric::Missing(missing);
        }
        let samples = |run: &Self| run.coverage.as_ref().map(|coverage| coverage.samples);
        let Some(smaller) = smaller.filter(|run| {
            run.missing(needs).is_none() && run.tasks == self.tasks && samples(run) < samples(self)
        }) else {
            return Metric::Missing(Missing::SmallerRun);
        };
        let gain = |more: State, less: State| {
            let energy_j = more.energy_j - less.energy_j;
            (energy_j > 0.0).then(|| (more.share - less.share) * f64::from(self.tasks) / energy_j)
        };
        let Some(value) = gain(self.point(), smaller.point()) else {
            return Metric::Missing(Missing::NoMoreEnergy);
        };
        let uncertain = self.is_uncertain(needs) || smaller.is_uncertain(needs);
        // The same random numbers draw the same tasks in both.
        let paired = self.paired_draws() > 0 && self.paired_draws() == smaller.paired_draws();
        let interval = uncertain.then(|| {
            draws(seed, |random| {
                let mut again = random.clone();
                let more = self.drawn(random);
                gain(more, smaller.drawn(if paired { &mut again } else { random }))
            })
        });
        Metric::Known {
            value,
            interval: interval.flatten(),
            provenance: self.label(needs).weakest(smaller.label(needs)),
        }
    }
}

/// The interval of a figure over draws; missing where a draw gave none, since the interval would be of the others.
fn draws(seed: u64, mut f: impl FnMut(&mut Random) -> Option<f64>) -> Option<Interval> {
    let drawn: Option<Vec<f64>> =
        (0..REPLICATES).map(|replicate| f(&mut Random::new(seed, u64::from(replicate)))).collect();
    of_draws(&drawn?, LEVEL)
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
