//! One model in several quantisations, side by side: speed, energy, and how far its answers have moved.
//!
//! How far is the divergence of its next-token distributions from those of a reference (the same model in a finer
//! format), measured elsewhere and handed in. Of those within a bound the fastest is chosen. A quantisation without a
//! measured divergence is shown and never chosen: fast and wrong is easy.

use crate::laws::percent;
use crate::quantity::{Quantity, Reference};
use crate::series::{CellMedian, Series, SeriesKey, are_twins, weakest};
use qeil_measure::profile::ModelIdentity;
use qeil_units::Labelled;
use serde::{Deserialize, Serialize};

/// How far a model's answers are from a reference's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// SHA-256 of the model's file.
    pub sha256: String,
    /// Mean Kullback–Leibler divergence of the next-token distributions, in nats.
    pub kl_nats: f64,
    /// Share of positions with the same most likely token, 0 to 1.
    pub top1_agreement: Option<f64>,
    /// Which model it is a divergence from.
    pub reference: String,
}

/// A model in one quantisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantisationRow {
    /// Quantisation.
    pub quantisation: String,
    /// The model, marked if weightless.
    pub model: String,
    /// Bytes of its weights.
    pub weight_bytes: u64,
    /// Prompt tokens a second.
    pub prefill_tokens_per_s: Option<f64>,
    /// Decoded tokens a second, one sample.
    pub decode_tokens_per_s: Option<f64>,
    /// Gross joules for each emitted token.
    pub energy_per_token_j: Option<f64>,
    /// How the energy was come by.
    pub energy_label: Option<Labelled<()>>,
    /// How far its answers are from the reference's; missing where nobody compared.
    pub divergence: Option<Divergence>,
}

/// A model's quantisations on one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantisationReport {
    /// Name of the model in its first quantisation.
    pub model: String,
    /// Device.
    pub device: String,
    /// Threads.
    pub threads: u32,
    /// Workload of the prefill figures.
    pub prefill_reference: Option<Reference>,
    /// Workload of the decode and energy figures.
    pub decode_reference: Option<Reference>,
    /// The quantisations, smallest file first.
    pub rows: Vec<QuantisationRow>,
    /// Greatest divergence that is accepted, in nats.
    pub kl_nats_max: f64,
    /// Place in `rows` of what is chosen.
    pub choice: Option<usize>,
    /// The choice and its reason, or why there is none.
    pub verdict: String,
}

/// The models that were measured in several quantisations on one device with one thread count.
pub fn quantisations(
    series: &[Series],
    divergences: &[Divergence],
    kl_nats_max: f64,
) -> Vec<QuantisationReport> {
    let mut reports = Vec::new();
    let mut done: Vec<(&SeriesKey, usize)> = Vec::new();
    for (at, first) in series.iter().enumerate() {
        for (subject, of) in first.subjects.iter().enumerate() {
            if done.contains(&(&first.key, subject)) {
                continue;
            }
            let same_place = |other: &&Series| {
                (&other.key.machine, &other.key.device, other.key.threads)
                    == (&first.key.machine, &first.key.device, first.key.threads)
            };
            let family: Vec<(&Series, usize)> = series[at..]
                .iter()
                .filter(same_place)
                .flat_map(|other| (0..other.subjects.len()).map(move |subject| (other, subject)))
                .filter(|(other, place)| is_family(&of.model, &other.subjects[*place].model))
                .collect();
            let mut kinds: Vec<&str> = family.iter().map(|(one, _)| one.key.quantisation.as_str()).collect();
            kinds.dedup();
            if kinds.len() > 1 {
                done.extend(family.iter().map(|(one, subject)| (&one.key, *subject)));
                reports.push(side_by_side(&of.model.name, &first.key, &family, divergences, kl_nats_max));
            }
        }
    }
    reports
}

/// Twins in shape of which both or neither have weights: a weightless copy has its own comparison.
fn is_family(a: &ModelIdentity, b: &ModelIdentity) -> bool {
    are_twins(a, b) && a.weightless == b.weightless
}

fn side_by_side(
    name: &str,
    key: &SeriesKey,
    family: &[(&Series, usize)],
    divergences: &[Divergence],
    kl_nats_max: f64,
) -> QuantisationReport {
    let prefill = common_reference(Quantity::PrefillPerToken, family);
    let decode = common_reference(Quantity::DecodeStep, family);
    let mut rows: Vec<QuantisationRow> = family
        .iter()
        .map(|&(series, place)| {
            let subject = &series.subjects[place];
            let of = |quantity: Quantity, reference: Option<Reference>| {
                let cell = cell_with(quantity, reference?, series, place)?;
                Some((cell.summary(|row| quantity.of(row))?.median, cell))
            };
            let energy = of(Quantity::EnergyPerEmittedToken, decode);
            QuantisationRow {
                quantisation: series.key.quantisation.clone(),
                model: subject.label(),
                weight_bytes: subject.model.weight_bytes,
                prefill_tokens_per_s: of(Quantity::PrefillPerToken, prefill).map(|(ms, _)| 1e3 / ms),
                decode_tokens_per_s: of(Quantity::DecodeStep, decode).map(|(ms, _)| 1e3 / ms),
                energy_per_token_j: energy.map(|(joules, _)| joules),
                energy_label: energy.and_then(|(_, cell)| weakest(cell.energy_label().as_ref())),
                divergence: divergences.iter().rev().find(|d| d.sha256 == subject.model.sha256).cloned(),
            }
        })
        .collect();
    rows.sort_by(|a, b| {
        a.weight_bytes.cmp(&b.weight_bytes).then_with(|| a.quantisation.cmp(&b.quantisation))
    });
    let (choice, verdict) = choose(&rows, kl_nats_max);
    QuantisationReport {
        model: name.into(),
        device: key.device.clone(),
        threads: key.threads,
        prefill_reference: prefill,
        decode_reference: decode,
        rows,
        kl_nats_max,
        choice,
        verdict,
    }
}

fn choose(rows: &[QuantisationRow], kl_nats_max: f64) -> (Option<usize>, String) {
    let kl = |row: &QuantisationRow| row.divergence.as_ref().map(|divergence| divergence.kl_nats);
    let within: Vec<(usize, f64)> = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| kl(row).is_some_and(|kl| kl <= kl_nats_max))
        .filter_map(|(at, row)| Some((at, row.decode_tokens_per_s?)))
        .collect();
    let unknown: Vec<&str> =
        rows.iter().filter(|row| kl(row).is_none()).map(|row| row.quantisation.as_str()).collect();
    let remark = if unknown.is_empty() {
        String::new()
    } else {
        format!(" Not judged, since their divergence was not measured: {}.", unknown.join(", "))
    };
    let Some(&(at, speed)) = within.iter().max_by(|a, b| a.1.total_cmp(&b.1)) else {
        return (None, format!("None is chosen: none is known to be within {kl_nats_max} nats.{remark}"));
    };
    let row = &rows[at];
    let mut text = format!(
        "{} is chosen: of those within {kl_nats_max} nats it decodes fastest, {speed:.1} tokens/s at {:.4} nats",
        row.quantisation,
        kl(row).unwrap_or_default()
    );
    if let Some(agreement) = row.divergence.as_ref().and_then(|divergence| divergence.top1_agreement) {
        text += &format!(" ({} of the most likely tokens are the reference's)", percent(agreement));
    }
    text += ".";
    let faster = rows.iter().filter(|row| row.decode_tokens_per_s > Some(speed) && kl(row).is_some());
    for row in faster {
        text += &format!(
            " {} is faster ({:.1} tokens/s), but {:.4} nats away.",
            row.quantisation,
            row.decode_tokens_per_s.unwrap_or_default(),
            kl(row).unwrap_or_default()
        );
    }
    (Some(at), text + &remark)
}

/// The workload under which most of the family show the quantity; of equals the least depth, then the longest.
fn common_reference(quantity: Quantity, family: &[(&Series, usize)]) -> Option<Reference> {
    let mut references: Vec<Reference> = family
        .iter()
        .flat_map(|(series, place)| series.cells.iter().filter(move |cell| cell.subject == *place))
        .filter(|cell| cell.rows.iter().any(|row| quantity.of(row).is_some()))
        .filter_map(|cell| quantity.reference(&cell.cell))
        .collect();
    references.sort_unstable();
    references.dedup();
    references.into_iter().max_by_key(|reference| {
        let having =
            family.iter().filter(|(series, place)| cell_with(quantity, *reference, series, *place).is_some());
        let longest = (reference.output_tokens, reference.prompt_tokens);
        (having.count(), std::cmp::Reverse(reference.depth_tokens), longest)
    })
}

fn cell_with(
    quantity: Quantity,
    reference: Reference,
    series: &Series,
    subject: usize,
) -> Option<&CellMedian> {
    let cells = series.cells.iter().filter(|cell| cell.subject == subject);
    let mut matching: Vec<&CellMedian> =
        cells.filter(|cell| quantity.reference(&cell.cell) == Some(reference)).collect();
    matching.sort_by_key(|cell| (cell.disturbed, std::cmp::Reverse(cell.rows.len())));
    matching.first().copied()
}
