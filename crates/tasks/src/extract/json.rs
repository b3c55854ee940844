//! The JSON in an output: the whole of it, or the last fenced block that is JSON, or the longest object or array that
//! stands in the prose.

use super::{Found, Nothing, code::fences, places::spoken};
use serde_json::Value;

/// Most places in prose where JSON is tried: each costs up to the length of the output.
const ATTEMPTS_MAX: usize = 16;

/// The JSON in an output.
///
/// # Errors
/// There is none, or it is nested deeper than 127 levels.
pub fn json(output: &str) -> Result<Found<Value>, Nothing> {
    let spoken = spoken(output);
    if let Ok(value) = serde_json::from_str(spoken.trim()) {
        return Ok(Found { value, rule: "the output" });
    }
    let blocks = fences(spoken);
    if let Some(value) =
        blocks.iter().rev().take(ATTEMPTS_MAX).find_map(|block| serde_json::from_str(block.trim()).ok())
    {
        return Ok(Found { value, rule: "the last fenced block" });
    }
    let mut longest: Option<(usize, Value)> = None;
    let mut at = 0;
    for _ in 0..ATTEMPTS_MAX {
        let Some(start) = spoken[at..].find(['{', '[']).map(|i| at + i) else { break };
        let mut values = serde_json::Deserializer::from_str(&spoken[start..]).into_iter::<Value>();
        let value = values.next();
        let length = values.byte_offset();
        at = start + 1;
        if let Some(Ok(value)) = value {
            at = start + length;
            if longest.as_ref().is_none_or(|(known, _)| length > *known) {
                longest = Some((length, value));
            }
        }
    }
    match longest {
        Some((_, value)) => Ok(Found { value, rule: "the longest object or array" }),
        None => Err(Nothing::of("JSON", output)),
    }
}
