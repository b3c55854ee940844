//! What stands behind the HTTP interface: something that takes an ask and tells how it goes.
//!
//! Nothing here schedules. The interface checks what a client sent, hands an [`Ask`] down, and reads a [`Flow`] of
//! events until the one [`Event::Ended`]. A flow that is dropped before withdraws its request: that is how a
//! client that went away, a reader that is too slow, and the end of the server all stop the work they had caused.

use qeil_control::config::Limits;
use qeil_control::event::{Outcome, Priority, Refusal};
use qeil_model::prompt::Prompter;
use qeil_model::template::Part;
use qeil_units::{Joules, Labelled};
use serde::Serialize;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// A boxed future: traits with async functions cannot be made into objects yet.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Something that serves.
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// The models that can be asked, the default one first.
    fn models(&self) -> &[Arc<Model>];
    /// Bounds of one request and of the queue.
    fn limits(&self) -> &Limits;
    /// The devices as they are now.
    fn devices(&self) -> Later<'_, Vec<Device>>;
    /// Bring a request; resolves when it was admitted or refused.
    fn submit(&self, ask: Ask) -> Later<'_, Result<Box<dyn Flow>, Refusal>>;
}

/// A model that can be asked.
#[derive(Debug)]
pub struct Model {
    /// Its name in requests.
    pub id: String,
    /// When its file was made, in seconds since 1970 UTC.
    pub created_unix_s: u64,
    /// Makes prompts of conversations.
    pub prompter: Prompter,
    /// Tokens in its vocabulary.
    pub vocab_tokens: u32,
    /// Tokens that prompt and answer may have together.
    pub context_tokens: u32,
    /// What else a client may want to know, for the list of models.
    pub about: ModelAbout,
}

/// What the list of models says about one.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ModelAbout {
    /// Parameters in all.
    pub parameters: u64,
    /// How its weights are stored.
    pub quantisation: String,
    /// Whether its weights are random ones: good for measuring, not for answers.
    pub weightless: bool,
}

/// A device as it is now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// What the control loop says of it, in one word.
    pub state: String,
    /// Whether it takes requests.
    pub serving: bool,
    /// Degrees Celsius, where known.
    pub temperature_c: Option<f64>,
    /// The temperature that the guard keeps it under, where it has a sensor.
    pub guard_c: Option<f64>,
}

/// How tokens are chosen; the fields mean what they mean in the engine.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Added to the logits of single tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// 0 takes the most likely token.
    pub temperature: f32,
    /// Keep the k most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the smallest set of tokens whose probability reaches p; 1 keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than this share of the most likely one's probability; 0 keeps all.
    pub min_p: f32,
    /// Seed of the request: token t of sample s depends on (seed, s, t).
    pub seed: u64,
}

/// One prompt, some samples of it, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// Which model.
    pub model: String,
    /// Whose it is, for fair shares.
    pub client: u32,
    /// Who goes first.
    pub priority: Priority,
    /// The prompt; only trusted parts may hold control tokens.
    pub prompt: Vec<Part>,
    /// Samples of it.
    pub samples: u32,
    /// Most tokens of each.
    pub tokens_max: u32,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Text that ends a sample; not part of its text.
    pub stop: Vec<String>,
    /// Seconds from now after which it ends.
    pub deadline_s: Option<f64>,
    /// Joules after which it ends.
    pub energy_budget_j: Option<f64>,
    /// Whether samples are judged ([`Flow::judged`]), and the first that passes ends the others.
    pub until_pass: bool,
}

/// Why a sample ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model said that it is done.
    EndOfText,
    /// One of the stop strings came.
    Stop,
    /// It has as many tokens as it may.
    Length,
    /// The device's memory for it was full.
    ContextFull,
    /// Another sample passed, or the request was withdrawn.
    Cancelled,
    /// The request's deadline passed.
    Deadline,
    /// The request's energy budget was used up.
    EnergyBudget,
    /// It could not be completed.
    Failed,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// More text of a sample: whole characters.
    Text {
        /// Which.
        sample: u32,
        /// The text; may be empty.
        text: String,
        /// Tokens that came with it.
        tokens: u32,
    },
    /// A sample ended.
    SampleEnded {
        /// Which.
        sample: u32,
        /// Why.
        finish: Finish,
    },
    /// The request ended: the last event.
    Ended(Box<Ending>),
}

/// How a request ended, what it took, and why it went as it did.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// Its number.
    pub request: u64,
    /// How.
    pub outcome: Outcome,
    /// Tokens of its prompt.
    pub prompt_tokens: u32,
    /// Its share of the energy of the devices that worked on it, or why there is no figure.
    pub energy: Result<Labelled<Joules>, String>,
    /// The devices that worked on each sample, in order; more than one where it moved.
    pub devices: Vec<Vec<String>>,
    /// The decisions about it, oldest first.
    pub decisions: Vec<Decided>,
    /// Seconds to the first token; missing where none came.
    pub first_token_s: Option<f64>,
    /// Seconds to the end.
    pub wall_s: f64,
}

/// A decision about a request, as its row in the journal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decided {
    /// Number of the row.
    pub journal: u64,
    /// What was decided.
    pub kind: String,
    /// About which device.
    pub device: Option<String>,
    /// Why.
    pub why: String,
}

/// A request in flight. Dropping it before its end withdraws the request.
pub trait Flow: fmt::Debug + Send {
    /// The next event; `None` after [`Event::Ended`], or where the backend ended without it. The future can be dropped
    /// and asked for again at any time, and nothing is lost.
    fn next(&mut self) -> Later<'_, Option<Event>>;
    /// A finished sample passed or failed its judge.
    fn judged(&mut self, sample: u32, passed: bool) -> Later<'_, ()>;
}
