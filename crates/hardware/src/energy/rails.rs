//! Supply rails of NVIDIA's Jetson boards, each behind a channel of an INA3221 power monitor.
//!
//! The kernel's driver gives each of the chip's three channels a label from the device tree, a voltage `inN_input` in
//! mV and a current `currN_input` in mA (Documentation/hwmon/ina3221.rst); power is their product. Which rail feeds what
//! is in the label (Jetson Linux Developer Guide, "Platform Power and Performance"): `VDD_CPU_CV`, `VDD_GPU_SOC`,
//! `VDD_CPU_GPU_CV`, and one like `VDD_IN` for the board's whole input, which contains the others.

use super::EnergyFlag;
use super::source::{Kind, Part, ProductGauge, Source, Sources};
use crate::Roots;
use crate::hwmon::{self, Chip};

/// Channels 1 to 3 are rails; those after it are sums and shunts.
const CHANNELS: std::ops::RangeInclusive<u32> = 1..=3;
/// The largest board, Thor, takes 130 W.
const RAIL_W_MAX: f64 = 500.0;
/// Where the driver does not tell how often the chip converts: its slowest useful setting.
const UPDATE_S: f64 = 0.1;
/// An `update_interval` above a minute is not one.
const UPDATE_MS_MAX: u64 = 60_000;

/// The rails that feed the device whose word is in their label, with all others beside.
pub(crate) fn discover(roots: &Roots, word: &str) -> Result<Sources, EnergyFlag> {
    let mut list = Vec::new();
    for chip in hwmon::chips(roots).iter().filter(|chip| chip.name.starts_with("ina3221")) {
        for channel in chip.channels(roots, "in", "input").into_iter().filter(|n| CHANNELS.contains(n)) {
            list.extend(rail(roots, chip, channel, word));
        }
    }
    // A channel that is switched off cannot be read at all.
    list.retain(|source| source.part == Part::Summed || source.read().is_ok());
    if !list.iter().any(|source| source.part == Part::Summed) {
        return Err(EnergyFlag::NoCounter { folder: roots.sys.join("class/hwmon") });
    }
    for source in &list {
        source.read()?;
    }
    Ok(Sources { method: "INA3221", covers: "integrated from power samples, all processes", list })
}

fn rail(roots: &Roots, chip: &Chip, channel: u32, word: &str) -> Option<Source> {
    let name = chip.label(roots, "in", channel)?;
    let millivolts = chip.file("in", channel, "input");
    let milliamperes = chip.file("curr", channel, "input");
    let interval_ms: Option<u64> = roots.number(&chip.folder.join("update_interval")).ok();
    let part = if name.to_uppercase().contains(word) { Part::Summed } else { Part::Beside };
    Some(Source {
        name,
        place: milliamperes.clone(),
        part,
        kind: Kind::Power,
        update_s: interval_ms
            .filter(|ms| (1..=UPDATE_MS_MAX).contains(ms))
            .map_or(UPDATE_S, |ms| ms as f64 * 1e-3),
        w_max: RAIL_W_MAX,
        gauge: Box::new(ProductGauge { files: roots.files.clone(), millivolts, milliamperes }),
    })
}
