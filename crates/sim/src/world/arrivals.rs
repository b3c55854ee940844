//! The clients: who asks for what, and when.

use crate::scenario::{Burst, Load};
use qeil_control::event::{Priority, Request, RequestId};
use qeil_laws::random::{Random, word_at};

/// Stream of the draws of the load.
const STREAM: u64 = 2;
/// The client that floods.
pub const FLOODER: u32 = u32::MAX;
/// Seconds between two floods, and how long one lasts.
const FLOOD_S: (f64, f64) = (600.0, 20.0);

/// What makes the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// An ordinary client.
    Ordinary,
    /// One who sends absurd numbers.
    Hostile,
    /// One who sends too much.
    Flood,
}

/// The clients.
#[derive(Debug, Clone)]
pub struct Arrivals {
    load: Load,
    random: Random,
    next: u64,
}

impl Arrivals {
    /// The clients of a load.
    pub fn new(load: Load, seed: u64) -> Self {
        Self { load, random: Random::new(seed, STREAM), next: 0 }
    }

    /// When the next request of a source comes after `now_s`; nothing where none ever does.
    pub fn next_s(&mut self, source: Source, now_s: f64) -> Option<f64> {
        let (per_minute, burst) = match source {
            Source::Ordinary => (self.load.requests_per_minute, self.load.burst),
            Source::Hostile => (self.load.hostile_per_minute, None),
            Source::Flood => {
                let (every_s, for_s) = FLOOD_S;
                (self.load.flood_per_minute, Some(Burst { every_s, for_s, factor: 1.0 }))
            }
        };
        if per_minute <= 0.0 {
            return None;
        }
        let quiet = if source == Source::Flood { 0.0 } else { per_minute };
        let mut at_s = now_s;
        // At most two turns for each half hour ahead: a turn ends at a change of the rate or at an arrival.
        loop {
            let (rate, change_s) = match burst {
                None => (per_minute, f64::INFINITY),
                Some(burst) => {
                    let phase = at_s.rem_euclid(burst.every_s);
                    // The burst is at the end of each period, so that an operation begins quietly.
                    let quiet_s = burst.every_s - burst.for_s;
                    // A little beyond the edge, so that rounding never leaves a turn where it was.
                    let ahead = |left: f64| at_s + left.max(0.0) + 1e-3;
                    if phase < quiet_s {
                        (quiet, ahead(quiet_s - phase))
                    } else {
                        (per_minute * burst.factor, ahead(burst.every_s - phase))
                    }
                }
            };
            let arrival_s = at_s - (1.0 - self.random.uniform()).ln() * 60.0 / rate;
            if arrival_s <= change_s {
                return Some(arrival_s);
            }
            if change_s > now_s + 1e8 {
                return None;
            }
            at_s = change_s;
        }
    }

    /// The request that comes from a source.
    pub fn request(&mut self, source: Source) -> Request {
        let id = RequestId(self.next);
        self.next += 1;
        match source {
            Source::Hostile => self.hostile(id),
            Source::Flood => Request { client: FLOODER, ..self.ordinary(id) },
            Source::Ordinary => self.ordinary(id),
        }
    }

    fn between(&mut self, (low, high): (u32, u32)) -> u32 {
        low + self.random.below((high - low) as usize + 1) as u32
    }

    fn within(&mut self, (low, high): (f64, f64)) -> f64 {
        low + (high - low) * self.random.uniform()
    }

    fn often(&mut self, share: f64) -> bool {
        self.random.uniform() < share
    }

    fn ordinary(&mut self, id: RequestId) -> Request {
        let load = self.load.clone();
        Request {
            id,
            client: self.random.below(load.clients as usize) as u32,
            priority: if self.often(load.batch_share) { Priority::Batch } else { Priority::Interactive },
            prompt_tokens: self.between(load.prompt_tokens),
            samples: self.between(load.samples),
            tokens_max: self.between(load.output_tokens),
            deadline_s: load.deadline_s.map(|range| self.within(range)),
            energy_budget_j: load.energy_budget_j.map(|range| self.within(range)),
            until_pass: self.often(load.until_pass_share),
        }
    }

    /// An ordinary request with one to three fields absurd.
    fn hostile(&mut self, id: RequestId) -> Request {
        const NUMBERS: [u32; 6] = [0, 1, u32::MAX, u32::MAX - 1, 1 << 31, 100_000];
        const REALS: [f64; 8] =
            [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1e-300, 1e300, f64::MIN_POSITIVE];
        let mut request = self.ordinary(id);
        for _ in 0..=self.random.below(3) {
            let number = NUMBERS[self.random.below(NUMBERS.len())];
            let real = REALS[self.random.below(REALS.len())];
            match self.random.below(6) {
                0 => request.prompt_tokens = number,
                1 => request.samples = number,
                2 => request.tokens_max = number,
                3 => request.deadline_s = Some(real),
                4 => request.energy_budget_j = Some(real),
                _ => request.client = number,
            }
        }
        request
    }

    /// Whether the client of a request withdraws it, and after how many seconds.
    pub fn withdraws_after_s(&mut self) -> Option<f64> {
        let share = self.load.withdrawn_share;
        self.often(share).then(|| self.within((0.0, 20.0)))
    }
}

/// Tokens that a sample gets: by its place alone, so that it ends at the same one wherever it runs. Two in five use all.
pub fn length(seed: u64, request: &Request, sample: u32) -> u32 {
    let draw = word_at(word_at(seed ^ 0x4c65_6e67, request.id.0), u64::from(sample));
    let uniform = (draw >> 11) as f64 / (1u64 << 53) as f64;
    let share = (uniform / 0.6).min(1.0);
    ((f64::from(request.tokens_max) * share) as u32).clamp(1, request.tokens_max.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hour::Hours;

    #[test]
    fn arrivals_keep_their_rate_and_floods_their_times() {
        let mut load = Hours::new().unwrap().hour(1).load;
        load.requests_per_minute = 30.0;
        load.burst = None;
        load.flood_per_minute = 120.0;
        load.hostile_per_minute = 0.0;
        let mut arrivals = Arrivals::new(load, 3);
        let mut count = |source, hours: f64| {
            let (mut now, mut times) = (0.0, Vec::new());
            while let Some(at) = arrivals.next_s(source, now).filter(|at| *at < hours * 3600.0) {
                assert!(at > now);
                now = at;
                times.push(at);
            }
            times
        };
        let ordinary = count(Source::Ordinary, 10.0).len() as f64;
        assert!((ordinary / 18_000.0 - 1.0).abs() < 0.03, "{ordinary}");
        assert!(count(Source::Hostile, 1.0).is_empty());
        let flood = count(Source::Flood, 10.0);
        assert!((flood.len() as f64 / 2_400.0 - 1.0).abs() < 0.1, "{}", flood.len());
        assert!(flood.iter().all(|at| at % 600.0 > 579.9), "only in the last 20 s of each 10 min");
    }

    #[test]
    fn lengths_are_fixed_and_within_their_most() {
        let mut arrivals = Arrivals::new(Hours::new().unwrap().hour(1).load, 3);
        for _ in 0..200 {
            let request = arrivals.request(Source::Ordinary);
            let lengths: Vec<u32> = (0..request.samples).map(|sample| length(9, &request, sample)).collect();
            assert!(lengths.iter().all(|length| (1..=request.tokens_max).contains(length)));
            assert_eq!(lengths[0], length(9, &request, 0));
        }
        let hostile: Vec<Request> = (0..200).map(|_| arrivals.request(Source::Hostile)).collect();
        assert!(hostile.iter().any(|request| request.samples == 0));
        assert!(hostile.iter().any(|request| request.deadline_s.is_some_and(f64::is_nan)));
    }
}
