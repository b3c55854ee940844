//! The guard of one device's temperature.

use crate::config::ThermalLimits;
use crate::event::Reading;
use crate::view::HeatState;

/// The guard.
#[derive(Debug, Clone)]
pub struct Guard {
    temperature_c: Option<f64>,
}

impl Guard {
    /// A guard that knows nothing yet.
    pub fn new(_limits: ThermalLimits, _idle_w: f64, _full_w: f64) -> Self {
        Self { temperature_c: None }
    }

    /// The sensor was read.
    pub fn sensed(&mut self, _now_s: f64, reading: &Reading) {
        self.temperature_c = reading.temperature_c;
    }

    /// What it believes the temperature to be.
    pub fn temperature_c(&self) -> Option<f64> {
        self.temperature_c
    }

    /// Share of the time that the device may compute.
    pub fn duty(&self) -> f64 {
        1.0
    }

    /// How hot it is.
    pub fn state(&self) -> HeatState {
        HeatState::Nominal
    }
}
