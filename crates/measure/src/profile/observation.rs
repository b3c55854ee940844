//! What one repetition of one cell of a sweep gave: the row that everything later is computed from.
//!
//! A row stands alone: it names the model, the device, the settings and the conditions it was measured under, so that
//! laws can be fitted over rows of different sweeps and nothing has to be looked up elsewhere.

use crate::settings::Settings;
use qeil_hardware::energy::EnergyReading;
use serde::{Deserialize, Serialize};

/// Which model was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// `general.name` of the file, else the file's stem.
    pub name: String,
    /// The file.
    pub file: String,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// `general.architecture`.
    pub architecture: String,
    /// All parameters.
    pub parameters: u64,
    /// Parameters without the token embedding and the output matrix.
    pub parameters_non_embedding: u64,
    /// Quantisation of most weights, as GGUF names it (`Q4_0`).
    pub quantisation: String,
    /// Bytes of the weights.
    pub weight_bytes: u64,
    /// Bytes of weights that one decode step has to read: all but the rows of a token embedding that are only looked
    /// up.
    pub step_bytes: u64,
    /// Bytes of keys and values for each token of context.
    pub kv_bytes_per_token: f64,
    /// Whether its weights are random: speed and energy are those of the architecture, its answers mean nothing.
    pub weightless: bool,
}

/// How a file of random weights ends its name, and how tables mark one that does not.
const WEIGHTLESS: &str = " (weightless)";

impl ModelIdentity {
    /// Its name, marked if its weights are random.
    pub fn label(&self) -> String {
        let name = self.name.trim_end_matches(WEIGHTLESS);
        if self.weightless { format!("{name}{WEIGHTLESS}") } else { name.to_owned() }
    }
}

/// What was asked of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cell {
    /// Device, as `qeil devices` names it.
    pub device: String,
    /// Threads.
    pub threads: u32,
    /// Tokens of the prompt that are computed in the measured request.
    pub prompt_tokens: u32,
    /// Tokens of context already in memory before them.
    pub depth_tokens: u32,
    /// Tokens emitted by each sample; 1 measures prefill alone.
    pub output_tokens: u32,
    /// Samples that share the prompt.
    pub samples: u32,
}

/// One repetition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The machine and the engine ([`super::Host::label`]): rows of different ones are never fitted together.
    #[serde(default)]
    pub machine: String,
    /// The model.
    pub model: ModelIdentity,
    /// The workload.
    pub cell: Cell,
    /// The engine's settings.
    pub settings: Settings,
    /// Number of the repetition in its cell, from 0.
    pub repetition: u32,
    /// When it ended, in milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Milliseconds in the steps that held prompt tokens.
    pub prefill_ms: f64,
    /// Milliseconds from admission to the first token.
    pub first_token_ms: f64,
    /// Milliseconds from the first token to the last; missing where one token was asked for.
    pub decode_ms: Option<f64>,
    /// Seconds from request to answer.
    pub wall_s: f64,
    /// CPU seconds of the worker.
    pub cpu_s: f64,
    /// Energy of the request, with its provenance; missing where nothing covers the device.
    pub energy: Option<EnergyReading>,
    /// Degrees Celsius of the device before and after; missing where no sensor can be read.
    pub temperature_c: Option<[f64; 2]>,
    /// Share of the machine's CPU time that other processes (and the hypervisor) took meanwhile, 0 to 1.
    pub interference: Option<f64>,
    /// Whether the interference was above the sweep's bound even after repeating.
    pub disturbed: bool,
}

impl Observation {
    /// Milliseconds of prefill for each computed prompt token.
    pub fn prefill_ms_per_token(&self) -> Option<f64> {
        (self.cell.prompt_tokens > 0 && self.prefill_ms > 0.0)
            .then(|| self.prefill_ms / f64::from(self.cell.prompt_tokens))
    }

    /// Milliseconds of one decode step, in which every sample gets one token.
    pub fn decode_ms_per_step(&self) -> Option<f64> {
        let steps = self.cell.output_tokens.checked_sub(1).filter(|&steps| steps > 0)?;
        self.decode_ms.filter(|&ms| ms > 0.0).map(|ms| ms / f64::from(steps))
    }

    /// Bytes that a decode step of this cell reads: the weights once, and the keys and values of all its samples at half
    /// of the output.
    pub fn step_bytes(&self) -> f64 {
        let cell = &self.cell;
        let shared = f64::from(cell.depth_tokens + cell.prompt_tokens);
        let own = f64::from(cell.samples) * f64::from(cell.output_tokens) / 2.0;
        self.model.step_bytes as f64 + self.model.kv_bytes_per_token * (shared + own)
    }

    /// Tokens emitted by all samples.
    pub fn emitted_tokens(&self) -> u32 {
        self.cell.output_tokens * self.cell.samples
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn cell() -> Cell {
        Cell {
            device: "CPU".into(),
            threads: 2,
            prompt_tokens: 100,
            depth_tokens: 0,
            output_tokens: 11,
            samples: 4,
        }
    }

    pub fn row(prefill_ms: f64, decode_ms: Option<f64>, wall_s: f64) -> Observation {
        Observation {
            machine: "a machine".into(),
            model: ModelIdentity {
                name: "a model, \"quoted\"".into(),
                file: "m.gguf".into(),
                sha256: "00".into(),
                architecture: "llama".into(),
                parameters: 1000,
                parameters_non_embedding: 800,
                quantisation: "F32".into(),
                weight_bytes: 4000,
                step_bytes: 3200,
                kv_bytes_per_token: 64.0,
                weightless: true,
            },
            cell: cell(),
            settings: Settings { weights: None, flash_attention: false, kv_unified: true },
            repetition: 0,
            at_unix_ms: 1,
            prefill_ms,
            first_token_ms: prefill_ms,
            decode_ms,
            wall_s,
            cpu_s: wall_s,
            energy: None,
            temperature_c: None,
            interference: None,
            disturbed: false,
        }
    }

    #[test]
    fn derived_figures() {
        let row = row(200.0, Some(50.0), 0.3);
        assert_eq!(row.prefill_ms_per_token(), Some(2.0));
        assert_eq!(row.decode_ms_per_step(), Some(5.0), "ten steps after the first token");
        assert_eq!(row.emitted_tokens(), 44);
        assert_eq!(row.model.label(), "a model, \"quoted\" (weightless)");
        let named = ModelIdentity { name: row.model.label(), ..row.model.clone() };
        assert_eq!(named.label(), row.model.label(), "marked once");
        assert_eq!(row.step_bytes(), 3200.0 + 64.0 * (100.0 + 4.0 * 5.5));
        let mut alone = row.clone();
        alone.cell.output_tokens = 1;
        assert_eq!(alone.decode_ms_per_step(), None);
    }
}
