//! Reading the kernel's files, and what can go wrong with one.
//!
//! All that this crate learns comes through [`Files`], under folders that a test chooses ([`Roots`]). Most failures can
//! be acted out by a fixture tree; a file that is there and closed cannot, where tests run as root, and neither can one
//! that vanishes between being listed and being read. For these the trait has a second implementation in the tests.
//!
//! Every read is bounded, and a number is either plainly one or a [`Fault`]: half of a number, or a negative count, is
//! worse than none.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// A number and a newline; anything longer is garbage.
pub(crate) const NUMBER_BYTES_MAX: u64 = 64;
/// A name, a label or a state: sysfs itself ends at a page.
pub(crate) const PAGE_BYTES_MAX: u64 = 4096;
/// Entries looked at in one folder: the largest read here has a few for each of 8192 CPUs.
const ENTRIES_MAX: usize = 32_768;
/// Characters of a garbled file that are shown.
const SHOWN_CHARS_MAX: usize = 32;

/// How files are read.
pub trait Files: fmt::Debug + Send + Sync {
    /// The text of a file.
    ///
    /// # Errors
    /// What the system says, and `InvalidData` for a file longer than `bytes_max` or not in UTF-8: half of a file could
    /// mislead.
    fn text(&self, path: &Path, bytes_max: u64) -> io::Result<String>;

    /// The entries of a folder, in order of their names.
    ///
    /// # Errors
    /// What the system says.
    fn entries(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
}

/// The files of the running kernel, or of a fixture tree.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainFiles;

impl Files for PlainFiles {
    fn text(&self, path: &Path, bytes_max: u64) -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
        if text.len() as u64 > bytes_max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {bytes_max} bytes")));
        }
        Ok(text)
    }

    fn entries(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(folder)?.take(ENTRIES_MAX);
        let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        Ok(entries)
    }
}

/// Where the kernel's files are, and how they are read.
#[derive(Debug, Clone)]
pub struct Roots {
    /// Usually `/proc`.
    pub proc: PathBuf,
    /// Usually `/sys`.
    pub sys: PathBuf,
    /// Usually `/etc`; only the name of the operating system is read there.
    pub etc: PathBuf,
    /// How they are read.
    pub files: Arc<dyn Files>,
}

impl Default for Roots {
    fn default() -> Self {
        Self::below(Path::new("/"))
    }
}

impl Roots {
    /// The folders `proc`, `sys` and `etc` of a tree.
    pub fn below(root: &Path) -> Self {
        Self {
            proc: root.join("proc"),
            sys: root.join("sys"),
            etc: root.join("etc"),
            files: Arc::new(PlainFiles),
        }
    }

    /// The trimmed text of a small file; `None` where it cannot be read or is empty.
    pub(crate) fn word(&self, path: &Path) -> Option<String> {
        let text = self.files.text(path, PAGE_BYTES_MAX).ok()?;
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The entries of a folder; none where it cannot be read.
    pub(crate) fn entries(&self, folder: &Path) -> Vec<PathBuf> {
        self.files.entries(folder).unwrap_or_default()
    }

    /// The one number that a file holds.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn number<N: FromStr>(&self, path: &Path) -> Result<N, Fault> {
        number(self.files.as_ref(), path)
    }
}

/// The one number that a file holds.
pub(crate) fn number<N: FromStr>(files: &dyn Files, path: &Path) -> Result<N, Fault> {
    let text = files.text(path, NUMBER_BYTES_MAX).map_err(|error| Fault::new(path, &error))?;
    text.trim().parse().map_err(|_| Fault::garbled(path, &text))
}

/// Why a sensor gave no figure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// It is not there, or not any more.
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is there for others.
    Denied {
        /// The file.
        path: PathBuf,
    },
    /// The kernel or the driver refused.
    Unreadable {
        /// The file, or the device.
        path: PathBuf,
        /// What it said.
        error: String,
    },
    /// It held something else than a number in its range.
    Garbled {
        /// The file.
        path: PathBuf,
        /// What it held, shortened.
        found: String,
    },
}

impl Fault {
    pub(crate) fn new(path: &Path, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::PermissionDenied => Self::Denied { path },
            io::ErrorKind::InvalidData => Self::Garbled { path, found: error.to_string() },
            _ => Self::Unreadable { path, error: error.to_string() },
        }
    }

    pub(crate) fn garbled(path: &Path, text: &str) -> Self {
        Self::Garbled { path: path.to_owned(), found: text.trim().chars().take(SHOWN_CHARS_MAX).collect() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { path } => write!(f, "{} is not there", path.display()),
            Self::Denied { path } => {
                write!(f, "{} is closed to this user: `sudo chmod a+r {}`", path.display(), path.display())
            }
            Self::Unreadable { path, error } => write!(f, "{} could not be read ({error})", path.display()),
            Self::Garbled { path, found } => {
                write!(f, "{} holds {found:?}, no number in its range", path.display())
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod fixture;

#[cfg(test)]
mod tests {
    use super::fixture::Tree;
    use super::*;

    #[test]
    fn each_way_a_file_can_fail() {
        let tree = Tree::new(&[
            ("sys/good", " 42\n"),
            ("sys/negative", "-3\n"),
            ("sys/text", "n/a\n"),
            ("sys/empty", ""),
            ("sys/long", &"9".repeat(100)),
            ("sys/closed", "1\n"),
            ("sys/folder/file", ""),
        ]);
        tree.write_bytes("sys/binary", &[0xff, 0xfe, 0]);
        tree.deny("sys/closed");
        let roots = tree.roots();
        // (file, as a count, as a whole number)
        let garbled = |f: &Fault| matches!(f, Fault::Garbled { .. });
        type Is = fn(&Fault) -> bool;
        let cases: &[(&str, Is)] = &[
            ("negative", garbled),
            ("text", garbled),
            ("empty", garbled),
            ("long", garbled),
            ("binary", garbled),
            ("closed", |f| matches!(f, Fault::Denied { .. })),
            ("absent", |f| matches!(f, Fault::Missing { .. })),
            ("folder", |f| matches!(f, Fault::Unreadable { .. })),
        ];
        for (name, is) in cases {
            let fault = roots.number::<u64>(&roots.sys.join(name)).unwrap_err();
            assert!(is(&fault), "{name}: {fault:?}");
            assert!(fault.to_string().contains(name), "{fault}");
        }
        assert_eq!(roots.number::<u64>(&roots.sys.join("good")), Ok(42));
        assert_eq!(roots.number::<i64>(&roots.sys.join("negative")), Ok(-3));
    }

    /// The kernel's own refusal, which even root gets: the thread gives up the right to read the folder.
    #[test]
    fn a_file_that_the_kernel_closes() {
        use landlock::{ABI, AccessFs, Ruleset, RulesetAttr, RulesetStatus};
        let tree = Tree::new(&[("sys/counter", "7\n")]);
        let roots = tree.roots();
        let path = roots.sys.join("counter");
        assert_eq!(roots.number::<u64>(&path), Ok(7));
        let denied = std::thread::scope(|scope| {
            let confined = scope.spawn(|| {
                let status = Ruleset::default()
                    .handle_access(AccessFs::from_read(ABI::V1))
                    .and_then(Ruleset::create)
                    .and_then(landlock::RulesetCreated::restrict_self)
                    .unwrap();
                (status.ruleset != RulesetStatus::NotEnforced).then(|| roots.number::<u64>(&path))
            });
            confined.join().unwrap()
        });
        match denied {
            Some(found) => assert_eq!(found, Err(Fault::Denied { path })),
            None => println!("not checked: this kernel has no Landlock"),
        }
    }
}
