//! A simulated machine in operation, with the real control loop in charge of it.
//!
//! Time jumps from event to event. Between two events every power is constant, so heat and energy are exact whatever
//! the distance. Each input of the loop is one event, each of its orders changes the world at once or makes a later
//! event; nothing else connects the two. What is random comes from the scenario's seed, so a run is its scenario.
//!
//! Memory does not grow with time: requests are forgotten when they end, the events that wait are a few for each device
//! and request in flight, and only the first violations are kept in words.
//!
//! | part | job |
//! |---|---|
//! | this file | the event loop |
//! | `world/work.rs` | time passing on the devices, tokens delivered |
//! | `world/mishaps.rs` | faults |
//! | `world/orders.rs` | carrying out what the loop orders |
//! | `world/device.rs` | one device: process, work, condition, account |
//! | `world/arrivals.rs` | clients |
//! | `world/contract.rs` | the promises that are checked |

mod arrivals;
mod contract;
mod device;
mod mishaps;
mod orders;
mod work;

use crate::cost;
use crate::machine::Machine;
use crate::plant::Plant;
use crate::report::{DeviceReport, Promise, Report, RequestReport};
use crate::scenario::Scenario;
use crate::worker::chunk_tokens;
use arrivals::{Arrivals, Source};
use contract::Contract;
use device::{Device, Process};
use qeil_control::config::{Config, DeviceConfig, DeviceId};
use qeil_control::control::Control;
use qeil_control::event::{Input, JobId, Reading, Request, RequestId};
use qeil_laws::random::Random;
use qeil_units::Provenance;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

/// Seconds between two readings of a sensor: what the real loop reads at.
pub const SENSE_S: f64 = 1.0;
/// Seconds between two changes of the surroundings.
const AMBIENT_S: f64 = 10.0;
/// Seconds in which the death of a worker is seen (safety contract: at most 0.1).
const DEATH_SEEN_S: f64 = 0.05;
/// Seconds between two looks at a probe or a check that is being answered.
const ANSWER_LOOK_S: f64 = 1.0;
/// Seconds in which an order takes effect.
const REPLY_S: f64 = 0.001;
/// Inputs at one moment beyond which the loop is said to spin: all samples of a full worker end together, with room.
const INPUTS_AT_ONCE_MAX: u32 = 20_000;
/// Events that may wait: some for each device, and for each request in flight as many as it has samples, with room.
const EVENTS_MAX: usize = 20_000;
/// Seconds after the last deadline in which everything must have ended.
const DRAIN_S: f64 = 5.0;
/// Tokens for which a worker must have room to take part.
const CONTEXT_LEAST: u32 = 64;
/// Latencies that are kept for the percentiles: an hour brings fewer.
const LATENCIES_MAX: usize = 100_000;
/// Probability that a judged sample passes.
const PASSES: f64 = 0.3;
/// Seconds that judging takes.
const JUDGING_S: f64 = 0.2;
/// Streams of the random draws while it runs, and of the true costs.
const STREAMS: (u64, u64) = (3, 4);

/// Something that will happen.
#[derive(Debug, Clone, PartialEq)]
enum Event {
    Arrive(Source),
    /// The stretch of a device is done, if it is still that one.
    Stretch(usize),
    /// A worker has loaded, if it is still that process.
    Loaded(usize, u64),
    /// A probe or check of a process is done, or has these seconds at full speed left after so many at the speed then.
    Answered(usize, u64, bool, f64),
    Sense(usize),
    FaultBegins(usize),
    FaultEnds(usize),
    Ambient,
    /// Something that the loop is told later.
    Tell(Input),
}

#[derive(Debug, Clone)]
struct Entry {
    at_s: f64,
    number: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The heap gives its greatest: the earliest, and among those of one moment the first made.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        other.at_s.total_cmp(&self.at_s).then(other.number.cmp(&self.number))
    }
}

/// A sample of a request in flight, as its client sees it.
#[derive(Debug, Clone, Copy, Default)]
struct Delivered {
    tokens: u32,
    /// Sum of the tokens that came.
    digest: u64,
    /// Whether a device that computes wrong numbers took part.
    tainted: bool,
    on: Option<(usize, JobId)>,
    placed: bool,
    done: bool,
}

/// A request in flight.
#[derive(Debug, Clone)]
struct Record {
    request: Request,
    arrived_s: f64,
    samples: Vec<Delivered>,
}

/// A machine in operation.
struct World<'a> {
    scenario: &'a Scenario,
    machine: Machine,
    control: Control,
    plant: Plant,
    devices: Vec<Device>,
    /// Which of these devices a device of the description is; none where the model does not fit it.
    place_of: Vec<Option<usize>>,
    events: BinaryHeap<Entry>,
    number: u64,
    now_s: f64,
    wake_s: f64,
    inputs_now: u32,
    open: BTreeMap<RequestId, Record>,
    /// The request that is being brought.
    arriving: Option<Request>,
    arrivals: Arrivals,
    random: Random,
    contract: Contract,
    requests: RequestReport,
    latencies: Vec<f64>,
    ambient_max_c: f64,
    inputs: u64,
    digest: u64,
    /// Devices that are over their guard temperature, or over their maximum, so that each time counts once.
    over: Vec<(bool, bool)>,
}

/// Run a scenario to its end.
pub fn run(scenario: &Scenario) -> Report {
    let mut world = World::new(scenario);
    world.begin();
    world.run();
    world.report()
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let fits = |device: usize| scenario.context_of(device) >= CONTEXT_LEAST;
        let all = scenario.machine.devices.len();
        let kept: Vec<usize> = (0..all).filter(|device| fits(*device)).collect();
        let place_of = (0..all).map(|device| kept.iter().position(|kept| *kept == device)).collect();
        let mut machine = scenario.machine.clone();
        machine.devices = kept.iter().map(|device| scenario.machine.devices[*device].clone()).collect();
        let config = Config {
            devices: kept
                .iter()
                .map(|device| {
                    let spec = &scenario.machine.devices[*device];
                    let profile = cost::profile(spec, &scenario.model);
                    DeviceConfig {
                        name: spec.name.clone(),
                        kin: format!("{:?}", spec.kind),
                        sequences_max: scenario.sequences_max,
                        context_tokens: scenario.context_of(*device),
                        chunk_tokens: Some(chunk_tokens(1.0, profile.prefill_s_per_token)),
                        profile,
                        thermal: Some(qeil_control::config::ThermalLimits::new(spec.max_c.value)),
                    }
                })
                .collect(),
            limits: scenario.limits.clone(),
            power_cap_w: scenario.power_cap_w,
            goal: scenario.goal,
            guarded: scenario.guarded,
            seed: scenario.seed,
        };
        let mut noise = Random::new(scenario.seed, STREAMS.1);
        let mut devices = Vec::new();
        for at in kept {
            let mut spec = scenario.machine.devices[at].clone();
            spec.perturb(scenario.profile_noise, &mut noise);
            devices.push(Device::new(spec, scenario.context_of(at)));
        }
        let mut plant = Plant::new(&machine, scenario.ambient.at(0.0));
        let idle: Vec<f64> = devices.iter().map(|device| device.power_w).collect();
        plant.settle(&idle);
        Self {
            control: Control::new(config),
            plant,
            over: vec![(false, false); devices.len()],
            place_of,
            machine,
            devices,
            events: BinaryHeap::new(),
            number: 0,
            now_s: 0.0,
            wake_s: 0.0,
            inputs_now: 0,
            open: BTreeMap::new(),
            arriving: None,
            arrivals: Arrivals::new(scenario.load.clone(), scenario.seed),
            random: Random::new(scenario.seed, STREAMS.0),
            contract: Contract::default(),
            requests: RequestReport::default(),
            latencies: Vec::new(),
            ambient_max_c: scenario.ambient.at(0.0),
            inputs: 0,
            digest: scenario.seed,
            scenario,
        }
    }

    fn later(&mut self, after_s: f64, event: Event) -> u64 {
        self.number += 1;
        self.events.push(Entry { at_s: self.now_s + after_s, number: self.number, event });
        self.number
    }

    fn begin(&mut self) {
        for source in [Source::Ordinary, Source::Hostile, Source::Flood] {
            self.next_arrival(source);
        }
        for device in 0..self.devices.len() {
            // Sensors are not read all at the same moment.
            self.later(SENSE_S * (device + 1) as f64 / self.devices.len() as f64, Event::Sense(device));
        }
        for fault in 0..self.scenario.faults.len() {
            self.later(self.scenario.faults[fault].at_s, Event::FaultBegins(fault));
        }
        self.later(AMBIENT_S, Event::Ambient);
        self.tell(Input::Tick);
    }

    fn next_arrival(&mut self, source: Source) {
        if let Some(at_s) =
            self.arrivals.next_s(source, self.now_s).filter(|at_s| *at_s < self.scenario.seconds)
        {
            self.later(at_s - self.now_s, Event::Arrive(source));
        }
    }

    fn run(&mut self) {
        let end_s = self.scenario.seconds;
        let last_s = end_s + self.scenario.limits.deadline_max_s + DRAIN_S;
        // Bounded by virtual time: sensors and ticks are at least a millisecond apart, work is bounded by arrivals, and
        // a loop that spins at one moment is stopped.
        loop {
            let event_s = self.events.peek().map_or(f64::INFINITY, |entry| entry.at_s);
            let next_s = event_s.min(self.wake_s);
            let done = next_s > end_s && self.open.is_empty();
            if done || next_s > last_s {
                self.advance(next_s.min(last_s).max(end_s).min(if done {
                    end_s.max(self.now_s)
                } else {
                    last_s
                }));
                break;
            }
            if next_s > self.now_s {
                self.inputs_now = 0;
            }
            self.advance(next_s);
            if self.wake_s < event_s {
                self.tell(Input::Tick);
                // A loop that asks to be woken at once gets its turn, and the others theirs.
                self.wake_s = self.wake_s.max(self.now_s + REPLY_S);
            } else if let Some(entry) = self.events.pop() {
                self.happen(entry);
            }
            if self.inputs_now > INPUTS_AT_ONCE_MAX || self.events.len() > EVENTS_MAX {
                let (now_s, inputs, events) = (self.now_s, self.inputs_now, self.events.len());
                self.contract.broken(now_s, Promise::Progress, || {
                    format!("{inputs} inputs at one moment, {events} events that wait")
                });
                break;
            }
        }
        for (id, record) in &self.open {
            let at_s = self.now_s;
            self.contract.broken(at_s, Promise::OneOutcome, || {
                format!("request {} of {:.1} s has no outcome", id.0, record.arrived_s)
            });
        }
    }

    fn happen(&mut self, entry: Entry) {
        match entry.event {
            Event::Arrive(source) => {
                let request = self.arrivals.request(source);
                self.requests.arrived += 1;
                self.next_arrival(source);
                self.arriving = Some(request.clone());
                self.tell(Input::Arrive(request));
                self.arriving = None;
            }
            Event::Stretch(at) => {
                if self.devices[at].running.is_some_and(|running| running.event == entry.number) {
                    self.stretch_done(at);
                }
            }
            Event::Loaded(at, life) => {
                let device = &mut self.devices[at];
                if device.life == life && device.process == Process::Starting {
                    device.process = Process::Up;
                    device.told_up = true;
                    self.tell(Input::Up(id_of(at)));
                }
            }
            Event::Answered(at, life, check, left_s) => self.answered(at, life, check, left_s),
            Event::Sense(at) => {
                self.later(SENSE_S, Event::Sense(at));
                self.sense(at);
            }
            Event::FaultBegins(number) => self.fault_begins(number),
            Event::FaultEnds(number) => self.fault_ends(number),
            Event::Ambient => {
                let ambient_c = self.scenario.ambient.at(self.now_s);
                self.ambient_max_c = self.ambient_max_c.max(ambient_c);
                self.plant.set_ambient(ambient_c);
                self.later(AMBIENT_S, Event::Ambient);
            }
            Event::Tell(input) => {
                if let Input::Down { device, .. } = &input {
                    let at = usize::from(device.0);
                    self.devices[at].told_up = false;
                    self.take_off(at);
                }
                if let Input::SampleEnded { job, sample, .. } = &input {
                    let holds = |delivered: &Delivered| delivered.on.is_some_and(|(_, on)| on == *job);
                    let of_job =
                        self.open.values_mut().filter_map(|record| record.samples.get_mut(*sample as usize));
                    if let Some(delivered) = of_job.into_iter().find(|delivered| holds(delivered)) {
                        delivered.on = None;
                    }
                }
                self.tell(input);
            }
        }
    }

    /// A probe or a check goes on or ends, if its process still lives; a hung one says nothing until it goes on.
    fn answered(&mut self, at: usize, life: u64, check: bool, left_s: f64) {
        let device = &self.devices[at];
        if device.life != life || device.process != Process::Up {
            return;
        }
        if left_s > 0.0 || device.condition.hung {
            // Looked at every second, since the duty may change meanwhile.
            let speed = device.speed_alone(self.plant.clock(at));
            let after_s =
                if speed * ANSWER_LOOK_S >= left_s && speed > 0.0 { left_s / speed } else { ANSWER_LOOK_S };
            let left_s = left_s - speed * after_s;
            let left_s = if left_s < 1e-9 { 0.0 } else { left_s };
            self.later(after_s, Event::Answered(at, life, check, left_s));
            return;
        }
        let (wrong, slow) = (device.condition.wrong, device.condition.slow);
        if check {
            let outcome = if wrong { (2.5, false) } else { (1e-4, true) };
            self.tell(Input::Checked { device: id_of(at), outcome: Ok(outcome) });
        } else {
            let seconds = slow * self.probe_s(at);
            self.tell(Input::Probed { device: id_of(at), outcome: Ok(seconds) });
        }
    }

    /// Seconds of a one-token probe on a healthy device.
    fn probe_s(&self, at: usize) -> f64 {
        let (spec, model) = (&self.devices[at].spec, &self.scenario.model);
        cost::prefill(spec, model, 16).seconds + cost::decode(spec, model, 1, 16.0).seconds
    }

    fn sense(&mut self, at: usize) {
        let temperature_c = self.plant.temperature_c(at);
        let throttling = self.plant.throttling(at);
        let device = &mut self.devices[at];
        let Some(temperature_c) = device.sense(temperature_c, &mut self.random) else { return };
        let room = device.room_tokens();
        let reading = Reading {
            temperature_c,
            power_w: Some(device.power_w),
            throttling,
            memory_share: (room > 0).then(|| device.worker.tokens_held() as f64 / room as f64),
        };
        self.tell(Input::Sensed { device: id_of(at), reading });
    }

    fn report(mut self) -> Report {
        let seconds = self.now_s.max(f64::MIN_POSITIVE);
        self.latencies.sort_by(f64::total_cmp);
        let at = |share: f64| self.latencies[((self.latencies.len() - 1) as f64 * share).round() as usize];
        self.requests.seconds = (!self.latencies.is_empty()).then(|| (at(0.5), at(0.95)));
        let (violated, violations) = self.contract.take();
        let devices = self.devices.into_iter().map(|device| DeviceReport {
            duty: device.report.duty / seconds,
            busy: device.report.busy / seconds,
            ..device.report
        });
        Report {
            provenance: Provenance::Simulated,
            machine: self.machine.name,
            model: self.scenario.model.name.clone(),
            seed: self.scenario.seed,
            guarded: self.scenario.guarded,
            seconds,
            ambient_max_c: self.ambient_max_c,
            devices: devices.collect(),
            requests: self.requests,
            violated,
            violations,
            inputs: self.inputs,
            digest: self.digest,
        }
    }
}

fn id_of(at: usize) -> DeviceId {
    DeviceId(at as u16)
}
