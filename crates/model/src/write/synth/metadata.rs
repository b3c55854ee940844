//! The entries that say what the tensors are.
//!
//! Each architecture reads its own set (`load_arch_hparams` in llama.cpp's `models/*.cpp`); what it takes from a
//! default in real files is left to the default here, too.

use super::{Synth, WEIGHTLESS_KEY};
use crate::write::GgufWriter;

/// Version of the block formats (`GGML_QNT_VERSION`).
const QUANTISATION_VERSION: u32 = 2;

pub(super) fn set(file: &mut GgufWriter, synth: &Synth) {
    let family = &synth.family;
    let arch = family.architecture.as_str();
    let key = |name: &str| format!("{arch}.{name}");
    file.set("general.architecture", arch)
        .set("general.type", "model")
        .set("general.name", format!("{} (weightless)", family.name))
        .set("general.description", format!("Random weights in the shape of {}", family.name))
        .set("general.file_type", synth.quantisation.file_type())
        .set("general.quantization_version", QUANTISATION_VERSION)
        .set(WEIGHTLESS_KEY, true)
        .set("qeil.seed", synth.seed)
        .set(key("block_count"), family.layers)
        .set(key("context_length"), family.context_tokens)
        .set(key("embedding_length"), family.width)
        .set(key("feed_forward_length"), family.feed_forward)
        .set(key("attention.head_count"), family.heads)
        .set(key("vocab_size"), family.vocabulary.tokens);
    let epsilon =
        if arch == "gpt2" { "attention.layer_norm_epsilon" } else { "attention.layer_norm_rms_epsilon" };
    file.set(key(epsilon), family.norm_epsilon);
    match &family.short_convolution {
        Some(short) => {
            let kv_heads: Vec<i32> =
                (0..family.layers).map(|layer| family.kv_heads_of(layer).cast_signed()).collect();
            file.set(key("attention.head_count_kv"), kv_heads).set(key("shortconv.l_cache"), short.kernel);
        }
        None => {
            file.set(key("attention.head_count_kv"), family.kv_heads);
        }
    }
    if let Some(base) = family.rope_base {
        file.set(key("rope.freq_base"), base).set(key("rope.dimension_count"), family.head_width);
    }
    if family.head_width * family.heads != family.width {
        file.set(key("attention.key_length"), family.head_width)
            .set(key("attention.value_length"), family.head_width);
    }
    if let Some(window) = family.sliding_window_tokens {
        file.set(key("attention.sliding_window"), window);
    }
    if let Some(granite) = &family.granite {
        file.set(key("attention.scale"), granite.attention_scale)
            .set(key("embedding_scale"), granite.embedding_scale)
            .set(key("residual_scale"), granite.residual_scale)
            .set(key("logit_scale"), granite.logit_scale);
    }
}
