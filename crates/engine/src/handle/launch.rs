//! How a worker process is started, and what becomes of its stderr.
//!
//! The worker's end of the socket pair is its standard input, so nothing has to be named or numbered. Every
//! process is started from one thread that lives as long as the program: Linux sends the parent-death signal
//! when the *thread* that forked ends, and threads of an async runtime come and go.

use super::error::EngineError;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Time a load may take unless said otherwise: a 2.6B model read from a slow card at 20 MB/s.
const LOAD_TIMEOUT: Duration = Duration::from_secs(180);
/// Heartbeats that may fail to come before a worker counts as hung.
const SILENT_HEARTBEATS: u32 = 10;
/// Least silence that counts as a hang: a loaded machine delays a thread for hundreds of milliseconds.
const SILENCE_LEAST: Duration = Duration::from_secs(1);
/// Lines of stderr kept: a failed assertion and what llama.cpp said before it.
const STDERR_LINES: usize = 32;
/// Bytes kept of one line.
const STDERR_LINE_BYTES: usize = 400;
/// Lines of stderr quoted as last words.
const LAST_LINES: usize = 4;
/// Starts waiting for the starting thread: one per device is usual.
const STARTS_WAITING: usize = 64;

/// What glibc takes its settings from, and the one by which it asks the kernel for huge pages (from 2.35 on; others ignore
/// it): with pages of 4 KiB much of the time for a token goes into finding the weights.
const TUNABLES: &str = "GLIBC_TUNABLES";
const HUGE_PAGES: (&str, &str) = ("glibc.malloc.hugetlb", "1");

/// How to start workers.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program; it must call [`crate::worker::main`] when started with `args`.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment variables set for it, besides this process's own.
    pub env: Vec<(OsString, OsString)>,
    /// Time it has to load its model.
    pub load_timeout: Duration,
    /// Silence after which a loaded worker counts as hung and is killed. `None`: ten heartbeats, at least a second.
    pub silence_timeout: Option<Duration>,
    /// Copy the worker's stderr (llama.cpp's log) to this process's.
    pub forward_log: bool,
}

impl Launch {
    /// Workers from this very program: its hidden subcommand `worker`.
    ///
    /// # Errors
    /// Where the operating system cannot name the running program.
    pub fn this_program() -> io::Result<Self> {
        let mut launch = Self::program(std::env::current_exe()?);
        launch.args.push("worker".into());
        Ok(launch)
    }

    /// Workers from `program`, without arguments.
    pub fn program(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            load_timeout: LOAD_TIMEOUT,
            silence_timeout: None,
            forward_log: std::env::var_os("QEIL_WORKER_LOG").is_some_and(|value| value == "1"),
        }
    }

    pub(super) fn silence(&self, heartbeat_ms: u32) -> Duration {
        let default = Duration::from_millis(heartbeat_ms.into()) * SILENT_HEARTBEATS;
        self.silence_timeout.unwrap_or(default.max(SILENCE_LEAST))
    }

    /// Start the process; this side of its socket comes with it.
    pub(super) async fn start(&self) -> Result<(Process, UnixStream), EngineError> {
        let failed = |error: io::Error| EngineError::Spawn {
            program: self.program.display().to_string(),
            why: error.to_string(),
        };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let ours = UnixStream::from_std(ours).map_err(failed)?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            // Without it a failed assertion starts a debugger to print its stack.
            .env("GGML_NO_BACKTRACE", "1")
            .env(TUNABLES, with_huge_pages(std::env::var(TUNABLES).ok()))
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = start_from_lasting_thread(command).await.map_err(failed)?;
        let pid = child.id().ok_or_else(|| failed(io::Error::other("it ended at once")))?;
        let log = Log::follow(child.stderr.take(), self.forward_log);
        Ok((Process { child, pid, log }, ours))
    }
}

/// The settings of a worker's glibc: the user's own, which come first, and huge pages unless they speak of them.
fn with_huge_pages(own: Option<String>) -> String {
    let (name, value) = HUGE_PAGES;
    match own {
        Some(own) if own.contains(name) => own,
        Some(own) if !own.is_empty() => format!("{own}:{name}={value}"),
        _ => format!("{name}={value}"),
    }
}

async fn start_from_lasting_thread(mut command: Command) -> io::Result<Child> {
    type Job = Box<dyn FnOnce() + Send>;
    static THREAD: OnceLock<Result<SyncSender<Job>, io::ErrorKind>> = OnceLock::new();
    let jobs = THREAD
        .get_or_init(|| {
            let (jobs, queue) = sync_channel::<Job>(STARTS_WAITING);
            let run = move || queue.into_iter().for_each(|job| job());
            match std::thread::Builder::new().name("qeil-starter".into()).spawn(run) {
                Ok(_) => Ok(jobs),
                Err(error) => Err(error.kind()),
            }
        })
        .as_ref()
        .map_err(|kind| io::Error::from(*kind))?;
    let runtime = tokio::runtime::Handle::current();
    let (reply, answer) = oneshot::channel();
    let job: Job = Box::new(move || {
        let _inside = runtime.enter();
        // Nobody waiting any more drops the child, which kills it.
        let _ = reply.send(command.spawn());
    });
    jobs.try_send(job).map_err(|_| io::Error::other("too many processes are being started at once"))?;
    answer.await.map_err(|_| io::Error::other("the thread that starts processes is gone"))?
}

/// A running worker process. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pub(super) pid: u32,
    pub(super) log: Log,
}

impl Process {
    /// Wait for its end and reap it. Can be dropped and called again.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// SIGKILL, which also ends a stopped process.
    pub(super) fn kill(&mut self) {
        // Fails only for a process that has ended already.
        let _ = self.child.start_kill();
    }

    /// Give it `grace` to end by itself, then kill it; reaped either way.
    pub(super) async fn dismiss(mut self, grace: Duration) {
        if tokio::time::timeout(grace, self.wait()).await.is_err() {
            self.kill();
            let _ = self.wait().await;
        }
    }
}

/// The last lines of a worker's stderr.
#[derive(Debug)]
pub(super) struct Log {
    lines: Arc<Mutex<VecDeque<String>>>,
    follower: JoinHandle<()>,
}

impl Log {
    fn follow(stderr: Option<ChildStderr>, forward: bool) -> Self {
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&lines);
        let follower = tokio::spawn(async move {
            if let Some(stderr) = stderr {
                keep_last_lines(stderr, &kept, forward).await;
            }
        });
        Self { lines, follower }
    }

    /// What it said last, once its stderr has ended or `patience` is over.
    pub(super) async fn last_words(&mut self, patience: Duration) -> Option<String> {
        let _ = tokio::time::timeout(patience, &mut self.follower).await;
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let last: Vec<&str> = lines.iter().rev().take(LAST_LINES).map(String::as_str).collect();
        (!last.is_empty()).then(|| last.into_iter().rev().collect::<Vec<_>>().join("; "))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

async fn keep_last_lines(
    mut stderr: impl tokio::io::AsyncRead + Unpin,
    kept: &Mutex<VecDeque<String>>,
    forward: bool,
) {
    let mut chunk = vec![0u8; 8 << 10];
    let mut line = Vec::new();
    loop {
        let n = stderr.read(&mut chunk).await.unwrap_or(0);
        if forward {
            use std::io::Write;
            // A log that cannot be written is not a reason to stop working.
            let _ = io::stderr().write_all(&chunk[..n]);
        }
        for &byte in chunk[..n].iter().chain((n == 0).then_some(&b'\n')) {
            if byte != b'\n' {
                if line.len() < STDERR_LINE_BYTES {
                    line.push(byte);
                }
            } else if !line.is_empty() {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == STDERR_LINES {
                    kept.pop_front();
                }
                kept.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
        }
        if n == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_own_tunables_stay() {
        let of = |own: &str| with_huge_pages(Some(own.into()));
        assert_eq!(with_huge_pages(None), "glibc.malloc.hugetlb=1");
        assert_eq!(of(""), "glibc.malloc.hugetlb=1");
        assert_eq!(of("glibc.malloc.arena_max=2"), "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1");
        assert_eq!(of("glibc.malloc.hugetlb=0"), "glibc.malloc.hugetlb=0");
    }

    #[tokio::test]
    async fn the_log_keeps_few_lines_of_bounded_length() {
        let mut text: String = (0..100).map(|n| format!("line {n}\n")).collect();
        text.push_str(&"long ".repeat(10_000));
        let kept = Mutex::new(VecDeque::new());
        keep_last_lines(text.as_bytes(), &kept, false).await;
        let kept = kept.into_inner().unwrap();
        assert_eq!(kept.len(), STDERR_LINES);
        assert_eq!(kept[STDERR_LINES - 2], "line 99");
        assert!(kept[STDERR_LINES - 1].len() <= STDERR_LINE_BYTES);
    }

    #[test]
    fn silence_follows_the_heartbeat() {
        let mut launch = Launch::program("worker");
        assert_eq!(launch.silence(100), Duration::from_secs(1));
        assert_eq!(launch.silence(10), Duration::from_secs(1));
        assert_eq!(launch.silence(1000), Duration::from_secs(10));
        launch.silence_timeout = Some(Duration::from_millis(300));
        assert_eq!(launch.silence(1000), Duration::from_millis(300));
    }
}
