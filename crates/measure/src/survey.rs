//! The same question on every device, each after it earned trust.
//!
//! The CPU is the reference: it is not checked, it is what the others are checked against. A device that fails its
//! check, or dies of the model, is an outcome with a reason and not the end of the survey.

use crate::answer::{AnswerRun, Instruments, answer};
use crate::error::MeasureError;
use crate::kept::{Kept, Key};
use crate::question::Tokenized;
use crate::settings::Settings;
use crate::shape::Shape;
use crate::tune::{FIRST_USE, Trial, Tuned, tune};
use crate::weights::Copies;
use qeil_engine::handle::{EngineError, Launch, Worker};
use qeil_engine::spec::{DeviceEntry, DeviceKind, LoadSpec};
use qeil_engine::trust;
use qeil_hardware::energy::EnergyMeter;
use qeil_model::ModelFacts;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Words in the description of a GPU that is computed on the CPU: Mesa's lavapipe.
const SOFTWARE_GPUS: [&str; 1] = ["llvmpipe"];

/// How a survey is made.
#[derive(Debug)]
pub struct Survey<'a> {
    /// How workers are started.
    pub launch: &'a Launch,
    /// The model file.
    pub model: &'a Path,
    /// What it is.
    pub facts: &'a ModelFacts,
    /// Threads; `None` leaves the default.
    pub threads: Option<u32>,
    /// Flash attention, if it is given.
    pub flash_attention: Option<bool>,
    /// Where tuned settings are kept, if anywhere.
    pub kept: Option<&'a Kept>,
    /// Measure the settings again, whatever is kept.
    pub retune: bool,
    /// Try other formats of the weights, too; copies are kept in the user's cache folder.
    pub formats: bool,
    /// Draw the samples a second time, each with its own prefill.
    pub compare: bool,
    /// The meter of the processor packages.
    pub meter: &'a EnergyMeter,
}

/// What is going on.
#[derive(Debug)]
pub enum Step<'a> {
    /// The known-answer check of a device begins.
    Checking(&'a DeviceEntry),
    /// The settings of a device are being measured.
    Tuning(&'a DeviceEntry),
    /// One candidate was tried.
    Tried(&'a DeviceEntry, &'a Trial),
    /// A device answers.
    Answering(&'a DeviceEntry),
    /// A device is done.
    Done(&'a DeviceOutcome),
}

/// What came of one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum DeviceOutcome {
    /// It answered.
    Answered {
        /// What its check said; missing for the CPU, which is the reference.
        trust: Option<String>,
        /// Where its settings come from.
        tuning: Tuning,
        /// The answer and its cost.
        run: Box<AnswerRun>,
    },
    /// Its numbers are not the CPU's.
    Refused {
        /// Device.
        device: String,
        /// The verdict.
        why: String,
    },
    /// It could not be asked, or died.
    Failed {
        /// Device.
        device: String,
        /// How.
        why: String,
    },
}

/// Where settings come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    /// Whether they were kept from an earlier run.
    pub kept: bool,
    /// Why they were chosen.
    pub reason: String,
    /// Why they could not be kept, if so.
    pub not_kept: Option<String>,
}

/// The devices called `names`, in any case and in the order given; all for none.
///
/// # Errors
/// The first name that no device has.
pub fn select(devices: Vec<DeviceEntry>, names: &[String]) -> Result<Vec<DeviceEntry>, MeasureError> {
    if names.is_empty() {
        return Ok(devices);
    }
    let mut chosen: Vec<DeviceEntry> = Vec::new();
    for name in names {
        let device = devices.iter().find(|d| d.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            MeasureError::NoSuchDevice {
                name: name.clone(),
                have: devices.iter().map(|d| d.name.clone()).collect(),
            }
        })?;
        if !chosen.contains(device) {
            chosen.push(device.clone());
        }
    }
    Ok(chosen)
}

impl Survey<'_> {
    /// Ask every device.
    ///
    /// # Errors
    /// Only what concerns all devices alike: a question or a size that no device could serve.
    pub async fn ask(
        &self,
        devices: &[DeviceEntry],
        asked: &Tokenized,
        mut on_step: impl FnMut(Step<'_>),
    ) -> Result<Vec<DeviceOutcome>, MeasureError> {
        let mut reference = None;
        let mut outcomes = Vec::with_capacity(devices.len());
        for device in devices {
            let outcome = match self.ask_one(device, asked, &mut reference, &mut on_step).await {
                Ok(outcome) => outcome,
                Err(MeasureError::Engine(error)) => failed(device, &error),
                Err(error @ (MeasureError::SampleFailed { .. } | MeasureError::NoCandidate(_))) => {
                    failed(device, &error)
                }
                Err(error) => return Err(error),
            };
            on_step(Step::Done(&outcome));
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    async fn ask_one(
        &self,
        device: &DeviceEntry,
        asked: &Tokenized,
        reference: &mut Option<Vec<Vec<f32>>>,
        on_step: &mut impl FnMut(Step<'_>),
    ) -> Result<DeviceOutcome, MeasureError> {
        let mut spec = self.spec(device);
        let mut trusted = None;
        if device.kind != DeviceKind::Cpu {
            on_step(Step::Checking(device));
            let verdict = self.check(&spec, reference).await?;
            if !verdict.trusted {
                return Ok(DeviceOutcome::Refused { device: device.name.clone(), why: verdict.why });
            }
            trusted = Some(verdict.why);
        }
        let (settings, tuning) = self.settle(device, &mut spec, asked.shape(), on_step).await?;
        on_step(Step::Answering(device));
        let with = Instruments { launch: self.launch, meter: self.meter_of(device), compare: self.compare };
        let run = answer(&with, &spec, settings, self.facts, asked).await?;
        Ok(DeviceOutcome::Answered { trust: trusted, tuning, run: Box::new(run) })
    }

    /// A spec of this survey's model on `device`; its context is sized later.
    pub fn spec(&self, device: &DeviceEntry) -> LoadSpec {
        spec(self.model, device, self.threads)
    }

    /// The known-answer check of the device of `spec` against the CPU, whose answers are `reference` once they are known.
    pub(crate) async fn check(
        &self,
        spec: &LoadSpec,
        reference: &mut Option<Vec<Vec<f32>>>,
    ) -> Result<trust::Verdict, EngineError> {
        let small = LoadSpec { prefix_cache_tokens: 0, ..spec.clone() };
        if reference.is_none() {
            let cpu = Worker::start(self.launch, LoadSpec { device: "CPU".into(), ..small.clone() }).await?;
            *reference = Some(trust::answers(&cpu).await?);
            cpu.stop().await;
        }
        let candidate = Worker::start(self.launch, small).await?;
        let verdict = trust::check(&candidate, reference.as_deref().unwrap_or_default()).await?;
        candidate.stop().await;
        Ok(verdict)
    }

    /// Put the best settings for a workload into `spec`: kept ones, or measured now.
    pub(crate) async fn settle(
        &self,
        device: &DeviceEntry,
        spec: &mut LoadSpec,
        shape: Shape,
        on_step: &mut impl FnMut(Step<'_>),
    ) -> Result<(Settings, Tuning), MeasureError> {
        let parameters = self.facts.parameters;
        let copies = if self.formats { Copies::of_user(parameters, device) } else { None };
        let cache = copies.as_ref().map(|copies| &copies.cache);
        if let ([only], None) = (&Settings::candidates(shape.samples, self.flash_attention)[..], &copies) {
            only.apply(self.launch, cache, spec).await?;
            return Ok((*only, Tuning { kept: false, reason: "given".into(), not_kept: None }));
        }
        let key = Key::new(spec, &device.description, shape, self.flash_attention, copies.is_some()).ok();
        let found = match (self.kept, &key) {
            (Some(kept), Some(key)) if !self.retune => kept.find(key),
            _ => None,
        };
        if let Some(Tuned { settings, reason, .. }) = found {
            settings.apply(self.launch, cache, spec).await?;
            return Ok((settings, Tuning { kept: true, reason, not_kept: None }));
        }
        on_step(Step::Tuning(device));
        let tuned =
            tune(self.launch, spec, shape, self.flash_attention, copies.as_ref(), FIRST_USE, |trial| {
                on_step(Step::Tried(device, trial));
            })
            .await?;
        tuned.settings.apply(self.launch, cache, spec).await?;
        let not_kept = match (self.kept, &key) {
            _ if !tuned.is_choice() => {
                Some("only one candidate could be tried in time; `qeil tune` takes longer".into())
            }
            (Some(kept), Some(key)) => kept.keep(key, &tuned).err().map(|error| error.to_string()),
            _ => Some("there is no cache folder".into()),
        };
        Ok((tuned.settings, Tuning { kept: false, reason: tuned.reason, not_kept }))
    }

    /// The meter, where it covers the device: it reads the processor packages, so a GPU's own draw is not in it.
    pub(crate) fn meter_of(&self, device: &DeviceEntry) -> Result<&EnergyMeter, String> {
        let software = SOFTWARE_GPUS.iter().any(|word| device.description.contains(word));
        if device.kind == DeviceKind::Cpu || software {
            Ok(self.meter)
        } else {
            Err(format!("no sensor that covers {} is read", device.name))
        }
    }
}

/// A spec of `model` on `device`; its context is sized later.
pub fn spec(model: &Path, device: &DeviceEntry, threads: Option<u32>) -> LoadSpec {
    let mut spec = LoadSpec::new(model, &device.name);
    spec.threads = threads.unwrap_or(spec.threads);
    spec
}

fn failed(device: &DeviceEntry, error: &impl ToString) -> DeviceOutcome {
    DeviceOutcome::Failed { device: device.name.clone(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str) -> DeviceEntry {
        DeviceEntry {
            name: name.into(),
            description: String::new(),
            kind: DeviceKind::Gpu,
            memory_bytes: None,
            memory_free_bytes: None,
        }
    }

    #[test]
    fn devices_by_name() {
        // names asked for, devices found or the name that is not
        let cases = [
            ("", Ok("CPU Vulkan0")),
            ("vulkan0", Ok("Vulkan0")),
            ("Vulkan0 cpu CPU", Ok("Vulkan0 CPU")),
            ("CPU CUDA0", Err("CUDA0")),
        ];
        for (names, expected) in cases {
            let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
            match (select(vec![device("CPU"), device("Vulkan0")], &names), expected) {
                (Ok(chosen), Ok(expected)) => {
                    let chosen: Vec<&str> = chosen.iter().map(|d| d.name.as_str()).collect();
                    assert_eq!(chosen.join(" "), expected, "{names:?}");
                }
                (Err(error), Err(name)) => {
                    let text = error.to_string();
                    assert!(text.contains(name) && text.contains("CPU, Vulkan0"), "{names:?}: {text}");
                }
                (got, _) => panic!("{names:?}: {got:?}"),
            }
        }
    }
}
