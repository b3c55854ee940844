//! What the facts say of models that are known.

// A test's own functions unwrap like the test itself.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use qeil_model::gguf::{Gguf, Limits, TensorType, TokenKind, Value, read_bytes};
use qeil_model::write::{GgufWriter, TinyShape, WeightType, write_tiny_llama};
use qeil_model::{ModelFacts, inspect};
use std::io::Write;
use std::path::Path;

#[test]
fn a_tiny_llama() {
    let shape = TinyShape { weights: WeightType::F16, ..TinyShape::default() };
    let mut bytes = Vec::new();
    write_tiny_llama(&mut bytes, &shape).unwrap();
    let facts = ModelFacts::from_gguf(&read_bytes(&bytes, &Limits::default()).unwrap()).unwrap();

    // Two layers of 64·64·2 + 64·32·2 + 64·128·3 and two norms of 64; the last norm; twice 64·265.
    let layer = 64 * 64 * 2 + 64 * 32 * 2 + 64 * 128 * 3 + 2 * 64;
    assert_eq!(facts.parameters_non_embedding, 2 * layer + 64);
    assert_eq!(facts.parameters, 2 * layer + 64 + 2 * 64 * 265);
    assert_eq!((facts.quantisation.as_str(), facts.dominant_type), ("F16", TensorType::F16));
    assert_eq!((facts.layers, facts.embedding, facts.vocab_tokens), (2, 64, 265));
    assert_eq!((facts.heads, facts.kv_heads, facts.feed_forward), (vec![4; 2], vec![2; 2], vec![128; 2]));
    assert_eq!((facts.head_dim_key, facts.context_train_tokens), (16, 2048));
    assert!(!facts.recurrent && facts.recurrent_state_bytes == Some(0));
    assert!(facts.chat_template.unwrap().contains("<|im_start|>"));

    let tokenizer = facts.tokenizer;
    assert_eq!((tokenizer.bos_id, tokenizer.eos_id, tokenizer.eot_id), (Some(262), Some(264), Some(264)));
    let special: Vec<_> = tokenizer.special.iter().map(|token| (token.id, token.text.as_str())).collect();
    assert_eq!(special, [(262, "<|endoftext|>"), (263, "<|im_start|>"), (264, "<|im_end|>")]);
    assert_eq!(tokenizer.text(263), Some("<|im_start|>"));
    assert_eq!(tokenizer.text(97), None);
}

#[test]
fn memory_of_keys_and_values() {
    let mut bytes = Vec::new();
    write_tiny_llama(&mut bytes, &TinyShape::default()).unwrap();
    let facts = ModelFacts::from_gguf(&read_bytes(&bytes, &Limits::default()).unwrap()).unwrap();
    // Two layers, keys and values, two heads of 16: 128 elements a token; a row of 32 is one block of Q8_0.
    for (element, tokens, expected) in [
        (TensorType::F16, 1, 128 * 2),
        (TensorType::F32, 1, 128 * 4),
        (TensorType::Q8_0, 1, 4 * 34),
        (TensorType::Q4_0, 10, 10 * 4 * 18),
        (TensorType::F16, 0, 0),
        (TensorType::F16, u64::MAX, u64::MAX),
    ] {
        assert_eq!(facts.kv_bytes(tokens, element), expected, "{tokens} tokens of {element}");
    }
}

/// A file with the tensors and entries of an architecture, its weights left out of mind.
fn file(entries: &[(&str, Value)], tensors: &[(&str, &[u64])]) -> Gguf {
    let mut writer = GgufWriter::new();
    let tokens: Vec<String> = (0..32).map(|id| format!("token {id}")).collect();
    writer
        .set("tokenizer.ggml.model", "gpt2")
        .set("tokenizer.ggml.tokens", tokens)
        .set("tokenizer.ggml.token_type", vec![TokenKind::Normal as i32; 32])
        .set("tokenizer.ggml.merges", vec!["a b".to_owned()]);
    for (key, value) in entries {
        writer.set(*key, value.clone());
    }
    for (name, shape) in tensors {
        writer.tensor(*name, shape, TensorType::F32).unwrap();
    }
    let mut bytes = Vec::new();
    let zeros = |tensor: &qeil_model::gguf::Tensor, out: &mut dyn Write| {
        out.write_all(&vec![0; tensor.size_bytes as usize])
    };
    writer.write(&mut bytes, zeros).unwrap();
    read_bytes(&bytes, &Limits::default()).unwrap()
}

/// LFM2: a short convolution, then attention.
fn lfm2(kv_heads: Vec<i32>, cache: u32) -> Gguf {
    file(
        &[
            ("general.architecture", "lfm2".into()),
            ("lfm2.block_count", 2u32.into()),
            ("lfm2.context_length", 128u32.into()),
            ("lfm2.embedding_length", 16u32.into()),
            ("lfm2.feed_forward_length", 24u32.into()),
            ("lfm2.attention.head_count", 4u32.into()),
            ("lfm2.attention.head_count_kv", kv_heads.into()),
            ("lfm2.attention.layer_norm_rms_epsilon", 1e-5f32.into()),
            ("lfm2.shortconv.l_cache", cache.into()),
        ],
        &[
            ("token_embd.weight", &[16, 32]),
            ("token_embd_norm.weight", &[16]),
            ("blk.0.attn_norm.weight", &[16]),
            ("blk.0.ffn_norm.weight", &[16]),
            ("blk.0.shortconv.conv.weight", &[3, 16]),
            ("blk.0.shortconv.in_proj.weight", &[16, 48]),
            ("blk.0.shortconv.out_proj.weight", &[16, 16]),
            ("blk.0.ffn_gate.weight", &[16, 24]),
            ("blk.0.ffn_up.weight", &[16, 24]),
            ("blk.0.ffn_down.weight", &[24, 16]),
            ("blk.1.attn_norm.weight", &[16]),
            ("blk.1.ffn_norm.weight", &[16]),
            ("blk.1.attn_q.weight", &[16, 16]),
            ("blk.1.attn_k.weight", &[16, 8]),
            ("blk.1.attn_v.weight", &[16, 8]),
            ("blk.1.attn_output.weight", &[16, 16]),
            ("blk.1.attn_q_norm.weight", &[4]),
            ("blk.1.attn_k_norm.weight", &[4]),
            ("blk.1.ffn_gate.weight", &[16, 24]),
            ("blk.1.ffn_up.weight", &[16, 24]),
            ("blk.1.ffn_down.weight", &[24, 16]),
        ],
    )
}

#[test]
fn a_hybrid_counts_keys_only_where_it_attends() {
    let facts = ModelFacts::from_gguf(&lfm2(vec![0, 2], 3)).unwrap();
    assert!(facts.recurrent);
    assert_eq!(facts.kv_heads, [0, 2]);
    // One layer of two heads of four, keys and values, in two bytes.
    assert_eq!(facts.kv_bytes(10, TensorType::F16), 10 * 2 * 8 * 2);
    // One layer of 16·(3 − 1) in four bytes.
    assert_eq!(facts.recurrent_state_bytes, Some(128));
}

#[test]
fn a_hybrid_that_does_not_fit() {
    for (kv_heads, cache, expect) in [
        (vec![2, 2], 3, "tensor `blk.0.attn_q.weight` is missing"),
        (vec![0, 0], 3, "tensor `blk.1.shortconv.conv.weight` is missing"),
        (vec![0, 3], 3, "`lfm2.attention.head_count_kv` in layer 1 is 3"),
        (vec![0, -1], 3, "element 1 of `lfm2.attention.head_count_kv` is -1"),
        (vec![0], 3, "`lfm2.attention.head_count_kv` is an array of 1 elements"),
        (vec![0, 2], 0, "`lfm2.shortconv.l_cache` is 0"),
        (vec![0, 2], 4, "the shape of tensor `blk.0.shortconv.conv.weight`"),
    ] {
        let error = ModelFacts::from_gguf(&lfm2(kv_heads, cache)).unwrap_err().to_string();
        assert!(error.contains(expect), "`{error}` does not hold `{expect}`");
    }
}

/// One Mamba-2 layer, as Granite 4 H has them.
fn granite_hybrid(inner: u32, heads: u32, groups: u32) -> Gguf {
    let prefix = |key: &str| format!("granitehybrid.{key}");
    let entries = [
        ("block_count", Value::from(1u32)),
        ("context_length", 128u32.into()),
        ("embedding_length", 16u32.into()),
        ("feed_forward_length", 24u32.into()),
        ("attention.head_count", 4u32.into()),
        ("attention.head_count_kv", vec![0i32].into()),
        ("attention.layer_norm_rms_epsilon", 1e-5f32.into()),
        ("ssm.conv_kernel", 4u32.into()),
        ("ssm.inner_size", inner.into()),
        ("ssm.state_size", 8u32.into()),
        ("ssm.time_step_rank", heads.into()),
        ("ssm.group_count", groups.into()),
    ]
    .map(|(key, value)| (prefix(key), value));
    let mut all: Vec<(&str, Value)> =
        entries.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    all.push(("general.architecture", "granitehybrid".into()));
    file(
        &all,
        &[
            ("token_embd.weight", &[16, 32]),
            ("output_norm.weight", &[16]),
            ("blk.0.attn_norm.weight", &[16]),
            ("blk.0.ffn_norm.weight", &[16]),
            ("blk.0.ssm_in.weight", &[16, 2 * 32 + 2 * 8 + 4]),
            ("blk.0.ssm_conv1d.weight", &[4, 32 + 2 * 8]),
            ("blk.0.ssm_conv1d.bias", &[32 + 2 * 8]),
            ("blk.0.ssm_dt.bias", &[4]),
            ("blk.0.ssm_a", &[1, 4]),
            ("blk.0.ssm_d", &[1, 4]),
            ("blk.0.ssm_norm.weight", &[32, 1]),
            ("blk.0.ssm_out.weight", &[32, 16]),
            ("blk.0.ffn_gate.weight", &[16, 24]),
            ("blk.0.ffn_up.weight", &[16, 24]),
            ("blk.0.ffn_down.weight", &[24, 16]),
        ],
    )
}

#[test]
fn mamba_layers_of_granite() {
    let facts = ModelFacts::from_gguf(&granite_hybrid(32, 4, 1)).unwrap();
    assert!(facts.recurrent);
    assert_eq!(facts.kv_bytes(100, TensorType::F16), 0);
    // Convolution 3·(32 + 2·8) and state 8·32, in four bytes.
    assert_eq!(facts.recurrent_state_bytes, Some((3 * 48 + 256) * 4));

    for (inner, heads, groups, expect) in [
        (33, 4, 1, "`granitehybrid.ssm.inner_size` is 33, but must be 32"),
        (32, 0, 1, "`granitehybrid.ssm.time_step_rank` is 0"),
        (32, 5, 1, "`granitehybrid.ssm.time_step_rank` is 5, but must be a divisor"),
        (32, 4, 0, "`granitehybrid.ssm.group_count` is 0"),
        (32, 8, 1, "the shape of tensor `blk.0.ssm_in.weight`"),
    ] {
        let error = ModelFacts::from_gguf(&granite_hybrid(inner, heads, groups)).unwrap_err().to_string();
        assert!(error.contains(expect), "`{error}` does not hold `{expect}`");
    }
}

#[test]
fn an_unknown_architecture_is_read_as_far_as_it_goes() {
    let gguf = file(
        &[
            ("general.architecture", "nextyear".into()),
            ("nextyear.block_count", 3u32.into()),
            ("nextyear.context_length", 512u32.into()),
            ("nextyear.embedding_length", 16u32.into()),
            ("nextyear.attention.head_count", 4u32.into()),
        ],
        &[("token_embd.weight", &[16, 32]), ("strange.weight", &[5, 6, 7])],
    );
    let facts = ModelFacts::from_gguf(&gguf).unwrap();
    assert_eq!((facts.layers, facts.head_dim_key, facts.norm_epsilon), (3, 4, None));
    assert_eq!(facts.parameters, 16 * 32 + 5 * 6 * 7);
}

#[test]
fn a_real_model() {
    let Some(path) = std::env::var_os("QEIL_TEST_MODEL") else {
        println!("skipped: QEIL_TEST_MODEL does not name SmolLM2-135M-Instruct");
        return;
    };
    let facts = inspect(Path::new(&path)).unwrap();
    if facts.architecture != "llama" || facts.layers != 30 {
        println!(
            "skipped: QEIL_TEST_MODEL is {} with {} layers, not SmolLM2-135M",
            facts.architecture, facts.layers
        );
        return;
    }
    assert_eq!(facts.parameters, 134_515_008);
    assert_eq!(facts.parameters_non_embedding, 134_515_008 - 576 * 49_152);
    assert_eq!((facts.embedding, facts.vocab_tokens, facts.context_train_tokens), (576, 49_152, 8192));
    assert_eq!((facts.heads[0], facts.kv_heads[29], facts.head_dim_key), (9, 3, 64));
    assert_eq!(facts.kv_bytes(1, TensorType::F16), 30 * 2 * 3 * 64 * 2);
    assert_eq!(facts.tokenizer.text(1), Some("<|im_start|>"));
    assert_eq!(facts.tokenizer.text(2), Some("<|im_end|>"));
    assert!(facts.chat_template.unwrap().contains("im_start"));
}
