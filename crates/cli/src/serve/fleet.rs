//! The devices that `qeil serve` serves on: where each runs, how hot it may get, what its work costs.
//!
//! The control loop needs a first idea of a device's speed and power. It comes from a trial of a second or two on the
//! device itself, with the very settings that will serve, so nothing is assumed about which device suits which phase. The
//! loop corrects it as it sees the device work.

use anyhow::{Context, Result, bail};
use qeil_control::config::{DeviceConfig, ThermalLimits};
use qeil_engine::handle::{Launch, Worker};
use qeil_engine::spec::{DeviceEntry, DeviceKind, LoadSpec};
use qeil_hardware::cpu::Cpu;
use qeil_hardware::energy::{EnergyMeter, Envelope};
use qeil_hardware::gpu::{self, Gpu};
use qeil_hardware::live::DeviceState;
use qeil_hardware::{Roots, catalogue::Catalogue};
use qeil_orchestrate::profile::measure;
use std::path::Path;
use std::time::Duration;

/// How long the idle device is watched, where a sensor tells its power: five updates of the slowest.
const IDLE_WATCHED: Duration = Duration::from_millis(500);
/// Between two looks at a sensor of power, at most: a trial takes a second or two.
const TICK_MOST: Duration = Duration::from_millis(200);
/// A device with a sensor that names no limit is taken to bear what most processors do (Intel and AMD data sheets give 95
/// to 105 °C). The page that is printed at the start says so.
const MAX_ASSUMED_C: f64 = 100.0;
/// Words in the description of a GPU that is computed on the processor: Mesa's lavapipe.
const SOFTWARE_GPU: &str = "llvmpipe";

/// A device before it is tried.
#[derive(Debug)]
pub struct Station {
    /// Name in the journal and in answers.
    pub name: String,
    /// What its worker loads.
    pub spec: LoadSpec,
    /// Devices of one kin compute the same numbers.
    pub kin: String,
    /// Its place among the sensors.
    pub place: Option<usize>,
    /// How hot it may get.
    pub thermal: Option<ThermalLimits>,
    /// Where that is from.
    pub thermal_source: String,
}

/// What all stations have in common.
#[derive(Debug, Clone, Copy)]
pub struct Shared<'a> {
    pub model: &'a Path,
    pub threads: Option<u32>,
    /// Engines that the processor's cores are shared out over.
    pub split_cpu: u32,
    pub context_tokens: u32,
    pub sequences: u32,
}

/// A station for each device, and several for a processor that is split.
///
/// # Errors
/// The processor has fewer CPUs than engines.
pub fn stations(
    devices: &[DeviceEntry],
    shared: Shared<'_>,
    cpu: &Cpu,
    gpus: &[Gpu],
    states: &[DeviceState],
) -> Result<Vec<Station>> {
    let mut stations = Vec::new();
    for device in devices {
        let mut spec = LoadSpec::new(shared.model, &device.name);
        spec.threads = shared.threads.unwrap_or(spec.threads);
        (spec.context_tokens, spec.sequences) = (shared.context_tokens, shared.sequences);
        spec.prefix_cache_tokens = spec.prefix_cache_tokens.min(spec.context_tokens / 4);
        let place = place(device, gpus);
        let (thermal, thermal_source) = thermal(place.and_then(|place| states.get(place)));
        let mut add = |name: String, spec: LoadSpec| {
            let kin = format!("{} with {} threads", device.name, spec.threads);
            let thermal_source = thermal_source.clone();
            stations.push(Station { name, spec, kin, place, thermal, thermal_source });
        };
        if device.kind == DeviceKind::Cpu && shared.split_cpu > 1 {
            for (part, cpus) in shares(&cpu.spread(), shared.split_cpu)?.into_iter().enumerate() {
                let threads = cpus.len() as u32;
                add(format!("{}/{part}", device.name), LoadSpec { threads, cpus, ..spec.clone() });
            }
        } else {
            add(device.name.clone(), spec);
        }
    }
    Ok(stations)
}

/// As many equal shares of the CPUs; what does not divide is left to the system.
fn shares(cpus: &[u32], parts: u32) -> Result<Vec<Vec<u32>>> {
    let each = cpus.len() / parts as usize;
    if each == 0 {
        bail!("--split-cpu {parts}: this program may use {} CPUs", cpus.len());
    }
    Ok(cpus.chunks_exact(each).take(parts as usize).map(<[u32]>::to_vec).collect())
}

/// Which of the sensors speaks for a device: the processor's is first, then the graphics devices in their order.
fn place(device: &DeviceEntry, gpus: &[Gpu]) -> Option<usize> {
    if device.kind == DeviceKind::Cpu || device.description.contains(SOFTWARE_GPU) {
        return Some(0);
    }
    let ordinal = device.name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(0);
    let known =
        gpu::named(gpus, &device.description, ordinal).or(gpu::named(gpus, &device.description, 0))?;
    gpus.iter().position(|gpu| std::ptr::eq(gpu, known)).map(|at| at + 1)
}

fn thermal(state: Option<&DeviceState>) -> (Option<ThermalLimits>, String) {
    let Some(sensor) = state.and_then(|state| state.temperature.as_ref()) else {
        return (None, "no temperature sensor: its heat is not guarded".into());
    };
    match sensor.limit() {
        Some(limit) => {
            (Some(ThermalLimits::new(limit.0)), format!("limit {:.0} °C by {}", limit.0, sensor.sensor))
        }
        None => (
            Some(ThermalLimits::new(MAX_ASSUMED_C)),
            format!("limit {MAX_ASSUMED_C:.0} °C assumed: {} names none", sensor.sensor),
        ),
    }
}

/// Meters of all places.
#[derive(Debug)]
pub struct Meters(Vec<EnergyMeter>);

impl Meters {
    /// The processor's and each graphics device's.
    pub fn open(roots: &Roots, envelope: Envelope, gpus: &[Gpu], catalogue: &Catalogue) -> Self {
        let of_gpu = |gpu: &Gpu| EnergyMeter::open_gpu(gpu, Envelope::of_gpu(gpu, catalogue));
        let processor = [EnergyMeter::open(roots, envelope)];
        Self(processor.into_iter().chain(gpus.iter().map(of_gpu)).collect())
    }

    /// Where the energy of a place comes from.
    pub fn source(&self, place: Option<usize>) -> String {
        match place.and_then(|place| self.0.get(place)) {
            None => "missing: no sensor covers it".into(),
            Some(meter) => format!("{}: {}", meter.provenance(), meter.source()),
        }
    }

    fn of(&self, place: Option<usize>) -> &EnergyMeter {
        // The processor feeds every device, so its figures are the ones to go by where a device tells none.
        place.and_then(|place| self.0.get(place)).unwrap_or(&self.0[0])
    }
}

/// Start the station's worker once, measure what its work costs, and end it.
///
/// # Errors
/// The worker cannot be started or fails.
pub async fn trial(station: &Station, launch: &Launch, meters: &Meters) -> Result<DeviceConfig> {
    let failed = || format!("{}: the trial of its speed failed", station.name);
    let meter = meters.of(station.place);
    let idle_w = meter.measure_idle(IDLE_WATCHED).value.0;
    let worker = Worker::start(launch, station.spec.clone()).await.with_context(failed)?;
    let mut span = meter.begin();
    let period = meter.tick_period().map_or(TICK_MOST, |period| Duration::from_secs_f64(period.0));
    // Joules at one watt: the meter tells the true watts of this very span.
    let measuring = measure(&worker, 1.0, idle_w);
    tokio::pin!(measuring);
    let mut profile = loop {
        tokio::select! {
            done = &mut measuring => break done.with_context(failed)?,
            () = tokio::time::sleep(period.min(TICK_MOST)) => meter.tick(&mut span),
        }
    };
    let busy_s = meter.length(&span).0 * f64::from(station.spec.threads);
    let power_w = meter.end(span, busy_s).power.value.0;
    worker.stop().await;
    for joules in [&mut profile.prefill_j_per_token, &mut profile.step_j, &mut profile.step_j_per_sequence] {
        *joules *= power_w;
    }
    Ok(DeviceConfig {
        name: station.name.clone(),
        kin: station.kin.clone(),
        sequences_max: station.spec.sequences,
        context_tokens: station.spec.context_tokens,
        chunk_tokens: Some(station.spec.ubatch_tokens),
        profile,
        thermal: station.thermal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_the_cpus() {
        // CPUs, parts, shares or none
        type Case = (&'static [u32], u32, Option<&'static [&'static [u32]]>);
        let cases: [Case; 4] = [
            (&[0, 2, 1, 3], 2, Some(&[&[0, 2], &[1, 3]])),
            (&[0, 1, 2], 2, Some(&[&[0], &[1]])),
            (&[5], 1, Some(&[&[5]])),
            (&[0, 1], 3, None),
        ];
        for (cpus, parts, expected) in cases {
            let expected =
                expected.map(|shares| shares.iter().map(|share| share.to_vec()).collect::<Vec<_>>());
            assert_eq!(shares(cpus, parts).ok(), expected, "{cpus:?} in {parts}");
        }
    }

    #[test]
    fn a_device_without_a_sensor_is_not_guarded_and_says_so() {
        let (limits, source) = thermal(None);
        assert!(limits.is_none() && source.contains("not guarded"));
    }
}
