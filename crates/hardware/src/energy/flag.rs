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
    /// A counter that does not wrap went back: the driver was loaded again, or the device was reset.
    CounterReset {
        /// The counter.
        path: PathBuf,
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
    /// Power samples lie so far apart that what happened between them is guesswork.
    SparseSamples {
        /// The gap.
        gap_s: f64,
        /// The longest gap without this flag.
        gap_s_max: f64,
    },
    /// The power sensor gave the same figure all the time.
    PowerUnchanged {
        /// The sensor.
        path: PathBuf,
        /// How often it was asked.
        samples: u32,
    },
    /// A part of the device that is usually counted, memory, gave no figure.
    PartLeftOut {
        /// The part.
        name: String,
    },
    /// The battery is charged, or not used.
    NotOnBattery,
    /// The machine drew less than its idle baseline: the baseline is wrong.
    BelowIdle,
    /// The estimate rests on an assumed power envelope.
    AssumedEnvelope,
    /// The busy time was not known; the device was taken as busy throughout.
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
            Self::CounterDenied { path } if !path.components().any(|part| part.as_os_str() == "powercap") => write!(
                f,
                "energy sensor {path} is closed to this user: energy is estimated. To open it until the next boot: \
                 `sudo chmod a+r {path}`",
                path = path.display()
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
            Self::CounterReset { path } => {
                write!(f, "energy counter {} went back to its beginning: energy is estimated", path.display())
            }
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
            Self::SparseSamples { gap_s, gap_s_max } => write!(
                f,
                "{gap_s:.1} s between two samples of a power sensor that should be read every {gap_s_max:.1} s: what \
                 was drawn between them is a guess"
            ),
            Self::PowerUnchanged { path, samples } => write!(
                f,
                "power sensor {} gave the same figure {samples} times in a row: it may be stuck",
                path.display()
            ),
            Self::PartLeftOut { name } => write!(f, "{name} gave no figure and is not counted"),
            Self::NotOnBattery => f.write_str(
                "the machine does not run from its battery, which could then tell what it draws: energy is estimated",
            ),
            Self::BelowIdle => {
                f.write_str("net energy is negative: measure the idle baseline again on a quiet machine")
            }
            Self::AssumedEnvelope => f.write_str(
                "the power envelope is an assumption: give this machine's idle and busy watts",
            ),
            Self::CpuTimeUnknown => {
                f.write_str("busy time unknown: taken as busy throughout, so the energy is an upper bound")
            }
        }
    }
}
