//! `qeil fit coverage`: coverage at many samples from the counts of few.

use crate::table::{self, COLUMNS_MAX, MISSING, figure, parameters, wrap};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use qeil_fit::coverage::{CoverageInput, CoverageReport, ModelCoverage, describe, read_counts};
use qeil_laws::coverage::study::Law;
use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

/// Models that take longer than this are told of one by one.
const QUIET_S: u64 = 3;
/// Most samples a problem that coverage is asked at: beyond it every law is a guess.
const K_MAX: u64 = 1_000_000_000;

/// What `fit` is of, where it is not of the stored measurements.
#[derive(Debug, Subcommand)]
pub enum FitCommand {
    /// Coverage (share of problems solved) at many samples, from counts of samples and passes
    Coverage(CoverageArguments),
}

#[derive(Debug, Args)]
pub struct CoverageArguments {
    /// CSV file with the columns model, params, problem, samples, correct, and stopped where runs were adaptive
    #[arg(long, value_name = "FILE")]
    pub counts: PathBuf,
    /// Samples a problem at which to give coverage
    #[arg(long, value_name = "K,...", value_delimiter = ',', default_value = "100,1000,10000",
          value_parser = clap::value_parser!(u64).range(1..=K_MAX))]
    pub at: Vec<u64>,
    /// Confidence of the intervals
    #[arg(long, value_name = "SHARE", default_value_t = qeil_fit::LEVEL, value_parser = level)]
    pub level: f64,
    /// Seed of all resampling
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print one JSON document instead of tables
    #[arg(long)]
    pub json: bool,
}

fn level(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    // Beyond these a few hundred resamples have nothing to say.
    if (0.5..=0.99).contains(&value) { Ok(value) } else { Err("must lie between 0.5 and 0.99".into()) }
}

pub fn fit_coverage(arguments: &CoverageArguments) -> Result<String> {
    let name = arguments.counts.display().to_string();
    let file = File::open(&arguments.counts).with_context(|| name.clone())?;
    let models = read_counts(&name, file)?;
    let mut at = arguments.at.clone();
    at.sort_unstable();
    at.dedup();
    let input = CoverageInput { models: &models, at: &at, level: arguments.level, seed: arguments.seed };
    let (began, spinner) = (Instant::now(), ProgressBar::hidden());
    let report = CoverageReport::new(&input, &|model| {
        if began.elapsed().as_secs() >= QUIET_S {
            table::progress(&spinner, &format!("fitted {model}"));
        }
    })?;
    if arguments.json { table::json(&report) } else { Ok(text(&report)) }
}

fn text(report: &CoverageReport) -> String {
    let models: Vec<String> = report.models.iter().map(|model| model_text(report, model)).collect();
    let joint = match (&report.joint, &report.joint_missing) {
        (Some(joint), _) => format!(
            "Over {} models: coverage = 1 − exp(−α·N^βN·S^βS) with N parameters and S samples, βN = {} ({} to {}), βS = \
             {}{}; a model lies off by a factor of {}.",
            joint.models,
            figure(joint.parameters_exponent),
            figure(joint.parameters_interval.low),
            figure(joint.parameters_interval.high),
            figure(joint.samples_exponent),
            joint.samples_interval.map_or_else(String::new, |interval| format!(
                " ({} to {})",
                figure(interval.low),
                figure(interval.high)
            )),
            figure(joint.spread_factor)
        ),
        (None, why) => {
            format!("No dependence on the size of the model: {}.", why.as_deref().unwrap_or("not fitted"))
        }
    };
    let about = format!(
        "* the law to go by. Coverage: expected share of these problems that k samples each solve, estimated from the \
         counts; in brackets where that of such problems lies at {} % confidence. Deviance: of the first passes of \
         held-out problems under the law fitted to others, with all their samples and with a quarter; less is better.",
        (report.level * 1e3).round() / 10.0
    );
    format!("{}\n {}\n {}\n", models.join("\n"), paragraph(&about), paragraph(&joint))
}

/// Indented by one column, and by three from the second line on.
fn paragraph(text: &str) -> String {
    wrap(text, usize::from(COLUMNS_MAX) - 3, "   ")
}

fn model_text(report: &CoverageReport, model: &ModelCoverage) -> String {
    let mut headers = vec!["law".to_owned()];
    headers.extend(report.at.iter().map(|k| format!("k = {k}")));
    headers.push("deviance".into());
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let mut rows = table::table(&headers, 1..headers.len());
    for law in Law::ALL {
        let Some(found) = model.laws.get(law.name()) else { continue };
        let mark = if model.chosen == law.name() { " *" } else { "" };
        let mut row = vec![format!("{}{mark}", describe(law))];
        row.extend(report.at.iter().map(|k| {
            match (found.coverage.get(k), found.ci.get(k).copied().flatten()) {
                (Some(value), Some([low, high])) => {
                    format!("{} ({}–{})", figure(*value), figure(low), figure(high))
                }
                (Some(value), None) => figure(*value),
                (None, _) => MISSING.into(),
            }
        }));
        row.push(table::figure_or_missing(found.held_out_deviance));
        rows.add_row(row);
    }
    let mut counted = vec!["counted: pass@k".to_owned()];
    counted.extend(report.at.iter().map(|k| match model.pass_at_k.get(k).copied().flatten() {
        Some(found) if found.problems == model.problems => figure(found.value),
        Some(found) => format!("{} (of {})", figure(found.value), found.problems),
        None => MISSING.into(),
    }));
    counted.push(String::new());
    rows.add_row(counted);
    let mut apart = vec!["laws apart by".to_owned()];
    apart.extend(report.at.iter().map(|k| table::figure_or_missing(model.disagreement.get(k).copied())));
    apart.push(String::new());
    rows.add_row(apart);
    let samples = if model.samples_min == model.samples_max {
        model.samples_min.to_string()
    } else {
        format!("{} to {}", model.samples_min, model.samples_max)
    };
    let stopped = match model.stopped {
        0 => String::new(),
        stopped => format!(", {stopped} of them stopped by their outcomes"),
    };
    format!(
        "{} ({} parameters): {} of {} problems solved with {samples} samples each{stopped}\n{rows}\n",
        model.model,
        parameters(model.params),
        model.solved,
        model.problems
    )
}
