//! The documents that `--json` prints: stable keys, units in their names.
//!
//! A key is never renamed or given another unit; new ones may be added. Figures come with their provenance where it
//! is not plain: times are always read from monotonic clocks, energy carries its label and source.

use crate::survey::DeviceOutcome;
use qeil_engine::request::Sampling;
use qeil_engine::spec::{DeviceEntry, DeviceKind};
use qeil_hardware::cpu::Cpu;
use qeil_hardware::energy::EnergyMeter;
use qeil_model::catalogue::{Catalogue, DEFAULT_MODEL};
use qeil_model::gguf::TensorType;
use qeil_model::shelf::{Shelf, ShelfError};
use qeil_model::write::synth::Family;
use qeil_model::{ModelFacts, inspect};
use qeil_units::Provenance;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Most samples a worker holds at once, for the memory figure of `inspect`: what `qeil run` draws by default.
pub const INSPECT_SEQUENCES: u64 = 8;

/// What `qeil run --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunReport {
    /// Version of QEIL.
    pub qeil_version: String,
    /// The model.
    pub model: ModelSummary,
    /// What was asked.
    pub question: QuestionSummary,
    /// The processor.
    pub cpu: Cpu,
    /// One entry for each device.
    pub devices: Vec<DeviceOutcome>,
}

/// A model file in brief.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelSummary {
    /// The file.
    pub path: PathBuf,
    /// Architecture.
    pub architecture: String,
    /// Parameters.
    pub parameters: u64,
    /// Quantisation.
    pub quantisation: String,
    /// Bytes of all tensors.
    pub weight_bytes: u64,
    /// Whether its weights are random ones: figures hold for its shape, answers mean nothing.
    pub weightless: bool,
}

impl ModelSummary {
    /// The brief of `facts`, read from `path`.
    pub fn new(path: &Path, facts: &ModelFacts) -> Self {
        Self {
            path: path.into(),
            architecture: facts.architecture.clone(),
            parameters: facts.parameters,
            quantisation: facts.quantisation.clone(),
            weight_bytes: facts.weight_bytes,
            weightless: facts.weightless,
        }
    }
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QuestionSummary {
    /// The user's message.
    pub prompt: String,
    /// The system message.
    pub system: Option<String>,
    /// Tokens of both, rendered through the chat template.
    pub prompt_tokens: u32,
    /// Samples.
    pub samples: u32,
    /// Most tokens of each.
    pub tokens_max: u32,
    /// How tokens were chosen.
    pub sampling: Sampling,
}

/// What `qeil devices --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DevicesReport {
    /// Version of QEIL.
    pub qeil_version: String,
    /// The processor.
    pub cpu: Cpu,
    /// How energy of the processor packages is had.
    pub energy: EnergySummary,
    /// The devices.
    pub devices: Vec<DeviceSummary>,
}

/// Where energy figures come from on this machine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EnergySummary {
    /// Their label.
    pub provenance: Provenance,
    /// Which counter, or which model with which figures.
    pub source: String,
    /// Why they are not measured, and what can be done.
    pub remark: Option<String>,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceSummary {
    /// What `--device` takes.
    pub name: String,
    /// The driver's words.
    pub description: String,
    /// `cpu`, `gpu`, `integrated_gpu` or `accelerator`.
    pub kind: &'static str,
    /// Memory that the driver reports, in bytes.
    pub memory_bytes: Option<u64>,
    /// Of it free, in bytes; missing for the CPU, where ggml repeats the total.
    pub memory_free_bytes: Option<u64>,
}

impl DevicesReport {
    /// Put it together.
    pub fn new(devices: Vec<DeviceEntry>, cpu: Cpu, meter: &EnergyMeter) -> Self {
        let kind = |kind| match kind {
            DeviceKind::Cpu => "cpu",
            DeviceKind::Gpu => "gpu",
            DeviceKind::IntegratedGpu => "integrated_gpu",
            DeviceKind::Accelerator => "accelerator",
        };
        let summary = |device: DeviceEntry| DeviceSummary {
            kind: kind(device.kind),
            name: device.name,
            description: device.description,
            memory_bytes: device.memory_bytes,
            memory_free_bytes: device.memory_free_bytes.filter(|_| device.kind != DeviceKind::Cpu),
        };
        Self {
            qeil_version: crate::VERSION.into(),
            cpu,
            energy: EnergySummary {
                provenance: meter.provenance(),
                source: meter.source(),
                remark: meter.missing().map(ToString::to_string),
            },
            devices: devices.into_iter().map(summary).collect(),
        }
    }
}

/// What `qeil models --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelsReport {
    /// Folder of pulled models.
    pub shelf: PathBuf,
    /// Name that is used where none is given.
    pub default: String,
    /// The catalogue in its order, then what else is on the shelf.
    pub models: Vec<ModelRow>,
}

/// One model that has a name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelRow {
    /// Its name.
    pub name: String,
    /// Architecture; missing where a file on the shelf cannot be read.
    pub architecture: Option<String>,
    /// Parameters.
    pub parameters: Option<u64>,
    /// Quantisation.
    pub quantisation: Option<String>,
    /// Licence, as the catalogue states it.
    pub licence: Option<String>,
    /// Bytes of the file: of the one that is here, else as the catalogue states it.
    pub file_bytes: Option<u64>,
    /// Whether its weights are random ones (`qeil synth`).
    pub weightless: bool,
    /// Whether it is here.
    pub present: bool,
    /// Its file, if it is here.
    pub path: Option<PathBuf>,
    /// Why a file that is here cannot be used.
    pub unusable: Option<String>,
}

impl ModelsReport {
    /// Look at the catalogue and the shelf.
    ///
    /// # Errors
    /// The shelf cannot be read.
    pub fn new(catalogue: &Catalogue, shelf: &Shelf) -> Result<Self, ShelfError> {
        let mut shelved = shelf.list()?;
        let mut models = Vec::new();
        for entry in catalogue.entries() {
            let at = shelved.iter().position(|m| m.name.eq_ignore_ascii_case(&entry.name));
            let here = at.map(|i| shelved.remove(i));
            models.push(ModelRow {
                name: entry.name.clone(),
                architecture: Some(entry.architecture.clone()),
                parameters: Some(entry.parameters),
                quantisation: Some(entry.quantisation.clone()),
                licence: Some(entry.licence.name.clone()),
                file_bytes: here.as_ref().map(|m| m.bytes).or(entry.bytes),
                weightless: false,
                present: here.is_some(),
                path: here.map(|m| m.path),
                unusable: None,
            });
        }
        for other in shelved {
            let facts = inspect(&other.path);
            let known = facts.as_ref().ok();
            models.push(ModelRow {
                name: other.name,
                architecture: known.map(|f| f.architecture.clone()),
                parameters: known.map(|f| f.parameters),
                quantisation: known.map(|f| f.quantisation.clone()),
                licence: None,
                file_bytes: Some(other.bytes),
                weightless: known.is_some_and(|f| f.weightless),
                present: true,
                path: Some(other.path),
                unusable: facts.err().map(|error| error.to_string()),
            });
        }
        Ok(Self { shelf: shelf.root().into(), default: DEFAULT_MODEL.into(), models })
    }
}

/// What `qeil inspect --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InspectReport {
    /// The file.
    pub path: PathBuf,
    /// What it says.
    pub facts: ModelFacts,
    /// Context that memory is reckoned for, in tokens.
    pub context_tokens: u64,
    /// Bytes of keys and values for it, as 16-bit numbers.
    pub kv_bytes: u64,
    /// Sequences that recurrent state is reckoned for.
    pub sequences: u64,
    /// Bytes of their recurrent state; missing where we do not know the architecture's.
    pub recurrent_state_bytes: Option<u64>,
    /// Weights, keys and values, and recurrent state together: the least a worker needs, without scratch space.
    pub memory_bytes: Option<u64>,
}

impl InspectReport {
    /// Reckon memory for `context_tokens`, or what the model was trained for.
    pub fn new(path: &Path, facts: ModelFacts, context_tokens: Option<u32>) -> Self {
        let context_tokens = u64::from(context_tokens.unwrap_or(facts.context_train_tokens));
        let kv_bytes = facts.kv_bytes(context_tokens, TensorType::F16);
        let recurrent_state_bytes = if facts.recurrent {
            facts.recurrent_state_bytes.map(|each| each.saturating_mul(INSPECT_SEQUENCES))
        } else {
            Some(0)
        };
        let memory_bytes = recurrent_state_bytes
            .map(|recurrent| facts.weight_bytes.saturating_add(kv_bytes).saturating_add(recurrent));
        Self {
            path: path.into(),
            facts,
            context_tokens,
            kv_bytes,
            sequences: INSPECT_SEQUENCES,
            recurrent_state_bytes,
            memory_bytes,
        }
    }
}

/// One shape that `qeil synth --list --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SynthFamily {
    /// Its name.
    pub name: String,
    /// Architecture.
    pub architecture: String,
    /// Parameters as published.
    pub parameters: u64,
    /// Layers.
    pub layers: u32,
    /// Width of the residual stream.
    pub width: u32,
    /// Tokens of the vocabulary.
    pub vocab_tokens: u32,
    /// Where the shape comes from.
    pub source: String,
}

impl SynthFamily {
    /// The brief of `family`.
    pub fn new(family: &Family) -> Self {
        Self {
            name: family.name.clone(),
            architecture: family.architecture.clone(),
            parameters: family.parameters,
            layers: family.layers,
            width: family.width,
            vocab_tokens: family.vocabulary.tokens,
            source: family.source.clone(),
        }
    }
}
