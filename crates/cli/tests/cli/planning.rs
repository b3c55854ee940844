//! Plans and comparisons on simulated machines.

use crate::home::{Home, stderr, stdout};
use serde_json::Value;

const MODELS: [&str; 2] = ["Qwen2-0.5B", "Llama-3.2-1B:Q4_0"];

fn planned(home: &Home, more: &[&str]) -> Value {
    let mut arguments = vec!["plan", MODELS[0], MODELS[1], "--sim", "jetson-orin-nano", "-k", "4", "--json"];
    arguments.extend(more);
    let output = home.qeil(&arguments);
    assert!(output.status.success(), "{more:?}: {}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

#[test]
fn a_plan_keeps_its_limits_and_says_that_it_is_simulated() {
    let home = Home::new();
    let free = planned(&home, &["--goal", "latency"]);
    let figures = |document: &Value| document["plan"]["choice"]["figures"].clone();
    assert_eq!(free["plan"]["choice"]["provenance"], "simulated");
    assert!(free["about"].as_str().unwrap().contains("(simulated)"));
    let peak_w = figures(&free)["peak_w"].as_f64().unwrap();
    let slower = planned(&home, &["--goal", "latency", "--max-power-w", &format!("{}", 0.8 * peak_w)]);
    assert!(figures(&slower)["peak_w"].as_f64().unwrap() <= 0.8 * peak_w);
    assert!(figures(&slower)["latency_s"].as_f64() >= figures(&free)["latency_s"].as_f64());
    let covered = planned(&home, &["--goal", "energy", "--min-coverage", "0.5"]);
    assert!(figures(&covered)["coverage"].as_f64().unwrap() >= 0.5);
    let first = &free["problem"]["devices"][0]["name"].as_str().unwrap().to_owned();
    let without = planned(&home, &["--goal", "latency", "--not-on", first]);
    for rung in without["plan"]["choice"]["rungs"].as_array().unwrap() {
        for lane in rung["lanes"].as_array().unwrap() {
            assert_ne!(lane["place"], 0);
        }
    }
}

#[test]
fn a_plan_says_why() {
    let home = Home::new();
    let output = home.qeil(&["plan", MODELS[0], MODELS[1], "--sim", "core-ultra-9-285h", "-k", "4", "--why"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for words in ["Choice: ", "simulated", "Not ", "more energy", "the front is exact"] {
        assert!(text.contains(words), "{words:?} is not in:\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn a_comparison_bears_intervals_and_labels() {
    let home = Home::new();
    let arguments = [
        "compare",
        "simulated",
        "--sim",
        "jetson-orin-nano",
        "-m",
        "Qwen2-0.5B",
        "-k",
        "4",
        "--seeds",
        "3",
        "--tasks",
        "50",
        "--why",
        "--json",
    ];
    let output = home.qeil(&arguments);
    assert!(output.status.success(), "{}", stderr(&output));
    let document: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let contest = &document[0];
    assert_eq!(contest["provenance"], "simulated");
    assert_eq!(contest["sides"].as_array().unwrap().len(), 5);
    let [low, high] = [0, 1].map(|at| contest["energy_percent"]["interval_95"][at].as_f64().unwrap());
    assert!(low <= high && high < 100.0);
    // The mix may always be the best device alone; noise is all that can make it worse.
    assert!(contest["points_at_equal_energy"].as_f64().unwrap() >= -1e-9);
    // Nor can it be worse than any device alone, on any machine that is planned for.
    let why = &contest["why"];
    for alone in why["alone"].as_array().unwrap() {
        assert!(alone["energy_percent"].as_f64().unwrap() <= 1e-9, "{alone}");
    }
    assert_eq!(why["changed"].as_array().unwrap().len(), 6);
    for changed in why["changed"].as_array().unwrap() {
        assert!(changed["latency_percent"].as_f64().unwrap() <= 1e-9, "{changed}");
    }
}
