//! The life of a request: let in or refused, its tokens counted, and ended exactly once.
//!
//! A request ends in [`Control::end`] and nowhere else, and there it leaves the map of those in flight; whatever comes
//! for it afterwards finds nothing. Its cancelled samples still take their places on the device until their last event.

use super::{Control, REPLAN_S, reading};
use crate::admission::{RETRY_AFTER_S, check_bounds, check_hope};
use crate::config::DeviceId;
use crate::event::{JobId, Outcome, Output, Refusal, Request, RequestId, SampleEnd};
use crate::journal::Kind;
use crate::work::{At, Live, tokens_asked};
use std::collections::btree_map::Entry;

/// Seconds that a device which refused a sample for want of room is left alone.
const FULL_S: f64 = 0.5;

impl Control {
    pub(super) fn arrive(&mut self, request: Request) {
        let id = request.id;
        if let Err(refusal) = self.judge_arrival(&request) {
            let readings = vec![
                reading("queue_requests", self.queue.requests().into()),
                reading("queue_tokens", self.queue.tokens() as f64),
                reading("tokens_asked", tokens_asked(&request) as f64),
            ];
            self.decide(Kind::Refused, None, Some(id), refusal.to_string(), readings);
            self.out.push(Output::Refused { request: id, refusal });
            return;
        }
        let limits = &self.config.limits;
        let deadline_s = request.deadline_s.unwrap_or(f64::INFINITY).min(limits.deadline_max_s);
        let most_j = limits.energy_max_j.unwrap_or(f64::INFINITY);
        let energy_max_j = request.energy_budget_j.unwrap_or(f64::INFINITY).min(most_j);
        let live = Live::new(request, self.now_s, deadline_s, energy_max_j);
        self.queue.enter(&live.request);
        self.waiting += u64::from(live.waiting);
        self.deadlines.insert((live.deadline_at_s.to_bits(), id));
        let readings = vec![
            reading("queue_requests", self.queue.requests().into()),
            reading("queue_tokens", self.queue.tokens() as f64),
            reading("deadline_s", deadline_s),
        ];
        self.live.insert(id, live);
        self.out.push(Output::Admitted(id));
        self.decide(Kind::Admitted, None, Some(id), "within all bounds", readings);
        self.dirty = true;
    }

    fn judge_arrival(&self, request: &Request) -> Result<(), Refusal> {
        if self.live.contains_key(&request.id) {
            return Err(Refusal::Invalid("a request of this number is in flight".into()));
        }
        check_bounds(request, &self.config)?;
        check_hope(request, &self.config)?;
        self.check_devices(request)?;
        self.queue.check_room(request, &self.config.limits)?;
        self.check_forecast(request)
    }

    /// A request may wait for a device that is on its way, but not for one that comes after its deadline.
    fn check_devices(&self, request: &Request) -> Result<(), Refusal> {
        let deadline_s = request.deadline_s.unwrap_or(f64::INFINITY).min(self.config.limits.deadline_max_s);
        let back_s =
            |device: &super::Device| device.course.back_s().map_or(0.0, |at| (at - self.now_s).max(0.0));
        let soonest_s = self.devices.iter().map(back_s).fold(f64::INFINITY, f64::min);
        if soonest_s < deadline_s {
            return Ok(());
        }
        let (least_s, most_s) = RETRY_AFTER_S;
        let why = if self.devices.is_empty() { "there is none" } else { "all are out of service" };
        Err(Refusal::Unavailable { why: why.into(), retry_after_s: soonest_s.clamp(least_s, most_s) })
    }

    pub(super) fn withdraw(&mut self, id: RequestId) {
        self.end(id, Outcome::Withdrawn, "its client went away");
    }

    pub(super) fn end_at_deadline(&mut self, id: RequestId) {
        self.end(id, Outcome::Deadline, "its deadline passed");
    }

    pub(super) fn tokens(&mut self, device: DeviceId, job_id: JobId, sample: u32, count: u32) {
        let Some(i) = self.index(device) else { return };
        let Some(job) = self.jobs.get_mut(&job_id) else { return };
        let Some(seat) = job.seats.iter_mut().find(|seat| seat.sample == sample) else { return };
        if job.device != device || count == 0 {
            return;
        }
        seat.left = seat.left.saturating_sub(count);
        let profile = &self.config.devices[i].profile;
        let holder = &mut self.devices[i];
        holder.silence.heard(self.now_s);
        if !job.begun {
            job.begun = true;
            // What was told of it before has been counted.
            let untold = holder.end_prefill(job.prefill_tokens);
            holder.speed.work(untold as f64 * profile.prefill_s_per_token);
        }
        let sequences = holder.sequences.max(1);
        holder.speed.work(f64::from(count) * profile.decode_step_s(sequences) / f64::from(sequences));
        let Some(live) = self.live.get_mut(&job.request) else { return };
        let Some(state) = live.samples.get_mut(sample as usize) else { return };
        if matches!(state.at, At::Running(at) | At::Leaving(at) if at == job_id) {
            state.emitted = state.emitted.saturating_add(count);
        }
    }

    pub(super) fn sample_ended(&mut self, device: DeviceId, job_id: JobId, sample: u32, end: SampleEnd) {
        let Some(i) = self.index(device) else { return };
        let Entry::Occupied(mut entry) = self.jobs.entry(job_id) else { return };
        let job = entry.get_mut();
        let Some(at) = job.seats.iter().position(|seat| seat.sample == sample) else { return };
        if job.device != device {
            return;
        }
        let seat = job.seats.swap_remove(at);
        let request = job.request;
        let holder = &mut self.devices[i];
        match end {
            SampleEnd::Complete => holder.silence.heard(self.now_s),
            _ => holder.silence.answered(self.now_s),
        }
        holder.sequences = holder.sequences.saturating_sub(1);
        holder.held_tokens = holder.held_tokens.saturating_sub(seat.held);
        if job.seats.is_empty() {
            let job = entry.remove();
            holder.held_tokens = holder.held_tokens.saturating_sub(job.prompt_held);
            if !job.begun {
                holder.end_prefill(job.prefill_tokens);
            }
        }
        self.dirty = true;
        let failed = matches!(end, SampleEnd::Failed(_));
        if failed || end == SampleEnd::Complete {
            self.sample_told(i, failed);
        }
        if matches!(end, SampleEnd::Refused(_)) {
            self.devices[i].full_until_s = self.now_s + FULL_S;
            self.replan_s = self.replan_s.min(self.now_s + REPLAN_S);
        }
        let Some(live) = self.live.get_mut(&request) else { return };
        let Some(state) = live.samples.get_mut(sample as usize) else { return };
        let leaving = match state.at {
            At::Running(at) if at == job_id => false,
            At::Leaving(at) if at == job_id => true,
            _ => return,
        };
        match end {
            SampleEnd::Complete => {
                state.at = At::Done;
                let (emitted, tokens_max) = (state.emitted, live.request.tokens_max);
                self.note_used(emitted, tokens_max);
                self.end_if_complete(request);
            }
            SampleEnd::Failed(why) => {
                self.sample_failed(request, sample, &format!("the engine failed on it: {why}"))
            }
            SampleEnd::Cancelled if !leaving => {
                self.sample_failed(request, sample, "it was cancelled unasked")
            }
            SampleEnd::Cancelled | SampleEnd::Refused(_) => {
                live.wait_again(sample as usize, self.now_s);
                self.waiting += 1;
            }
        }
    }

    /// A device failed a sample that it held: it waits for another, unless too many failed it.
    pub(super) fn sample_failed(&mut self, request: RequestId, sample: u32, why: &str) {
        let moves_max = self.config.limits.moves_max;
        let Some(live) = self.live.get_mut(&request) else { return };
        let Some(state) = live.samples.get_mut(sample as usize) else { return };
        state.moves += 1;
        let moves = state.moves;
        live.wait_again(sample as usize, self.now_s);
        self.waiting += 1;
        self.dirty = true;
        if moves > moves_max {
            let reason = format!("sample {sample} failed {moves} times, the last time since {why}");
            self.end(request, Outcome::Failed(reason.clone()), &reason);
        }
    }

    pub(super) fn judged(&mut self, request: RequestId, sample: u32, passed: bool) {
        let Some(live) = self.live.get_mut(&request) else { return };
        let Some(state) = live.samples.get_mut(sample as usize) else { return };
        if state.passed != Some(true) {
            state.passed = Some(passed);
        }
        self.end_if_complete(request);
    }

    pub(super) fn spent(&mut self, request: RequestId, joules: f64) {
        let Some(live) = self.live.get_mut(&request) else { return };
        if joules.is_finite() && joules > 0.0 {
            live.spent_j += joules;
        }
        if live.spent_j >= live.energy_max_j {
            let reason = format!("it took {:.3} J of {:.3} J", live.spent_j, live.energy_max_j);
            self.end(request, Outcome::EnergyBudget, &reason);
        }
    }

    fn end_if_complete(&mut self, request: RequestId) {
        let Some(live) = self.live.get(&request) else { return };
        if live.is_complete() {
            let passed = live.samples.iter().any(|sample| sample.passed == Some(true));
            let reason = if passed { "a sample passed" } else { "every sample came to its end" };
            self.end(request, Outcome::Completed, reason);
        }
    }

    /// The one end of a request that was admitted.
    pub(super) fn end(&mut self, id: RequestId, outcome: Outcome, reason: &str) {
        let Some(live) = self.live.remove(&id) else { return };
        self.deadlines.remove(&(live.deadline_at_s.to_bits(), id));
        self.waiting -= u64::from(live.waiting);
        if !live.begun {
            self.queue.begin();
            self.queue.take(u64::from(live.request.prompt_tokens));
        }
        let fresh = live.samples.iter().filter(|sample| !sample.placed).count() as u64;
        self.queue.take(fresh * u64::from(live.request.tokens_max));
        self.queue.leave(self.now_s, live.request.client, tokens_asked(&live.request));
        self.cancel_running(id, &live);
        let readings = vec![
            reading("seconds", self.now_s - live.arrived_s),
            reading("joules", live.spent_j),
            reading("tokens", live.samples.iter().map(|sample| f64::from(sample.emitted)).sum()),
            reading("moves", live.samples.iter().map(|sample| f64::from(sample.moves)).sum()),
        ];
        self.out.push(Output::Ended { request: id, outcome });
        self.decide(Kind::Ended, None, Some(id), reason, readings);
        self.dirty = true;
    }

    fn cancel_running(&mut self, id: RequestId, live: &Live) {
        let mut jobs: Vec<JobId> = live
            .samples
            .iter()
            .filter_map(|sample| match sample.at {
                At::Running(job) => Some(job),
                _ => None,
            })
            .collect();
        jobs.sort_unstable();
        jobs.dedup();
        for job_id in jobs {
            self.cancel(job_id, id, "its request ended");
        }
    }

    /// Cancels all samples of a job that are not cancelled yet.
    pub(super) fn cancel(&mut self, job_id: JobId, request: RequestId, reason: &str) {
        self.cancel_some(job_id, request, reason, |_| true);
    }

    /// Cancels some samples of a job, where they are not cancelled yet.
    pub(super) fn cancel_some(
        &mut self,
        job_id: JobId,
        request: RequestId,
        reason: &str,
        which: impl Fn(u32) -> bool,
    ) {
        let Some(job) = self.jobs.get_mut(&job_id) else { return };
        let mut samples = Vec::new();
        for seat in job.seats.iter_mut().filter(|seat| !seat.cancelled && which(seat.sample)) {
            seat.cancelled = true;
            samples.push(seat.sample);
        }
        if samples.is_empty() {
            return;
        }
        let device = job.device;
        let readings = vec![reading("job", job_id.0 as f64), reading("samples", samples.len() as f64)];
        self.out.push(Output::Cancel { device, job: job_id, samples });
        self.decide(Kind::Cancelled, Some(usize::from(device.0)), Some(request), reason, readings);
    }
}
