//! The picture of a coverage run: what k samples solved, and what the laws say of more.
//!
//! Samples on a logarithmic axis, since each doubling is one more step of a budget; the share of tasks on a plain one from
//! nothing to all, since a share that is magnified hides how far there is to go.

use super::axis::{LogAxis, amount};
use super::svg::{self, Anchor, Svg};
use super::{
    BAND, BOTTOM, DOT, FAINT, GRID, INK, LAW, LEFT, LINE, PLOT_HEIGHT, RIGHT, RIVAL, TEXT, TOP, WIDTH,
};
use crate::coverage_run::{Basis, CoverageRunReport, Laws};

/// Shares that are labelled.
const SHARES: [f64; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];

/// The picture of a run's curve; missing where there is none.
pub fn draw_coverage(report: &CoverageRunReport) -> Option<String> {
    let last = report.curve.last()?.samples;
    let furthest = report.laws.as_ref().and_then(|laws| laws.at.last().copied()).unwrap_or(last).max(2);
    let x = LogAxis::new(0.85, f64::from(furthest) * 1.15, LEFT, RIGHT);
    let y = |share: f64| BOTTOM + share * (TOP - BOTTOM);
    let lines: Vec<String> =
        caption(report).iter().flat_map(|text| svg::wrap(text, TEXT, RIGHT - LEFT)).collect();
    let height = PLOT_HEIGHT + LINE * lines.len() as f64 + 12.0;
    let title = format!("Coverage: {} on {}", report.model.label(), report.plan.set);
    let mut svg = Svg::new(WIDTH, height, &title);
    for tick in x.ticks() {
        let at = x.place(tick);
        svg.line(at, TOP, at, BOTTOM, GRID, 1.0, None);
        svg.text(at, BOTTOM + 18.0, TEXT, INK, Anchor::Middle, &amount(tick, &["", "K", "M"], "", ""));
    }
    for share in SHARES {
        svg.line(LEFT, y(share), RIGHT, y(share), GRID, 1.0, None);
        let label = format!("{:.0} %", share * 100.0);
        svg.text(LEFT - 8.0, y(share) + 4.0, TEXT, INK, Anchor::End, &label);
    }
    svg.frame(LEFT, TOP, RIGHT - LEFT, BOTTOM - TOP, FAINT);
    svg.bold(LEFT, 30.0, 16.0, INK, &title);
    svg.text(
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 42.0,
        13.0,
        INK,
        Anchor::Middle,
        "Samples of each task (logarithmic)",
    );
    svg.upright_text(22.0, (TOP + BOTTOM) / 2.0, 13.0, INK, "Share of tasks solved");
    svg.begin_clip(LEFT, TOP, RIGHT - LEFT, BOTTOM - TOP);
    if let Some(laws) = &report.laws {
        draw_laws(&mut svg, laws, &x, y);
    }
    svg.end_group();
    for point in &report.curve {
        let at = x.place(f64::from(point.samples));
        if let Some(interval) = point.interval {
            svg.line(at, y(interval.low), at, y(interval.high), INK, 1.4, None);
        }
        let fill = if point.basis == Basis::Fitted { "#ffffff" } else { INK };
        svg.circle(at, y(point.coverage), DOT, fill, INK);
    }
    for (at, line) in lines.iter().enumerate() {
        svg.text(LEFT, PLOT_HEIGHT + LINE * at as f64, TEXT, FAINT, Anchor::Start, line);
    }
    Some(svg.finish())
}

/// The law to go by with its band, the others dashed.
fn draw_laws(svg: &mut Svg, laws: &Laws, x: &LogAxis, y: impl Fn(f64) -> f64) {
    let place = |k: u32| x.place(f64::from(k));
    let banded: Vec<_> = laws.chosen().filter_map(|(k, _, interval)| Some((k, interval?))).collect();
    let upper = banded.iter().map(|(k, interval)| (place(*k), y(interval.high)));
    let lower = banded.iter().rev().map(|(k, interval)| (place(*k), y(interval.low)));
    svg.polygon(&upper.chain(lower).collect::<Vec<_>>(), BAND);
    for law in laws.study.laws.iter().filter(|law| law.law != laws.study.chosen) {
        let line: Vec<_> =
            laws.at.iter().zip(&law.coverage).map(|(&k, &share)| (place(k), y(share))).collect();
        svg.polyline(&line, RIVAL, 1.0, Some("6 4"));
    }
    let line: Vec<_> = laws.chosen().map(|(k, share, _)| (place(k), y(share))).collect();
    svg.polyline(&line, LAW, 2.0, None);
}

fn caption(report: &CoverageRunReport) -> Vec<String> {
    let mut lines = vec![format!("Device: {} of {}.", report.plan.device, report.machine)];
    let points = match report.curve.first().map(|point| point.basis) {
        Some(Basis::PassAtK) => {
            "Points: unbiased pass@k of all samples; bars: Wilson's 95 % interval over tasks."
        }
        Some(Basis::WithinFirst) => {
            "Points: share of tasks that passed within their first k samples; bars: Wilson's 95 % interval."
        }
        Some(Basis::AsDrawn | Basis::Fitted) | None => {
            "Hollow points: the law itself, since outcomes chose the tasks; bars: its 95 % interval."
        }
    };
    lines.push(points.into());
    if let Some(laws) = &report.laws {
        lines.push(format!(
            "Line and band: {}, with its 95 % interval, an estimate; dashed: the other laws.",
            laws.study.chosen.name().replace('_', "-")
        ));
    }
    if report.model.weightless {
        lines.push("The model is weightless: its answers mean nothing.".into());
    }
    lines.into_iter().map(|line| line.replace(" %", "\u{a0}%")).collect()
}
