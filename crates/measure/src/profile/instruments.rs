//! What a sweep measures with, besides the worker's own clock.
//!
//! All of them cover the processor. Other devices have a clock only: their energy is missing, not guessed.

use super::plan::Host;
use qeil_engine::handle::Launch;
use qeil_engine::spec::{DeviceEntry, DeviceKind};
use qeil_hardware::energy::EnergyMeter;
use qeil_hardware::usage::{CpuTimes, interference};
use qeil_hardware::{Roots, thermal};

/// The instruments of a sweep.
#[derive(Debug)]
pub struct Instruments<'a> {
    /// How workers are started.
    pub launch: &'a Launch,
    /// The machine.
    pub host: &'a Host,
    /// Its devices.
    pub devices: &'a [DeviceEntry],
    /// The meter of the processor packages.
    pub energy: &'a EnergyMeter,
    /// Where its sensors are.
    pub roots: &'a Roots,
}

impl Instruments<'_> {
    fn is_processor(&self, name: &str) -> bool {
        self.devices.iter().any(|device| device.name == name && device.kind == DeviceKind::Cpu)
    }

    /// The meter that covers a device, if there is one.
    pub(super) fn meter(&self, device: &str) -> Option<&EnergyMeter> {
        self.is_processor(device).then_some(self.energy)
    }

    /// Degrees Celsius of a device now, if a sensor tells.
    pub(super) fn temperature_c(&self, device: &str) -> Option<f64> {
        let all = if self.is_processor(device) { thermal::temperatures(self.roots) } else { Vec::new() };
        Some(thermal::processor(&all)?.reading.as_ref().ok()?.0)
    }

    /// What all processors did so far.
    pub(super) fn cpu_times(&self) -> Option<CpuTimes> {
        CpuTimes::read(self.roots).ok()
    }

    /// Share of CPU time that others took since `before`, when `own_cpu_s` seconds were ours.
    pub(super) fn interference(&self, before: Option<CpuTimes>, own_cpu_s: f64) -> Option<f64> {
        interference(&before?, &self.cpu_times()?, own_cpu_s)
    }
}
