//! The three metrics of every stored run.
//!
//! A run is a model under one workload on one device: each repetition answers one request. Nobody checks the answers of
//! a profile, so there is no accuracy, and whatever needs one is missing and says so; power, energy and cost of a request
//! are there.

use crate::series::{SeriesKey, series_of};
use crate::{FitError, SEED};
use qeil_laws::metrics::{Metrics, Price, Repetition, Run};
use qeil_measure::profile::{Cell, Observation};
use qeil_units::{Labelled, Seconds};
use serde::{Deserialize, Serialize};

/// What a device costs, and who says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PriceTag {
    /// Machine, as the rows name it; any, if missing.
    pub machine: Option<String>,
    /// Device, as `qeil devices` names it.
    pub device: String,
    /// Its price, its life, and the price of electricity.
    pub price: Price,
    /// Where the price comes from, and of when it is.
    pub source: String,
}

/// The metrics of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricsRow {
    /// The model, marked if weightless.
    pub model: String,
    /// Device, threads, quantisation.
    pub series: SeriesKey,
    /// The workload.
    pub cell: Cell,
    /// Repetitions that count.
    pub repetitions: usize,
    /// Whether all repetitions were disturbed.
    pub disturbed: bool,
    /// How the energy was come by; missing where there is none.
    pub energy_label: Option<Labelled<()>>,
    /// Where the price comes from; missing where none is known.
    pub price_source: Option<String>,
    /// The metrics, or why they are missing.
    pub metrics: Metrics,
}

/// The metrics of all runs, by series, model and workload.
///
/// # Errors
/// Nothing was measured, or a run's figures are nonsense (a time of zero, say).
pub fn metrics(observations: &[Observation], prices: &[PriceTag]) -> Result<Vec<MetricsRow>, FitError> {
    if observations.is_empty() {
        return Err(FitError::Nothing);
    }
    let mut rows = Vec::new();
    for series in series_of(observations) {
        let priced = |tag: &&PriceTag| {
            tag.device == series.key.device
                && tag.machine.as_ref().is_none_or(|machine| *machine == series.key.machine)
        };
        let tag = prices.iter().find(priced);
        for cell in &series.cells {
            let run = Run {
                tasks: 1,
                repetitions: cell
                    .rows
                    .iter()
                    .map(|row| Repetition {
                        wall: Seconds(row.wall_s),
                        energy: row.energy.as_ref().map(|energy| energy.gross.clone()),
                    })
                    .collect(),
                coverage: None,
                price: tag.map(|tag| tag.price),
            };
            let model = series.subjects[cell.subject].label();
            let metrics = Metrics::new(&run, None, SEED)
                .map_err(|source| FitError::Metrics { run: format!("{model} on {}", series.key), source })?;
            rows.push(MetricsRow {
                model,
                series: series.key.clone(),
                cell: cell.cell.clone(),
                repetitions: cell.rows.len(),
                disturbed: cell.disturbed,
                energy_label: cell.energy_label(),
                price_source: tag.map(|tag| tag.source.clone()),
                metrics,
            });
        }
    }
    Ok(rows)
}
