//! The machine's memory, from `/proc/meminfo`.
//!
//! What can be given to a new program is `MemAvailable`, not `MemFree`: the page cache gives way. Kernels older than
//! 3.14 do not say, and then the figure is missing.

use crate::Roots;
use crate::files::Fault;
use serde::Serialize;

/// About fifty lines; memory nodes and huge pages add a few.
const MEMINFO_BYTES_MAX: u64 = 64 << 10;
/// The kernel's "kB" are 1024 bytes.
const KB_BYTES: u64 = 1024;

/// Memory and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// All that the kernel manages.
    pub total_bytes: u64,
    /// What a new program could have without swapping.
    pub available_bytes: Option<u64>,
}

impl Memory {
    /// Reads the figures.
    ///
    /// # Errors
    /// Where the file cannot be read or has no total.
    pub fn read(roots: &Roots) -> Result<Self, Fault> {
        let path = roots.proc.join("meminfo");
        let text = roots.files.text(&path, MEMINFO_BYTES_MAX).map_err(|error| Fault::new(&path, &error))?;
        let bytes = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(KB_BYTES)
        };
        let total_bytes = bytes("MemTotal").ok_or_else(|| Fault::garbled(&path, &text))?;
        let available_bytes = bytes("MemAvailable").filter(|available| *available <= total_bytes);
        Ok(Self { total_bytes, available_bytes })
    }

    /// What is in use.
    pub fn used_bytes(&self) -> Option<u64> {
        self.available_bytes.map(|available| self.total_bytes - available)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fixture::Tree;

    #[test]
    fn meminfo() {
        // (content, total and available in KiB)
        let cases = [
            ("MemTotal:  1000 kB\nMemFree: 10 kB\nMemAvailable:  400 kB\n", Some((1000, Some(400)))),
            ("MemTotal:  1000 kB\nMemFree: 10 kB\n", Some((1000, None))),
            ("MemTotal:  1000 kB\nMemAvailable:  4000 kB\n", Some((1000, None))),
            ("MemTotal:  1000 kB\nMemAvailable:  -4 kB\n", Some((1000, None))),
            ("MemTotalled:  1000 kB\n", None),
            ("MemTotal: 1000\n", None),
            ("MemTotal: 99999999999999999999 kB\n", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let found = Memory::read(&Tree::new(&[("proc/meminfo", text)]).roots());
            match expected {
                Some((total, available)) => {
                    let found = found.unwrap();
                    assert_eq!(found.total_bytes, total * 1024, "{text:?}");
                    assert_eq!(found.available_bytes, available.map(|kib: u64| kib * 1024), "{text:?}");
                    assert_eq!(found.used_bytes(), available.map(|kib| (total - kib) * 1024), "{text:?}");
                }
                None => assert!(matches!(found, Err(Fault::Garbled { .. })), "{text:?}: {found:?}"),
            }
        }
        assert!(matches!(Memory::read(&Tree::new(&[]).roots()), Err(Fault::Missing { .. })));
        let closed = Tree::new(&[("proc/meminfo", "MemTotal: 1 kB")]);
        closed.deny("proc/meminfo");
        assert!(matches!(Memory::read(&closed.roots()), Err(Fault::Denied { .. })));
    }
}
