//! What a step costs: the roofline.
//!
//! A step takes as long as the slower of its arithmetic and its reading, plus a fixed launch overhead. Reading is all
//! weights once, whatever the number of sequences (which is why a batch is cheap), and the keys and values of each.
//! Attention's own arithmetic is left out: a few percent of a prefill at the prompts of this project.
//!
//! Power is idle power, plus what reading and arithmetic add in proportion to how busy they are. So a device that waits for
//! memory draws less than one that multiplies, and a launch overhead is spent at idle power.

use crate::machine::{DeviceSpec, Machine};
use crate::shape::ModelShape;
use qeil_control::config::Profile;
use qeil_units::Provenance;

/// Context at which a profile is taken, tokens: the middle of what the simulated load asks for.
const PROFILE_CONTEXT: f64 = 400.0;
/// Prompt over which a profile's prefill is taken, tokens: the reference prompt of `qeil bench`.
const PROFILE_PROMPT: u32 = 512;
/// Batch at whose cost a profile's slope is taken.
const PROFILE_BATCH: u32 = 8;

/// Bytes a second to or from a device with a memory of its own: half of what PCI Express 4.0 with eight lanes carries.
const LINK_B_PER_S: f64 = 8e9;
/// Seconds to export and import a state, whatever its size: two messages between processes.
const MOVE_S: f64 = 2e-3;

/// What one step holds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Work {
    /// Prompt tokens.
    pub prefill_tokens: u32,
    /// Sequences that get a token.
    pub sequences: u32,
    /// Tokens that these sequences have in memory, together.
    pub context_tokens: f64,
}

/// What one step takes on a device at full clock, alone on the bus.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepCost {
    /// Seconds.
    pub seconds: f64,
    /// Watts above idle while it runs.
    pub dynamic_w: f64,
    /// Bandwidth that it keeps from others meanwhile, B/s.
    pub bus_b_per_s: f64,
}

impl StepCost {
    /// Joules above idle.
    pub fn dynamic_j(&self) -> f64 {
        self.dynamic_w * self.seconds
    }
}

/// The cost of a step.
pub fn step(device: &DeviceSpec, model: &ModelShape, work: Work) -> StepCost {
    let inner = model.parameters - model.embedding_parameters;
    let operations =
        2.0 * inner * f64::from(work.prefill_tokens) + 2.0 * model.parameters * f64::from(work.sequences);
    let compute_s = operations / (device.peak(model.int8) * device.prefill_efficiency.value);
    let bytes = model.weight_bytes + model.kv_bytes_per_token * work.context_tokens;
    let memory_s = bytes / (device.bandwidth_b_per_s.value * device.decode_efficiency.value);
    let seconds = compute_s.max(memory_s) + device.launch_s.value;
    let reading = memory_s / seconds;
    let share = device.memory_power_share.value;
    let busy = share * reading + (1.0 - share) * compute_s / seconds;
    StepCost {
        seconds,
        dynamic_w: busy * (device.max_w.value - device.idle_w.value),
        bus_b_per_s: reading * device.bandwidth_b_per_s.value,
    }
}

/// A decode step of so many sequences, each with so many tokens in memory.
pub fn decode(device: &DeviceSpec, model: &ModelShape, sequences: u32, context_tokens: f64) -> StepCost {
    let context_tokens = context_tokens * f64::from(sequences);
    step(device, model, Work { prefill_tokens: 0, sequences, context_tokens })
}

/// A prefill of so many tokens.
pub fn prefill(device: &DeviceSpec, model: &ModelShape, tokens: u32) -> StepCost {
    step(device, model, Work { prefill_tokens: tokens, ..Work::default() })
}

/// What moving a sequence's state between two devices takes: [`moving`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moving {
    /// Seconds whatever its size.
    pub fixed_s: f64,
    /// Bytes a second beyond that.
    pub bytes_per_s: f64,
    /// Joules above idle for each byte.
    pub joules_per_byte: f64,
}

/// Between devices of one memory a state is read and written once; else it goes over a link. Assumed: no description
/// says it.
pub fn moving(machine: &Machine, from: usize, to: usize) -> Moving {
    let ends = [&machine.devices[from], &machine.devices[to]];
    let slower = ends.map(|device| device.bandwidth_b_per_s.value).into_iter().fold(f64::INFINITY, f64::min);
    let linked = ends.iter().any(|device| device.own_memory);
    let joules = |device: &DeviceSpec| {
        let memory_w = device.memory_power_share.value * (device.max_w.value - device.idle_w.value);
        memory_w / device.bandwidth_b_per_s.value
    };
    Moving {
        fixed_s: MOVE_S,
        bytes_per_s: if linked { LINK_B_PER_S.min(slower / 2.0) } else { slower / 2.0 },
        joules_per_byte: ends.into_iter().map(joules).sum(),
    }
}

/// The device's profile, as a sweep over the simulated device would fit it: a line through the decode steps of one and
/// of eight sequences. Joules are gross: idle power is in them, as in what a meter reads while the device works.
pub fn profile(device: &DeviceSpec, model: &ModelShape) -> Profile {
    let prompt = prefill(device, model, PROFILE_PROMPT);
    let (one, many) =
        (decode(device, model, 1, PROFILE_CONTEXT), decode(device, model, PROFILE_BATCH, PROFILE_CONTEXT));
    let slope = |one: f64, many: f64| (many - one) / f64::from(PROFILE_BATCH - 1);
    let gross_j = |cost: &StepCost| cost.dynamic_j() + device.idle_w.value * cost.seconds;
    let (seconds, joules) = (slope(one.seconds, many.seconds), slope(gross_j(&one), gross_j(&many)));
    Profile {
        prefill_s_per_token: prompt.seconds / f64::from(PROFILE_PROMPT),
        prefill_j_per_token: gross_j(&prompt) / f64::from(PROFILE_PROMPT),
        step_s: one.seconds - seconds,
        step_s_per_sequence: seconds,
        step_j: gross_j(&one) - joules,
        step_j_per_sequence: joules,
        idle_w: device.idle_w.value,
        provenance: Provenance::Simulated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{machine, machines};
    use crate::shape::STUDIED;
    use proptest::prelude::*;

    /// The description of this project's own machine gives back what was measured on it (README, `qeil predict` and
    /// "what one sweep tells"): within 10 %, the scatter of single runs there.
    #[test]
    fn the_fitted_machine_reproduces_its_measurements() {
        let machine = machine("epyc-2cores").unwrap();
        let cpu = &machine.devices[0];
        let model = |family| ModelShape::named(family, "Q8_0").unwrap();
        // (what, simulated, measured), milliseconds
        let cases = [
            ("Qwen2 1.5B, a decode step", decode(cpu, &model("Qwen2-1.5B"), 1, 136.0).seconds, 1187.0 / 17.0),
            ("Qwen2 1.5B, prefill of 128", prefill(cpu, &model("Qwen2-1.5B"), 128).seconds, 2006.0),
            // 53 % of 32.5 GB/s
            (
                "GPT-2, a decode step",
                decode(cpu, &model("GPT-2-124M"), 1, 0.0).seconds,
                132.2e6 / (0.53 * 32.5e9) * 1e3,
            ),
            (
                "Llama 3.2 1B, a decode step",
                decode(cpu, &model("Llama-3.2-1B"), 1, 0.0).seconds,
                1313e6 / (0.76 * 32.5e9) * 1e3,
            ),
        ];
        for (what, simulated, measured_ms) in cases {
            let ratio = simulated * 1e3 / measured_ms;
            assert!(
                (0.9..1.1).contains(&ratio),
                "{what}: {:.1} ms, measured {measured_ms:.1}",
                simulated * 1e3
            );
        }
    }

    #[test]
    fn a_batch_shares_the_reading_of_the_weights() {
        let jetson = machine("jetson-orin-nano").unwrap();
        let model = ModelShape::named("Llama-3.2-1B", "Q8_0").unwrap();
        let gpu = &jetson.devices[1];
        let (one, eight) = (decode(gpu, &model, 1, 400.0), decode(gpu, &model, 8, 400.0));
        assert!(eight.seconds < 1.2 * one.seconds, "{} {}", eight.seconds, one.seconds);
        let one_shot = prefill(gpu, &model, 1).seconds;
        assert!(prefill(gpu, &model, 512).seconds < 64.0 * one_shot);
    }

    #[test]
    fn every_profile_is_positive_and_says_simulated() {
        for machine in machines().unwrap() {
            for device in &machine.devices {
                for family in STUDIED {
                    let profile = profile(device, &ModelShape::named(family, "Q4_0").unwrap());
                    let figures = [
                        profile.prefill_s_per_token,
                        profile.prefill_j_per_token,
                        profile.step_s,
                        profile.step_s_per_sequence,
                        profile.step_j,
                    ];
                    assert!(
                        figures.iter().all(|figure| *figure > 0.0),
                        "{} {family}: {profile:?}",
                        device.name
                    );
                    assert!(profile.step_j_per_sequence >= 0.0);
                    assert_eq!(profile.provenance, Provenance::Simulated);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn more_work_never_takes_less_and_power_stays_in_its_range(
            at in 0usize..7, prompt in 0u32..2000, sequences in 0u32..64, context in 0.0..50_000f64,
        ) {
            let machine = &machines().unwrap()[at];
            let model = ModelShape::named("Qwen2-0.5B", "Q4_0").unwrap();
            for device in &machine.devices {
                let less = step(device, &model, Work { prefill_tokens: prompt, sequences, context_tokens: context });
                let more = step(device, &model, Work {
                    prefill_tokens: prompt + 10, sequences: sequences + 1, context_tokens: context + 100.0,
                });
                prop_assert!(more.seconds >= less.seconds && less.seconds > 0.0);
                prop_assert!(more.dynamic_j() >= less.dynamic_j() - 1e-12);
                let most = device.max_w.value - device.idle_w.value;
                prop_assert!(less.dynamic_w >= 0.0 && less.dynamic_w <= most * (1.0 + 1e-12));
                prop_assert!(less.bus_b_per_s <= device.bandwidth_b_per_s.value);
            }
        }
    }
}
