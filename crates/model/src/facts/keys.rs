//! Typed access to `{architecture}.*` entries, with errors that name the key.
//!
//! Types are as strict as in llama.cpp, which knows a whole number only as u32 and a fraction only as f32.

use super::FactsError;
use crate::gguf::{Gguf, Value, ValueType};
use std::ops::RangeInclusive;

/// The entries of one architecture.
pub(super) struct Keys<'a> {
    pub gguf: &'a Gguf,
    pub architecture: &'a str,
}

impl<'a> Keys<'a> {
    /// The full key, as errors show it.
    pub fn name(&self, key: &str) -> String {
        format!("`{}.{key}`", self.architecture)
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.gguf.metadata.get(&format!("{}.{key}", self.architecture))
    }

    pub fn missing(&self, key: &str) -> FactsError {
        FactsError::missing(self.name(key), format!("the architecture `{}` needs it", self.architecture))
    }

    /// A whole number within bounds, if it is there.
    pub fn number(&self, key: &str, bounds: RangeInclusive<u32>) -> Result<Option<u32>, FactsError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::U32(value)) if bounds.contains(value) => Ok(Some(*value)),
            Some(Value::U32(value)) => {
                let accepted = format!("from {} to {}", bounds.start(), bounds.end());
                Err(FactsError::invalid(self.name(key), value, accepted))
            }
            Some(other) => Err(self.wrong_type(key, other, "u32")),
        }
    }

    /// A whole number within bounds.
    pub fn need_number(&self, key: &str, bounds: RangeInclusive<u32>) -> Result<u32, FactsError> {
        self.number(key, bounds)?.ok_or_else(|| self.missing(key))
    }

    /// A finite fraction, if it is there.
    pub fn fraction(&self, key: &str) -> Result<Option<f32>, FactsError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::F32(value)) if value.is_finite() => Ok(Some(*value)),
            Some(Value::F32(value)) => Err(FactsError::invalid(self.name(key), value, "finite")),
            Some(other) => Err(self.wrong_type(key, other, "f32")),
        }
    }

    /// A text, if it is there.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, FactsError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong_type(key, other, "string")),
        }
    }

    /// A whole number for each layer, or one for all, if it is there.
    pub fn per_layer(&self, key: &str, layers: u32, most: u32) -> Result<Option<Vec<u32>>, FactsError> {
        let Some(Value::Array(array)) = self.get(key) else {
            return Ok(self.number(key, 0..=most)?.map(|value| vec![value; layers as usize]));
        };
        if !matches!(array.element, ValueType::U32 | ValueType::I32) {
            let found = format!("an array of {}", array.element);
            return Err(FactsError::invalid(self.name(key), found, "u32, or an array of u32 or i32"));
        }
        if array.values.len() != layers as usize {
            let found = format!("an array of {} elements", array.count);
            return Err(FactsError::invalid(
                self.name(key),
                found,
                format!("{layers} long: one for each layer"),
            ));
        }
        let one = |(layer, value): (usize, &Value)| {
            let value = match value {
                Value::U32(value) => i64::from(*value),
                Value::I32(value) => i64::from(*value),
                _ => -1,
            };
            u32::try_from(value).ok().filter(|value| *value <= most).ok_or_else(|| {
                let field = format!("element {layer} of {}", self.name(key));
                FactsError::invalid(field, value, format!("from 0 to {most}"))
            })
        };
        array.values.iter().enumerate().map(one).collect::<Result<_, _>>().map(Some)
    }

    /// Refuse any fraction of this architecture that is NaN or infinite: all of them enter the arithmetic.
    pub fn all_finite(&self) -> Result<(), FactsError> {
        let prefix = format!("{}.", self.architecture);
        for (key, value) in self.gguf.metadata.range(prefix.clone()..) {
            if !key.starts_with(&prefix) {
                break;
            }
            let broken = match value {
                Value::Array(array) => array.values.iter().any(|value| !finite(value)),
                value => !finite(value),
            };
            if broken {
                return Err(FactsError::invalid(format!("`{key}`"), "NaN or infinite", "finite"));
            }
        }
        Ok(())
    }

    fn wrong_type(&self, key: &str, found: &Value, accepted: &str) -> FactsError {
        FactsError::invalid(
            self.name(key),
            format!("of type {}", found.kind()),
            format!("of type {accepted}"),
        )
    }
}

fn finite(value: &Value) -> bool {
    match value {
        Value::F32(value) => value.is_finite(),
        Value::F64(value) => value.is_finite(),
        _ => true,
    }
}

/// A `general.*` or `tokenizer.*` text, if it is there.
pub(super) fn text<'a>(gguf: &'a Gguf, key: &str) -> Result<Option<&'a str>, FactsError> {
    match gguf.metadata.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(FactsError::invalid(
            format!("`{key}`"),
            format!("of type {}", other.kind()),
            "of type string",
        )),
    }
}
