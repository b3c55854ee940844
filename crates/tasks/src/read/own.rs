//! Our own JSONL: a line is a task, field by field; what is not known is refused, since a misspelt field would
//! silently change what is measured.

use super::Line;
use crate::{Task, TaskError};

pub(super) fn task(line: &Line<'_>) -> Result<Task, TaskError> {
    let mut json = serde_json::Deserializer::from_str(line.text);
    let task = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let field = e.path().to_string();
        let field = Some(field.as_str()).filter(|field| *field != ".");
        line.error(field, e.inner().to_string(), "see docs/tasks.md for what a task may hold")
    })?;
    json.end().map_err(|e| line.error(None, e.to_string(), "write one JSON object a line"))?;
    Ok(task)
}
