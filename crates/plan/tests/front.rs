//! The planner against brute force: every configuration built and priced anew by the plainest means, compared pair by
//! pair.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod spaces;

use qeil_laws::random::Random;
use qeil_plan::cost::{Amount, Offer};
use qeil_plan::plan::Method;
use qeil_plan::problem::*;
use qeil_plan::{Goal, PlanError, plan};
use spaces::{Size, space};

/// One way to draw samples, as brute force sees it.
#[derive(Clone)]
struct Way {
    model: usize,
    samples: u32,
    stop: Stop,
    /// Lanes: place, waves of sequences, start, seconds and joules of a prefill of its own.
    lanes: Vec<Row>,
    /// Before all lanes: seconds and joules.
    first: (f64, f64),
    /// Joules of moving state.
    moved_j: f64,
    bytes: Vec<f64>,
    devices: Vec<usize>,
    peak_w: f64,
    heat_ok: bool,
}

#[derive(Clone)]
struct Row {
    /// Seconds, joules above idle, samples complete at its end.
    segments: Vec<(f64, f64, u32)>,
}

struct Brute<'a>(&'a Problem);

impl Brute<'_> {
    fn offers<'b>(&'b self, model: usize, place: usize, has: impl Fn(&Offer) -> bool + 'b) -> Vec<&'b Offer> {
        let problem = self.0;
        (0..problem.settings.len())
            .filter_map(|setting| {
                let fits = |offer: &&Offer| {
                    offer.model == model && offer.place == place && offer.setting == setting && has(offer)
                };
                problem.offers.iter().filter(fits).min_by_key(|offer| offer.source)
            })
            .collect()
    }

    fn idle_w(&self, place: usize) -> f64 {
        self.0.places[place].parts.iter().map(|part| self.0.devices[part.device].idle_w.unwrap()).sum()
    }

    fn above_idle(&self, place: usize, amount: Amount) -> (f64, f64) {
        (amount.seconds, amount.joules.unwrap() - self.idle_w(place) * amount.seconds)
    }

    fn prompt(&self, offer: &Offer) -> (f64, f64) {
        let prefill = offer.prefill.unwrap();
        let tokens = f64::from(self.0.workload.prompt_tokens);
        let amount = Amount::new(
            prefill.fixed.seconds + tokens * prefill.per_token.seconds,
            prefill.fixed.joules.unwrap() + tokens * prefill.per_token.joules.unwrap(),
        );
        self.above_idle(offer.place, amount)
    }

    fn wave(&self, offer: &Offer, sequences: u32) -> (f64, f64) {
        let workload = self.0.workload;
        let context = f64::from(workload.prompt_tokens) + f64::from(workload.output_tokens) / 2.0;
        let step = offer.decode.as_ref().unwrap().step(sequences, context);
        let (s, j) = self.above_idle(offer.place, step);
        (f64::from(workload.output_tokens - 1) * s, f64::from(workload.output_tokens - 1) * j)
    }

    fn ways(&self) -> Vec<Way> {
        let problem = self.0;
        let mut ways = Vec::new();
        for model in 0..problem.models.len() {
            for group in 1u32..1 << problem.places.len() {
                let places: Vec<usize> =
                    (0..problem.places.len()).filter(|at| group >> at & 1 == 1).collect();
                let mut devices: Vec<usize> =
                    places.iter().flat_map(|&at| &problem.places[at].parts).map(|part| part.device).collect();
                let count = devices.len();
                devices.sort_unstable();
                devices.dedup();
                if places.len() > problem.menu.lanes_max || devices.len() < count {
                    continue;
                }
                for origin in std::iter::once(None).chain((0..problem.places.len()).map(Some)) {
                    self.with_origin(model, &places, origin, &mut ways);
                }
            }
        }
        ways
    }

    fn with_origin(&self, model: usize, places: &[usize], origin: Option<usize>, ways: &mut Vec<Way>) {
        let problem = self.0;
        let uses = |place: usize, device: usize| {
            problem.places[place].parts.iter().any(|part| part.device == device)
        };
        if let Some(origin) = origin {
            let clash = places.iter().any(|&place| {
                place != origin && problem.places[place].parts.iter().any(|part| uses(origin, part.device))
            });
            let moves = |&place: &usize| {
                place == origin || problem.transfers.iter().any(|t| (t.from, t.to) == (origin, place))
            };
            if places == [origin] || clash || !places.iter().all(moves) {
                return;
            }
        }
        // Every choice of settings: decode of each lane, prefill of each lane or of the origin.
        let mut picks: Vec<Vec<&Offer>> = vec![Vec::new()];
        let decode: Vec<Vec<&Offer>> =
            places.iter().map(|&place| self.offers(model, place, |offer| offer.decode.is_some())).collect();
        let prefill: Vec<Vec<&Offer>> = match origin {
            Some(origin) => vec![self.offers(model, origin, |offer| offer.prefill.is_some())],
            None => places
                .iter()
                .map(|&place| self.offers(model, place, |offer| offer.prefill.is_some()))
                .collect(),
        };
        for options in decode.iter().chain(&prefill) {
            picks = picks
                .iter()
                .flat_map(|pick| {
                    options.iter().map(|option| {
                        let mut longer = pick.clone();
                        longer.push(*option);
                        longer
                    })
                })
                .collect();
        }
        for pick in &picks {
            for &samples in &problem.menu.samples {
                for shares in shares(samples, places.len()) {
                    let mut batches: Vec<Vec<u32>> = vec![Vec::new()];
                    for share in &shares {
                        let mut options: Vec<u32> =
                            problem.menu.batches.iter().copied().filter(|batch| batch < share).collect();
                        options.push(*share);
                        batches = batches
                            .iter()
                            .flat_map(|b| options.iter().map(|o| b.iter().copied().chain([*o]).collect()))
                            .collect();
                    }
                    for batch in &batches {
                        for &stop in &problem.menu.stops {
                            ways.push(self.way(model, places, origin, pick, &shares, batch, stop));
                        }
                    }
                }
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn way(
        &self,
        model: usize,
        places: &[usize],
        origin: Option<usize>,
        pick: &[&Offer],
        shares: &[u32],
        batches: &[u32],
        stop: Stop,
    ) -> Way {
        let problem = self.0;
        let spec = &problem.models[model];
        let (prompt_tokens, output_tokens) =
            (f64::from(problem.workload.prompt_tokens), f64::from(problem.workload.output_tokens));
        let mut way = Way {
            model,
            samples: shares.iter().sum(),
            stop,
            lanes: Vec::new(),
            first: (0.0, 0.0),
            moved_j: 0.0,
            bytes: vec![0.0; problem.memories.len()],
            devices: Vec::new(),
            peak_w: 0.0,
            heat_ok: true,
        };
        let mut device_j = vec![0.0; problem.devices.len()];
        let hold = |way: &mut Way, place: usize, sequences: u32| {
            for part in &problem.places[place].parts {
                let bytes = spec.weight_bytes as f64
                    + spec.kv_bytes_per_token * (prompt_tokens + f64::from(sequences) * output_tokens);
                way.bytes[problem.devices[part.device].memory] += part.share * bytes;
                way.devices.push(part.device);
            }
        };
        let mut work = |place: usize, j: f64| {
            for part in &problem.places[place].parts {
                device_j[part.device] += part.share * j;
            }
        };
        let mut lanes_w = 0.0;
        let mut moving = 0.0;
        let asked: f64 = (0..places.len()).map(|at| pick[at].decode.as_ref().unwrap().bus_share).sum();
        let stretch = if places.len() > 1 { asked.max(1.0) } else { 1.0 };
        if let Some(origin) = origin {
            way.first = self.prompt(pick[places.len()]);
            work(origin, way.first.1);
            if !places.contains(&origin) {
                hold(&mut way, origin, 0);
            }
        }
        for (at, &place) in places.iter().enumerate() {
            let mut segments = Vec::new();
            hold(&mut way, place, batches[at]);
            match origin {
                None => {
                    let (s, j) = self.prompt(pick[places.len() + at]);
                    segments.push((s, j, 0));
                    work(place, j);
                }
                Some(origin) if origin != place => {
                    let transfer =
                        problem.transfers.iter().find(|t| (t.from, t.to) == (origin, place)).unwrap();
                    let bytes = spec.kv_bytes_per_token * prompt_tokens;
                    moving += transfer.fixed_s + bytes / transfer.bytes_per_s;
                    way.moved_j += bytes * transfer.joules_per_byte;
                    segments.push((moving, 0.0, 0));
                }
                Some(_) => {}
            }
            let mut left = shares[at];
            while left > 0 {
                let now = left.min(batches[at]);
                let (s, j) = self.wave(pick[at], now);
                let (s, j) = (s * stretch, j * stretch);
                segments.push((s, j, now));
                work(place, j);
                left -= now;
            }
            lanes_w += segments.iter().map(|(s, j, _)| j / s).fold(0.0, f64::max);
            way.lanes.push(Row { segments });
        }
        let idle_w: f64 = problem.devices.iter().map(|device| device.idle_w.unwrap()).sum();
        let first_w = if way.first.0 > 0.0 { way.first.1 / way.first.0 } else { 0.0 };
        way.peak_w = idle_w + f64::max(lanes_w, first_w);
        if let Some(ambient_c) = problem.limits.ambient_c {
            let seconds = self.spent(&way, 0.0).2;
            let sink_w = idle_w + device_j.iter().sum::<f64>() / seconds;
            way.heat_ok = problem.devices.iter().zip(&device_j).all(|(device, j)| {
                let w = device.idle_w.unwrap() + j / seconds;
                ambient_c + problem.sink_kelvin_per_w * sink_w + device.kelvin_per_w.unwrap() * w
                    <= device.guard_c.unwrap()
            });
        }
        way
    }

    /// Expected seconds, joules above idle, worst seconds: by cutting time at every event.
    fn spent(&self, way: &Way, before: f64) -> (f64, f64, f64) {
        let coverage = self.0.models[way.model].coverage.as_ref().unwrap();
        let mut spans = Vec::new();
        let mut cuts = vec![way.first.0];
        for lane in &way.lanes {
            let mut now = way.first.0;
            for (s, j, complete) in &lane.segments {
                spans.push((now, now + s, j / s, *complete));
                now += s;
                cuts.push(now);
            }
        }
        cuts.sort_by(f64::total_cmp);
        let running = |m: u32| match way.stop {
            Stop::All => 1.0 - before,
            Stop::UntilPass => 1.0 - f64::max(before, coverage.at(m)),
        };
        let mut expected = (running(0) * way.first.0, running(0) * (way.first.1 + way.moved_j));
        for pair in cuts.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            let middle = (from + to) / 2.0;
            let m: u32 = spans.iter().filter(|span| span.1 <= from).map(|span| span.3).sum();
            let w: f64 =
                spans.iter().filter(|span| span.0 <= middle && middle < span.1).map(|span| span.2).sum();
            expected.0 += running(m) * (to - from);
            if to > from {
                expected.1 += running(m) * w * (to - from);
            }
        }
        (expected.0, expected.1, *cuts.last().unwrap())
    }

    /// Energy, seconds, minus coverage and dollars of every configuration that keeps all limits.
    fn feasible(&self) -> Vec<[f64; 4]> {
        let ways = self.ways();
        let mut ladders: Vec<Vec<&Way>> = ways.iter().map(|way| vec![way]).collect();
        let mut from = 0;
        for _ in 1..self.0.menu.ladder_max {
            let until = ladders.len();
            for at in from..until {
                for way in &ways {
                    if ladders[at].iter().all(|other| other.model != way.model) {
                        let mut longer = ladders[at].clone();
                        longer.push(way);
                        ladders.push(longer);
                    }
                }
            }
            from = until;
        }
        ladders.iter().filter_map(|ladder| self.objectives(ladder)).collect()
    }

    fn objectives(&self, ladder: &[&Way]) -> Option<[f64; 4]> {
        let (problem, limits) = (self.0, self.0.limits);
        let (mut s, mut j, mut s_max, mut before) = (0.0, 0.0, 0.0, 0.0);
        let mut bytes = vec![0.0; problem.memories.len()];
        let mut devices: Vec<usize> = Vec::new();
        for way in ladder {
            let spent = self.spent(way, before);
            (s, j, s_max) = (s + spent.0, j + spent.1, s_max + spent.2);
            before = f64::max(before, problem.models[way.model].coverage.as_ref().unwrap().at(way.samples));
            bytes.iter_mut().zip(&way.bytes).for_each(|(sum, more)| *sum += more);
            devices.extend(&way.devices);
            if !way.heat_ok || limits.power_w_max.is_some_and(|most| way.peak_w > most) {
                return None;
            }
        }
        devices.sort_unstable();
        devices.dedup();
        let full = problem
            .memories
            .iter()
            .zip(&bytes)
            .any(|(memory, bytes)| *bytes > (1.0 - HEADROOM_SHARE) * memory.bytes.unwrap() as f64);
        if full
            || devices.iter().any(|&at| !problem.devices[at].allowed)
            || limits.deadline_s.is_some_and(|most| s_max > most)
            || limits.coverage_min.is_some_and(|least| before < least)
        {
            return None;
        }
        let idle_w: f64 = problem.devices.iter().map(|device| device.idle_w.unwrap()).sum();
        let energy = j + idle_w * s;
        let price: f64 = devices.iter().map(|&at| problem.devices[at].price_usd.unwrap()).sum();
        let usd = (problem.prices.machine_usd + price) * s / (problem.prices.life_years * 365.25 * 86_400.0)
            + energy / 3.6e6 * problem.prices.usd_per_kwh;
        Some([energy, s, -before, usd])
    }
}

fn shares(samples: u32, lanes: usize) -> Vec<Vec<u32>> {
    if lanes == 1 {
        return vec![vec![samples]];
    }
    (1..samples)
        .flat_map(|first| {
            shares(samples - first, lanes - 1).into_iter().map(move |mut rest| {
                rest.insert(0, first);
                rest
            })
        })
        .collect()
}

/// Relative error below which two sums of the same figures in another order are the same.
const SAME: f64 = 1e-9;

fn at_most(a: &[f64; 4], b: &[f64; 4]) -> bool {
    a.iter().zip(b).all(|(a, b)| *a <= b + SAME * b.abs())
}

/// A small space with random limits.
fn small(seed: u64) -> Problem {
    let mut random = Random::new(seed, 2);
    let size = Size {
        models: 1 + random.below(3),
        devices: 1 + random.below(3),
        settings: 1 + random.below(2),
        samples_max: 1 + random.below(3) as u32,
        batches: 2,
        lanes_max: 1 + random.below(3),
        ladder_max: 1,
        split: random.below(3) == 0,
    };
    let mut problem = space(seed, size);
    problem.menu.stops =
        [vec![Stop::All], vec![Stop::UntilPass], vec![Stop::All, Stop::UntilPass]][random.below(3)].clone();
    // Ladders of everything would be millions of pairs for brute force: fewer samples, then.
    problem.menu.ladder_max = 1 + random.below(2);
    if problem.menu.ladder_max > 1 {
        problem.menu.samples.truncate(2);
        problem.menu.lanes_max = problem.menu.lanes_max.min(2);
        problem.settings.truncate(1);
        problem.offers.retain(|offer| offer.setting == 0);
        if problem.models.len() == 3 && problem.devices.len() < 3 && random.below(2) == 0 {
            problem.menu.ladder_max = 3;
            problem.menu.samples.truncate(1);
        }
    }
    let mut limit = |share: f64, low: f64, high: f64| {
        (random.uniform() < share).then(|| low + random.uniform() * (high - low))
    };
    problem.limits = Limits {
        power_w_max: limit(0.3, 10.0, 40.0),
        deadline_s: limit(0.3, 0.5, 8.0),
        coverage_min: limit(0.3, 0.1, 0.6),
        ambient_c: limit(0.5, 20.0, 60.0),
    };
    if let Some(bytes) = limit(0.3, 2e8, 3e9) {
        problem.memories[0].bytes = Some(bytes as u64);
    }
    if problem.devices.len() > 1 && limit(0.2, 0.0, 1.0).is_some() {
        problem.devices[0].allowed = false;
    }
    problem
}

#[test]
fn the_front_is_that_of_brute_force_on_a_thousand_spaces() {
    let (mut ladders, mut none, mut looked_at) = (0, 0, 0);
    for seed in 0..1000 {
        let problem = small(seed);
        let all = Brute(&problem).feasible();
        looked_at += all.len();
        let planned = match plan(&problem, Goal::Energy) {
            Ok(planned) => planned,
            Err(PlanError::Infeasible { .. }) => {
                assert!(all.is_empty(), "seed {seed}: {} configurations keep all limits", all.len());
                none += 1;
                continue;
            }
            Err(error) => panic!("seed {seed}: {error}"),
        };
        assert_eq!(planned.method, Method::Enumerated, "seed {seed}");
        ladders += usize::from(planned.front.iter().any(|candidate| candidate.rungs.len() > 1));
        let front: Vec<[f64; 4]> = planned
            .front
            .iter()
            .map(|candidate| {
                let figures = candidate.figures;
                [
                    figures.energy_j.unwrap(),
                    figures.latency_s,
                    -figures.coverage.unwrap(),
                    figures.usd.unwrap(),
                ]
            })
            .collect();
        // Every configuration is matched or beaten by the front, and every point of the front is a configuration.
        for point in &all {
            assert!(front.iter().any(|kept| at_most(kept, point)), "seed {seed}: {point:?} is missing");
        }
        for kept in &front {
            assert!(
                all.iter().any(|point| at_most(point, kept) && at_most(kept, point)),
                "seed {seed}: {kept:?}"
            );
            assert!(
                !all.iter().any(|point| at_most(point, kept)
                    && point.iter().zip(kept).any(|(a, b)| *a < b - 1e-6 * b.abs())),
                "seed {seed}: {kept:?} is beaten"
            );
        }
        let best = all.iter().map(|point| point[0]).fold(f64::INFINITY, f64::min);
        let chosen = planned.choice.figures.energy_j.unwrap();
        assert!(
            (chosen / best - 1.0).abs() < SAME,
            "seed {seed}: chose {chosen} J where {best} J is possible"
        );
    }
    // The spaces must be of use: ladders on many fronts, limits that exclude everything in some.
    println!("{looked_at} configurations; ladders on {ladders} fronts, nothing feasible in {none} spaces");
    assert!(ladders > 50 && (10..600).contains(&none) && looked_at > 100_000);
}
