//! From metadata to facts, refusing what would abort llama.cpp.
//!
//! Each check here stands for an assertion or a division in llama.cpp (its file is named where it is not
//! obvious), or for a number that would make it compute for minutes.

use super::keys::{self, Keys};
use super::shapes::{self, Recurrence, Table};
use super::{FactsError, ModelFacts, QUANTISED_FROM_KEY, Rope, tokenizer};
use crate::gguf::{Gguf, TensorType, Value, ValueType};
use crate::write::synth::WEIGHTLESS_KEY;
use std::collections::BTreeMap;

/// Most layers: `LLAMA_MAX_LAYERS`, beyond which `load_hparams` aborts.
const LAYERS_MAX: u32 = 512;
/// Longest context: the longest advertised is ten million tokens.
const CONTEXT_TOKENS_MAX: u32 = 1 << 24;
/// Widest residual stream: the widest known is 53,248.
const EMBEDDING_MAX: u32 = 1 << 17;
/// Most heads: an embedding of that width in heads of 32.
const HEADS_MAX: u32 = 1 << 12;
/// Largest head: the largest known has 576 elements.
const HEAD_DIM_MAX: u32 = 1 << 13;
/// Widest feed-forward network: four times the widest known.
const FEED_FORWARD_MAX: u32 = 1 << 20;
/// Most experts: `LLAMA_MAX_EXPERTS`, beyond which `load_hparams` aborts.
const EXPERTS_MAX: u32 = 1024;
/// Longest convolution of a recurrent layer: the longest known is 4.
const KERNEL_MAX: u32 = 256;
/// Largest size inside a recurrent layer.
const RECURRENT_MAX: u32 = 1 << 18;
/// Largest epsilon of a norm: real ones lie between 1e-12 and 1e-3; above 1 the norm no longer normalises.
const EPSILON_MAX: f32 = 1.0;

/// Architectures with recurrent layers (`llm_arch_is_recurrent`, `llm_arch_is_hybrid`).
const RECURRENT: [&str; 23] = [
    "mamba",
    "mamba2",
    "rwkv6",
    "rwkv6qwen2",
    "rwkv7",
    "arwkv7",
    "jamba",
    "falcon-h1",
    "plamo2",
    "granitehybrid",
    "lfm2",
    "lfm2moe",
    "nemotron_h",
    "nemotron_h_moe",
    "qwen3next",
    "kimi-linear",
    "bailingmoe3",
    "kimi-k3",
    "glm5-next",
    "qwen35",
    "qwen35moe",
    "qwen4exp",
    "minimax-01",
];

/// Names of `general.file_type` (`enum llama_ftype`).
const FILE_TYPES: [(u32, &str); 37] = [
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (7, "Q8_0"),
    (8, "Q5_0"),
    (9, "Q5_1"),
    (10, "Q2_K"),
    (11, "Q3_K_S"),
    (12, "Q3_K_M"),
    (13, "Q3_K_L"),
    (14, "Q4_K_S"),
    (15, "Q4_K_M"),
    (16, "Q5_K_S"),
    (17, "Q5_K_M"),
    (18, "Q6_K"),
    (19, "IQ2_XXS"),
    (20, "IQ2_XS"),
    (21, "Q2_K_S"),
    (22, "IQ3_XS"),
    (23, "IQ3_XXS"),
    (24, "IQ1_S"),
    (25, "IQ4_NL"),
    (26, "IQ3_S"),
    (27, "IQ3_M"),
    (28, "IQ2_S"),
    (29, "IQ2_M"),
    (30, "IQ4_XS"),
    (31, "IQ1_M"),
    (32, "BF16"),
    (36, "TQ1_0"),
    (37, "TQ2_0"),
    (38, "MXFP4_MOE"),
    (39, "NVFP4"),
    (40, "Q1_0"),
    (41, "Q2_0"),
    (1024, "guessed"),
];

/// Gather the facts.
pub(super) fn gather(gguf: &Gguf) -> Result<ModelFacts, FactsError> {
    let architecture = keys::text(gguf, "general.architecture")?
        .ok_or_else(|| FactsError::missing("`general.architecture`", "nothing says what the tensors mean"))?;
    let known = shapes::KNOWN.contains(&architecture);
    let keys = Keys { gguf, architecture };
    check_whole(gguf)?;
    keys.all_finite()?;

    let layers = keys.need_number("block_count", 1..=LAYERS_MAX)?;
    let context_train_tokens = keys.need_number("context_length", 1..=CONTEXT_TOKENS_MAX)?;
    let embedding = keys.need_number("embedding_length", 1..=EMBEDDING_MAX)?;
    let table = Table::new(gguf);
    check_blocks(gguf, &keys, layers, known)?;

    let vocab_tokens = vocab_tokens(&keys)?;
    check_embedding(&keys, &table, known, embedding, vocab_tokens)?;
    let heads = heads(&keys, layers, known)?;
    let (head_dim_key, head_dim_value) = head_dims(&keys, known, embedding, &heads.query)?;
    let feed_forward = match keys.per_layer("feed_forward_length", layers, FEED_FORWARD_MAX)? {
        None if known => return Err(keys.missing("feed_forward_length")),
        None => vec![0; layers as usize],
        Some(widths) if known && widths.contains(&0) => {
            return Err(FactsError::invalid(keys.name("feed_forward_length"), 0, "at least 1"));
        }
        Some(widths) => widths,
    };
    let (experts, experts_used) = experts(&keys, layers)?;
    if keys.number("nextn_predict_layers", 0..=layers - 1)?.is_some_and(|extra| extra > 0) && known {
        return Err(FactsError::invalid(
            keys.name("nextn_predict_layers"),
            "above 0",
            "0 in this architecture",
        ));
    }
    keys.number("pooling_type", 0..=4)?;
    scales(&keys)?;

    let recurrent = RECURRENT.contains(&architecture);
    let recurrence = recurrence(&keys, embedding)?;
    let by_type = elements_by_type(gguf);
    let dominant_type =
        by_type.iter().max_by_key(|(_, elements)| **elements).map_or(TensorType::F32, |(kind, _)| *kind);
    let facts = ModelFacts {
        architecture: architecture.to_owned(),
        name: keys::text(gguf, "general.name")?.map(str::to_owned),
        parameters: by_type.values().sum(),
        parameters_non_embedding: parameters_non_embedding(gguf),
        quantisation: quantisation(gguf, dominant_type),
        dominant_type,
        weight_bytes: gguf.tensors.iter().map(|tensor| tensor.size_bytes).sum(),
        step_bytes: step_bytes(gguf),
        file_bytes: gguf.file_bytes,
        quantised_from: keys::text(gguf, QUANTISED_FROM_KEY)?.map(str::to_owned),
        weightless: gguf.metadata.get(WEIGHTLESS_KEY) == Some(&Value::Bool(true)),
        layers,
        embedding,
        rope: rope(&keys, known, head_dim_key)?,
        head_dim_key,
        head_dim_value,
        recurrent_state_bytes: recurrent_state_bytes(
            architecture,
            recurrent,
            recurrence,
            embedding,
            &heads.kv,
        ),
        heads: heads.query,
        kv_heads: heads.kv,
        feed_forward,
        experts,
        experts_used,
        vocab_tokens,
        context_train_tokens,
        sliding_window_tokens: keys
            .number("attention.sliding_window", 0..=CONTEXT_TOKENS_MAX)?
            .filter(|&window| window > 0),
        norm_epsilon: epsilon(&keys, known)?,
        recurrent,
        chat_template: keys::text(gguf, "tokenizer.chat_template")?.map(str::to_owned),
        tokenizer: tokenizer::gather(gguf, vocab_tokens)?,
    };
    if known {
        shapes::check(&table, &facts, recurrence)?;
    }
    Ok(facts)
}

/// Things that concern the file as a whole.
fn check_whole(gguf: &Gguf) -> Result<(), FactsError> {
    if let Some(Value::U16(parts)) = gguf.metadata.get("split.count")
        && *parts > 1
    {
        let accepted = "1: merge the parts first (llama-gguf-split --merge)";
        return Err(FactsError::invalid("`split.count`", parts, accepted));
    }
    let nested = gguf
        .metadata
        .iter()
        .find(|(_, value)| matches!(value, Value::Array(array) if array.element == ValueType::Array));
    match nested {
        Some((key, _)) => Err(FactsError::invalid(
            format!("`{key}`"),
            "an array of arrays",
            "flat: llama.cpp knows no other",
        )),
        None => Ok(()),
    }
}

/// Every layer that the metadata counts must have tensors, and no tensor may belong to a further one.
fn check_blocks(gguf: &Gguf, keys: &Keys<'_>, layers: u32, known: bool) -> Result<(), FactsError> {
    let mut seen = vec![false; layers as usize];
    for tensor in &gguf.tensors {
        let Some((number, _)) = tensor.name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
            continue;
        };
        match number.parse::<u32>() {
            Ok(number) if number < layers => seen[number as usize] = true,
            _ => {
                return Err(FactsError::invalid(
                    keys.name("block_count"),
                    layers,
                    format!("large enough for tensor `{}`", tensor.name),
                ));
            }
        }
    }
    match seen.iter().position(|seen| !seen) {
        Some(gap) if known || seen.contains(&true) => Err(FactsError::missing(
            format!("every tensor `blk.{gap}.*`"),
            format!("{} is {layers}", keys.name("block_count")),
        )),
        _ => Ok(()),
    }
}

fn vocab_tokens(keys: &Keys<'_>) -> Result<u32, FactsError> {
    match &keys.gguf.vocabulary {
        Some(vocabulary) => Ok(vocabulary.tokens as u32),
        None => match keys::text(keys.gguf, "tokenizer.ggml.model")? {
            Some("none" | "no_vocab") => Ok(keys.number("vocab_size", 0..=i32::MAX as u32)?.unwrap_or(0)),
            _ => {
                Err(FactsError::missing("`tokenizer.ggml.tokens`", "the model has no vocabulary without it"))
            }
        },
    }
}

fn check_embedding(
    keys: &Keys<'_>,
    table: &Table<'_>,
    known: bool,
    embedding: u32,
    vocab_tokens: u32,
) -> Result<(), FactsError> {
    let name = "token_embd.weight";
    let Some(tensor) = table.get(name) else {
        let missing = FactsError::missing(format!("tensor `{name}`"), "the architecture needs it");
        return if known { Err(missing) } else { Ok(()) };
    };
    let [width, rows] = [0, 1].map(|at| tensor.shape.get(at).copied().unwrap_or(1));
    if width != u64::from(embedding) {
        let accepted = format!("{width}, the width of tensor `{name}`");
        return Err(FactsError::invalid(keys.name("embedding_length"), embedding, accepted));
    }
    if rows != u64::from(vocab_tokens) {
        return Err(FactsError::invalid(
            "the number of elements of `tokenizer.ggml.tokens`",
            vocab_tokens,
            format!("{rows}, the rows of tensor `{name}`"),
        ));
    }
    Ok(())
}

struct Heads {
    query: Vec<u32>,
    kv: Vec<u32>,
}

fn heads(keys: &Keys<'_>, layers: u32, known: bool) -> Result<Heads, FactsError> {
    let [query_key, kv_key] = ["attention.head_count", "attention.head_count_kv"];
    let query = match keys.per_layer(query_key, layers, HEADS_MAX)? {
        Some(heads) => heads,
        None if known => return Err(keys.missing(query_key)),
        None => vec![0; layers as usize],
    };
    let kv = keys.per_layer(kv_key, layers, HEADS_MAX)?.unwrap_or_else(|| query.clone());
    if known {
        // A layer without key-value heads is a recurrent one; only two of the known architectures have them.
        let hybrid = RECURRENT.contains(&keys.architecture);
        for (layer, (&heads, &kv_heads)) in query.iter().zip(&kv).enumerate() {
            if heads == 0 {
                let field = format!("{} in layer {layer}", keys.name(query_key));
                return Err(FactsError::invalid(field, 0, "at least 1"));
            }
            if kv_heads == 0 && !hybrid {
                let field = format!("{} in layer {layer}", keys.name(kv_key));
                return Err(FactsError::invalid(field, 0, "at least 1 in this architecture"));
            }
            if kv_heads > 0 && heads % kv_heads != 0 {
                let field = format!("{} in layer {layer}", keys.name(kv_key));
                return Err(FactsError::invalid(field, kv_heads, format!("a divisor of the {heads} heads")));
            }
        }
        // llama.cpp sizes all heads by those of layer 0.
        if let Some(layer) = query.iter().position(|heads| *heads != query[0]) {
            let field = format!("{} in layer {layer}", keys.name(query_key));
            return Err(FactsError::invalid(field, query[layer], format!("{}, as in layer 0", query[0])));
        }
    }
    Ok(Heads { query, kv })
}

fn head_dims(keys: &Keys<'_>, known: bool, embedding: u32, heads: &[u32]) -> Result<(u32, u32), FactsError> {
    let heads = heads.first().copied().unwrap_or(0);
    let explicit = keys.number("attention.key_length", 1..=HEAD_DIM_MAX)?;
    let derived = match (heads, explicit) {
        (0, _) => 0,
        (_, None) if !embedding.is_multiple_of(heads) && known => {
            return Err(FactsError::invalid(
                keys.name("attention.head_count"),
                heads,
                format!("a divisor of {}, which is {embedding}", keys.name("embedding_length")),
            ));
        }
        _ => embedding / heads,
    };
    let key = explicit.unwrap_or(derived);
    let value = keys.number("attention.value_length", 1..=HEAD_DIM_MAX)?.unwrap_or(derived);
    if known && key != value {
        let accepted = format!("{key}, the size of a key head");
        return Err(FactsError::invalid(keys.name("attention.value_length"), value, accepted));
    }
    Ok((key, value))
}

/// The assertions on experts in `load_hparams`.
fn experts(keys: &Keys<'_>, layers: u32) -> Result<(u32, u32), FactsError> {
    let experts = keys.number("expert_count", 0..=EXPERTS_MAX)?.unwrap_or(0);
    let used = keys.per_layer("expert_used_count", layers, experts)?.unwrap_or_default();
    let used = used.into_iter().max().unwrap_or(0);
    if experts > 0 && used == 0 {
        return Err(FactsError::invalid(keys.name("expert_used_count"), 0, format!("from 1 to {experts}")));
    }
    let groups = keys.number("expert_group_count", 0..=experts.saturating_sub(1))?.unwrap_or(0);
    if groups > 1 {
        if experts % groups != 0 {
            let accepted = format!("a divisor of the {experts} experts");
            return Err(FactsError::invalid(keys.name("expert_group_count"), groups, accepted));
        }
        keys.need_number("expert_group_used_count", 1..=groups - 1)?;
    }
    Ok((experts, used))
}

/// Factors by which granite divides or multiplies.
fn scales(keys: &Keys<'_>) -> Result<(), FactsError> {
    let key = "logit_scale";
    match keys.fraction(key)? {
        None if keys.architecture == "granite" => Err(keys.missing(key)),
        Some(scale) if scale <= 0.0 && keys.architecture.starts_with("granite") => {
            Err(FactsError::invalid(keys.name(key), scale, "above 0: logits are divided by it"))
        }
        _ => Ok(()),
    }
}

fn epsilon(keys: &Keys<'_>, known: bool) -> Result<Option<f32>, FactsError> {
    let rms = "attention.layer_norm_rms_epsilon";
    let plain = "attention.layer_norm_epsilon";
    let mut found = None;
    for key in [plain, rms] {
        if let Some(epsilon) = keys.fraction(key)? {
            if epsilon <= 0.0 || epsilon > EPSILON_MAX {
                let accepted = format!("above 0 and at most {EPSILON_MAX}");
                return Err(FactsError::invalid(keys.name(key), epsilon, accepted));
            }
            found = Some((key, epsilon));
        }
    }
    let needed = if keys.architecture == "gpt2" { plain } else { rms };
    match found {
        Some((key, epsilon)) if key == needed || !known => Ok(Some(epsilon)),
        _ if known => Err(keys.missing(needed)),
        _ => Ok(None),
    }
}

fn rope(keys: &Keys<'_>, known: bool, head_dim: u32) -> Result<Option<Rope>, FactsError> {
    let dimensions = keys.number("rope.dimension_count", 0..=HEAD_DIM_MAX)?;
    let base = keys.fraction("rope.freq_base")?.unwrap_or(10_000.0);
    if base <= 0.0 {
        return Err(FactsError::invalid(keys.name("rope.freq_base"), base, "above 0"));
    }
    let key = "rope.scaling.type";
    let scaling = keys.text(key)?.unwrap_or("linear");
    if !matches!(scaling, "none" | "linear" | "yarn" | "longrope") {
        let accepted = "none, linear, yarn or longrope";
        return Err(FactsError::invalid(keys.name(key), format!("`{scaling}`"), accepted));
    }
    let factor_key = "rope.scaling.factor";
    let factor = keys.fraction(factor_key)?.unwrap_or(0.0);
    if factor < 0.0 {
        return Err(FactsError::invalid(keys.name(factor_key), factor, "at least 0"));
    }
    if keys.architecture == "gpt2" || head_dim == 0 {
        return Ok(None);
    }
    let rotated = dimensions.unwrap_or(head_dim);
    if known {
        let key = keys.name("rope.dimension_count");
        if rotated % 2 != 0 || rotated == 0 || rotated > head_dim {
            let accepted = format!("even, and from 2 to {head_dim}, the size of a head");
            return Err(FactsError::invalid(key, rotated, accepted));
        }
        // Asserted by the graphs of all known architectures but these.
        if rotated != head_dim && !matches!(keys.architecture, "gemma3" | "lfm2" | "granitehybrid") {
            return Err(FactsError::invalid(key, rotated, format!("{head_dim}, the size of a head")));
        }
    }
    let factor = if factor == 0.0 { 1.0 } else { factor };
    Ok(Some(Rope { base, dimensions: rotated, scaling: scaling.to_owned(), factor }))
}

/// Sizes of recurrent layers; the divisions and assertions of `granite-hybrid.cpp`, `mamba-base.cpp`, `lfm2.cpp`.
fn recurrence(keys: &Keys<'_>, embedding: u32) -> Result<Recurrence, FactsError> {
    match keys.architecture {
        "lfm2" => {
            let kernel = keys.need_number("shortconv.l_cache", 2..=KERNEL_MAX)?;
            Ok(Recurrence { kernel: kernel.into(), ..Recurrence::default() })
        }
        "granitehybrid" => {
            let kernel = keys.need_number("ssm.conv_kernel", 2..=KERNEL_MAX)?;
            let inner = keys.need_number("ssm.inner_size", 1..=RECURRENT_MAX)?;
            if inner != 2 * embedding {
                let accepted = format!("{}, twice the embedding", 2 * embedding);
                return Err(FactsError::invalid(keys.name("ssm.inner_size"), inner, accepted));
            }
            let state = keys.need_number("ssm.state_size", 1..=RECURRENT_MAX)?;
            let [heads, groups] = ["ssm.time_step_rank", "ssm.group_count"].map(|key| {
                let value = keys.need_number(key, 1..=RECURRENT_MAX)?;
                if inner % value != 0 {
                    let accepted = format!("a divisor of {}, which is {inner}", keys.name("ssm.inner_size"));
                    return Err(FactsError::invalid(keys.name(key), value, accepted));
                }
                Ok(value)
            });
            Ok(Recurrence {
                kernel: kernel.into(),
                inner: inner.into(),
                state: state.into(),
                heads: heads?.into(),
                groups: groups?.into(),
            })
        }
        _ => Ok(Recurrence::default()),
    }
}

/// `n_embd_r` and `n_embd_s` of `llama-hparams.cpp`, over the layers without key-value heads.
fn recurrent_state_bytes(
    architecture: &str,
    recurrent: bool,
    recurrence: Recurrence,
    embedding: u32,
    kv_heads: &[u32],
) -> Option<u64> {
    let Recurrence { kernel, inner, state, groups, .. } = recurrence;
    let elements = match architecture {
        "lfm2" => u64::from(embedding) * (kernel - 1),
        "granitehybrid" => (kernel - 1) * (inner + 2 * groups * state) + state * inner,
        _ if recurrent => return None,
        _ => 0,
    };
    let layers = kv_heads.iter().filter(|heads| **heads == 0).count() as u64;
    Some(layers * elements * 4)
}

fn elements_by_type(gguf: &Gguf) -> BTreeMap<TensorType, u64> {
    let mut elements = BTreeMap::new();
    for tensor in &gguf.tensors {
        // Cannot overflow: each tensor lies within the file, so all together have fewer elements than 2^63.
        *elements.entry(tensor.kind).or_insert(0) += tensor.elements();
    }
    elements
}

fn parameters_non_embedding(gguf: &Gguf) -> u64 {
    let embedding = ["token_embd.weight", "position_embd.weight", "output.weight"];
    let rest = gguf.tensors.iter().filter(|tensor| !embedding.contains(&tensor.name.as_str()));
    rest.map(|tensor| tensor.elements()).sum()
}

fn step_bytes(gguf: &Gguf) -> u64 {
    let untied = gguf.tensors.iter().any(|tensor| tensor.name == "output.weight");
    let looked_up = |name: &str| match name {
        "token_embd.weight" => untied,
        "position_embd.weight" => true,
        _ => false,
    };
    gguf.tensors.iter().filter(|tensor| !looked_up(&tensor.name)).map(|tensor| tensor.size_bytes).sum()
}

fn quantisation(gguf: &Gguf, dominant: TensorType) -> String {
    let named = match gguf.metadata.get("general.file_type") {
        Some(Value::U32(id)) => FILE_TYPES.iter().find(|row| row.0 == *id && row.0 != 1024),
        _ => None,
    };
    named.map_or_else(|| dominant.to_string(), |row| row.1.to_owned())
}
