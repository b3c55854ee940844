//! A request inside the worker: its trunk (the shared prompt) and its samples.

use crate::llama::{Grammar, Seq};
use crate::request::{FinishReason, GenerateRequest, SampleStart, Token, Usage};
use crate::worker::stops::StopWatch;
use std::time::Duration;

/// What a prompt was sent for.
pub enum Purpose {
    /// Samples of it.
    Generate(Box<GenerateRequest>),
    /// The distribution after it.
    Score,
    /// Nothing any more: a score that has been answered.
    Answered,
}

/// One request.
pub struct Job {
    /// Its id.
    pub id: u64,
    /// What for.
    pub purpose: Purpose,
    /// The prompt's tokens.
    pub prompt: Vec<Token>,
    /// The prompt being computed; `None` while it waits and after its samples have started.
    pub trunk: Option<Trunk>,
    /// Its samples, all of them, finished or not.
    pub samples: Vec<Sample>,
    /// Whether it has left the queue.
    pub started: bool,
    /// KV cells set aside for it.
    pub cells: u64,
    /// Sequences set aside for samples that have not forked yet.
    pub promised: u32,
    /// When it came in, on the stepper's clock.
    pub admitted: Duration,
    /// When it must end.
    pub deadline: Option<Duration>,
    /// When its first token came.
    pub first_token: Option<Duration>,
    /// When its latest token came.
    pub last_token: Duration,
    /// CPU seconds of the process when it came in.
    pub cpu_s_before: f64,
    /// What it has cost so far.
    pub usage: Usage,
}

/// A prompt in the engine's memory, growing to its end.
pub struct Trunk {
    /// Its sequence.
    pub seq: Seq,
    /// All tokens it will hold: the prompt, and for a request of one sample what that has already emitted.
    pub tokens: Vec<Token>,
    /// How many of them are in memory.
    pub fed: usize,
}

/// One sample.
pub struct Sample {
    /// Its number within the request.
    pub index: u32,
    /// All tokens it has emitted, here or elsewhere.
    pub emitted: Vec<Token>,
    /// Its sequence, while it runs.
    pub seq: Option<Seq>,
    /// How many of prompt + emitted are in memory.
    pub fed: usize,
    /// Where it is in the request's grammar.
    pub grammar: Option<Box<dyn Grammar>>,
    /// Text that could still become a stop string.
    pub watch: StopWatch,
    /// The stop string that what it emitted elsewhere already holds.
    pub stopped: Option<u32>,
    /// Why it ended, once it has.
    pub finished: Option<FinishReason>,
}

impl Sample {
    /// A sample that has not started here.
    pub fn new(start: &SampleStart, grammar: Option<Box<dyn Grammar>>) -> Self {
        Self {
            index: start.index,
            emitted: start.emitted.clone(),
            seq: None,
            fed: 0,
            grammar,
            watch: StopWatch::default(),
            stopped: None,
            finished: None,
        }
    }
}

impl Job {
    /// The generation request, unless the job only scores.
    pub fn request(&self) -> Option<&GenerateRequest> {
        match &self.purpose {
            Purpose::Generate(request) => Some(request),
            Purpose::Score | Purpose::Answered => None,
        }
    }

    /// KV cells that it needs at most in memory shared by all sequences, and in its largest single sequence.
    pub fn cells_needed(prompt: usize, purpose: &Purpose) -> (u64, u64) {
        match purpose {
            Purpose::Score | Purpose::Answered => (prompt as u64, prompt as u64),
            Purpose::Generate(request) => {
                // The last token of a sample is never fed.
                let each = u64::from(request.tokens_max.saturating_sub(1));
                (prompt as u64 + each * request.samples.len() as u64, prompt as u64 + each)
            }
        }
    }

    /// KV cells that one sample adds to the prompt's at most (its last token is never fed).
    pub fn cells_per_sample(&self) -> u64 {
        self.request().map_or(0, |r| u64::from(r.tokens_max.saturating_sub(1)))
    }

    /// All tokens of sample `s`, prompt included.
    pub fn tokens_of(&self, s: usize) -> Vec<Token> {
        [self.prompt.as_slice(), &self.samples[s].emitted].concat()
    }

    /// Tokens of sample `s` that are not in memory yet; none while it has no sequence.
    pub fn pending(&self, s: usize) -> usize {
        let sample = &self.samples[s];
        if sample.seq.is_some() { self.prompt.len() + sample.emitted.len() - sample.fed } else { 0 }
    }

    /// Whether nothing is left to do.
    pub fn is_over(&self) -> bool {
        match self.purpose {
            Purpose::Generate(_) => self.samples.iter().all(|s| s.finished.is_some()),
            Purpose::Score => false,
            Purpose::Answered => true,
        }
    }
}
