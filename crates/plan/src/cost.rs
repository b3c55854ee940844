//! What work takes on a place, and which of several answers counts.
//!
//! Costs come from measurements of the very model (profile), from laws over other models, or from the device's limits
//! (roofline). All of them are handed in as **offers**, and [`Costs::of`] is the one place that decides: for each model,
//! place, setting and phase the offer of the strongest source wins, and among offers of one source the first. Prefill
//! and decode are decided apart, so a measured prefill may stand beside a decode by law.
//!
//! Seconds and joules of an offer are gross: all that the place's devices took while they were busy. Inside, the idle
//! power of those devices is taken off and counted instead for every device over the whole request, since a device that
//! waits draws it, too, and so does one that is not used at all.

use crate::problem::{PlanError, Problem};
use qeil_units::Provenance;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a cost rests on. The order is by strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// This model was measured on this device.
    Profile,
    /// A law over other models that were.
    Law,
    /// The device's bandwidth and arithmetic: a bound that real engines stay above.
    Roofline,
}

/// Time and energy of a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Amount {
    /// Seconds.
    pub seconds: f64,
    /// Gross joules; missing where nothing covered them.
    pub joules: Option<f64>,
}

impl Amount {
    /// Seconds and joules.
    pub fn new(seconds: f64, joules: f64) -> Self {
        Self { seconds, joules: Some(joules) }
    }

    fn add(self, other: Self, times: f64) -> Self {
        let joules = self.joules.zip(other.joules).map(|(a, b)| a + times * b);
        Self { seconds: self.seconds + times * other.seconds, joules }
    }

    fn is_sound(self) -> bool {
        self.seconds.is_finite()
            && self.seconds >= 0.0
            && self.joules.is_none_or(|j| j.is_finite() && j >= 0.0)
    }
}

/// What computing a prompt takes: affine in its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Prefill {
    /// Whatever its length.
    pub fixed: Amount,
    /// For each token.
    pub per_token: Amount,
}

/// What a decode step takes, by the sequences in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decode {
    /// Sequences and what a step of them takes, ascending in sequences. Between two points it is linear, beyond the last
    /// it goes on like between the last two, below the first it is in proportion no cheaper than the first.
    pub points: Vec<(u32, Amount)>,
    /// Tokens of context that the points hold for.
    pub context_tokens: f64,
    /// Further cost for each token of context beyond that, and each sequence.
    pub per_context_token: Amount,
    /// Share of the bandwidth of a bus shared with other devices that it keeps busy, 0 to 1; 0 where it has its own.
    pub bus_share: f64,
}

impl Decode {
    /// A step of `sequences` sequences at a mean context.
    pub fn step(&self, sequences: u32, context_tokens: f64) -> Amount {
        let sequences = sequences.max(1);
        let points = &self.points;
        let base = match points.iter().position(|(at, _)| *at >= sequences) {
            Some(0) => points[0].1,
            Some(upper) => between(points[upper - 1], points[upper], sequences),
            None if points.len() >= 2 => {
                between(points[points.len() - 2], points[points.len() - 1], sequences)
            }
            // One point says nothing of more sequences: they are taken to share nothing.
            None => {
                let (at, amount) = points[points.len() - 1];
                Amount::default_joules().add(amount, f64::from(sequences) / f64::from(at.max(1)))
            }
        };
        let further = (context_tokens - self.context_tokens) * f64::from(sequences);
        let step = base.add(self.per_context_token, further);
        // A context much shorter than the measured one must not make time run backwards.
        Amount { seconds: step.seconds.max(0.0), joules: step.joules.map(|joules| joules.max(0.0)) }
    }
}

impl Amount {
    fn default_joules() -> Self {
        Self::new(0.0, 0.0)
    }
}

fn between((a, low): (u32, Amount), (b, high): (u32, Amount), at: u32) -> Amount {
    let share = (f64::from(at) - f64::from(a)) / (f64::from(b) - f64::from(a)).max(1.0);
    Amount::default_joules().add(low, 1.0 - share).add(high, share)
}

/// What one source says about a model on a place under a setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// Place of the model in [`Problem::models`].
    pub model: usize,
    /// Place of the place in [`Problem::places`].
    pub place: usize,
    /// Place of the setting in [`Problem::settings`].
    pub setting: usize,
    /// What it rests on.
    pub source: Source,
    /// Its label: measured, estimated or simulated.
    pub provenance: Provenance,
    /// Which measurements, which law, which probe.
    pub basis: String,
    /// Prefill; missing where this source does not show it.
    pub prefill: Option<Prefill>,
    /// Decode; missing where this source does not show it.
    pub decode: Option<Decode>,
}

/// What moving the state of a sequence from one place to another takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// From which place.
    pub from: usize,
    /// To which place.
    pub to: usize,
    /// Seconds whatever its size.
    pub fixed_s: f64,
    /// Bytes that move in a second.
    pub bytes_per_s: f64,
    /// Joules above idle for each byte.
    pub joules_per_byte: f64,
}

/// A piece of work on a place, as the search counts it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Phase {
    /// Seconds.
    pub s: f64,
    /// Joules above the idle power of the place's devices.
    pub j: f64,
    /// Watts above idle while it lasts; infinite where unknown.
    pub w: f64,
}

/// Whole waves: all further tokens of so many sequences at once, by sequences less one.
#[derive(Debug, Clone)]
pub(crate) struct Waves {
    pub of: Vec<Phase>,
    /// Share of the common bus that they keep busy.
    pub bus_share: f64,
}

/// A setting's figures for one phase, and whose they are.
#[derive(Debug, Clone)]
pub(crate) struct Timed<T> {
    pub setting: usize,
    pub offer: usize,
    pub cost: T,
}

/// All costs under one workload, by model and place.
#[derive(Debug, Clone)]
pub(crate) struct Costs {
    places: usize,
    prefill: Vec<Vec<Timed<Phase>>>,
    decode: Vec<Vec<Timed<Waves>>>,
    transfer: BTreeMap<(usize, usize), Transfer>,
    /// Whether all costs bear joules.
    pub energy_known: bool,
}

impl Costs {
    /// The strongest offer for everything.
    pub fn of(problem: &Problem) -> Result<Self, PlanError> {
        let cells = problem.models.len() * problem.places.len();
        let mut costs = Self {
            places: problem.places.len(),
            prefill: vec![Vec::new(); cells],
            decode: vec![Vec::new(); cells],
            transfer: problem
                .transfers
                .iter()
                .map(|transfer| ((transfer.from, transfer.to), *transfer))
                .collect(),
            energy_known: true,
        };
        let mut order: Vec<usize> = (0..problem.offers.len()).collect();
        order.sort_by_key(|&at| (problem.offers[at].source, at));
        for at in order {
            let offer = &problem.offers[at];
            sound(problem, offer)?;
            let cell = offer.model * costs.places + offer.place;
            if let Some(prefill) = &offer.prefill
                && costs.prefill[cell].iter().all(|timed| timed.setting != offer.setting)
            {
                let amount = prefill.fixed.add(prefill.per_token, f64::from(problem.workload.prompt_tokens));
                let cost = costs.phase(problem, offer.place, amount);
                costs.prefill[cell].push(Timed { setting: offer.setting, offer: at, cost });
            }
            if let Some(decode) = &offer.decode
                && costs.decode[cell].iter().all(|timed| timed.setting != offer.setting)
            {
                let cost = costs.waves(problem, offer.place, decode);
                costs.decode[cell].push(Timed { setting: offer.setting, offer: at, cost });
            }
        }
        costs.prefill.iter_mut().for_each(|list| list.sort_by_key(|timed| timed.setting));
        costs.decode.iter_mut().for_each(|list| list.sort_by_key(|timed| timed.setting));
        Ok(costs)
    }

    fn waves(&mut self, problem: &Problem, place: usize, decode: &Decode) -> Waves {
        let most = problem.menu.samples.iter().copied().max().unwrap_or(1);
        let workload = problem.workload;
        // The first token comes out of the prefill.
        let steps = f64::from(workload.output_tokens - 1);
        let context = f64::from(workload.prompt_tokens) + f64::from(workload.output_tokens) / 2.0;
        let wave = |sequences| {
            let wave = Amount::default_joules().add(decode.step(sequences, context), steps);
            self.phase(problem, place, wave)
        };
        Waves { of: (1..=most).map(wave).collect(), bus_share: decode.bus_share }
    }

    fn phase(&mut self, problem: &Problem, place: usize, amount: Amount) -> Phase {
        let parts = || problem.places[place].parts.iter().map(|part| &problem.devices[part.device]);
        let idle_w: f64 = parts().filter_map(|device| device.idle_w).sum();
        let max_w: f64 = parts().map(|device| device.max_w.unwrap_or(f64::INFINITY)).sum();
        let s = amount.seconds;
        match amount.joules {
            Some(gross) => {
                let j = (gross - idle_w * s).max(0.0);
                Phase { s, j, w: if s > 0.0 { j / s } else { 0.0 } }
            }
            None => {
                self.energy_known = false;
                Phase { s, j: 0.0, w: (max_w - idle_w).max(0.0) }
            }
        }
    }

    pub fn prefill(&self, model: usize, place: usize) -> &[Timed<Phase>] {
        &self.prefill[model * self.places + place]
    }

    pub fn decode(&self, model: usize, place: usize) -> &[Timed<Waves>] {
        &self.decode[model * self.places + place]
    }

    /// Seconds and joules of moving so many bytes; missing where the places cannot exchange state.
    pub fn transfer(&self, from: usize, to: usize, bytes: f64) -> Option<(f64, f64)> {
        let transfer = self.transfer.get(&(from, to))?;
        Some((transfer.fixed_s + bytes / transfer.bytes_per_s, bytes * transfer.joules_per_byte))
    }
}

fn sound(problem: &Problem, offer: &Offer) -> Result<(), PlanError> {
    let named = offer.model < problem.models.len()
        && offer.place < problem.places.len()
        && offer.setting < problem.settings.len();
    if !named {
        return Err(PlanError::Invalid("a cost names a model, place or setting that is not listed".into()));
    }
    let prefill = offer.prefill.iter().flat_map(|prefill| [prefill.fixed, prefill.per_token]);
    let decode = offer
        .decode
        .iter()
        .flat_map(|decode| decode.points.iter().map(|(_, amount)| *amount).chain([decode.per_context_token]));
    let points = |decode: &Decode| {
        !decode.points.is_empty()
            && decode.points[0].0 > 0
            && decode.points.windows(2).all(|pair| pair[0].0 < pair[1].0)
            && (0.0..=1.0).contains(&decode.bus_share)
    };
    if prefill.chain(decode).all(Amount::is_sound) && offer.decode.as_ref().is_none_or(points) {
        return Ok(());
    }
    Err(PlanError::Invalid(format!(
        "the {} cost of {} on {} must be finite, not negative, and ascending in sequences",
        offer.basis, problem.models[offer.model].name, problem.places[offer.place].name
    )))
}
