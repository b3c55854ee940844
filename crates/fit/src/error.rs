//! Why there is no document.

use qeil_laws::LawError;

/// What stood in the way.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FitError {
    /// Nothing was measured.
    #[error("nothing has been measured yet: run `qeil profile MODEL...` over at least three models")]
    Nothing,
    /// No measured model has this name.
    #[error("no measured model is called {wanted:?}; there are: {}", known.join(", "))]
    UnknownModel {
        /// What was asked for.
        wanted: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// Nothing was measured on this device, with these threads, in this quantisation.
    #[error(
        "nothing was measured for {wanted}; there are measurements for: {}. Run `qeil profile` for it",
        known.join("; ")
    )]
    UnknownSeries {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A quantity that a prediction needs allows no law.
    #[error("{quantity} cannot be predicted for {series}: {source}")]
    NoLaw {
        /// The quantity.
        quantity: String,
        /// The series.
        series: String,
        /// Why.
        source: LawError,
    },
    /// The workload lies outside of all that was measured.
    #[error("this workload is out of reach of what was measured for {series}: {why}")]
    Reach {
        /// The series.
        series: String,
        /// What was never varied.
        why: String,
    },
    /// A workload that asks for nothing.
    #[error("{what} must be at least 1")]
    Workload {
        /// Which number.
        what: &'static str,
    },
    /// Figures that allow no metrics.
    #[error("{run}: {source}")]
    Metrics {
        /// Which run.
        run: String,
        /// Why.
        source: LawError,
    },
}
