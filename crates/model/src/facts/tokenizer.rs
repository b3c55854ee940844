//! What the tokenizer's entries say, and what llama.cpp assumes where they say nothing.

use super::{FactsError, TokenizerFacts, keys};
use crate::gguf::{Gguf, SpecialToken, TokenKind, Value, ValueType};

/// What llama.cpp assumes of each tokenizer model: (name, beginning, end, adds a beginning), from `llama-vocab.cpp`.
const MODELS: [(&str, Option<u32>, Option<u32>, bool); 12] = [
    ("gpt2", Some(11), Some(11), false),
    ("llama", Some(1), Some(2), true),
    ("bert", Some(101), None, true),
    ("t5", None, Some(1), false),
    ("rwkv", None, None, false),
    ("plamo2", Some(1), Some(2), false),
    ("gemma4", None, None, true),
    ("hybriddna", Some(11), Some(11), false),
    ("whitespace", Some(11), Some(11), false),
    ("test", None, None, false),
    ("none", None, None, false),
    ("no_vocab", None, None, false),
];
/// Ways of cutting text before byte-level BPE for which llama.cpp adds a beginning unless told otherwise.
const PRE_ADDING_BOS: [&str; 11] = [
    "llama3",
    "llama-v3",
    "llama-bpe",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "jina-v5-nano",
    "tekken",
    "chameleon",
];
/// Spellings of the token that ends a turn, where no entry names it, from `llama-vocab.cpp`.
const END_OF_TURN: [&str; 11] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];

/// The tokenizer of a file whose vocabulary has `vocab_tokens` tokens.
pub(super) fn gather(gguf: &Gguf, vocab_tokens: u32) -> Result<TokenizerFacts, FactsError> {
    let key = "tokenizer.ggml.model";
    let model = keys::text(gguf, key)?
        .ok_or_else(|| FactsError::missing(format!("`{key}`"), "nothing says how text becomes tokens"))?;
    let Some(&(_, bos_default, eos_default, add_bos_default)) = MODELS.iter().find(|row| row.0 == model)
    else {
        let names: Vec<_> = MODELS.iter().map(|row| row.0).collect();
        return Err(FactsError::invalid(
            format!("`{key}`"),
            format!("`{model}`"),
            format!("one of {}", names.join(", ")),
        ));
    };
    let pre = keys::text(gguf, "tokenizer.ggml.pre")?;
    if matches!(model, "gpt2" | "gemma4") && pre != Some("kimi-k2") {
        check_merges(gguf)?;
    }
    let mut special =
        gguf.vocabulary.as_ref().map(|vocabulary| vocabulary.special.clone()).unwrap_or_default();
    let id = |name: &str, default: Option<u32>| {
        let key = format!("tokenizer.ggml.{name}_token_id");
        match gguf.metadata.get(&key) {
            None => Ok(default.filter(|id| *id < vocab_tokens)),
            Some(Value::U32(id)) if *id < vocab_tokens => Ok(Some(*id)),
            Some(Value::U32(id)) => Err(FactsError::invalid(
                format!("`{key}`"),
                id,
                format!("below {vocab_tokens}, the size of the vocabulary"),
            )),
            Some(other) => Err(FactsError::invalid(
                format!("`{key}`"),
                format!("of type {}", other.kind()),
                "of type u32",
            )),
        }
    };
    let add_bos = match gguf.metadata.get("tokenizer.ggml.add_bos_token") {
        None => add_bos_default || pre.is_some_and(|pre| PRE_ADDING_BOS.contains(&pre)),
        Some(Value::Bool(add)) => *add,
        Some(other) => {
            return Err(FactsError::invalid(
                "`tokenizer.ggml.add_bos_token`",
                format!("of type {}", other.kind()),
                "of type bool",
            ));
        }
    };
    let bos_id = id("bos", bos_default)?;
    if add_bos && bos_id.is_none() {
        return Err(FactsError::missing(
            "`tokenizer.ggml.bos_token_id`",
            "the tokenizer puts it in front of every prompt",
        ));
    }
    let eos_id = id("eos", eos_default)?;
    let eot_id = id("eot", end_of_turn(&special))?;
    special.retain(|token| {
        matches!(token.kind, TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown)
            || [bos_id, eos_id, eot_id].contains(&Some(token.id))
    });
    let (model, pre) = (model.to_owned(), pre.map(str::to_owned));
    Ok(TokenizerFacts { model, pre, bos_id, eos_id, eot_id, add_bos, special })
}

/// Where no entry names the end of a turn, llama.cpp looks for the first of these spellings that its hash table
/// yields; the order of the list is as good.
fn end_of_turn(special: &[SpecialToken]) -> Option<u32> {
    END_OF_TURN.iter().find_map(|text| special.iter().find(|token| token.text == *text)).map(|token| token.id)
}

fn check_merges(gguf: &Gguf) -> Result<(), FactsError> {
    let field = "`tokenizer.ggml.merges`";
    match gguf.metadata.get("tokenizer.ggml.merges") {
        None => Err(FactsError::missing(field, "byte-level BPE needs it")),
        Some(Value::Array(array)) if array.element == ValueType::String => Ok(()),
        Some(other) => {
            let found = match other {
                Value::Array(array) => format!("an array of {}", array.element),
                other => format!("of type {}", other.kind()),
            };
            Err(FactsError::invalid(field, found, "an array of string"))
        }
    }
}
