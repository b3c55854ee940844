//! A machine made of files, whose files a test can also close, and make vanish between two reads.

use super::{Files, PlainFiles, Roots};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// A tree of files below a temporary folder.
#[derive(Debug)]
pub(crate) struct Tree {
    dir: TempDir,
    spoiled: Arc<Spoiled>,
}

/// Reads the tree, but for some files gives the error that the kernel would give.
#[derive(Debug, Default)]
struct Spoiled {
    errors: Mutex<HashMap<PathBuf, i32>>,
}

/// The error number for a file that is there for others.
const EACCES: i32 = 13;

impl Files for Spoiled {
    fn text(&self, path: &Path, bytes_max: u64) -> io::Result<String> {
        match self.errors.lock().unwrap().get(path) {
            Some(code) => Err(io::Error::from_raw_os_error(*code)),
            None => PlainFiles.text(path, bytes_max),
        }
    }

    fn entries(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        match self.errors.lock().unwrap().get(folder) {
            Some(code) => Err(io::Error::from_raw_os_error(*code)),
            None => PlainFiles.entries(folder),
        }
    }
}

impl Tree {
    /// A tree made of `(path below the root, content)`.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self { dir: TempDir::new().unwrap(), spoiled: Arc::default() };
        for (path, content) in files {
            tree.write(path, content);
        }
        tree
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        self.write_bytes(path, content.as_bytes());
    }

    pub(crate) fn write_bytes(&self, path: &str, content: &[u8]) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Takes a file or a folder away.
    pub(crate) fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
    }

    /// From now on reading `path` fails as for a user without the right to.
    pub(crate) fn deny(&self, path: &str) {
        self.fail(path, EACCES);
    }

    /// From now on reading `path` fails with this error number.
    pub(crate) fn fail(&self, path: &str, code: i32) {
        self.spoiled.errors.lock().unwrap().insert(self.path(path), code);
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots { files: self.spoiled.clone(), ..Roots::below(self.dir.path()) }
    }
}
