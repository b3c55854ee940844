//! The energy of a span of time.
//!
//! Cumulative counters come before power samples and before models: a counter misses nothing between two
//! reads. Where no counter can be read (virtual machines have none; since Linux 5.10 it is root's alone), the
//! energy is **estimated** from CPU time and a power envelope, and the reading's source says with which
//! figures. Whatever spoils a counter in the middle of a span (it vanishes, jumps, stands still) turns that
//! span's reading into an estimate with a flag: no reading mixes both.
//!
//! Traps that this module knows:
//! - the counter wraps at `max_energy_range_uj`, after minutes at full power: long spans call
//!   [`EnergyMeter::tick`] at least every [`EnergyMeter::tick_period`];
//! - it counts the whole package, other processes included; [`EnergyReading::net`] subtracts an idle baseline;
//! - it is updated about every millisecond: shorter spans than ten updates are flagged;
//! - the domains core, uncore and psys overlap the package: adding them would count twice;
//! - in virtual machines it may exist and stay at zero.

mod envelope;
mod flag;
mod powercap;

pub use envelope::{Envelope, EnvelopeError};
pub use flag::EnergyFlag;

use crate::{Roots, cpu::Cpu};
use powercap::{Counters, Package};
use qeil_units::{Joules, Labelled, Provenance, Seconds, Watts};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Shortest span a power is computed for: the clock's own resolution, so that no division is by zero.
const SPAN_S_MIN: f64 = 1e-9;
/// Spans shorter than ten updates of the counter are dominated by when the updates fall.
const SPAN_UPDATES_MIN: f64 = 10.0;

/// Measures the energy of spans on one machine.
#[derive(Debug)]
pub struct EnergyMeter {
    packages: Vec<Package>,
    /// Why there are no packages.
    missing: Option<EnergyFlag>,
    envelope: Envelope,
    logical_cpus: u32,
    idle: Option<Labelled<Watts>>,
    opened: Instant,
}

/// A span that has begun.
#[derive(Debug)]
pub struct Span {
    began: Duration,
    counters: Result<Counters, EnergyFlag>,
}

/// What a span took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnergyReading {
    /// All energy of the processor packages during the span.
    pub gross: Labelled<Joules>,
    /// The energy above idle. `None` if measured and no idle baseline is known ([`EnergyMeter::set_idle`]).
    pub net: Option<Labelled<Joules>>,
    /// Mean gross power.
    pub power: Labelled<Watts>,
    /// Length of the span.
    pub seconds: Seconds,
    /// What a reader should know about this reading; empty if it is plainly good.
    pub flags: Vec<EnergyFlag>,
}

impl EnergyMeter {
    /// Looks for counters; `envelope` is used where there are none, or they fail.
    pub fn open(roots: &Roots, envelope: Envelope) -> Self {
        let (packages, missing) = match powercap::discover(roots) {
            Ok(packages) => (packages, None),
            Err(flag) => (Vec::new(), Some(flag)),
        };
        let logical_cpus = Cpu::read(roots).logical_cpus;
        Self { packages, missing, envelope, logical_cpus, idle: None, opened: Instant::now() }
    }

    /// The label that readings of this meter will have, unless something fails during a span.
    pub fn provenance(&self) -> Provenance {
        if self.missing.is_none() { Provenance::Measured } else { Provenance::Estimated }
    }

    /// Where the figures come from, for a table.
    pub fn source(&self) -> String {
        match self.missing {
            None => powercap::source(&self.packages),
            Some(_) => self.envelope.source(self.logical_cpus),
        }
    }

    /// Why nothing can be measured, with the way to change it.
    pub fn missing(&self) -> Option<&EnergyFlag> {
        self.missing.as_ref()
    }

    /// Sets the power of the idle machine, as a reading of this meter over a quiet second or more gave it. Only
    /// measured spans need it: an estimate knows its own idle share.
    pub fn set_idle(&mut self, idle: Labelled<Watts>) {
        self.idle = Some(idle);
    }

    /// How often a long span has to be ticked so that no wrap of a counter goes unseen; `None` if never.
    pub fn tick_period(&self) -> Option<Seconds> {
        self.packages
            .iter()
            .filter_map(Package::wrap_s_min)
            .reduce(f64::min)
            .map(|wrap_s| Seconds(wrap_s / 2.0))
    }

    /// Begins a span.
    pub fn begin(&self) -> Span {
        self.begin_at(self.opened.elapsed())
    }

    /// Samples the counters inside a span.
    pub fn tick(&self, span: &mut Span) {
        self.tick_at(span, self.opened.elapsed());
    }

    /// Ends a span. `cpu_s` is the CPU time, in seconds, that the work used meanwhile (user and system, all
    /// threads and processes of it): the estimate rests on it.
    pub fn end(&self, span: Span, cpu_s: f64) -> EnergyReading {
        self.end_at(span, self.opened.elapsed(), cpu_s)
    }

    fn begin_at(&self, now: Duration) -> Span {
        let counters = match &self.missing {
            Some(flag) => Err(flag.clone()),
            None => Counters::begin(&self.packages, now),
        };
        Span { began: now, counters }
    }

    fn tick_at(&self, span: &mut Span, now: Duration) {
        if let Ok(counters) = &mut span.counters
            && let Err(flag) = counters.advance(&self.packages, now)
        {
            span.counters = Err(flag);
        }
    }

    fn end_at(&self, mut span: Span, now: Duration, cpu_s: f64) -> EnergyReading {
        self.tick_at(&mut span, now);
        let seconds = Seconds(now.saturating_sub(span.began).as_secs_f64().max(SPAN_S_MIN));
        match span.counters.and_then(|counters| counters.finish(&self.packages, seconds)) {
            Ok((gross, flags)) => self.measured(gross, seconds, flags),
            Err(flag) => self.estimated(seconds, cpu_s, flag),
        }
    }

    fn measured(&self, gross: Joules, seconds: Seconds, mut flags: Vec<EnergyFlag>) -> EnergyReading {
        let gross = Labelled::measured(gross, powercap::source(&self.packages));
        let net =
            self.idle.clone().map(|idle| gross.clone().combine(idle, |gross, idle| gross - idle * seconds));
        if net.as_ref().is_some_and(|net| net.value.0 < 0.0) {
            flags.push(EnergyFlag::BelowIdle);
        }
        let power = gross.clone().map(|gross| gross / seconds);
        EnergyReading { gross, net, power, seconds, flags }
    }

    fn estimated(&self, seconds: Seconds, cpu_s: f64, why: EnergyFlag) -> EnergyReading {
        let mut flags = vec![why];
        if self.envelope.is_assumed() {
            flags.push(EnergyFlag::AssumedEnvelope);
        }
        let all_s = seconds.0 * f64::from(self.logical_cpus);
        let busy_s = if cpu_s.is_finite() && cpu_s >= 0.0 {
            // CPU time is counted in ticks and may run a little ahead of the clock.
            cpu_s.min(all_s)
        } else {
            flags.push(EnergyFlag::CpuTimeUnknown);
            all_s
        };
        let net = self.envelope.busy_cpu(self.logical_cpus) * Seconds(busy_s);
        let gross = net + self.envelope.idle() * seconds;
        let label = |joules| Labelled::estimated(joules, self.envelope.source(self.logical_cpus));
        let power = label(gross).map(|gross| gross / seconds);
        EnergyReading { gross: label(gross), net: Some(label(net)), power, seconds, flags }
    }
}

#[cfg(test)]
mod tests;
