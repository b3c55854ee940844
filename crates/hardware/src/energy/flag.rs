//! What a reader of a figure should know about it, and what can be done.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// A remark on an energy reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "flag", rename_all = "snake_case")]
pub enum EnergyFlag {
    /// The kernel offers no package energy counter.
    NoCounter {
        /// Where one would be.
        folder: PathBuf,
    },
    /// There is a counter, for others.
    CounterDenied {
        /// The counter.
        path: PathBuf,
    },
    /// The counter, or the folder of counters, could not be read.
    CounterUnreadable {
        /// The counter.
        path: PathBuf,
        /// What the kernel said.
        error: String,
    },
    /// The counter held something else than a number within its range.
    CounterGarbled {
        /// The counter.
        path: PathBuf,
        /// What it held, shortened.
        found: String,
    },
    /// The counter moved by more than any processor can draw (reset by a suspend, or broken).
    CounterJumped {
        /// The counter.
        path: PathBuf,
        /// The power that its movement would mean.
        power_w: f64,
    },
    /// The counter did not move, as in virtual machines that show one without feeding it.
    CounterStuck {
        /// The counter.
        path: PathBuf,
    },
    /// The span is shorter than ten updates of the counter.
    ShortSpan {
        /// The shortest span without this flag.
        seconds_min: f64,
    },
    /// Two samples lie so far apart that a second wrap in between cannot be excluded.
    LongGap {
        /// The gap.
        gap_s: f64,
        /// The longest gap without this flag.
        gap_s_max: f64,
    },
    /// The machine drew less than its idle baseline: the baseline is wrong.
    BelowIdle,
    /// The estimate rests on an assumed power envelope.
    AssumedEnvelope,
    /// The CPU time was not known; every CPU was taken as busy.
    CpuTimeUnknown,
}

impl fmt::Display for EnergyFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCounter { folder } => write!(
                f,
                "no package energy counter in {} (virtual machines and most ARM boards have none): energy is estimated",
                folder.display()
            ),
            Self::CounterDenied { path } => write!(
                f,
                "energy counter {path} is closed to this user (as on every Linux since 5.10, because it lets local \
                 users spy on others): energy is estimated. To open it until the next boot: \
                 `sudo chmod a+r {path}`. For good: \
                 `echo 'SUBSYSTEM==\"powercap\", ACTION==\"add\", RUN+=\"/bin/chmod a+r /sys%p/energy_uj\"' | \
                 sudo tee /etc/udev/rules.d/70-energy-counters.rules`",
                path = path.display()
            ),
            Self::CounterUnreadable { path, error } => {
                write!(f, "energy counter {} could not be read ({error}): energy is estimated", path.display())
            }
            Self::CounterGarbled { path, found } => write!(
                f,
                "energy counter {} holds {found:?}, no number within its range: energy is estimated",
                path.display()
            ),
            Self::CounterJumped { path, power_w } => write!(
                f,
                "energy counter {} moved as if at {power_w:.0} W (the machine slept, or the counter is broken): \
                 energy is estimated",
                path.display()
            ),
            Self::CounterStuck { path } => {
                write!(f, "energy counter {} does not move: energy is estimated", path.display())
            }
            Self::ShortSpan { seconds_min } => write!(
                f,
                "span shorter than {} ms, ten updates of the energy counter: repeat the work to lengthen it",
                seconds_min * 1e3
            ),
            Self::LongGap { gap_s, gap_s_max } => write!(
                f,
                "{gap_s:.0} s between two samples of a counter that could wrap twice after {gap_s_max:.0} s: energy \
                 may be too low"
            ),
            Self::BelowIdle => {
                f.write_str("net energy is negative: measure the idle baseline again on a quiet machine")
            }
            Self::AssumedEnvelope => f.write_str(
                "the power envelope is an assumption: give the idle and maximum watts of this machine's processors",
            ),
            Self::CpuTimeUnknown => {
                f.write_str("CPU time unknown: every CPU was taken as busy, so the energy is an upper bound")
            }
        }
    }
}
