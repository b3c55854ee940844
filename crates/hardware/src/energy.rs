//! The energy of a span of time.
//!
//! Cumulative counters come before power samples, and both before models: a counter misses nothing between two reads.
//! Where nothing can be read (virtual machines have no sensor; since Linux 5.10 RAPL is root's alone), the energy is
//! **estimated** from busy time and a power envelope, and the reading's source says with which figures. Whatever spoils
//! a sensor in the middle of a span (it vanishes, jumps, stands still) turns that span's reading into an estimate with
//! a flag: no reading mixes both.
//!
//! Traps that this module knows:
//! - a counter wraps at `max_energy_range_uj`, after minutes at full power, and a power sensor only speaks of the
//!   moment: long spans call [`EnergyMeter::tick`] at least every [`EnergyMeter::tick_period`];
//! - it counts the whole package, other processes included; [`EnergyReading::net`] subtracts an idle baseline;
//! - it is updated every millisecond (RAPL) to every second (battery): shorter spans than ten updates are flagged;
//! - the domains core, uncore and psys overlap the package: adding them would count twice, so they are shown beside;
//! - in virtual machines a counter may exist and stay at zero.

pub(crate) mod discharge;
mod envelope;
mod flag;
pub(crate) mod powercap;
pub(crate) mod rails;
pub(crate) mod source;
mod track;

pub use envelope::{Envelope, EnvelopeError};
pub use flag::EnergyFlag;

use crate::gpu::Gpu;
use crate::usage::CpuTimes;
use crate::{Roots, cpu::Cpu};
use qeil_units::{Joules, Labelled, Provenance, Seconds, Watts};
use serde::{Deserialize, Serialize};
use source::Sources;
use std::time::{Duration, Instant};
use track::{Finished, Tracks};

/// Shortest span a power is computed for: the clock's own resolution, so that no division is by zero.
const SPAN_S_MIN: f64 = 1e-9;
/// An idle baseline is taken in steps no longer than this, so that a power sensor is read often enough.
const IDLE_STEP_S_MAX: f64 = 1.0;

/// Measures the energy of spans on one device.
#[derive(Debug)]
pub struct EnergyMeter {
    sources: Result<Sources, EnergyFlag>,
    envelope: Envelope,
    /// What the estimate counts the busy time of.
    units: Units,
    idle: Option<Labelled<Watts>>,
    roots: Roots,
    opened: Instant,
}

/// What can be busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Units {
    /// Each of so many logical CPUs.
    LogicalCpus(u32),
    /// The device as a whole.
    Device,
}

/// A span that has begun.
#[derive(Debug)]
pub struct Span {
    began: Duration,
    tracks: Result<Tracks, EnergyFlag>,
}

/// What a span took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnergyReading {
    /// All energy of the device during the span: for the processor, of its packages.
    pub gross: Labelled<Joules>,
    /// The energy above idle. `None` if measured and no idle baseline is known ([`EnergyMeter::set_idle`]).
    pub net: Option<Labelled<Joules>>,
    /// Mean gross power.
    pub power: Labelled<Watts>,
    /// Length of the span.
    pub seconds: Seconds,
    /// Update periods of the sensor that the span covered; missing for an estimate.
    #[serde(default)]
    pub updates: Option<u64>,
    /// What each domain of the device took, where it was measured; those that overlap others are not in the sum.
    #[serde(default)]
    pub domains: Vec<Domain>,
    /// What a reader should know about this reading; empty if it is plainly good.
    pub flags: Vec<EnergyFlag>,
}

/// The energy of one part of a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Domain {
    /// `package-0`, `dram of package-0`, `psys`, `VDD_GPU_SOC`.
    pub name: String,
    /// What it took.
    pub energy: Joules,
    /// Whether it is part of the reading's gross energy, or only shown.
    pub summed: bool,
}

impl EnergyMeter {
    /// The meter of the processor: its packages, else its supply rails, else the battery it hangs on. `envelope` is
    /// used where there is nothing of all that, or it fails.
    pub fn open(roots: &Roots, envelope: Envelope) -> Self {
        let counters = powercap::discover(roots);
        // What can be done about a counter is the best advice, so its absence is what is told.
        let sources = counters.or_else(|why| {
            rails::discover(roots, "CPU").or_else(|_| discharge::discover(roots)).map_err(|_| why)
        });
        Self::over(roots, sources, envelope, Units::LogicalCpus(Cpu::read(roots).logical_cpus))
    }

    /// The meter of a graphics device. A device without a sensor of its own that shares the processor's package is
    /// covered by [`EnergyMeter::open`].
    pub fn open_gpu(gpu: &Gpu, envelope: Envelope) -> Self {
        Self::over(gpu.roots(), gpu.sources(), envelope, Units::Device)
    }

    pub(crate) fn over(
        roots: &Roots,
        sources: Result<Sources, EnergyFlag>,
        envelope: Envelope,
        units: Units,
    ) -> Self {
        Self { sources, envelope, units, idle: None, roots: roots.clone(), opened: Instant::now() }
    }

    /// The label that readings of this meter will have, unless something fails during a span.
    pub fn provenance(&self) -> Provenance {
        if self.sources.is_ok() { Provenance::Measured } else { Provenance::Estimated }
    }

    /// Where the figures come from, for a table.
    pub fn source(&self) -> String {
        match &self.sources {
            Ok(sources) => sources.text(&[]),
            Err(_) => self.envelope.source(self.units),
        }
    }

    /// Why nothing can be measured, with the way to change it.
    pub fn missing(&self) -> Option<&EnergyFlag> {
        self.sources.as_ref().err()
    }

    /// Sets the power of the idle device, as [`EnergyMeter::measure_idle`] gave it. Only measured spans need it: an
    /// estimate knows its own idle share.
    pub fn set_idle(&mut self, idle: Labelled<Watts>) {
        self.idle = Some(idle);
    }

    /// Measures the power of the device while the caller does nothing, and blocks for `duration`. The source says how
    /// busy the machine was meanwhile: a baseline taken beside other work is too high. Without a sensor the envelope's
    /// idle power comes at once, as an estimate.
    pub fn measure_idle(&self, duration: Duration) -> Labelled<Watts> {
        self.measure_idle_by(duration, |step| {
            std::thread::sleep(step);
            self.opened.elapsed()
        })
    }

    /// `wait` lets the given time pass, and says what time it is.
    fn measure_idle_by(
        &self,
        duration: Duration,
        mut wait: impl FnMut(Duration) -> Duration,
    ) -> Labelled<Watts> {
        if self.sources.is_err() {
            return Labelled::estimated(self.envelope.idle(), self.envelope.source(self.units));
        }
        let before = CpuTimes::read(&self.roots);
        let began = wait(Duration::ZERO);
        let mut span = self.begin_at(began);
        let mut now = began;
        let step_s = self.tick_period().map_or(IDLE_STEP_S_MAX, |period| period.0.min(IDLE_STEP_S_MAX));
        while let Some(left) = duration.checked_sub(now.saturating_sub(began)).filter(|left| !left.is_zero())
        {
            now = wait(left.min(Duration::from_secs_f64(step_s)));
            self.tick_at(&mut span, now);
        }
        let power = self.end_at(span, now, 0.0).power;
        let used = match (before, CpuTimes::read(&self.roots)) {
            (Ok(before), Ok(after)) => crate::usage::utilisation(&before, &after),
            _ => None,
        };
        let used = used.map_or("unknown".into(), |share| format!("{:.0} %", share * 100.0));
        let source = format!("{}, idle for {:.1} s, CPU use {used}", power.source, duration.as_secs_f64());
        Labelled { source, ..power }
    }

    /// How often a long span has to be ticked, so that no wrap of a counter goes unseen and a power sensor is sampled;
    /// `None` if never.
    pub fn tick_period(&self) -> Option<Seconds> {
        self.sources.as_ref().ok().and_then(Sources::tick_s).map(Seconds)
    }

    /// Begins a span.
    pub fn begin(&self) -> Span {
        self.begin_at(self.opened.elapsed())
    }

    /// Reads the sensors inside a span.
    pub fn tick(&self, span: &mut Span) {
        self.tick_at(span, self.opened.elapsed());
    }

    /// How long a span has lasted so far.
    pub fn length(&self, span: &Span) -> Seconds {
        self.opened.elapsed().saturating_sub(span.began).into()
    }

    /// Ends a span. `busy_s` is what the estimate rests on, in seconds: for the processor, the CPU time that the work
    /// used meanwhile (user and system, all threads and processes of it); for another device, the time that it worked,
    /// at most the length of the span. NaN says that it is not known.
    pub fn end(&self, span: Span, busy_s: f64) -> EnergyReading {
        self.end_at(span, self.opened.elapsed(), busy_s)
    }

    fn begin_at(&self, now: Duration) -> Span {
        let tracks = match &self.sources {
            Err(flag) => Err(flag.clone()),
            Ok(sources) => Tracks::begin(sources, now),
        };
        Span { began: now, tracks }
    }

    fn tick_at(&self, span: &mut Span, now: Duration) {
        if let (Ok(sources), Ok(tracks)) = (&self.sources, &mut span.tracks)
            && let Err(flag) = tracks.advance(sources, now)
        {
            span.tracks = Err(flag);
        }
    }

    fn end_at(&self, mut span: Span, now: Duration, busy_s: f64) -> EnergyReading {
        self.tick_at(&mut span, now);
        let seconds = Seconds(now.saturating_sub(span.began).as_secs_f64().max(SPAN_S_MIN));
        let finished = match (&self.sources, span.tracks) {
            (Ok(sources), Ok(tracks)) => tracks.finish(sources, seconds),
            (Err(flag), _) => Err(flag.clone()),
            (_, Err(flag)) => Err(flag),
        };
        match finished {
            Ok(finished) => self.measured(finished, seconds),
            Err(flag) => self.estimated(seconds, busy_s, flag),
        }
    }

    fn measured(&self, finished: Finished, seconds: Seconds) -> EnergyReading {
        let Finished { gross, updates, domains, mut flags, source } = finished;
        let gross = Labelled::measured(gross, source);
        let net =
            self.idle.clone().map(|idle| gross.clone().combine(idle, |gross, idle| gross - idle * seconds));
        if net.as_ref().is_some_and(|net| net.value.0 < 0.0) {
            flags.push(EnergyFlag::BelowIdle);
        }
        let power = gross.clone().map(|gross| gross / seconds);
        EnergyReading { gross, net, power, seconds, updates: Some(updates), domains, flags }
    }

    fn estimated(&self, seconds: Seconds, busy_s: f64, why: EnergyFlag) -> EnergyReading {
        let mut flags = vec![why];
        if self.envelope.is_assumed() {
            flags.push(EnergyFlag::AssumedEnvelope);
        }
        let all_s = seconds.0 * self.units.count();
        let busy_s = if busy_s.is_finite() && busy_s >= 0.0 {
            // CPU time is counted in ticks and may run a little ahead of the clock.
            busy_s.min(all_s)
        } else {
            flags.push(EnergyFlag::CpuTimeUnknown);
            all_s
        };
        let net = self.envelope.busy_unit(self.units) * Seconds(busy_s);
        let gross = net + self.envelope.idle() * seconds;
        let label = |joules| Labelled::estimated(joules, self.envelope.source(self.units));
        let power = label(gross).map(|gross| gross / seconds);
        let (gross, net) = (label(gross), Some(label(net)));
        EnergyReading { gross, net, power, seconds, updates: None, domains: vec![], flags }
    }
}

impl Units {
    fn count(self) -> f64 {
        match self {
            Self::LogicalCpus(cpus) => f64::from(cpus.max(1)),
            Self::Device => 1.0,
        }
    }
}

#[cfg(test)]
mod tests;
