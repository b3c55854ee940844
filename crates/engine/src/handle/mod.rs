//! The supervisor's side: start a worker process, talk to it, see it die, start another.
//!
//! A worker may end at any instant, in the middle of a frame, and everything here is shaped by that:
//!
//! - One **driver** task per worker owns the process and reads its socket. Whatever it sees first (end of the
//!   socket, exit of the process, silence, a broken frame) becomes one [`Death`], and on that every question
//!   in flight is answered with it. Nobody else decides that a worker is dead.
//! - One **writer** task empties a bounded queue into the socket. Cancels overtake nothing but never wait for a
//!   place in that queue, since they are sent from `drop`.
//! - The driver never waits for a consumer: each request's channel has room for all it may emit.
//!
//! | file | job |
//! |---|---|
//! | `launch` | how the process is started; its stderr |
//! | `frames` | bytes of the socket to events |
//! | `desk` | who waits for which answer |
//! | `link` | the driver and writer tasks |
//! | `worker` | [`Worker`]: the calls |
//! | `generation` | [`Generation`]: one request in flight |
//! | `supervisor` | [`Supervisor`]: keep one alive |
//!
//! Nothing here chooses a device, retries a request or judges a heartbeat: that is the orchestrator's work.

mod desk;
mod error;
mod frames;
mod generation;
mod launch;
mod leaving;
mod link;
mod supervisor;
mod worker;

pub use error::{Death, DeathKind, EngineError};
pub use generation::{Completed, CompletedSample, Generation, GenerationEvent};
pub use launch::Launch;
pub use supervisor::{Backoff, Supervisor};
pub use worker::{SequenceState, Worker, probe_devices, transcode};
