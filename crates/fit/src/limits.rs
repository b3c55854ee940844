//! What fraction of the machine's limits each model reached, and what took the rest.
//!
//! A decode step of one sample has to read every weight once and the keys and values of the context, so it cannot be
//! faster than those bytes at the memory's speed. What it takes beyond that is split, from figures alone, into three:
//!
//! - **a fixed cost a step**, the constant of the affine law over bytes: barriers between threads, small operations,
//!   sampling. It weighs most on small models;
//! - **a cost of every byte** beyond reading it, the slope of that law against the memory's speed: unpacking quantised
//!   weights and multiplying them;
//! - **the model's own**, the rest: what distinguishes its architecture from the others.
//!
//! The arithmetic limit stands beside them for comparison. It is a 32-bit floating-point peak; 8-bit integer products,
//! which quantised weights use, can exceed it, so it explains and does not bound.

use crate::laws::{LawRow, QuantityReport, percent};
use crate::quantity::{Predictor, Quantity};
use crate::series::{Series, SeriesKey};
use qeil_laws::law::Form;
use qeil_measure::profile::ModelIdentity;
pub use qeil_measure::profile::Roofline;
use serde::{Deserialize, Serialize};

/// Operations for each parameter and token: a multiplication and an addition.
const FLOP_PER_PARAMETER: f64 = 2.0;
/// 8-bit dot products do at most four times as many operations an instruction as 32-bit floating point, since four
/// times as many fit into a register; what a quantised model computes is bounded by that.
const INTEGER_SPEEDUP_MAX: f64 = 4.0;
/// Share of a step from which on a cause is worth naming beside the largest.
const WORTH_NAMING: f64 = 0.1;

/// The measured limits of a device, put to use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Roof<'a>(&'a Roofline);

impl<'a> Roof<'a> {
    /// The limits of the device of a series with its number of threads; missing where they were not measured.
    pub fn of(rooflines: &'a [Roofline], key: &SeriesKey) -> Option<Self> {
        // The last one: a later probe replaces an earlier.
        let found = rooflines.iter().rev().find(|roofline| {
            (&roofline.machine, &roofline.device, roofline.threads)
                == (&key.machine, &key.device, key.threads)
                && roofline.read_bytes_per_s > 0.0
                && roofline.f32_flop_per_s > 0.0
        });
        found.map(Self)
    }

    /// The figures.
    pub fn figures(self) -> &'a Roofline {
        self.0
    }

    /// Milliseconds to read what the decode step of one sample reads, at this mean context.
    pub fn read_ms(self, model: &ModelIdentity, context_tokens: f64) -> f64 {
        let bytes = model.step_bytes as f64 + model.kv_bytes_per_token * context_tokens;
        bytes / self.0.read_bytes_per_s * 1e3
    }

    /// Milliseconds of the arithmetic of a decode step for `samples` samples at the 32-bit peak.
    pub fn step_arithmetic_ms(self, model: &ModelIdentity, samples: f64) -> f64 {
        // A step multiplies with the weights that it reads.
        let parameters = model.parameters as f64 * model.step_bytes as f64 / model.weight_bytes.max(1) as f64;
        FLOP_PER_PARAMETER * parameters * samples / self.0.f32_flop_per_s * 1e3
    }

    /// Milliseconds of the arithmetic of one prompt token at the 32-bit peak. The output matrix is multiplied for the
    /// last token of a prompt only.
    pub fn prefill_arithmetic_ms(self, model: &ModelIdentity) -> f64 {
        FLOP_PER_PARAMETER * model.parameters_non_embedding as f64 / self.0.f32_flop_per_s * 1e3
    }

    /// The least that a decode step of one sharing batch can take: weights once, arithmetic at most at the integer
    /// peak.
    pub fn step_ms_least(self, model: &ModelIdentity, context_tokens: f64, samples: f64) -> f64 {
        // Samples share the keys and values of their prompt, so only one context is sure to be read.
        let arithmetic = self.step_arithmetic_ms(model, samples) / INTEGER_SPEEDUP_MAX;
        self.read_ms(model, context_tokens).max(arithmetic)
    }

    /// The least that one prompt token can take.
    pub fn prefill_ms_least(self, model: &ModelIdentity) -> f64 {
        self.prefill_arithmetic_ms(model) / INTEGER_SPEEDUP_MAX
    }
}

/// How near a model came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitRow {
    /// The model, marked if weightless.
    pub model: String,
    /// Milliseconds of a decode step, measured.
    pub step_ms: f64,
    /// Bytes that a step reads: weights, keys and values at the mean context.
    pub bytes_per_step: f64,
    /// Tokens decoded in a second.
    pub tokens_per_s: f64,
    /// Tokens a second at which the memory would be the limit.
    pub tokens_per_s_limit: f64,
    /// Share of the memory's speed that the step reached.
    pub bandwidth_fraction: f64,
    /// Share of the 32-bit floating-point peak that the step reached.
    pub arithmetic_fraction: f64,
    /// Share of the 32-bit floating-point peak that prefill reached; missing where it was not measured. Quantised
    /// weights are multiplied as integers and may exceed 1.
    pub prefill_arithmetic_fraction: Option<f64>,
}

/// The models of a series against the limits of their device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LimitReport {
    /// The limits.
    pub roofline: Roofline,
    /// The models, by size.
    pub rows: Vec<LimitRow>,
    /// What the largest shortfall comes from.
    pub explanation: String,
}

impl LimitReport {
    /// Compare; missing where no decode step was measured. The laws are those of decode and prefill in this series.
    pub fn new(
        series: &Series,
        roofline: Roof<'_>,
        decode: &QuantityReport,
        prefill: Option<&QuantityReport>,
    ) -> Option<Self> {
        let reference = decode.reference.filter(|_| !series.key.quantisation.contains(" as "))?;
        let context = mean_context(reference.depth_tokens, reference.prompt_tokens, reference.output_tokens?);
        let rows: Vec<LimitRow> = decode
            .points
            .iter()
            .map(|point| {
                let model = &series.subjects[point.subject].model;
                let read_ms = roofline.read_ms(model, context);
                let prefilled = prefill
                    .and_then(|prefill| prefill.points.iter().find(|other| other.subject == point.subject));
                LimitRow {
                    model: point.model.clone(),
                    step_ms: point.value,
                    bytes_per_step: read_ms / 1e3 * roofline.0.read_bytes_per_s,
                    tokens_per_s: 1e3 / point.value,
                    tokens_per_s_limit: 1e3 / read_ms,
                    bandwidth_fraction: read_ms / point.value,
                    arithmetic_fraction: roofline.step_arithmetic_ms(model, 1.0) / point.value,
                    prefill_arithmetic_fraction: prefilled
                        .map(|prefilled| roofline.prefill_arithmetic_ms(model) / prefilled.value),
                }
            })
            .collect();
        let law = decode
            .laws
            .iter()
            .find(|row| row.fit.law.form == Form::Affine && row.predictor == Predictor::StepBytes);
        let worst = rows
            .iter()
            .enumerate()
            .min_by(|(_, a), (_, b)| a.bandwidth_fraction.total_cmp(&b.bandwidth_fraction))?
            .0;
        let subject = decode.points[worst].subject;
        let explanation = explain(&rows[worst], &series.subjects[subject].model, roofline, law);
        Some(Self { roofline: roofline.0.clone(), rows, explanation })
    }
}

/// Tokens of context that a decode step sees on average.
pub fn mean_context(depth_tokens: u32, prompt_tokens: u32, output_tokens: u32) -> f64 {
    f64::from(depth_tokens) + f64::from(prompt_tokens) + f64::from(output_tokens) / 2.0
}

/// In words: where the time of the model that is furthest from the limit goes.
fn explain(row: &LimitRow, model: &ModelIdentity, roofline: Roof<'_>, law: Option<&LawRow>) -> String {
    let read_ms = row.bandwidth_fraction * row.step_ms;
    if row.bandwidth_fraction >= 1.0 {
        return format!(
            "Every model reads at the memory's limit or above it: even {} reaches {} of it, so part of its weights \
             stay in a cache between steps.",
            row.model,
            percent(row.bandwidth_fraction)
        );
    }
    let mut text = format!(
        "{} is furthest from the memory's limit: a {} takes {:.2} ms, of which reading its {:.0} MB at {:.1} GB/s \
         takes {:.2} ms ({}).",
        row.model,
        Quantity::DecodeStep,
        row.step_ms,
        row.bytes_per_step / 1e6,
        roofline.0.read_bytes_per_s / 1e9,
        read_ms,
        percent(row.bandwidth_fraction)
    );
    let rest_ms = row.step_ms - read_ms;
    match law {
        None => {
            text += " What takes the rest cannot be split: there is no affine law over bytes read per step."
        }
        Some(law) => {
            let fixed_ms = law.fit.law.a.clamp(0.0, rest_ms);
            let slope_ms = (law.fit.law.b * model.step_bytes as f64 - read_ms).clamp(0.0, rest_ms - fixed_ms);
            let mut causes = [
                (
                    fixed_ms,
                    "a fixed cost of every step that does not depend on the model's size (waiting of the threads for \
                     each other, many small operations, sampling)"
                        .to_string(),
                ),
                (
                    slope_ms,
                    format!(
                        "work on every byte beyond reading it, as in all models here (they move {:.1} GB/s at the \
                         margin): unpacking {} weights and multiplying them; at the 32-bit peak the multiplications \
                         alone would take {:.2} ms",
                        1e-6 / law.fit.law.b,
                        model.quantisation,
                        roofline.step_arithmetic_ms(model, 1.0)
                    ),
                ),
                (
                    rest_ms - fixed_ms - slope_ms,
                    "this model's own: above what its bytes cost in the other models".to_string(),
                ),
            ];
            causes.sort_by(|a, b| b.0.total_cmp(&a.0));
            let named = causes
                .iter()
                .enumerate()
                .filter(|(at, (ms, _))| *at == 0 || *ms > WORTH_NAMING * row.step_ms)
                .map(|(_, (ms, what))| format!("{ms:.2} ms are {what}"));
            text += &format!(" Of the rest, {}.", named.collect::<Vec<_>>().join("; "));
        }
    }
    text
}
