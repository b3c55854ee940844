//! Two readings of a wall meter that the user types in.
//!
//! Where no sensor can be read, the best figures are those of a meter between plug and socket: what the whole machine
//! draws when nothing runs and when every CPU is busy. They are kept in the user's configuration folder and serve every
//! later estimate on the machine they were taken on; a home folder that several machines share is no trap, because the
//! file says which machine it speaks of.

use crate::Roots;
use crate::catalogue::{FigureError, config_folder, read_file};
use crate::cpu::Cpu;
use crate::energy::{Envelope, EnvelopeError};
use qeil_units::Watts;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const FILE_NAME: &str = "calibration.toml";
/// What stands at the head of the file.
const HEAD: &str = "# Readings of a wall meter, typed in with `qeil doctor --calibrate IDLE_W:BUSY_W`.\n";

/// What a wall meter said about one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Watts of the whole machine when nothing runs.
    pub idle_w: f64,
    /// Watts of the whole machine when every CPU is busy.
    pub busy_w: f64,
    /// When it was typed in, in seconds since 1970.
    pub at_unix_s: u64,
    /// The processor of the machine.
    pub cpu_model: Option<String>,
    /// Its logical CPUs.
    pub logical_cpus: u32,
}

impl Calibration {
    /// Readings for the machine of `roots`, taken now.
    ///
    /// # Errors
    /// If they are no envelope.
    pub fn new(roots: &Roots, idle: Watts, busy: Watts) -> Result<Self, EnvelopeError> {
        Envelope::from_watts(idle, busy)?;
        let cpu = Cpu::read(roots);
        let at_unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Ok(Self {
            idle_w: idle.0,
            busy_w: busy.0,
            at_unix_s,
            cpu_model: cpu.model,
            logical_cpus: cpu.logical_cpus,
        })
    }

    /// Keeps it in the user's configuration folder, in place of an earlier one, and says where.
    ///
    /// # Errors
    /// When there is no such folder, or it cannot be written.
    pub fn keep(&self) -> Result<PathBuf, FigureError> {
        self.keep_in(&config_folder().ok_or(FigureError::NoHome)?)
    }

    /// Keeps it in `folder`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_in(&self, folder: &Path) -> Result<PathBuf, FigureError> {
        let path = folder.join(FILE_NAME);
        let write = |source| FigureError::Write { path: path.clone(), source };
        let text = toml::to_string(self).map_err(|error| FigureError::Wrong {
            origin: path.display().to_string(),
            why: error.to_string(),
        })?;
        // Renamed into place, so that no reader ever sees half of it.
        let part = path.with_extension(format!("part-{}", std::process::id()));
        fs::create_dir_all(folder).map_err(write)?;
        fs::write(&part, format!("{HEAD}{text}")).map_err(write)?;
        fs::rename(&part, &path).map_err(write)?;
        Ok(path)
    }

    /// The readings kept in `folder` for this processor; `None` where there are none, or they are another machine's.
    ///
    /// # Errors
    /// When the file is there and cannot be read, or makes no sense.
    pub fn find_in(folder: &Path, cpu: &Cpu) -> Result<Option<Self>, FigureError> {
        let path = folder.join(FILE_NAME);
        let Some(text) = read_file(&path)? else { return Ok(None) };
        let wrong = |why| FigureError::Wrong { origin: path.display().to_string(), why };
        let found: Self = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        Envelope::from_watts(Watts(found.idle_w), Watts(found.busy_w))
            .map_err(|error| wrong(error.to_string()))?;
        Ok((found.cpu_model == cpu.model && found.logical_cpus == cpu.logical_cpus).then_some(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fixture::Tree;
    use tempfile::TempDir;

    fn machine(model: &str) -> Tree {
        Tree::new(&[
            ("proc/cpuinfo", &format!("processor : 0\nmodel name : {model}\n")),
            ("sys/devices/system/cpu/online", "0-1"),
        ])
    }

    #[test]
    fn readings_are_kept_for_their_machine() {
        let folder = TempDir::new().unwrap();
        let config = folder.path().join("qeil");
        let tree = machine("A");
        let cpu = Cpu::read(&tree.roots());
        assert_eq!(Calibration::find_in(&config, &cpu).unwrap(), None);
        let first = Calibration::new(&tree.roots(), Watts(8.0), Watts(45.0)).unwrap();
        let path = first.keep_in(&config).unwrap();
        assert!(path.ends_with("qeil/calibration.toml"), "{}", path.display());
        assert_eq!(Calibration::find_in(&config, &cpu).unwrap(), Some(first));
        let second = Calibration::new(&tree.roots(), Watts(9.0), Watts(50.0)).unwrap();
        second.keep_in(&config).unwrap();
        assert_eq!(Calibration::find_in(&config, &cpu).unwrap(), Some(second));
        assert_eq!(fs::read_dir(&config).unwrap().count(), 1);
        assert_eq!(Calibration::find_in(&config, &Cpu::read(&machine("B").roots())).unwrap(), None);
    }

    #[test]
    fn readings_and_files_that_are_wrong() {
        let tree = machine("A");
        assert!(Calibration::new(&tree.roots(), Watts(45.0), Watts(8.0)).is_err());
        let cpu = Cpu::read(&tree.roots());
        let tail = "at_unix_s = 1\ncpu_model = \"A\"\nlogical_cpus = 2\n";
        for text in [
            format!("idle_w = 9\nbusy_w = 8\n{tail}"),
            format!("idle_w = -9\nbusy_w = 8\n{tail}"),
            format!("idle_w = 9\n{tail}"),
            "idle".into(),
        ] {
            let folder = TempDir::new().unwrap();
            fs::write(folder.path().join(FILE_NAME), &text).unwrap();
            let error = Calibration::find_in(folder.path(), &cpu).unwrap_err().to_string();
            assert!(error.contains(FILE_NAME), "{text}: {error}");
        }
        let kept = Calibration::new(&tree.roots(), Watts(1.0), Watts(2.0)).unwrap();
        assert!(matches!(kept.keep_in(Path::new("/proc/nowhere")), Err(FigureError::Write { .. })));
    }
}
