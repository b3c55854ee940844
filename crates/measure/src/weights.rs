//! Copies of a model with its weights in another format.
//!
//! A 4-bit file is the smallest, not always the fastest. On one processor with bfloat16 instructions the same weights
//! widened to bfloat16 prefilled 2.7 times as fast and decoded sixteen samples twice as fast, at three times the
//! memory; on another it may be the other way round. So [`crate::tune`] tries the formats that the machine has room
//! for, and the winner's copy is kept in the user's cache folder, named after the file it was made from. The copies
//! can be deleted at any time. What a copy changes in the model's answers is measured by the known-answer check
//! like any other candidate's.

use crate::error::MeasureError;
use qeil_engine::handle::{Launch, transcode};
use qeil_engine::spec::{DeviceEntry, DeviceKind, TranscodeSpec, WeightFormat};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Formats tried beside the file's own, most promising first.
pub const FORMATS: [WeightFormat; 3] = [WeightFormat::Bf16, WeightFormat::F16, WeightFormat::Q8_0];
/// Largest share of the device's memory that the weights may take in another format: the KV cache, the system and the
/// user's own programs need the rest. (Of all memory: ggml reports all of a processor's memory as free.)
const MEMORY_SHARE_MAX: f64 = 0.25;

/// The folder of copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightCache {
    folder: PathBuf,
}

impl WeightCache {
    /// Copies in `folder`, which is made when the first one is.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Where the copy of `model` in `format` is or would be. The name holds size and time of the original, so a
    /// model that changes is not mistaken for its former self.
    ///
    /// # Errors
    /// When the model file cannot be looked at.
    pub fn path(&self, model: &Path, format: WeightFormat) -> Result<PathBuf, MeasureError> {
        let failed = |source| MeasureError::Weights { path: model.to_owned(), source };
        let meta = fs::metadata(model).map_err(failed)?;
        let modified = meta.modified().map_err(failed)?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let stem = model.file_stem().unwrap_or_default().to_string_lossy();
        let name = format!("{stem}-{:x}-{:x}-{}.gguf", meta.len(), modified.as_nanos(), format.name());
        Ok(self.folder.join(name))
    }

    /// The copy of `model` in `format`, written now if it is not there.
    ///
    /// # Errors
    /// When the file cannot be read, the folder not written, or llama.cpp cannot convert the weights.
    pub async fn copy(
        &self,
        launch: &Launch,
        model: &Path,
        format: WeightFormat,
        threads: u32,
    ) -> Result<PathBuf, MeasureError> {
        let to = self.path(model, format)?;
        if !to.exists() {
            fs::create_dir_all(&self.folder)
                .map_err(|source| MeasureError::Weights { path: self.folder.clone(), source })?;
            let (from, texts) = (model.to_owned(), Vec::new());
            let spec = TranscodeSpec { from, to: to.clone(), format, threads, texts };
            transcode(launch, spec).await?;
        }
        Ok(to)
    }

    /// Forget a copy that lost.
    pub fn remove(&self, model: &Path, format: WeightFormat) {
        if let Ok(path) = self.path(model, format) {
            // Nothing depends on it being gone.
            let _ = fs::remove_file(path);
        }
    }
}

/// What may be copied, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copies {
    /// The folder.
    pub cache: WeightCache,
    /// The formats to try.
    pub formats: Vec<WeightFormat>,
}

impl Copies {
    /// Copies of a model of `parameters` in the user's cache folder, for a worker on `device`. `None` where there is
    /// nothing to try: only processors are given copies, since the formats that a GPU's kernels are written for are
    /// the files' own.
    pub fn of_user(parameters: u64, device: &DeviceEntry) -> Option<Self> {
        let folder = crate::kept::user_cache()?.join("weights");
        let formats = formats_that_fit(parameters, device.memory_bytes);
        (device.kind == DeviceKind::Cpu && !formats.is_empty())
            .then(|| Self { cache: WeightCache::new(folder), formats })
    }
}

/// The formats that `parameters` weights would fit in, given the device's memory.
fn formats_that_fit(parameters: u64, memory_bytes: Option<u64>) -> Vec<WeightFormat> {
    let Some(memory) = memory_bytes else { return Vec::new() };
    let bytes = |format: &WeightFormat| parameters as f64 * format.bits_per_weight() / 8.0;
    FORMATS.into_iter().filter(|format| bytes(format) <= memory as f64 * MEMORY_SHARE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fits() {
        let gib = 1u64 << 30;
        let cases: &[(u64, Option<u64>, &[WeightFormat])] = &[
            (135_000_000, Some(8 * gib), &FORMATS),
            // 2 GiB at 8.5 bits, 3.7 GiB at 16
            (2_000_000_000, Some(9 * gib), &[WeightFormat::Q8_0]),
            (2_000_000_000, Some(2 * gib), &[]),
            (135_000_000, None, &[]),
        ];
        for (parameters, free, formats) in cases {
            assert_eq!(formats_that_fit(*parameters, *free), *formats, "{parameters} in {free:?}");
        }
    }

    #[test]
    fn a_changed_model_gets_another_copy() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m.gguf");
        fs::write(&model, b"one").unwrap();
        let cache = WeightCache::new(folder.path().join("weights"));
        let first = cache.path(&model, WeightFormat::Bf16).unwrap();
        assert_ne!(first, cache.path(&model, WeightFormat::F16).unwrap());
        fs::write(&model, b"another").unwrap();
        assert_ne!(first, cache.path(&model, WeightFormat::Bf16).unwrap());
        assert!(cache.path(&folder.path().join("none.gguf"), WeightFormat::Bf16).is_err());
    }
}
