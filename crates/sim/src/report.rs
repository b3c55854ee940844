//! What a simulated operation came to.
//!
//! Everything in it is simulated and says so. Two runs of one scenario give equal reports; `digest` stands for all
//! decisions of the loop, so that a difference too small for the tables still shows.

use crate::machine::DeviceKind;
use qeil_units::Provenance;
use serde::Serialize;

/// Violations that are kept in words; all are counted.
pub const VIOLATIONS_KEPT_MAX: usize = 20;

/// A promise of the safety contract that can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// Every admitted request ends in exactly one outcome.
    OneOutcome,
    /// An outcome comes by the request's deadline.
    InTime,
    /// No device is more than 2 °C over its guard temperature.
    Overshoot,
    /// No device reaches its maximum.
    Critical,
    /// A device's heat state changes at most once in 10 s.
    HeatChanges,
    /// The last device that serves is not taken out for softness.
    LastDevice,
    /// Queues keep their bounds.
    QueueBounds,
    /// What is larger than any bound is refused.
    InputBounds,
    /// Work is placed on devices that are there and have room.
    Placement,
    /// A sample's tokens come in order, without gap or repetition.
    TokenOrder,
    /// The loop does not spin: bounded work at one moment.
    Progress,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Violation {
    /// When, seconds.
    pub at_s: f64,
    /// Which promise.
    pub promise: Promise,
    /// What happened.
    pub what: String,
}

/// What one device did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceReport {
    /// Its name.
    pub name: String,
    /// What kind it is.
    pub kind: DeviceKind,
    /// Guard temperature, degrees Celsius.
    pub guard_c: f64,
    /// Temperature at which the hardware throttles itself, degrees Celsius.
    pub max_c: f64,
    /// Highest temperature, degrees Celsius.
    pub peak_c: f64,
    /// Seconds more than 2 °C over the guard temperature.
    pub over_guard_s: f64,
    /// Seconds at or over the maximum.
    pub critical_s: f64,
    /// Seconds in the heat states nominal, warm, throttled, critical, as the loop showed them.
    pub heat_s: [f64; 4],
    /// Changes of the heat state.
    pub heat_changes: u32,
    /// Mean of the ordered duty over time.
    pub duty: f64,
    /// Share of the time that it computed.
    pub busy: f64,
    /// Tokens that it emitted.
    pub tokens: u64,
    /// Energy, joules, idle power included.
    pub energy_j: f64,
    /// Times that it was taken out.
    pub quarantines: u32,
}

/// What became of the requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RequestReport {
    /// Came.
    pub arrived: u64,
    /// Were let in.
    pub admitted: u64,
    /// Were refused because the queue was full or no device could serve.
    pub refused_for_load: u64,
    /// Were refused because they ask for too much, make no sense or have no hope.
    pub refused_as_wrong: u64,
    /// Came to their end.
    pub completed: u64,
    /// Were withdrawn by their client.
    pub withdrawn: u64,
    /// Ended by their deadline.
    pub late: u64,
    /// Ended by their energy budget.
    pub over_budget: u64,
    /// Failed.
    pub failed: u64,
    /// Samples that were placed again.
    pub moves: u64,
    /// Tokens that were delivered, of all samples.
    pub tokens: u64,
    /// Tokens that a device which computes wrong numbers delivered before it was found out.
    pub wrong_tokens: u64,
    /// Seconds from arrival to end of completed requests: median and 95th percentile; missing where none completed.
    pub seconds: Option<(f64, f64)>,
}

/// A simulated operation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Always simulated.
    pub provenance: Provenance,
    /// The machine.
    pub machine: String,
    /// The model.
    pub model: String,
    /// The seed.
    pub seed: u64,
    /// Whether the guard acted.
    pub guarded: bool,
    /// Simulated seconds, those after the last arrival included.
    pub seconds: f64,
    /// Highest temperature of the surroundings, degrees Celsius.
    pub ambient_max_c: f64,
    /// The devices.
    pub devices: Vec<DeviceReport>,
    /// The requests.
    pub requests: RequestReport,
    /// Broken promises, each promise with its count.
    pub violated: Vec<(Promise, u64)>,
    /// The first of them in words.
    pub violations: Vec<Violation>,
    /// Inputs that the loop was given.
    pub inputs: u64,
    /// A number made from all decisions in order.
    pub digest: u64,
}

impl Report {
    /// Whether every promise was kept.
    pub fn kept(&self) -> bool {
        self.violated.is_empty()
    }

    /// Joules of all devices.
    pub fn energy_j(&self) -> f64 {
        self.devices.iter().map(|device| device.energy_j).sum()
    }
}
