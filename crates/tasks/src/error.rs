//! What can be wrong with a set of tasks. Every text names the place and what to do about it.

use std::{io, path::PathBuf};

/// Why a task set could not be had.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The file could not be read.
    #[error("{}: {source}; check the path and its permissions", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than is read.
    #[error("{}: more than {bytes_max} bytes; split it into several sets", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Most bytes read of a task file (after unpacking).
        bytes_max: u64,
    },
    /// A line is wrong.
    #[error("{}, line {line}{}: {why}; {remedy}", .path.display(), .field.as_ref().map(|f| format!(", field `{f}`")).unwrap_or_default())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from one.
        line: usize,
        /// The field, where one can be named.
        field: Option<String>,
        /// What is wrong.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// The file as a whole is wrong.
    #[error("{}: {why}; {remedy}", .path.display())]
    Set {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// A set could not be fetched.
    #[error("{what} could not be fetched: {why}; {remedy}")]
    Fetch {
        /// Which set.
        what: &'static str,
        /// Why.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
}
