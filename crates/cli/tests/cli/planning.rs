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

#[test]
fn a_ladder_of_models_pays_for_both_and_is_shown_beside_them() {
    let home = Home::new();
    std::fs::copy(home.path("shelf/tiny.gguf"), home.path("shelf/other.gguf")).unwrap();
    let shelf = |name: &str| home.path("shelf").join(name).to_str().unwrap().to_owned();
    let (small, large) = (shelf("tiny.gguf"), shelf("other.gguf"));
    let arguments = ["compare", &small, "--then", &large, "--tasks", "3", "-k", "2", "-n", "8", "--json"];
    let document = home.json(&arguments);
    let names: Vec<&str> =
        document["line_ups"].as_array().unwrap().iter().map(|line| line["name"].as_str().unwrap()).collect();
    let [.., mix, other, "ladder"] = names[..] else { panic!("{names:?}") };
    assert!(other.starts_with(&large), "{names:?}");
    let line = |name: &str| {
        document["line_ups"].as_array().unwrap().iter().find(|line| line["name"] == name).unwrap()["answers"]
            .as_array()
            .unwrap()
            .clone()
    };
    for ((ladder, first), then) in line("ladder").iter().zip(line(mix)).zip(line(other)) {
        let passed = |answer: &Value, at: usize| answer["passed"][at].as_u64().unwrap();
        let unsolved = passed(&first, 0) == 0;
        // Both files hold the same model, which says the same again.
        assert_eq!(passed(ladder, 0), passed(&first, 0) + if unsolved { passed(&then, 0) } else { 0 });
        assert_eq!(passed(ladder, 1), if unsolved { 4 } else { 2 });
        // Missing where a request ended before the sensors were read for the first time.
        let joules = |answer: &Value| answer["energy"]["value"].as_f64();
        let (both, first) = (joules(ladder), joules(&first));
        assert!(if unsolved { both.is_none_or(|both| Some(both) > first) } else { both == first });
    }
    let against: Vec<_> = document["contrasts"].as_array().unwrap().iter().rev().take(2).collect();
    assert!(against.iter().all(|pair| pair["of"] == "ladder"), "{against:?}");
}
