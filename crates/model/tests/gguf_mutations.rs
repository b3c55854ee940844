//! Every broken file is refused by name, quickly, and without a panic.

// A test's own functions unwrap like the test itself.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod mutations;

use qeil_model::gguf::{Limits, read_bytes};
use qeil_model::write::{TinyShape, write_tiny_llama};
use qeil_model::{InspectError, ModelFacts, inspect};
use std::time::{Duration, Instant};

/// The contract: a structural fault is refused within this time.
const REFUSAL_MAX: Duration = Duration::from_millis(10);
/// A refusal is timed this often, and the fastest counts: the machine may be busy with other things.
const TRIES: usize = 5;

fn base() -> Vec<u8> {
    let mut bytes = Vec::new();
    write_tiny_llama(&mut bytes, &TinyShape::default()).unwrap();
    bytes
}

fn verdict(bytes: &[u8]) -> Result<ModelFacts, String> {
    let gguf = read_bytes(bytes, &Limits::default()).map_err(|error| error.to_string())?;
    ModelFacts::from_gguf(&gguf).map_err(|error| error.to_string())
}

#[test]
fn structural_faults_are_refused_by_name() {
    let base = base();
    verdict(&base).unwrap();
    let mutations = mutations::all(&base);
    let mut failures = Vec::new();
    let mut refused = 0;
    for mutation in mutations.iter().filter(|mutation| mutation.structural) {
        assert_ne!(mutation.bytes, base, "{} changes nothing", mutation.name);
        assert!(!mutation.expect.is_empty(), "{} expects nothing", mutation.name);
        match verdict(&mutation.bytes) {
            Err(error) if error.contains(mutation.expect) => refused += 1,
            Err(error) => {
                failures.push(format!("{}: `{error}` does not name `{}`", mutation.name, mutation.expect))
            }
            Ok(_) => failures.push(format!("{}: accepted", mutation.name)),
        }
    }
    assert!(failures.is_empty(), "{} faults:\n{}", failures.len(), failures.join("\n"));
    println!("{refused} structural faults refused");
    assert!(refused >= 60, "only {refused} structural mutations");
}

#[test]
fn refusals_are_quick() {
    let base = base();
    let slowest = mutations::all(&base)
        .into_iter()
        .filter(|mutation| mutation.structural)
        .map(|mutation| {
            let time = || {
                let start = Instant::now();
                verdict(&mutation.bytes).unwrap_err();
                start.elapsed()
            };
            ((0..TRIES).map(|_| time()).min().unwrap(), mutation.name)
        })
        .max()
        .unwrap();
    println!("slowest refusal: {:?} for {}", slowest.0, slowest.1);
    assert!(slowest.0 < REFUSAL_MAX, "{:?} for {}", slowest.0, slowest.1);
}

#[test]
fn bad_contents_pass_or_are_refused_without_a_panic() {
    let base = base();
    let contents: Vec<_> =
        mutations::all(&base).into_iter().filter(|mutation| !mutation.structural).collect();
    assert!(contents.len() >= 10);
    for mutation in contents {
        assert_ne!(mutation.bytes, base, "{} changes nothing", mutation.name);
        println!("{}: {:?}", mutation.name, verdict(&mutation.bytes).map(|facts| facts.parameters));
    }
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = mutations::all(&base()).into_iter().map(|mutation| mutation.name).collect();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn a_file_is_judged_like_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let base = base();
    std::fs::write(&path, &base).unwrap();
    assert_eq!(inspect(&path).unwrap(), verdict(&base).unwrap());

    for mutation in mutations::all(&base).into_iter().filter(|mutation| mutation.structural).step_by(7) {
        std::fs::write(&path, &mutation.bytes).unwrap();
        let error = inspect(&path).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(mutation.expect) && text.contains("model.gguf"), "{}: {text}", mutation.name);
        let by_the_reader = read_bytes(&mutation.bytes, &Limits::default()).is_err();
        assert_eq!(matches!(error, InspectError::Format { .. }), by_the_reader, "{}", mutation.name);
    }

    let nowhere = inspect(&folder.path().join("nowhere")).unwrap_err().to_string();
    assert!(nowhere.contains("cannot read the file"), "{nowhere}");
    let directory = inspect(folder.path()).unwrap_err().to_string();
    assert!(directory.contains("the path is not a file"), "{directory}");
}
