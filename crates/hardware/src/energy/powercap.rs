//! Energy counters of the kernel's powercap interface (RAPL, on Intel and on AMD since Zen).
//!
//! `intel-rapl:N` are the top domains: packages, and on some laptops `psys`, the whole platform, which contains them.
//! `intel-rapl:N:M` are parts of a package: `core` and `uncore` lie inside it, `dram` outside
//! (Documentation/power/powercap/powercap.rst). `intel-rapl-mmio:N` is a second door to the same counter. So packages
//! are summed, memory with them where its counter moves, and everything else is shown beside.

use super::EnergyFlag;
use super::source::{FileGauge, Kind, Part, Source, Sources};
use crate::Roots;
use crate::files::Fault;
use std::io;
use std::path::{Path, PathBuf};

/// How sources of this kind begin.
pub(super) const METHOD: &str = "powercap";
/// No package draws more: the largest sold are rated 500 W, and peak at twice that.
const PACKAGE_W_MAX: f64 = 2000.0;
/// The counter's update period: about 1 ms (Intel SDM volume 3B, 15.10.3).
const UPDATE_S: f64 = 1e-3;
/// Domains believed: eight packages with every part take 40.
const DOMAINS_MAX: usize = 4096;

/// Finds the domains and reads each once: a package that cannot be read spoils the sum, so it spoils all.
pub(crate) fn discover(roots: &Roots) -> Result<Sources, EnergyFlag> {
    let folder = roots.sys.join("class/powercap");
    let entries = match roots.files.entries(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(EnergyFlag::NoCounter { folder });
        }
        Err(error) => return Err(Fault::new(&folder, &error).into()),
    };
    let mut list: Vec<Source> =
        entries.iter().take(DOMAINS_MAX).filter_map(|entry| domain(roots, entry)).collect();
    if !list.iter().any(|source| source.part == Part::Summed) {
        return Err(EnergyFlag::NoCounter { folder });
    }
    for source in &list {
        if source.part == Part::Summed {
            source.read()?;
        }
    }
    list.sort_by(|a, b| a.place.cmp(&b.place));
    Ok(Sources { method: METHOD, covers: "all processes", list })
}

fn domain(roots: &Roots, folder: &Path) -> Option<Source> {
    let numbers: Vec<&str> = folder.file_name()?.to_str()?.strip_prefix("intel-rapl:")?.split(':').collect();
    if numbers.iter().any(|number| number.parse::<u32>().is_err()) {
        return None;
    }
    let own = roots.word(&folder.join("name"))?;
    let (name, part) = match (&numbers[..], own.as_str()) {
        ([_], package) if package.starts_with("package-") => (own, Part::Summed),
        ([_], "psys") => (own, Part::Beside),
        ([number, _], part @ ("core" | "uncore" | "dram")) => {
            let package = roots.word(&folder.with_file_name(format!("intel-rapl:{number}")).join("name"))?;
            if !package.starts_with("package-") {
                return None;
            }
            (format!("{part} of {package}"), if part == "dram" { Part::IfItMoves } else { Part::Beside })
        }
        _ => return None,
    };
    let energy = folder.join("energy_uj");
    let range: Option<u64> = roots.number(&folder.join("max_energy_range_uj")).ok();
    Some(Source {
        name,
        place: energy.clone(),
        part,
        kind: Kind::Counter { range_uj: range.filter(|range_uj| *range_uj > 0) },
        update_s: UPDATE_S,
        w_max: PACKAGE_W_MAX,
        gauge: Box::new(FileGauge { files: roots.files.clone(), path: energy }),
    })
}

/// The counters that this user may not read.
pub(crate) fn closed(roots: &Roots) -> Vec<PathBuf> {
    let folders = roots.entries(&roots.sys.join("class/powercap")).into_iter();
    let counters = folders.map(|folder| folder.join("energy_uj"));
    counters.filter(|counter| matches!(roots.number::<u64>(counter), Err(Fault::Denied { .. }))).collect()
}
