//! The problem of a simulated machine: a device description, as plain data for the planner.
//!
//! Costs are those of the description's own roofline at the workload asked for, as a sweep over the simulated device
//! would measure them; everything is labelled simulated. What no description holds is assumed here and says so: what
//! moving a state takes, and how much the families solve.
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
use qeil_plan::problem::{Coverage, Device, Limits, Memory, Menu, Model, Part, Place, Prices, Workload};
use qeil_sim::cost::{StepCost, decode, prefill};
use qeil_sim::machine::{DeviceSpec, Machine, machine};
use qeil_sim::shape::ModelShape;
use qeil_units::{Labelled, Provenance};

/// Format of a family that names none: what small models are commonly served in without loss.
const FORMAT: &str = "Q8_0";
/// Air of a room.
const AMBIENT_C: f64 = 25.0;
/// Bytes a second to or from a device with a memory of its own: half of what PCI Express 4.0 with eight lanes carries.
const LINK_B_PER_S: f64 = 8e9;
/// Seconds to export and import a state, whatever its size: two messages between processes.
const MOVE_S: f64 = 2e-3;
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

pub fn problem(ask: &Ask<'_>, name: &str) -> Result<(Problem, String)> {
    let described = machine(name)?;
    let shapes: Vec<(ModelShape, String, String)> = ask
        .models
        .iter()
        .map(|word| {
            let (family, format) = word.split_once(':').unwrap_or((word.as_str(), FORMAT));
            Ok((ModelShape::named(family, format)?, family.to_owned(), format.to_owned()))
        })
        .collect::<Result<_>>()?;
    let models = shapes.iter().map(|(shape, family, format)| Model {
        name: family.clone(),
        quantisation: format.clone(),
        weight_bytes: shape.weight_bytes as u64,
        kv_bytes_per_token: shape.kv_bytes_per_token,
        coverage: Some(assumed_coverage(shape.parameters, ask.samples_max)),
    });
    let mut problem = Problem {
        models: models.collect(),
        devices: Vec::new(),
        memories: vec![Memory { name: "shared memory".into(), bytes: shared_bytes(&described) }],
        sink_kelvin_per_w: described.package.resistance_c_per_w.value,
        places: Vec::new(),
        settings: vec!["as described".into()],
        offers: Vec::new(),
        transfers: Vec::new(),
        workload: ask.workload,
        menu: Menu::new(ask.samples_max, ask.verifier),
        limits: limits(ask, &described),
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
        for (model, (shape, _, _)) in shapes.iter().enumerate() {
            problem.offers.push(offer(&described, device, shape, ask, (model, at)));
        }
    }
    problem.transfers = transfers(&described);
    Ok((problem, described.name.clone()))
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

/// Between devices of one memory a state is read and written once; else it goes over a link. Assumed.
fn transfers(machine: &Machine) -> Vec<Transfer> {
    let devices = &machine.devices;
    let pairs = (0..devices.len()).flat_map(|from| (0..devices.len()).map(move |to| (from, to)));
    let of = |(from, to): (usize, usize)| {
        let ends = [&devices[from], &devices[to]];
        let slower =
            ends.map(|device| device.bandwidth_b_per_s.value).into_iter().fold(f64::INFINITY, f64::min);
        let linked = ends.iter().any(|device| device.own_memory);
        let joules = |device: &DeviceSpec| {
            let memory_w = device.memory_power_share.value * (device.max_w.value - device.idle_w.value);
            memory_w / device.bandwidth_b_per_s.value
        };
        Transfer {
            from,
            to,
            fixed_s: MOVE_S,
            bytes_per_s: if linked { LINK_B_PER_S.min(slower / 2.0) } else { slower / 2.0 },
            joules_per_byte: ends.into_iter().map(joules).sum(),
        }
    };
    pairs.filter(|(from, to)| from != to).map(of).collect()
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
