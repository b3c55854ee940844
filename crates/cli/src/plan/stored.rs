//! The problem of this machine: what is stored about it, as plain data for the planner.
//!
//! Every (device, threads) pair that was profiled or probed is asked for every model, from the model's own rows, from the
//! laws over the other models, and from the device's limits; the planner takes the strongest. Coverage comes from stored
//! coverage runs of one and the same task set: the one that most of the models were asked, the latest of several.
//!
//! What moving a sequence between two devices takes is not stored anywhere yet, so plans here recompute the prompt.

use super::PlanArguments;
use crate::models::file_of;
use crate::profile::store_path;
use anyhow::{Result, bail};
use qeil_control::config::GUARD_SHARE;
use qeil_fit::costs::{PhaseCosts, Taken, by_law, by_roofline, measured};
use qeil_fit::coverage_run::{Observed, report};
use qeil_fit::limits::Roof;
use qeil_fit::series::{Series, SeriesKey, series_of};
use qeil_fit::workload::Workload as Asked;
use qeil_hardware::catalogue::Catalogue;
use qeil_hardware::cpu::Cpu;
use qeil_hardware::memory::Memory as Ram;
use qeil_hardware::{Roots, thermal};
use qeil_measure::profile::{Host, ModelIdentity, Roofline, Subject};
use qeil_measure::store::Store;
use qeil_measure::store::coverage::CoverageRun;
use qeil_plan::Problem;
use qeil_plan::cost::{Amount, Decode, Offer, Prefill, Source};
use qeil_plan::problem::{Coverage, Device, MEMORIES_MAX, Memory, Menu, Model, Part, Place, Prices};
use qeil_units::Labelled;
use std::collections::BTreeSet;

/// What the processor is called by the engine.
const PROCESSOR: &str = "CPU";

pub async fn problem(arguments: &PlanArguments) -> Result<(Problem, String)> {
    let store = Store::open(&store_path(arguments.store.as_deref())?)?;
    let machine = Host::read(&Roots::default(), &[]).label();
    let observations = store.observations()?;
    let series: Vec<Series> =
        series_of(&observations).into_iter().filter(|series| series.key.machine == machine).collect();
    let rooflines: Vec<Roofline> =
        store.rooflines()?.into_iter().filter(|roofline| roofline.machine == machine).collect();
    let mut identities = Vec::new();
    for name in &arguments.models {
        let path = file_of(name).await?;
        let facts = qeil_model::inspect(&path)?;
        identities.push(Subject::of(&path, &facts).await?.identity);
    }
    let swept = series.iter().map(|series| (series.key.device.clone(), series.key.threads));
    let probed = rooflines.iter().map(|roofline| (roofline.device.clone(), roofline.threads));
    let pairs: BTreeSet<(String, u32)> = swept.chain(probed).collect();
    if pairs.is_empty() {
        bail!(
            "nothing has been measured on this machine yet: run `qeil profile --quick {}`, or plan for a simulated machine \
             with --sim",
            arguments.models.join(" ")
        );
    }
    let names: Vec<&String> =
        pairs.iter().map(|(device, _)| device).collect::<BTreeSet<_>>().into_iter().collect();
    let threads: Vec<u32> =
        pairs.iter().map(|(_, threads)| *threads).collect::<BTreeSet<_>>().into_iter().collect();
    let known = Known { series: &series, rooflines: &rooflines, machine: &machine };
    let asked = Asked {
        prompt_tokens: arguments.prompt,
        output_tokens: arguments.output,
        samples: 1,
        depth_tokens: 0,
    };
    let mut offers = Vec::new();
    for (model, identity) in identities.iter().enumerate() {
        for (device, count) in &pairs {
            let place = names.iter().position(|name| *name == device).unwrap_or(0);
            let setting = threads.iter().position(|threads| threads == count).unwrap_or(0);
            for (source, costs) in known.costs(identity, device, *count, asked) {
                offers.push(offer((model, place, setting), source, costs));
            }
        }
    }
    let runs = store.coverage_runs()?;
    let models = identities.iter().zip(coverages(&identities, &runs, arguments.samples_max));
    let problem = Problem {
        models: models.map(|(identity, coverage)| model(identity, coverage)).collect(),
        devices: names.iter().enumerate().map(|(at, name)| known.device(at, name)).collect::<Result<_>>()?,
        memories: memories(&names),
        sink_kelvin_per_w: 0.0,
        places: names
            .iter()
            .enumerate()
            .map(|(device, name)| Place { name: (*name).clone(), parts: vec![Part { device, share: 1.0 }] })
            .collect(),
        settings: threads.iter().map(|threads| format!("{threads} threads")).collect(),
        offers,
        transfers: Vec::new(),
        workload: arguments.workload(),
        menu: Menu::new(arguments.samples_max, !arguments.no_verifier),
        limits: arguments.limits(),
        prices: Prices::default(),
    };
    Ok((problem, machine))
}

/// What is stored about this machine.
struct Known<'a> {
    series: &'a [Series],
    rooflines: &'a [Roofline],
    machine: &'a str,
}

impl Known<'_> {
    fn costs(
        &self,
        model: &ModelIdentity,
        device: &str,
        threads: u32,
        asked: Asked,
    ) -> Vec<(Source, PhaseCosts)> {
        let key = SeriesKey {
            machine: self.machine.into(),
            device: device.into(),
            threads,
            quantisation: model.quantisation.clone(),
        };
        let roof = Roof::of(self.rooflines, &key);
        let own = self.series.iter().find(|series| series.key == key);
        let profile =
            own.and_then(|series| measured(model, series, asked)).map(|costs| (Source::Profile, costs));
        let law = own.and_then(|series| by_law(model, series, asked, roof)).map(|costs| (Source::Law, costs));
        let near = own.or_else(|| self.series.iter().find(|series| series.key.device == device));
        let limits =
            roof.zip(near).map(|(roof, near)| (Source::Roofline, by_roofline(model, near, asked, roof)));
        [profile, law, limits].into_iter().flatten().collect()
    }

    fn device(&self, at: usize, name: &str) -> Result<Device> {
        let rows = || {
            self.series
                .iter()
                .filter(|series| series.key.device == name)
                .flat_map(|series| &series.cells)
                .flat_map(|cell| &cell.rows)
        };
        let mut idle: Vec<f64> = rows()
            .filter_map(|row| {
                let energy = row.energy.as_ref()?;
                Some((energy.gross.value.0 - energy.net.as_ref()?.value.0) / energy.seconds.0)
            })
            .collect();
        idle.sort_by(f64::total_cmp);
        let max_w = rows().filter_map(|row| Some(row.energy.as_ref()?.power.value.0)).reduce(f64::max);
        let roots = Roots::default();
        let processor = name == PROCESSOR;
        let limit = processor.then(|| {
            let sensors = thermal::temperatures(&roots);
            thermal::processor(&sensors).and_then(thermal::Temperature::limit)
        });
        let price = if processor { Catalogue::load()?.price_of_cpu(&Cpu::read(&roots)) } else { None };
        Ok(Device {
            name: name.into(),
            memory: at.min(MEMORIES_MAX - 1),
            idle_w: idle.get(idle.len() / 2).copied().filter(|w| *w >= 0.0),
            max_w,
            guard_c: limit.flatten().map(|limit| limit.0 * GUARD_SHARE),
            // Known once the control loop has watched the device warm up.
            kelvin_per_w: None,
            price_usd: price.map(|price| price.usd.0),
            allowed: true,
        })
    }
}

/// The processor's memory is the machine's; what other devices have is not known here.
fn memories(names: &[&String]) -> Vec<Memory> {
    let of = |name: &&&String| {
        let ram = if *name.as_str() == *PROCESSOR { Ram::read(&Roots::default()).ok() } else { None };
        Memory {
            name: format!("memory of {name}"),
            bytes: ram.map(|ram| ram.available_bytes.unwrap_or(ram.total_bytes)),
        }
    };
    names.iter().take(MEMORIES_MAX).map(|name| of(&name)).collect()
}

fn model(identity: &ModelIdentity, coverage: Option<Coverage>) -> Model {
    Model {
        name: identity.label(),
        quantisation: identity.quantisation.clone(),
        weight_bytes: identity.weight_bytes,
        kv_bytes_per_token: identity.kv_bytes_per_token,
        coverage,
    }
}

fn offer((model, place, setting): (usize, usize, usize), source: Source, costs: PhaseCosts) -> Offer {
    let amount = |taken: Taken| Amount { seconds: taken.seconds, joules: taken.joules };
    let nothing = Amount::new(0.0, 0.0);
    let points: Vec<(u32, Amount)> = costs.steps.iter().map(|(n, taken)| (*n, amount(*taken))).collect();
    let decode =
        Decode { points, context_tokens: costs.context_tokens, per_context_token: nothing, bus_share: 0.0 };
    Offer {
        model,
        place,
        setting,
        source,
        provenance: costs.label.provenance,
        basis: costs.label.source,
        prefill: costs.prefill_per_token.map(|taken| Prefill { fixed: nothing, per_token: amount(taken) }),
        decode: (!decode.points.is_empty()).then_some(decode),
    }
}

/// Coverage of each model, all under one task set.
fn coverages(models: &[ModelIdentity], runs: &[CoverageRun], samples_max: u32) -> Vec<Option<Coverage>> {
    let asked = |set: &str| {
        let of = |model: &&ModelIdentity| {
            runs.iter().any(|run| run.plan.set_sha256 == set && run.model.sha256 == model.sha256)
        };
        models.iter().filter(of).count()
    };
    // The last of equals is the latest.
    let Some(best) = runs.iter().max_by_key(|run| asked(&run.plan.set_sha256)) else {
        return vec![None; models.len()];
    };
    let of = |model: &ModelIdentity| {
        let own = |run: &&CoverageRun| {
            run.plan.set_sha256 == best.plan.set_sha256 && run.model.sha256 == model.sha256
        };
        coverage(runs.iter().rev().filter(|run| !run.samples.is_empty()).find(own)?, samples_max)
    };
    models.iter().map(of).collect()
}

/// The curve of a run: as it was observed, else by its fitted curve at the last number of samples that it is known for.
fn coverage(run: &CoverageRun, samples_max: u32) -> Option<Coverage> {
    let samples = run.plan.samples.min(samples_max);
    let source = format!("coverage run {} over {}", run.number, run.plan.set);
    if let Some(observed) = Observed::of(run) {
        let by_samples: Option<Vec<f64>> = (1..=samples).map(|k| observed.coverage(k)).collect();
        if let Some(by_samples) = by_samples {
            return Some(Coverage { by_samples: rising(by_samples), label: Labelled::measured((), source) });
        }
    }
    let curve = report(run).ok()?.curve;
    let at = |k: u32| curve.iter().rev().find(|point| point.samples <= k).map_or(0.0, |point| point.coverage);
    let by_samples = (1..=samples).map(at).collect();
    Some(Coverage { by_samples: rising(by_samples), label: Labelled::estimated((), source) })
}

/// Unbiased estimates at neighbouring k may fall by rounding.
fn rising(mut shares: Vec<f64>) -> Vec<f64> {
    let mut most = 0f64;
    for share in &mut shares {
        most = most.max(share.clamp(0.0, 1.0));
        *share = most;
    }
    shares
}
