//! The walk through the file: header, metadata, tensor table.
//!
//! ```text
//! "GGUF"  u32 version  u64 tensors  u64 entries
//! entries × { string key, u32 type, value }                  string: u64 bytes, then the bytes
//! tensors × { string name, u32 dims, dims × u64, u32 type, u64 offset }
//! padding to the alignment, then tensor data
//! ```

use super::source::Source;
use super::vocabulary::{self, Located};
use super::{Array, Gguf, GgufError, Limits, Tensor, TensorType, Value, ValueType};
use std::collections::{BTreeMap, HashSet};
use std::io::{Read, Seek};

/// Alignment where the file names none (`GGUF_DEFAULT_ALIGNMENT`).
const ALIGNMENT_DEFAULT_BYTES: u64 = 32;
/// Smallest alignment: `TENSOR_ALIGNMENT` of ggml, which aborts on a mapped buffer aligned to less.
const ALIGNMENT_MIN_BYTES: u64 = 32;
/// Largest alignment: the largest page of the systems ggml runs on.
const ALIGNMENT_MAX_BYTES: u64 = 64 << 10;
/// Most bytes of a tensor's name (`GGML_MAX_NAME`, less its terminating zero).
const TENSOR_NAME_BYTES_MAX: u64 = 63;
/// Most dimensions of a tensor (`GGML_MAX_DIMS`).
const DIMENSIONS_MAX: u32 = 4;
/// Fewest bytes of a metadata entry: length of the key, one byte of it, type, one byte of value.
const ENTRY_BYTES_MIN: u64 = 8 + 1 + 4 + 1;
/// Fewest bytes of a row of the tensor table: length of the name, one byte of it, one dimension, type, offset.
const TENSOR_ROW_BYTES_MIN: u64 = 8 + 1 + 4 + 8 + 4 + 8;
/// Charged to the budget for each entry besides its bytes: the map's node and the string's header.
const ENTRY_OVERHEAD_BYTES: u64 = 128;

/// Read everything before the tensor data.
pub(super) fn parse<R: Read + Seek>(from: R, file_bytes: u64, limits: &Limits) -> Result<Gguf, GgufError> {
    let mut walk = Walk {
        source: Source::new(from, file_bytes, limits.metadata_bytes),
        limits,
        kept_bytes_left: limits.kept_bytes,
        scratch: Vec::new(),
        located: Located::default(),
    };
    let version = walk.header()?;
    let tensors = walk.source.count(limits.tensors, TENSOR_ROW_BYTES_MIN, "the number of tensors")?;
    let entries = walk.source.count(limits.entries, ENTRY_BYTES_MIN, "the number of metadata entries")?;
    let metadata = walk.metadata(entries)?;
    let alignment_bytes = alignment(&metadata)?;
    let tensors = walk.tensors(tensors, alignment_bytes)?;
    let data_offset_bytes = walk.source.position().next_multiple_of(alignment_bytes);
    data_within_file(&tensors, data_offset_bytes, file_bytes)?;
    let vocabulary =
        vocabulary::read(&mut walk.source, &walk.located, &metadata, limits, walk.kept_bytes_left)?;
    Ok(Gguf { version, alignment_bytes, data_offset_bytes, file_bytes, metadata, tensors, vocabulary })
}

struct Walk<'a, R> {
    source: Source<R>,
    limits: &'a Limits,
    kept_bytes_left: u64,
    scratch: Vec<u8>,
    located: Located,
}

impl<R: Read + Seek> Walk<'_, R> {
    fn header(&mut self) -> Result<u32, GgufError> {
        let magic = self.source.bytes::<4>("the magic number")?;
        if &magic != b"GGUF" {
            return Err(GgufError::invalid(
                "the magic number",
                format!("`{}`", magic.escape_ascii()),
                "`GGUF`: this is no GGUF file",
            ));
        }
        let version = self.source.u32("the version")?;
        match version {
            2 | 3 => Ok(version),
            _ if version & 0xffff == 0 => Err(GgufError::invalid(
                "the version",
                format!("{version:#x}"),
                "2 or 3 in little-endian order: this file is big-endian",
            )),
            _ => Err(GgufError::invalid("the version", version, "2 or 3")),
        }
    }

    fn metadata(&mut self, entries: u64) -> Result<BTreeMap<String, Value>, GgufError> {
        let mut metadata = BTreeMap::new();
        for index in 0..entries {
            let name = format_args!("key {index} of the metadata");
            self.source.string(&mut self.scratch, self.limits.key_bytes, name)?;
            let key = utf8(&self.scratch, name)?.to_owned();
            if key.is_empty() {
                return Err(GgufError::invalid(name, "empty", "a name"));
            }
            self.keep(key.len() as u64 + ENTRY_OVERHEAD_BYTES, &key)?;
            let kind = self.value_type(&key)?;
            let value = self.value(kind, &key)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(GgufError::invalid(format!("key `{key}`"), "there twice", "unique"));
            }
        }
        Ok(metadata)
    }

    fn value_type(&mut self, key: &str) -> Result<ValueType, GgufError> {
        let id = self.source.u32(format_args!("the type of `{key}`"))?;
        ValueType::from_id(id)
            .ok_or_else(|| GgufError::invalid(format!("the type of `{key}`"), id, "a type id from 0 to 12"))
    }

    fn value(&mut self, kind: ValueType, key: &str) -> Result<Value, GgufError> {
        let field = format_args!("`{key}`");
        Ok(match kind {
            ValueType::U8 => Value::U8(u8::from_le_bytes(self.source.bytes(field)?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(self.source.bytes(field)?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(self.source.bytes(field)?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(self.source.bytes(field)?)),
            ValueType::U32 => Value::U32(u32::from_le_bytes(self.source.bytes(field)?)),
            ValueType::I32 => Value::I32(i32::from_le_bytes(self.source.bytes(field)?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(self.source.bytes(field)?)),
            ValueType::U64 => Value::U64(u64::from_le_bytes(self.source.bytes(field)?)),
            ValueType::I64 => Value::I64(i64::from_le_bytes(self.source.bytes(field)?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(self.source.bytes(field)?)),
            ValueType::Bool => match self.source.bytes(field)? {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                [other] => return Err(GgufError::invalid(field, format!("the bool {other}"), "0 or 1")),
            },
            ValueType::String => {
                self.source.string(&mut self.scratch, self.limits.string_bytes, field)?;
                self.keep(self.scratch.len() as u64, key)?;
                Value::String(utf8(&self.scratch, field)?.to_owned())
            }
            ValueType::Array => Value::Array(self.array(key, 1)?),
        })
    }

    fn array(&mut self, key: &str, depth: u32) -> Result<Array, GgufError> {
        if depth > self.limits.array_depth {
            return Err(GgufError::invalid(
                format_args!("the depth of the arrays in `{key}`"),
                depth,
                format!("at most {}", self.limits.array_depth),
            ));
        }
        let element = self.value_type(key)?;
        let field = format_args!("the number of elements of `{key}`");
        // The shortest string is its length; the shortest array is type and count.
        let least_bytes = element.bytes().unwrap_or(if element == ValueType::String { 8 } else { 12 });
        let count = self.source.count(u64::MAX, least_bytes, field)?;
        let mut array = Array { element, count, values: Vec::new() };
        if depth == 1 {
            self.located.note(key, &array, self.source.position());
        }
        if element == ValueType::Array {
            for _ in 0..count {
                self.array(key, depth + 1)?;
            }
        } else if count <= self.limits.kept_elements && depth == 1 {
            self.keep(count * size_of::<Value>() as u64, key)?;
            array.values.reserve_exact(count as usize);
            for _ in 0..count {
                array.values.push(self.value(element, key)?);
            }
        } else if let Some(bytes) = element.bytes() {
            // Cannot overflow: the count was checked against the bytes that are left.
            self.source.skip(count * bytes, format_args!("`{key}`"))?;
        } else {
            for index in 0..count {
                let field = format_args!("element {index} of `{key}`");
                self.source.skip_string(self.limits.string_bytes, field)?;
            }
        }
        Ok(array)
    }

    fn tensors(&mut self, count: u64, alignment_bytes: u64) -> Result<Vec<Tensor>, GgufError> {
        let mut tensors = Vec::with_capacity(count as usize);
        let mut offset_bytes = 0u64;
        for index in 0..count {
            let tensor = self.tensor(index, offset_bytes)?;
            offset_bytes = tensor
                .size_bytes
                .checked_next_multiple_of(alignment_bytes)
                .and_then(|padded| offset_bytes.checked_add(padded))
                .ok_or_else(|| {
                    GgufError::invalid(
                        format!("the size of tensor `{}`", tensor.name),
                        format!("{} bytes", tensor.size_bytes),
                        "small enough that all tensors together can be counted",
                    )
                })?;
            tensors.push(tensor);
        }
        let mut seen = HashSet::with_capacity(tensors.len());
        match tensors.iter().find(|tensor| !seen.insert(tensor.name.as_str())) {
            Some(twice) => {
                Err(GgufError::invalid(format!("tensor `{}`", twice.name), "there twice", "unique"))
            }
            None => Ok(tensors),
        }
    }

    fn tensor(&mut self, index: u64, expected_offset_bytes: u64) -> Result<Tensor, GgufError> {
        let field = format_args!("the name of tensor {index}");
        self.source.string(&mut self.scratch, TENSOR_NAME_BYTES_MAX, field)?;
        let name = utf8(&self.scratch, field)?.to_owned();
        if name.is_empty() {
            return Err(GgufError::invalid(field, "empty", "a name"));
        }

        let field = format_args!("the number of dimensions of tensor `{name}`");
        let dimensions = self.source.u32(field)?;
        if !(1..=DIMENSIONS_MAX).contains(&dimensions) {
            return Err(GgufError::invalid(field, dimensions, format!("from 1 to {DIMENSIONS_MAX}")));
        }
        let mut shape = Vec::with_capacity(dimensions as usize);
        let mut elements = 1u64;
        for dimension in 0..dimensions {
            let field = format_args!("dimension {dimension} of tensor `{name}`");
            let size = self.source.u64(field)?;
            // ggml counts elements in 64 bits with sign.
            elements = elements
                .checked_mul(size)
                .filter(|&product| product > 0 && product <= i64::MAX as u64)
                .ok_or_else(|| {
                    GgufError::invalid(field, size, "at least 1, and the product of all below 2^63")
                })?;
            shape.push(size);
        }

        let field = format_args!("the type of tensor `{name}`");
        let id = self.source.u32(field)?;
        let kind = TensorType::from_id(id)
            .ok_or_else(|| GgufError::invalid(field, id, "a type id that ggml knows"))?;
        if !shape[0].is_multiple_of(kind.block_elements()) {
            return Err(GgufError::invalid(
                format!("dimension 0 of tensor `{name}`"),
                shape[0],
                format!("a multiple of {}, the block of {kind}", kind.block_elements()),
            ));
        }
        let size_bytes = kind.bytes(elements).ok_or_else(|| {
            GgufError::invalid(
                format!("the size of tensor `{name}`"),
                format!("{elements} elements"),
                "countable in bytes",
            )
        })?;

        let field = format_args!("the offset of tensor `{name}`");
        let offset_bytes = self.source.u64(field)?;
        if offset_bytes != expected_offset_bytes {
            return Err(GgufError::invalid(
                field,
                offset_bytes,
                format!(
                    "{expected_offset_bytes}: data lies in the order of the table, padded to the alignment"
                ),
            ));
        }
        Ok(Tensor { name, shape, kind, offset_bytes, size_bytes })
    }

    /// Pay for something that is kept.
    fn keep(&mut self, bytes: u64, key: &str) -> Result<(), GgufError> {
        self.kept_bytes_left = self.kept_bytes_left.checked_sub(bytes).ok_or_else(|| {
            GgufError::invalid(
                format!("what is kept of the metadata, up to `{key}`,"),
                format!("more than {} bytes", self.limits.kept_bytes),
                "at most that: this is no model's metadata",
            )
        })?;
        Ok(())
    }
}

fn utf8(bytes: &[u8], field: impl std::fmt::Display) -> Result<&str, GgufError> {
    std::str::from_utf8(bytes).map_err(|error| {
        GgufError::invalid(field, format!("not UTF-8 from byte {} on", error.valid_up_to()), "UTF-8")
    })
}

fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, GgufError> {
    let key = "`general.alignment`";
    match metadata.get("general.alignment") {
        None => Ok(ALIGNMENT_DEFAULT_BYTES),
        Some(Value::U32(bytes)) => {
            let bytes = u64::from(*bytes);
            if bytes.is_power_of_two() && (ALIGNMENT_MIN_BYTES..=ALIGNMENT_MAX_BYTES).contains(&bytes) {
                Ok(bytes)
            } else {
                let accepted = format!("a power of two from {ALIGNMENT_MIN_BYTES} to {ALIGNMENT_MAX_BYTES}");
                Err(GgufError::invalid(key, bytes, accepted))
            }
        }
        Some(other) => Err(GgufError::invalid(key, format!("of type {}", other.kind()), "of type u32")),
    }
}

fn data_within_file(tensors: &[Tensor], data_offset_bytes: u64, file_bytes: u64) -> Result<(), GgufError> {
    let left = file_bytes.saturating_sub(data_offset_bytes);
    // Offsets rise, but only the last one's padding may be missing, so look at each.
    match tensors.iter().find(|tensor| tensor.offset_bytes.saturating_add(tensor.size_bytes) > left) {
        None => Ok(()),
        Some(tensor) => Err(GgufError::Truncated {
            field: format!("the data of tensor `{}`", tensor.name),
            needed: tensor.size_bytes,
            left: left.saturating_sub(tensor.offset_bytes),
        }),
    }
}
