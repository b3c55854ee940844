//! What a rung is expected to take, and which limits it breaks.
//!
//! Each lane is a row of **segments**: its prefill or its wait for the state, then its waves of samples. All lanes run
//! at once, and at time t some number of samples m(t) is complete. Under [`Stop::UntilPass`] the request is still
//! running at t with probability `1 − C(m(t))`, so expected time is the integral of that over t, and expected energy the
//! integral of it times power: cancelled work is not paid for, work under way is. Under [`Stop::All`] the probability
//! is that of starting at all. A rung of a ladder starts with what the rungs before it left unsolved. Tasks are taken to
//! rank alike in difficulty for all models, so after coverage c before it the probability is `1 − max(c, C(m))`: the
//! least that a ladder can solve, and the most that it can cost.
//!
//! Power is bounded from above (lanes together at their highest phase each); heat is that of the same request coming
//! back to back without an early pass, which is what a steady state means.

use crate::cost::{Costs, Phase, Waves};
use crate::problem::{HEADROOM_SHARE, LANES_MAX, MEMORIES_MAX, Problem, Stop};
use crate::rung::{Lane, Rung, mask_of};

/// A limit, as a bit.
pub(crate) mod broken {
    pub const DEVICE: u8 = 1;
    pub const MEMORY: u8 = 2;
    pub const POWER: u8 = 4;
    pub const HEAT: u8 = 8;
    pub const DEADLINE: u8 = 16;
    pub const COVERAGE: u8 = 32;
    /// With the words for it.
    pub const NAMES: [(u8, &str); 6] = [
        (DEVICE, "devices not allowed"),
        (MEMORY, "memory"),
        (POWER, "power cap"),
        (HEAT, "guard temperature"),
        (DEADLINE, "deadline"),
        (COVERAGE, "minimum coverage"),
    ];
}

/// Expected time and energy above idle.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Spent {
    pub s: f64,
    pub j: f64,
    /// Seconds if no sample passes.
    pub s_max: f64,
}

/// What holds of a rung wherever it stands in a ladder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Footprint {
    /// Devices that it uses.
    pub devices: u64,
    /// Those that compute prompts.
    pub prefill_devices: u64,
    /// Bytes in each memory.
    pub bytes: [f64; MEMORIES_MAX],
    /// Most watts, all devices together.
    pub peak_w: f64,
    /// Highest temperature over its guard in steady state, kelvin; at most 0 where all keep it.
    pub over_guard_k: f64,
    /// Coverage of its samples; 0 where unknown.
    pub coverage: f64,
}

/// The problem with its costs settled.
pub(crate) struct Evaluator<'a> {
    pub problem: &'a Problem,
    pub costs: &'a Costs,
    /// Watts that all devices together idle at.
    pub idle_w: f64,
    masks: Vec<u64>,
    allowed: u64,
    /// Coverage by model and samples.
    solved: Vec<Vec<f64>>,
}

/// A lane under way.
#[derive(Clone, Copy, Default)]
struct Run {
    until: f64,
    w: f64,
    completes: u32,
    left: u32,
    batch: u32,
    done: bool,
}

impl<'a> Evaluator<'a> {
    pub fn new(problem: &'a Problem, costs: &'a Costs) -> Self {
        let allowed = mask_of((0..problem.devices.len()).filter(|&at| problem.devices[at].allowed));
        let most = problem.menu.samples.iter().copied().max().unwrap_or(1);
        let curve = |model: &crate::problem::Model| match &model.coverage {
            Some(coverage) => (0..=most).map(|k| coverage.at(k)).collect(),
            None => vec![0.0; most as usize + 1],
        };
        Self {
            problem,
            costs,
            idle_w: problem.devices.iter().filter_map(|device| device.idle_w).sum(),
            masks: problem.places.iter().map(|place| mask_of(place.parts.iter().map(|p| p.device))).collect(),
            allowed,
            solved: problem.models.iter().map(curve).collect(),
        }
    }

    /// Coverage of the rung's samples.
    pub fn coverage(&self, rung: &Rung) -> f64 {
        self.solved[usize::from(rung.model)][rung.samples() as usize]
    }

    fn waves(&self, rung: &Rung, lane: &Lane) -> &Waves {
        &self.costs.decode(usize::from(rung.model), usize::from(lane.place))[usize::from(lane.decode)].cost
    }

    /// A wave of a lane, stretched by the others: where lanes together ask for more than the common bus has, all of them
    /// take that many times as long, at the same power, since what waits for memory spins. That holds for as long as any of
    /// them runs, which is a little too long for the last.
    fn wave(&self, rung: &Rung, lane: &Lane, sequences: u32, stretch: f64) -> Phase {
        let wave = self.waves(rung, lane).of[sequences as usize - 1];
        Phase { s: wave.s * stretch, j: wave.j * stretch, w: wave.w }
    }

    fn stretch(&self, rung: &Rung) -> f64 {
        let lanes = rung.lanes();
        if lanes.len() == 1 {
            1.0
        } else {
            lanes.iter().map(|lane| self.waves(rung, lane).bus_share).sum::<f64>().max(1.0)
        }
    }

    fn prefill(&self, rung: &Rung, (place, cost): (u16, u16)) -> Phase {
        self.costs.prefill(usize::from(rung.model), usize::from(place))[usize::from(cost)].cost
    }

    fn state_bytes(&self, rung: &Rung) -> f64 {
        let model = &self.problem.models[usize::from(rung.model)];
        model.kv_bytes_per_token * f64::from(self.problem.workload.prompt_tokens)
    }

    /// What a rung takes after rungs that solved `before` of the tasks: time and energy, each moment weighted by the
    /// probability that it still runs when so many samples are complete.
    pub fn spent(&self, rung: &Rung, before: f64) -> Spent {
        let solved = &self.solved[usize::from(rung.model)];
        let running = |complete: u32| match rung.stop {
            Stop::All => 1.0 - before,
            Stop::UntilPass => 1.0 - before.max(solved[complete as usize]),
        };
        let stretch = self.stretch(rung);
        let mut weight = running(0);
        let mut spent = Spent::default();
        if let Some(origin) = rung.origin {
            let prompt = self.prefill(rung, origin);
            spent = Spent { s: weight * prompt.s, j: weight * prompt.j, s_max: prompt.s };
        }
        let mut now = spent.s_max;
        let mut runs = [Run { done: true, ..Run::default() }; LANES_MAX];
        let mut moved_s = 0.0;
        for (at, lane) in rung.lanes().iter().enumerate() {
            let samples = u32::from(lane.samples);
            let mut run = Run { until: now, left: samples, batch: u32::from(lane.batch), ..Run::default() };
            match rung.origin {
                None => {
                    let prompt = self.prefill(rung, (lane.place, lane.prefill));
                    run.until += prompt.s;
                    run.w = prompt.w;
                    if prompt.s == 0.0 {
                        spent.j += weight * prompt.j;
                    }
                }
                Some((place, _)) if place == lane.place => {}
                Some((place, _)) => {
                    let bytes = self.state_bytes(rung);
                    let moving = self.costs.transfer(usize::from(place), usize::from(lane.place), bytes);
                    let (s, j) = moving.unwrap_or_default();
                    // One after the other: they leave through one memory.
                    moved_s += s;
                    run.until += moved_s;
                    spent.j += weight * j;
                }
            }
            runs[at] = run;
        }
        let runs = &mut runs[..rung.lanes().len()];
        let mut complete = 0;
        // Ends: every pass takes a segment off some lane, and there are at most two a sample.
        while let Some(next) = runs.iter().filter(|run| !run.done).map(|run| run.until).reduce(f64::min) {
            let w: f64 = runs.iter().filter(|run| !run.done).map(|run| run.w).sum();
            spent.s += weight * (next - now);
            if next > now {
                spent.j += weight * w * (next - now);
            }
            now = next;
            let mut free_j = 0.0;
            for (at, run) in runs.iter_mut().enumerate().filter(|(_, run)| !run.done && run.until <= now) {
                complete += run.completes;
                let sequences = run.batch.min(run.left);
                if sequences == 0 {
                    run.done = true;
                    continue;
                }
                let wave = self.wave(rung, &rung.lanes()[at], sequences, stretch);
                if wave.s == 0.0 {
                    free_j += wave.j;
                }
                *run = Run {
                    until: now + wave.s,
                    w: wave.w,
                    completes: sequences,
                    left: run.left - sequences,
                    ..*run
                };
            }
            weight = running(complete);
            spent.j += weight * free_j;
        }
        spent.s_max = now;
        spent
    }

    /// What holds of the rung wherever it stands; it takes `s_max` seconds if no sample passes.
    pub fn footprint(&self, rung: &Rung, s_max: f64) -> Footprint {
        let problem = self.problem;
        let model = &problem.models[usize::from(rung.model)];
        let workload = problem.workload;
        let mut footprint = Footprint {
            devices: 0,
            prefill_devices: 0,
            bytes: [0.0; MEMORIES_MAX],
            peak_w: 0.0,
            over_guard_k: f64::NEG_INFINITY,
            coverage: self.coverage(rung),
        };
        let mut hold = |place: u16, sequences: u32| {
            let cached =
                f64::from(workload.prompt_tokens) + f64::from(sequences) * f64::from(workload.output_tokens);
            let bytes = model.weight_bytes as f64 + model.kv_bytes_per_token * cached;
            for part in &problem.places[usize::from(place)].parts {
                footprint.bytes[problem.devices[part.device].memory] += part.share * bytes;
            }
            footprint.devices |= self.masks[usize::from(place)];
        };
        // Joules above idle of each device, if all samples are drawn.
        let mut joules = [0.0; crate::problem::DEVICES_MAX];
        let mut take = |place: u16, j: f64| {
            for part in &problem.places[usize::from(place)].parts {
                joules[part.device] += part.share * j;
            }
        };
        let stretch = self.stretch(rung);
        let mut lanes_w = 0.0;
        let mut prefill_devices = 0;
        for lane in rung.lanes() {
            hold(lane.place, u32::from(lane.batch));
            let (samples, batch) = (u32::from(lane.samples), u32::from(lane.batch));
            let full = self.wave(rung, lane, batch, stretch);
            take(lane.place, f64::from(samples / batch) * full.j);
            let mut w = full.w;
            if samples % batch > 0 {
                let rest = self.wave(rung, lane, samples % batch, stretch);
                take(lane.place, rest.j);
                w = w.max(rest.w);
            }
            if rung.origin.is_none() {
                let prompt = self.prefill(rung, (lane.place, lane.prefill));
                take(lane.place, prompt.j);
                w = w.max(prompt.w);
                prefill_devices |= self.masks[usize::from(lane.place)];
            }
            lanes_w += w;
        }
        if let Some(origin) = rung.origin {
            let prompt = self.prefill(rung, origin);
            take(origin.0, prompt.j);
            lanes_w = lanes_w.max(prompt.w);
            prefill_devices = self.masks[usize::from(origin.0)];
            if rung.lanes().iter().all(|lane| lane.place != origin.0) {
                hold(origin.0, 0);
            }
        }
        footprint.prefill_devices = prefill_devices;
        footprint.peak_w = self.idle_w + lanes_w;
        if let Some(ambient_c) = problem.limits.ambient_c {
            let above_idle_w = |j: f64| if s_max > 0.0 { j / s_max } else { 0.0 };
            let sink_w = self.idle_w + joules.iter().map(|j| above_idle_w(*j)).sum::<f64>();
            let sink_c = ambient_c + problem.sink_kelvin_per_w * sink_w;
            for (device, j) in problem.devices.iter().zip(joules) {
                if let (Some(guard_c), Some(kelvin_per_w)) = (device.guard_c, device.kelvin_per_w) {
                    let w = device.idle_w.unwrap_or(0.0) + above_idle_w(j);
                    footprint.over_guard_k = footprint.over_guard_k.max(sink_c + kelvin_per_w * w - guard_c);
                }
            }
        }
        footprint
    }

    /// Limits that a rung breaks wherever it stands.
    pub fn broken(&self, footprint: &Footprint, spent: &Spent) -> u8 {
        let limits = &self.problem.limits;
        let mut mask = self.broken_by_bytes(&footprint.bytes);
        if footprint.devices & !self.allowed != 0 {
            mask |= broken::DEVICE;
        }
        if limits.power_w_max.is_some_and(|most| footprint.peak_w > most) {
            mask |= broken::POWER;
        }
        if footprint.over_guard_k > 0.0 {
            mask |= broken::HEAT;
        }
        if limits.deadline_s.is_some_and(|most| spent.s_max > most) {
            mask |= broken::DEADLINE;
        }
        mask
    }

    /// Whether so many bytes are too many.
    pub fn broken_by_bytes(&self, bytes: &[f64; MEMORIES_MAX]) -> u8 {
        let full = |(memory, bytes): (&crate::problem::Memory, &f64)| {
            memory.bytes.is_some_and(|most| *bytes > (1.0 - HEADROOM_SHARE) * most as f64)
        };
        if self.problem.memories.iter().zip(bytes).any(full) { broken::MEMORY } else { 0 }
    }

    /// Gross joules of the whole machine.
    pub fn joules(&self, spent: &Spent) -> f64 {
        spent.j + self.idle_w * spent.s
    }

    /// US dollars: electricity, and the share of the used devices' life; missing where a price is.
    pub fn usd(&self, spent: &Spent, devices: u64) -> Option<f64> {
        const SECONDS_A_YEAR: f64 = 365.25 * 86_400.0;
        const JOULES_A_KWH: f64 = 3.6e6;
        let prices = self.problem.prices;
        let used = self.problem.devices.iter().enumerate().filter(|(at, _)| devices >> at & 1 == 1);
        let devices: Option<f64> = used.map(|(_, device)| device.price_usd).sum();
        let hardware = prices.machine_usd + devices?;
        let share = spent.s / (prices.life_years * SECONDS_A_YEAR);
        Some(hardware * share + self.joules(spent) / JOULES_A_KWH * prices.usd_per_kwh)
    }
}
