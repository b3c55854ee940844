//! The GGUF reader and the facts on arbitrary bytes.
//!
//! The input is a whole file. Beside panics, overflows and hangs (libFuzzer's business) it checks that what is
//! accepted is consistent.

#![no_main]

use libfuzzer_sys::fuzz_target;
use qeil_model::ModelFacts;
use qeil_model::gguf::{Limits, TensorType, read_bytes};

fuzz_target!(|bytes: &[u8]| {
    let Ok(gguf) = read_bytes(bytes, &Limits::default()) else { return };
    assert!(gguf.tensors.iter().all(|tensor| tensor.size_bytes <= bytes.len() as u64));
    let Ok(facts) = ModelFacts::from_gguf(&gguf) else { return };
    assert_eq!(facts.heads.len(), facts.layers as usize);
    assert_eq!(facts.kv_heads.len(), facts.layers as usize);
    assert!(facts.weight_bytes <= facts.file_bytes);
    assert!(facts.parameters_non_embedding <= facts.parameters);
    facts.kv_bytes(u64::from(facts.context_train_tokens), TensorType::F16);
});
