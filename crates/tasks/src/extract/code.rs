//! Python in an output.

use super::{Found, Nothing};

/// The program of an output.
///
/// # Errors
/// There is none.
pub fn python(output: &str, prompt: &str, entry_point: &str) -> Result<Found<String>, Nothing> {
    if output.trim().is_empty() {
        return Err(Nothing("the output is empty".into()));
    }
    let whole = output.contains(&format!("def {entry_point}("));
    let value = if whole { output.into() } else { format!("{prompt}{output}") };
    Ok(Found { value, rule: "the output" })
}
