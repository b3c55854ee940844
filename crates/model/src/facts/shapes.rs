//! Which tensors an architecture needs, in which shapes.
//!
//! llama.cpp asks for each by name and shape, and a wrong type or a division by a head count of zero only shows
//! when it computes. The tables here are the `load_arch_tensors` of the architectures that QEIL promises to
//! know; other architectures are held to the general rules alone.

use super::{FactsError, ModelFacts};
use crate::gguf::{Gguf, Tensor, TensorType};
use std::collections::HashMap;

/// Architectures whose tensors are listed here.
pub(super) const KNOWN: [&str; 7] = ["llama", "gpt2", "granite", "granitehybrid", "qwen2", "lfm2", "gemma3"];

/// Sizes that only some architectures have; 0 elsewhere.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Recurrence {
    /// Width of the convolution (`ssm.conv_kernel`, `shortconv.l_cache`).
    pub kernel: u64,
    /// `ssm.inner_size`.
    pub inner: u64,
    /// `ssm.state_size`.
    pub state: u64,
    /// `ssm.time_step_rank`: heads of Mamba-2.
    pub heads: u64,
    /// `ssm.group_count`.
    pub groups: u64,
}

/// Names of the tensors of a file.
pub(super) struct Table<'a> {
    by_name: HashMap<&'a str, &'a Tensor>,
}

impl<'a> Table<'a> {
    pub fn new(gguf: &'a Gguf) -> Self {
        Self { by_name: gguf.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect() }
    }

    pub fn get(&self, name: &str) -> Option<&'a Tensor> {
        self.by_name.get(name).copied()
    }

    /// The tensor must be there in this shape.
    fn need(&self, name: &str, shape: &[u64]) -> Result<(), FactsError> {
        self.may(name, shape)?
            .then_some(())
            .ok_or_else(|| FactsError::missing(format!("tensor `{name}`"), "the architecture needs it"))
    }

    /// If the tensor is there, it must have this shape.
    fn may(&self, name: &str, shape: &[u64]) -> Result<bool, FactsError> {
        let Some(tensor) = self.get(name) else { return Ok(false) };
        // ggml fills the missing dimensions with 1.
        let whole = |dims: &[u64]| std::array::from_fn::<u64, 4, _>(|at| dims.get(at).copied().unwrap_or(1));
        if whole(&tensor.shape) == whole(shape) {
            Ok(true)
        } else {
            Err(FactsError::invalid(
                format!("the shape of tensor `{name}`"),
                format!("{:?}", tensor.shape),
                format!("{shape:?}, as the metadata says"),
            ))
        }
    }
}

/// Check the tensors of a known architecture.
pub(super) fn check(table: &Table<'_>, facts: &ModelFacts, recurrence: Recurrence) -> Result<(), FactsError> {
    let width = u64::from(facts.embedding);
    let vocab = u64::from(facts.vocab_tokens);
    table.need("token_embd.weight", &[width, vocab])?;
    table.may("output.weight", &[width, vocab])?;
    let norm = if facts.architecture == "lfm2" { "token_embd_norm.weight" } else { "output_norm.weight" };
    table.need(norm, &[width])?;
    if facts.architecture == "gpt2" {
        table.need("output_norm.bias", &[width])?;
        table.need("position_embd.weight", &[width, u64::from(facts.context_train_tokens)])?;
    }
    for layer in 0..facts.layers {
        check_layer(table, facts, recurrence, layer)?;
    }
    table.by_name.values().try_for_each(|tensor| check_type(tensor))
}

fn check_layer(
    table: &Table<'_>,
    facts: &ModelFacts,
    recurrence: Recurrence,
    layer: u32,
) -> Result<(), FactsError> {
    let at = layer as usize;
    let name = |part: &str| format!("blk.{layer}.{part}");
    let need = |part: &str, shape: &[u64]| table.need(&name(part), shape);
    let may = |part: &str, shape: &[u64]| table.may(&name(part), shape);
    let arch = facts.architecture.as_str();
    let width = u64::from(facts.embedding);
    let query = u64::from(facts.head_dim_key) * u64::from(facts.heads[at]);
    let key = u64::from(facts.head_dim_key) * u64::from(facts.kv_heads[at]);
    let value = u64::from(facts.head_dim_value) * u64::from(facts.kv_heads[at]);
    let ff = u64::from(facts.feed_forward[at]);

    need("attn_norm.weight", &[width])?;
    need("ffn_norm.weight", &[width])?;

    if facts.recurrent && facts.kv_heads[at] == 0 {
        let Recurrence { kernel, inner, state, heads, groups } = recurrence;
        if arch == "lfm2" {
            need("shortconv.conv.weight", &[kernel, width])?;
            need("shortconv.in_proj.weight", &[width, 3 * width])?;
            need("shortconv.out_proj.weight", &[width, width])?;
        } else {
            let conv = inner + 2 * groups * state;
            need("ssm_in.weight", &[width, 2 * inner + 2 * groups * state + heads])?;
            need("ssm_conv1d.weight", &[kernel, conv])?;
            may("ssm_conv1d.bias", &[conv])?;
            need("ssm_dt.bias", &[heads])?;
            need("ssm_a", &[1, heads])?;
            need("ssm_d", &[1, heads])?;
            need("ssm_norm.weight", &[inner / groups.max(1), groups])?;
            need("ssm_out.weight", &[inner, width])?;
        }
    } else {
        if !may("attn_qkv.weight", &[width, query + key + value])? {
            need("attn_q.weight", &[width, query])?;
            need("attn_k.weight", &[width, key])?;
            need("attn_v.weight", &[width, value])?;
        }
        may("attn_qkv.bias", &[query + key + value])?;
        may("attn_q.bias", &[query])?;
        may("attn_k.bias", &[key])?;
        may("attn_v.bias", &[value])?;
        need("attn_output.weight", &[query, width])?;
        may("attn_output.bias", &[width])?;
        if matches!(arch, "gemma3" | "lfm2") {
            need("attn_q_norm.weight", &[u64::from(facts.head_dim_key)])?;
            need("attn_k_norm.weight", &[u64::from(facts.head_dim_key)])?;
        }
    }

    if facts.experts > 0 {
        let experts = u64::from(facts.experts);
        need("ffn_gate_inp.weight", &[width, experts])?;
        may("ffn_gate_exps.weight", &[width, ff, experts])?;
        need("ffn_down_exps.weight", &[ff, width, experts])?;
        need("ffn_up_exps.weight", &[width, ff, experts])?;
    } else {
        if arch != "gpt2" {
            need("ffn_gate.weight", &[width, ff])?;
            may("ffn_gate.bias", &[ff])?;
        }
        need("ffn_up.weight", &[width, ff])?;
        need("ffn_down.weight", &[ff, width])?;
        may("ffn_up.bias", &[ff])?;
        may("ffn_down.bias", &[width])?;
    }

    match arch {
        "gemma3" => {
            need("post_attention_norm.weight", &[width])?;
            need("post_ffw_norm.weight", &[width])?;
        }
        "gpt2" => {
            need("attn_norm.bias", &[width])?;
            need("ffn_norm.bias", &[width])?;
            need("attn_qkv.weight", &[width, query + key + value])?;
            need("attn_qkv.bias", &[query + key + value])?;
            need("attn_output.bias", &[width])?;
            need("ffn_up.bias", &[ff])?;
            need("ffn_down.bias", &[width])?;
        }
        _ => {}
    }
    Ok(())
}

/// Vectors (norms, biases) and the recurrent parts enter element-wise operations, for which ggml aborts on
/// anything but F32; matrices must be of a type that it can multiply.
fn check_type(tensor: &Tensor) -> Result<(), FactsError> {
    let field = || format!("the type of tensor `{}`", tensor.name);
    let matrix = tensor.shape.len() > 1
        && !["ssm_a", "ssm_d", "ssm_norm.weight", "ssm_conv1d.weight", "shortconv.conv.weight"]
            .iter()
            .any(|part| tensor.name.ends_with(part));
    if matrix && !tensor.kind.is_weight() {
        return Err(FactsError::invalid(field(), tensor.kind, "a type that ggml can multiply"));
    }
    if !matrix && tensor.kind != TensorType::F32 {
        return Err(FactsError::invalid(field(), tensor.kind, TensorType::F32));
    }
    Ok(())
}
