//! What the phases of a request cost on one device, for a planner: from the model's own measurements, from the laws over
//! other models, or from the device's limits.
//!
//! Each function answers from one of the three alone, or not at all; which of the answers counts is the planner's to
//! decide, in one place. All of them are brought to the prompt and output that are asked for, and give a decode step at
//! several numbers of sequences, since how sequences share a step is what batches and mixed devices turn on.
//!
//! Joules are gross. A phase's energy is its time times the mean power measured under that many sequences; where prefill
//! was never measured alone, the power of whole requests stands for it. The limits know no joules: the highest power that
//! was seen on the device stands for them, and where none was, they are missing.

use crate::limits::Roof;
use crate::predict::predict;
use crate::series::{CellMedian, Series, are_twins, weakest};
use crate::workload::{Brought, Figure, Workload, bring};
use qeil_measure::profile::ModelIdentity;
use qeil_units::{Labelled, Provenance};

/// Sequences at which a decode step is asked for.
pub const SEQUENCES: [u32; 6] = [1, 2, 4, 8, 16, 32];

/// What a piece of work takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taken {
    /// Seconds.
    pub seconds: f64,
    /// Gross joules; missing where nothing covered them.
    pub joules: Option<f64>,
}

/// The costs of a model's phases on a device.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseCosts {
    /// Of each prompt token.
    pub prefill_per_token: Option<Taken>,
    /// Of a decode step, by sequences, ascending.
    pub steps: Vec<(u32, Taken)>,
    /// Tokens of context that the steps hold for.
    pub context_tokens: f64,
    /// Measured, estimated or simulated, and from what.
    pub label: Labelled<()>,
}

/// From the model's own rows in a series, or those of a model of the same shape and format; `None` where there are none.
pub fn measured(model: &ModelIdentity, series: &Series, workload: Workload) -> Option<PhaseCosts> {
    let own = series.subjects.iter().position(|subject| subject.model.sha256 == model.sha256);
    let at = own.or_else(|| series.subjects.iter().position(|subject| are_twins(&subject.model, model)))?;
    let mut exact = true;
    let mut figure = |figure: Figure, workload: Workload| -> Option<f64> {
        let all = bring(figure, series, workload).ok()?;
        let Brought { value, exact: same } = all.into_iter().find(|(subject, _)| *subject == at)?.1;
        exact &= same;
        Some(value)
    };
    let alone = Workload { samples: 1, ..workload };
    let prompt_w = figure(Figure::Power, Workload { output_tokens: 1, ..alone })
        .or_else(|| figure(Figure::Power, alone));
    let prefill_per_token = figure(Figure::PrefillPerToken, alone).map(|ms| {
        let seconds = ms / 1e3;
        Taken { seconds, joules: prompt_w.map(|w| w * seconds) }
    });
    let steps: Vec<(u32, Taken)> = SEQUENCES
        .iter()
        .filter_map(|&samples| {
            let workload = Workload { samples, ..workload };
            let seconds = figure(Figure::DecodeStep, workload)? / 1e3;
            Some((samples, Taken { seconds, joules: figure(Figure::Power, workload).map(|w| w * seconds) }))
        })
        .collect();
    if prefill_per_token.is_none() && steps.is_empty() {
        return None;
    }
    let subject = &series.subjects[at];
    let energies: Vec<Labelled<()>> =
        series.cells.iter().filter(|cell| cell.subject == at).filter_map(CellMedian::energy_label).collect();
    // Brought to another workload it is no longer what was measured.
    let mut provenance = if exact { Provenance::Measured } else { Provenance::Estimated };
    if let Some(label) = weakest(&energies) {
        provenance = provenance.weakest(label.provenance);
    }
    let source = format!("measured rows of {} ({})", subject.label(), series.key);
    let label = Labelled { value: (), provenance, source };
    Some(PhaseCosts { prefill_per_token, steps, context_tokens: workload.mean_context(), label })
}

/// From the laws over the models of a series; `None` where they do not reach.
pub fn by_law(
    model: &ModelIdentity,
    series: &Series,
    workload: Workload,
    roof: Option<Roof<'_>>,
) -> Option<PhaseCosts> {
    let at = |samples: u32, output_tokens: u32| {
        predict(model, Workload { samples, output_tokens, ..workload }, series, roof).ok()
    };
    let prompt_tokens = f64::from(workload.prompt_tokens);
    let alone = at(1, 1).or_else(|| at(1, workload.output_tokens))?;
    let prompt_s = alone.prefill_ms.value / 1e3;
    let prompt_j = at(1, 1).and_then(|prediction| Some(prediction.energy_j?.value));
    let steps_in_request = f64::from(workload.output_tokens.saturating_sub(1)).max(1.0);
    let steps: Vec<(u32, Taken)> = SEQUENCES
        .iter()
        .filter_map(|&samples| {
            let prediction = at(samples, workload.output_tokens)?;
            let decode_s = prediction.decode_ms.as_ref()?.value / 1e3;
            // The request's joules are shared by time where prefill's own are not known.
            let joules = prediction.energy_j.map(|energy| {
                let total_s = prediction.total_ms.value / 1e3;
                let all = energy.value;
                prompt_j.map_or(all * decode_s / total_s, |prompt| (all - prompt).max(0.0))
            });
            let joules = joules.map(|joules| joules / steps_in_request);
            Some((samples, Taken { seconds: decode_s / steps_in_request, joules }))
        })
        .collect();
    let shared_w = alone.energy_j.as_ref().map(|energy| energy.value / (alone.total_ms.value / 1e3));
    let prefill = Taken {
        seconds: prompt_s / prompt_tokens,
        joules: prompt_j.or(shared_w.map(|w| w * prompt_s)).map(|joules| joules / prompt_tokens),
    };
    Some(PhaseCosts {
        prefill_per_token: Some(prefill),
        steps,
        context_tokens: workload.mean_context(),
        label: Labelled::estimated((), format!("{} ({})", alone.prefill_ms.basis, series.key)),
    })
}

/// From the device's limits: a bound that real engines stay above.
pub fn by_roofline(model: &ModelIdentity, series: &Series, workload: Workload, roof: Roof<'_>) -> PhaseCosts {
    let most_w = series.cells.iter().filter_map(CellMedian::power_w).reduce(f64::max);
    let taken = |ms: f64| Taken { seconds: ms / 1e3, joules: most_w.map(|w| w * ms / 1e3) };
    let context = workload.mean_context();
    PhaseCosts {
        prefill_per_token: Some(taken(roof.prefill_ms_least(model))),
        steps: SEQUENCES
            .iter()
            .map(|&n| (n, taken(roof.step_ms_least(model, context, f64::from(n)))))
            .collect(),
        context_tokens: context,
        label: Labelled::estimated((), format!("limits of the device: {}", roof.figures().source)),
    }
}
