//! `qeil compare simulated`: the same tasks on the best single device and on the mix that the planner chooses, on simulated machines.
//!
//! Both sides get everything the planner has: the best device alone may batch and stop at a pass, too. Else a comparison
//! would credit the mix with what a stopping rule does. What drawing every sample takes on that device is shown beside
//! it, since published baselines draw every sample.
//!
//! Plans are made from the description's costs; they are carried out where every true cost is off by a log-normal 10 %
//! (a fresh machine each seed), over tasks whose difficulty is drawn from the family's assumed law
//! ([`crate::plan::simulated`]). All sides of a seed meet the same machine and the same tasks, so differences are paired.
//! Every figure is simulated.

use crate::plan::simulated::{Ask, assumed_difficulty, problem};
use crate::table::{self, COLUMNS_MAX, figure, wrap};
use anyhow::{Context, Result};
use clap::Args;
use qeil_laws::coverage::simulation::Family;
use qeil_laws::random::Random;
use qeil_measure::stats::Summary;
use qeil_plan::plan::RungChoice;
use qeil_plan::problem::{Limits, Stop, Workload};
use qeil_plan::trial::{Trial, carry_out, perturbed};
use qeil_plan::words::describe;
use qeil_plan::{Candidate, Goal, PlanError, Problem, plan};
use qeil_sim::shape::{ModelShape, STUDIED};
use qeil_units::Provenance;
use serde::Serialize;

/// Deviation of the logarithm of each true cost about its profile.
const COST_SIGMA: f64 = 0.1;
/// Format of the weights.
const FORMAT: &str = "Q8_0";

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
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    pub tasks: u32,
    /// Seeds: machines and tasks
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub seeds: u32,
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
}

pub fn simulated(arguments: &SimulatedArguments) -> Result<String> {
    let studied: Vec<String> = STUDIED.iter().map(|family| (*family).to_owned()).collect();
    let families = if arguments.models.is_empty() { &studied } else { &arguments.models };
    let mut contests = Vec::new();
    for machine in &arguments.sim {
        for family in families {
            contests.push(contest(arguments, machine, family)?);
        }
    }
    if arguments.json { table::json(&contests) } else { Ok(text(arguments, &contests)) }
}

fn contest(arguments: &SimulatedArguments, machine: &str, family: &str) -> Result<Contest> {
    let models = [family.to_owned()];
    let ask = Ask {
        models: &models,
        workload: Workload { prompt_tokens: arguments.prompt, output_tokens: arguments.output },
        samples_max: arguments.samples,
        verifier: true,
        limits: Limits::default(),
    };
    let (mut whole, name) = problem(&ask, machine)?;
    // Both sides must solve what all samples solve: accuracy is no currency here.
    whole.limits.coverage_min = coverage_at(&whole, arguments.samples);
    let price_usd = whole.prices.machine_usd;
    let alone = best_alone(&whole, Goal::Energy)?;
    let mix = plan(&whole, Goal::Energy)?.choice;
    let (alone_fast, mix_fast) = (best_alone(&whole, Goal::Latency)?, plan(&whole, Goal::Latency)?.choice);
    let every: Vec<RungChoice> =
        alone.rungs.iter().map(|rung| RungChoice { stop: Stop::All, ..rung.clone() }).collect();
    let plans: [(&'static str, &[RungChoice]); 5] = [
        ("one device, all samples", &every),
        ("one device, for energy", &alone.rungs),
        ("mix, for energy", &mix.rungs),
        ("one device, for latency", &alone_fast.rungs),
        ("mix, for latency", &mix_fast.rungs),
    ];
    let parameters = ModelShape::named(family, FORMAT)?.parameters;
    let mut runs: Vec<Vec<Mean>> = vec![Vec::new(); plans.len()];
    for seed in 0..u64::from(arguments.seeds) {
        let truth = perturbed(&whole, COST_SIGMA, seed);
        let mut random = Random::new(seed, 2);
        let law = Family::Beta(assumed_difficulty(parameters));
        let tasks: Vec<f64> = (0..arguments.tasks).map(|_| law.draw(&mut random)).collect();
        for ((_, rungs), runs) in plans.iter().zip(&mut runs) {
            let mut samples = Random::new(seed, 3);
            let trials = carry_out(&truth, rungs, tasks.len(), |task, _| samples.uniform() < tasks[task])?;
            runs.push(Mean::of(&trials));
        }
    }
    let configuration = |rungs: &[RungChoice]| {
        let candidate = Candidate { rungs: rungs.to_vec(), ..mix.clone() };
        describe(&whole, &candidate)
    };
    let sides = plans
        .iter()
        .zip(&runs)
        .map(|((name, rungs), runs)| side(name, configuration(rungs), runs, price_usd));
    let percent = |of: usize, over: usize, value: fn(&Mean) -> f64| {
        let pairs = runs[of].iter().zip(&runs[over]);
        Spread::of(&pairs.map(|(a, b)| 100.0 * (value(a) / value(b) - 1.0)).collect::<Vec<f64>>())
    };
    let points: Vec<f64> =
        runs[2].iter().zip(&runs[1]).map(|(mix, alone)| 100.0 * (mix.coverage - alone.coverage)).collect();
    Ok(Contest {
        machine: name,
        family: family.into(),
        provenance: Provenance::Simulated,
        energy_percent: percent(2, 1, |mean| mean.joules)?,
        latency_percent: percent(4, 3, |mean| mean.seconds)?,
        energy_percent_of_all_samples: percent(2, 0, |mean| mean.joules)?,
        coverage_points: Spread::of(&points)?,
        points_at_equal_energy: points_at_equal_energy(&whole, arguments.samples)?,
        sides: sides.collect::<Result<_>>()?,
    })
}

fn coverage_at(problem: &Problem, samples: u32) -> Option<f64> {
    problem.models.first()?.coverage.as_ref().map(|coverage| coverage.at(samples))
}

/// The best plan that uses one device for everything.
fn best_alone(whole: &Problem, goal: Goal) -> Result<Candidate> {
    let mut best: Option<Candidate> = None;
    let mut last = None;
    for device in 0..whole.devices.len() {
        let mut one = whole.clone();
        one.devices.iter_mut().enumerate().for_each(|(at, other)| other.allowed = at == device);
        let found = match plan(&one, goal) {
            Ok(planned) => planned.choice,
            Err(error @ PlanError::Infeasible { .. }) => {
                last = Some(error);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let value = |candidate: &Candidate| match goal {
            Goal::Latency => candidate.figures.latency_s,
            _ => candidate.figures.energy_j.unwrap_or(f64::INFINITY),
        };
        if best.as_ref().is_none_or(|best| value(&found) < value(best)) {
            best = Some(found);
        }
    }
    match (best, last) {
        (Some(best), _) => Ok(best),
        (None, Some(error)) => Err(error.into()),
        (None, None) => anyhow::bail!("the machine has no device"),
    }
}

/// Coverage that the mix reaches within the energy that the best device alone takes for half the samples, less what that
/// solves, in points. By expectation: no noise.
fn points_at_equal_energy(whole: &Problem, samples: u32) -> Result<f64> {
    let half = (samples / 2).max(1);
    let mut alone = whole.clone();
    alone.menu.samples = vec![half];
    alone.limits.coverage_min = None;
    let budget_j = best_alone(&alone, Goal::Energy)?.figures.energy_j.unwrap_or(0.0);
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
#[derive(Debug, Clone, Copy)]
struct Mean {
    joules: f64,
    seconds: f64,
    coverage: f64,
}

impl Mean {
    fn of(trials: &[Trial]) -> Self {
        let mean = |of: fn(&Trial) -> f64| trials.iter().map(of).sum::<f64>() / trials.len() as f64;
        Self {
            joules: mean(|trial| trial.joules),
            seconds: mean(|trial| trial.seconds),
            coverage: mean(|trial| f64::from(u8::from(trial.solved))),
        }
    }

    fn watts(&self) -> f64 {
        self.joules / self.seconds
    }
}

fn side(name: &'static str, configuration: String, runs: &[Mean], price_usd: f64) -> Result<Side> {
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
    for machine in &contests.iter().map(|contest| &contest.machine).collect::<std::collections::BTreeSet<_>>()
    {
        let headers = [
            "family",
            "how",
            "energy\nJ/task",
            "time\ns/task",
            "coverage\n%",
            "IPW\n1/W",
            "ECE\n1/J",
            "PPP\n1/(s·W·USD)",
        ];
        let mut rows = table::table(&headers, 2..8);
        let mut notes = Vec::new();
        for contest in contests.iter().filter(|contest| contest.machine == **machine) {
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
                 {:+.1} points. Against that device drawing all samples: energy {} %. Mix: {}; for latency: {}.",
                contest.family,
                contest.energy_percent.show(),
                contest.latency_percent.show(),
                contest.coverage_points.show(),
                contest.points_at_equal_energy,
                contest.energy_percent_of_all_samples.show(),
                contest.sides[2].configuration,
                contest.sides[4].configuration,
            ));
        }
        out += &format!("{machine}\n{rows}\n");
        for note in notes {
            out += &format!(" {}\n", wrap(&note, width, "   "));
        }
        out.push('\n');
    }
    let about = format!(
        "All figures are simulated: {} tasks of an assumed difficulty, up to {} samples each, {} seeds with true costs off \
         by {:.0} %; mean ± half of its 95 % interval.",
        arguments.tasks,
        arguments.samples,
        arguments.seeds,
        100.0 * COST_SIGMA
    );
    out + &wrap(&about, width, "") + "\n"
}
