//! A regular expression that is checked when it is read and runs in linear time.

use super::{Invalid, Verdict, quoted};
use crate::task::length;
use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// Longest pattern, in bytes: a screenful.
pub const PATTERN_BYTES_MAX: usize = 4096;
/// Most memory of a compiled pattern, in bytes: a tenth of the library's default, since sets hold many.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// Most memory of the automaton built while matching, in bytes.
const DFA_BYTES_MAX: usize = 1 << 20;

/// A pattern in the syntax of the `regex` crate: no look-around, no back-references.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(Regex);

impl Pattern {
    /// Compile a pattern.
    ///
    /// # Errors
    /// It is too long, too large, or not a pattern.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        length("verifier.pattern", text, 1, PATTERN_BYTES_MAX)?;
        RegexBuilder::new(text)
            .size_limit(COMPILED_BYTES_MAX)
            .dfa_size_limit(DFA_BYTES_MAX)
            .build()
            .map(Self)
            .map_err(|e| {
                let remedy = "write a regular expression without look-around and back-references";
                Invalid::new("verifier.pattern", e.to_string(), remedy)
            })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(super) fn verify(&self, output: &str) -> Verdict {
        let Some(found) = self.0.captures(output.trim()) else {
            let why = format!("nothing matches /{}/", self.as_str());
            return Verdict { passed: false, answer: None, why };
        };
        let answer = found.get(1).or_else(|| found.get(0)).map_or("", |part| part.as_str());
        Verdict { passed: true, answer: Some(answer.into()), why: format!("{} matches", quoted(answer)) }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl TryFrom<String> for Pattern {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::new(&text)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.as_str().into()
    }
}
