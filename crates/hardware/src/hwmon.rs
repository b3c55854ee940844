//! The chips of the kernel's hardware monitoring interface.
//!
//! Every chip is a folder `hwmonN` whose number means nothing and changes from boot to boot: only its `name` tells what
//! it is. Channels are files `temp1_input`, `power1_average` and so on, numbered from 0 or 1 with holes
//! (Documentation/hwmon/sysfs-interface.rst). Units are fixed by the file's kind: millidegrees, microwatts,
//! microjoules, millivolts, milliamperes, hertz.

use crate::Roots;
use std::fs;
use std::path::PathBuf;

/// One chip.
#[derive(Debug, Clone)]
pub(crate) struct Chip {
    /// What the driver calls it: `coretemp`, `amdgpu`, `ina3221`.
    pub(crate) name: String,
    /// Its folder.
    pub(crate) folder: PathBuf,
}

/// All chips that have a name.
pub(crate) fn chips(roots: &Roots) -> Vec<Chip> {
    let folders = roots.entries(&roots.sys.join("class/hwmon")).into_iter();
    folders.filter_map(|folder| Some(Chip { name: roots.word(&folder.join("name"))?, folder })).collect()
}

impl Chip {
    /// `kindN_what`.
    pub(crate) fn file(&self, kind: &str, channel: u32, what: &str) -> PathBuf {
        self.folder.join(format!("{kind}{channel}_{what}"))
    }

    /// Numbers of the channels of a kind that have a file `kindN_what`, in order.
    pub(crate) fn channels(&self, roots: &Roots, kind: &str, what: &str) -> Vec<u32> {
        let number = |path: PathBuf| {
            let name = path.file_name()?.to_str()?.strip_prefix(kind)?;
            name.strip_suffix(what)?.strip_suffix('_')?.parse().ok()
        };
        let mut channels: Vec<u32> = roots.entries(&self.folder).into_iter().filter_map(number).collect();
        channels.sort_unstable();
        channels
    }

    /// What the board calls a channel.
    pub(crate) fn label(&self, roots: &Roots, kind: &str, channel: u32) -> Option<String> {
        roots.word(&self.file(kind, channel, "label"))
    }

    /// The folder of the device that the chip belongs to.
    pub(crate) fn device(&self) -> PathBuf {
        self.folder.join("device")
    }

    /// The device's name on its bus: for a graphics card, its PCI address.
    pub(crate) fn bus_address(&self) -> Option<String> {
        let device = fs::canonicalize(self.device()).ok()?;
        Some(device.file_name()?.to_str()?.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fixture::Tree;

    #[test]
    fn chips_and_their_channels() {
        let tree = Tree::new(&[
            ("sys/class/hwmon/hwmon0/name", "coretemp\n"),
            ("sys/class/hwmon/hwmon0/temp10_input", "1"),
            ("sys/class/hwmon/hwmon0/temp2_input", "1"),
            ("sys/class/hwmon/hwmon0/temp2_label", "Core 0\n"),
            ("sys/class/hwmon/hwmon0/temp3_max", "1"),
            ("sys/class/hwmon/hwmon0/tempx_input", "1"),
            ("sys/class/hwmon/hwmon0/temp_input", "1"),
            ("sys/class/hwmon/hwmon1/power1_average", "1"),
            ("sys/class/hwmon/hwmon2/name", "\n"),
            ("sys/devices/0000:03:00.0/vendor", "0x1002"),
        ]);
        let folder = tree.path("sys/class/hwmon/hwmon0");
        std::os::unix::fs::symlink(tree.path("sys/devices/0000:03:00.0"), folder.join("device")).unwrap();
        let roots = tree.roots();
        let [chip] = &chips(&roots)[..] else { panic!("a folder without a name is no chip") };
        assert_eq!(chip.name, "coretemp");
        assert_eq!(chip.channels(&roots, "temp", "input"), [2, 10]);
        assert_eq!(chip.label(&roots, "temp", 2).as_deref(), Some("Core 0"));
        assert_eq!(chip.label(&roots, "temp", 10), None);
        assert_eq!(chip.bus_address().as_deref(), Some("0000:03:00.0"));
        assert!(chips(&Tree::new(&[]).roots()).is_empty());
    }
}
