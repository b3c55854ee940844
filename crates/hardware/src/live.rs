//! The devices as they are now, and what they drew since they were last looked at.
//!
//! A [`Watcher`] holds a meter for each device and a span that is always open: looking at it ends the span and begins
//! the next, so that power covers all the time between two looks. Power sensors want to be sampled meanwhile
//! ([`Watcher::tick`]).

use crate::Roots;
use crate::catalogue::Catalogue;
use crate::cpu::Cpu;
use crate::energy::{EnergyMeter, Envelope, Span};
use crate::files::Fault;
use crate::frequency::Frequencies;
use crate::gpu::{self, Gpu};
use crate::memory::Memory;
use crate::nvml::GpuDriver;
use crate::thermal::{self, Temperature, Throttling};
use crate::usage::{self, CpuTimes};
use qeil_units::{Labelled, Seconds, Watts};
use serde::Serialize;
use std::sync::Arc;

/// One device at one moment; what it does not tell is `None`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceState {
    /// Its name.
    pub name: String,
    /// Share of time it worked since the last look, 0 to 1.
    pub utilisation: Option<f64>,
    /// Its clock, for the processor the mean over its CPUs.
    pub clock_hz: Option<f64>,
    /// The sensor that speaks for it.
    pub temperature: Option<Temperature>,
    /// Mean power since the last look; missing on the first one.
    pub power: Option<Labelled<Watts>>,
    /// Memory in use.
    pub memory_used_bytes: Option<u64>,
    /// All memory.
    pub memory_total_bytes: Option<u64>,
    /// Why it ran slower than it could since the last look; `None` where it does not tell.
    pub throttled_by: Option<Vec<String>>,
}

/// Looks at all devices again and again.
#[derive(Debug)]
pub struct Watcher {
    roots: Roots,
    cpu_name: String,
    meter: EnergyMeter,
    span: Option<Span>,
    times: Result<CpuTimes, Fault>,
    throttling: Option<Throttling>,
    cards: Vec<Card>,
}

#[derive(Debug)]
struct Card {
    gpu: Gpu,
    meter: EnergyMeter,
    span: Option<Span>,
}

impl Watcher {
    /// Finds the devices and begins to watch them.
    pub fn open(
        roots: &Roots,
        nvidia: Option<&Arc<dyn GpuDriver>>,
        envelope: Envelope,
        catalogue: &Catalogue,
    ) -> Self {
        let meter = EnergyMeter::open(roots, envelope);
        let card = |gpu: Gpu| {
            let meter = EnergyMeter::open_gpu(&gpu, Envelope::of_gpu(&gpu, catalogue));
            Card { span: Some(meter.begin()), meter, gpu }
        };
        Self {
            cpu_name: Cpu::read(roots).model.unwrap_or_else(|| "processor".into()),
            span: Some(meter.begin()),
            meter,
            times: CpuTimes::read(roots),
            throttling: Throttling::read(roots),
            cards: gpu::find(roots, nvidia).into_iter().map(card).collect(),
            roots: roots.clone(),
        }
    }

    /// How often [`Watcher::tick`] wants to be called; `None` if never.
    pub fn tick_period(&self) -> Option<Seconds> {
        let cards = self.cards.iter().filter_map(|card| card.meter.tick_period());
        let all = cards.chain(self.meter.tick_period());
        all.reduce(|a, b| if a < b { a } else { b })
    }

    /// Samples the sensors of power.
    pub fn tick(&mut self) {
        self.span.iter_mut().for_each(|span| self.meter.tick(span));
        for card in &mut self.cards {
            card.span.iter_mut().for_each(|span| card.meter.tick(span));
        }
    }

    /// Every device, the processor first, since the last look.
    pub fn look(&mut self) -> Vec<DeviceState> {
        let mut states = vec![self.look_at_cpu()];
        states.extend(self.cards.iter_mut().map(Card::look));
        states
    }

    fn look_at_cpu(&mut self) -> DeviceState {
        let times = CpuTimes::read(&self.roots);
        let (used, busy_s) = match (&self.times, &times) {
            (Ok(before), Ok(after)) => (usage::utilisation(before, after), usage::busy_s(before, after)),
            _ => (None, None),
        };
        self.times = times;
        let power = turn(&self.meter, &mut self.span, busy_s.unwrap_or(f64::NAN));
        let throttling = Throttling::read(&self.roots);
        let events = match (&self.throttling, &throttling) {
            (Some(before), Some(after)) => after.since(before),
            _ => None,
        };
        self.throttling = throttling;
        let temperatures = thermal::temperatures(&self.roots);
        let memory = Memory::read(&self.roots).ok();
        DeviceState {
            name: self.cpu_name.clone(),
            utilisation: used,
            clock_hz: Frequencies::read(&self.roots).map(|found| found.mean_hz),
            temperature: thermal::processor(&temperatures).cloned(),
            power,
            memory_used_bytes: memory.and_then(|memory| memory.used_bytes()),
            memory_total_bytes: memory.map(|memory| memory.total_bytes),
            throttled_by: events.map(|events| {
                let hot = events.core_events + events.package_events > 0;
                if hot { vec!["heat".into()] } else { vec![] }
            }),
        }
    }
}

impl Card {
    fn look(&mut self) -> DeviceState {
        let state = self.gpu.state();
        let share = state.utilisation.unwrap_or(f64::NAN);
        let power = turn_share(&self.meter, &mut self.span, share);
        DeviceState {
            name: self.gpu.name.clone(),
            utilisation: state.utilisation,
            clock_hz: state.clock_hz.map(|hz| hz as f64),
            temperature: state.temperature,
            power,
            memory_used_bytes: state.memory_used_bytes,
            memory_total_bytes: state.memory_total_bytes,
            throttled_by: state.throttled_by,
        }
    }
}

/// Ends the span and begins the next.
fn turn(meter: &EnergyMeter, span: &mut Option<Span>, busy_s: f64) -> Option<Labelled<Watts>> {
    let ended = span.replace(meter.begin())?;
    Some(meter.end(ended, busy_s).power)
}

/// The same where a share of the span is known.
fn turn_share(meter: &EnergyMeter, span: &mut Option<Span>, share: f64) -> Option<Labelled<Watts>> {
    let ended = span.replace(meter.begin())?;
    let busy_s = meter.length(&ended).0 * share;
    Some(meter.end(ended, busy_s).power)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fixture::Tree;
    use qeil_units::Provenance;

    #[test]
    fn a_processor_and_a_card_are_watched() {
        let tree = Tree::new(&[
            ("proc/cpuinfo", "processor : 0\nmodel name : Some\n"),
            ("proc/stat", "cpu 0 0 0 0\n"),
            ("proc/meminfo", "MemTotal: 100 kB\nMemAvailable: 60 kB\n"),
            ("sys/devices/system/cpu/online", "0\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "2000000\n"),
            ("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "1\n"),
            ("sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", "1\n"),
            ("sys/class/hwmon/hwmon0/name", "amdgpu\n"),
            ("sys/class/hwmon/hwmon0/temp1_input", "50000\n"),
            ("sys/class/hwmon/hwmon0/device/gpu_busy_percent", "50\n"),
        ]);
        let envelope = Envelope::from_watts(Watts(10.0), Watts(20.0)).unwrap();
        let catalogue = Catalogue::builtin().unwrap();
        let mut watcher = Watcher::open(&tree.roots(), None, envelope, &catalogue);
        assert_eq!(watcher.tick_period(), None);
        watcher.tick();
        tree.write("proc/stat", "cpu 30 0 0 70\n");
        tree.write("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "2\n");
        let [cpu, card] = &watcher.look()[..] else { panic!("a processor and a card") };
        assert_eq!((cpu.name.as_str(), cpu.utilisation, cpu.clock_hz), ("Some", Some(0.3), Some(2e9)));
        assert_eq!((cpu.memory_used_bytes, cpu.memory_total_bytes), (Some(40 << 10), Some(100 << 10)));
        assert_eq!(cpu.throttled_by, Some(vec!["heat".to_string()]));
        assert_eq!(cpu.temperature, None);
        assert_eq!(cpu.power.as_ref().unwrap().provenance, Provenance::Estimated);
        assert_eq!(card.utilisation, Some(0.5));
        // The envelope of an unknown card is 15 to 75 W: half of it busy.
        let watts = card.power.as_ref().unwrap().value.0;
        assert!((watts - 45.0).abs() < 1.0, "{watts}");
        // Nothing moved since: no tick fell into the span, so there is no share.
        let again = watcher.look();
        assert_eq!((again[0].utilisation, again[0].throttled_by.as_deref()), (None, Some(&[][..])));
    }
}
