//! From stored measurements to laws, predictions, metrics and charts.
//!
//! Measuring takes hours and is done once; reading the figures takes milliseconds and is done over and over. So nothing
//! here touches a device: rows in, documents out, the same rows giving the same document to the last digit.
//!
//! | module | job |
//! |---|---|
//! | [`series`] | rows into series (one device, thread count and quantisation), medians into cells |
//! | [`quantity`] | what is fitted (prefill, decode, first token, energies), and over which predictor |
//! | [`laws`] | for one quantity: all laws, their errors on left-out models, which wins and by how much |
//! | [`joint`] | energy and latency as a product of powers of parameters, samples and tokens |
//! | [`limits`] | what fraction of the machine's limits each model reached, and what took the rest |
//! | [`quantisation`] | one model in several quantisations side by side |
//! | [`report`] | all of these: the document of `qeil fit` |
//! | [`workload`] | what a measured model would do under a workload that was not measured |
//! | [`predict`] | what a model that was never run will do |
//! | [`metrics`] | the three metrics of every stored run |
//! | [`coverage`] | counts of repeated sampling into coverage at many samples |
//! | [`coverage_run`] | what one coverage run showed |
//! | [`coverage_metrics`] | the three metrics of every coverage run |
//! | [`costs`] | costs of phases for a planner: measured, by law, by the limits |
//! | [`chart`] | pictures of the laws, as SVG |

pub mod chart;
pub mod costs;
pub mod coverage;
pub mod coverage_metrics;
pub mod coverage_run;
mod error;
pub mod joint;
pub mod laws;
pub mod limits;
pub mod metrics;
pub mod predict;
pub mod quantisation;
pub mod quantity;
pub mod report;
pub mod series;
pub mod workload;

pub use error::FitError;
pub use report::FitReport;

/// Confidence of every interval shown.
pub const LEVEL: f64 = qeil_laws::law::LEVEL;
/// Seed of every resampling: any will do, and a fixed one makes a document repeatable.
const SEED: u64 = 1;
