//! `qeil profile`: a designed sweep, saved row by row, resumed where it stopped.

use crate::arguments::ProfileArguments;
use crate::models::file_of;
use crate::run::envelope;
use crate::table::{self, Footnotes, figure, figure_or_missing};
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use qeil_engine::handle::{Launch, probe_devices};
use qeil_engine::spec::{DeviceEntry, DeviceKind, LoadSpec};
use qeil_hardware::Roots;
use qeil_hardware::cpu::Cpu;
use qeil_hardware::energy::EnergyMeter;
use qeil_measure::profile::{
    Axes, Cell, Host, Instruments, Observation, Plan, Progress, Roofline, Stopping, Subject, SweepEvent, csv,
    json_lines, sweep,
};
use qeil_measure::settings::Settings;
use qeil_measure::stats::Summary;
use qeil_measure::store::{Store, default_path};
use qeil_measure::survey::select;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Seconds of measuring that `--quick` stays below: with loading, two minutes.
const QUICK_S: f64 = 80.0;
/// How long the idle machine is measured before a sweep, where a counter can.
const IDLE: Duration = Duration::from_secs(2);

/// The store that the user named, or the usual one.
pub fn store_path(named: Option<&Path>) -> Result<PathBuf> {
    match named {
        Some(path) => Ok(path.to_owned()),
        None => default_path().context("no home folder to keep measurements in: name a file with --store"),
    }
}

pub async fn profile(arguments: ProfileArguments) -> Result<String> {
    let path = store_path(arguments.store.as_deref())?;
    let mut store = Store::open(&path)?;
    let roots = Roots::default();
    let launch = Launch::this_program()?;
    let devices = select(probe_devices(&launch).await?, &arguments.devices)?;
    let bar =
        ProgressBar::new(0).with_style(ProgressStyle::with_template("{wide_bar} {pos}/{len} cells  {msg}")?);
    let subjects = subjects(&arguments.models, &bar).await?;
    let plan = plan(&arguments, &subjects, &devices);
    let host = Host::read(&roots, &devices);
    let id = store.begin(&plan, &host, !arguments.new)?;
    let done = store.done(id)?;
    if !done.observations.is_empty() {
        table::progress(&bar, &format!("going on with a sweep that has {} rows", done.observations.len()));
    }
    for device in devices.iter().filter(|device| device.kind == DeviceKind::Cpu) {
        for &threads in &plan.threads {
            if !done.rooflines.iter().any(|roof| roof.device == device.name && roof.threads == threads) {
                bar.set_message(format!("{}: bandwidth and arithmetic of {threads} threads", device.name));
                store.save_roofline(id, &Roofline::of_processor(&host, &device.name, threads))?;
            }
        }
    }
    let mut meter = EnergyMeter::open(&roots, envelope(arguments.cpu_watts, &Cpu::read(&roots))?);
    if meter.missing().is_none() {
        bar.set_message("measuring the idle machine");
        let idle = meter.measure_idle(IDLE);
        meter.set_idle(idle);
    }
    let with = Instruments { launch: &launch, host: &host, devices: &devices, energy: &meter, roots: &roots };
    let mut failures = Vec::new();
    sweep(&with, &mut store, id, &plan, &subjects, |event| show(&bar, &event, arguments.json, &mut failures))
        .await?;
    bar.finish_and_clear();

    let rows = store.done(id)?.observations;
    if let Some(file) = &arguments.export {
        let text = if file.extension().is_some_and(|e| e == "csv") { csv(&rows) } else { json_lines(&rows) };
        std::fs::write(file, text).with_context(|| format!("export to {}", file.display()))?;
    }
    if arguments.json {
        return Ok(String::new());
    }
    Ok(text(&rows, &store.done(id)?.rooflines, &failures, &path))
}

async fn subjects(names: &[String], bar: &ProgressBar) -> Result<Vec<Subject>> {
    let mut subjects = Vec::new();
    for name in names {
        let path = file_of(name).await?;
        let facts = qeil_model::inspect(&path)?;
        bar.set_message(format!("checksum of {name}"));
        let subject = Subject::of(&path, &facts).await?;
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
    }
    Ok(subjects)
}

fn plan(arguments: &ProfileArguments, subjects: &[Subject], devices: &[DeviceEntry]) -> Plan {
    let or = |given: &[u32], full: &[u32], quick: &[u32]| match (given, arguments.quick) {
        ([], false) => full.to_vec(),
        ([], true) => quick.to_vec(),
        (given, _) => given.to_vec(),
    };
    let stopping = if arguments.quick {
        Stopping {
            repetitions_min: 2,
            repetitions_max: 3,
            half_width: 0.1,
            cell_s_max: 20.0,
            sweep_s_max: Some(QUICK_S),
        }
    } else {
        Stopping {
            repetitions_min: 3,
            repetitions_max: arguments.repetitions_max.max(3),
            half_width: arguments.half_width,
            cell_s_max: arguments.cell_s_max,
            sweep_s_max: None,
        }
    };
    Plan {
        models: subjects.iter().map(|subject| subject.identity.sha256.clone()).collect(),
        devices: devices.iter().map(|device| device.name.clone()).collect(),
        threads: or(&arguments.threads, &[LoadSpec::new("", "").threads], &[LoadSpec::new("", "").threads]),
        axes: Axes {
            prompt_tokens: or(&arguments.prompt_tokens, &[128, 32, 512], &[64, 16]),
            output_tokens: or(&arguments.output_tokens, &[33, 1, 97], &[17, 1]),
            samples: or(&arguments.samples, &[1, 4, 16], &[1, 4]),
            depth_tokens: or(&arguments.depth_tokens, &[0, 512], &[0]),
            full: arguments.full,
        },
        settings: Settings {
            weights: None,
            flash_attention: arguments.flash_attention.fixed().unwrap_or(false),
            kv_unified: true,
        },
        stopping,
        interference_max: arguments.interference_max,
        seed: arguments.seed,
    }
}

fn show(bar: &ProgressBar, event: &SweepEvent<'_>, json: bool, failures: &mut Vec<String>) {
    match event {
        SweepEvent::Loading(model, device) => bar.set_message(format!("{device}: loading {}", model.label())),
        SweepEvent::Disturbed(cell, share) => {
            let taken = share * 100.0;
            bar.set_message(format!("{}: other programs took {taken:.0} % of the CPU: again", brief(cell)));
        }
        SweepEvent::Saved(row, Progress { cells_finished, cells, remaining_s, .. }) => {
            bar.set_length(*cells as u64);
            bar.set_position(*cells_finished as u64);
            let left = remaining_s.map_or_else(|| "?".into(), |s| format!("{:.0}", s.ceil()));
            bar.set_message(format!("{} {}, about {left} s left", row.model.label(), brief(&row.cell)));
            if json && let Ok(line) = serde_json::to_string(row) {
                // Whoever reads along went away: the rows are in the store all the same.
                let _ = writeln!(std::io::stdout().lock(), "{line}");
            }
        }
        SweepEvent::Failed(model, cell, why) => {
            let text = format!("{}, {}: {why}", model.label(), brief(cell));
            table::progress(bar, &text);
            failures.push(text);
        }
    }
}

/// A device and its threads in a few characters.
pub fn place(device: &str, threads: u32) -> String {
    format!("{device} ×{threads}")
}

/// A cell in a few characters, like the names of `qeil bench`.
pub fn brief(cell: &Cell) -> String {
    let depth = if cell.depth_tokens > 0 { format!("@{}", cell.depth_tokens) } else { String::new() };
    let samples = if cell.samples > 1 { format!("×{}", cell.samples) } else { String::new() };
    format!("pp{}{depth}+tg{}{samples}", cell.prompt_tokens, cell.output_tokens)
}

fn text(rows: &[Observation], rooflines: &[Roofline], failures: &[String], store: &Path) -> String {
    let mut tables: BTreeMap<(u64, String, String), BTreeMap<&Cell, Vec<&Observation>>> = BTreeMap::new();
    for row in rows {
        let (model, cell) = (&row.model, &row.cell);
        let about =
            format!("{}, {}, {}", model.label(), model.quantisation, place(&cell.device, cell.threads));
        let table = tables.entry((model.parameters, about, model.sha256.clone())).or_default();
        table.entry(cell).or_default().push(row);
    }
    let mut notes = Footnotes::default();
    let mut out = String::new();
    for ((_, about, _), cells) in &tables {
        let weightless = cells.values().flatten().any(|row| row.model.weightless);
        let mark = if weightless { notes.mark(table::WEIGHTLESS) } else { String::new() };
        out += &format!("{about}{mark}\n{}\n\n", cells_text(cells, rooflines, &mut notes));
    }
    let weakest = rows.iter().filter_map(|row| Some(row.energy.as_ref()?.gross.provenance)).min();
    let energy = weakest.map_or_else(String::new, |weakest| {
        format!(" Energy, gross by emitted token: {weakest} (`qeil doctor` says from what).\n")
    });
    let failed: String = failures.iter().map(|text| format!(" Not measured: {text}\n")).collect();
    format!(
        "{out}{} Medians over the runs of each cell. ppN@D+tgM×K: N prompt tokens after D in memory, M tokens of\n   \
         each of K samples.\n{energy}{failed} {} rows in {}; `qeil fit` draws the laws.\n",
        notes.text(),
        rows.len(),
        store.display()
    )
}

/// The cells of one model in one place.
fn cells_text(
    cells: &BTreeMap<&Cell, Vec<&Observation>>,
    rooflines: &[Roofline],
    notes: &mut Footnotes,
) -> String {
    let headers = [
        "cell",
        "prefill\ntok/s",
        "first token\nms",
        "decode\ntok/s",
        "of read\nbandwidth",
        "energy\nJ/token",
        "runs",
    ];
    let mut out = table::table(&headers, 1..headers.len());
    for (cell, rows) in cells {
        let median = |of: &dyn Fn(&Observation) -> Option<f64>| {
            let values: Option<Vec<f64>> = rows.iter().map(|row| of(row)).collect();
            Some(Summary::of(&values?)?.median)
        };
        let step_ms = median(&|row| row.decode_ms_per_step());
        let roof = rooflines.iter().find(|roof| roof.device == cell.device && roof.threads == cell.threads);
        let share =
            roof.zip(step_ms).map(|(roof, ms)| rows[0].step_bytes() / (ms / 1e3) / roof.read_bytes_per_s);
        let disturbed = rows.iter().any(|row| row.disturbed);
        let mark =
            if disturbed { notes.mark("disturbed: other programs used the CPU") } else { String::new() };
        let energy =
            median(&|row| Some(row.energy.as_ref()?.gross.value.0 / f64::from(row.emitted_tokens())));
        out.add_row([
            brief(cell) + &mark,
            figure_or_missing(median(&|row| Some(1e3 / row.prefill_ms_per_token()?))),
            figure_or_missing(median(&|row| Some(row.first_token_ms))),
            figure_or_missing(step_ms.map(|ms| f64::from(cell.samples) * 1e3 / ms)),
            share.map_or_else(|| table::MISSING.into(), |share| format!("{} %", figure(share * 100.0))),
            figure_or_missing(energy),
            rows.len().to_string(),
        ]);
    }
    out.to_string()
}
