//! Short trials that choose a worker's settings for a workload.
//!
//! A trial loads the model under one candidate and runs the workload's samples for a few steps twice: after a short
//! prompt, and after as much of the real one as a fixed share of time allows. Attention makes a step dearer the more
//! cells of memory it looks at, and how many that are depends on the candidate: in a unified buffer every sample's step
//! looks at the cells of all. So the time of a step is taken as a line through the two points, and the whole workload
//! is predicted at its own mean number of cells; prefill likewise, by position.
//!
//! A prediction from two short runs carries their noise, enlarged. So the fastest few run the whole workload, as far as
//! the time for trials goes, and the choice is among those that did. Where two of them come close, both run once more and
//! the faster run of each counts: what else happens on a machine only ever slows a run down.
//!
//! Speed is not enough: a candidate that fails the known-answer check ([`qeil_engine::trust`]) against the first
//! candidate is not taken, however fast.

use crate::bench::{PROMPTS, random_tokens};
use crate::error::MeasureError;
use crate::settings::Settings;
use crate::shape::Shape;
use crate::timed::{Timed, timed};
use crate::weights::Copies;
use qeil_engine::handle::{Launch, Worker};
use qeil_engine::request::{GenerateRequest, Prompt, Sampling, Token};
use qeil_engine::spec::LoadSpec;
use qeil_engine::trust;
use qeil_laws::random::Random;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Time for trials when a model is first used: the user waits for an answer.
pub const FIRST_USE: Duration = Duration::from_secs(10);
/// Time for trials when the user asked for them.
pub const THOROUGH: Duration = Duration::from_secs(90);
/// Milliseconds of prefill that a trial's longer run aims at.
const TRIAL_PREFILL_MS: f64 = 1_000.0;
/// Steps that each run of a trial decodes: enough that one late step does not decide.
const TRIAL_STEPS: u32 = 12;
/// Milliseconds of decoding after which a run makes do with the steps it has; twice the expected time of its prefill
/// comes on top.
const TRIAL_DECODE_MS_MAX: f64 = 2_000.0;
/// Milliseconds after which a run of the whole workload makes do with what it has.
const WHOLE_MS_MAX: u32 = 60_000;
/// Steps of the uncounted request before both.
const WARM_UP_STEPS: u32 = 3;
/// Prompt tokens of the shorter run, which also tells how fast prefill is.
const SHORT_TOKENS: u32 = 32;
/// Milliseconds until the first step of the shorter run that any device worth a trial keeps.
const SHORT_PREFILL_MS_MAX: f64 = 5_000.0;
/// A candidate must be this much faster than an earlier one to be taken: trials vary by a few per cent.
const MARGIN: f64 = 0.03;
/// Candidates within this factor of the fastest prediction run the whole workload.
const RUNOFF_FACTOR: f64 = 1.35;
/// At most so many of them.
const RUNOFF_CANDIDATES: usize = 3;
/// The fastest two run again where the second took at most so many times as long: single runs on a shared machine scatter
/// by a fifth.
const AGAIN_FACTOR: f64 = 1.25;
/// Seed of the trial's prompts: every candidate gets the same.
const SEED: u64 = 0x7141;

/// One candidate, tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The settings.
    pub settings: Settings,
    /// What was measured, or why it could not be; of the whole workload, if that was run.
    pub outcome: Outcome,
    /// Milliseconds the trial took, loading included; both, if it was tried twice.
    pub took_ms: f64,
}

impl Trial {
    fn predicted_ms(&self) -> Option<f64> {
        match self.outcome {
            Outcome::Measured { predicted_ms, .. } => Some(predicted_ms),
            _ => None,
        }
    }

    /// Take in a run of the whole workload under the same settings: it replaces the prediction, unless it failed to give
    /// a figure. Whether it gave one.
    fn replace(&mut self, whole: Trial) -> bool {
        self.took_ms += whole.took_ms;
        let counts = whole.predicted_ms().is_some();
        if counts {
            self.outcome = whole.outcome;
        }
        counts
    }

    /// Take in a further run of the whole workload: the faster one counts.
    fn improve(&mut self, again: Trial) {
        match (self.predicted_ms(), again.predicted_ms()) {
            (Some(before), Some(now)) if now >= before => self.took_ms += again.took_ms,
            _ => {
                self.replace(again);
            }
        }
    }
}

/// What came of a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It ran.
    Measured {
        /// Prompt tokens that were really prefilled.
        prefilled_tokens: u32,
        /// Prompt tokens per second.
        prefill_tokens_per_s: f64,
        /// Decode steps that were really taken.
        decoded_steps: u32,
        /// Tokens of all samples per second.
        decode_tokens_per_s: Option<f64>,
        /// The whole workload, extrapolated, in milliseconds.
        predicted_ms: f64,
        /// Divergence of its next-token distributions from the first candidate's, in nats, on the worst prompt of
        /// the known-answer check; missing where it gave none that is finite.
        kl_nats: Option<f64>,
    },
    /// It did not.
    Failed {
        /// Why.
        why: String,
    },
    /// It was not tried, or gave no figure before its time was over.
    Skipped,
    /// It ran, and answered differently.
    Distrusted {
        /// The verdict of the known-answer check.
        why: String,
    },
}

/// The choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tuned {
    /// The workload it was made for.
    pub shape: Shape,
    /// What was chosen.
    pub settings: Settings,
    /// Why, in a sentence.
    pub reason: String,
    /// All trials.
    pub trials: Vec<Trial>,
}

impl Tuned {
    /// Whether every candidate was tried: `qeil tune` makes up for what a first use had no time for.
    pub fn is_complete(&self) -> bool {
        !self.trials.iter().any(|trial| trial.outcome == Outcome::Skipped)
    }

    /// Whether it is a choice: nothing was left out, or at least two candidates gave figures. Of one that was tried while the
    /// machine was busy with other things, nobody knows whether it is good.
    pub fn is_choice(&self) -> bool {
        self.is_complete() || self.trials.iter().filter(|trial| trial.predicted_ms().is_some()).count() > 1
    }
}

/// Try the candidates for `shape` with `base` naming model, device and threads: where `copies` says so, first the formats
/// of the weights under the first candidate's other settings, then the other settings with the best format; then the
/// fastest few once more. After `budget` no further trial begins, once one has given a figure: a slow machine, or one
/// busy with other work, keeps its user waiting no longer than that. Copies that lose are deleted.
///
/// # Errors
/// When no candidate could be tried.
pub async fn tune(
    launch: &Launch,
    base: &LoadSpec,
    shape: Shape,
    flash_attention: Option<bool>,
    copies: Option<&Copies>,
    budget: Duration,
    mut on_trial: impl FnMut(&Trial),
) -> Result<Tuned, MeasureError> {
    let candidates = Settings::candidates(shape.samples, flash_attention);
    if let ([settings], None) = (&candidates[..], copies) {
        let settings = *settings;
        let reason = "there is only one candidate".into();
        return Ok(Tuned { shape, settings, reason, trials: Vec::new() });
    }
    let mut reference: Option<Vec<Vec<f32>>> = None;
    let mut trials = Vec::new();
    let all_start = Instant::now();
    let mut figures = 0;
    let mut attempt = async |settings: Settings, whole: bool| {
        let start = Instant::now();
        let outcome = if figures > 0 && all_start.elapsed() > budget {
            Outcome::Skipped
        } else {
            match trial(launch, base, settings, shape, copies, whole, &mut reference).await {
                Ok(outcome) => outcome,
                Err(error) => Outcome::Failed { why: error.to_string() },
            }
        };
        figures += u32::from(matches!(outcome, Outcome::Measured { .. }));
        let trial = Trial { settings, outcome, took_ms: ms_since(start) };
        on_trial(&trial);
        trial
    };
    for (at, settings) in candidates.into_iter().enumerate() {
        if at > 0 {
            let weights = choose(&trials).ok().and_then(|(best, _)| best.weights);
            trials.push(attempt(Settings { weights, ..settings }, false).await);
            continue;
        }
        trials.push(attempt(settings, false).await);
        for &format in copies.iter().flat_map(|copies| &copies.formats) {
            trials.push(attempt(Settings { weights: Some(format), ..settings }, false).await);
        }
    }
    let mut finalists = Vec::new();
    for at in runoff(&trials) {
        let whole = attempt(trials[at].settings, true).await;
        if trials[at].replace(whole) {
            finalists.push(at);
        }
    }
    for at in replay(&trials, &finalists) {
        let again = attempt(trials[at].settings, true).await;
        trials[at].improve(again);
    }
    let chosen: Vec<Trial> = finalists.iter().map(|&at| trials[at].clone()).collect();
    let (settings, reason) = choose(if chosen.is_empty() { &trials } else { &chosen })?;
    if let Some(copies) = copies {
        for &format in copies.formats.iter().filter(|&&format| settings.weights != Some(format)) {
            copies.cache.remove(&base.model, format);
        }
    }
    Ok(Tuned { shape, settings, reason, trials })
}

/// The trials worth repeating: those close to the fastest, fastest first; none where nothing comes close to it.
fn runoff(trials: &[Trial]) -> Vec<usize> {
    let mut order: Vec<(usize, f64)> =
        trials.iter().enumerate().filter_map(|(at, trial)| Some((at, trial.predicted_ms()?))).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let Some(&(_, fastest)) = order.first() else { return Vec::new() };
    order.retain(|&(_, ms)| ms <= fastest * RUNOFF_FACTOR);
    order.truncate(RUNOFF_CANDIDATES);
    if order.len() < 2 { Vec::new() } else { order.into_iter().map(|(at, _)| at).collect() }
}

/// The two finalists to run again: the fastest two, where they come close.
fn replay(trials: &[Trial], finalists: &[usize]) -> Vec<usize> {
    let mut order: Vec<(usize, f64)> =
        finalists.iter().filter_map(|&at| Some((at, trials[at].predicted_ms()?))).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    match order[..] {
        [(first, fastest), (second, ms), ..] if ms <= AGAIN_FACTOR * fastest => vec![second, first],
        _ => Vec::new(),
    }
}

fn ms_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

async fn trial(
    launch: &Launch,
    base: &LoadSpec,
    settings: Settings,
    shape: Shape,
    copies: Option<&Copies>,
    whole: bool,
    reference: &mut Option<Vec<Vec<f32>>>,
) -> Result<Outcome, MeasureError> {
    let mut spec = LoadSpec { prefix_cache_tokens: 0, ..base.clone() };
    settings.apply(launch, copies.map(|copies| &copies.cache), &mut spec).await?;
    shape.fit(&mut spec, false)?;
    let worker = Worker::start(launch, spec).await?;
    let mut random = Random::new(SEED, PROMPTS);
    let prompt = random_tokens(&mut random, shape.prompt_tokens, worker.loaded().vocab_tokens);
    let prefix = |tokens: u32| prompt[..tokens.min(shape.prompt_tokens) as usize].to_vec();

    let steps = shape.output_tokens.min(TRIAL_STEPS + 1);
    let within = |tokens: u32, prefill_ms: f64| {
        let mut request = request(prefix(tokens), shape.samples, steps);
        request.deadline_ms = Some((2.0 * prefill_ms + TRIAL_DECODE_MS_MAX) as u32);
        request
    };
    // Pages of the file and of the buffers come in, threads wake up: not counted. With all samples, since what only the
    // shorter run paid for would make longer ones look cheap.
    timed(&worker, request(prefix(SHORT_TOKENS), shape.samples, shape.output_tokens.min(WARM_UP_STEPS + 1)))
        .await?;
    let (short, long) = if whole {
        let mut all = request(prompt.clone(), shape.samples, shape.output_tokens);
        all.deadline_ms = Some(WHOLE_MS_MAX);
        let run = timed(&worker, all).await?;
        (run.clone(), run)
    } else {
        let short = timed(&worker, within(SHORT_TOKENS, SHORT_PREFILL_MS_MAX)).await?;
        let rate = short.prefill_tokens_per_s().unwrap_or(0.0);
        let affordable = (rate * TRIAL_PREFILL_MS / 1e3) as u32;
        let part = affordable.clamp(SHORT_TOKENS.min(shape.prompt_tokens), shape.prompt_tokens);
        (short, timed(&worker, within(part, f64::from(part) / rate.max(1.0) * 1e3)).await?)
    };
    let answers = trust::answers(&worker).await?;
    worker.stop().await;

    let verdict = trust::judge(reference.get_or_insert_with(|| answers.clone()), &answers);
    if !verdict.trusted {
        return Ok(Outcome::Distrusted { why: verdict.why });
    }
    // Without a figure its time was over before the first step of decoding.
    let points = [&short, &long].map(|run| Point::of(run, settings, shape));
    Ok(predict(points, settings, shape, verdict.kl_nats).unwrap_or(Outcome::Skipped))
}

fn request(tokens: Vec<Token>, samples: u32, tokens_max: u32) -> GenerateRequest {
    let sampling = Sampling { seed: SEED, ..Sampling::default() };
    let mut request = GenerateRequest::new(Prompt::Tokens(tokens), samples, tokens_max, sampling);
    request.ignore_end = true;
    request.reuse_prefix = false;
    request
}

/// One run of a trial, in the terms of the prediction.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    /// Prompt tokens that were computed.
    prompt_tokens: f64,
    /// Milliseconds of prefill for each of them.
    prefill_ms_per_token: f64,
    /// Steps that were decoded.
    steps: f64,
    /// Cells that a decode step looked at, on average.
    cells: f64,
    /// Milliseconds of such a step; missing where none was decoded.
    step_ms: Option<f64>,
}

/// Cells that a decode step looks at on average, over `steps` steps after `prompt_tokens`.
fn mean_cells(settings: Settings, shape: Shape, prompt_tokens: f64, steps: f64) -> f64 {
    let growing = if settings.kv_unified { f64::from(shape.samples) } else { 1.0 };
    prompt_tokens + growing * steps / 2.0
}

impl Point {
    fn of(run: &Timed, settings: Settings, shape: Shape) -> Option<Self> {
        let prompt_tokens = f64::from(run.usage.prompt_tokens);
        let steps = f64::from((run.usage.emitted_tokens / shape.samples).saturating_sub(1));
        Some(Self {
            prompt_tokens,
            prefill_ms_per_token: 1e3 / run.prefill_tokens_per_s()?,
            steps,
            cells: mean_cells(settings, shape, prompt_tokens, steps),
            step_ms: (steps > 0.0).then(|| run.usage.decode_ms / steps),
        })
    }
}

/// Value at `x` of the line through two points, never falling: more work does not take less time, and two points that
/// say so differ by noise.
fn along([(x1, y1), (x2, y2)]: [(f64, f64); 2], x: f64) -> f64 {
    let slope = if x2 > x1 { ((y2 - y1) / (x2 - x1)).max(0.0) } else { 0.0 };
    y2 + slope * (x - x2)
}

/// The whole workload from two parts of it.
fn predict(points: [Option<Point>; 2], settings: Settings, shape: Shape, kl_nats: f64) -> Option<Outcome> {
    let [Some(short), Some(long)] = points else { return None };
    let (prompt_tokens, steps) =
        (f64::from(shape.prompt_tokens), f64::from(shape.output_tokens.saturating_sub(1)));
    // The mean over a prompt's tokens is that of its middle, so halves on both sides cancel.
    let prefill = [short, long].map(|point| (point.prompt_tokens, point.prefill_ms_per_token));
    let prefill_ms = along(prefill, prompt_tokens) * prompt_tokens;
    let step_ms = match (short.step_ms, long.step_ms) {
        _ if steps == 0.0 => None,
        (Some(a), Some(b)) => {
            let cells = mean_cells(settings, shape, prompt_tokens, steps);
            Some(along([(short.cells, a), (long.cells, b)], cells))
        }
        _ => return None,
    };
    Some(Outcome::Measured {
        prefilled_tokens: long.prompt_tokens as u32,
        prefill_tokens_per_s: 1e3 * prompt_tokens / prefill_ms,
        decoded_steps: long.steps as u32,
        decode_tokens_per_s: step_ms.map(|ms| f64::from(shape.samples) * 1e3 / ms),
        predicted_ms: prefill_ms + step_ms.unwrap_or(0.0) * steps,
        kl_nats: Some(kl_nats).filter(|kl| kl.is_finite()),
    })
}

fn choose(trials: &[Trial]) -> Result<(Settings, String), MeasureError> {
    let mut best: Option<(Settings, f64)> = None;
    let mut slowest: f64 = 0.0;
    let mut failed = None;
    let mut tried = 0;
    for trial in trials {
        match &trial.outcome {
            Outcome::Failed { why } | Outcome::Distrusted { why } => {
                failed = failed.or_else(|| Some(why.clone()))
            }
            Outcome::Skipped => {}
            Outcome::Measured { predicted_ms, .. } => {
                tried += 1;
                slowest = slowest.max(*predicted_ms);
                if best.is_none_or(|(_, ms)| *predicted_ms < ms * (1.0 - MARGIN)) {
                    best = Some((trial.settings, *predicted_ms));
                }
            }
        }
    }
    let (settings, ms) = best.ok_or_else(|| {
        MeasureError::NoCandidate(failed.unwrap_or_else(|| "it gave no figure in its time".into()))
    })?;
    let reason = format!(
        "{settings}: {:.3} s predicted for the workload, {:.3} s for the slowest of {tried} tried",
        ms / 1e3,
        slowest / 1e3
    );
    Ok((settings, reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::CANDIDATES;

    fn trial_of(candidate: usize, outcome: Outcome) -> Trial {
        Trial { settings: CANDIDATES[candidate], outcome, took_ms: 1.0 }
    }

    fn measured(predicted_ms: f64) -> Outcome {
        Outcome::Measured {
            prefilled_tokens: 100,
            prefill_tokens_per_s: 100.0,
            decoded_steps: 16,
            decode_tokens_per_s: Some(50.0),
            predicted_ms,
            kl_nats: Some(0.0),
        }
    }

    #[test]
    fn the_choice() {
        let failed = || Outcome::Failed { why: "no memory".into() };
        let distrusted = || Outcome::Distrusted { why: "KL".into() };
        let cases: Vec<(&str, Vec<Outcome>, Option<usize>)> = vec![
            ("the fastest", vec![measured(100.0), measured(50.0), measured(70.0)], Some(1)),
            ("the earlier of near equals", vec![measured(100.0), measured(98.0)], Some(0)),
            ("not one that answers differently", vec![measured(100.0), distrusted()], Some(0)),
            ("one that runs", vec![failed(), measured(100.0)], Some(1)),
            ("one that was tried", vec![measured(100.0), Outcome::Skipped], Some(0)),
            ("nothing where nothing runs", vec![failed(), failed()], None),
        ];
        for (what, outcomes, expected) in cases {
            let trials: Vec<Trial> = outcomes.into_iter().enumerate().map(|(i, o)| trial_of(i, o)).collect();
            match (choose(&trials), expected) {
                (Ok((settings, _)), Some(i)) => assert_eq!(settings, CANDIDATES[i], "{what}"),
                (Err(MeasureError::NoCandidate(why)), None) => assert_eq!(why, "no memory"),
                (other, _) => panic!("{what}: {other:?}"),
            }
        }
    }

    #[test]
    fn one_figure_of_many_is_no_choice() {
        let tuned = |outcomes: Vec<Outcome>| Tuned {
            shape: Shape { prompt_tokens: 1, output_tokens: 1, samples: 1 },
            settings: CANDIDATES[0],
            reason: String::new(),
            trials: outcomes.into_iter().map(|outcome| trial_of(0, outcome)).collect(),
        };
        let failed = || Outcome::Failed { why: "no memory".into() };
        assert!(tuned(vec![measured(1.0), failed()]).is_choice(), "the only one that runs");
        assert!(tuned(vec![measured(1.0), measured(2.0), Outcome::Skipped]).is_choice());
        assert!(!tuned(vec![measured(1.0), Outcome::Skipped, failed()]).is_choice());
    }

    #[test]
    fn close_ones_run_the_whole_workload_and_that_counts() {
        let trials = |ms: &[f64]| -> Vec<Trial> {
            let mut trials: Vec<Trial> = ms.iter().map(|&ms| trial_of(0, measured(ms))).collect();
            trials.push(trial_of(1, Outcome::Skipped));
            trials
        };
        for (ms, expected) in [
            (&[100.0, 120.0, 200.0][..], &[0, 1][..]),
            (&[100.0, 99.0, 98.0, 97.0], &[3, 2, 1]),
            (&[100.0, 50.0], &[]),
            (&[], &[]),
        ] {
            assert_eq!(runoff(&trials(ms)), expected, "{ms:?}");
        }
        for (second, expected) in
            [(measured(80.0), 80.0), (measured(130.0), 130.0), (Outcome::Skipped, 100.0)]
        {
            let mut trial = trial_of(0, measured(100.0));
            let counts = second != Outcome::Skipped;
            assert_eq!(trial.replace(trial_of(0, second)), counts);
            assert_eq!(trial.predicted_ms(), Some(expected));
            assert!((trial.took_ms - 2.0).abs() < 1e-9);
        }
    }

    #[test]
    fn the_fastest_two_run_again_where_they_are_close_and_their_faster_run_counts() {
        let trials: Vec<Trial> =
            [130.0, 100.0, 120.0].into_iter().map(|ms| trial_of(0, measured(ms))).collect();
        assert_eq!(replay(&trials, &[0, 1, 2]), [2, 1]);
        assert_eq!(replay(&trials, &[0, 1]), [0; 0], "a third slower is no question of noise");
        assert_eq!(replay(&trials, &[1]), [0; 0]);
        for (again, expected) in [(measured(80.0), 80.0), (measured(130.0), 100.0), (Outcome::Skipped, 100.0)]
        {
            let mut trial = trial_of(0, measured(100.0));
            trial.improve(trial_of(0, again));
            assert_eq!(trial.predicted_ms(), Some(expected));
            assert!((trial.took_ms - 2.0).abs() < 1e-9);
        }
    }

    #[test]
    fn two_parts_predict_the_whole() {
        // 1 ms a token of prefill plus 1 µs for each token before it on average; a step takes 20 ms plus 10 µs a cell.
        let shape = Shape { prompt_tokens: 1000, output_tokens: 101, samples: 4 };
        let point = |kv_unified: bool, prompt_tokens: f64| {
            let cells = mean_cells(settings(kv_unified), shape, prompt_tokens, 10.0);
            Point {
                prompt_tokens,
                prefill_ms_per_token: 1.0 + 1e-3 * prompt_tokens,
                steps: 10.0,
                cells,
                step_ms: Some(20.0 + 0.01 * cells),
            }
        };
        // prefill: 1000 · (1 + 1) ms; cells on average: 1000 + 4·50 when unified, 1000 + 50 when separate
        for (kv_unified, expected_ms) in [(true, 2000.0 + 100.0 * 32.0), (false, 2000.0 + 100.0 * 30.5)] {
            let points = [Some(point(kv_unified, 32.0)), Some(point(kv_unified, 300.0))];
            let Some(Outcome::Measured { predicted_ms, decode_tokens_per_s, .. }) =
                predict(points, settings(kv_unified), shape, 0.0)
            else {
                panic!("no prediction")
            };
            assert!((predicted_ms - expected_ms).abs() < 1e-6, "{predicted_ms}");
            let rate = 4.0 * 1e3 / ((expected_ms - 2000.0) / 100.0);
            assert!((decode_tokens_per_s.unwrap() - rate).abs() < 1e-9);
        }
        // Noise that makes the longer run the faster one is not continued downwards.
        let slower = Point { step_ms: Some(50.0), prefill_ms_per_token: 9.0, ..point(true, 32.0) };
        let points = [Some(slower), Some(point(true, 300.0))];
        let Some(Outcome::Measured { predicted_ms, .. }) = predict(points, settings(true), shape, 0.0) else {
            panic!("no prediction")
        };
        assert!((predicted_ms - (1300.0 + 100.0 * 23.2)).abs() < 1e-6, "{predicted_ms}");
        let cut = Point { step_ms: None, ..point(true, 300.0) };
        assert_eq!(predict([Some(slower), Some(cut)], settings(true), shape, 0.0), None);
    }

    fn settings(kv_unified: bool) -> Settings {
        Settings { weights: None, flash_attention: false, kv_unified }
    }
}
