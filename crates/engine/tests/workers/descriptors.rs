//! Two hundred workers killed at random moments: nothing leaks, and every request has exactly one outcome.
//!
//! Descriptors and children are counted for a whole process, so the drill runs in one of its own, where no other
//! test opens anything at the same time.

use crate::models::{spec, tiny};
use crate::parts::{LONG, PART, children, disarm, launch, send, worker};
use qeil_engine::handle::{Backoff, EngineError, Generation, GenerationEvent, Supervisor};
use qeil_engine::protocol::Fault;
use qeil_engine::request::{GenerateRequest, Prompt, Sampling};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const KILLS: u64 = 200;
const SEED: u64 = 20_260_722;

#[test]
fn two_hundred_random_kills_leak_nothing() {
    let launch = launch("kills");
    // Its stderr is ours; its stdout would be a second test report inside this one.
    let drill =
        Command::new(&launch.program).args(&launch.args).env(PART, "kills").stdout(Stdio::null()).status();
    let status = drill.unwrap();
    assert!(status.success(), "{status}; the drill's own message is above");
}

/// The drill.
pub fn kills() -> i32 {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(drill());
    0
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }
}

async fn drill() {
    let mut dice = Dice(SEED);
    let mut launch = worker();
    launch.silence_timeout = Some(Duration::from_millis(400));
    let pause = Duration::from_millis(1);
    let quick = || {
        let mut backoff = Backoff::default();
        (backoff.first, backoff.most) = (pause, pause);
        backoff
    };
    // One worker's whole life first, so that what is opened once for ever is open.
    let first = Supervisor::start(launch.clone(), spec(tiny()), quick());
    first.worker().await.unwrap();
    first.stop().await;
    drop(first);
    let descriptors_before = descriptors();
    assert_eq!(children(), Vec::<u32>::new());

    let supervisor = Supervisor::start(launch, spec(tiny()), quick());
    let mut outcomes = BTreeMap::<&str, u32>::new();
    let mut slowest = Duration::ZERO;
    for kill in 0..KILLS {
        let worker = tokio::time::timeout(LONG, supervisor.worker()).await.unwrap().unwrap();
        let mut running = Vec::new();
        for n in 0..dice.roll(4) + 1 {
            let samples = dice.roll(3) as u32 + 1;
            let tokens_max = if n == 0 { 300 } else { dice.roll(6) as u32 };
            let prompt = Prompt::text(format!("kill {kill}, request {n}"));
            let mut request = GenerateRequest::new(prompt, samples, tokens_max, Sampling::greedy());
            request.ignore_end = true;
            running.push(tokio::spawn(outcome(worker.generate(request).await.unwrap())));
        }
        tokio::time::sleep(Duration::from_micros(dice.roll(20_000))).await;
        let (worker_pid, way) = (worker.pid(), dice.roll(10));
        let signal = match way {
            0..4 => Some(Signal::KILL),
            4 | 5 => Some(Signal::SEGV),
            6 => Some(Signal::ABORT),
            7 => Some(Signal::STOP),
            _ => None,
        };
        if let Some(signal) = signal {
            disarm(worker_pid, signal).await;
        }
        let killed = Instant::now();
        match signal {
            Some(signal) => send(worker_pid, signal),
            None if way == 8 => worker.inject(Fault::Assertion).await.unwrap(),
            None => worker.inject(Fault::CloseSocket).await.unwrap(),
        }
        let mut death = worker.death();
        tokio::time::timeout(LONG, death.wait_for(Option::is_some)).await.expect("a death").unwrap();
        if signal.is_some_and(|signal| signal != Signal::STOP) {
            slowest = slowest.max(death.borrow().as_ref().unwrap().at - killed);
        }
        for task in running {
            *outcomes.entry(task.await.unwrap()).or_default() += 1;
        }
        if kill % 16 == 0 {
            // Dropped in flight, by clones of the handle, on a worker that may be dead.
            drop(worker.generate(GenerateRequest::new(Prompt::text("x"), 1, 9, Sampling::greedy())).await);
        }
    }
    supervisor.worker().await.unwrap();
    assert_eq!(supervisor.restarts(), KILLS);
    supervisor.stop().await;
    drop(supervisor);
    eprintln!("{KILLS} kills: outcomes {outcomes:?}, slowest report of a signal {slowest:?}");
    assert!(outcomes["failed"] >= KILLS as u32 / 2, "most first requests were cut off");

    let since = Instant::now();
    while !children().is_empty() || more_than(&descriptors_before) {
        assert!(
            since.elapsed() < Duration::from_secs(10),
            "left behind: processes {:?}, descriptors {:?} (before: {descriptors_before:?})",
            children(),
            descriptors()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn outcome(mut generation: Generation) -> &'static str {
    let mut outcomes = Vec::new();
    while let Some(event) = tokio::time::timeout(LONG, generation.next()).await.expect("an outcome") {
        match event {
            GenerationEvent::Done(_) => outcomes.push("done"),
            GenerationEvent::Failed(EngineError::Died(_)) => outcomes.push("failed"),
            GenerationEvent::Failed(error) => panic!("{error}"),
            GenerationEvent::Token(_) | GenerationEvent::SampleDone { .. } => {}
        }
    }
    assert_eq!(outcomes.len(), 1, "exactly one outcome: {outcomes:?}");
    outcomes[0]
}

/// Whether more descriptors of any kind are open than there were. Fewer are no leak: one that was there at the beginning may
/// be closed in the meantime.
fn more_than(before: &BTreeMap<String, u32>) -> bool {
    descriptors().iter().any(|(kind, count)| *count > before.get(kind).copied().unwrap_or(0))
}

/// What each open descriptor is, by kind, without the numbers of pipes and sockets.
fn descriptors() -> BTreeMap<String, u32> {
    let mut kinds = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        // The listing's own descriptor is gone by now.
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let kind = target.to_string_lossy().split(':').next().unwrap_or_default().to_owned();
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}
