//! Who used the processor: utilisation, and what other processes took of it.
//!
//! `/proc/stat` counts CPU time by what it was spent on, in clock ticks since boot (Documentation/filesystems/proc.rst,
//! "Miscellaneous kernel statistics"). Only differences of two readings mean anything. Two of its habits matter here:
//! `idle` and `iowait` can step back a little, and `user` and `nice` already contain the guests' time.
//!
//! Time that a hypervisor gave to somebody else (`steal`) counts as taken by others: to a measurement it is the same
//! whether a neighbour on this system or on this host was in the way.

use crate::Roots;
use crate::files::Fault;

/// The first line is what is read of it, but interrupts make later ones long: 1 MiB holds the file of 8192 CPUs.
const STAT_BYTES_MAX: u64 = 1 << 20;

/// CPU time of the whole machine since boot, in clock ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTimes {
    /// Spent on processes, the kernel and interrupts.
    busy_ticks: u64,
    /// Spent waiting.
    idle_ticks: u64,
    /// Given to somebody else by the hypervisor.
    steal_ticks: u64,
    /// How many ticks are a second.
    ticks_per_s: u64,
}

impl CpuTimes {
    /// Reads the counters.
    ///
    /// # Errors
    /// Where `/proc/stat` cannot be read, or does not begin with the sum of all CPUs.
    pub fn read(roots: &Roots) -> Result<Self, Fault> {
        let path = roots.proc.join("stat");
        let text = roots.files.text(&path, STAT_BYTES_MAX).map_err(|error| Fault::new(&path, &error))?;
        Self::parse(&text).ok_or_else(|| Fault::garbled(&path, &text))
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        // user nice system idle, and since Linux 2.6 iowait irq softirq, since 2.6.11 steal.
        let [user, nice, system, idle, rest @ ..] = &ticks[..] else { return None };
        let later = |at: usize| rest.get(at).copied().unwrap_or(0);
        let busy = [*user, *nice, *system, later(1), later(2)];
        Some(Self {
            busy_ticks: busy.into_iter().try_fold(0u64, u64::checked_add)?,
            idle_ticks: idle.checked_add(later(0))?,
            steal_ticks: later(3),
            ticks_per_s: rustix::param::clock_ticks_per_second(),
        })
    }

    /// What passed since an earlier reading; `None` if time did not go forward.
    fn since(&self, before: &Self) -> Option<Spent> {
        let ticks_per_s = self.ticks_per_s.max(1) as f64;
        let busy_s = self.busy_ticks.checked_sub(before.busy_ticks)? as f64 / ticks_per_s;
        let steal_s = self.steal_ticks.checked_sub(before.steal_ticks)? as f64 / ticks_per_s;
        let idle_s = self.idle_ticks.saturating_sub(before.idle_ticks) as f64 / ticks_per_s;
        let all_s = busy_s + steal_s + idle_s;
        (all_s > 0.0).then_some(Spent { busy_s, steal_s, all_s })
    }
}

/// CPU time between two readings, in seconds over all CPUs.
struct Spent {
    busy_s: f64,
    steal_s: f64,
    all_s: f64,
}

/// CPU seconds, over all CPUs, in which the machine worked between two readings; steal is not among them.
pub fn busy_s(before: &CpuTimes, after: &CpuTimes) -> Option<f64> {
    after.since(before).map(|spent| spent.busy_s)
}

/// Share of the machine's CPU time that was used between two readings, 0 to 1, steal included; `None` where no tick
/// fell between them.
pub fn utilisation(before: &CpuTimes, after: &CpuTimes) -> Option<f64> {
    after.since(before).map(|spent| (spent.busy_s + spent.steal_s) / spent.all_s)
}

/// Share of the machine's CPU time that somebody else took between two readings, 0 to 1: other processes, the kernel on
/// their behalf, and the hypervisor. `own_cpu_s` is the CPU time (user and system, all threads) of the processes that
/// were to run, in seconds.
///
/// `None` where no tick fell between the readings, or `own_cpu_s` is no time. A tick is usually 10 ms: over less than a
/// second the share is coarse.
pub fn interference(before: &CpuTimes, after: &CpuTimes, own_cpu_s: f64) -> Option<f64> {
    let spent = after.since(before).filter(|_| own_cpu_s.is_finite() && own_cpu_s >= 0.0)?;
    let others_s = (spent.busy_s - own_cpu_s).max(0.0) + spent.steal_s;
    Some((others_s / spent.all_s).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fixture::Tree;
    use proptest::prelude::*;

    fn times(line: &str) -> CpuTimes {
        let read = CpuTimes::read(&Tree::new(&[("proc/stat", line)]).roots()).unwrap();
        CpuTimes { ticks_per_s: 100, ..read }
    }

    #[test]
    fn what_others_took() {
        // (before, after, own CPU seconds, utilisation, interference); a span of 10 s on 2 CPUs is 2000 ticks
        let start = "cpu  1000 100 200 5000 50 5 6 7 0 0\ncpu0 1 1 1 1\n";
        let cases = [
            ("all idle", "cpu 1000 100 200 7000 50 5 6 7 0 0", 0.0, Some(0.0), Some(0.0)),
            ("all ours", "cpu 2500 100 200 5500 50 5 6 7 0 0", 15.0, Some(0.75), Some(0.0)),
            ("a third ours", "cpu 2500 100 200 5500 50 5 6 7 0 0", 5.0, Some(0.75), Some(0.5)),
            ("nice, irq, softirq", "cpu 1000 300 200 6600 50 105 106 7 0 0", 0.0, Some(0.2), Some(0.2)),
            ("stolen", "cpu 2000 100 200 5500 50 5 6 507 0 0", 10.0, Some(0.75), Some(0.25)),
            ("iowait is idle", "cpu 1000 100 200 5000 2050 5 6 7 0 0", 0.0, Some(0.0), Some(0.0)),
            ("iowait steps back", "cpu 2000 100 200 6010 40 5 6 7 0 0", 0.0, Some(0.5), Some(0.5)),
            ("guests are in user", "cpu 2000 100 200 6000 50 5 6 7 999 0", 0.0, Some(0.5), Some(0.5)),
            ("own time runs ahead", "cpu 2000 100 200 6000 50 5 6 7 0 0", 10.5, Some(0.5), Some(0.0)),
            ("unknown own time", "cpu 2000 100 200 6000 50 5 6 7 0 0", f64::NAN, Some(0.5), None),
            ("negative own time", "cpu 2000 100 200 6000 50 5 6 7 0 0", -1.0, Some(0.5), None),
            ("no tick", start, 0.0, None, None),
            ("a reset", "cpu 10 0 0 50 0 0 0 0 0 0", 0.0, None, None),
        ];
        for (what, after, own_cpu_s, used, others) in cases {
            let (before, after) = (times(start), times(after));
            assert_eq!(utilisation(&before, &after), used, "{what}");
            assert_eq!(interference(&before, &after, own_cpu_s), others, "{what}");
        }
    }

    #[test]
    fn old_and_broken_files() {
        let old = times("cpu 10 20 30 40\n");
        assert_eq!((old.busy_ticks, old.idle_ticks, old.steal_ticks), (60, 40, 0));
        for text in ["", "cpu\n", "cpu 1 2 3\n", "cpu 1 2 3 -4\n", "cpu0 1 2 3 4\n", "cpu a b c d\n"] {
            let found = CpuTimes::read(&Tree::new(&[("proc/stat", text)]).roots());
            assert!(matches!(found, Err(Fault::Garbled { .. })), "{text:?}: {found:?}");
        }
        let huge = format!("cpu {0} {0} 1 1\n", u64::MAX);
        assert!(CpuTimes::parse(&huge).is_none());
        assert!(matches!(CpuTimes::read(&Tree::new(&[]).roots()), Err(Fault::Missing { .. })));
        let closed = Tree::new(&[("proc/stat", "cpu 1 2 3 4")]);
        closed.deny("proc/stat");
        assert!(matches!(CpuTimes::read(&closed.roots()), Err(Fault::Denied { .. })));
    }

    #[test]
    fn this_machine_counts() {
        let roots = Roots::default();
        let before = CpuTimes::read(&roots).unwrap();
        assert!(before.busy_ticks > 0 && before.ticks_per_s > 0);
        assert!(CpuTimes::read(&roots).unwrap().busy_ticks >= before.busy_ticks);
    }

    proptest! {
        #[test]
        fn shares_are_shares(
            a in prop::array::uniform8(0..1_000_000u64),
            more in prop::array::uniform8(0..1_000_000u64),
            own_cpu_s in 0.0..1e5f64,
        ) {
            let line = |ticks: [u64; 8]| format!("cpu {}", ticks.map(|t| t.to_string()).join(" "));
            let before = CpuTimes::parse(&line(a)).unwrap();
            let after = CpuTimes::parse(&line(std::array::from_fn(|i| a[i] + more[i]))).unwrap();
            if let Some(used) = utilisation(&before, &after) {
                let others = interference(&before, &after, own_cpu_s).unwrap();
                prop_assert!((0.0..=1.0).contains(&others) && others <= used + 1e-9);
            }
        }
    }
}
