//! An hour of operation drawn at random from its number.
//!
//! The draws cover what the safety contract speaks of: any machine, any of the studied models, cool and hot
//! surroundings, load from idle to three times what the machine can do, bursts, floods and hostile numbers, and faults of every
//! kind at random moments. About a third of the hours are hot on purpose (warm surroundings, full load, every device at work):
//! there the guard earns its keep. The surroundings never exceed what the machine bears when idle, since no guard could help that.

use crate::cost::{decode, prefill};
use crate::error::SimError;
use crate::fault::{Fault, FaultKind};
use crate::machine::{Machine, machines};
use crate::scenario::{Ambient, Burst, Load, Scenario};
use crate::shape::{ModelShape, STUDIED};
use qeil_control::config::{GUARD_SHARE, Goal, Limits};
use qeil_laws::random::Random;

/// Seconds of an hour.
pub const HOUR_S: f64 = 3600.0;
/// Stream of the draws that shape an hour; others are drawn while it runs.
const STREAM: u64 = 1;
/// Most requests a minute: beyond, an hour takes long to simulate and shows nothing new.
const REQUESTS_PER_MINUTE_MAX: f64 = 30.0;
/// Longest answers, tokens.
const TOKENS_MOST: f64 = 1500.0;
/// Longest deadline of random hours, seconds, so that the last requests end soon after the hour.
const DEADLINE_MAX_S: f64 = 120.0;
/// Degrees that idle surroundings stay below the guard temperature.
const MARGIN_C: f64 = 12.0;

/// Everything that random hours are drawn from; made once, as it reads all descriptions.
#[derive(Debug, Clone)]
pub struct Hours {
    machines: Vec<Machine>,
    models: Vec<ModelShape>,
}

impl Hours {
    /// With the built-in machines and the studied models.
    ///
    /// # Errors
    /// Where a built-in description is wrong, which tests exclude.
    pub fn new() -> Result<Self, SimError> {
        let models = STUDIED
            .iter()
            .flat_map(|family| ["Q4_0", "Q8_0"].map(|format| ModelShape::named(family, format)));
        Ok(Self { machines: machines()?, models: models.collect::<Result<_, _>>()? })
    }

    /// Hour number `seed`.
    pub fn hour(&self, seed: u64) -> Scenario {
        let mut random = Random::new(seed, STREAM);
        let mut between = |low: f64, high: f64| low + (high - low) * random.uniform();
        let machine = self.machines[(between(0.0, 1.0) * self.machines.len() as f64) as usize].clone();
        let model = self.models[(between(0.0, 1.0) * self.models.len() as f64) as usize].clone();
        let hot = between(0.0, 1.0) < 0.35;
        let swing_c = between(0.0, 4.0);
        let celsius = if hot { between(33.0, 45.0) } else { between(5.0, 35.0) };
        let celsius = celsius.min(bearable_c(&machine) - swing_c);
        let ambient = Ambient { celsius, swing_c, period_s: between(900.0, 7200.0) };
        let prompt_most = between(50.0, 800.0);
        let tokens_most = between(16.0, 256.0);
        let samples_most = between(1.0, 8.0) as u32;
        let mean = (prompt_most / 2.0, f64::from(1 + samples_most) / 2.0 * tokens_most / 2.0);
        let load = if hot { between(1.0, 2.5) } else { between(0.02, 1.0).powi(2) * 3.0 };
        let wanted = 60.0 * load * requests_per_s(&machine, &model, mean);
        let per_minute = wanted.min(REQUESTS_PER_MINUTE_MAX);
        // What a fast machine could do beyond the most requests, longer answers ask for.
        let tokens_most = (tokens_most * wanted / per_minute).min(TOKENS_MOST);
        let (prompt_tokens, output_tokens) = ((4, prompt_most as u32), (4, tokens_most as u32));
        let often = |share: f64, value: f64, draw: f64| if draw < share { value } else { 0.0 };
        let burst =
            Burst { every_s: between(200.0, 1200.0), for_s: between(10.0, 100.0), factor: between(2.0, 8.0) };
        let load = Load {
            requests_per_minute: per_minute,
            prompt_tokens,
            samples: (1, samples_most),
            output_tokens,
            deadline_s: (between(0.0, 1.0) < 0.7).then_some((5.0, DEADLINE_MAX_S)),
            energy_budget_j: (between(0.0, 1.0) < 0.3).then_some((1.0, 500.0)),
            burst: (between(0.0, 1.0) < 0.5).then_some(burst),
            clients: 1 + between(0.0, 8.0) as u32,
            batch_share: between(0.0, 0.5),
            until_pass_share: between(0.0, 0.4),
            withdrawn_share: between(0.0, 0.1),
            hostile_per_minute: often(0.5, between(0.1, 10.0), between(0.0, 1.0)),
            flood_per_minute: often(0.3, between(60.0, 600.0), between(0.0, 1.0)),
        };
        let faults = faults(&machine, between(0.0, 1.0).powi(2) * 12.0, &mut between);
        Scenario {
            seconds: HOUR_S,
            seed,
            ambient,
            load,
            faults,
            profile_noise: 0.1,
            goal: if !hot && between(0.0, 1.0) < 0.5 { Goal::Energy } else { Goal::Latency },
            power_cap_w: None,
            guarded: true,
            limits: Limits {
                deadline_max_s: DEADLINE_MAX_S,
                queue_requests_max: 4 + between(0.0, 29.0) as u32,
                ..Limits::default()
            },
            sequences_max: 2 + between(0.0, 9.0) as u32,
            context_tokens: 8_192 + between(0.0, 16_384.0) as u32,
            machine,
            model,
        }
    }
}

/// The warmest surroundings in which every idle device stays clear of its guard temperature.
fn bearable_c(machine: &Machine) -> f64 {
    let idle_w: f64 = machine.devices.iter().map(|device| device.idle_w.value).sum();
    let sink_c = idle_w * machine.package.resistance_c_per_w.value;
    let least = machine.devices.iter().map(|device| {
        GUARD_SHARE * device.max_c.value - device.idle_w.value * device.resistance_c_per_w.value - sink_c
    });
    least.fold(f64::INFINITY, f64::min) - MARGIN_C
}

/// Requests a second that keep all devices busy, each in batches of eight, as far as their shared bus allows.
fn requests_per_s(machine: &Machine, model: &ModelShape, (prompt, tokens): (f64, f64)) -> f64 {
    let (mut rate, mut bus) = (0.0, 0.0);
    for device in &machine.devices {
        let step = decode(device, model, 8, 300.0);
        let seconds = prompt * prefill(device, model, 256).seconds / 256.0 + tokens * step.seconds / 8.0;
        rate += 1.0 / seconds;
        bus += if device.own_memory { 0.0 } else { step.bus_b_per_s };
    }
    let shared = machine.bus_b_per_s.as_ref().map_or(1.0, |limit| (limit.value / bus.max(1.0)).min(1.0));
    rate * shared
}

fn faults(machine: &Machine, count: f64, between: &mut impl FnMut(f64, f64) -> f64) -> Vec<Fault> {
    let mut faults = Vec::new();
    for _ in 0..count.round() as u32 {
        let device = between(0.0, machine.devices.len() as f64) as usize;
        let kind = match between(0.0, 11.0) as u32 {
            0 => FaultKind::Death,
            1 => FaultKind::Hang,
            2 => FaultKind::Slow(between(1.5, 6.0)),
            3 => FaultKind::WrongNumbers,
            4 => FaultKind::LostMemory(between(0.0, 0.5)),
            5 => FaultKind::Vanish,
            6 => FaultKind::Reset,
            7 => FaultKind::SensorStuck,
            8 => FaultKind::SensorAbsurd(
                [-273.15, -1e9, 0.0, 1e6, f64::NAN, 255.0][between(0.0, 6.0) as usize],
            ),
            9 => FaultKind::SensorMissing,
            _ => FaultKind::SensorSilent,
        };
        let at_s = between(0.0, HOUR_S);
        faults.push(Fault { at_s, for_s: between(2.0, 60.0).powi(2) / 6.0, device, kind });
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_its_number_and_every_kind_of_hour_comes() {
        let hours = Hours::new().unwrap();
        // In words, since a fault's value may be NaN.
        assert_eq!(format!("{:?}", hours.hour(7)), format!("{:?}", hours.hour(7)));
        let all: Vec<Scenario> = (0..300).map(|seed| hours.hour(seed)).collect();
        let share =
            |is: &dyn Fn(&Scenario) -> bool| all.iter().filter(|hour| is(hour)).count() as f64 / 300.0;
        for name in crate::machine::machine_names() {
            assert!(share(&|hour| hour.machine.id == name) > 0.05, "{name}");
        }
        assert!(share(&|hour| hour.ambient.celsius > 32.0) > 0.2);
        assert!(share(&|hour| hour.load.hostile_per_minute > 0.0) > 0.3);
        assert!(share(&|hour| hour.load.flood_per_minute > 0.0) > 0.15);
        assert!(share(&|hour| hour.faults.is_empty()) > 0.05);
        for hour in &all {
            assert!(hour.ambient.celsius + hour.ambient.swing_c <= bearable_c(&hour.machine) + 1e-9);
            assert!((0..hour.machine.devices.len()).any(|device| hour.context_of(device) > 1000));
        }
        let kinds: std::collections::BTreeSet<String> = all
            .iter()
            .flat_map(|hour| &hour.faults)
            .map(|fault| format!("{:?}", fault.kind)[..4].to_owned())
            .collect();
        assert!(kinds.len() >= 8, "{kinds:?}");
    }
}
