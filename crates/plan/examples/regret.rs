//! Prints what plans lose where every true cost is off by 10 %: `cargo run --release -p qeil-plan --example regret`.

#[path = "../tests/regret/mod.rs"]
mod losses;
#[path = "../tests/spaces/mod.rs"]
mod spaces;

use losses::{SIGMA, regrets, summary};
use qeil_plan::Goal;

/// Seeds of each goal.
const SEEDS: u64 = 200;

fn main() {
    println!(
        "Regret against an oracle, {SEEDS} made-up machines, each true cost off by {:.0} %:",
        100.0 * SIGMA
    );
    for goal in [Goal::Energy, Goal::Latency, Goal::Cost] {
        let [mean, median, p95] = summary(regrets(goal, SEEDS)).map(|share| 100.0 * share);
        println!("  {goal:8}  mean {mean:.2} %, median {median:.2} %, 95th percentile {p95:.2} %");
    }
}
