//! The state of everything at one moment, for pages, drills and `live` and `ready` checks.

use qeil_control::config::DeviceId;
use qeil_control::event::RequestId;
use qeil_control::view::{DeviceView, RequestView};
use serde::Serialize;

/// A sample that lost its device and found another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reroute {
    /// Its request.
    pub request: RequestId,
    /// The device that died.
    pub from: DeviceId,
    /// The device that took it.
    pub to: DeviceId,
    /// When the death was known, seconds since the start.
    pub known_s: f64,
    /// When the loop was told, seconds since the start.
    pub told_s: f64,
    /// Places that were free on the other devices at that time.
    pub free: u32,
    /// When the new device was asked, seconds since the start.
    pub placed_s: f64,
}

/// One moment.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// Seconds since the start.
    pub now_s: f64,
    /// The devices, as the loop sees them.
    pub devices: Vec<DeviceView>,
    /// Their names.
    pub names: Vec<String>,
    /// The processes of those that have one.
    pub pids: Vec<Option<u32>>,
    /// How often each was started.
    pub starts: Vec<u64>,
    /// The requests in flight.
    pub requests: Vec<RequestView>,
    /// The latest samples that lost a device, oldest first.
    pub reroutes: Vec<Reroute>,
    /// Requests that came to their outcome.
    pub outcomes: u64,
}
