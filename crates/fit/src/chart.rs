//! Pictures of the laws, as SVG.
//!
//! Written here and not by a charting crate: what a law needs is small (two logarithmic axes, a line, a band, a dozen
//! points), and what charting crates do worst is what these pictures live by: logarithmic ticks at 1, 2 and 5 when the
//! sizes span little more than a decade, and names beside points that do not cover each other.
//!
//! A picture says by itself what it shows: axes with units, the law with its 95 % prediction band, the rival dashed, the
//! span of the repetitions on each point, hollow points for weightless models, a diamond for a model that the law has
//! not seen, and a caption with device, workload, provenance and the verdict.

mod axis;
mod coverage;
mod names;
mod svg;

pub use coverage::draw_coverage;

use crate::LEVEL;
use crate::laws::{LawRow, Measured, QuantityReport};
use crate::quantity::Predictor;
use crate::series::SeriesKey;
use axis::{LogAxis, amount};
use names::{Area, Names};
use qeil_laws::law::Form;
use svg::{Anchor, Svg, text_width};

/// Width of a picture in pixels: half a screen, or a column of a page.
const WIDTH: f64 = 860.0;
/// Height of everything above the caption.
const PLOT_HEIGHT: f64 = 520.0;
/// Edges of the plot area.
const LEFT: f64 = 84.0;
const RIGHT: f64 = WIDTH - 28.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = PLOT_HEIGHT - 64.0;
/// Points of a drawn curve: an affine law bends on logarithmic axes.
const CURVE_POINTS: usize = 96;
/// How far the axes reach beyond the outermost point, as a factor.
const MARGIN: f64 = 1.35;
/// Height of a line of text.
const LINE: f64 = 17.0;
/// Size of ordinary text.
const TEXT: f64 = 12.0;
/// Where the base line of a text lies below its upper edge, as a share of its size.
const BASE_LINE: f64 = 0.85;
/// Half the size of a point.
const DOT: f64 = 5.0;

const INK: &str = "#1f2933";
const FAINT: &str = "#52606d";
const GRID: &str = "#e4e7eb";
const LAW: &str = "#1d5fa8";
const BAND: &str = "#d4e4f5";
const RIVAL: &str = "#b4540a";
const UNSEEN: &str = "#b3123f";

/// The picture of a quantity's winning law; missing where there is no law.
pub fn draw(report: &QuantityReport, key: &SeriesKey) -> Option<String> {
    let best = report.best()?;
    let rival = report
        .laws
        .iter()
        .find(|row| row.predictor == best.predictor && row.fit.law.form == best.fit.law.form.rival());
    Picture { report, key, best, rival }.draw()
}

struct Picture<'a> {
    report: &'a QuantityReport,
    key: &'a SeriesKey,
    best: &'a LawRow,
    rival: Option<&'a LawRow>,
}

impl Picture<'_> {
    fn draw(&self) -> Option<String> {
        let points = &self.report.points;
        let span = |of: &dyn Fn(&Measured) -> [f64; 2]| {
            points.iter().map(of).reduce(|a, b| [a[0].min(b[0]), a[1].max(b[1])])
        };
        let x_span = span(&|point| [self.x(point); 2])?;
        let y_span = span(&|point| [point.range.low, point.range.high])?;
        let x = LogAxis::new(x_span[0] / MARGIN, x_span[1] * MARGIN, LEFT, RIGHT);
        let y = LogAxis::new(y_span[0] / MARGIN / MARGIN, y_span[1] * MARGIN * MARGIN, BOTTOM, TOP);
        let caption = self.caption();
        let lines: Vec<String> =
            caption.iter().flat_map(|text| svg::wrap(text, TEXT, RIGHT - LEFT)).collect();
        let height = PLOT_HEIGHT + LINE * lines.len() as f64 + 12.0;
        let mut svg =
            Svg::new(WIDTH, height, &format!("{} over {}", self.report.quantity, self.best.predictor));
        self.axes(&mut svg, &x, &y);
        svg.begin_clip(LEFT, TOP, RIGHT - LEFT, BOTTOM - TOP);
        self.curves(&mut svg, &x, &y);
        svg.end_group();
        let dots: Vec<(f64, f64)> =
            points.iter().map(|point| (x.place(self.x(point)), y.place(point.value))).collect();
        for (point, &(px, py)) in points.iter().zip(&dots) {
            mark(&mut svg, point, px, py, y.place(point.range.low), y.place(point.range.high));
        }
        let legend = self.legend(&mut svg, &dots);
        self.names(&mut svg, &dots, legend, &x, &y);
        for (at, line) in lines.iter().enumerate() {
            svg.text(LEFT, PLOT_HEIGHT + LINE * at as f64, TEXT, FAINT, Anchor::Start, line);
        }
        Some(svg.finish())
    }

    fn x(&self, point: &Measured) -> f64 {
        let at = Predictor::ALL.iter().position(|predictor| *predictor == self.best.predictor).unwrap_or(0);
        point.predictors[at]
    }

    /// Joules of single tokens are small: millijoules read better.
    fn unit(&self) -> (f64, String) {
        let most = self.report.points.iter().map(|point| point.value).fold(0.0, f64::max);
        if self.report.unit == "J" && most < 1.0 {
            (1e3, "mJ".into())
        } else {
            (1.0, self.report.unit.clone())
        }
    }

    fn axes(&self, svg: &mut Svg, x: &LogAxis, y: &LogAxis) {
        let (scale, unit) = self.unit();
        for tick in x.ticks() {
            let at = x.place(tick);
            svg.line(at, TOP, at, BOTTOM, GRID, 1.0, None);
            let label = match self.best.predictor {
                Predictor::StepBytes => amount(tick, &["", "k", "M", "G", "T"], " ", "B"),
                _ => amount(tick, &["", "K", "M", "B", "T"], "", ""),
            };
            svg.text(at, BOTTOM + 18.0, TEXT, INK, Anchor::Middle, &label);
        }
        for tick in y.scaled(scale).ticks() {
            let at = y.place(tick / scale);
            svg.line(LEFT, at, RIGHT, at, GRID, 1.0, None);
            svg.text(LEFT - 8.0, at + 4.0, TEXT, INK, Anchor::End, &amount(tick, &[""], "", ""));
        }
        svg.frame(LEFT, TOP, RIGHT - LEFT, BOTTOM - TOP, FAINT);
        let title = format!("{}: {}", capital(self.report.quantity.name()), self.key);
        svg.bold(LEFT, 30.0, 16.0, INK, &title);
        let x_title = match self.best.predictor {
            Predictor::StepBytes => "Bytes of weights read per decode step (logarithmic)".to_string(),
            other => format!("{} (count, logarithmic)", capital(other.name())),
        };
        svg.text((LEFT + RIGHT) / 2.0, BOTTOM + 42.0, 13.0, INK, Anchor::Middle, &x_title);
        let y_title = format!("{}, {unit} (logarithmic)", capital(self.report.quantity.name()));
        svg.upright_text(22.0, (TOP + BOTTOM) / 2.0, 13.0, INK, &y_title);
    }

    fn curves(&self, svg: &mut Svg, x: &LogAxis, y: &LogAxis) {
        let banded: Vec<_> = x
            .samples(CURVE_POINTS)
            .filter_map(|at| Some((at, self.best.fit.predict(at, LEVEL).ok()?)))
            .collect();
        let upper = banded.iter().map(|(at, (_, band))| (x.place(*at), y.place(band.high)));
        let lower = banded.iter().rev().map(|(at, (_, band))| (x.place(*at), y.place(band.low)));
        svg.polygon(&upper.chain(lower).collect::<Vec<_>>(), BAND);
        if let Some(rival) = self.rival {
            let law = rival.fit.law;
            let curve: Vec<_> = x
                .samples(CURVE_POINTS)
                .filter(|&at| law.at(at) > 0.0)
                .map(|at| (x.place(at), y.place(law.at(at))))
                .collect();
            svg.polyline(&curve, RIVAL, 1.6, Some("6 4"));
        }
        let curve: Vec<_> = banded.iter().map(|(at, (value, _))| (x.place(*at), y.place(*value))).collect();
        svg.polyline(&curve, LAW, 2.0, None);
    }

    /// Rows of the legend that apply.
    fn legend_rows(&self) -> Vec<(Key, String)> {
        let describe = |row: &LawRow| {
            let exponent = match row.fit.law.form {
                Form::Power => {
                    let interval = row.fit.b_interval;
                    format!("exponent {:.2} ({:.2} to {:.2})", row.fit.law.b, interval.low, interval.high)
                }
                Form::Affine => "a + b·x".into(),
            };
            let error = crate::laws::percent(row.left_out.median_error);
            format!("{}, {exponent}; left-out error {error}", row.fit.law.form)
        };
        let any = |f: &dyn Fn(&Measured) -> bool| self.report.points.iter().any(f);
        let mut rows = vec![(Key::Law, capital(&describe(self.best)))];
        rows.push((Key::Band, "95 % prediction interval of a new model".into()));
        rows.extend(self.rival.map(|rival| (Key::Rival, format!("Rival: {}", describe(rival)))));
        if any(&|point| !point.weightless && !point.held_out) {
            rows.push((Key::Real, "Measured, real weights".into()));
        }
        if any(&|point| point.weightless && !point.held_out) {
            rows.push((Key::Weightless, "Measured, weightless (random weights)".into()));
        }
        if any(&|point| point.held_out) {
            rows.push((Key::Unseen, "Measured, held out: not seen by the laws".into()));
        }
        rows
    }

    /// Draws the legend in the upper left corner, or the lower right one where points lie there; returns its area.
    fn legend(&self, svg: &mut Svg, dots: &[(f64, f64)]) -> Area {
        let rows = self.legend_rows();
        let widest = rows.iter().map(|(_, text)| text_width(text, TEXT)).fold(0.0, f64::max);
        let (width, height) = (widest + 52.0, LINE * rows.len() as f64 + 12.0);
        let corners = [
            Area { x: LEFT + 10.0, y: TOP + 10.0, width, height },
            Area { x: RIGHT - 10.0 - width, y: BOTTOM - 10.0 - height, width, height },
        ];
        let crowd = |area: &Area| dots.iter().filter(|(x, y)| area.grown(DOT * 2.0).holds(*x, *y)).count();
        let area = if crowd(&corners[1]) < crowd(&corners[0]) { corners[1] } else { corners[0] };
        svg.card(area.x, area.y, area.width, area.height, GRID);
        for (at, (key, text)) in rows.iter().enumerate() {
            let y = area.y + 6.0 + LINE * (at as f64 + 0.5);
            key.draw(svg, area.x + 8.0, y);
            svg.text(area.x + 44.0, y + 4.0, TEXT, INK, Anchor::Start, text);
        }
        area
    }

    /// Writes the models' names where they cover nothing.
    fn names(&self, svg: &mut Svg, dots: &[(f64, f64)], legend: Area, x: &LogAxis, y: &LogAxis) {
        let plot = Area { x: LEFT, y: TOP, width: RIGHT - LEFT, height: BOTTOM - TOP };
        let mut names = Names::new(plot, dots);
        names.avoid(legend);
        for (point, &(px, py)) in self.report.points.iter().zip(dots) {
            let (low, high) = (y.place(point.range.low), y.place(point.range.high));
            names.avoid(Area::around(px, py, DOT + 1.0));
            names.avoid(Area { x: px - 2.0, y: high, width: 4.0, height: low - high });
        }
        let law = self.best.fit.law;
        for at in x.samples(CURVE_POINTS).filter(|&at| law.at(at) > 0.0) {
            names.prefer_not(Area::around(x.place(at), y.place(law.at(at)), 3.0));
        }
        for (point, &(px, py)) in self.report.points.iter().zip(dots) {
            // What is weightless shows in the point itself.
            let name = point.model.trim_end_matches(" (weightless)");
            let size = TEXT - 1.0;
            let placed = names.place(px, py, text_width(name, size), size);
            let Area { x: tx, y: top, .. } = placed.area;
            if placed.needs_line {
                let (nx, ny) = placed.area.nearest(px, py);
                let share = (DOT + 1.0) / placed.area.distance(px, py).max(DOT + 1.0);
                svg.line(px + (nx - px) * share, py + (ny - py) * share, nx, ny, FAINT, 0.8, None);
            }
            let colour = if point.held_out { UNSEEN } else { INK };
            svg.halo_text(tx, top + BASE_LINE * size, size, colour, name);
        }
    }

    fn caption(&self) -> Vec<String> {
        let mut machine = format!("Device: {}", self.key.device);
        if !self.key.machine.is_empty() {
            machine += &format!(" of {}", self.key.machine);
        }
        let reference =
            self.report.reference.map(|reference| format!(" Workload: {reference}.")).unwrap_or_default();
        let provenance = match &self.report.label {
            Some(label) => format!("Figures are {} ({}).", label.provenance, label.source),
            None => "Where the figures come from is not recorded.".into(),
        };
        let mut lines = vec![
            format!("{machine}.{reference}"),
            format!("{provenance} Points are medians; bars span the repetitions. The law is an estimate."),
        ];
        if self.report.points.iter().any(|point| point.weightless) {
            lines.push(
                "Weightless models have the true shape and random weights: speed and energy are the architecture's."
                    .into(),
            );
        }
        let disturbed: Vec<&str> =
            self.report.points.iter().filter(|p| p.disturbed).map(|p| p.model.as_str()).collect();
        if !disturbed.is_empty() {
            lines.push(format!("Disturbed by other processes: {}.", disturbed.join(", ")));
        }
        lines.extend(self.report.held_out.iter().map(|held| {
            let side = if held.inside { "inside" } else { "outside" };
            format!(
                "Held out: {} was predicted {:.1} % off, {side} its interval.",
                held.model,
                100.0 * held.relative_error.abs()
            )
        }));
        lines.push(self.report.verdict.clone());
        // A number stays on the line of its percent sign.
        lines.iter().map(|line| line.replace(" %", "\u{a0}%")).collect()
    }
}

/// What a row of the legend explains.
#[derive(Debug, Clone, Copy)]
enum Key {
    Law,
    Band,
    Rival,
    Real,
    Weightless,
    Unseen,
}

impl Key {
    fn draw(self, svg: &mut Svg, x: f64, y: f64) {
        let middle = x + 14.0;
        match self {
            Self::Law => svg.line(x, y, x + 28.0, y, LAW, 2.0, None),
            Self::Rival => svg.line(x, y, x + 28.0, y, RIVAL, 1.6, Some("6 4")),
            Self::Band => {
                svg.polygon(&[(x, y - 6.0), (x + 28.0, y - 6.0), (x + 28.0, y + 6.0), (x, y + 6.0)], BAND);
            }
            Self::Real => svg.circle(middle, y, DOT, INK, INK),
            Self::Weightless => svg.circle(middle, y, DOT, "#ffffff", INK),
            Self::Unseen => svg.diamond(middle, y, DOT + 1.5, UNSEEN),
        }
    }
}

fn mark(svg: &mut Svg, point: &Measured, x: f64, y: f64, low: f64, high: f64) {
    let colour = if point.held_out { UNSEEN } else { INK };
    svg.line(x, low, x, high, colour, 1.4, None);
    for end in [low, high] {
        svg.line(x - 4.0, end, x + 4.0, end, colour, 1.4, None);
    }
    match (point.held_out, point.weightless) {
        (true, _) => svg.diamond(x, y, DOT + 1.5, UNSEEN),
        (false, true) => svg.circle(x, y, DOT, "#ffffff", INK),
        (false, false) => svg.circle(x, y, DOT, INK, INK),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
