//! Published shapes, as data.
//!
//! The file is built in and small; it is checked by the tests, which add up each shape's parameters and compare the
//! sum with what its publisher states.

use super::SynthError;
use serde::Deserialize;
use std::collections::BTreeMap;

const BUILTIN: &str = include_str!("../../../families.toml");

/// The shape of a published model.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// What the user types, in any case.
    pub name: String,
    /// Parameters as published.
    pub parameters: u64,
    /// Where the figures come from.
    pub source: String,
    /// The architecture as GGUF names it.
    pub architecture: String,
    /// Layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub width: u32,
    /// Query heads.
    pub heads: u32,
    /// Key-value heads.
    pub kv_heads: u32,
    /// Elements of one head.
    pub head_width: u32,
    /// Width of the feed-forward network.
    pub feed_forward: u32,
    /// Context it was trained for, in tokens.
    pub context_tokens: u32,
    /// Epsilon of the normalisation layers.
    pub norm_epsilon: f32,
    /// Base of rotary position embedding; none where positions are learned.
    pub rope_base: Option<f32>,
    /// Llama 3's scaling of it.
    pub rope_llama3: Option<RopeLlama3>,
    /// Width of the attention window of local layers, in tokens.
    pub sliding_window_tokens: Option<u32>,
    /// Granite's factors.
    pub granite: Option<GraniteScales>,
    /// LFM2's convolutions, in the layers that have no attention.
    pub short_convolution: Option<ShortConvolution>,
    /// Name of its vocabulary in the file.
    pub tokenizer: String,
    /// The vocabulary.
    #[serde(skip)]
    pub vocabulary: Tokenizer,
}

/// Llama 3's scaling of rotary frequencies.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeLlama3 {
    /// What low frequencies are divided by.
    pub factor: f32,
    /// Wavelengths above the original context by this are scaled in full.
    pub low_frequency_factor: f32,
    /// Wavelengths below the original context by this are not scaled.
    pub high_frequency_factor: f32,
    /// Context before it was extended, in tokens.
    pub original_context_tokens: u32,
}

/// Factors of Granite.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraniteScales {
    /// Attention scores are multiplied by it.
    pub attention_scale: f32,
    /// Embeddings are multiplied by it.
    pub embedding_scale: f32,
    /// What a layer adds is multiplied by it.
    pub residual_scale: f32,
    /// Logits are divided by it.
    pub logit_scale: f32,
}

/// Short convolutions of LFM2.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShortConvolution {
    /// Width in tokens.
    pub kernel: u32,
    /// Layers that have attention instead.
    pub attention_layers: Vec<u32>,
}

/// A vocabulary: true size and control tokens, made-up spellings.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tokenizer {
    /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece).
    pub model: String,
    /// `tokenizer.ggml.pre`: how text is cut.
    pub pre: String,
    /// Tokens.
    pub tokens: u32,
    /// Beginning of sequence.
    pub bos: u32,
    /// End of sequence.
    pub eos: u32,
    /// Padding.
    pub pad: Option<u32>,
    /// What stands for the unknown.
    pub unknown: Option<u32>,
    /// Whether a beginning of sequence goes in front of every prompt.
    pub add_bos: bool,
    /// Control tokens at their places.
    pub control: Vec<(u32, String)>,
    /// Which of our chat templates fits them.
    pub template: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    tokenizer: BTreeMap<String, Tokenizer>,
    family: Vec<Family>,
}

/// All families, in the order of the file.
///
/// # Errors
/// The built-in file is wrong.
pub fn families() -> Result<Vec<Family>, SynthError> {
    let raw: RawFile = toml::from_str(BUILTIN).map_err(|error| SynthError::Families(error.to_string()))?;
    let whole = |mut family: Family| {
        family.vocabulary = raw.tokenizer.get(&family.tokenizer).cloned().ok_or_else(|| {
            SynthError::Families(format!("{} has the unknown tokenizer {:?}", family.name, family.tokenizer))
        })?;
        Ok(family)
    };
    raw.family.into_iter().map(whole).collect()
}

/// The family of this name, in any case.
///
/// # Errors
/// There is none.
pub fn family(name: &str) -> Result<Family, SynthError> {
    families()?
        .into_iter()
        .find(|family| family.name.eq_ignore_ascii_case(name))
        .ok_or_else(|| SynthError::Unknown { name: name.into() })
}

impl Family {
    /// Whether this layer has attention (a convolution otherwise).
    pub fn has_attention(&self, layer: u32) -> bool {
        self.short_convolution.as_ref().is_none_or(|short| short.attention_layers.contains(&layer))
    }

    /// Key-value heads of this layer.
    pub fn kv_heads_of(&self, layer: u32) -> u32 {
        if self.has_attention(layer) { self.kv_heads } else { 0 }
    }
}
