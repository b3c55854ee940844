//! Placing what waits: whose turn it is by the queue, where to by the offers of the devices.
//!
//! One pass walks the waiting samples in the order of their turns and asks every device that takes work for an offer. A
//! sample that would rather wait is booked ahead of those behind it, which may then find a slower device worth it; a
//! request all of whose samples would wait is passed over for the rest of the pass. Samples of one request that start together on one
//! device are one job and share its prefill.

use super::{Control, REPLAN_S, id_of, reading};
use crate::config::DeviceId;
use crate::event::{JobId, Output, Priority, RequestId, Resume};
use crate::journal::Kind;
use crate::placement::{Ask, Candidate, Offer, choose, offer};
use crate::work::{At, Job, Live, Seat};

/// Samples placed in one pass: more than any pass needs, so that a step stays short whatever comes.
const PASS_MAX: usize = 1024;
/// Samples of one request that are asked in one pass where they would rather wait: more would hardly ever start.
const DEFERRED_MAX: u32 = 64;
/// Least duty that predictions reckon with.
const DUTY_MIN: f64 = 0.01;

/// Fill of the queue from which on the goal is to empty it.
const PRESSED_SHARE: f64 = 0.5;
/// Cost of a device that failed this sample before, against one that did not.
const FAILED_HERE_COST: f64 = 100.0;

/// Samples of one request for one device.
struct Group {
    candidate: usize,
    request: RequestId,
    samples: Vec<Resume>,
    /// Whether one of them took the first free place after a stall.
    stalled: bool,
}

impl Control {
    /// Places what waits, as far as there is room.
    pub(super) fn dispatch(&mut self) {
        self.dirty = false;
        let stalls_s = self.live.values().filter_map(|live| live.next_stall_s(self.now_s));
        self.replan_s = stalls_s.fold(self.now_s + REPLAN_S, f64::min);
        self.pass += 1;
        let mut candidates = self.candidates();
        if candidates.is_empty() {
            return;
        }
        let mut groups: Vec<Group> = Vec::new();
        for _ in 0..PASS_MAX {
            let Some(id) = self.next_in_turn() else { break };
            // Without a free place nothing can start, whoever's turn it is.
            let stalled = self.live.get(&id).is_some_and(|live| live.is_stalled(self.now_s));
            let free = |candidate: &Candidate| candidate.places > 0 || (stalled && candidate.reserve > 0);
            if !candidates.iter().any(free) {
                break;
            }
            self.place_one(id, &mut candidates, &mut groups);
        }
        for group in groups {
            self.start_job(candidates[group.candidate].device, group);
        }
    }

    /// The request whose turn it is, among those not passed over yet. Those that will be late anyway come last, and what a device
    /// failed in the middle before what never began, those that stall first: somebody reads it already.
    fn next_in_turn(&self) -> Option<RequestId> {
        let waits = |live: &&Live| live.waiting > 0 && live.passed_over != self.pass;
        let order = |a: &&Live, b: &&Live| {
            self.is_late(a)
                .cmp(&self.is_late(b))
                .then_with(|| a.request.priority.cmp(&b.request.priority))
                .then_with(|| b.is_stalled(self.now_s).cmp(&a.is_stalled(self.now_s)))
                .then_with(|| (a.interrupted == 0).cmp(&(b.interrupted == 0)))
                .then_with(|| self.queue.turn(a.request.client).total_cmp(&self.queue.turn(b.request.client)))
                .then_with(|| a.arrived_s.total_cmp(&b.arrived_s))
                .then_with(|| a.request.id.cmp(&b.request.id))
        };
        self.live.values().filter(waits).min_by(order).map(|live| live.request.id)
    }

    /// Finds a place for the first waiting sample of a request, or passes the request over.
    fn place_one(&mut self, id: RequestId, candidates: &mut [Candidate], groups: &mut Vec<Group>) {
        let Some(live) = self.live.get(&id) else { return };
        let Some(index) = live.next_waiting() else { return };
        let sample = &live.samples[index];
        let ask = Ask {
            prompt_tokens: live.request.prompt_tokens.into(),
            emitted: sample.emitted,
            tokens: live.left(sample),
            held_tokens: u64::from(live.request.prompt_tokens) + u64::from(live.request.tokens_max),
            left_s: live.deadline_at_s - self.now_s,
            interactive: live.request.priority == Priority::Interactive,
            stalled: sample.stalls_s <= self.now_s,
        };
        let goal = self.goal_now();
        let offers: Vec<Option<Offer>> = candidates
            .iter()
            .enumerate()
            .map(|(i, candidate)| {
                if u64::from(self.config.devices[usize::from(candidate.device.0)].context_tokens)
                    < ask.held_tokens
                {
                    return None;
                }
                let shares = groups.iter().any(|group| group.candidate == i && group.request == id);
                let stranger = sample.emitted > 0 && self.is_stranger(sample.last, candidate.device);
                let mut offer = offer(candidate, &ask, shares, stranger);
                // A device that failed it is tried again only where no other takes it.
                if sample.moves > 0 && sample.last == Some(candidate.device) {
                    offer.finish_s *= FAILED_HERE_COST;
                    offer.joules *= FAILED_HERE_COST;
                }
                Some(offer)
            })
            .collect();
        let chosen = choose(goal, &ask, &offers);
        let Some(i) = chosen else {
            self.pass_over(id);
            return;
        };
        let at_once = offers[i].is_some_and(|offer| offer.at_once);
        if !at_once {
            // It waits for this device, and those behind it see that.
            candidates[i].ahead_tokens += u64::from(ask.tokens);
            self.defer(id);
            return;
        }
        let resume = Resume { sample: index as u32, emitted: sample.emitted };
        let shared = match groups.iter_mut().find(|group| group.candidate == i && group.request == id) {
            Some(group) => {
                group.samples.push(resume);
                group.stalled |= ask.stalled;
                true
            }
            None => {
                groups.push(Group { candidate: i, request: id, samples: vec![resume], stalled: ask.stalled });
                false
            }
        };
        let candidate = &mut candidates[i];
        let prompt = if shared { 0 } else { ask.prompt_tokens };
        candidate.prefill_tokens += prompt + u64::from(ask.emitted);
        candidate.room_tokens =
            candidate.room_tokens.saturating_sub(prompt + u64::from(live.request.tokens_max));
        let from = if candidate.places > 0 { &mut candidate.places } else { &mut candidate.reserve };
        *from -= 1;
        candidate.sequences += 1;
        candidate.left.0 = if candidate.left.0 == 0 { ask.tokens } else { candidate.left.0.min(ask.tokens) };
        candidate.left.1 = candidate.left.1.max(ask.tokens);
        self.take_place(id, index, candidates[i].device);
    }

    fn pass_over(&mut self, id: RequestId) {
        let pass = self.pass;
        if let Some(live) = self.live.get_mut(&id) {
            live.passed_over = pass;
        }
    }

    /// One more sample of a request would rather wait; the request is passed over when all would, or enough of them.
    fn defer(&mut self, id: RequestId) {
        let pass = self.pass;
        let Some(live) = self.live.get_mut(&id) else { return };
        live.deferred = if live.deferred.0 == pass { (pass, live.deferred.1 + 1) } else { (pass, 1) };
        if live.deferred.1 >= live.waiting.min(DEFERRED_MAX) {
            live.passed_over = pass;
        }
    }

    /// Books a sample out of the queue; its job's number follows in [`Control::start_job`].
    fn take_place(&mut self, id: RequestId, index: usize, device: DeviceId) {
        let Some(live) = self.live.get_mut(&id) else { return };
        let sample = &mut live.samples[index];
        sample.at = At::Running(JobId(u64::MAX));
        sample.last = Some(device);
        live.waiting -= 1;
        self.waiting -= 1;
        if sample.placed {
            live.interrupted -= 1;
        } else {
            self.queue.take(live.request.tokens_max.into());
        }
        let mut given = u64::from(live.left(&live.samples[index]));
        if !live.begun {
            live.begun = true;
            self.queue.begin();
            self.queue.take(live.request.prompt_tokens.into());
            given += u64::from(live.request.prompt_tokens);
        }
        self.queue.give(live.request.client, given);
    }

    fn start_job(&mut self, device: DeviceId, group: Group) {
        let i = usize::from(device.0);
        let job_id = JobId(self.next_job);
        self.next_job += 1;
        let Some(live) = self.live.get_mut(&group.request) else { return };
        let mut moved = false;
        let mut seats = Vec::with_capacity(group.samples.len());
        for resume in &group.samples {
            let left = live.left(&live.samples[resume.sample as usize]);
            let sample = &mut live.samples[resume.sample as usize];
            moved |= sample.placed;
            sample.placed = true;
            sample.at = At::Running(job_id);
            let held = live.request.tokens_max.into();
            seats.push(Seat { sample: resume.sample, left, held, cancelled: false });
        }
        let prompt_held = u64::from(live.request.prompt_tokens);
        let emitted: u64 = group.samples.iter().map(|resume| u64::from(resume.emitted)).sum();
        let prefill_tokens = prompt_held + emitted;
        let holder = &mut self.devices[i];
        if holder.sequences == 0 {
            holder.silence.begins(self.now_s);
        }
        holder.sequences += seats.len() as u32;
        holder.held_tokens += prompt_held + seats.iter().map(|seat| seat.held).sum::<u64>();
        holder.prefill_tokens += prefill_tokens;
        let readings = vec![
            reading("job", job_id.0 as f64),
            reading("samples", seats.len() as f64),
            reading("sequences", holder.sequences.into()),
            reading("duty", holder.duty),
            reading("slowness", holder.speed.slowness()),
            reading("tokens_emitted", emitted as f64),
        ];
        let job = Job { device, request: group.request, seats, prefill_tokens, prompt_held, begun: false };
        self.jobs.insert(job_id, job);
        self.out.push(Output::Place { device, job: job_id, request: group.request, samples: group.samples });
        let (kind, reason) = match (moved, group.stalled) {
            (false, _) => (Kind::Placed, "the best offer"),
            (true, false) => (Kind::Moved, "it goes on here"),
            (true, true) => (Kind::Moved, "it waited long enough and goes on where a place is free"),
        };
        self.decide(kind, Some(i), Some(group.request), reason, readings);
    }

    /// A queue that is half full has no time for frugality: idle devices help to empty it.
    fn goal_now(&self) -> crate::config::Goal {
        if self.queue.fill(&self.config.limits) > PRESSED_SHARE {
            crate::config::Goal::Latency
        } else {
            self.config.goal
        }
    }

    fn is_stranger(&self, last: Option<DeviceId>, device: DeviceId) -> bool {
        let kin = |device: DeviceId| self.config.devices.get(usize::from(device.0)).map(|device| &device.kin);
        last.is_some_and(|last| kin(last) != kin(device))
    }

    /// Samples that the devices that take work could take at once, without one of them.
    pub fn free_places(&self, without: DeviceId) -> u32 {
        self.candidates().iter().filter(|other| other.device != without).map(|other| other.places).sum()
    }

    /// The devices that take work, as placement sees them.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let cool = self.a_cool_device_takes_work();
        let total_w: f64 = (0..self.devices.len()).map(|i| self.predicted_w(i, 0)).sum();
        let nothing_runs = self.jobs.is_empty();
        let mut candidates = Vec::with_capacity(self.devices.len());
        for (i, device) in self.devices.iter().enumerate() {
            if !device.course.takes_work(self.now_s) || self.now_s < device.full_until_s {
                continue;
            }
            // Over its guard temperature or blind, it only takes what no other can.
            if cool && self.is_hot(i) {
                continue;
            }
            let config = &self.config.devices[i];
            let most = f64::from(config.sequences_max) * device.course.load_share(self.now_s);
            let more_w = self.predicted_w(i, 1) - self.predicted_w(i, 0);
            // What a busy device draws more is held down by its duty.
            let over_cap = device.sequences == 0
                && self.config.power_cap_w.is_some_and(|cap_w| total_w + more_w > cap_w);
            let free = config.sequences_max.max(1).saturating_sub(device.sequences);
            let places = (most as u32).max(1).saturating_sub(device.sequences);
            let (places, reserve) =
                if over_cap && !nothing_runs { (0, 0) } else { (places, free.saturating_sub(places)) };
            let left = || self.jobs.values().filter(|job| job.device == id_of(i)).flat_map(|job| &job.seats);
            candidates.push(Candidate {
                device: id_of(i),
                profile: config.profile.clone(),
                places,
                reserve,
                room_tokens: u64::from(config.context_tokens).saturating_sub(device.held_tokens),
                sequences_max: config.sequences_max,
                sequences: device.sequences,
                prefill_tokens: device.prefill_tokens - device.prefilled_tokens,
                left: (
                    left().map(|seat| seat.left).min().unwrap_or(0),
                    left().map(|seat| seat.left).max().unwrap_or(0),
                ),
                ahead_tokens: 0,
                stretch: device.speed.slowness() / device.duty.max(DUTY_MIN),
                doubt: if self.config.guarded { 1.0 / device.health.score() } else { 1.0 },
                more_w,
            });
        }
        candidates
    }

    /// Watts that a device is predicted to draw with so many sequences more.
    pub(super) fn predicted_w(&self, i: usize, more: u32) -> f64 {
        let device = &self.devices[i];
        if device.sequences + more == 0 {
            return self.config.devices[i].profile.idle_w;
        }
        let (idle_w, busy_w) = self.watts(i, device.sequences + more, device.prefill_tokens > 0 || more > 0);
        idle_w + (busy_w - idle_w) * device.duty
    }

    /// Watts of a device at rest, and with what it holds (or one sequence) at full duty.
    pub(super) fn idle_and_busy_w(&self, i: usize) -> (f64, f64) {
        let device = &self.devices[i];
        self.watts(i, device.sequences.max(1), device.sequences == 0 || device.prefill_tokens > 0)
    }

    fn watts(&self, i: usize, sequences: u32, prefills: bool) -> (f64, f64) {
        let profile = &self.config.devices[i].profile;
        let ratio = |joules: f64, seconds: f64| if seconds > 0.0 { joules / seconds } else { 0.0 };
        let decode_w = ratio(profile.decode_step_j(sequences), profile.decode_step_s(sequences));
        let prefill_w = ratio(profile.prefill_j_per_token, profile.prefill_s_per_token);
        let busy_w = if prefills { decode_w.max(prefill_w) } else { decode_w };
        (profile.idle_w, busy_w.max(profile.idle_w))
    }
}
