//! What a worker is asked to load.
//!
//! llama.cpp accepts a context of two billion tokens and then works on it for minutes; it aborts on a batch
//! above `n_batch` and answers NULL above 256 sequences. [`LoadSpec::check`] refuses all of these first, on
//! both sides of the socket.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Most sequences one worker holds: `LLAMA_MAX_SEQ` in llama.cpp, above which it returns no context.
pub const SEQUENCES_MAX: u32 = 256;
/// Most KV cells (tokens) in one context. Four million f16 cells of the smallest model in the catalogue are
/// already 90 GB; a larger number is a typing error.
pub const CONTEXT_TOKENS_MAX: u32 = 4 << 20;
/// Most tokens submitted to one step: the largest batch for which prefill still gains on any backend we measured.
pub const BATCH_TOKENS_MAX: u32 = 8192;
/// Most threads in a pool: `GGML_MAX_N_THREADS`.
pub const THREADS_MAX: u32 = 512;
/// Most requests waiting in a worker: queues belong to the supervisor, this one only hides the socket's latency.
pub const QUEUE_REQUESTS_MAX: u32 = 256;

/// Where and how a worker loads its model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadSpec {
    /// The GGUF file.
    pub model: PathBuf,
    /// Name of the ggml device, as `qeil devices` lists it: `CPU`, `Vulkan0`, `CUDA0`…
    pub device: String,
    /// Layers placed on the device; `None` places all of them. Ignored on `CPU`.
    pub gpu_layers: Option<u32>,
    /// KV cells shared by all sequences, in tokens.
    pub context_tokens: u32,
    /// Sequences that can be alive at once (samples in flight plus cached prefixes), at most [`SEQUENCES_MAX`].
    pub sequences: u32,
    /// Most tokens submitted in one step (`n_batch`).
    pub batch_tokens: u32,
    /// Most tokens computed at once inside a step (`n_ubatch`).
    pub ubatch_tokens: u32,
    /// Prefill tokens added to a step while other sequences decode; bounds how long decoding waits for a prefill.
    pub prefill_chunk_tokens: u32,
    /// Threads of the worker's own pool. On `CPU` they compute; elsewhere they feed the device.
    pub threads: u32,
    /// Logical CPUs the pool may run on, one thread each in this order; empty leaves placement to the kernel.
    pub cpus: Vec<u32>,
    /// Flash attention, set explicitly: both ends of a state transfer must agree on it.
    pub flash_attention: bool,
    /// One KV buffer for all sequences (`true` shares a prefilled prompt among samples without a copy).
    pub kv_unified: bool,
    /// Map the file instead of reading it; `None` leaves it to [`LoadSpec::maps`]. A mapped file that shrinks kills the worker
    /// with SIGBUS.
    pub mmap: Option<bool>,
    /// Repack weights into the device's preferred layout at load.
    pub repack: bool,
    /// Have llama.cpp validate every tensor's data at load (finds corrupt weights, costs one pass over the file).
    pub check_tensors: bool,
    /// Requests waiting inside the worker.
    pub queue_requests: u32,
    /// Tokens of KV kept for reuse across requests, least recently used out first; 0 turns the prefix cache off.
    pub prefix_cache_tokens: u32,
    /// Address-space limit (RLIMIT_AS) in bytes; `None` leaves it. Only sensible on `CPU`: GPU drivers reserve
    /// far more address space than they use.
    pub memory_limit_bytes: Option<u64>,
    /// Confine the process (Landlock, seccomp) after loading what it needs. GPU drivers get a wider set.
    pub confine: bool,
    /// Milliseconds between heartbeats.
    pub heartbeat_ms: u32,
    /// Accept [`crate::protocol::Command::Inject`]. Only fault drills set this.
    pub allow_faults: bool,
}

impl LoadSpec {
    /// A spec for `model` on `device` that serves one request of a few samples: the least surprising start.
    pub fn new(model: impl Into<PathBuf>, device: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            device: device.into(),
            gpu_layers: None,
            context_tokens: 4096,
            sequences: 32,
            batch_tokens: 2048,
            ubatch_tokens: 512,
            prefill_chunk_tokens: 128,
            threads: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
            cpus: Vec::new(),
            flash_attention: false,
            kv_unified: true,
            mmap: None,
            repack: true,
            check_tensors: false,
            queue_requests: 64,
            prefix_cache_tokens: 2048,
            memory_limit_bytes: None,
            confine: true,
            heartbeat_ms: 100,
            allow_faults: false,
        }
    }

    /// Whether the device is the CPU backend.
    pub fn is_cpu(&self) -> bool {
        self.device.eq_ignore_ascii_case("cpu")
    }

    /// Whether the file is mapped. Where nothing is said the CPU reads it: memory of its own may come in huge pages, and
    /// decoding, which reads all weights for each token, is then quicker (`bench/runs` has by how much). A file of more than
    /// half of the machine's memory is mapped all the same, so that the kernel can drop parts of it.
    pub fn maps(&self) -> bool {
        let file = std::fs::metadata(&self.model).map_or(0, |metadata| metadata.len());
        let machine = rustix::system::sysinfo();
        let memory = (machine.totalram as u64).saturating_mul(machine.mem_unit.into());
        self.mmap.unwrap_or(!self.is_cpu() || file > memory / 2)
    }

    /// Check every bound.
    ///
    /// # Errors
    /// The first field out of bounds, with its value and what is accepted.
    pub fn check(&self) -> Result<(), OutOfBounds> {
        let range = |field: &str, value: u32, least: u32, most: u32| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(OutOfBounds {
                    field: field.into(),
                    value: u64::from(value),
                    least: least.into(),
                    most: most.into(),
                })
            }
        };
        range("context_tokens", self.context_tokens, 8, CONTEXT_TOKENS_MAX)?;
        range("sequences", self.sequences, 1, SEQUENCES_MAX)?;
        range("batch_tokens", self.batch_tokens, self.sequences, BATCH_TOKENS_MAX)?;
        range("ubatch_tokens", self.ubatch_tokens, 1, self.batch_tokens)?;
        range("prefill_chunk_tokens", self.prefill_chunk_tokens, 1, self.batch_tokens)?;
        range("threads", self.threads, 1, THREADS_MAX)?;
        range("cpus (how many)", self.cpus.len() as u32, 0, THREADS_MAX)?;
        for &cpu in &self.cpus {
            range("cpus", cpu, 0, THREADS_MAX - 1)?;
        }
        range("queue_requests", self.queue_requests, 1, QUEUE_REQUESTS_MAX)?;
        range("prefix_cache_tokens", self.prefix_cache_tokens, 0, self.context_tokens)?;
        range("heartbeat_ms", self.heartbeat_ms, 10, 10_000)
    }
}

/// How weights are stored. Which one a device computes with fastest is for measurement to say: a 4-bit file is
/// the smallest, but on a processor with bfloat16 instructions its weights, widened to bfloat16, can be several
/// times faster for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightFormat {
    /// IEEE half precision: widening a 4- or 8-bit weight to it costs no accuracy that matters (2⁻¹¹ relative).
    F16,
    /// bfloat16: 2⁻⁹ relative.
    Bf16,
    /// 8 bits in blocks of 32 with one scale.
    Q8_0,
    /// 4 bits in blocks of 32 with one scale.
    Q4_0,
    /// 4 bits in blocks of 32 with scale and minimum.
    Q4_1,
    /// Mostly 4 bits in super-blocks of 256, with 6 for the tensors that matter most.
    #[serde(rename = "q4_k_m")]
    Q4Km,
    /// Mostly 5 bits in super-blocks of 256, with 6 for the tensors that matter most.
    #[serde(rename = "q5_k_m")]
    Q5Km,
    /// 6 bits in super-blocks of 256.
    #[serde(rename = "q6_k")]
    Q6K,
}

impl WeightFormat {
    /// All of them, largest first.
    pub const ALL: [Self; 8] =
        [Self::F16, Self::Bf16, Self::Q8_0, Self::Q6K, Self::Q5Km, Self::Q4Km, Self::Q4_1, Self::Q4_0];

    /// The format of this name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name().eq_ignore_ascii_case(name))
    }

    /// Its name as llama.cpp spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q4Km => "Q4_K_M",
            Self::Q5Km => "Q5_K_M",
            Self::Q6K => "Q6_K",
        }
    }

    /// Bits a weight takes, scales included. The mixed formats vary with the model: theirs are llama.cpp's figures for
    /// Llama 3.1 8B.
    pub fn bits_per_weight(self) -> f64 {
        match self {
            Self::F16 | Self::Bf16 => 16.0,
            Self::Q8_0 => 8.5,
            Self::Q4_1 => 5.0,
            Self::Q4_0 => 4.5,
            Self::Q4Km => 4.89,
            Self::Q5Km => 5.70,
            Self::Q6K => 6.56,
        }
    }
}

/// Most bytes of a metadata key or text set by [`TranscodeSpec::texts`]: llama.cpp's struct has room for so many, and
/// a zero.
pub const TEXT_BYTES_MAX: usize = 127;

/// A model file to write anew with its weights in another format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranscodeSpec {
    /// The file to read.
    pub from: PathBuf,
    /// The file to write; its folder must exist. What was there is replaced.
    pub to: PathBuf,
    /// The format of its large tensors (norms stay as they are).
    pub format: WeightFormat,
    /// Threads.
    pub threads: u32,
    /// Metadata texts to set, key and text of at most [`TEXT_BYTES_MAX`] bytes each; all others are copied.
    pub texts: Vec<(String, String)>,
}

/// A number outside what llama.cpp, or we, can handle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{field} is {value}, but must lie between {least} and {most}")]
pub struct OutOfBounds {
    /// Which field.
    pub field: String,
    /// What it was.
    pub value: u64,
    /// Smallest accepted value.
    pub least: u64,
    /// Largest accepted value.
    pub most: u64,
}

/// What a worker reports about the model it has loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    /// Process id of the worker.
    pub pid: u32,
    /// Device name, as in [`LoadSpec::device`].
    pub device: String,
    /// The driver's own words for the device.
    pub device_description: String,
    /// llama.cpp's one-line description of the model.
    pub model_description: String,
    /// Parameters of the model.
    pub parameters: u64,
    /// Bytes of its weights.
    pub weight_bytes: u64,
    /// Tokens in its vocabulary.
    pub vocab_tokens: u32,
    /// Context length it was trained for, in tokens.
    pub context_train_tokens: u32,
    /// KV cells really allocated, in tokens.
    pub context_tokens: u32,
    /// Whether its memory is recurrent or hybrid: then a prefix can be reused only whole.
    pub recurrent: bool,
    /// Milliseconds from the load command to readiness (measured, worker's monotonic clock).
    pub load_ms: f64,
    /// What confines the process, or why nothing does.
    pub confinement: String,
    /// Instruction-set features compiled into the CPU backend, as ggml prints them.
    pub cpu_features: String,
}

/// One ggml backend device, as a probing worker sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceEntry {
    /// Name to put into [`LoadSpec::device`].
    pub name: String,
    /// The driver's own words.
    pub description: String,
    /// ggml's device type.
    pub kind: DeviceKind,
    /// Memory the driver reports in total, in bytes; `None` where it reports nothing.
    pub memory_bytes: Option<u64>,
    /// Memory the driver reports free, in bytes.
    pub memory_free_bytes: Option<u64>,
}

/// ggml's device types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeviceKind {
    /// CPU backend, system memory.
    Cpu,
    /// GPU with memory of its own.
    Gpu,
    /// GPU sharing system memory.
    IntegratedGpu,
    /// Accelerator (NPU, BLAS, AMX…).
    Accelerator,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_reads_what_fits() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model.gguf");
        let file = std::fs::File::create(&model).unwrap();
        let cpu = LoadSpec::new(&model, "CPU");
        assert!(!cpu.maps());
        assert!(LoadSpec::new(&model, "Vulkan0").maps());
        assert!(LoadSpec { mmap: Some(true), ..cpu.clone() }.maps());
        // More than any machine's memory; nothing of it is written.
        file.set_len(1 << 43).unwrap();
        assert!(cpu.maps());
        assert!(!LoadSpec { mmap: Some(false), ..cpu }.maps());
    }
}
