//! Where the final answer is in what a model wrote.

mod code;
mod json;
mod numbers;

pub use code::python;
pub use json::json;
pub use numbers::number;

use serde::{Deserialize, Serialize};

/// What sort of answer to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Extraction {
    /// The final answer, as words.
    Text,
    /// The final number.
    Number,
    /// The final letter.
    Choice {
        /// How many choices there are.
        choices: u8,
    },
}

/// An answer, and by which rule it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found<T> {
    /// The answer.
    pub value: T,
    /// Where it stood.
    pub rule: &'static str,
}

impl<T> Found<T> {
    pub(crate) fn map<U>(self, to: impl FnOnce(T) -> U) -> Found<U> {
        Found { value: to(self.value), rule: self.rule }
    }
}

/// Why no answer was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Nothing(pub String);

impl Extraction {
    /// What it looks for, in words.
    pub fn describe(self) -> String {
        match self {
            Self::Text => "the final words".into(),
            Self::Number => "the final number".into(),
            Self::Choice { choices } => {
                format!("the final letter out of A to {}", crate::verifier::last_letter(choices))
            }
        }
    }

    /// The answer in its normal form.
    ///
    /// # Errors
    /// There is none.
    pub fn apply(self, output: &str) -> Result<String, Nothing> {
        match self {
            Self::Text => text(output).map(|found| found.value),
            Self::Number => number(output).map(|found| found.value.to_string()),
            Self::Choice { choices } => choice(output, choices).map(|found| found.value.into()),
        }
    }
}

/// The final words.
///
/// # Errors
/// There are none.
pub fn text(output: &str) -> Result<Found<String>, Nothing> {
    let line = output.lines().rev().find(|line| !line.trim().is_empty());
    let line = line.ok_or_else(|| Nothing("the output is empty".into()))?;
    Ok(Found { value: words(line), rule: "the last line" })
}

/// A text as words.
pub fn words(text: &str) -> String {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
        .to_lowercase()
}

/// The final letter.
///
/// # Errors
/// There is none.
pub fn choice(output: &str, choices: u8) -> Result<Found<char>, Nothing> {
    let last = crate::verifier::last_letter(choices);
    let letter = output.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() == 1).next_back();
    let letter = letter.and_then(|word| word.chars().next()).filter(|c| ('A'..=last).contains(c));
    letter.map(|value| Found { value, rule: "the last letter" }).ok_or_else(|| Nothing("no letter".into()))
}
