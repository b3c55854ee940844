//! The file being written.
//!
//! Its hash is kept up to date with its end, so that a complete file is a verified one without a second read;
//! only a part that an earlier process left is read once. Beside it lies a note of where it came from, since
//! bytes of one version must never be continued with bytes of another.

use super::{Progress, PullError};
use crate::catalogue::Sha256Sum;
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// Bytes moved at once: large enough that system calls do not matter, small enough for any machine.
pub(super) const BLOCK_BYTES: usize = 256 << 10;
/// Most bytes of the note on a part's origin.
const ORIGIN_BYTES_MAX: u64 = 8 << 10;

/// Where a part's bytes came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    /// Which file of which source.
    pub id: String,
    /// The strong validator its server gave, if it gave one.
    pub etag: Option<String>,
}

pub(super) struct Part {
    path: PathBuf,
    origin_path: PathBuf,
    file: File,
    origin: Option<Origin>,
    /// Hash of the first `len` bytes.
    hasher: Sha256,
    len: u64,
    /// Bytes an earlier process left, not hashed yet.
    left_bytes: u64,
}

impl Part {
    pub fn open(root: &Path, name: &str) -> Result<Self, PullError> {
        let path = root.join(format!("{name}.gguf.part"));
        let origin_path = root.join(format!(".{name}.origin"));
        let opened = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let file = opened.map_err(|source| PullError::Shelf { path: path.clone(), source })?;
        let left_bytes =
            file.metadata().map_err(|source| PullError::Shelf { path: path.clone(), source })?.len();
        let origin = read_origin(&origin_path);
        Ok(Self { path, origin_path, file, origin, hasher: Sha256::new(), len: 0, left_bytes })
    }

    /// Bytes written and hashed.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The validator of the file the bytes are from.
    pub fn etag(&self) -> Option<&str> {
        self.origin.as_ref().and_then(|origin| origin.etag.as_deref())
    }

    /// How many bytes of `id` are here, ready to be continued.
    pub fn held(&self, id: &str) -> u64 {
        if self.origin.as_ref().is_some_and(|origin| origin.id == id) { self.len } else { 0 }
    }

    /// Take over what an earlier process left of `id`, if anything, and not more than `bytes_max`.
    pub fn resume(&mut self, id: &str, bytes_max: u64, progress: &mut dyn Progress) -> Result<(), PullError> {
        if self.left_bytes == 0 || self.origin.as_ref().is_none_or(|origin| origin.id != id) {
            return Ok(());
        }
        let left_bytes = std::mem::take(&mut self.left_bytes);
        if left_bytes > bytes_max {
            return self.restart();
        }
        progress.message(&format!("{left_bytes} bytes are here already: checking them"));
        self.try_io(|part| {
            part.file.seek(SeekFrom::Start(0))?;
            let mut block = vec![0; BLOCK_BYTES];
            loop {
                let n = part.file.read(&mut block)?;
                if n == 0 {
                    return Ok(());
                }
                part.hasher.update(&block[..n]);
                part.len += n as u64;
            }
        })
    }

    /// Empty it.
    pub fn restart(&mut self) -> Result<(), PullError> {
        (self.len, self.left_bytes, self.origin) = (0, 0, None);
        self.hasher = Sha256::new();
        // The note goes first: bytes without a note are dropped, a note must not vouch for others' bytes.
        match fs::remove_file(&self.origin_path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(PullError::Shelf { path: self.origin_path.clone(), source });
            }
            _ => {}
        }
        self.try_io(|part| {
            part.file.set_len(0)?;
            part.file.seek(SeekFrom::Start(0)).map(drop)
        })
    }

    /// Note where the bytes to come are from. Only right while it is empty.
    pub fn begin(&mut self, origin: Origin) -> Result<(), PullError> {
        let note = format!("{}\n{}\n", origin.id, origin.etag.as_deref().unwrap_or(""));
        fs::write(&self.origin_path, note)
            .map_err(|source| PullError::Shelf { path: self.origin_path.clone(), source })?;
        self.origin = Some(origin);
        Ok(())
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), PullError> {
        self.try_io(|part| part.file.write_all(bytes))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    pub fn sum(&self) -> Sha256Sum {
        Sha256Sum(self.hasher.clone().finalize().into())
    }

    pub fn starts_like_gguf(&mut self) -> Result<bool, PullError> {
        let mut magic = Vec::new();
        self.try_io(|part| {
            part.file.seek(SeekFrom::Start(0))?;
            (&part.file).take(4).read_to_end(&mut magic)?;
            part.file.seek(SeekFrom::Start(part.len)).map(drop)
        })?;
        Ok(magic == b"GGUF")
    }

    /// Move the complete file to its place, so that it is there after a power cut too.
    pub fn rename_to(&mut self, target: &Path) -> Result<(), PullError> {
        self.try_io(|part| {
            part.file.sync_all()?;
            fs::rename(&part.path, target)?;
            if let Some(folder) = target.parent() {
                File::open(folder)?.sync_all()?;
            }
            Ok(())
        })?;
        // A note without a part does no harm.
        let _ = fs::remove_file(&self.origin_path);
        Ok(())
    }

    /// Leave it for a later pull, or remove it where there is nothing in it.
    pub fn close(self) -> Result<(), PullError> {
        if self.len.max(self.left_bytes) == 0 {
            let _ = fs::remove_file(&self.origin_path);
            return fs::remove_file(&self.path)
                .map_err(|source| PullError::Shelf { path: self.path.clone(), source });
        }
        Ok(())
    }

    fn try_io(&mut self, work: impl FnOnce(&mut Self) -> std::io::Result<()>) -> Result<(), PullError> {
        work(self).map_err(|source| PullError::Shelf { path: self.path.clone(), source })
    }
}

fn read_origin(path: &Path) -> Option<Origin> {
    let mut note = String::new();
    File::open(path).ok()?.take(ORIGIN_BYTES_MAX).read_to_string(&mut note).ok()?;
    let mut lines = note.lines();
    let id = lines.next().filter(|id| !id.is_empty())?.to_owned();
    let etag = lines.next().filter(|etag| !etag.is_empty()).map(str::to_owned);
    Some(Origin { id, etag })
}
