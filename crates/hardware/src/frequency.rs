//! How fast the processor's clocks run.
//!
//! `scaling_cur_freq` is what the governor asked for or, on recent x86, what the hardware did since the last tick
//! (Documentation/admin-guide/pm/cpufreq.rst). Virtual machines have no such file, and the "cpu MHz" that their
//! `/proc/cpuinfo` shows is a constant: there the frequency is missing.

use crate::Roots;
use serde::Serialize;

/// The kernel counts in kHz.
const KHZ: u64 = 1000;
/// No processor's clock is faster than this: 20 GHz.
const KHZ_MAX: u64 = 20_000_000;

/// Frequencies of the logical CPUs that tell one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Frequencies {
    /// Mean over the CPUs.
    pub mean_hz: f64,
    /// The slowest one.
    pub least_hz: u64,
    /// The fastest one.
    pub most_hz: u64,
    /// What the hardware can do at most, on its fastest CPU.
    pub limit_hz: Option<u64>,
}

impl Frequencies {
    /// Reads all CPUs; `None` where none tells.
    pub fn read(roots: &Roots) -> Option<Self> {
        let cpus = roots.entries(&roots.sys.join("devices/system/cpu"));
        let hz = |what: &str| -> Vec<u64> {
            let khz = cpus.iter().filter_map(|cpu| roots.number::<u64>(&cpu.join("cpufreq").join(what)).ok());
            khz.filter(|khz| (1..=KHZ_MAX).contains(khz)).map(|khz| khz * KHZ).collect()
        };
        let now = hz("scaling_cur_freq");
        Some(Self {
            mean_hz: now.iter().sum::<u64>() as f64 / now.len() as f64,
            least_hz: *now.iter().min()?,
            most_hz: *now.iter().max()?,
            limit_hz: hz("cpuinfo_max_freq").into_iter().max(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fixture::Tree;

    #[test]
    fn frequencies() {
        const FOLDER: &str = "sys/devices/system/cpu";
        // (what each CPU says, least, mean, most in MHz)
        type Case<'a> = (&'a [&'a str], Option<(u64, u64, u64)>);
        let cases: &[Case] = &[
            (&["2000000\n", "4000000\n"], Some((2000, 3000, 4000))),
            (&["2000000\n", "<unknown>\n"], Some((2000, 2000, 2000))),
            (&["0\n", "-5\n", "99999999999\n", ""], None),
            (&[], None),
        ];
        for (cpus, expected) in cases {
            let tree = Tree::new(&[(&format!("{FOLDER}/online"), "0")]);
            for (n, text) in cpus.iter().enumerate() {
                tree.write(&format!("{FOLDER}/cpu{n}/cpufreq/scaling_cur_freq"), text);
                tree.write(&format!("{FOLDER}/cpu{n}/cpufreq/cpuinfo_max_freq"), "4500000\n");
            }
            let found = Frequencies::read(&tree.roots());
            let mhz = found
                .as_ref()
                .map(|f| (f.least_hz / 1_000_000, f.mean_hz as u64 / 1_000_000, f.most_hz / 1_000_000));
            assert_eq!(mhz, *expected, "{cpus:?}");
            assert!(found.is_none_or(|f| f.limit_hz == Some(4_500_000_000)));
        }
    }

    #[test]
    fn a_cpu_that_is_closed_or_taken_offline_is_not_counted() {
        let file = |n: u32| format!("sys/devices/system/cpu/cpu{n}/cpufreq/scaling_cur_freq");
        let tree = Tree::new(&[(&file(0), "1000000"), (&file(1), "3000000"), (&file(2), "5000000")]);
        tree.deny(&file(2));
        assert_eq!(Frequencies::read(&tree.roots()).unwrap().most_hz, 3_000_000_000);
        tree.remove(&file(1));
        assert_eq!(Frequencies::read(&tree.roots()).unwrap().mean_hz, 1e9);
    }
}
