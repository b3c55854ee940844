//! The processor: its name, its logical CPUs and its cores.
//!
//! `/sys` is asked first, because it says the same on every architecture; `/proc/cpuinfo` is written by each
//! architecture in its own words and only fills gaps. In a container the list of usable CPUs is shorter than
//! the list of online ones: threads are to be counted by the former, power by the latter.

use crate::Roots;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::thread::available_parallelism;

/// Largest logical CPU number we believe: `NR_CPUS` of x86-64 kernels ends at 8192.
const CPUS_MAX: u32 = 8192;
/// `/proc/cpuinfo` takes about 1.5 KB per CPU; 16 MiB holds [`CPUS_MAX`] of them.
const CPUINFO_BYTES_MAX: u64 = 16 << 20;
/// Every other file here holds a line or a page of them.
const SMALL_FILE_BYTES_MAX: u64 = 64 << 10;

/// The processor, as far as the kernel tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cpu {
    /// Name that the processor (x86) or the device tree (ARM, RISC-V boards) gives.
    pub model: Option<String>,
    /// Online logical CPUs (hardware threads); at least 1.
    pub logical_cpus: u32,
    /// Physical cores among them.
    pub physical_cores: Option<u32>,
    /// The logical CPUs of each physical core, in order of the first; empty where the kernel does not tell.
    pub cores: Vec<Vec<u32>>,
    /// Numbers of the logical CPUs that this process may run on; empty where the kernel does not tell.
    pub usable_cpus: Vec<u32>,
    /// Whether a hypervisor runs underneath, where the processor tells (x86).
    pub hypervisor: Option<bool>,
}

impl Cpu {
    /// Reads what there is. Nothing is required: even an empty tree has one CPU, the one that reads it.
    pub fn read(roots: &Roots) -> Self {
        let cpuinfo = roots.files.text(&roots.proc.join("cpuinfo"), CPUINFO_BYTES_MAX).unwrap_or_default();
        let online =
            small(roots, &roots.sys.join("devices/system/cpu/online")).and_then(|l| parse_cpu_list(&l));
        let cores = online.as_deref().and_then(|online| cores(roots, online)).unwrap_or_default();
        let logical_cpus = match &online {
            Some(online) => online.len() as u32,
            None => {
                processors(&cpuinfo).or_else(|| Some(available_parallelism().ok()?.get() as u32)).unwrap_or(1)
            }
        };
        let physical_cores =
            if cores.is_empty() { cores_of_cpuinfo(&cpuinfo) } else { Some(cores.len() as u32) };
        Self {
            model: model_of_cpuinfo(&cpuinfo).or_else(|| model_of_device_tree(roots)),
            logical_cpus,
            physical_cores,
            hypervisor: cpuinfo_values(&cpuinfo, "flags")
                .next()
                .map(|flags| flags.split_ascii_whitespace().any(|flag| flag == "hypervisor")),
            cores,
            usable_cpus: usable_cpus(roots, online.as_deref()).unwrap_or_default(),
        }
    }

    /// One usable logical CPU of each core, then the second ones, and so on: the order in which threads that
    /// compute should take them. Empty where the kernel does not tell.
    pub fn spread(&self) -> Vec<u32> {
        let widest = self.cores.iter().map(Vec::len).max().unwrap_or(0);
        let by_rank = (0..widest).flat_map(|rank| self.cores.iter().filter_map(move |core| core.get(rank)));
        by_rank.copied().filter(|cpu| self.usable_cpus.contains(cpu)).collect()
    }
}

fn small(roots: &Roots, path: &Path) -> Option<String> {
    roots.files.text(path, SMALL_FILE_BYTES_MAX).ok()
}

/// Size of the largest cache that the first CPU has, as the kernel lists them.
pub fn last_level_cache_bytes(roots: &Roots) -> Option<u64> {
    let folder = roots.sys.join("devices/system/cpu/cpu0/cache");
    let sizes = roots.entries(&folder).into_iter().filter_map(|index| {
        let size = roots.word(&index.join("size"))?;
        let kib = size.strip_suffix('K').map(|kib| (kib, 10));
        let (digits, shift) = kib.or_else(|| size.strip_suffix('M').map(|mib| (mib, 20)))?;
        digits.parse::<u64>().ok()?.checked_mul(1 << shift)
    });
    sizes.max()
}

/// Parses the kernel's list format, `0-3,8`. `None` for anything else, an empty list included.
fn parse_cpu_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = BTreeSet::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= CPUS_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus.into_iter().collect())
}

fn cores(roots: &Roots, online: &[u32]) -> Option<Vec<Vec<u32>>> {
    let mut cores = BTreeSet::new();
    for cpu in online {
        let topology = roots.sys.join(format!("devices/system/cpu/cpu{cpu}/topology"));
        // Renamed in Linux 5.3; the old name stays as an alias.
        let siblings = small(roots, &topology.join("core_cpus_list"))
            .or_else(|| small(roots, &topology.join("thread_siblings_list")))
            .and_then(|list| parse_cpu_list(&list))?;
        if !siblings.contains(cpu) {
            return None;
        }
        cores.insert(siblings);
    }
    Some(cores.into_iter().collect())
}

fn usable_cpus(roots: &Roots, online: Option<&[u32]>) -> Option<Vec<u32>> {
    let status = small(roots, &roots.proc.join("self/status"))?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut allowed = parse_cpu_list(list)?;
    // The mask names CPUs that do not exist, too.
    allowed.retain(|cpu| online.is_none_or(|online| online.contains(cpu)));
    Some(allowed)
}

fn cpuinfo_values<'a>(cpuinfo: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    cpuinfo.lines().filter_map(move |line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == key && !value.trim().is_empty()).then(|| value.trim())
    })
}

fn processors(cpuinfo: &str) -> Option<u32> {
    let count = cpuinfo_values(cpuinfo, "processor").count() as u32;
    (count > 0).then_some(count)
}

/// Distinct (package, core) pairs; only x86 writes them.
fn cores_of_cpuinfo(cpuinfo: &str) -> Option<u32> {
    let packages: Vec<&str> = cpuinfo_values(cpuinfo, "physical id").collect();
    let cores: Vec<&str> = cpuinfo_values(cpuinfo, "core id").collect();
    let pairs: BTreeSet<(&str, &str)> = packages.iter().copied().zip(cores.iter().copied()).collect();
    (!pairs.is_empty() && packages.len() == cores.len()).then_some(pairs.len() as u32)
}

fn model_of_cpuinfo(cpuinfo: &str) -> Option<String> {
    cpuinfo_values(cpuinfo, "model name").next().map(str::to_owned)
}

fn model_of_device_tree(roots: &Roots) -> Option<String> {
    let model = small(roots, &roots.proc.join("device-tree/model"))?;
    let model = model.trim_end_matches('\0').trim();
    (!model.is_empty()).then(|| model.to_owned())
}

#[cfg(test)]
impl Cpu {
    /// A processor of this name with two threads a core, and nothing else known.
    pub(crate) fn named(model: Option<&str>, cores: u32) -> Self {
        Self {
            model: model.map(str::to_owned),
            logical_cpus: 2 * cores,
            physical_cores: Some(cores),
            cores: vec![],
            usable_cpus: vec![],
            hypervisor: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fixture::Tree;
    use proptest::prelude::*;

    const TWO_CORES_FOUR_THREADS: &[(&str, &str)] = &[
        (
            "proc/cpuinfo",
            "processor\t: 0\nmodel name\t: AMD EPYC\nphysical id\t: 0\ncore id\t: 0\n\nprocessor\t: 1\n",
        ),
        ("proc/self/status", "Name:\tqeil\nCpus_allowed_list:\t1-7\n"),
        ("sys/devices/system/cpu/online", "0-3\n"),
        ("sys/devices/system/cpu/cpu0/topology/core_cpus_list", "0,2\n"),
        ("sys/devices/system/cpu/cpu1/topology/core_cpus_list", "1,3\n"),
        ("sys/devices/system/cpu/cpu2/topology/core_cpus_list", "0,2\n"),
        ("sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "1,3\n"),
    ];

    #[test]
    fn two_cores_with_two_threads_each() {
        let tree = Tree::new(TWO_CORES_FOUR_THREADS);
        let cpu = Cpu::read(&tree.roots());
        assert_eq!(cpu.model.as_deref(), Some("AMD EPYC"));
        assert_eq!(cpu.logical_cpus, 4);
        assert_eq!(cpu.physical_cores, Some(2));
        assert_eq!(cpu.cores, [[0, 2], [1, 3]]);
        assert_eq!(cpu.usable_cpus, [1, 2, 3]);
        assert_eq!(cpu.spread(), [1, 2, 3]);
        assert_eq!(cpu.hypervisor, None);
    }

    #[test]
    fn without_sys_the_cpuinfo_answers() {
        let info = "processor : 0\nphysical id : 0\ncore id : 0\n\nprocessor : 1\nphysical id : 0\ncore id : 0\n\n\
                    processor : 2\nphysical id : 1\ncore id : 0\n";
        let tree = Tree::new(&[("proc/cpuinfo", info)]);
        let cpu = Cpu::read(&tree.roots());
        assert_eq!((cpu.logical_cpus, cpu.physical_cores, cpu.model.as_deref()), (3, Some(2), None));
        assert!(cpu.cores.is_empty() && cpu.usable_cpus.is_empty() && cpu.spread().is_empty());
    }

    #[test]
    fn a_board_is_named_by_its_device_tree() {
        let tree = Tree::new(&[
            ("proc/cpuinfo", "processor\t: 0\nBogoMIPS\t: 108.00\n"),
            ("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0"),
        ]);
        let cpu = Cpu::read(&tree.roots());
        assert_eq!(cpu.model.as_deref(), Some("Raspberry Pi 5 Model B Rev 1.0"));
        assert_eq!(cpu.physical_cores, None);
    }

    #[test]
    fn an_empty_tree_still_has_a_cpu() {
        let tree = Tree::new(&[]);
        let cpu = Cpu::read(&tree.roots());
        assert!(cpu.logical_cpus >= 1);
        assert_eq!((cpu.model, cpu.physical_cores), (None, None));
    }

    #[test]
    fn contradictory_topology_is_no_topology() {
        let tree = Tree::new(&[
            ("sys/devices/system/cpu/online", "0-1"),
            ("sys/devices/system/cpu/cpu0/topology/core_cpus_list", "1"),
            ("sys/devices/system/cpu/cpu1/topology/core_cpus_list", "1"),
        ]);
        let cpu = Cpu::read(&tree.roots());
        assert_eq!((cpu.logical_cpus, cpu.physical_cores), (2, None));
    }

    #[test]
    fn cpu_lists() {
        let cases: &[(&str, Option<&[u32]>)] = &[
            ("0", Some(&[0])),
            ("0-2\n", Some(&[0, 1, 2])),
            ("8,0-1", Some(&[0, 1, 8])),
            ("0-1,1-2", Some(&[0, 1, 2])),
            ("", None),
            ("3-1", None),
            ("0-4294967295", None),
            ("-1", None),
            ("0;1", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_cpu_list(text).as_deref(), *expected, "{text:?}");
        }
    }

    #[test]
    fn this_machine_answers() {
        let cpu = Cpu::read(&Roots::default());
        assert!(cpu.logical_cpus >= 1);
        assert!(cpu.physical_cores.is_none_or(|cores| cores >= 1 && cores <= cpu.logical_cpus));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(list in ".{0,40}", info in ".{0,200}", status in ".{0,80}") {
            let tree = Tree::new(&[
                ("proc/cpuinfo", &info),
                ("proc/self/status", &status),
                ("sys/devices/system/cpu/online", &list),
            ]);
            prop_assert!(Cpu::read(&tree.roots()).logical_cpus >= 1);
        }
    }
}
