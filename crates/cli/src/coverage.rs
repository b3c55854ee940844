//! `qeil coverage`: a task set, k samples a task, what they solved and what that cost.

mod text;

use crate::Output;
use crate::arguments::{Arguments, SamplingArguments, Weights, fraction, positive, watts};
use crate::models::file_of;
use crate::moment;
use crate::profile::store_path;
use crate::run::{envelope, grammar, sampling};
use crate::table;
use anyhow::{Context, Result, bail};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use qeil_engine::handle::{Launch, probe_devices};
use qeil_engine::spec::{DeviceKind, LoadSpec};
use qeil_fit::chart::draw_coverage;
use qeil_fit::coverage_run::report;
use qeil_hardware::Roots;
use qeil_hardware::cpu::Cpu;
use qeil_hardware::energy::EnergyMeter;
use qeil_measure::coverage::{Bench, Budget, CoverageEvent, CoveragePlan, Progress, Strategy, run};
use qeil_measure::kept::{Kept, user_cache};
use qeil_measure::profile::{Host, Subject};
use qeil_measure::store::Store;
use qeil_measure::survey::{Step, Survey, select};
use qeil_tasks::sandbox::{Limits, Sandbox};
use qeil_tasks::{Format, TaskSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the idle machine is measured before a run, where a counter can.
const IDLE: Duration = Duration::from_secs(2);
/// Samples in flight where nobody says otherwise: beyond it a processor decodes hardly faster.
const PARALLEL: u32 = 16;
/// Tokens of a sample where neither user nor task says how many.
const TOKENS_MAX: u32 = 256;

#[derive(Debug, Args)]
pub struct CoverageArguments {
    /// Name from `qeil models`, or path of a GGUF file; pulled if it is missing
    #[arg(default_value = qeil_model::catalogue::DEFAULT_MODEL)]
    model: String,
    /// Task set: `embedded`, `gsm8k:FILE`, `humaneval` or `humaneval:FILE`, `qa:FILE` for any JSON lines of question
    /// and answer, or a FILE of tasks
    #[arg(long, value_name = "SET", default_value = "embedded")]
    tasks: String,
    /// Print the tasks as JSON lines, and run nothing
    #[arg(long)]
    show_tasks: bool,
    /// Samples of each task at most
    #[arg(long, short = 'k', default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    samples: u32,
    /// Only the first tasks of the set
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Draw all samples of a task, even after one has passed
    #[arg(long)]
    all: bool,
    /// `fixed` goes through the tasks in order; `sequential` gives each sample to the task where it is expected to
    /// solve most for its cost
    #[arg(long, value_enum, default_value_t = StrategyName::Fixed)]
    strategy: StrategyName,
    /// End when this energy is spent, in joules, all sittings of the run together
    #[arg(long, value_name = "J", value_parser = positive, allow_negative_numbers = true)]
    budget_j: Option<f64>,
    /// End when this time is spent, in seconds, all sittings of the run together
    #[arg(long, value_name = "S", value_parser = positive, allow_negative_numbers = true)]
    budget_s: Option<f64>,
    /// End when this share of the tasks is solved, above 0 and at most 1
    #[arg(long, value_name = "SHARE", value_parser = fraction, allow_negative_numbers = true)]
    target_coverage: Option<f64>,
    /// How sure the leading answer of a task without a known one must be before sampling it ends
    #[arg(long, value_name = "P", default_value_t = qeil_laws::coverage::agreement::CONFIDENCE,
          value_parser = fraction, allow_negative_numbers = true)]
    confidence: f64,
    /// Begin a new run, even if the same one was stopped before its end
    #[arg(long)]
    fresh: bool,
    /// Most tokens per sample [default: what the task says, else 256]
    #[arg(long, short = 'n', value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    max_tokens: Option<u32>,
    /// Samples in flight at once
    #[arg(long, value_name = "N", default_value_t = PARALLEL, value_parser = clap::value_parser!(u32).range(1..=128))]
    parallel: u32,
    #[command(flatten)]
    sampling: SamplingArguments,
    /// Device to use, as `qeil devices` lists it
    #[arg(long, short = 'd', value_name = "NAME", default_value = "CPU")]
    device: String,
    /// Threads that compute on the CPU [default: all]
    #[arg(long, short = 't', value_parser = clap::value_parser!(u32).range(1..=512))]
    threads: Option<u32>,
    /// Settings under which a sample says nearly always the same whatever is computed beside it, so that an interrupted run
    /// ends with the texts of one that was left alone; slower (the plain settings promise the same random numbers only)
    #[arg(long, conflicts_with = "weights")]
    reproducible: bool,
    /// Format of the weights in memory; `auto` takes what was measured to be faster (its copy is cached)
    #[arg(long, value_enum, default_value_t = Weights::Auto)]
    weights: Weights,
    /// Power the CPU package draws idle and busy, in watts, for the estimate of energy
    #[arg(long, value_name = "IDLE:MAX", value_parser = watts)]
    cpu_watts: Option<(f64, f64)>,
    /// Run code that the model wrote without a sandbox, with all that you may do yourself
    #[arg(long)]
    unsafe_no_sandbox: bool,
    /// File of measurements [default: in the user's data folder]
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    /// Draw the curve of coverage into a file, as SVG
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
    /// Print one JSON document instead of tables
    #[arg(long)]
    json: bool,
}

/// How samples are given to tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StrategyName {
    Fixed,
    Sequential,
}

pub async fn coverage(arguments: CoverageArguments) -> Result<Output> {
    if arguments.all && arguments.strategy == StrategyName::Sequential {
        let why = "--all draws every sample of every task: --strategy sequential has nothing to decide";
        return Err(Arguments::command().error(ErrorKind::ArgumentConflict, why).into());
    }
    let set = task_set(&arguments.tasks)?;
    if arguments.show_tasks {
        let shown = set.tasks.iter().take(arguments.limit.map_or(usize::MAX, |limit| limit as usize));
        let lines: serde_json::Result<Vec<String>> = shown.map(serde_json::to_string).collect();
        return Ok(Output::from(lines?.join("\n") + "\n"));
    }
    let path = store_path(arguments.store.as_deref())?;
    let mut store = Store::open(&path)?;
    let roots = Roots::default();
    let launch = Launch::this_program()?;
    let devices = select(probe_devices(&launch).await?, std::slice::from_ref(&arguments.device))?;
    let device = devices.first().context("no device was selected")?;
    let model = file_of(&arguments.model).await?;
    let facts = qeil_model::inspect(&model)?;
    let bar =
        ProgressBar::new(0).with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} tasks  {msg}")?);
    bar.set_message(format!("checksum of {}", arguments.model));
    let subject = Subject::of(&model, &facts).await?;
    let grammar = arguments.sampling.grammar.as_deref().map(grammar).transpose()?;
    let plan = plan(&arguments, &set, &subject, &device.name, grammar);
    let sandbox = sandbox(&arguments, &set, plan.tasks.len())?;
    let host = Host::read(&roots, &devices);
    let mut meter = EnergyMeter::open(&roots, envelope(arguments.cpu_watts, &Cpu::read(&roots))?);
    if meter.missing().is_none() {
        bar.set_message("measuring the idle machine");
        let idle = meter.measure_idle(IDLE);
        meter.set_idle(idle);
    }
    let kept = Kept::of_user();
    let with = Bench {
        survey: Survey {
            launch: &launch,
            model: &model,
            facts: &facts,
            threads: arguments.threads,
            // The prompts of many tasks lie in one buffer. On a processor only the attention kernel of our own, which
            // is flash attention, passes over the cells of other tasks; trials with one prompt would not show it.
            flash_attention: (device.kind == DeviceKind::Cpu).then_some(true),
            kept: kept.as_ref(),
            retune: false,
            formats: arguments.weights == Weights::Auto,
            compare: false,
            meter: &meter,
        },
        device,
        host: &host,
        model: &subject.identity,
        roots: &roots,
        sandbox,
        judges: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let budget = Budget {
        energy_j: arguments.budget_j,
        wall_s: arguments.budget_s,
        coverage: arguments.target_coverage,
    };
    let (id, ended) =
        run(&with, &mut store, &plan, &set.tasks, arguments.fresh, budget, |event| show(&bar, &event))
            .await?;
    bar.finish_and_clear();
    let stored = store.coverage_run(id)?;
    if stored.samples.is_empty() {
        bail!("{ended} before a single sample had ended; the same command with more of it goes on from here");
    }
    let mut report = report(&stored)?;
    // A bound that was reached before anything began leaves no sitting to tell of it.
    report.ended = Some(ended.to_string());
    if let Some(file) = &arguments.chart {
        let picture = draw_coverage(&report).context("there is no curve to draw: no task is settled")?;
        std::fs::write(file, picture).with_context(|| format!("chart to {}", file.display()))?;
    }
    let text =
        if arguments.json { table::json(&report)? } else { text::text(&report, &ended.to_string(), &path) };
    Ok(Output::from(text))
}

/// The task set of a name.
fn task_set(name: &str) -> Result<TaskSet> {
    let file = |path: &str, format| TaskSet::read(Path::new(path), format);
    Ok(match name.split_once(':') {
        Some(("gsm8k", path)) => file(path, Some(Format::Gsm8k))?,
        Some(("humaneval", path)) => file(path, Some(Format::HumanEval))?,
        Some(("qa", path)) => file(path, Some(Format::Pairs))?,
        _ if name == "embedded" => TaskSet::embedded(),
        _ if name == "humaneval" => {
            let folder =
                user_cache().context("no home folder to keep HumanEval in: name a file, humaneval:FILE")?;
            TaskSet::fetch_humaneval(&folder.join("tasks"))?
        }
        _ => file(name, None)?,
    })
}

/// Where code of the model runs; nowhere if no task has any.
fn sandbox(arguments: &CoverageArguments, set: &TaskSet, tasks: usize) -> Result<Option<Sandbox>> {
    if !set.tasks.iter().take(tasks).any(|task| task.verifier.needs_sandbox()) {
        return Ok(None);
    }
    if arguments.unsafe_no_sandbox {
        return Ok(Some(Sandbox::unconfined(Limits::default())));
    }
    let program = std::env::current_exe().context("the path of this program")?;
    match Sandbox::new(&program, Limits::default()) {
        Ok(sandbox) => Ok(Some(sandbox)),
        Err(error) => bail!(
            "{error}\nThe tasks of {} run code that the model wrote. Where it cannot be confined, only \
             --unsafe-no-sandbox runs it, with all that you may do yourself.",
            set.name
        ),
    }
}

fn plan(
    arguments: &CoverageArguments,
    set: &TaskSet,
    subject: &Subject,
    device: &str,
    grammar: Option<String>,
) -> CoveragePlan {
    CoveragePlan {
        model_sha256: subject.identity.sha256.clone(),
        set: set.name.clone(),
        set_sha256: set.fingerprint(),
        tasks: CoveragePlan::labels(set, arguments.limit.map(|limit| limit as usize)),
        samples: arguments.samples,
        stop_at_pass: !arguments.all,
        strategy: match arguments.strategy {
            StrategyName::Fixed => Strategy::Fixed,
            StrategyName::Sequential => Strategy::Sequential,
        },
        confidence: arguments.confidence,
        sampling: sampling(&arguments.sampling),
        tokens_max: arguments.max_tokens,
        tokens_max_default: TOKENS_MAX,
        stop: arguments.sampling.stop.clone(),
        grammar,
        device: device.into(),
        threads: arguments.threads.unwrap_or(LoadSpec::new("", "").threads),
        parallel: arguments.parallel,
        unconfined: arguments.unsafe_no_sandbox,
        reproducible: arguments.reproducible,
    }
}

fn show(bar: &ProgressBar, event: &CoverageEvent<'_>) {
    match event {
        CoverageEvent::Again(number, ended_unix_ms) => {
            let ended = moment::format(*ended_unix_ms);
            table::progress(
                bar,
                &format!(
                    "run {number} of the same plan ended at {ended} UTC (`qeil metrics` has its figures): this is a new one; \
                     another --seed draws other samples"
                ),
            );
        }
        CoverageEvent::Died(death) => {
            table::progress(bar, &format!("the worker died ({death}); another goes on with what was saved"));
        }
        CoverageEvent::Settling(step) => bar.set_message(match step {
            Step::Checking(device) => format!("{}: known-answer check against the CPU", device.name),
            Step::Tuning(device) => {
                format!("{}: measuring which settings serve these tasks best", device.name)
            }
            Step::Tried(device, trial) => format!("{}: tried {}", device.name, trial.settings),
            Step::Answering(_) | Step::Done(_) => return,
        }),
        CoverageEvent::Settled(settings, _) => bar.set_message(format!("loading: {settings}")),
        CoverageEvent::Begun(progress) => {
            bar.set_length(progress.tasks as u64);
            if progress.samples > 0 {
                let known = format!(
                    "going on with a run that has {} samples, {} of {} tasks settled",
                    progress.samples, progress.settled, progress.tasks
                );
                table::progress(bar, &known);
            }
            advance(bar, progress);
        }
        CoverageEvent::Saved(_, progress) | CoverageEvent::Tick(progress) => advance(bar, progress),
    }
}

/// Tasks settled, coverage so far, joules, time left.
fn advance(bar: &ProgressBar, progress: &Progress) {
    bar.set_position(progress.settled as u64);
    let mut words = vec![format!("{} solved", progress.solved)];
    if let Some((share, interval)) = progress.coverage() {
        let [share, low, high] = [share, interval.low, interval.high].map(|share| (share * 100.0).round());
        words.push(format!("{share} % of those asked ({low} to {high})"));
    }
    if let Some(energy) = &progress.energy {
        words.push(format!("{} J {}", table::figure(energy.value.0), energy.provenance));
    }
    if let Some(left) = progress.remaining_s {
        words.push(format!("about {:.0} s left", left.ceil()));
    }
    bar.set_message(words.join(", "));
}
