//! The power envelope: what an idle device draws and what a busy one does, and a line between them.
//!
//! Power is taken as idle + (max − idle) × utilisation, the linear model of Fan, Weber and Barroso ("Power
//! provisioning for a warehouse-sized computer", ISCA 2007), who found it within a few per cent on servers.
//! The figures are the weak part, so every reading says whose they are. In order: watts the user gives for one run;
//! readings of a wall meter the user typed in once ([`Calibration`]); the user's own device catalogue; and, **assumed**,
//! what is published about a common part of the same family.

use super::Units;
use crate::calibration::Calibration;
use crate::catalogue::{Catalogue, FigureError, Part, PartKind, WATTS_MAX, config_folder};
use crate::cpu::Cpu;
use crate::gpu::Gpu;
use qeil_units::Watts;
use std::path::Path;

/// Idle share of the full power. SPECpower_ssj2008 results of recent years lie between a tenth and a third;
/// an assumption for any one machine.
const IDLE_SHARE: f64 = 0.2;
/// Watts of a core of which nothing is known: the middle of the catalogue's families.
const UNKNOWN_CORE_W: f64 = 3.5;
/// Watts of a graphics device of which nothing is known: what a PCI Express slot feeds without a further cable.
const UNKNOWN_GPU_W: f64 = 75.0;

/// What a machine's processors draw, idle and full.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    idle: Watts,
    max: Watts,
    basis: String,
    assumed: bool,
}

/// Why figures are no envelope.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not a number in the range of machines.
    #[error(
        "{name} power of {watts} W is not between 0 and {WATTS_MAX} W: give what the processors draw, in watts"
    )]
    OutOfRange {
        /// `idle` or `maximum`.
        name: &'static str,
        /// What was given.
        watts: f64,
    },
    /// More when idle than when busy.
    #[error("idle power of {idle_w} W is not below the maximum of {max_w} W: give the idle figure first")]
    IdleAboveMax {
        /// Given idle power.
        idle_w: f64,
        /// Given maximum.
        max_w: f64,
    },
}

impl Envelope {
    /// The user's own figures, for all processors of the machine together.
    pub fn from_watts(idle: Watts, max: Watts) -> Result<Self, EnvelopeError> {
        for (name, watts) in [("idle", idle), ("maximum", max)] {
            if !(0.0..=WATTS_MAX).contains(&watts.0) {
                return Err(EnvelopeError::OutOfRange { name, watts: watts.0 });
            }
        }
        if idle >= max {
            return Err(EnvelopeError::IdleAboveMax { idle_w: idle.0, max_w: max.0 });
        }
        Ok(Self { idle, max, basis: "figures given by the user".into(), assumed: false })
    }

    /// Readings of a wall meter: they are the whole machine's.
    pub fn calibrated(calibration: &Calibration) -> Self {
        Self {
            idle: Watts(calibration.idle_w),
            max: Watts(calibration.busy_w),
            basis: "the whole machine, from wall meter readings typed in by the user".into(),
            assumed: false,
        }
    }

    /// The best figures that this user has for the processor.
    ///
    /// # Errors
    /// When one of the user's own files is there and wrong: falling back to an assumption would hide it.
    pub fn of_user(cpu: &Cpu) -> Result<Self, FigureError> {
        match config_folder() {
            Some(folder) => Self::of_folder(cpu, &folder),
            None => Ok(Self::assumed(cpu)),
        }
    }

    /// The same with the user's files in `folder`.
    ///
    /// # Errors
    /// When one of them is there and wrong.
    pub fn of_folder(cpu: &Cpu, folder: &Path) -> Result<Self, FigureError> {
        let catalogue = Catalogue::load_from(folder)?;
        Ok(match Calibration::find_in(folder, cpu)? {
            Some(calibration) => Self::calibrated(&calibration),
            None => Self::of_cpu(cpu, &catalogue),
        })
    }

    /// An assumption from the processor's family and number of cores, by the built-in catalogue.
    pub fn assumed(cpu: &Cpu) -> Self {
        // A test keeps the built-in catalogue readable; without it every processor is an unknown one.
        Self::of_cpu(cpu, &Catalogue::builtin().unwrap_or_default())
    }

    /// What a catalogue says about the processor.
    pub fn of_cpu(cpu: &Cpu, catalogue: &Catalogue) -> Self {
        let own_cores = cpu.physical_cores.unwrap_or(cpu.logical_cpus);
        let Some(part) = catalogue.find(PartKind::Cpu, cpu.model.as_deref().unwrap_or_default()) else {
            let basis = format!(
                "assumed: {own_cores} cores of {UNKNOWN_CORE_W} W each, for want of a figure for this processor"
            );
            return Self::of_max(Watts(UNKNOWN_CORE_W) * f64::from(own_cores), None, basis, true);
        };
        let share = if part.of_user && !part.stand_in { 1.0 } else { part.share(cpu) };
        let which = match part.cores {
            Some(cores) if share != 1.0 => {
                format!("{own_cores} cores like those of {}, {} W for {cores} cores", part.part, part.max_w)
            }
            _ => format!("{}, {} W", part.part, part.max_w),
        };
        Self::of_part(part, share, which)
    }

    /// What a catalogue says about a graphics device, else what its driver lets it take.
    pub fn of_gpu(gpu: &Gpu, catalogue: &Catalogue) -> Self {
        match (catalogue.find(PartKind::Gpu, &gpu.name), gpu.power_limit) {
            (Some(part), _) => Self::of_part(part, 1.0, format!("{}, {} W", part.part, part.max_w)),
            (None, Some(limit)) => {
                Self::of_max(limit, None, format!("assumed: the {limit} that its driver lets it take"), true)
            }
            (None, None) => {
                let basis = format!("assumed: {UNKNOWN_GPU_W} W, for want of a figure for this device");
                Self::of_max(Watts(UNKNOWN_GPU_W), None, basis, true)
            }
        }
    }

    fn of_part(part: &Part, share: f64, which: String) -> Self {
        let idle = part.idle_w.map(|idle_w| Watts(idle_w) * share);
        let basis = if part.of_user {
            format!("the user's device catalogue: {which}")
        } else {
            format!("assumed: {which} ({})", part.max_w_source)
        };
        Self::of_max(part.max() * share, idle, basis, !part.of_user)
    }

    fn of_max(max: Watts, idle: Option<Watts>, basis: String, assumed: bool) -> Self {
        let note = if idle.is_some() { String::new() } else { format!(", idle share assumed {IDLE_SHARE}") };
        // One basis is one source: the separator of joined sources must not be in it.
        let basis = format!("{basis}{note}").replace(';', ",");
        Self { idle: idle.unwrap_or(max * IDLE_SHARE), max, basis, assumed }
    }

    /// Power when nothing runs.
    pub fn idle(&self) -> Watts {
        self.idle
    }

    /// Power with every logical CPU busy.
    pub fn max(&self) -> Watts {
        self.max
    }

    /// Whether the figures are ours and not the user's.
    pub fn is_assumed(&self) -> bool {
        self.assumed
    }

    /// Power that one more busy unit adds: a logical CPU, or the device.
    pub(super) fn busy_unit(&self, units: Units) -> Watts {
        (self.max - self.idle) / units.count()
    }

    /// The model and its figures, as a source names them.
    pub(super) fn source(&self, units: Units) -> String {
        let unit = match units {
            Units::LogicalCpus(_) => "per busy logical CPU",
            Units::Device => "while busy",
        };
        format!("{} idle + {} {unit} ({})", self.idle, self.busy_unit(units), self.basis)
    }
}
