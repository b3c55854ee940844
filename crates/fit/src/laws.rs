//! The laws of one quantity: every form over every predictor, judged on models they have not seen.
//!
//! Models are compared under one workload, the one that most of them were measured under. Six laws take part (power and
//! affine, over non-embedding parameters, total parameters, bytes read per step), and the one with the least median
//! error on left-out models is named, with its lead over the best law of the other form: a power law that loses is said
//! to have lost.

use crate::quantity::{Predictor, Quantity, Reference};
use crate::series::{CellMedian, Series, clock, weakest};
use crate::{LEVEL, SEED};
use qeil_laws::LawError;
use qeil_laws::contest::{Candidate, Contest, LeaveOneOut, hold};
use qeil_laws::interval::{Interval, REPLICATES, bootstrap, median};
use qeil_laws::law::{Fit, Form, Law, Point};
use qeil_measure::profile::ModelIdentity;
use qeil_units::Labelled;
use serde::{Deserialize, Serialize};

/// A model's figure, with what the repetitions spanned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Place of the model in the series.
    pub subject: usize,
    /// Name of the model, marked if weightless.
    pub model: String,
    /// Whether its weights are random.
    pub weightless: bool,
    /// Whether the laws have seen it.
    pub held_out: bool,
    /// Whether only disturbed repetitions exist.
    pub disturbed: bool,
    /// Median over the repetitions, in the quantity's unit.
    pub value: f64,
    /// Least and most of the repetitions.
    pub range: Interval,
    /// How many repetitions.
    pub repetitions: usize,
    /// The predictors, in the order of [`Predictor::ALL`].
    pub predictors: [f64; 3],
}

/// One of the laws.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LawRow {
    /// What it is over.
    pub predictor: Predictor,
    /// The law, its intervals, its spread.
    pub fit: Fit,
    /// 95 % interval of the exponent (of the slope, for an affine law) by bootstrap over models; missing where too few
    /// resamples gave a law.
    pub b_bootstrap: Option<Interval>,
    /// Its errors on left-out models.
    pub left_out: LeaveOneOut,
}

/// A model that the laws have not seen, and what they say of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// The model.
    pub model: String,
    /// What was measured.
    pub measured: f64,
    /// What the winning law gives.
    pub predicted: f64,
    /// Its 95 % prediction interval.
    pub interval: Interval,
    /// Predicted over measured, less one.
    pub relative_error: f64,
    /// Whether the measured value lies in the interval.
    pub inside: bool,
}

/// The laws of one quantity in one series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantityReport {
    /// The quantity.
    pub quantity: Quantity,
    /// Its unit.
    pub unit: String,
    /// The workload that models are compared under; missing where no cell shows the quantity.
    pub reference: Option<Reference>,
    /// How the figures were come by: measured, estimated or simulated, and from what.
    pub label: Option<Labelled<()>>,
    /// The models, by size.
    pub points: Vec<Measured>,
    /// Models without this workload.
    pub absent: Vec<String>,
    /// The laws; empty where there is none, and `verdict` says why.
    pub laws: Vec<LawRow>,
    /// Place of the winner in `laws`.
    pub winner: Option<usize>,
    /// Errors where each model's law was chosen without it: what the choice itself costs.
    pub blind: Option<LeaveOneOut>,
    /// Which law wins and by how much, in a sentence or two.
    pub verdict: String,
    /// Models that were held out.
    pub held_out: Vec<HeldOut>,
}

impl QuantityReport {
    /// The laws of `quantity` over the models of a series.
    pub fn new(quantity: Quantity, series: &Series) -> Self {
        let reference = reference_of(quantity, series);
        let points: Vec<Measured> = match reference {
            Some(reference) => measured(quantity, reference, series),
            None => Vec::new(),
        };
        let label = reference.and_then(|reference| label_of(quantity, reference, series));
        let absent = (0..series.subjects.len())
            .filter(|at| points.iter().all(|point| point.subject != *at))
            .map(|at| series.subjects[at].label())
            .collect();
        let mut report = Self {
            quantity,
            unit: quantity.unit().into(),
            reference,
            label,
            points,
            absent,
            laws: Vec::new(),
            winner: None,
            blind: None,
            verdict: String::new(),
            held_out: Vec::new(),
        };
        match report.fit(series) {
            Ok(()) => report.verdict = report.sentence(),
            Err(error) => report.verdict = format!("No law: {error}."),
        }
        report
    }

    /// The law to go by.
    pub fn best(&self) -> Option<&LawRow> {
        self.laws.get(self.winner?)
    }

    fn fit(&mut self, series: &Series) -> Result<(), LawError> {
        let seen: Vec<(usize, f64)> = self
            .points
            .iter()
            .filter(|point| !point.held_out)
            .map(|point| (point.subject, point.value))
            .collect();
        let chosen = Chosen::among(series, &seen)?;
        self.laws = chosen.laws;
        self.winner = Some(chosen.winner);
        self.blind = chosen.blind;
        if let Some(best) = self.best() {
            let held_out = self.points.iter().filter(|point| point.held_out);
            self.held_out = held_out.filter_map(|point| judge(best, point, series)).collect();
        }
        Ok(())
    }

    /// The best law of a form, or over a predictor.
    fn best_where(&self, wanted: impl Fn(&LawRow) -> bool) -> Option<&LawRow> {
        let error = |row: &&LawRow| row.left_out.median_error;
        self.laws.iter().filter(|row| wanted(row)).min_by(|a, b| error(a).total_cmp(&error(b)))
    }

    fn sentence(&self) -> String {
        let Some(best) = self.best() else { return String::new() };
        let form = best.fit.law.form;
        let mut text = format!(
            "The {form} over {} wins: median error {} on a left-out model, largest {}.",
            best.predictor,
            percent(best.left_out.median_error),
            percent(best.left_out.max_error)
        );
        if let Some(rival) = self.best_where(|row| row.fit.law.form == form.rival()) {
            let lead = rival.left_out.median_error - best.left_out.median_error;
            let over = if rival.predictor == best.predictor {
                "over the same".to_string()
            } else {
                format!("over {}", rival.predictor)
            };
            let what = match form {
                Form::Power => format!("Its affine rival {over} is"),
                Form::Affine => format!("The power law loses: {over} it is"),
            };
            text += &format!(
                " {what} off by {}, {} points more.",
                percent(rival.left_out.median_error),
                points(lead)
            );
        }
        let over = |predictor| self.best_where(|row| row.predictor == predictor);
        if let (Some(without), Some(total)) = (over(Predictor::NonEmbedding), over(Predictor::Total)) {
            let (a, b) = (without.left_out.median_error, total.left_out.median_error);
            let (better, worse) = if a <= b {
                ("without embeddings", "total parameters")
            } else {
                ("in total", "those without embeddings")
            };
            text += &format!(
                " Parameters {better} predict better than {worse} ({} against {}).",
                percent(a.min(b)),
                percent(a.max(b))
            );
        }
        if let Some(blind) = &self.blind {
            text += &format!(
                " Chosen without the model it predicts, the law is off by {}.",
                percent(blind.median_error)
            );
        }
        text
    }
}

/// All laws through some models, and which to go by.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// Those that exist.
    pub laws: Vec<LawRow>,
    /// The best of them.
    pub winner: usize,
    /// Errors of the choice itself.
    pub blind: Option<LeaveOneOut>,
}

impl Chosen {
    /// Fit all laws to `seen`, pairs of a model's place in the series and its value, and choose.
    ///
    /// # Errors
    /// No law can be had.
    pub fn among(series: &Series, seen: &[(usize, f64)]) -> Result<Self, LawError> {
        let converted = series.key.quantisation.contains(" as ");
        let mut candidates = Vec::new();
        for predictor in Predictor::ALL {
            // The bytes in the file are not those in memory then.
            if predictor == Predictor::StepBytes && converted {
                continue;
            }
            let points: Vec<Point> = seen
                .iter()
                .map(|&(subject, y)| {
                    let subject = &series.subjects[subject];
                    Point { group: subject.group, x: predictor.of(&subject.model), y }
                })
                .collect();
            candidates.extend(Form::ALL.map(|form| (predictor, Candidate { form, points: points.clone() })));
        }
        // A form that does not fit its own points cannot be chosen to predict others.
        let mut fits = Vec::new();
        let mut first_error = None;
        for (predictor, candidate) in candidates {
            match Fit::new(candidate.form, &candidate.points) {
                Ok(fit) => fits.push((predictor, fit, candidate)),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        if let (true, Some(error)) = (fits.is_empty(), first_error) {
            return Err(error);
        }
        let candidates: Vec<Candidate> = fits.iter().map(|(_, _, candidate)| candidate.clone()).collect();
        let Contest { standings, winner, blind } = hold(&candidates)?;
        let repeat_sd = series.repeat_sd();
        let mut laws = Vec::new();
        let mut place = 0;
        for (at, ((predictor, fit, candidate), standing)) in fits.into_iter().zip(standings).enumerate() {
            let Some(left_out) = standing else { continue };
            if at == winner {
                place = laws.len();
            }
            let b_bootstrap = slope_interval(&candidate);
            let fit = fit.with_repeats(repeat_sd);
            laws.push(LawRow { predictor, fit, b_bootstrap, left_out });
        }
        Ok(Self { laws, winner: place, blind })
    }

    /// The law to go by.
    pub fn best(&self) -> &LawRow {
        &self.laws[self.winner]
    }
}

fn slope_interval(candidate: &Candidate) -> Option<Interval> {
    let groups: Vec<u32> = candidate.points.iter().map(|point| point.group).collect();
    let slope = |resample: &[usize]| {
        let drawn: Vec<Point> = resample.iter().map(|&at| candidate.points[at]).collect();
        Law::through(candidate.form, &drawn).ok().map(|law| vec![law.b])
    };
    bootstrap(&groups, REPLICATES, LEVEL, SEED, slope)?.first().copied()
}

fn judge(best: &LawRow, point: &Measured, series: &Series) -> Option<HeldOut> {
    let x = best.predictor.of(&series.subjects[point.subject].model);
    let (predicted, interval) = best.fit.predict(x, LEVEL).ok()?;
    Some(HeldOut {
        model: point.model.clone(),
        measured: point.value,
        predicted,
        interval,
        relative_error: predicted / point.value - 1.0,
        inside: interval.holds(point.value),
    })
}

/// The workload that most models were measured under; of equals the one at the least depth, then with the longest output
/// and the longest prompt, which average over most steps. (Not the one with most rows: noise makes rows.)
fn reference_of(quantity: Quantity, series: &Series) -> Option<Reference> {
    let with_value = |cell: &&CellMedian| cell.rows.iter().any(|row| quantity.of(row).is_some());
    let mut references: Vec<Reference> =
        series.cells.iter().filter(with_value).filter_map(|cell| quantity.reference(&cell.cell)).collect();
    references.sort_unstable();
    references.dedup();
    references.into_iter().max_by_key(|reference| {
        let mut models: Vec<usize> =
            cells_of(quantity, *reference, series).map(|cell| cell.subject).collect();
        models.sort_unstable();
        models.dedup();
        let longest = (reference.output_tokens, reference.prompt_tokens);
        (models.len(), std::cmp::Reverse(reference.depth_tokens), longest)
    })
}

fn cells_of(quantity: Quantity, reference: Reference, series: &Series) -> impl Iterator<Item = &CellMedian> {
    series.cells.iter().filter(move |cell| quantity.reference(&cell.cell) == Some(reference))
}

/// Each model's median, over all repetitions of the cells that show the quantity.
fn measured(quantity: Quantity, reference: Reference, series: &Series) -> Vec<Measured> {
    let mut points = Vec::new();
    for (subject, of) in series.subjects.iter().enumerate() {
        let own: Vec<&CellMedian> =
            cells_of(quantity, reference, series).filter(|cell| cell.subject == subject).collect();
        let calm = own.iter().any(|cell| !cell.disturbed);
        let cells = own.iter().filter(|cell| !calm || !cell.disturbed);
        let values: Vec<f64> = cells.flat_map(|cell| &cell.rows).filter_map(|row| quantity.of(row)).collect();
        let (Some(value), Some(low), Some(high)) = (
            median(&values),
            values.iter().copied().reduce(f64::min),
            values.iter().copied().reduce(f64::max),
        ) else {
            continue;
        };
        points.push(Measured {
            subject,
            model: of.label(),
            weightless: of.model.weightless,
            held_out: of.held_out,
            disturbed: !calm,
            value,
            range: Interval { low, high },
            repetitions: values.len(),
            predictors: predictors(&of.model),
        });
    }
    points
}

/// The predictors of a model, in the order of [`Predictor::ALL`].
pub fn predictors(model: &ModelIdentity) -> [f64; 3] {
    Predictor::ALL.map(|predictor| predictor.of(model))
}

fn label_of(quantity: Quantity, reference: Reference, series: &Series) -> Option<Labelled<()>> {
    if !quantity.is_energy() {
        return Some(clock());
    }
    let labels: Vec<Labelled<()>> =
        cells_of(quantity, reference, series).filter_map(CellMedian::energy_label).collect();
    weakest(&labels)
}

/// A share as a percentage with two or three digits.
pub fn percent(share: f64) -> String {
    format!("{} %", points(share))
}

/// The same without the sign.
fn points(share: f64) -> String {
    let value = 100.0 * share;
    if value.abs() < 9.95 { format!("{value:.1}") } else { format!("{value:.0}") }
}
