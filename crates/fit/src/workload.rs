//! What a measured model would do under a workload that was not measured.
//!
//! A prediction for a new model compares models under *its* workload, and a sweep holds only some workloads. So each
//! measured model is first brought there: from its nearest measured cell, by powers of what the workload changes. The
//! powers come from the model's own cells, or, where it has too few, from all models together. Where the workload was
//! measured the nearest cell is the cell itself and the power is 1, so nothing is interpolated that need not be.
//!
//! | figure | depends on |
//! |---|---|
//! | prefill and first token, per prompt token | tokens of the prompt; context before it, as a multiple of the prompt |
//! | decode step, power | samples; mean context |

use crate::FitError;
use crate::limits::mean_context;
use crate::series::{CellMedian, Series};
use qeil_laws::linear::least_squares;
use qeil_measure::profile::Cell;
use serde::{Deserialize, Serialize};

/// Two workloads nearer than this in the logarithm (5 %) count as the same.
const SAME_WITHIN: f64 = 0.05;
/// Where nothing shows how a figure depends on the length of prompt or context, one up to twice as long (or half) is
/// still taken to behave alike.
const ALIKE_WITHIN: f64 = std::f64::consts::LN_2;

/// What will be asked of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens emitted by each sample.
    pub output_tokens: u32,
    /// Samples sharing the prompt.
    pub samples: u32,
    /// Tokens of context already in memory before the prompt.
    pub depth_tokens: u32,
}

impl Workload {
    /// Refuse a workload that asks for nothing.
    ///
    /// # Errors
    /// No prompt, no output or no sample.
    pub fn check(self) -> Result<Self, FitError> {
        for (what, number) in [
            ("the number of prompt tokens", self.prompt_tokens),
            ("the number of output tokens", self.output_tokens),
            ("the number of samples", self.samples),
        ] {
            if number == 0 {
                return Err(FitError::Workload { what });
            }
        }
        Ok(self)
    }

    /// Tokens of context that a decode step sees on average.
    pub fn mean_context(self) -> f64 {
        mean_context(self.depth_tokens, self.prompt_tokens, self.output_tokens)
    }

    /// Tokens whose keys and values are in memory at the end.
    pub fn cached_tokens(self) -> f64 {
        f64::from(self.depth_tokens)
            + f64::from(self.prompt_tokens)
            + f64::from(self.samples) * f64::from(self.output_tokens)
    }

    fn of_cell(cell: &Cell) -> Self {
        Self {
            prompt_tokens: cell.prompt_tokens,
            output_tokens: cell.output_tokens,
            samples: cell.samples,
            depth_tokens: cell.depth_tokens,
        }
    }
}

/// A figure that can be brought to a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Milliseconds of prefill for each prompt token.
    PrefillPerToken,
    /// Milliseconds to the first token, for each prompt token.
    FirstPerToken,
    /// Milliseconds of a decode step.
    DecodeStep,
    /// Mean gross power of the request in watts.
    Power,
}

impl Figure {
    fn of(self, cell: &CellMedian) -> Option<f64> {
        let prompt = f64::from(cell.cell.prompt_tokens);
        let value = match self {
            Self::PrefillPerToken => cell.summary(|row| row.prefill_ms_per_token())?.median,
            Self::FirstPerToken => {
                cell.summary(|row| (prompt > 0.0).then(|| row.first_token_ms / prompt))?.median
            }
            Self::DecodeStep => cell.summary(|row| row.decode_ms_per_step())?.median,
            Self::Power => cell.power_w()?,
        };
        (value > 0.0).then_some(value)
    }

    /// Logarithms of what it depends on.
    fn coordinates(self, workload: Workload) -> [f64; 2] {
        let prompt = f64::from(workload.prompt_tokens).max(1.0);
        match self {
            Self::PrefillPerToken | Self::FirstPerToken => {
                [prompt.ln(), (1.0 + f64::from(workload.depth_tokens) / prompt).ln()]
            }
            Self::DecodeStep | Self::Power => {
                [f64::from(workload.samples).max(1.0).ln(), workload.mean_context().max(1.0).ln()]
            }
        }
    }

    fn axes(self) -> [&'static str; 2] {
        match self {
            Self::PrefillPerToken | Self::FirstPerToken => ["prompt tokens", "depth"],
            Self::DecodeStep | Self::Power => ["samples", "context"],
        }
    }

    /// How far a workload may lie from all cells along an axis that no cells vary. How samples share the weights is the
    /// machine's secret; a somewhat longer context is not.
    fn reach(self, axis: usize) -> f64 {
        if self.axes()[axis] == "samples" { SAME_WITHIN } else { ALIKE_WITHIN }
    }

    /// Whether a cell shows it as the workload would: prefill figures come from single samples, where such exist, and
    /// power from requests that decode if the workload does.
    fn suits(self, cell: &CellMedian, workload: Workload) -> bool {
        match self {
            Self::Power => (cell.cell.output_tokens > 1) == (workload.output_tokens > 1),
            Self::PrefillPerToken | Self::FirstPerToken => cell.cell.samples == 1,
            Self::DecodeStep => true,
        }
    }
}

/// A figure under a workload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Brought {
    /// Its value.
    pub value: f64,
    /// Whether it was measured under this very workload.
    pub exact: bool,
}

/// A cell as the regression sees it: which model, logarithms of workload and figure.
struct Seen {
    subject: usize,
    at: [f64; 2],
    log_value: f64,
    disturbed: bool,
}

/// A figure of all models that the laws may see and that show it, under `workload`. The first of the pair is the
/// model's place in the series.
///
/// # Errors
/// A sentence: the workload differs from every cell in something that no two cells differ in.
pub fn bring(figure: Figure, series: &Series, workload: Workload) -> Result<Vec<(usize, Brought)>, String> {
    let seen: Vec<Seen> = series
        .cells
        .iter()
        .filter(|cell| series.is_seen(cell.subject) && figure.suits(cell, workload))
        .filter_map(|cell| {
            Some(Seen {
                subject: cell.subject,
                at: figure.coordinates(Workload::of_cell(&cell.cell)),
                log_value: figure.of(cell)?.ln(),
                disturbed: cell.disturbed,
            })
        })
        .collect();
    let target = figure.coordinates(workload);
    let pooled = exponents(&seen.iter().collect::<Vec<_>>());
    let mut brought = Vec::new();
    for subject in 0..series.subjects.len() {
        let own: Vec<&Seen> = seen.iter().filter(|seen| seen.subject == subject).collect();
        let Some(nearest) = nearest(&own, target) else { continue };
        let mine = exponents(&own);
        let mut log_value = nearest.log_value;
        let mut exact = true;
        for axis in 0..target.len() {
            let step = target[axis] - nearest.at[axis];
            exact &= step.abs() < SAME_WITHIN;
            match mine[axis].or(pooled[axis]) {
                Some(exponent) => log_value += exponent * step,
                None if step.abs() <= figure.reach(axis) => {}
                None => {
                    let axis = figure.axes()[axis];
                    return Err(format!(
                        "no two cells differ in {axis}: profile with this number of {axis}, too"
                    ));
                }
            }
        }
        brought.push((subject, Brought { value: log_value.exp(), exact }));
    }
    Ok(brought)
}

fn nearest<'a>(own: &[&'a Seen], target: [f64; 2]) -> Option<&'a Seen> {
    let distance = |seen: &Seen| -> f64 { seen.at.iter().zip(target).map(|(a, b)| (a - b).powi(2)).sum() };
    own.iter()
        .min_by(|a, b| a.disturbed.cmp(&b.disturbed).then_with(|| distance(a).total_cmp(&distance(b))))
        .copied()
}

/// The powers that cells of one model differ by, over all models in `cells`; missing for what does not vary within a
/// model, or cannot be told from the other.
fn exponents(cells: &[&Seen]) -> [Option<f64>; 2] {
    // Differences from the model's mean: how models differ from each other is no business of the workload.
    let mut rows: Vec<([f64; 2], f64)> = Vec::new();
    for seen in cells {
        let own: Vec<&&Seen> = cells.iter().filter(|other| other.subject == seen.subject).collect();
        let mean =
            |f: &dyn Fn(&Seen) -> f64| own.iter().map(|other| f(other)).sum::<f64>() / own.len() as f64;
        let at = [0, 1].map(|axis| seen.at[axis] - mean(&|other| other.at[axis]));
        rows.push((at, seen.log_value - mean(&|other| other.log_value)));
    }
    let varies = |axis: usize| rows.iter().any(|(at, _)| at[axis].abs() > SAME_WITHIN);
    let axes: Vec<usize> = (0..2).filter(|&axis| varies(axis)).collect();
    let solve = |axes: &[usize]| {
        let names: Vec<&str> = axes.iter().map(|_| "axis").collect();
        let x: Vec<Vec<f64>> =
            rows.iter().map(|(at, _)| axes.iter().map(|&axis| at[axis]).collect()).collect();
        let y: Vec<f64> = rows.iter().map(|(_, y)| *y).collect();
        least_squares(&names, &x, &y, &vec![1.0; y.len()]).ok()
    };
    let mut found = [None, None];
    // Where the two move together, the first one speaks for both.
    let solved = solve(&axes).map(|solution| (axes.clone(), solution)).or_else(|| {
        let first = axes.get(..1)?.to_vec();
        solve(&first).map(|solution| (first, solution))
    });
    if let Some((axes, solution)) = solved.filter(|(axes, _)| !axes.is_empty()) {
        for (axis, exponent) in axes.into_iter().zip(solution.coefficients) {
            found[axis] = Some(exponent);
        }
    }
    found
}
