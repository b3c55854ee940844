//! A working vocabulary of the true size.
//!
//! Control tokens stand where the publisher put them, since ids of the beginning and the end are metadata; ordinary
//! tokens fill the places between.

use super::Tokenizer;
use crate::gguf::TokenKind;
use crate::write::GgufWriter;
use crate::write::vocabulary::{bpe_bytes, bpe_merges, piece_characters, piece_merges};
use std::collections::BTreeMap;
use std::io;

/// ChatML, as SmolLM2, Qwen2 and LFM2 speak it.
const CHATML: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + \
    message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|im_start|>assistant\n' }}{% endif %}";
const LLAMA3: &str = "{% for message in messages %}{{'<|start_header_id|>' + message['role'] + \
    '<|end_header_id|>\n\n' + message['content'] + '<|eot_id|>'}}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";
const GRANITE: &str = "{% for message in messages %}{{'<|start_of_role|>' + message['role'] + \
    '<|end_of_role|>' + message['content'] + '<|end_of_text|>\n'}}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}";
const GEMMA: &str = "{% for message in messages %}{{'<start_of_turn>' + ('model' if message['role'] == \
    'assistant' else 'user') + '\n' + message['content'] + '<end_of_turn>\n'}}{% endfor %}\
    {% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}";

/// A token before it has a place.
struct Ordinary {
    text: String,
    kind: TokenKind,
    merge: Option<String>,
}

impl Ordinary {
    fn new(text: String, kind: TokenKind) -> Self {
        Self { text, kind, merge: None }
    }
}

/// Set all `tokenizer.*` entries.
///
/// # Errors
/// `InvalidInput` for a tokenizer model or template that is not known here, and when there are too few places.
pub(super) fn set(file: &mut GgufWriter, tokenizer: &Tokenizer) -> io::Result<()> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
    let (ordinary, needed) = match tokenizer.model.as_str() {
        "gpt2" => (byte_level(), 256),
        "llama" => (pieces(), 256),
        other => return Err(invalid(format!("the tokenizer model {other:?} is not known"))),
    };
    let control: BTreeMap<u32, &str> =
        tokenizer.control.iter().map(|(id, text)| (*id, text.as_str())).collect();
    let ids = [Some(tokenizer.bos), Some(tokenizer.eos), tokenizer.pad, tokenizer.unknown];
    if let Some(id) = ids.into_iter().flatten().find(|id| !control.contains_key(id)) {
        return Err(invalid(format!("token {id} has a meaning but no spelling among the control tokens")));
    }
    if (tokenizer.tokens as usize) < control.len() + needed {
        return Err(invalid(format!("{} tokens have no room for all bytes", tokenizer.tokens)));
    }
    let (mut texts, mut kinds, mut scores, mut merges) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut ordinary = ordinary.fuse();
    for id in 0..tokenizer.tokens {
        if let Some(text) = control.get(&id) {
            texts.push((*text).to_owned());
            let unknown = tokenizer.unknown == Some(id);
            kinds.push(if unknown { TokenKind::Unknown } else { TokenKind::Control } as i32);
            scores.push(0.0);
            continue;
        }
        let token = ordinary.next().unwrap_or_else(|| Ordinary::new(format!("[PAD{id}]"), TokenKind::Unused));
        texts.push(token.text);
        kinds.push(token.kind as i32);
        // SentencePiece merges the pair of the highest score first.
        scores.push(-(id as f32));
        merges.extend(token.merge);
    }
    file.set("tokenizer.ggml.model", tokenizer.model.as_str())
        .set("tokenizer.ggml.pre", tokenizer.pre.as_str())
        .set("tokenizer.ggml.tokens", texts)
        .set("tokenizer.ggml.token_type", kinds)
        .set("tokenizer.ggml.bos_token_id", tokenizer.bos)
        .set("tokenizer.ggml.eos_token_id", tokenizer.eos)
        .set("tokenizer.ggml.add_bos_token", tokenizer.add_bos);
    if tokenizer.model == "gpt2" {
        file.set("tokenizer.ggml.merges", merges);
    } else {
        file.set("tokenizer.ggml.scores", scores).set("tokenizer.ggml.add_space_prefix", false);
    }
    for (name, id) in [("padding", tokenizer.pad), ("unknown", tokenizer.unknown)] {
        if let Some(id) = id {
            file.set(format!("tokenizer.ggml.{name}_token_id"), id);
        }
    }
    match tokenizer.template.as_deref() {
        None => {}
        Some("chatml") => drop(file.set("tokenizer.chat_template", CHATML)),
        Some("llama3") => drop(file.set("tokenizer.chat_template", LLAMA3)),
        Some("granite") => drop(file.set("tokenizer.chat_template", GRANITE)),
        Some("gemma") => drop(file.set("tokenizer.chat_template", GEMMA)),
        Some(other) => return Err(invalid(format!("the chat template {other:?} is not known"))),
    }
    Ok(())
}

fn byte_level() -> Box<dyn Iterator<Item = Ordinary>> {
    let bytes = bpe_bytes().map(|text| Ordinary::new(text, TokenKind::Normal));
    let merged = bpe_merges().map(|merge| Ordinary {
        text: merge.text(),
        kind: TokenKind::Normal,
        merge: Some(format!("{} {}", merge.left, merge.right)),
    });
    Box::new(bytes.chain(merged))
}

fn pieces() -> Box<dyn Iterator<Item = Ordinary>> {
    let bytes = (0..=255u8).map(|byte| Ordinary::new(format!("<0x{byte:02X}>"), TokenKind::Byte));
    let characters = piece_characters().map(|text| Ordinary::new(text, TokenKind::Normal));
    let merged = piece_merges().map(|merge| Ordinary::new(merge.text(), TokenKind::Normal));
    Box::new(bytes.chain(characters).chain(merged))
}
