//! The document of `qeil fit`.

use crate::FitError;
use crate::joint::{JointQuantity, JointReport, joint};
use crate::laws::QuantityReport;
use crate::limits::{LimitReport, Roof, Roofline};
use crate::quantisation::{Divergence, QuantisationReport, quantisations};
use crate::quantity::Quantity;
use crate::series::{Series, SeriesKey, Subject, hold_out, series_of};
use qeil_measure::profile::Observation;
use serde::{Deserialize, Serialize};

/// Greatest divergence of next-token distributions, in nats, that a quantisation may cost where the user names no bound:
/// the one that a device has to keep to be trusted, since the reader of an answer does not care who moved it.
pub use qeil_measure::quantize::KL_NATS_MAX;

/// What to fit, and against what.
#[derive(Debug, Clone, PartialEq)]
pub struct FitInput<'a> {
    /// All stored rows.
    pub observations: &'a [Observation],
    /// Measured limits of devices.
    pub rooflines: &'a [Roofline],
    /// Measured divergences of quantised models.
    pub divergences: &'a [Divergence],
    /// Greatest accepted divergence, in nats.
    pub kl_nats_max: f64,
    /// Models that the laws must not see: they are predicted and compared instead.
    pub leave_out: &'a [String],
}

/// All laws over all that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FitReport {
    /// By device, threads and quantisation.
    pub series: Vec<SeriesReport>,
    /// Models in several quantisations.
    pub quantisations: Vec<QuantisationReport>,
}

/// One device, thread count and quantisation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesReport {
    /// Which.
    pub key: SeriesKey,
    /// Its models, by size.
    pub subjects: Vec<Subject>,
    /// Cells in all, and those of them of which only disturbed repetitions exist.
    pub cells: usize,
    /// See [`Self::cells`].
    pub disturbed_cells: usize,
    /// The laws of each quantity.
    pub quantities: Vec<QuantityReport>,
    /// The joint laws.
    pub joint: Vec<JointReport>,
    /// Why a joint law is missing.
    pub joint_missing: Vec<String>,
    /// The models against the device's limits; missing where these were not probed or no decode was measured.
    pub limits: Option<LimitReport>,
}

impl FitReport {
    /// Fit everything.
    ///
    /// # Errors
    /// Nothing was measured, or a model to leave out is unknown.
    pub fn new(input: &FitInput<'_>) -> Result<Self, FitError> {
        if input.observations.is_empty() {
            return Err(FitError::Nothing);
        }
        let mut series = series_of(input.observations);
        for wanted in input.leave_out {
            hold_out(&mut series, wanted)?;
        }
        Ok(Self {
            series: series.iter().map(|one| SeriesReport::new(one, input.rooflines)).collect(),
            quantisations: quantisations(&series, input.divergences, input.kl_nats_max),
        })
    }
}

impl SeriesReport {
    fn new(series: &Series, rooflines: &[Roofline]) -> Self {
        let quantities: Vec<QuantityReport> =
            Quantity::ALL.into_iter().map(|quantity| QuantityReport::new(quantity, series)).collect();
        let (found, missing): (Vec<_>, Vec<_>) =
            JointQuantity::ALL.map(|quantity| joint(quantity, series)).into_iter().partition(Result::is_ok);
        let of = |quantity| quantities.iter().find(|report| report.quantity == quantity);
        let limits = Roof::of(rooflines, &series.key).and_then(|roofline| {
            LimitReport::new(series, roofline, of(Quantity::DecodeStep)?, of(Quantity::PrefillPerToken))
        });
        Self {
            key: series.key.clone(),
            subjects: series.subjects.clone(),
            cells: series.cells.len(),
            disturbed_cells: series.cells.iter().filter(|cell| cell.disturbed).count(),
            quantities,
            joint: found.into_iter().filter_map(Result::ok).collect(),
            joint_missing: missing.into_iter().filter_map(Result::err).collect(),
            limits,
        }
    }

    /// The laws of one quantity.
    pub fn quantity(&self, quantity: Quantity) -> Option<&QuantityReport> {
        self.quantities.iter().find(|report| report.quantity == quantity)
    }
}
