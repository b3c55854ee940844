//! Short trials that choose a worker's settings for a workload.
//!
//! A trial loads the model under one candidate, prefills a part of the workload's prompt, decodes a few steps of its
//! k samples, and extrapolates both to the full size: prefill by tokens, decode by steps. That is crude (attention
//! grows with the length) but alike for all candidates, and it costs a second or two instead of the workload itself.
//! The trial's prompt is as long as a fixed share of time allows, since the length decides how much attention weighs.
//!
//! One trial can be unlucky: another process, or another guest of the same host, slows it down, and never makes it
//! faster. So those that come close to the fastest are tried a second time, and the faster of two trials counts.
//!
//! Speed is not enough: a candidate that fails the known-answer check ([`qeil_engine::trust`]) against the first
//! candidate is not taken, however fast.

use crate::bench::{Random, random_tokens};
use crate::error::MeasureError;
use crate::settings::Settings;
use crate::shape::Shape;
use crate::timed::{Timed, timed};
use crate::weights::Copies;
use qeil_engine::handle::{Launch, Worker};
use qeil_engine::request::{GenerateRequest, Prompt, Sampling, Token};
use qeil_engine::spec::LoadSpec;
use qeil_engine::trust;
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Milliseconds of prefill a trial aims at: four candidates then stay within the ten seconds of a first use.
const TRIAL_PREFILL_MS: f64 = 700.0;
/// Steps a trial decodes: enough that one late step does not decide.
const TRIAL_STEPS: u32 = 16;
/// Milliseconds after which no further trial begins, once one has given a figure: a slow machine, or one busy with
/// other work, keeps its user waiting no longer than a slow answer would.
const TRIALS_MS_MAX: f64 = 30_000.0;
/// Milliseconds of decoding after which a trial makes do with the steps it has; twice the expected time of its prefill
/// comes on top.
const TRIAL_DECODE_MS_MAX: f64 = 2_000.0;
/// Tokens of the uncounted first prefill, which also tells how fast prefill is.
const CALIBRATION_TOKENS: u32 = 32;
/// A candidate must be this much faster than an earlier one to be taken: trials vary by a few per cent.
const MARGIN: f64 = 0.03;
/// Candidates within this factor of the fastest prediction are tried a second time.
const RUNOFF_FACTOR: f64 = 1.35;
/// At most so many of them.
const RUNOFF_CANDIDATES: usize = 3;
/// Seed of the trial's prompts: every candidate gets the same.
const SEED: u64 = 0x7141;

/// One candidate, tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The settings.
    pub settings: Settings,
    /// What was measured, or why it could not be; of two trials the faster one's.
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

    /// Take in a second trial of the same settings.
    fn merge(&mut self, second: Trial) {
        self.took_ms += second.took_ms;
        if let (Some(first), Some(again)) = (self.predicted_ms(), second.predicted_ms())
            && again < first
        {
            self.outcome = second.outcome;
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
    /// Whether every candidate was tried: a choice among a few is good enough for now, not for keeping.
    pub fn is_complete(&self) -> bool {
        !self.trials.iter().any(|trial| trial.outcome == Outcome::Skipped)
    }
}

/// Try the candidates for `shape` with `base` naming model, device and threads; then, where `copies` says so, other
/// formats of the weights under the settings that won, and the best of those with the other choice of flash attention;
/// then the fastest few once more. Copies that lose are deleted.
///
/// # Errors
/// When no candidate could be tried.
pub async fn tune(
    launch: &Launch,
    base: &LoadSpec,
    shape: Shape,
    flash_attention: Option<bool>,
    copies: Option<&Copies>,
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
    let mut attempt = async |settings: Settings| {
        let start = Instant::now();
        let outcome = if figures > 0 && ms_since(all_start) > TRIALS_MS_MAX {
            Outcome::Skipped
        } else {
            match trial(launch, base, settings, shape, copies, &mut reference).await {
                Ok(outcome) => outcome,
                Err(error) => Outcome::Failed { why: error.to_string() },
            }
        };
        figures += u32::from(matches!(outcome, Outcome::Measured { .. }));
        let trial = Trial { settings, outcome, took_ms: ms_since(start) };
        on_trial(&trial);
        trial
    };
    for settings in candidates {
        trials.push(attempt(settings).await);
    }
    if let Some(copies) = copies {
        let (best, _) = choose(&trials)?;
        for &format in &copies.formats {
            trials.push(attempt(Settings { weights: Some(format), ..best }).await);
        }
        let (best, _) = choose(&trials)?;
        if best.weights.is_some() && flash_attention.is_none() {
            trials.push(attempt(Settings { flash_attention: !best.flash_attention, ..best }).await);
        }
    }
    for at in runoff(&trials) {
        let second = attempt(trials[at].settings).await;
        trials[at].merge(second);
    }
    let (settings, reason) = choose(&trials)?;
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

fn ms_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

async fn trial(
    launch: &Launch,
    base: &LoadSpec,
    settings: Settings,
    shape: Shape,
    copies: Option<&Copies>,
    reference: &mut Option<Vec<Vec<f32>>>,
) -> Result<Outcome, MeasureError> {
    let mut spec = LoadSpec { prefix_cache_tokens: 0, ..base.clone() };
    settings.apply(launch, copies.map(|copies| &copies.cache), &mut spec).await?;
    shape.fit(&mut spec, false)?;
    let worker = Worker::start(launch, spec).await?;
    let mut random = Random(SEED);
    let prompt = random_tokens(&mut random, shape.prompt_tokens, worker.loaded().vocab_tokens);
    let prefix = |tokens: u32| prompt[..tokens.min(shape.prompt_tokens) as usize].to_vec();

    let calibration = timed(&worker, request(prefix(CALIBRATION_TOKENS), 1, 1)).await?;
    let rate = calibration.prefill_tokens_per_s().unwrap_or(0.0);
    let affordable = (rate * TRIAL_PREFILL_MS / 1e3) as u32;
    let part = affordable.clamp(CALIBRATION_TOKENS.min(shape.prompt_tokens), shape.prompt_tokens);
    let steps = shape.output_tokens.min(TRIAL_STEPS + 1);
    let mut partial = request(prefix(part), shape.samples, steps);
    if rate > 0.0 {
        let prefill_ms = f64::from(part) / rate * 1e3;
        partial.deadline_ms = Some((2.0 * prefill_ms + TRIAL_DECODE_MS_MAX) as u32);
    }
    let run = timed(&worker, partial).await?;
    let answers = trust::answers(&worker).await?;
    worker.stop().await;

    let verdict = trust::judge(reference.get_or_insert_with(|| answers.clone()), &answers);
    if !verdict.trusted {
        return Ok(Outcome::Distrusted { why: verdict.why });
    }
    // Without a figure its time was over before the first step of decoding.
    Ok(extrapolate(&run, shape, verdict.kl_nats).unwrap_or(Outcome::Skipped))
}

fn request(tokens: Vec<Token>, samples: u32, tokens_max: u32) -> GenerateRequest {
    let sampling = Sampling { seed: SEED, ..Sampling::default() };
    let mut request = GenerateRequest::new(Prompt::Tokens(tokens), samples, tokens_max, sampling);
    request.ignore_end = true;
    request.reuse_prefix = false;
    request
}

/// The full workload from a part of it.
fn extrapolate(run: &Timed, shape: Shape, kl_nats: f64) -> Option<Outcome> {
    let prefill_tokens_per_s = run.prefill_tokens_per_s()?;
    let decode_tokens_per_s = run.decode_tokens_per_s(shape.samples);
    let decoded = f64::from(shape.output_tokens.saturating_sub(1)) * f64::from(shape.samples);
    let decode_s = match decode_tokens_per_s {
        Some(rate) => decoded / rate,
        None if decoded == 0.0 => 0.0,
        None => return None,
    };
    Some(Outcome::Measured {
        prefilled_tokens: run.usage.prompt_tokens,
        prefill_tokens_per_s,
        decoded_steps: (run.usage.emitted_tokens / shape.samples).saturating_sub(1),
        decode_tokens_per_s,
        predicted_ms: (f64::from(shape.prompt_tokens) / prefill_tokens_per_s + decode_s) * 1e3,
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
    use qeil_engine::request::Usage;

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
    fn close_ones_run_again_and_the_faster_trial_counts() {
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
            [(measured(80.0), 80.0), (measured(130.0), 100.0), (Outcome::Skipped, 100.0)]
        {
            let mut trial = trial_of(0, measured(100.0));
            trial.merge(trial_of(0, second));
            assert_eq!(trial.predicted_ms(), Some(expected));
            assert!((trial.took_ms - 2.0).abs() < 1e-9);
        }
    }

    #[test]
    fn a_part_predicts_the_whole() {
        let usage = Usage {
            prompt_tokens: 100,
            emitted_tokens: 4 * 11,
            prefill_ms: 200.0,
            decode_ms: 400.0,
            ..Usage::default()
        };
        let run = Timed { usage, wall_s: 0.6, samples: Vec::new() };
        let shape = Shape { prompt_tokens: 1000, output_tokens: 101, samples: 4 };
        // prefill: ten times 200 ms; decode: 100 steps instead of 10, at 40 ms each
        let Some(Outcome::Measured { predicted_ms, decoded_steps, decode_tokens_per_s, .. }) =
            extrapolate(&run, shape, 0.0)
        else {
            panic!("no prediction")
        };
        assert!((predicted_ms - 6000.0).abs() < 1e-6, "{predicted_ms}");
        assert_eq!(decoded_steps, 10);
        assert_eq!(decode_tokens_per_s, Some(100.0));
    }
}
