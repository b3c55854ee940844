//! A machine that is known exactly, and rows measured on it: what the crate finds can be compared with what is true.

#![allow(dead_code, reason = "each test file uses a part of it")]

use qeil_fit::limits::Roofline;
use qeil_hardware::energy::EnergyReading;
use qeil_laws::random::Random;
use qeil_measure::profile::{Cell, ModelIdentity, Observation};
use qeil_measure::settings::Settings;
use qeil_units::{Joules, Labelled, Provenance, Seconds, Watts};

/// Name, all parameters, those without embeddings (from the published configurations, rounded).
pub const FAMILY: [(&str, u64, u64); 6] = [
    ("GPT-2 124M", 124_400_000, 85_000_000),
    ("Granite 4.0 350M", 352_000_000, 249_000_000),
    ("Qwen2 0.5B", 494_000_000, 358_000_000),
    ("Llama 3.2 1B", 1_236_000_000, 973_000_000),
    ("Qwen2 1.5B", 1_544_000_000, 1_310_000_000),
    ("LFM2 2.6B", 2_570_000_000, 2_435_000_000),
];

/// A model stored with this many bytes a parameter.
pub fn model(name: &str, parameters: u64, non_embedding: u64, quantisation: &str) -> ModelIdentity {
    let bytes_per_parameter = match quantisation {
        "Q4_0" => 0.5625,
        "Q4_1" => 0.625,
        "Q8_0" => 1.0625,
        other => panic!("no bytes for {other}"),
    };
    let weight_bytes = (parameters as f64 * bytes_per_parameter) as u64;
    ModelIdentity {
        name: name.into(),
        file: format!("{}.gguf", name.replace(' ', "-").to_lowercase()),
        sha256: format!("{name} {quantisation}"),
        architecture: name.split(' ').take(1).collect::<String>().to_lowercase(),
        parameters,
        parameters_non_embedding: non_embedding,
        quantisation: quantisation.into(),
        weight_bytes,
        step_bytes: weight_bytes,
        kv_bytes_per_token: parameters as f64 / 4e4,
        weightless: true,
    }
}

pub fn family() -> Vec<ModelIdentity> {
    FAMILY.iter().map(|(name, total, without)| model(name, *total, *without, "Q4_0")).collect()
}

/// A machine and how it is measured.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Milliseconds of every decode step, whatever the model.
    pub step_fixed_ms: f64,
    /// Bytes of weights it gets through in a second when decoding.
    pub step_bytes_per_s: f64,
    /// Operations in a second when prefilling.
    pub prefill_flop_per_s: f64,
    /// Share of a step that each further sample costs.
    pub sample_cost: f64,
    /// Standard deviation of a model's own factor, in the logarithm.
    pub model_sd: f64,
    /// The same of a repetition.
    pub noise_sd: f64,
    /// Gross power in watts; `None` where there is no energy.
    pub power_w: Option<f64>,
    pub provenance: Provenance,
    pub repetitions: u32,
    pub seed: u64,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            step_fixed_ms: 2.0,
            step_bytes_per_s: 12e9,
            prefill_flop_per_s: 150e9,
            sample_cost: 0.2,
            model_sd: 0.02,
            noise_sd: 0.01,
            power_w: Some(30.0),
            provenance: Provenance::Estimated,
            repetitions: 5,
            seed: 1,
        }
    }
}

pub fn cell(prompt: u32, output: u32, samples: u32, depth: u32) -> Cell {
    Cell {
        device: "CPU".into(),
        threads: 2,
        prompt_tokens: prompt,
        depth_tokens: depth,
        output_tokens: output,
        samples,
    }
}

/// A reference, one axis at a time, and prefill alone.
pub fn star() -> Vec<Cell> {
    vec![
        cell(256, 32, 1, 0),
        cell(64, 32, 1, 0),
        cell(512, 32, 1, 0),
        cell(256, 128, 1, 0),
        cell(256, 1, 1, 0),
        cell(256, 32, 4, 0),
        cell(256, 32, 8, 0),
        cell(256, 32, 1, 1024),
    ]
}

impl Machine {
    /// Milliseconds of prefill and of one decode step, without noise.
    pub fn truth(&self, model: &ModelIdentity, cell: &Cell) -> (f64, f64) {
        let prompt = f64::from(cell.prompt_tokens);
        let depth = f64::from(cell.depth_tokens);
        let attention = 1.0 + (depth + prompt / 2.0) / 8192.0;
        let prefill =
            prompt * 2.0 * model.parameters_non_embedding as f64 / self.prefill_flop_per_s * 1e3 * attention;
        let context = depth + prompt + f64::from(cell.output_tokens) / 2.0;
        let bytes = model.step_bytes as f64 + model.kv_bytes_per_token * context;
        let one = self.step_fixed_ms + bytes / self.step_bytes_per_s * 1e3;
        (prefill, one * (1.0 + self.sample_cost * f64::from(cell.samples - 1)))
    }

    pub fn measure(&self, models: &[ModelIdentity], cells: &[Cell]) -> Vec<Observation> {
        let mut rows = Vec::new();
        for (at, model) in models.iter().enumerate() {
            let mut random = Random::new(self.seed, at as u64);
            let own = [self.model_sd * random.normal(), self.model_sd * random.normal()].map(f64::exp);
            for cell in cells {
                for repetition in 0..self.repetitions {
                    let mut noise = || (self.noise_sd * random.normal()).exp();
                    let (prefill, step) = self.truth(model, cell);
                    let prefill_ms = prefill * own[0] * noise();
                    let steps = f64::from(cell.output_tokens - 1);
                    let decode_ms = (steps > 0.0).then(|| step * steps * own[1] * noise());
                    rows.push(self.row(model, cell, repetition, prefill_ms, decode_ms));
                }
            }
        }
        rows
    }

    fn row(
        &self,
        model: &ModelIdentity,
        cell: &Cell,
        repetition: u32,
        prefill_ms: f64,
        decode_ms: Option<f64>,
    ) -> Observation {
        let first_token_ms = prefill_ms + 0.5;
        let wall_s = (first_token_ms + decode_ms.unwrap_or(0.0) + 0.3) / 1e3;
        let energy = self.power_w.map(|power_w| {
            let label = |joules| Labelled {
                value: Joules(joules),
                provenance: self.provenance,
                source: "CPU time × envelope".to_string(),
            };
            EnergyReading {
                gross: label(power_w * wall_s),
                net: None,
                power: label(power_w * wall_s).map(|joules| Watts(joules.0 / wall_s)),
                seconds: Seconds(wall_s),
                domains: Vec::new(),
                updates: None,
                flags: Vec::new(),
            }
        });
        Observation {
            machine: "synthetic".into(),
            model: model.clone(),
            cell: cell.clone(),
            settings: Settings { weights: None, flash_attention: false, kv_unified: true },
            repetition,
            at_unix_ms: 1,
            prefill_ms,
            first_token_ms,
            decode_ms,
            wall_s,
            cpu_s: 2.0 * wall_s,
            energy,
            temperature_c: None,
            interference: Some(0.0),
            disturbed: false,
        }
    }

    pub fn roofline(&self) -> Roofline {
        Roofline {
            machine: "synthetic".into(),
            device: "CPU".into(),
            threads: 2,
            read_bytes_per_s: 22e9,
            f32_flop_per_s: 190e9,
            source: "probe".into(),
        }
    }
}
