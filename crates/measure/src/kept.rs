//! Where tuned settings are kept between runs.
//!
//! One small JSON file for each (model file, device, threads, workload, version) in the user's cache folder. Lengths
//! are rounded up to powers of two, so a prompt one token longer needs no new trials; a file that cannot be read, or
//! was written for another key, counts as absent. The cache can be deleted at any time.

use crate::shape::Shape;
use crate::tune::Tuned;
use qeil_engine::ENGINE_VERSION;
use qeil_engine::spec::LoadSpec;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

/// Largest file believed to be ours: a full table of trials takes 4 KB.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// What settings were measured for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Key {
    model: PathBuf,
    model_bytes: u64,
    model_modified_unix_s: u64,
    device: String,
    device_description: String,
    threads: u32,
    flash_attention: Option<bool>,
    /// Whether other formats of the weights were tried.
    formats: bool,
    shape: Shape,
    engine: String,
}

impl Key {
    /// The key of `shape` on the model, device and threads of `spec`.
    ///
    /// # Errors
    /// When the model file cannot be looked at.
    pub fn new(
        spec: &LoadSpec,
        device_description: &str,
        shape: Shape,
        flash_attention: Option<bool>,
        formats: bool,
    ) -> io::Result<Self> {
        let model = fs::canonicalize(&spec.model)?;
        let meta = fs::metadata(&model)?;
        let modified = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            model,
            model_bytes: meta.len(),
            model_modified_unix_s: modified.as_secs(),
            device: spec.device.clone(),
            device_description: device_description.into(),
            threads: spec.threads,
            flash_attention,
            formats,
            shape: Shape {
                prompt_tokens: shape.prompt_tokens.max(1).next_power_of_two(),
                output_tokens: shape.output_tokens.max(1).next_power_of_two(),
                samples: shape.samples,
            },
            engine: format!("qeil {}, {ENGINE_VERSION}", crate::VERSION),
        })
    }

    /// A name a person can read; what it leaves out stands in the file and is compared.
    fn file_name(&self) -> String {
        let stem = self.model.file_stem().unwrap_or_default().to_string_lossy();
        let Shape { prompt_tokens, output_tokens, samples } = self.shape;
        let attention = match self.flash_attention {
            None => "",
            Some(true) => "-fa",
            Some(false) => "-nofa",
        };
        let weights = if self.formats { "" } else { "-file" };
        let readable = format!(
            "{stem}-{}-{}t-p{prompt_tokens}-n{output_tokens}-k{samples}{attention}{weights}",
            self.device, self.threads
        );
        let safe = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
        format!("{}.json", readable.chars().map(safe).collect::<String>())
    }
}

/// The folder of kept settings.
#[derive(Debug, Clone)]
pub struct Kept {
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    key: Key,
    tuned: Tuned,
}

impl Kept {
    /// The user's: `$QEIL_CACHE`, else `$XDG_CACHE_HOME/qeil`. `None` without a home folder.
    pub fn of_user() -> Option<Self> {
        Some(Self::at(user_cache()?.join("tuned")))
    }

    /// The one in this folder.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// What was kept for `key`.
    pub fn find(&self, key: &Key) -> Option<Tuned> {
        let mut text = String::new();
        let file = File::open(self.folder.join(key.file_name())).ok()?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
        let entry: Entry = serde_json::from_str(&text).ok()?;
        (entry.key == *key).then_some(entry.tuned)
    }

    /// Keep a choice, in place of an earlier one. A reader sees the old file or the new one, never a part.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn keep(&self, key: &Key, tuned: &Tuned) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let name = key.file_name();
        let part = self.folder.join(format!(".{name}.{}.part", std::process::id()));
        let entry = Entry { key: key.clone(), tuned: tuned.clone() };
        let written = File::create(&part).and_then(|mut file| {
            file.write_all(&serde_json::to_vec_pretty(&entry)?)?;
            file.sync_all()
        });
        let kept = written.and_then(|()| fs::rename(&part, self.folder.join(name)));
        if kept.is_err() {
            // What is left behind is only a hidden part file; the error that matters is the first one.
            let _ = fs::remove_file(&part);
        }
        kept
    }
}

/// The user's cache folder: `$QEIL_CACHE`, or `qeil` in the place that the system names.
pub fn user_cache() -> Option<PathBuf> {
    use etcetera::BaseStrategy;
    match std::env::var_os("QEIL_CACHE").filter(|folder| !folder.is_empty()) {
        Some(folder) => Some(PathBuf::from(folder)),
        None => Some(etcetera::choose_base_strategy().ok()?.cache_dir().join("qeil")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::CANDIDATES;

    fn shape(prompt_tokens: u32, samples: u32) -> Shape {
        Shape { prompt_tokens, output_tokens: 100, samples }
    }

    #[test]
    fn kept_until_something_changes() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("a model.gguf");
        fs::write(&model, b"one").unwrap();
        let kept = Kept::at(folder.path().join("tuned"));
        let spec = LoadSpec { threads: 2, ..LoadSpec::new(&model, "CPU") };
        let key = |spec: &LoadSpec, shape, fixed| Key::new(spec, "a processor", shape, fixed, true).unwrap();
        let tuned = Tuned {
            shape: shape(500, 8),
            settings: CANDIDATES[1],
            reason: "fast".into(),
            trials: Vec::new(),
        };

        let original = key(&spec, shape(500, 8), None);
        assert_eq!(kept.find(&original), None);
        kept.keep(&original, &tuned).unwrap();
        assert_eq!(kept.find(&original), Some(tuned.clone()));
        assert_eq!(kept.find(&key(&spec, shape(400, 8), None)), Some(tuned), "rounded to the same length");

        let three = LoadSpec { threads: 3, ..spec.clone() };
        for (what, other) in [
            ("length", key(&spec, shape(600, 8), None)),
            ("samples", key(&spec, shape(500, 4), None)),
            ("threads", key(&three, shape(500, 8), None)),
            ("flash attention given", key(&spec, shape(500, 8), Some(true))),
            ("processor", Key::new(&spec, "another processor", shape(500, 8), None, true).unwrap()),
            ("weights", Key::new(&spec, "a processor", shape(500, 8), None, false).unwrap()),
        ] {
            assert_eq!(kept.find(&other), None, "{what}");
        }
        fs::write(&model, b"another model").unwrap();
        assert_eq!(kept.find(&key(&spec, shape(500, 8), None)), None, "model");
        fs::write(folder.path().join("tuned").join(original.file_name()), b"{").unwrap();
        assert_eq!(kept.find(&original), None, "garbled");
    }
}
