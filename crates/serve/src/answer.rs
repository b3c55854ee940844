//! From events to what the client reads, whole or in pieces.
//!
//! Both forms grow from one [`Tally`], so that a stream and a whole answer cannot tell different stories. The shape is
//! OpenAI's; everything it has no word for stands in one object `qeil`: how the request ended, the joules with their
//! provenance, the devices, and the decisions with their rows in the journal. In a stream that object comes with the
//! last piece.
//!
//! OpenAI knows few reasons for an end. `stop` is the model's own end or a stop string; whatever else cut a sample
//! short is `length`, and `qeil.samples` has the true reason.

use crate::backend::{Ask, Ending, Event, Finish};
use crate::error::ApiError;
use crate::limits::DECISIONS_MAX;
use axum::http::StatusCode;
use qeil_control::event::Outcome;
use serde_json::{Map, Value, json};

/// What an answer has in common with all its pieces.
#[derive(Debug, Clone)]
pub struct Heading {
    /// Its number, unlike any other of this server.
    pub id: String,
    /// Seconds since 1970 UTC.
    pub created_unix_s: u64,
    /// The model that was asked.
    pub model: String,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Whether a stream ends with the numbers of tokens.
    pub include_usage: bool,
}

impl Heading {
    /// The heading of the answer to an ask.
    pub fn new(id: String, created_unix_s: u64, ask: &Ask, include_usage: bool) -> Self {
        Self { id, created_unix_s, model: ask.model.clone(), seed: ask.sampling.seed, include_usage }
    }

    fn object(&self, object: &str, choices: Vec<Value>) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("id".into(), json!(self.id));
        map.insert("object".into(), json!(object));
        map.insert("created".into(), json!(self.created_unix_s));
        map.insert("model".into(), json!(self.model));
        map.insert("choices".into(), Value::Array(choices));
        map
    }

    fn chunk(&self, sample: u32, delta: Value, finish: Option<&str>) -> Value {
        let choice = json!({"index": sample, "delta": delta, "logprobs": null, "finish_reason": finish});
        Value::Object(self.object("chat.completion.chunk", vec![choice]))
    }
}

/// One sample so far.
#[derive(Debug, Clone, Default)]
struct Sample {
    text: String,
    tokens: u32,
    begun: bool,
    finish: Option<Finish>,
}

/// A request's samples so far.
#[derive(Debug)]
pub struct Tally {
    heading: Heading,
    samples: Vec<Sample>,
    /// Whether texts are kept: a stream needs them only for a judge.
    keep: bool,
    /// The end of the sample that ended last: held back, since the last piece of all carries what there is to say about
    /// the request.
    held: Option<Value>,
}

impl Tally {
    /// Of a request for so many samples.
    pub fn new(heading: Heading, samples: u32, keep: bool) -> Self {
        Self { heading, samples: vec![Sample::default(); samples as usize], keep, held: None }
    }

    /// The text of a sample so far, where texts are kept.
    pub fn text(&self, sample: u32) -> &str {
        self.samples.get(sample as usize).map_or("", |sample| &sample.text)
    }

    /// Count an event that is not the last one. The pieces of a stream that it makes are returned.
    pub fn take(&mut self, event: &Event) -> Vec<Value> {
        match event {
            Event::Text { sample, text, tokens } => self.grow(*sample, text, *tokens),
            Event::SampleEnded { sample, finish } => self.end(*sample, *finish),
            Event::Ended(_) => Vec::new(),
        }
    }

    fn grow(&mut self, sample: u32, text: &str, tokens: u32) -> Vec<Value> {
        let Some(one) = self.samples.get_mut(sample as usize).filter(|one| one.finish.is_none()) else {
            return Vec::new();
        };
        one.tokens += tokens;
        if self.keep {
            one.text.push_str(text);
        }
        if text.is_empty() {
            return Vec::new();
        }
        let mut chunks = begin(&self.heading, sample, one);
        chunks.push(self.heading.chunk(sample, json!({"content": text}), None));
        chunks
    }

    fn end(&mut self, sample: u32, finish: Finish) -> Vec<Value> {
        let Some(one) = self.samples.get_mut(sample as usize).filter(|one| one.finish.is_none()) else {
            return Vec::new();
        };
        one.finish = Some(finish);
        let mut chunks = begin(&self.heading, sample, one);
        chunks.extend(self.held.take());
        self.held = Some(self.heading.chunk(sample, json!({}), Some(reason(finish))));
        chunks
    }

    /// Samples that the request's end cut short, each with the reason for that end.
    fn close(&mut self, outcome: &Outcome) -> Vec<Value> {
        let finish = match outcome {
            Outcome::Deadline => Finish::Deadline,
            Outcome::EnergyBudget => Finish::EnergyBudget,
            Outcome::Failed(_) => Finish::Failed,
            Outcome::Completed | Outcome::Withdrawn => Finish::Cancelled,
        };
        let cut = |sample: &&mut Sample| sample.finish == Some(Finish::Cancelled);
        self.samples.iter_mut().filter(cut).for_each(|sample| sample.finish = Some(finish));
        (0..self.samples.len() as u32).flat_map(|sample| self.end(sample, finish)).collect()
    }

    fn tokens(&self) -> u64 {
        self.samples.iter().map(|sample| u64::from(sample.tokens)).sum()
    }

    fn usage(&self, ending: &Ending) -> Value {
        let (prompt, completion) = (u64::from(ending.prompt_tokens), self.tokens());
        json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion})
    }

    /// What the request ended with instead of an answer, if it did.
    ///
    /// # Errors
    /// It failed, or nothing came before its deadline or within its energy budget.
    fn refuse(&self, ending: &Ending) -> Result<(), ApiError> {
        let nothing = self.tokens() == 0;
        match &ending.outcome {
            Outcome::Completed => Ok(()),
            Outcome::Deadline | Outcome::EnergyBudget if !nothing => Ok(()),
            Outcome::Deadline => {
                let message = "the deadline passed before the first token came";
                Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded", message))
            }
            Outcome::EnergyBudget => Err(ApiError {
                param: Some("qeil.energy_budget_j".into()),
                ..ApiError::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "energy_budget_exceeded",
                    "the energy budget was used up before the first token came",
                )
            }),
            Outcome::Withdrawn => Err(ApiError::stopping()),
            Outcome::Failed(_) => Err(ApiError::failed()),
        }
    }

    /// The whole answer.
    ///
    /// # Errors
    /// It failed, or nothing came before its deadline or within its energy budget.
    pub fn whole(mut self, ending: &Ending) -> Result<Value, ApiError> {
        self.refuse(ending)?;
        self.close(&ending.outcome);
        let (usage, extension) = (self.usage(ending), self.extension(ending));
        let choice = |(i, sample): (usize, Sample)| {
            json!({
                "index": i,
                "message": {"role": "assistant", "content": sample.text, "refusal": null},
                "logprobs": null,
                "finish_reason": reason(sample.finish.unwrap_or(Finish::Cancelled)),
            })
        };
        let choices = self.samples.into_iter().enumerate().map(choice).collect();
        let mut map = self.heading.object("chat.completion", choices);
        map.insert("usage".into(), usage);
        map.insert("qeil".into(), extension);
        Ok(Value::Object(map))
    }

    /// The last pieces of a stream. A request that failed ends with an error in the place of its last piece.
    pub fn last(mut self, ending: &Ending) -> Vec<Value> {
        if let Err(error) = self.refuse(ending) {
            let mut body = error.body();
            body["qeil"] = self.extension(ending);
            return self.held.take().into_iter().chain([body]).collect();
        }
        let mut chunks = self.close(&ending.outcome);
        let extension = self.extension(ending);
        let mut last = self.held.take();
        if self.heading.include_usage {
            chunks.extend(last.take());
            let mut map = self.heading.object("chat.completion.chunk", Vec::new());
            map.insert("usage".into(), self.usage(ending));
            last = Some(Value::Object(map));
        }
        if let Some(mut last) = last {
            last["qeil"] = extension;
            chunks.push(last);
        }
        chunks
    }

    fn extension(&self, ending: &Ending) -> Value {
        let (outcome, why) = match &ending.outcome {
            Outcome::Completed => ("completed", "every sample came to its end, or one passed"),
            Outcome::Withdrawn => ("withdrawn", "the server was stopped"),
            Outcome::Deadline => ("deadline", "the deadline passed; what had come was delivered"),
            Outcome::EnergyBudget => {
                ("energy_budget", "the energy budget was used up; what had come was delivered")
            }
            Outcome::Failed(_) => ("failed", "it could not be completed"),
        };
        let energy = match &ending.energy {
            Ok(energy) => json!({
                "joules": energy.value.0, "provenance": energy.provenance, "source": energy.source,
            }),
            Err(why) => json!({"joules": null, "missing": why}),
        };
        let mut names: Vec<&String> = ending.devices.iter().flatten().collect();
        names.sort_unstable();
        names.dedup();
        let samples: Vec<Value> = (self.samples.iter().enumerate())
            .map(|(i, sample)| {
                let devices = ending.devices.get(i).map_or(&[][..], Vec::as_slice);
                json!({"index": i, "tokens": sample.tokens, "end": sample.finish, "devices": devices})
            })
            .collect();
        let shown = ending.decisions.len().min(DECISIONS_MAX);
        json!({
            "request": ending.request,
            "outcome": outcome,
            "why": why,
            "energy": energy,
            "devices": names,
            "samples": samples,
            "decisions": ending.decisions[..shown],
            "decisions_left_out": ending.decisions.len() - shown,
            "seed": self.heading.seed,
            "first_token_s": ending.first_token_s,
            "wall_s": ending.wall_s,
        })
    }
}

/// The piece that opens a sample, once.
fn begin(heading: &Heading, sample: u32, one: &mut Sample) -> Vec<Value> {
    if std::mem::replace(&mut one.begun, true) {
        return Vec::new();
    }
    vec![heading.chunk(sample, json!({"role": "assistant", "content": ""}), None)]
}

/// OpenAI's word for the end of a sample.
fn reason(finish: Finish) -> &'static str {
    match finish {
        Finish::EndOfText | Finish::Stop => "stop",
        _ => "length",
    }
}
