//! The one place where text from clients is looked at before it costs anything.
//!
//! What a text may not be is the control loop's to say (`qeil_control::input`): characters that hide or reorder text,
//! walls of repetition. Spellings of control tokens are not refused here: people write about them, and the chat template
//! sees to it that they stay text.

use crate::error::ApiError;
use qeil_control::event::Refusal;
use qeil_control::input::check_text;

/// Check a text that a client sent.
///
/// # Errors
/// 400 about `param`: it is too long, or nothing that a person writes.
pub fn check(param: &str, text: &str) -> Result<(), ApiError> {
    check_text(text, &[]).map_err(|refusal| match refusal {
        Refusal::Invalid(why) => ApiError::field(param, "unsuitable_text", format!("{param}: {why}")),
        other => ApiError { param: Some(param.into()), ..other.into() },
    })
}
