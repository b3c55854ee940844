//! A plan executed on simulated devices, step by step.
//!
//! The planner reckons with medians and expectations; here every step of every device passes in time. What the planner
//! approximates happens: devices share the bus only while they run at the same time, the package's power slows all of
//! them down, the heat of one task is still there in the next, hardware that reaches its maximum halves its clock, and a
//! pass ends a task in the middle of a step. No guard is at work: a plan is to keep its limits by itself.
//!
//! Everything is simulated, and what judges a sample is the caller's.

use crate::cost::{StepCost, decode, moving, prefill};
use crate::machine::{DEVICES_MAX, Machine};
use crate::plant::Plant;
use crate::shape::ModelShape;
use qeil_control::config::GUARD_SHARE;

/// A device's part in drawing samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lane {
    /// Which device of the machine.
    pub device: usize,
    /// Samples that it draws.
    pub samples: u32,
    /// How many of them at once.
    pub batch: u32,
}

/// How samples of one model are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// The model.
    pub model: ModelShape,
    /// The device that computes the prompt for all; missing: each lane does itself.
    pub origin: Option<usize>,
    /// The devices that decode.
    pub lanes: Vec<Lane>,
    /// Whether the first sample that passes ends it.
    pub until_pass: bool,
}

/// What one task took.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Executed {
    /// Seconds.
    pub seconds: f64,
    /// Joules of the whole machine, idle devices included.
    pub joules: f64,
    /// Samples that were completed.
    pub samples: u32,
    /// Whether one of them passed.
    pub solved: bool,
}

/// A machine on which tasks follow each other.
#[derive(Debug, Clone)]
pub struct Execution<'a> {
    machine: &'a Machine,
    plant: Plant,
    prompt_tokens: u32,
    output_tokens: u32,
    over_guard_c: f64,
}

/// What a lane does.
#[derive(Debug, Clone, Copy)]
enum Doing {
    /// Its state is on the way for so many seconds.
    Waits(f64),
    /// It computes a prompt, or a step.
    Computes(Segment),
    Done,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    cost: StepCost,
    /// Seconds at full speed until it is done.
    left_s: f64,
    /// Sequences that get a token in this step; 0 for a prompt.
    sequences: u32,
    /// Tokens that each of them has.
    context: u32,
    /// Further steps after this one.
    steps: u32,
}

struct Running {
    device: usize,
    doing: Doing,
    samples_left: u32,
    batch: u32,
}

impl<'a> Execution<'a> {
    /// A machine that has idled for long, and what each task asks for.
    pub fn new(machine: &'a Machine, ambient_c: f64, prompt_tokens: u32, output_tokens: u32) -> Self {
        let mut plant = Plant::new(machine, ambient_c);
        plant.settle(&machine.devices.iter().map(|device| device.idle_w.value).collect::<Vec<f64>>());
        Self { machine, plant, prompt_tokens, output_tokens, over_guard_c: f64::NEG_INFINITY }
    }

    /// Most degrees that any device was over its guard temperature so far; negative where all kept it.
    pub fn over_guard_c(&self) -> f64 {
        self.over_guard_c
    }

    /// Execute a task; `passes` says whether the next completed sample of a stage passes. A stage is begun only where
    /// those before it solved nothing.
    pub fn task(&mut self, stages: &[Stage], mut passes: impl FnMut(usize) -> bool) -> Executed {
        let mut task = Executed::default();
        for (number, stage) in stages.iter().enumerate() {
            if task.solved {
                break;
            }
            self.stage(stage, &mut task, &mut || passes(number));
        }
        task
    }

    fn stage(&mut self, stage: &Stage, task: &mut Executed, passes: &mut dyn FnMut() -> bool) {
        if let Some(origin) = stage.origin {
            let mut alone = [Running {
                device: origin,
                doing: Doing::Computes(self.prompt(stage, origin)),
                samples_left: 0,
                batch: 1,
            }];
            self.run(stage, &mut alone, task, passes);
        }
        let mut lanes = Vec::with_capacity(stage.lanes.len());
        let mut moved_s = 0.0;
        for lane in &stage.lanes {
            let doing = match stage.origin {
                None => Doing::Computes(self.prompt(stage, lane.device)),
                Some(origin) if origin == lane.device => Doing::Waits(0.0),
                Some(origin) => {
                    let state = moving(self.machine, origin, lane.device);
                    let bytes = stage.model.kv_bytes_per_token * f64::from(self.prompt_tokens);
                    task.joules += state.joules_per_byte * bytes;
                    // One after the other: they leave through one memory.
                    moved_s += state.fixed_s + bytes / state.bytes_per_s;
                    Doing::Waits(moved_s)
                }
            };
            lanes.push(Running {
                device: lane.device,
                doing,
                samples_left: lane.samples,
                batch: lane.batch.max(1),
            });
        }
        self.run(stage, &mut lanes, task, passes);
    }

    /// Until all lanes are done, or a sample passed.
    fn run(
        &mut self,
        stage: &Stage,
        lanes: &mut [Running],
        task: &mut Executed,
        passes: &mut dyn FnMut() -> bool,
    ) {
        let mut powers = vec![0.0; self.machine.devices.len()];
        // Ends: each pass takes a step or a wait off some lane.
        loop {
            let (seconds, speeds) = self.until_next(lanes, &mut powers);
            if !seconds.is_finite() {
                return;
            }
            self.pass_time(seconds, &powers, task);
            for (lane, speed) in lanes.iter_mut().zip(speeds) {
                let ended = match &mut lane.doing {
                    Doing::Waits(left_s) => {
                        *left_s -= seconds;
                        *left_s <= 1e-12
                    }
                    Doing::Computes(segment) => {
                        segment.left_s -= seconds * speed;
                        segment.left_s <= 1e-12
                    }
                    Doing::Done => false,
                };
                if !ended {
                    continue;
                }
                let completed = self.next(stage, lane);
                for _ in 0..completed {
                    task.samples += 1;
                    task.solved |= passes();
                    if stage.until_pass && task.solved {
                        return;
                    }
                }
            }
        }
    }

    /// Seconds until something ends, the powers until then, and the speed of each lane.
    fn until_next(&self, lanes: &[Running], powers: &mut [f64]) -> (f64, [f64; DEVICES_MAX]) {
        let devices = &self.machine.devices;
        let mut idle_w = 0.0;
        for (power_w, device) in powers.iter_mut().zip(devices) {
            *power_w = device.idle_w.value;
            idle_w += *power_w;
        }
        let computing = |lane: &Running| match lane.doing {
            Doing::Computes(segment) => Some((segment, self.plant.clock(lane.device))),
            _ => None,
        };
        let (mut dynamic_w, mut bus) = (0.0, 0.0);
        for lane in lanes {
            if let Some((segment, clock)) = computing(lane) {
                dynamic_w += segment.cost.dynamic_w * clock;
                if !devices[lane.device].own_memory {
                    bus += segment.cost.bus_b_per_s * clock;
                }
            }
        }
        let scales = self.machine.scales(idle_w, dynamic_w, bus);
        let mut speeds = [0.0; DEVICES_MAX];
        let mut next_s = f64::INFINITY;
        for (lane, speed) in lanes.iter().zip(&mut speeds) {
            match lane.doing {
                Doing::Waits(left_s) => next_s = next_s.min(left_s.max(0.0)),
                Doing::Done => {}
                Doing::Computes(segment) => {
                    let clock = self.plant.clock(lane.device);
                    *speed = clock * scales.of(&devices[lane.device]);
                    powers[lane.device] += segment.cost.dynamic_w * clock * scales.power;
                    next_s = next_s.min(segment.left_s / *speed);
                }
            }
        }
        (next_s, speeds)
    }

    fn pass_time(&mut self, seconds: f64, powers: &[f64], task: &mut Executed) {
        task.seconds += seconds;
        task.joules += powers.iter().sum::<f64>() * seconds;
        self.plant.advance(powers, seconds);
        for (at, device) in self.machine.devices.iter().enumerate() {
            let over_c = self.plant.temperature_c(at) - GUARD_SHARE * device.max_c.value;
            self.over_guard_c = self.over_guard_c.max(over_c);
        }
        self.plant.protect();
    }

    fn prompt(&self, stage: &Stage, device: usize) -> Segment {
        let cost = prefill(&self.machine.devices[device], &stage.model, self.prompt_tokens);
        Segment { cost, left_s: cost.seconds, sequences: 0, context: self.prompt_tokens, steps: 0 }
    }

    fn step(&self, stage: &Stage, device: usize, sequences: u32, context: u32, steps: u32) -> Segment {
        let cost = decode(&self.machine.devices[device], &stage.model, sequences, f64::from(context));
        Segment { cost, left_s: cost.seconds, sequences, context, steps }
    }

    /// What a lane does next; the samples that its last step completed.
    fn next(&self, stage: &Stage, lane: &mut Running) -> u32 {
        let mut completed = 0;
        if let Doing::Computes(segment) = lane.doing {
            if segment.steps > 0 {
                let Segment { sequences, context, steps, .. } = segment;
                lane.doing =
                    Doing::Computes(self.step(stage, lane.device, sequences, context + 1, steps - 1));
                return 0;
            }
            completed = segment.sequences;
        }
        let mut sequences = lane.batch.min(lane.samples_left);
        lane.samples_left -= sequences;
        // The first token comes out of the prompt, so a sample of one token takes no step.
        if self.output_tokens == 1 {
            completed += sequences + lane.samples_left;
            (lane.samples_left, sequences) = (0, 0);
        }
        lane.doing = if sequences == 0 {
            Doing::Done
        } else {
            let steps = self.output_tokens - 2;
            Doing::Computes(self.step(stage, lane.device, sequences, self.prompt_tokens + 1, steps))
        };
        completed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::machine;

    fn stage(model: &str, origin: Option<usize>, lanes: &[(usize, u32, u32)], until_pass: bool) -> Stage {
        let lanes = lanes.iter().map(|&(device, samples, batch)| Lane { device, samples, batch });
        Stage { model: ModelShape::named(model, "Q8_0").unwrap(), origin, lanes: lanes.collect(), until_pass }
    }

    #[test]
    fn a_device_alone_takes_the_sum_of_its_steps() {
        let machine = machine("core-ultra-9-285h").unwrap();
        let model = ModelShape::named("Qwen2-0.5B", "Q8_0").unwrap();
        let mut cool = Execution::new(&machine, 15.0, 100, 5);
        let done = cool.task(&[stage("Qwen2-0.5B", None, &[(0, 6, 4)], false)], |_| false);
        let cpu = &machine.devices[0];
        let mut expected = prefill(cpu, &model, 100).seconds;
        for sequences in [4, 2] {
            expected += (101..105)
                .map(|context| decode(cpu, &model, sequences, f64::from(context)).seconds)
                .sum::<f64>();
        }
        assert!((done.seconds / expected - 1.0).abs() < 1e-9, "{} instead of {expected}", done.seconds);
        assert_eq!((done.samples, done.solved), (6, false));
        let idle_w: f64 = machine.devices.iter().map(|device| device.idle_w.value).sum();
        assert!(done.joules > idle_w * done.seconds);
    }

    #[test]
    fn two_readers_of_one_bus_slow_each_other_and_a_pass_ends_both() {
        let machine = machine("core-ultra-9-285h").unwrap();
        let alone = |device| {
            let mut execution = Execution::new(&machine, 15.0, 16, 64);
            execution.task(&[stage("Llama-3.2-1B", None, &[(device, 4, 4)], false)], |_| false).seconds
        };
        let both = stage("Llama-3.2-1B", None, &[(0, 4, 4), (1, 4, 4)], false);
        let mut execution = Execution::new(&machine, 15.0, 16, 64);
        let together = execution.task(std::slice::from_ref(&both), |_| false).seconds;
        assert!(together > 1.1 * alone(0).max(alone(1)), "they ask for more than the bus has");
        let mut execution = Execution::new(&machine, 15.0, 16, 64);
        let ended = execution.task(&[Stage { until_pass: true, ..both }], |_| true);
        assert!(ended.solved && ended.samples == 1 && ended.seconds < together);
    }

    #[test]
    fn a_ladder_goes_on_only_where_nothing_passed_and_a_moved_state_costs_its_move() {
        let machine = machine("jetson-orin-nano").unwrap();
        let small = stage("GPT-2-124M", None, &[(1, 2, 2)], true);
        let large = stage("Qwen2-0.5B", Some(1), &[(0, 2, 2)], true);
        let ladder = [small.clone(), large];
        let run = |first: bool| {
            Execution::new(&machine, 20.0, 64, 16).task(&ladder, |number| (number == 0) == first)
        };
        let (short, long) = (run(true), run(false));
        assert_eq!((short.samples, long.samples), (1, 3), "{short:?} {long:?}");
        assert!(long.seconds > short.seconds && long.joules > short.joules);
        // One token: nothing but the prompt, and every sample has it.
        let one = Execution::new(&machine, 20.0, 64, 1)
            .task(std::slice::from_ref(&Stage { until_pass: false, ..small }), |_| false);
        assert_eq!(one.samples, 2);
    }

    #[test]
    fn without_a_guard_a_small_board_in_heat_passes_its_guard_temperature() {
        let machine = machine("raspberry-pi-5").unwrap();
        let mut execution = Execution::new(&machine, 45.0, 64, 64);
        let work = [stage("Llama-3.2-1B", None, &[(0, 1, 1)], false)];
        let first = execution.task(&work, |_| false).seconds;
        for _ in 0..400 {
            execution.task(&work, |_| false);
        }
        assert!(execution.over_guard_c() > 0.0);
        assert!(execution.task(&work, |_| false).seconds > 1.2 * first, "its hardware throttles itself");
    }
}
