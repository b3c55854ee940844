//! Requests in flight and the jobs made of them.
//!
//! A sample is at exactly one place at a time: it waits, runs in one job, leaves one (cancelled there, to go on
//! elsewhere), or is done. Every event names its job, and an event of a job that no longer holds the sample is late and
//! changes nothing; so nothing is counted twice whatever order a failing device reports in.

use crate::config::DeviceId;
use crate::event::{JobId, Priority, Request};
use crate::placement::STALL_MAX_S;

/// Where a sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// It waits for a device.
    Waiting,
    /// In a job.
    Running(JobId),
    /// Cancelled in a job, so as to go on elsewhere.
    Leaving(JobId),
    /// It came to its end.
    Done,
}

/// A sample of a request.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Where it is.
    pub at: At,
    /// Tokens emitted so far.
    pub emitted: u32,
    /// Times that a device failed it.
    pub moves: u32,
    /// Whether it was placed before: then its next placement is a move.
    pub placed: bool,
    /// When its wait to go on becomes a stall for somebody, seconds.
    pub stalls_s: f64,
    /// The device that it was last on.
    pub last: Option<DeviceId>,
    /// Whether it passed, once judged.
    pub passed: Option<bool>,
}

/// A request in flight.
#[derive(Debug, Clone)]
pub struct Live {
    /// As it came.
    pub request: Request,
    /// When, seconds.
    pub arrived_s: f64,
    /// When it ends at the latest, seconds.
    pub deadline_at_s: f64,
    /// Joules that it may take.
    pub energy_max_j: f64,
    /// Joules that it took.
    pub spent_j: f64,
    /// Its samples.
    pub samples: Vec<Sample>,
    /// How many of them wait.
    pub waiting: u32,
    /// How many of those were on a device before: work in progress, which goes first.
    pub interrupted: u32,
    /// Whether any was placed yet.
    pub begun: bool,
    /// The pass of placement in which no device could take it.
    pub passed_over: u64,
    /// The last pass in which samples of it would rather wait, and how many.
    pub deferred: (u64, u32),
}

impl Live {
    /// A request that was just admitted.
    pub fn new(request: Request, now_s: f64, deadline_s: f64, energy_max_j: f64) -> Self {
        let sample = Sample {
            at: At::Waiting,
            emitted: 0,
            moves: 0,
            placed: false,
            stalls_s: f64::INFINITY,
            last: None,
            passed: None,
        };
        Self {
            arrived_s: now_s,
            deadline_at_s: now_s + deadline_s,
            energy_max_j,
            spent_j: 0.0,
            samples: vec![sample; request.samples as usize],
            waiting: request.samples,
            interrupted: 0,
            begun: false,
            passed_over: 0,
            deferred: (0, 0),
            request,
        }
    }

    /// A sample waits again.
    pub fn wait_again(&mut self, sample: usize, now_s: f64) {
        let state = &mut self.samples[sample];
        state.at = At::Waiting;
        if self.request.priority == Priority::Interactive {
            state.stalls_s = now_s + STALL_MAX_S;
        }
        self.waiting += 1;
        self.interrupted += u32::from(state.placed);
    }

    /// The waiting sample whose turn it is: the one that was interrupted first, before those that never began.
    pub fn next_waiting(&self) -> Option<usize> {
        let interrupted = self.interrupted().min_by(|a, b| a.1.stalls_s.total_cmp(&b.1.stalls_s));
        let fresh = || self.samples.iter().position(|sample| sample.at == At::Waiting);
        interrupted.map(|(i, _)| i).or_else(fresh)
    }

    /// Samples that wait and were on a device before.
    fn interrupted(&self) -> impl Iterator<Item = (usize, &Sample)> {
        // Most requests have none, and may have many samples.
        let looked_at = if self.interrupted > 0 { self.samples.as_slice() } else { &[] };
        looked_at.iter().enumerate().filter(|(_, sample)| sample.at == At::Waiting && sample.placed)
    }

    /// Whether an interrupted sample has waited for so long that somebody sees a stall.
    pub fn is_stalled(&self, now_s: f64) -> bool {
        self.interrupted().any(|(_, sample)| sample.stalls_s <= now_s)
    }

    /// When the next wait becomes a stall, of those that are none yet, seconds.
    pub fn next_stall_s(&self, now_s: f64) -> Option<f64> {
        let stalls = self.interrupted().map(|(_, sample)| sample.stalls_s);
        stalls.filter(|&stalls_s| stalls_s > now_s).min_by(f64::total_cmp)
    }

    /// Tokens that a sample may still emit.
    pub fn left(&self, sample: &Sample) -> u32 {
        self.request.tokens_max.saturating_sub(sample.emitted).max(1)
    }

    /// Whether nothing is left to do for it.
    pub fn is_complete(&self) -> bool {
        if self.request.until_pass && self.samples.iter().any(|sample| sample.passed == Some(true)) {
            return true;
        }
        let judged = |sample: &Sample| !self.request.until_pass || sample.passed.is_some();
        self.samples.iter().all(|sample| sample.at == At::Done && judged(sample))
    }
}

/// Tokens that a request asks for: its prompt once and all of its samples.
pub fn tokens_asked(request: &Request) -> u64 {
    u64::from(request.prompt_tokens) + u64::from(request.samples) * u64::from(request.tokens_max)
}

/// A sample in a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// Which sample of the request.
    pub sample: u32,
    /// Tokens that it may still emit here.
    pub left: u32,
    /// Tokens set aside for it.
    pub held: u64,
    /// Whether it was cancelled.
    pub cancelled: bool,
}

/// Some samples of one request on one device.
#[derive(Debug, Clone)]
pub struct Job {
    /// Where.
    pub device: DeviceId,
    /// Of which request, which may have ended since.
    pub request: crate::event::RequestId,
    /// Samples whose last event has not come.
    pub seats: Vec<Seat>,
    /// Tokens to compute before the first new one: the prompt, and what resumed samples had emitted.
    pub prefill_tokens: u64,
    /// Tokens set aside for the prompt in the device's memory.
    pub prompt_held: u64,
    /// Whether a token came.
    pub begun: bool,
}
