//! Ways to break a model file.
//!
//! Each mutation edits the bytes of a valid file from `qeil_model::write::tiny_llama`. **Structural** ones must be
//! refused by the reader or the facts, with an error that holds `expect`. The others are well-formed files with
//! bad contents (NaN weights, a broken template): the reader may accept them, and a worker must survive them or
//! die alone.

// Each test crate that includes this module uses its own part of it.
#![allow(dead_code, missing_docs, reason = "each test file uses a part of it")]

pub mod edit;
mod structural;

use edit::Edit;

/// A broken file.
pub struct Mutation {
    pub name: String,
    pub bytes: Vec<u8>,
    /// Whether our reader must refuse it.
    pub structural: bool,
    /// Part of the error of a structural one: the field it names.
    pub expect: &'static str,
}

/// All mutations of a tiny llama.
pub fn all(base: &[u8]) -> Vec<Mutation> {
    let edit = Edit::new(base);
    let contents = contents(&edit).into_iter().map(|(name, bytes)| (name, bytes, false, ""));
    let mut all: Vec<_> = structural::all(&edit)
        .into_iter()
        .map(|(name, bytes, expect)| (name, bytes, true, expect))
        .chain(contents)
        .map(|(name, bytes, structural, expect)| Mutation { name, bytes, structural, expect })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// Well-formed files with bad contents.
fn contents(edit: &Edit) -> Vec<(String, Vec<u8>)> {
    let data = edit.data_offset;
    let fill = |from: usize, count: usize, value: f32| edit.put(from, &value.to_le_bytes().repeat(count));
    let tensor = |name: &str| data + edit.number_at(edit.tensor(name).offset) as usize;
    let all = (edit.base.len() - data) / 4;
    let template = edit.value_at("tokenizer.chat_template") + 8;
    let merges = edit.value_at("tokenizer.ggml.merges") + 12;
    let mut random = 1u32;
    let noise: Vec<u8> = (0..all * 4)
        .map(|_| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 24) as u8
        })
        .collect();
    let flipped = {
        let at = tensor("blk.0.ffn_down.weight") + 3;
        edit.put(at, &[edit.base[at] ^ 0x40])
    };
    // The last row of the table is taken for padding: all weights shift, and no count contradicts it.
    let fewer = u64::from_le_bytes(edit.base[8..16].try_into().unwrap()) - 1;
    [
        ("one tensor less", edit.put(8, &fewer.to_le_bytes())),
        ("every weight NaN", fill(data, all, f32::NAN)),
        ("every weight infinite", fill(data, all, f32::INFINITY)),
        ("every weight 0", fill(data, all, 0.0)),
        ("every weight huge", fill(data, all, 1e38)),
        ("every weight noise", edit.put(data, &noise)),
        ("one weight NaN", fill(tensor("blk.1.attn_v.weight") + 400, 1, f32::NAN)),
        ("one embedding infinite", fill(tensor("token_embd.weight") + 256 * 97, 64, f32::NEG_INFINITY)),
        ("norm NaN", fill(tensor("blk.0.attn_norm.weight"), 64, f32::NAN)),
        ("last norm 0", fill(tensor("output_norm.weight"), 64, 0.0)),
        ("output NaN", fill(tensor("output.weight"), 64 * 265, f32::NAN)),
        ("output row infinite", fill(tensor("output.weight") + 256 * 11, 64, f32::INFINITY)),
        ("one bit of an exponent", flipped),
        ("broken template", edit.put(template, b"{% if %}{{{{{{")),
        ("merge of unknown tokens", edit.put(merges + 8, b"\x01 \x02")),
        ("merge without a space", edit.put(merges + 8, b"xyz")),
        ("bytes after the data", [edit.base, &[0x5a; 777][..]].concat()),
        ("an unknown entry", edit.with_entry("x.unknown", 10, &[0xff; 8])),
    ]
    .into_iter()
    .map(|(name, bytes)| (format!("contents: {name}"), bytes))
    .collect()
}
