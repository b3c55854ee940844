//! Real workers under the control loop of `qeil-control`: a thin async shell.
//!
//! All decisions are made in `qeil-control`; here they are carried out. The shell reads sensors and tells the loop, starts
//! and ends workers as the loop says, keeps the text of requests, hands samples from one device to the next, writes the
//! journal, and decides nothing itself.
//!
//! | module | job |
//! |---|---|
//! | [`ask`] | what a client asks for, and what it is told |
//! | [`orchestra`] | the handle that clients hold |
//! | `conductor` | the one task that owns the loop |
//! | `ledger` | prompts, text and tokens of requests in flight |
//! | [`device`] | what stands behind a device |
//! | [`engine`] | an engine worker as a device |
//! | [`remote`] | an OpenAI-compatible endpoint as a device |
//! | [`prefill`] | a prompt computed by one engine for another, where that is measured cheaper |
//! | [`profile`] | a device's costs by a short trial |
//! | [`compare`] | the same workload on devices alone and together |
//! | [`sense`] | sensors, read on a thread of their own |
//! | `energy` | whose joules they are |
//! | [`journal`] | decisions in SQLite |
//! | [`snapshot`] | the state at one moment |

pub mod ask;
pub mod compare;
mod conductor;
pub mod device;
mod energy;
pub mod engine;
pub mod journal;
mod ledger;
pub mod orchestra;
pub mod prefill;
pub mod profile;
pub mod remote;
pub mod sense;
pub mod snapshot;

pub use ask::{Answer, AnswerEvent, Ask, Decided, Report, SampleReport};
pub use orchestra::{Orchestra, Setup, SetupError};
pub use snapshot::Snapshot;
