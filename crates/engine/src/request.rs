//! What a generation request is, and what bounds it.
//!
//! A request is one prompt and k **samples** of it. The prompt is prefilled once; every sample is a sequence of
//! its own from there on. The random number for token *t* of sample *s* depends on (seed, s, t) alone, so a
//! sample that moves to another worker (its tokens so far in [`SampleStart::emitted`]) goes on as if nothing
//! had happened.

use crate::spec::{OutOfBounds, SEQUENCES_MAX};
use serde::{Deserialize, Serialize};

/// A token id of the loaded model's vocabulary.
pub type Token = i32;

/// Most stop strings of one request.
pub const STOP_STRINGS_MAX: usize = 16;
/// Most bytes of one stop string; the worker holds back this much text at most while it could still match.
pub const STOP_STRING_BYTES_MAX: usize = 256;
/// Most alternatives whose log-probabilities are reported per token.
pub const LOGPROBS_MAX: u8 = 20;
/// Most bytes of a GBNF grammar: its parse is llama.cpp's, in a process that may die.
pub const GRAMMAR_BYTES_MAX: usize = 64 << 10;
/// Most logit biases of one request.
pub const LOGIT_BIAS_MAX: usize = 1024;
/// Most bytes of prompt text.
pub const PROMPT_BYTES_MAX: usize = 4 << 20;

/// A piece of prompt text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptPart {
    /// The text.
    pub text: String,
    /// Whether special-token spellings in it mean the tokens. True only for text a chat template wrote itself;
    /// text from users is never trusted, so `<|im_end|>` typed by one stays eleven harmless characters.
    pub trusted: bool,
}

/// What the model continues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Prompt {
    /// Text, tokenised by the worker; a beginning-of-sequence token is added where the model asks for it.
    Parts(Vec<PromptPart>),
    /// Token ids, taken as they are.
    Tokens(Vec<Token>),
}

impl Prompt {
    /// Plain untrusted text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Parts(vec![PromptPart { text: text.into(), trusted: false }])
    }
}

/// How a token is chosen from the model's distribution. Filters apply in the order of the fields.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Added to the logits of single tokens.
    pub logit_bias: Vec<(Token, f32)>,
    /// Divides positive (multiplies negative) logits of recently seen tokens; 1 is off (Keskar et al. 2019).
    pub repetition_penalty: f32,
    /// How many of the latest tokens (prompt included) count as recently seen.
    pub penalty_window: u32,
    /// 0 takes the most likely token; otherwise logits are divided by it.
    pub temperature: f32,
    /// Keep the k most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set of tokens whose probability reaches p (Holtzman et al. 2020); 1 keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than this share of the most likely one's probability; 0 keeps all.
    pub min_p: f32,
    /// Seed of the request.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            logit_bias: Vec::new(),
            repetition_penalty: 1.0,
            penalty_window: 64,
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            seed: 0,
        }
    }
}

impl Sampling {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }
}

/// One sample to draw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleStart {
    /// Number of the sample within its request: the *s* of (seed, s, t).
    pub index: u32,
    /// Tokens this sample has already emitted elsewhere; empty for a new one.
    pub emitted: Vec<Token>,
}

/// One prompt, k samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GenerateRequest {
    /// The prompt.
    pub prompt: Prompt,
    /// The samples, 1 to [`SEQUENCES_MAX`].
    pub samples: Vec<SampleStart>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most tokens a sample may have in all (those in `emitted` included). 0 only prefills the prompt into the
    /// prefix cache, from where it can be exported.
    pub tokens_max: u32,
    /// Milliseconds from admission by the worker after which the request ends with [`FinishReason::Deadline`].
    pub deadline_ms: Option<u32>,
    /// Text that ends a sample; it is not part of the sample's text.
    pub stop: Vec<String>,
    /// A GBNF grammar with a rule `root` that the text must follow.
    pub grammar: Option<String>,
    /// Report the log-probability of each token and of this many alternatives (0: of the token alone).
    pub logprobs: Option<u8>,
    /// Go on past end-of-generation tokens, up to `tokens_max` (benchmarks).
    pub ignore_end: bool,
    /// Look for the prompt's longest known prefix in the worker's cache and leave the prompt there afterwards.
    pub reuse_prefix: bool,
    /// Compute what samples have already emitted elsewhere token by token, as it was computed there, and not as one
    /// prefill: slower to start, but the numbers come from steps of the same shape (see the text of `worker::advance`).
    pub replay: bool,
}

impl GenerateRequest {
    /// `k` new samples of up to `tokens_max` tokens each.
    pub fn new(prompt: Prompt, k: u32, tokens_max: u32, sampling: Sampling) -> Self {
        Self {
            prompt,
            samples: (0..k).map(|index| SampleStart { index, emitted: Vec::new() }).collect(),
            sampling,
            tokens_max,
            deadline_ms: None,
            stop: Vec::new(),
            grammar: None,
            logprobs: None,
            ignore_end: false,
            reuse_prefix: true,
            replay: false,
        }
    }

    /// Check every bound that does not depend on the loaded model.
    ///
    /// # Errors
    /// The first thing wrong, in words for whoever wrote the request.
    pub fn check(&self) -> Result<(), RequestError> {
        let count = |field: &str, value: usize, least: u64, most: u64| {
            let value = value as u64;
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(RequestError::OutOfBounds(OutOfBounds { field: field.into(), value, least, most }))
            }
        };
        count("samples", self.samples.len(), 1, SEQUENCES_MAX.into())?;
        match &self.prompt {
            Prompt::Parts(parts) => {
                count("prompt bytes", parts.iter().map(|p| p.text.len()).sum(), 1, PROMPT_BYTES_MAX as u64)?;
            }
            Prompt::Tokens(tokens) => count("prompt tokens", tokens.len(), 1, PROMPT_BYTES_MAX as u64)?,
        }
        let mut indices: Vec<u32> = self.samples.iter().map(|s| s.index).collect();
        indices.sort_unstable();
        if indices.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(RequestError::Invalid("two samples have the same index".into()));
        }
        if self.samples.iter().any(|s| s.emitted.len() as u64 > u64::from(self.tokens_max)) {
            return Err(RequestError::Invalid("a sample has already emitted more than tokens_max".into()));
        }
        count("stop strings", self.stop.len(), 0, STOP_STRINGS_MAX as u64)?;
        for stop in &self.stop {
            count("bytes of a stop string", stop.len(), 1, STOP_STRING_BYTES_MAX as u64)?;
        }
        if let Some(grammar) = &self.grammar {
            count("grammar bytes", grammar.len(), 1, GRAMMAR_BYTES_MAX as u64)?;
        }
        if let Some(n) = self.logprobs {
            count("logprobs", n.into(), 0, LOGPROBS_MAX.into())?;
        }
        count("logit biases", self.sampling.logit_bias.len(), 0, LOGIT_BIAS_MAX as u64)?;
        let real = |field: &str, value: f32, least: f32, most: f32| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(RequestError::Invalid(format!(
                    "{field} is {value}, but must lie between {least} and {most}"
                )))
            }
        };
        real("temperature", self.sampling.temperature, 0.0, 100.0)?;
        real("top_p", self.sampling.top_p, 0.0, 1.0)?;
        real("min_p", self.sampling.min_p, 0.0, 1.0)?;
        real("repetition_penalty", self.sampling.repetition_penalty, 0.01, 100.0)?;
        for &(token, bias) in &self.sampling.logit_bias {
            if bias.is_nan() || bias == f32::INFINITY {
                return Err(RequestError::Invalid(format!("logit bias of token {token} is {bias}")));
            }
        }
        Ok(())
    }
}

/// Why a request was refused. The text is for whoever wrote the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum RequestError {
    /// A size out of bounds.
    #[error(transparent)]
    OutOfBounds(OutOfBounds),
    /// Anything else that is wrong with the request itself.
    #[error("{0}")]
    Invalid(String),
    /// Prompt and samples need more KV cells or sequences than the worker has in all.
    #[error("the request needs {needed} {what}, but the worker has {available}")]
    TooLarge {
        /// `tokens of context` or `sequences`.
        what: String,
        /// What it needs.
        needed: u64,
        /// What there is.
        available: u64,
    },
    /// The worker's queue is full; try again later.
    #[error("the worker's queue is full ({0} requests)")]
    QueueFull(u32),
    /// The worker is being stopped.
    #[error("the worker is shutting down")]
    ShuttingDown,
}

/// Why a sample ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishReason {
    /// The model emitted an end-of-generation token.
    EndOfText,
    /// `tokens_max` reached.
    Length,
    /// One of the stop strings appeared; its number in the request.
    Stop(u32),
    /// Cancelled by the supervisor.
    Cancelled,
    /// The request's deadline passed.
    Deadline,
    /// No KV cell was left.
    ContextFull,
    /// Its state was exported with `detach`: it goes on elsewhere.
    Moved,
    /// The engine failed on it: non-finite logits, a grammar that allows no token, a failed step.
    Failed(String),
}

/// One emitted token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenOut {
    /// The token.
    pub id: Token,
    /// Text that became certain with it: bytes, since a token may end inside a character, and possibly empty
    /// while a stop string could still match.
    pub text: Vec<u8>,
    /// Natural log of its probability under the model (before temperature and filters), if asked for.
    pub logprob: Option<f32>,
    /// The most likely alternatives with their log-probabilities, most likely first.
    pub top: Vec<(Token, f32)>,
}

/// What one request cost inside the worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Of these, tokens found in the prefix cache.
    pub reused_tokens: u32,
    /// Tokens emitted here, all samples together.
    pub emitted_tokens: u32,
    /// Milliseconds from admission to the start of its first step (waiting).
    pub queued_ms: f64,
    /// Milliseconds of wall time in steps that held its prefill.
    pub prefill_ms: f64,
    /// Milliseconds from admission to its first token.
    pub first_token_ms: f64,
    /// Milliseconds from its first token to its last.
    pub decode_ms: f64,
    /// Seconds of CPU time of the worker process from admission to the end (shared with other requests in flight).
    pub cpu_s: f64,
}
