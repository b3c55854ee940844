//! What a coverage run costs while it runs.
//!
//! Requests overlap, so their own accounts of CPU time do too: what counts is the worker's total from its heartbeat, and
//! the CPU time of this process with the children it waited for, which is where samples are judged. Energy is taken in
//! segments of some seconds: a kill loses the last one and no more, and a budget in joules can be kept to.

use qeil_hardware::Roots;
use qeil_hardware::energy::{EnergyFlag, EnergyMeter, EnergyReading, Span};
use qeil_units::{Joules, Labelled};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Fields of `/proc/self/stat` behind the name of the program: user, system, and both of children waited for
/// (proc_pid_stat(5), fields 14 to 17 of which 3 is the first behind the name).
const STAT_TIMES: std::ops::Range<usize> = 11..15;
/// The line of a process: numbers only, but for its name.
const STAT_BYTES_MAX: u64 = 4096;

/// What a sitting took: a run from one start of the program to its end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sitting {
    /// When it began, in milliseconds since 1970.
    pub began_unix_ms: u64,
    /// Seconds from the first request to the last save.
    pub wall_s: f64,
    /// CPU seconds of the worker.
    pub worker_cpu_s: f64,
    /// CPU seconds of the program itself and of what judged samples; missing where the system does not say.
    pub own_cpu_s: Option<f64>,
    /// Energy of the device; missing where nothing covers it.
    pub energy: Option<Spent>,
    /// Why energy is missing.
    pub energy_missing: Option<String>,
    /// Tokens emitted, those of cancelled samples included.
    pub emitted_tokens: u64,
    /// Prompt tokens computed, those found in the prefix cache not included.
    pub prefilled_tokens: u64,
    /// Prompt tokens found in the prefix cache.
    pub reused_tokens: u64,
    /// Samples that were cancelled since their task was settled.
    pub cancelled: u64,
    /// Why it ended; missing while it runs, and after a kill.
    pub ended: Option<String>,
}

impl Sitting {
    /// All CPU seconds.
    pub fn cpu_s(&self) -> f64 {
        self.worker_cpu_s + self.own_cpu_s.unwrap_or(0.0)
    }
}

/// Energy of a number of segments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// All energy of the device.
    pub gross: Labelled<Joules>,
    /// Above idle; missing where no idle baseline is known.
    pub net: Option<Labelled<Joules>>,
    /// What a reader should know.
    pub flags: Vec<EnergyFlag>,
}

impl Spent {
    /// With another segment; the weaker label stands for both.
    pub fn plus(self, other: Self) -> Self {
        let sum = |a: Labelled<Joules>, b: Labelled<Joules>| {
            // The same meter says the same of itself each time.
            let same = a.source == b.source;
            let source = a.source.clone();
            let mut sum = a.combine(b, |a, b| a + b);
            if same {
                sum.source = source;
            }
            sum
        };
        let mut flags = self.flags;
        flags.extend(other.flags.into_iter().filter(|flag| !flags.contains(flag)).collect::<Vec<_>>());
        Self {
            gross: sum(self.gross, other.gross),
            net: self.net.zip(other.net).map(|(a, b)| sum(a, b)),
            flags,
        }
    }
}

impl From<EnergyReading> for Spent {
    fn from(reading: EnergyReading) -> Self {
        Self { gross: reading.gross, net: reading.net, flags: reading.flags }
    }
}

/// Adds up what is spent.
#[derive(Debug)]
pub struct Account<'a> {
    meter: Option<&'a EnergyMeter>,
    span: Option<Span>,
    roots: &'a Roots,
    worker_cpu_s_first: f64,
    own_cpu_s_first: Option<f64>,
    /// CPU seconds when the present segment began.
    cpu_s_before: f64,
}

impl<'a> Account<'a> {
    /// Opens an account; the worker has used `worker_cpu_s` so far.
    pub fn open(meter: Option<&'a EnergyMeter>, roots: &'a Roots, worker_cpu_s: f64) -> Self {
        Self {
            meter,
            span: meter.map(EnergyMeter::begin),
            roots,
            worker_cpu_s_first: worker_cpu_s,
            own_cpu_s_first: own_cpu_s(roots),
            cpu_s_before: 0.0,
        }
    }

    /// Reads the sensors inside a segment.
    pub fn tick(&mut self) {
        if let (Some(meter), Some(span)) = (self.meter, &mut self.span) {
            meter.tick(span);
        }
    }

    /// Ends a segment, enters it into `sitting`, and begins the next.
    pub fn enter(&mut self, sitting: &mut Sitting, worker_cpu_s: f64) {
        sitting.worker_cpu_s = (worker_cpu_s - self.worker_cpu_s_first).max(sitting.worker_cpu_s);
        sitting.own_cpu_s =
            self.own_cpu_s_first.zip(own_cpu_s(self.roots)).map(|(first, now)| (now - first).max(0.0));
        if let (Some(meter), Some(span)) = (self.meter, self.span.take()) {
            let cpu_s = sitting.cpu_s();
            let spent = Spent::from(meter.end(span, (cpu_s - self.cpu_s_before).max(0.0)));
            self.cpu_s_before = cpu_s;
            self.span = Some(meter.begin());
            sitting.energy = Some(match sitting.energy.take() {
                Some(before) => before.plus(spent),
                None => spent,
            });
        }
    }
}

/// CPU seconds of this process and the children it has waited for.
fn own_cpu_s(roots: &Roots) -> Option<f64> {
    let path = roots.proc.join(Path::new("self/stat"));
    parse(&roots.files.text(&path, STAT_BYTES_MAX).ok()?)
}

fn parse(stat: &str) -> Option<f64> {
    // The name stands in parentheses and may hold any character.
    let (_, behind) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = behind.split_ascii_whitespace().collect();
    let times = fields.get(STAT_TIMES)?;
    let ticks: Vec<u64> = times.iter().map(|field| field.parse()).collect::<Result<_, _>>().ok()?;
    Some(ticks.iter().sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use qeil_hardware::energy::Envelope;
    use qeil_units::Watts;

    #[test]
    fn cpu_time_of_a_process() {
        let per_s = rustix::param::clock_ticks_per_second() as f64;
        for (stat, ticks) in [
            ("7 (a program) S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 20 0 1", Some(127.0)),
            ("7 (odd) name) S) R 1 2 3 4 5 6 7 8 9 10 1 1 1 1 20 0 1", Some(4.0)),
            ("7 (short) S 1 2 3", None),
            ("7 (a) S 1 2 3 4 5 6 7 8 9 10 x 20 3 4 20", None),
            ("", None),
        ] {
            assert_eq!(parse(stat), ticks.map(|ticks| ticks / per_s), "{stat}");
        }
        assert!(own_cpu_s(&Roots::default()).is_some());
    }

    #[test]
    fn segments_add_up_under_one_label() {
        let roots = Roots::below(Path::new("/nowhere"));
        let meter = EnergyMeter::open(&roots, Envelope::from_watts(Watts(10.0), Watts(20.0)).unwrap());
        let mut account = Account::open(Some(&meter), &roots, 5.0);
        let mut sitting = Sitting::default();
        account.enter(&mut sitting, 6.0);
        let first = sitting.energy.clone().unwrap();
        account.enter(&mut sitting, 8.5);
        let both = sitting.energy.clone().unwrap();
        assert_eq!(sitting.worker_cpu_s, 3.5, "what it had used before is not ours");
        assert!(both.gross.value.0 > first.gross.value.0);
        assert_eq!(both.gross.source, first.gross.source, "one meter, one source");
        assert_eq!(both.flags, first.flags, "each flag once");
        assert_eq!(sitting.own_cpu_s, None, "a tree without processes");
    }
}
