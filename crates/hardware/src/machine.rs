//! What a measurement has to say about the machine it was made on.
//!
//! A figure without its host means little a year later. These are the facts that change speed and energy and that no
//! later reading of the same store could find out: they are stored with every measurement.

use crate::Roots;
use crate::cpu::Cpu;
use crate::memory::Memory;
use serde::{Deserialize, Serialize};

/// `os-release` has some twenty lines.
const OS_RELEASE_BYTES_MAX: u64 = 64 << 10;

/// The machine in a few words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the processor.
    pub cpu_model: Option<String>,
    /// Instruction set architecture that this program was built for, as Rust names it.
    pub architecture: String,
    /// Online logical CPUs.
    pub logical_cpus: u32,
    /// Physical cores.
    pub physical_cores: Option<u32>,
    /// Memory that the kernel manages.
    pub memory_bytes: Option<u64>,
    /// Kernel release, as `uname -r` prints it.
    pub kernel: Option<String>,
    /// Name and version of the operating system.
    pub os: Option<String>,
    /// Maker and product, as the firmware tells.
    pub product: Option<String>,
    /// Whether a hypervisor is underneath, where the processor tells (x86).
    pub virtual_machine: Option<bool>,
}

impl Machine {
    /// Reads what there is.
    pub fn read(roots: &Roots) -> Self {
        let cpu = Cpu::read(roots);
        let dmi = |name: &str| roots.word(&roots.sys.join("class/dmi/id").join(name));
        let product: Vec<String> = ["sys_vendor", "product_name"]
            .into_iter()
            .filter_map(dmi)
            .filter(|word| !word.is_empty())
            .collect();
        Self {
            architecture: std::env::consts::ARCH.into(),
            logical_cpus: cpu.logical_cpus,
            physical_cores: cpu.physical_cores,
            memory_bytes: Memory::read(roots).ok().map(|memory| memory.total_bytes),
            kernel: roots.word(&roots.proc.join("sys/kernel/osrelease")),
            os: os_name(roots),
            product: (!product.is_empty()).then(|| product.join(" ")),
            virtual_machine: cpu.hypervisor,
            cpu_model: cpu.model,
        }
    }
}

/// `PRETTY_NAME` of os-release(5).
fn os_name(roots: &Roots) -> Option<String> {
    let text = roots.files.text(&roots.etc.join("os-release"), OS_RELEASE_BYTES_MAX).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    let name = value.trim().trim_matches(['"', '\'']);
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fixture::Tree;

    #[test]
    fn a_machine_describes_itself() {
        let tree = Tree::new(&[
            ("proc/cpuinfo", "processor : 0\nmodel name : AMD EPYC\nflags : fpu hypervisor sse\n"),
            ("proc/meminfo", "MemTotal: 1024 kB\n"),
            ("proc/sys/kernel/osrelease", "6.12.1-test\n"),
            ("etc/os-release", "NAME=Debian\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\n"),
            ("sys/devices/system/cpu/online", "0-3\n"),
            ("sys/class/dmi/id/sys_vendor", "Maker\n"),
            ("sys/class/dmi/id/product_name", "Box 1\n"),
        ]);
        let machine = Machine::read(&tree.roots());
        assert_eq!(machine.cpu_model.as_deref(), Some("AMD EPYC"));
        assert_eq!((machine.logical_cpus, machine.memory_bytes), (4, Some(1 << 20)));
        assert_eq!(machine.kernel.as_deref(), Some("6.12.1-test"));
        assert_eq!(machine.os.as_deref(), Some("Debian GNU/Linux 13 (trixie)"));
        assert_eq!(machine.product.as_deref(), Some("Maker Box 1"));
        assert_eq!(machine.virtual_machine, Some(true));
        let json = serde_json::to_string(&machine).unwrap();
        assert_eq!(serde_json::from_str::<Machine>(&json).unwrap(), machine);
    }

    #[test]
    fn an_empty_tree_is_a_machine_of_which_little_is_known() {
        let machine = Machine::read(&Tree::new(&[]).roots());
        assert!(machine.logical_cpus >= 1);
        assert_eq!((machine.memory_bytes, machine.kernel, machine.os), (None, None, None));
        assert_eq!((machine.product, machine.virtual_machine), (None, None));
    }
}
