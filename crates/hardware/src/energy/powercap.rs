//! Package energy counters of the kernel's powercap interface (RAPL, on Intel and on AMD since Zen).
//!
//! `intel-rapl:N` are the top domains: packages, and on some laptops `psys`, which contains them.
//! `intel-rapl:N:M` are parts of a package, and `intel-rapl-mmio:N` is a second door to the same counter. Only
//! packages are added up. Memory (`dram`) is outside the package and is left out, which the source says.

use super::{EnergyFlag, SPAN_UPDATES_MIN};
use crate::Roots;
use crate::files::{Files, PlainFiles};
use qeil_units::{Joules, Seconds};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A number and a newline; anything longer is garbage.
const COUNTER_BYTES_MAX: u64 = 64;
/// Entries looked at in the powercap folder: eight packages with every part take 40.
const ENTRIES_MAX: usize = 4096;
/// No package draws more: the largest sold are rated 500 W, and peak at twice that.
const PACKAGE_W_MAX: f64 = 2000.0;
/// The counter's update period: about 1 ms (Intel SDM volume 3B, 15.10.3).
const UPDATE_S: f64 = 1e-3;
/// Allowance for energy that one late update brings in at once, when jumps are judged.
const LATE_UPDATE_S: f64 = 0.1;
/// Characters of a garbled counter that are shown.
const SHOWN_CHARS_MAX: usize = 32;

/// One package domain.
#[derive(Debug)]
pub(super) struct Package {
    name: String,
    energy: PathBuf,
    /// Where the counter starts again; `None` where the kernel does not tell, and then no wrap is accepted.
    range_uj: Option<u64>,
}

impl Package {
    /// Shortest time in which the counter could wrap.
    pub(super) fn wrap_s_min(&self) -> Option<f64> {
        self.range_uj.map(|range_uj| range_uj as f64 * 1e-6 / PACKAGE_W_MAX)
    }

    fn read_uj(&self) -> Result<u64, EnergyFlag> {
        let text =
            PlainFiles.text(&self.energy, COUNTER_BYTES_MAX).map_err(|error| self.unreadable(&error))?;
        match text.trim().parse() {
            Ok(uj) if self.range_uj.is_none_or(|range_uj| uj <= range_uj) => Ok(uj),
            _ => Err(self.garbled(&text)),
        }
    }

    fn unreadable(&self, error: &io::Error) -> EnergyFlag {
        let path = self.energy.clone();
        match error.kind() {
            io::ErrorKind::PermissionDenied => EnergyFlag::CounterDenied { path },
            io::ErrorKind::InvalidData => EnergyFlag::CounterGarbled { path, found: error.to_string() },
            _ => EnergyFlag::CounterUnreadable { path, error: error.to_string() },
        }
    }

    fn garbled(&self, text: &str) -> EnergyFlag {
        let found = text.trim().chars().take(SHOWN_CHARS_MAX).collect();
        EnergyFlag::CounterGarbled { path: self.energy.clone(), found }
    }

    /// Energy between two readings `gap_s` apart.
    fn moved_uj(&self, from_uj: u64, to_uj: u64, gap_s: f64) -> Result<u64, EnergyFlag> {
        let moved_uj = match self.range_uj {
            _ if to_uj >= from_uj => to_uj - from_uj,
            Some(range_uj) => range_uj - from_uj + to_uj,
            None => return Err(self.garbled(&format!("{to_uj} after {from_uj}"))),
        };
        let power_w = moved_uj as f64 * 1e-6 / (gap_s + LATE_UPDATE_S);
        if power_w > PACKAGE_W_MAX {
            return Err(EnergyFlag::CounterJumped { path: self.energy.clone(), power_w });
        }
        Ok(moved_uj)
    }
}

/// Finds the packages and reads each once: one that cannot be read spoils the sum, so it spoils all.
pub(super) fn discover(roots: &Roots) -> Result<Vec<Package>, EnergyFlag> {
    let folder = roots.sys.join("class/powercap");
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(EnergyFlag::NoCounter { folder });
        }
        Err(error) => return Err(EnergyFlag::CounterUnreadable { path: folder, error: error.to_string() }),
    };
    let mut packages: Vec<Package> =
        entries.take(ENTRIES_MAX).flatten().filter_map(|entry| package(&entry.path())).collect();
    if packages.is_empty() {
        return Err(EnergyFlag::NoCounter { folder });
    }
    packages.sort_by(|a, b| a.energy.cmp(&b.energy));
    packages.iter().try_for_each(|package| package.read_uj().map(drop))?;
    Ok(packages)
}

fn package(domain: &Path) -> Option<Package> {
    let number = domain.file_name()?.to_str()?.strip_prefix("intel-rapl:")?;
    if number.parse::<u32>().is_err() {
        return None;
    }
    let name = PlainFiles.text(&domain.join("name"), COUNTER_BYTES_MAX).ok()?.trim().to_owned();
    if !name.starts_with("package-") {
        return None;
    }
    let range = PlainFiles.text(&domain.join("max_energy_range_uj"), COUNTER_BYTES_MAX).ok();
    let range_uj = range.and_then(|text| text.trim().parse().ok()).filter(|range_uj| *range_uj > 0);
    Some(Package { name, energy: domain.join("energy_uj"), range_uj })
}

/// What a measured figure names as its source.
pub(super) fn source(packages: &[Package]) -> String {
    let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    format!("powercap {} (all processes, without memory)", names.join(" + "))
}

/// The counters of all packages during a span.
#[derive(Debug)]
pub(super) struct Counters {
    last_uj: Vec<u64>,
    moved_uj: Vec<u64>,
    read_at: Duration,
    longest_gap_s: f64,
}

impl Counters {
    pub(super) fn begin(packages: &[Package], now: Duration) -> Result<Self, EnergyFlag> {
        let last_uj: Vec<u64> = packages.iter().map(Package::read_uj).collect::<Result<_, _>>()?;
        Ok(Self { moved_uj: vec![0; last_uj.len()], last_uj, read_at: now, longest_gap_s: 0.0 })
    }

    /// Adds what the counters moved since the last call.
    pub(super) fn advance(&mut self, packages: &[Package], now: Duration) -> Result<(), EnergyFlag> {
        let gap_s = now.saturating_sub(self.read_at).as_secs_f64();
        for (i, package) in packages.iter().enumerate() {
            let uj = package.read_uj()?;
            self.moved_uj[i] =
                self.moved_uj[i].saturating_add(package.moved_uj(self.last_uj[i], uj, gap_s)?);
            self.last_uj[i] = uj;
        }
        self.read_at = now;
        self.longest_gap_s = self.longest_gap_s.max(gap_s);
        Ok(())
    }

    /// The sum over all packages, after the last `advance`.
    pub(super) fn finish(
        self,
        packages: &[Package],
        seconds: Seconds,
    ) -> Result<(Joules, Vec<EnergyFlag>), EnergyFlag> {
        let mut flags = Vec::new();
        let seconds_min = UPDATE_S * SPAN_UPDATES_MIN;
        let stuck = self.moved_uj.iter().position(|uj| *uj == 0);
        match (seconds.0 < seconds_min, stuck) {
            (false, None) => {}
            (true, None) => flags.push(EnergyFlag::ShortSpan { seconds_min }),
            // No update fell into the span: zero would be wrong.
            (true, Some(_)) => return Err(EnergyFlag::ShortSpan { seconds_min }),
            (false, Some(i)) => return Err(EnergyFlag::CounterStuck { path: packages[i].energy.clone() }),
        }
        if let Some(gap_s_max) = packages.iter().filter_map(Package::wrap_s_min).reduce(f64::min)
            && self.longest_gap_s > gap_s_max
        {
            flags.push(EnergyFlag::LongGap { gap_s: self.longest_gap_s, gap_s_max });
        }
        Ok((Joules(self.moved_uj.iter().map(|uj| *uj as f64 * 1e-6).sum()), flags))
    }
}
