//! Weightless models: the shape of a published model, filled with random weights.
//!
//! How long a step takes, what it costs and how much memory it needs depend on the shape of a model and the format
//! of its weights, not on what the weights say. So a model whose weights are not at hand can be measured all the
//! same: the file written here has the tensors, types, vocabulary size and metadata of the real one. What it says
//! is gibberish, and the file says so: `qeil.weightless` is true in its metadata, and every result carries that mark.
//!
//! | module | job |
//! |---|---|
//! | `family` | published shapes, from `families.toml` |
//! | `tensors` | names, shapes and types of tensors, as llama.cpp expects and its quantiser chooses them |
//! | `metadata` | the architecture's entries |
//! | `tokens` | a working vocabulary of the true size |
//! | `blocks` | random blocks of each format |

mod blocks;
mod family;
mod metadata;
mod tensors;
mod tokens;

pub use family::{Family, GraniteScales, RopeLlama3, ShortConvolution, Tokenizer, families, family};

use super::GgufWriter;
use crate::gguf::{Tensor, TensorType};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Metadata entry that marks a file whose weights are random.
pub const WEIGHTLESS_KEY: &str = "qeil.weightless";
/// Bytes handed to the file at once: large enough that system calls do not count.
const BUFFER_BYTES: usize = 1 << 20;

/// Format of a weightless model's matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, non_camel_case_types, reason = "the names are the format's own and say it all")]
pub enum Quantisation {
    F32,
    F16,
    BF16,
    Q8_0,
    Q4_0,
    Q4_1,
}

impl Quantisation {
    /// All of them, largest first.
    pub const ALL: [Self; 6] = [Self::F32, Self::F16, Self::BF16, Self::Q8_0, Self::Q4_0, Self::Q4_1];

    /// Its name, as llama.cpp spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
        }
    }

    /// The quantisation of this name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|each| each.name().eq_ignore_ascii_case(name))
    }

    /// Type of most matrices.
    pub fn tensor_type(self) -> TensorType {
        match self {
            Self::F32 => TensorType::F32,
            Self::F16 => TensorType::F16,
            Self::BF16 => TensorType::BF16,
            Self::Q8_0 => TensorType::Q8_0,
            Self::Q4_0 => TensorType::Q4_0,
            Self::Q4_1 => TensorType::Q4_1,
        }
    }

    /// `general.file_type` (`enum llama_ftype`).
    fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q8_0 => 7,
            Self::BF16 => 32,
        }
    }
}

/// Why a weightless model could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SynthError {
    /// The built-in families are wrong.
    #[error("the built-in families of models are wrong: {0}")]
    Families(String),
    /// No family has this name.
    #[error("no family of models is called {name:?}; `qeil synth --list` shows all")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The sizes of a family do not fit each other or the format.
    #[error("the shape of {family} cannot be written: {source}")]
    Shape {
        /// The family.
        family: String,
        /// What does not fit.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {source}; is there room on the disk, and may you write there?", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A weightless model to write.
#[derive(Debug, Clone, PartialEq)]
pub struct Synth {
    /// Its shape.
    pub family: Family,
    /// Format of its matrices.
    pub quantisation: Quantisation,
    /// Seed of its weights: the same seed makes the same file.
    pub seed: u64,
}

impl Synth {
    /// Its name on the shelf: `GPT-2-124M-weightless-Q4_0`.
    pub fn name(&self) -> String {
        format!("{}-weightless-{}", self.family.name, self.quantisation.name())
    }

    /// Metadata and tensor table.
    ///
    /// # Errors
    /// The sizes do not fit each other or the format.
    pub fn layout(&self) -> Result<GgufWriter, SynthError> {
        let shape = |source| SynthError::Shape { family: self.family.name.clone(), source };
        let mut file = GgufWriter::new();
        metadata::set(&mut file, self);
        tokens::set(&mut file, &self.family.vocabulary).map_err(shape)?;
        tensors::declare(&mut file, &self.family, self.quantisation).map_err(shape)?;
        Ok(file)
    }

    /// Write it to `path`, which appears only when it is whole. `progress` is told of bytes written and of all
    /// bytes of weights.
    ///
    /// # Errors
    /// The shape or the file is at fault.
    pub fn create(&self, path: &Path, mut progress: impl FnMut(u64, u64)) -> Result<(), SynthError> {
        let layout = self.layout()?;
        let part = part_of(path);
        let written = (|| {
            let mut out = BufWriter::with_capacity(BUFFER_BYTES, File::create(&part)?);
            self.write(&layout, &mut out, &mut progress)?;
            out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&part, path)
        })();
        written.map_err(|source| {
            // What is left of it is of no use; if it cannot be removed, the error that matters is the first.
            let _ = fs::remove_file(&part);
            SynthError::Write { path: path.into(), source }
        })
    }

    /// Write `layout`, which is this model's.
    fn write(
        &self,
        layout: &GgufWriter,
        out: &mut impl Write,
        progress: &mut impl FnMut(u64, u64),
    ) -> io::Result<()> {
        let total_bytes = layout.data_bytes();
        let mut done_bytes = 0;
        progress(done_bytes, total_bytes);
        layout.write(out, |tensor, out| {
            self.fill(tensor, out, &mut |bytes| {
                done_bytes += bytes;
                progress(done_bytes, total_bytes);
            })
        })
    }

    fn fill(&self, tensor: &Tensor, out: &mut dyn Write, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
        match tensors::content(&self.family, tensor) {
            tensors::Content::Constant(value) => {
                let bytes = value.to_le_bytes().repeat(tensor.elements() as usize);
                out.write_all(&bytes)?;
                progress(bytes.len() as u64);
                Ok(())
            }
            tensors::Content::Values(values) => {
                let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
                out.write_all(&bytes)?;
                progress(bytes.len() as u64);
                Ok(())
            }
            tensors::Content::Random { deviation } => {
                blocks::write(tensor, self.seed, deviation, out, progress)
            }
        }
    }
}

/// Where a file is written until it is whole; the shelf takes it for no model.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}
