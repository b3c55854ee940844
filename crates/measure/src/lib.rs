//! Measured runs over engines and meters.
//!
//! Everything here does its work and returns typed, serialisable figures with units in their names; nothing prints
//! and nothing decides what a user should buy. A figure that could not be had is `None`.
//!
//! | module | job |
//! |---|---|
//! | [`question`] | from what a user types to the tokens every device gets alike |
//! | [`answer`] | one question, k samples, one worker: speed, energy, and what sharing the prefill saved |
//! | [`survey`] | the same question on every device, each after it earned trust |
//! | [`bench`] | prefill, decode and shared-prefix tests, repeated |
//! | [`tune`] | short trials that choose a worker's settings for a workload |
//! | [`weights`] | copies of a model with its weights in another format |
//! | [`quantize`] | a variant of a model in another format, and how far its answers are from the original's |
//! | [`kept`] | where the choices of [`tune`] are kept between runs |
//! | [`settings`] | the settings that change speed and not answers: the table of candidates |
//! | [`shape`] | how large a context a workload needs |
//! | [`timed`] | one request, or several at once, with the clock and the meter around it |
//! | [`profile`] | sweeps: what each cell of a designed grid costs, saved row by row |
//! | [`coverage`] | what k samples solve of a set of tasks, and what that costs |
//! | [`report`] | the documents that `--json` prints |
//! | [`stats`] | medians, spreads and intervals |
//! | [`store`] | where measurements are kept: SQLite, one transaction a row |

pub mod answer;
pub mod bench;
mod checksum;
pub mod coverage;
pub mod error;
pub mod kept;
pub mod profile;
pub mod quantize;
pub mod question;
pub mod report;
pub mod settings;
pub mod shape;
pub mod stats;
pub mod store;
pub mod survey;
pub mod timed;
pub mod tune;
pub mod weights;

pub use error::MeasureError;

/// Version of QEIL: all crates of the workspace share it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
