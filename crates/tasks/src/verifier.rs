//! The judges. Each takes what a model wrote, finds the final answer in it and says whether it is right.
//!
//! A verdict carries three things: whether it passed, the answer in a normal form (what agreement counts votes by,
//! and what a person reads in a table), and why, in words. An output is never an error: it passes or it does not.
//! Only a verifier that is itself wrong (a pattern that does not compile, a schema that points elsewhere) is an
//! error, and that is found when the task is read.
//!
//! Outputs are hostile. Beyond [`OUTPUT_BYTES_MAX`] nothing is looked at; below, all work is linear in the length:
//! extraction passes over the text a fixed number of times, patterns run on an automaton that never backtracks.
//!
//! | verifier | passes |
//! |---|---|
//! | exact | the output, without white space at its ends, is the answer |
//! | text | the final answer is one of the answers, as words |
//! | number | the final number is within the tolerance |
//! | choice | the final letter is the answer |
//! | regex | the pattern is found |
//! | json_schema | the JSON in it satisfies the schema |
//! | python | the code in it passes unit tests, in the sandbox |
//! | agreement | never by itself: it extracts the answer, and votes are counted elsewhere |

mod pattern;
mod python;
mod schema;

pub use pattern::{PATTERN_BYTES_MAX, Pattern};
pub use python::{CODE_BYTES_MAX, Python};
pub use schema::{SCHEMA_BYTES_MAX, Schema};

use crate::{
    extract::{self, Extraction},
    number::Number,
    sandbox::Sandbox,
    task::length,
};
use serde::{Deserialize, Serialize};

/// Longest output that is judged, in bytes: what 64 Ki tokens of English make. A longer one has run away.
pub const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// Longest expected answer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Most accepted spellings of an answer.
pub const ANSWERS_MAX: usize = 64;
/// Most letters of a choice: the alphabet.
pub const CHOICES_MAX: u8 = 26;
/// Longest piece of an answer quoted in a verdict, in characters.
const QUOTE_CHARS_MAX: usize = 80;

/// How an answer is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Verifier {
    /// The whole output, without white space at its ends, is the answer.
    Exact {
        /// The answer.
        answer: String,
    },
    /// The final answer is one of these, as words: case, punctuation and spacing do not count.
    Text {
        /// Accepted spellings.
        answers: Vec<String>,
    },
    /// The final number is the answer, or close enough.
    Number {
        /// The answer.
        answer: Number,
        /// How far off it may be, in the unit of the answer.
        #[serde(default, skip_serializing_if = "is_zero")]
        absolute: f64,
        /// How far off it may be, as a share of the answer.
        #[serde(default, skip_serializing_if = "is_zero")]
        relative: f64,
    },
    /// The final letter is the answer.
    Choice {
        /// The letter, `A` to the last choice.
        answer: char,
        /// How many choices there are.
        #[serde(default = "four")]
        choices: u8,
    },
    /// The pattern is found anywhere in the output; `^` and `$` are its ends, without white space.
    Regex {
        /// The pattern. What its first group matched is the answer, or else the whole match.
        pattern: Pattern,
    },
    /// The JSON in the output satisfies the schema.
    JsonSchema {
        /// The schema.
        schema: Schema,
    },
    /// The code in the output passes unit tests.
    Python(Python),
    /// There is no known answer: the most frequent one is taken, elsewhere. This only extracts.
    Agreement {
        /// What the answers are.
        extract: Extraction,
    },
}

/// What a verifier found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the output solves the task.
    pub passed: bool,
    /// The final answer in its normal form; equal answers have equal texts. None where none was found.
    pub answer: Option<String>,
    /// Why, in words.
    pub why: String,
}

/// What a verifier may use.
#[derive(Debug, Clone, Copy, Default)]
pub struct Judge<'a> {
    /// Where code runs; without it, code does not pass.
    pub sandbox: Option<&'a Sandbox>,
}

/// A part of a task that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {why}; {remedy}")]
pub struct Invalid {
    /// Which field.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

impl Invalid {
    pub(crate) fn new(field: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into(), remedy: remedy.into() }
    }
}

impl Verifier {
    /// Whether it runs code that the model wrote.
    pub fn needs_sandbox(&self) -> bool {
        matches!(self, Self::Python(_))
    }

    /// Whether it knows no answer and only extracts one to be voted on.
    pub fn is_agreement(&self) -> bool {
        matches!(self, Self::Agreement { .. })
    }

    /// What it accepts, in words.
    pub fn describe(&self) -> String {
        match self {
            Self::Exact { answer } => format!("exactly {}", quoted(answer)),
            Self::Text { answers } => {
                let all: Vec<_> = answers.iter().map(|answer| quoted(answer)).collect();
                format!("the final answer {}, whatever its case and punctuation", all.join(" or "))
            }
            Self::Number { answer, absolute, relative } => {
                let mut text = format!("the final number {answer}");
                if *absolute > 0.0 {
                    text += &format!(" ± {absolute}");
                }
                if *relative > 0.0 {
                    text += &format!(" ± {} %", relative * 100.0);
                }
                text
            }
            Self::Choice { answer, choices } => {
                format!("the letter {answer} out of A to {}", last_letter(*choices))
            }
            Self::Regex { pattern } => format!("a match of /{}/", pattern.as_str()),
            Self::JsonSchema { .. } => "JSON that satisfies the schema".into(),
            Self::Python(python) => {
                format!("Python code whose {} passes the unit tests in the sandbox", python.entry_point)
            }
            Self::Agreement { extract } => format!("{} that most samples agree on", extract.describe()),
        }
    }

    /// Judge an output. Time is linear in its length (unit tests take what they take).
    pub fn verify(&self, output: &str, judge: &Judge<'_>) -> Verdict {
        if output.len() > OUTPUT_BYTES_MAX {
            return Verdict {
                passed: false,
                answer: None,
                why: format!(
                    "{} bytes of output, more than the {OUTPUT_BYTES_MAX} that are judged",
                    output.len()
                ),
            };
        }
        match self {
            Self::Exact { answer } => exact(output, answer),
            Self::Text { answers } => text(output, answers),
            Self::Number { answer, absolute, relative } => number(output, answer, *absolute, *relative),
            Self::Choice { answer, choices } => choice(output, *answer, *choices),
            Self::Regex { pattern } => pattern.verify(output),
            Self::JsonSchema { schema } => schema.verify(output),
            Self::Python(python) => python.verify(output, judge),
            Self::Agreement { extract } => match extract.apply(output) {
                Ok(answer) => {
                    let why = format!("votes for {}", quoted(&answer));
                    Verdict { passed: false, answer: Some(answer), why }
                }
                Err(none) => none.into(),
            },
        }
    }

    /// Whether every part keeps its bounds.
    ///
    /// # Errors
    /// The first part that does not.
    pub fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Exact { answer } => length("verifier.answer", answer, 0, ANSWER_BYTES_MAX),
            Self::Text { answers } => {
                if !(1..=ANSWERS_MAX).contains(&answers.len()) {
                    let why = format!("{} answers", answers.len());
                    return Err(Invalid::new("verifier.answers", why, format!("write 1 to {ANSWERS_MAX}")));
                }
                answers.iter().try_for_each(|answer| length("verifier.answers", answer, 1, ANSWER_BYTES_MAX))
            }
            Self::Number { absolute, relative, .. } => {
                for (field, tolerance) in [("absolute", absolute), ("relative", relative)] {
                    if !(tolerance.is_finite() && *tolerance >= 0.0) {
                        let field = format!("verifier.{field}");
                        return Err(Invalid::new(field, format!("{tolerance}"), "write zero or more"));
                    }
                }
                Ok(())
            }
            Self::Choice { answer, choices } => {
                check_choices(*choices)?;
                if ('A'..=last_letter(*choices)).contains(answer) {
                    return Ok(());
                }
                let remedy = format!("write A to {}", last_letter(*choices));
                Err(Invalid::new("verifier.answer", format!("{answer:?}"), remedy))
            }
            Self::Python(python) => python.check(),
            Self::Agreement { extract: Extraction::Choice { choices } } => check_choices(*choices),
            Self::Regex { .. } | Self::JsonSchema { .. } | Self::Agreement { .. } => Ok(()),
        }
    }
}

fn check_choices(choices: u8) -> Result<(), Invalid> {
    if (2..=CHOICES_MAX).contains(&choices) {
        return Ok(());
    }
    Err(Invalid::new("verifier.choices", format!("{choices}"), format!("write 2 to {CHOICES_MAX}")))
}

/// The letter of the last of some choices.
pub(crate) fn last_letter(choices: u8) -> char {
    char::from(b'A' + choices.clamp(1, CHOICES_MAX) - 1)
}

fn exact(output: &str, answer: &str) -> Verdict {
    let (output, answer) = (output.trim(), answer.trim());
    let passed = output == answer;
    let why =
        if passed { "is the answer".into() } else { format!("{} is not {}", quoted(output), quoted(answer)) };
    Verdict { passed, answer: Some(output.into()), why }
}

fn text(output: &str, answers: &[String]) -> Verdict {
    match extract::text(output) {
        Ok(found) => {
            let passed = answers.iter().any(|answer| extract::words(answer) == found.value);
            verdict(passed, found, &answers.join("\" or \""))
        }
        Err(none) => none.into(),
    }
}

fn number(output: &str, answer: &Number, absolute: f64, relative: f64) -> Verdict {
    match extract::number(output) {
        Ok(found) => {
            let passed = found.value.is_near(answer, absolute, relative);
            verdict(passed, found.map(|number| number.to_string()), &answer.to_string())
        }
        Err(none) => none.into(),
    }
}

fn choice(output: &str, answer: char, choices: u8) -> Verdict {
    match extract::choice(output, choices) {
        Ok(found) => verdict(found.value == answer, found.map(String::from), &answer.to_string()),
        Err(none) => none.into(),
    }
}

fn verdict(passed: bool, found: extract::Found<String>, expected: &str) -> Verdict {
    let why = if passed {
        format!("{} {} is right", found.rule, quoted(&found.value))
    } else {
        format!("{} {} is not {}", found.rule, quoted(&found.value), quoted(expected))
    };
    Verdict { passed, answer: Some(found.value), why }
}

impl From<extract::Nothing> for Verdict {
    fn from(nothing: extract::Nothing) -> Self {
        Self { passed: false, answer: None, why: nothing.to_string() }
    }
}

/// A text in quotes, cut where it is long.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde demands this signature")]
fn is_zero(tolerance: &f64) -> bool {
    *tolerance == 0.0
}

fn four() -> u8 {
    4
}
