//! Sweeps over the settings that latency and energy depend on.

pub mod observation;

pub use observation::{Cell, ModelIdentity, Observation};
