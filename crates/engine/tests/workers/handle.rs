//! The handle against scripted peers: every way a worker can start badly, speak badly or end.

use crate::parts::{LONG, children, eventually, exists, launch};
use crate::peer::{DAMAGED, LAST_LINE, STATE_BYTES, TOO_LONG};
use qeil_engine::handle::{
    Backoff, DeathKind, EngineError, GenerationEvent, Launch, Supervisor, Worker, probe_devices,
};
use qeil_engine::protocol::StateSource;
use qeil_engine::request::{FinishReason, GenerateRequest, Prompt, RequestError, Sampling};
use qeil_engine::spec::LoadSpec;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn spec() -> LoadSpec {
    LoadSpec::new("no-such-file", "CPU")
}

/// A peer that plays `script`, without heartbeats.
fn peer(script: &str) -> Launch {
    let mut launch = launch(&format!("peer:{script}"));
    launch.silence_timeout = Some(LONG);
    launch
}

async fn serving() -> Worker {
    Worker::start_unchecked(&peer("serve"), spec()).await.unwrap()
}

fn cue(text: &str, samples: u32, tokens_max: u32) -> GenerateRequest {
    GenerateRequest::new(Prompt::text(text), samples, tokens_max, Sampling::greedy())
}

fn died(error: &EngineError) -> &qeil_engine::handle::Death {
    match error {
        EngineError::Died(death) => death,
        other => panic!("not a death: {other:?}"),
    }
}

#[tokio::test]
async fn bad_starts_are_told_apart() {
    type Fits = fn(&EngineError) -> bool;
    let cases: [(&str, Fits); 6] = [
        ("other-version", |e| matches!(e, EngineError::Version { theirs: 4711, .. })),
        ("exit-at-once", |e| {
            let death = died(e);
            death.how == DeathKind::Exited(3) && death.last_words.as_deref().unwrap().contains(LAST_LINE)
        }),
        ("garbage", |e| matches!(died(e).how, DeathKind::BadFrame(_))),
        ("dies-loading", |e| {
            let death = died(e);
            death.how == DeathKind::Signal(6) && death.last_words.as_deref().unwrap().contains("GGML_ASSERT")
        }),
        ("refuses", |e| matches!(e, EngineError::Refused(_))),
        ("wrong-answer", |e| matches!(died(e).how, DeathKind::BadFrame(_))),
    ];
    for (script, fits) in cases {
        let error = Worker::start_unchecked(&peer(script), spec()).await.unwrap_err();
        assert!(fits(&error), "{script}: {error:?}");
    }
    let mut impatient = peer("never-loads");
    impatient.load_timeout = Duration::from_millis(300);
    let error = Worker::start_unchecked(&impatient, spec()).await.unwrap_err();
    assert!(matches!(error, EngineError::LoadTimeout(_)), "{error:?}");
    let error = Worker::start_unchecked(&Launch::program("/nonexistent/worker"), spec()).await.unwrap_err();
    assert!(
        matches!(&error, EngineError::Spawn { program, .. } if program.contains("nonexistent")),
        "{error:?}"
    );
    let error = probe_devices(&peer("refuses")).await.unwrap_err();
    assert!(matches!(error, EngineError::Refused(_)), "{error:?}");
}

#[tokio::test]
async fn what_is_wrong_on_this_side_starts_no_process() {
    let unstartable = Launch::program("/nonexistent/worker");
    let mut absurd = spec();
    absurd.context_tokens = u32::MAX;
    let error = Worker::start(&unstartable, absurd).await.unwrap_err();
    assert!(matches!(error, EngineError::Spec(_)), "{error:?}");
    let error = Worker::start(&unstartable, spec()).await.unwrap_err();
    assert!(matches!(error, EngineError::Model(_)), "{error:?}");
}

#[tokio::test]
async fn a_generation_is_put_together() {
    let worker = serving().await;
    let done = worker.generate(cue("tokens", 2, 5)).await.unwrap().collect().await.unwrap();
    assert_eq!(done.prompt_tokens, [1, 2, 3]);
    assert_eq!(done.samples.iter().map(|s| s.index).collect::<Vec<_>>(), [0, 1]);
    for sample in &done.samples {
        assert_eq!(sample.text, "t0 t1 t2 t3 t4 tail");
        assert_eq!(sample.ids(), [0, 1, 2, 3, 4]);
        assert_eq!(sample.reason, FinishReason::Length);
    }
    assert_eq!(worker.heartbeat().borrow().steps, 42);
    let error = worker.generate(cue("reject", 1, 5)).await.unwrap_err();
    assert!(matches!(error, EngineError::Rejected(RequestError::QueueFull(7))), "{error:?}");
    let error = worker.generate(cue("tokens", 0, 5)).await.unwrap_err();
    assert!(matches!(error, EngineError::Rejected(RequestError::OutOfBounds(_))), "{error:?}");
    assert!(matches!(worker.score(Prompt::text("x")).await, Err(EngineError::Score(_))));
    assert!(matches!(worker.pace(0.0).await, Err(EngineError::Rejected(_))));
    assert!(worker.is_alive());
}

#[tokio::test]
async fn broken_speech_is_a_death_with_one_outcome_each() {
    type Fits = fn(&DeathKind) -> bool;
    let broken: Fits = |how| matches!(how, DeathKind::BadFrame(_));
    let cases: [(&str, Fits); 5] = [
        ("overflow", broken),
        ("stranger", broken),
        ("hello-again", broken),
        ("exit", |how| *how == DeathKind::Exited(7)),
        ("half-frame", |how| *how == DeathKind::Exited(0)),
    ];
    for (text, fits) in cases {
        let worker = serving().await;
        // A bystander: its outcome is the same death.
        let mut stalled = worker.generate(cue("stall", 1, 3)).await.unwrap();
        let mut culprit = worker.generate(cue(text, 1, 3)).await.unwrap();
        for generation in [&mut culprit, &mut stalled] {
            let mut terminals = Vec::new();
            while let Some(event) = generation.next().await {
                if let GenerationEvent::Done(_) | GenerationEvent::Failed(_) = event {
                    terminals.push(event);
                }
            }
            let [GenerationEvent::Failed(error)] = &terminals[..] else { panic!("{text}: {terminals:?}") };
            assert!(fits(&died(error).how), "{text}: {error:?}");
        }
        let death = worker.death().borrow().clone().unwrap();
        assert!(fits(&death.how), "{text}: {death:?}");
        if text == "exit" {
            assert!(death.last_words.unwrap().contains(LAST_LINE));
        }
        let error = worker.generate(cue("tokens", 1, 3)).await.unwrap_err();
        assert!(fits(&died(&error).how), "asked after the death: {error:?}");
        eventually("the dead worker is reaped", || !exists(worker.pid())).await;
    }
}

#[tokio::test]
async fn a_second_done_is_a_death_but_the_first_one_counts() {
    let worker = serving().await;
    worker.generate(cue("done-twice", 1, 3)).await.unwrap().collect().await.unwrap();
    let mut death = worker.death();
    let how = death.wait_for(Option::is_some).await.unwrap().clone().unwrap().how;
    assert!(matches!(how, DeathKind::BadFrame(_)), "{how:?}");
}

#[tokio::test]
async fn silence_is_a_hang() {
    let mut launch = peer("silent");
    launch.silence_timeout = Some(Duration::from_millis(200));
    let worker = Worker::start_unchecked(&launch, spec()).await.unwrap();
    let waiting = worker.generate(cue("tokens", 1, 1)).await.unwrap_err();
    assert_eq!(died(&waiting).how, DeathKind::Silent(Duration::from_millis(200)));
    eventually("the hung worker is gone", || !exists(worker.pid())).await;
}

#[tokio::test]
async fn dropping_cancels_and_nothing_else() {
    let worker = serving().await;
    let cancels = async || worker.tokenize(Prompt::text("cancels?")).await.unwrap()[0];
    worker.generate(cue("tokens", 1, 3)).await.unwrap().collect().await.unwrap();
    assert_eq!(cancels().await, 0, "a finished request is not cancelled");
    drop(worker.generate(cue("stall", 1, 3)).await.unwrap());
    // The cancel is queued before this question, and never later than its turn.
    while cancels().await < 1 {}
    // Given up while waiting for admission.
    let late = tokio::time::timeout(Duration::from_millis(50), worker.generate(cue("late", 1, 3)));
    assert!(late.await.is_err());
    while cancels().await < 2 {}
    worker.generate(cue("tokens", 1, 3)).await.unwrap().collect().await.unwrap();
    assert_eq!(cancels().await, 2);
}

#[tokio::test]
async fn an_explicit_cancel_ends_with_done() {
    let worker = serving().await;
    let mut generation = worker.generate(cue("stall", 3, 3)).await.unwrap();
    assert!(matches!(generation.next().await, Some(GenerationEvent::Token(_))));
    generation.cancel(None);
    let done = generation.collect().await.unwrap();
    assert!(done.samples.iter().all(|s| s.reason == FinishReason::Cancelled), "{done:?}");
}

#[tokio::test]
async fn a_consumer_that_does_not_read_delays_nobody() {
    let worker = serving().await;
    let mut lazy = worker.generate(cue("tokens", 8, 2000)).await.unwrap();
    for _ in 0..20 {
        worker.generate(cue("tokens", 1, 10)).await.unwrap().collect().await.unwrap();
    }
    let mut tokens = 0;
    while let Some(event) = lazy.next().await {
        tokens += usize::from(matches!(event, GenerationEvent::Token(_)));
    }
    assert_eq!(tokens, 8 * 2000);
}

#[tokio::test]
async fn states_are_checked_and_travel_both_ways() {
    let worker = serving().await;
    let state = worker.export(StateSource::Prefix(vec![9, 9]), false).await.unwrap();
    assert_eq!((state.bytes.len(), &state.header.tokens[..]), (STATE_BYTES, &[9, 9][..]));
    worker.import(&state).await.unwrap();
    let mut garbled = state.clone();
    let mut bytes = garbled.bytes.to_vec();
    bytes[3] ^= 4;
    garbled.bytes = Arc::new(bytes);
    assert!(matches!(worker.import(&garbled).await, Err(EngineError::Import(_))));
    let from = StateSource::Sample { request: 1, sample: 0 };
    assert!(matches!(worker.export(from, true).await, Err(EngineError::Export(_))));
    let damaged = worker.export(StateSource::Prefix(vec![DAMAGED]), false).await;
    assert!(matches!(&damaged, Err(EngineError::Export(why)) if why.contains("checksum")), "{damaged:?}");
    // A worker that sends more than it announced has lost count: the state it sent is right, the rest kills it.
    let longer = worker.export(StateSource::Prefix(vec![TOO_LONG]), false).await;
    assert!(matches!(&longer, Err(EngineError::Died(_))), "{longer:?}");
}

#[tokio::test]
async fn stop_and_drop_end_the_process() {
    let worker = serving().await;
    let mut stalled = worker.generate(cue("stall", 1, 3)).await.unwrap();
    let death = worker.stop().await.unwrap();
    assert_eq!(death.how, DeathKind::Exited(0));
    assert!(!exists(worker.pid()), "stop reaps");
    let mut last = None;
    while let Some(event) = stalled.next().await {
        last = Some(event);
    }
    assert!(matches!(last, Some(GenerationEvent::Failed(EngineError::Stopped))), "{last:?}");
    assert!(matches!(worker.generate(cue("tokens", 1, 3)).await, Err(EngineError::Stopped)));
    assert_eq!(worker.stop().await.unwrap().how, DeathKind::Exited(0), "a second stop says the same");

    let worker = serving().await;
    assert_eq!(worker.kill().await.unwrap().how, DeathKind::Killed);
    assert!(!exists(worker.pid()), "kill reaps");

    let worker = serving().await;
    let pid = worker.pid();
    let generation = worker.generate(cue("stall", 1, 3)).await.unwrap();
    drop(worker);
    assert!(exists(pid), "its generation keeps it");
    drop(generation);
    eventually("dropping the last handle ends the process", || !exists(pid)).await;

    let stubborn = Worker::start_unchecked(&peer("stubborn"), spec()).await.unwrap();
    assert_eq!(stubborn.stop().await.unwrap().how, DeathKind::Killed);
    assert!(!exists(stubborn.pid()), "what does not stop is killed");
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_no_process() {
    let launch = peer("never-loads");
    let before = children();
    let start = Worker::start_unchecked(&launch, spec());
    assert!(tokio::time::timeout(Duration::from_millis(300), start).await.is_err());
    // Other tests start children of this process at the same time: look for this script only.
    let new = |pid: &u32| !before.contains(pid) && part_of(*pid).contains("never-loads");
    eventually("the abandoned process is gone", || !children().iter().any(new)).await;
}

fn part_of(pid: u32) -> String {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    String::from_utf8_lossy(&environment).into_owned()
}

fn quick() -> Backoff {
    let mut backoff = Backoff::default();
    (backoff.first, backoff.most) = (Duration::from_millis(10), Duration::from_millis(50));
    backoff
}

/// The supervisor checks the file before it starts anything, so it needs a sound one.
fn sound_spec() -> LoadSpec {
    LoadSpec::new(crate::models::tiny(), "CPU")
}

#[tokio::test]
async fn the_supervisor_replaces_what_dies() {
    let supervisor = Supervisor::start(peer("serve"), sound_spec(), quick());
    let mut pids = Vec::new();
    for round in 0..4 {
        let worker = supervisor.worker().await.unwrap();
        assert!(!pids.contains(&worker.pid()));
        pids.push(worker.pid());
        assert_eq!(supervisor.restarts(), round);
        worker.generate(cue("tokens", 1, 3)).await.unwrap().collect().await.unwrap();
        let failed = worker.generate(cue("exit", 1, 3)).await.unwrap().collect().await.unwrap_err();
        assert_eq!(died(&failed).how, DeathKind::Exited(7));
    }
    supervisor.stop().await;
    assert!(matches!(supervisor.worker().await, Err(EngineError::Stopped)));
    assert!(pids.iter().all(|&pid| !exists(pid)));
}

#[tokio::test]
async fn the_supervisor_keeps_trying_a_crashing_worker_with_pauses() {
    let supervisor = Supervisor::start(peer("crashes-soon"), sound_spec(), quick());
    let since = Instant::now();
    eventually("several restarts", || supervisor.restarts() >= 5).await;
    // Five pauses of at least 7.5, 15, 30, 37.5 and 37.5 ms, whatever the machine does.
    assert!(since.elapsed() >= Duration::from_millis(127));
    supervisor.stop().await;
}

#[tokio::test]
async fn the_supervisor_gives_up_on_refusals() {
    let supervisor = Supervisor::start(peer("refuses"), sound_spec(), quick());
    assert!(matches!(supervisor.worker().await, Err(EngineError::Refused(_))));
    assert_eq!(supervisor.restarts(), 2);
    let supervisor = Supervisor::start(peer("serve"), spec(), quick());
    assert!(matches!(supervisor.worker().await, Err(EngineError::Model(_))));
    assert_eq!(supervisor.restarts(), 0, "a file does not get better by itself");
}
