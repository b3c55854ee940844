//! Where code written by a model runs: the boundary, which refuses until it can confine.

use std::{io, path::Path, process::ExitCode, time::Duration};

/// Runs programs.
#[derive(Debug, Clone)]
pub struct Sandbox {
    _limits: Limits,
}

/// What a program may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Wall-clock time.
    pub wall: Duration,
    /// CPU time, in seconds.
    pub cpu_s: u64,
    /// Address space, in bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Largest file, in bytes.
    pub file_bytes: u64,
    /// Most bytes kept of each of its output streams.
    pub output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(10),
            cpu_s: 10,
            memory_bytes: 512 << 20,
            processes: 16,
            file_bytes: 16 << 20,
            output_bytes: 64 << 10,
        }
    }
}

/// What to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Files, by name, in the private temporary folder that is the working directory.
    pub files: Vec<(String, Vec<u8>)>,
    /// What it reads from its standard input.
    pub stdin: Vec<u8>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
    /// It was still running at the wall-clock limit.
    WallLimit,
}

/// What came of it.
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
    /// Wall-clock time, in seconds.
    pub wall_s: f64,
}

/// Why nothing ran.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The kernel cannot confine.
    #[error("{0}")]
    Unavailable(String),
    /// The system refused.
    #[error("the sandbox: {0}")]
    Io(#[from] io::Error),
}

impl Sandbox {
    /// A sandbox that confines.
    ///
    /// # Errors
    /// The kernel cannot confine.
    pub fn new(_launcher: &Path, _limits: Limits) -> Result<Self, SandboxError> {
        Err(unavailable())
    }

    /// One that does not.
    pub fn unconfined(limits: Limits) -> Self {
        Self { _limits: limits }
    }

    /// Run a program and wait for its end.
    ///
    /// # Errors
    /// It could not be run.
    pub fn run(&self, _program: &Program) -> Result<Outcome, SandboxError> {
        Err(unavailable())
    }

    /// What confines, in words.
    pub fn description(&self) -> String {
        "nothing runs".into()
    }
}

fn unavailable() -> SandboxError {
    SandboxError::Unavailable("this build has no sandbox".into())
}

/// The hidden subcommand.
pub fn main() -> ExitCode {
    ExitCode::FAILURE
}
