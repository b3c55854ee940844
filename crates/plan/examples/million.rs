//! Prints how long the front over at least a million configurations takes:
//! `cargo run --release -p qeil-plan --example million`.

#[path = "../tests/spaces/mod.rs"]
mod spaces;

use qeil_plan::{Goal, plan};
use spaces::{Size, space};
use std::time::Instant;

fn main() {
    for (what, size) in [
        (
            "samples shared over up to three devices, one model each",
            Size {
                models: 4,
                devices: 3,
                settings: 2,
                samples_max: 11,
                batches: 4,
                lanes_max: 3,
                ladder_max: 1,
                split: true,
            },
        ),
        (
            "ladders of two models on one or two devices",
            Size {
                models: 3,
                devices: 2,
                settings: 2,
                samples_max: 10,
                batches: 4,
                lanes_max: 2,
                ladder_max: 2,
                split: true,
            },
        ),
    ] {
        let problem = space(1, size);
        let began = Instant::now();
        let planned = plan(&problem, Goal::Energy);
        let seconds = began.elapsed().as_secs_f64();
        match planned {
            Ok(planned) => println!(
                "{what}: {} configurations, {} on the front, {seconds:.2} s ({:?})",
                planned.examined,
                planned.front.len(),
                planned.method
            ),
            Err(error) => println!("{what}: {error}"),
        }
    }
}
