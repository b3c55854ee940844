//! All ways to draw samples of one model: which place computes the prompt, which places decode how many samples of it,
//! how many at once, under which settings, and when it ends.
//!
//! A **rung** is one such way; a ladder stacks rungs of different models. Prompt and samples meet in one of two ways:
//! every decoding place computes the prompt itself, or one place computes it (whether it decodes, too, or not) and the
//! others get its state moved. Recomputing is therefore not a special case, and whichever is cheaper wins by its cost.
//!
//! Samples are shared out in whole numbers. [`Shares::All`] tries every composition; [`Shares::Greedy`] hands them out
//! one by one, once to the place that would finish first and once to the place whose joules rise least, for spaces too
//! large to try them all.

use crate::cost::Costs;
use crate::problem::{LANES_MAX, Problem, Stop};
use std::ops::ControlFlow;

/// A place's part in a rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Lane {
    pub place: u16,
    /// Which of the place's prefill costs; unused where the state comes from elsewhere.
    pub prefill: u16,
    /// Which of its decode costs.
    pub decode: u16,
    pub samples: u16,
    pub batch: u16,
}

/// One way to draw samples of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Rung {
    pub model: u16,
    /// The place that computes the prompt for all, and which of its prefill costs; missing: each lane does itself.
    pub origin: Option<(u16, u16)>,
    lanes: [Lane; LANES_MAX],
    count: u8,
    pub stop: Stop,
}

impl Rung {
    /// At most [`LANES_MAX`] lanes.
    pub fn new(model: usize, origin: Option<(u16, u16)>, given: &[Lane], stop: Stop) -> Self {
        let mut lanes = [Lane::default(); LANES_MAX];
        let count = given.len().min(LANES_MAX);
        lanes[..count].copy_from_slice(&given[..count]);
        Self { model: model as u16, origin, lanes, count: count as u8, stop }
    }

    pub fn lanes(&self) -> &[Lane] {
        &self.lanes[..usize::from(self.count)]
    }

    pub fn samples(&self) -> u32 {
        self.lanes().iter().map(|lane| u32::from(lane.samples)).sum()
    }
}

/// How samples are shared out over places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shares {
    All,
    Greedy,
}

/// A rung with all decided but samples and batches.
struct Frame<'a> {
    problem: &'a Problem,
    costs: &'a Costs,
    shares: Shares,
    rung: Rung,
}

type Visit<'v> = dyn FnMut(Rung) -> ControlFlow<()> + 'v;

/// Call `visit` with every rung of the space, always in the same order, until it breaks.
pub(crate) fn rungs(
    problem: &Problem,
    costs: &Costs,
    shares: Shares,
    visit: &mut Visit<'_>,
) -> ControlFlow<()> {
    let masks: Vec<u64> =
        problem.places.iter().map(|place| mask_of(place.parts.iter().map(|p| p.device))).collect();
    for model in 0..problem.models.len() {
        for lanes in groups(&masks, problem.menu.lanes_max) {
            if lanes.iter().any(|&place| costs.decode(model, place).is_empty()) {
                continue;
            }
            for origin in std::iter::once(None).chain((0..problem.places.len()).map(Some)) {
                if !serves(problem, costs, model, &lanes, origin, &masks) {
                    continue;
                }
                for &stop in &problem.menu.stops {
                    let empty = vec![Lane::default(); lanes.len()];
                    let rung = Rung::new(model, origin.map(|place| (place as u16, 0)), &empty, stop);
                    let mut frame = Frame { problem, costs, shares, rung };
                    frame.settings(&lanes, 0, visit)?;
                }
            }
        }
    }
    ControlFlow::Continue(())
}

/// Devices as bits.
pub(crate) fn mask_of(devices: impl Iterator<Item = usize>) -> u64 {
    devices.fold(0, |mask, device| mask | 1 << device)
}

/// Ascending groups of places that share no device.
fn groups(masks: &[u64], most: usize) -> Vec<Vec<usize>> {
    let mut all: Vec<Vec<usize>> = (0..masks.len()).map(|place| vec![place]).collect();
    let mut from = 0;
    for _ in 1..most {
        let until = all.len();
        for at in from..until {
            let used = all[at].iter().fold(0, |mask, &place| mask | masks[place]);
            let last = all[at].last().copied().unwrap_or(0);
            for (place, mask) in masks.iter().enumerate().skip(last + 1) {
                if used & mask == 0 {
                    let mut group = all[at].clone();
                    group.push(place);
                    all.push(group);
                }
            }
        }
        from = until;
    }
    all
}

/// Whether the prompt can come from there.
fn serves(
    problem: &Problem,
    costs: &Costs,
    model: usize,
    lanes: &[usize],
    origin: Option<usize>,
    masks: &[u64],
) -> bool {
    let Some(origin) = origin else {
        return lanes.iter().all(|&place| !costs.prefill(model, place).is_empty());
    };
    let bytes = problem.models[model].kv_bytes_per_token;
    let alone = lanes == [origin];
    let clashes = lanes.iter().any(|&place| place != origin && masks[place] & masks[origin] != 0);
    !alone
        && !clashes
        && !costs.prefill(model, origin).is_empty()
        && lanes.iter().all(|&place| place == origin || costs.transfer(origin, place, bytes).is_some())
}

impl Frame<'_> {
    fn settings(&mut self, lanes: &[usize], at: usize, visit: &mut Visit<'_>) -> ControlFlow<()> {
        let model = usize::from(self.rung.model);
        let Some(&place) = lanes.get(at) else { return self.origin(visit) };
        let prefills = if self.rung.origin.is_some() { 1 } else { self.costs.prefill(model, place).len() };
        for decode in 0..self.costs.decode(model, place).len() {
            for prefill in 0..prefills {
                self.rung.lanes[at] = Lane {
                    place: place as u16,
                    prefill: prefill as u16,
                    decode: decode as u16,
                    samples: 0,
                    batch: 0,
                };
                self.settings(lanes, at + 1, visit)?;
            }
        }
        ControlFlow::Continue(())
    }

    fn origin(&mut self, visit: &mut Visit<'_>) -> ControlFlow<()> {
        let Some((place, _)) = self.rung.origin else { return self.samples(visit) };
        for prefill in 0..self.costs.prefill(usize::from(self.rung.model), usize::from(place)).len() {
            self.rung.origin = Some((place, prefill as u16));
            self.samples(visit)?;
        }
        ControlFlow::Continue(())
    }

    fn samples(&mut self, visit: &mut Visit<'_>) -> ControlFlow<()> {
        for at in 0..self.problem.menu.samples.len() {
            let samples = self.problem.menu.samples[at];
            match self.shares {
                Shares::All => self.compositions(0, samples, visit)?,
                Shares::Greedy => self.greedy(samples, visit)?,
            }
        }
        ControlFlow::Continue(())
    }

    /// Every way to share `left` samples over the lanes from `at` on, at least one each.
    fn compositions(&mut self, at: usize, left: u32, visit: &mut Visit<'_>) -> ControlFlow<()> {
        let lanes = usize::from(self.rung.count);
        let after = (lanes - at - 1) as u32;
        if left <= after {
            return ControlFlow::Continue(());
        }
        if after == 0 {
            self.rung.lanes[at].samples = left as u16;
            return self.batches(0, visit);
        }
        for samples in 1..=left - after {
            self.rung.lanes[at].samples = samples as u16;
            self.compositions(at + 1, left - samples, visit)?;
        }
        ControlFlow::Continue(())
    }

    /// Every batch of the menu that a lane has samples for, and all of them at once.
    fn batches(&mut self, at: usize, visit: &mut Visit<'_>) -> ControlFlow<()> {
        if at == usize::from(self.rung.count) {
            return visit(self.rung);
        }
        let samples = self.rung.lanes[at].samples;
        for option in 0..=self.problem.menu.batches.len() {
            let batch = match self.problem.menu.batches.get(option) {
                Some(&batch) if batch < u32::from(samples) => batch as u16,
                Some(_) => continue,
                None => samples,
            };
            self.rung.lanes[at].batch = batch;
            self.batches(at + 1, visit)?;
        }
        ControlFlow::Continue(())
    }

    /// Two ways to hand samples out: to whoever finishes first, to whoever takes fewest further joules.
    fn greedy(&mut self, samples: u32, visit: &mut Visit<'_>) -> ControlFlow<()> {
        let lanes = usize::from(self.rung.count);
        if samples < lanes as u32 {
            return ControlFlow::Continue(());
        }
        let model = usize::from(self.rung.model);
        let mut seen: Option<[u16; LANES_MAX]> = None;
        for by_time in [true, false] {
            let cost = |lane: &Lane, samples: u16| {
                let wave = self.costs.decode(model, usize::from(lane.place))[usize::from(lane.decode)]
                    .cost
                    .of[usize::from(samples) - 1];
                if by_time {
                    let own =
                        self.costs.prefill(model, usize::from(lane.place)).get(usize::from(lane.prefill));
                    let start =
                        own.filter(|_| self.rung.origin.is_none()).map_or(0.0, |prefill| prefill.cost.s);
                    start + wave.s
                } else {
                    wave.j
                }
            };
            let mut shares = [0u16; LANES_MAX];
            shares[..lanes].fill(1);
            for _ in lanes as u32..samples {
                let price = |at: usize| {
                    let lane = &self.rung.lanes[at];
                    let more = cost(lane, shares[at] + 1);
                    if by_time { more } else { more - cost(lane, shares[at]) }
                };
                let next = (0..lanes).min_by(|&a, &b| price(a).total_cmp(&price(b))).unwrap_or(0);
                shares[next] += 1;
            }
            if seen == Some(shares) {
                continue;
            }
            seen = Some(shares);
            (0..lanes).for_each(|at| self.rung.lanes[at].samples = shares[at]);
            self.batches(0, visit)?;
        }
        ControlFlow::Continue(())
    }
}
