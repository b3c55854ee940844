//! The loop: one input in, the decisions out.
//!
//! [`Control`] holds every state machine and calls them in one fixed order: first time (deadlines, silence, waits that
//! are over), then the input, then placement of whatever waits. Each call does bounded work, and nothing at all where
//! nothing is due: hours in which nobody asks anything cost next to nothing.
//!
//! | part | job |
//! |---|---|
//! | `control/requests.rs` | the life of a request: admission, tokens, ends, exactly one outcome |
//! | `control/forecast.rs` | when a request would be finished if it were let in |
//! | `control/devices.rs` | the life of a device: up, down, probes, readings, silence |
//! | `control/guarding.rs` | heat, slowness, health and the power cap, and what they do to work in flight |
//! | `control/rescue.rs` | samples that would be late where they run |
//! | `control/dispatch.rs` | placing what waits |

mod devices;
mod dispatch;
mod forecast;
mod guarding;
mod requests;
mod rescue;

use crate::admission::{Queue, tokens_per_s};
use crate::config::{Config, DeviceId};
use crate::event::{Input, JobId, Output, RequestId};
use crate::faults::Course;
use crate::health::Health;
use crate::heat::Guard;
use crate::journal::{Decision, Kind};
use crate::silence::Silence;
use crate::speed::Speed;
use crate::view::{DeviceView, HeatState, RequestView};
use crate::work::{At, Job, Live};
use qeil_laws::random::Random;
use std::collections::{BTreeMap, BTreeSet};

/// Seconds between two looks at what waits, where nothing else happens: loads ramp and predictions change slowly.
pub const REPLAN_S: f64 = 0.5;
/// Seconds between two looks at a device that works and whose sensor is not believed.
const BLIND_LOOK_S: f64 = 1.0;

/// A device's state.
#[derive(Debug, Clone)]
struct Device {
    course: Course,
    guard: Option<Guard>,
    health: Health,
    speed: Speed,
    /// Times as long as its profile says that its last probe took.
    probe_slowness: f64,
    /// The heat state that was told last.
    heat: HeatState,
    /// Since when it is hot or far too slow, seconds.
    hot_since_s: Option<f64>,
    slow_since_s: Option<f64>,
    /// When its work was last moved away for softness, seconds.
    left_s: f64,
    /// When it was last looked at for samples that will be late, seconds.
    looked_s: f64,
    /// Samples on it.
    sequences: u32,
    /// Tokens set aside on it.
    held_tokens: u64,
    /// Tokens of prompts of its jobs that have not begun to decode, and how many of them it said it has computed.
    prefill_tokens: u64,
    prefilled_tokens: u64,
    /// How long it gave no sign of its work.
    silence: Silence,
    /// Since when it is over its guard temperature though it may hardly compute, and how hot it was then: seconds, degrees.
    unmoved: Option<(f64, f64)>,
    /// Nothing is placed on it before: it refused a sample.
    full_until_s: f64,
    /// The duty that was ordered last.
    duty: f64,
}

/// The control loop.
#[derive(Debug, Clone)]
pub struct Control {
    config: Config,
    now_s: f64,
    devices: Vec<Device>,
    live: BTreeMap<RequestId, Live>,
    jobs: BTreeMap<JobId, Job>,
    /// Deadlines of all requests in flight: bits of the time (which order like it, for times from 0 on), request.
    deadlines: BTreeSet<(u64, RequestId)>,
    queue: Queue,
    /// Samples that wait, of all requests.
    waiting: u64,
    /// Share of the allowed tokens that samples use, as observed.
    used_share: f64,
    next_job: u64,
    pass: u64,
    /// Something changed since the last placement.
    dirty: bool,
    replan_s: f64,
    random: Random,
    out: Vec<Output>,
}

impl Control {
    /// A loop over these devices, all of them down; its first step starts them.
    pub fn new(config: Config) -> Self {
        let drain_per_s = config.devices.iter().map(tokens_per_s).sum();
        let device = |device: &crate::config::DeviceConfig| Device {
            course: Course::default(),
            guard: device.thermal.map(|limits| Guard::new(limits, device.profile.idle_w, full_w(device))),
            health: Health::default(),
            speed: Speed::default(),
            probe_slowness: 1.0,
            heat: HeatState::Nominal,
            hot_since_s: None,
            slow_since_s: None,
            left_s: f64::NEG_INFINITY,
            looked_s: f64::NEG_INFINITY,
            sequences: 0,
            held_tokens: 0,
            prefill_tokens: 0,
            prefilled_tokens: 0,
            silence: Silence::default(),
            unmoved: None,
            full_until_s: 0.0,
            duty: 1.0,
        };
        Self {
            now_s: 0.0,
            devices: config.devices.iter().map(device).collect(),
            live: BTreeMap::new(),
            jobs: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            queue: Queue::new(drain_per_s),
            waiting: 0,
            used_share: 1.0,
            next_job: 0,
            pass: 0,
            dirty: false,
            replan_s: 0.0,
            random: Random::new(config.seed, 0),
            out: Vec::new(),
            config,
        }
    }

    /// One step at `now_s` seconds since the loop started. Time that runs backwards or is no number stands still.
    pub fn step(&mut self, now_s: f64, input: Input) -> Vec<Output> {
        if now_s.is_finite() && now_s > self.now_s {
            self.now_s = now_s;
        }
        (0..self.devices.len()).for_each(|i| self.count_time(i));
        // What a device gave counts before it is judged: it is not given up at the very moment at which it speaks.
        let input = match input {
            Input::Tokens { device, job, sample, count } => {
                self.tokens(device, job, sample, count);
                Input::Tick
            }
            Input::Prefilled { device, tokens } => {
                self.prefilled(device, tokens);
                Input::Tick
            }
            Input::SampleEnded { device, job, sample, end } => {
                self.sample_ended(device, job, sample, end);
                Input::Tick
            }
            other => other,
        };
        self.pass_time();
        match input {
            Input::Arrive(request) => self.arrive(request),
            Input::Withdraw(request) => self.withdraw(request),
            Input::Judged { request, sample, passed } => self.judged(request, sample, passed),
            Input::Spent { request, joules } => self.spent(request, joules),
            Input::Up(device) => self.up(device),
            Input::Down { device, cause } => self.down(device, &cause),
            Input::Sensed { device, reading } => self.sensed(device, &reading),
            Input::Probed { device, outcome } => self.probed(device, &outcome),
            Input::Checked { device, outcome } => self.checked(device, &outcome),
            Input::DriverEvent { device, what } => self.driver_event(device, &what),
            Input::Tokens { .. } | Input::Prefilled { .. } | Input::SampleEnded { .. } | Input::Tick => {}
        }
        if self.waiting > 0 && (self.dirty || self.now_s >= self.replan_s) {
            self.dispatch();
        }
        std::mem::take(&mut self.out)
    }

    /// When [`Input::Tick`] is due at the latest, seconds; missing where only an input can change anything.
    pub fn wake_s(&self) -> Option<f64> {
        let mut wake_s = f64::INFINITY;
        if let Some((bits, _)) = self.deadlines.first() {
            wake_s = wake_s.min(f64::from_bits(*bits));
        }
        if self.waiting > 0 {
            wake_s = wake_s.min(self.replan_s);
        }
        for (i, device) in self.devices.iter().enumerate() {
            wake_s = wake_s.min(device.course.wake_s(device.sequences == 0));
            if device.sequences > 0 && device.course.serves() {
                wake_s = wake_s.min(self.silent_until_s(i));
            }
            if let Some(guard) = &device.guard {
                wake_s = wake_s.min(guard.wake_s());
                if device.sequences > 0 && !guard.believed() {
                    // What warms it shows in no reading.
                    wake_s = wake_s.min(self.now_s + BLIND_LOOK_S);
                }
            }
        }
        wake_s.is_finite().then_some(wake_s.max(self.now_s))
    }

    /// Every device, in the order of the configuration.
    pub fn devices(&self) -> Vec<DeviceView> {
        let view = |(i, device): (usize, &Device)| DeviceView {
            device: DeviceId(i as u16),
            standing: device.course.standing(),
            heat: device.heat,
            temperature_c: device.guard.as_ref().and_then(Guard::temperature_c),
            sensor_believed: device.guard.as_ref().is_none_or(Guard::believed),
            duty: device.duty as f32,
            load_share: device.course.load_share(self.now_s),
            health: device.health.score(),
            slowness: device.speed.slowness(),
            sequences: device.sequences,
            tokens_held: device.held_tokens,
            predicted_w: self.predicted_w(i, 0),
        };
        self.devices.iter().enumerate().map(view).collect()
    }

    /// Every request in flight, by its number.
    pub fn requests(&self) -> Vec<RequestView> {
        let view = |(id, live): (&RequestId, &Live)| {
            let count =
                |at: fn(&At) -> bool| live.samples.iter().filter(|sample| at(&sample.at)).count() as u32;
            RequestView {
                request: *id,
                client: live.request.client,
                priority: live.request.priority,
                arrived_s: live.arrived_s,
                deadline_at_s: live.deadline_at_s,
                begun: live.begun,
                waiting: live.waiting,
                running: count(|at| matches!(at, At::Running(_) | At::Leaving(_))),
                done: count(|at| *at == At::Done),
                emitted: live.samples.iter().map(|sample| u64::from(sample.emitted)).sum(),
                spent_j: live.spent_j,
            }
        };
        self.live.iter().map(view).collect()
    }

    /// Requests and tokens that wait and were not begun: what the bounds of the queue count.
    pub fn queued(&self) -> (u32, u64) {
        (self.queue.requests(), self.queue.tokens())
    }

    /// What the loop was told before it started.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Everything that time alone brings about.
    fn pass_time(&mut self) {
        for i in 0..self.devices.len() {
            self.device_time(i);
        }
        // Bounded by the requests in flight: each turn ends one.
        while let Some((bits, id)) = self.deadlines.first().copied() {
            if f64::from_bits(bits) > self.now_s {
                break;
            }
            self.end_at_deadline(id);
        }
    }

    fn decide(
        &mut self,
        kind: Kind,
        device: Option<usize>,
        request: Option<RequestId>,
        reason: impl Into<String>,
        readings: Vec<(String, f64)>,
    ) {
        self.out.push(Output::Decided(Decision {
            at_s: self.now_s,
            kind,
            device: device.map(id_of),
            request,
            reason: reason.into(),
            readings,
        }));
    }

    /// Its index, where there is such a device.
    fn index(&self, device: DeviceId) -> Option<usize> {
        let i = usize::from(device.0);
        (i < self.devices.len()).then_some(i)
    }
}

fn id_of(index: usize) -> DeviceId {
    DeviceId(index as u16)
}

fn reading(name: &str, value: f64) -> (String, f64) {
    (name.to_owned(), value)
}

/// Watts of a device at full work, by its profile: the larger of prefill and of decoding with all sequences.
fn full_w(device: &crate::config::DeviceConfig) -> f64 {
    let profile = &device.profile;
    let ratio = |joules: f64, seconds: f64| if seconds > 0.0 { joules / seconds } else { 0.0 };
    let all = device.sequences_max.max(1);
    ratio(profile.decode_step_j(all), profile.decode_step_s(all))
        .max(ratio(profile.decode_step_j(1), profile.decode_step_s(1)))
        .max(ratio(profile.prefill_j_per_token, profile.prefill_s_per_token))
        .max(profile.idle_w)
}
