//! `qeil fit`: the laws of what was measured, as a table and as charts.

use crate::arguments::within;
use crate::fit_coverage::{FitCommand, fit_coverage};
use crate::profile::{place, store_path};
use crate::table::{self, COLUMNS_MAX, MISSING, figure, figure_or_missing, wrap};
use anyhow::{Context, Result};
use clap::Args;
use qeil_fit::chart::draw;
use qeil_fit::joint::JointReport;
use qeil_fit::laws::QuantityReport;
use qeil_fit::limits::LimitReport;
use qeil_fit::quantisation::{Divergence, QuantisationReport};
use qeil_fit::quantity::Predictor;
use qeil_fit::report::{FitInput, FitReport, SeriesReport};
use qeil_laws::interval::Interval;
use qeil_laws::law::Form;
use qeil_measure::profile::Observation;
use qeil_measure::quantize::Quality;
use qeil_measure::store::Store;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct FitArguments {
    #[command(subcommand)]
    pub of: Option<FitCommand>,
    /// File of measurements [default: in the user's data folder]
    #[arg(long, value_name = "FILE")]
    pub store: Option<PathBuf>,
    /// Folder to draw the laws into, as SVG
    #[arg(long, value_name = "FOLDER")]
    pub charts: Option<PathBuf>,
    /// Model that the laws must not see, and are judged on; may be repeated
    #[arg(long, value_name = "MODEL")]
    pub leave_out: Vec<String>,
    /// Largest divergence, in nats, that a quantisation may cost to be chosen
    #[arg(long, value_name = "NATS", default_value_t = qeil_fit::report::KL_NATS_MAX,
          value_parser = within::<0, 100>, allow_negative_numbers = true)]
    pub kl_max: f64,
    /// Print one JSON document instead of tables
    #[arg(long)]
    pub json: bool,
}

pub fn fit(arguments: &FitArguments) -> Result<String> {
    if let Some(FitCommand::Coverage(arguments)) = &arguments.of {
        return fit_coverage(arguments);
    }
    let store = Store::open(&store_path(arguments.store.as_deref())?)?;
    let observations = store.observations()?;
    let (rooflines, divergences) = (store.rooflines()?, divergences(&observations));
    let report = FitReport::new(&FitInput {
        observations: &observations,
        rooflines: &rooflines,
        divergences: &divergences,
        kl_nats_max: arguments.kl_max,
        leave_out: &arguments.leave_out,
    })?;
    let drawn = match &arguments.charts {
        Some(folder) => charts(&report, folder)?,
        None => Vec::new(),
    };
    if arguments.json {
        return table::json(&report);
    }
    let series: Vec<String> = report.series.iter().map(series_text).collect();
    let quantisations: Vec<String> = report.quantisations.iter().map(quantisation_text).collect();
    let drawn = match (&drawn[..], &arguments.charts) {
        ([], None) => " `--charts FOLDER` draws them.\n".to_owned(),
        ([], Some(_)) => " No law, so no chart.\n".to_owned(),
        (files, _) => format!(" Drawn: {}\n", files.join(", ")),
    };
    Ok([series, quantisations].concat().join("\n") + &drawn)
}

/// What is recorded beside the measured models: a variant's divergence, and that its original has none. A record that
/// cannot be read is no record: the laws do not need it.
fn divergences(observations: &[Observation]) -> Vec<Divergence> {
    let files: BTreeMap<&str, &str> =
        observations.iter().map(|row| (row.model.file.as_str(), row.model.sha256.as_str())).collect();
    let mut found = BTreeMap::new();
    for (file, sha256) in files {
        let Ok(Some(quality)) = Quality::beside(Path::new(file)) else { continue };
        if quality.variant_sha256 != sha256 {
            continue;
        }
        let of = |kl_nats, top1_agreement, reference: String| Divergence {
            sha256: String::new(),
            kl_nats,
            top1_agreement: Some(top1_agreement),
            reference,
        };
        let positions = quality.positions;
        let reference = format!("the model it was made from ({positions} positions)");
        found.insert(sha256.to_owned(), of(quality.kl_nats_mean, quality.top1_agreement, reference));
        found.entry(quality.original_sha256).or_insert_with(|| of(0.0, 1.0, "itself".into()));
    }
    found.into_iter().map(|(sha256, divergence)| Divergence { sha256, ..divergence }).collect()
}

fn charts(report: &FitReport, folder: &Path) -> Result<Vec<String>> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut drawn: Vec<String> = Vec::new();
    for series in &report.series {
        for quantity in &series.quantities {
            let Some(svg) = draw(quantity, &series.key) else { continue };
            let key = &series.key;
            let name =
                format!("{}-{}t-{}-{}", key.device, key.threads, key.quantisation, quantity.quantity.slug());
            let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
            let name: String = name.chars().map(safe).collect();
            // The same device of another machine: numbered in the order of the table.
            let path = (1..)
                .map(|nth| if nth == 1 { format!("{name}.svg") } else { format!("{name}-{nth}.svg") })
                .map(|file| folder.join(file).display().to_string())
                .find(|path| !drawn.contains(path));
            let Some(path) = path else { continue };
            fs::write(&path, svg).with_context(|| path.clone())?;
            drawn.push(path);
        }
    }
    Ok(drawn)
}

fn paragraph(text: &str) -> String {
    wrap(text, usize::from(COLUMNS_MAX) - 1, "   ")
}

fn percent(share: f64) -> String {
    format!("{} %", figure(share * 100.0))
}

fn interval(interval: Interval) -> String {
    format!("{} to {}", figure(interval.low), figure(interval.high))
}

fn series_text(series: &SeriesReport) -> String {
    let headers =
        ["law of", "form", "b", "95 % interval", "R²\nlogs", "spread", "left-out error\nmedian, largest"];
    let mut rows = table::table(&headers, 2..7);
    (0..headers.len()).for_each(|column| table::keep_whole(&mut rows, column));
    let mut notes = String::new();
    for report in &series.quantities {
        for (at, law) in report.laws.iter().enumerate() {
            let mark = if report.winner == Some(at) { " *" } else { "" };
            rows.add_row([
                format!("{}{mark}", report.quantity.slug()),
                match law.fit.law.form {
                    Form::Power => format!("a·{}^b", law.predictor.symbol()),
                    Form::Affine => format!("a + b·{}", law.predictor.symbol()),
                },
                scientific(law.fit.law.b),
                format!("{} to {}", scientific(law.fit.b_interval.low), scientific(law.fit.b_interval.high)),
                law.fit.r2_log.map_or_else(|| MISSING.into(), |r2| format!("{r2:.3}")),
                format!("{:.3}", law.fit.spread_factor),
                format!("{}, {}", percent(law.left_out.median_error), percent(law.left_out.max_error)),
            ]);
        }
        notes += &quantity_notes(report);
    }
    let models: Vec<String> = series.subjects.iter().map(|subject| subject.model.label()).collect();
    let weightless = series.subjects.iter().filter(|subject| subject.model.weightless).count();
    let about = format!(
        "{} of {}: {} models ({weightless} of them weightless: random weights in the true shapes), {} cells{}: {}.",
        series.key,
        series.key.machine,
        models.len(),
        series.cells,
        match series.disturbed_cells {
            0 => String::new(),
            disturbed => format!(", {disturbed} of them disturbed by other programs"),
        },
        models.join(", ")
    );
    let symbols = Predictor::ALL.map(|predictor| format!("{}: {predictor}", predictor.symbol())).join(", ");
    let joint: String = series.joint.iter().map(joint_text).collect();
    let missing: String = series.joint_missing.iter().map(|why| format!(" {}\n", paragraph(why))).collect();
    let limits = match &series.limits {
        Some(limits) => limits_text(limits),
        None => {
            " No share of the machine's limits: its memory was not probed or no decode was measured.\n".into()
        }
    };
    format!(
        "{}\n{rows}\n * the law to go by; {symbols}\n{notes}{joint}{missing}\n{limits}",
        paragraph(&about)
    )
}

/// Exponents as they are, slopes in powers of ten.
fn scientific(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 { format!("{value:.2e}") } else { figure(value) }
}

fn quantity_notes(report: &QuantityReport) -> String {
    let mut text = format!(" {}: {}", report.quantity, report.verdict);
    if let Some(reference) = &report.reference {
        text += &format!(" Compared at {reference}, in {}", report.unit);
        if let Some(label) = &report.label {
            text += &format!(", {} ({})", label.provenance, label.source);
        }
        text += ".";
    }
    for held_out in &report.held_out {
        text += &format!(
            " Left out: {}, predicted {} ({}), measured {}: off by {}, {} the interval.",
            held_out.model,
            figure(held_out.predicted),
            interval(held_out.interval),
            figure(held_out.measured),
            percent(held_out.relative_error),
            if held_out.inside { "inside" } else { "outside" }
        );
    }
    if !report.absent.is_empty() {
        text += &format!(" Without this workload: {}.", report.absent.join(", "));
    }
    format!(" {}\n", paragraph(text.trim()))
}

fn joint_text(joint: &JointReport) -> String {
    let exponents = joint.fit.exponents.iter().map(|exponent| match (exponent.value, exponent.interval) {
        (Some(value), Some(range)) => format!("{}^{} ({})", exponent.factor, figure(value), interval(range)),
        (Some(value), None) => format!("{}^{}", exponent.factor, figure(value)),
        (None, _) => format!("{} was not varied", exponent.factor),
    });
    let label = joint.label.as_ref().map_or_else(String::new, |label| format!(", {}", label.provenance));
    let text = format!(
        "{} in {}{label} = {:.3e} · {}; over {} cells of {} models with a prompt of {} tokens; spread factor {:.3}; \
         left-out model: median error {}, largest {}.",
        joint.quantity.name(),
        joint.unit,
        joint.fit.constant,
        exponents.collect::<Vec<_>>().join(" · "),
        joint.fit.points,
        joint.fit.groups,
        joint.prompt_tokens,
        joint.fit.spread_factor,
        percent(joint.fit.left_out.median_error),
        percent(joint.fit.left_out.max_error)
    );
    format!(" {}\n", paragraph(&text))
}

fn limits_text(limits: &LimitReport) -> String {
    let headers = [
        "model",
        "step\nms",
        "MB by\nstep",
        "tok/s",
        "at most",
        "of read\nbandwidth",
        "of peak,\ndecode",
        "of peak,\nprefill",
    ];
    let mut rows = table::table(&headers, 1..8);
    (0..headers.len()).for_each(|column| table::keep_whole(&mut rows, column));
    for row in &limits.rows {
        rows.add_row([
            row.model.clone(),
            figure(row.step_ms),
            figure(row.bytes_per_step / 1e6),
            figure(row.tokens_per_s),
            figure(row.tokens_per_s_limit),
            percent(row.bandwidth_fraction),
            percent(row.arithmetic_fraction),
            row.prefill_arithmetic_fraction.map_or_else(|| MISSING.into(), percent),
        ]);
    }
    let roof = &limits.roofline;
    let limit = format!(
        "At most: what the memory's bandwidth allows. Limits: {} GB/s read, peak {} Gflop/s in 32 bits ({}). Quantised weights are multiplied as integers and may pass \
         the 32-bit peak.",
        figure(roof.read_bytes_per_s / 1e9),
        figure(roof.f32_flop_per_s / 1e9),
        roof.source
    );
    format!("{rows}\n {}\n {}\n", paragraph(&limit), paragraph(&limits.explanation))
}

fn quantisation_text(report: &QuantisationReport) -> String {
    let headers = [
        "quantisation",
        "weights",
        "prefill\ntok/s",
        "decode\ntok/s",
        "energy\nJ/token",
        "KL nats\nmean",
        "same top\ntoken",
        "choice",
    ];
    let mut rows = table::table(&headers, 1..7);
    let mut labels = Vec::new();
    for (at, row) in report.rows.iter().enumerate() {
        labels.extend(row.energy_label.as_ref().map(|label| label.provenance));
        let divergence = row.divergence.as_ref();
        rows.add_row([
            row.quantisation.clone(),
            table::bytes(row.weight_bytes),
            figure_or_missing(row.prefill_tokens_per_s),
            figure_or_missing(row.decode_tokens_per_s),
            figure_or_missing(row.energy_per_token_j),
            figure_or_missing(divergence.map(|divergence| divergence.kl_nats)),
            divergence.and_then(|d| d.top1_agreement).map_or_else(|| MISSING.into(), percent),
            if report.choice == Some(at) { "yes".into() } else { String::new() },
        ]);
    }
    let energy = labels.iter().min().map_or_else(String::new, |label| format!(" Energy: {label}."));
    let about =
        format!("{} in several quantisations, {}:", report.model, place(&report.device, report.threads));
    format!("{}\n{rows}\n {}\n", paragraph(&about), paragraph(&format!("{}{energy}", report.verdict)))
}
