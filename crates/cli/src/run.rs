//! `qeil run`: one question to every device, the answers and what they cost.

use crate::Output;
use crate::arguments::{Arguments, RunArguments, SamplingArguments, Weights};
use crate::models::file_of;
use crate::table::{self, COLUMNS_MAX, Footnotes, MISSING, figure, figure_or_missing, printable, wrap};
use anyhow::{Context, Result};
use clap::CommandFactory;
use clap::error::ErrorKind;
use indicatif::ProgressBar;
use qeil_engine::handle::{Launch, probe_devices};
use qeil_engine::request::{GRAMMAR_BYTES_MAX, PROMPT_BYTES_MAX, Sampling};
use qeil_hardware::Roots;
use qeil_hardware::cpu::Cpu;
use qeil_hardware::energy::{EnergyMeter, Envelope};
use qeil_measure::answer::{Answer, AnswerRun, Finish};
use qeil_measure::kept::Kept;
use qeil_measure::question::{Question, render};
use qeil_measure::report::{ModelSummary, QuestionSummary, RunReport};
use qeil_measure::survey::{DeviceOutcome, Step, Survey, Tuning, select};
use qeil_units::Watts;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// What is asked where the user asks nothing: long enough that sharing its prefill shows, and open enough that eight
/// samples differ.
const QUESTION: &str = "A delivery robot carries a battery of 480 watt-hours. Its motors draw 60 watts while it \
drives and its computer draws 20 watts all the time. In the morning it drives for two hours and then waits at the depot \
for one hour. In the afternoon it should drive again, but the depot has no charger today. The operator wants to keep \
a fifth of the battery as a reserve for the way home. How many hours can the robot drive in the afternoon? Explain \
the steps of your calculation in a few short sentences, and give the result at the end.";
/// How often the spinner turns.
const SPINNER_EVERY: Duration = Duration::from_millis(200);
/// Lines of a sample that are shown without `--full`.
const SAMPLE_LINES: usize = 2;

pub async fn run(arguments: RunArguments) -> Result<Output> {
    let prompt = prompt(&arguments)?;
    let grammar = arguments.sampling.grammar.as_deref().map(grammar).transpose()?;
    let roots = Roots::default();
    let cpu = Cpu::read(&roots);
    let meter = EnergyMeter::open(&roots, envelope(arguments.cpu_watts, &cpu)?);
    let launch = Launch::this_program()?;
    let devices = select(probe_devices(&launch).await?, &arguments.device.devices)?;
    let model = file_of(&arguments.model).await?;
    let facts = qeil_model::inspect(&model)?;
    let question = Question {
        parts: render(&facts, arguments.system.as_deref(), &prompt)?,
        samples: arguments.samples,
        tokens_max: arguments.max_tokens,
        sampling: sampling(&arguments.sampling),
        stop: arguments.sampling.stop.clone(),
        grammar,
    };

    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(SPINNER_EVERY);
    spinner.set_message("reading the question");
    let asked = question.tokenize(&launch, &model).await?;
    let kept = Kept::of_user();
    let survey = Survey {
        launch: &launch,
        model: &model,
        facts: &facts,
        threads: arguments.device.threads,
        flash_attention: arguments.flash_attention.fixed(),
        kept: kept.as_ref(),
        retune: arguments.tune,
        formats: arguments.weights == Weights::Auto,
        compare: !arguments.no_compare,
        meter: &meter,
    };
    let outcomes = survey.ask(&devices, &asked, |step| show(&spinner, &step)).await?;
    spinner.finish_and_clear();

    let success = outcomes.iter().any(|outcome| matches!(outcome, DeviceOutcome::Answered { .. }));
    let report = RunReport {
        qeil_version: qeil_measure::VERSION.into(),
        model: ModelSummary::new(&model, &facts),
        question: QuestionSummary {
            prompt,
            system: arguments.system,
            prompt_tokens: asked.shape().prompt_tokens,
            samples: arguments.samples,
            tokens_max: arguments.max_tokens,
            sampling: asked.question.sampling.clone(),
        },
        cpu,
        devices: outcomes,
    };
    let text = if arguments.json { table::json(&report)? } else { text(&report, arguments.full) };
    Ok(Output { text, success })
}

/// What the processor draws: the watts given, idle and busy, or those kept or known.
pub fn envelope(given: Option<(f64, f64)>, cpu: &Cpu) -> Result<Envelope> {
    match given {
        Some((idle, max)) => Ok(Envelope::from_watts(Watts(idle), Watts(max))?),
        None => Ok(Envelope::of_user(cpu)?),
    }
}

/// The question: from the command line, from standard input, or the built-in one.
fn prompt(arguments: &RunArguments) -> Result<String> {
    match arguments.prompt.as_deref().or(arguments.question.as_deref()) {
        None => Ok(QUESTION.into()),
        Some("-") => {
            let mut text = String::new();
            let limit = PROMPT_BYTES_MAX as u64 + 1;
            std::io::stdin()
                .take(limit)
                .read_to_string(&mut text)
                .context("cannot read the prompt from standard input")?;
            if text.trim().is_empty() {
                return Err(usage("the prompt on standard input is empty"));
            }
            Ok(text)
        }
        Some(text) => Ok(text.into()),
    }
}

fn usage(message: &str) -> anyhow::Error {
    Arguments::command().error(ErrorKind::ValueValidation, message).into()
}

/// A grammar file, up to a byte more than a request may hold.
pub fn grammar(path: &Path) -> Result<String> {
    let mut text = String::new();
    let file =
        File::open(path).with_context(|| format!("cannot open the grammar file {}", path.display()))?;
    file.take(GRAMMAR_BYTES_MAX as u64 + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read the grammar file {}", path.display()))?;
    Ok(text)
}

/// How tokens are chosen.
pub fn sampling(arguments: &SamplingArguments) -> Sampling {
    Sampling {
        temperature: arguments.temperature,
        top_k: arguments.top_k,
        top_p: arguments.top_p,
        min_p: arguments.min_p,
        repetition_penalty: arguments.repetition_penalty,
        seed: arguments.seed,
        ..Sampling::default()
    }
}

fn show(spinner: &ProgressBar, step: &Step<'_>) {
    let message = match step {
        Step::Checking(device) => format!("{}: known-answer check against the CPU", device.name),
        Step::Tuning(device) => format!("{}: measuring which settings serve this question best", device.name),
        Step::Tried(device, trial) => format!("{}: tried {}", device.name, trial.settings),
        Step::Answering(device) => format!("{}: answering", device.name),
        Step::Done(_) => return,
    };
    spinner.set_message(message);
}

fn text(report: &RunReport, full: bool) -> String {
    let mut notes = Footnotes::default();
    let weightless = if report.model.weightless { notes.mark(table::WEIGHTLESS) } else { String::new() };
    let (mut answers, mut below) = (String::new(), String::new());
    let headers = [
        "device",
        "threads",
        "prefill\ntok/s",
        "decode\ntok/s",
        "first token\nms",
        "energy\nJ",
        "energy\nJ/token",
        "shared\nprefill",
    ];
    let mut rows = table::table(&headers, 1..8);
    for outcome in &report.devices {
        match outcome {
            DeviceOutcome::Answered { trust, tuning, run } => {
                answers += &answers_of(run, full);
                rows.add_row(row(run, &mut notes));
                below += &remarks(run, trust.as_deref(), tuning);
            }
            DeviceOutcome::Refused { device, why } => {
                rows.add_row(without_figures(
                    device,
                    &notes.mark(format!("refused, its numbers are not the CPU's: {why}")),
                ));
            }
            DeviceOutcome::Failed { device, why } => {
                rows.add_row(without_figures(device, &notes.mark(format!("failed: {why}"))));
            }
        }
    }
    let question = &report.question;
    let width = usize::from(COLUMNS_MAX);
    let asked = wrap(&printable(&question.prompt, false), width - 2, "  ");
    let about = format!(
        "{}{weightless} ({} {}): {} prompt tokens, {} of at most {} tokens, temperature {}, seed {}",
        report.model.path.file_stem().unwrap_or_default().to_string_lossy(),
        table::parameters(report.model.parameters),
        report.model.quantisation,
        question.prompt_tokens,
        if question.samples == 1 { "1 sample".into() } else { format!("{} samples", question.samples) },
        question.tokens_max,
        question.sampling.temperature,
        question.sampling.seed,
    );
    let asked = if full { asked } else { first_lines(&asked, SAMPLE_LINES) };
    let about = wrap(&about, width, "");
    format!("> {asked}\n\n{answers}{about}\n{rows}\n{}{below}", notes.text())
}

fn first_lines(wrapped: &str, count: usize) -> String {
    let mut lines = wrapped.lines();
    let shown: Vec<&str> = lines.by_ref().take(count).collect();
    let more = if lines.next().is_some() { " …" } else { "" };
    format!("{}{more}", shown.join("\n"))
}

fn answers_of(run: &AnswerRun, full: bool) -> String {
    let sample = |answer: &Answer| {
        let number = format!("{:>3}  ", answer.index + 1);
        let end = match answer.finish {
            Finish::End | Finish::Stop => "",
            Finish::Length => " [token limit]",
            Finish::ContextFull => " [context full]",
            Finish::Other => " [cut off]",
        };
        let text = printable(answer.text.trim(), full);
        if full {
            format!("{number}{}{end}\n", text.replace('\n', "\n     "))
        } else {
            let wrapped = wrap(&text, usize::from(COLUMNS_MAX) - 8, "     ");
            format!("{number}{}\n", first_lines(&wrapped, SAMPLE_LINES))
        }
    };
    let samples: String = run.samples.iter().map(sample).collect();
    format!("{} ({})\n{samples}\n", run.device, run.device_description.trim())
}

fn row(run: &AnswerRun, notes: &mut Footnotes) -> Vec<String> {
    let joules = run.energy.as_ref().map(|reading| {
        let mark = notes.mark(energy_remark(run));
        format!("{}{mark}", figure(reading.gross.value.0))
    });
    let missing = |why: &Option<String>, notes: &mut Footnotes| match why {
        Some(why) => format!("{MISSING}{}", notes.mark(format!("missing: {why}"))),
        None => MISSING.into(),
    };
    let per_token = run.joules_per_token.as_ref().map(|each| {
        let mark = notes.mark(energy_remark(run));
        format!("{}{mark}", figure(each.value.0))
    });
    let speedup = match run.shared_prefill_speedup {
        Some(ratio) => {
            let own = figure_or_missing(run.own_prefill_wall_s);
            let mark = notes.mark(format!(
                "wall time of the same samples as {} requests submitted at once, each with its own prefill, by that of \
                 one request sharing it: {own} s by {} s, measured in this run",
                run.samples.len(),
                figure(run.wall_s)
            ));
            format!("{ratio:.2}×{mark}")
        }
        None => missing(&run.comparison_missing, notes),
    };
    vec![
        run.device.clone(),
        run.threads.to_string(),
        figure_or_missing(run.prefill_tokens_per_s),
        figure_or_missing(run.decode_tokens_per_s),
        figure(run.first_token_ms),
        joules.unwrap_or_else(|| missing(&run.energy_missing, notes)),
        per_token.unwrap_or_else(|| MISSING.into()),
        speedup,
    ]
}

/// Provenance and source of an energy figure, and how to a better one.
fn energy_remark(run: &AnswerRun) -> String {
    let Some(reading) = &run.energy else { return String::new() };
    let mut remark = format!("{}: {}", reading.gross.provenance, reading.gross.source);
    for flag in &reading.flags {
        remark += &format!("; {flag}");
    }
    if reading.flags.iter().any(|flag| matches!(flag, qeil_hardware::energy::EnergyFlag::AssumedEnvelope)) {
        remark += " with --cpu-watts IDLE:MAX";
    }
    remark
}

/// What else a reader should know about a device that answered.
fn remarks(run: &AnswerRun, trust: Option<&str>, tuning: &Tuning) -> String {
    let origin = if tuning.kept { "measured earlier" } else { "measured now" };
    let mut remarks = vec![format!("settings, {origin}: {}", tuning.reason)];
    if let Some(why) = &tuning.not_kept {
        remarks.push(format!("the settings could not be kept for the next run: {why}"));
    }
    remarks.extend(trust.map(|why| format!("trusted: {why}")));
    remarks.push(format!("the worker is confined: {}", run.confinement));
    let width = usize::from(COLUMNS_MAX) - 4;
    let line = |remark| format!(" {}\n", wrap(&format!("{}: {remark}", run.device), width, "   "));
    remarks.iter().map(line).collect()
}

fn without_figures(device: &str, mark: &str) -> Vec<String> {
    let mut row = vec![format!("{device}{mark}")];
    row.resize(8, MISSING.into());
    row
}
