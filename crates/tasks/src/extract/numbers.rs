//! The final number.

use super::{Found, Nothing};
use crate::number::Number;

/// The final number.
///
/// # Errors
/// There is none.
pub fn number(output: &str) -> Result<Found<Number>, Nothing> {
    let last =
        output.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-')).rev().find_map(Number::parse);
    last.map(|value| Found { value, rule: "the last number" }).ok_or_else(|| Nothing("no number".into()))
}
