//! The messages between supervisor and worker, and how they are framed.
//!
//! One Unix stream socket, both directions alike. A **frame** is
//!
//! ```text
//! u32 little-endian: bytes of the body, at most FRAME_BYTES_MAX
//! body: one Command (supervisor to worker) or one Event (worker to supervisor), in postcard
//! ```
//!
//! [postcard](https://postcard.jamesmunns.com/wire-format) numbers enum variants by position and fields by
//! order, so any change to the types here is a change of the format: count [`PROTOCOL_VERSION`] up. Both sides
//! come from the same binary, so the version is checked once, at the start, and never negotiated.
//!
//! A conversation:
//!
//! ```text
//! worker      Hello { version }
//! supervisor  Load(spec)                      worker  Loaded(..)  or  Refused(..) and exit
//!             (Probe and Transcode instead: one answer, and exit)
//! supervisor  Generate { id, request }        worker  Admitted { id, .. }  or  Rejected { id, .. }
//!                                             worker  Tokens(..)*   one event a step, all sequences together
//!                                             worker  SampleDone { id, .. }* and at last Done { id, .. }
//! supervisor  Cancel, Pace, Export, Import…   at any time, taken between two steps
//!                                             worker  Heartbeat(..) every heartbeat_ms
//! supervisor  Shutdown, or just closes        worker  exits 0
//! ```
//!
//! Every id is chosen by the supervisor and unique within the connection. Every `Generate`, `Export`, `Import`
//! and `Score` is answered exactly once with its terminal event, unless the worker dies.

use crate::request::{FinishReason, GenerateRequest, Prompt, RequestError, Token, TokenOut, Usage};
use crate::spec::{DeviceEntry, LoadSpec, Loaded, TranscodeSpec};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};

/// Version of everything in this module.
pub const PROTOCOL_VERSION: u32 = 5;
/// Largest body of a frame. The largest message is a [`Event::Scored`] of a 262k vocabulary (1 MiB) or a chunk of
/// state; prompts are bounded by [`crate::request::PROMPT_BYTES_MAX`] (up to five bytes a token id).
pub const FRAME_BYTES_MAX: usize = 24 << 20;
/// Bytes of a sequence's state per chunk: large enough to cost nothing, small enough that tokens of other
/// requests pass in between.
pub const STATE_CHUNK_BYTES: usize = 256 << 10;
/// Largest state that may be imported: a bound on what a worker buffers.
pub const STATE_BYTES_MAX: u64 = 8 << 30;

/// Supervisor to worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Load a model. Once, first.
    Load(Box<LoadSpec>),
    /// List the ggml devices instead of loading; the worker answers and exits.
    Probe,
    /// Write a model file with its weights in another format instead of loading; the worker answers and exits.
    Transcode(TranscodeSpec),
    /// Start a request.
    Generate {
        /// Its id.
        id: u64,
        /// The request.
        request: Box<GenerateRequest>,
    },
    /// End a request, or one sample of it, within one step.
    Cancel {
        /// Id of the request.
        id: u64,
        /// Index of the sample; `None` ends all.
        sample: Option<u32>,
    },
    /// Set the duty cycle: after a step of d seconds the worker sleeps d·(1/duty − 1). In (0, 1].
    Pace {
        /// Share of time spent computing.
        duty: f32,
    },
    /// Send the state of a sequence.
    Export {
        /// Id of this export.
        id: u64,
        /// Which sequence.
        from: StateSource,
        /// End the sample here with [`FinishReason::Moved`].
        detach: bool,
    },
    /// Announce a state; chunks follow.
    Import {
        /// Id of this import.
        id: u64,
        /// What is coming.
        header: StateHeader,
    },
    /// Part of an announced state, in order. The last one completes the import: the state becomes an entry of
    /// the prefix cache, where a request with that prefix finds it.
    ImportChunk {
        /// Id of the import.
        id: u64,
        /// The next bytes.
        bytes: Vec<u8>,
    },
    /// Compute the distribution of the token after a prompt.
    Score {
        /// Its id.
        id: u64,
        /// The prompt.
        prompt: Prompt,
    },
    /// Tokenise, nothing else.
    Tokenize {
        /// Its id.
        id: u64,
        /// The prompt.
        prompt: Prompt,
    },
    /// Fail on purpose, if the spec allows it.
    Inject(Fault),
    /// Finish the current step and exit.
    Shutdown,
}

/// Ways to fail on purpose, for fault drills.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Fault {
    /// A failed ggml assertion: message, then SIGABRT.
    Assertion,
    /// Allocate until the kernel or a limit says no.
    OutOfMemory,
    /// Stop stepping for ever, heartbeats going on.
    Hang,
    /// Add Gaussian-like noise of this size to every logit from now on (0 ends it).
    WrongNumbers(f32),
    /// Sleep this many milliseconds before each step from now on (0 ends it).
    Slow(u32),
    /// Close the socket but keep running.
    CloseSocket,
}

/// Which sequence to export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateSource {
    /// A running sample.
    Sample {
        /// Its request.
        request: u64,
        /// Its index.
        sample: u32,
    },
    /// The cached prefix that shares the most tokens with these.
    Prefix(Vec<Token>),
}

/// What a transferred state is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHeader {
    /// The tokens whose keys and values the state holds, from position 0 on.
    pub tokens: Vec<Token>,
    /// For a running sample: all it has emitted, the last of which the state does not hold yet.
    pub emitted: Vec<Token>,
    /// Bytes in all.
    pub bytes: u64,
    /// CRC-32 (IEEE) of them: llama.cpp accepts some single bit flips.
    pub crc32: u32,
    /// Whether flash attention was on: both ends must agree.
    pub flash_attention: bool,
}

/// Worker to supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// First message.
    Hello {
        /// [`PROTOCOL_VERSION`] of the worker.
        version: u32,
    },
    /// Answer to [`Command::Probe`].
    Devices(Vec<DeviceEntry>),
    /// Answer to [`Command::Transcode`]: bytes written, or why none were.
    Transcoded(Result<u64, String>),
    /// The model is ready.
    Loaded(Box<Loaded>),
    /// It is not; the worker exits.
    Refused(LoadRefusal),
    /// A request was accepted.
    Admitted {
        /// Its id.
        id: u64,
        /// The prompt's tokens.
        prompt: Vec<Token>,
        /// Requests that wait in front of it.
        queued: u32,
    },
    /// A request was not accepted: terminal.
    Rejected {
        /// Its id.
        id: u64,
        /// Why.
        error: RequestError,
    },
    /// Tokens of one step, all sequences together.
    Tokens(Vec<SampleToken>),
    /// A sample ended; text held back for stop strings comes with it.
    SampleDone {
        /// Its request.
        id: u64,
        /// Its index.
        sample: u32,
        /// Why.
        reason: FinishReason,
        /// The last of its text.
        tail: Vec<u8>,
    },
    /// All samples of a request ended: terminal.
    Done {
        /// Its id.
        id: u64,
        /// What it cost.
        usage: Usage,
    },
    /// An exported state begins; chunks follow until its bytes are complete.
    State {
        /// Id of the export.
        id: u64,
        /// What is coming.
        header: StateHeader,
    },
    /// Part of an exported state, in order.
    StateChunk {
        /// Id of the export.
        id: u64,
        /// The next bytes.
        bytes: Vec<u8>,
    },
    /// The export cannot be done: terminal.
    ExportFailed {
        /// Its id.
        id: u64,
        /// Why.
        why: String,
    },
    /// An import is complete: terminal.
    Imported {
        /// Its id.
        id: u64,
        /// Why it failed, if it did.
        error: Option<String>,
    },
    /// Answer to [`Command::Score`]: terminal.
    Scored {
        /// Its id.
        id: u64,
        /// Natural log-probabilities of every token of the vocabulary, or why there are none.
        logprobs: Result<Vec<f32>, String>,
    },
    /// Answer to [`Command::Tokenize`]: terminal.
    Tokenized {
        /// Its id.
        id: u64,
        /// The tokens, or why there are none.
        tokens: Result<Vec<Token>, String>,
    },
    /// Sign of life.
    Heartbeat(Heartbeat),
    /// The process is about to abort; the text of the failed assertion. Nothing follows.
    Dying(String),
}

/// One token of one sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleToken {
    /// The request.
    pub request: u64,
    /// Index of the sample.
    pub sample: u32,
    /// The token.
    pub token: TokenOut,
}

/// Why a model was not loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum LoadRefusal {
    /// The spec is out of bounds.
    #[error("{0}")]
    Spec(String),
    /// No such device in this build.
    #[error("no ggml device is called `{name}`; this build has: {}", have.join(", "))]
    NoSuchDevice {
        /// What was asked for.
        name: String,
        /// What there is.
        have: Vec<String>,
    },
    /// llama.cpp refused the model or the context; its last words.
    #[error("llama.cpp could not load the model: {0}")]
    Engine(String),
}

/// Counters of a worker. All counts run from the start of the process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Steps completed.
    pub steps: u64,
    /// Prompt tokens computed, and tokens of resumed samples that were emitted elsewhere.
    pub prefilled_tokens: u64,
    /// Tokens emitted.
    pub decoded_tokens: u64,
    /// Seconds the current step has been running; 0 between steps.
    pub step_running_s: f64,
    /// Seconds the last completed step took.
    pub last_step_s: f64,
    /// Seconds spent in steps.
    pub busy_s: f64,
    /// CPU time of the process, user and system, in seconds.
    pub cpu_s: f64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Requests waiting.
    pub queued: u32,
    /// Sequences decoding or prefilling.
    pub active: u32,
    /// KV cells held by the prefix cache.
    pub cached_tokens: u32,
    /// The duty cycle in force.
    pub duty: f32,
}

/// Encode a message with its length in front.
///
/// # Errors
/// `InvalidData` when the body exceeds [`FRAME_BYTES_MAX`].
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let frame = postcard::to_extend(message, vec![0u8; 4]).map_err(invalid)?;
    finish_frame(frame)
}

fn finish_frame(mut frame: Vec<u8>) -> io::Result<Vec<u8>> {
    let body = frame.len() - 4;
    if body > FRAME_BYTES_MAX {
        return Err(invalid(format!(
            "a message of {body} bytes exceeds the frame limit of {FRAME_BYTES_MAX}"
        )));
    }
    frame[..4].copy_from_slice(&(body as u32).to_le_bytes());
    Ok(frame)
}

/// Decode the body of a frame.
///
/// # Errors
/// `InvalidData` when it is not exactly one message.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    let (message, rest) = postcard::take_from_bytes(body).map_err(invalid)?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(invalid(format!("{} bytes after the message", rest.len())))
    }
}

/// Length of a frame's body from its first four bytes.
///
/// # Errors
/// `InvalidData` above [`FRAME_BYTES_MAX`]: checked before anything is allocated.
pub fn body_len(prefix: [u8; 4]) -> io::Result<usize> {
    let len = u32::from_le_bytes(prefix) as usize;
    if len > FRAME_BYTES_MAX { Err(invalid(format!("a frame announces {len} bytes"))) } else { Ok(len) }
}

/// Write one message (blocking; the worker's side).
///
/// # Errors
/// Those of the socket, and of [`encode`].
pub fn write<T: Serialize>(to: &mut impl Write, message: &T) -> io::Result<()> {
    to.write_all(&encode(message)?)
}

/// Read one message (blocking; the worker's side). `None` at a clean end of stream.
///
/// # Errors
/// Those of the socket, and of [`decode`].
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<T>> {
    let mut prefix = [0u8; 4];
    let mut have = 0;
    while have < 4 {
        match from.read(&mut prefix[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => have += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut body = vec![0u8; body_len(prefix)?];
    from.read_exact(&mut body)?;
    decode(&body).map(Some)
}

fn invalid(error: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
