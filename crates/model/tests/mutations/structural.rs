//! Faults that the reader or the facts must refuse: (name, file, part of the error).

use super::edit::{Edit, array, string};

/// Name, file, part of the error.
type Broken = (String, Vec<u8>, &'static str);

/// All structural faults.
pub fn all(edit: &Edit) -> Vec<Broken> {
    [truncations, header, metadata, numbers, tokenizer, tensors]
        .into_iter()
        .flat_map(|faults| faults(edit))
        .collect()
}

fn truncations(edit: &Edit) -> Vec<Broken> {
    let header = edit.header_bytes;
    let data = edit.data_offset;
    let end = edit.base.len();
    let key = edit.key_at("llama.block_count");
    let token = edit.value_at("tokenizer.ggml.tokens") + 12 + 500;
    let kind = edit.value_at("tokenizer.ggml.token_type") + 12 + 10;
    let template = edit.value_at("tokenizer.chat_template");
    let query = edit.tensor("blk.0.attn_q.weight");
    let last = edit.tensor("output.weight");
    // With honest counts the reader already sees at the header that so short a file cannot hold its tables.
    let small_counts = |at: usize| {
        let mut bytes = edit.base[..at].to_vec();
        bytes[8..24].copy_from_slice(&[0u64.to_le_bytes(), 4u64.to_le_bytes()].concat());
        bytes
    };
    let cut = |at: usize| edit.base[..at].to_vec();
    [
        ("nothing at all", cut(0), "the magic number"),
        ("inside the magic number", cut(3), "the magic number"),
        ("before the version", cut(4), "the version"),
        ("before the tensor count", cut(8), "the number of tensors needs 8 bytes"),
        ("before the entry count", cut(16), "the number of tensors needs"),
        ("after the counts", cut(24), "the number of tensors needs"),
        ("inside a key", small_counts(key + 5), "key 3 of the metadata needs"),
        ("before the type of a value", small_counts(key + 17), "the type of `llama.block_count` needs"),
        ("inside a value", small_counts(key + 17 + 4 + 2), "`llama.block_count` needs"),
        ("inside a token", cut(token), "of `tokenizer.ggml.tokens`"),
        ("inside the token types", cut(kind), "the number of elements of `tokenizer.ggml.token_type`"),
        ("inside the template", cut(template + 40), "`tokenizer.chat_template`"),
        ("inside a tensor's name", cut(query.name + 4), "the name of tensor 2"),
        ("inside a tensor's shape", cut(last.shape + 4), "dimension 0 of tensor `output.weight`"),
        ("inside a tensor's offset", cut(last.offset + 4), "offset of tensor `output.weight`"),
        ("after the tensor table", cut(header), "the data of tensor `token_embd.weight`"),
        ("before the data", cut(data), "the data of tensor `token_embd.weight`"),
        ("inside the first tensor", cut(data + 100), "the data of tensor `token_embd.weight`"),
        ("inside the data", cut((data + end) / 2), "the data of tensor `blk."),
        ("one byte short", cut(end - 1), "the data of tensor `output.weight`"),
    ]
    .into_iter()
    .map(|(name, bytes, expect)| (format!("truncated: {name}"), bytes, expect))
    .collect()
}

fn header(edit: &Edit) -> Vec<Broken> {
    let tensors = u64::from_le_bytes(edit.base[8..16].try_into().unwrap());
    let entries = u64::from_le_bytes(edit.base[16..24].try_into().unwrap());
    let mut broken = Vec::new();
    let mut put = |name: &str, at: usize, bytes: &[u8], expect| {
        broken.push((format!("header: {name}"), edit.put(at, bytes), expect));
    };
    put("big-endian magic", 0, b"FUGG", "the magic number is `FUGG`");
    put("another format", 0, b"ggml", "the magic number is `ggml`");
    put("version 0", 4, &[0; 4], "the version");
    put("version 1", 4, &1u32.to_le_bytes(), "the version is 1");
    put("version 4", 4, &4u32.to_le_bytes(), "the version is 4");
    put("big-endian version", 4, &3u32.to_be_bytes(), "this file is big-endian");
    put("no tensors", 8, &[0; 8], "every tensor `blk.0.*` is missing");
    // The row that is not there is read from the padding and the weights.
    put("one tensor more", 8, &(tensors + 1).to_le_bytes(), "the length of the name of tensor 21");
    for (name, count) in [("2^40", 1 << 40), ("2^63", 1 << 63), ("2^64-1", u64::MAX)] {
        put(&format!("{name} tensors"), 8, &count.to_le_bytes(), "the number of tensors");
        put(&format!("{name} entries"), 16, &count.to_le_bytes(), "the number of metadata entries");
    }
    put("no entries", 16, &[0; 8], "the number of dimensions of tensor `general.architecture`");
    put(
        "one entry less",
        16,
        &(entries - 1).to_le_bytes(),
        "the number of dimensions of tensor `tokenizer.chat",
    );
    put("one entry more", 16, &(entries + 1).to_le_bytes(), "the length of the name of tensor 0");
    broken
}

fn metadata(edit: &Edit) -> Vec<Broken> {
    let key = edit.key_at("llama.block_count");
    let name = edit.value_at("general.name");
    let merges = edit.value_at("tokenizer.ggml.merges");
    let nested = |depth: usize, last: &[u8]| {
        let level = [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat();
        edit.with_entry("x.nested", 9, &[&level.repeat(depth - 1)[..], last].concat())
    };
    let flat = array(4, 1, &7u32.to_le_bytes());
    let alignment = |bytes: u32| edit.with_entry("general.alignment", 4, &bytes.to_le_bytes());
    let cases = [
        (
            "key of 2^63 bytes",
            edit.put(key - 8, &(1u64 << 63).to_le_bytes()),
            "the length of key 3 of the metadata",
        ),
        ("key of 600 bytes", edit.put(key - 8, &600u64.to_le_bytes()), "the length of key 3 of the metadata"),
        ("empty key", edit.with_entry("", 4, &[0; 4]), "of the metadata is empty"),
        ("key that is not UTF-8", edit.put(key, &[0xff]), "key 3 of the metadata is not UTF-8"),
        (
            "key twice",
            edit.rename("tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"),
            "key `tokenizer.ggml.eos_token_id` is there twice",
        ),
        (
            "unknown type",
            edit.put(edit.kind_at("llama.block_count"), &[13]),
            "the type of `llama.block_count` is 13",
        ),
        ("absurd type", edit.put(edit.kind_at("general.name"), &[0xff; 4]), "the type of `general.name`"),
        ("string of 2^64-1 bytes", edit.put(name, &[0xff; 8]), "the length of `general.name`"),
        ("string of 2 MB", edit.put(name, &(2u64 << 20).to_le_bytes()), "the length of `general.name`"),
        ("string longer than the file", edit.put(name, &(900u64 << 10).to_le_bytes()), "`general.name`"),
        ("string that is not UTF-8", edit.put(name + 8, &[0xc0]), "`general.name` is not UTF-8"),
        (
            "number taken for a string",
            edit.put(edit.kind_at("llama.block_count"), &[8]),
            "`llama.block_count`",
        ),
        (
            "bool of 2",
            edit.put(edit.value_at("tokenizer.ggml.add_bos_token"), &[2]),
            "`tokenizer.ggml.add_bos_token`",
        ),
        ("array of an unknown type", edit.put(merges, &[99]), "the type of `tokenizer.ggml.merges` is 99"),
        (
            "array of 2^64-1",
            edit.put(merges + 4, &[0xff; 8]),
            "the number of elements of `tokenizer.ggml.merges`",
        ),
        (
            "array of 2^32",
            edit.put(merges + 4, &(1u64 << 32).to_le_bytes()),
            "elements of `tokenizer.ggml.merges`",
        ),
        (
            "array of one more",
            edit.put(merges + 4, &7u64.to_le_bytes()),
            "the length of key 17 of the metadata",
        ),
        (
            "array taken for numbers",
            edit.put(merges, &10u32.to_le_bytes()),
            "the length of key 18 of the metadata",
        ),
        ("array of arrays", nested(2, &flat), "`x.nested` is an array of arrays"),
        ("arrays five deep", nested(5, &flat), "the depth of the arrays in `x.nested` is 5"),
        ("arrays a hundred deep", nested(100, &flat), "the depth of the arrays in `x.nested`"),
        ("array of 2^60 arrays", nested(1, &array(9, 1 << 60, &[])), "the number of elements of `x.nested`"),
        ("alignment 0", alignment(0), "`general.alignment` is 0"),
        ("alignment 3", alignment(3), "`general.alignment` is 3"),
        ("alignment 16", alignment(16), "`general.alignment` is 16"),
        ("alignment 48", alignment(48), "`general.alignment` is 48"),
        ("alignment 2^31", alignment(1 << 31), "`general.alignment`"),
        ("alignment other than the data's", alignment(8192), "the offset of tensor"),
        (
            "alignment of another type",
            edit.with_entry("general.alignment", 10, &32u64.to_le_bytes()),
            "of type u64",
        ),
        (
            "part of a split model",
            edit.with_entry("split.count", 2, &3u16.to_le_bytes()),
            "`split.count` is 3",
        ),
        (
            "no architecture",
            edit.rename("general.architecture", "general.architectura"),
            "`general.architecture` is missing",
        ),
        (
            "architecture of another type",
            edit.splice(edit.kind_at("general.architecture"), 17, &[4, 0, 0, 0, 1, 0, 0, 0]),
            "`general.architecture` is of type u32",
        ),
        (
            "another architecture",
            edit.put(edit.value_at("general.architecture") + 8, b"qwen2"),
            "`qwen2.block_count`",
        ),
    ];
    cases.into_iter().map(|(name, bytes, expect)| (format!("metadata: {name}"), bytes, expect)).collect()
}

fn numbers(edit: &Edit) -> Vec<Broken> {
    let whole: &[(&str, &[u32])] = &[
        ("block_count", &[0, 1, 3, 513, 1_000_000, u32::MAX]),
        ("context_length", &[0, 1 << 25, u32::MAX]),
        ("embedding_length", &[0, 1, 63, 65, 128, u32::MAX]),
        ("feed_forward_length", &[0, 1, 127, u32::MAX]),
        ("attention.head_count", &[0, 3, 5, 128, u32::MAX]),
        ("attention.head_count_kv", &[0, 1, 3, 4, u32::MAX]),
        ("rope.dimension_count", &[0, 7, 8, 18, u32::MAX]),
    ];
    let fractions: &[(&str, &[f32])] = &[
        (
            "attention.layer_norm_rms_epsilon",
            &[f32::NAN, 0.0, -1e-5, f32::INFINITY, f32::NEG_INFINITY, 2.0, 1e30],
        ),
        ("rope.freq_base", &[f32::NAN, 0.0, -1.0, f32::INFINITY]),
    ];
    let mut broken = Vec::new();
    for (key, values) in whole {
        for value in *values {
            let bytes = edit.put(edit.value_at(&format!("llama.{key}")), &value.to_le_bytes());
            // More heads or other widths are named by the tensor that does not fit them.
            let expect = match (*key, value) {
                ("block_count", 3) => "every tensor `blk.2.*` is missing",
                ("attention.head_count", 128) => "llama.attention.head_count",
                ("attention.head_count_kv", 1 | 4) => "the shape of tensor `blk.0.attn_k.weight`",
                ("feed_forward_length", 1 | 127) => "the shape of tensor `blk.0.ffn_gate.weight`",
                _ => *key,
            };
            broken.push((format!("number: {key} {value}"), bytes, expect));
        }
        let at = edit.kind_at(&format!("llama.{key}"));
        broken.push((format!("number: {key} as i32"), edit.put(at, &[5]), *key));
        let list = array(4, 7, &[2u8, 0, 0, 0].repeat(7));
        let list = edit.splice(at, 8, &[&9u32.to_le_bytes()[..], &list].concat());
        broken.push((format!("number: {key} as an array of seven"), list, *key));
        let gone = edit.rename(&format!("llama.{key}"), &format!("llamo.{key}"));
        match *key {
            // The size of a head stands in for it.
            "rope.dimension_count" => {}
            // The number of query heads stands in for it, and is another.
            "attention.head_count_kv" => {
                broken.push((format!("number: no {key}"), gone, "blk.0.attn_k.weight"))
            }
            _ => broken.push((format!("number: no {key}"), gone, *key)),
        }
    }
    for (key, values) in fractions {
        for value in *values {
            let bytes = edit.put(edit.value_at(&format!("llama.{key}")), &value.to_le_bytes());
            broken.push((format!("number: {key} {value}"), bytes, *key));
        }
        let at = edit.kind_at(&format!("llama.{key}"));
        broken.push((format!("number: {key} as u32"), edit.put(at, &[4]), *key));
    }
    let extra: &[(&str, u32, Vec<u8>)] = &[
        ("rope.scaling.type", 8, string("spiral")),
        ("rope.scaling.factor", 6, f32::NAN.to_le_bytes().to_vec()),
        ("rope.scaling.factor", 6, (-1f32).to_le_bytes().to_vec()),
        ("rope.scaling.attn_factor", 6, f32::INFINITY.to_le_bytes().to_vec()),
        ("attention.value_length", 4, 8u32.to_le_bytes().to_vec()),
        ("attention.key_length", 4, 0u32.to_le_bytes().to_vec()),
        ("expert_count", 4, 2000u32.to_le_bytes().to_vec()),
        ("expert_count", 4, 4u32.to_le_bytes().to_vec()),
        ("expert_used_count", 4, 4u32.to_le_bytes().to_vec()),
        ("expert_group_count", 4, 4u32.to_le_bytes().to_vec()),
        ("nextn_predict_layers", 4, 2u32.to_le_bytes().to_vec()),
        ("pooling_type", 4, 99u32.to_le_bytes().to_vec()),
        ("vector_of_nan", 9, array(6, 1, &f32::NAN.to_le_bytes())),
    ];
    for (at, (key, kind, value)) in extra.iter().enumerate() {
        let bytes = edit.with_entry(&format!("llama.{key}"), *kind, value);
        let expect = if *key == "expert_count" { "expert_" } else { *key };
        broken.push((format!("number: added {key} ({at})"), bytes, expect));
    }
    broken
}

fn tokenizer(edit: &Edit) -> Vec<Broken> {
    let model = edit.value_at("tokenizer.ggml.model");
    let tokens = edit.value_at("tokenizer.ggml.tokens");
    let kinds = edit.value_at("tokenizer.ggml.token_type");
    let kind_of = |id: usize, kind: i32| edit.put(kinds + 12 + 4 * id, &kind.to_le_bytes());
    // The first token is Ā, two bytes of UTF-8.
    let without_first = edit.splice(tokens + 4, 8 + 8 + 2, &264u64.to_le_bytes());
    // Tokens a and b are at ids 97 and 98, each of one byte, one after the other.
    let a = tokens
        + 12
        + edit.base[tokens + 12..].windows(9).position(|w| w == [1, 0, 0, 0, 0, 0, 0, 0, b'a']).unwrap();
    let cases = [
        ("unknown model", edit.put(model + 8, b"gpt9"), "`tokenizer.ggml.model` is `gpt9`"),
        (
            "no model",
            edit.rename("tokenizer.ggml.model", "tokenizer.ggml.mudel"),
            "`tokenizer.ggml.model` is missing",
        ),
        (
            "no tokens",
            edit.rename("tokenizer.ggml.tokens", "tokenizer.ggml.tokenz"),
            "`tokenizer.ggml.tokens` is missing",
        ),
        (
            "no merges",
            edit.rename("tokenizer.ggml.merges", "tokenizer.ggml.mergez"),
            "`tokenizer.ggml.merges` is missing",
        ),
        ("one token less", without_first, "tokenizer.ggml.token_type"),
        ("tokens that are numbers", edit.put(tokens, &[0]), "the length of key 15 of the metadata"),
        (
            "the same token twice",
            edit.put(a + 8, b"b"),
            "the spelling of elements 97 and 98 of `tokenizer.ggml.tokens`",
        ),
        ("type 7", kind_of(5, 7), "element 5 of `tokenizer.ggml.token_type` is 7"),
        ("type -1", kind_of(5, -1), "element 5 of `tokenizer.ggml.token_type` is -1"),
        ("a byte token not spelt as one", kind_of(70, 6), "element 70 of `tokenizer.ggml.tokens`"),
        (
            "types as fractions",
            edit.put(kinds, &[6]),
            "the type of the elements of `tokenizer.ggml.token_type`",
        ),
        (
            "scores for three tokens",
            edit.with_entry("tokenizer.ggml.scores", 9, &array(6, 3, &[0; 12])),
            "the number of elements of `tokenizer.ggml.scores`",
        ),
        (
            "scores that are text",
            edit.with_entry("tokenizer.ggml.scores", 8, &string("high")),
            "`tokenizer.ggml.scores` is of type string",
        ),
        (
            "bos beyond the vocabulary",
            edit.put(edit.value_at("tokenizer.ggml.bos_token_id"), &265u32.to_le_bytes()),
            "`tokenizer.ggml.bos_token_id` is 265",
        ),
        (
            "eos of -1",
            edit.put(edit.value_at("tokenizer.ggml.eos_token_id"), &[0xff; 4]),
            "`tokenizer.ggml.eos_token_id` is 4294967295",
        ),
        (
            "eos of another type",
            edit.put(edit.kind_at("tokenizer.ggml.eos_token_id"), &[6]),
            "`tokenizer.ggml.eos_token_id` is of type f32",
        ),
        (
            "template that is a number",
            edit.splice(
                edit.kind_at("tokenizer.chat_template"),
                edit.entry_bytes("tokenizer.chat_template"),
                &[0; 5],
            ),
            "`tokenizer.chat_template` is of type u8",
        ),
    ];
    cases.into_iter().map(|(name, bytes, expect)| (format!("tokenizer: {name}"), bytes, expect)).collect()
}

fn tensors(edit: &Edit) -> Vec<Broken> {
    let embd = edit.tensor("token_embd.weight");
    let query = edit.tensor("blk.0.attn_q.weight");
    let norm = edit.tensor("blk.0.attn_norm.weight");
    let last = edit.tensor("output.weight");
    let u64s = |values: &[u64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
    let number = |at: usize, value: u64| edit.put(at, &value.to_le_bytes());
    let cases = [
        (
            "no dimensions",
            edit.put(query.dims, &[0]),
            "the number of dimensions of tensor `blk.0.attn_q.weight` is 0",
        ),
        (
            "five dimensions",
            edit.put(query.dims, &[5]),
            "the number of dimensions of tensor `blk.0.attn_q.weight` is 5",
        ),
        ("2^32-1 dimensions", edit.put(query.dims, &[0xff; 4]), "the number of dimensions of tensor"),
        ("dimension 0", number(query.shape, 0), "dimension 0 of tensor `blk.0.attn_q.weight` is 0"),
        ("dimension 2^64-1", number(query.shape, u64::MAX), "dimension 0 of tensor `blk.0.attn_q.weight`"),
        (
            "dimensions that overflow",
            edit.put(query.shape, &u64s(&[1 << 33, 1 << 33])),
            "dimension 1 of tensor",
        ),
        ("bytes that overflow", edit.put(query.shape, &u64s(&[1 << 31, 1 << 31])), "blk.0.attn_q.weight"),
        (
            "far too large",
            edit.put(last.shape, &u64s(&[1 << 20, 1 << 20])),
            "the data of tensor `output.weight`",
        ),
        ("a row too many", number(last.shape + 8, 266), "the data of tensor `output.weight`"),
        ("swapped shape", edit.put(embd.shape, &u64s(&[265, 64])), "llama.embedding_length"),
        ("reshaped", edit.put(query.shape, &u64s(&[32, 128])), "the shape of tensor `blk.0.attn_q.weight`"),
        ("removed type", edit.put(query.kind, &[4]), "the type of tensor `blk.0.attn_q.weight` is 4"),
        ("unknown type", edit.put(query.kind, &[99]), "the type of tensor `blk.0.attn_q.weight` is 99"),
        ("another type", edit.put(query.kind, &[1]), "the offset of tensor `blk.0.attn_k.weight`"),
        (
            "quantised in half a block",
            edit.put(query.kind, &[12]),
            "dimension 0 of tensor `blk.0.attn_q.weight`",
        ),
        (
            "integers to multiply",
            edit.put(query.kind, &[26]),
            "the type of tensor `blk.0.attn_q.weight` is I32",
        ),
        (
            "norm of integers",
            edit.put(norm.kind, &[26]),
            "the type of tensor `blk.0.attn_norm.weight` is I32",
        ),
        ("offset not aligned", number(query.offset, 1), "the offset of tensor `blk.0.attn_q.weight` is 1"),
        ("overlapping the first", number(query.offset, 0), "the offset of tensor `blk.0.attn_q.weight` is 0"),
        ("with a gap", number(last.offset, 1 << 19), "the offset of tensor `output.weight`"),
        ("beyond the file", number(last.offset, 1 << 40), "the offset of tensor `output.weight`"),
        ("offset 2^64-32", number(last.offset, u64::MAX - 31), "the offset of tensor `output.weight`"),
        ("empty name", edit.splice(query.name - 8, 8 + 19, &[0; 8]), "the name of tensor 2 is empty"),
        ("name of 64 bytes", number(query.name - 8, 64), "the length of the name of tensor 2"),
        ("name of 2^64-1 bytes", number(query.name - 8, u64::MAX), "the length of the name of tensor 2"),
        ("name that is not UTF-8", edit.put(query.name, &[0xfe]), "the name of tensor 2 is not UTF-8"),
        (
            "the same name twice",
            edit.put(edit.tensor("blk.1.attn_q.weight").name, b"blk.0"),
            "tensor `blk.0.attn_q.weight` is there twice",
        ),
        ("no embedding", edit.put(embd.name, b"tokem_embd"), "tensor `token_embd.weight` is missing"),
        (
            "no norm at the end",
            edit.put(edit.tensor("output_norm.weight").name, b"autput"),
            "tensor `output_norm.weight` is missing",
        ),
        (
            "no feed-forward",
            edit.put(edit.tensor("blk.1.ffn_up.weight").name + 10, b"q"),
            "tensor `blk.1.ffn_up.weight` is missing",
        ),
        (
            "no keys",
            edit.put(edit.tensor("blk.0.attn_k.weight").name + 11, b"x"),
            "tensor `blk.0.attn_k.weight` is missing",
        ),
        ("a layer too many", edit.put(query.name + 4, b"9"), "llama.block_count"),
    ];
    cases.into_iter().map(|(name, bytes, expect)| (format!("tensor: {name}"), bytes, expect)).collect()
}
