//! What NVIDIA's driver tells of its devices.
//!
//! The driver's management library (NVML) is looked for when it is first asked, never linked: a machine without it lacks
//! a sensor, not a program. Everything goes through [`GpuDriver`], so that tests can put a driver of their own in its
//! place, whose counters wrap, vanish and lie.
//!
//! `total energy` counts since the driver was loaded, on Volta and later; older cards have only a power, which on some
//! is a mean over the last second, so that a span's ends are smeared (NVML API reference, `nvmlDeviceGetPowerUsage`).

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor, TemperatureThreshold};
use nvml_wrapper::error::NvmlError;
use std::fmt;
use std::sync::Arc;

/// Devices believed: a machine holds sixteen at most.
const GPUS_MAX: u32 = 64;

/// Why a driver gave no figure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuFault {
    /// This device has no such sensor.
    #[error("this device has no such sensor")]
    Unsupported,
    /// There is one, for others.
    #[error("the driver does not let this user read it")]
    Denied,
    /// The device is gone.
    #[error("the device is gone (fallen off its bus, or taken away)")]
    Lost,
    /// Anything else, in the driver's words.
    #[error("the driver says: {0}")]
    Other(String),
}

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuIdentity {
    /// The maker's name for it.
    pub name: String,
    /// Its PCI address.
    pub address: Option<String>,
    /// Most power that the driver lets it take, in milliwatts.
    pub power_limit_mw: Option<u32>,
}

/// How a device feels; what it does not tell is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GpuFigures {
    /// Share of time in which it worked, 0 to 1, over the driver's own period (up to a second).
    pub utilisation: Option<f64>,
    /// Clock of its processors.
    pub clock_hz: Option<u64>,
    /// Temperature of the die, in degrees Celsius.
    pub temperature_c: Option<f64>,
    /// Where it slows down.
    pub slowdown_c: Option<f64>,
    /// Where it switches off.
    pub shutdown_c: Option<f64>,
    /// Memory in use.
    pub memory_used_bytes: Option<u64>,
    /// All memory.
    pub memory_total_bytes: Option<u64>,
    /// Why it runs slower than it could, in words; `None` where it does not tell.
    pub throttled_by: Option<Vec<&'static str>>,
}

/// A driver that tells of its devices.
pub trait GpuDriver: fmt::Debug + Send + Sync {
    /// The devices, in the driver's order.
    ///
    /// # Errors
    /// When the driver cannot list them.
    fn gpus(&self) -> Result<Vec<GpuIdentity>, GpuFault>;

    /// Millijoules since the driver was loaded.
    ///
    /// # Errors
    /// When the device does not tell.
    fn energy_mj(&self, index: u32) -> Result<u64, GpuFault>;

    /// Milliwatts at the moment, or over the last second.
    ///
    /// # Errors
    /// When the device does not tell.
    fn power_mw(&self, index: u32) -> Result<u32, GpuFault>;

    /// How it feels.
    fn figures(&self, index: u32) -> GpuFigures;
}

/// NVIDIA's driver, if it is there.
///
/// # Errors
/// Why it is not, for a person.
pub fn open() -> Result<Arc<dyn GpuDriver>, String> {
    match Nvml::init() {
        Ok(nvml) => Ok(Arc::new(Library(nvml))),
        Err(NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound) => {
            Err("no NVIDIA driver: libnvidia-ml.so.1 is not on this system".into())
        }
        Err(error) => Err(format!("the NVIDIA driver cannot be asked: {error}")),
    }
}

#[derive(Debug)]
struct Library(Nvml);

impl From<NvmlError> for GpuFault {
    fn from(error: NvmlError) -> Self {
        match error {
            NvmlError::NotSupported | NvmlError::FunctionNotFound | NvmlError::FailedToLoadSymbol(_) => {
                Self::Unsupported
            }
            NvmlError::NoPermission => Self::Denied,
            NvmlError::GpuLost | NvmlError::NotFound | NvmlError::ResetRequired => Self::Lost,
            other => Self::Other(other.to_string()),
        }
    }
}

impl GpuDriver for Library {
    fn gpus(&self) -> Result<Vec<GpuIdentity>, GpuFault> {
        let count = self.0.device_count()?.min(GPUS_MAX);
        let identity = |index| {
            let device = self.0.device_by_index(index)?;
            Ok(GpuIdentity {
                name: device.name()?,
                address: device.pci_info().ok().map(|pci| pci.bus_id.to_lowercase()),
                power_limit_mw: device.enforced_power_limit().ok(),
            })
        };
        (0..count).map(identity).collect()
    }

    fn energy_mj(&self, index: u32) -> Result<u64, GpuFault> {
        Ok(self.0.device_by_index(index)?.total_energy_consumption()?)
    }

    fn power_mw(&self, index: u32) -> Result<u32, GpuFault> {
        Ok(self.0.device_by_index(index)?.power_usage()?)
    }

    fn figures(&self, index: u32) -> GpuFigures {
        let Ok(device) = self.0.device_by_index(index) else { return GpuFigures::default() };
        let threshold = |kind| device.temperature_threshold(kind).ok().map(f64::from);
        let memory = device.memory_info().ok();
        GpuFigures {
            utilisation: device.utilization_rates().ok().map(|rates| f64::from(rates.gpu.min(100)) / 100.0),
            clock_hz: device.clock_info(Clock::SM).ok().map(|mhz| u64::from(mhz) * 1_000_000),
            temperature_c: device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
            slowdown_c: threshold(TemperatureThreshold::Slowdown),
            shutdown_c: threshold(TemperatureThreshold::Shutdown),
            memory_used_bytes: memory.as_ref().map(|memory| memory.used),
            memory_total_bytes: memory.as_ref().map(|memory| memory.total),
            throttled_by: device.current_throttle_reasons().ok().map(reasons),
        }
    }
}

/// An idle device runs slowly because nothing is asked of it: that is no throttling.
fn reasons(found: ThrottleReasons) -> Vec<&'static str> {
    let words = [
        (ThrottleReasons::SW_POWER_CAP, "power limit"),
        (ThrottleReasons::HW_SLOWDOWN, "hardware slowdown"),
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, "heat (hardware)"),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, "heat (driver)"),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "power brake"),
        (ThrottleReasons::APPLICATIONS_CLOCKS_SETTING, "clock setting"),
        (ThrottleReasons::SYNC_BOOST, "clock shared with another device"),
        (ThrottleReasons::DISPLAY_CLOCK_SETTING, "display"),
    ];
    words.into_iter().filter(|(reason, _)| found.contains(*reason)).map(|(_, word)| word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_in_words() {
        let cases: &[(ThrottleReasons, &[&str])] = &[
            (ThrottleReasons::GPU_IDLE, &[]),
            (ThrottleReasons::NONE, &[]),
            (
                ThrottleReasons::SW_POWER_CAP | ThrottleReasons::SW_THERMAL_SLOWDOWN,
                &["power limit", "heat (driver)"],
            ),
        ];
        for (found, words) in cases {
            assert_eq!(reasons(*found), *words);
        }
    }

    #[test]
    fn faults_of_the_library() {
        let cases = [
            (NvmlError::NotSupported, GpuFault::Unsupported),
            (NvmlError::FailedToLoadSymbol("f".into()), GpuFault::Unsupported),
            (NvmlError::NoPermission, GpuFault::Denied),
            (NvmlError::GpuLost, GpuFault::Lost),
        ];
        for (error, fault) in cases {
            assert_eq!(GpuFault::from(error), fault);
        }
        assert!(matches!(GpuFault::from(NvmlError::Timeout), GpuFault::Other(_)));
    }

    #[test]
    fn a_machine_without_the_library_says_so() {
        match open() {
            Ok(driver) => println!("devices: {:?}", driver.gpus()),
            Err(why) => assert!(why.contains("NVIDIA"), "{why}"),
        }
    }
}
