//! The reader's memory is bounded, whatever the file says.
//!
//! One test in a crate of its own: the allocator counts for the whole process.

// A test's own functions unwrap like the test itself.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod mutations;

use peak_alloc::PeakAlloc;
use qeil_model::ModelFacts;
use qeil_model::gguf::{Array, Limits, TensorType, TokenKind, Value, ValueType, read_bytes};
use qeil_model::write::{GgufWriter, TinyShape, write_tiny_llama};
use std::io::Write;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The contract, for any file.
const MEMORY_MAX_BYTES: usize = 16 << 20;

/// Most memory taken while judging a file, above what was taken before.
fn peak_bytes(bytes: &[u8]) -> (usize, Result<(), String>) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let verdict = read_bytes(bytes, &Limits::default())
        .map_err(|error| error.to_string())
        .and_then(|gguf| ModelFacts::from_gguf(&gguf).map(drop).map_err(|error| error.to_string()));
    (MEMORY.peak_usage() - before, verdict)
}

fn file(writer: &GgufWriter) -> Vec<u8> {
    let mut bytes = Vec::new();
    let zeros = |tensor: &qeil_model::gguf::Tensor, out: &mut dyn Write| {
        out.write_all(&vec![0; tensor.size_bytes as usize])
    };
    writer.write(&mut bytes, zeros).unwrap();
    bytes
}

/// Files that go to the limits of the reader, each in another way.
fn greedy() -> Vec<(&'static str, Vec<u8>)> {
    let limits = Limits::default();
    let mut tiny = Vec::new();
    write_tiny_llama(&mut tiny, &TinyShape::default()).unwrap();

    let vocabulary = |tokens: u64, kind: TokenKind, length: usize| {
        let mut writer = GgufWriter::new();
        let texts: Vec<String> = (0..tokens).map(|id| format!("{id:0length$}")).collect();
        writer.set("tokenizer.ggml.tokens", texts);
        writer.set("tokenizer.ggml.token_type", vec![kind as i32; tokens as usize]);
        writer
    };
    let many_tensors = |count: u64| {
        let mut writer = GgufWriter::new();
        for index in 0..count {
            writer.tensor(format!("{index:063}"), &[1, 1, 1, 1], TensorType::F32).unwrap();
        }
        writer
    };
    let entries = |count: u64, value: &dyn Fn(u64) -> Value| {
        let mut writer = GgufWriter::new();
        for index in 0..count {
            writer.set(format!("{index:0400}"), value(index));
        }
        writer
    };
    let wide = |_| Value::from(vec![0u8; limits.kept_elements as usize]);
    let nested = |_| {
        let inner = Value::from(vec![0u8; 3]);
        Value::Array(Array { element: ValueType::Array, count: 100_000, values: vec![inner; 100_000] })
    };
    let mut everything = vocabulary(limits.vocabulary_tokens, TokenKind::Normal, 20);
    for index in 0..limits.tensors {
        everything.tensor(format!("{index:063}"), &[1, 1, 1, 1], TensorType::F32).unwrap();
    }
    everything.set("long", "x".repeat(limits.string_bytes as usize));
    vec![
        ("the largest vocabulary", file(&vocabulary(limits.vocabulary_tokens, TokenKind::Normal, 80))),
        ("one token more", file(&vocabulary(limits.vocabulary_tokens + 1, TokenKind::Normal, 6))),
        ("all special tokens", file(&vocabulary(limits.special_tokens, TokenKind::Control, 64))),
        (
            "too many special tokens",
            file(&vocabulary(limits.special_tokens * 4, TokenKind::UserDefined, 100)),
        ),
        ("all tensors", file(&many_tensors(limits.tensors))),
        ("one tensor more", file(&many_tensors(limits.tensors + 1))),
        ("all entries", file(&entries(limits.entries, &|_| Value::from("y".repeat(400))))),
        ("one entry more", file(&entries(limits.entries + 1, &|_| Value::from(1u8)))),
        ("wide arrays", file(&entries(limits.entries, &wide))),
        ("long strings", file(&entries(60, &|_| Value::from("z".repeat(limits.string_bytes as usize))))),
        ("nested arrays", file(&entries(20, &nested))),
        ("vocabulary, tensors and a string", file(&everything)),
        ("more than the metadata limit", {
            let mut bytes = file(&entries(1, &|_| Value::from(vec![0u64; 9 << 20])));
            bytes.extend_from_slice(&tiny);
            bytes
        }),
        ("a good model", tiny),
    ]
}

#[test]
fn memory_stays_within_the_contract() {
    let mut largest = (0, String::new());
    let mut judge = |name: &str, bytes: &[u8]| {
        let (peak, verdict) = peak_bytes(bytes);
        println!("{:>9} bytes: {name}: {:.120}", peak, format!("{verdict:?}"));
        assert!(peak < MEMORY_MAX_BYTES, "{name}: {peak} bytes");
        largest = largest.clone().max((peak, name.to_owned()));
    };
    for (name, bytes) in greedy() {
        judge(name, &bytes);
    }
    let mut base = Vec::new();
    write_tiny_llama(&mut base, &TinyShape::default()).unwrap();
    for mutation in mutations::all(&base) {
        judge(&mutation.name, &mutation.bytes);
    }
    println!("largest: {} bytes for {}", largest.0, largest.1);
    assert!(
        largest.0 > 1 << 20,
        "the greediest file took only {} bytes: is the allocator counting?",
        largest.0
    );
}
