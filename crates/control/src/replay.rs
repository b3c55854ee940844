//! The state of any moment, rebuilt from the journal.
//!
//! Each decision about a device carries the standing, duty or heat state that it left the device in; each about a request
//! says whether it came, began or ended. So the rows up to a moment, in order, are the state of that moment, and nothing
//! of the loop has to be run again. The tests hold the live loop to it.

use crate::event::RequestId;
use crate::journal::{Decision, Kind};
use crate::view::{HeatState, Standing};
use std::collections::BTreeMap;

/// A device, as the journal tells it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DeviceState {
    /// Where it stands.
    pub standing: Standing,
    /// How hot it is.
    pub heat: HeatState,
    /// Share of the time that it may compute.
    pub duty: f32,
}

/// The state of one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Seconds since the loop started, of the last row.
    pub at_s: f64,
    /// The devices, in the order of the configuration.
    pub devices: Vec<DeviceState>,
    /// Requests in flight, and whether any of their samples was placed yet.
    pub requests: BTreeMap<RequestId, bool>,
}

impl State {
    /// Before the first row.
    pub fn new(devices: usize) -> Self {
        let device = DeviceState { standing: Standing::Down, heat: HeatState::Nominal, duty: 1.0 };
        Self { at_s: 0.0, devices: vec![device; devices], requests: BTreeMap::new() }
    }

    /// The state after the rows up to `at_s`, which are in the order in which they were written.
    pub fn at<'a>(devices: usize, at_s: f64, rows: impl IntoIterator<Item = &'a Decision>) -> Self {
        let mut state = Self::new(devices);
        for row in rows.into_iter().take_while(|row| row.at_s <= at_s) {
            state.apply(row);
        }
        state
    }

    /// One row more.
    pub fn apply(&mut self, row: &Decision) {
        self.at_s = row.at_s;
        let figure =
            |name: &str| row.readings.iter().find(|reading| reading.0 == name).map(|reading| reading.1);
        if let Some(device) = row.device.and_then(|device| self.devices.get_mut(usize::from(device.0))) {
            if let Some(standing) = figure("standing").and_then(Standing::from_code) {
                device.standing = standing;
            }
            if row.kind == Kind::Paced
                && let Some(duty) = figure("duty")
            {
                device.duty = duty as f32;
            }
            if let Some(heat) = figure("heat_state").and_then(HeatState::from_code) {
                device.heat = heat;
            }
        }
        let Some(request) = row.request else { return };
        match row.kind {
            Kind::Admitted => {
                self.requests.insert(request, false);
            }
            Kind::Placed | Kind::Moved => {
                if let Some(begun) = self.requests.get_mut(&request) {
                    *begun = true;
                }
            }
            Kind::Ended => {
                self.requests.remove(&request);
            }
            _ => {}
        }
    }
}
