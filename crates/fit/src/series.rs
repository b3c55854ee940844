//! Rows into series, and repetitions into medians.
//!
//! A **series** is what one law may speak of: one device, one thread count, one quantisation; only the model and the
//! workload differ in it. A **cell** is one model under one workload: the median over its repetitions, since a machine
//! that others share gives outliers on one side only. Repetitions that were disturbed count only where a cell has no
//! others, and then the cell is marked. Where a cell was measured with several engine settings, the fastest counts:
//! that is what `qeil tune` would choose.
//!
//! A **group** is a shape: models of one architecture with equal parameters are twins (a real model and its weightless
//! copy, say), and never judge each other.

use crate::FitError;
use qeil_measure::profile::{Cell, ModelIdentity, Observation};
use qeil_measure::stats::Summary;
use qeil_units::{Labelled, Provenance};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What all rows of a series share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeriesKey {
    /// Machine and engine, as the rows name them.
    pub machine: String,
    /// Device, as `qeil devices` names it.
    pub device: String,
    /// Threads.
    pub threads: u32,
    /// Quantisation of the weights in memory.
    pub quantisation: String,
}

impl fmt::Display for SeriesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.threads == 1 { "" } else { "s" };
        write!(f, "{}, {} thread{plural}, {}", self.device, self.threads, self.quantisation)
    }
}

/// A model of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// Which model.
    pub model: ModelIdentity,
    /// Models of one group are twins in shape.
    pub group: u32,
    /// Repetitions of all its cells.
    pub rows: usize,
    /// Those that other processes disturbed.
    pub disturbed_rows: usize,
    /// Whether the laws must not see it.
    pub held_out: bool,
}

impl Subject {
    /// Its name, marked if its weights are random.
    pub fn label(&self) -> String {
        self.model.label()
    }
}

/// One model under one workload.
#[derive(Debug, Clone, PartialEq)]
pub struct CellMedian {
    /// Place of the model in [`Series::subjects`].
    pub subject: usize,
    /// The workload.
    pub cell: Cell,
    /// The repetitions that count, in the order they were made.
    pub rows: Vec<Observation>,
    /// Whether all of them were disturbed.
    pub disturbed: bool,
}

impl CellMedian {
    /// Summary of a figure over the repetitions; missing if a repetition lacks it.
    pub fn summary(&self, figure: impl Fn(&Observation) -> Option<f64>) -> Option<Summary> {
        let values: Option<Vec<f64>> = self.rows.iter().map(figure).collect();
        Summary::of(&values?)
    }

    /// The label of the energies and where they come from; missing where a repetition has none.
    pub fn energy_label(&self) -> Option<Labelled<()>> {
        let labels = self.rows.iter().map(|row| Some(row.energy.as_ref()?.gross.clone().map(|_| ())));
        let labels: Option<Vec<Labelled<()>>> = labels.collect();
        labels?.into_iter().reduce(|a, b| a.combine(b, |(), ()| ()))
    }

    /// Median gross power in watts.
    pub fn power_w(&self) -> Option<f64> {
        Some(self.summary(|row| row.energy.as_ref().map(|energy| energy.power.value.0))?.median)
    }
}

/// All that was measured on one device, with one thread count, in one quantisation.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Which.
    pub key: SeriesKey,
    /// Its models, by non-embedding parameters.
    pub subjects: Vec<Subject>,
    /// Its cells, by model and workload.
    pub cells: Vec<CellMedian>,
}

impl Series {
    /// Standard deviation of the logarithm of a request's time from one repetition to the next, pooled over the cells; 0
    /// where nothing was repeated.
    pub fn repeat_sd(&self) -> f64 {
        let (mut squares, mut freedom) = (0.0, 0);
        for cell in self.cells.iter().filter(|cell| cell.rows.len() > 1) {
            let logs: Vec<f64> = cell.rows.iter().map(|row| row.wall_s.max(f64::MIN_POSITIVE).ln()).collect();
            let mean = logs.iter().sum::<f64>() / logs.len() as f64;
            squares += logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>();
            freedom += logs.len() - 1;
        }
        if freedom == 0 { 0.0 } else { (squares / freedom as f64).sqrt() }
    }

    /// The models that the laws may see.
    pub fn is_seen(&self, subject: usize) -> bool {
        !self.subjects[subject].held_out
    }
}

/// Sort rows into series. A row whose weights were held in another format than its file's belongs to a series of its
/// own (`Q4_1 as Q8_0`).
pub fn series_of(observations: &[Observation]) -> Vec<Series> {
    let mut keys: Vec<SeriesKey> = observations.iter().map(key_of).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .map(|key| {
            let rows: Vec<&Observation> = observations.iter().filter(|row| key_of(row) == key).collect();
            one_series(key, &rows)
        })
        .collect()
}

/// Mark the models with this name as not to be seen by the laws, and their twins in shape with them. `wanted` is a name,
/// a file's stem, or a part of a name.
///
/// # Errors
/// No model has such a name.
pub fn hold_out(series: &mut [Series], wanted: &str) -> Result<(), FitError> {
    let lower = wanted.to_lowercase();
    let whole = |model: &ModelIdentity| {
        let stem =
            std::path::Path::new(&model.file).file_stem().map(|stem| stem.to_string_lossy().to_lowercase());
        model.name.to_lowercase() == lower || stem.is_some_and(|stem| stem == lower)
    };
    let part = |model: &ModelIdentity| model.name.to_lowercase().contains(&lower);
    let models = || series.iter().flat_map(|series| &series.subjects).map(|subject| &subject.model);
    let matches: Vec<ModelIdentity> = match models().filter(|model| whole(model)).cloned().collect::<Vec<_>>()
    {
        found if found.is_empty() => models().filter(|model| part(model)).cloned().collect(),
        found => found,
    };
    if matches.is_empty() || lower.is_empty() {
        let mut known: Vec<String> = models().map(|model| model.name.clone()).collect();
        known.sort_unstable();
        known.dedup();
        return Err(FitError::UnknownModel { wanted: wanted.into(), known });
    }
    for subject in series.iter_mut().flat_map(|series| &mut series.subjects) {
        subject.held_out |= matches.iter().any(|model| are_twins(model, &subject.model));
    }
    Ok(())
}

/// Whether two models have the same shape.
pub fn are_twins(a: &ModelIdentity, b: &ModelIdentity) -> bool {
    (&a.architecture, a.parameters, a.parameters_non_embedding)
        == (&b.architecture, b.parameters, b.parameters_non_embedding)
}

/// The label of several figures together: the weakest.
pub fn weakest<'a>(labels: impl IntoIterator<Item = &'a Labelled<()>>) -> Option<Labelled<()>> {
    labels.into_iter().cloned().reduce(|a, b| a.combine(b, |(), ()| ()))
}

/// Times are read from a monotonic clock around the steps.
pub fn clock() -> Labelled<()> {
    Labelled { value: (), provenance: Provenance::Measured, source: "monotonic clock".into() }
}

fn key_of(row: &Observation) -> SeriesKey {
    let file = &row.model.quantisation;
    let quantisation = match row.settings.weights {
        Some(format) if format.name() != file => format!("{file} as {}", format.name()),
        _ => file.clone(),
    };
    SeriesKey {
        machine: row.machine.clone(),
        device: row.cell.device.clone(),
        threads: row.cell.threads,
        quantisation,
    }
}

fn one_series(key: SeriesKey, rows: &[&Observation]) -> Series {
    let mut subjects: Vec<Subject> = Vec::new();
    for row in rows {
        let at = subjects.iter().position(|subject| subject.model.sha256 == row.model.sha256);
        let at = at.unwrap_or_else(|| {
            subjects.push(Subject {
                model: row.model.clone(),
                group: 0,
                rows: 0,
                disturbed_rows: 0,
                held_out: false,
            });
            subjects.len() - 1
        });
        subjects[at].rows += 1;
        subjects[at].disturbed_rows += usize::from(row.disturbed);
    }
    subjects.sort_by(|a, b| {
        let size = |subject: &Subject| (subject.model.parameters_non_embedding, subject.model.parameters);
        size(a).cmp(&size(b)).then_with(|| a.model.name.cmp(&b.model.name))
    });
    for at in 0..subjects.len() {
        let twin = (0..at).find(|&earlier| are_twins(&subjects[earlier].model, &subjects[at].model));
        subjects[at].group = twin.map_or(at as u32, |twin| subjects[twin].group);
    }
    let mut cells: Vec<CellMedian> = Vec::new();
    for (subject, of) in subjects.iter().enumerate() {
        let own: Vec<&Observation> =
            rows.iter().filter(|row| row.model.sha256 == of.model.sha256).copied().collect();
        let mut workloads: Vec<&Cell> = own.iter().map(|row| &row.cell).collect();
        workloads.sort_unstable();
        workloads.dedup();
        cells.extend(workloads.into_iter().filter_map(|cell| {
            let repetitions: Vec<&Observation> =
                own.iter().filter(|row| row.cell == *cell).copied().collect();
            one_cell(subject, cell, &repetitions)
        }));
    }
    Series { key, subjects, cells }
}

/// The repetitions with the fastest settings, without the disturbed ones if there are others.
fn one_cell(subject: usize, cell: &Cell, repetitions: &[&Observation]) -> Option<CellMedian> {
    let mut settings: Vec<_> = Vec::new();
    for row in repetitions {
        if !settings.contains(&row.settings) {
            settings.push(row.settings);
        }
    }
    let candidates = settings.into_iter().filter_map(|settings| {
        let with: Vec<&Observation> =
            repetitions.iter().filter(|row| row.settings == settings).copied().collect();
        let calm: Vec<&Observation> = with.iter().filter(|row| !row.disturbed).copied().collect();
        let disturbed = calm.is_empty();
        let rows: Vec<Observation> = if disturbed { with } else { calm }.into_iter().cloned().collect();
        let walls: Vec<f64> = rows.iter().map(|row| row.wall_s).collect();
        let median_s = Summary::of(&walls)?.median;
        Some((disturbed, median_s, CellMedian { subject, cell: cell.clone(), rows, disturbed }))
    });
    candidates.min_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))).map(|(_, _, cell)| cell)
}
