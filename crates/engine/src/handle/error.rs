//! Everything that can go wrong between a supervisor and its worker, as one cloneable type.
//!
//! Cloneable because one death is the answer to many questions at once: every request in flight, every waiting
//! score and the owner of the worker all receive the same [`Death`].

use crate::protocol::LoadRefusal;
use crate::request::RequestError;
use crate::spec::OutOfBounds;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Why the engine did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The load spec is out of bounds; no process was started.
    #[error("load spec: {0}")]
    Spec(#[from] OutOfBounds),
    /// Our own reader refused the model file; no process was started.
    #[error("model file: {0}")]
    Model(Arc<qeil_model::InspectError>),
    /// The worker process could not be started.
    #[error("could not start the worker process {program}: {why}")]
    Spawn {
        /// What was executed.
        program: String,
        /// What the operating system said.
        why: String,
    },
    /// The worker speaks another version of the protocol: it is not from the same build.
    #[error("the worker speaks protocol version {theirs}, this program {ours}; run both from one build")]
    Version {
        /// This side.
        ours: u32,
        /// The worker.
        theirs: u32,
    },
    /// The worker was not ready in time and was killed.
    #[error(
        "the worker did not load the model within {0:?} and was killed; raise the load timeout if it is large"
    )]
    LoadTimeout(Duration),
    /// The worker looked at the model and said no.
    #[error(transparent)]
    Refused(#[from] LoadRefusal),
    /// The worker (or this side's own check) did not accept a request.
    #[error(transparent)]
    Rejected(#[from] RequestError),
    /// The worker died.
    #[error("the worker died: {0}")]
    Died(Death),
    /// A message to the worker could not be encoded.
    #[error("message to the worker: {0}")]
    Protocol(String),
    /// A sequence's state could not be exported.
    #[error("export of a sequence: {0}")]
    Export(String),
    /// A sequence's state could not be imported.
    #[error("import of a sequence: {0}")]
    Import(String),
    /// A model file could not be written in another format.
    #[error("writing the model in another format: {0}")]
    Transcode(String),
    /// A prompt could not be scored.
    #[error("score: {0}")]
    Score(String),
    /// A prompt could not be tokenised.
    #[error("tokenise: {0}")]
    Tokenize(String),
    /// The worker was stopped by this program.
    #[error("the worker was stopped")]
    Stopped,
}

/// The end of a worker process.
#[derive(Debug, Clone, PartialEq)]
pub struct Death {
    /// How it ended.
    pub how: DeathKind,
    /// The failed assertion's text where the worker could still send it, else the last lines of its stderr.
    pub last_words: Option<String>,
    /// When the supervisor knew (its monotonic clock).
    pub at: Instant,
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.last_words {
            Some(words) => write!(f, "{} ({words})", self.how),
            None => write!(f, "{}", self.how),
        }
    }
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeathKind {
    /// It exited by itself.
    #[error("it exited with code {0}")]
    Exited(i32),
    /// A signal ended it that this supervisor did not send.
    #[error("signal {0}{name}", name = signal_name(*.0))]
    Signal(i32),
    /// It closed its socket but went on running; it was killed.
    #[error("it closed its socket without exiting and was killed")]
    ClosedSocket,
    /// Nothing was heard from it for this long; it was killed.
    #[error("nothing was heard from it for {0:?}; it was killed")]
    Silent(Duration),
    /// It broke the protocol; it was killed.
    #[error("it broke the protocol and was killed: {0}")]
    BadFrame(String),
    /// This program asked for it.
    #[error("it was killed on request")]
    Killed,
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL: an instruction this CPU lacks)",
        6 => " (SIGABRT: a failed assertion)",
        7 => " (SIGBUS: the model file shrank while mapped)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL: often the kernel's out-of-memory killer)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        31 => " (SIGSYS: a system call outside its confinement)",
        _ => "",
    }
}
