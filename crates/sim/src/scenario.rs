//! What happens in a simulated operation: machine, model, surroundings, load, faults.
//!
//! A scenario is written by hand as a TOML file (`docs/simulate.md`), or drawn at random from a seed ([`crate::hour`]).
//! Both become the same [`Scenario`], which fixes everything: run twice, it gives the same report.

use crate::error::{SimError, parse};
use crate::fault::{Fault, FaultKind};
use crate::machine::{Machine, machine};
use crate::shape::ModelShape;
use qeil_control::config::{Goal, Limits};
use serde::{Deserialize, Serialize};

/// Longest operation, hours: a month, beyond which nothing new would be learnt.
pub const HOURS_MAX: f64 = 720.0;
/// Bytes of a scenario file.
pub const SCENARIO_BYTES_MAX: usize = 1 << 20;
/// Faults of one scenario.
pub const FAULTS_MAX: usize = 10_000;

/// The temperature of the surroundings, a sine over time and a ramp.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ambient {
    /// Mean, degrees Celsius.
    pub celsius: f64,
    /// Half of the way between its lowest and its highest.
    #[serde(default)]
    pub swing_c: f64,
    /// Seconds from one highest to the next.
    #[serde(default = "hour")]
    pub period_s: f64,
}

fn hour() -> f64 {
    3600.0
}

impl Ambient {
    /// Degrees Celsius at a moment.
    pub fn at(&self, seconds: f64) -> f64 {
        self.celsius + self.swing_c * (std::f64::consts::TAU * seconds / self.period_s).sin()
    }
}

/// A time of more requests, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// Seconds from one to the next.
    pub every_s: f64,
    /// How long one lasts.
    pub for_s: f64,
    /// Times the usual rate.
    pub factor: f64,
}

/// What clients ask for. Ranges are drawn from evenly, both ends included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Requests a minute, arriving at random (Poisson).
    pub requests_per_minute: f64,
    /// Tokens of a prompt.
    pub prompt_tokens: (u32, u32),
    /// Samples of a request.
    pub samples: (u32, u32),
    /// Most tokens of a sample; some end earlier.
    pub output_tokens: (u32, u32),
    /// Seconds after which a request ends.
    pub deadline_s: Option<(f64, f64)>,
    /// Joules after which a request ends.
    pub energy_budget_j: Option<(f64, f64)>,
    /// Times of more requests.
    pub burst: Option<Burst>,
    /// Clients.
    #[serde(default = "one_client")]
    pub clients: u32,
    /// Share of requests that nobody waits for.
    #[serde(default)]
    pub batch_share: f64,
    /// Share of requests whose samples are judged, and end at the first that passes.
    #[serde(default)]
    pub until_pass_share: f64,
    /// Share of requests that their client withdraws.
    #[serde(default)]
    pub withdrawn_share: f64,
    /// Hostile requests a minute: absurd numbers in every field.
    #[serde(default)]
    pub hostile_per_minute: f64,
    /// Requests a minute of one client that floods, in bursts of its own.
    #[serde(default)]
    pub flood_per_minute: f64,
}

fn one_client() -> u32 {
    1
}

/// Everything about one simulated operation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scenario {
    /// The machine.
    pub machine: Machine,
    /// The model that every device has loaded.
    pub model: ModelShape,
    /// How long, seconds.
    pub seconds: f64,
    /// Fixes every random draw.
    pub seed: u64,
    /// The surroundings.
    pub ambient: Ambient,
    /// What clients ask for.
    pub load: Load,
    /// What goes wrong, and when.
    pub faults: Vec<Fault>,
    /// Standard deviation of the true costs about the profile, as a share.
    pub profile_noise: f64,
    /// What placement prefers.
    pub goal: Goal,
    /// Most watts of all devices together.
    pub power_cap_w: Option<f64>,
    /// Whether the guard acts.
    pub guarded: bool,
    /// Bounds.
    pub limits: Limits,
    /// Sequences of each worker.
    pub sequences_max: u32,
    /// Tokens of each worker's memory, where the device has room for them.
    pub context_tokens: u32,
}

/// A scenario file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    machine: String,
    model: String,
    #[serde(default = "format")]
    format: String,
    #[serde(default = "one")]
    hours: f64,
    #[serde(default)]
    seed: u64,
    ambient: Ambient,
    load: Load,
    #[serde(default, rename = "fault")]
    faults: Vec<RawFault>,
    #[serde(default)]
    profile_noise: f64,
    #[serde(default = "energy")]
    goal: Goal,
    power_cap_w: Option<f64>,
    #[serde(default = "sequences")]
    sequences_max: u32,
    #[serde(default = "context")]
    context_tokens: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFault {
    at_s: f64,
    #[serde(default)]
    for_s: f64,
    device: String,
    kind: FaultKind,
}

fn format() -> String {
    "Q4_0".into()
}

fn one() -> f64 {
    1.0
}

fn energy() -> Goal {
    Goal::Energy
}

/// As many sequences as the engine's default worker holds.
fn sequences() -> u32 {
    16
}

fn context() -> u32 {
    16_384
}

impl Scenario {
    /// Read a scenario file; `file` is what errors call it. `described` gives the machine of a path, where `machine` is
    /// the path of a description instead of a name.
    ///
    /// # Errors
    /// Where the text is no scenario, a figure is out of range, or machine, model or device are unknown.
    pub fn parse(
        file: &str,
        text: &str,
        described: impl FnOnce(&str) -> Result<Machine, SimError>,
    ) -> Result<Self, SimError> {
        let raw: Raw = if text.len() <= SCENARIO_BYTES_MAX {
            parse(file, text)?
        } else {
            return Err(wrong(file, "its length", text.len(), "at most 1 MiB"));
        };
        let is_path = raw.machine.contains('/') || raw.machine.ends_with(".toml");
        let machine = if is_path { described(&raw.machine)? } else { machine(&raw.machine)? };
        let mut faults = Vec::new();
        if raw.faults.len() > FAULTS_MAX {
            return Err(wrong(
                file,
                "fault",
                format!("there {} times", raw.faults.len()),
                "at most 10000 of them",
            ));
        }
        for (i, fault) in raw.faults.iter().enumerate() {
            let device =
                machine.devices.iter().position(|device| device.name.eq_ignore_ascii_case(&fault.device));
            let Some(device) = device else {
                let known: Vec<&str> = machine.devices.iter().map(|device| device.name.as_str()).collect();
                let expected = format!("a device of {}: {}", machine.id, known.join(", "));
                return Err(wrong(file, format!("fault[{i}].device"), &fault.device, &expected));
            };
            faults.push(Fault { at_s: fault.at_s, for_s: fault.for_s, device, kind: fault.kind });
        }
        let scenario = Self {
            model: ModelShape::named(&raw.model, &raw.format)?,
            seconds: raw.hours * 3600.0,
            seed: raw.seed,
            ambient: raw.ambient,
            load: raw.load,
            faults,
            profile_noise: raw.profile_noise,
            goal: raw.goal,
            power_cap_w: raw.power_cap_w,
            guarded: true,
            limits: Limits::default(),
            sequences_max: raw.sequences_max,
            context_tokens: raw.context_tokens,
            machine,
        };
        scenario.validate(file)?;
        Ok(scenario)
    }

    fn validate(&self, file: &str) -> Result<(), SimError> {
        let within = |key: &str, value: f64, low: f64, high: f64| {
            if (low..=high).contains(&value) {
                Ok(())
            } else {
                Err(wrong(file, key, value, &format!("a number from {low} to {high}")))
            }
        };
        let range = |key: &str, (low, high): (f64, f64), least: f64, most: f64| {
            if least <= low && low <= high && high <= most {
                Ok(())
            } else {
                let expected = format!("[LEAST, MOST] within {least} to {most}");
                Err(wrong(file, key, format!("[{low}, {high}]"), &expected))
            }
        };
        let of = |(low, high): (u32, u32)| (f64::from(low), f64::from(high));
        let load = &self.load;
        within("hours", self.seconds / 3600.0, 1e-3, HOURS_MAX)?;
        within("profile_noise", self.profile_noise, 0.0, 0.5)?;
        within("power_cap_w", self.power_cap_w.unwrap_or(1.0), 0.1, 1e5)?;
        within("sequences_max", f64::from(self.sequences_max), 1.0, 256.0)?;
        within("context_tokens", f64::from(self.context_tokens), 64.0, 1e7)?;
        within("ambient.celsius", self.ambient.celsius, -60.0, 80.0)?;
        within("ambient.swing_c", self.ambient.swing_c, 0.0, 40.0)?;
        within("ambient.period_s", self.ambient.period_s, 60.0, 1e7)?;
        within("load.requests_per_minute", load.requests_per_minute, 0.0, 1e5)?;
        within("load.hostile_per_minute", load.hostile_per_minute, 0.0, 1e4)?;
        within("load.flood_per_minute", load.flood_per_minute, 0.0, 1e5)?;
        within("load.clients", f64::from(load.clients), 1.0, 1e4)?;
        for (key, share) in [
            ("load.batch_share", load.batch_share),
            ("load.until_pass_share", load.until_pass_share),
            ("load.withdrawn_share", load.withdrawn_share),
        ] {
            within(key, share, 0.0, 1.0)?;
        }
        range("load.prompt_tokens", of(load.prompt_tokens), 1.0, f64::from(self.limits.prompt_tokens_max))?;
        range("load.samples", of(load.samples), 1.0, f64::from(self.limits.samples_max))?;
        range("load.output_tokens", of(load.output_tokens), 1.0, f64::from(self.limits.tokens_max))?;
        range("load.deadline_s", load.deadline_s.unwrap_or((1.0, 1.0)), 1e-3, 1e6)?;
        range("load.energy_budget_j", load.energy_budget_j.unwrap_or((1.0, 1.0)), 1e-6, 1e12)?;
        if let Some(burst) = load.burst {
            within("load.burst.every_s", burst.every_s, 1.0, 1e7)?;
            within("load.burst.for_s", burst.for_s, 0.0, burst.every_s)?;
            within("load.burst.factor", burst.factor, 0.0, 1e3)?;
        }
        for (i, fault) in self.faults.iter().enumerate() {
            within(&format!("fault[{i}].at_s"), fault.at_s, 0.0, HOURS_MAX * 3600.0)?;
            within(&format!("fault[{i}].for_s"), fault.for_s, 0.0, HOURS_MAX * 3600.0)?;
            match fault.kind {
                FaultKind::Slow(factor) => within(&format!("fault[{i}].kind.slow"), factor, 1.0, 1e3)?,
                FaultKind::LostMemory(share) => {
                    within(&format!("fault[{i}].kind.lost_memory"), share, 0.0, 1.0)?
                }
                _ => {}
            }
        }
        let needed = self.model.memory_bytes(self.context_of(0).min(64));
        if !self.machine.devices.iter().any(|device| device.memory_bytes.value >= needed) {
            return Err(SimError::TooLarge {
                model: self.model.name.clone(),
                machine: self.machine.id.clone(),
                needs_gb: needed / 1e9,
            });
        }
        Ok(())
    }

    /// Tokens that a device's worker has room for beside the weights: 0 where not even those fit.
    pub fn context_of(&self, device: usize) -> u32 {
        let room = self.machine.devices[device].memory_bytes.value - self.model.weight_bytes;
        ((room / self.model.kv_bytes_per_token).max(0.0) as u32).min(self.context_tokens)
    }
}

fn wrong(file: &str, key: impl Into<String>, value: impl ToString, expected: &str) -> SimError {
    SimError::Figure {
        file: file.into(),
        key: key.into(),
        value: value.to_string(),
        expected: expected.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
machine = "jetson-orin-nano"
model = "Qwen2-0.5B"
[ambient]
celsius = 40.0
[load]
requests_per_minute = 6.0
prompt_tokens = [50, 500]
samples = [1, 4]
output_tokens = [32, 256]
[[fault]]
at_s = 60.0
for_s = 30.0
device = "gpu"
kind = { slow = 3.0 }
"#;

    fn read(text: &str) -> Result<Scenario, SimError> {
        Scenario::parse("my.toml", text, |path| Machine::parse(path, "id = 1"))
    }

    #[test]
    fn a_scenario_is_read_with_its_defaults() {
        let scenario = read(GOOD).unwrap();
        assert_eq!(scenario.seconds, 3600.0);
        assert_eq!(scenario.faults[0].device, 1);
        assert_eq!(scenario.faults[0].kind, FaultKind::Slow(3.0));
        assert_eq!(scenario.model.name, "Qwen2-0.5B Q4_0");
        assert_eq!(scenario.context_of(1), 16_384);
        assert_eq!(scenario.ambient.at(900.0), 40.0);
    }

    #[test]
    fn what_is_wrong_is_told_by_file_and_key() {
        // (what is replaced, by what, what the error must name)
        let cases: [(&str, &str, &[&str]); 10] = [
            ("celsius = 40.0", "celsius = 400.0", &["my.toml", "ambient.celsius", "400", "-60 to 80"]),
            ("celsius", "fahrenheit", &["my.toml", "ambient", "fahrenheit"]),
            ("[50, 500]", "[500, 50]", &["load.prompt_tokens", "[500, 50]"]),
            ("[32, 256]", "[32, 25600]", &["load.output_tokens", "8192"]),
            ("requests_per_minute = 6.0", "requests_per_minute = nan", &["load.requests_per_minute"]),
            ("device = \"gpu\"", "device = \"TPU\"", &["fault[0].device", "TPU", "CPU, GPU"]),
            ("slow = 3.0", "slow = 0.1", &["fault[0].kind.slow", "0.1"]),
            ("slow = 3.0", "fast = 3.0", &["fault[0]", "fast"]),
            ("\"jetson-orin-nano\"", "\"jetson\"", &["jetson", "raspberry-pi-5"]),
            ("\"jetson-orin-nano\"", "\"./mine.toml\"", &["./mine.toml", "id"]),
        ];
        for (from, to, named) in cases {
            assert!(GOOD.contains(from), "{from}");
            let error = read(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
            for part in named {
                assert!(error.contains(part), "{from} -> {to}: {error}");
            }
        }
        let large =
            GOOD.replace("Qwen2-0.5B", "LFM2-2.6B").replace("[ambient]", "format = \"F32\"\n[ambient]");
        assert!(read(&large).unwrap_err().to_string().contains("no device"));
    }
}
