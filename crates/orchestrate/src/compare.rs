//! The same workload on each device alone and on the orchestrated mix: what it took, how long, what it solved.
//!
//! A **line-up** is some devices that serve together under one loop; a single device is a line-up of one, so that all of
//! them pay for the same machinery. Every line-up is asked the same questions with the same seeds, `at_once` of them at a
//! time. Joules are the sensors' account of the requests; where they are estimated, they say so. Between two devices that
//! claim to compute the same, the divergence of their distributions on the known questions is told too.

use crate::ask::Ask;
use crate::device::Device;
use crate::engine::{EngineDevice, Reference};
use crate::orchestra::{Orchestra, Setup, SetupError};
use crate::sense::Sensors;
use qeil_control::config::{Config, DeviceConfig};
use qeil_control::event::{Outcome, Refusal};
use qeil_engine::handle::{EngineError, Launch, Worker};
use qeil_engine::spec::LoadSpec;
use qeil_engine::trust;
use qeil_units::{Joules, Labelled};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How long a line-up may take until its first device serves: a model from a slow disk and a known answer.
const READY_MAX: Duration = Duration::from_secs(300);
/// Between two tries of a request that was refused because everything was busy or starting.
const RETRY: Duration = Duration::from_millis(20);
/// Tries of a request: minutes of a full queue.
const TRIES_MAX: u32 = 30_000;

/// An engine of a line-up.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Its name and profile.
    pub named: DeviceConfig,
    /// What it loads.
    pub spec: LoadSpec,
    /// Its place among the sensors'.
    pub place: Option<usize>,
}

/// Devices that serve together.
#[derive(Debug, Clone)]
pub struct LineUp {
    /// What the table calls it.
    pub name: String,
    /// Its devices.
    pub engines: Vec<Engine>,
}

/// Decides whether a sample's text passes.
pub type Verdict = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A question and its judge.
#[derive(Clone)]
pub struct Question {
    /// What is asked.
    pub ask: Ask,
    /// Whether a text passes; `None` where there is no known answer.
    pub verdict: Option<Verdict>,
}

/// What one question came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answered {
    /// Whether it was completed.
    pub completed: bool,
    /// Samples that passed, of how many; missing where there is no judge.
    pub passed: Option<(u32, u32)>,
    /// Seconds from the question to its end.
    pub wall_s: f64,
    /// Seconds to the first token.
    pub first_token_s: Option<f64>,
    /// Tokens of all samples.
    pub tokens: u64,
    /// Joules of the request; missing where nothing covers its devices.
    pub energy: Option<Labelled<Joules>>,
}

/// What a line-up came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcomes {
    /// The line-up.
    pub name: String,
    /// Its devices.
    pub devices: Vec<String>,
    /// Each question, in their order.
    pub answers: Vec<Answered>,
    /// Seconds for all of them.
    pub wall_s: f64,
}

impl Outcomes {
    /// Joules of all requests; missing where one has none.
    pub fn energy(&self) -> Option<Labelled<Joules>> {
        let all: Option<Vec<_>> = self.answers.iter().map(|answer| answer.energy.clone()).collect();
        Labelled::sum(all?)
    }

    /// Share of the judged questions that at least one sample solved.
    pub fn coverage(&self) -> Option<f64> {
        mean(self.answers.iter().filter_map(|a| a.passed).map(|(passed, _)| f64::from(u8::from(passed > 0))))
    }

    /// Mean share of samples that passed: pass@1.
    pub fn accuracy(&self) -> Option<f64> {
        mean(
            self.answers
                .iter()
                .filter_map(|a| a.passed)
                .map(|(passed, of)| f64::from(passed) / f64::from(of.max(1))),
        )
    }

    /// Seconds from question to end that a share of the questions stayed under.
    pub fn latency_s(&self, share: f64) -> Option<f64> {
        let mut sorted: Vec<f64> = self.answers.iter().map(|answer| answer.wall_s).collect();
        sorted.sort_by(f64::total_cmp);
        let at = ((sorted.len() as f64 * share).ceil() as usize).max(1) - 1;
        sorted.get(at).copied()
    }

    /// Tokens of all samples.
    pub fn tokens(&self) -> u64 {
        self.answers.iter().map(|answer| answer.tokens).sum()
    }

    /// The judged questions that no sample solved, by their places.
    pub fn unsolved(&self) -> Vec<usize> {
        let of = |(at, answer): (usize, &Answered)| {
            answer.passed.is_some_and(|(passed, _)| passed == 0).then_some(at)
        };
        self.answers.iter().enumerate().filter_map(of).collect()
    }

    /// A ladder: these answers, and where they solved nothing those of another model on top of them. `next` was asked the
    /// questions of [`Outcomes::unsolved`], in that order.
    #[must_use]
    pub fn then(mut self, next: Outcomes) -> Self {
        for (at, more) in self.unsolved().into_iter().zip(next.answers) {
            let answer = &mut self.answers[at];
            answer.completed &= more.completed;
            answer.passed = answer.passed.zip(more.passed).map(|(a, b)| (a.0 + b.0, a.1 + b.1));
            answer.wall_s += more.wall_s;
            answer.first_token_s = answer.first_token_s.or(more.first_token_s);
            answer.tokens += more.tokens;
            let both = answer.energy.take().zip(more.energy);
            answer.energy = both.and_then(|(first, more)| Labelled::sum([first, more]));
        }
        self.wall_s += next.wall_s;
        let new = next.devices.into_iter().filter(|device| !self.devices.contains(device));
        self.devices = self.devices.iter().cloned().chain(new).collect();
        self
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Why a line-up could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// It could not begin.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A request was not admitted.
    #[error("{name}: a question was refused: {refusal}")]
    Refused {
        /// The line-up.
        name: String,
        /// Why.
        refusal: Refusal,
    },
    /// The loop ended in the middle.
    #[error("{0}: the loop ended in the middle")]
    Ended(String),
    /// A worker could not be asked.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Ask a line-up all questions, `at_once` at a time.
///
/// # Errors
/// [`CompareError`].
pub async fn run(
    launch: &Launch,
    line_up: &LineUp,
    config: &Config,
    sensors: Box<dyn Sensors>,
    questions: &[Question],
    at_once: usize,
) -> Result<Outcomes, CompareError> {
    let mut setup = Setup::new(config.clone());
    setup.sensors = Some(sensors);
    let mut reference = None;
    for engine in &line_up.engines {
        let reference = reference.get_or_insert_with(|| Reference::new(launch.clone(), &engine.spec));
        let device = EngineDevice::new(launch.clone(), engine.spec.clone(), Arc::clone(reference));
        setup = setup.with(engine.named.clone(), Arc::new(device) as Arc<dyn Device>, engine.place);
    }
    let orchestra = Orchestra::start(setup)?;
    serving(&orchestra, line_up).await?;
    let began = Instant::now();
    let places = Arc::new(Semaphore::new(at_once.max(1)));
    let mut asked = Vec::with_capacity(questions.len());
    for question in questions {
        let (orchestra, places) = (orchestra.clone(), Arc::clone(&places));
        let (question, name) = (question.clone(), line_up.name.clone());
        asked.push(tokio::spawn(async move {
            let _place = places.acquire().await;
            one(&orchestra, question, &name).await
        }));
    }
    let mut answers = Vec::with_capacity(asked.len());
    for task in asked {
        answers.push(task.await.map_err(|_| CompareError::Ended(line_up.name.clone()))??);
    }
    let wall_s = began.elapsed().as_secs_f64();
    orchestra.stop().await;
    Ok(Outcomes {
        name: line_up.name.clone(),
        devices: line_up.engines.iter().map(|engine| engine.named.name.clone()).collect(),
        answers,
        wall_s,
    })
}

/// Wait until every device of the line-up serves: a start is not what is compared.
async fn serving(orchestra: &Orchestra, line_up: &LineUp) -> Result<(), CompareError> {
    let began = Instant::now();
    while began.elapsed() < READY_MAX {
        let Some(snapshot) = orchestra.snapshot().await else { break };
        if snapshot.devices.iter().all(|device| device.standing == qeil_control::view::Standing::Serving) {
            return Ok(());
        }
        tokio::time::sleep(RETRY).await;
    }
    let why = format!("its devices did not all come to serve within {READY_MAX:?}");
    let refusal = Refusal::Unavailable { why, retry_after_s: 0.0 };
    Err(CompareError::Refused { name: line_up.name.clone(), refusal })
}

async fn one(orchestra: &Orchestra, question: Question, name: &str) -> Result<Answered, CompareError> {
    let began = Instant::now();
    for _ in 0..TRIES_MAX {
        let answer = match orchestra.submit(question.ask.clone()).await {
            Ok(answer) => answer,
            Err(Refusal::Overloaded { .. } | Refusal::Unavailable { .. }) => {
                tokio::time::sleep(RETRY).await;
                continue;
            }
            Err(refusal) => return Err(CompareError::Refused { name: name.to_owned(), refusal }),
        };
        let (texts, report) = answer.collect().await.ok_or_else(|| CompareError::Ended(name.to_owned()))?;
        let passes = |verdict: &Verdict| texts.iter().filter(|text| verdict(text)).count() as u32;
        let answered = Answered {
            completed: report.outcome == Outcome::Completed,
            passed: question.verdict.as_ref().map(|verdict| (passes(verdict), texts.len() as u32)),
            wall_s: began.elapsed().as_secs_f64(),
            first_token_s: report.first_token_s,
            tokens: report.samples.iter().map(|sample| u64::from(sample.tokens)).sum(),
            energy: report.energy,
        };
        return Ok(answered);
    }
    let refusal = Refusal::Overloaded { retry_after_s: 0.0 };
    Err(CompareError::Refused { name: name.to_owned(), refusal })
}

/// KL(first ‖ other) in nats of each further engine on the known questions; the worst question counts.
///
/// # Errors
/// Where a worker cannot be started or asked.
pub async fn divergences(launch: &Launch, specs: &[LoadSpec]) -> Result<Vec<f64>, EngineError> {
    let Some((first, others)) = specs.split_first() else { return Ok(Vec::new()) };
    let reference = Worker::start(launch, first.clone()).await?;
    let known = trust::answers(&reference).await?;
    reference.stop().await;
    let mut found = Vec::with_capacity(others.len());
    for spec in others {
        let worker = Worker::start(launch, spec.clone()).await?;
        found.push(trust::check(&worker, &known).await?.kl_nats);
        worker.stop().await;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(name: &str, passed: &[Option<(u32, u32)>], joules: Option<f64>) -> Outcomes {
        let answer = |passed: &Option<(u32, u32)>| Answered {
            completed: true,
            passed: *passed,
            wall_s: 2.0,
            first_token_s: Some(0.5),
            tokens: 10,
            energy: joules.map(|joules| Labelled::measured(Joules(joules), name)),
        };
        Outcomes {
            name: name.into(),
            devices: vec!["CPU".into()],
            answers: passed.iter().map(answer).collect(),
            wall_s: 5.0,
        }
    }

    #[test]
    fn a_ladder_asks_the_next_model_what_nothing_solved_and_pays_for_both() {
        let small = outcomes("small", &[Some((0, 4)), Some((1, 4)), None, Some((0, 4))], Some(3.0));
        assert_eq!(small.unsolved(), [0, 3]);
        let ladder = small.clone().then(outcomes("large", &[Some((2, 4)), Some((0, 4))], Some(20.0)));
        let passed: Vec<_> = ladder.answers.iter().map(|answer| answer.passed).collect();
        assert_eq!(passed, [Some((2, 8)), Some((1, 4)), None, Some((0, 8))]);
        let each = |of: fn(&Answered) -> f64| ladder.answers.iter().map(of).collect::<Vec<_>>();
        assert_eq!(each(|answer| answer.wall_s), [4.0, 2.0, 2.0, 4.0]);
        assert_eq!(each(|answer| answer.tokens as f64), [20.0, 10.0, 10.0, 20.0]);
        assert_eq!(each(|answer| answer.energy.as_ref().unwrap().value.0), [23.0, 3.0, 3.0, 23.0]);
        assert_eq!((ladder.wall_s, ladder.devices.len()), (10.0, 1));
        assert!((ladder.coverage().unwrap() - 2.0 / 3.0).abs() < 1e-12);

        let dark = small.then(outcomes("large", &[Some((1, 1)), Some((1, 1))], None));
        assert_eq!(dark.energy(), None, "half of the joules are not a ladder's");
    }
}
