//! Graphics devices: how they feel, and what they draw.
//!
//! Three doors lead to them, and each make of card is behind one: NVIDIA's driver library ([`crate::nvml`]), the
//! hardware monitor of `amdgpu`, `i915` and `xe`, and on Jetson boards the supply rails. The engine knows devices by the
//! name that its own driver (Vulkan, CUDA) gives them; [`named`] finds the sensors that belong to such a name.
//!
//! An integrated device of Intel has no sensor of its own: it is part of the processor's package, whose counter covers
//! it.

use crate::Roots;
use crate::energy::EnergyFlag;
use crate::energy::rails;
use crate::energy::source::{FileGauge, Gauge, Kind, Part, Source, Sources};
use crate::hwmon::{self, Chip};
use crate::nvml::{GpuDriver, GpuFault};
use crate::thermal::{self, Temperature, Trip, TripKind};
use qeil_units::{Celsius, Watts};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

/// More than any card draws, its peaks included: the largest modules of today are rated 1200 W.
const CARD_W_MAX: f64 = 5000.0;
/// NVML's figures move every 20 to 100 ms, depending on the card (Yang, Adamek and Armour, "Part-time Power
/// Measurements", 2023): the slowest of these.
const NVML_UPDATE_S: f64 = 0.1;
/// `amdgpu` gives what the card's own controller averaged; how often is not documented. Assumed to be no slower.
const AMDGPU_UPDATE_S: f64 = 0.1;
/// `i915` and `xe` read a counter of the RAPL kind at each call, updated about every millisecond (as in RAPL).
const INTEL_UPDATE_S: f64 = 1e-3;

/// Who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuMaker {
    /// NVIDIA, as a card.
    Nvidia,
    /// AMD.
    Amd,
    /// Intel, as a card.
    Intel,
    /// NVIDIA, as a part of a Jetson module.
    Tegra,
}

/// A device with sensors.
#[derive(Debug, Clone)]
pub struct Gpu {
    /// The maker's name where it is known, else the driver's and the PCI address.
    pub name: String,
    /// Who made it.
    pub maker: GpuMaker,
    /// PCI address.
    pub address: Option<String>,
    /// The most that its driver lets it take.
    pub power_limit: Option<Watts>,
    door: Door,
    roots: Roots,
}

#[derive(Debug, Clone)]
enum Door {
    Nvml { driver: Arc<dyn GpuDriver>, index: u32 },
    Hwmon(Chip),
    Rails,
}

/// How a device feels; what it does not tell is `None`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct GpuState {
    /// Share of time in which it worked, 0 to 1.
    pub utilisation: Option<f64>,
    /// Clock of its processors.
    pub clock_hz: Option<u64>,
    /// Its hottest sensor.
    pub temperature: Option<Temperature>,
    /// Memory in use.
    pub memory_used_bytes: Option<u64>,
    /// All memory.
    pub memory_total_bytes: Option<u64>,
    /// Why it runs slower than it could; `None` where it does not tell.
    pub throttled_by: Option<Vec<String>>,
}

/// All devices that have sensors. Without NVIDIA's driver (`None`) its cards are not among them.
pub fn find(roots: &Roots, nvidia: Option<&Arc<dyn GpuDriver>>) -> Vec<Gpu> {
    let identities = nvidia.map(|driver| driver.gpus().unwrap_or_default()).unwrap_or_default();
    let of_nvidia = identities.into_iter().zip(0u32..).filter_map(|(identity, index)| {
        Some(Gpu {
            name: identity.name,
            maker: GpuMaker::Nvidia,
            address: identity.address,
            power_limit: identity.power_limit_mw.map(|mw| Watts(f64::from(mw) * 1e-3)),
            door: Door::Nvml { driver: nvidia?.clone(), index },
            roots: roots.clone(),
        })
    });
    let chips = hwmon::chips(roots).into_iter().filter_map(|chip| of_chip(roots, chip));
    let tegra = rails::discover(roots, "GPU").is_ok().then(|| Gpu {
        name: "Tegra".into(),
        maker: GpuMaker::Tegra,
        address: None,
        power_limit: None,
        door: Door::Rails,
        roots: roots.clone(),
    });
    of_nvidia.chain(chips).chain(tegra).collect()
}

fn of_chip(roots: &Roots, chip: Chip) -> Option<Gpu> {
    let maker = match chip.name.as_str() {
        "amdgpu" => GpuMaker::Amd,
        "i915" | "xe" => GpuMaker::Intel,
        _ => return None,
    };
    let address = chip.bus_address();
    let limits = ["power1_cap", "power1_max"].into_iter();
    let limit_uw =
        limits.filter_map(|name| roots.number::<u64>(&chip.folder.join(name)).ok()).find(|uw| *uw > 0);
    Some(Gpu {
        name: [Some(chip.name.clone()), address.clone()].into_iter().flatten().collect::<Vec<_>>().join(" "),
        maker,
        address,
        power_limit: limit_uw.map(|uw| Watts(uw as f64 * 1e-6)),
        door: Door::Hwmon(chip),
        roots: roots.clone(),
    })
}

/// The device that the engine describes by `description`; where several fit, the one at `ordinal` among them.
pub fn named<'a>(gpus: &'a [Gpu], description: &str, ordinal: usize) -> Option<&'a Gpu> {
    let description = description.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| description.contains(word));
    let by_name = |gpu: &&Gpu| description.contains(&gpu.name.to_lowercase());
    let exact: Vec<&Gpu> = gpus.iter().filter(by_name).collect();
    if !exact.is_empty() {
        return exact.get(ordinal).copied();
    }
    let tegra = has(&["tegra", "orin", "xavier", "jetson", "nvgpu"]);
    let by_maker = |gpu: &&Gpu| match gpu.maker {
        GpuMaker::Tegra => tegra,
        // A card of NVIDIA's has told its name already.
        GpuMaker::Nvidia => false,
        GpuMaker::Amd => has(&["amd", "radeon"]),
        GpuMaker::Intel => has(&["intel"]) && has(&["arc", "data center gpu", "dg1", "dg2", "bmg"]),
    };
    gpus.iter().filter(by_maker).nth(ordinal)
}

impl Gpu {
    pub(crate) fn roots(&self) -> &Roots {
        &self.roots
    }

    /// What its energy can be read from: a counter before a power.
    pub(crate) fn sources(&self) -> Result<Sources, EnergyFlag> {
        match &self.door {
            Door::Rails => rails::discover(&self.roots, "GPU"),
            Door::Nvml { driver, index } => self.of_nvml(driver, *index),
            Door::Hwmon(chip) => self.of_hwmon(chip),
        }
    }

    fn of_nvml(&self, driver: &Arc<dyn GpuDriver>, index: u32) -> Result<Sources, EnergyFlag> {
        let source = |kind| Source {
            name: self.name.clone(),
            place: place(index),
            part: Part::Summed,
            kind,
            update_s: NVML_UPDATE_S,
            w_max: CARD_W_MAX,
            gauge: Box::new(NvmlGauge { driver: driver.clone(), index, kind }),
        };
        let counter = source(Kind::Counter { range_uj: None });
        if counter.read().is_ok_and(|uj| uj > 0) {
            return Ok(Sources {
                method: "NVML energy counter of",
                covers: "all processes",
                list: vec![counter],
            });
        }
        let power = source(Kind::Power);
        power.read()?;
        let covers = "integrated from power samples, all processes";
        Ok(Sources { method: "NVML power of", covers, list: vec![power] })
    }

    fn of_hwmon(&self, chip: &Chip) -> Result<Sources, EnergyFlag> {
        let roots = &self.roots;
        let source = |path: PathBuf, kind, update_s| Source {
            name: self.name.clone(),
            place: path.clone(),
            part: Part::Summed,
            kind,
            update_s,
            w_max: CARD_W_MAX,
            gauge: Box::new(FileGauge { files: roots.files.clone(), path }),
        };
        // The first energy channel is the card's where there are several, and contains the others.
        if let Some(channel) = chip.channels(roots, "energy", "input").first() {
            let path = chip.file("energy", *channel, "input");
            let counter = source(path, Kind::Counter { range_uj: None }, INTEL_UPDATE_S);
            counter.read()?;
            return Ok(Sources {
                method: "hwmon energy counter of",
                covers: "all processes",
                list: vec![counter],
            });
        }
        let candidates = ["power1_average", "power1_input"].map(|name| chip.folder.join(name));
        let mut why = EnergyFlag::NoCounter { folder: chip.folder.clone() };
        for path in candidates {
            let power = source(path, Kind::Power, AMDGPU_UPDATE_S);
            match power.read() {
                Ok(_) => {
                    let covers = "integrated from power samples, all processes";
                    return Ok(Sources { method: "hwmon power of", covers, list: vec![power] });
                }
                Err(flag @ (EnergyFlag::CounterDenied { .. } | EnergyFlag::CounterGarbled { .. })) => {
                    why = flag
                }
                Err(_) => {}
            }
        }
        Err(why)
    }

    /// How it feels now.
    pub fn state(&self) -> GpuState {
        match &self.door {
            Door::Rails => GpuState::default(),
            Door::Nvml { driver, index } => {
                let found = driver.figures(*index);
                let trip = |at_c: Option<f64>, kind| at_c.map(|at_c| Trip { kind, at_c: Celsius(at_c) });
                let trips =
                    [trip(found.slowdown_c, TripKind::Slow), trip(found.shutdown_c, TripKind::Critical)];
                GpuState {
                    utilisation: found.utilisation,
                    clock_hz: found.clock_hz,
                    temperature: found.temperature_c.map(|c| Temperature {
                        sensor: self.name.clone(),
                        reading: Ok(Celsius(c)),
                        trips: trips.into_iter().flatten().collect(),
                    }),
                    memory_used_bytes: found.memory_used_bytes,
                    memory_total_bytes: found.memory_total_bytes,
                    throttled_by: found.throttled_by.map(|by| by.into_iter().map(str::to_owned).collect()),
                }
            }
            Door::Hwmon(chip) => {
                let number = |path: PathBuf| self.roots.number::<u64>(&path).ok();
                let device = |name: &str| number(chip.device().join(name));
                let degrees = |t: &Temperature| t.reading.as_ref().map_or(f64::NEG_INFINITY, |c| c.0);
                let temperatures = thermal::of_chip(&self.roots, chip).into_iter();
                GpuState {
                    utilisation: device("gpu_busy_percent").filter(|p| *p <= 100).map(|p| p as f64 / 100.0),
                    clock_hz: number(chip.file("freq", 1, "input")),
                    temperature: temperatures.max_by(|a, b| degrees(a).total_cmp(&degrees(b))),
                    memory_used_bytes: device("mem_info_vram_used"),
                    memory_total_bytes: device("mem_info_vram_total"),
                    throttled_by: None,
                }
            }
        }
    }
}

fn place(index: u32) -> PathBuf {
    format!("of NVIDIA device {index}").into()
}

/// A figure of NVIDIA's driver, in millionths.
#[derive(Debug)]
struct NvmlGauge {
    driver: Arc<dyn GpuDriver>,
    index: u32,
    kind: Kind,
}

impl Gauge for NvmlGauge {
    fn read(&self) -> Result<u64, EnergyFlag> {
        let thousandths = match self.kind {
            Kind::Counter { .. } => self.driver.energy_mj(self.index),
            Kind::Power => self.driver.power_mw(self.index).map(u64::from),
        };
        let path = place(self.index);
        match thousandths {
            Ok(found) => found
                .checked_mul(1000)
                .ok_or_else(|| EnergyFlag::CounterGarbled { path, found: found.to_string() }),
            Err(GpuFault::Denied) => Err(EnergyFlag::CounterDenied { path }),
            Err(fault) => Err(EnergyFlag::CounterUnreadable { path, error: fault.to_string() }),
        }
    }
}
