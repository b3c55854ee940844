//! Checksums of model files, computed beside the runtime: a large file takes seconds, in which Ctrl-C still counts.

use crate::error::MeasureError;
use qeil_model::catalogue::Sha256Sum;
use std::io;
use std::path::Path;

/// SHA-256 of a file, in hexadecimal.
///
/// # Errors
/// It cannot be read.
pub async fn checksum(path: &Path) -> Result<String, MeasureError> {
    let read = path.to_owned();
    let sum = tokio::task::spawn_blocking(move || Sha256Sum::of_file(&read)).await;
    let sum = sum.map_err(io::Error::other).and_then(|sum| sum);
    sum.map(|sum| sum.to_string()).map_err(|source| MeasureError::File { path: path.into(), source })
}
