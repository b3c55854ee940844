//! `E = e0·N^γ·S^δ·T^τ`: energy, and latency beside it, of whole requests over the size of the model, the samples and
//! the tokens each sample emits.
//!
//! The prompt is not one of the factors, so only requests with the same prompt and the same depth can be compared: those
//! that most cells have. A request that emits a single token is prefill and nothing else, and is left to the laws of
//! prefill.

use crate::SEED;
use crate::quantity::Predictor;
use crate::series::{CellMedian, Series, clock, weakest};
use qeil_laws::joint::{JointFit, JointPoint};
use qeil_units::Labelled;
use serde::{Deserialize, Serialize};

/// What a joint law is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JointQuantity {
    /// Gross joules of a request.
    Energy,
    /// Milliseconds of a request.
    Latency,
}

impl JointQuantity {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Energy, Self::Latency];

    /// What it is, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Energy => "energy of a request",
            Self::Latency => "latency of a request",
        }
    }

    /// Its unit.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Energy => "J",
            Self::Latency => "ms",
        }
    }

    fn of(self, cell: &CellMedian) -> Option<f64> {
        let summary = match self {
            Self::Energy => cell.summary(|row| row.energy.as_ref().map(|energy| energy.gross.value.0)),
            Self::Latency => cell.summary(|row| Some(row.wall_s * 1e3)),
        };
        summary.map(|summary| summary.median).filter(|&value| value > 0.0)
    }
}

/// A joint law in one series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JointReport {
    /// What it is of.
    pub quantity: JointQuantity,
    /// Its unit.
    pub unit: String,
    /// Which parameters N are: those with the smaller error on left-out models.
    pub size: Predictor,
    /// Tokens of the prompt in all cells that count.
    pub prompt_tokens: u32,
    /// Tokens of context before them.
    pub depth_tokens: u32,
    /// Cells that emit several tokens but have another prompt or depth.
    pub cells_left_out: usize,
    /// How the figures were come by.
    pub label: Option<Labelled<()>>,
    /// The law; factors N, S (samples) and T (tokens emitted by each sample).
    pub fit: JointFit,
}

/// The joint law of `quantity`, or why there is none.
///
/// # Errors
/// A sentence: nothing was measured, or no law can be had from it.
pub fn joint(quantity: JointQuantity, series: &Series) -> Result<JointReport, String> {
    let decoding: Vec<(&CellMedian, f64)> = series
        .cells
        .iter()
        .filter(|cell| cell.cell.output_tokens > 1 && series.is_seen(cell.subject))
        .filter_map(|cell| Some((cell, quantity.of(cell)?)))
        .collect();
    let mut prompts: Vec<(u32, u32)> =
        decoding.iter().map(|(cell, _)| (cell.cell.prompt_tokens, cell.cell.depth_tokens)).collect();
    prompts.sort_unstable();
    let count = |prompt: &(u32, u32)| prompts.iter().filter(|other| *other == prompt).count();
    let Some(&(prompt_tokens, depth_tokens)) = prompts.iter().max_by_key(|prompt| count(prompt)) else {
        return Err(format!("no {}: no cell with more than one token has it", quantity.name()));
    };
    let same: Vec<&(&CellMedian, f64)> = decoding
        .iter()
        .filter(|(cell, _)| {
            (cell.cell.prompt_tokens, cell.cell.depth_tokens) == (prompt_tokens, depth_tokens)
        })
        .collect();
    let fit = |size: Predictor| {
        let points: Vec<JointPoint> = same
            .iter()
            .map(|(cell, y)| {
                let subject = &series.subjects[cell.subject];
                let factors = vec![
                    size.of(&subject.model),
                    f64::from(cell.cell.samples),
                    f64::from(cell.cell.output_tokens),
                ];
                JointPoint { group: subject.group, factors, y: *y }
            })
            .collect();
        JointFit::new(&["N", "S", "T"], &points, SEED).map(|fit| (size, fit))
    };
    let fits = [fit(Predictor::NonEmbedding), fit(Predictor::Total)];
    let error = |fit: &JointFit| fit.left_out.median_error;
    let (size, fit) = match fits {
        [Ok(a), Ok(b)] => {
            if error(&b.1) < error(&a.1) {
                b
            } else {
                a
            }
        }
        [Ok(one), Err(_)] | [Err(_), Ok(one)] => one,
        [Err(why), Err(_)] => return Err(format!("no joint law of {}: {why}", quantity.name())),
    };
    let label = match quantity {
        JointQuantity::Latency => Some(clock()),
        JointQuantity::Energy => {
            let labels: Vec<_> = same.iter().filter_map(|(cell, _)| cell.energy_label()).collect();
            weakest(&labels)
        }
    };
    Ok(JointReport {
        quantity,
        unit: quantity.unit().into(),
        size,
        prompt_tokens,
        depth_tokens,
        cells_left_out: decoding.len() - same.len(),
        label,
        fit,
    })
}
