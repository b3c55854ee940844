//! `qeil plan`: which model, device, phase split and number of samples serve a goal best.
//!
//! The planner is pure; here it is given what is stored on this machine ([`stored`]) or what a device description gives
//! ([`simulated`]), and what it finds is put into words.

pub mod simulated;
mod stored;

use crate::table::{self, COLUMNS_MAX, MISSING, figure, wrap};
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use qeil_plan::cost::Source;
use qeil_plan::plan::{Excluded, Method, RunnerUp};
use qeil_plan::problem::{Limits, SAMPLES_MAX, Workload};
use qeil_plan::words::describe;
use qeil_plan::{Candidate, Goal, Plan, Problem, plan as search};
use serde::Serialize;
use std::path::PathBuf;

/// Rows of the front that are shown: more is for `--json`.
const ROWS_MAX: usize = 12;

#[derive(Debug, Args)]
pub struct PlanArguments {
    /// Name from `qeil models`, or path of a GGUF file; with --sim, a family of `qeil synth`, as FAMILY or FAMILY:FORMAT
    #[arg(required = true)]
    pub models: Vec<String>,
    /// What to do best
    #[arg(long, short = 'g', value_enum, default_value = "energy")]
    pub goal: GoalName,
    /// Most watts of the whole machine, in any phase
    #[arg(long, value_name = "WATTS", value_parser = crate::arguments::positive)]
    pub max_power_w: Option<f64>,
    /// Seconds within which a request must end even if no sample passes
    #[arg(long, value_name = "SECONDS", value_parser = crate::arguments::positive)]
    pub deadline_s: Option<f64>,
    /// Least share of tasks solved, 0 to 1
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub min_coverage: Option<f64>,
    /// Most samples of a task
    #[arg(long, short = 'k', value_name = "K", default_value_t = 16,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(SAMPLES_MAX)))]
    pub samples_max: u32,
    /// Answers cannot be verified: all samples are drawn, and no model is asked after another
    #[arg(long)]
    pub no_verifier: bool,
    /// Prompt length in tokens
    #[arg(long, short = 'p', value_name = "TOKENS", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub prompt: u32,
    /// Tokens of each sample
    #[arg(long, short = 'n', value_name = "TOKENS", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub output: u32,
    /// Air temperature for the steady state [default: heat is not checked; with --sim, 25]
    #[arg(long, value_name = "CELSIUS", allow_negative_numbers = true, value_parser = ambient)]
    pub ambient_c: Option<f64>,
    /// Device that may be used; may be repeated [default: all]
    #[arg(long = "device", alias = "devices", short = 'd', value_name = "NAME", value_delimiter = ',')]
    pub devices: Vec<String>,
    /// Device that must not be used; may be repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub not_on: Vec<String>,
    /// Plan for a simulated machine instead of this one
    #[arg(long, value_name = "MACHINE")]
    pub sim: Option<String>,
    /// File of measurements [default: in the user's data folder]
    #[arg(long, value_name = "FILE", conflicts_with = "sim")]
    pub store: Option<PathBuf>,
    /// Say which runners-up lost by what, and which limits kept out better ones
    #[arg(long)]
    pub why: bool,
    /// Print one JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GoalName {
    /// Fewest joules
    Energy,
    /// Earliest end
    Latency,
    /// Most tasks solved
    Coverage,
    /// Fewest US dollars
    Cost,
}

impl From<GoalName> for Goal {
    fn from(name: GoalName) -> Self {
        match name {
            GoalName::Energy => Self::Energy,
            GoalName::Latency => Self::Latency,
            GoalName::Coverage => Self::Coverage,
            GoalName::Cost => Self::Cost,
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("it must lie between 0 and 1".into()) }
}

fn ambient(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    if (-40.0..=85.0).contains(&value) { Ok(value) } else { Err("it must lie between -40 and 85".into()) }
}

impl PlanArguments {
    fn workload(&self) -> Workload {
        Workload { prompt_tokens: self.prompt, output_tokens: self.output }
    }

    fn limits(&self) -> Limits {
        Limits {
            power_w_max: self.max_power_w,
            deadline_s: self.deadline_s,
            coverage_min: self.min_coverage,
            ambient_c: self.ambient_c,
        }
    }

    /// Mark the devices that may be used.
    fn allow(&self, problem: &mut Problem) -> Result<()> {
        let named = |list: &[String], name: &str| list.iter().any(|wanted| wanted.eq_ignore_ascii_case(name));
        for wanted in self.devices.iter().chain(&self.not_on) {
            if !problem.devices.iter().any(|device| device.name.eq_ignore_ascii_case(wanted)) {
                let known: Vec<&str> = problem.devices.iter().map(|device| device.name.as_str()).collect();
                bail!("no device is called {wanted:?}; there are: {}", known.join(", "));
            }
        }
        for device in &mut problem.devices {
            device.allowed = (self.devices.is_empty() || named(&self.devices, &device.name))
                && !named(&self.not_on, &device.name);
        }
        Ok(())
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document<'a> {
    qeil_version: &'static str,
    /// Where costs come from.
    about: &'a str,
    /// The data that the numbers in the plan refer to.
    problem: &'a Problem,
    plan: &'a Plan,
    /// The choice in words.
    choice: String,
}

pub async fn plan(arguments: PlanArguments) -> Result<String> {
    let (mut problem, about) = match &arguments.sim {
        Some(machine) => {
            let ask = simulated::Ask {
                models: &arguments.models,
                workload: arguments.workload(),
                samples_max: arguments.samples_max,
                verifier: !arguments.no_verifier,
                limits: arguments.limits(),
            };
            let described = qeil_sim::machine::machine(machine)?;
            (simulated::problem(&ask, &described)?, described.name)
        }
        None => stored::problem(&arguments).await?,
    };
    arguments.allow(&mut problem)?;
    let planned = search(&problem, arguments.goal.into())?;
    if arguments.json {
        let choice = describe(&problem, &planned.choice);
        let document = Document {
            qeil_version: env!("CARGO_PKG_VERSION"),
            about: &about,
            problem: &problem,
            plan: &planned,
            choice,
        };
        return table::json(&document);
    }
    Ok(text(&arguments, &problem, &planned, &about))
}

fn text(arguments: &PlanArguments, problem: &Problem, planned: &Plan, about: &str) -> String {
    let width = usize::from(COLUMNS_MAX) - 1;
    let Workload { prompt_tokens, output_tokens } = problem.workload;
    let head =
        format!("{about}: prompt of {prompt_tokens}, {output_tokens} tokens a sample, goal {}", planned.goal);
    let mut out = format!("{}\n{}\n", wrap(&head, width, ""), front(problem, planned));
    let choice = describe(problem, &planned.choice);
    let rest =
        planned.choice.sources.iter().map(|source| source_name(*source)).collect::<Vec<_>>().join(", ");
    let label = format!("Choice: {choice}. All figures are {}; costs: {rest}.", planned.choice.provenance);
    out += &format!(" {}\n", wrap(&label, width, "   "));
    let how = match &planned.method {
        Method::Enumerated => "the front is exact".to_owned(),
        Method::Searched(narrowed) => format!("the space was narrowed: {}", narrowed.join("; ")),
    };
    let looked = format!(
        "{} configurations looked at, {} on the front; {how}.",
        planned.examined,
        planned.front.len()
    );
    let notes = std::iter::once(looked).chain(planned.notes.iter().cloned());
    let why = arguments.why.then(|| why(problem, planned)).into_iter().flatten();
    for note in notes.chain(why) {
        out += &format!(" {}\n", wrap(&note, width, "   "));
    }
    out
}

fn front(problem: &Problem, planned: &Plan) -> String {
    let headers = ["", "configuration", "energy\nJ", "time\ns", "worst\ns", "coverage\n%", "USD per\n1000"];
    let mut rows = table::table(&headers, 2..7);
    let number =
        |value: Option<f64>, times: f64| value.map_or_else(|| MISSING.into(), |value| figure(times * value));
    for (at, candidate) in shown(&planned.front).into_iter().enumerate() {
        let Candidate { figures, .. } = candidate;
        rows.add_row([
            if at == 0 { "►".into() } else { String::new() },
            describe(problem, candidate),
            number(figures.energy_j, 1.0),
            figure(figures.latency_s),
            figure(figures.latency_s_max),
            number(figures.coverage, 100.0),
            number(figures.usd, 1e3),
        ]);
    }
    let rest = planned.front.len().saturating_sub(ROWS_MAX);
    let more = if rest > 0 {
        format!("\n … and {rest} more between these (--json has all)")
    } else {
        String::new()
    };
    format!("{rows}{more}")
}

/// The first of the front, and an even choice of the rest.
fn shown(front: &[Candidate]) -> Vec<&Candidate> {
    if front.len() <= ROWS_MAX {
        return front.iter().collect();
    }
    (0..ROWS_MAX).map(|at| &front[at * (front.len() - 1) / (ROWS_MAX - 1)]).collect()
}

fn source_name(source: Source) -> &'static str {
    match source {
        Source::Profile => "this model's own profile",
        Source::Law => "laws over other models",
        Source::Roofline => "the device's limits",
    }
}

fn why(problem: &Problem, planned: &Plan) -> Vec<String> {
    let lost = |runner: &RunnerUp| format!("Not {}: {}.", describe(problem, &runner.candidate), runner.why);
    let kept_out = |excluded: &Excluded| {
        let better = excluded.better.as_ref().map_or_else(
            || "none better by the goal that broke it alone".to_owned(),
            |better| {
                format!("without it: {}, {}", describe(problem, better), goal_figure(planned.goal, better))
            },
        );
        format!("Limit \"{}\" kept out {}; {better}.", excluded.limit, excluded.count)
    };
    planned.runners_up.iter().map(lost).chain(planned.excluded.iter().map(kept_out)).collect()
}

fn goal_figure(goal: Goal, candidate: &Candidate) -> String {
    let figures = &candidate.figures;
    let (value, unit) = match goal {
        Goal::Energy => (figures.energy_j, "J"),
        Goal::Latency => (Some(figures.latency_s), "s"),
        Goal::Coverage => (figures.coverage.map(|share| 100.0 * share), "% solved"),
        Goal::Cost => (figures.usd, "USD"),
    };
    value.map_or_else(|| MISSING.into(), |value| format!("{} {unit}", figure(value)))
}
