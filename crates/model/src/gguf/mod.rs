//! A bounded reader of GGUF: metadata and tensor table, never weights.
//!
//! A model file comes from strangers, and llama.cpp trusts too much of it. So this reader goes first. Three rules
//! shape it:
//!
//! - **Nothing is allocated on the word of the file.** Every count and length is compared with a limit of ours and
//!   with the bytes that are left, before any memory is taken for it; what is kept is paid from one budget
//!   ([`Limits::kept_bytes`]).
//! - **Big arrays pass by.** A vocabulary of 262,000 strings is streamed: only its size, a hash per token (a
//!   duplicate aborts llama.cpp) and the spellings of special tokens remain.
//! - **It accepts what llama.cpp accepts, or less.** Tensor data must lie in the order of the table, padded to the
//!   alignment, without gaps: llama.cpp demands the same, and it makes overlaps impossible.
//!
//! [`types`] holds the type tables, [`value`] metadata values, `source` the bounded cursor, `parse` the walk through
//! the file, and `vocabulary` a second look at the tokens.

mod parse;
mod source;
pub mod types;
pub mod value;
mod vocabulary;

pub use types::{TensorType, TokenKind, ValueType};
pub use value::{Array, Value};

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek};
use std::path::Path;

/// What a file may ask of us at most.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes of header, metadata and tensor table together.
    pub metadata_bytes: u64,
    /// Metadata entries.
    pub entries: u64,
    /// Bytes of a key.
    pub key_bytes: u64,
    /// Bytes of one string value.
    pub string_bytes: u64,
    /// How deep arrays of arrays go; 1 is a flat array.
    pub array_depth: u32,
    /// Elements of an array that are kept; longer arrays leave type and count only.
    pub kept_elements: u64,
    /// Bytes of all that is kept of the metadata, bookkeeping included.
    pub kept_bytes: u64,
    /// Tokens of a vocabulary.
    pub vocabulary_tokens: u64,
    /// Special tokens whose spelling is kept.
    pub special_tokens: u64,
    /// Tensors.
    pub tensors: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // The largest vocabularies with merges (half a million strings) take 20 MB.
            metadata_bytes: 64 << 20,
            // Real files have 20 to 60 entries.
            entries: 4096,
            // Real keys have up to 60 bytes; the format allows 65535.
            key_bytes: 512,
            // The longest chat templates have 30 KB.
            string_bytes: 1 << 20,
            // No known file nests arrays at all, and llama.cpp refuses them.
            array_depth: 4,
            // One value a layer, and llama.cpp stops at 512 layers.
            kept_elements: 512,
            // A quarter of the 16 MiB this reader may take.
            kept_bytes: 4 << 20,
            // Twice the largest vocabulary known (262,208); each token costs a hash of 8 bytes.
            vocabulary_tokens: 1 << 19,
            // Models with an audio codebook in the vocabulary have 28,000.
            special_tokens: 1 << 15,
            // The largest mixtures of experts have 2,000 tensors.
            tensors: 1 << 14,
        }
    }
}

/// One row of the tensor table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Elements along each dimension, the contiguous one first (ggml's `ne`); one to four.
    pub shape: Vec<u64>,
    /// Type of its elements.
    pub kind: TensorType,
    /// Where its data begins, from the start of the data section.
    pub offset_bytes: u64,
    /// Bytes of its data.
    pub size_bytes: u64,
}

impl Tensor {
    /// Its elements in all.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// What is kept of `tokenizer.ggml.tokens` and `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Vocabulary {
    /// Tokens in the vocabulary.
    pub tokens: u64,
    /// Control, user-defined and unknown tokens, and those that a `*_token_id` names, by rising id.
    pub special: Vec<SpecialToken>,
}

/// A token whose spelling matters.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SpecialToken {
    /// Its id.
    pub id: u32,
    /// Its spelling in the vocabulary.
    pub text: String,
    /// What it is for.
    pub kind: TokenKind,
}

/// A file's metadata and tensor table.
#[derive(Debug, Clone, PartialEq)]
pub struct Gguf {
    /// Version of the format, 2 or 3.
    pub version: u32,
    /// Bytes to which tensor data is aligned.
    pub alignment_bytes: u64,
    /// Where the data section begins.
    pub data_offset_bytes: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// Metadata by key.
    pub metadata: BTreeMap<String, Value>,
    /// The tensor table, in the order of the file.
    pub tensors: Vec<Tensor>,
    /// The vocabulary, if there is one.
    pub vocabulary: Option<Vocabulary>,
}

/// Why a file is no GGUF that we accept.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file could not be read.
    #[error("cannot read {field}: {source}")]
    Io {
        /// What was being read.
        field: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file ends too early.
    #[error("{field} needs {needed} bytes, but the file has only {left} left: it is truncated or corrupt")]
    Truncated {
        /// What was being read.
        field: String,
        /// Bytes it needs.
        needed: u64,
        /// Bytes there are.
        left: u64,
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

impl GgufError {
    fn invalid(field: impl Display, found: impl Display, accepted: impl Display) -> Self {
        Self::Invalid { field: field.to_string(), found: found.to_string(), accepted: accepted.to_string() }
    }
}

/// Read the metadata and tensor table of a file.
///
/// # Errors
/// The first field that cannot be read or is not accepted.
pub fn read(path: &Path, limits: &Limits) -> Result<Gguf, GgufError> {
    let io = |source| GgufError::Io { field: "the file".into(), source };
    // Asked before opening: opening a named pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(GgufError::invalid("the path", "not a file", "a file"));
    }
    let file = File::open(path).map_err(io)?;
    let file_bytes = file.metadata().map_err(io)?.len();
    read_from(file, file_bytes, limits)
}

/// [`read`] from anything that holds `file_bytes` bytes from its start on.
///
/// # Errors
/// As [`read`].
pub fn read_from(from: impl Read + Seek, file_bytes: u64, limits: &Limits) -> Result<Gguf, GgufError> {
    parse::parse(from, file_bytes, limits)
}

/// [`read`] on bytes in memory.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(bytes: &[u8], limits: &Limits) -> Result<Gguf, GgufError> {
    read_from(Cursor::new(bytes), bytes.len() as u64, limits)
}
