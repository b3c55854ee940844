//! From bytes to a typed request, at a bounded price.
//!
//! Size first, then depth, then types: each check costs no more than the bytes it looks at, and none believes what a
//! later one has yet to look at. Unknown fields are errors: a client that misspells `max_tokens` should hear of it
//! before it pays for a long answer. The path of what is wrong becomes OpenAI's `param`.

use crate::error::{ApiError, echo};
use crate::limits::DEPTH_MAX;
use axum::http::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;

/// The body of a chat completion. Absent and `null` are the same.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatRequest {
    /// Name of a served model.
    pub model: String,
    /// The conversation, oldest first.
    pub messages: Vec<ChatMessage>,
    /// Whether the answer comes piece by piece.
    pub stream: Option<bool>,
    /// What a stream brings.
    pub stream_options: Option<StreamOptions>,
    /// Samples.
    pub n: Option<u64>,
    /// Fixes the random numbers; OpenAI's is signed, so both ranges are taken.
    pub seed: Option<serde_json::Number>,
    /// 0 takes the most likely token.
    pub temperature: Option<f64>,
    /// Nucleus.
    pub top_p: Option<f64>,
    /// Most likely tokens that are kept; 0 keeps all.
    pub top_k: Option<u64>,
    /// Least share of the most likely token's probability.
    pub min_p: Option<f64>,
    /// The older name of `max_completion_tokens`.
    pub max_tokens: Option<u64>,
    /// Most tokens of a sample.
    pub max_completion_tokens: Option<u64>,
    /// Text that ends a sample.
    pub stop: Option<Stop>,
    /// Biases by token id.
    pub logit_bias: Option<BTreeMap<String, f64>>,
    /// Only `false` is offered.
    pub logprobs: Option<bool>,
    /// Only 0 is offered.
    pub top_logprobs: Option<u64>,
    /// Only 0 is offered.
    pub frequency_penalty: Option<f64>,
    /// Only 0 is offered.
    pub presence_penalty: Option<f64>,
    /// Only `{"type": "text"}` is offered.
    pub response_format: Option<ResponseFormat>,
    /// Checked and otherwise ignored.
    pub user: Option<String>,
    /// What OpenAI's interface has no field for.
    pub qeil: Option<Extension>,
}

/// A message.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatMessage {
    /// Who says it.
    pub role: String,
    /// What they say.
    pub content: Content,
}

/// What a message says.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a message's content must be a string or an array of text parts")]
pub enum Content {
    /// In one.
    Text(String),
    /// In pieces.
    Parts(Vec<ContentPart>),
}

/// A piece of a message.
#[derive(Debug, Deserialize)]
pub struct ContentPart {
    /// Only `text` is offered.
    #[serde(rename = "type")]
    pub kind: String,
    /// The text.
    pub text: Option<String>,
    /// Anything else is looked at only to be named.
    #[serde(flatten)]
    pub rest: BTreeMap<String, IgnoredAny>,
}

/// One stop string or several.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "must be a string or an array of strings")]
pub enum Stop {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// What a stream brings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamOptions {
    /// Whether a last piece carries the numbers of tokens.
    pub include_usage: Option<bool>,
}

/// What form the answer has.
#[derive(Debug, Deserialize)]
pub struct ResponseFormat {
    /// Only `text` is offered.
    #[serde(rename = "type")]
    pub kind: String,
}

/// What OpenAI's interface has no field for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extension {
    /// Seconds after which the request ends.
    pub deadline_s: Option<f64>,
    /// Joules after which the request ends.
    pub energy_budget_j: Option<f64>,
    /// Who goes first.
    pub priority: Option<qeil_control::event::Priority>,
    /// Judge of the samples: the first that passes ends the others.
    pub until_pass: Option<qeil_tasks::Verifier>,
}

/// Read a body.
///
/// # Errors
/// 400 with the path of what is wrong.
pub fn parse(bytes: &[u8]) -> Result<ChatRequest, ApiError> {
    check_depth(bytes)?;
    // serde would take an array for an object whose fields have no names.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_type", "the body must be a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let request = serde_path_to_error::deserialize(&mut reader).map_err(|error| explain(&error))?;
    reader.end().map_err(|_| not_json("there is something after the JSON document"))?;
    Ok(request)
}

/// Brackets that are open at a time, outside of strings. Whether they match is for the parser to say.
fn check_depth(bytes: &[u8]) -> Result<(), ApiError> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for &byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            let message = format!("the body is nested more than {DEPTH_MAX} deep");
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "too_deep", message));
        }
    }
    Ok(())
}

fn not_json(why: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", format!("the body is not valid JSON: {why}"))
}

/// What serde said, in the terms of the interface.
fn explain(error: &serde_path_to_error::Error<serde_json::Error>) -> ApiError {
    let inner = error.inner();
    if inner.is_syntax() || inner.is_eof() {
        return not_json(&format!("line {}, column {}", inner.line(), inner.column()));
    }
    let path = Some(error.path().to_string()).filter(|path| !matches!(path.as_str(), "." | "?"));
    let said = inner.to_string();
    // serde's errors end with a position that means nothing to a client that never saw its own bytes.
    let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(before, _)| before);
    let named = said.split('`').nth(1);
    if said.starts_with("unknown field") {
        // The path of a field inside of a tagged object ends at the object.
        let param = match (path, named) {
            (Some(path), Some(named)) if !path.ends_with(named) => format!("{path}.{named}"),
            (path, named) => path.or(named.map(Into::into)).unwrap_or_default(),
        };
        let param = echo(&param);
        return ApiError::field(&param, "unknown_parameter", format!("unknown parameter: {param}"));
    }
    let (path, named) = (path.as_deref().map(echo), named.map(echo));
    if said.starts_with("missing field") {
        let named = named.unwrap_or_default();
        let param = path.map_or(named.clone(), |path| format!("{path}.{named}"));
        let message = format!("missing required parameter: {param}");
        return ApiError::field(&param, "missing_required_parameter", message);
    }
    if said.starts_with("duplicate field") {
        let param = path.or(named).unwrap_or_default();
        return ApiError::field(&param, "duplicate_parameter", format!("{param} is given twice"));
    }
    let code = if said.starts_with("invalid type") { "invalid_type" } else { "invalid_value" };
    match path {
        Some(param) => ApiError::field(&param, code, format!("{param}: {}", echo_long(said))),
        None => ApiError::new(StatusCode::BAD_REQUEST, code, echo_long(said)),
    }
}

/// Longest sentence of the parser that is passed on; it may repeat a string of the client's.
const SAID_CHARS_MAX: usize = 200;

fn echo_long(said: &str) -> String {
    said.chars().filter(|c| !c.is_control()).take(SAID_CHARS_MAX).collect()
}
