//! Edits of a GGUF file's bytes, by the names of entries and tensors.

use qeil_model::gguf::{Limits, read_bytes};

/// A valid file to break.
pub struct Edit<'a> {
    pub base: &'a [u8],
    /// Where the tensor table ends.
    pub header_bytes: usize,
    /// Where tensor data begins.
    pub data_offset: usize,
}

/// Where the parts of a row of the tensor table begin.
pub struct Row {
    pub name: usize,
    pub dims: usize,
    pub shape: usize,
    pub kind: usize,
    pub offset: usize,
}

impl<'a> Edit<'a> {
    pub fn new(base: &'a [u8]) -> Self {
        let gguf = read_bytes(base, &Limits::default()).expect("the base is a valid file");
        let mut edit = Self { base, header_bytes: 0, data_offset: gguf.data_offset_bytes as usize };
        let last = gguf.tensors.last().expect("the base has tensors");
        edit.header_bytes = edit.tensor(&last.name).offset + 8;
        edit
    }

    fn find(&self, name: &str) -> usize {
        let pattern = string(name);
        let header = &self.base[..self.data_offset];
        let at = header.windows(pattern.len()).position(|window| window == pattern);
        at.unwrap_or_else(|| panic!("the base has no `{name}`")) + 8
    }

    /// Where a key begins.
    pub fn key_at(&self, key: &str) -> usize {
        self.find(key)
    }

    /// Where the type of an entry lies.
    pub fn kind_at(&self, key: &str) -> usize {
        self.find(key) + key.len()
    }

    /// Where the value of an entry begins.
    pub fn value_at(&self, key: &str) -> usize {
        self.kind_at(key) + 4
    }

    /// Bytes of a string entry from its type on.
    pub fn entry_bytes(&self, key: &str) -> usize {
        4 + 8 + self.number_at(self.value_at(key)) as usize
    }

    pub fn number_at(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.base[at..at + 8].try_into().unwrap())
    }

    /// The row of a tensor.
    pub fn tensor(&self, name: &str) -> Row {
        let start = self.find(name);
        let dims = start + name.len();
        let count = u32::from_le_bytes(self.base[dims..dims + 4].try_into().unwrap()) as usize;
        let kind = dims + 4 + 8 * count;
        Row { name: start, dims, shape: dims + 4, kind, offset: kind + 4 }
    }

    /// Overwrite bytes.
    pub fn put(&self, at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut file = self.base.to_vec();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    }

    /// Overwrite a key with another of the same length.
    pub fn rename(&self, key: &str, to: &str) -> Vec<u8> {
        assert_eq!(key.len(), to.len());
        self.put(self.key_at(key), to.as_bytes())
    }

    /// Replace bytes of the header, and pad it so that the data still begins aligned.
    pub fn splice(&self, at: usize, remove: usize, insert: &[u8]) -> Vec<u8> {
        let rest = &self.base[at + remove..self.header_bytes];
        let mut file = [&self.base[..at], insert, rest].concat();
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend_from_slice(&self.base[self.data_offset..]);
        file
    }

    /// Add an entry in front of all others.
    pub fn with_entry(&self, key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
        let entry = [&string(key)[..], &kind.to_le_bytes(), value].concat();
        let mut file = self.splice(24, 0, &entry);
        let entries = self.number_at(16) + 1;
        file[16..24].copy_from_slice(&entries.to_le_bytes());
        file
    }
}

/// A string as the format writes it.
pub fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// An array as the format writes it, its elements given as bytes.
pub fn array(element: u32, count: u64, bytes: &[u8]) -> Vec<u8> {
    [&element.to_le_bytes()[..], &count.to_le_bytes(), bytes].concat()
}
