//! Who may ask: nobody is asked for a name, or everybody for a key.
//!
//! Keys stand in a file, one a line. Only their digests are kept, and a key is found by comparing digests: how long that
//! takes says nothing about a key.

use crate::limits::{KEY_CHARS_MIN, KEY_FILE_BYTES_MAX};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The keys that are accepted.
#[derive(Clone)]
pub struct Keys(Vec<[u8; 32]>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the file of API keys: {0}")]
    Read(#[from] std::io::Error),
    /// It is too long.
    #[error("the file of API keys has more than {KEY_FILE_BYTES_MAX} bytes")]
    TooLong,
    /// A key is too short or has characters that no header can carry.
    #[error("line {0} of the file of API keys: a key has at least {KEY_CHARS_MIN} visible ASCII characters")]
    Unusable(usize),
    /// There is none.
    #[error("the file of API keys holds no key; write one a line")]
    Empty,
}

impl Keys {
    /// From a file. Empty lines and lines that begin with `#` are passed over.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let mut text = String::new();
        let read = File::open(path)?.take(KEY_FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        if read as u64 > KEY_FILE_BYTES_MAX {
            return Err(KeyError::TooLong);
        }
        Self::parse(&text)
    }

    /// From the text of such a file.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let digest = |(i, line): (usize, &str)| {
            let usable = line.len() >= KEY_CHARS_MIN && line.bytes().all(|byte| byte.is_ascii_graphic());
            if usable { Ok(digest(line)) } else { Err(KeyError::Unusable(i + 1)) }
        };
        let keys = lines.map(digest).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(KeyError::Empty) } else { Ok(Self(keys)) }
    }

    /// Which of the keys this is: its place in the file.
    pub fn find(&self, key: &str) -> Option<usize> {
        let digest = digest(key);
        self.0.iter().position(|known| *known == digest)
    }
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_keys_is_read_line_by_line() {
        let keys = Keys::parse("# first\n\n  0123456789abcdef  \nfedcba9876543210\n").unwrap();
        assert_eq!(keys.find("0123456789abcdef"), Some(0));
        assert_eq!(keys.find("fedcba9876543210"), Some(1));
        for wrong in ["", "0123456789abcde", "0123456789abcdef ", "# first"] {
            assert_eq!(keys.find(wrong), None, "{wrong:?}");
        }
        for bad in ["", "# only a comment\n", "short\n", "0123456789 abcdef\n", "0123456789abcdéf\n"] {
            assert!(Keys::parse(bad).is_err(), "{bad:?}");
        }
        assert!(!format!("{keys:?}").contains("0123"));
    }
}
