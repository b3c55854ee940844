//! An orchestra over real engines with the tiny model.

use crate::PART;
use qeil_control::config::{Config, DeviceConfig, Goal, Limits, Profile};
use qeil_control::view::Standing;
use qeil_engine::handle::{Launch, probe_devices};
use qeil_engine::spec::LoadSpec;
use qeil_model::write::{TinyShape, tiny_llama};
use qeil_orchestrate::engine::{EngineDevice, Reference};
use qeil_orchestrate::{Orchestra, Setup, Snapshot};
use qeil_units::Provenance;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Long enough for anything on a busy machine; reaching it is a failure.
pub const LONG: Duration = Duration::from_secs(120);
/// Sequences of each engine.
pub const SEQUENCES: u32 = 8;

pub fn tiny() -> PathBuf {
    static WRITTEN: OnceLock<PathBuf> = OnceLock::new();
    let write = || {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("drills");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("tiny-llama.gguf");
        let fresh = folder.join(format!("tiny-llama.{}", std::process::id()));
        tiny_llama(&fresh, &TinyShape::default()).unwrap();
        std::fs::rename(&fresh, &path).unwrap();
        path
    };
    WRITTEN.get_or_init(write).clone()
}

pub fn launch() -> Launch {
    let mut launch = Launch::program(std::env::current_exe().unwrap());
    launch.args = ["entry", "--exact", "--nocapture", "--test-threads=1"].map(Into::into).to_vec();
    launch.env = vec![(PART.into(), "worker".into())];
    launch.load_timeout = LONG;
    launch
}

/// An engine on one core. One row at a time goes through the engine (`ubatch_tokens` 1), each sequence in memory of its
/// own: so every row is computed by the same kernels whatever shares its step, and a sample that moves keeps its text.
pub fn spec(core: usize) -> LoadSpec {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let mut spec = LoadSpec::new(tiny(), "CPU");
    (spec.threads, spec.cpus) = (1, vec![(core % cores) as u32]);
    (spec.sequences, spec.context_tokens, spec.batch_tokens) = (SEQUENCES, 512 * SEQUENCES, 64);
    (spec.ubatch_tokens, spec.prefill_chunk_tokens, spec.prefix_cache_tokens) = (1, 16, 0);
    (spec.flash_attention, spec.kv_unified) = (false, false);
    // The fault that allocates without end meets this before it meets the machine.
    spec.memory_limit_bytes = Some(1 << 30);
    spec.allow_faults = true;
    spec
}

pub fn named(name: &str, kin: &str) -> DeviceConfig {
    DeviceConfig {
        name: name.into(),
        kin: kin.into(),
        sequences_max: SEQUENCES,
        context_tokens: 512 * SEQUENCES,
        chunk_tokens: Some(64),
        profile: Profile {
            prefill_s_per_token: 2e-3,
            prefill_j_per_token: 2e-2,
            step_s: 1e-3,
            step_s_per_sequence: 2e-3,
            step_j: 1e-2,
            step_j_per_sequence: 2e-2,
            idle_w: 1.0,
            provenance: Provenance::Estimated,
        },
        thermal: None,
    }
}

pub fn config() -> Config {
    Config {
        devices: Vec::new(),
        limits: Limits { moves_max: 64, ..Limits::default() },
        power_cap_w: None,
        goal: Goal::Latency,
        guarded: true,
        seed: 1,
    }
}

pub struct Floor {
    pub orchestra: Orchestra,
    pub engines: Vec<Arc<EngineDevice>>,
}

impl Floor {
    /// `specs` with their kin, and the journal's file.
    pub async fn open(specs: &[(LoadSpec, &str)], journal: Option<&Path>) -> Self {
        let reference = Reference::new(launch(), &specs[0].0);
        let mut setup = Setup::new(config());
        setup.journal = journal.map(Into::into);
        let mut engines = Vec::new();
        for (at, (spec, kin)) in specs.iter().enumerate() {
            let engine = Arc::new(EngineDevice::new(launch(), spec.clone(), Arc::clone(&reference)));
            engines.push(Arc::clone(&engine));
            setup = setup.with(named(&format!("{} {at}", spec.device), kin), engine, None);
        }
        let floor = Self { orchestra: Orchestra::start(setup).unwrap(), engines };
        floor
            .until("all devices serve", |snapshot| {
                snapshot.devices.iter().all(|d| d.standing == Standing::Serving)
            })
            .await;
        floor
    }

    pub async fn snapshot(&self) -> Snapshot {
        self.orchestra.snapshot().await.unwrap()
    }

    /// Wait for a state, for at most [`LONG`].
    pub async fn until(&self, what: &str, holds: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let since = Instant::now();
        loop {
            let snapshot = self.snapshot().await;
            if holds(&snapshot) {
                return snapshot;
            }
            assert!(since.elapsed() < LONG, "still not so: {what}: {snapshot:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The name of a graphics device of this build that is computed on the CPU or not, where there is one.
pub async fn second_backend() -> Option<String> {
    let devices = probe_devices(&launch()).await.unwrap();
    devices.into_iter().map(|device| device.name).find(|name| !name.eq_ignore_ascii_case("cpu"))
}
