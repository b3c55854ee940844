//! Our own JSONL.

use crate::{Task, TaskError, TaskSet};
use std::path::Path;

pub(super) fn read(path: &Path, text: &str) -> Result<TaskSet, TaskError> {
    let mut tasks = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut json = serde_json::Deserializer::from_str(line);
        let task: Task = serde_path_to_error::deserialize(&mut json).map_err(|e| TaskError::Line {
            path: path.into(),
            line: i + 1,
            field: Some(e.path().to_string()).filter(|field| field != "."),
            why: e.inner().to_string(),
            remedy: "see docs/tasks.md".into(),
        })?;
        tasks.push(task);
    }
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or("tasks").into();
    Ok(TaskSet { name, tasks })
}
