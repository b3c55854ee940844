//! Keep one worker alive.
//!
//! A worker that dies is replaced after a pause that doubles with each death and is forgotten after a healthy
//! while. The pause has jitter, so that several devices that lost their driver together do not all load their
//! models in the same instant. What cannot get better by trying again (a spec or file that is refused) ends the
//! supervision with that answer.

use super::error::EngineError;
use super::launch::Launch;
use super::worker::Worker;
use crate::spec::LoadSpec;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;

/// Refused loads in a row before giving up: memory or a device may come free between two tries.
const REFUSALS_MAX: u32 = 3;

/// The pause before each restart. Pure: the caller brings the randomness and the clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Backoff {
    /// The first pause: a single crash should cost little more than loading the model again.
    pub first: Duration,
    /// No pause is longer than this: long enough for a driver reset, short enough to notice recovery.
    pub most: Duration,
    /// A worker that lived this long makes the next pause the first one again.
    pub healthy: Duration,
    /// Deaths since the last healthy worker.
    failures: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(50),
            most: Duration::from_secs(10),
            healthy: Duration::from_secs(30),
            failures: 0,
        }
    }
}

impl Backoff {
    /// The pause after a worker that lived for `lived`. `chance` in [0, 1) spreads it over ±25 %.
    pub fn pause(&mut self, lived: Duration, chance: f64) -> Duration {
        if lived >= self.healthy {
            self.failures = 0;
        }
        let doubled = self.first.saturating_mul(2u32.saturating_pow(self.failures.min(30)));
        self.failures = self.failures.saturating_add(1);
        doubled.mul_f64(0.75 + 0.5 * chance.clamp(0.0, 1.0)).min(self.most)
    }
}

#[derive(Debug, Clone)]
enum Post {
    Empty,
    Filled(Worker),
    Closed(EngineError),
}

/// Keeps one worker alive until it is stopped or dropped. Dropping it lets go of the worker, which then exits once
/// nobody else holds a handle.
#[derive(Debug)]
pub struct Supervisor {
    post: watch::Receiver<Post>,
    stop: watch::Sender<bool>,
    restarts: Arc<AtomicU64>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Supervisor {
    /// Start keeping a worker for `spec`; returns at once, the first worker comes when it has loaded.
    pub fn start(launch: Launch, spec: LoadSpec, backoff: Backoff) -> Self {
        let (post_sender, post) = watch::channel(Post::Empty);
        let (stop, stopped) = watch::channel(false);
        let restarts = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(keep(launch, spec, backoff, post_sender, stopped, Arc::clone(&restarts)));
        Self { post, stop, restarts, task: Mutex::new(Some(task)) }
    }

    /// The living worker, once there is one.
    ///
    /// # Errors
    /// Why there will be none: the load was refused for good, or the supervisor was stopped.
    pub async fn worker(&self) -> Result<Worker, EngineError> {
        let mut post = self.post.clone();
        let settled = post.wait_for(|post| match post {
            Post::Empty => false,
            Post::Filled(worker) => worker.is_alive(),
            Post::Closed(_) => true,
        });
        match settled.await.as_deref() {
            Ok(Post::Filled(worker)) => Ok(worker.clone()),
            Ok(Post::Closed(error)) => Err(error.clone()),
            Ok(Post::Empty) | Err(_) => Err(EngineError::Stopped),
        }
    }

    /// How many times a worker was started again.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Stop the worker and the supervision; both are gone on return.
    pub async fn stop(&self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.lock().await.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // The task holds the only handle of ours: ending it tells the worker to exit.
        if let Some(task) = self.task.get_mut() {
            task.abort();
        }
    }
}

async fn keep(
    launch: Launch,
    spec: LoadSpec,
    mut backoff: Backoff,
    post: watch::Sender<Post>,
    mut stopped: watch::Receiver<bool>,
    restarts: Arc<AtomicU64>,
) {
    let mut refusals = 0;
    loop {
        let started = tokio::select! {
            started = Worker::start(&launch, spec.clone()) => started,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        let began = Instant::now();
        match started {
            Ok(worker) => {
                refusals = 0;
                let mut death = worker.death();
                post.send_replace(Post::Filled(worker.clone()));
                let asked_to_stop = tokio::select! {
                    _ = death.wait_for(Option::is_some) => false,
                    _ = stopped.wait_for(|stop| *stop) => true,
                };
                if asked_to_stop {
                    worker.stop().await;
                    break;
                }
                post.send_replace(Post::Empty);
            }
            Err(error) => {
                refusals += u32::from(matches!(error, EngineError::Refused(_)));
                let for_good = matches!(
                    error,
                    EngineError::Spec(_) | EngineError::Model(_) | EngineError::Version { .. }
                );
                if for_good || refusals == REFUSALS_MAX {
                    post.send_replace(Post::Closed(error));
                    return;
                }
            }
        }
        let chance = RandomState::new().hash_one(0u8) as f64 / u64::MAX as f64;
        tokio::select! {
            () = tokio::time::sleep(backoff.pause(began.elapsed(), chance)) => {}
            _ = stopped.wait_for(|stop| *stop) => break,
        }
        restarts.fetch_add(1, Ordering::Relaxed);
    }
    post.send_replace(Post::Closed(EngineError::Stopped));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_most_and_start_over_after_health() {
        let mut backoff = Backoff::default();
        let short = Duration::from_secs(1);
        let pauses: Vec<u64> = (0..10).map(|_| backoff.pause(short, 0.5).as_millis() as u64).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff.pause(backoff.healthy, 0.5).as_millis(), 50);
        assert_eq!(backoff.pause(short, 0.0).as_millis(), 75);
        for _ in 0..100 {
            assert!(backoff.pause(short, 1.0) <= backoff.most);
        }
    }
}
