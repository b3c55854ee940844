//! The power envelope: what an idle machine draws and what a busy one does, and a line between them.
//!
//! Power is taken as idle + (max − idle) × utilisation, the linear model of Fan, Weber and Barroso ("Power
//! provisioning for a warehouse-sized computer", ISCA 2007), who found it within a few per cent on servers.
//! The figures are the weak part: without a user's own they are **assumed** from what is published about a
//! common part of the same family, and every reading says so.

use super::Units;
use crate::cpu::Cpu;
use qeil_units::Watts;

/// Idle share of the full power. SPECpower_ssj2008 results of recent years lie between a tenth and a third;
/// an assumption for any one machine.
const IDLE_SHARE: f64 = 0.2;
/// No processor of today's edge machines draws more; a larger figure is milliwatts taken for watts.
const ENVELOPE_W_MAX: f64 = 10_000.0;

/// A part with published thermal design power, standing in for its family.
struct KnownPart {
    /// Word in the processor's name that marks the family.
    word: &'static str,
    part: &'static str,
    tdp_w: f64,
    cores: f64,
}

/// The first match counts. Figures: the makers' product pages.
const KNOWN_PARTS: [KnownPart; 7] = [
    KnownPart { word: "EPYC", part: "AMD EPYC 9654", tdp_w: 360.0, cores: 96.0 },
    KnownPart { word: "Xeon", part: "Intel Xeon Platinum 8480+", tdp_w: 350.0, cores: 56.0 },
    KnownPart { word: "Ryzen", part: "AMD Ryzen 7 7840U", tdp_w: 28.0, cores: 8.0 },
    KnownPart { word: "Core(TM) i", part: "Intel Core i7-1260P", tdp_w: 28.0, cores: 12.0 },
    KnownPart { word: "Core(TM) Ultra", part: "Intel Core Ultra 7 155H", tdp_w: 28.0, cores: 16.0 },
    KnownPart { word: "N100", part: "Intel N100", tdp_w: 6.0, cores: 4.0 },
    KnownPart { word: "Altra", part: "Ampere Altra Q80-30", tdp_w: 210.0, cores: 80.0 },
];
/// For every other name: the part whose watts per core lie in the middle of the table.
const UNKNOWN_FAMILY: &KnownPart = &KNOWN_PARTS[2];

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
        "{name} power of {watts} W is not between 0 and {ENVELOPE_W_MAX} W: give what the processors draw, in watts"
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
            if !(0.0..=ENVELOPE_W_MAX).contains(&watts.0) {
                return Err(EnvelopeError::OutOfRange { name, watts: watts.0 });
            }
        }
        if idle >= max {
            return Err(EnvelopeError::IdleAboveMax { idle_w: idle.0, max_w: max.0 });
        }
        Ok(Self { idle, max, basis: "figures given by the user".into(), assumed: false })
    }

    /// An assumption from the processor's family and number of cores.
    pub fn assumed(cpu: &Cpu) -> Self {
        let name = cpu.model.as_deref().unwrap_or_default();
        let known = KNOWN_PARTS.iter().find(|known| name.contains(known.word));
        let KnownPart { part, tdp_w, cores, .. } = known.unwrap_or(UNKNOWN_FAMILY);
        let own_cores = cpu.physical_cores.unwrap_or(cpu.logical_cpus);
        let max = Watts(tdp_w / cores) * f64::from(own_cores);
        let unknown = if known.is_some() { "" } else { ", for want of a figure for this processor" };
        let basis = format!(
            "assumed: {own_cores} cores like those of {part}, published TDP {tdp_w} W for {cores} cores{unknown}; \
             idle share {IDLE_SHARE}"
        );
        // One basis is one source: the separator of joined sources must not be in it.
        Self { idle: max * IDLE_SHARE, max, basis: basis.replace(';', ","), assumed: true }
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
