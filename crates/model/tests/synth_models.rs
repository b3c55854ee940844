//! Weightless models, as the reader sees them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use qeil_model::gguf::{self, Limits, TensorType};
use qeil_model::write::synth::{Family, Quantisation, Synth, families, family};
use qeil_model::{ModelFacts, inspect};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn synth(family: Family, quantisation: Quantisation) -> Synth {
    Synth { family, quantisation, seed: 1 }
}

/// The same architecture with few layers, a narrow stream and the least vocabulary that has all control tokens.
fn small(mut family: Family) -> Family {
    family.layers = 3;
    family.width = family.heads * 32;
    family.head_width = 32;
    family.feed_forward = 64;
    family.context_tokens = 128;
    if let Some(short) = &mut family.short_convolution {
        short.attention_layers = vec![1];
    }
    // Control tokens at the end of the real vocabulary move into the first places.
    let vocabulary = &mut family.vocabulary;
    if vocabulary.tokens > 1000 {
        let place: BTreeMap<u32, u32> = vocabulary.control.iter().map(|(id, _)| *id).zip(0..).collect();
        vocabulary.tokens = 1000;
        vocabulary.control.iter_mut().for_each(|(id, _)| *id = place[id]);
        for id in [
            Some(&mut vocabulary.bos),
            Some(&mut vocabulary.eos),
            vocabulary.pad.as_mut(),
            vocabulary.unknown.as_mut(),
        ]
        .into_iter()
        .flatten()
        {
            *id = place[id];
        }
    }
    family
}

fn written(synth: &Synth, folder: &Path) -> (Vec<u8>, ModelFacts) {
    let path = folder.join(format!("{}.gguf", synth.name()));
    synth.create(&path, |_, _| {}).unwrap();
    (std::fs::read(&path).unwrap(), inspect(&path).unwrap())
}

/// The header of a file whose weights are a hole: the reader looks at nothing else.
fn facts_of_layout(synth: &Synth) -> ModelFacts {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hole.gguf");
    let mut file = std::fs::File::create(&path).unwrap();
    let layout = synth.layout().unwrap();
    layout.write_header(&mut file).unwrap();
    let header_bytes = file.metadata().unwrap().len();
    file.set_len(header_bytes + layout.data_bytes()).unwrap();
    inspect(&path).unwrap_or_else(|error| panic!("{}: {error}", synth.name()))
}

#[test]
fn parameters_add_up_to_what_is_published() {
    let all = families().unwrap();
    assert_eq!(all.len(), 16);
    let names: BTreeSet<&str> = all.iter().map(|family| family.name.as_str()).collect();
    assert_eq!(names.len(), all.len());
    for family in all {
        let (name, published) = (family.name.clone(), family.parameters as f64);
        let facts = facts_of_layout(&synth(family, Quantisation::Q4_0));
        let off = facts.parameters as f64 / published - 1.0;
        assert!(off.abs() < 0.01, "{name}: {} parameters, published {published}", facts.parameters);
        assert!(facts.weightless, "{name}");
        assert_eq!(facts.quantisation, "Q4_0", "{name}");
        assert!(facts.vocab_tokens > 40_000, "{name}");
    }
}

#[test]
fn every_quantisation_of_every_family_can_be_laid_out() {
    for family in families().unwrap() {
        for quantisation in Quantisation::ALL {
            let synth = synth(family.clone(), quantisation);
            let facts = facts_of_layout(&synth);
            assert_eq!(facts.quantisation, quantisation.name(), "{}", synth.name());
            let layout = synth.layout().unwrap();
            let matrix = layout.tensors().iter().find(|tensor| tensor.name == "blk.0.ffn_up.weight").unwrap();
            assert_eq!(matrix.kind, quantisation.tensor_type(), "{}", synth.name());
        }
    }
}

#[test]
fn one_small_model_of_each_architecture_is_read() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "GPT-2-124M",
        "SmolLM2-135M",
        "Llama-3.2-1B",
        "Qwen2-0.5B",
        "Granite-4.0-350M",
        "LFM2-350M",
        "Gemma-3-270M",
    ] {
        for quantisation in Quantisation::ALL {
            let synth = synth(small(family(name).unwrap()), quantisation);
            let (bytes, facts) = written(&synth, folder.path());
            assert_eq!(facts.file_bytes, bytes.len() as u64, "{name}");
            assert_eq!(facts.layers, 3, "{name}");
            assert_eq!(facts.architecture, synth.family.architecture);
            let positions =
                if facts.architecture == "gpt2" { 128 * u64::from(facts.embedding) * 4 } else { 0 };
            assert_eq!(facts.step_bytes, facts.weight_bytes - positions, "{name}: the output is tied");
        }
    }
}

#[test]
fn the_seed_decides() {
    let folder = tempfile::tempdir().unwrap();
    let first = synth(small(family("LFM2-350M").unwrap()), Quantisation::Q4_1);
    let other = Synth { seed: 2, ..first.clone() };
    let bytes = |synth: &Synth| written(synth, folder.path()).0;
    assert_eq!(bytes(&first), bytes(&first));
    assert_ne!(bytes(&first), bytes(&other));
}

#[test]
fn progress_ends_at_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let synth = synth(small(family("Gemma-3-270M").unwrap()), Quantisation::Q8_0);
    let mut told = Vec::new();
    synth.create(&folder.path().join("a.gguf"), |done, total| told.push((done, total))).unwrap();
    assert_eq!(told[0].0, 0);
    assert!(told.is_sorted());
    let (done, total) = *told.last().unwrap();
    // Only padding between tensors is not told of.
    assert!(done <= total && total - done < 32 * 64, "{done} of {total}");
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(names, ["a.gguf"], "no part is left");
}

#[test]
fn a_file_that_cannot_be_written_is_an_error_that_names_it() {
    let synth = synth(small(family("gpt-2-124m").unwrap()), Quantisation::Q4_0);
    let error = synth.create(Path::new("/nowhere/at/all.gguf"), |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("/nowhere/at/all.gguf"), "{error}");
    let error = family("GPT-5").unwrap_err();
    assert!(error.to_string().contains("GPT-5"), "{error}");
}

/// The tensors of the published SmolLM2-135M-Instruct.Q4_1.gguf, by patterns: (name, shape, type), `#` for 0 to 29.
const SMOLLM2: [(&str, &[u64], TensorType); 11] = [
    ("token_embd.weight", &[576, 49152], TensorType::Q8_0),
    ("blk.#.attn_norm.weight", &[576], TensorType::F32),
    ("blk.#.ffn_down.weight", &[1536, 576], TensorType::Q4_1),
    ("blk.#.ffn_gate.weight", &[576, 1536], TensorType::Q4_1),
    ("blk.#.ffn_up.weight", &[576, 1536], TensorType::Q4_1),
    ("blk.#.ffn_norm.weight", &[576], TensorType::F32),
    ("blk.#.attn_k.weight", &[576, 192], TensorType::Q4_1),
    ("blk.#.attn_output.weight", &[576, 576], TensorType::Q4_1),
    ("blk.#.attn_q.weight", &[576, 576], TensorType::Q4_1),
    ("blk.#.attn_v.weight", &[576, 192], TensorType::Q4_1),
    ("output_norm.weight", &[576], TensorType::F32),
];

#[test]
fn the_twin_of_smollm2_has_its_tensors() {
    let mut real = BTreeMap::new();
    for (pattern, shape, kind) in SMOLLM2 {
        let layers = if pattern.contains('#') { 30 } else { 1 };
        for layer in 0..layers {
            real.insert(pattern.replace('#', &layer.to_string()), (shape.to_vec(), kind));
        }
    }
    let layout = synth(family("SmolLM2-135M").unwrap(), Quantisation::Q4_1).layout().unwrap();
    let twin: BTreeMap<String, (Vec<u64>, TensorType)> = layout
        .tensors()
        .iter()
        .map(|tensor| (tensor.name.clone(), (tensor.shape.clone(), tensor.kind)))
        .collect();
    assert_eq!(twin, real);
}

#[test]
fn vocabularies_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["Qwen2-0.5B", "Gemma-3-270M"] {
        let mut family = family(name).unwrap();
        let tokenizer = family.vocabulary.clone();
        family.layers = 1;
        family.width = 32 * family.heads;
        family.head_width = 32;
        family.feed_forward = 64;
        let synth = synth(family, Quantisation::Q8_0);
        let path = folder.path().join("a.gguf");
        synth.create(&path, |_, _| {}).unwrap();
        let gguf = gguf::read(&path, &Limits::default()).unwrap();
        let vocabulary = gguf.vocabulary.unwrap();
        assert_eq!(vocabulary.tokens, u64::from(tokenizer.tokens), "{name}");
        for (id, text) in &tokenizer.control {
            let found = vocabulary.special.iter().find(|token| token.id == *id);
            assert_eq!(found.map(|token| &token.text), Some(text), "{name} {id}");
        }
    }
}
