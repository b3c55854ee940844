//! One request in flight, seen from the supervisor.
//!
//! A [`Generation`] ends in exactly one of two events, `Done` or `Failed`, whatever happens to the worker. Its
//! channel has room for everything the request may emit, so the task that reads the socket never waits for a
//! slow consumer: one client that stops reading cannot hold up the others.

use super::error::EngineError;
use super::link::Link;
use crate::protocol::SampleToken;
use crate::request::{FinishReason, GenerateRequest, Token, TokenOut, Usage};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Room for what is not a token or the end of a sample: `Done` or `Failed`, and a margin of three.
const EXTRA_EVENTS: usize = 4;

/// Most events a request can cause: each sample its tokens, its end, and one to spare.
pub(super) fn events_max(request: &GenerateRequest) -> usize {
    let per_sample = (request.tokens_max as usize).saturating_add(2);
    request
        .samples
        .len()
        .saturating_mul(per_sample)
        .saturating_add(EXTRA_EVENTS)
        .min(tokio::sync::Semaphore::MAX_PERMITS)
}

/// What happens to a request.
#[derive(Debug, Clone)]
pub enum GenerationEvent {
    /// One token of one sample.
    Token(SampleToken),
    /// A sample ended.
    SampleDone {
        /// Its index.
        sample: u32,
        /// Why.
        reason: FinishReason,
        /// Text that was held back for stop strings.
        tail: Vec<u8>,
    },
    /// All samples ended: the last event.
    Done(Usage),
    /// The request failed as a whole: the last event.
    Failed(EngineError),
}

/// A request in flight. Dropping it cancels the request.
#[derive(Debug)]
pub struct Generation {
    id: u64,
    prompt: Vec<Token>,
    events: mpsc::Receiver<GenerationEvent>,
    link: Arc<Link>,
    over: bool,
}

impl Generation {
    pub(super) fn new(id: u64, events: mpsc::Receiver<GenerationEvent>, link: Arc<Link>) -> Self {
        Self { id, prompt: Vec::new(), events, link, over: false }
    }

    pub(super) fn admitted(&mut self, prompt: Vec<Token>) {
        self.prompt = prompt;
    }

    pub(super) fn rejected(&mut self) {
        self.over = true;
    }

    /// The request's id: names its samples in [`crate::protocol::StateSource`].
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The prompt as tokens.
    pub fn prompt(&self) -> &[Token] {
        &self.prompt
    }

    /// The next event; `None` once the terminal one was taken.
    pub async fn next(&mut self) -> Option<GenerationEvent> {
        if self.over {
            return None;
        }
        // The channel closes without a terminal event only where the runtime itself is going away.
        let event = self.events.recv().await.unwrap_or(GenerationEvent::Failed(EngineError::Stopped));
        self.over = matches!(event, GenerationEvent::Done(_) | GenerationEvent::Failed(_));
        Some(event)
    }

    /// End the request, or one sample of it, within one step. Its events go on until the terminal one.
    pub fn cancel(&self, sample: Option<u32>) {
        if !self.over {
            self.link.cancel(self.id, sample);
        }
    }

    /// Wait for the end and put the samples together.
    ///
    /// # Errors
    /// What the request failed of.
    pub async fn collect(mut self) -> Result<Completed, EngineError> {
        let mut samples = BTreeMap::<u32, CompletedSample>::new();
        let mut bytes = BTreeMap::<u32, Vec<u8>>::new();
        while let Some(event) = self.next().await {
            match event {
                GenerationEvent::Token(SampleToken { sample, token, .. }) => {
                    bytes.entry(sample).or_default().extend_from_slice(&token.text);
                    samples.entry(sample).or_insert_with(|| CompletedSample::new(sample)).tokens.push(token);
                }
                GenerationEvent::SampleDone { sample, reason, tail } => {
                    let text = bytes.entry(sample).or_default();
                    text.extend_from_slice(&tail);
                    let done = samples.entry(sample).or_insert_with(|| CompletedSample::new(sample));
                    done.text = String::from_utf8_lossy(text).into_owned();
                    done.reason = reason;
                }
                GenerationEvent::Done(usage) => {
                    return Ok(Completed {
                        prompt_tokens: std::mem::take(&mut self.prompt),
                        samples: samples.into_values().collect(),
                        usage,
                    });
                }
                GenerationEvent::Failed(error) => return Err(error),
            }
        }
        Err(EngineError::Stopped)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        self.cancel(None);
    }
}

/// A finished request.
#[derive(Debug, Clone, PartialEq)]
pub struct Completed {
    /// The prompt as tokens.
    pub prompt_tokens: Vec<Token>,
    /// Its samples, by index.
    pub samples: Vec<CompletedSample>,
    /// What it cost.
    pub usage: Usage,
}

/// A finished sample.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletedSample {
    /// Its index in the request.
    pub index: u32,
    /// Its tokens, those emitted here.
    pub tokens: Vec<TokenOut>,
    /// Their text, without the stop string; bytes that are no UTF-8 are replaced.
    pub text: String,
    /// Why it ended.
    pub reason: FinishReason,
}

impl CompletedSample {
    /// Stands until the worker reports the sample's end, which it does before `Done`.
    fn new(index: u32) -> Self {
        let reason = FinishReason::Failed("the worker did not say why this sample ended".into());
        Self { index, tokens: Vec::new(), text: String::new(), reason }
    }

    /// Ids of its tokens.
    pub fn ids(&self) -> Vec<Token> {
        self.tokens.iter().map(|token| token.id).collect()
    }
}
