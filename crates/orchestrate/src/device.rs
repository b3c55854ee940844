//! What stands behind a device: something that can be started, asked, slowed, and that may die.
//!
//! Two kinds exist: an engine worker ([`crate::engine`]) and an OpenAI-compatible endpoint ([`crate::remote`]); tests
//! bring a third. Everything that happens to a placement comes back as [`JobEvent`]s, each sample with exactly one end,
//! unless the device dies: then [`Running::death`] resolves, and whatever the placement still held is lost with it.

use crate::ask::Ask;
use qeil_control::event::JobId;
use qeil_engine::request::{FinishReason, Prompt, Token};
use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

/// A boxed future: traits with async functions cannot be made into objects yet.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A device that can be started.
pub trait Device: Debug + Send + Sync + 'static {
    /// Start its worker; resolves when it answers.
    fn start(&self) -> Later<'_, Result<Arc<dyn Running>, String>>;
}

/// A started device.
pub trait Running: Debug + Send + Sync + 'static {
    /// Work on some samples until each has ended or the device is dead. A number from `cancels` ends that sample early.
    fn work(
        self: Arc<Self>,
        placement: Placement,
        cancels: mpsc::Receiver<u32>,
        events: JobEvents,
    ) -> Later<'static, ()>;
    /// Tokens of a prompt; `None` where the device has no tokenizer of the model.
    fn tokenize(&self, prompt: Prompt) -> Later<'_, Option<Result<Vec<Token>, String>>>;
    /// Compute this share of the time, in (0, 1].
    fn pace(&self, duty: f32) -> Later<'_, ()>;
    /// Seconds to one token, or why none came.
    fn probe(&self) -> Later<'_, Result<f64, String>>;
    /// Divergence from the reference in nats and whether it is within the bound, or why there is no answer.
    fn check(&self) -> Later<'_, Result<(f64, bool), String>>;
    /// End it at once; resolves when it is gone.
    fn stop(&self) -> Later<'_, ()>;
    /// Its death, with its last words.
    fn death(&self) -> Later<'_, Ended>;
    /// Seconds that it has computed since its start; `None` where it does not tell.
    fn busy_s(&self) -> Option<f64>;
    /// Prompt tokens that it has computed since its start; `None` where it does not tell.
    fn prefilled_tokens(&self) -> Option<u64>;
    /// Its process, where it has one on this machine.
    fn pid(&self) -> Option<u32>;
}

/// The end of a started device.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its last words.
    pub words: String,
    /// When it was known.
    pub at: Instant,
}

/// Some samples of a request for one device.
#[derive(Debug, Clone)]
pub struct Placement {
    /// Its number.
    pub job: JobId,
    /// The request.
    pub ask: Arc<Ask>,
    /// Its prompt, as tokens where a device of the orchestra has a tokenizer.
    pub prompt: Prompt,
    /// The samples, and what each has emitted elsewhere.
    pub samples: Vec<Start>,
}

/// One sample to start or go on with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Start {
    /// Its number.
    pub sample: u32,
    /// How many tokens it has emitted.
    pub count: u32,
    /// Their ids; `None` where a device without a tokenizer emitted some of them, and then the text stands
    /// for them.
    pub tokens: Option<Vec<Token>>,
    /// Their text, for a device that knows no tokens.
    pub text: Vec<u8>,
}

/// What happens to a sample of a placement.
#[derive(Debug, Clone, PartialEq)]
pub enum JobEvent {
    /// Tokens came.
    Tokens {
        /// Of which sample.
        sample: u32,
        /// Their ids; empty where the device does not tell.
        ids: Vec<Token>,
        /// How many.
        count: u32,
        /// Text that became certain with them.
        text: Vec<u8>,
    },
    /// A sample ended: its last event.
    Ended {
        /// Which.
        sample: u32,
        /// Why.
        end: End,
        /// Text that was held back for stop strings.
        tail: Vec<u8>,
    },
}

/// Why a sample of a placement ended.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// By itself, or cancelled.
    Finished(FinishReason),
    /// The device failed on it: it may go on elsewhere.
    Failed(String),
    /// The device did not take it: it may go on elsewhere, and that is no fault.
    Refused(String),
}

/// Where the events of one placement go.
#[derive(Debug, Clone)]
pub struct JobEvents {
    pub(crate) job: JobId,
    pub(crate) outbox: mpsc::Sender<(JobId, JobEvent)>,
}

impl JobEvents {
    /// Send one event; waits while the loop is behind. Nothing is lost but what nobody waits for any more.
    pub async fn send(&self, event: JobEvent) {
        let _ = self.outbox.send((self.job, event)).await;
    }

    /// End every sample of `samples` that has not ended.
    pub async fn end_all(&self, samples: impl IntoIterator<Item = u32>, end: &End) {
        for sample in samples {
            self.send(JobEvent::Ended { sample, end: end.clone(), tail: Vec::new() }).await;
        }
    }
}
