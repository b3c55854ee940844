//! Random hours from the command line, without the engine: `hours FIRST COUNT [--no-guard] [--show]`.
//! What `qeil simulate --seed FIRST --count COUNT` does, for builds that have no llama.cpp.

use qeil_sim::hour::Hours;
use qeil_sim::seeds::run_seeds;
use qeil_sim::world::run;
use std::thread::available_parallelism;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |at: usize, otherwise: u64| arguments.get(at).and_then(|word| word.parse().ok()).unwrap_or(otherwise);
    let (first, count) = (number(0, 0), number(1, 1));
    let guarded = !arguments.iter().any(|word| word == "--no-guard");
    if arguments.iter().any(|word| word == "--show") {
        let mut scenario = Hours::new()?.hour(first);
        scenario.guarded = guarded;
        println!(
            "{:#?}\n{:#?}\n{:#?}\n{:#?}",
            scenario.ambient, scenario.load, scenario.faults, scenario.goal
        );
        println!("{:#?}", run(&scenario));
        return Ok(());
    }
    let threads = available_parallelism().map_or(1, usize::from);
    let summary = run_seeds(first..first + count, guarded, threads, |_| {})?;
    println!("{summary:#?}");
    Ok(())
}
