//! Coverage runs: killed at any moment they lose nothing and repeat nothing; budgets end them; metrics have accuracy.

use crate::home::{Home, stderr, stdout};
use qeil_measure::coverage::SampleRow;
use qeil_measure::store::Store;
use qeil_measure::store::coverage::CoverageRun;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const TASKS: usize = 24;

/// Tasks that a model of random weights solves now and then: an answer passes if it holds one of some letters.
fn tasks(home: &Home) {
    let mut text = String::new();
    for task in 0..TASKS {
        let (kind, pattern) =
            [("easy", "[a-h]"), ("middling", "[qxjk].{0,3}[qxjk]"), ("never", "z{9}")][task % 3];
        let line = json!({
            "id": format!("task-{task:02}"),
            "kind": kind,
            "prompt": format!("say something, number {task}"),
            "verifier": {"type": "regex", "pattern": pattern},
            "tokens_max": 40,
        });
        writeln!(text, "{line}").unwrap();
    }
    std::fs::write(home.path("tasks.jsonl"), text).unwrap();
}

fn home() -> Home {
    let home = Home::new();
    tasks(&home);
    home
}

/// The common part of a command line, so that runs share a plan.
fn arguments<'a>(store: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments =
        vec!["coverage", "tiny", "--tasks", "tasks.jsonl", "--samples", "16", "--parallel", "8"];
    arguments.extend(["--reproducible", "--temperature", "1.5", "--store", store]);
    arguments.extend(more);
    arguments
}

fn runs(store: &Path) -> Vec<CoverageRun> {
    Store::open(store).unwrap().coverage_runs().unwrap()
}

type Counting = BTreeMap<(String, u32), (String, Option<bool>)>;

/// The samples that count, with what they say.
fn counting(run: &CoverageRun) -> Counting {
    let outcomes = qeil_measure::coverage::outcomes(&run.plan, &run.samples);
    let rows = outcomes.iter().flat_map(|outcome| outcome.counting());
    rows.map(|row| ((row.task.clone(), row.sample), (row.text.clone(), row.passed))).collect()
}

/// The same random numbers give the same texts but where rounding differs with what shares a step: on a busy machine that
/// is some of them. With other random numbers not one would be the same.
#[track_caller]
fn assert_mostly_equal(a: &Counting, b: &Counting) {
    let common = a.iter().filter(|(key, _)| b.contains_key(*key)).count();
    let equal = a.iter().filter(|(key, said)| b.get(*key) == Some(*said)).count();
    assert!(common * 2 > a.len() && equal * 2 > common, "{equal} of {common} equal, of {}", a.len());
}

fn key(row: &SampleRow) -> (String, u32) {
    (row.task.clone(), row.sample)
}

/// How often a run is killed at most: each start costs a second or two.
const KILLS: usize = 8;

#[test]
fn a_killed_run_keeps_what_it_saved_and_ends_with_the_same_samples() {
    let home = home();
    for (name, strategy) in [("fixed", "fixed"), ("sequential", "sequential")] {
        let alone = format!("{name}-alone.sqlite");
        let output = home.qeil(&arguments(&alone, &["--strategy", strategy]));
        assert!(output.status.success(), "{}", stderr(&output));
        let [undisturbed] = &runs(&home.path(&alone))[..] else { panic!("one run") };
        assert!(undisturbed.finished);

        let killed = format!("{name}-killed.sqlite");
        let with = arguments(&killed, &["--strategy", strategy]);
        let mut saved: Vec<SampleRow> = Vec::new();
        let mut cut = 0;
        let samples = || match home.path(&killed).exists() {
            true => runs(&home.path(&killed)).pop().map(|run| run.samples).unwrap_or_default(),
            false => Vec::new(),
        };
        for kill in 0..KILLS {
            let mut child = home.command(&with).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            // The moment of the kill is told by what is saved, not by a clock: a busy machine starts slowly.
            let enough = saved.len() + 1 + kill * 7919 % 11;
            let mut ended = false;
            while !ended && samples().len() < enough {
                std::thread::sleep(Duration::from_millis(5));
                ended = child.try_wait().unwrap().is_some();
            }
            child.kill().unwrap();
            child.wait().unwrap();
            let now = samples();
            for row in &saved {
                assert!(now.contains(row), "kill {kill} lost or changed {row:?}");
            }
            cut += usize::from(now.len() > saved.len() && !ended);
            saved = now;
            if ended {
                break;
            }
        }
        assert!(cut > 0, "no run was killed between its first sample and its last");
        let left = home.qeil(&with);
        assert!(left.status.success(), "{}", stderr(&left));
        let resumed = runs(&home.path(&killed)).into_iter().find(|run| run.finished).unwrap();
        let mut keys: Vec<_> = resumed.samples.iter().map(key).collect();
        keys.dedup();
        assert_eq!(keys.len(), resumed.samples.len(), "a sample is there once");
        assert!(resumed.sittings.len() > 1);
        assert_mostly_equal(&counting(&resumed), &counting(undisturbed));
    }
}

#[test]
fn a_worker_that_dies_is_followed_by_another() {
    let home = home();
    let with = arguments("died.sqlite", &["--all"]);
    let mut child = home.command(&with).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let saved = || match home.path("died.sqlite").exists() {
        true => runs(&home.path("died.sqlite")).pop().map_or(0, |run| run.samples.len()),
        false => 0,
    };
    let mut ended = false;
    while saved() == 0 && !ended {
        std::thread::sleep(Duration::from_millis(5));
        ended = child.try_wait().unwrap().is_some();
    }
    // Its only child while it draws samples.
    let threads = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    let workers: String = threads
        .map(|thread| std::fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default())
        .collect();
    let worker: i32 = workers.trim().parse().unwrap_or_else(|_| panic!("{workers:?}"));
    let struck = rustix::process::Pid::from_raw(worker).unwrap();
    rustix::process::kill_process(struck, rustix::process::Signal::KILL).unwrap();
    let before = saved();
    let output = child.wait_with_output().unwrap();
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("the worker died") && said.contains("another goes on"), "{said}");
    let [run] = &runs(&home.path("died.sqlite"))[..] else { panic!("one run") };
    assert!(run.finished && run.samples.len() == TASKS * 16, "{} of them", run.samples.len());
    assert!(before < run.samples.len(), "it was killed in the middle");
    assert_eq!(run.sittings.len(), 2);
}

#[test]
fn samples_do_not_depend_on_what_is_computed_beside_them() {
    let home = home();
    let texts = |store: &str, parallel: &str| {
        let mut with = arguments(store, &["--all", "--limit", "6"]);
        let at = with.iter().position(|word| *word == "--parallel").unwrap();
        with[at + 1] = parallel;
        let output = home.qeil(&with);
        assert!(output.status.success(), "{}", stderr(&output));
        counting(&runs(&home.path(store))[0])
    };
    let eight = texts("eight.sqlite", "8");
    assert_eq!(eight.len(), 6 * 16);
    assert_mostly_equal(&eight, &texts("three.sqlite", "3"));
    assert_mostly_equal(&eight, &texts("many.sqlite", "40"));
}

#[test]
fn budgets_end_a_run_and_a_larger_one_goes_on() {
    let home = home();
    let report = |more: &[&str]| {
        home.json(&arguments("budget.sqlite", &[more, &["--all", "-n", "120", "--json"]].concat()))
    };
    let samples = |report: &Value| report["samples"].as_u64().unwrap();
    let target = report(&["--target-coverage", "0.25"]);
    assert!(target["ended"].as_str().unwrap().contains("25.0 %"), "{}", target["ended"]);
    assert!(target["solved"].as_u64().unwrap() >= (TASKS / 4) as u64);
    assert_eq!(target["finished"], false);
    // Less than is spent already: what a sample costs differs from machine to machine.
    let half = format!("{:.6}", target["cost"]["gross"]["value"].as_f64().unwrap() / 2.0);
    let spent = report(&["--budget-j", &half]);
    assert!(spent["ended"].as_str().unwrap().contains("J is spent"), "{}", spent["ended"]);
    assert_eq!(samples(&spent), samples(&target), "the budget is the run's, not the sitting's");
    let whole = report(&[]);
    assert_eq!((&whole["finished"], samples(&whole)), (&json!(true), (TASKS * 16) as u64));
    assert!(samples(&target) < samples(&whole));
    // On a busy machine not one sample ends in this time.
    let fresh =
        home.qeil(&arguments("budget.sqlite", &["--all", "-n", "120", "--fresh", "--budget-s", "0.01"]));
    let said = stdout(&fresh) + &stderr(&fresh);
    assert!(said.contains("run 1 of the same plan ended at 20"), "{said}");
    assert!(said.contains("the budget of 0.01 s is spent"), "{said}");
    assert!(fresh.status.success() || said.contains("before a single sample"), "{said}");
    assert_eq!(runs(&home.path("budget.sqlite")).len(), 2, "a new one");
}

#[test]
fn the_report_and_the_metrics_of_a_run() {
    let home = home();
    let output = home.qeil(&arguments("run.sqlite", &["--chart", "curve.svg"]));
    assert!(output.status.success(), "{}", stderr(&output));
    let table = stdout(&output);
    for words in
        ["24 tasks", "within so many samples", "never solved: ", "task-02", "held-out", "estimated", "easy"]
    {
        assert!(table.contains(words), "{words} is missing in\n{table}");
    }
    let picture = std::fs::read_to_string(home.path("curve.svg")).unwrap();
    assert!(picture.contains("Share of tasks solved") && picture.ends_with("</svg>\n"));

    let all = home.json(&arguments("run.sqlite", &["--all", "--json"]));
    assert_eq!(all["curve"].as_array().unwrap().len(), 5, "1, 2, 4, 8, 16");
    let never = all["never_solved"].as_array().unwrap();
    assert!(never.len() >= TASKS / 3 && never.len() < TASKS, "{never:?}");
    let kinds: Vec<_> = all["kinds"].as_array().unwrap().iter().map(|row| &row["kind"]).collect();
    assert_eq!(kinds, ["easy", "middling", "never"]);
    let coverage = |at: usize| all["curve"][at]["coverage"].as_f64().unwrap();
    assert!((1..5).all(|at| coverage(at) >= coverage(at - 1)));
    let solved = all["solved"].as_f64().unwrap() / TASKS as f64;
    assert!((coverage(4) - solved).abs() < 1e-12, "all samples of all tasks: no estimate is left");

    let metrics = home.json(&["metrics", "--store", "run.sqlite", "--price-usd", "100", "--json"]);
    let rows = metrics["coverage"].as_array().unwrap();
    assert_eq!(rows.len(), 10, "two runs at five numbers of samples");
    for row in rows {
        let known = |name: &str| &row["metrics"][name]["known"];
        for name in ["ipw", "ipj", "ece", "ppp", "usd_per_thousand_solved"] {
            assert!(known(name)["value"].as_f64().unwrap() > 0.0, "{name} of {row}");
            // Where a resample of the tasks holds no solved one, solving one has no cost there.
            let certain = name == "usd_per_thousand_solved" || known(name)["interval"].is_object();
            assert!(certain, "{name} of {row}");
            assert_eq!(known(name)["provenance"], "estimated", "{name}");
        }
        let first = row["samples"] == 1;
        assert_eq!(row["metrics"]["marginal_ece"]["missing"] == "smaller_run", first, "{row}");
    }
    let table = stdout(&home.qeil(&["metrics", "--store", "run.sqlite"]));
    assert!(table.contains("accuracy") && table.contains("up to the first pass"), "{table}");
}

#[test]
fn what_is_wrong_with_a_run_is_said() {
    let home = home();
    std::fs::write(home.path("broken.jsonl"), "{\"id\": \"a\"}\n").unwrap();
    let long = json!({
        "id": "long", "prompt": "word ".repeat(4000), "verifier": {"type": "exact", "answer": "x"},
    });
    std::fs::write(home.path("long.jsonl"), format!("{long}\n")).unwrap();
    let cases: &[(&[&str], i32, &[&str])] = &[
        (&["--tasks", "none.jsonl"], 1, &["none.jsonl"]),
        (&["--tasks", "broken.jsonl"], 1, &["broken.jsonl", "line 1"]),
        (&["--tasks", "long.jsonl"], 1, &["task long", "context"]),
        (&["--samples", "0"], 2, &["--samples"]),
        (&["--budget-j", "-1"], 2, &["above 0"]),
        (&["--target-coverage", "1.5"], 2, &["at most 1"]),
        (&["--all", "--strategy", "sequential"], 2, &["--all"]),
        (&["--reproducible", "--weights", "file"], 2, &["cannot be used with"]),
        (&["--device", "CUDA7"], 1, &["CUDA7", "CPU"]),
    ];
    for (more, code, words) in cases {
        let output = home.qeil(&[&["coverage", "tiny"], *more].concat());
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(*code), "{more:?}: {text}");
        assert!(words.iter().all(|word| text.contains(word)), "{more:?}: {text}");
    }
}
