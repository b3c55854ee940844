//! Readers of task files.

mod own;

use crate::{TaskError, TaskSet};
use std::path::Path;

/// Largest task file, unpacked, in bytes: two hundred bytes a prompt for the largest set.
pub const FILE_BYTES_MAX: u64 = 64 << 20;
/// Longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// How a task file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Our own JSONL, one task a line.
    Tasks,
    /// GSM8K's: `question`, and an `answer` that ends in `#### NUMBER`.
    Gsm8k,
    /// HumanEval's: `task_id`, `prompt`, `test`, `entry_point`; may be packed by gzip.
    HumanEval,
    /// Any JSONL of question and answer.
    Pairs,
}

pub(crate) fn file(path: &Path, _format: Option<Format>) -> Result<TaskSet, TaskError> {
    let text = std::fs::read_to_string(path).map_err(|source| TaskError::Io { path: path.into(), source })?;
    own::read(path, &text)
}
