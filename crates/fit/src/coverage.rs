//! Counts of repeated sampling into coverage: the document of `qeil fit coverage`.
//!
//! The counts may come from anywhere: a CSV file with the columns `model,params,problem,samples,correct` in any order,
//! other columns ignored, and one row for each problem of each model. A further column `stopped` (`true` or `false`)
//! marks problems whose number of samples depended on their outcomes; such a problem has no pass@k, while all laws hold.
//!
//! In the document everything that depends on k is an object with k as its key (`"coverage": {"1000": 0.31}`), so that a
//! reader needs no second list to find a figure.

use qeil_laws::coverage::joint::{JointCoverage, ModelTally};
use qeil_laws::coverage::pass::mean_pass_at_k;
use qeil_laws::coverage::study::{Law, LawStudy, REPLICATES, Study};
use qeil_laws::coverage::{Counts, CoverageError, Tally};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The columns that a file of counts must have.
pub const COLUMNS: [&str; 5] = ["model", "params", "problem", "samples", "correct"];
/// The column that it may have.
pub const STOPPED: &str = "stopped";
/// Most rows that are read: a thousand models on a thousand problems.
pub const ROWS_MAX: usize = 1_000_000;
/// Most threads that share the models: beyond it there are more threads than anyone has models.
const THREADS_MAX: usize = 16;

/// Why counts are no counts.
#[derive(Debug, thiserror::Error)]
pub enum CountsError {
    /// A column is missing.
    #[error(
        "{file}: there is no column {column:?}: the first line must name {} (in any order); it names {}",
        COLUMNS.join(", "),
        found.join(", ")
    )]
    Column {
        /// The file.
        file: String,
        /// The column.
        column: &'static str,
        /// The columns there are.
        found: Vec<String>,
    },
    /// A cell cannot be read.
    #[error(
        "{file}, line {line}, column {column}: {value:?} is not {expected}: correct the cell or take the row out"
    )]
    Cell {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// The column.
        column: &'static str,
        /// What stands there.
        value: String,
        /// What should.
        expected: String,
    },
    /// A problem of a model comes twice.
    #[error(
        "{file}, line {line}, column problem: {problem:?} of {model} has a row already: add the samples of the two up"
    )]
    Twice {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// The model.
        model: String,
        /// The problem.
        problem: String,
    },
    /// Rows of a model name different parameters.
    #[error(
        "{file}, line {line}, column params: {model} has {found} here and {before} before: give it one number"
    )]
    Parameters {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// The model.
        model: String,
        /// Parameters here.
        found: u64,
        /// Parameters in its first row.
        before: u64,
    },
    /// It is no CSV.
    #[error(
        "{file} cannot be read as CSV: {source}: check its quotes and that all lines have equally many cells"
    )]
    Csv {
        /// The file.
        file: String,
        /// What the reader says, which names the line.
        source: csv::Error,
    },
    /// Only a header, or nothing.
    #[error(
        "{file}: there is no row of counts below the header: one row is needed for each problem of each model"
    )]
    Empty {
        /// The file.
        file: String,
    },
    /// More rows than anyone has counts.
    #[error("{file}: more than {ROWS_MAX} rows: split it by model")]
    TooMany {
        /// The file.
        file: String,
    },
    /// A model without a sample.
    #[error("{model}: {source}")]
    Model {
        /// The model.
        model: String,
        /// Why.
        source: CoverageError,
    },
}

/// The counts of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCounts {
    /// Its name.
    pub model: String,
    /// Its parameters.
    pub params: u64,
    /// One for each problem.
    pub counts: Vec<Counts>,
}

/// Read counts; `file` names them in errors. Models come in the order of the file.
///
/// # Errors
/// A column is missing, a cell is not what it should be, a problem comes twice, or there is nothing.
pub fn read_counts(file: &str, from: impl Read) -> Result<Vec<ModelCounts>, CountsError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(from);
    let no_csv = |source| CountsError::Csv { file: file.into(), source };
    let header = reader.headers().map_err(no_csv)?.clone();
    let place = |column: &str| {
        header.iter().position(|name| name.trim_start_matches('\u{feff}').eq_ignore_ascii_case(column))
    };
    let mut places = [0; COLUMNS.len()];
    for (at, column) in COLUMNS.into_iter().enumerate() {
        places[at] = place(column).ok_or_else(|| CountsError::Column {
            file: file.into(),
            column,
            found: header.iter().map(String::from).collect(),
        })?;
    }
    let stopped_place = place(STOPPED);
    let mut models: Vec<ModelCounts> = Vec::new();
    let mut seen: BTreeSet<(usize, String)> = BTreeSet::new();
    for (row, record) in reader.records().enumerate() {
        let record = record.map_err(no_csv)?;
        if row == ROWS_MAX {
            return Err(CountsError::TooMany { file: file.into() });
        }
        let line = record.position().map_or(0, csv::Position::line);
        let text = |at: usize| record.get(at).unwrap_or_default().to_owned();
        let bad = |column, value: String, expected: &str| CountsError::Cell {
            file: file.into(),
            line,
            column,
            value,
            expected: expected.into(),
        };
        let name = |at: usize| {
            let value = text(places[at]);
            if value.is_empty() { Err(bad(COLUMNS[at], value, "a name")) } else { Ok(value) }
        };
        let count = |at: usize| {
            let value = text(places[at]);
            value.parse::<u32>().map_err(|_| bad(COLUMNS[at], value, "a whole number from 0 to 4294967295"))
        };
        let (model, problem) = (name(0)?, name(2)?);
        let params = parameters(&text(places[1]))
            .ok_or_else(|| bad(COLUMNS[1], text(places[1]), "a whole number of parameters above 0"))?;
        let (samples, correct) = (count(3)?, count(4)?);
        if correct > samples {
            return Err(bad(
                COLUMNS[4],
                text(places[4]),
                &format!("at most the {samples} samples of its row"),
            ));
        }
        let stopped = match stopped_place.map(text).as_deref() {
            None | Some("" | "false" | "0") => false,
            Some("true" | "1") => true,
            Some(other) => return Err(bad(STOPPED, other.into(), "true or false")),
        };
        let at = models.iter().position(|known| known.model == model).unwrap_or_else(|| {
            models.push(ModelCounts { model: model.clone(), params, counts: Vec::new() });
            models.len() - 1
        });
        let before = models[at].params;
        if before != params {
            return Err(CountsError::Parameters { file: file.into(), line, model, found: params, before });
        }
        if !seen.insert((at, problem.clone())) {
            return Err(CountsError::Twice { file: file.into(), line, model, problem });
        }
        models[at].counts.push(Counts { samples, correct, stopped });
    }
    if models.is_empty() {
        return Err(CountsError::Empty { file: file.into() });
    }
    Ok(models)
}

/// A whole number above zero, also as 1.4e9.
fn parameters(text: &str) -> Option<u64> {
    let value = text.parse::<u64>().ok().or_else(|| {
        let value: f64 = text.parse().ok()?;
        // Whole and exact in a double.
        (value.fract() == 0.0 && (1.0..=2f64.powi(53)).contains(&value)).then_some(value as u64)
    })?;
    (value > 0).then_some(value)
}

/// A figure for each k.
pub type ByK<T> = BTreeMap<u64, T>;

/// The document of `qeil fit coverage`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CoverageReport {
    /// Samples a problem at which coverage is given.
    pub at: Vec<u64>,
    /// Confidence of the intervals.
    pub level: f64,
    /// Model by model.
    pub models: Vec<ModelCoverage>,
    /// The dependence on the size of the model.
    pub joint: Option<JointCoverage>,
    /// Why there is none.
    pub joint_missing: Option<String>,
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelCoverage {
    /// Its name.
    pub model: String,
    /// Its parameters.
    pub params: u64,
    /// Problems with at least one sample.
    pub problems: usize,
    /// Problems that were solved.
    pub solved: usize,
    /// Fewest samples of a problem.
    pub samples_min: u32,
    /// Most samples of a problem.
    pub samples_max: u32,
    /// Problems whose number of samples depended on their outcomes.
    pub stopped: usize,
    /// The law to go by: a key of [`Self::laws`].
    pub chosen: String,
    /// Unbiased pass@k over the problems that have as many samples; missing for a k that none has, and where problems
    /// were stopped by their outcomes.
    pub pass_at_k: ByK<Option<PassAtK>>,
    /// Each law by its name.
    pub laws: BTreeMap<String, LawCoverage>,
    /// The largest prediction less the smallest.
    pub disagreement: ByK<f64>,
}

/// The unbiased estimate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PassAtK {
    /// Mean over the problems.
    pub value: f64,
    /// Problems with at least k samples.
    pub problems: usize,
}

/// One law of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LawCoverage {
    /// Expected share of these problems that k samples each solve.
    pub coverage: ByK<f64>,
    /// Lower and upper end of the interval of coverage of such problems.
    pub ci: ByK<Option<[f64; 2]>>,
    /// What was fitted, by name.
    pub parameters: BTreeMap<String, ParameterCoverage>,
    /// Mean deviance of the first pass of a held-out problem; less is better.
    pub held_out_deviance: Option<f64>,
}

/// A fitted parameter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ParameterCoverage {
    /// Its value.
    pub value: f64,
    /// Its interval.
    pub ci: Option<[f64; 2]>,
}

/// What to ask of the counts.
#[derive(Debug, Clone, PartialEq)]
pub struct CoverageInput<'a> {
    /// Model by model.
    pub models: &'a [ModelCounts],
    /// Samples a problem.
    pub at: &'a [u64],
    /// Confidence of the intervals, between 0 and 1.
    pub level: f64,
    /// Of all resampling.
    pub seed: u64,
}

impl CoverageReport {
    /// Fit everything; `done` is told of each model that is ready. Models are shared among threads, and the document
    /// does not depend on how.
    ///
    /// # Errors
    /// A model without a sample.
    pub fn new(input: &CoverageInput<'_>, done: &(dyn Fn(&str) + Sync)) -> Result<Self, CountsError> {
        let next = AtomicUsize::new(0);
        let results: Mutex<Vec<(usize, Result<ModelCoverage, CountsError>)>> = Mutex::new(Vec::new());
        let work = || {
            while let Some(model) = input.models.get(next.fetch_add(1, Ordering::Relaxed)) {
                let result = ModelCoverage::new(model, input);
                done(&model.model);
                let at = input.models.iter().position(|other| other.model == model.model).unwrap_or_default();
                // A poisoned lock is a panic of another thread, which the scope passes on.
                if let Ok(mut results) = results.lock() {
                    results.push((at, result));
                }
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        thread::scope(|scope| {
            (0..threads.min(input.models.len())).for_each(|_| {
                scope.spawn(work);
            });
        });
        let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        results.sort_by_key(|(at, _)| *at);
        let models = results.into_iter().map(|(_, result)| result).collect::<Result<Vec<_>, _>>()?;
        let tallies: Vec<ModelTally> = input
            .models
            .iter()
            .map(|model| ModelTally { parameters: model.params as f64, tally: Tally::new(&model.counts) })
            .collect();
        let (joint, joint_missing) = match JointCoverage::fit(&tallies, input.seed) {
            Ok(joint) => (Some(joint), None),
            Err(why) => (None, Some(why.to_string())),
        };
        Ok(Self { at: input.at.to_vec(), level: input.level, models, joint, joint_missing })
    }
}

impl ModelCoverage {
    fn new(model: &ModelCounts, input: &CoverageInput<'_>) -> Result<Self, CountsError> {
        let at: Vec<f64> = input.at.iter().map(|&k| k as f64).collect();
        let study = Study::new(&model.counts, &at, input.level, REPLICATES, input.seed)
            .map_err(|source| CountsError::Model { model: model.model.clone(), source })?;
        let sampled: Vec<Counts> = model.counts.iter().copied().filter(|task| task.samples > 0).collect();
        let samples = || sampled.iter().map(|task| task.samples);
        Ok(Self {
            model: model.model.clone(),
            params: model.params,
            problems: sampled.len(),
            solved: sampled.iter().filter(|task| task.correct > 0).count(),
            samples_min: samples().min().unwrap_or(0),
            samples_max: samples().max().unwrap_or(0),
            stopped: sampled.iter().filter(|task| task.stopped).count(),
            chosen: study.chosen.name().into(),
            pass_at_k: input.at.iter().map(|&k| (k, pass_at_k(&sampled, k))).collect(),
            laws: study
                .laws
                .iter()
                .map(|law| (law.law.name().into(), LawCoverage::of(law, input.at)))
                .collect(),
            disagreement: by_k(input.at, &study.disagreement),
        })
    }

    /// The law to go by.
    pub fn chosen(&self) -> Option<&LawCoverage> {
        self.laws.get(&self.chosen)
    }
}

impl LawCoverage {
    fn of(study: &LawStudy, at: &[u64]) -> Self {
        let ends = |interval: qeil_laws::interval::Interval| [interval.low, interval.high];
        let ci: Vec<Option<[f64; 2]>> = study.intervals.iter().map(|interval| interval.map(ends)).collect();
        Self {
            coverage: by_k(at, &study.coverage),
            ci: by_k(at, &ci),
            parameters: study
                .parameters
                .iter()
                .map(|parameter| {
                    let ci = parameter.interval.map(ends);
                    (parameter.name.clone(), ParameterCoverage { value: parameter.value, ci })
                })
                .collect(),
            held_out_deviance: study.held_out_deviance,
        }
    }
}

/// What each law is, for readers of a table.
pub fn describe(law: Law) -> &'static str {
    match law {
        Law::Populations => "average over two populations of tasks",
        Law::BetaBinomial => "beta-binomial",
        Law::ZeroInflated => "beta-binomial with unsolvable tasks",
        Law::ExpPower => "exp(−a·k^−b)",
        Law::Stretched => "1 − exp(−α·k^β)",
    }
}

fn by_k<T: Copy>(at: &[u64], values: &[T]) -> ByK<T> {
    at.iter().copied().zip(values.iter().copied()).collect()
}

/// Unbiased pass@k of the problems with so many samples. A problem that was stopped by its outcomes makes it impossible
/// for all, since those that were not are then the unsolved ones.
fn pass_at_k(counts: &[Counts], k: u64) -> Option<PassAtK> {
    let k = u32::try_from(k).ok()?;
    if counts.iter().any(|task| task.stopped) {
        return None;
    }
    let enough: Vec<Counts> = counts.iter().copied().filter(|task| task.samples >= k).collect();
    let value = mean_pass_at_k(&enough, k).ok()??;
    Some(PassAtK { value, problems: enough.len() })
}

#[cfg(test)]
#[path = "coverage_tests.rs"]
mod tests;
