//! The orchestra behind the HTTP interface: two vocabularies for the same things, translated in one place.
//!
//! The interface knows no engine and the orchestra no HTTP; only the program knows both.

use qeil_control::config::{Config, Limits};
use qeil_control::event::{Outcome, Refusal};
use qeil_control::journal::Kind;
use qeil_control::view::Standing;
use qeil_engine::request::{FinishReason, Prompt, PromptPart, Sampling, Token};
use qeil_orchestrate::{Answer, AnswerEvent, Orchestra, Report};
use qeil_serve::backend::{Ask, Backend, Decided, Device, Ending, Event, Finish, Flow, Later, Model};
use std::io::Write;
use std::sync::Arc;

/// An orchestra that serves one model.
#[derive(Debug)]
pub struct Served {
    pub orchestra: Orchestra,
    pub models: Vec<Arc<Model>>,
    /// What the orchestra was told: limits, and the devices' names and guard temperatures.
    pub config: Arc<Config>,
}

impl Backend for Served {
    fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    fn limits(&self) -> &Limits {
        &self.config.limits
    }

    fn devices(&self) -> Later<'_, Vec<Device>> {
        Box::pin(async {
            let Some(snapshot) = self.orchestra.snapshot().await else { return Vec::new() };
            let device = |(view, named): (_, &qeil_control::config::DeviceConfig)| {
                let view: qeil_control::view::DeviceView = view;
                Device {
                    name: named.name.clone(),
                    state: word(&view.standing),
                    serving: view.standing == Standing::Serving,
                    temperature_c: view.temperature_c,
                    guard_c: named.thermal.map(|limits| limits.guard_c()),
                }
            };
            snapshot.devices.into_iter().zip(&self.config.devices).map(device).collect()
        })
    }

    fn submit(&self, ask: Ask) -> Later<'_, Result<Box<dyn Flow>, Refusal>> {
        Box::pin(async {
            let answer = self.orchestra.submit(of_interface(ask)).await?;
            let flow =
                Running { answer, orchestra: self.orchestra.clone(), config: Arc::clone(&self.config) };
            Ok(Box::new(flow) as Box<dyn Flow>)
        })
    }
}

/// A request in flight. Dropping the orchestra's answer withdraws it.
#[derive(Debug)]
struct Running {
    answer: Answer,
    orchestra: Orchestra,
    config: Arc<Config>,
}

impl Flow for Running {
    fn next(&mut self) -> Later<'_, Option<Event>> {
        Box::pin(async {
            Some(match self.answer.next().await? {
                AnswerEvent::Delta { sample, text, tokens } => Event::Text { sample, text, tokens },
                AnswerEvent::SampleEnded { sample, finish } => {
                    Event::SampleEnded { sample, finish: of_engine(&finish) }
                }
                AnswerEvent::Ended(report) => {
                    if let Outcome::Failed(why) = &report.outcome {
                        // The operator's half of the story; a closed standard error has nobody to tell.
                        let _ = writeln!(std::io::stderr(), "request {}: {why}", report.request.0);
                    }
                    Event::Ended(Box::new(self.ending(*report)))
                }
            })
        })
    }

    fn judged(&mut self, sample: u32, passed: bool) -> Later<'_, ()> {
        Box::pin(async move { self.orchestra.judged(self.answer.request(), sample, passed).await })
    }
}

impl Running {
    fn ending(&self, report: Report) -> Ending {
        let name = |id: qeil_control::config::DeviceId| {
            self.config.devices.get(usize::from(id.0)).map(|device| device.name.clone())
        };
        let decisions = report.decisions.into_iter().map(|decided| Decided {
            journal: decided.row,
            kind: word::<Kind>(&decided.decision.kind),
            device: decided.decision.device.and_then(name),
            why: decided.decision.reason,
        });
        Ending {
            request: report.request.0,
            outcome: report.outcome,
            prompt_tokens: report.prompt_tokens,
            energy: report.energy.ok_or_else(|| "a device that worked on it tells no power".into()),
            devices: report.samples.into_iter().map(|sample| sample.devices).collect(),
            decisions: decisions.collect(),
            first_token_s: report.first_token_s,
            wall_s: report.wall_s,
        }
    }
}

fn of_interface(ask: Ask) -> qeil_orchestrate::Ask {
    let part = |part: qeil_model::template::Part| PromptPart { text: part.text, trusted: part.trusted };
    let sampling = Sampling {
        // The interface has checked the ids against the vocabulary, whose size fits.
        logit_bias: ask.sampling.logit_bias.iter().map(|&(id, bias)| (id as Token, bias)).collect(),
        temperature: ask.sampling.temperature,
        top_k: ask.sampling.top_k,
        top_p: ask.sampling.top_p,
        min_p: ask.sampling.min_p,
        seed: ask.sampling.seed,
        ..Sampling::default()
    };
    let prompt = Prompt::Parts(ask.prompt.into_iter().map(part).collect());
    qeil_orchestrate::Ask {
        client: ask.client,
        priority: ask.priority,
        stop: ask.stop,
        deadline_s: ask.deadline_s,
        energy_budget_j: ask.energy_budget_j,
        until_pass: ask.until_pass,
        ..qeil_orchestrate::Ask::new(prompt, ask.samples, ask.tokens_max, sampling)
    }
}

fn of_engine(reason: &FinishReason) -> Finish {
    match reason {
        FinishReason::EndOfText => Finish::EndOfText,
        FinishReason::Stop(_) => Finish::Stop,
        FinishReason::Length => Finish::Length,
        FinishReason::ContextFull => Finish::ContextFull,
        FinishReason::Deadline => Finish::Deadline,
        FinishReason::Cancelled | FinishReason::Moved => Finish::Cancelled,
        FinishReason::Failed(_) => Finish::Failed,
    }
}

/// An enumeration's word, as the journal spells it.
fn word<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}
