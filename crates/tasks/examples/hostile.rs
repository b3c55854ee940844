//! The hostile programs of the tests against the clock: each must be gone 250 ms after its limit, and leave the
//! machine as it was.
//!
//! `cargo run --release -p qeil-tasks --example hostile [-- LIMIT_MS]` prints a table and fails if one does not.

#[allow(dead_code, clippy::unwrap_used, clippy::panic, missing_docs, reason = "written for the tests")]
#[path = "../tests/sandbox/world.rs"]
mod world;

use qeil_tasks::sandbox::{Limits, Means, Program, Sandbox, SandboxError};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long after its limit a program may still be there.
const GRACE: Duration = Duration::from_millis(250);
/// The limit, unless another is given.
const LIMIT_MS: u64 = 1000;
/// In the runs with several processes, whose bombs go off.
const SEVERAL: u64 = 8;
/// How often the start-up is timed.
const STARTS: usize = 20;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|first| first == "sandbox") {
        return qeil_tasks::sandbox::main();
    }
    let limit_ms = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(LIMIT_MS);
    match table(Duration::from_millis(limit_ms)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn table(wall: Duration) -> Result<usize, SandboxError> {
    let launcher = std::env::current_exe()?;
    let mut bad = 0;
    for (means, processes) in [(Means::Namespaces, 1), (Means::Namespaces, SEVERAL), (Means::Landlock, 1)] {
        let limits = Limits { wall, processes, cpu_s: 1, ..Limits::default() };
        let sandbox = match Sandbox::by(means, &launcher, limits) {
            Ok(sandbox) => sandbox,
            Err(error) => {
                println!("{error}");
                continue;
            }
        };
        let python = python(&sandbox)?;
        println!("\n{processes} processes; {}", sandbox.description());
        println!("before: {}", machine());
        let mut slowest = 0.0_f64;
        for hostile in world::hostile() {
            let world = world::World::new();
            let outcome = sandbox.run(&world.program(hostile, python, Some(means)))?;
            let out = String::from_utf8_lossy(&outcome.stdout);
            let escaped = out.contains(world::ESCAPED) || out.contains(world::SECRET);
            let damage = world.damage();
            let late = outcome.wall_s > (wall + GRACE).as_secs_f64();
            let ok = !escaped && damage.is_none() && !late;
            bad += usize::from(!ok);
            slowest = slowest.max(outcome.wall_s);
            println!(
                "{:4} {:38} {:8.1} ms  {:?}{}",
                if ok { "ok" } else { "BAD" },
                hostile.name,
                outcome.wall_s * 1e3,
                outcome.end,
                damage.map(|damage| format!("  {damage}")).unwrap_or_default()
            );
        }
        println!("after:  {}", machine());
        println!(
            "slowest {:.1} ms, limit {} ms + {} ms (measured)",
            slowest * 1e3,
            wall.as_millis(),
            GRACE.as_millis()
        );
        println!("start-up: {}", start_up(&sandbox, python)?);
    }
    println!("\n{bad} bad");
    Ok(bad)
}

/// One that can be run by nobody too.
fn python(sandbox: &Sandbox) -> Result<&'static str, SandboxError> {
    let runs = |python: &str| sandbox.run(&empty(python)).is_ok();
    let found = ["python3", "/usr/bin/python3"].into_iter().find(|python| runs(python));
    found.ok_or_else(|| SandboxError::Program("no Python runs in the sandbox".into()))
}

fn empty(python: &str) -> Program {
    let argv = [python, "-I", "-S", "-c", "pass"].map(String::from).to_vec();
    Program { argv, ..Program::default() }
}

/// An empty Python with and without, by the median.
fn start_up(sandbox: &Sandbox, python: &str) -> Result<String, SandboxError> {
    let bare = Sandbox::unconfined(sandbox.limits().clone());
    let median = |sandbox: &Sandbox| -> Result<f64, SandboxError> {
        sandbox.run(&empty(python))?;
        let mut times = Vec::new();
        for _ in 0..STARTS {
            let started = Instant::now();
            sandbox.run(&empty(python))?;
            times.push(started.elapsed().as_secs_f64() * 1e3);
        }
        times.sort_by(f64::total_cmp);
        Ok(times[STARTS / 2])
    };
    let (inside, outside) = (median(sandbox)?, median(&bare)?);
    Ok(format!(
        "an empty Python takes {inside:.1} ms inside, {outside:.1} ms outside (medians of {STARTS}, measured)"
    ))
}

/// What the machine is doing.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let free = memory.lines().find(|line| line.starts_with("MemAvailable")).unwrap_or_default().to_owned();
    // Running and all tasks: the fourth word.
    let load = read("/proc/loadavg");
    format!("tasks (running/all) {}; {free}", load.split_whitespace().nth(3).unwrap_or_default())
}
