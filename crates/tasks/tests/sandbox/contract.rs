//! What honest programs may rely on, and what callers may.

use super::world::{self, World, alive};
use super::{PATIENCE, PYTHON, SEVERAL, judge, launcher, parts, refusal, trial, works};
use libtest_mimic::{Failed, Trial};
use qeil_tasks::sandbox::{End, Limits, Means, Outcome, Program, Sandbox, SandboxError};
use std::path::Path;
use std::time::{Duration, Instant};

/// Hostile programs that get further when they may start others.
pub const SPAWNING: [&str; 9] = [
    "fork_bomb",
    "fork_bomb_that_waits",
    "fork_bomb_by_vfork_and_exec",
    "fork_bomb_by_system_call",
    "shell_bomb",
    "daemon_that_outlives",
    "session_leader",
    "signals_to_the_parent",
    "namespaces",
];
/// Hostile programs that only look, or only touch what the test made: safe to let loose.
const HARMLESS: [&str; 6] = [
    "secret_by_name",
    "secret_by_link",
    "canary_overwritten",
    "canary_mode_and_owner",
    "tcp_to_the_parent",
    "unix_socket_of_the_parent",
];

pub fn trials() -> Vec<Trial> {
    let (namespaces, landlock) = (works(Means::Namespaces), works(Means::Landlock));
    let mut trials = vec![
        trial("refused_where_the_kernel_cannot".into(), true, refused),
        trial("landlock_where_there_are_no_namespaces".into(), landlock, falls_back),
        trial("dies_with_its_caller".into(), namespaces, || dies_with_its_caller("part-caller-namespaces")),
        trial("dies_with_its_caller_landlock".into(), landlock, || {
            dies_with_its_caller("part-caller-landlock")
        }),
        trial("several_processes".into(), namespaces, several),
        trial("threads_and_event_loops".into(), namespaces, threads),
        trial("works_for_an_ordinary_user".into(), parts::can_be_nobody(), parts::ordinary_user),
        trial("limits_that_make_no_sense".into(), true, limits),
        trial("launchers_that_are_none".into(), true, launchers),
        trial("unconfined_has_its_limits".into(), true, unconfined),
    ];
    for (means, name, works) in
        [(Means::Namespaces, "namespaces", namespaces), (Means::Landlock, "landlock", landlock)]
    {
        trials.push(trial(format!("{name}_honest"), works, move || honest(means)));
        trials.push(trial(format!("{name}_output_is_cut"), works, move || cut(means)));
        trials.push(trial(format!("{name}_programs_that_are_none"), works, move || no_program(means)));
    }
    trials.extend(world::hostile().into_iter().filter(|hostile| HARMLESS.contains(&hostile.name)).map(
        |hostile| {
            // The tests of the table must be able to fail: without a sandbox each of these succeeds.
            trial(format!("unconfined_succeeds_{}", hostile.name), true, move || {
                let world = World::new();
                let sandbox = Sandbox::unconfined(Limits { wall: PATIENCE, ..Limits::default() });
                let outcome = sandbox.run(&world.program(hostile, &PYTHON, None))?;
                match judge(hostile, &world, &outcome) {
                    Ok(()) => Err("it achieved nothing".into()),
                    Err(_) => Ok(()),
                }
            })
        },
    ));
    trials
}

fn roomy() -> Limits {
    Limits { wall: PATIENCE, cpu_s: 30, ..Limits::default() }
}

pub fn run(sandbox: &Sandbox, python: &str, code: &str) -> Result<Outcome, SandboxError> {
    sandbox.run(&Program {
        argv: [python, "-I", "-S", "-c", code].map(String::from).to_vec(),
        ..Program::default()
    })
}

fn expect(found: impl PartialEq<bool>, what: impl std::fmt::Debug) -> Result<(), Failed> {
    if found == true { Ok(()) } else { Err(format!("{what:#?}").into()) }
}

fn honest(means: Means) -> Result<(), Failed> {
    let sandbox = Sandbox::by(means, &launcher(), roomy())?;
    let code = "import sys, os, json\n\
                os.mkdir('made'); open('made/file', 'w').write(sys.stdin.read())\n\
                print(open('made/file').read(), open('data/table.csv').read(), sys.argv[1:], end='')\n\
                print(os.environ['HOME'] == os.getcwd() == os.environ['TMPDIR'], 'USER' in os.environ)\n\
                print('problem', file=sys.stderr)\n\
                sys.exit(7)\n";
    let program = Program {
        argv: [&PYTHON, "main.py", "a b", ""].map(String::from).to_vec(),
        files: vec![("main.py".into(), code.into()), ("data/table.csv".into(), "1,2\n".into())],
        stdin: "ünput".into(),
    };
    // Twice: nothing is left of the first run.
    for _ in 0..2 {
        let outcome = sandbox.run(&program)?;
        let out = String::from_utf8_lossy(&outcome.stdout);
        expect(out == "ünput 1,2\n ['a b', '']True False\n", &outcome)?;
        expect(outcome.stderr == b"problem\n" && outcome.end == End::Exited(7), &outcome)?;
        expect(!outcome.truncated && outcome.wall_s > 0.0, &outcome)?;
    }
    let crash = run(&sandbox, &PYTHON, "import ctypes; ctypes.string_at(8)")?;
    expect(crash.end == End::Signalled(11), &crash)
}

fn cut(means: Means) -> Result<(), Failed> {
    let limits = Limits { output_bytes: 1000, ..roomy() };
    let sandbox = Sandbox::by(means, &launcher(), limits)?;
    let code = "import sys; sys.stdout.write('o' * 5_000_000); sys.stderr.write('e' * 1000)";
    let outcome = run(&sandbox, &PYTHON, code)?;
    expect(outcome.end == End::Exited(0) && outcome.truncated, &outcome.end)?;
    expect(outcome.stdout == [b'o'; 1000] && outcome.stderr == [b'e'; 1000], outcome.stdout.len())?;
    let exact = run(&sandbox, &PYTHON, "print('x' * 999)")?;
    expect(!exact.truncated && exact.stdout.len() == 1000, &exact)
}

fn no_program(means: Means) -> Result<(), Failed> {
    let sandbox = Sandbox::by(means, &launcher(), roomy())?;
    let program = |argv: &str, file: &str| Program {
        argv: vec![argv.into()],
        files: vec![(file.into(), Vec::new())],
        ..Program::default()
    };
    for (program, named) in [
        (program("no-such-program", "a"), "no-such-program"),
        (program("/usr/no-such-program", "a"), "/usr/no-such-program"),
        (program("/usr", "a"), "/usr"),
        (program("true", "../a"), "../a"),
        (program("true", "a\0"), "a\\0"),
    ] {
        let text = refusal(sandbox.run(&program))?;
        expect(text.contains(named), text)?;
    }
    Ok(())
}

fn several() -> Result<(), Failed> {
    let limits = Limits { processes: SEVERAL, ..roomy() };
    let sandbox = Sandbox::by(Means::Namespaces, &launcher(), limits)?;
    let code = "import subprocess; print(subprocess.run(['echo', 'child'], capture_output=True).stdout)";
    let outcome = run(&sandbox, &PYTHON, code)?;
    expect(outcome.stdout == b"b'child\\n'\n", &outcome)?;
    let alone = run(&Sandbox::by(Means::Namespaces, &launcher(), roomy())?, &PYTHON, code)?;
    expect(alone.end == End::Exited(1), &alone)
}

fn threads() -> Result<(), Failed> {
    let sandbox = Sandbox::by(Means::Namespaces, &launcher(), roomy())?;
    let code = "import asyncio, concurrent.futures as f\n\
                async def main(): return await asyncio.to_thread(lambda: 3)\n\
                with f.ThreadPoolExecutor(4) as pool: print(sum(pool.map(abs, [-1, -2])), asyncio.run(main()))";
    let outcome = run(&sandbox, &PYTHON, code)?;
    expect(outcome.stdout == b"3 3\n", &outcome)
}

fn limits() -> Result<(), Failed> {
    let zero = Limits { wall: Duration::ZERO, ..Limits::default() };
    let none = Limits { processes: 0, ..Limits::default() };
    for limits in [zero, none] {
        refusal(Sandbox::new(&launcher(), limits))?;
    }
    let several = Limits { processes: 2, ..Limits::default() };
    let text = refusal(Sandbox::by(Means::Landlock, &launcher(), several))?;
    expect(text.contains("one process"), text)
}

fn launchers() -> Result<(), Failed> {
    let text = refusal(Sandbox::new(Path::new("/no/launcher"), roomy()))?;
    expect(text.contains("/no/launcher"), text)?;
    let text = refusal(Sandbox::new(Path::new("/bin/true"), roomy()))?;
    expect(text.contains("launcher"), text)
}

fn unconfined() -> Result<(), Failed> {
    let limits = Limits { wall: Duration::from_secs(2), ..roomy() };
    let sandbox = Sandbox::unconfined(limits);
    let world = World::new();
    let code = format!("import os, time; os.fork(); os.fork(); mark = {:?}; time.sleep(600)", world.mark());
    let outcome = run(&sandbox, &PYTHON, &code)?;
    expect(outcome.end == End::WallLimit, &outcome)?;
    gone(world.mark())?;
    let honest = run(&sandbox, &PYTHON, "print('ok')")?;
    expect(honest.end == End::Exited(0) && honest.stdout == b"ok\n", &honest)?;
    expect(sandbox.description().starts_with("not confined"), sandbox.description())
}

fn refused() -> Result<(), Failed> {
    let (success, said) = parts::say("part-bare", &[])?;
    expect(success && said.contains("--unsafe-no-sandbox"), &said)?;
    expect(said.contains("unshare") && said.contains("Landlock"), &said)
}

fn falls_back() -> Result<(), Failed> {
    let (success, said) = parts::say("part-no-namespaces", &[PYTHON.as_str()])?;
    expect(success && said.contains("no namespaces"), &said)?;
    expect(said.contains("Exited(0)") && said.contains("ran in there"), said)
}

/// A caller that is killed takes the program with it.
fn dies_with_its_caller(part: &str) -> Result<(), Failed> {
    let world = World::new();
    let mut caller = parts::start(part, &[PYTHON.as_str(), world.mark()])?;
    let until = Instant::now() + PATIENCE;
    // The caller has the mark in its own command line, too: the program is a second process with it.
    while parts::marked(world.mark()) < 2 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    expect(parts::marked(world.mark()) >= 2, "the program did not start")?;
    caller.kill()?;
    caller.wait()?;
    gone(world.mark())
}

fn gone(mark: &str) -> Result<(), Failed> {
    let until = Instant::now() + PATIENCE;
    while let Some(process) = alive(mark) {
        if Instant::now() > until {
            return Err(format!("process {process} is still alive").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
