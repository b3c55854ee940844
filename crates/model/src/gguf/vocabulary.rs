//! The vocabulary, streamed.
//!
//! Tokens come before their types in most files, so the walk only notes where both arrays lie, and this second
//! look reads types first. Of the tokens it keeps a 64-bit hash while it runs (llama.cpp asserts that no two are
//! spelt alike) and, for good, the spellings of those that mean more than their text.

use super::source::Source;
use super::{Array, GgufError, Limits, SpecialToken, TokenKind, Value, ValueType, Vocabulary};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Seek};

const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";

/// Spellings that llama.cpp treats as control tokens whatever their type says (its search for end-of-turn and
/// fill-in-the-middle tokens by text), so we do too.
const CONTROL_BY_SPELLING: [&str; 24] = [
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
    "<|eom_id|>",
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
];
/// Charged to the budget for each special token besides its spelling.
const SPECIAL_OVERHEAD_BYTES: u64 = size_of::<SpecialToken>() as u64;

/// Where the arrays of the vocabulary lie.
#[derive(Default)]
pub(super) struct Located {
    tokens: Option<Place>,
    token_type: Option<Place>,
    scores: Option<Place>,
}

#[derive(Clone, Copy)]
struct Place {
    element: ValueType,
    count: u64,
    position: u64,
}

impl Located {
    /// Note an array whose first element lies at `position`.
    pub fn note(&mut self, key: &str, array: &Array, position: u64) {
        let place = Some(Place { element: array.element, count: array.count, position });
        match key {
            TOKENS => self.tokens = place,
            TOKEN_TYPE => self.token_type = place,
            SCORES => self.scores = place,
            _ => {}
        }
    }
}

/// Read the vocabulary, if the file has one.
pub(super) fn read<R: Read + Seek>(
    source: &mut Source<R>,
    located: &Located,
    metadata: &BTreeMap<String, Value>,
    limits: &Limits,
    mut kept_bytes_left: u64,
) -> Result<Option<Vocabulary>, GgufError> {
    for key in [TOKENS, TOKEN_TYPE, SCORES] {
        if let Some(value) = metadata.get(key)
            && !matches!(value, Value::Array(_))
        {
            return Err(GgufError::invalid(
                format!("`{key}`"),
                format!("of type {}", value.kind()),
                "an array",
            ));
        }
    }
    let Some(tokens) = located.tokens else { return Ok(None) };
    expect_element(TOKENS, tokens.element, &[ValueType::String])?;
    if tokens.count == 0 || tokens.count > limits.vocabulary_tokens {
        return Err(GgufError::invalid(
            format!("the number of elements of `{TOKENS}`"),
            tokens.count,
            format!("from 1 to {}", limits.vocabulary_tokens),
        ));
    }
    for (key, place, accepted) in [
        (TOKEN_TYPE, located.token_type, &[ValueType::I32][..]),
        (SCORES, located.scores, &[ValueType::F32, ValueType::I32][..]),
    ] {
        let Some(place) = place else { continue };
        expect_element(key, place.element, accepted)?;
        if place.count != tokens.count {
            return Err(GgufError::invalid(
                format!("the number of elements of `{key}`"),
                place.count,
                format!("{}, one for each element of `{TOKENS}`", tokens.count),
            ));
        }
    }
    let kinds = match located.token_type {
        Some(place) => read_kinds(source, place)?,
        None => vec![TokenKind::Normal; tokens.count as usize],
    };
    let named = named_ids(metadata);

    source.rewind(tokens.position, TOKENS)?;
    let mut vocabulary = Vocabulary { tokens: tokens.count, special: Vec::new() };
    let mut hashes = Vec::with_capacity(tokens.count as usize);
    let mut text = Vec::new();
    for (id, mut kind) in (0u32..).zip(kinds) {
        let field = format_args!("element {id} of `{TOKENS}`");
        read_token(source, &mut text, id, limits)?;
        hashes.push(hash(&text));
        let shown = || text.escape_ascii().to_string();
        if kind == TokenKind::Byte && !is_byte_spelling(&text) {
            return Err(GgufError::invalid(field, format!("the byte token `{}`", shown()), "spelt `<0xNN>`"));
        }
        if is_control_spelling(&text) {
            kind = TokenKind::Control;
        }
        let special = matches!(kind, TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown);
        if special || named.contains(&id) {
            let cost = SPECIAL_OVERHEAD_BYTES + text.len() as u64;
            if vocabulary.special.len() as u64 >= limits.special_tokens || cost > kept_bytes_left {
                return Err(GgufError::invalid(
                    format!("the number of special tokens in `{TOKEN_TYPE}`"),
                    format!("more than {}", vocabulary.special.len()),
                    format!("at most {}, spelt in {} bytes", limits.special_tokens, limits.kept_bytes),
                ));
            }
            kept_bytes_left -= cost;
            let text = String::from_utf8(text.clone())
                .map_err(|_| GgufError::invalid(field, format!("`{}`", shown()), "UTF-8"))?;
            vocabulary.special.push(SpecialToken { id, text, kind });
        }
    }
    // SipHash over half a million tokens: a false alarm has a probability of about 1e-8.
    hashes.sort_unstable();
    if let Some(pair) = hashes.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(twice(source, tokens, pair[0], limits)?);
    }
    Ok(Some(vocabulary))
}

/// The next token's spelling into `text`.
fn read_token<R: Read + Seek>(
    source: &mut Source<R>,
    text: &mut Vec<u8>,
    id: u32,
    limits: &Limits,
) -> Result<(), GgufError> {
    source.string(text, limits.string_bytes, format_args!("element {id} of `{TOKENS}`"))?;
    if text.is_empty() {
        // llama.cpp renames empty tokens like this.
        text.extend_from_slice(format!("[EMPTY_{id}]").as_bytes());
    }
    Ok(())
}

fn expect_element(key: &str, found: ValueType, accepted: &[ValueType]) -> Result<(), GgufError> {
    if accepted.contains(&found) {
        return Ok(());
    }
    let names: Vec<_> = accepted.iter().map(ToString::to_string).collect();
    Err(GgufError::invalid(format!("the type of the elements of `{key}`"), found, names.join(" or ")))
}

fn read_kinds<R: Read + Seek>(source: &mut Source<R>, place: Place) -> Result<Vec<TokenKind>, GgufError> {
    source.rewind(place.position, TOKEN_TYPE)?;
    let mut kinds = Vec::with_capacity(place.count as usize);
    for id in 0..place.count {
        let field = format_args!("element {id} of `{TOKEN_TYPE}`");
        let kind = source.u32(field)?;
        kinds.push(
            TokenKind::from_id(kind)
                .ok_or_else(|| GgufError::invalid(field, kind as i32, "a token type from 0 to 6"))?,
        );
    }
    Ok(kinds)
}

/// Ids that metadata entries name, and those that llama.cpp assumes where no entry does.
fn named_ids(metadata: &BTreeMap<String, Value>) -> Vec<u32> {
    let named = metadata.range("tokenizer.ggml.".to_owned()..).filter_map(|(key, value)| match value {
        Value::U32(id) if key.ends_with("_token_id") => Some(*id),
        _ => None,
    });
    // Defaults of SentencePiece (1, 2) and byte-level BPE (11).
    named.chain([1, 2, 11]).collect()
}

fn is_control_spelling(text: &[u8]) -> bool {
    // Few tokens begin like one, so few are compared with the list.
    matches!(text, [b'<' | b'_' | b'[', ..])
        && CONTROL_BY_SPELLING.iter().any(|known| known.as_bytes() == text)
}

fn is_byte_spelling(text: &[u8]) -> bool {
    matches!(text, [b'<', b'0', b'x', high, low, b'>'] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

fn hash(text: &[u8]) -> u64 {
    // With fixed keys: the same file gets the same answer each time.
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The error for two tokens of this hash, naming them.
fn twice<R: Read + Seek>(
    source: &mut Source<R>,
    tokens: Place,
    wanted: u64,
    limits: &Limits,
) -> Result<GgufError, GgufError> {
    source.rewind(tokens.position, TOKENS)?;
    let mut text = Vec::new();
    let mut ids = Vec::new();
    let mut spelling = String::new();
    for id in 0..tokens.count as u32 {
        read_token(source, &mut text, id, limits)?;
        if hash(&text) == wanted && ids.len() < 2 {
            spelling = text.escape_ascii().to_string();
            ids.push(id.to_string());
        }
    }
    Ok(GgufError::invalid(
        format!("the spelling of elements {} of `{TOKENS}`", ids.join(" and ")),
        format!("`{spelling}` in both"),
        "unique",
    ))
}
