//! `qeil simulate`: hours of operation on simulated devices, under the real control loop.
//!
//! Three questions, one command: would this machine hold this load in these surroundings (a scenario file), what
//! happened in that random hour (`--seed`), does the safety contract hold in many of them (`--count`).

use crate::Output;
use crate::table::{self, COLUMNS_MAX, MISSING, figure, wrap};
use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use qeil_sim::hour::Hours;
use qeil_sim::machine::{DESCRIPTION_BYTES_MAX, Machine};
use qeil_sim::report::{DeviceReport, Report};
use qeil_sim::scenario::{SCENARIO_BYTES_MAX, Scenario};
use qeil_sim::seeds::{SEEDS_MAX, Summary, run_seeds};
use qeil_sim::{SimError, world};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

/// What `--help` says below the flags.
const MORE: &str = "\
A scenario file names machine, model, surroundings, load and faults: docs/simulate.md.
Nothing here was measured: every figure is simulated from a description of the devices.

Exit code 1 where a promise of the safety contract was broken.";

#[derive(Debug, Args)]
#[command(after_help = MORE)]
pub struct SimulateArguments {
    /// Scenario file (TOML)
    #[arg(value_name = "SCENARIO", required_unless_present_any = ["seed", "count", "machines"])]
    pub scenario: Option<PathBuf>,
    /// Run random hour number N; with --count the first of many
    #[arg(long, value_name = "N", conflicts_with = "scenario")]
    pub seed: Option<u64>,
    /// Run so many random hours and sum up
    #[arg(long, value_name = "HOURS", conflicts_with = "scenario",
          value_parser = clap::value_parser!(u64).range(1..=SEEDS_MAX))]
    pub count: Option<u64>,
    /// Let devices overheat: what happens where the guard does not act
    #[arg(long)]
    pub no_guard: bool,
    /// List the machines that are built in, with their devices
    #[arg(long, conflicts_with_all = ["scenario", "seed", "count"])]
    pub machines: bool,
    /// Print one JSON document instead of tables
    #[arg(long)]
    pub json: bool,
}

pub async fn simulate(arguments: SimulateArguments) -> Result<Output> {
    // Computing takes long and never waits: on a thread of its own, so that Ctrl-C is heard.
    tokio::task::spawn_blocking(move || run(&arguments)).await.context("the simulation ended early")?
}

fn run(arguments: &SimulateArguments) -> Result<Output> {
    let guarded = !arguments.no_guard;
    if arguments.machines {
        return machines(arguments.json).map(Output::from);
    }
    if let Some(count) = arguments.count {
        return many(arguments.seed.unwrap_or(0), count, guarded, arguments.json);
    }
    let mut scenario = match (&arguments.scenario, arguments.seed) {
        (Some(file), _) => read_scenario(file)?,
        (None, seed) => Hours::new()?.hour(seed.unwrap_or(0)),
    };
    scenario.guarded = guarded;
    let report = world::run(&scenario);
    let success = report.kept() || !guarded;
    let text = if arguments.json { table::json(&report)? } else { text(&report) };
    Ok(Output { text, success })
}

/// A file of at most so many bytes: one more is enough to see that it is too long.
fn read(file: &Path, most: usize) -> Result<String> {
    let mut text = String::new();
    let opened = fs::File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    opened
        .take(most as u64 + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {} as text", file.display()))?;
    ensure!(text.len() <= most, "{} is longer than {most} bytes; is it the right file?", file.display());
    Ok(text)
}

/// The path of a machine's description is taken from the folder of the scenario.
fn read_scenario(file: &Path) -> Result<Scenario> {
    let text = read(file, SCENARIO_BYTES_MAX)?;
    let mut unread = None;
    let described = |path: &str| {
        let path = file.parent().unwrap_or(Path::new("")).join(path);
        let name = path.display().to_string();
        match read(&path, DESCRIPTION_BYTES_MAX) {
            Ok(text) => Machine::parse(&name, &text),
            Err(error) => {
                unread = Some(error);
                Err(SimError::UnknownMachine { wanted: name, known: String::new() })
            }
        }
    };
    let scenario = Scenario::parse(&file.display().to_string(), &text, described);
    match unread {
        Some(error) => Err(error.context(format!("the machine of {}", file.display()))),
        None => Ok(scenario?),
    }
}

fn many(first: u64, count: u64, guarded: bool, json: bool) -> Result<Output> {
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} hours  {eta} left")?;
    let bar = ProgressBar::new(count).with_style(style);
    let threads = available_parallelism().map_or(1, usize::from);
    let summary =
        run_seeds(first..first.saturating_add(count), guarded, threads, |done| bar.set_position(done))?;
    bar.finish_and_clear();
    let success = summary.failed == 0 || !guarded;
    let text = if json { table::json(&summary)? } else { summed(&summary, guarded) };
    Ok(Output { text, success })
}

fn machines(json: bool) -> Result<String> {
    let all = qeil_sim::machine::machines()?;
    if json {
        return table::json(&all);
    }
    let headers = ["machine", "device", "GB/s", "GB", "idle W", "most W", "most °C"];
    let mut rows = table::table(&headers, 2..7);
    table::keep_whole(&mut rows, 0);
    for machine in &all {
        for (i, device) in machine.devices.iter().enumerate() {
            let first = if i == 0 { machine.id.as_str() } else { "" };
            rows.add_row([
                first.to_owned(),
                device.name.clone(),
                figure(device.bandwidth_b_per_s.value / 1e9),
                figure(device.memory_bytes.value / 1e9),
                figure(device.idle_w.value),
                figure(device.max_w.value),
                figure(device.max_c.value),
            ]);
        }
    }
    Ok(format!("{rows}\n Descriptions, not measurements; `--json` shows the source of each figure.\n"))
}

fn minutes(seconds: f64) -> String {
    if seconds == 0.0 { MISSING.into() } else { figure(seconds / 60.0) }
}

fn share(part: f64) -> String {
    format!("{:.0} %", 100.0 * part)
}

/// The answer to a what-if.
fn text(report: &Report) -> String {
    let headers = [
        "device",
        "°C: peak, guard, most",
        "min: nominal, warm, throttled, critical",
        "duty",
        "busy",
        "tokens",
        "kJ",
    ];
    let mut rows = table::table(&headers, 1..7);
    table::keep_whole(&mut rows, 0);
    for device in &report.devices {
        let DeviceReport { peak_c, guard_c, max_c, heat_s, .. } = *device;
        rows.add_row([
            device.name.clone(),
            format!("{peak_c:.1}, {guard_c:.1}, {max_c:.0}"),
            heat_s.map(minutes).join(", "),
            share(device.duty),
            share(device.busy),
            device.tokens.to_string(),
            figure(device.energy_j / 1e3),
        ]);
    }
    let width = usize::from(COLUMNS_MAX) - 1;
    let about = format!(
        "{}, {}: {:.2} h, surroundings up to {:.1} °C{}. All figures are simulated.",
        report.machine,
        report.model,
        report.seconds / 3600.0,
        report.ambient_max_c,
        if report.guarded { "" } else { ", WITHOUT the guard" },
    );
    let notes: String = [requests(report), verdict(report)]
        .into_iter()
        .chain(report.violations.iter().map(|violation| {
            format!("{:?} at {:.1} s: {}", violation.promise, violation.at_s, violation.what)
        }))
        .map(|note| format!(" {}\n", wrap(&note, width, "   ")))
        .collect();
    format!("{}\n{rows}\n{notes}", wrap(&about, width, ""))
}

fn requests(report: &Report) -> String {
    let requests = &report.requests;
    let latency = requests.seconds.map_or(String::new(), |(median, p95)| {
        format!(" in {} s (median) and {} s (95th percentile)", figure(median), figure(p95))
    });
    format!(
        "Requests: {} came, {} let in: {} completed{latency}, {} late, {} out of joules, {} withdrawn, {} failed; \
         refused: {} for lack of room, {} as asking too much. {} samples moved. {} tokens for {} kJ.",
        requests.arrived,
        requests.admitted,
        requests.completed,
        requests.late,
        requests.over_budget,
        requests.withdrawn,
        requests.failed,
        requests.refused_for_load,
        requests.refused_as_wrong,
        requests.moves,
        requests.tokens,
        figure(report.energy_j() / 1e3),
    )
}

fn verdict(report: &Report) -> String {
    if report.kept() {
        return "It holds: every promise of the safety contract was kept.".into();
    }
    let kinds: Vec<String> =
        report.violated.iter().map(|(promise, times)| format!("{promise:?} {times}×")).collect();
    format!("Promises broken: {}.", kinds.join(", "))
}

fn summed(summary: &Summary, guarded: bool) -> String {
    let mut rows = table::table(&["promise", "hours that broke it", "times"], 1..3);
    for (promise, (hours, times)) in &summary.violated {
        rows.add_row([format!("{promise:?}"), hours.to_string(), times.to_string()]);
    }
    let overshoot = summary.overshoot_c.map_or(MISSING.into(), |over| format!("{over:+.2} °C"));
    let about = format!(
        "{} simulated hours{}, {} of them hot: {} requests let in, {} completed, {} samples moved, {} tokens; highest \
         temperature against the guard's {overshoot}.",
        summary.hours,
        if guarded { "" } else { " WITHOUT the guard" },
        summary.hot_hours,
        summary.admitted,
        summary.completed,
        summary.moves,
        summary.tokens,
    );
    let about = wrap(&about, usize::from(COLUMNS_MAX), "");
    if summary.failed == 0 {
        return format!("{about}\nEvery promise of the safety contract was kept in all of them.\n");
    }
    let replay: String = summary
        .failures
        .iter()
        .map(|failed| {
            let flag = if guarded { "" } else { " --no-guard" };
            format!(" qeil simulate --seed {}{flag}\n   {}\n", failed.seed, failed.first)
        })
        .collect();
    format!("{about}\n{rows}\n{} hours broke a promise. The first of them:\n{replay}", summary.failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_answered_and_an_unreadable_machine_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("what-if.toml");
        let scenario = |machine: &str| {
            format!(
                "machine = {machine:?}\nmodel = \"GPT-2-124M\"\nhours = 0.02\n[ambient]\ncelsius = 20.0\n[load]\n\
                 requests_per_minute = 6.0\nprompt_tokens = [8, 64]\nsamples = [1, 2]\noutput_tokens = [4, 32]\n"
            )
        };
        fs::write(&file, scenario("raspberry-pi-5")).unwrap();
        let text = text(&world::run(&read_scenario(&file).unwrap()));
        assert!(text.contains("simulated") && text.contains("It holds"), "{text}");
        fs::write(&file, scenario("./mine.toml")).unwrap();
        let error = format!("{:#}", read_scenario(&file).unwrap_err());
        assert!(error.contains("what-if.toml") && error.contains("cannot open"), "{error}");
        fs::write(folder.path().join("mine.toml"), "id = 3").unwrap();
        let error = format!("{:#}", read_scenario(&file).unwrap_err());
        assert!(error.contains("mine.toml: id"), "{error}");
    }
}
