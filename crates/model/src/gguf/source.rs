//! The bounded cursor: the only place that reads bytes, and the only place where the file's word could become an
//! allocation.

use super::GgufError;
use std::fmt::Display;
use std::io::{BufReader, Read, Seek, SeekFrom};

/// Bytes read from the file at once: a metadata section of a few megabytes then takes some dozen system calls.
const BUFFER_BYTES: usize = 64 << 10;

/// A reader that knows how many bytes are left.
pub(super) struct Source<R> {
    inner: BufReader<R>,
    position: u64,
    file_bytes: u64,
    metadata_bytes_max: u64,
}

impl<R: Read + Seek> Source<R> {
    /// A source over `file_bytes` bytes, of which at most `metadata_bytes_max` from the start will be read.
    pub fn new(inner: R, file_bytes: u64, metadata_bytes_max: u64) -> Self {
        let buffer = BUFFER_BYTES.min(usize::try_from(file_bytes).unwrap_or(BUFFER_BYTES));
        Self { inner: BufReader::with_capacity(buffer, inner), position: 0, file_bytes, metadata_bytes_max }
    }

    /// Where the next byte comes from.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Make sure that `bytes` more may be read.
    fn claim(&self, bytes: u64, field: impl Display) -> Result<(), GgufError> {
        let left = self.file_bytes.saturating_sub(self.position);
        if bytes > left {
            return Err(GgufError::Truncated { field: field.to_string(), needed: bytes, left });
        }
        if self.position + bytes > self.metadata_bytes_max {
            return Err(GgufError::invalid(
                format!("the length of the metadata, up to {field},"),
                format!("{} bytes", self.position + bytes),
                format!("at most {}", self.metadata_bytes_max),
            ));
        }
        Ok(())
    }

    /// The next `N` bytes.
    pub fn bytes<const N: usize>(&mut self, field: impl Display + Copy) -> Result<[u8; N], GgufError> {
        let mut bytes = [0u8; N];
        self.fill(&mut bytes, field)?;
        Ok(bytes)
    }

    fn fill(&mut self, to: &mut [u8], field: impl Display + Copy) -> Result<(), GgufError> {
        self.claim(to.len() as u64, field)?;
        self.inner.read_exact(to).map_err(|source| GgufError::Io { field: field.to_string(), source })?;
        self.position += to.len() as u64;
        Ok(())
    }

    /// A 32-bit number.
    pub fn u32(&mut self, field: impl Display + Copy) -> Result<u32, GgufError> {
        self.bytes(field).map(u32::from_le_bytes)
    }

    /// A 64-bit number.
    pub fn u64(&mut self, field: impl Display + Copy) -> Result<u64, GgufError> {
        self.bytes(field).map(u64::from_le_bytes)
    }

    /// A count of things that each take at least `least_bytes`: refused above `most`, and where the file cannot
    /// hold that many.
    pub fn count(
        &mut self,
        most: u64,
        least_bytes: u64,
        field: impl Display + Copy,
    ) -> Result<u64, GgufError> {
        let count = self.u64(field)?;
        if count > most {
            return Err(GgufError::invalid(field, count, format!("at most {most}")));
        }
        self.claim(count.saturating_mul(least_bytes), field)?;
        Ok(count)
    }

    /// A string of at most `most` bytes into `to`, which is overwritten.
    pub fn string(
        &mut self,
        to: &mut Vec<u8>,
        most: u64,
        field: impl Display + Copy,
    ) -> Result<(), GgufError> {
        let length = self.string_length(most, field)?;
        // Both bounds were checked: this is the allocation.
        to.resize(length as usize, 0);
        self.fill(to, field)
    }

    /// Pass by a string of at most `most` bytes.
    pub fn skip_string(&mut self, most: u64, field: impl Display + Copy) -> Result<(), GgufError> {
        let length = self.string_length(most, field)?;
        self.skip(length, field)
    }

    fn string_length(&mut self, most: u64, field: impl Display + Copy) -> Result<u64, GgufError> {
        let length = self.u64(field)?;
        if length > most {
            return Err(GgufError::invalid(
                format!("the length of {field}"),
                length,
                format!("at most {most} bytes"),
            ));
        }
        self.claim(length, field)?;
        Ok(length)
    }

    /// Pass by this many bytes.
    pub fn skip(&mut self, bytes: u64, field: impl Display + Copy) -> Result<(), GgufError> {
        self.claim(bytes, field)?;
        // Within the file, so it fits the offset of any seek.
        self.inner
            .seek_relative(bytes as i64)
            .map_err(|source| GgufError::Io { field: field.to_string(), source })?;
        self.position += bytes;
        Ok(())
    }

    /// Go back to a position that was read before.
    pub fn rewind(&mut self, position: u64, field: impl Display) -> Result<(), GgufError> {
        self.inner
            .seek(SeekFrom::Start(position))
            .map_err(|source| GgufError::Io { field: field.to_string(), source })?;
        self.position = position;
        Ok(())
    }
}
