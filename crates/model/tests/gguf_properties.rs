//! No bytes make the reader panic, and what the writer writes the reader reads.

// A test's own functions unwrap like the test itself.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use proptest::prelude::*;
use qeil_model::ModelFacts;
use qeil_model::gguf::{Limits, TensorType, Value, read_bytes};
use qeil_model::write::{GgufWriter, TinyShape, write_tiny_llama};
use std::sync::LazyLock;

/// A model of 40 KB, half of it metadata: random edits then often hit something that means something.
static BASE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let shape = TinyShape { embedding: 8, heads: 2, kv_heads: 1, feed_forward: 8, ..TinyShape::default() };
    let mut bytes = Vec::new();
    write_tiny_llama(&mut bytes, &shape).unwrap();
    bytes
});

/// Judge a file; what matters is that this returns.
fn judge(bytes: &[u8]) -> Option<ModelFacts> {
    let gguf = read_bytes(bytes, &Limits::default()).ok()?;
    let facts = ModelFacts::from_gguf(&gguf).ok()?;
    // What was accepted is consistent.
    assert_eq!(facts.heads.len(), facts.layers as usize);
    assert!(facts.weight_bytes <= facts.file_bytes);
    assert!(facts.parameters_non_embedding <= facts.parameters);
    facts.kv_bytes(u64::MAX, TensorType::Q8_0);
    Some(facts)
}

/// One edit of a file. Places are taken modulo its length; most lie in the metadata.
#[derive(Debug, Clone)]
enum Edit {
    Set(usize, u8),
    Number(usize, u64),
    Insert(usize, Vec<u8>),
    Remove(usize, usize),
    Cut(usize),
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        if length < 16 {
            return;
        }
        match self {
            Self::Set(at, byte) => bytes[at % length] = *byte,
            Self::Number(at, number) => {
                let at = at % (length - 8);
                bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
            }
            Self::Insert(at, more) => {
                let at = at % length;
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(at, count) => {
                let at = at % length;
                bytes.drain(at..length.min(at + count));
            }
            Self::Cut(at) => bytes.truncate(at % length),
        }
    }
}

fn edit() -> impl Strategy<Value = Edit> {
    let place = prop_oneof![4 => 0usize..12_000, 1 => any::<usize>()];
    let number = prop_oneof![0u64..16, Just(u64::MAX), any::<u64>(), any::<u32>().prop_map(u64::from)];
    prop_oneof![
        8 => (place.clone(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        4 => (place.clone(), number).prop_map(|(at, number)| Edit::Number(at, number)),
        2 => (place.clone(), prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(at, more)| Edit::Insert(at, more)),
        2 => (place.clone(), 1usize..40).prop_map(|(at, count)| Edit::Remove(at, count)),
        1 => place.prop_map(Edit::Cut),
    ]
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,30}"
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        any::<u16>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        any::<u32>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        text().prop_map(Value::from),
        prop::collection::vec(any::<u32>(), 0..20).prop_map(Value::from),
        prop::collection::vec(any::<f32>(), 0..20).prop_map(Value::from),
        prop::collection::vec(any::<bool>(), 0..20).prop_map(Value::from),
        prop::collection::vec(text(), 0..20).prop_map(Value::from),
    ]
}

fn tensor() -> impl Strategy<Value = (Vec<u64>, TensorType)> {
    let kind =
        prop::sample::select(vec![TensorType::F32, TensorType::F16, TensorType::Q4_1, TensorType::Q6_K]);
    (prop::collection::vec(1u64..4, 1..=4), kind).prop_map(|(mut shape, kind)| {
        shape[0] *= kind.block_elements();
        (shape, kind)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        judge(&bytes);
    }

    #[test]
    fn arbitrary_bytes_after_the_header(
        counts in prop::array::uniform2(0u64..40),
        rest in prop::collection::vec(prop_oneof![3 => 0u8..13, 1 => any::<u8>()], 0..2000),
    ) {
        let header = [&b"GGUF\x03\0\0\0"[..], &counts[0].to_le_bytes(), &counts[1].to_le_bytes()].concat();
        judge(&[header, rest].concat());
    }

    #[test]
    fn arbitrary_edits(edits in prop::collection::vec(edit(), 1..6)) {
        let mut bytes = BASE.clone();
        edits.iter().for_each(|edit| edit.apply(&mut bytes));
        judge(&bytes);
    }

    #[test]
    fn what_is_written_is_read(
        metadata in prop::collection::btree_map("x\\.[a-z]{1,12}", value(), 0..20),
        tensors in prop::collection::vec(tensor(), 0..12),
    ) {
        let mut writer = GgufWriter::new();
        for (key, value) in &metadata {
            writer.set(key.clone(), value.clone());
        }
        for (index, (shape, kind)) in tensors.iter().enumerate() {
            writer.tensor(format!("tensor.{index}"), shape, *kind).unwrap();
        }
        let mut bytes = Vec::new();
        writer.write(&mut bytes, |tensor, out| out.write_all(&vec![7; tensor.size_bytes as usize])).unwrap();

        let gguf = read_bytes(&bytes, &Limits::default()).unwrap();
        // As text, where NaN equals itself.
        prop_assert_eq!(format!("{:?}", gguf.metadata), format!("{metadata:?}"));
        prop_assert_eq!(gguf.tensors.len(), tensors.len());
        for (index, (have, (shape, kind))) in gguf.tensors.iter().zip(&tensors).enumerate() {
            prop_assert_eq!(&have.name, &format!("tensor.{index}"));
            prop_assert_eq!((&have.shape, have.kind), (shape, *kind));
            let data = (gguf.data_offset_bytes + have.offset_bytes) as usize;
            prop_assert!(bytes[data..data + have.size_bytes as usize].iter().all(|byte| *byte == 7));
        }
    }
}

#[test]
fn the_base_is_good() {
    assert!(judge(&BASE).is_some());
}
