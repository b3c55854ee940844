//! The safety contract, checked while a world runs.
//!
//! Each check compares what the loop does with what is true in the world, which the loop cannot see. A broken promise is
//! counted, the first ones are kept in words, and the run goes on.

use crate::report::{Promise, VIOLATIONS_KEPT_MAX, Violation};
use qeil_control::config::Limits;
use std::collections::BTreeMap;

/// Degrees that a device may be over its guard temperature (safety contract).
pub const OVERSHOOT_MAX_C: f64 = 2.0;
/// Seconds between two changes of a device's heat state (safety contract).
pub const HEAT_CHANGE_S: f64 = 10.0;
/// Seconds that an outcome may come after its deadline: the loop's own timers are exact, the rest is rounding.
pub const LATE_S: f64 = 0.1;

/// Broken promises so far.
#[derive(Debug, Clone, Default)]
pub struct Contract {
    counts: BTreeMap<Promise, u64>,
    first: Vec<Violation>,
}

impl Contract {
    /// A promise was broken.
    pub fn broken(&mut self, at_s: f64, promise: Promise, what: impl FnOnce() -> String) {
        let count = self.counts.entry(promise).or_default();
        *count += 1;
        // Some of each kind, so that one that breaks all the time does not hide the others.
        if *count <= 3 && self.first.len() < VIOLATIONS_KEPT_MAX {
            self.first.push(Violation { at_s, promise, what: what() });
        }
    }

    /// What waits, against its bounds.
    pub fn queue(&mut self, at_s: f64, (requests, tokens): (u32, u64), limits: &Limits) {
        if requests > limits.queue_requests_max || tokens > limits.queue_tokens_max {
            self.broken(at_s, Promise::QueueBounds, || {
                format!(
                    "{requests} requests of {tokens} tokens wait; bounds are {} and {}",
                    limits.queue_requests_max, limits.queue_tokens_max
                )
            });
        }
    }

    /// The counts, and the first violations.
    pub fn take(&mut self) -> (Vec<(Promise, u64)>, Vec<Violation>) {
        (std::mem::take(&mut self.counts).into_iter().collect(), std::mem::take(&mut self.first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_counted_and_few_of_each_are_kept() {
        let mut contract = Contract::default();
        let limits = Limits::default();
        contract.queue(0.0, (limits.queue_requests_max, limits.queue_tokens_max), &limits);
        assert!(contract.clone().take().0.is_empty());
        for at in 0..100 {
            contract.queue(f64::from(at), (limits.queue_requests_max + 1, 0), &limits);
            contract.broken(f64::from(at), Promise::Critical, || "hot".into());
        }
        let (counts, first) = contract.take();
        assert_eq!(counts, [(Promise::Critical, 100), (Promise::QueueBounds, 100)]);
        assert_eq!(first.len(), 6);
        assert!(first[0].what.contains("65 requests"));
    }
}
