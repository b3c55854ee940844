//! A device that computes a long prompt slowly, and says how far it is or says nothing: played without an engine.

use crate::floor::{LONG, config, named};
use qeil_control::event::Outcome;
use qeil_control::view::Standing;
use qeil_engine::request::{FinishReason, Prompt, Sampling, Token};
use qeil_orchestrate::device::{Device, End, Ended, JobEvent, JobEvents, Later, Placement, Running};
use qeil_orchestrate::{Ask, Orchestra, Setup};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

/// Time between two pieces of the prompt: ten times what the profile says.
const PIECE: Duration = Duration::from_millis(160);
const PIECE_TOKENS: u64 = 8;
/// Together 6.4 s. A device that is silent is given up after three.
const PIECES: u64 = 40;

#[derive(Debug, Default)]
struct Slow {
    tells: bool,
    starts: AtomicU32,
}

#[derive(Debug)]
struct Slowly {
    tells: bool,
    told: AtomicU64,
    stopped: Notify,
}

impl Device for Slow {
    fn start(&self) -> Later<'_, Result<Arc<dyn Running>, String>> {
        self.starts.fetch_add(1, Ordering::SeqCst);
        let running = Slowly { tells: self.tells, told: AtomicU64::new(0), stopped: Notify::new() };
        Box::pin(async move { Ok(Arc::new(running) as Arc<dyn Running>) })
    }
}

impl Running for Slowly {
    fn work(
        self: Arc<Self>,
        placement: Placement,
        _: mpsc::Receiver<u32>,
        events: JobEvents,
    ) -> Later<'static, ()> {
        Box::pin(async move {
            for _ in 0..PIECES {
                tokio::time::sleep(PIECE).await;
                self.told.fetch_add(PIECE_TOKENS, Ordering::SeqCst);
            }
            for start in placement.samples {
                let sample = start.sample;
                events.send(JobEvent::Tokens { sample, ids: vec![], count: 1, text: b"word".into() }).await;
                let end = End::Finished(FinishReason::EndOfText);
                events.send(JobEvent::Ended { sample, end, tail: vec![] }).await;
            }
        })
    }
    fn tokenize(&self, _: Prompt) -> Later<'_, Option<Result<Vec<Token>, String>>> {
        Box::pin(async { None })
    }
    fn pace(&self, _: f32) -> Later<'_, ()> {
        Box::pin(async {})
    }
    fn probe(&self) -> Later<'_, Result<f64, String>> {
        Box::pin(async { Ok(0.01) })
    }
    fn check(&self) -> Later<'_, Result<(f64, bool), String>> {
        Box::pin(async { Ok((0.0, true)) })
    }
    fn stop(&self) -> Later<'_, ()> {
        self.stopped.notify_one();
        Box::pin(async {})
    }
    fn death(&self) -> Later<'_, Ended> {
        Box::pin(async {
            self.stopped.notified().await;
            Ended { words: "stopped".into(), at: Instant::now() }
        })
    }
    fn busy_s(&self) -> Option<f64> {
        None
    }
    fn prefilled_tokens(&self) -> Option<u64> {
        self.tells.then(|| self.told.load(Ordering::SeqCst))
    }
    fn pid(&self) -> Option<u32> {
        None
    }
}

/// How often a device was started for one long prompt within `patience`, and what became of the prompt.
async fn starts(tells: bool, patience: Duration) -> (u32, Option<Outcome>) {
    let device = Arc::new(Slow { tells, ..Slow::default() });
    let setup =
        Setup::new(config()).with(named("slow", "slow"), Arc::clone(&device) as Arc<dyn Device>, None);
    let orchestra = Orchestra::start(setup).unwrap();
    while orchestra.snapshot().await.unwrap().devices[0].standing != Standing::Serving {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let prompt = "a ".repeat((PIECES * PIECE_TOKENS) as usize);
    let answer = orchestra.submit(Ask::new(Prompt::text(prompt), 1, 4, Sampling::greedy())).await.unwrap();
    let collected = tokio::time::timeout(patience, answer.collect()).await;
    let outcome = collected.ok().map(|collected| collected.unwrap().1.outcome);
    let starts = device.starts.load(Ordering::SeqCst);
    orchestra.stop().await;
    (starts, outcome)
}

#[tokio::test]
async fn a_slow_prompt_is_waited_for_as_long_as_its_device_says_how_far_it_is() {
    let (told, silent) = tokio::join!(starts(true, LONG), starts(false, PIECE * PIECES as u32));
    assert_eq!(told, (1, Some(Outcome::Completed)));
    assert!(silent.0 > 1, "a silent one is given up and started again: {silent:?}");
}
