//! Download: sources in order, resumable, verified, renamed into place.

use crate::{catalogue::Entry, shelf::Shelf};
use std::path::PathBuf;

/// Told how a pull is going.
pub trait Progress {
    /// A stretch of work begins: `total_bytes` where known, of which some may be there already.
    fn start(&mut self, total_bytes: Option<u64>, done_bytes: u64);
    /// So many bytes more are done.
    fn advance(&mut self, bytes: u64);
    /// Something the user should read.
    fn message(&mut self, text: &str);
}

/// Why a pull failed.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// No source gave the file.
    #[error("{name} could not be pulled")]
    AllFailed {
        /// The model.
        name: String,
    },
}

/// Bring a model to the shelf and return its file. A model that is there already is left as it is.
///
/// # Errors
/// Why it could not be had, and what to do.
pub fn pull(entry: &Entry, _shelf: &Shelf, _progress: &mut dyn Progress) -> Result<PathBuf, PullError> {
    Err(PullError::AllFailed { name: entry.name.clone() })
}
