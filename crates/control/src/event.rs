//! Everything the loop can sense, and everything it can do.
//!
//! The loop knows requests by numbers of tokens, never by their text: whoever carries out its orders keeps prompts and
//! emitted tokens, and hands a sample that moves to its next device together with what it had emitted. A **job** is one
//! placement of some samples of one request on one device. Its life: [`Output::Place`], then [`Input::Tokens`] and one
//! [`Input::SampleEnded`] for each sample, or [`Input::Down`] for all that its device held.

use crate::config::DeviceId;
use crate::journal::Decision;
use serde::{Deserialize, Serialize};

/// Number of a request, chosen by whoever brings it; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// Number of a job, chosen by the loop; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u64);

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Somebody waits for it.
    Interactive,
    /// Nobody does: it fills what is left.
    Batch,
}

/// A request, as far as the loop needs to know it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Its number.
    pub id: RequestId,
    /// Whose it is, for fair shares: a number for each client.
    pub client: u32,
    /// Who goes first.
    pub priority: Priority,
    /// Tokens of its prompt.
    pub prompt_tokens: u32,
    /// Samples wanted.
    pub samples: u32,
    /// Most tokens of each sample.
    pub tokens_max: u32,
    /// Seconds from its arrival after which it ends.
    pub deadline_s: Option<f64>,
    /// Joules after which it ends.
    pub energy_budget_j: Option<f64>,
    /// Whether its samples are judged ([`Input::Judged`]), and the first that passes ends the others.
    pub until_pass: bool,
}

/// One reading of a temperature sensor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Degrees Celsius; missing where the sensor gave an error.
    pub temperature_c: Option<f64>,
    /// Watts that the device draws, where known.
    pub power_w: Option<f64>,
    /// Whether the hardware says that it throttles itself.
    pub throttling: bool,
    /// Share of the device's memory in use, where known.
    pub memory_share: Option<f64>,
}

/// Why a sample ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SampleEnd {
    /// By itself: end of text, a stop string, its most tokens.
    Complete,
    /// The loop cancelled it.
    Cancelled,
    /// The engine failed on it (non-finite numbers, a failed step): it may go on elsewhere.
    Failed(String),
    /// The device refused it (its queue or memory is full): it may go on elsewhere, and that is no fault.
    Refused(String),
}

/// Why a device is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownCause {
    /// Its process died, with its last words.
    Died(String),
    /// The loop asked for it ([`Output::Stop`]).
    Stopped,
    /// It could not be started.
    NotStarted(String),
    /// The device itself is no longer there.
    Vanished(String),
}

/// What the loop senses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// A request comes.
    Arrive(Request),
    /// Its client went away or asked for its end.
    Withdraw(RequestId),
    /// Tokens of one sample came, `count` of them.
    Tokens {
        /// Where.
        device: DeviceId,
        /// Of which job.
        job: JobId,
        /// Of which sample.
        sample: u32,
        /// How many.
        count: u32,
    },
    /// A device's worker has computed so many more prompt tokens.
    Prefilled {
        /// Which.
        device: DeviceId,
        /// How many since the last such input.
        tokens: u64,
    },
    /// A sample of a job ended: its last event.
    SampleEnded {
        /// Where.
        device: DeviceId,
        /// Of which job.
        job: JobId,
        /// Which sample.
        sample: u32,
        /// Why.
        end: SampleEnd,
    },
    /// A finished sample was judged.
    Judged {
        /// Of which request.
        request: RequestId,
        /// Which sample.
        sample: u32,
        /// Whether it passed.
        passed: bool,
    },
    /// Energy that a request took since the last such input, joules.
    Spent {
        /// Which.
        request: RequestId,
        /// Joules.
        joules: f64,
    },
    /// A device's worker has loaded and answers.
    Up(DeviceId),
    /// A device's worker is gone, and with it all jobs it held.
    Down {
        /// Which.
        device: DeviceId,
        /// Why.
        cause: DownCause,
    },
    /// A sensor was read.
    Sensed {
        /// Of which device.
        device: DeviceId,
        /// What it said.
        reading: Reading,
    },
    /// A one-token probe ended.
    Probed {
        /// Of which device.
        device: DeviceId,
        /// Seconds to the token, or why none came.
        outcome: Result<f64, String>,
    },
    /// A known-answer check ended.
    Checked {
        /// Of which device.
        device: DeviceId,
        /// Divergence from the reference in nats, and whether it is within the bound; or why there is none.
        outcome: Result<(f64, bool), String>,
    },
    /// A driver event (reset, ECC error) was seen.
    DriverEvent {
        /// Of which device.
        device: DeviceId,
        /// What was said.
        what: String,
    },
    /// Time has passed.
    Tick,
}

/// A sample to start or to go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Which sample of the request.
    pub sample: u32,
    /// Tokens that it has emitted already, elsewhere.
    pub emitted: u32,
}

/// How a request ended. Exactly one for each that was admitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Every sample came to its end, or one passed and the others were no longer needed.
    Completed,
    /// Its client withdrew it.
    Withdrawn,
    /// Its deadline passed; what it had emitted was delivered.
    Deadline,
    /// Its energy budget was used up; what it had emitted was delivered.
    EnergyBudget,
    /// It could not be completed: why.
    Failed(String),
}

/// Why a request was not admitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// It asks for more than is ever allowed.
    #[error("{what} is {asked}, at most {most} is allowed")]
    TooLarge {
        /// The field.
        what: String,
        /// What it asks for.
        asked: u64,
        /// The bound.
        most: u64,
    },
    /// A field makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The queue is full.
    #[error("too many requests are waiting; try again in {retry_after_s:.0} s")]
    Overloaded {
        /// Seconds after which there is likely room.
        retry_after_s: f64,
    },
    /// Its deadline or energy budget cannot be kept even if it were started now.
    #[error("{0}")]
    Hopeless(String),
    /// No device can serve now.
    #[error("no device can serve at present: {why}; try again in {retry_after_s:.0} s")]
    Unavailable {
        /// Why.
        why: String,
        /// Seconds after which one is likely back.
        retry_after_s: f64,
    },
}

/// What the loop does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Output {
    /// A request was admitted.
    Admitted(RequestId),
    /// A request was not admitted; it has no outcome.
    Refused {
        /// Which.
        request: RequestId,
        /// Why.
        refusal: Refusal,
    },
    /// Start a job.
    Place {
        /// Where.
        device: DeviceId,
        /// Its number.
        job: JobId,
        /// Of which request.
        request: RequestId,
        /// Which samples, from where on.
        samples: Vec<Resume>,
    },
    /// Cancel samples of a job. Each still ends with [`Input::SampleEnded`].
    Cancel {
        /// Where.
        device: DeviceId,
        /// The job.
        job: JobId,
        /// Which samples.
        samples: Vec<u32>,
    },
    /// Let a device compute this share of the time, in (0, 1].
    Pace {
        /// Which.
        device: DeviceId,
        /// The share.
        duty: f32,
    },
    /// Start the device's worker (again): answered by [`Input::Up`] or [`Input::Down`].
    Start(DeviceId),
    /// End the device's worker, at once: answered by [`Input::Down`].
    Stop(DeviceId),
    /// Ask the device for one token: answered by [`Input::Probed`].
    Probe(DeviceId),
    /// Compare the device's answer to a known question: answered by [`Input::Checked`].
    Check(DeviceId),
    /// A request ended.
    Ended {
        /// Which.
        request: RequestId,
        /// How.
        outcome: Outcome,
    },
    /// Something was decided, and why.
    Decided(Decision),
}
