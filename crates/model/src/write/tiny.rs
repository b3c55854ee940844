//! The smallest llama that runs.
//!
//! Tests of processes and protocols need a real model that loads in milliseconds and computes real logits. This
//! one has the llama architecture, seeded random weights and a byte-level BPE vocabulary: the 256 bytes, a few
//! merges and the ChatML control tokens. What it says is gibberish, but the same gibberish for the same seed.

use super::GgufWriter;
use super::draw::{Random, f16_bits};
use super::vocabulary::byte_char;
use crate::gguf::{Tensor, TensorType, TokenKind, Value};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Merges, in order of rank; each makes one token. They make common English a little shorter.
const MERGES: [(&str, &str); 6] =
    [("t", "h"), ("th", "e"), ("Ġ", "the"), ("i", "n"), ("a", "n"), ("an", "d")];
/// Control tokens, at the end of the vocabulary.
const CONTROL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
/// ChatML, as SmolLM2 and Qwen2 speak it.
const CHAT_TEMPLATE: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + \
    message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|im_start|>assistant\n' }}{% endif %}";

/// Standard deviation of the logits: about that of a trained model, where the likeliest of a few hundred tokens
/// gets some tens of percent.
const LOGIT_DEVIATION: f32 = 2.5;

/// How much larger the attention's matrices are: enough for peaked attention, so that what comes next depends on
/// the whole context and greedy decoding does not settle on one token.
const ATTENTION_GAIN: f32 = 2.0;

/// Type of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the format's own and say it all")]
pub enum WeightType {
    F32,
    F16,
}

/// Shape of a tiny llama.
#[derive(Debug, Clone, PartialEq)]
pub struct TinyShape {
    /// Layers.
    pub layers: u32,
    /// Width of the residual stream, a multiple of `heads`.
    pub embedding: u32,
    /// Query heads, a multiple of `kv_heads`.
    pub heads: u32,
    /// Key-value heads.
    pub kv_heads: u32,
    /// Width of the feed-forward network.
    pub feed_forward: u32,
    /// Context length in tokens.
    pub context_tokens: u32,
    /// Type of the matrices.
    pub weights: WeightType,
    /// Seed of the weights.
    pub seed: u64,
}

impl Default for TinyShape {
    fn default() -> Self {
        Self {
            layers: 2,
            embedding: 64,
            heads: 4,
            kv_heads: 2,
            feed_forward: 128,
            context_tokens: 2048,
            weights: WeightType::F32,
            seed: 0,
        }
    }
}

impl TinyShape {
    /// Metadata and tensor table.
    ///
    /// # Errors
    /// `InvalidInput` when the sizes do not fit each other.
    pub fn layout(&self) -> io::Result<GgufWriter> {
        let divides = |a: u32, b: u32| b > 0 && a > 0 && a.is_multiple_of(b);
        if !divides(self.embedding, self.heads) || !divides(self.heads, self.kv_heads) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{} embedding, {} heads and {} kv heads: each must be a multiple of the next",
                    self.embedding, self.heads, self.kv_heads
                ),
            ));
        }
        let mut file = GgufWriter::new();
        file.set("general.architecture", "llama")
            .set("general.name", "tiny llama with random weights")
            .set("general.file_type", if self.weights == WeightType::F32 { 0u32 } else { 1 })
            .set("llama.block_count", self.layers)
            .set("llama.context_length", self.context_tokens)
            .set("llama.embedding_length", self.embedding)
            .set("llama.feed_forward_length", self.feed_forward)
            .set("llama.attention.head_count", self.heads)
            .set("llama.attention.head_count_kv", self.kv_heads)
            .set("llama.attention.layer_norm_rms_epsilon", 1e-5f32)
            .set("llama.rope.dimension_count", self.embedding / self.heads)
            .set("llama.rope.freq_base", 10_000f32);
        set_tokenizer(&mut file);

        let kind = match self.weights {
            WeightType::F32 => TensorType::F32,
            WeightType::F16 => TensorType::F16,
        };
        let width = u64::from(self.embedding);
        let kv_width = width / u64::from(self.heads) * u64::from(self.kv_heads);
        let ff = u64::from(self.feed_forward);
        let vocab = vocabulary().len() as u64;
        file.tensor("token_embd.weight", &[width, vocab], kind)?;
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            file.tensor(name("attn_norm"), &[width], TensorType::F32)?
                .tensor(name("attn_q"), &[width, width], kind)?
                .tensor(name("attn_k"), &[width, kv_width], kind)?
                .tensor(name("attn_v"), &[width, kv_width], kind)?
                .tensor(name("attn_output"), &[width, width], kind)?
                .tensor(name("ffn_norm"), &[width], TensorType::F32)?
                .tensor(name("ffn_gate"), &[width, ff], kind)?
                .tensor(name("ffn_up"), &[width, ff], kind)?
                .tensor(name("ffn_down"), &[ff, width], kind)?;
        }
        file.tensor("output_norm.weight", &[width], TensorType::F32)?.tensor(
            "output.weight",
            &[width, vocab],
            kind,
        )?;
        Ok(file)
    }

    /// Write one tensor of that layout.
    fn fill(&self, tensor: &Tensor, out: &mut dyn Write) -> io::Result<()> {
        if tensor.name.ends_with("norm.weight") {
            return (0..tensor.elements()).try_for_each(|_| out.write_all(&1f32.to_le_bytes()));
        }
        // Variance 1/fan-in keeps activations near 1 through the layers. The output projection is not the embedding
        // (that would only repeat the last token) and larger, so that temperature and top-p matter.
        let fan_in = tensor.shape[0] as f32;
        let scale = match tensor.name.as_str() {
            "token_embd.weight" => 1.0,
            "output.weight" => LOGIT_DEVIATION / fan_in.sqrt(),
            name if name.contains("attn_") => ATTENTION_GAIN / fan_in.sqrt(),
            _ => 1.0 / fan_in.sqrt(),
        };
        let mut random = Random::named(self.seed, &tensor.name);
        for _ in 0..tensor.elements() {
            let weight = random.normal() * scale;
            match tensor.kind {
                TensorType::F16 => out.write_all(&f16_bits(weight).to_le_bytes())?,
                _ => out.write_all(&weight.to_le_bytes())?,
            }
        }
        Ok(())
    }
}

/// Write a tiny llama to a file.
///
/// # Errors
/// Those of the file; `InvalidInput` when the sizes do not fit each other.
pub fn tiny_llama(path: &Path, shape: &TinyShape) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    write_tiny_llama(&mut out, shape)?;
    out.flush()
}

/// Write a tiny llama.
///
/// # Errors
/// Those of `out`; `InvalidInput` when the sizes do not fit each other.
pub fn write_tiny_llama(out: &mut impl Write, shape: &TinyShape) -> io::Result<()> {
    shape.layout()?.write(out, |tensor, out| shape.fill(tensor, out))
}

fn set_tokenizer(file: &mut GgufWriter) {
    let tokens = vocabulary();
    let first_control = tokens.len() - CONTROL.len();
    let kinds: Vec<i32> = (0..tokens.len())
        .map(|id| if id < first_control { TokenKind::Normal as i32 } else { TokenKind::Control as i32 })
        .collect();
    let merges: Vec<String> = MERGES.iter().map(|(left, right)| format!("{left} {right}")).collect();
    let [end_of_text, _, end_of_turn] = [0, 1, 2].map(|at| (first_control + at) as u32);
    file.set("tokenizer.ggml.model", "gpt2")
        .set("tokenizer.ggml.pre", "gpt-2")
        .set("tokenizer.ggml.tokens", tokens)
        .set("tokenizer.ggml.token_type", kinds)
        .set("tokenizer.ggml.merges", merges)
        .set("tokenizer.ggml.bos_token_id", end_of_text)
        .set("tokenizer.ggml.eos_token_id", end_of_turn)
        .set("tokenizer.ggml.padding_token_id", end_of_text)
        .set("tokenizer.ggml.add_bos_token", false)
        .set("tokenizer.chat_template", Value::from(CHAT_TEMPLATE));
}

/// The 256 bytes, the merged tokens, the control tokens.
fn vocabulary() -> Vec<String> {
    let merged = MERGES.iter().map(|(left, right)| format!("{left}{right}"));
    (0..=255)
        .map(|byte| byte_char(byte).to_string())
        .chain(merged)
        .chain(CONTROL.map(str::to_owned))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_must_fit() {
        let odd = TinyShape { heads: 3, ..TinyShape::default() };
        assert!(odd.layout().is_err());
        let none = TinyShape { kv_heads: 0, ..TinyShape::default() };
        assert!(none.layout().is_err());
    }
}
