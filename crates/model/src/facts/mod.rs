//! What a model file says about the model.
//!
//! [`inspect`] is the gate every file passes before a worker opens it: read, gather the facts, and refuse what
//! would abort llama.cpp or make it compute nonsense. The architectures `llama`, `gpt2`, `granite`, `granitehybrid`,
//! `qwen2`, `lfm2` and `gemma3` are checked tensor by tensor; any other is read as far as its entries follow the
//! general pattern `{architecture}.key`, and left to llama.cpp.
//!
//! `gather` holds the checks and their reasons, `keys` typed access to entries, `shapes` the tensors each
//! architecture needs, `tokenizer` what surrounds the vocabulary.

mod gather;
mod keys;
mod shapes;
mod tokenizer;

use crate::gguf::{Gguf, GgufError, Limits, SpecialToken, TensorType};
use serde::Serialize;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Metadata entry with the SHA-256 of the file that a quantised variant was made from.
pub const QUANTISED_FROM_KEY: &str = "qeil.quantised_from";

/// What a model file says about the model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelFacts {
    /// `general.architecture`: `llama`, `gpt2`, `granitehybrid`…
    pub architecture: String,
    /// `general.name`.
    pub name: Option<String>,
    /// Parameters in all.
    pub parameters: u64,
    /// Parameters without token and position embeddings and without the output projection.
    pub parameters_non_embedding: u64,
    /// Quantisation: the name of `general.file_type` (`Q4_K_M`), or else the type that holds most parameters.
    pub quantisation: String,
    /// Type of the tensors that hold most parameters.
    pub dominant_type: TensorType,
    /// Bytes of all tensors.
    pub weight_bytes: u64,
    /// Bytes of the tensors that one decode step reads: all but embeddings that are only looked up, a row a token. A
    /// token embedding that is the output projection, too, is read whole.
    pub step_bytes: u64,
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// Whether its weights are random ones (`qeil.weightless`): good for measuring, not for answers.
    pub weightless: bool,
    /// SHA-256 of the file whose weights were quantised to make this one (`qeil quantize`): a model of its own, whose
    /// answers differ.
    pub quantised_from: Option<String>,
    /// Layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub embedding: u32,
    /// Query heads, by layer.
    pub heads: Vec<u32>,
    /// Key-value heads, by layer; 0 where a hybrid's layer has no attention.
    pub kv_heads: Vec<u32>,
    /// Elements of one key head.
    pub head_dim_key: u32,
    /// Elements of one value head.
    pub head_dim_value: u32,
    /// Width of the feed-forward network, by layer.
    pub feed_forward: Vec<u32>,
    /// Experts a layer; 0 in a dense model.
    pub experts: u32,
    /// Experts used a token; 0 in a dense model.
    pub experts_used: u32,
    /// Tokens in the vocabulary.
    pub vocab_tokens: u32,
    /// Context length it was trained for, in tokens.
    pub context_train_tokens: u32,
    /// Width of the attention window of its local layers, if it has such.
    pub sliding_window_tokens: Option<u32>,
    /// Rotary position embedding, unless positions are learned.
    pub rope: Option<Rope>,
    /// Epsilon of the normalisation layers; `None` where the architecture is unknown to us and names none.
    pub norm_epsilon: Option<f32>,
    /// Whether some layers keep a recurrent state instead of keys and values (Mamba, short convolutions): such a
    /// state cannot be cut back to a shorter prefix.
    pub recurrent: bool,
    /// Bytes of recurrent state of one sequence (32-bit, as llama.cpp keeps it); `None` where the architecture is
    /// recurrent in a way we do not know.
    pub recurrent_state_bytes: Option<u64>,
    /// `tokenizer.chat_template`: a Jinja template.
    pub chat_template: Option<String>,
    /// The tokenizer.
    pub tokenizer: TokenizerFacts,
}

/// Rotary position embedding.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rope {
    /// Base of the frequencies.
    pub base: f32,
    /// Dimensions of a head that are rotated.
    pub dimensions: u32,
    /// `none`, `linear`, `yarn` or `longrope`.
    pub scaling: String,
    /// Factor of the scaling; 1 without.
    pub factor: f32,
}

/// The tokenizer, without its vocabulary.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TokenizerFacts {
    /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE), `llama` (SentencePiece), `none`…
    pub model: String,
    /// `tokenizer.ggml.pre`: how text is cut before BPE.
    pub pre: Option<String>,
    /// Beginning of sequence.
    pub bos_id: Option<u32>,
    /// End of sequence.
    pub eos_id: Option<u32>,
    /// End of turn.
    pub eot_id: Option<u32>,
    /// Whether a beginning-of-sequence token goes in front of every prompt.
    pub add_bos: bool,
    /// Tokens with a meaning beyond their text: control, user-defined and unknown ones and those the ids above
    /// name, by rising id.
    pub special: Vec<SpecialToken>,
}

impl TokenizerFacts {
    /// Spelling of a special token.
    pub fn text(&self, id: u32) -> Option<&str> {
        let at = self.special.binary_search_by_key(&id, |token| token.id).ok()?;
        Some(&self.special[at].text)
    }
}

impl ModelFacts {
    /// Gather the facts, refusing what would abort llama.cpp.
    ///
    /// # Errors
    /// The first field that is missing or not accepted.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, FactsError> {
        gather::gather(gguf)
    }

    /// Bytes of keys and values for this many tokens, all layers together, when stored as `element` (llama.cpp's
    /// default is [`TensorType::F16`]). Local layers are counted in full, as llama.cpp allocates them by default.
    pub fn kv_bytes(&self, context_tokens: u64, element: TensorType) -> u64 {
        // A row (one layer, one token) is stored in whole blocks.
        let row_bytes = |elements: u64| elements.div_ceil(element.block_elements()) * element.block_bytes();
        let [key, value] = [self.head_dim_key, self.head_dim_value].map(u64::from);
        let token_bytes: u64 = self
            .kv_heads
            .iter()
            .map(|&heads| row_bytes(key * u64::from(heads)) + row_bytes(value * u64::from(heads)))
            .sum();
        token_bytes.saturating_mul(context_tokens)
    }
}

/// Why the metadata describes no model that can run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FactsError {
    /// A field or tensor is missing.
    #[error("{field} is missing: {why}")]
    Missing {
        /// Which field.
        field: String,
        /// What needs it.
        why: String,
    },
    /// A field has a value that is not accepted.
    #[error("{field} is {found}, but must be {accepted}")]
    Invalid {
        /// Which field.
        field: String,
        /// Its value.
        found: String,
        /// What is accepted.
        accepted: String,
    },
}

impl FactsError {
    fn missing(field: impl Display, why: impl Display) -> Self {
        Self::Missing { field: field.to_string(), why: why.to_string() }
    }

    fn invalid(field: impl Display, found: impl Display, accepted: impl Display) -> Self {
        Self::Invalid { field: field.to_string(), found: found.to_string(), accepted: accepted.to_string() }
    }
}

/// Why a file was refused.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It is no GGUF that we accept.
    #[error("{}: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: GgufError,
    },
    /// It is one, but describes no model that can run.
    #[error("{}: {source}", path.display())]
    Facts {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: FactsError,
    },
}

/// Read a model file and refuse it if llama.cpp would abort on it.
///
/// # Errors
/// The first thing that is wrong, with the name of the field.
pub fn inspect(path: &Path) -> Result<ModelFacts, InspectError> {
    let gguf = crate::gguf::read(path, &Limits::default())
        .map_err(|source| InspectError::Format { path: path.into(), source })?;
    ModelFacts::from_gguf(&gguf).map_err(|source| InspectError::Facts { path: path.into(), source })
}
