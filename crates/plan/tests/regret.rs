//! Regret: the share that a plan made from a profile loses to an oracle where every true cost is off by 10 %.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "regret/mod.rs"]
mod losses;
mod spaces;

use losses::{regrets, summary};
use qeil_plan::Goal;

#[test]
fn a_plan_from_a_profile_loses_at_most_a_twentieth() {
    for goal in [Goal::Energy, Goal::Latency, Goal::Cost] {
        let all = regrets(goal, 40);
        // The oracle is one: nobody beats it.
        assert!(all.iter().all(|regret| *regret > -1e-9), "{goal}: {all:?}");
        // The noise must bite somewhere, or the test would show nothing.
        assert!(all.iter().any(|regret| *regret > 0.01), "{goal}: no plan lost anything");
        let [mean, median, p95] = summary(all);
        println!(
            "{goal}: mean {:.2} %, median {:.2} %, p95 {:.2} %",
            100.0 * mean,
            100.0 * median,
            100.0 * p95
        );
        assert!(mean <= 0.05, "{goal}: mean regret {mean}");
    }
}
