//! Writes the seed corpus of the `gguf` target: tiny models, pieces of them, and the entries of each architecture.

use qeil_model::gguf::{TensorType, Value};
use qeil_model::write::{GgufWriter, TinyShape, WeightType, write_tiny_llama};
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/gguf");
    std::fs::create_dir_all(&folder)?;
    // As small as a llama can be: most of the file is then metadata.
    let smallest = TinyShape {
        layers: 1,
        embedding: 2,
        heads: 1,
        kv_heads: 1,
        feed_forward: 1,
        context_tokens: 8,
        weights: WeightType::F16,
        seed: 0,
    };
    let shapes = [
        ("one-layer", smallest.clone()),
        ("two-layers", TinyShape { layers: 2, ..smallest.clone() }),
        ("heads", TinyShape { embedding: 8, heads: 4, kv_heads: 2, weights: WeightType::F32, ..smallest }),
    ];
    for (name, shape) in shapes {
        let mut bytes = Vec::new();
        write_tiny_llama(&mut bytes, &shape)?;
        std::fs::write(folder.join(name), &bytes)?;
        // Parts that are quick to run, and from which longer inputs grow.
        for eighths in [1, 4, 7] {
            std::fs::write(folder.join(format!("{name}-{eighths}")), &bytes[..bytes.len() * eighths / 8])?;
        }
    }
    for name in ["llama", "gpt2", "granite", "granitehybrid", "qwen2", "lfm2", "gemma3", "mamba"] {
        std::fs::write(folder.join(name), architecture(name)?)?;
    }
    println!("seeds are in {}", folder.display());
    Ok(())
}

/// Every entry that the facts look at, a vocabulary of four tokens, and the first tensors.
fn architecture(name: &str) -> io::Result<Vec<u8>> {
    let mut file = GgufWriter::new();
    let entries: [(&str, Value); 21] = [
        ("block_count", 1u32.into()),
        ("context_length", 8u32.into()),
        ("embedding_length", 4u32.into()),
        ("feed_forward_length", vec![4u32].into()),
        ("attention.head_count", 2u32.into()),
        ("attention.head_count_kv", vec![0i32].into()),
        ("attention.key_length", 2u32.into()),
        ("attention.value_length", 2u32.into()),
        ("attention.layer_norm_rms_epsilon", 1e-5f32.into()),
        ("attention.layer_norm_epsilon", 1e-5f32.into()),
        ("attention.sliding_window", 4u32.into()),
        ("rope.freq_base", 1e4f32.into()),
        ("rope.scaling.type", "yarn".into()),
        ("rope.scaling.factor", 2f32.into()),
        ("logit_scale", 1f32.into()),
        ("shortconv.l_cache", 3u32.into()),
        ("ssm.conv_kernel", 4u32.into()),
        ("ssm.inner_size", 8u32.into()),
        ("ssm.state_size", 2u32.into()),
        ("ssm.time_step_rank", 2u32.into()),
        ("ssm.group_count", 1u32.into()),
    ];
    file.set("general.architecture", name);
    for (key, value) in entries {
        file.set(format!("{name}.{key}"), value);
    }
    let tokens = ["<0x0A>", "a", "<s>", ""].map(str::to_owned).to_vec();
    file.set("tokenizer.ggml.model", "llama")
        .set("tokenizer.ggml.tokens", tokens)
        .set("tokenizer.ggml.scores", vec![0f32; 4])
        .set("tokenizer.ggml.token_type", vec![6i32, 1, 3, 1])
        .set("tokenizer.ggml.eot_token_id", 2u32)
        .tensor("token_embd.weight", &[4, 4], TensorType::F16)?
        .tensor("output_norm.weight", &[4], TensorType::F32)?
        .tensor("blk.0.attn_norm.weight", &[4], TensorType::F32)?
        .tensor("blk.0.ffn_norm.weight", &[4], TensorType::F32)?;
    let mut bytes = Vec::new();
    file.write(&mut bytes, |tensor, out| out.write_all(&vec![0; tensor.size_bytes as usize]))?;
    Ok(bytes)
}
