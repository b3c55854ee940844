//! What the loop shows of itself: one row for each device, one for each request in flight.
//!
//! Pages, tests and the replay of the journal look at the loop through these rows and never at its insides, so the insides
//! may change.

use crate::config::DeviceId;
use crate::event::{Priority, RequestId};
use serde::{Deserialize, Serialize};

/// Where a device stands between gone and serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nothing was done about it yet.
    Down,
    /// Its worker loads.
    Starting,
    /// It was asked for one token.
    Probing,
    /// It was asked for a known answer, and has not served since it came.
    Checking,
    /// It takes work.
    Serving,
    /// It was taken out and waits for its next trial.
    Quarantined,
}

impl Standing {
    /// All, in the order of their codes in the journal.
    pub const ALL: [Standing; 6] = [
        Standing::Down,
        Standing::Starting,
        Standing::Probing,
        Standing::Checking,
        Standing::Serving,
        Standing::Quarantined,
    ];

    /// Its number in the readings of a decision.
    pub fn code(self) -> f64 {
        f64::from(self as u8)
    }

    /// The standing with that number.
    pub fn from_code(code: f64) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.code() == code)
    }
}

/// How hot a device is, as it is shown. The duty acts at once; this label waits so that it does not flutter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeatState {
    /// Far from the guard temperature.
    Nominal,
    /// Near it.
    Warm,
    /// Paced so as to stay under it.
    Throttled,
    /// Over it, or its sensor cannot be believed.
    Critical,
}

impl HeatState {
    /// All, from cool to hot.
    pub const ALL: [HeatState; 4] =
        [HeatState::Nominal, HeatState::Warm, HeatState::Throttled, HeatState::Critical];

    /// Its number in the readings of a decision.
    pub fn code(self) -> f64 {
        f64::from(self as u8)
    }

    /// The state with that number.
    pub fn from_code(code: f64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }
}

/// A device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceView {
    /// Which.
    pub device: DeviceId,
    /// Where it stands.
    pub standing: Standing,
    /// How hot it is.
    pub heat: HeatState,
    /// What the loop believes its temperature to be, degrees Celsius; missing before the first reading.
    pub temperature_c: Option<f64>,
    /// Whether its temperature sensor is believed.
    pub sensor_believed: bool,
    /// Share of the time that it may compute, in (0, 1].
    pub duty: f32,
    /// Share of its sequences that it may hold, in (0, 1]: below 1 after a return.
    pub load_share: f64,
    /// How well it does: 1 is faultless, 0 useless.
    pub health: f64,
    /// Its time for the same work over its profile's: 2 is half as fast.
    pub slowness: f64,
    /// Samples that it holds.
    pub sequences: u32,
    /// Tokens that are set aside in its memory.
    pub tokens_held: u64,
    /// Watts that it is predicted to draw now.
    pub predicted_w: f64,
}

/// A request in flight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestView {
    /// Which.
    pub request: RequestId,
    /// Whose.
    pub client: u32,
    /// Who goes first.
    pub priority: Priority,
    /// When it came, seconds.
    pub arrived_s: f64,
    /// When it ends at the latest, seconds.
    pub deadline_at_s: f64,
    /// Whether any of its samples was placed yet. A request that was not is one that the queue's bound counts.
    pub begun: bool,
    /// Samples that wait for a device.
    pub waiting: u32,
    /// Samples on devices.
    pub running: u32,
    /// Samples that came to their end.
    pub done: u32,
    /// Tokens emitted so far, of all samples.
    pub emitted: u64,
    /// Joules spent so far.
    pub spent_j: f64,
}
