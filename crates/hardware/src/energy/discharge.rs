//! The battery as a power sensor of the whole machine.

use super::EnergyFlag;
use super::source::{Gauge, Kind, Part, Source, Sources};
use crate::Roots;
use crate::battery::{self, NoDischarge};

/// The kernel's ACPI driver asks the firmware at most once a second (`cache_time` in drivers/acpi/battery.c).
const UPDATE_S: f64 = 1.0;
/// As much as [`battery`] believes.
const MACHINE_W_MAX: f64 = 10_000.0;

/// Reads what the batteries give.
#[derive(Debug)]
struct Batteries(Roots);

impl Gauge for Batteries {
    fn read(&self) -> Result<u64, EnergyFlag> {
        battery::discharge_uw(&self.0).map_err(|why| match why {
            NoDischarge::NoBattery | NoDischarge::NotDischarging => EnergyFlag::NotOnBattery,
            NoDischarge::Fault(fault) => fault.into(),
        })
    }
}

/// The battery, if the machine hangs on it now.
pub(crate) fn discover(roots: &Roots) -> Result<Sources, EnergyFlag> {
    let source = Source {
        name: "discharge".into(),
        place: roots.sys.join("class/power_supply"),
        part: Part::Summed,
        kind: Kind::Power,
        update_s: UPDATE_S,
        w_max: MACHINE_W_MAX,
        gauge: Box::new(Batteries(roots.clone())),
    };
    source.read()?;
    Ok(Sources {
        method: "battery",
        covers: "integrated from power samples, the whole machine with its display",
        list: vec![source],
    })
}
