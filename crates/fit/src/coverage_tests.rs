//! Counts read and refused, and the document made of them.

use super::*;

const GOOD: &str =
    "correct,problem,model,samples,params,note\n1,a,small,10,1000,x\n0,b,small,20,1e3,\n5,a,large,8,2000,y\n";

fn read(text: &str) -> Result<Vec<ModelCounts>, CountsError> {
    read_counts("counts.csv", text.as_bytes())
}

#[test]
fn columns_in_any_order() {
    let models = read(GOOD).unwrap();
    assert_eq!(models.len(), 2);
    assert_eq!((models[0].model.as_str(), models[0].params), ("small", 1000));
    assert_eq!(models[0].counts, [Counts::new(10, 1).unwrap(), Counts::new(20, 0).unwrap()]);
    assert_eq!(models[1].counts, [Counts::new(8, 5).unwrap()]);
    let stopped = read("model,params,problem,samples,correct,stopped\nm,1,a,3,1,true\nm,1,b,9,0,\n").unwrap();
    assert_eq!(stopped[0].counts.iter().map(|task| task.stopped).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let row = |row: &str| format!("model,params,problem,samples,correct\nm,1,z,9,0\n{row}\n");
    for (text, expected) in [
        (String::new(), "no column \"model\""),
        ("model,params,problem,samples\n".into(), "no column \"correct\""),
        ("model,params,problem,samples,correct\n".into(), "no row of counts"),
        (row("m,1,a,-3,0"), "line 3, column samples: \"-3\""),
        (row("m,1,a,3,x"), "line 3, column correct: \"x\""),
        (row("m,1,a,3,4"), "line 3, column correct: \"4\" is not at most the 3 samples"),
        (row("m,0,a,3,1"), "line 3, column params: \"0\""),
        (row("m,1.5,a,3,1"), "line 3, column params"),
        (row(",1,a,3,1"), "line 3, column model"),
        (row("m,1,,3,1"), "line 3, column problem"),
        (row("m,2,a,3,1"), "line 3, column params: m has 2 here and 1 before"),
        (row("m,1,z,3,1"), "line 3, column problem: \"z\" of m has a row already"),
        (row("m,1,a,3"), "counts.csv cannot be read as CSV"),
        (
            "model,params,problem,samples,correct,stopped\nm,1,a,3,1,maybe\n".into(),
            "column stopped: \"maybe\"",
        ),
    ] {
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains(expected) && error.starts_with("counts.csv"), "{text:?}: {error}");
    }
}

fn made_up() -> Vec<ModelCounts> {
    (1..=4u32)
        .map(|size| ModelCounts {
            model: format!("m{size}"),
            params: 10u64.pow(size + 6),
            counts: (0..30u32)
                .map(|task| Counts::new(if task % 3 == 0 { 200 } else { 50 }, (task * size) % 7).unwrap())
                .collect(),
        })
        .collect()
}

#[test]
fn the_document() {
    let models = made_up();
    let input = CoverageInput { models: &models, at: &[10, 100, 1_000], level: 0.95, seed: 1 };
    let told = Mutex::new(Vec::new());
    let report = CoverageReport::new(&input, &|model| told.lock().unwrap().push(model.to_owned())).unwrap();
    assert_eq!(told.lock().unwrap().len(), 4);
    let names: Vec<&str> = report.models.iter().map(|model| model.model.as_str()).collect();
    assert_eq!(names, ["m1", "m2", "m3", "m4"], "the order of the file, whichever is ready first");
    let document = serde_json::to_value(&report).unwrap();
    let model = &document["models"][1];
    let chosen = model["chosen"].as_str().unwrap();
    let law = &model["laws"][chosen];
    let coverage = law["coverage"]["1000"].as_f64().unwrap();
    let ends = |at| law["ci"]["1000"][at].as_f64().unwrap();
    assert!(ends(0) <= ends(1) && (0.0..=1.0).contains(&coverage), "{law}");
    assert_eq!(model["laws"].as_object().unwrap().len(), Law::ALL.len());
    // All problems have 10 samples, a third has 100, none 1,000.
    assert_eq!(model["pass_at_k"]["10"]["problems"], 30);
    assert_eq!(model["pass_at_k"]["100"]["problems"], 10);
    assert!(model["pass_at_k"]["1000"].is_null());
    assert!(model["disagreement"]["1000"].as_f64().unwrap() > 0.0);
    assert!(report.joint.is_some() && report.joint_missing.is_none());
    let back: CoverageReport = serde_json::from_value(document).unwrap();
    assert_eq!(back, report);
}

#[test]
fn two_models_have_no_joint_law_and_stopped_problems_no_pass_at_k() {
    let mut models = made_up();
    models.truncate(2);
    models[0].counts[3].stopped = true;
    let input = CoverageInput { models: &models, at: &[10], level: 0.9, seed: 1 };
    let report = CoverageReport::new(&input, &|_| ()).unwrap();
    assert!(report.joint.is_none() && report.joint_missing.unwrap().contains("at least 3"));
    assert_eq!((report.models[0].pass_at_k[&10], report.models[0].stopped), (None, 1));
    assert!(report.models[1].pass_at_k[&10].is_some());
}
