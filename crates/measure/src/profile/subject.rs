//! A model of a sweep: its file, and what is recorded about it in every row.

use super::observation::ModelIdentity;
use qeil_model::ModelFacts;
use qeil_model::gguf::TensorType;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Read at a time while a file is checksummed.
const CHUNK_BYTES: usize = 1 << 20;
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
    /// The model in `path`, whose facts are `facts`. Reads the whole file for its checksum and tells `on_bytes` how much
    /// it has read so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn of(path: &Path, facts: &ModelFacts, on_bytes: impl FnMut(u64)) -> io::Result<Self> {
        let stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let identity = ModelIdentity {
            name: facts.name.clone().unwrap_or_else(stem),
            file: path.display().to_string(),
            sha256: sha256(path, on_bytes)?,
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

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn sha256(path: &Path, mut on_bytes: impl FnMut(u64)) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut done_bytes = 0;
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hash.update(&chunk[..read]);
        done_bytes += read as u64;
        on_bytes(done_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_of_a_known_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let mut told = Vec::new();
        // FIPS 180-4's example of a one-block message.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path, |bytes| told.push(bytes)).unwrap(), expected);
        assert_eq!(told, [3]);
        assert!(sha256(&folder.path().join("none"), |_| {}).is_err());
    }
}
