//! Names, shapes and types of tensors, and how large their random weights are.
//!
//! Names and shapes are those of llama.cpp's `load_arch_tensors`, types those that its quantiser chooses without an
//! importance matrix (`llama_tensor_get_type_impl`): vectors, position embeddings and convolutions stay F32, the
//! tied token embedding counts as the output projection and gets more bits than the rest.
//!
//! Weights of variance 1/fan-in keep activations near 1 through any number of layers, so logits stay finite. Three
//! gains keep them from being dull, too: see the constants.

use super::{Family, Quantisation, RopeLlama3};
use crate::gguf::{Tensor, TensorType};
use crate::write::GgufWriter;
use std::f64::consts::TAU;
use std::io;

/// Standard deviation of embeddings. Small, as in trained models (they start at 0.02): what the layers add must
/// outweigh the last token's own embedding, or a tied output projection could only repeat that token.
const EMBEDDING_DEVIATION: f32 = 0.01;
/// Standard deviation of the logits, by the weight of the last norm: about that of a trained model.
const LOGIT_DEVIATION: f32 = 2.5;
/// How much larger queries and keys are: enough that attention prefers some tokens to others.
const ATTENTION_GAIN: f32 = 2.0;
/// How much larger the matrices are that write to the residual stream, against Granite's small residual scale.
const RESIDUAL_GAIN: f32 = 2.0;

/// What a tensor holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// One F32 number throughout.
    Constant(f32),
    /// These F32 numbers.
    Values(Vec<f32>),
    /// Random numbers around 0.
    Random {
        /// Their standard deviation.
        deviation: f32,
    },
}

/// Declare all tensors.
///
/// # Errors
/// `InvalidInput` when a row is not whole blocks of its type.
pub(super) fn declare(file: &mut GgufWriter, family: &Family, quantisation: Quantisation) -> io::Result<()> {
    let arch = family.architecture.as_str();
    let matrix = quantisation.tensor_type();
    let width = u64::from(family.width);
    file.tensor(
        "token_embd.weight",
        &[width, u64::from(family.vocabulary.tokens)],
        output_type(quantisation, width),
    )?;
    if arch == "gpt2" {
        file.tensor("position_embd.weight", &[width, u64::from(family.context_tokens)], TensorType::F32)?;
    }
    if family.rope_llama3.is_some() {
        file.tensor("rope_freqs.weight", &[u64::from(family.head_width) / 2], TensorType::F32)?;
    }
    for layer in 0..family.layers {
        for (part, shape) in layer_parts(family, layer) {
            let vector = shape.len() == 1 || part == "shortconv.conv.weight";
            let kind = if vector { TensorType::F32 } else { matrix };
            file.tensor(format!("blk.{layer}.{part}"), &shape, kind)?;
        }
    }
    file.tensor(output_norm(arch), &[width], TensorType::F32)?;
    if arch == "gpt2" {
        file.tensor("output_norm.bias", &[width], TensorType::F32)?;
    }
    Ok(())
}

/// Name of the norm before the output projection.
fn output_norm(architecture: &str) -> &'static str {
    if architecture == "lfm2" { "token_embd_norm.weight" } else { "output_norm.weight" }
}

/// Type of the output projection, which all families tie to the token embedding.
fn output_type(quantisation: Quantisation, width: u64) -> TensorType {
    match quantisation {
        Quantisation::Q4_0 | Quantisation::Q4_1
            if width.is_multiple_of(TensorType::Q6_K.block_elements()) =>
        {
            TensorType::Q6_K
        }
        Quantisation::Q4_0 | Quantisation::Q4_1 => TensorType::Q8_0,
        _ => quantisation.tensor_type(),
    }
}

/// Tensors of one layer: name within it, and shape.
fn layer_parts(family: &Family, layer: u32) -> Vec<(&'static str, Vec<u64>)> {
    let arch = family.architecture.as_str();
    let [width, ff, head] = [family.width, family.feed_forward, family.head_width].map(u64::from);
    let (query, kv) = (head * u64::from(family.heads), head * u64::from(family.kv_heads));
    let mut parts = vec![("attn_norm.weight", vec![width])];
    if arch == "gpt2" {
        parts.extend([
            ("attn_norm.bias", vec![width]),
            ("attn_qkv.weight", vec![width, query + 2 * kv]),
            ("attn_qkv.bias", vec![query + 2 * kv]),
            ("attn_output.weight", vec![query, width]),
            ("attn_output.bias", vec![width]),
            ("ffn_norm.weight", vec![width]),
            ("ffn_norm.bias", vec![width]),
            ("ffn_up.weight", vec![width, ff]),
            ("ffn_up.bias", vec![ff]),
            ("ffn_down.weight", vec![ff, width]),
            ("ffn_down.bias", vec![width]),
        ]);
        return parts;
    }
    match &family.short_convolution {
        Some(short) if !family.has_attention(layer) => parts.extend([
            ("shortconv.conv.weight", vec![u64::from(short.kernel), width]),
            ("shortconv.in_proj.weight", vec![width, 3 * width]),
            ("shortconv.out_proj.weight", vec![width, width]),
        ]),
        _ => {
            parts.extend([
                ("attn_q.weight", vec![width, query]),
                ("attn_k.weight", vec![width, kv]),
                ("attn_v.weight", vec![width, kv]),
                ("attn_output.weight", vec![query, width]),
            ]);
            match arch {
                "qwen2" => parts.extend([
                    ("attn_q.bias", vec![query]),
                    ("attn_k.bias", vec![kv]),
                    ("attn_v.bias", vec![kv]),
                ]),
                "lfm2" | "gemma3" => {
                    parts.extend([("attn_q_norm.weight", vec![head]), ("attn_k_norm.weight", vec![head])]);
                }
                _ => {}
            }
        }
    }
    if arch == "gemma3" {
        parts.extend([("post_attention_norm.weight", vec![width]), ("post_ffw_norm.weight", vec![width])]);
    }
    parts.extend([
        ("ffn_norm.weight", vec![width]),
        ("ffn_gate.weight", vec![width, ff]),
        ("ffn_up.weight", vec![width, ff]),
        ("ffn_down.weight", vec![ff, width]),
    ]);
    parts
}

/// What a tensor of that table holds.
pub(super) fn content(family: &Family, tensor: &Tensor) -> Content {
    let name = tensor.name.as_str();
    if name == output_norm(&family.architecture) {
        let logit_scale = family.granite.as_ref().map_or(1.0, |granite| granite.logit_scale);
        let unscaled = EMBEDDING_DEVIATION * (family.width as f32).sqrt();
        return Content::Constant(LOGIT_DEVIATION * logit_scale / unscaled);
    }
    if let (Some(rope), "rope_freqs.weight") = (&family.rope_llama3, name) {
        return Content::Values(rope_factors(rope, family.rope_base.unwrap_or(1.0), family.head_width));
    }
    if name.ends_with("norm.weight") {
        return Content::Constant(1.0);
    }
    if name.ends_with(".bias") {
        return Content::Constant(0.0);
    }
    let fan_in = tensor.shape.first().copied().unwrap_or(1) as f32;
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let deviation = match name {
        "token_embd.weight" | "position_embd.weight" => EMBEDDING_DEVIATION,
        _ if has(&["attn_q.", "attn_k.", "attn_qkv."]) => ATTENTION_GAIN / fan_in.sqrt(),
        _ if has(&["attn_output.", "ffn_down.", "out_proj."]) => RESIDUAL_GAIN / fan_in.sqrt(),
        _ => 1.0 / fan_in.sqrt(),
    };
    Content::Random { deviation }
}

/// What Llama 3's rotary frequencies are divided by (`llama3` in the converter of llama.cpp): nothing for short
/// wavelengths, the whole factor for long ones, and a smooth passage between.
fn rope_factors(rope: &RopeLlama3, base: f32, head_width: u32) -> Vec<f32> {
    // In double precision: powers differ in their last bits from one mathematical library to the next.
    let context = f64::from(rope.original_context_tokens);
    let [factor, low, high] =
        [rope.factor, rope.low_frequency_factor, rope.high_frequency_factor].map(f64::from);
    (0..head_width / 2)
        .map(|pair| {
            let wavelength = TAU * f64::from(base).powf(f64::from(2 * pair) / f64::from(head_width));
            let scaled = if wavelength < context / high {
                1.0
            } else if wavelength > context / low {
                factor
            } else {
                let smooth = (context / wavelength - low) / (high - low);
                1.0 / ((1.0 - smooth) / factor + smooth)
            };
            scaled as f32
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::family;
    use super::*;

    #[test]
    fn rope_factors_are_llamas() {
        let llama = family("llama-3.2-1b").unwrap();
        let factors = rope_factors(llama.rope_llama3.as_ref().unwrap(), llama.rope_base.unwrap(), 64);
        assert_eq!(factors.len(), 32);
        assert_eq!((factors[0], factors[31]), (1.0, 32.0));
        assert!(factors.is_sorted(), "{factors:?}");
        let between = factors.iter().filter(|factor| (1.0 < **factor) && (**factor < 32.0)).count();
        assert!((1..8).contains(&between), "{factors:?}");
    }

    #[test]
    fn the_output_gets_more_bits() {
        for (quantisation, width, kind) in [
            (Quantisation::Q4_0, 768, TensorType::Q6_K),
            (Quantisation::Q4_1, 576, TensorType::Q8_0),
            (Quantisation::Q8_0, 768, TensorType::Q8_0),
            (Quantisation::F16, 576, TensorType::F16),
        ] {
            assert_eq!(output_type(quantisation, width), kind, "{quantisation:?} {width}");
        }
    }
}
