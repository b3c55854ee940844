//! `qeil compare simulated`: the same tasks on the best single device and on the mix that the planner chooses, on simulated machines.
//!
//! Both sides get everything the planner has: the best device alone may batch and stop at a pass, too. Else a comparison
//! would credit the mix with what a stopping rule does. What drawing every sample takes on that device is shown beside
//! it, since published baselines draw every sample.
//!
//! Plans are made from the description; they are executed step by step ([`qeil_sim::execution`]) on a machine whose true
//! efficiencies and powers are off by a log-normal 10 % (another one each seed), over tasks whose difficulty is drawn
//! from the family's assumed law ([`crate::plan::simulated`]). All sides of a seed meet the same machine and the same
//! tasks, so differences are paired. What a plan loses against one made by an oracle that knows the true machine is its
//! **regret**. Every figure is simulated.

mod why;

use crate::plan::simulated::{Ask, assumed_difficulty, problem, shapes, stages};
use crate::table::{self, COLUMNS_MAX, figure, wrap};
use anyhow::{Context, Result};
use clap::Args;
use qeil_laws::coverage::simulation::Family;
use qeil_laws::random::Random;
use qeil_measure::stats::Summary;
use qeil_plan::plan::RungChoice;
use qeil_plan::problem::{Limits, Stop, Workload};
use qeil_plan::words::describe;
use qeil_plan::{Candidate, Goal, PlanError, Problem, plan};
use qeil_sim::execution::{Execution, Stage};
use qeil_sim::machine::{Machine, machine};
use qeil_sim::shape::STUDIED;
use qeil_units::Provenance;
use serde::Serialize;
use why::Why;

/// Deviation of the logarithm of each true cost about its description.
const COST_SIGMA: f64 = 0.1;
/// Format of the weights.
const FORMAT: &str = "Q8_0";
/// Air of a room, degrees Celsius.
const AMBIENT_C: f64 = 25.0;
/// Streams of a seed's random draws: the machine, the tasks, the samples.
const STREAMS: [u64; 3] = [1, 2, 3];

#[derive(Debug, Args)]
pub struct SimulatedArguments {
    /// Simulated machine; may be repeated
    #[arg(long, value_name = "MACHINE", default_values_t = ["core-ultra-9-285h".to_owned(), "jetson-orin-nano".to_owned()])]
    pub sim: Vec<String>,
    /// Family of `qeil synth`; may be repeated [default: the five of the studies]
    #[arg(long = "model", short = 'm', value_name = "FAMILY")]
    pub models: Vec<String>,
    /// Samples of a task
    #[arg(long, short = 'k', default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub samples: u32,
    /// Prompt length in tokens
    #[arg(long, short = 'p', default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub prompt: u32,
    /// Tokens of each sample
    #[arg(long, short = 'n', default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub output: u32,
    /// Tasks of each seed
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    pub tasks: u32,
    /// Seeds: machines and tasks
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub seeds: u32,
    /// Show what each device takes alone, and what the mix would gain if the machine were another
    #[arg(long)]
    pub why: bool,
    /// Print one JSON document instead of tables
    #[arg(long)]
    pub json: bool,
}

/// A figure over the seeds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Spread {
    mean: f64,
    interval_95: [f64; 2],
}

impl Spread {
    fn of(values: &[f64]) -> Result<Self> {
        let summary = Summary::of(values).context("a figure is not finite")?;
        let interval_95 = summary.mean_interval_95.context("two seeds at least")?;
        Ok(Self { mean: summary.mean, interval_95 })
    }

    /// Of each seed's per cent by which one value is above another.
    fn percent(of: &[Mean], over: &[Mean], value: fn(&Mean) -> f64) -> Result<Self> {
        let pairs = of.iter().zip(over);
        Self::of(&pairs.map(|(a, b)| 100.0 * (value(a) / value(b) - 1.0)).collect::<Vec<f64>>())
    }

    fn show(&self) -> String {
        format!("{} ± {}", figure(self.mean), figure((self.interval_95[1] - self.interval_95[0]) / 2.0))
    }
}

/// One way to run, over the seeds.
#[derive(Debug, Serialize)]
struct Side {
    /// Which.
    name: &'static str,
    /// In words.
    configuration: String,
    /// Joules of a task, idle devices included.
    energy_j: Spread,
    /// Seconds of a task.
    latency_s: Spread,
    /// Share of tasks solved.
    coverage: Spread,
    /// Coverage by watt.
    ipw: Spread,
    /// Solved tasks by joule.
    ece: Spread,
    /// Solved tasks by second, watt and dollar of the machine.
    ppp: Spread,
}

/// A family on a machine.
#[derive(Debug, Serialize)]
struct Contest {
    machine: String,
    family: String,
    provenance: Provenance,
    sides: Vec<Side>,
    /// Energy of the mix over that of the best device alone, less 1, in per cent.
    energy_percent: Spread,
    /// The same of latency, each side planned for latency.
    latency_percent: Spread,
    /// Points of coverage that the mix gains within the energy of the best device alone at half the samples, as planned.
    points_at_equal_energy: f64,
    /// Difference of coverage, points, mix less device alone.
    coverage_points: Spread,
    /// Energy of the mix over the device alone drawing every sample, less 1, in per cent.
    energy_percent_of_all_samples: Spread,
    /// Energy of the mix's plan over that of an oracle's, less 1, in per cent.
    regret_energy_percent: Spread,
    /// Latency of the mix's plan for latency over that of an oracle's, less 1, in per cent.
    regret_latency_percent: Spread,
    /// Most degrees by which any plan took a device over its guard temperature; negative where all kept it.
    over_guard_c: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<Why>,
}

pub fn simulated(arguments: &SimulatedArguments) -> Result<String> {
    let studied: Vec<String> = STUDIED.iter().map(|family| (*family).to_owned()).collect();
    let families = if arguments.models.is_empty() { &studied } else { &arguments.models };
    let mut contests = Vec::new();
    for name in &arguments.sim {
        let described = machine(name)?;
        for family in families {
            if !arguments.json {
                eprintln!("{}: {family}, {} machines off by chance", described.name, arguments.seeds);
            }
            contests.push(contest(arguments, &described, family)?);
        }
    }
    if arguments.json { table::json(&contests) } else { Ok(text(arguments, &contests)) }
}

/// Plans to be executed, and what they came to, seed by seed.
struct Plans {
    name: &'static str,
    rungs: Vec<RungChoice>,
    means: Vec<Mean>,
}

fn contest(arguments: &SimulatedArguments, described: &Machine, family: &str) -> Result<Contest> {
    let models = [format!("{family}:{FORMAT}")];
    let ask = Ask {
        models: &models,
        workload: Workload { prompt_tokens: arguments.prompt, output_tokens: arguments.output },
        samples_max: arguments.samples,
        verifier: true,
        limits: Limits { ambient_c: Some(AMBIENT_C), ..Limits::default() },
    };
    // All sides must solve what all samples solve: accuracy is no currency here.
    let full = |machine: &Machine| -> Result<Problem> {
        let mut problem = problem(&ask, machine)?;
        problem.limits.coverage_min = coverage_at(&problem, arguments.samples);
        Ok(problem)
    };
    let whole = full(described)?;
    let shapes = shapes(&ask)?;
    let alone = best_alone(&whole, Goal::Energy)?;
    let mix = plan(&whole, Goal::Energy)?.choice;
    let every = alone.rungs.iter().map(|rung| RungChoice { stop: Stop::All, ..rung.clone() }).collect();
    let plans = |name, rungs: Vec<RungChoice>| Plans { name, rungs, means: Vec::new() };
    let mut sides = [
        plans("one device, all samples", every),
        plans("one device, for energy", alone.rungs.clone()),
        plans("mix, for energy", mix.rungs.clone()),
        plans("one device, for latency", best_alone(&whole, Goal::Latency)?.rungs),
        plans("mix, for latency", plan(&whole, Goal::Latency)?.choice.rungs),
    ];
    let mut oracles: [Vec<Mean>; 2] = Default::default();
    let mut over_guard_c = f64::NEG_INFINITY;
    for seed in 0..u64::from(arguments.seeds) {
        let truth = described.perturbed(COST_SIGMA, &mut Random::new(seed, STREAMS[0]));
        let mut random = Random::new(seed, STREAMS[1]);
        let law = Family::Beta(assumed_difficulty(shapes[0].parameters));
        let tasks: Vec<f64> = (0..arguments.tasks).map(|_| law.draw(&mut random)).collect();
        let mut run = |rungs: &[RungChoice]| {
            let (mean, over_c) = execute(&truth, ask.workload, &stages(rungs, &shapes), &tasks, seed);
            over_guard_c = over_guard_c.max(over_c);
            mean
        };
        for side in &mut sides {
            side.means.push(run(&side.rungs));
        }
        let known = full(&truth)?;
        for (goal, means) in [Goal::Energy, Goal::Latency].into_iter().zip(&mut oracles) {
            means.push(run(&plan(&known, goal)?.choice.rungs));
        }
    }
    let [every, alone, mix_runs, alone_fast, mix_fast] = sides.each_ref().map(|side| side.means.as_slice());
    let points: Vec<f64> =
        mix_runs.iter().zip(alone).map(|(mix, alone)| 100.0 * (mix.coverage - alone.coverage)).collect();
    let joules: fn(&Mean) -> f64 = |mean| mean.joules;
    let seconds: fn(&Mean) -> f64 = |mean| mean.seconds;
    let words = |rungs: &[RungChoice]| describe(&whole, &Candidate { rungs: rungs.to_vec(), ..mix.clone() });
    let price_usd = whole.prices.machine_usd;
    Ok(Contest {
        machine: described.name.clone(),
        family: family.into(),
        provenance: Provenance::Simulated,
        energy_percent: Spread::percent(mix_runs, alone, joules)?,
        latency_percent: Spread::percent(mix_fast, alone_fast, seconds)?,
        energy_percent_of_all_samples: Spread::percent(mix_runs, every, joules)?,
        coverage_points: Spread::of(&points)?,
        points_at_equal_energy: points_at_equal_energy(&whole, arguments.samples, |fewer| {
            best_alone(fewer, Goal::Energy)
        })?,
        regret_energy_percent: Spread::percent(mix_runs, &oracles[0], joules)?,
        regret_latency_percent: Spread::percent(mix_fast, &oracles[1], seconds)?,
        over_guard_c,
        why: if arguments.why { Some(Why::of(&whole, arguments.samples)?) } else { None },
        sides: sides
            .iter()
            .map(|side| side_of(side.name, words(&side.rungs), &side.means, price_usd))
            .collect::<Result<_>>()?,
    })
}

/// Tasks one after the other on a machine: their means, and the most that a device was over its guard temperature.
fn execute(truth: &Machine, workload: Workload, stages: &[Stage], tasks: &[f64], seed: u64) -> (Mean, f64) {
    let mut execution = Execution::new(truth, AMBIENT_C, workload.prompt_tokens, workload.output_tokens);
    let mut samples = Random::new(seed, STREAMS[2]);
    let mut mean = Mean::default();
    for pass in tasks {
        let done = execution.task(stages, |_| samples.uniform() < *pass);
        mean.joules += done.joules / tasks.len() as f64;
        mean.seconds += done.seconds / tasks.len() as f64;
        mean.coverage += f64::from(u8::from(done.solved)) / tasks.len() as f64;
    }
    (mean, execution.over_guard_c())
}

fn coverage_at(problem: &Problem, samples: u32) -> Option<f64> {
    problem.models.first()?.coverage.as_ref().map(|coverage| coverage.at(samples))
}

/// The goal's figure, where less is better.
fn value(candidate: &Candidate, goal: Goal) -> f64 {
    match goal {
        Goal::Latency => candidate.figures.latency_s,
        _ => candidate.figures.energy_j.unwrap_or(f64::INFINITY),
    }
}

/// The best plan that uses this device for everything.
fn alone_on(whole: &Problem, goal: Goal, device: usize) -> Result<Candidate, PlanError> {
    let mut one = whole.clone();
    one.devices.iter_mut().enumerate().for_each(|(at, other)| other.allowed = at == device);
    Ok(plan(&one, goal)?.choice)
}

/// The best plan that uses one device for everything.
fn best_alone(whole: &Problem, goal: Goal) -> Result<Candidate> {
    let mut best: Option<Candidate> = None;
    let mut last = None;
    for device in 0..whole.devices.len() {
        match alone_on(whole, goal, device) {
            Ok(found) if best.as_ref().is_none_or(|best| value(&found, goal) < value(best, goal)) => {
                best = Some(found);
            }
            Ok(_) => {}
            Err(error @ PlanError::Infeasible { .. }) => last = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    match (best, last) {
        (Some(best), _) => Ok(best),
        (None, Some(error)) => Err(error.into()),
        (None, None) => anyhow::bail!("the machine has no device"),
    }
}

/// Coverage that the mix reaches within the energy that `alone` takes for half the samples, less what those solve, in
/// points. By expectation: no noise.
fn points_at_equal_energy(
    whole: &Problem,
    samples: u32,
    alone: impl Fn(&Problem) -> Result<Candidate>,
) -> Result<f64> {
    let half = (samples / 2).max(1);
    let mut fewer = whole.clone();
    fewer.menu.samples = vec![half];
    fewer.limits.coverage_min = None;
    let budget_j = alone(&fewer)?.figures.energy_j.unwrap_or(0.0);
    let mut mix = whole.clone();
    mix.limits.coverage_min = None;
    let within = plan(&mix, Goal::Coverage)?.front.into_iter().filter(|candidate| {
        // The device alone is part of the mix's space, so one always is.
        candidate.figures.energy_j.is_some_and(|joules| joules <= budget_j * (1.0 + 1e-9))
    });
    let best = within.filter_map(|candidate| candidate.figures.coverage).fold(0.0, f64::max);
    Ok(100.0 * (best - coverage_at(whole, half).unwrap_or(0.0)))
}

/// Means over the tasks of a seed.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    joules: f64,
    seconds: f64,
    coverage: f64,
}

impl Mean {
    fn watts(&self) -> f64 {
        self.joules / self.seconds
    }
}

fn side_of(name: &'static str, configuration: String, runs: &[Mean], price_usd: f64) -> Result<Side> {
    let spread = |of: &dyn Fn(&Mean) -> f64| Spread::of(&runs.iter().map(of).collect::<Vec<f64>>());
    Ok(Side {
        name,
        configuration,
        energy_j: spread(&|mean| mean.joules)?,
        latency_s: spread(&|mean| mean.seconds)?,
        coverage: spread(&|mean| mean.coverage)?,
        ipw: spread(&|mean| mean.coverage / mean.watts())?,
        ece: spread(&|mean| mean.coverage / mean.joules)?,
        ppp: spread(&|mean| mean.coverage / mean.seconds / (mean.watts() * price_usd))?,
    })
}

fn text(arguments: &SimulatedArguments, contests: &[Contest]) -> String {
    let width = usize::from(COLUMNS_MAX) - 1;
    let mut out = String::new();
    for of_machine in contests.chunk_by(|a, b| a.machine == b.machine) {
        let headers = [
            "family",
            "how",
            "energy\nJ/task",
            "time\ns/task",
            "coverage\n%",
            "IPW\n1/W",
            "ECE\n1/J",
            "PPP, per\ns·W·USD",
        ];
        let mut rows = table::table(&headers, 2..8);
        let mut notes = Vec::new();
        for contest in of_machine {
            for (at, side) in contest.sides.iter().enumerate() {
                let percent = Spread {
                    mean: 100.0 * side.coverage.mean,
                    interval_95: side.coverage.interval_95.map(|share| 100.0 * share),
                };
                rows.add_row([
                    if at == 0 { contest.family.clone() } else { String::new() },
                    side.name.into(),
                    side.energy_j.show(),
                    side.latency_s.show(),
                    percent.show(),
                    side.ipw.show(),
                    side.ece.show(),
                    format!("{:.2e}", side.ppp.mean),
                ]);
            }
            notes.push(format!(
                "{}: mix against the best device alone: energy {} %, latency {} %, coverage {} points; at equal energy \
                 {:+.1} points. Against that device drawing all samples: energy {} %. Regret: energy {} %, latency {} %. \
                 Hottest: {:+.1} °C over a guard temperature. Mix: {}; for latency: {}.",
                contest.family,
                contest.energy_percent.show(),
                contest.latency_percent.show(),
                contest.coverage_points.show(),
                contest.points_at_equal_energy,
                contest.energy_percent_of_all_samples.show(),
                contest.regret_energy_percent.show(),
                contest.regret_latency_percent.show(),
                contest.over_guard_c,
                contest.sides[2].configuration,
                contest.sides[4].configuration,
            ));
        }
        out += &format!("{}\n{rows}\n", of_machine[0].machine);
        for note in notes {
            out += &format!(" {}\n", wrap(&note, width, "   "));
        }
        let whys: Vec<(&str, &Why)> = of_machine
            .iter()
            .filter_map(|contest| Some((contest.family.as_str(), contest.why.as_ref()?)))
            .collect();
        out += &why::text(&whys);
        out.push('\n');
    }
    let about = format!(
        "All figures are simulated: {} tasks of an assumed difficulty, up to {} samples each, executed step by step on {} \
         machines whose true costs are off by {:.0} %; mean ± half of its 95 % interval. Regret: against plans by one who \
         knows the true costs.",
        arguments.tasks,
        arguments.samples,
        arguments.seeds,
        100.0 * COST_SIGMA
    );
    out + &wrap(&about, width, "") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use qeil_plan::plan::{LaneChoice, figures_of};

    /// Samples shared out over two devices, each with its own prompt or both with that of the first.
    fn shared(origin: Option<usize>, stop: Stop) -> Vec<RungChoice> {
        let lane = |place: usize| LaneChoice {
            place,
            prefill_setting: origin.is_none().then_some(0),
            decode_setting: 0,
            samples: 2,
            batch: 2,
        };
        let origin = origin.map(|place| (place, 0));
        vec![RungChoice { model: 0, origin, lanes: vec![lane(0), lane(1)], stop }]
    }

    /// What the planner reckons in expectations is what comes of executing it step by step, where the machine is as
    /// described: for what it plans on one device, and for samples shared out over several.
    #[test]
    fn an_executed_plan_takes_what_was_planned() {
        for (name, family) in [("core-ultra-9-285h", "GPT-2-124M"), ("jetson-orin-nano", "Qwen2-0.5B")] {
            let described = machine(name).unwrap();
            let models = [format!("{family}:{FORMAT}")];
            let ask = Ask {
                models: &models,
                workload: Workload { prompt_tokens: 128, output_tokens: 32 },
                samples_max: 4,
                verifier: true,
                limits: Limits { ambient_c: Some(AMBIENT_C), ..Limits::default() },
            };
            let whole = problem(&ask, &described).unwrap();
            let shapes = shapes(&ask).unwrap();
            let mut random = Random::new(7, STREAMS[1]);
            let law = Family::Beta(assumed_difficulty(shapes[0].parameters));
            let tasks: Vec<f64> = (0..3000).map(|_| law.draw(&mut random)).collect();
            let planned = plan(&whole, Goal::Latency).unwrap();
            let front = planned.front.iter().step_by(planned.front.len().div_ceil(8));
            let plans = front.map(|candidate| candidate.rungs.clone()).chain([
                shared(None, Stop::UntilPass),
                shared(None, Stop::All),
                shared(Some(1), Stop::UntilPass),
            ]);
            for rungs in plans {
                let (mean, over_c) = execute(&described, ask.workload, &stages(&rungs, &shapes), &tasks, 7);
                let figures = figures_of(&whole, &rungs).unwrap();
                // Three thousand tasks. Devices that share a bus are planned to do so until the last one ends, so such a
                // plan may turn out quicker than planned, and never slower.
                let least = if rungs[0].lanes.len() > 1 { -0.2 } else { -0.07 };
                for (what, got, expected) in [
                    ("seconds", mean.seconds, figures.latency_s),
                    ("joules", mean.joules, figures.energy_j.unwrap()),
                    ("coverage", mean.coverage, figures.coverage.unwrap()),
                ] {
                    let off = got / expected - 1.0;
                    assert!(
                        (least..0.07).contains(&off),
                        "{name}, {rungs:?}: {what} {got}, planned {expected}"
                    );
                }
                assert!(over_c < 2.0, "a plan that keeps its limits is {over_c} °C over a guard temperature");
            }
        }
    }
}
