//! The models under test: a tiny one that is written here, and a real one where it is given.

use qeil_engine::handle::Worker;
use qeil_engine::spec::LoadSpec;
use qeil_model::write::{TinyShape, tiny_llama};
use std::path::PathBuf;
use std::sync::OnceLock;

/// The environment variable with the path of a real model.
const REAL: &str = "QEIL_TEST_MODEL";

/// The tiny model, written once per run.
pub fn tiny() -> PathBuf {
    static WRITTEN: OnceLock<PathBuf> = OnceLock::new();
    let write = || {
        // The folder outlives the run: processes of many tests map the file. One per process, so runs do not meet.
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("tiny");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("tiny-llama.gguf");
        let fresh = folder.join(format!("tiny-llama.{}", std::process::id()));
        tiny_llama(&fresh, &TinyShape::default()).unwrap();
        std::fs::rename(&fresh, &path).unwrap();
        path
    };
    WRITTEN.get_or_init(write).clone()
}

/// The real model, or a word that it is missing.
pub fn real() -> Option<PathBuf> {
    let path = std::env::var_os(REAL).map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: set {REAL} to a model file to run this with a real model");
    }
    path
}

/// A small worker for `model`.
pub fn spec(model: PathBuf) -> LoadSpec {
    let mut spec = LoadSpec::new(model, "CPU");
    spec.context_tokens = 2048;
    spec.sequences = 16;
    spec.batch_tokens = 512;
    spec.prefix_cache_tokens = 1024;
    // Tests run beside each other: one thread each, or they would wait for each other's.
    spec.threads = 1;
    spec.allow_faults = true;
    spec
}

/// A worker with the tiny model.
pub async fn tiny_worker() -> Worker {
    Worker::start(&crate::parts::worker(), spec(tiny())).await.unwrap()
}
