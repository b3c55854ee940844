//! What the control loop is told before it starts: devices with their profiles and limits, and a bound for every queue.
//!
//! Nothing here is assumed to suit a device: which phase runs well where is what the profiles say.

use qeil_units::Provenance;
use serde::{Deserialize, Serialize};

/// Number of a device: its place in [`Config::devices`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceId(pub u16);

/// What a device's work costs. Times in seconds, energy in joules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Seconds for each prompt token.
    pub prefill_s_per_token: f64,
    /// Joules for each prompt token.
    pub prefill_j_per_token: f64,
    /// Seconds of a decode step whatever it holds.
    pub step_s: f64,
    /// Further seconds for each sequence in the step.
    pub step_s_per_sequence: f64,
    /// Joules of a decode step whatever it holds.
    pub step_j: f64,
    /// Further joules for each sequence in the step.
    pub step_j_per_sequence: f64,
    /// Power when nothing runs, watts.
    pub idle_w: f64,
    /// Where these figures come from.
    pub provenance: Provenance,
}

impl Profile {
    /// Seconds of a decode step with so many sequences.
    pub fn decode_step_s(&self, sequences: u32) -> f64 {
        self.step_s + self.step_s_per_sequence * f64::from(sequences)
    }

    /// Joules of a decode step with so many sequences.
    pub fn decode_step_j(&self, sequences: u32) -> f64 {
        self.step_j + self.step_j_per_sequence * f64::from(sequences)
    }
}

/// Heat limits of a device, degrees Celsius.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ThermalLimits {
    /// Its maximum by the maker's data or its critical trip point.
    pub max_c: f64,
    /// The guard temperature as a share of the maximum (of the figure in degrees Celsius).
    pub guard_share: f64,
}

/// Guard temperature over maximum, by the safety contract.
pub const GUARD_SHARE: f64 = 0.85;

impl ThermalLimits {
    /// With the share of the safety contract.
    pub fn new(max_c: f64) -> Self {
        Self { max_c, guard_share: GUARD_SHARE }
    }

    /// The temperature that the guard keeps the device under.
    pub fn guard_c(&self) -> f64 {
        self.max_c * self.guard_share
    }
}

/// A device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceConfig {
    /// Its name, as `qeil devices` shows it.
    pub name: String,
    /// Devices of one kin compute the same numbers: a seeded sample that moves among them keeps its text.
    pub kin: String,
    /// Sequences that its worker can hold at once.
    pub sequences_max: u32,
    /// Tokens that its worker's memory can hold.
    pub context_tokens: u32,
    /// Prompt tokens that its worker computes at most before it tells of them; missing where it tells nothing before the
    /// first token.
    pub chunk_tokens: Option<u32>,
    /// What its work costs.
    pub profile: Profile,
    /// Heat limits; missing where the device has no temperature sensor at all, and then no heat is guarded.
    pub thermal: Option<ThermalLimits>,
}

/// Bounds of everything that could grow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Requests that may wait.
    pub queue_requests_max: u32,
    /// Tokens that the waiting requests may ask for (prompt and all samples).
    pub queue_tokens_max: u64,
    /// Prompt tokens of one request.
    pub prompt_tokens_max: u32,
    /// Samples of one request.
    pub samples_max: u32,
    /// Tokens of one sample.
    pub tokens_max: u32,
    /// Seconds that a request may take, and what it gets where it names no deadline.
    pub deadline_max_s: f64,
    /// Joules that a request may take, where it names no budget; missing: no bound.
    pub energy_max_j: Option<f64>,
    /// Times that one sample may be placed anew after a device failed it.
    pub moves_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A queue that takes longer than a client waits serves nobody: 64 requests of 4,096 tokens are half a minute
            // of a laptop's work.
            queue_requests_max: 64,
            queue_tokens_max: 1 << 18,
            prompt_tokens_max: 32_768,
            // A worker's sequences.
            samples_max: 256,
            tokens_max: 8_192,
            deadline_max_s: 600.0,
            energy_max_j: None,
            // Each move costs a prefill; a sample that four devices failed is likely their cause.
            moves_max: 4,
        }
    }
}

/// What the loop is told before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The devices.
    pub devices: Vec<DeviceConfig>,
    /// Bounds.
    pub limits: Limits,
    /// Most watts that all devices may draw together; missing: no cap.
    pub power_cap_w: Option<f64>,
    /// What placement prefers.
    pub goal: Goal,
    /// Whether the guard acts. Off only to show what it prevents: never in service.
    pub guarded: bool,
    /// Fixes jitter and tie-breaks.
    pub seed: u64,
}

/// What placement prefers where several devices could serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Fewest joules that keep the deadline.
    Energy,
    /// Earliest end.
    Latency,
}
