//! JSON in an output.

use super::{Found, Nothing};
use serde_json::Value;

/// The JSON in an output.
///
/// # Errors
/// There is none.
pub fn json(output: &str) -> Result<Found<Value>, Nothing> {
    let value = serde_json::from_str(output.trim()).map_err(|e| Nothing(format!("no JSON: {e}")))?;
    Ok(Found { value, rule: "the output" })
}
