//! What is to be planned, as plain data: models, devices, places, limits, prices, and what may be chosen.
//!
//! A **place** is where an engine runs. Most places are one device; a layer split is a place of several devices, each
//! with its share of the weights. The search knows places only, so a split engine is weighed like any other place, by
//! what it was measured to cost, and nowhere is it written which phase suits which device.
//!
//! Devices of one chip often draw on one memory, so memories are listed apart and each device names the one it uses.
//! What is unknown is `None`: it is never taken for zero, and a limit that cannot be checked for want of a figure counts
//! as broken where keeping it matters (power), or is reported as unchecked (heat, memory).

use crate::cost::{Offer, Transfer};
use qeil_units::Labelled;
use serde::{Deserialize, Serialize};

/// Most rungs of a ladder: each further model must be resident as well, and published cascades gain little from more
/// than three.
pub const LADDER_MAX: usize = 3;
/// Most places that share the samples of one request: an edge machine's CPU, GPU and NPU.
pub const LANES_MAX: usize = 3;
/// Most devices: they are bits of a word.
pub const DEVICES_MAX: usize = 64;
/// Most memories: a machine's own, and those of a few cards.
pub const MEMORIES_MAX: usize = 4;
/// Most samples of one task, as many as a worker takes.
pub const SAMPLES_MAX: u32 = 256;
/// Most models, places and settings together: names of a table, far above what any machine has.
pub const NAMES_MAX: usize = 1024;
/// Share of a memory that is left free: the engine's scratch space and the rest of the system. A tenth is what
/// llama.cpp's own fitting leaves on cards of 8 to 16 GB.
pub const HEADROOM_SHARE: f64 = 0.1;

/// A model that may be used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Quantisation of its weights.
    pub quantisation: String,
    /// Bytes of its weights.
    pub weight_bytes: u64,
    /// Bytes of keys and values for each token of context.
    pub kv_bytes_per_token: f64,
    /// Share of tasks that its samples solve; missing where no run showed it.
    pub coverage: Option<Coverage>,
}

/// Share of tasks solved by at least one of k samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// Of 1, 2, 3, … samples; never falling.
    pub by_samples: Vec<f64>,
    /// Where it comes from.
    pub label: Labelled<()>,
}

impl Coverage {
    /// Of `samples` samples: 0 of none; beyond the table, its last figure (more samples never solve less).
    pub fn at(&self, samples: u32) -> f64 {
        let Some(at) = (samples as usize).checked_sub(1) else { return 0.0 };
        self.by_samples.get(at).or(self.by_samples.last()).copied().unwrap_or(0.0)
    }
}

/// A device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Its name, as `qeil devices` shows it.
    pub name: String,
    /// Place of its memory in [`Problem::memories`].
    pub memory: usize,
    /// Watts when nothing runs.
    pub idle_w: Option<f64>,
    /// Most watts that it can draw.
    pub max_w: Option<f64>,
    /// Degrees Celsius that the guard keeps it under.
    pub guard_c: Option<f64>,
    /// Thermal resistance to the common heat sink, or to the air where there is none, kelvin per watt.
    pub kelvin_per_w: Option<f64>,
    /// US dollars that it cost, where it is counted apart from the machine.
    pub price_usd: Option<f64>,
    /// Whether it may be used.
    pub allowed: bool,
}

/// A memory that devices hold models in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Its name.
    pub name: String,
    /// Bytes that models may take, before headroom; missing where unknown, and then it is not checked.
    pub bytes: Option<u64>,
}

/// A device's part of a place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Place of the device in [`Problem::devices`].
    pub device: usize,
    /// Its share of weights, keys and values, and energy, 0 to 1.
    pub share: f64,
}

/// Where an engine runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Its devices; several for a layer split.
    pub parts: Vec<Part>,
}

/// What each request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of each sample.
    pub output_tokens: u32,
}

/// When a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// When all samples are drawn.
    All,
    /// When one passes a verifier: the others are cancelled.
    UntilPass,
}

/// What may be chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Menu {
    /// Numbers of samples, ascending.
    pub samples: Vec<u32>,
    /// Sequences computed at once; besides them, as many as a place has samples.
    pub batches: Vec<u32>,
    /// Stopping rules. Until a pass needs a verifier.
    pub stops: Vec<Stop>,
    /// Most places that share the samples of a request.
    pub lanes_max: usize,
    /// Most models asked one after the other; more than one needs a verifier.
    pub ladder_max: usize,
}

impl Menu {
    /// All numbers of samples up to `samples_max`, powers of two as batches.
    pub fn new(samples_max: u32, verifier: bool) -> Self {
        let samples_max = samples_max.clamp(1, SAMPLES_MAX);
        Self {
            samples: (1..=samples_max).collect(),
            batches: (0..8).map(|power| 1 << power).filter(|&batch| batch <= samples_max).collect(),
            // What stops at a pass costs at most what draws all.
            stops: vec![if verifier { Stop::UntilPass } else { Stop::All }],
            lanes_max: LANES_MAX,
            ladder_max: if verifier { 2 } else { 1 },
        }
    }
}

/// What a configuration must keep.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Most watts of all devices together, in any phase.
    pub power_w_max: Option<f64>,
    /// Seconds within which a request ends even if no sample passes.
    pub deadline_s: Option<f64>,
    /// Least coverage.
    pub coverage_min: Option<f64>,
    /// Degrees Celsius of the air; missing: heat is not checked.
    pub ambient_c: Option<f64>,
}

/// Years that hardware is used for, where nobody says: an assumption.
pub const LIFE_YEARS: f64 = 4.0;
/// US dollars for a kilowatt-hour, where nobody says: an assumption.
pub const USD_PER_KWH: f64 = 0.2;

/// What things cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Prices {
    /// Years that hardware is used for.
    pub life_years: f64,
    /// US dollars for a kilowatt-hour.
    pub usd_per_kwh: f64,
    /// US dollars of what is needed whichever devices are used: a machine whose devices are not sold singly.
    pub machine_usd: f64,
}

impl Default for Prices {
    fn default() -> Self {
        Self { life_years: LIFE_YEARS, usd_per_kwh: USD_PER_KWH, machine_usd: 0.0 }
    }
}

/// Everything that a plan is made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// The models.
    pub models: Vec<Model>,
    /// The devices of the machine, those not allowed included: they idle all the same.
    pub devices: Vec<Device>,
    /// Their memories.
    pub memories: Vec<Memory>,
    /// Thermal resistance from the common heat sink to the air, kelvin per watt of all devices; 0 where there is none.
    pub sink_kelvin_per_w: f64,
    /// Where engines can run.
    pub places: Vec<Place>,
    /// Names of engine settings (threads, say), which [`Offer::setting`] counts.
    pub settings: Vec<String>,
    /// What things take, from all sources.
    pub offers: Vec<Offer>,
    /// What moving a sequence between two places takes; a pair that is missing cannot exchange state.
    pub transfers: Vec<Transfer>,
    /// The request.
    pub workload: Workload,
    /// What may be chosen.
    pub menu: Menu,
    /// What must be kept.
    pub limits: Limits,
    /// Prices.
    pub prices: Prices,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// The data contradict themselves.
    #[error("{0}")]
    Invalid(String),
    /// No model has a cost on any place.
    #[error(
        "nothing says what {models} would cost on {places}: measure it with `qeil profile --quick MODEL`"
    )]
    NoCost {
        /// The models.
        models: String,
        /// The places.
        places: String,
    },
    /// The goal's figure is not known.
    #[error("the goal is {goal}, but {why}")]
    GoalUnknown {
        /// The goal.
        goal: String,
        /// Why.
        why: String,
    },
    /// Every configuration breaks a limit.
    #[error("no configuration keeps all limits: {why}")]
    Infeasible {
        /// Which limits excluded how many.
        why: String,
    },
}

impl Problem {
    /// Refuse data that contradict themselves.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    pub fn check(&self) -> Result<(), PlanError> {
        let invalid = |what: String| Err(PlanError::Invalid(what));
        for (what, count, most) in [
            ("models", self.models.len(), NAMES_MAX),
            ("devices", self.devices.len(), DEVICES_MAX),
            ("memories", self.memories.len(), MEMORIES_MAX),
            ("places", self.places.len(), NAMES_MAX),
            ("settings", self.settings.len(), NAMES_MAX),
        ] {
            if count == 0 || count > most {
                return invalid(format!("there are {count} {what}; 1 to {most} can be planned with"));
            }
        }
        let menu = &self.menu;
        if menu.samples.is_empty() || menu.samples.iter().any(|k| !(1..=SAMPLES_MAX).contains(k)) {
            return invalid(format!("numbers of samples are 1 to {SAMPLES_MAX}, and at least one is needed"));
        }
        if menu.batches.contains(&0) || menu.stops.is_empty() {
            return invalid("a batch holds at least one sequence, and a stopping rule is needed".into());
        }
        if !(1..=LANES_MAX).contains(&menu.lanes_max) || !(1..=LADDER_MAX).contains(&menu.ladder_max) {
            return invalid(format!(
                "samples are shared by 1 to {LANES_MAX} places, ladders have 1 to {LADDER_MAX} rungs"
            ));
        }
        if self.workload.prompt_tokens == 0 || self.workload.output_tokens == 0 {
            return invalid("a request has at least one prompt token and one output token".into());
        }
        for device in &self.devices {
            if device.memory >= self.memories.len() {
                return invalid(format!("device {} names a memory that is not listed", device.name));
            }
            let figures = [device.idle_w, device.max_w, device.kelvin_per_w, device.price_usd];
            if figures.into_iter().flatten().any(|figure| !(figure.is_finite() && figure >= 0.0)) {
                return invalid(format!(
                    "device {} has a figure that is negative or not finite",
                    device.name
                ));
            }
        }
        for place in &self.places {
            let total: f64 = place.parts.iter().map(|part| part.share).sum();
            let known = place.parts.iter().all(|part| part.device < self.devices.len() && part.share >= 0.0);
            if !known || (total - 1.0).abs() > 1e-6 {
                return invalid(format!(
                    "the shares of place {} must be of listed devices and sum to 1",
                    place.name
                ));
            }
        }
        for model in &self.models {
            if let Some(coverage) = &model.coverage {
                let shares = &coverage.by_samples;
                let rising = shares.windows(2).all(|pair| pair[0] <= pair[1]);
                if shares.is_empty() || !rising || shares.iter().any(|share| !(0.0..=1.0).contains(share)) {
                    return invalid(format!("the coverage of {} must rise within 0 to 1", model.name));
                }
            }
        }
        Ok(())
    }
}
