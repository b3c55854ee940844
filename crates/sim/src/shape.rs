//! What the cost model has to know of a language model: how much a step reads, and how much it computes.
//!
//! The shapes are those of `qeil-model`'s families, with their sources; only bytes and operations are derived here.

use crate::error::SimError;
use qeil_model::write::synth::{Family, Quantisation, families};
use serde::Serialize;

/// The five families that this project's studies run over.
pub const STUDIED: [&str; 5] = ["GPT-2-124M", "Granite-4.0-350M", "Qwen2-0.5B", "Llama-3.2-1B", "LFM2-2.6B"];

/// Bytes of a key or value: FP16, as the engine keeps them.
const CACHE_BYTES: f64 = 2.0;

/// A model as the roofline sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelShape {
    /// Family and format.
    pub name: String,
    /// All parameters; a decode step reads each once (the embedding as output projection).
    pub parameters: f64,
    /// Those of the embedding, which prefill multiplies for its last token alone.
    pub embedding_parameters: f64,
    /// Bytes of all weights.
    pub weight_bytes: f64,
    /// Whether products run on 8-bit integers where the device has them (quantised weights).
    pub int8: bool,
    /// Bytes of keys and values for each token kept.
    pub kv_bytes_per_token: f64,
    /// Layers.
    pub layers: u32,
    /// Longest context, tokens.
    pub context_tokens: u32,
    /// Where the shape is from.
    pub source: String,
}

/// Bytes for each weight of a format, block scales included: what ggml's blocks of 32 take.
fn bytes_per_weight(format: Quantisation) -> f64 {
    match format {
        Quantisation::F32 => 4.0,
        Quantisation::F16 | Quantisation::BF16 => 2.0,
        Quantisation::Q8_0 => 34.0 / 32.0,
        Quantisation::Q4_1 => 20.0 / 32.0,
        Quantisation::Q4_0 => 18.0 / 32.0,
    }
}

impl ModelShape {
    /// The shape of a family in a format ("Q8_0"), both in any case.
    ///
    /// # Errors
    /// Where there is no such family or format.
    pub fn named(family: &str, format: &str) -> Result<Self, SimError> {
        let unknown = |known: String| SimError::UnknownModel { wanted: format!("{family} {format}"), known };
        let all = families().map_err(|error| unknown(error.to_string()))?;
        let formats = || Quantisation::ALL.iter().map(|format| format.name()).collect::<Vec<_>>().join(", ");
        let names = || all.iter().map(|family| family.name.as_str()).collect::<Vec<_>>().join(", ");
        let format = Quantisation::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(format));
        let Some(format) = format else { return Err(unknown(format!("the formats {}", formats()))) };
        let found = all.iter().find(|known| known.name.eq_ignore_ascii_case(family));
        let Some(found) = found else { return Err(unknown(names())) };
        Ok(Self::of(found, format))
    }

    fn of(family: &Family, format: Quantisation) -> Self {
        let parameters = family.parameters as f64;
        let heads: u32 = (0..family.layers).map(|layer| family.kv_heads_of(layer)).sum();
        Self {
            name: format!("{} {}", family.name, format.name()),
            parameters,
            embedding_parameters: f64::from(family.vocabulary.tokens) * f64::from(family.width),
            weight_bytes: parameters * bytes_per_weight(format),
            int8: !matches!(format, Quantisation::F32 | Quantisation::F16 | Quantisation::BF16),
            kv_bytes_per_token: 2.0 * f64::from(heads) * f64::from(family.head_width) * CACHE_BYTES,
            layers: family.layers,
            context_tokens: family.context_tokens,
            source: family.source.clone(),
        }
    }

    /// Bytes that a worker takes for weights and a context of so many tokens.
    pub fn memory_bytes(&self, tokens: u32) -> f64 {
        self.weight_bytes + self.kv_bytes_per_token * f64::from(tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_studied_families_have_the_bytes_of_their_published_shapes() {
        // (family, weights in Q8_0 in 10⁶ bytes, bytes of keys and values a token), both worked out by hand
        let cases = [
            ("GPT-2-124M", 132.2, 36_864.0),
            ("Granite-4.0-350M", 371.9, 28_672.0),
            ("Qwen2-0.5B", 524.9, 12_288.0),
            ("Llama-3.2-1B", 1313.1, 32_768.0),
            ("LFM2-2.6B", 2729.9, 16_384.0),
        ];
        assert_eq!(cases.map(|case| case.0), STUDIED);
        for (family, megabytes, kv) in cases {
            let shape = ModelShape::named(family, "q8_0").unwrap();
            assert!((shape.weight_bytes / 1e6 - megabytes).abs() < 0.1, "{family}: {}", shape.weight_bytes);
            assert_eq!(shape.kv_bytes_per_token, kv, "{family}");
            assert!(shape.int8 && shape.embedding_parameters < shape.parameters);
        }
        assert!(!ModelShape::named("gpt-2-124m", "f16").unwrap().int8);
    }

    #[test]
    fn what_is_unknown_is_told_with_what_is_known() {
        let error = ModelShape::named("GPT-5", "Q8_0").unwrap_err().to_string();
        assert!(error.contains("GPT-5") && error.contains("Llama-3.2-1B"), "{error}");
        let error = ModelShape::named("GPT-2-124M", "Q3_K").unwrap_err().to_string();
        assert!(error.contains("Q3_K") && error.contains("Q8_0"), "{error}");
    }
}
