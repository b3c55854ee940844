//! The one place where text from clients is looked at before it costs anything.

use crate::error::ApiError;

/// Check a text that a client sent.
///
/// # Errors
/// 400 about `param`: it contains control characters.
pub fn check(param: &str, text: &str) -> Result<(), ApiError> {
    let bad = text.chars().find(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r'));
    match bad {
        None => Ok(()),
        Some(c) => {
            let message = format!("{param} contains the control character U+{:04X}", c as u32);
            Err(ApiError::field(param, "unsuitable_text", message))
        }
    }
}
