//! A source followed through a span.
//!
//! A counter's movements are added up, each freed of a wrap; a power sensor's samples are joined by straight lines
//! (trapezoids). What cannot be true ends the span's measurement: a movement that no device could draw, a counter that
//! stands still or goes back.

use super::source::{Kind, Part, SPAN_UPDATES_MIN, Source, Sources};
use super::{Domain, EnergyFlag};
use crate::files::Fault;
use qeil_units::{Joules, Seconds};
use std::time::Duration;

/// Allowance for energy that one late update brings in at once, when jumps are judged, in seconds.
const LATE_UPDATE_S: f64 = 0.1;
/// Power samples further apart than this many updates leave too much to the straight line between them.
const POWER_GAP_UPDATES: f64 = 10.0;
/// The least gap that is remarked on, in seconds: a busy machine delays a tick by as much.
const POWER_GAP_S_MIN: f64 = 2.0;
/// So many samples in a row, all the same to the microwatt, are no measurement of a working device.
const SAME_SAMPLES_MAX: u32 = 50;

/// One source's way through a span.
#[derive(Debug)]
struct Track {
    last: u64,
    /// Of a counter.
    moved_uj: u64,
    /// Of a power sensor.
    integral_j: f64,
    read_at: Duration,
    longest_gap_s: f64,
    samples: u32,
    changed: bool,
}

impl Track {
    fn begin(source: &Source, now: Duration) -> Result<Self, EnergyFlag> {
        let last = source.read()?;
        Ok(Self {
            last,
            moved_uj: 0,
            integral_j: 0.0,
            read_at: now,
            longest_gap_s: 0.0,
            samples: 1,
            changed: false,
        })
    }

    fn advance(&mut self, source: &Source, now: Duration) -> Result<(), EnergyFlag> {
        let gap_s = now.saturating_sub(self.read_at).as_secs_f64();
        let found = source.read()?;
        match source.kind {
            Kind::Counter { range_uj } => {
                let moved_uj = moved_uj(source, range_uj, self.last, found, gap_s)?;
                self.moved_uj = self.moved_uj.saturating_add(moved_uj);
            }
            Kind::Power => self.integral_j += (self.last as f64 + found as f64) / 2.0 * 1e-6 * gap_s,
        }
        self.changed |= found != self.last;
        self.last = found;
        self.read_at = now;
        self.samples = self.samples.saturating_add(1);
        self.longest_gap_s = self.longest_gap_s.max(gap_s);
        Ok(())
    }

    /// `None` where the source gave nothing: a counter that did not move, a power of zero throughout.
    fn joules(&self, source: &Source) -> Option<f64> {
        let joules = match source.kind {
            Kind::Counter { .. } => self.moved_uj as f64 * 1e-6,
            Kind::Power if !self.changed && self.last == 0 => 0.0,
            // A span of no length has an energy of zero, and that is not the sensor's fault.
            Kind::Power => return Some(self.integral_j),
        };
        (joules > 0.0).then_some(joules)
    }
}

/// Microjoules between two readings of a counter that lie `gap_s` apart.
fn moved_uj(
    source: &Source,
    range_uj: Option<u64>,
    from: u64,
    to: u64,
    gap_s: f64,
) -> Result<u64, EnergyFlag> {
    let path = || source.place.clone();
    let moved_uj = match range_uj {
        _ if to >= from => to - from,
        // The kernel tells the largest reading, one count below the true range: a difference of a few µJ.
        Some(range_uj) => (range_uj - from) + to,
        None => return Err(EnergyFlag::CounterReset { path: path() }),
    };
    let power_w = moved_uj as f64 * 1e-6 / (gap_s + LATE_UPDATE_S);
    if power_w > source.w_max {
        return Err(EnergyFlag::CounterJumped { path: path(), power_w });
    }
    Ok(moved_uj)
}

/// All sources of a device during a span. A source that is not needed for the sum may fall out.
#[derive(Debug)]
pub(super) struct Tracks(Vec<Option<Track>>);

/// What a span came to.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) gross: Joules,
    pub(super) updates: u64,
    pub(super) domains: Vec<Domain>,
    pub(super) flags: Vec<EnergyFlag>,
    pub(super) source: String,
}

impl Tracks {
    pub(super) fn begin(sources: &Sources, now: Duration) -> Result<Self, EnergyFlag> {
        let begin = |source: &Source| match Track::begin(source, now) {
            Err(flag) if source.part == Part::Summed => Err(flag),
            tracked => Ok(tracked.ok()),
        };
        sources.list.iter().map(begin).collect::<Result<_, _>>().map(Self)
    }

    /// Adds what happened since the last call.
    pub(super) fn advance(&mut self, sources: &Sources, now: Duration) -> Result<(), EnergyFlag> {
        for (source, slot) in sources.list.iter().zip(&mut self.0) {
            let Some(track) = slot else { continue };
            match track.advance(source, now) {
                Ok(()) => {}
                Err(flag) if source.part == Part::Summed => return Err(flag),
                Err(_) => *slot = None,
            }
        }
        Ok(())
    }

    /// The sum, after the last `advance`.
    pub(super) fn finish(self, sources: &Sources, seconds: Seconds) -> Result<Finished, EnergyFlag> {
        let mut flags = Vec::new();
        let mut domains = Vec::new();
        let mut left_out = Vec::new();
        let mut gross = Joules(0.0);
        let update_s =
            sources.list.iter().filter(|s| s.part == Part::Summed).map(|s| s.update_s).fold(0.0, f64::max);
        let seconds_min = update_s * SPAN_UPDATES_MIN;
        let short = seconds.0 < seconds_min;
        if short {
            flags.push(EnergyFlag::ShortSpan { seconds_min });
        }
        for (i, (source, track)) in sources.list.iter().zip(self.0).enumerate() {
            let joules = track.as_ref().and_then(|track| track.joules(source));
            let Some(energy) = joules.map(Joules) else {
                match source.part {
                    // No update fell into the span: zero would be wrong.
                    Part::Summed if short => return Err(EnergyFlag::ShortSpan { seconds_min }),
                    Part::Summed => return Err(EnergyFlag::CounterStuck { path: source.place.clone() }),
                    Part::IfItMoves => {
                        flags.push(EnergyFlag::PartLeftOut { name: source.name.clone() });
                        left_out.push(i);
                    }
                    Part::Beside => {}
                }
                continue;
            };
            let summed = source.part != Part::Beside;
            domains.push(Domain { name: source.name.clone(), energy, summed });
            if summed {
                gross += energy;
                flags.extend(track.and_then(|track| remark(source, &track)));
            }
        }
        let updates = (seconds.0 / update_s.max(f64::MIN_POSITIVE)) as u64;
        Ok(Finished { gross, updates, domains, flags, source: sources.text(&left_out) })
    }
}

/// What a reader should know about how a source was followed.
fn remark(source: &Source, track: &Track) -> Option<EnergyFlag> {
    let gap_s = track.longest_gap_s;
    match source.kind {
        Kind::Counter { .. } => {
            let gap_s_max = source.wrap_s_min()?;
            (gap_s > gap_s_max).then_some(EnergyFlag::LongGap { gap_s, gap_s_max })
        }
        Kind::Power if !track.changed && track.samples > SAME_SAMPLES_MAX => {
            Some(EnergyFlag::PowerUnchanged { path: source.place.clone(), samples: track.samples })
        }
        Kind::Power => {
            let gap_s_max = (source.update_s * POWER_GAP_UPDATES).max(POWER_GAP_S_MIN);
            (gap_s > gap_s_max).then_some(EnergyFlag::SparseSamples { gap_s, gap_s_max })
        }
    }
}

impl From<Fault> for EnergyFlag {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Missing { path } => Self::CounterUnreadable { path, error: "it is gone".into() },
            Fault::Denied { path } => Self::CounterDenied { path },
            Fault::Unreadable { path, error } => Self::CounterUnreadable { path, error },
            Fault::Garbled { path, found } => Self::CounterGarbled { path, found },
        }
    }
}
