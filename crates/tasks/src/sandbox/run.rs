//! The caller's side: start the launcher, keep the clock, gather what comes.

use super::capture::Capture;
use super::program::Found;
use super::wire::{self, Executable, Held, Report, Spec};
use super::{Confinement, End, Limits, Means, Outcome, Program, SandboxError};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal};
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a launcher told to stop may take before it is killed itself.
const STOP: Duration = Duration::from_secs(2);
/// How long a probe may take: it starts two processes on a machine that may be busy.
const PROBE: Duration = Duration::from_secs(20);
/// How long the pipes of a killed process group are read on: one that left the group may hold them for ever.
const DRAIN: Duration = Duration::from_millis(100);
/// The kernel ends a process at its CPU limit on a tick of its own, which may be some milliseconds early or late.
const CPU_TICK_S: f64 = 0.05;

/// Set everything up but run nothing.
pub fn probe(confinement: &Confinement, limits: &Limits) -> Result<Held, SandboxError> {
    let limits = Limits { wall: PROBE, ..limits.clone() };
    let folder = folder(confinement.means)?;
    let spec = Spec { means: confinement.means, limits, program: None, folder: path(folder.as_ref()) };
    let told = tell(confinement, &spec)?;
    match told.reports.into_iter().next() {
        Some(Report::Holds(held)) => Ok(held),
        Some(Report::Failed(why)) => Err(SandboxError::SetUp(why)),
        _ => Err(SandboxError::Vanished),
    }
}

/// Run a program in there.
pub fn confined(
    confinement: &Confinement,
    limits: &Limits,
    program: &Program,
    found: Found,
) -> Result<Outcome, SandboxError> {
    let started = Instant::now();
    let folder = folder(confinement.means)?;
    let program = Executable {
        path: found.path,
        argv: program.argv.clone(),
        readable: found.readable,
        files: program.files.clone(),
        stdin: program.stdin.clone(),
    };
    let spec = Spec {
        means: confinement.means,
        limits: limits.clone(),
        program: Some(program),
        folder: path(folder.as_ref()),
    };
    let told = tell(confinement, &spec)?;
    if told.stopped {
        return Ok(told.capture.outcome(End::WallLimit, started));
    }
    match told.reports.into_iter().next() {
        Some(Report::Ended { code, signal, cpu_s }) => {
            Ok(told.capture.outcome(end(code, signal, cpu_s, limits), started))
        }
        Some(Report::Failed(why)) => Err(SandboxError::SetUp(why)),
        Some(Report::Holds(_)) | None => Err(SandboxError::Vanished),
    }
}

fn end(code: Option<i32>, signal: Option<i32>, cpu_s: f64, limits: &Limits) -> End {
    let spent = cpu_s + CPU_TICK_S >= limits.cpu_s as f64;
    match (code, signal) {
        (_, Some(signal)) if signal == Signal::KILL.as_raw() && spent => End::CpuLimit,
        (_, Some(signal)) => End::Signalled(signal),
        (code, None) => End::Exited(code.unwrap_or_default()),
    }
}

/// Namespaces bring their own folder; without them it is one of the caller's, removed at the end.
fn folder(means: Means) -> io::Result<Option<TempDir>> {
    match means {
        Means::Namespaces => Ok(None),
        Means::Landlock => tempfile::Builder::new().prefix("qeil-sandbox-").tempdir().map(Some),
    }
}

fn path(folder: Option<&TempDir>) -> Option<std::path::PathBuf> {
    folder.map(|folder| folder.path().to_owned())
}

/// What a launcher said.
struct Told {
    reports: Vec<Report>,
    capture: Capture,
    /// Whether it was told to stop, at the wall-clock limit.
    stopped: bool,
}

/// A launcher never outlives the call that started it.
struct Launcher(Child);

impl Drop for Launcher {
    fn drop(&mut self) {
        // Either has ended already, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Start the launcher, tell it what to run, and listen until it and all that it started have gone.
fn tell(confinement: &Confinement, spec: &Spec) -> Result<Told, SandboxError> {
    let deadline = Instant::now() + spec.limits.wall;
    let (mut ours, theirs) = UnixStream::pair()?;
    let mut launcher = Command::new(&confinement.launcher)
        .args(["sandbox", "outer", spec.means.word()])
        .env_clear()
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C in a terminal is for the caller: when it goes, its end of the socket tells the launcher.
        .process_group(0)
        .spawn()
        .map(Launcher)
        .map_err(|source| SandboxError::Launcher { launcher: confinement.launcher.clone(), source })?;
    let cell = confinement.cgroup.as_ref().and_then(|cgroup| cgroup.cell(&launcher.0, &spec.limits));
    let mut capture = Capture::of(&mut launcher.0, spec.limits.output_bytes);
    // A launcher that does not read has ended or hangs; it is heard out, or stopped, below.
    ours.set_write_timeout(Some(spec.limits.wall))?;
    let _ = ours.write_all(&wire::GO).and_then(|()| wire::send(&mut ours, spec));

    let (mut come, mut reports) = (Vec::new(), Vec::new());
    let (mut until, mut stopped, mut listening) = (deadline, false, true);
    while listening || capture.open() {
        if Instant::now() >= until {
            if stopped || !listening {
                break;
            }
            (stopped, until) = (true, Instant::now() + STOP);
            // It hears this as the caller hanging up. Where it has gone already there is nobody to hear it.
            let _ = ours.shutdown(Shutdown::Write);
        }
        if capture.wait(listening.then(|| ours.as_fd()), until)? {
            let mut chunk = [0; 4096];
            match ours.read(&mut chunk) {
                Ok(0) | Err(_) => {
                    listening = false;
                    until = Instant::now() + STOP;
                }
                Ok(n) => come.extend_from_slice(&chunk[..n]),
            }
            while let Some(report) = wire::take_report(&mut come)? {
                reports.push(report);
            }
        }
    }
    drop(launcher);
    drop(cell);
    Ok(Told { reports, capture, stopped })
}

/// Run a program with the caller's own rights.
pub fn unconfined(limits: &Limits, program: &Program, found: &Found) -> Result<Outcome, SandboxError> {
    let started = Instant::now();
    let until = started + limits.wall;
    let folder = tempfile::Builder::new().prefix("qeil-sandbox-").tempdir()?;
    write_files(folder.path(), &program.files)?;
    let mut child = Command::new(&found.path)
        .arg0(&program.argv[0])
        .args(&program.argv[1..])
        .env_clear()
        .envs(environment(folder.path()))
        .current_dir(folder.path())
        .stdin(input(&program.stdin)?)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| SandboxError::Program(format!("{} did not start: {error}", found.path.display())))?;
    let pid = Pid::from_child(&child);
    for (resource, most) in limits.resources() {
        // Fails when the program has ended already.
        let _ = rustix::process::prlimit(Some(pid), resource, exactly(most));
    }
    let mut capture = Capture::of(&mut child, limits.output_bytes);
    let ended = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from)?;
    let mut stopped = true;
    while Instant::now() < until {
        if capture.wait(Some(ended.as_fd()), until)? {
            stopped = false;
            break;
        }
    }
    // The group is still this program's: its number is free for others only once it has been waited for.
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    let status = child.wait()?;
    let until = Instant::now() + DRAIN;
    while capture.open() && Instant::now() < until {
        capture.wait(None, until)?;
    }
    let end = match (stopped, status.code(), status.signal()) {
        (true, ..) => End::WallLimit,
        (_, _, Some(signal)) if signal == Signal::XCPU.as_raw() => End::CpuLimit,
        (_, code, signal) => end(code, signal, 0.0, limits),
    };
    Ok(capture.outcome(end, started))
}

fn input(bytes: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// The files of a program, in its folder.
pub fn write_files(folder: &Path, files: &[(String, Vec<u8>)]) -> io::Result<()> {
    for (name, bytes) in files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, bytes)?;
    }
    Ok(())
}

/// All that a program finds in its environment. One thread a library: a verdict must not depend on the machine's
/// cores, and threads are limited.
pub fn environment(folder: &Path) -> [(&'static str, &Path); 6] {
    [
        ("PATH", Path::new("/usr/bin:/bin")),
        ("HOME", folder),
        ("TMPDIR", folder),
        ("LANG", Path::new("C.UTF-8")),
        ("PYTHONHASHSEED", Path::new("0")),
        ("OMP_NUM_THREADS", Path::new("1")),
    ]
}

/// A limit that cannot be raised again.
pub fn exactly(most: u64) -> Rlimit {
    Rlimit { current: Some(most), maximum: Some(most) }
}

impl Limits {
    /// The rlimits that hold however a program is confined.
    pub(super) fn resources(&self) -> [(Resource, u64); 9] {
        /// Enough for any unit test; each pipe may hold kernel memory.
        const DESCRIPTORS: u64 = 128;
        /// What Linux gives by default; "unlimited" would turn endless recursion into endless memory.
        const STACK_BYTES: u64 = 8 << 20;
        [
            (Resource::Cpu, self.cpu_s),
            (Resource::As, self.memory_bytes),
            (Resource::Fsize, self.file_bytes),
            (Resource::Core, 0),
            (Resource::Nofile, DESCRIPTORS),
            (Resource::Stack, STACK_BYTES),
            (Resource::Memlock, 0),
            (Resource::Msgqueue, 0),
            (Resource::Rtprio, 0),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_have_their_names() {
        let limits = Limits { cpu_s: 2, ..Limits::default() };
        for (code, signal, cpu_s, expected) in [
            (Some(0), None, 0.0, End::Exited(0)),
            (Some(7), None, 9.0, End::Exited(7)),
            (None, Some(11), 2.0, End::Signalled(11)),
            (None, Some(9), 1.2, End::Signalled(9)),
            (None, Some(9), 1.99, End::CpuLimit),
        ] {
            assert_eq!(end(code, signal, cpu_s, &limits), expected, "{code:?} {signal:?} {cpu_s}");
        }
    }
}
