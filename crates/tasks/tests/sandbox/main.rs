//! The sandbox under attack, by every means that this machine has.
//!
//! This one binary plays every part: started as `sandbox` it is the launcher, started as one of [`parts`] it is a
//! caller in some predicament, else it is the tests. Each hostile program is a test of its own, once by each means.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests fail by panicking")]

mod contract;
mod parts;
mod world;

use libtest_mimic::{Arguments, Failed, Trial};
use qeil_tasks::sandbox::{End, Limits, Means, Outcome, Sandbox, SandboxError};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Duration;
use world::{ESCAPED, Expected, Hostile, SECRET, TRIED, World};

/// Long enough for any program that ends by itself, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Long enough for one that does not to have begun.
const SHORT: Duration = Duration::from_millis(1500);
/// In the runs with several processes.
const SEVERAL: u64 = 8;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("sandbox") => return qeil_tasks::sandbox::main(),
        Some(part) if part.starts_with("part-") => return parts::play(part),
        _ => {}
    }
    let mut trials = contract::trials();
    for (means, name) in [(Means::Namespaces, "namespaces"), (Means::Landlock, "landlock")] {
        let works = works(means);
        trials.extend(world::hostile().into_iter().map(|hostile| {
            trial(format!("{name}::{}", hostile.name), works, move || attack(hostile, means, 1))
        }));
    }
    let spawns = world::hostile();
    trials.extend(spawns.into_iter().filter(|hostile| contract::SPAWNING.contains(&hostile.name)).map(
        |hostile| {
            let works = works(Means::Namespaces);
            trial(format!("several::{}", hostile.name), works, move || {
                attack(hostile, Means::Namespaces, SEVERAL)
            })
        },
    ));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A test, ignored where the machine lacks what it is about.
fn trial(name: String, works: bool, test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    Trial::test(name, test).with_ignored_flag(!works)
}

fn launcher() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// Whether this machine can confine so. `QEIL_SANDBOX_TESTS=all` makes it a failure if it cannot.
fn works(means: Means) -> bool {
    std::env::var_os("QEIL_SANDBOX_TESTS").is_some_and(|which| which == "all")
        || Sandbox::by(means, &launcher(), Limits::default()).is_ok()
}

/// A Python that can also be run by nobody: the user's own may lie in a folder that is closed to others.
static PYTHON: LazyLock<String> = LazyLock::new(|| {
    let sandbox = Sandbox::by(Means::Landlock, &launcher(), Limits { wall: PATIENCE, ..Limits::default() });
    let runs = |python: &str| match &sandbox {
        Ok(sandbox) => {
            contract::run(sandbox, python, "print(1)").is_ok_and(|outcome| outcome.end == End::Exited(0))
        }
        Err(_) => true,
    };
    ["python3", "/usr/bin/python3"].into_iter().find(|python| runs(python)).unwrap().to_owned()
});

fn attack(hostile: Hostile, means: Means, processes: u64) -> Result<(), Failed> {
    let (wall, cpu_s) = match hostile.expected {
        Expected::Ends => (PATIENCE, 30),
        Expected::Runs => (SHORT, 30),
        Expected::Dies => (PATIENCE, 1),
    };
    let limits = Limits { wall, cpu_s, processes, ..Limits::default() };
    let world = World::new();
    let sandbox = Sandbox::by(means, &launcher(), limits)?;
    let outcome = sandbox.run(&world.program(hostile, &PYTHON, Some(means)))?;
    judge(hostile, &world, &outcome).map_err(Failed::from)
}

/// Whether a hostile program achieved anything, and ended as it should.
fn judge(hostile: Hostile, world: &World, outcome: &Outcome) -> Result<(), String> {
    let [out, err] = [&outcome.stdout, &outcome.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let said = || format!("{:?}\n--- output\n{out:.2000}\n--- errors\n{err:.2000}", outcome.end);
    if let Some(damage) = world.damage() {
        return Err(format!("{damage}: {}", said()));
    }
    if out.contains(ESCAPED) || out.contains(SECRET) || err.contains(SECRET) || out.contains("uid=0") {
        return Err(said());
    }
    let as_expected = match hostile.expected {
        Expected::Ends => outcome.end == End::Exited(0) && out.contains(TRIED),
        Expected::Runs => outcome.end == End::WallLimit,
        Expected::Dies if hostile.name.starts_with("cpu_") => outcome.end == End::CpuLimit,
        Expected::Dies => !matches!(outcome.end, End::Exited(0) | End::WallLimit),
    };
    // A program that the table gets wrong fails before it does any harm.
    let broken = ["SyntaxError", "NameError"].iter().any(|error| err.contains(error));
    if as_expected && !broken { Ok(()) } else { Err(said()) }
}

/// The text of an error that was expected.
fn refusal<T>(result: Result<T, SandboxError>) -> Result<String, Failed> {
    match result {
        Ok(_) => Err("it was not refused".into()),
        Err(error) => Ok(error.to_string()),
    }
}
