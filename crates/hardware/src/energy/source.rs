//! What energy is read from: counters of microjoules, or sensors of microwatts.
//!
//! A device may have several sources at once. Some are summed to the device's energy; some contain others or are
//! contained (a board's input, a processor's cores) and are only shown beside it; memory is summed where its counter
//! moves, which on some processors it never does.

use super::EnergyFlag;
use crate::files::{Fault, Files, number};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Spans shorter than ten updates of a source are dominated by when the updates fall.
pub(super) const SPAN_UPDATES_MIN: f64 = 10.0;
/// A power sensor need not be asked more often than this, in seconds: the answers would cost more than they tell.
const POWER_TICK_S_MIN: f64 = 0.05;

/// Something that gives one number whenever it is asked.
pub(crate) trait Gauge: fmt::Debug + Send + Sync {
    /// Microjoules of a counter, or microwatts of a power sensor.
    fn read(&self) -> Result<u64, EnergyFlag>;
}

/// What a gauge's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Microjoules since some beginning. The counter starts again after `range_uj`; where that is unknown, a counter
    /// that went back was reset.
    Counter { range_uj: Option<u64> },
    /// Microwatts at the moment, or over the last update period.
    Power,
}

/// How a source counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The device's energy is not known without it.
    Summed,
    /// Summed, or left out with a remark where it cannot be read or stands still.
    IfItMoves,
    /// Shown, never summed.
    Beside,
}

/// One source.
#[derive(Debug)]
pub(crate) struct Source {
    /// What it covers, in a word or two.
    pub(crate) name: String,
    /// The file or the device, for messages.
    pub(crate) place: PathBuf,
    pub(crate) part: Part,
    pub(crate) kind: Kind,
    /// Seconds between two updates.
    pub(crate) update_s: f64,
    /// More than what it covers can draw.
    pub(crate) w_max: f64,
    pub(crate) gauge: Box<dyn Gauge>,
}

impl Source {
    /// The number of now, if it is in its range.
    pub(crate) fn read(&self) -> Result<u64, EnergyFlag> {
        let found = self.gauge.read()?;
        let in_range = match self.kind {
            Kind::Counter { range_uj } => range_uj.is_none_or(|range_uj| found <= range_uj),
            Kind::Power => found as f64 * 1e-6 <= self.w_max,
        };
        if in_range { Ok(found) } else { Err(Fault::garbled(&self.place, &found.to_string()).into()) }
    }

    /// Shortest time in which the counter could wrap.
    pub(super) fn wrap_s_min(&self) -> Option<f64> {
        match self.kind {
            Kind::Counter { range_uj: Some(range_uj) } => Some(range_uj as f64 * 1e-6 / self.w_max),
            _ => None,
        }
    }

    /// How often it has to be read during a span.
    fn tick_s(&self) -> Option<f64> {
        match self.kind {
            Kind::Power => Some(self.update_s.max(POWER_TICK_S_MIN)),
            Kind::Counter { .. } => self.wrap_s_min().map(|wrap_s| wrap_s / 2.0),
        }
    }
}

/// The sources of one device.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The interface they are read by.
    pub(crate) method: &'static str,
    /// What a reader should know about what they cover.
    pub(crate) covers: &'static str,
    pub(crate) list: Vec<Source>,
}

impl Sources {
    /// How often a span has to be ticked.
    pub(super) fn tick_s(&self) -> Option<f64> {
        self.list
            .iter()
            .filter(|source| source.part != Part::Beside)
            .filter_map(Source::tick_s)
            .reduce(f64::min)
    }

    /// What a figure names as its source, where the sources at `left_out` gave nothing.
    pub(super) fn text(&self, left_out: &[usize]) -> String {
        let summed = self.list.iter().enumerate().filter(|(i, source)| {
            source.part == Part::Summed || source.part == Part::IfItMoves && !left_out.contains(i)
        });
        let names: Vec<&str> = summed.map(|(_, source)| source.name.as_str()).collect();
        let memory = match self.list.iter().position(|source| source.part == Part::IfItMoves) {
            Some(i) if !left_out.contains(&i) => "",
            _ if self.method == super::powercap::METHOD => ", without memory",
            _ => "",
        };
        format!("{} {} ({}{memory})", self.method, names.join(" + "), self.covers)
    }
}

/// A file that holds the number, in millionths or thousandths of a unit.
#[derive(Debug)]
pub(crate) struct FileGauge {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) path: PathBuf,
}

impl Gauge for FileGauge {
    fn read(&self) -> Result<u64, EnergyFlag> {
        Ok(number(self.files.as_ref(), &self.path)?)
    }
}

/// A voltage in mV and a current in mA: their product is in µW.
#[derive(Debug)]
pub(crate) struct ProductGauge {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) millivolts: PathBuf,
    pub(crate) milliamperes: PathBuf,
}

impl Gauge for ProductGauge {
    fn read(&self) -> Result<u64, EnergyFlag> {
        let mv: u64 = number(self.files.as_ref(), &self.millivolts)?;
        let ma: u64 = number(self.files.as_ref(), &self.milliamperes)?;
        let product = mv.checked_mul(ma);
        Ok(product.ok_or_else(|| Fault::garbled(&self.milliamperes, &format!("{mv} mV × {ma} mA")))?)
    }
}
