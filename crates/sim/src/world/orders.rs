//! What the loop orders, carried out; and what it says of itself, compared with what is so.

use super::arrivals::length;
use super::contract::{HEAT_CHANGE_S, LATE_S};
use super::device::Process;
use super::{Delivered, Event, LATENCIES_MAX, REPLY_S, Record, World, id_of};
use crate::report::Promise;
use crate::worker::Job;
use qeil_control::config::DeviceId;
use qeil_control::event::{
    DownCause, Input, JobId, Outcome, Output, Refusal, Request, RequestId, Resume, SampleEnd,
};
use qeil_control::journal::Kind;
use qeil_control::view::Standing;
use qeil_laws::random::word_at;

/// Seconds of a start beside reading the weights: a process, a driver, a context.
const START_S: f64 = 0.5;
/// Seconds in which a stopped worker is gone.
const STOPPED_S: f64 = 0.02;
/// Seconds after a hard fault in which taking the device out is still on its account: hang deadline, checks, probes.
const HARD_S: f64 = 120.0;

impl World<'_> {
    /// Give the loop an input, and carry out its orders.
    pub(super) fn tell(&mut self, input: Input) {
        self.inputs += 1;
        self.inputs_now += 1;
        let outputs = self.control.step(self.now_s, input);
        let mut look = false;
        for output in outputs {
            self.digest = word_at(self.digest, summary(&output));
            look |= self.obey(output);
        }
        if look {
            self.look();
        }
        let (now_s, queued) = (self.now_s, self.control.queued());
        self.contract.queue(now_s, queued, &self.scenario.limits);
        self.wake_s = self.control.wake_s().unwrap_or(f64::INFINITY);
    }

    /// Carry out an order; whether the devices may look different now.
    fn obey(&mut self, output: Output) -> bool {
        match output {
            Output::Admitted(id) => self.admitted(id),
            Output::Refused { request, refusal } => self.refused(request, &refusal),
            Output::Place { device, job, request, samples } => self.place(device, job, request, &samples),
            Output::Cancel { device, job, samples } => self.cancel(device, job, &samples),
            Output::Pace { device, duty } => {
                self.devices[usize::from(device.0)].duty = f64::from(duty).clamp(1e-6, 1.0);
                self.rebalance();
            }
            Output::Start(device) => self.start(usize::from(device.0)),
            Output::Stop(device) => {
                self.devices[usize::from(device.0)].end();
                self.take_off(usize::from(device.0));
                self.rebalance();
                self.later(STOPPED_S, Event::Tell(Input::Down { device, cause: DownCause::Stopped }));
            }
            Output::Probe(device) => self.ask(device, false),
            Output::Check(device) => self.ask(device, true),
            Output::Ended { request, outcome } => self.ended(request, &outcome),
            Output::Decided(decision) => {
                if decision.kind == Kind::Quarantined
                    && let Some(device) = decision.device
                {
                    self.quarantined(usize::from(device.0), &decision.reason);
                }
                return !matches!(
                    decision.kind,
                    Kind::Admitted
                        | Kind::Refused
                        | Kind::Placed
                        | Kind::Moved
                        | Kind::Cancelled
                        | Kind::Ended
                );
            }
        }
        false
    }

    fn admitted(&mut self, id: RequestId) {
        let Some(request) = self.arriving.clone().filter(|request| request.id == id) else {
            let now_s = self.now_s;
            self.contract
                .broken(now_s, Promise::OneOutcome, || format!("request {} was let in without coming", id.0));
            return;
        };
        self.requests.admitted += 1;
        let limits = &self.scenario.limits;
        let beyond = request.prompt_tokens > limits.prompt_tokens_max
            || request.samples > limits.samples_max
            || request.tokens_max > limits.tokens_max
            || request.prompt_tokens.min(request.samples).min(request.tokens_max) == 0
            || [request.deadline_s, request.energy_budget_j]
                .into_iter()
                .flatten()
                .any(|real| real.is_nan() || real <= 0.0);
        if beyond {
            let now_s = self.now_s;
            self.contract.broken(now_s, Promise::InputBounds, || format!("{request:?} was let in"));
        }
        if let Some(after_s) = self.arrivals.withdraws_after_s() {
            self.later(after_s, Event::Tell(Input::Withdraw(id)));
        }
        let samples = vec![Delivered::default(); request.samples.min(limits.samples_max) as usize];
        self.open.insert(id, Record { request, arrived_s: self.now_s, samples });
    }

    fn refused(&mut self, id: RequestId, refusal: &Refusal) {
        match refusal {
            Refusal::Overloaded { .. } | Refusal::Unavailable { .. } => self.requests.refused_for_load += 1,
            Refusal::TooLarge { .. } | Refusal::Invalid(_) | Refusal::Hopeless(_) => {
                self.requests.refused_as_wrong += 1
            }
        }
        if self.open.contains_key(&id) {
            let now_s = self.now_s;
            self.contract.broken(now_s, Promise::OneOutcome, || {
                format!("request {} was refused after it was let in", id.0)
            });
        }
    }

    fn ended(&mut self, id: RequestId, outcome: &Outcome) {
        let now_s = self.now_s;
        let Some(record) = self.open.remove(&id) else {
            self.contract.broken(now_s, Promise::OneOutcome, || {
                format!("request {} ended ({outcome:?}) without being in flight", id.0)
            });
            return;
        };
        let due_s = deadline_s(&record.request, self.scenario.limits.deadline_max_s);
        if now_s > record.arrived_s + due_s + LATE_S {
            self.contract.broken(now_s, Promise::InTime, || {
                format!(
                    "request {} of {:.1} s ended {:.1} s after its deadline",
                    id.0,
                    record.arrived_s,
                    now_s - record.arrived_s - due_s
                )
            });
        }
        match outcome {
            Outcome::Completed => {
                self.requests.completed += 1;
                if self.latencies.len() < LATENCIES_MAX {
                    self.latencies.push(now_s - record.arrived_s);
                }
                if !record.request.until_pass && record.samples.iter().any(|sample| !sample.done) {
                    self.contract.broken(now_s, Promise::OneOutcome, || {
                        format!("request {} counts as completed with samples that did not end", id.0)
                    });
                }
            }
            Outcome::Withdrawn => self.requests.withdrawn += 1,
            Outcome::Deadline => self.requests.late += 1,
            Outcome::EnergyBudget => self.requests.over_budget += 1,
            Outcome::Failed(_) => self.requests.failed += 1,
        }
    }

    fn place(&mut self, device: DeviceId, id: JobId, request: RequestId, samples: &[Resume]) {
        let at = usize::from(device.0);
        let (now_s, seed) = (self.now_s, self.scenario.seed);
        let Some(record) = self.open.get_mut(&request) else {
            self.contract.broken(now_s, Promise::Placement, || {
                format!("request {} was placed and is not in flight", request.0)
            });
            return;
        };
        for resume in samples {
            let Some(delivered) = record.samples.get_mut(resume.sample as usize) else {
                self.contract.broken(now_s, Promise::Placement, || {
                    format!("request {} has no sample {}", request.0, resume.sample)
                });
                return;
            };
            if delivered.tokens != resume.emitted || delivered.done || delivered.on.is_some() {
                self.contract.broken(now_s, Promise::TokenOrder, || {
                    format!(
                        "sample {} of request {} has {} tokens and was placed with {} (on {:?}, done {})",
                        resume.sample,
                        request.0,
                        delivered.tokens,
                        resume.emitted,
                        delivered.on,
                        delivered.done
                    )
                });
            }
            self.requests.moves += u64::from(std::mem::replace(&mut delivered.placed, true));
            delivered.on = Some((at, id));
        }
        let asked = &record.request;
        let job = Job::new(id, request, asked.prompt_tokens, asked.tokens_max, samples, |sample| {
            length(seed, asked, sample)
        });
        let device = &mut self.devices[at];
        if !device.told_up {
            self.contract.broken(now_s, Promise::Placement, || {
                format!("{} was given work while it is down", device.spec.name)
            });
        }
        if device.process != Process::Up {
            // It died, and the loop is about to hear of it: what it was given is lost with it.
            return;
        }
        let (sequences, tokens) = (
            device.worker.sequences() + job.slots.len() as u32,
            device.worker.tokens_held() + job.tokens_held(),
        );
        if sequences > self.scenario.sequences_max || tokens > u64::from(device.context_tokens) {
            self.contract.broken(now_s, Promise::Placement, || {
                format!("{} was given {sequences} sequences of {tokens} tokens", device.spec.name)
            });
        }
        if tokens > device.room_tokens() {
            for slot in &job.slots {
                let end = SampleEnd::Refused("out of memory (simulated)".into());
                let input = Input::SampleEnded { device: id_of(at), job: id, sample: slot.sample, end };
                self.later(REPLY_S, Event::Tell(input));
            }
            return;
        }
        device.worker.place(job);
        self.start_work(at);
    }

    fn cancel(&mut self, device: DeviceId, job: JobId, samples: &[u32]) {
        let at = usize::from(device.0);
        for sample in self.devices[at].worker.cancel(job, samples) {
            if self.devices[at].condition.hung {
                // A worker that hangs does not answer.
                self.devices[at].unanswered.push((job, sample));
                continue;
            }
            let input = Input::SampleEnded { device, job, sample, end: SampleEnd::Cancelled };
            self.later(REPLY_S, Event::Tell(input));
        }
    }

    fn start(&mut self, at: usize) {
        let device = &mut self.devices[at];
        device.end();
        if device.condition.vanished {
            let cause = DownCause::NotStarted("no such device (simulated)".into());
            self.later(START_S, Event::Tell(Input::Down { device: id_of(at), cause }));
            return;
        }
        device.restart();
        let life = device.life;
        let load_s = self.scenario.model.weight_bytes / self.machine.storage_b_per_s.value;
        let after_s = START_S + load_s * (0.8 + 0.5 * self.random.uniform());
        self.later(after_s, Event::Loaded(at, life));
        self.rebalance();
    }

    fn ask(&mut self, device: DeviceId, check: bool) {
        let at = usize::from(device.0);
        let asked = &self.devices[at];
        if asked.process == Process::Up {
            // A known question is some hundred tokens, a probe a few.
            let left_s = self.probe_s(at) * if check { 8.0 } else { 1.0 };
            let life = asked.life;
            self.later(REPLY_S, Event::Answered(at, life, check, left_s));
            return;
        }
        let why = "its worker is not there (simulated)".to_owned();
        let input = if check {
            Input::Checked { device, outcome: Err(why) }
        } else {
            Input::Probed { device, outcome: Err(why) }
        };
        self.later(REPLY_S, Event::Tell(input));
    }

    /// A device was taken out: right where it has a hard fault, or another one serves.
    fn quarantined(&mut self, at: usize, reason: &str) {
        let now_s = self.now_s;
        self.devices[at].report.quarantines += 1;
        let device = &self.devices[at];
        let others = self
            .devices
            .iter()
            .enumerate()
            .any(|(other, device)| other != at && device.standing == Standing::Serving);
        let hard = device.condition.hard() || now_s < device.hard_s + HARD_S;
        if device.standing == Standing::Serving && !others && !hard {
            let name = device.spec.name.clone();
            self.contract.broken(now_s, Promise::LastDevice, || {
                format!("{name}, the last that serves, was taken out: {reason}")
            });
        }
    }

    /// Compare how the devices are shown with how they were shown.
    fn look(&mut self) {
        let now_s = self.now_s;
        for view in self.control.devices() {
            let device = &mut self.devices[usize::from(view.device.0)];
            device.standing = view.standing;
            if view.heat == device.heat {
                continue;
            }
            let since_s = now_s - device.heat_since_s;
            if since_s < HEAT_CHANGE_S - 1e-6 && device.report.heat_changes > 0 {
                let (name, from) = (device.spec.name.clone(), device.heat);
                self.contract.broken(now_s, Promise::HeatChanges, || {
                    format!("{name} went from {from:?} to {:?} after {since_s:.1} s", view.heat)
                });
            }
            device.heat = view.heat;
            device.heat_since_s = now_s;
            device.report.heat_changes += 1;
        }
    }
}

/// Seconds that a request may take.
fn deadline_s(request: &Request, most_s: f64) -> f64 {
    request.deadline_s.map_or(most_s, |deadline_s| deadline_s.min(most_s))
}

/// A number for an order, for the digest: which order, about what.
fn summary(output: &Output) -> u64 {
    let pack = |kind: u64, a: u64, b: u64| word_at(kind << 56 ^ a, b);
    match output {
        Output::Admitted(id) => pack(1, id.0, 0),
        Output::Refused { request, .. } => pack(2, request.0, 0),
        Output::Place { device, job, request, samples } => {
            samples.iter().fold(pack(3, request.0, job.0 << 8 | u64::from(device.0)), |sum, resume| {
                word_at(sum, u64::from(resume.sample) << 32 | u64::from(resume.emitted))
            })
        }
        Output::Cancel { device, job, samples } => {
            pack(4, job.0, (samples.len() as u64) << 16 | u64::from(device.0))
        }
        Output::Pace { device, duty } => pack(5, u64::from(device.0), u64::from(duty.to_bits())),
        Output::Start(device) => pack(6, u64::from(device.0), 0),
        Output::Stop(device) => pack(7, u64::from(device.0), 0),
        Output::Probe(device) => pack(8, u64::from(device.0), 0),
        Output::Check(device) => pack(9, u64::from(device.0), 0),
        Output::Ended { request, outcome } => {
            let how = match outcome {
                Outcome::Completed => 0,
                Outcome::Withdrawn => 1,
                Outcome::Deadline => 2,
                Outcome::EnergyBudget => 3,
                Outcome::Failed(_) => 4,
            };
            pack(10, request.0, how)
        }
        Output::Decided(decision) => pack(11, decision.kind as u64, decision.at_s.to_bits()),
    }
}
