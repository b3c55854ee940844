//! What the machine is, and what it draws.
//!
//! Everything is read from `/proc` and `/sys`, and both are paths that a test can point at a folder of its own
//! ([`Roots`]): the second implementation of a sensor is a fixture tree. What cannot be read is `None` or a
//! flag on the reading, never a made-up number; a counter that lies is treated as one that is missing.
//!
//! | module | job |
//! |---|---|
//! | [`cpu`] | processor name, logical CPUs, physical cores, which of them this process may use |
//! | [`energy`] | energy of a span: package counters where they can be read, else a stated estimate |
//!
//! Nothing here knows what a token is.

pub mod cpu;
pub mod energy;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where the kernel's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// Usually `/proc`.
    pub proc: PathBuf,
    /// Usually `/sys`.
    pub sys: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into() }
    }
}

/// Reads a text file up to `bytes_max`; a longer one is an error, because half of it could mislead.
fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {bytes_max} bytes")));
    }
    Ok(text)
}
