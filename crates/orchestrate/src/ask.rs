//! What a client asks for, and what it is told.
//!
//! The control loop knows a request by numbers of tokens only; its text lives here and in the ledger. A client reads
//! an [`Answer`]: text as it becomes certain, the end of each sample, and at last one [`Report`] with the outcome, the
//! joules and the rows of the journal that explain it. The channel has room for everything that the request may emit,
//! so a client that stops reading holds up nobody; one that goes away ends its request.

use qeil_control::event::{Outcome, Priority, RequestId};
use qeil_control::journal::Decision;
use qeil_engine::request::{FinishReason, GenerateRequest, Prompt, RequestError, Sampling};
use qeil_units::{Joules, Labelled};
use serde::Serialize;
use tokio::sync::mpsc;

/// Room for what is neither text nor the end of a sample: the report, and one to spare.
const EXTRA_EVENTS: usize = 2;

/// One prompt, some samples of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// Whose it is, for fair shares.
    pub client: u32,
    /// Who goes first.
    pub priority: Priority,
    /// The prompt.
    pub prompt: Prompt,
    /// Samples of it.
    pub samples: u32,
    /// Most tokens of each sample.
    pub tokens_max: u32,
    /// How tokens are chosen; the seed makes a sample the same on whatever device of one kin it runs.
    pub sampling: Sampling,
    /// Text that ends a sample; not part of its text.
    pub stop: Vec<String>,
    /// A GBNF grammar that the text must follow.
    pub grammar: Option<String>,
    /// Seconds from its arrival after which it ends.
    pub deadline_s: Option<f64>,
    /// Joules after which it ends.
    pub energy_budget_j: Option<f64>,
    /// Whether its samples are judged ([`crate::Orchestra::judged`]), and the first that passes ends the others.
    pub until_pass: bool,
    /// Go on past end-of-generation tokens, up to `tokens_max` (drills and benchmarks).
    pub ignore_end: bool,
}

impl Ask {
    /// `samples` samples of up to `tokens_max` tokens each, for somebody who waits.
    pub fn new(prompt: Prompt, samples: u32, tokens_max: u32, sampling: Sampling) -> Self {
        Self {
            client: 0,
            priority: Priority::Interactive,
            prompt,
            samples,
            tokens_max,
            sampling,
            stop: Vec::new(),
            grammar: None,
            deadline_s: None,
            energy_budget_j: None,
            until_pass: false,
            ignore_end: false,
        }
    }

    /// Check every bound that depends neither on the model nor on the configuration.
    ///
    /// # Errors
    /// The first thing wrong, in words for whoever wrote the request.
    pub fn check(&self) -> Result<(), RequestError> {
        if self.tokens_max == 0 {
            return Err(RequestError::Invalid("tokens_max is 0: nothing would be generated".into()));
        }
        self.generate(&self.prompt).check()
    }

    /// The worker's request for all samples from their start.
    pub(crate) fn generate(&self, prompt: &Prompt) -> GenerateRequest {
        GenerateRequest {
            stop: self.stop.clone(),
            grammar: self.grammar.clone(),
            ignore_end: self.ignore_end,
            ..GenerateRequest::new(prompt.clone(), self.samples, self.tokens_max, self.sampling.clone())
        }
    }

    /// Most events that it can cause: a piece of text for each token, and the rest of it with the end of a sample.
    pub(crate) fn events_max(&self) -> usize {
        let each = self.tokens_max as usize + 2;
        (self.samples as usize).saturating_mul(each).saturating_add(EXTRA_EVENTS)
    }
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq)]
pub enum AnswerEvent {
    /// More text of a sample.
    Delta {
        /// Which.
        sample: u32,
        /// Whole characters; empty while a character or a stop string could still become complete.
        text: String,
        /// Tokens that came with it.
        tokens: u32,
    },
    /// A sample ended.
    SampleEnded {
        /// Which.
        sample: u32,
        /// Why.
        finish: FinishReason,
    },
    /// The request ended: the last event.
    Ended(Box<Report>),
}

/// How one sample went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SampleReport {
    /// Its number.
    pub sample: u32,
    /// Why it ended.
    pub finish: FinishReason,
    /// Tokens that it emitted.
    pub tokens: u32,
    /// The devices that worked on it, by name, in order; more than one where it moved.
    pub devices: Vec<String>,
}

/// How a request went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Its number.
    pub request: RequestId,
    /// How it ended.
    pub outcome: Outcome,
    /// Its samples.
    pub samples: Vec<SampleReport>,
    /// Tokens of its prompt.
    pub prompt_tokens: u32,
    /// Its share of the energy of the devices that worked on it; missing where one of them tells none.
    pub energy: Option<Labelled<Joules>>,
    /// The decisions about it, oldest first; at most [`DECISIONS_MAX`], and then the last ones.
    pub decisions: Vec<Decided>,
    /// Whether those rows were on disk when this was sent.
    pub journalled: bool,
    /// Seconds from arrival to the first token; missing where none came.
    pub first_token_s: Option<f64>,
    /// Seconds from arrival to the end.
    pub wall_s: f64,
}

/// A decision, and its row in the journal; 0 where none is kept.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decided {
    /// Number of the row.
    pub row: u64,
    /// The decision.
    pub decision: Decision,
}

/// Decisions that a report names: a request that moves all its samples as often as it may has fewer.
pub const DECISIONS_MAX: usize = 256;

/// A request in flight, as its client sees it. Dropping it before its end withdraws the request.
#[derive(Debug)]
pub struct Answer {
    pub(crate) request: RequestId,
    pub(crate) events: mpsc::Receiver<AnswerEvent>,
    pub(crate) over: bool,
}

impl Answer {
    /// The request's number.
    pub fn request(&self) -> RequestId {
        self.request
    }

    /// The next event; `None` after the last one, or where the orchestra ended without it.
    pub async fn next(&mut self) -> Option<AnswerEvent> {
        if self.over {
            return None;
        }
        let event = self.events.recv().await;
        self.over = matches!(event, None | Some(AnswerEvent::Ended(_)));
        event
    }

    /// Wait for the end: the text of each sample, and the report. `None` where the orchestra ended first.
    pub async fn collect(mut self) -> Option<(Vec<String>, Report)> {
        let mut texts = Vec::new();
        while let Some(event) = self.next().await {
            match event {
                AnswerEvent::Delta { sample, text, .. } => {
                    let at = sample as usize;
                    if texts.len() <= at {
                        texts.resize(at + 1, String::new());
                    }
                    texts[at].push_str(&text);
                }
                AnswerEvent::SampleEnded { .. } => {}
                AnswerEvent::Ended(report) => {
                    texts.resize(report.samples.len(), String::new());
                    return Some((texts, *report));
                }
            }
        }
        None
    }
}
