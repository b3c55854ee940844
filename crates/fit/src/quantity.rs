//! What is fitted, and over which predictor.

use qeil_measure::profile::{Cell, ModelIdentity, Observation};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A figure of one repetition that laws are sought for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Milliseconds of prefill for each prompt token.
    PrefillPerToken,
    /// Milliseconds of one decode step.
    DecodeStep,
    /// Milliseconds from admission to the first token.
    FirstToken,
    /// Gross joules for each prompt token, from requests that emit a single token.
    EnergyPerPrefillToken,
    /// Gross joules of the whole request for each token it emits.
    EnergyPerEmittedToken,
}

/// The workload that a quantity of one model depends on; what it does not depend on is `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reference {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens of context before them.
    pub depth_tokens: u32,
    /// Tokens emitted by each sample.
    pub output_tokens: Option<u32>,
    /// Samples sharing the prompt.
    pub samples: Option<u32>,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "prompt {}", self.prompt_tokens)?;
        if self.depth_tokens > 0 {
            write!(f, " after {}", self.depth_tokens)?;
        }
        if let Some(output) = self.output_tokens {
            write!(f, ", output {output}")?;
        }
        match self.samples {
            Some(1) => f.write_str(", 1 sample"),
            Some(samples) => write!(f, ", {samples} samples"),
            None => Ok(()),
        }
    }
}

impl Quantity {
    /// All of them, in the order they are shown.
    pub const ALL: [Self; 5] = [
        Self::PrefillPerToken,
        Self::DecodeStep,
        Self::FirstToken,
        Self::EnergyPerPrefillToken,
        Self::EnergyPerEmittedToken,
    ];

    /// What it is, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::PrefillPerToken => "prefill per token",
            Self::DecodeStep => "decode step",
            Self::FirstToken => "time to first token",
            Self::EnergyPerPrefillToken => "gross energy per prefill token",
            Self::EnergyPerEmittedToken => "gross energy per emitted token",
        }
    }

    /// A name for files.
    pub fn slug(self) -> &'static str {
        match self {
            Self::PrefillPerToken => "prefill",
            Self::DecodeStep => "decode",
            Self::FirstToken => "first-token",
            Self::EnergyPerPrefillToken => "energy-prefill",
            Self::EnergyPerEmittedToken => "energy-emitted",
        }
    }

    /// Its unit.
    pub fn unit(self) -> &'static str {
        match self {
            Self::PrefillPerToken | Self::DecodeStep | Self::FirstToken => "ms",
            Self::EnergyPerPrefillToken | Self::EnergyPerEmittedToken => "J",
        }
    }

    /// Whether it is an energy, and has an energy's label.
    pub fn is_energy(self) -> bool {
        matches!(self, Self::EnergyPerPrefillToken | Self::EnergyPerEmittedToken)
    }

    /// Its value in one repetition.
    pub fn of(self, row: &Observation) -> Option<f64> {
        let gross_j =
            || row.energy.as_ref().map(|energy| energy.gross.value.0).filter(|&joules| joules > 0.0);
        match self {
            Self::PrefillPerToken => row.prefill_ms_per_token(),
            Self::DecodeStep => row.decode_ms_per_step(),
            Self::FirstToken => Some(row.first_token_ms).filter(|&ms| ms > 0.0),
            Self::EnergyPerPrefillToken => Some(gross_j()? / f64::from(row.cell.prompt_tokens)),
            Self::EnergyPerEmittedToken => Some(gross_j()? / f64::from(row.emitted_tokens())),
        }
    }

    /// What of a cell's workload it depends on; missing where the cell does not show it. Laws over models compare
    /// single samples.
    pub fn reference(self, cell: &Cell) -> Option<Reference> {
        let prefills = cell.prompt_tokens > 0 && cell.samples == 1;
        let decodes = cell.output_tokens > 1 && cell.samples == 1;
        let (prompt_tokens, depth_tokens) = (cell.prompt_tokens, cell.depth_tokens);
        match self {
            Self::PrefillPerToken | Self::FirstToken => prefills.then_some(Reference {
                prompt_tokens,
                depth_tokens,
                output_tokens: None,
                samples: None,
            }),
            Self::EnergyPerPrefillToken => (prefills && cell.output_tokens == 1).then_some(Reference {
                prompt_tokens,
                depth_tokens,
                output_tokens: Some(1),
                samples: None,
            }),
            Self::DecodeStep | Self::EnergyPerEmittedToken => decodes.then_some(Reference {
                prompt_tokens,
                depth_tokens,
                output_tokens: Some(cell.output_tokens),
                samples: Some(cell.samples),
            }),
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What of a model a law is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Predictor {
    /// Parameters without embeddings: what a prompt token is multiplied with.
    NonEmbedding,
    /// All parameters.
    Total,
    /// Bytes of weights that a decode step reads.
    StepBytes,
}

impl Predictor {
    /// All of them, in the order they are tried.
    pub const ALL: [Self; 3] = [Self::NonEmbedding, Self::Total, Self::StepBytes];

    /// Its value for a model.
    pub fn of(self, model: &ModelIdentity) -> f64 {
        (match self {
            Self::NonEmbedding => model.parameters_non_embedding,
            Self::Total => model.parameters,
            Self::StepBytes => model.step_bytes,
        }) as f64
    }

    /// What it is, in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::NonEmbedding => "non-embedding parameters",
            Self::Total => "total parameters",
            Self::StepBytes => "bytes read per step",
        }
    }

    /// Its symbol in formulas.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::NonEmbedding => "N",
            Self::Total => "Nₜ",
            Self::StepBytes => "B",
        }
    }
}

impl fmt::Display for Predictor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
