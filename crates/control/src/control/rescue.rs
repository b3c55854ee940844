//! Moving samples that would miss their deadline where they run and keep it elsewhere.
//!
//! Placement predicts; then a device warms and is paced, or gets slow. What it holds stays there as long as it will be in
//! time, since a move costs a prefill. A sample that will not be, and that another device could still finish, lets go and
//! takes its place in the queue with what it has emitted.

use super::{Control, guarding::LEAVE_EVERY_S};
use crate::event::JobId;
use crate::placement::{Ask, Candidate, DEADLINE_SHARE, offer};
use crate::work::At;

/// Only devices that take so many times as long as their profile says are looked at: placement allowed for the others.
const STRETCH_MIN: f64 = 1.5;
/// Seconds between two looks at one device.
const LOOK_EVERY_S: f64 = 2.0;

impl Control {
    /// Moves what a device holds and cannot finish in time, where another can.
    pub(super) fn rescue(&mut self, i: usize) {
        let device = &self.devices[i];
        let stretch = device.speed.slowness() / device.duty;
        let due = self.now_s - device.looked_s >= LOOK_EVERY_S && self.now_s - device.left_s >= LEAVE_EVERY_S;
        if !self.config.guarded || device.sequences == 0 || stretch < STRETCH_MIN || !due {
            return;
        }
        self.devices[i].looked_s = self.now_s;
        let mut others = self.candidates();
        others.retain(|candidate| usize::from(candidate.device.0) != i);
        if others.is_empty() {
            return;
        }
        let mut moved = false;
        for job_id in self.jobs_on(i) {
            let late = self.late_samples(i, job_id, stretch, &mut others);
            let Some(job) = self.jobs.get(&job_id) else { continue };
            let request = job.request;
            if late.is_empty() {
                continue;
            }
            moved = true;
            if let Some(live) = self.live.get_mut(&request) {
                for sample in &late {
                    live.samples[*sample as usize].at = At::Leaving(job_id);
                }
            }
            let reason = "it would miss its deadline here and keep it elsewhere";
            self.cancel_some(job_id, request, reason, |sample| late.contains(&sample));
        }
        if moved {
            self.devices[i].left_s = self.now_s;
        }
    }

    /// Samples of a job that will be late here and in time on one of the others, which are booked for them.
    fn late_samples(&self, i: usize, job_id: JobId, stretch: f64, others: &mut [Candidate]) -> Vec<u32> {
        let Some(job) = self.jobs.get(&job_id) else { return Vec::new() };
        let Some(live) = self.live.get(&job.request) else { return Vec::new() };
        let left_s = live.deadline_at_s - self.now_s;
        let profile = &self.config.devices[i].profile;
        let step_s = profile.decode_step_s(self.devices[i].sequences);
        let prefill_s = if job.begun { 0.0 } else { job.prefill_tokens as f64 * profile.prefill_s_per_token };
        let mut late = Vec::new();
        for seat in job.seats.iter().filter(|seat| !seat.cancelled) {
            let Some(sample) = live.samples.get(seat.sample as usize) else { continue };
            let here_s = (prefill_s + f64::from(seat.left) * step_s) * stretch;
            let movable = sample.at == At::Running(job_id) && sample.moves < self.config.limits.moves_max;
            if !movable || here_s <= left_s {
                continue;
            }
            let ask = Ask {
                prompt_tokens: live.request.prompt_tokens.into(),
                emitted: sample.emitted,
                tokens: live.left(sample),
                held_tokens: u64::from(live.request.prompt_tokens) + u64::from(live.request.tokens_max),
                left_s,
                interactive: false,
            };
            let in_time = |candidate: &&mut Candidate| {
                let offer = offer(candidate, &ask, false, false);
                offer.at_once && offer.finish_s <= left_s * DEADLINE_SHARE
            };
            if let Some(candidate) = others.iter_mut().find(in_time) {
                candidate.places -= 1;
                candidate.sequences += 1;
                candidate.room_tokens = candidate.room_tokens.saturating_sub(ask.held_tokens);
                candidate.prefill_tokens += ask.prompt_tokens + u64::from(ask.emitted);
                late.push(seat.sample);
            }
        }
        late
    }
}
