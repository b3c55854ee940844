//! Who is let in, and who goes first.
//!
//! A queue that grows under overload makes every answer late and in the end useless; so it is bounded in requests and in
//! tokens, and who finds it full is told when to come again, from the rate at which it was seen to drain. What can never be
//! done is refused at once and by name. Batch work may fill three quarters of the queue, the rest is kept for requests
//! that somebody waits for.
//!
//! Among those that wait, interactive ones go first; within a priority the client that was served least so far (start-time
//! fair queueing, Goyal et al. 1996: each client's clock runs by the tokens it was given, and one that was away does not
//! save up for a burst); within a client, the one that came first.

use crate::config::{Config, Limits};
use crate::event::{Priority, Refusal, Request};
use crate::work::tokens_asked;
use std::collections::BTreeMap;

/// Share of the queue that batch requests may fill.
pub const BATCH_SHARE: f64 = 0.75;
/// Seconds over which the drain rate is averaged: some requests long, shorter than a change of the load.
pub const DRAIN_WINDOW_S: f64 = 30.0;
/// Bounds of Retry-After, seconds: the protocol counts whole seconds, and in ten minutes all may be different.
pub const RETRY_AFTER_S: (f64, f64) = (1.0, 600.0);

fn too_large(what: &str, asked: u64, most: u64) -> Result<(), Refusal> {
    if asked <= most { Ok(()) } else { Err(Refusal::TooLarge { what: what.into(), asked, most }) }
}

fn sensible(what: &str, value: Option<f64>) -> Result<(), Refusal> {
    match value {
        Some(value) if !(value.is_finite() && value > 0.0) => {
            Err(Refusal::Invalid(format!("{what} must be a positive number")))
        }
        _ => Ok(()),
    }
}

/// Checks a request against what is ever allowed: its own numbers, and the largest device.
pub fn check_bounds(request: &Request, config: &Config) -> Result<(), Refusal> {
    let limits = &config.limits;
    sensible("the deadline", request.deadline_s)?;
    sensible("the energy budget", request.energy_budget_j)?;
    for (what, asked) in [("samples", request.samples), ("tokens_max", request.tokens_max)] {
        if asked == 0 {
            return Err(Refusal::Invalid(format!("{what} must be at least 1")));
        }
    }
    if request.prompt_tokens == 0 {
        return Err(Refusal::Invalid("the prompt must have at least 1 token".into()));
    }
    too_large("the prompt in tokens", request.prompt_tokens.into(), limits.prompt_tokens_max.into())?;
    too_large("the number of samples", request.samples.into(), limits.samples_max.into())?;
    too_large("the number of tokens of a sample", request.tokens_max.into(), limits.tokens_max.into())?;
    let context = config.devices.iter().map(|device| device.context_tokens).max().unwrap_or(0);
    let sample = u64::from(request.prompt_tokens) + u64::from(request.tokens_max);
    too_large("prompt and answer in tokens", sample, context.into())?;
    too_large("all tokens together", tokens_asked(request), queue_tokens_max(limits, request.priority))
}

/// Checks that deadline and energy budget could be kept if the request had every device for itself, at full speed. Only
/// figures that the request names: a client that names none takes what it gets until the limit.
pub fn check_hope(request: &Request, config: &Config) -> Result<(), Refusal> {
    let samples = if request.until_pass { 1 } else { request.samples };
    let fits = |device: &&crate::config::DeviceConfig| {
        device.context_tokens >= request.prompt_tokens.saturating_add(request.tokens_max)
    };
    let (prompt, tokens) = (f64::from(request.prompt_tokens), f64::from(request.tokens_max));
    if let Some(deadline_s) = request.deadline_s {
        // The quickest device for one sample, and all devices together for all: whichever takes longer.
        let one_s = |device: &crate::config::DeviceConfig| {
            device.profile.prefill_s_per_token * prompt + device.profile.decode_step_s(1) * tokens
        };
        let one_s = config.devices.iter().filter(fits).map(one_s).fold(f64::INFINITY, f64::min);
        let rate: f64 = config.devices.iter().filter(fits).map(tokens_per_s).sum();
        let needed_s = one_s.max(f64::from(samples) * tokens / rate);
        if needed_s > deadline_s {
            return Err(Refusal::Hopeless(format!(
                "it needs {needed_s:.3} s on idle devices, and its deadline is {deadline_s:.3} s"
            )));
        }
    }
    if let Some(budget_j) = request.energy_budget_j {
        let least_j = |device: &crate::config::DeviceConfig| {
            let together = samples.min(device.sequences_max).max(1);
            let step_j = device.profile.decode_step_j(together) / f64::from(together);
            device.profile.prefill_j_per_token * prompt + step_j * tokens * f64::from(samples)
        };
        let needed_j = config.devices.iter().filter(fits).map(least_j).fold(f64::INFINITY, f64::min);
        if needed_j > budget_j {
            return Err(Refusal::Hopeless(format!(
                "it needs {needed_j:.3} J on the most frugal device, and its budget is {budget_j:.3} J"
            )));
        }
    }
    Ok(())
}

/// Tokens a second that a full device emits by its profile.
pub fn tokens_per_s(device: &crate::config::DeviceConfig) -> f64 {
    let sequences = device.sequences_max.max(1);
    f64::from(sequences) / device.profile.decode_step_s(sequences).max(f64::MIN_POSITIVE)
}

fn queue_tokens_max(limits: &Limits, priority: Priority) -> u64 {
    match priority {
        Priority::Interactive => limits.queue_tokens_max,
        Priority::Batch => (limits.queue_tokens_max as f64 * BATCH_SHARE) as u64,
    }
}

fn queue_requests_max(limits: &Limits, priority: Priority) -> u32 {
    match priority {
        Priority::Interactive => limits.queue_requests_max,
        // At least one, so that a short queue still takes batch work.
        Priority::Batch => ((f64::from(limits.queue_requests_max) * BATCH_SHARE) as u32)
            .clamp(1, limits.queue_requests_max.max(1)),
    }
}

/// The queue's account: what waits, whose turn it is, how fast it drains.
#[derive(Debug, Clone)]
pub struct Queue {
    requests: u32,
    tokens: u64,
    /// Tokens given to each client with a request in flight, on a common clock.
    clocks: BTreeMap<u32, Clock>,
    /// Clock of the client that was served last.
    clock_now: f64,
    /// Tokens a second that left, as asked for.
    drain_per_s: f64,
    drained_s: f64,
}

#[derive(Debug, Clone, Copy)]
struct Clock {
    at: f64,
    requests: u32,
}

impl Queue {
    /// Nothing waits; it is expected to drain at `drain_per_s` tokens a second until seen otherwise.
    pub fn new(drain_per_s: f64) -> Self {
        Self { requests: 0, tokens: 0, clocks: BTreeMap::new(), clock_now: 0.0, drain_per_s, drained_s: 0.0 }
    }

    /// Requests that wait and were not begun.
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// Tokens that were asked for and not begun.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Share of its bounds that is filled, the larger one.
    pub fn fill(&self, limits: &Limits) -> f64 {
        let requests = f64::from(self.requests) / f64::from(limits.queue_requests_max.max(1));
        requests.max(self.tokens as f64 / limits.queue_tokens_max.max(1) as f64)
    }

    /// Whether there is room for a request.
    pub fn check_room(&self, request: &Request, limits: &Limits) -> Result<(), Refusal> {
        let tokens_max = queue_tokens_max(limits, request.priority);
        let requests_max = queue_requests_max(limits, request.priority);
        let excess = (self.tokens + tokens_asked(request)).saturating_sub(tokens_max);
        if self.requests < requests_max && excess == 0 {
            return Ok(());
        }
        // A place is free when a waiting request of average size has gone.
        let average = self.tokens as f64 / f64::from(self.requests.max(1));
        let places = f64::from((self.requests + 1).saturating_sub(requests_max));
        let tokens = (excess as f64).max(places * average);
        let (least_s, most_s) = RETRY_AFTER_S;
        let retry_after_s = (tokens / self.drain_per_s.max(f64::MIN_POSITIVE)).clamp(least_s, most_s);
        Err(Refusal::Overloaded { retry_after_s })
    }

    /// A request was admitted and waits.
    pub fn enter(&mut self, request: &Request) {
        self.requests += 1;
        self.tokens += tokens_asked(request);
        let now = self.clock_now;
        let clock = self.clocks.entry(request.client).or_insert(Clock { at: now, requests: 0 });
        clock.requests += 1;
    }

    /// A client was given `tokens`: a place on a device for a sample, with the prompt where it was the first.
    pub fn give(&mut self, client: u32, tokens: u64) {
        if let Some(clock) = self.clocks.get_mut(&client) {
            self.clock_now = self.clock_now.max(clock.at);
            clock.at = clock.at.max(self.clock_now) + tokens as f64;
        }
    }

    /// Tokens that a client was given, on the common clock: the lowest goes first.
    pub fn turn(&self, client: u32) -> f64 {
        self.clocks.get(&client).map_or(self.clock_now, |clock| clock.at)
    }

    /// The first sample of a request was placed.
    pub fn begin(&mut self) {
        self.requests = self.requests.saturating_sub(1);
    }

    /// Tokens that were waited for are placed, or will not be.
    pub fn take(&mut self, tokens: u64) {
        self.tokens = self.tokens.saturating_sub(tokens);
    }

    /// A request ended, having asked for `tokens`.
    pub fn leave(&mut self, now_s: f64, client: u32, tokens: u64) {
        if let Some(clock) = self.clocks.get_mut(&client) {
            clock.requests = clock.requests.saturating_sub(1);
            if clock.requests == 0 {
                self.clocks.remove(&client);
            }
        }
        // An average over time of impulses: the rate decays between them, and each adds its tokens over the window.
        let passed_s = (now_s - self.drained_s).max(0.0);
        self.drained_s = now_s;
        self.drain_per_s =
            self.drain_per_s * (-passed_s / DRAIN_WINDOW_S).exp() + tokens as f64 / DRAIN_WINDOW_S;
    }
}
