//! A writer of GGUF files.
//!
//! [`GgufWriter`] knows the format and nothing of models: metadata in the order it was set, tensors in the order
//! they were declared, their data streamed so that a file may be larger than memory. [`tiny`] builds on it a
//! llama that is small enough for every test and still runs; [`synth`] models of published shapes whose weights are
//! random ones. `draw` makes the numbers for both, `vocabulary` the tokens.

mod draw;
pub mod synth;
pub mod tiny;
mod vocabulary;

pub use tiny::{TinyShape, WeightType, tiny_llama, write_tiny_llama};

use crate::gguf::{Array, Tensor, TensorType, Value};
use std::io::{self, Write};

/// Alignment of tensor data (`GGUF_DEFAULT_ALIGNMENT`).
const ALIGNMENT_BYTES: u64 = 32;

/// A GGUF file in the making: version 3, little-endian.
#[derive(Debug, Clone, Default)]
pub struct GgufWriter {
    metadata: Vec<(String, Value)>,
    tensors: Vec<Tensor>,
    data_bytes: u64,
}

impl GgufWriter {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Set a metadata entry, in the place of an earlier one of the same key.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) -> &mut Self {
        let (key, value) = (key.into(), value.into());
        match self.metadata.iter_mut().find(|(have, _)| *have == key) {
            Some(entry) => entry.1 = value,
            None => self.metadata.push((key, value)),
        }
        self
    }

    /// Declare a tensor of this shape (ggml's order: the contiguous dimension first).
    ///
    /// # Errors
    /// `InvalidInput` when a row is not whole blocks of the type, or the sizes cannot be counted.
    pub fn tensor(
        &mut self,
        name: impl Into<String>,
        shape: &[u64],
        kind: TensorType,
    ) -> io::Result<&mut Self> {
        let name = name.into();
        let invalid = || {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("tensor `{name}`: {shape:?} of {kind} cannot be"),
            )
        };
        let row =
            shape.first().filter(|row| row.is_multiple_of(kind.block_elements())).ok_or_else(invalid)?;
        let elements = shape[1..].iter().try_fold(*row, |product, dim| product.checked_mul(*dim));
        let size_bytes = elements.and_then(|elements| kind.bytes(elements)).ok_or_else(invalid)?;
        let end = size_bytes
            .checked_next_multiple_of(ALIGNMENT_BYTES)
            .and_then(|padded| padded.checked_add(self.data_bytes))
            .ok_or_else(invalid)?;
        self.tensors.push(Tensor {
            name,
            shape: shape.to_vec(),
            kind,
            offset_bytes: self.data_bytes,
            size_bytes,
        });
        self.data_bytes = end;
        Ok(self)
    }

    /// The tensors declared so far.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Bytes of all tensors, padding included.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Write metadata and tensor table, padded to where the data begin.
    ///
    /// # Errors
    /// Those of `out`; `InvalidInput` for an array that does not hold what it says.
    pub fn write_header(&self, out: &mut impl Write) -> io::Result<()> {
        let mut header = Vec::new();
        header.extend_from_slice(b"GGUF");
        header.extend_from_slice(&3u32.to_le_bytes());
        header.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        header.extend_from_slice(&(self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_string(&mut header, key);
            header.extend_from_slice(&value.kind().id().to_le_bytes());
            put_value(&mut header, value)?;
        }
        for tensor in &self.tensors {
            put_string(&mut header, &tensor.name);
            header.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
            tensor.shape.iter().for_each(|dim| header.extend_from_slice(&dim.to_le_bytes()));
            header.extend_from_slice(&tensor.kind.id().to_le_bytes());
            header.extend_from_slice(&tensor.offset_bytes.to_le_bytes());
        }
        let padded = header.len().next_multiple_of(ALIGNMENT_BYTES as usize);
        header.resize(padded, 0);
        out.write_all(&header)
    }

    /// Write the file. `fill` is called for each tensor in order and writes its data, exactly
    /// [`Tensor::size_bytes`] of them.
    ///
    /// # Errors
    /// Those of `out` and `fill`; `InvalidData` when `fill` wrote another number of bytes, `InvalidInput` for an
    /// array that does not hold what it says.
    pub fn write(
        &self,
        out: &mut impl Write,
        mut fill: impl FnMut(&Tensor, &mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        self.write_header(out)?;
        for tensor in &self.tensors {
            let mut counted = Counted { inner: out, written_bytes: 0 };
            fill(tensor, &mut counted)?;
            let written_bytes = counted.written_bytes;
            if written_bytes != tensor.size_bytes {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "tensor `{}`: {written_bytes} bytes written instead of {}",
                        tensor.name, tensor.size_bytes
                    ),
                ));
            }
            let padding = written_bytes.next_multiple_of(ALIGNMENT_BYTES) - written_bytes;
            out.write_all(&[0; ALIGNMENT_BYTES as usize][..padding as usize])?;
        }
        Ok(())
    }
}

fn put_string(to: &mut Vec<u8>, text: &str) {
    to.extend_from_slice(&(text.len() as u64).to_le_bytes());
    to.extend_from_slice(text.as_bytes());
}

fn put_value(to: &mut Vec<u8>, value: &Value) -> io::Result<()> {
    match value {
        Value::U8(value) => to.push(*value),
        Value::I8(value) => to.extend_from_slice(&value.to_le_bytes()),
        Value::U16(value) => to.extend_from_slice(&value.to_le_bytes()),
        Value::I16(value) => to.extend_from_slice(&value.to_le_bytes()),
        Value::U32(value) => to.extend_from_slice(&value.to_le_bytes()),
        Value::I32(value) => to.extend_from_slice(&value.to_le_bytes()),
        Value::F32(value) => to.extend_from_slice(&value.to_le_bytes()),
        Value::Bool(value) => to.push(u8::from(*value)),
        Value::String(text) => put_string(to, text),
        Value::U64(value) => to.extend_from_slice(&value.to_le_bytes()),
        Value::I64(value) => to.extend_from_slice(&value.to_le_bytes()),
        Value::F64(value) => to.extend_from_slice(&value.to_le_bytes()),
        Value::Array(array) => put_array(to, array)?,
    }
    Ok(())
}

fn put_array(to: &mut Vec<u8>, array: &Array) -> io::Result<()> {
    // A reader keeps long arrays as type and count only: those cannot be written back.
    let whole = array.count == array.values.len() as u64
        && array.values.iter().all(|value| value.kind() == array.element);
    if !whole {
        let says =
            format!("an array of {} {} that holds {} values", array.count, array.element, array.values.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, says));
    }
    to.extend_from_slice(&array.element.id().to_le_bytes());
    to.extend_from_slice(&array.count.to_le_bytes());
    array.values.iter().try_for_each(|value| put_value(to, value))
}

struct Counted<'a, W> {
    inner: &'a mut W,
    written_bytes: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.written_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_it_cannot_write() {
        let mut file = GgufWriter::new();
        assert!(file.tensor("half a block", &[16, 2], TensorType::Q4_0).is_err());
        assert!(file.tensor("too many", &[1 << 40, 1 << 40], TensorType::F32).is_err());
        assert!(file.tensor("no shape", &[], TensorType::F32).is_err());

        file.tensor("four bytes", &[1], TensorType::F32).unwrap();
        let short = file.write(&mut Vec::new(), |_, out| out.write_all(&[0; 3])).unwrap_err();
        assert!(short.to_string().contains("3 bytes written instead of 4"), "{short}");

        let mut file = GgufWriter::new();
        let array = Array { element: crate::gguf::ValueType::U8, count: 9, values: Vec::new() };
        file.set("not kept", Value::Array(array));
        assert!(file.write(&mut Vec::new(), |_, _| Ok(())).is_err());
    }
}
