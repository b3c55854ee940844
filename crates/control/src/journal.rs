//! A decision with its reason and the readings it was made on: one row of the journal.
//!
//! The rows are complete: whoever replays them in order knows the state of every device and request at any moment. They
//! are made here, where the decision is made, and written elsewhere.

use crate::config::DeviceId;
use crate::event::RequestId;
use serde::{Deserialize, Serialize};

/// What kind of decision it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A request was admitted.
    Admitted,
    /// A request was refused.
    Refused,
    /// Samples were placed on a device.
    Placed,
    /// Samples moved from one device to another.
    Moved,
    /// Samples were cancelled.
    Cancelled,
    /// A request ended.
    Ended,
    /// A device's duty cycle was changed.
    Paced,
    /// A device's heat state changed.
    Heat,
    /// A device was taken out.
    Quarantined,
    /// A device was asked for one token or a known answer.
    Probed,
    /// A device came back, in part or in full.
    Returned,
    /// A device's worker was started.
    Started,
    /// A device's worker was stopped.
    Stopped,
    /// A trend that warns before anything failed.
    Warned,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Seconds since the loop started.
    pub at_s: f64,
    /// What was decided.
    pub kind: Kind,
    /// About which device.
    pub device: Option<DeviceId>,
    /// About which request.
    pub request: Option<RequestId>,
    /// Why, in words.
    pub reason: String,
    /// What was read: name (unit in the name) and value.
    pub readings: Vec<(String, f64)>,
}
