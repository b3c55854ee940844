//! Why a mix gains what it gains: what each device takes alone, and the same comparison on machines that are not so.
//!
//! A reason that nobody tried is an opinion. So each reason for a small gain is taken out of the model, one at a time and
//! then all together, and the comparison is planned again. By expectation, without noise; simulated like all of it.

use super::{alone_on, best_alone, points_at_equal_energy, value};
use crate::table::{self, COLUMNS_MAX, MISSING, figure, wrap};
use anyhow::Result;
use qeil_plan::cost::Amount;
use qeil_plan::problem::Stop;
use qeil_plan::{Goal, PlanError, Problem, plan};
use serde::Serialize;

/// A change of the model, in words, and how it is made.
type Change = (&'static str, fn(&mut Problem));

/// What is taken out.
const CHANGES: [Change; 6] = [
    ("as described", |_| {}),
    ("devices with a bus each", each_its_bus),
    ("no limit on the package's power", |problem| problem.limits.power_w_max = None),
    ("batches as slow as one sample after the other", no_batching),
    ("devices that draw nothing when idle", no_idle),
    ("all four", |problem| {
        each_its_bus(problem);
        problem.limits.power_w_max = None;
        no_batching(problem);
        no_idle(problem);
    }),
];

/// The comparison under a change.
#[derive(Debug, Serialize)]
struct Changed {
    change: &'static str,
    /// Energy of the mix over the best device alone, less 1, in per cent.
    energy_percent: f64,
    /// Latency, the same, both planned for latency.
    latency_percent: f64,
    /// Points of coverage gained within the energy of the best device alone at half the samples.
    points_at_equal_energy: f64,
}

/// What a device takes alone.
#[derive(Debug, Serialize)]
struct Alone {
    device: String,
    /// Joules above idle of a prompt, and of a decode step of all samples.
    prompt_j: f64,
    step_j: f64,
    /// Seconds of the same.
    prompt_s: f64,
    step_s: f64,
    /// Energy of the mix over this device alone, less 1, in per cent; missing where it cannot serve alone.
    energy_percent: Option<f64>,
    /// The same where this device draws every sample, one after the other.
    energy_percent_of_one_by_one: Option<f64>,
    /// Latency of the mix for latency over this device alone, less 1, in per cent.
    latency_percent: Option<f64>,
    /// Points of coverage gained within the energy of this device alone at half the samples.
    points_at_equal_energy: Option<f64>,
}

/// Both, for one family on one machine.
#[derive(Debug, Serialize)]
pub(super) struct Why {
    alone: Vec<Alone>,
    changed: Vec<Changed>,
}

fn each_its_bus(problem: &mut Problem) {
    problem.offers.iter_mut().filter_map(|offer| offer.decode.as_mut()).for_each(|decode| {
        decode.bus_share = 0.0;
    });
}

fn no_batching(problem: &mut Problem) {
    for decode in problem.offers.iter_mut().filter_map(|offer| offer.decode.as_mut()) {
        let Some(&(sequences, one)) = decode.points.first() else { continue };
        for (n, amount) in &mut decode.points {
            let times = f64::from(*n) / f64::from(sequences);
            *amount =
                Amount { seconds: times * one.seconds, joules: one.joules.map(|joules| times * joules) };
        }
    }
}

fn no_idle(problem: &mut Problem) {
    for offer in &mut problem.offers {
        let device = problem.places[offer.place].parts[0].device;
        let idle_w = problem.devices[device].idle_w.unwrap_or(0.0);
        let without = |amount: &mut Amount| {
            amount.joules = amount.joules.map(|joules| (joules - idle_w * amount.seconds).max(0.0));
        };
        if let Some(prefill) = &mut offer.prefill {
            without(&mut prefill.fixed);
        }
        if let Some(decode) = &mut offer.decode {
            decode.points.iter_mut().for_each(|(_, amount)| without(amount));
        }
    }
    problem.devices.iter_mut().for_each(|device| device.idle_w = Some(0.0));
}

impl Why {
    pub(super) fn of(whole: &Problem, samples: u32) -> Result<Self> {
        let changed = CHANGES.iter().map(|(change, make)| {
            let mut problem = whole.clone();
            make(&mut problem);
            let percent = |goal| -> Result<f64> {
                let mix = plan(&problem, goal)?.choice;
                Ok(100.0 * (value(&mix, goal) / value(&best_alone(&problem, goal)?, goal) - 1.0))
            };
            Ok(Changed {
                change,
                energy_percent: percent(Goal::Energy)?,
                latency_percent: percent(Goal::Latency)?,
                points_at_equal_energy: points_at_equal_energy(&problem, samples, |fewer| {
                    best_alone(fewer, Goal::Energy)
                })?,
            })
        });
        let mixes = [Goal::Energy, Goal::Latency].map(|goal| plan(whole, goal).map(|plan| plan.choice));
        let [for_energy, for_latency] = mixes;
        let mixes = [value(&for_energy?, Goal::Energy), value(&for_latency?, Goal::Latency)];
        let alone = (0..whole.devices.len()).map(|device| alone(whole, samples, device, mixes));
        Ok(Self { changed: changed.collect::<Result<_>>()?, alone: alone.collect::<Result<_>>()? })
    }
}

/// `mixes`: joules and seconds of the mix, planned for each.
fn alone(whole: &Problem, samples: u32, device: usize, mixes: [f64; 2]) -> Result<Alone> {
    let mut one_by_one = whole.clone();
    one_by_one.menu.stops = vec![Stop::All];
    no_batching(&mut one_by_one);
    let percent = |problem: &Problem, goal: Goal, mix: f64| match alone_on(problem, goal, device) {
        Ok(found) => Ok(Some(100.0 * (mix / value(&found, goal) - 1.0))),
        Err(PlanError::Infeasible { .. }) => Ok(None),
        Err(error) => Err(error),
    };
    let offer = whole.offers.iter().find(|offer| offer.place == device);
    let above_idle = |amount: Amount| {
        let idle_w = whole.devices[device].idle_w.unwrap_or(0.0);
        amount.joules.map_or(f64::NAN, |joules| joules - idle_w * amount.seconds)
    };
    let prompt = offer.and_then(|offer| offer.prefill).map(|prefill| prefill.fixed).unwrap_or_default();
    let decode = offer.and_then(|offer| offer.decode.as_ref());
    let step = decode.map(|decode| decode.step(samples, decode.context_tokens)).unwrap_or_default();
    Ok(Alone {
        device: whole.devices[device].name.clone(),
        prompt_j: above_idle(prompt),
        step_j: above_idle(step),
        prompt_s: prompt.seconds,
        step_s: step.seconds,
        energy_percent: percent(whole, Goal::Energy, mixes[0])?,
        energy_percent_of_one_by_one: percent(&one_by_one, Goal::Energy, mixes[0])?,
        latency_percent: percent(whole, Goal::Latency, mixes[1])?,
        points_at_equal_energy: points_at_equal_energy(whole, samples, |fewer| {
            Ok(alone_on(fewer, Goal::Energy, device)?)
        })
        .ok(),
    })
}

/// Tables of one machine; nothing where there are none.
pub(super) fn text(families: &[(&str, &Why)]) -> String {
    if families.is_empty() {
        return String::new();
    }
    let number = |value: Option<f64>| value.map_or_else(|| MISSING.into(), |value| format!("{value:+.1}"));
    let headers = [
        "family",
        "device",
        "prompt\nJ",
        "step\nmJ",
        "prompt\nms",
        "step\nms",
        "energy\n%",
        "one by\none, %",
        "latency\n%",
        "points",
    ];
    let mut devices = table::table(&headers, 2..10);
    for (family, why) in families {
        for (at, alone) in why.alone.iter().enumerate() {
            devices.add_row([
                if at == 0 { (*family).to_owned() } else { String::new() },
                alone.device.clone(),
                figure(alone.prompt_j),
                figure(1e3 * alone.step_j),
                figure(1e3 * alone.prompt_s),
                figure(1e3 * alone.step_s),
                number(alone.energy_percent),
                number(alone.energy_percent_of_one_by_one),
                number(alone.latency_percent),
                number(alone.points_at_equal_energy),
            ]);
        }
    }
    let headers = ["if the machine had", "energy %", "latency %", "points at equal energy"];
    let mut changes = table::table(&headers, 1..4);
    for (at, (change, _)) in CHANGES.iter().enumerate() {
        let range = |of: fn(&Changed) -> f64| {
            let values = || families.iter().map(|(_, why)| of(&why.changed[at]));
            let (low, high) =
                (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
            if high - low < 0.05 { format!("{low:+.1}") } else { format!("{low:+.1} to {high:+.1}") }
        };
        changes.add_row([
            (*change).to_owned(),
            range(|changed| changed.energy_percent),
            range(|changed| changed.latency_percent),
            range(|changed| changed.points_at_equal_energy),
        ]);
    }
    let about = "Above: a prompt and a decode step of all samples on each device (joules above idle), and the mix against \
                 that device alone: energy with both planned as well as they can be, energy where the device draws every \
                 sample one by one, latency, and points of coverage for the energy that the device takes for half the \
                 samples. Below: the mix against the best device alone, planned again for machines with one reason less; the \
                 range over the families.";
    format!("\n{devices}\n\n{changes}\n {}\n", wrap(about, usize::from(COLUMNS_MAX) - 1, "   "))
}
