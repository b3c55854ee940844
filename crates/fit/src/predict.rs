//! What a model that was never run will do.
//!
//! All measured models are brought to the workload ([`crate::workload`]), a law over models is fitted there and chosen
//! by its errors on left-out models ([`crate::laws`]), and gives the new model's figure with a 95 % prediction interval:
//! Student's t in logarithms, holding the uncertainty of the law and the scatter of models about it. No figure may beat
//! the machine: prefill and decode are bounded below by the measured roofline, or by the best that any measured model
//! made of it, where a cache let a small model exceed it.
//!
//! The whole takes the first token and the rest together, and the ends of its interval are the sums of theirs: both
//! errors are mostly the model's own, so they are taken to go the same way, which is the widest they can go.
//! Every figure here is estimated, whatever it was learned from.

use crate::laws::{Chosen, LawRow, percent};
use crate::limits::Roof;
use crate::series::{CellMedian, Series, are_twins, clock, weakest};
use crate::workload::{Brought, Figure, Workload, bring};
use crate::{FitError, LEVEL};
use qeil_laws::LawError;
use qeil_laws::interval::Interval;
use qeil_measure::profile::ModelIdentity;
use qeil_units::{Labelled, Provenance};
use serde::{Deserialize, Serialize};

/// A predicted figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Predicted {
    /// Its value.
    pub value: f64,
    /// 95 % prediction interval.
    pub interval: Interval,
    /// Its unit.
    pub unit: String,
    /// Estimated (or simulated, if it was learned from simulations), and from what.
    pub label: Labelled<()>,
    /// Which law, and how it does on models it has not seen.
    pub basis: String,
    /// Whether the roofline raised the value.
    pub bounded: bool,
}

/// What a model will need and do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The model.
    pub model: ModelIdentity,
    /// The series that it was predicted from.
    pub series: String,
    /// The workload.
    pub workload: Workload,
    /// Milliseconds of prefill.
    pub prefill_ms: Predicted,
    /// Milliseconds to the first token.
    pub first_token_ms: Predicted,
    /// Milliseconds from the first token to the last; missing where one token is asked for.
    pub decode_ms: Option<Predicted>,
    /// Milliseconds in all.
    pub total_ms: Predicted,
    /// Gross joules; missing where `energy_missing` says why.
    pub energy_j: Option<Predicted>,
    /// Why there is no energy.
    pub energy_missing: Option<String>,
    /// Bytes of the weights.
    pub weight_bytes: u64,
    /// Bytes of keys and values at the end of the request, stored as the model's figure per token says.
    pub kv_bytes: f64,
    /// Both together: a lower bound, since the engine's scratch space comes on top and is not known before loading.
    pub memory_bytes_least: f64,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// Predict `model` under `workload` from the models of `series`.
///
/// # Errors
/// The workload asks for nothing, or latency cannot be predicted from what was measured.
pub fn predict(
    model: &ModelIdentity,
    workload: Workload,
    series: &Series,
    roofline: Option<Roof<'_>>,
) -> Result<Prediction, FitError> {
    let workload = workload.check()?;
    let study = Study { model, workload, series, roofline };
    let mut notes = study.notes();
    let prompt = f64::from(workload.prompt_tokens);
    let steps = f64::from(workload.output_tokens - 1);

    let mut prefills = study.brought(Figure::PrefillPerToken)?;
    let mut firsts = study.brought(Figure::FirstPerToken)?;
    scale(&mut prefills, prompt);
    scale(&mut firsts, prompt);
    let prefill_least = study.least(&prefills, |roofline, model| prompt * roofline.prefill_ms_least(model));
    let prefill_ms = study.figure("prefill", &prefills, "ms", clock(), prefill_least)?;
    let first_token_ms = study.figure("time to first token", &firsts, "ms", clock(), prefill_least)?;

    let mut decodes = Vec::new();
    let mut decode_ms = None;
    if workload.output_tokens > 1 {
        decodes = study.brought(Figure::DecodeStep)?;
        scale(&mut decodes, steps);
        let context = workload.mean_context();
        let least = study.least(&decodes, |roofline, model| {
            steps * roofline.step_ms_least(model, context, f64::from(workload.samples))
        });
        decode_ms = Some(study.figure("decode", &decodes, "ms", clock(), least)?);
    }
    let total_ms = match &decode_ms {
        None => first_token_ms.clone(),
        Some(decode) => Predicted {
            value: first_token_ms.value + decode.value,
            interval: first_token_ms.interval.plus(decode.interval),
            unit: "ms".into(),
            label: first_token_ms.label.clone().combine(decode.label.clone(), |(), ()| ()),
            basis: "time to first token and decode together".into(),
            bounded: first_token_ms.bounded || decode.bounded,
        },
    };
    let (energy_j, energy_missing) = match study.energy(&firsts, &decodes) {
        Ok(energy) => (Some(energy), None),
        Err(why) => (None, Some(why)),
    };
    let interpolated = prefills.iter().chain(&firsts).chain(&decodes).filter(|(_, b)| !b.exact).count();
    if interpolated > 0 {
        notes.push(
            "This workload was not measured itself for all models: their figures were brought to it from the nearest \
             measured one, by powers of what differs."
                .into(),
        );
    }
    let kv_bytes = model.kv_bytes_per_token * workload.cached_tokens();
    Ok(Prediction {
        model: model.clone(),
        series: series.key.to_string(),
        workload,
        prefill_ms,
        first_token_ms,
        decode_ms,
        total_ms,
        energy_j,
        energy_missing,
        weight_bytes: model.weight_bytes,
        kv_bytes,
        memory_bytes_least: model.weight_bytes as f64 + kv_bytes,
        notes,
    })
}

/// A model to predict, and what to learn from.
struct Study<'a> {
    model: &'a ModelIdentity,
    workload: Workload,
    series: &'a Series,
    roofline: Option<Roof<'a>>,
}

type Values = Vec<(usize, Brought)>;

fn scale(values: &mut Values, factor: f64) {
    values.iter_mut().for_each(|(_, brought)| brought.value *= factor);
}

impl Study<'_> {
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let seen = || self.series.subjects.iter().filter(|subject| !subject.held_out);
        let measured: Vec<String> = seen()
            .filter(|subject| are_twins(&subject.model, self.model))
            .map(|subject| subject.label())
            .collect();
        if !measured.is_empty() {
            notes.push(format!(
                "A model of this very shape was measured ({}), and the laws have seen it.",
                measured.join(", ")
            ));
        }
        let weightless = seen().filter(|subject| subject.model.weightless).count();
        if weightless > 0 {
            notes.push(format!("{weightless} of the {} models learned from are weightless.", seen().count()));
        }
        let disturbed = self.series.cells.iter().filter(|cell| cell.disturbed).count();
        if disturbed > 0 {
            notes.push(format!("{disturbed} of {} cells were disturbed.", self.series.cells.len()));
        }
        if self.roofline.is_none() {
            notes.push("The device's limits were not probed, so no figure is bounded by them.".into());
        }
        notes
    }

    fn brought(&self, figure: Figure) -> Result<Values, FitError> {
        bring(figure, self.series, self.workload)
            .map_err(|why| FitError::Reach { series: self.series.key.to_string(), why })
    }

    /// The least that the device allows. Where a measured model went below its own bound, the bound is no bound, and
    /// gives way by as much.
    fn least(&self, measured: &Values, bound: impl Fn(Roof<'_>, &ModelIdentity) -> f64) -> f64 {
        let Some(roofline) = self.roofline else { return 0.0 };
        let exceeded = measured
            .iter()
            .map(|(subject, brought)| bound(roofline, &self.series.subjects[*subject].model) / brought.value)
            .fold(1.0, f64::max);
        bound(roofline, self.model) / exceeded
    }

    fn figure(
        &self,
        quantity: &str,
        values: &Values,
        unit: &str,
        learned_from: Labelled<()>,
        least: f64,
    ) -> Result<Predicted, FitError> {
        self.by_law(values, unit, learned_from, least).map_err(|source| FitError::NoLaw {
            quantity: quantity.into(),
            series: self.series.key.to_string(),
            source,
        })
    }

    fn by_law(
        &self,
        values: &Values,
        unit: &str,
        learned_from: Labelled<()>,
        least: f64,
    ) -> Result<Predicted, LawError> {
        let seen: Vec<(usize, f64)> =
            values.iter().map(|(subject, brought)| (*subject, brought.value)).collect();
        let chosen = Chosen::among(self.series, &seen)?;
        // The best law that reaches this model: an affine one may fall below zero far from its points.
        let mut laws: Vec<&LawRow> = chosen.laws.iter().collect();
        laws.sort_by(|a, b| a.left_out.median_error.total_cmp(&b.left_out.median_error));
        let by = |law: &LawRow| law.fit.predict(law.predictor.of(self.model), LEVEL);
        let law = std::iter::once(chosen.best())
            .chain(laws)
            .find(|law| by(law).is_ok())
            .unwrap_or_else(|| chosen.best());
        let (value, interval) = by(law)?;
        let label = learned_from.combine(
            Labelled { value: (), provenance: Provenance::Estimated, source: "law over models".into() },
            |(), ()| (),
        );
        Ok(Predicted {
            value: value.max(least),
            interval: interval.at_least(least),
            unit: unit.into(),
            label,
            basis: self.basis(law),
            bounded: value < least,
        })
    }

    fn basis(&self, law: &LawRow) -> String {
        let mut text = format!(
            "{} over {} from {} models, off by {} (median) on a left-out one",
            law.fit.law.form,
            law.predictor,
            law.fit.points,
            percent(law.left_out.median_error)
        );
        let x = law.predictor.of(self.model);
        let [low, high] = law.fit.x_range;
        if x < low || x > high {
            let (end, factor) = if x < low { ("smallest", low / x) } else { ("largest", x / high) };
            text += &format!("; it extrapolates, {factor:.2} times beyond the {end}");
        }
        text
    }

    /// Each model's power times its time under this workload, as a law over models.
    fn energy(&self, firsts: &Values, decodes: &Values) -> Result<Predicted, String> {
        let powers = bring(Figure::Power, self.series, self.workload)?;
        if powers.is_empty() {
            return Err("nothing covered the device's energy when it was measured".into());
        }
        let value_of = |values: &Values, wanted: usize| {
            values.iter().find(|(subject, _)| *subject == wanted).map(|(_, brought)| *brought)
        };
        let mut energies = Vec::new();
        for (subject, power) in powers {
            let Some(first) = value_of(firsts, subject) else { continue };
            let rest = value_of(decodes, subject);
            if self.workload.output_tokens > 1 && rest.is_none() {
                continue;
            }
            let total_ms = first.value + rest.map_or(0.0, |rest| rest.value);
            let exact = power.exact && first.exact;
            energies.push((subject, Brought { value: power.value * total_ms / 1e3, exact }));
        }
        let labels: Vec<Labelled<()>> = self
            .series
            .cells
            .iter()
            .filter(|cell| self.series.is_seen(cell.subject))
            .filter_map(CellMedian::energy_label)
            .collect();
        let label = weakest(&labels).ok_or("nothing covered the device's energy when it was measured")?;
        self.by_law(&energies, "J", label, 0.0).map_err(|error| error.to_string())
    }
}
