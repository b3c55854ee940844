//! Starting this program in another part.

use qeil_engine::handle::Launch;
use rustix::process::Signal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The environment variable that names the part.
pub const PART: &str = "QEIL_TEST_PART";

/// Long enough for anything on a busy machine; reaching it is a failure.
pub const LONG: Duration = Duration::from_secs(60);

/// The contract: a death is reported within this time.
pub const DEATH_REPORT: Duration = Duration::from_millis(100);

/// How to start this program as `part`.
pub fn launch(part: &str) -> Launch {
    let mut launch = Launch::program(std::env::current_exe().unwrap());
    launch.args = ["entry", "--exact", "--nocapture", "--test-threads=1"].map(Into::into).to_vec();
    launch.env = vec![(PART.into(), part.into())];
    launch.load_timeout = LONG;
    launch
}

/// How to start a real worker.
pub fn worker() -> Launch {
    launch("worker")
}

/// Be the part that was asked for; never returns.
pub fn entry_part(part: &str) -> ! {
    let code = match part.split_once(':') {
        None if part == "worker" => i32::from(qeil_engine::worker::main() != ExitCode::SUCCESS),
        Some(("peer", script)) => crate::peer::play(script),
        None if part == "kills" => crate::descriptors::kills(),
        Some(("parent", state)) => crate::deaths::parent(state),
        _ => panic!("no such part: {part}"),
    };
    std::process::exit(code)
}

/// Wait for a condition of the outside world (a process, a descriptor), for at most [`LONG`].
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < LONG, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whether a process exists and is not a zombie.
pub fn runs(pid: u32) -> bool {
    state_of(pid).is_some_and(|state| state != 'Z')
}

/// Whether a process exists, a zombie included.
pub fn exists(pid: u32) -> bool {
    state_of(pid).is_some()
}

fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Send a signal.
pub fn send(pid: u32, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Make a process ready to be ended by a signal. Rust's own handler looks at SIGSEGV and SIGBUS first (for stack
/// overflows), steps aside and lets the faulting instruction fault again; sent from outside, there is none that
/// would, so the first such signal only takes the handler away.
pub async fn disarm(pid: u32, signal: Signal) {
    let caught = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0").trim();
        u64::from_str_radix(mask, 16).unwrap() >> (signal.as_raw() - 1) & 1 == 1
    };
    if caught() {
        send(pid, signal);
        eventually("the handler is gone", || !caught()).await;
    }
}

/// Child processes of this one, zombies included.
pub fn children() -> Vec<u32> {
    let list = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = list.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let me = std::process::id();
    pids.filter(|pid| parent_of(*pid) == Some(me)).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}
