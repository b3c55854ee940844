//! A cgroup for one run, where the caller may make one.
//!
//! Only version 2, and only where a folder next to our own (a desktop session, a container with delegation) or below
//! it already hands out the memory or pids controller: rearranging the caller's cgroups is not ours to do. It counts
//! what rlimits cannot: all processes of a run together, with the memory of its folder.

use super::Limits;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Where version 2 is mounted: alone, or beside version 1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// The launcher's two processes.
const LAUNCHERS: u64 = 2;
/// Kernel memory, page tables, and the launcher's own pages.
const MEMORY_BYTES_EXTRA: u64 = 64 << 20;
/// An emptied cgroup takes a moment until it can be removed: so often it is tried, at this distance.
const REMOVALS: u32 = 20;
const REMOVAL: Duration = Duration::from_millis(5);

/// A place where cgroups can be made.
#[derive(Debug, Clone)]
pub struct Cgroup {
    parent: PathBuf,
}

/// One cgroup; killed and removed when dropped.
#[derive(Debug)]
pub struct Cell {
    folder: PathBuf,
}

impl Cgroup {
    /// A place on this machine.
    pub fn find() -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let found = MOUNTS.iter().find_map(|mount| Self::below(Path::new(mount), &own))?;
        // Whether it may be used shows only in use.
        let trial = found.make(&Limits::default())?;
        drop(trial);
        Some(found)
    }

    /// The same for any mount and any `/proc/self/cgroup`.
    fn below(mount: &Path, own: &str) -> Option<Self> {
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let own = mount.join(own);
        [own.parent(), Some(&own)].into_iter().flatten().filter(|folder| folder.starts_with(mount)).find_map(
            |folder| {
                let given = fs::read_to_string(folder.join("cgroup.subtree_control")).ok()?;
                let useful = given.split_whitespace().any(|name| ["memory", "pids"].contains(&name));
                useful.then(|| Self { parent: folder.to_owned() })
            },
        )
    }

    /// A cgroup of its own for a process that waits to be told to go. None where that fails: the run has its other
    /// limits.
    pub fn cell(&self, process: &Child, limits: &Limits) -> Option<Cell> {
        let cell = self.make(limits)?;
        fs::write(cell.folder.join("cgroup.procs"), process.id().to_string()).ok()?;
        Some(cell)
    }

    fn make(&self, limits: &Limits) -> Option<Cell> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = self.parent.join(format!("qeil-sandbox-{}-{number}", std::process::id()));
        fs::create_dir(&folder).ok()?;
        let cell = Cell { folder };
        let memory = limits.memory_bytes.saturating_mul(limits.processes).saturating_add(limits.folder_bytes);
        let memory = memory.saturating_add(MEMORY_BYTES_EXTRA);
        let processes = limits.processes + Limits::THREADS + LAUNCHERS;
        let set = |file: &str, value: String| fs::write(cell.folder.join(file), value).is_ok();
        let bounded = [set("memory.max", memory.to_string()), set("pids.max", processes.to_string())];
        // Swap is not always counted; a kill takes the whole run either way.
        set("memory.swap.max", "0".into());
        set("memory.oom.group", "1".into());
        bounded.contains(&true).then_some(cell)
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        // Nobody is left when all went well, and before Linux 5.14 the file does not exist.
        let _ = fs::write(self.folder.join("cgroup.kill"), "1");
        for _ in 0..REMOVALS {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            thread::sleep(REMOVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_where_controllers_are_handed_out() {
        for (own, given, expected) in [
            ("0::/user/app/shell\n", [("user/app", "cpu memory pids")].as_slice(), Some("user/app")),
            ("4:memory:/x\n0::/user/app/shell\n", &[("user/app", "pids")], Some("user/app")),
            (
                "0::/user/app/shell\n",
                &[("user/app", "cpu"), ("user/app/shell", "memory")],
                Some("user/app/shell"),
            ),
            ("0::/user/app/shell\n", &[("user/app", "cpu")], None),
            ("0::/\n", &[("", "memory")], Some("")),
            ("4:memory:/x\n", &[("", "memory")], None),
        ] {
            let mount = tempfile::tempdir().unwrap();
            for (folder, controllers) in given {
                let folder = mount.path().join(folder);
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join("cgroup.subtree_control"), controllers).unwrap();
            }
            let found = Cgroup::below(mount.path(), own).map(|cgroup| cgroup.parent);
            assert_eq!(found, expected.map(|folder| mount.path().join(folder)), "{own:?} {given:?}");
        }
    }

    #[test]
    fn a_cell_bounds_all_processes_together() {
        let parent = tempfile::tempdir().unwrap();
        let limits =
            Limits { memory_bytes: 1 << 30, folder_bytes: 1 << 20, processes: 3, ..Limits::default() };
        let cell = Cgroup { parent: parent.path().to_owned() }.make(&limits).unwrap();
        let read = |file: &str| fs::read_to_string(cell.folder.join(file)).unwrap();
        assert_eq!(read("memory.max"), ((3_u64 << 30) + (1 << 20) + MEMORY_BYTES_EXTRA).to_string());
        assert_eq!(read("pids.max"), (3 + Limits::THREADS + LAUNCHERS).to_string());
    }
}
