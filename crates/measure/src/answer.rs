//! One question, k samples, one worker: how fast, at what energy, and what sharing the prefill saved.
//!
//! A run is three requests to one worker: a first that is not counted (one token of one sample: the pages of the
//! model file come in and threads wake up), then the question under clock and energy meter, then, for comparison,
//! the same samples as k requests submitted at once, each prefilling the prompt for itself. No request finds a
//! prefix in the worker's cache.

use crate::error::MeasureError;
use crate::question::Tokenized;
use crate::settings::Settings;
use crate::timed::{at_once, metered, timed};
use qeil_engine::handle::{CompletedSample, Launch, Worker};
use qeil_engine::request::{FinishReason, GenerateRequest};
use qeil_engine::spec::{LoadSpec, QUEUE_REQUESTS_MAX};
use qeil_hardware::energy::{EnergyMeter, EnergyReading};
use qeil_model::ModelFacts;
use qeil_model::gguf::TensorType;
use qeil_units::{Joules, Labelled, Tokens};
use serde::{Deserialize, Serialize};

/// Most bytes of keys and values that the comparison may need: k prompts of their own take k times the room of a
/// shared one, and a figure for a table is not worth swapping for.
const COMPARISON_KV_BYTES_MAX: u64 = 4 << 30;

/// What one device answered, and what it cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerRun {
    /// Device.
    pub device: String,
    /// The driver's words for it.
    pub device_description: String,
    /// llama.cpp's one-line description of the model.
    pub model_description: String,
    /// Threads.
    pub threads: u32,
    /// The settings it ran under.
    pub settings: Settings,
    /// What confines the worker, or why nothing does.
    pub confinement: String,
    /// Milliseconds to load the model.
    pub load_ms: f64,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens emitted, all samples together.
    pub emitted_tokens: u32,
    /// Prompt tokens per second.
    pub prefill_tokens_per_s: Option<f64>,
    /// Tokens of all samples per second, from the first token to the last.
    pub decode_tokens_per_s: Option<f64>,
    /// Milliseconds from admission to the first token.
    pub first_token_ms: f64,
    /// Seconds from request to answer.
    pub wall_s: f64,
    /// Energy of the request; missing where nothing covers the device.
    pub energy: Option<EnergyReading>,
    /// Why energy is missing.
    pub energy_missing: Option<String>,
    /// Gross energy by emitted token, prefill included.
    pub joules_per_token: Option<Labelled<Joules>>,
    /// Seconds that the same samples took as separate requests submitted at once.
    pub own_prefill_wall_s: Option<f64>,
    /// `own_prefill_wall_s` by `wall_s`.
    pub shared_prefill_speedup: Option<f64>,
    /// Why the comparison is missing.
    pub comparison_missing: Option<String>,
    /// The samples.
    pub samples: Vec<Answer>,
}

/// One sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Its number.
    pub index: u32,
    /// Its text.
    pub text: String,
    /// Its tokens.
    pub tokens: u32,
    /// Why it ended.
    pub finish: Finish,
}

/// Why a sample ended, in one stable word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended it.
    End,
    /// The token limit.
    Length,
    /// A stop string.
    Stop,
    /// No KV cell was left.
    ContextFull,
    /// Anything that a run of this kind does not ask for (cancelled, deadline, moved).
    Other,
}

impl From<&FinishReason> for Finish {
    fn from(reason: &FinishReason) -> Self {
        match reason {
            FinishReason::EndOfText => Self::End,
            FinishReason::Length => Self::Length,
            FinishReason::Stop(_) => Self::Stop,
            FinishReason::ContextFull => Self::ContextFull,
            FinishReason::Cancelled
            | FinishReason::Deadline
            | FinishReason::Moved
            | FinishReason::Failed(_) => Self::Other,
        }
    }
}

impl From<CompletedSample> for Answer {
    fn from(sample: CompletedSample) -> Self {
        let finish = Finish::from(&sample.reason);
        Self { index: sample.index, text: sample.text, tokens: sample.tokens.len() as u32, finish }
    }
}

/// What an answer is measured with.
#[derive(Debug)]
pub struct Instruments<'a> {
    /// How workers are started.
    pub launch: &'a Launch,
    /// The meter, or why none covers the device.
    pub meter: Result<&'a EnergyMeter, String>,
    /// Whether the samples are drawn a second time, each with its own prefill.
    pub compare: bool,
}

/// Load `spec` (its context is sized here; `settings` are already in it) and answer.
///
/// # Errors
/// When the worker cannot be started or dies, and when the request is refused or fails.
pub async fn answer(
    with: &Instruments<'_>,
    spec: &LoadSpec,
    settings: Settings,
    facts: &ModelFacts,
    asked: &Tokenized,
) -> Result<AnswerRun, MeasureError> {
    let (spec, comparison_missing) = room(with.compare, spec, facts, asked)?;
    let threads = spec.threads;
    let worker = Worker::start(with.launch, spec).await?;
    let loaded = worker.loaded().clone();

    let first =
        GenerateRequest { samples: asked.shared().samples[..1].to_vec(), tokens_max: 1, ..asked.shared() };
    timed(&worker, first).await?;
    let (run, energy, energy_missing) = match &with.meter {
        Ok(meter) => {
            let (run, reading) = metered(&worker, asked.shared(), meter).await?;
            (run, Some(reading), None)
        }
        Err(why) => (timed(&worker, asked.shared()).await?, None, Some(why.clone())),
    };
    let own_prefill_wall_s = match comparison_missing {
        None => Some(at_once(&worker, asked.separate()).await?),
        Some(_) => None,
    };
    worker.stop().await;

    let emitted_tokens = run.usage.emitted_tokens;
    let joules_per_token = energy.as_ref().and_then(|reading| {
        let each = reading.gross.value.per_token(Tokens(emitted_tokens.into()))?;
        Some(reading.gross.clone().map(|_| each))
    });
    Ok(AnswerRun {
        device: loaded.device,
        device_description: loaded.device_description,
        model_description: loaded.model_description,
        threads,
        settings,
        confinement: loaded.confinement,
        load_ms: loaded.load_ms,
        prompt_tokens: run.usage.prompt_tokens,
        emitted_tokens,
        prefill_tokens_per_s: run.prefill_tokens_per_s(),
        decode_tokens_per_s: run.decode_tokens_per_s(asked.question.samples),
        first_token_ms: run.usage.first_token_ms,
        wall_s: run.wall_s,
        energy,
        energy_missing,
        joules_per_token,
        own_prefill_wall_s,
        shared_prefill_speedup: own_prefill_wall_s.map(|own| own / run.wall_s),
        comparison_missing,
        samples: run.samples.into_iter().map(Answer::from).collect(),
    })
}

/// The spec with a context that fits, and why there is no comparison if there is none.
fn room(
    compare: bool,
    spec: &LoadSpec,
    facts: &ModelFacts,
    asked: &Tokenized,
) -> Result<(LoadSpec, Option<String>), MeasureError> {
    let shape = asked.shape();
    let sized = |own_prompts: bool| {
        let mut sized = LoadSpec { prefix_cache_tokens: 0, ..spec.clone() };
        sized.queue_requests = sized.queue_requests.max(shape.samples).min(QUEUE_REQUESTS_MAX);
        shape.fit(&mut sized, own_prompts).map(|()| sized)
    };
    let missing = |why: &str| Ok((sized(false)?, Some(why.to_owned())));
    if !compare {
        return missing("not asked for");
    }
    if shape.samples == 1 {
        return missing("a single sample has nothing to share");
    }
    match sized(true) {
        Ok(own) if facts.kv_bytes(own.context_tokens.into(), TensorType::F16) <= COMPARISON_KV_BYTES_MAX => {
            Ok((own, None))
        }
        _ => missing("prompts of their own would need too much memory"),
    }
}
