//! A coverage run as tables.

use crate::profile::place;
use crate::table::{self, COLUMNS_MAX, Footnotes, MISSING, figure, figure_or_missing, printable, wrap};
use qeil_fit::coverage_run::{Basis, CoverageRunReport, Laws};
use qeil_laws::interval::Interval;
use qeil_measure::coverage::Strategy;
use qeil_units::{Joules, Labelled};
use std::path::Path;

/// Characters of a full bar.
const BAR: usize = 24;
/// Names of unsolved tasks that are shown without `--json`.
const NAMES_MAX: usize = 24;

/// The report of a run that is kept in `store`.
pub fn text(report: &CoverageRunReport, ended: &str, store: &Path) -> String {
    let mut notes = Footnotes::default();
    let weightless = if report.model.weightless { notes.mark(table::WEIGHTLESS) } else { String::new() };
    let mut out = format!("{}\n{ended}.\n", wrap(&about(report, &weightless), width(), ""));
    out += &curve(report, &mut notes);
    if let Some(laws) = &report.laws {
        out += &laws_text(laws, report.plan.samples);
    }
    if report.kinds.len() > 1 {
        out += &kinds(report);
    }
    if !report.votes.is_empty() {
        out += &votes(report);
    }
    out += &notes.text();
    for line in remarks(report, store) {
        out += &format!(" {}\n", wrap(&line, width() - 4, "   "));
    }
    out
}

fn width() -> usize {
    usize::from(COLUMNS_MAX)
}

fn about(report: &CoverageRunReport, weightless: &str) -> String {
    let plan = &report.plan;
    let how = match (plan.strategy, plan.stop_at_pass) {
        (Strategy::Sequential, _) => "each where it is expected to solve most for its cost",
        (Strategy::Fixed, true) => "up to the first that passes",
        (Strategy::Fixed, false) => "all drawn",
    };
    format!(
        "{}{weightless} ({} {}), {}: {} of {} tasks of {} solved with {} samples each, {how}; temperature {}, seed {}",
        report.model.label(),
        table::parameters(report.model.parameters),
        report.model.quantisation,
        place(&plan.device, plan.threads),
        report.solved,
        report.solvable,
        plan.set,
        if plan.samples == 1 { "1".into() } else { format!("at most {}", plan.samples) },
        plan.sampling.temperature,
        plan.sampling.seed,
    )
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn range(interval: Option<Interval>) -> String {
    interval.map_or_else(
        || MISSING.into(),
        |interval| format!("{:.1} to {:.1}", interval.low * 100.0, interval.high * 100.0),
    )
}

fn joules(energy: Option<&Labelled<Joules>>) -> String {
    figure_or_missing(energy.map(|energy| energy.value.0))
}

fn curve(report: &CoverageRunReport, notes: &mut Footnotes) -> String {
    let headers = ["samples", "coverage", "95 %\ninterval", "energy\nJ", ""];
    let mut table = table::table(&headers, 0..4);
    for point in &report.curve {
        let note = match point.basis {
            Basis::PassAtK => "unbiased pass@k of all samples; Wilson's interval over tasks",
            Basis::WithinFirst => "share of tasks that passed within so many samples; Wilson's interval",
            Basis::AsDrawn => "share of tasks that passed among the samples they were given",
            Basis::Fitted => {
                "the law to go by, since outcomes chose which tasks were sampled; fitted by the likelihood that holds for \
                 stopped data"
            }
        };
        let filled = (point.coverage * BAR as f64).round() as usize;
        table.add_row([
            point.samples.to_string(),
            percent(point.coverage) + &notes.mark(note),
            range(point.interval),
            joules(point.energy.as_ref()),
            "█".repeat(filled) + &"·".repeat(BAR.saturating_sub(filled)),
        ]);
    }
    format!("{table}\n")
}

fn laws_text(laws: &Laws, samples: u32) -> String {
    let asked: Vec<usize> = (0..laws.at.len()).filter(|&at| laws.at[at] >= samples).collect();
    let mut headers = vec!["law".to_owned(), "held-out\ndeviance".to_owned()];
    headers.extend(asked.iter().map(|&at| format!("{} samples\n%", laws.at[at])));
    headers.push("parameters".into());
    let names: Vec<&str> = headers.iter().map(String::as_str).collect();
    let mut table = table::table(&names, 1..headers.len() - 1);
    for law in &laws.study.laws {
        let mark = if law.law == laws.study.chosen { " ←" } else { "" };
        let mut row = vec![
            law.law.name().replace('_', "-") + mark,
            law.held_out_deviance.map_or_else(|| MISSING.into(), |deviance| format!("{deviance:.3}")),
        ];
        row.extend(asked.iter().map(|&at| {
            let interval = law.intervals.get(at).copied().flatten();
            format!("{:.1}\n({})", law.coverage[at] * 100.0, range(interval))
        }));
        let parameters: Vec<String> = law
            .parameters
            .iter()
            .map(|parameter| format!("{} {}", parameter.name, figure(parameter.value)))
            .collect();
        row.push(parameters.join(", "));
        table.add_row(row);
    }
    format!("{table}\n")
}

fn kinds(report: &CoverageRunReport) -> String {
    let headers = ["kind", "tasks", "solved", "samples", "of these\npassed", "energy\nJ"];
    let mut table = table::table(&headers, 1..headers.len());
    for row in &report.kinds {
        table.add_row([
            row.kind.as_deref().map_or_else(|| MISSING.into(), |kind| printable(kind, false)),
            row.tasks.to_string(),
            row.solved.to_string(),
            row.samples.to_string(),
            row.pass_rate.map_or_else(|| MISSING.into(), percent),
            joules(row.energy.as_ref()),
        ]);
    }
    format!("{table}\n")
}

fn votes(report: &CoverageRunReport) -> String {
    let headers = ["task without a known answer", "answer", "votes", "samples", "stays\nahead"];
    let mut table = table::table(&headers, 2..headers.len());
    for row in &report.votes {
        table.add_row([
            printable(&row.id, false),
            row.answer.as_deref().map_or_else(|| MISSING.into(), |answer| printable(answer, false)),
            row.votes.to_string(),
            row.samples.to_string(),
            row.confidence.map_or_else(|| MISSING.into(), percent),
        ]);
    }
    format!("{table}\n")
}

fn remarks(report: &CoverageRunReport, store: &Path) -> Vec<String> {
    let cost = &report.cost;
    let mut lines = Vec::new();
    match &cost.gross {
        Some(gross) => {
            let net = cost
                .net
                .as_ref()
                .map_or_else(String::new, |net| format!(", {} J above idle", figure(net.value.0)));
            let each = cost.joules_per_solved.as_ref();
            let each = each.map_or_else(String::new, |each| {
                format!(", {} J for each solved task", figure(each.value.0))
            });
            lines.push(format!(
                "energy: {} J{net}{each}; {}: {}. Whatever is said of single tasks, kinds or fewer samples is shared out by \
                 computed tokens, an estimate.",
                figure(gross.value.0),
                gross.provenance,
                gross.source
            ));
        }
        None => lines.push(format!("energy: missing: {}", cost.remarks.join("; "))),
    }
    lines.push(format!(
        "time: {} s in {}, {} CPU seconds of which {} in the worker; {} tokens emitted, {} of prompts computed, {} reused",
        figure(cost.wall_s),
        if cost.sittings == 1 { "one sitting".into() } else { format!("{} sittings", cost.sittings) },
        figure(cost.cpu_s),
        figure(cost.worker_cpu_s),
        cost.emitted_tokens,
        cost.prefilled_tokens,
        cost.reused_tokens,
    ));
    lines.push(format!(
        "samples: {} judged, {} of them beyond a task's decision and not counted; {} cancelled",
        report.samples, report.surplus, report.cancelled
    ));
    if !report.never_solved.is_empty() {
        let shown: Vec<String> =
            report.never_solved.iter().take(NAMES_MAX).map(|id| printable(id, false)).collect();
        let more = report.never_solved.len().saturating_sub(NAMES_MAX);
        let more = if more > 0 { format!(" and {more} more (`--json` lists them)") } else { String::new() };
        lines.push(format!("never solved: {}{more}", shown.join(", ")));
    }
    lines.push(format!("settings: {}; run {} in {}", report.settings, report.run, store.display()));
    if !report.finished {
        lines.push("the same command without the bound that ended it goes on where it stopped".into());
    }
    lines
}
