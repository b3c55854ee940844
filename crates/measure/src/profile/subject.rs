//! A model of a sweep: its file, and what is recorded about it in every row.

use super::observation::ModelIdentity;
use crate::checksum::checksum;
use crate::error::MeasureError;
use qeil_model::ModelFacts;
use qeil_model::gguf::TensorType;
use std::path::{Path, PathBuf};

/// Context at which the bytes of keys and values for each token are taken: long enough that rounding to blocks
/// disappears.
const KV_CONTEXT_TOKENS: u64 = 4096;

/// A model of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// The file.
    pub path: PathBuf,
    /// What is recorded about it.
    pub identity: ModelIdentity,
}

impl Subject {
    /// The model in `path`, whose facts are `facts`. Reads the whole file for its checksum.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn of(path: &Path, facts: &ModelFacts) -> Result<Self, MeasureError> {
        let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let identity = ModelIdentity {
            name: facts.name.clone().unwrap_or_else(stem),
            file: path.display().to_string(),
            sha256: checksum(path).await?,
            architecture: facts.architecture.clone(),
            parameters: facts.parameters,
            parameters_non_embedding: facts.parameters_non_embedding,
            quantisation: facts.quantisation.clone(),
            weight_bytes: facts.weight_bytes,
            step_bytes: facts.step_bytes,
            kv_bytes_per_token: facts.kv_bytes(KV_CONTEXT_TOKENS, TensorType::F16) as f64
                / KV_CONTEXT_TOKENS as f64,
            weightless: facts.weightless,
        };
        Ok(Self { path: path.to_owned(), identity })
    }
}
