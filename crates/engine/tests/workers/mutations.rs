//! Broken model files: our reader refuses the structural ones before there is a process, and whatever llama.cpp
//! does with any of them, the supervisor lives and has one typed outcome for each.

use crate::models::{spec, tiny};
use crate::parts::{LONG, worker};
use broken::Mutation;
use qeil_engine::handle::{DeathKind, EngineError, Launch, Worker};
use qeil_engine::request::{FinishReason, GenerateRequest, Prompt, Sampling};
use qeil_engine::trust::check;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

#[path = "../../../model/tests/mutations/mod.rs"]
mod broken;

/// Loads of a file of half a megabyte that take longer are hung.
const LOAD_TIMEOUT: Duration = Duration::from_secs(10);

fn mutations() -> Vec<Mutation> {
    broken::all(&std::fs::read(tiny()).unwrap())
}

#[tokio::test]
async fn structural_faults_start_no_process() {
    let unstartable = Launch::program("/nonexistent/worker");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.gguf");
    let mut refused = 0;
    for mutation in mutations().into_iter().filter(|m| m.structural) {
        std::fs::write(&file, &mutation.bytes).unwrap();
        match Worker::start(&unstartable, spec(file.clone())).await {
            Err(EngineError::Model(_)) => refused += 1,
            other => panic!("{}: {other:?}", mutation.name),
        }
    }
    assert!(refused >= 60, "{refused}");
}

/// What llama.cpp makes of a file that was not checked, in one or two words.
async fn fate(file: &Path, name: &str) -> &'static str {
    let mut launch = worker();
    launch.load_timeout = LOAD_TIMEOUT;
    let mut limited = spec(file.to_owned());
    limited.memory_limit_bytes = Some(4 << 30);
    let worker = match Worker::start_unchecked(&launch, limited).await {
        Ok(worker) => worker,
        Err(EngineError::Refused(_)) => return "refused",
        Err(EngineError::Died(_)) => return "died loading",
        Err(EngineError::LoadTimeout(_)) => return "hung loading",
        Err(other) => panic!("{name}: {other:?}"),
    };
    let mut request = GenerateRequest::new(Prompt::text("the"), 2, 4, Sampling::greedy());
    request.ignore_end = true;
    let done = match worker.generate(request).await {
        Ok(generation) => tokio::time::timeout(LONG, generation.collect()).await.expect("an outcome"),
        Err(error) => Err(error),
    };
    let fate = match done {
        Ok(done) if done.samples.iter().all(|s| s.reason == FinishReason::Length) => "answers",
        Ok(done) if done.samples.iter().all(|s| matches!(s.reason, FinishReason::Failed(_))) => {
            "fails its samples"
        }
        Ok(done) => panic!("{name}: {done:?}"),
        Err(EngineError::Died(_)) => "dies answering",
        Err(EngineError::Rejected(_)) => "rejects the request",
        Err(other) => panic!("{name}: {other:?}"),
    };
    // The known-answer check has an answer for each, too.
    let verdict = check(&worker, &[]).await;
    assert!(
        matches!(&verdict, Ok(verdict) if !verdict.trusted) || matches!(verdict, Err(EngineError::Died(_))),
        "{name}: {verdict:?}"
    );
    worker.stop().await;
    fate
}

#[tokio::test]
async fn unchecked_files_end_in_typed_outcomes() {
    let folder = tempfile::tempdir().unwrap();
    let mut fates = BTreeMap::<&str, Vec<String>>::new();
    for (n, mutation) in mutations().into_iter().enumerate() {
        let file = folder.path().join(format!("{n}.gguf"));
        std::fs::write(&file, &mutation.bytes).unwrap();
        fates.entry(fate(&file, &mutation.name).await).or_default().push(mutation.name);
        std::fs::remove_file(&file).unwrap();
    }
    for (fate, names) in &fates {
        eprintln!("{fate}: {}", names.len());
        for name in names.iter().filter(|_| !["refused", "answers"].contains(fate)) {
            eprintln!("    {name}");
        }
    }
    assert!(fates.values().map(Vec::len).sum::<usize>() >= 60);
    let fails = &fates["fails its samples"];
    assert!(fails.contains(&"contents: every weight NaN".to_owned()), "no token from numbers that are none");
}

#[tokio::test]
async fn r001_a_file_that_shrinks_while_mapped_kills_only_the_worker() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shrinks.gguf");
    std::fs::copy(tiny(), &file).unwrap();
    let mut mapped = spec(file.clone());
    (mapped.mmap, mapped.repack) = (Some(true), false);
    let worker = Worker::start(&worker(), mapped).await.unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(1000).unwrap();
    match worker.score(Prompt::text("the")).await {
        Err(EngineError::Died(death)) => assert_eq!(death.how, DeathKind::Signal(7)),
        other => panic!("{other:?}"),
    }
}
