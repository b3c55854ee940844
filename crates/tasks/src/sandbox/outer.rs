//! The outer process: leaves the caller's namespaces, starts the inner process, and ends everything.
//!
//! It is trusted and stays outside, because only a process outside can kill process 1 of a PID namespace, and when
//! that one dies the kernel kills all others in there before anybody learns of it: once this process has waited for
//! its child, nothing is left. It hears of the caller's wish to stop, and of the caller's death, in the same way: the
//! caller's end of the socket closes.

use super::wire::{self, Report};
use super::{Means, identity, inner};
use nix::sched::CloneFlags;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Stdio};

/// The first descriptor after the three that a program inherits.
const FIRST_OWN: i32 = 3;
/// All that can be left without asking for a user namespace first.
const APART: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWCGROUP);

/// The hidden subcommand `sandbox`, in both of its parts. To be called before the program has read its arguments or
/// started a thread.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let part: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let known = |word: &str| [Means::Namespaces, Means::Landlock].into_iter().find(|m| m.word() == word);
    let means = match part[..] {
        ["inner"] => None,
        ["outer", word] if known(word).is_some() => known(word),
        _ => {
            let _ = writeln!(io::stderr(), "error: `sandbox` is started by the program itself");
            return ExitCode::FAILURE;
        }
    };
    // Callers may have been given descriptors themselves, by a shell, say, that any program of theirs inherits.
    close_fds::set_fds_cloexec(FIRST_OWN, &[]);
    // Not for the program: closed by the exec that starts it.
    let Ok(control) = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), FIRST_OWN) else {
        return ExitCode::FAILURE;
    };
    let mut control = UnixStream::from(control);
    let report = match means {
        Some(means) => outer(&mut control, means),
        None => inner::inner(&mut control),
    };
    // Where the caller has gone, nobody is left to tell.
    match wire::send(&mut control, &report.unwrap_or_else(Report::Failed)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn outer(control: &mut UnixStream, means: Means) -> Result<Report, String> {
    control.read_exact(&mut [0; wire::GO.len()]).map_err(|error| format!("the caller has gone: {error}"))?;
    if means == Means::Namespaces {
        leave()?;
    }
    let wait = |error: io::Error| format!("waiting for the inner process: {error}");
    // Not the path that it was started by: that may be another program's by now.
    let mut child = Command::new("/proc/self/exe")
        .args(["sandbox", "inner"])
        .env_clear()
        .stdin(Stdio::inherit())
        .spawn()
        .map_err(|error| format!("starting the inner process: {error}"))?;
    let ended = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
        .map_err(|e| wait(e.into()))?;
    loop {
        let mut watched = [PollFd::new(&ended, PollFlags::IN), PollFd::new(control, PollFlags::RDHUP)];
        match poll(&mut watched, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(wait(error.into())),
        }
        if watched[0].revents().is_empty() {
            child.kill().map_err(wait)?;
        }
        break;
    }
    let status = child.wait().map_err(wait)?;
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|error| wait(error.into()))?;
    let cpu_s = seconds(used.user_time()) + seconds(used.system_time());
    Ok(Report::Ended { code: status.code(), signal: status.signal(), cpu_s })
}

fn seconds(time: TimeVal) -> f64 {
    time.tv_sec() as f64 + time.tv_usec() as f64 * 1e-6
}

/// Leave the caller's namespaces: with the rights that we have, or else with those that a user namespace gives.
fn leave() -> Result<(), String> {
    match nix::sched::unshare(APART) {
        Ok(()) => Ok(()),
        // Root inside: it must keep its capabilities through the exec of the inner process, which mounts.
        Err(nix::errno::Errno::EPERM) => identity::enter(APART, 0, &identity::own_folder()?),
        Err(error) => Err(format!("unshare: {error}")),
    }
}
