//! A toy world that carries out the loop's orders in virtual time, and holds each of its answers to what must always be
//! true. Devices work by their profiles, die, hang, slow down and answer wrongly when told to.

#![allow(dead_code)]

use qeil_control::Control;
use qeil_control::config::{Config, DeviceConfig, DeviceId, Goal, Limits, Profile, ThermalLimits};
use qeil_control::event::*;
use qeil_control::journal::{Decision, Kind};
use qeil_control::replay::State;
use qeil_control::view::Standing;
use qeil_units::Provenance;
use std::collections::{BTreeMap, BTreeSet};

pub const DT_S: f64 = 0.05;

pub fn profile() -> Profile {
    Profile {
        prefill_s_per_token: 0.001,
        prefill_j_per_token: 0.02,
        step_s: 0.02,
        step_s_per_sequence: 0.002,
        step_j: 0.4,
        step_j_per_sequence: 0.02,
        idle_w: 2.0,
        provenance: Provenance::Simulated,
    }
}

pub fn device(name: &str) -> DeviceConfig {
    DeviceConfig {
        name: name.into(),
        kin: "toy".into(),
        sequences_max: 8,
        context_tokens: 16_384,
        chunk_tokens: None,
        profile: profile(),
        thermal: Some(ThermalLimits::new(100.0)),
    }
}

pub fn config(devices: Vec<DeviceConfig>) -> Config {
    Config {
        devices,
        limits: Limits::default(),
        power_cap_w: None,
        goal: Goal::Latency,
        guarded: true,
        seed: 1,
    }
}

pub fn request(id: u64) -> Request {
    Request {
        id: RequestId(id),
        client: 0,
        priority: Priority::Interactive,
        prompt_tokens: 100,
        samples: 1,
        tokens_max: 50,
        deadline_s: None,
        energy_budget_j: None,
        until_pass: false,
    }
}

struct Held {
    job: JobId,
    request: RequestId,
    sample: u32,
    prefill_left: f64,
    left: u32,
    part: f64,
}

#[derive(Default)]
pub struct ToyDevice {
    pub up: bool,
    /// Seconds until a worker that was started is up.
    pub starting_s: Option<f64>,
    pub hung: bool,
    pub slow: f64,
    pub wrong: bool,
    pub silent_sensor: bool,
    /// Its engine fails every sample.
    pub failing: bool,
    /// It refuses every sample.
    pub full: bool,
    pub gone: bool,
    pub duty: f32,
    pub rise_c: f64,
    pub cooling: f64,
    held: Vec<Held>,
}

pub struct Toy {
    pub control: Control,
    pub now_s: f64,
    pub devices: Vec<ToyDevice>,
    pub admitted: BTreeSet<RequestId>,
    pub refused: BTreeMap<RequestId, Refusal>,
    pub outcomes: BTreeMap<RequestId, Outcome>,
    /// Tokens that reached the client, of each sample.
    pub emitted: BTreeMap<(RequestId, u32), u32>,
    pub places: Vec<(DeviceId, RequestId, Vec<Resume>)>,
    pub rows: Vec<Decision>,
    pub outputs: Vec<(f64, Output)>,
    pub ended_s: BTreeMap<RequestId, f64>,
    requests: BTreeMap<RequestId, Request>,
    replay: State,
    sense_s: f64,
    jobs: BTreeSet<JobId>,
    /// Samples that a device let go of: what it had still to tell of them is not told.
    dropped: BTreeSet<(JobId, u32)>,
}

impl Toy {
    pub fn new(config: Config) -> Self {
        let count = config.devices.len();
        let mut toy = Self {
            control: Control::new(config),
            now_s: 0.0,
            devices: (0..count)
                .map(|_| ToyDevice { slow: 1.0, duty: 1.0, cooling: 0.5, ..ToyDevice::default() })
                .collect(),
            admitted: BTreeSet::new(),
            refused: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            emitted: BTreeMap::new(),
            places: Vec::new(),
            rows: Vec::new(),
            outputs: Vec::new(),
            ended_s: BTreeMap::new(),
            requests: BTreeMap::new(),
            replay: State::new(count),
            sense_s: 0.0,
            jobs: BTreeSet::new(),
            dropped: BTreeSet::new(),
        };
        toy.tell(Input::Tick);
        toy
    }

    /// A world whose devices serve already.
    pub fn serving(config: Config) -> Self {
        let mut toy = Self::new(config);
        toy.run(20.0);
        toy
    }

    pub fn arrive(&mut self, request: Request) {
        self.requests.insert(request.id, request.clone());
        self.tell(Input::Arrive(request));
    }

    pub fn die(&mut self, device: usize) {
        self.devices[device].up = false;
        self.devices[device].held.clear();
        let device = DeviceId(device as u16);
        self.tell(Input::Down { device, cause: DownCause::Died("signal 9".into()) });
    }

    pub fn run(&mut self, seconds: f64) {
        let end = self.now_s + seconds;
        while self.now_s < end - 1e-9 {
            self.now_s += DT_S;
            self.advance();
        }
    }

    pub fn standing(&self, device: usize) -> Standing {
        self.control.devices()[device].standing
    }

    /// The jobs that were placed: of which request, their number, on which device.
    pub fn placed_jobs(&self) -> Vec<(RequestId, JobId, DeviceId)> {
        let place = |(_, output): &(f64, Output)| match output {
            Output::Place { device, job, request, .. } => Some((*request, *job, *device)),
            _ => None,
        };
        self.outputs.iter().filter_map(place).collect()
    }

    pub fn rows_of(&self, kind: Kind) -> Vec<&Decision> {
        self.rows.iter().filter(|row| row.kind == kind).collect()
    }

    fn advance(&mut self) {
        if self.control.wake_s().is_some_and(|wake_s| wake_s <= self.now_s) {
            self.tell(Input::Tick);
        }
        for i in 0..self.devices.len() {
            self.advance_device(i);
        }
        if self.now_s >= self.sense_s {
            self.sense_s = self.now_s + 1.0;
            for i in 0..self.devices.len() {
                if self.devices[i].silent_sensor {
                    continue;
                }
                // The last digits flutter, as a sensor's do.
                let flutter = 0.01 * ((self.now_s * 13.7 + i as f64).sin());
                let reading = Reading {
                    temperature_c: Some(30.0 + self.devices[i].rise_c + flutter),
                    power_w: None,
                    throttling: false,
                    memory_share: None,
                };
                self.tell(Input::Sensed { device: DeviceId(i as u16), reading });
            }
        }
    }

    fn advance_device(&mut self, i: usize) {
        let id = DeviceId(i as u16);
        if let Some(left_s) = self.devices[i].starting_s {
            self.devices[i].starting_s = (left_s > DT_S).then_some(left_s - DT_S);
            if left_s <= DT_S {
                self.devices[i].up = true;
                // A new worker runs at full duty until it is told.
                self.devices[i].duty = 1.0;
                self.tell(Input::Up(id));
            }
            return;
        }
        let profile = self.control.config().devices[i].profile.clone();
        let device = &mut self.devices[i];
        let busy = !device.held.is_empty() && device.up && !device.hung;
        let duty = if busy { f64::from(device.duty) } else { 0.0 };
        let end = 100.0 * device.cooling * duty;
        device.rise_c = end + (device.rise_c - end) * (-DT_S / 40.0).exp();
        if !busy {
            return;
        }
        let mut seconds = DT_S * duty / device.slow;
        let mut events = Vec::new();
        for held in device.held.iter_mut().filter(|held| held.prefill_left > 0.0) {
            let done = held.prefill_left.min(seconds / profile.prefill_s_per_token);
            held.prefill_left -= done;
            seconds -= done * profile.prefill_s_per_token;
        }
        let decoding = device.held.iter().filter(|held| held.prefill_left <= 0.0).count() as u32;
        if decoding > 0 {
            let steps = seconds / profile.decode_step_s(decoding);
            for held in device.held.iter_mut().filter(|held| held.prefill_left <= 0.0) {
                held.part += steps;
                let count = (held.part as u32).min(held.left);
                held.part -= f64::from(count);
                held.left -= count;
                if count > 0 {
                    events.push((held.job, held.request, held.sample, count, held.left == 0));
                }
            }
            device.held.retain(|held| held.left > 0);
        }
        for (job, request, sample, count, ended) in events {
            if self.dropped.contains(&(job, sample)) {
                continue;
            }
            if !self.outcomes.contains_key(&request) {
                *self.emitted.entry((request, sample)).or_default() += count;
            }
            self.tell(Input::Tokens { device: id, job, sample, count });
            if ended {
                self.tell(Input::SampleEnded { device: id, job, sample, end: SampleEnd::Complete });
            }
        }
    }

    /// One step of the loop, with its orders carried out and its promises checked.
    pub fn tell(&mut self, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let outputs = self.control.step(self.now_s, input);
            for output in &outputs {
                self.outputs.push((self.now_s, output.clone()));
                self.carry_out(output, &mut inputs);
            }
            self.check();
        }
    }

    fn carry_out(&mut self, output: &Output, inputs: &mut Vec<Input>) {
        match output {
            Output::Admitted(id) => {
                assert!(self.admitted.insert(*id), "{id:?} was admitted twice");
            }
            Output::Refused { request, refusal } => {
                self.refused.insert(*request, refusal.clone());
            }
            Output::Ended { request, outcome } => {
                assert!(self.admitted.contains(request), "{request:?} was never admitted");
                let before = self.outcomes.insert(*request, outcome.clone());
                assert_eq!(before, None, "{request:?} ended twice");
                self.ended_s.insert(*request, self.now_s);
            }
            Output::Place { device, job, request, samples } => {
                assert!(self.jobs.insert(*job), "{job:?} twice");
                assert!(!samples.is_empty());
                self.place(*device, *job, *request, samples, inputs);
            }
            Output::Cancel { device, job, samples } => {
                let holder = &mut self.devices[usize::from(device.0)];
                if holder.hung {
                    return;
                }
                for sample in samples {
                    let at = holder.held.iter().position(|held| held.job == *job && held.sample == *sample);
                    if let Some(at) = at {
                        holder.held.remove(at);
                        self.dropped.insert((*job, *sample));
                        inputs.push(Input::SampleEnded {
                            device: *device,
                            job: *job,
                            sample: *sample,
                            end: SampleEnd::Cancelled,
                        });
                    }
                }
            }
            Output::Pace { device, duty } => {
                assert!(*duty > 0.0 && *duty <= 1.0, "duty {duty}");
                self.devices[usize::from(device.0)].duty = *duty;
            }
            Output::Start(device) => {
                let holder = &mut self.devices[usize::from(device.0)];
                if holder.gone {
                    let cause = DownCause::Vanished("no such device".into());
                    inputs.push(Input::Down { device: *device, cause });
                } else {
                    holder.starting_s = Some(1.0);
                }
            }
            Output::Stop(device) => {
                let holder = &mut self.devices[usize::from(device.0)];
                holder.up = false;
                holder.hung = false;
                holder.starting_s = None;
                holder.held.clear();
                inputs.push(Input::Down { device: *device, cause: DownCause::Stopped });
            }
            Output::Probe(device) => {
                if !self.devices[usize::from(device.0)].hung {
                    inputs.push(Input::Probed { device: *device, outcome: Ok(0.05) });
                }
            }
            Output::Check(device) => {
                let holder = &self.devices[usize::from(device.0)];
                if !holder.hung {
                    let outcome = Ok(if holder.wrong { (9.0, false) } else { (0.001, true) });
                    inputs.push(Input::Checked { device: *device, outcome });
                }
            }
            Output::Decided(row) => {
                assert!(!row.reason.is_empty());
                self.replay.apply(row);
                self.rows.push(row.clone());
            }
        }
    }

    fn place(
        &mut self,
        device: DeviceId,
        job: JobId,
        request: RequestId,
        samples: &[Resume],
        inputs: &mut Vec<Input>,
    ) {
        assert!(!self.outcomes.contains_key(&request), "{request:?} is placed after its end");
        let asked = &self.requests[&request];
        let holder = &mut self.devices[usize::from(device.0)];
        assert!(holder.up, "{request:?} is placed on {device:?}, which is down");
        self.places.push((device, request, samples.to_vec()));
        for (i, resume) in samples.iter().enumerate() {
            let emitted = self.emitted.get(&(request, resume.sample)).copied().unwrap_or(0);
            assert_eq!(resume.emitted, emitted, "{request:?}, sample {}", resume.sample);
            let refusal = if holder.failing {
                Some(SampleEnd::Failed("no finite number".into()))
            } else {
                holder.full.then(|| SampleEnd::Refused("no room".into()))
            };
            if let Some(end) = refusal {
                inputs.push(Input::SampleEnded { device, job, sample: resume.sample, end });
                continue;
            }
            let prompt = if i == 0 { asked.prompt_tokens } else { 0 };
            holder.held.push(Held {
                job,
                request,
                sample: resume.sample,
                prefill_left: f64::from(prompt + resume.emitted),
                left: asked.tokens_max - resume.emitted,
                part: 0.0,
            });
        }
    }

    /// What is true after every step.
    fn check(&self) {
        let config = self.control.config();
        let (requests, tokens) = self.control.queued();
        assert!(requests <= config.limits.queue_requests_max, "{requests} requests wait");
        assert!(tokens <= config.limits.queue_tokens_max, "{tokens} tokens wait");
        let views = self.control.devices();
        for (view, device) in views.iter().zip(&config.devices) {
            assert!(view.sequences <= device.sequences_max, "{view:?}");
            assert!(view.tokens_held <= u64::from(device.context_tokens), "{view:?}");
            assert!(view.duty > 0.0 && view.duty <= 1.0);
            let toy = &self.devices[usize::from(view.device.0)];
            assert!(toy.held.is_empty() || toy.duty == view.duty, "{view:?} runs at {}", toy.duty);
            assert!(view.health > 0.0 && view.health <= 1.0);
        }
        let live = self.control.requests();
        assert_eq!(live.len(), self.admitted.len() - self.outcomes.len());
        for view in &live {
            assert!(view.deadline_at_s >= self.now_s, "{view:?} outlived its deadline");
            assert_eq!(view.waiting + view.running + view.done, self.requests[&view.request].samples);
        }
        // The journal tells the same story.
        assert_eq!(self.replay.devices.len(), views.len());
        for (told, view) in self.replay.devices.iter().zip(&views) {
            assert_eq!((told.standing, told.heat, told.duty), (view.standing, view.heat, view.duty));
        }
        let told: Vec<_> = self.replay.requests.iter().map(|(id, begun)| (*id, *begun)).collect();
        let seen: Vec<_> = live.iter().map(|view| (view.request, view.begun)).collect();
        assert_eq!(told, seen);
    }
}
