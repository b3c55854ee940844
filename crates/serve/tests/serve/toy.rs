//! A backend that serves for real, on a clock of its own.
//!
//! The control loop is the real one, with its queues, deadlines and budgets; the devices are toys. Each step of virtual
//! time gives every placed sample one word that depends on (seed, sample, position) alone. Steps can be held back, so that
//! a test says when time goes on.

use qeil_control::Control;
use qeil_control::config::{Config, DeviceConfig, DeviceId, Goal, Limits, Profile};
use qeil_control::event::{DownCause, Input, JobId, Outcome, Output, Refusal, Request, RequestId, SampleEnd};
use qeil_control::journal::Decision;
use qeil_model::prompt::Prompter;
use qeil_serve::backend::{
    Ask, Backend, Decided, Device, Ending, Event, Finish, Flow, Later, Model, ModelAbout,
};
use qeil_units::{Joules, Labelled, Provenance};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, oneshot, watch};

/// Virtual seconds of a step.
pub const STEP_S: f64 = 0.01;
/// Joules of a word.
pub const WORD_J: f64 = 0.5;
/// Most words of a sample: bounds the events of a request.
const TOKENS_MAX: u32 = 2048;
const WORDS: [&str; 8] = ["heat ", "flows ", "from ", "warm ", "to ", "cold, ", "näïve ", "日本 "];
pub const TEMPLATE: &str = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

#[derive(Debug)]
enum Order {
    Submit(Box<Ask>, oneshot::Sender<Result<ToyFlow, Refusal>>),
    Judged(RequestId, u32, bool),
    Kill(DeviceId),
    Devices(oneshot::Sender<Vec<Device>>),
}

/// What a test sees of the toy.
#[derive(Debug, Default)]
pub struct Seen {
    /// What was asked.
    pub asks: Vec<Ask>,
    /// How requests ended.
    pub outcomes: Vec<(u64, Outcome)>,
    /// Words that were made.
    pub words: usize,
}

#[derive(Debug)]
pub struct Toy {
    models: Vec<Arc<Model>>,
    limits: Limits,
    orders: mpsc::Sender<Order>,
    /// Whether steps are made.
    pub running: watch::Sender<bool>,
    pub seen: Arc<Mutex<Seen>>,
}

#[derive(Debug)]
struct ToyFlow {
    request: RequestId,
    events: mpsc::Receiver<Event>,
    orders: mpsc::Sender<Order>,
}

impl Flow for ToyFlow {
    fn next(&mut self) -> Later<'_, Option<Event>> {
        Box::pin(self.events.recv())
    }

    fn judged(&mut self, sample: u32, passed: bool) -> Later<'_, ()> {
        Box::pin(async move {
            let _ = self.orders.send(Order::Judged(self.request, sample, passed)).await;
        })
    }
}

impl Toy {
    /// Two devices of eight sequences each.
    pub fn new(change: impl FnOnce(&mut Limits)) -> Arc<Self> {
        let mut limits = Limits { tokens_max: TOKENS_MAX, ..Limits::default() };
        change(&mut limits);
        let model = Model {
            id: "toy".into(),
            created_unix_s: 1_700_000_000,
            prompter: Prompter::new(
                Some(TEMPLATE),
                "<s>",
                "</s>",
                vec!["<|im_start|>".into(), "<|im_end|>".into()],
            )
            .unwrap(),
            vocab_tokens: 1000,
            context_tokens: 4096,
            about: ModelAbout::default(),
        };
        let (orders, inbox) = mpsc::channel(64);
        let (running, held) = watch::channel(true);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let world = World::new(limits.clone(), orders.downgrade(), Arc::clone(&seen));
        tokio::spawn(world.run(inbox, held));
        Arc::new(Self { models: vec![Arc::new(model)], limits, orders, running, seen })
    }

    /// Let a device die.
    pub async fn kill(&self, device: u16) {
        self.orders.send(Order::Kill(DeviceId(device))).await.unwrap();
    }

    /// The outcomes so far, once there are as many.
    pub async fn outcomes(&self, count: usize) -> Vec<Outcome> {
        for _ in 0..100_000 {
            let all: Vec<_> = self.seen.lock().unwrap().outcomes.iter().map(|(_, o)| o.clone()).collect();
            if all.len() >= count {
                return all;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        panic!("{count} outcomes did not come: {:?}", self.seen.lock().unwrap());
    }
}

impl Backend for Toy {
    fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn devices(&self) -> Later<'_, Vec<Device>> {
        Box::pin(async {
            let (reply, answer) = oneshot::channel();
            self.orders.send(Order::Devices(reply)).await.unwrap();
            answer.await.unwrap()
        })
    }

    fn submit(&self, ask: Ask) -> Later<'_, Result<Box<dyn Flow>, Refusal>> {
        Box::pin(async {
            let (reply, answer) = oneshot::channel();
            self.orders.send(Order::Submit(Box::new(ask), reply)).await.unwrap();
            answer.await.unwrap().map(|flow| Box::new(flow) as Box<dyn Flow>)
        })
    }
}

#[derive(Debug)]
struct Live {
    ask: Ask,
    events: mpsc::Sender<Event>,
    emitted: Vec<u32>,
    devices: Vec<Vec<String>>,
    joules: f64,
    decisions: Vec<Decided>,
    begun_s: f64,
    first_s: Option<f64>,
}

struct World {
    control: Control,
    now_s: f64,
    next: u64,
    rows: u64,
    live: BTreeMap<RequestId, Live>,
    /// Request and device of each job, and its samples.
    jobs: BTreeMap<JobId, (RequestId, DeviceId, Vec<u32>)>,
    replies: BTreeMap<RequestId, (Ask, oneshot::Sender<Result<ToyFlow, Refusal>>)>,
    dead: Vec<DeviceId>,
    /// For flows. The world ends when nobody outside of it can give orders any more.
    orders: mpsc::WeakSender<Order>,
    seen: Arc<Mutex<Seen>>,
}

fn name(device: DeviceId) -> String {
    format!("toy {}", device.0)
}

impl World {
    fn new(limits: Limits, orders: mpsc::WeakSender<Order>, seen: Arc<Mutex<Seen>>) -> Self {
        let profile = Profile {
            prefill_s_per_token: STEP_S / 100.0,
            prefill_j_per_token: WORD_J / 100.0,
            step_s: STEP_S / 2.0,
            step_s_per_sequence: STEP_S / 16.0,
            step_j: WORD_J / 2.0,
            step_j_per_sequence: WORD_J / 16.0,
            idle_w: 1.0,
            provenance: Provenance::Simulated,
        };
        let device = |i: u16| DeviceConfig {
            name: name(DeviceId(i)),
            kin: "toy".into(),
            sequences_max: 8,
            context_tokens: 1 << 16,
            chunk_tokens: None,
            profile: profile.clone(),
            thermal: None,
        };
        let config = Config {
            devices: vec![device(0), device(1)],
            limits,
            power_cap_w: None,
            goal: Goal::Latency,
            guarded: true,
            seed: 1,
        };
        Self {
            control: Control::new(config),
            now_s: 0.0,
            next: 1,
            rows: 0,
            live: BTreeMap::new(),
            jobs: BTreeMap::new(),
            replies: BTreeMap::new(),
            dead: Vec::new(),
            orders,
            seen,
        }
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Order>, mut held: watch::Receiver<bool>) {
        self.input(Input::Tick);
        loop {
            let busy = !self.live.is_empty();
            tokio::select! {
                biased;
                order = inbox.recv() => match order {
                    Some(order) => self.order(order),
                    None => return,
                },
                // The test may have ended.
                running = held.wait_for(|running| *running), if busy => match running {
                    Ok(_) => {}
                    Err(_) => return,
                },
                () = tokio::time::sleep(std::time::Duration::from_millis(1)) => {}
            }
            self.drop_those_who_left();
            if *held.borrow() {
                self.step();
            }
            tokio::task::yield_now().await;
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Submit(ask, reply) => {
                let id = RequestId(self.next);
                self.next += 1;
                self.seen.lock().unwrap().asks.push((*ask).clone());
                let request = Request {
                    id,
                    client: ask.client,
                    priority: ask.priority,
                    prompt_tokens: ask.prompt.iter().map(|part| part.text.len() as u32 / 4).sum::<u32>() + 1,
                    samples: ask.samples,
                    tokens_max: ask.tokens_max,
                    deadline_s: ask.deadline_s,
                    energy_budget_j: ask.energy_budget_j,
                    until_pass: ask.until_pass,
                };
                self.replies.insert(id, (*ask, reply));
                self.input(Input::Arrive(request));
            }
            Order::Judged(request, sample, passed) => self.input(Input::Judged { request, sample, passed }),
            Order::Kill(device) => {
                self.dead.push(device);
                self.jobs.retain(|_, job| job.1 != device);
                let cause = DownCause::Vanished("a secret path /var/lib/toy".into());
                self.input(Input::Down { device, cause });
            }
            Order::Devices(reply) => {
                let device = |view: qeil_control::view::DeviceView| Device {
                    name: name(view.device),
                    state: format!("{:?}", view.standing).to_lowercase(),
                    serving: view.standing == qeil_control::view::Standing::Serving,
                    temperature_c: view.temperature_c,
                    guard_c: None,
                };
                let _ = reply.send(self.control.devices().into_iter().map(device).collect());
            }
        }
    }

    fn drop_those_who_left(&mut self) {
        let left: Vec<_> =
            self.live.iter().filter(|(_, live)| live.events.is_closed()).map(|(id, _)| *id).collect();
        for id in left {
            self.input(Input::Withdraw(id));
        }
    }

    /// One word for each placed sample.
    fn step(&mut self) {
        self.now_s += STEP_S;
        self.input(Input::Tick);
        let placed: Vec<_> = self.jobs.iter().map(|(job, placed)| (*job, placed.clone())).collect();
        for (job, (request, device, samples)) in placed {
            for sample in samples {
                self.word(job, request, device, sample);
            }
        }
    }

    fn word(&mut self, job: JobId, request: RequestId, device: DeviceId, sample: u32) {
        if !self.jobs.get(&job).is_some_and(|(_, _, samples)| samples.contains(&sample)) {
            return;
        }
        let Some(live) = self.live.get_mut(&request) else { return };
        let t = live.emitted[sample as usize];
        live.emitted[sample as usize] += 1;
        self.seen.lock().unwrap().words += 1;
        live.joules += WORD_J;
        live.first_s.get_or_insert(self.now_s - live.begun_s);
        let text = word(live.ask.sampling.seed, sample, t);
        let stopped = live.ask.stop.iter().any(|stop| text.contains(stop.as_str()));
        let ended = stopped || t + 1 == live.ask.tokens_max;
        let text = if stopped { String::new() } else { text };
        let _ = live.events.try_send(Event::Text { sample, text, tokens: 1 });
        if ended {
            let finish = if stopped { Finish::Stop } else { Finish::Length };
            let _ = live.events.try_send(Event::SampleEnded { sample, finish });
        }
        self.input(Input::Tokens { device, job, sample, count: 1 });
        self.input(Input::Spent { request, joules: WORD_J });
        if ended {
            self.sample_ended(job, sample, SampleEnd::Complete);
        }
    }

    fn sample_ended(&mut self, job: JobId, sample: u32, end: SampleEnd) {
        let Some((_, device, samples)) = self.jobs.get_mut(&job) else { return };
        let (device, before) = (*device, samples.len());
        samples.retain(|other| *other != sample);
        if samples.len() < before {
            self.input(Input::SampleEnded { device, job, sample, end });
        }
    }

    fn input(&mut self, input: Input) {
        for output in self.control.step(self.now_s, input) {
            self.output(output);
        }
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Admitted(id) => {
                let Some((ask, reply)) = self.replies.remove(&id) else { return };
                let Some(orders) = self.orders.upgrade() else { return };
                let room = ask.samples as usize * (ask.tokens_max as usize + 2) + 2;
                let (events, inbox) = mpsc::channel(room);
                let live = Live {
                    emitted: vec![0; ask.samples as usize],
                    devices: vec![Vec::new(); ask.samples as usize],
                    ask,
                    events,
                    joules: 0.0,
                    decisions: Vec::new(),
                    begun_s: self.now_s,
                    first_s: None,
                };
                self.live.insert(id, live);
                let flow = ToyFlow { request: id, events: inbox, orders };
                let _ = reply.send(Ok(flow));
            }
            Output::Refused { request, refusal } => {
                if let Some((_, reply)) = self.replies.remove(&request) {
                    let _ = reply.send(Err(refusal));
                }
            }
            Output::Place { device, job, request, samples } => {
                let samples: Vec<u32> = samples.iter().map(|resume| resume.sample).collect();
                if let Some(live) = self.live.get_mut(&request) {
                    samples.iter().for_each(|s| live.devices[*s as usize].push(name(device)));
                }
                self.jobs.insert(job, (request, device, samples));
            }
            Output::Cancel { job, samples, .. } => {
                for sample in samples {
                    self.sample_ended(job, sample, SampleEnd::Cancelled);
                }
            }
            Output::Ended { request, outcome } => self.ended(request, outcome),
            Output::Decided(decision) => self.decided(&decision),
            Output::Pace { .. } => {}
            Output::Start(device) | Output::Stop(device) if self.dead.contains(&device) => {
                let cause = DownCause::NotStarted("it is gone".into());
                self.input(Input::Down { device, cause });
            }
            Output::Start(device) => self.input(Input::Up(device)),
            Output::Stop(device) => self.input(Input::Down { device, cause: DownCause::Stopped }),
            Output::Probe(device) => self.input(Input::Probed { device, outcome: Ok(STEP_S) }),
            Output::Check(device) => self.input(Input::Checked { device, outcome: Ok((0.0, true)) }),
        }
    }

    fn decided(&mut self, decision: &Decision) {
        self.rows += 1;
        let Some(live) = decision.request.and_then(|id| self.live.get_mut(&id)) else { return };
        live.decisions.push(Decided {
            journal: self.rows,
            kind: format!("{:?}", decision.kind).to_lowercase(),
            device: decision.device.map(name),
            why: decision.reason.clone(),
        });
    }

    fn ended(&mut self, id: RequestId, outcome: Outcome) {
        self.seen.lock().unwrap().outcomes.push((id.0, outcome.clone()));
        let Some(live) = self.live.remove(&id) else { return };
        let ending = Ending {
            request: id.0,
            outcome,
            prompt_tokens: 7,
            energy: Ok(Labelled::simulated(Joules(live.joules), "the toy's words")),
            devices: live.devices,
            decisions: live.decisions,
            first_token_s: live.first_s,
            wall_s: self.now_s - live.begun_s,
        };
        let _ = live.events.try_send(Event::Ended(Box::new(ending)));
    }
}

/// The word of (seed, sample, position).
fn word(seed: u64, sample: u32, t: u32) -> String {
    let mixed = seed
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add(u64::from(sample).wrapping_mul(0xBF58_476D_1CE4_E5B9))
        .wrapping_add(u64::from(t).wrapping_mul(0x94D0_49BB_1331_11EB));
    let mixed = (mixed ^ (mixed >> 31)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    WORDS[(mixed >> 61) as usize].into()
}
