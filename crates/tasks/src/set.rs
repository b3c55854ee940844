//! A set of tasks.
//!
//! A run of hours is only worth what its tasks are known by, so a set has a fingerprint: the SHA-256 over its tasks
//! in canonical JSON (keys sorted, no spaces, one task a line). The name and the file's layout are not in it; the
//! order of the tasks is, since budgets end runs early.

use crate::{embedded, task::Task};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Most tasks of a set: a hundred times GSM8K's test half.
pub const TASKS_MAX: usize = 100_000;

/// Tasks, in the order in which they are asked.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSet {
    /// What it is called in tables.
    pub name: String,
    /// The tasks; their ids are unique.
    pub tasks: Vec<Task>,
}

impl TaskSet {
    /// The set that comes with QEIL: 120 tasks in six kinds.
    pub fn embedded() -> Self {
        embedded::generate(embedded::SEED)
    }

    /// SHA-256 over the tasks in canonical JSON, as 64 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for task in &self.tasks {
            let mut text = String::new();
            // A task is made of texts, numbers and JSON: it can always be written as JSON.
            canonical(&serde_json::to_value(task).unwrap_or(Value::Null), &mut text);
            text.push('\n');
            hash.update(text.as_bytes());
        }
        hex(&hash.finalize())
    }
}

/// Two hexadecimal digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// JSON with sorted keys and no spaces.
pub(crate) fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.keys().collect();
            keys.sort_unstable();
            text.push('{');
            for (i, key) in keys.into_iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                let _ = write!(text, "{}:", Value::String(key.clone()));
                canonical(&map[key], text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                canonical(item, text);
            }
            text.push(']');
        }
        other => {
            let _ = write!(text, "{other}");
        }
    }
}
