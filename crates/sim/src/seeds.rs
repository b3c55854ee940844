//! Many random hours, spread over the processors.
//!
//! Each hour is its seed and nothing else, so the order in which threads take them does not matter: the summary is put
//! together in the order of the seeds.

use crate::error::SimError;
use crate::hour::{HOUR_S, Hours};
use crate::report::{Promise, Report};
use crate::world::run;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Seeds whose failure is named; all are counted.
pub const FAILED_NAMED_MAX: usize = 20;
/// Seeds of one call: ten times the nightly command's.
pub const SEEDS_MAX: u64 = 100_000;

/// An hour that broke a promise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failed {
    /// Its seed: `qeil simulate --seed N` shows it again.
    pub seed: u64,
    /// The first violation, in words.
    pub first: String,
}

/// What many hours came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Hours.
    pub hours: u64,
    /// Hours that broke a promise.
    pub failed: u64,
    /// The first of them.
    pub failures: Vec<Failed>,
    /// For each promise, the hours that broke it, and how often in all.
    pub violated: BTreeMap<Promise, (u64, u64)>,
    /// Requests that were let in.
    pub admitted: u64,
    /// Requests that came to their end.
    pub completed: u64,
    /// Samples that were placed again.
    pub moves: u64,
    /// Tokens.
    pub tokens: u64,
    /// Joules.
    pub energy_j: f64,
    /// Most degrees that any device was over its guard temperature (below 0: none was).
    pub overshoot_c: Option<f64>,
    /// Hours in which the surroundings were over 32 °C.
    pub hot_hours: u64,
    /// Hot hours that broke a promise of heat.
    pub hot_failed: u64,
}

/// Surroundings from which an hour counts as hot, degrees Celsius.
const HOT_C: f64 = 32.0;

impl Summary {
    fn add(&mut self, report: &Report) {
        self.hours += 1;
        self.admitted += report.requests.admitted;
        self.completed += report.requests.completed;
        self.moves += report.requests.moves;
        self.tokens += report.requests.tokens;
        self.energy_j += report.energy_j();
        let over = report.devices.iter().map(|device| device.peak_c - device.guard_c);
        self.overshoot_c = over.chain(self.overshoot_c).reduce(f64::max);
        let of_heat = |promise: &Promise| matches!(promise, Promise::Overshoot | Promise::Critical);
        if report.ambient_max_c > HOT_C {
            self.hot_hours += 1;
            self.hot_failed += u64::from(report.violated.iter().any(|(promise, _)| of_heat(promise)));
        }
        for (promise, times) in &report.violated {
            let (hours, all) = self.violated.entry(*promise).or_default();
            *hours += 1;
            *all += times;
        }
        if !report.kept() {
            self.failed += 1;
            if self.failures.len() < FAILED_NAMED_MAX {
                let first = report.violations.first();
                let first = first.map(|v| format!("{:?} at {:.1} s: {}", v.promise, v.at_s, v.what));
                self.failures.push(Failed { seed: report.seed, first: first.unwrap_or_default() });
            }
        }
    }

    /// Simulated hours.
    pub fn simulated_hours(&self) -> f64 {
        self.hours as f64 * HOUR_S / 3600.0
    }
}

/// Run the hours of these seeds, at most [`SEEDS_MAX`] of them; `done` is told after each how many are done.
///
/// # Errors
/// Where a built-in description is wrong, which tests exclude.
pub fn run_seeds(
    seeds: Range<u64>,
    guarded: bool,
    threads: usize,
    done: impl Fn(u64) + Sync,
) -> Result<Summary, SimError> {
    let hours = Hours::new()?;
    let end = seeds.end.min(seeds.start.saturating_add(SEEDS_MAX));
    let (next, finished) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    // Reports that wait for an earlier seed: bounded by what the other threads finish meanwhile.
    let waiting: Mutex<(u64, BTreeMap<u64, Report>, Summary)> =
        Mutex::new((seeds.start, BTreeMap::new(), Summary::default()));
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    let mut scenario = hours.hour(seed);
                    scenario.guarded = guarded;
                    let report = run(&scenario);
                    let mut lock = waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    let (turn, reports, summary) = &mut *lock;
                    reports.insert(seed, report);
                    while let Some(report) = reports.remove(turn) {
                        summary.add(&report);
                        *turn += 1;
                    }
                    drop(lock);
                    done(finished.fetch_add(1, Ordering::Relaxed) + 1);
                }
            });
        }
    });
    let (_, _, summary) = waiting.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(summary)
}
