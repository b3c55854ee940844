//! The problem of a simulated machine: a device description, as plain data for the planner.
//!
//! Costs are those of the description's own roofline at the workload asked for, as a sweep over the simulated device
//! would measure them; everything is labelled simulated. What no description holds, how much the families solve, is
//! assumed here and says so.
//!
//! **Assumed difficulty.** Probabilities that a sample passes are beta distributed over tasks (Levi 2024; Kazdan et al.
//! 2025), with mean m and α + β = 1, the wide spread that fits of repeated sampling find (shapes of 0.1 to 3). The mean
//! grows with parameters N as `m = 1 − exp(−0.35·(N/10⁹)^0.55)`: about a tenth for a model of 124 million parameters, a
//! third for one billion, a half for 2.6 billion, which is the order that published pass rates of such families on
//! elementary code and arithmetic have. It is an assumption, not a measurement.

use anyhow::Result;
use qeil_control::config::GUARD_SHARE;
use qeil_laws::coverage::beta::Difficulty;
use qeil_plan::Problem;
use qeil_plan::cost::{Amount, Decode, Offer, Prefill, Source, Transfer};
use qeil_plan::plan::{LaneChoice, RungChoice};
use qeil_plan::problem::{
    Coverage, Device, Limits, Memory, Menu, Model, Part, Place, Prices, Stop, Workload,
};
use qeil_sim::cost::{Moving, StepCost, decode, moving, prefill};
use qeil_sim::execution::{Lane, Stage};
use qeil_sim::machine::{DeviceSpec, Machine};
use qeil_sim::shape::ModelShape;
use qeil_units::{Labelled, Provenance};

/// Format of a family that names none: what small models are commonly served in without loss.
const FORMAT: &str = "Q8_0";
/// Air of a room.
const AMBIENT_C: f64 = 25.0;
/// Coefficients of the assumed mean pass rate.
const PASS_FACTOR: f64 = 0.35;
const PASS_EXPONENT: f64 = 0.55;

/// What is asked of a simulated machine.
pub struct Ask<'a> {
    /// Families, as FAMILY or FAMILY:FORMAT.
    pub models: &'a [String],
    pub workload: Workload,
    pub samples_max: u32,
    pub verifier: bool,
    pub limits: Limits,
}

/// Family and format of what a user names.
fn named(word: &str) -> (&str, &str) {
    word.split_once(':').unwrap_or((word, FORMAT))
}

/// The shapes of what is asked.
pub fn shapes(ask: &Ask<'_>) -> Result<Vec<ModelShape>> {
    let shape = |word: &String| {
        let (family, format) = named(word);
        Ok(ModelShape::named(family, format)?)
    };
    ask.models.iter().map(shape).collect()
}

pub fn problem(ask: &Ask<'_>, described: &Machine) -> Result<Problem> {
    let shapes = shapes(ask)?;
    let models = ask.models.iter().zip(&shapes).map(|(word, shape)| Model {
        name: named(word).0.to_owned(),
        quantisation: named(word).1.to_owned(),
        weight_bytes: shape.weight_bytes as u64,
        kv_bytes_per_token: shape.kv_bytes_per_token,
        coverage: Some(assumed_coverage(shape.parameters, ask.samples_max)),
    });
    let mut problem = Problem {
        models: models.collect(),
        devices: Vec::new(),
        memories: vec![Memory { name: "shared memory".into(), bytes: shared_bytes(described) }],
        sink_kelvin_per_w: described.package.resistance_c_per_w.value,
        places: Vec::new(),
        settings: vec!["as described".into()],
        offers: Vec::new(),
        transfers: Vec::new(),
        workload: ask.workload,
        menu: Menu::new(ask.samples_max, ask.verifier),
        limits: limits(ask, described),
        prices: Prices { machine_usd: described.price_usd.value, ..Prices::default() },
    };
    for (at, device) in described.devices.iter().enumerate() {
        let memory = if device.own_memory {
            let bytes = Some(device.memory_bytes.value as u64);
            problem.memories.push(Memory { name: format!("memory of {}", device.name), bytes });
            problem.memories.len() - 1
        } else {
            0
        };
        problem.devices.push(Device {
            name: device.name.clone(),
            memory,
            idle_w: Some(device.idle_w.value),
            max_w: Some(device.max_w.value),
            guard_c: Some(device.max_c.value * GUARD_SHARE),
            kelvin_per_w: Some(device.resistance_c_per_w.value),
            // The machine is sold as a whole.
            price_usd: Some(0.0),
            allowed: true,
        });
        problem
            .places
            .push(Place { name: device.name.clone(), parts: vec![Part { device: at, share: 1.0 }] });
        for (model, shape) in shapes.iter().enumerate() {
            problem.offers.push(offer(described, device, shape, ask, (model, at)));
        }
    }
    problem.transfers = transfers(described);
    Ok(problem)
}

fn limits(ask: &Ask<'_>, machine: &Machine) -> Limits {
    let budget = machine.power_max_w.as_ref().map(|figure| figure.value);
    let asked = ask.limits;
    Limits {
        // Beyond the machine's own budget all devices slow down, which no cost here shows.
        power_w_max: [asked.power_w_max, budget].into_iter().flatten().reduce(f64::min),
        ambient_c: Some(asked.ambient_c.unwrap_or(AMBIENT_C)),
        ..asked
    }
}

fn shared_bytes(machine: &Machine) -> Option<u64> {
    let shared = machine.devices.iter().filter(|device| !device.own_memory);
    shared.map(|device| device.memory_bytes.value as u64).max()
}

fn offer(
    machine: &Machine,
    device: &DeviceSpec,
    shape: &ModelShape,
    ask: &Ask<'_>,
    (model, place): (usize, usize),
) -> Offer {
    let gross =
        |cost: StepCost| Amount::new(cost.seconds, cost.dynamic_j() + device.idle_w.value * cost.seconds);
    let context = f64::from(ask.workload.prompt_tokens) + f64::from(ask.workload.output_tokens) / 2.0;
    let sequences = (0..=8).map(|power| 1u32 << power).filter(|n| *n < 2 * ask.samples_max);
    let bus = machine.bus_b_per_s.as_ref().filter(|_| !device.own_memory);
    let alone = decode(device, shape, 1, context);
    Offer {
        model,
        place,
        setting: 0,
        source: Source::Profile,
        provenance: Provenance::Simulated,
        basis: format!("description of {}, {}", machine.name, device.name),
        // At the very prompt and context asked for, so nothing is added by length.
        prefill: Some(Prefill {
            fixed: gross(prefill(device, shape, ask.workload.prompt_tokens)),
            per_token: Amount::new(0.0, 0.0),
        }),
        decode: Some(Decode {
            points: sequences.map(|n| (n, gross(decode(device, shape, n, context)))).collect(),
            context_tokens: context,
            per_context_token: Amount::new(0.0, 0.0),
            bus_share: bus.map_or(0.0, |bus| (alone.bus_b_per_s / bus.value).clamp(0.0, 1.0)),
        }),
    }
}

fn transfers(machine: &Machine) -> Vec<Transfer> {
    let all = machine.devices.len();
    let pairs = (0..all).flat_map(|from| (0..all).map(move |to| (from, to)));
    let of = |(from, to)| {
        let Moving { fixed_s, bytes_per_s, joules_per_byte } = moving(machine, from, to);
        Transfer { from, to, fixed_s, bytes_per_s, joules_per_byte }
    };
    pairs.filter(|(from, to)| from != to).map(of).collect()
}

/// A plan as the simulated machine executes it: places are its devices, in their order.
pub fn stages(rungs: &[RungChoice], shapes: &[ModelShape]) -> Vec<Stage> {
    let lanes = |rung: &RungChoice| {
        let lane = |lane: &LaneChoice| Lane { device: lane.place, samples: lane.samples, batch: lane.batch };
        rung.lanes.iter().map(lane).collect()
    };
    let stage = |rung: &RungChoice| Stage {
        model: shapes[rung.model].clone(),
        origin: rung.origin.map(|(place, _)| place),
        lanes: lanes(rung),
        until_pass: rung.stop == Stop::UntilPass,
    };
    rungs.iter().map(stage).collect()
}

/// See the module's text.
pub fn assumed_difficulty(parameters: f64) -> Difficulty {
    let mean = -(-PASS_FACTOR * (parameters / 1e9).powf(PASS_EXPONENT)).exp_m1();
    Difficulty { alpha: mean, beta: 1.0 - mean, unsolvable: 0.0 }
}

fn assumed_coverage(parameters: f64, samples_max: u32) -> Coverage {
    let difficulty = assumed_difficulty(parameters);
    Coverage {
        by_samples: (1..=samples_max).map(|k| difficulty.coverage(f64::from(k))).collect(),
        label: Labelled::simulated((), "assumed difficulty of tasks"),
    }
}
