//! Where the final answer is in what a model wrote.
//!
//! Models state answers in a handful of ways, and a judge that is vague about which one counts measures the judge.
//! So the places are looked at in a fixed order, the first that holds an answer of the wanted sort decides, and the
//! verdict names it:
//!
//! 1. what follows the last `</think>` is the output; a model's thoughts are not its answer;
//! 2. the last `\boxed{…}`;
//! 3. the last `####` with an answer right after it;
//! 4. the last sentence that states it: the word *answer* (for letters also *option* and *choice*), then within
//!    [`SUBJECT_BYTES_MAX`] bytes of the line a colon, an equals sign, *is*, *are*, *was*, *be* or *equals*; where
//!    nothing follows on the line, the next line counts;
//! 5. a sort's own last resort: [`number`], [`text`], [`choice`], [`json`], [`python`] say which.
//!
//! A place that names an answer and takes it back (a range, "5 or 6", "A or B") is an answer not given: nothing
//! further down is looked at. All of it is linear in the length of the output.

mod choices;
mod clean;
mod code;
mod json;
mod numbers;
mod places;
mod scan;
mod texts;

pub use choices::choice;
pub use code::python;
pub use json::json;
pub use numbers::number;
pub use places::{STATED_BYTES_MAX, SUBJECT_BYTES_MAX};
pub use texts::{text, words};

use crate::verifier::last_letter;
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

impl Nothing {
    /// There is nothing of the wanted sort, or nothing at all.
    fn of(what: &str, output: &str) -> Self {
        if output.trim().is_empty() {
            Self("the output is empty".into())
        } else {
            Self(format!("no {what} in the output"))
        }
    }
}

/// What a place holds.
#[derive(Debug, Clone, PartialEq)]
enum Held<T> {
    /// An answer.
    One(T),
    /// Something of the wanted sort that is no answer: a range, an alternative.
    Hedged(String),
    /// Nothing of the wanted sort.
    Nothing,
}

impl Extraction {
    /// What it looks for, in words.
    pub fn describe(self) -> String {
        match self {
            Self::Text => "the final words".into(),
            Self::Number => "the final number".into(),
            Self::Choice { choices } => format!("the final letter out of A to {}", last_letter(choices)),
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

/// Look at the places where answers are stated, in their order; the first that holds something decides.
fn stated<T>(
    output: &str,
    words: &[&str],
    mut look: impl FnMut(&str) -> Held<T>,
    mut right_after: impl FnMut(&str) -> Held<T>,
) -> Option<Result<Found<T>, Nothing>> {
    let decide = |rule: &'static str, held: Held<T>| match held {
        Held::One(value) => Some(Ok(Found { value, rule })),
        Held::Hedged(why) => Some(Err(Nothing(format!("{rule} {why}")))),
        Held::Nothing => None,
    };
    if let Some(decided) = places::boxed(output).and_then(|inside| decide("the box", look(inside))) {
        return Some(decided);
    }
    for rest in places::after_hashes(output) {
        if let Some(decided) = decide("what follows ####", right_after(rest)) {
            return Some(decided);
        }
    }
    places::statements(output, words).find_map(|statement| decide("the stated answer", look(statement)))
}
