//! Seeing that a process is about to be gone before it is.
//!
//! A process that is killed gives back its memory first and closes its sockets afterwards, so one that holds gigabytes is heard
//! of a second late, and one with a graphics driver later still. Linux shows in `/proc/PID/stat` at once that it will not come
//! back (Documentation/filesystems/proc.rst, "Contents of the stat fields"). Elsewhere the end of the socket has to do.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// Time between two looks while somebody waits for an answer: a tenth of the quarter second that a failover may take.
const LOOK_BUSY: Duration = Duration::from_millis(25);
/// The same while nobody does: no more wakes than the heartbeat of an idle worker causes anyway.
const LOOK_IDLE: Duration = Duration::from_millis(100);
/// The flag of a task that is being shut down: PF_EXITING of `include/linux/sched.h`.
const EXITING: u64 = 0x4;
/// Where flags and exit code stand behind the program's name, of 50 fields.
const FLAGS_AT: usize = 6;
const EXIT_CODE_AT: usize = 49;

/// How a process will have ended; returns when it cannot be saved any more, or never.
pub(super) async fn leaving(pid: u32, is_busy: impl Fn() -> bool) -> ExitStatus {
    loop {
        tokio::time::sleep(if is_busy() { LOOK_BUSY } else { LOOK_IDLE }).await;
        // Off the runtime's threads: a reader that holds the last reference to the memory of a process frees it.
        let read = move || std::fs::read_to_string(format!("/proc/{pid}/stat"));
        if let Ok(Ok(stat)) = tokio::task::spawn_blocking(read).await
            && let Some(status) = status_of(&stat)
        {
            return status;
        }
    }
}

/// The status that a process which is being shut down will leave. Where it is 0, or hidden from this one, its end is
/// better waited for.
fn status_of(stat: &str) -> Option<ExitStatus> {
    // The name may hold anything, spaces and parentheses too.
    let (_, fields) = stat.rsplit_once(')')?;
    let field = |at: usize| fields.split_ascii_whitespace().nth(at);
    let flags: u64 = field(FLAGS_AT)?.parse().ok()?;
    let code: i32 = field(EXIT_CODE_AT)?.parse().ok()?;
    (flags & EXITING != 0 && code != 0).then(|| ExitStatus::from_raw(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_status_is_read_where_the_process_ends_and_tells_it() {
        let stat = |flags: u64, code: i32| {
            let rest = vec!["0"; EXIT_CODE_AT - FLAGS_AT - 1].join(" ");
            format!("17 (a) R 4 (b) R 1 2 3 4 5 {flags} {rest} {code}\n")
        };
        assert_eq!(status_of(&stat(0x40_840c, 9)), Some(ExitStatus::from_raw(9)));
        assert_eq!(status_of(&stat(0x40_840c, 3 << 8)).and_then(|status| status.code()), Some(3));
        for other in [stat(0x40_8408, 9), stat(0x40_840c, 0), String::new(), "17 (a) R 1 2".into()] {
            assert_eq!(status_of(&other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_killed_process_is_seen_before_it_is_waited_for() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        assert_eq!(status_of(&stat), None, "it lives");
        child.kill().unwrap();
        let seen = tokio::time::timeout(Duration::from_secs(60), leaving(child.id(), || true)).await;
        assert_eq!(seen.unwrap().signal(), Some(9));
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}
