//! `qeil fit coverage` as a user meets it.

use crate::home::{Home, stderr, stdout};
use serde_json::Value;

#[test]
fn coverage_of_counts() {
    let home = Home::new();
    let mut counts = "problem,model,params,correct,samples\n".to_owned();
    for problem in 0..40 {
        for (model, params, each) in
            [("small", 1_000_000, 1), ("middle", 10_000_000, 4), ("large", 100_000_000, 12)]
        {
            counts += &format!("{problem},{model},{params},{},60\n", problem % 4 * each / 3);
        }
    }
    std::fs::write(home.path("counts.csv"), counts).unwrap();
    let run = |more: &[&str]| {
        let path = home.path("counts.csv").display().to_string();
        let done = home.qeil(&[&["fit", "coverage", "--counts", &path, "--at", "1000,10"], more].concat());
        assert!(done.status.success(), "{}", stderr(&done));
        stdout(&done)
    };
    let document: Value = serde_json::from_str(&run(&["--json"])).unwrap();
    assert_eq!(document["at"], serde_json::json!([10, 1000]));
    let at = |model: usize, k: &str| {
        let model = &document["models"][model];
        model["laws"][model["chosen"].as_str().unwrap()]["coverage"][k].as_f64().unwrap()
    };
    assert!(at(0, "1000") < at(1, "1000") && at(1, "10") < at(2, "10") && at(2, "10") < at(2, "1000"));
    assert_eq!(document["models"][1]["solved"], 30);
    assert!(document["joint"]["parameters_exponent"].as_f64().unwrap() > 0.0);
    assert_eq!(run(&["--json"]), run(&["--json"]), "the same counts, the same document");
    let text = run(&[]);
    for expected in
        ["small (1.00M parameters): 10 of 40 problems solved", "two populations *", "k = 1000", "βN"]
    {
        assert!(text.contains(expected), "{expected:?} in {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}
