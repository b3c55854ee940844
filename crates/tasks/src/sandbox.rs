//! Where code written by a model runs.
//!
//! Such code is a stranger's: mostly harmless, now and then an endless loop, and nobody reads it before it runs. So
//! it gets a machine of its own, made for it and gone with it: an empty folder, the system's libraries to read, one
//! process, a bounded share of time and memory, and no network, no other process, no way to keep anything.
//!
//! No step of this needs `unsafe`, because each is done by a process to itself. [`Sandbox::run`] starts the program
//! that it is part of once more (the hidden subcommand, [`main`]):
//!
//! | process | what it does |
//! |---|---|
//! | caller | sends what to run through a socket, reads the two output pipes, keeps the clock |
//! | outer | leaves the caller's namespaces, starts the inner one as process 1 of the new ones, waits; when the caller hangs up, for whatever reason, it kills process 1, and with it the kernel kills everything in there |
//! | inner | builds the new root, gives up its identity, then Landlock, rlimits, seccomp; becomes the program by `exec` |
//!
//! **What counts as confined.** seccomp and rlimits always, and one of two [`Means`]: namespaces (Landlock comes on
//! top where the kernel has it), or, where the kernel hands out no namespaces (most containers), Landlock of at least
//! version 3, with a stricter list of system calls that leaves a program one thread and no way to touch what is not
//! its own. [`Sandbox::new`] tries both once, from the launcher to the last filter, and refuses when neither works.
//! What the second cannot hide: which files exist outside, and how large they are; nor does it bound all files
//! together, only each one. [`Sandbox::description`] says which of the two it is.
//!
//! **What is bounded by what.** Wall-clock time by the caller; CPU time, address space, file size and descriptors by
//! rlimits; all files together by the size of the folder's tmpfs; processes by seccomp (none but the first) or by a
//! limit of the new user namespace; output by dropping what is over the limit while still reading it, so that
//! neither memory fills nor the writer learns of it. A cgroup bounds memory and processes once more where the caller
//! may make one.

mod calls;
mod capture;
mod cgroup;
mod files;
mod identity;
mod inner;
mod outer;
mod program;
mod root;
mod run;
mod wire;

pub use outer::main;
pub use program::Program;

use cgroup::Cgroup;
use program::Known;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wire::Held;

/// Runs programs that nobody has read.
#[derive(Debug, Clone)]
pub struct Sandbox {
    confinement: Option<Confinement>,
    limits: Limits,
    /// What is known of the programs asked for, shared by all copies.
    known: Known,
}

/// What a sandbox that confines knows.
#[derive(Debug, Clone)]
struct Confinement {
    launcher: PathBuf,
    means: Means,
    held: Held,
    cgroup: Option<Cgroup>,
}

/// The two ways to keep a program from what is not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Means {
    /// Namespaces: what is not its own does not exist for it.
    Namespaces,
    /// Landlock alone: what is not its own is refused.
    Landlock,
}

/// What a program may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Wall-clock time, from the start of the launcher on.
    pub wall: Duration,
    /// CPU time of a process, in seconds.
    pub cpu_s: u64,
    /// Address space of a process, in bytes.
    pub memory_bytes: u64,
    /// Processes at once. With 1 the program can start no other, only threads; more needs [`Means::Namespaces`].
    pub processes: u64,
    /// The largest file, in bytes.
    pub file_bytes: u64,
    /// All files together, in bytes (memory: the folder is a tmpfs). Only [`Means::Namespaces`] can hold it.
    pub folder_bytes: u64,
    /// What is kept of each output stream, in bytes.
    pub output_bytes: usize,
}

impl Default for Limits {
    /// Enough for a unit test of a small function, by a wide margin.
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(10),
            cpu_s: 10,
            memory_bytes: 512 << 20,
            processes: 1,
            file_bytes: 16 << 20,
            folder_bytes: 64 << 20,
            output_bytes: 64 << 10,
        }
    }
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It had used the CPU time that it may.
    CpuLimit,
    /// It was still running at the wall-clock limit.
    WallLimit,
}

/// What came of a program.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// Standard output, cut to the limit.
    pub stdout: Vec<u8>,
    /// Standard error, cut to the limit.
    pub stderr: Vec<u8>,
    /// Whether a stream was cut.
    pub truncated: bool,
    /// Wall-clock time, in seconds, start and clean-up included.
    pub wall_s: f64,
}

/// Why nothing ran.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel lacks what confinement needs.
    #[error(
        "code written by a model cannot be confined here: with namespaces: {namespaces}; with Landlock alone: \
         {landlock}. It would run with all that you may do; `--unsafe-no-sandbox` runs it so"
    )]
    CannotConfine {
        /// What failed with namespaces.
        namespaces: String,
        /// What failed without.
        landlock: String,
    },
    /// The means asked for does not work here.
    #[error("the sandbox cannot confine by {means}: {why}")]
    Unavailable {
        /// The means, in words.
        means: &'static str,
        /// What failed.
        why: String,
    },
    /// A limit makes no sense, or not here.
    #[error("the sandbox's limits: {0}")]
    Limits(&'static str),
    /// What was to run is no program.
    #[error("nothing was run in the sandbox: {0}")]
    Program(String),
    /// The launcher could not be started.
    #[error("the sandbox's launcher, {launcher}, could not be started: {source}")]
    Launcher {
        /// The launcher.
        launcher: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A step towards the program failed.
    #[error("the sandbox could not be set up: {0}")]
    SetUp(String),
    /// The launcher ended without saying how the program did.
    #[error("the sandbox's launcher was killed from outside, or is not this program's own")]
    Vanished,
    /// The system refused something on the caller's side.
    #[error("the sandbox: {0}")]
    Io(#[from] io::Error),
}

impl Sandbox {
    /// A sandbox whose launcher is this program (`std::env::current_exe()` of one that calls [`main`]). Tries once
    /// whether the kernel can confine, by namespaces or else by Landlock.
    ///
    /// # Errors
    /// It can by neither, or the limits make no sense.
    pub fn new(launcher: &Path, limits: Limits) -> Result<Self, SandboxError> {
        let why = |error| match error {
            SandboxError::Unavailable { why, .. } => Ok(why),
            other => Err(other),
        };
        let namespaces = match Self::by(Means::Namespaces, launcher, limits.clone()) {
            Ok(sandbox) => return Ok(sandbox),
            Err(error) => why(error)?,
        };
        match Self::by(Means::Landlock, launcher, limits) {
            Ok(sandbox) => Ok(sandbox),
            Err(error) => {
                let landlock = match error {
                    // Several processes: the caller would have to ask for less.
                    SandboxError::Limits(text) => text.to_owned(),
                    other => why(other)?,
                };
                Err(SandboxError::CannotConfine { namespaces, landlock })
            }
        }
    }

    /// As [`Sandbox::new`], by one means and no other.
    ///
    /// # Errors
    /// It does not work here, or the limits make no sense.
    pub fn by(means: Means, launcher: &Path, limits: Limits) -> Result<Self, SandboxError> {
        limits.check(means)?;
        let cgroup = Cgroup::find();
        let held = Held::default();
        let mut confinement = Confinement { launcher: launcher.to_owned(), means, held, cgroup };
        confinement.held = run::probe(&confinement, &limits).map_err(|error| match error {
            SandboxError::SetUp(why) => SandboxError::Unavailable { means: means.words(), why },
            other => other,
        })?;
        Ok(Self { confinement: Some(confinement), limits, known: Known::default() })
    }

    /// One that does not confine: it has the wall-clock limit, the rlimits that a process may be given from outside,
    /// and a temporary folder, but code in it may do whatever its user may.
    #[must_use]
    pub fn unconfined(limits: Limits) -> Self {
        Self { confinement: None, limits, known: Known::default() }
    }

    /// Run a program and wait for its end. When this returns, no process of it is left (unconfined: none of its
    /// process group).
    ///
    /// A first argument without a slash is looked for in `PATH`. A Python is asked once, outside, where it is
    /// installed; of a program outside the system's folders, only its own `bin` and `lib` can be read inside.
    ///
    /// # Errors
    /// It could not be run. That it ended badly is an [`Outcome`].
    pub fn run(&self, program: &Program) -> Result<Outcome, SandboxError> {
        program.check()?;
        let found = self.known.find(&program.argv[0])?;
        match &self.confinement {
            Some(confinement) => run::confined(confinement, &self.limits, program, found),
            None => run::unconfined(&self.limits, program, &found),
        }
    }

    /// What confines, in words.
    #[must_use]
    pub fn description(&self) -> String {
        let Some(Confinement { means, held, cgroup, .. }) = &self.confinement else {
            return "not confined: the code may do whatever its user may".into();
        };
        let landlock = match held.landlock {
            Some(version) => format!("Landlock (version {version})"),
            None => "no Landlock on this kernel".into(),
        };
        let also = if cgroup.is_some() { "a cgroup" } else { "no cgroup of its own to be had" };
        match means {
            Means::Namespaces => format!(
                "user, mount, network, PID, IPC and UTS namespaces, {}; {landlock}; seccomp allow-list; rlimits; {also}",
                if held.nobody { "as nobody" } else { "without capabilities" },
            ),
            Means::Landlock => format!(
                "{landlock}; seccomp allow-list without sockets, processes, threads or signals; rlimits; {also}; no \
                 namespaces: which files exist outside can be seen, and all files together are not bounded"
            ),
        }
    }

    /// The limits of each run.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

impl Means {
    /// As said in messages.
    fn words(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Landlock => "Landlock alone",
        }
    }

    /// As said to the launcher.
    fn word(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Landlock => "landlock",
        }
    }
}

impl Limits {
    /// Threads on top of the processes: some libraries start one a core when they are loaded.
    const THREADS: u64 = 64;

    fn check(&self, means: Means) -> Result<(), SandboxError> {
        let zero = self.wall.is_zero()
            || [self.cpu_s, self.memory_bytes, self.processes, self.file_bytes, self.folder_bytes]
                .contains(&0);
        if zero {
            return Err(SandboxError::Limits("each must be above zero"));
        }
        if self.processes > 1 && means == Means::Landlock {
            return Err(SandboxError::Limits("without namespaces there is no more than one process"));
        }
        Ok(())
    }
}
