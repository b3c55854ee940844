//! Every way a worker ends: the supervisor lives, says what happened within [`DEATH_REPORT`], and goes on.

use crate::models::{spec, tiny, tiny_worker};
use crate::parts::{DEATH_REPORT, LONG, PART, disarm, eventually, exists, runs, send, worker};
use qeil_engine::handle::{
    Backoff, Death, DeathKind, EngineError, Generation, GenerationEvent, Supervisor, Worker,
};
use qeil_engine::protocol::Fault;
use qeil_engine::request::{FinishReason, GenerateRequest, Prompt, Sampling};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::io::BufRead;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn endless(tokens_max: u32) -> GenerateRequest {
    let mut request = GenerateRequest::new(Prompt::text("Once"), 2, tokens_max, Sampling::greedy());
    request.ignore_end = true;
    request
}

/// Start a generation and wait until it speaks.
async fn speaking(worker: &Worker) -> Generation {
    let mut generation = worker.generate(endless(900)).await.unwrap();
    assert!(matches!(generation.next().await, Some(GenerationEvent::Token(_))));
    generation
}

async fn death_of(worker: &Worker) -> Death {
    let mut death = worker.death();
    let seen = tokio::time::timeout(LONG, death.wait_for(Option::is_some)).await;
    seen.expect("a death is reported").unwrap().clone().unwrap()
}

/// When the kernel says that the process has exited, watched from a thread of its own.
fn exit_of(pid: u32) -> std::thread::JoinHandle<Instant> {
    let pid = Pid::from_raw(pid as i32).unwrap();
    let descriptor = rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap();
    std::thread::spawn(move || {
        let mut wait = [rustix::event::PollFd::new(&descriptor, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut wait, None).unwrap();
        Instant::now()
    })
}

/// All events that are left; the last one is the outcome.
async fn outcome(mut generation: Generation) -> GenerationEvent {
    let mut outcomes = Vec::new();
    while let Some(event) = tokio::time::timeout(LONG, generation.next()).await.expect("an outcome") {
        if matches!(event, GenerationEvent::Done(_) | GenerationEvent::Failed(_)) {
            outcomes.push(event);
        }
    }
    assert_eq!(outcomes.len(), 1, "exactly one outcome: {outcomes:?}");
    outcomes.remove(0)
}

async fn still_answers(supervisor: &Supervisor) {
    let next = tokio::time::timeout(LONG, supervisor.worker()).await.unwrap().unwrap();
    let done = next.generate(endless(5)).await.unwrap().collect().await.unwrap();
    assert!(done.samples.iter().all(|s| s.reason == FinishReason::Length));
}

#[tokio::test]
async fn signals_are_reported_in_time_and_a_new_worker_answers() {
    let supervisor = Supervisor::start(worker(), spec(tiny()), Backoff::default());
    let signals = [Signal::KILL, Signal::SEGV, Signal::ABORT, Signal::BUS, Signal::TERM, Signal::KILL];
    for (round, sent) in signals.into_iter().enumerate() {
        let worker = supervisor.worker().await.unwrap();
        assert_eq!(supervisor.restarts(), round as u64);
        let generation = speaking(&worker).await;
        disarm(worker.pid(), sent).await;
        let killed = Instant::now();
        send(worker.pid(), sent);
        let outcome = outcome(generation).await;
        let told = killed.elapsed();
        let GenerationEvent::Failed(EngineError::Died(death)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(death.how, DeathKind::Signal(sent.as_raw()));
        assert!(death.at - killed <= DEATH_REPORT, "{sent:?}: known after {:?}", death.at - killed);
        assert!(told <= DEATH_REPORT, "{sent:?}: told after {told:?}");
        eprintln!("{sent:?}: told after {told:?}");
        assert_eq!(death_of(&worker).await, death);
        eventually("it is reaped", || !exists(worker.pid())).await;
    }
    still_answers(&supervisor).await;
    supervisor.stop().await;
}

#[tokio::test]
async fn faults_from_within_are_reported_with_their_last_words() {
    let mut limited = spec(tiny());
    limited.memory_limit_bytes = Some(1 << 30);
    let supervisor = Supervisor::start(worker(), limited, Backoff::default());
    let cases = [
        (Fault::Assertion, DeathKind::Signal(6), "GGML_ASSERT"),
        (Fault::OutOfMemory, DeathKind::Signal(6), "memory allocation"),
    ];
    for (fault, how, words) in cases {
        let worker = supervisor.worker().await.unwrap();
        let exit = exit_of(worker.pid());
        let generation = speaking(&worker).await;
        worker.inject(fault).await.unwrap();
        let outcome = outcome(generation).await;
        let GenerationEvent::Failed(EngineError::Died(death)) = outcome else { panic!("{outcome:?}") };
        let late = death.at.saturating_duration_since(exit.join().unwrap());
        assert!(late <= DEATH_REPORT, "{fault:?}: known {late:?} after the exit");
        eprintln!("{fault:?}: known {late:?} after the exit; {death}");
        assert_eq!(death.how, how, "{death}");
        assert!(death.last_words.as_deref().is_some_and(|said| said.contains(words)), "{fault:?}: {death}");
    }
    still_answers(&supervisor).await;
    supervisor.stop().await;
}

#[tokio::test]
async fn a_closed_socket_is_a_death_though_the_process_lives() {
    let worker = tiny_worker().await;
    let generation = speaking(&worker).await;
    worker.inject(Fault::CloseSocket).await.unwrap();
    let outcome = outcome(generation).await;
    let GenerationEvent::Failed(EngineError::Died(death)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(death.how, DeathKind::ClosedSocket);
    eventually("it was killed and reaped", || !exists(worker.pid())).await;
}

#[tokio::test]
async fn a_stopped_process_is_found_by_its_silence() {
    let supervisor = Supervisor::start(worker(), spec(tiny()), Backoff::default());
    let worker = supervisor.worker().await.unwrap();
    let generation = speaking(&worker).await;
    send(worker.pid(), Signal::STOP);
    let stopped = Instant::now();
    let outcome = outcome(generation).await;
    let GenerationEvent::Failed(EngineError::Died(death)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(death.how, DeathKind::Silent(Duration::from_secs(1)));
    // The last heartbeat came up to a period before the stop.
    assert!(death.at - stopped >= Duration::from_millis(800), "{:?}", death.at - stopped);
    eventually("it was killed and reaped", || !exists(worker.pid())).await;
    still_answers(&supervisor).await;
    supervisor.stop().await;
}

#[tokio::test]
async fn a_hung_step_still_beats() {
    let worker = tiny_worker().await;
    let generation = speaking(&worker).await;
    worker.inject(Fault::Hang).await.unwrap();
    // Longer than the silence that would count as a hang of the process.
    let mut death = worker.death();
    let died =
        tokio::time::timeout(Duration::from_millis(1500), death.wait_for(Option::is_some)).await.is_ok();
    assert!(!died, "a hung loop is for the heartbeat's reader to judge");
    assert_eq!(worker.stop().await.unwrap().how, DeathKind::Killed, "it hears no shutdown");
    assert!(matches!(outcome(generation).await, GenerationEvent::Failed(EngineError::Stopped)));
}

#[tokio::test]
async fn too_little_memory_to_load_is_typed() {
    for bytes in [16 << 20, 64 << 20, 128 << 20] {
        let mut poor = spec(tiny());
        poor.memory_limit_bytes = Some(bytes);
        poor.context_tokens = 1 << 20;
        match Worker::start(&worker(), poor).await {
            Err(EngineError::Refused(_) | EngineError::Died(_)) => {}
            other => panic!("{bytes}: {other:?}"),
        }
    }
}

/// A supervisor in a process of its own: starts a worker, hangs it where asked, names it, and waits for its end.
pub fn parent(hang: &str) -> i32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let worker = tiny_worker().await;
        if hang == "hung" {
            worker.inject(Fault::Hang).await.unwrap();
        }
        println!("\nworker {}", worker.pid());
        tokio::time::sleep(Duration::from_secs(600)).await;
    });
    1
}

#[tokio::test]
async fn a_worker_dies_with_its_supervisor() {
    for state in ["well", "hung"] {
        let launch = crate::parts::launch(&format!("parent:{state}"));
        let mut parent = Command::new(&launch.program)
            .args(&launch.args)
            .env(PART, format!("parent:{state}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(parent.stdout.take().unwrap()).lines().map_while(Result::ok);
        let pid = lines.into_iter().find_map(|line| line.strip_prefix("worker ")?.parse().ok()).unwrap();
        assert!(runs(pid));
        parent.kill().unwrap();
        parent.wait().unwrap();
        eventually("the orphan is gone", || !runs(pid)).await;
    }
}
