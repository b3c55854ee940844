//! The safety contract over many random hours, with the guard and without.

use qeil_sim::report::Promise;
use qeil_sim::seeds::{Summary, run_seeds};
use std::thread::available_parallelism;

/// Hours of continuous integration; `just nightly` runs 10,000.
const HOURS: u64 = 500;
/// The first of the same hours, run without the guard: enough to know that they bite.
const UNGUARDED_HOURS: u64 = 100;

fn hours(count: u64, guarded: bool) -> Summary {
    let threads = available_parallelism().map_or(1, usize::from);
    run_seeds(0..count, guarded, threads, |_| {}).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_contract_holds_in_every_hour() {
    let summary = hours(HOURS, true);
    let replay: Vec<String> = summary
        .failures
        .iter()
        .map(|failed| format!("qeil simulate --seed {}   # {}", failed.seed, failed.first))
        .collect();
    assert!(
        summary.failed == 0,
        "{} of {} hours broke a promise {:?}; replay with\n{}",
        summary.failed,
        summary.hours,
        summary.violated,
        replay.join("\n")
    );
    assert_eq!(summary.hours, HOURS);
    assert!(summary.admitted > 10_000 && summary.moves > 100, "{summary:?}");
}

/// Without the guard the same hours break the promises of heat: the test above is known to bite.
#[test]
fn without_the_guard_hot_hours_overheat() {
    let summary = hours(UNGUARDED_HOURS, false);
    let hours_of = |promise| summary.violated.get(&promise).map_or(0, |(hours, _)| *hours);
    println!(
        "without the guard: {} of {} hours over the guard temperature, {} at the maximum, {} of {} hot hours",
        hours_of(Promise::Overshoot),
        summary.hours,
        hours_of(Promise::Critical),
        summary.hot_failed,
        summary.hot_hours
    );
    assert!(summary.hot_failed * 2 > summary.hot_hours, "{summary:?}");
    assert!(hours_of(Promise::Critical) > summary.hours / 20, "{summary:?}");
    // What is not about heat holds without it.
    for promise in [Promise::OneOutcome, Promise::TokenOrder, Promise::QueueBounds, Promise::Placement] {
        assert_eq!(hours_of(promise), 0, "{promise:?}");
    }
}
