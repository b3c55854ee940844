//! The life of a device: what its course, its sensors and its silence make the loop do.

use super::{Control, Device, id_of, reading};
use crate::config::DeviceId;
use crate::event::{DownCause, JobId, Output};
use crate::faults::{Jobs, Order, Turn};
use crate::journal::Kind;
use crate::work::At;

/// Most times that the observed slowness stretches the prediction of the next sign of work: a device slower than that hangs as
/// far as anybody who waits can tell.
const STRETCH_MAX: f64 = 4.0;
/// The same for the last device that serves: without it nobody is served at all, so it is waited for longer.
const LAST_STRETCH_MAX: f64 = 16.0;
/// Steps of decoding to the next sign: the tokens of one may be told with those of the next.
const STEPS_TOGETHER: f64 = 2.0;
/// Tokens of prefill and steps of decoding that a probe and a known answer take at most.
const PROBE_WORK: (f64, f64) = (16.0, 1.0);
const CHECK_WORK: (f64, f64) = (256.0, 8.0);
/// The last device that serves may take so many times as long for a known answer: its pace may fall while it computes, and
/// nobody is there to take over.
const LAST_PATIENCE: f64 = 8.0;
/// And for the next sign of its work, as long as it would be cool even if it had hung at full power since the last one: it may
/// have become slow at its least duty, where that is learnt slowly.
const LAST_SILENCE: f64 = 2.5;
/// Least duty that the prediction of a probe reckons with.
const DUTY_MIN: f64 = 0.01;

impl Device {
    /// So many prompt tokens are not to be computed any more; how many of them it has not told of.
    pub(super) fn end_prefill(&mut self, tokens: u64) -> u64 {
        let told = tokens.min(self.prefilled_tokens);
        self.prefill_tokens = self.prefill_tokens.saturating_sub(tokens);
        self.prefilled_tokens = (self.prefilled_tokens - told).min(self.prefill_tokens);
        tokens - told
    }
}

impl Control {
    pub(super) fn up(&mut self, device: DeviceId) {
        let Some(i) = self.index(device) else { return };
        let turn = self.devices[i].course.up(self.now_s);
        self.take_turn(i, turn);
        let duty = self.devices[i].duty;
        if duty < 1.0 {
            // A new worker knows nothing of what its predecessor was told.
            self.out.push(Output::Pace { device, duty: duty as f32 });
            let readings = vec![reading("duty", f64::from(duty as f32))];
            self.decide(Kind::Paced, Some(i), None, "its new worker is told the duty in force", readings);
        }
    }

    pub(super) fn down(&mut self, device: DeviceId, cause: &DownCause) {
        let Some(i) = self.index(device) else { return };
        let draw = self.random.uniform();
        let turn = self.devices[i].course.down(self.now_s, cause, draw);
        if turn.is_none() {
            self.lose_jobs(i, "its worker ended");
        }
        self.take_turn(i, turn);
    }

    pub(super) fn probed(&mut self, device: DeviceId, outcome: &Result<f64, String>) {
        let Some(i) = self.index(device) else { return };
        if let Ok(seconds) = outcome {
            self.devices[i].probe_slowness = seconds / self.work_s(i, PROBE_WORK);
        }
        let draw = self.random.uniform();
        let turn = self.devices[i].course.probed(self.now_s, outcome, draw);
        self.take_turn(i, turn);
    }

    pub(super) fn checked(&mut self, device: DeviceId, outcome: &Result<(f64, bool), String>) {
        let Some(i) = self.index(device) else { return };
        let draw = self.random.uniform();
        let turn = self.devices[i].course.checked(self.now_s, outcome, draw);
        self.dirty = true;
        self.take_turn(i, turn);
    }

    pub(super) fn driver_event(&mut self, device: DeviceId, what: &str) {
        let Some(i) = self.index(device) else { return };
        let many = self.devices[i].course.reset(self.now_s);
        self.devices[i].health.driver_event(self.now_s);
        self.decide(Kind::Warned, Some(i), None, format!("its driver says: {what}"), Vec::new());
        if many && self.devices[i].course.serves() && self.others_serve(i) {
            let draw = self.random.uniform();
            let now_s = self.now_s;
            let reason = "its driver was reset again and again".to_owned();
            let turn = self.devices[i].course.quarantine(now_s, Jobs::Lost, true, reason, draw);
            self.take_turn(i, Some(turn));
        }
    }

    /// A sample ended on the device by itself, or the engine failed on it.
    pub(super) fn sample_told(&mut self, i: usize, failed: bool) {
        let many = self.devices[i].course.sample_ended(failed);
        self.devices[i].health.sample_ended(failed);
        if !many || !self.devices[i].course.serves() {
            return;
        }
        if self.others_serve(i) {
            let draw = self.random.uniform();
            let now_s = self.now_s;
            let reason = "its engine failed on several samples in a row".to_owned();
            let turn = self.devices[i].course.quarantine(now_s, Jobs::Lost, true, reason, draw);
            self.take_turn(i, Some(turn));
        } else {
            // The last one is not taken out on suspicion; a known answer decides.
            self.devices[i].course.suspect(self.now_s);
            self.decide(
                Kind::Warned,
                Some(i),
                None,
                "its engine failed on several samples in a row",
                Vec::new(),
            );
        }
    }

    /// A worker has computed part of its prompts.
    pub(super) fn prefilled(&mut self, device: DeviceId, tokens: u64) {
        let Some(i) = self.index(device) else { return };
        let device = &mut self.devices[i];
        device.silence.heard(self.now_s);
        // What it computes for a probe or a known answer is nobody's prompt.
        let tokens = tokens.min(device.prefill_tokens - device.prefilled_tokens);
        device.prefilled_tokens += tokens;
        device.speed.work(tokens as f64 * self.config.devices[i].profile.prefill_s_per_token);
    }

    /// Whether a device other than this one serves.
    pub(super) fn others_serve(&self, i: usize) -> bool {
        self.devices.iter().enumerate().any(|(other, device)| other != i && device.course.serves())
    }

    /// Count the time that has passed for a device; nothing is decided.
    pub(super) fn count_time(&mut self, i: usize) {
        let now_s = self.now_s;
        let expected_s = self.next_sign_s(i);
        let device = &mut self.devices[i];
        let busy = device.sequences > 0;
        device.speed.pass(now_s, busy, device.duty);
        device.silence.pass(now_s, device.duty, expected_s);
        if let Some(guard) = &mut device.guard {
            guard.pass(now_s, busy);
        }
    }

    /// Decide what time alone brings about for a device.
    pub(super) fn device_time(&mut self, i: usize) {
        let now_s = self.now_s;
        let idle = self.devices[i].sequences == 0;
        self.guard_time(i);
        self.allow(i);
        if !idle && self.devices[i].course.serves() && now_s >= self.silent_until_s(i) {
            let draw = self.random.uniform();
            let silent_s = self.devices[i].silence.lasts_s(now_s);
            let reason = format!("no sign of it for {silent_s:.1} s");
            let turn = self.devices[i].course.quarantine(now_s, Jobs::Lost, true, reason, draw);
            self.take_turn(i, Some(turn));
            return;
        }
        if now_s < self.devices[i].course.wake_s(idle) {
            return;
        }
        let draw = self.random.uniform();
        let turn = self.devices[i].course.tick(now_s, idle, draw);
        self.take_turn(i, turn);
    }

    /// When a device that has work and stays silent counts as hung, seconds.
    pub(super) fn silent_until_s(&self, i: usize) -> f64 {
        let device = &self.devices[i];
        let silent_s = device.silence.lasts_s(self.now_s);
        let cool = device.guard.as_ref().is_none_or(|guard| guard.cool_if_hung(silent_s));
        let patience = if cool && !self.others_serve(i) { LAST_SILENCE } else { 1.0 };
        device.silence.ends_s(device.duty, self.next_sign_s(i), patience)
    }

    /// Seconds at full duty to the next sign of a device's work, from the last one: a token, or a chunk of a prompt.
    fn next_sign_s(&self, i: usize) -> f64 {
        let device = &self.devices[i];
        let config = &self.config.devices[i];
        // Not what is left of the prompts: what it says of them may come late, and another chunk be begun.
        let chunk = config.chunk_tokens.map_or(u64::MAX, u64::from);
        let predicted_s = device.prefill_tokens.min(chunk) as f64 * config.profile.prefill_s_per_token
            + STEPS_TOGETHER * config.profile.decode_step_s(device.sequences);
        predicted_s * self.slowness(i)
    }

    /// Times as long as its profile says that a device takes by observation, as far as it is believed.
    fn slowness(&self, i: usize) -> f64 {
        let device = &self.devices[i];
        let observed = device.speed.slowness();
        if self.others_serve(i) {
            return observed.clamp(1.0, STRETCH_MAX);
        }
        // A probe's time is no measure of speed (a first step may compile its kernels), but a reason to wait for the last.
        observed.max(device.probe_slowness).clamp(1.0, LAST_STRETCH_MAX)
    }

    /// Times as long as its profile says that a device takes for anything, by observation and by its duty.
    fn stretch(&self, i: usize) -> f64 {
        self.slowness(i) / self.devices[i].duty.max(DUTY_MIN)
    }

    /// Seconds that a device's profile says for so many tokens of prefill and steps of decoding.
    fn work_s(&self, i: usize, (prefill, steps): (f64, f64)) -> f64 {
        let profile = &self.config.devices[i].profile;
        prefill * profile.prefill_s_per_token + steps * profile.decode_step_s(1)
    }

    /// Tells the course how long a probe and a check may take on this device as it is paced now.
    fn allow(&mut self, i: usize) {
        let stretch = self.stretch(i);
        let patience = if self.others_serve(i) { 1.0 } else { LAST_PATIENCE };
        let probe_s = stretch * self.work_s(i, PROBE_WORK);
        let check_s = patience * stretch * self.work_s(i, CHECK_WORK);
        self.devices[i].course.allow(probe_s, check_s);
    }

    /// Carries out a change of course.
    pub(super) fn take_turn(&mut self, i: usize, turn: Option<Turn>) {
        let Some(turn) = turn else { return };
        let device = id_of(i);
        self.dirty = true;
        let order = match turn.order {
            Some(Order::Start) => Some((Output::Start(device), Kind::Started)),
            Some(Order::Stop) => Some((Output::Stop(device), Kind::Stopped)),
            Some(Order::Probe) => Some((Output::Probe(device), Kind::Probed)),
            Some(Order::Check) => Some((Output::Check(device), Kind::Probed)),
            None => None,
        };
        let course = &self.devices[i].course;
        let mut readings = vec![reading("standing", course.standing().code())];
        if let Some(back_s) = course.back_s().filter(|_| turn.kind == Kind::Quarantined) {
            readings.push(reading("quarantine_s", back_s - self.now_s));
            readings.push(reading("strikes", course.strikes().into()));
        }
        let reason = turn.reason.clone();
        self.decide(turn.kind, Some(i), None, turn.reason, readings);
        if let Some((output, kind)) = order {
            self.out.push(output);
            if kind != turn.kind {
                let readings = vec![reading("standing", self.devices[i].course.standing().code())];
                self.decide(kind, Some(i), None, reason.clone(), readings);
            }
        }
        match turn.jobs {
            Jobs::Keep => {}
            Jobs::Lost => self.lose_jobs(i, &reason),
            Jobs::Leave => self.leave_jobs(i, &reason),
        }
    }

    pub(super) fn jobs_on(&self, i: usize) -> Vec<JobId> {
        let device = id_of(i);
        self.jobs.iter().filter(|(_, job)| job.device == device).map(|(id, _)| *id).collect()
    }

    /// The jobs of a device are gone: their samples wait for another.
    pub(super) fn lose_jobs(&mut self, i: usize, reason: &str) {
        for job_id in self.jobs_on(i) {
            let Some(job) = self.jobs.remove(&job_id) else { continue };
            for seat in &job.seats {
                let here = self
                    .live
                    .get(&job.request)
                    .and_then(|live| live.samples.get(seat.sample as usize))
                    .is_some_and(
                        |sample| matches!(sample.at, At::Running(at) | At::Leaving(at) if at == job_id),
                    );
                if here {
                    self.sample_failed(job.request, seat.sample, reason);
                }
            }
        }
        let device = &mut self.devices[i];
        device.sequences = 0;
        device.held_tokens = 0;
        device.end_prefill(u64::MAX);
    }

    /// The jobs of a device are cancelled there and go on elsewhere once they have let go.
    pub(super) fn leave_jobs(&mut self, i: usize, reason: &str) {
        for job_id in self.jobs_on(i) {
            let Some(job) = self.jobs.get(&job_id) else { continue };
            let request = job.request;
            if let Some(live) = self.live.get_mut(&request) {
                for sample in live.samples.iter_mut().filter(|sample| sample.at == At::Running(job_id)) {
                    sample.at = At::Leaving(job_id);
                }
            }
            self.cancel(job_id, request, reason);
        }
    }
}
