//! `qeil compare`: the same tasks on each device alone and on the orchestrated mix, side by side; `compare simulated` does
//! it for machines that are not here.
//!
//! Where there is a single processor and nothing else, two engines on its two halves stand in for two devices, against
//! one engine on all of it; the table names them so. Joules are what the machine's meter says, estimates on most.

mod simulated;

use crate::metrics::{YEAR_S, known_price};
use crate::models::file_of;
use crate::run::envelope;
use crate::table::{self, COLUMNS_MAX, MISSING, figure, wrap};
use anyhow::{Context, Result, bail};
use clap::Args;
use qeil_control::config::{Config, DeviceConfig, Goal, Limits, ThermalLimits};
use qeil_engine::handle::{Launch, Worker, probe_devices};
use qeil_engine::request::{Prompt, Sampling};
use qeil_engine::spec::{DeviceEntry, DeviceKind, LoadSpec};
use qeil_hardware::Roots;
use qeil_hardware::catalogue::Catalogue;
use qeil_hardware::cpu::Cpu;
use qeil_hardware::energy::Envelope;
use qeil_hardware::thermal;
use qeil_laws::contrast::{Contrast, Figure, TaskRun, contrast, coverage};
use qeil_laws::metrics::{Metric, Metrics, Price, Repetition, Run};
use qeil_measure::question::render_conversation;
use qeil_measure::survey::select;
use qeil_model::template::{Message, Role};
use qeil_orchestrate::Ask;
use qeil_orchestrate::compare::{Answered, Engine, LineUp, Outcomes, Question, divergences, run};
use qeil_orchestrate::{profile, sense};
use qeil_plan::problem::{LIFE_YEARS, USD_PER_KWH};
use qeil_tasks::{Judge, TaskSet};
use qeil_units::{Seconds, Usd};
use serde::Serialize;
use std::sync::Arc;

/// Tokens of each sequence: prompt and answer of an embedded task.
const SEQUENCE_TOKENS: u32 = 1024;
/// Sequences of each engine.
const SEQUENCES: u32 = 8;
/// Name of all devices together.
const MIX: &str = "mix";
/// Name of the two models together.
const LADDER: &str = "ladder";

/// What else can be compared.
#[derive(Debug, clap::Subcommand)]
pub enum CompareCommand {
    /// The best single device and the planner's mix, on simulated machines
    Simulated(simulated::SimulatedArguments),
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct CompareArguments {
    #[command(subcommand)]
    of: Option<CompareCommand>,
    /// Name from `qeil models`, or path of a GGUF file; pulled if it is missing
    #[arg(default_value = qeil_model::catalogue::DEFAULT_MODEL)]
    model: String,
    /// A larger model, which is asked what the first leaves unsolved; shown beside both models alone
    #[arg(long, value_name = "MODEL")]
    then: Option<String>,
    /// Tasks of the embedded set, evenly chosen
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    tasks: u32,
    /// Samples of each task
    #[arg(long, short = 'k', default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=8))]
    samples: u32,
    /// Most tokens per sample
    #[arg(long, short = 'n', default_value_t = 96, value_parser = clap::value_parser!(u32).range(1..=512))]
    max_tokens: u32,
    /// Tasks asked at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    at_once: u32,
    /// Device to use, as `qeil devices` lists it; may be repeated [default: all]
    #[arg(long = "device", short = 'd', value_name = "NAME")]
    devices: Vec<String>,
    /// Seed of the samples
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// What placement prefers in the mix
    #[arg(long, value_enum, default_value_t = GoalName::Latency)]
    goal: GoalName,
    /// Power the CPU package draws idle and busy, in watts, for the estimate of energy
    #[arg(long, value_name = "IDLE:MAX", value_parser = crate::arguments::watts)]
    cpu_watts: Option<(f64, f64)>,
    /// What the machine costs, in US dollars [default: the catalogue's price of this processor]
    #[arg(long, value_name = "USD", value_parser = crate::arguments::positive)]
    price_usd: Option<f64>,
    /// Print one JSON document instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum GoalName {
    Energy,
    Latency,
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    then: Option<String>,
    tasks: usize,
    samples: u32,
    stand_ins: bool,
    line_ups: Vec<Line>,
    /// The mix against each other line-up, and the ladder against both of its models.
    contrasts: Vec<Pair>,
    /// KL(first device ‖ each other) in nats.
    divergences: Vec<(String, f64)>,
    /// What the machine costs, and where that is from.
    price: Option<(Usd, String)>,
}

/// One line-up against another, task by task.
#[derive(Debug, Serialize)]
struct Pair {
    of: String,
    against: String,
    #[serde(flatten)]
    contrast: Contrast,
}

/// A line-up, what it came to and what that is worth.
#[derive(Debug, Serialize)]
struct Line {
    #[serde(flatten)]
    outcomes: Outcomes,
    metrics: Metrics,
}

/// The judged tasks of a line-up.
fn task_runs(outcomes: &Outcomes) -> Vec<TaskRun> {
    let run = |answer: &Answered| {
        let (passed, samples) = answer.passed?;
        let joules = answer.energy.as_ref().map(|energy| energy.value.0);
        Some(TaskRun { samples, passed, seconds: answer.wall_s, joules })
    };
    outcomes.answers.iter().filter_map(run).collect()
}

fn line(outcomes: Outcomes, samples: u32, price: Option<Usd>, seed: u64) -> Result<Line> {
    let judged = task_runs(&outcomes);
    let run = Run {
        tasks: judged.len() as u32,
        repetitions: vec![Repetition { wall: Seconds(outcomes.wall_s), energy: outcomes.energy() }],
        coverage: coverage(&judged, samples, seed),
        price: price.map(|device| Price {
            device,
            life: Seconds(LIFE_YEARS * YEAR_S),
            electricity_per_kwh: Usd(USD_PER_KWH),
        }),
    };
    let metrics = Metrics::new(&run, None, seed).with_context(|| format!("judging {}", outcomes.name))?;
    Ok(Line { outcomes, metrics })
}

pub async fn compare(arguments: CompareArguments) -> Result<String> {
    if let Some(CompareCommand::Simulated(arguments)) = &arguments.of {
        return simulated::simulated(arguments);
    }
    let launch = Launch::this_program()?;
    let devices = select(probe_devices(&launch).await?, &arguments.devices)?;
    let model = file_of(&arguments.model).await?;
    let asked = questions(&arguments, &qeil_model::inspect(&model)?)?;
    let next = match &arguments.then {
        Some(name) => {
            let model = file_of(name).await?;
            let asked = questions(&arguments, &qeil_model::inspect(&model)?)?;
            Some((name, model, asked))
        }
        None => None,
    };
    let roots = Roots::default();
    let cpu = Cpu::read(&roots);
    let stage = Stage {
        launch: &launch,
        roots: &roots,
        devices: &devices,
        envelope: envelope(arguments.cpu_watts, &cpu)?,
        limits: limits(&roots),
        catalogue: Catalogue::load()?,
        config: Config {
            devices: Vec::new(),
            limits: Limits::default(),
            power_cap_w: None,
            goal: if arguments.goal == GoalName::Energy { Goal::Energy } else { Goal::Latency },
            guarded: true,
            seed: arguments.seed,
        },
        at_once: arguments.at_once as usize,
    };

    let usable = &cpu.usable_cpus;
    let stand_ins = devices.len() == 1 && devices[0].kind == DeviceKind::Cpu;
    let mut parts: Vec<(String, LoadSpec)> =
        devices.iter().map(|d| (d.name.clone(), spec(&model, &d.name, usable))).collect();
    let mut line_ups: Vec<LineUp> = Vec::new();
    if stand_ins {
        if usable.len() < 2 {
            bail!("there is one processor with one CPU: nothing to compare; try `qeil run`");
        }
        let whole = stage.engine("CPU, one engine", &parts[0].1).await?;
        line_ups.push(LineUp { name: "whole CPU, one engine".into(), engines: vec![whole] });
        let (first, second) = usable.split_at(usable.len() / 2);
        let half = |cpus: &[u32]| (format!("CPU {cpus:?}"), spec(&model, "CPU", cpus));
        parts = vec![half(first), half(second)];
    }
    let mut engines = Vec::new();
    for (name, spec) in &parts {
        engines.push(stage.engine(name, spec).await?);
    }
    line_ups.extend(engines.iter().map(|engine| LineUp {
        name: format!("{} alone", engine.named.name),
        engines: vec![engine.clone()],
    }));
    if engines.len() > 1 {
        line_ups.push(LineUp { name: MIX.into(), engines: engines.clone() });
    }
    let mut results = Vec::new();
    for line_up in &line_ups {
        results.push(stage.ask(line_up, &asked).await?);
    }
    // All devices together are the last line-up.
    let together = results.len() - 1;
    let mut pairs: Vec<[usize; 2]> = (0..together).map(|other| [together, other]).collect();
    if let Some((name, model, asked)) = &next {
        let mut larger = LineUp { name: format!("{name}, {}", results[together].name), engines: Vec::new() };
        for engine in &line_ups[together].engines {
            let spec = LoadSpec { model: model.clone(), ..engine.spec.clone() };
            larger.engines.push(stage.engine(&engine.named.name, &spec).await?);
        }
        let all = stage.ask(&larger, asked).await?;
        let unsolved: Vec<Question> =
            results[together].unsolved().into_iter().map(|at| asked[at].clone()).collect();
        let mut ladder = results[together].clone();
        if !unsolved.is_empty() {
            larger.name = format!("{name}, what was left");
            ladder = ladder.then(stage.ask(&larger, &unsolved).await?);
        }
        ladder.name = LADDER.into();
        pairs.extend([[together + 2, together], [together + 2, together + 1]]);
        results.extend([all, ladder]);
    }
    let specs: Vec<LoadSpec> = engines.iter().map(|engine| engine.spec.clone()).collect();
    let price = known_price(arguments.price_usd)?;
    let usd = price.as_ref().map(|(usd, _)| *usd);
    let pair = |[of, against]: [usize; 2]| {
        let (of, against) = (&results[of], &results[against]);
        let contrast = contrast(&task_runs(of), &task_runs(against), arguments.seed)?;
        Some(Pair { of: of.name.clone(), against: against.name.clone(), contrast })
    };
    let names = engines.iter().skip(1).map(|engine| engine.named.name.clone());
    let report = Report {
        contrasts: pairs.into_iter().filter_map(pair).collect(),
        model: arguments.model,
        then: arguments.then,
        tasks: asked.len(),
        samples: arguments.samples,
        stand_ins,
        divergences: names.zip(divergences(&launch, &specs).await?).collect(),
        line_ups: results
            .into_iter()
            .map(|outcomes| line(outcomes, arguments.samples, usd, arguments.seed))
            .collect::<Result<_>>()?,
        price,
    };
    if arguments.json { table::json(&report) } else { Ok(text(&report)) }
}

fn spec(model: &std::path::Path, device: &str, cpus: &[u32]) -> LoadSpec {
    let mut spec = LoadSpec::new(model, device);
    if spec.is_cpu() {
        (spec.threads, spec.cpus) = (cpus.len().max(1) as u32, cpus.to_vec());
    }
    (spec.sequences, spec.context_tokens) = (SEQUENCES, SEQUENCES * SEQUENCE_TOKENS);
    spec
}

/// The machine, and what is the same for every line-up.
struct Stage<'a> {
    launch: &'a Launch,
    roots: &'a Roots,
    devices: &'a [DeviceEntry],
    envelope: Envelope,
    limits: Option<ThermalLimits>,
    catalogue: Catalogue,
    config: Config,
    at_once: usize,
}

impl Stage<'_> {
    /// An engine with its costs by a short trial.
    async fn engine(&self, name: &str, spec: &LoadSpec) -> Result<Engine> {
        let worker = Worker::start(self.launch, spec.clone()).await?;
        // A share of the package's power for its share of the CPUs; for another device the processor's is a guess, and
        // the profile is labelled an estimate.
        let share = f64::from(spec.threads)
            / f64::from(std::thread::available_parallelism().map_or(1, |n| n.get() as u32));
        let (idle_w, max_w) = (self.envelope.idle(), self.envelope.max());
        let measured =
            profile::measure(&worker, idle_w.0 + (max_w.0 - idle_w.0) * share.min(1.0), idle_w.0).await;
        worker.stop().await;
        let profile = measured.with_context(|| format!("timing {name}"))?;
        let kind = self.devices.iter().find(|d| d.name.eq_ignore_ascii_case(&spec.device));
        let software = kind.is_some_and(|d| d.description.contains("llvmpipe"));
        let on_processor = spec.is_cpu() || software;
        let named = DeviceConfig {
            name: name.to_owned(),
            kin: spec.device.clone(),
            sequences_max: SEQUENCES - 1,
            context_tokens: spec.context_tokens,
            chunk_tokens: Some(spec.ubatch_tokens),
            profile,
            thermal: self.limits.filter(|_| on_processor),
        };
        Ok(Engine { named, spec: spec.clone(), place: on_processor.then_some(0) })
    }

    /// Ask a line-up the questions.
    async fn ask(&self, line_up: &LineUp, questions: &[Question]) -> Result<Outcomes> {
        eprintln!("{}: {} tasks", line_up.name, questions.len());
        let nvidia = qeil_hardware::nvml::open().ok();
        let (envelope, catalogue) = (self.envelope.clone(), &self.catalogue);
        let sensors = Box::new(sense::Machine::open(self.roots, nvidia.as_ref(), envelope, catalogue));
        Ok(run(self.launch, line_up, &self.config, sensors, questions, self.at_once).await?)
    }
}

/// The processor's heat limit, where a sensor tells one.
fn limits(roots: &Roots) -> Option<ThermalLimits> {
    let temperatures = thermal::temperatures(roots);
    let limit = thermal::processor(&temperatures)?.limit()?;
    Some(ThermalLimits::new(limit.0))
}

fn questions(arguments: &CompareArguments, facts: &qeil_model::ModelFacts) -> Result<Vec<Question>> {
    let set = TaskSet::embedded();
    let step = (set.tasks.len() / arguments.tasks as usize).max(1);
    let mut questions = Vec::new();
    for (n, task) in set.tasks.iter().step_by(step).take(arguments.tasks as usize).enumerate() {
        let messages = match &task.prompt {
            qeil_tasks::Prompt::Text(text) => vec![Message::new(Role::User, text.clone())],
            qeil_tasks::Prompt::Messages(messages) => {
                messages.iter().map(|message| Message::new(Role::User, message.content.clone())).collect()
            }
        };
        let parts = render_conversation(facts, &messages)?;
        let sampling = Sampling { seed: arguments.seed.wrapping_add(n as u64), ..Sampling::default() };
        let mut ask = Ask::new(Prompt::Parts(parts), arguments.samples, arguments.max_tokens, sampling);
        ask.stop.clone_from(&task.stop);
        let verifier = task.verifier.clone();
        let verdict = (!verifier.needs_sandbox() && !verifier.is_agreement()).then(|| {
            Arc::new(move |text: &str| verifier.verify(text, &Judge::default()).passed)
                as qeil_orchestrate::compare::Verdict
        });
        questions.push(Question { ask, verdict });
    }
    Ok(questions)
}

fn text(report: &Report) -> String {
    let width = usize::from(COLUMNS_MAX) - 1;
    let headers = [
        "on",
        "J/task",
        "median\ns",
        "p95\ns",
        "tokens/s",
        "pass@1\n%",
        "coverage\n%",
        "IPW\n1/W",
        "ECE\n1/J",
        "PPP, per\ns·W·USD",
    ];
    let mut shown = table::table(&headers, 1..10);
    for Line { outcomes, metrics } in &report.line_ups {
        let number = |value: Option<f64>| value.map_or_else(|| MISSING.into(), figure);
        let metric = |metric: &Metric| number(metric.value());
        shown.add_row([
            outcomes.name.clone(),
            metric(&metrics.energy_per_task_j),
            number(outcomes.latency_s(0.5)),
            number(outcomes.latency_s(0.95)),
            figure(outcomes.tokens() as f64 / outcomes.wall_s),
            number(outcomes.accuracy().map(|share| 100.0 * share)),
            number(outcomes.coverage().map(|share| 100.0 * share)),
            metric(&metrics.ipw),
            metric(&metrics.ece),
            metrics.ppp.value().map_or_else(|| MISSING.into(), |value| format!("{value:.2e}")),
        ]);
    }
    let mut notes = vec![format!(
        "{}: {} tasks, {} samples each. Intervals are 95 %, over resampled pairs of tasks; --json has those of the metrics.",
        report.model, report.tasks, report.samples
    )];
    let range = |value: &Figure| {
        let interval = value
            .interval
            .map_or_else(String::new, |interval| format!(" ({:+.1} to {:+.1})", interval.low, interval.high));
        format!("{:+.1}{interval}", value.value)
    };
    if let Some(then) = &report.then {
        notes.push(format!(
            "{LADDER}: {then} is asked what no sample of {} solved, on the same devices. Its pass@1 is that of all samples \
             drawn. Loading is not counted: both models would have to stay in memory.",
            report.model
        ));
    }
    for Pair { of, against, contrast } in &report.contrasts {
        let energy = contrast.energy_percent.as_ref().map_or_else(|| MISSING.into(), range);
        notes.push(format!(
            "{of} against {against}: energy {energy} %, time of a task {} %, coverage {} points, pass@1 {} points.",
            range(&contrast.latency_percent),
            range(&contrast.coverage_points),
            range(&contrast.pass_at_1_points)
        ));
    }
    if let Some(energy) = report.line_ups.iter().find_map(|line| line.outcomes.energy()) {
        notes.push(format!(
            "Joules: {} ({}), gross, those of the requests.",
            energy.provenance, energy.source
        ));
    }
    if let Some((usd, source)) = &report.price {
        notes.push(format!("Price: {} USD ({source}).", figure(usd.0)));
    }
    if report.stand_ins {
        notes.push(
            "Halves of one processor stand in for two devices here: they share its memory and its heat."
                .into(),
        );
    }
    for (name, nats) in &report.divergences {
        notes.push(format!("KL(first device ‖ {name}): {nats:.4} nat on the known questions."));
    }
    let notes: String = notes.iter().map(|note| format!(" {}\n", wrap(note, width, "   "))).collect();
    format!("{shown}\n{notes}")
}
