//! Time passing on the devices: heat, energy, what they share, and the tokens that come of it.

use super::device::{Process, Running};
use super::{Event, JUDGING_S, PASSES, World, arrivals, contract, id_of};
use crate::report::Promise;
use crate::worker::{Emitted, token};
use qeil_control::event::{Input, RequestId, SampleEnd};

/// A device this much slower than when its steps were taken together reports after the step at hand.
const SLOWER: f64 = 0.8;

impl World<'_> {
    /// Let time pass: work, heat, energy.
    pub(super) fn advance(&mut self, to_s: f64) {
        let seconds = to_s - self.now_s;
        if seconds <= 0.0 {
            return;
        }
        self.now_s = to_s;
        let powers: Vec<f64> = self.devices.iter().map(|device| device.power_w).collect();
        self.plant.advance(&powers, seconds);
        for (at, device) in self.devices.iter_mut().enumerate() {
            let temperature_c = self.plant.temperature_c(at);
            device.account(seconds, temperature_c);
            let (guard_c, max_c) = (device.limits.guard_c(), device.limits.max_c);
            let (over, critical) = &mut self.over[at];
            if temperature_c > guard_c + contract::OVERSHOOT_MAX_C {
                if !std::mem::replace(over, true) {
                    self.contract.broken(to_s, Promise::Overshoot, || {
                        let sensor = device.condition.sensor;
                        format!(
                            "{} is at {temperature_c:.1} °C, its guard temperature is {guard_c:.1} °C (duty {:.2}, \
                             sensor {sensor:?})",
                            device.spec.name, device.duty
                        )
                    });
                }
            } else if temperature_c < guard_c {
                *over = false;
            }
            if temperature_c >= max_c {
                if !std::mem::replace(critical, true) {
                    self.contract.broken(to_s, Promise::Critical, || {
                        format!(
                            "{} is at {temperature_c:.1} °C, its maximum is {max_c:.1} °C",
                            device.spec.name
                        )
                    });
                }
            } else {
                *critical = false;
            }
        }
        if self.plant.protect() {
            self.rebalance();
        }
    }

    /// Share out what the devices have in common, and set when their stretches end.
    pub(super) fn rebalance(&mut self) {
        let clocks: Vec<f64> = (0..self.devices.len()).map(|at| self.plant.clock(at)).collect();
        let (mut idle_w, mut dynamic_w, mut bus) = (0.0, 0.0, 0.0);
        for (device, clock) in self.devices.iter().zip(&clocks) {
            idle_w += device.idle_w();
            dynamic_w += device.dynamic_alone_w(*clock);
            bus += device.bus_alone(*clock);
        }
        let scales = self.machine.scales(idle_w, dynamic_w, bus);
        let mut again = Vec::new();
        for (at, (device, clock)) in self.devices.iter_mut().zip(&clocks).enumerate() {
            let speed = device.speed_alone(*clock) * scales.of(&device.spec);
            device.power_w = device.idle_w() + device.dynamic_alone_w(*clock) * scales.power;
            let fresh = device.running.is_some_and(|running| running.event == 0);
            if fresh || (speed - device.speed).abs() > 1e-9 {
                let slower = speed < SLOWER * device.speed;
                device.speed = speed;
                if let Some(running) = &mut device.running {
                    if slower {
                        running.cut_short();
                    }
                    // What was to end it is stale, and one that hangs has no end.
                    running.event = 0;
                    if speed > 0.0 {
                        again.push((at, (running.left_s / speed).max(0.0)));
                    }
                }
            }
        }
        for (at, after_s) in again {
            let event = self.later(after_s, Event::Stretch(at));
            if let Some(running) = &mut self.devices[at].running {
                running.event = event;
            }
        }
    }

    /// Give a device that does nothing its next stretch.
    pub(super) fn start_work(&mut self, at: usize) {
        let device = &mut self.devices[at];
        if device.process != Process::Up || device.running.is_some() {
            return;
        }
        let speed = device.speed_alone(self.plant.clock(at));
        if let Some(stretch) = device.worker.plan(&device.spec, &self.scenario.model, speed) {
            device.running = Some(Running { stretch, left_s: stretch.seconds(), joules: 0.0, event: 0 });
            self.rebalance();
        }
    }

    pub(super) fn stretch_done(&mut self, at: usize) {
        let device = &mut self.devices[at];
        let Some(running) = device.running.take() else { return };
        let jobs: Vec<(RequestId, f64)> = device
            .worker
            .jobs()
            .iter()
            .filter(|job| {
                job.prefill_left == 0 || running.stretch.prefill.is_some_and(|(id, _)| id == job.id)
            })
            .map(|job| (job.request, job.slots.len() as f64))
            .collect();
        let emitted = device.worker.finish(&running.stretch);
        let (wrong, life) = (device.condition.wrong, device.life);
        for tokens in &emitted {
            // The loop may stop the worker at one of them: what its process had still to say ends with it.
            if self.devices[at].life != life {
                break;
            }
            self.deliver(at, tokens, wrong);
        }
        if let Some((_, tokens)) = running.stretch.prefill.filter(|_| self.devices[at].life == life) {
            self.tell(Input::Prefilled { device: id_of(at), tokens: tokens.into() });
        }
        let parts: f64 = jobs.iter().map(|(_, part)| part).sum();
        for (request, part) in jobs {
            if self.open.contains_key(&request) {
                self.tell(Input::Spent { request, joules: running.joules * part / parts });
            }
        }
        self.start_work(at);
        if self.devices[at].running.is_none() {
            self.rebalance();
        }
    }

    /// Tokens reach their client, and the loop hears of it.
    pub(super) fn deliver(&mut self, at: usize, emitted: &Emitted, wrong: bool) {
        let &Emitted { job, request, sample, from, count, ended } = emitted;
        let (now_s, seed) = (self.now_s, self.scenario.seed);
        self.devices[at].report.tokens += u64::from(count);
        let life = self.devices[at].life;
        if let Some(record) = self.open.get_mut(&request)
            && let Some(delivered) = record.samples.get_mut(sample as usize)
        {
            if delivered.tokens != from || delivered.done || delivered.on != Some((at, job)) {
                self.contract.broken(now_s, Promise::TokenOrder, || {
                    format!(
                        "sample {sample} of request {} has {} tokens and got {count} from position {from}",
                        request.0, delivered.tokens
                    )
                });
            }
            let tokens = (from..from + count).map(|position| token(seed, request, sample, position));
            delivered.digest = tokens.fold(delivered.digest, u64::wrapping_add);
            delivered.tokens += count;
            self.requests.tokens += u64::from(count);
            if wrong {
                delivered.tainted = true;
                self.requests.wrong_tokens += u64::from(count);
            }
        }
        let device = id_of(at);
        if count > 0 {
            self.tell(Input::Tokens { device, job, sample, count });
        }
        // The loop may have stopped the worker at these tokens: then nobody tells of the end, and it comes elsewhere.
        if !ended || self.devices[at].life != life {
            return;
        }
        let mut judged = None;
        if let Some(record) = self.open.get_mut(&request)
            && let Some(delivered) = record.samples.get_mut(sample as usize)
        {
            delivered.done = true;
            delivered.on = None;
            let length = arrivals::length(seed, &record.request, sample);
            let unmoved = (0..length).map(|position| token(seed, request, sample, position));
            if delivered.digest != unmoved.fold(0, u64::wrapping_add) {
                self.contract.broken(now_s, Promise::TokenOrder, || {
                    format!("sample {sample} of request {} differs from one that did not move", request.0)
                });
            }
            judged = record.request.until_pass.then_some(delivered.tainted);
        }
        if let Some(tainted) = judged {
            let passed = !tainted && self.random.uniform() < PASSES;
            self.later(JUDGING_S, Event::Tell(Input::Judged { request, sample, passed }));
        }
        self.tell(Input::SampleEnded { device, job, sample, end: SampleEnd::Complete });
    }
}
