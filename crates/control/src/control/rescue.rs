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
                stalled: false,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, DeviceConfig, DeviceId, Goal, Limits, Profile};
    use crate::event::{Input, Output, Priority, Request, RequestId};
    use qeil_units::Provenance;

    const HERE: DeviceId = DeviceId(0);
    const THERE: DeviceId = DeviceId(1);
    /// A decode step of two sequences, seconds, and what 100 prompt tokens take.
    const STEP_S: f64 = 0.024;
    const PREFILL_S: f64 = 0.1;

    fn device(name: &str) -> DeviceConfig {
        let profile = Profile {
            prefill_s_per_token: PREFILL_S / 100.0,
            prefill_j_per_token: 0.02,
            step_s: 0.02,
            step_s_per_sequence: 0.002,
            step_j: 0.4,
            step_j_per_sequence: 0.02,
            idle_w: 2.0,
            provenance: Provenance::Simulated,
        };
        DeviceConfig {
            name: name.into(),
            kin: "one".into(),
            sequences_max: 8,
            context_tokens: 16_384,
            chunk_tokens: None,
            profile,
            thermal: None,
        }
    }

    fn serve(control: &mut Control, device: DeviceId) {
        control.step(control.now_s, Input::Up(device));
        control.step(control.now_s, Input::Checked { device, outcome: Ok((0.0, true)) });
    }

    /// At 100 s, two samples of 50 tokens after a prompt of 100, just placed on one device; another serves and is empty.
    fn placed(deadline_s: f64) -> (Control, JobId) {
        let mut control = Control::new(Config {
            devices: vec![device("here"), device("there")],
            limits: Limits::default(),
            power_cap_w: None,
            goal: Goal::Latency,
            guarded: true,
            seed: 1,
        });
        control.step(0.0, Input::Tick);
        serve(&mut control, HERE);
        // Long after: its ramp is over.
        control.step(100.0, Input::Tick);
        let outputs = control.step(
            100.0,
            Input::Arrive(Request {
                id: RequestId(1),
                client: 0,
                priority: Priority::Batch,
                prompt_tokens: 100,
                samples: 2,
                tokens_max: 50,
                deadline_s: Some(deadline_s),
                energy_budget_j: None,
                until_pass: false,
            }),
        );
        let job = outputs.iter().find_map(|output| match output {
            Output::Place { job, .. } => Some(*job),
            _ => None,
        });
        serve(&mut control, THERE);
        (control, job.expect("it is placed"))
    }

    fn elsewhere(control: &Control) -> Vec<Candidate> {
        let mut others = control.candidates();
        others.retain(|candidate| candidate.device == THERE);
        assert_eq!(others.len(), 1);
        others
    }

    /// The samples that would leave if the device took `stretch` times as long as its profile says.
    fn late(deadline_s: f64, stretch: f64) -> Vec<u32> {
        let (control, job) = placed(deadline_s);
        control.late_samples(0, job, stretch, &mut elsewhere(&control))
    }

    #[test]
    fn a_sample_is_late_where_prompt_and_tokens_times_the_stretch_outlast_its_deadline() {
        let here_s = 4.0 * (PREFILL_S + 50.0 * STEP_S);
        assert_eq!(late(here_s + 0.01, 4.0), []);
        assert_eq!(late(here_s - 0.01, 4.0), [0, 1]);

        // Ten tokens later the prompt is computed, and so much less is left.
        let here_s = 4.0 * 40.0 * STEP_S;
        for (spare_s, expected) in [(0.01, vec![]), (-0.01, vec![0, 1])] {
            let (mut control, job) = placed(1.0 + here_s + spare_s);
            for sample in [0, 1] {
                control.step(101.0, Input::Tokens { device: HERE, job, sample, count: 10 });
            }
            let mut others = elsewhere(&control);
            assert_eq!(control.late_samples(0, job, 4.0, &mut others), expected, "{spare_s}");
        }
    }

    #[test]
    fn it_leaves_only_for_a_device_that_keeps_the_deadline_with_all_that_goes_there() {
        // Alone: prompt and 50 steps of one sequence; the second waits for the first one's prompt, too, in steps of two.
        let first_s = (PREFILL_S + 50.0 * 0.022) / DEADLINE_SHARE;
        let second_s = (2.0 * PREFILL_S + 50.0 * STEP_S) / DEADLINE_SHARE;
        assert_eq!(late(first_s - 0.01, 100.0), []);
        assert_eq!(late(first_s + 0.01, 100.0), [0]);
        assert_eq!(late(second_s - 0.01, 100.0), [0]);
        assert_eq!(late(second_s + 0.01, 100.0), [0, 1]);

        // What it has emitted is computed again there: 30 prompt tokens' time more, 30 steps less.
        let again_s = (PREFILL_S * 1.3 + 20.0 * 0.022) / DEADLINE_SHARE;
        for (spare_s, expected) in [(-0.01, vec![]), (0.01, vec![0])] {
            let (mut control, job) = placed(1.0 + again_s + spare_s);
            control.step(101.0, Input::Tokens { device: HERE, job, sample: 0, count: 30 });
            let mut others = elsewhere(&control);
            assert_eq!(control.late_samples(0, job, 100.0, &mut others), expected, "{spare_s}");
        }
    }

    #[test]
    fn places_and_memory_there_are_booked() {
        let (control, job) = placed(3.0);
        let booked = |change: fn(&mut Candidate)| {
            let mut others = elsewhere(&control);
            change(&mut others[0]);
            control.late_samples(0, job, 100.0, &mut others)
        };
        assert_eq!(booked(|there| there.places = 2), [0, 1]);
        assert_eq!(booked(|there| there.places = 1), [0]);
        assert_eq!(booked(|there| there.places = 0), []);
        // Each needs its prompt and its tokens.
        assert_eq!(booked(|there| there.room_tokens = 300), [0, 1]);
        assert_eq!(booked(|there| there.room_tokens = 299), [0]);
        assert_eq!(booked(|there| there.room_tokens = 149), []);
        let mut others = elsewhere(&control);
        control.late_samples(0, job, 100.0, &mut others);
        assert_eq!((others[0].sequences, others[0].prefill_tokens), (2, 200));
    }

    #[test]
    fn what_moved_too_often_or_leaves_already_stays() {
        let (mut control, job) = placed(3.0);
        let moves_max = control.config.limits.moves_max;
        control.live.get_mut(&RequestId(1)).unwrap().samples[0].moves = moves_max;
        let of = |control: &Control| control.late_samples(0, job, 100.0, &mut elsewhere(control));
        assert_eq!(of(&control), [1]);
        control.live.get_mut(&RequestId(1)).unwrap().samples[0].moves = moves_max - 1;
        assert_eq!(of(&control), [0, 1]);
        control.live.get_mut(&RequestId(1)).unwrap().samples[0].at = At::Leaving(job);
        assert_eq!(of(&control), [1]);
        control.jobs.get_mut(&job).unwrap().seats[1].cancelled = true;
        assert_eq!(of(&control), []);
    }

    #[test]
    fn a_device_is_looked_at_now_and_then_and_only_if_it_is_slow_or_paced() {
        let looked = |change: fn(&mut Control)| {
            let (mut control, _) = placed(3.0);
            control.out.clear();
            control.devices[0].duty = 0.02;
            change(&mut control);
            control.rescue(0);
            let cancelled = control.out.iter().any(|output| matches!(output, Output::Cancel { .. }));
            (
                control.devices[0].looked_s == control.now_s,
                cancelled,
                control.devices[0].left_s == control.now_s,
            )
        };
        assert_eq!(looked(|_| {}), (true, true, true));
        // A stretch of 1.43 and of 1.67, and neither is late.
        assert_eq!(looked(|control| control.devices[0].duty = 0.7), (false, false, false));
        assert_eq!(looked(|control| control.devices[0].duty = 0.6), (true, false, false));
        assert_eq!(
            looked(|control| control.devices[0].looked_s = control.now_s - 1.9),
            (false, false, false)
        );
        assert_eq!(looked(|control| control.devices[0].left_s = control.now_s - 29.9), (false, false, false));
        let due = looked(|control| {
            control.devices[0].looked_s = control.now_s - LOOK_EVERY_S;
            control.devices[0].left_s = control.now_s - LEAVE_EVERY_S;
        });
        assert_eq!(due, (true, true, true));
        assert_eq!(looked(|control| control.config.guarded = false), (false, false, false));
        assert_eq!(looked(|control| control.devices[0].sequences = 0), (false, false, false));
        let alone = looked(|control| {
            control
                .step(100.0, Input::Down { device: THERE, cause: crate::event::DownCause::Died("x".into()) });
            control.devices[0].duty = 0.02;
        });
        assert_eq!(alone, (true, false, false), "nowhere to go");
    }
}
