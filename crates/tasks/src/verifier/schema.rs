//! A JSON schema that is checked when it is read, asks nobody for anything, and runs in linear time.
//!
//! References may only point into the schema itself (or to a published draft of JSON Schema): there is no resolver
//! for files or addresses. Patterns run on the automaton of the `regex` crate and never backtrack.

use super::{Invalid, Verdict, quoted};
use crate::{extract, set::canonical};
use jsonschema::{PatternOptions, Validator};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// Largest schema as JSON, in bytes.
pub const SCHEMA_BYTES_MAX: usize = 64 << 10;
/// Most memory of one compiled pattern of a schema, in bytes.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// A schema, compiled.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Schema {
    value: Value,
    validator: Arc<Validator>,
}

impl Schema {
    /// Compile a schema.
    ///
    /// # Errors
    /// It is too large, not a schema, or points outside itself.
    pub fn new(value: Value) -> Result<Self, Invalid> {
        let bytes = value.to_string().len();
        if bytes > SCHEMA_BYTES_MAX {
            let remedy = format!("write at most {SCHEMA_BYTES_MAX}");
            return Err(Invalid::new("verifier.schema", format!("{bytes} bytes"), remedy));
        }
        let patterns = PatternOptions::regex().size_limit(COMPILED_BYTES_MAX);
        let validator = jsonschema::options().offline().with_pattern_options(patterns).build(&value);
        let validator = validator.map_err(|e| {
            let remedy = "write a JSON schema that refers to nothing outside itself";
            Invalid::new("verifier.schema", e.to_string(), remedy)
        })?;
        Ok(Self { value, validator: Arc::new(validator) })
    }

    pub(super) fn verify(&self, output: &str) -> Verdict {
        let found = match extract::json(output) {
            Ok(found) => found,
            Err(nothing) => return nothing.into(),
        };
        let mut answer = String::new();
        canonical(&found.value, &mut answer);
        match self.validator.validate(&found.value) {
            Ok(()) => {
                Verdict { passed: true, answer: Some(answer), why: "the JSON satisfies the schema".into() }
            }
            Err(e) => {
                let place = e.instance_path().to_string();
                let place = if place.is_empty() { "the top".into() } else { place };
                let why = format!("at {place}: {}", quoted(&e.to_string()));
                Verdict { passed: false, answer: Some(answer), why }
            }
        }
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl TryFrom<Value> for Schema {
    type Error = Invalid;

    fn try_from(value: Value) -> Result<Self, Invalid> {
        Self::new(value)
    }
}

impl From<Schema> for Value {
    fn from(schema: Schema) -> Self {
        schema.value
    }
}
