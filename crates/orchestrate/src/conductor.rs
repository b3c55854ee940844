//! The one task that owns the loop: inputs in, orders out, nothing decided here.
//!
//! It never waits for a device, a client or the disk. What takes time runs in tasks of its own and comes back as a
//! message; the message that a device died is read before all others, so that its samples are on their way elsewhere
//! before anything else is looked at.

mod lives;

pub(crate) use lives::Life;
use lives::Slot;

use crate::ask::{AnswerEvent, Ask, Decided, Report};
use crate::device::{Device, End, JobEvent, JobEvents, Running};
use crate::energy::Account;
use crate::journal::Writer;
use crate::ledger::{Held, Reply};
use crate::sense::Look;
use crate::snapshot::{Reroute, Snapshot};
use qeil_control::Control;
use qeil_control::config::{Config, DeviceConfig, DeviceId};
use qeil_control::event::{Input, JobId, Outcome, Output, Request, RequestId, Resume, SampleEnd};
use qeil_engine::request::{FinishReason, Prompt};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Reroutes remembered for a look at them; a drill of a thousand faults with a few samples each fits.
const REROUTES_MAX: usize = 16_384;
/// Job events taken in one turn, before deaths and clients are looked at again.
const TURN: usize = 64;
/// Between two searches for clients that went away without a word, and two questions to devices how far prompts are: a
/// heartbeat of theirs.
const ROUNDS_EVERY: Duration = Duration::from_millis(100);
/// Cancels of one placement beyond one for each sample: a second word about the same sample is not needed.
const CANCELS_EXTRA: usize = 1;

/// The living devices, shared with those who tokenise prompts.
pub(crate) type Roster = Arc<Mutex<Vec<Option<Arc<dyn Running>>>>>;

/// What clients want.
#[derive(Debug)]
pub(crate) enum Order {
    Submit { ask: Box<Ask>, prompt: Prompt, prompt_tokens: u32, reply: Reply },
    Withdraw(RequestId),
    Judged { request: RequestId, sample: u32, passed: bool },
    Check(DeviceId),
    Snapshot(oneshot::Sender<Snapshot>),
    Stop(oneshot::Sender<()>),
}

/// One placement.
#[derive(Debug)]
struct Job {
    device: DeviceId,
    request: RequestId,
    open: BTreeSet<u32>,
    cancels: mpsc::Sender<u32>,
}

/// See the module's text.
pub(crate) struct Conductor {
    pub(crate) control: Control,
    began: Instant,
    /// When devices were asked last how far their prompts are.
    heard: Instant,
    slots: Vec<Slot>,
    jobs: BTreeMap<JobId, Job>,
    held: BTreeMap<RequestId, Held>,
    next_request: u64,
    account: Account,
    journal: Option<Writer>,
    /// Reports that wait for the disk.
    reports: VecDeque<(u64, mpsc::Sender<AnswerEvent>, Report)>,
    roster: Roster,
    lives: mpsc::Sender<Life>,
    job_events: mpsc::Sender<(JobId, JobEvent)>,
    reroutes: VecDeque<Reroute>,
    outcomes: u64,
}

/// What the conductor listens to.
pub(crate) struct Ears {
    pub(crate) orders: mpsc::Receiver<Order>,
    pub(crate) lives: mpsc::Receiver<Life>,
    pub(crate) job_events: mpsc::Receiver<(JobId, JobEvent)>,
    pub(crate) looks: mpsc::Receiver<Vec<Look>>,
}

impl Conductor {
    pub(crate) fn new(
        config: Config,
        devices: Vec<(Arc<dyn Device>, Option<usize>)>,
        journal: Option<Writer>,
        roster: Roster,
        lives: mpsc::Sender<Life>,
        job_events: mpsc::Sender<(JobId, JobEvent)>,
    ) -> Self {
        let idle = |((_, place), named): (&(Arc<dyn Device>, Option<usize>), &DeviceConfig)| {
            (*place, named.profile.idle_w)
        };
        let account = Account::new(&devices.iter().zip(&config.devices).map(idle).collect::<Vec<_>>());
        type Named<'a> = (&'a DeviceConfig, (Arc<dyn Device>, Option<usize>));
        let slot = |(named, (device, place)): Named<'_>| Slot {
            name: named.name.clone(),
            device,
            place,
            starts: 0,
            starting: None,
            running: None,
            stopping: false,
            prefilled_tokens: 0,
        };
        let slots = config.devices.iter().zip(devices).map(slot).collect();
        Self {
            control: Control::new(config),
            began: Instant::now(),
            heard: Instant::now(),
            slots,
            jobs: BTreeMap::new(),
            held: BTreeMap::new(),
            next_request: 1,
            account,
            journal,
            reports: VecDeque::new(),
            roster,
            lives,
            job_events,
            reroutes: VecDeque::new(),
            outcomes: 0,
        }
    }

    fn now_s(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Run until told to stop or nobody is left who could tell.
    pub(crate) async fn run(mut self, mut ears: Ears) {
        self.feed(Input::Tick);
        let mut rounds = tokio::time::interval(ROUNDS_EVERY);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let stopped = loop {
            let wake = self.began
                + Duration::from_secs_f64(self.control.wake_s().unwrap_or(f64::from(u32::MAX)).max(0.0));
            tokio::select! {
                biased;
                Some(life) = ears.lives.recv() => self.live(life),
                Some((job, event)) = ears.job_events.recv() => {
                    self.job(job, event);
                    for _ in 1..TURN {
                        if !ears.lives.is_empty() {
                            break;
                        }
                        let Ok((job, event)) = ears.job_events.try_recv() else { break };
                        self.job(job, event);
                    }
                }
                order = ears.orders.recv() => match order {
                    Some(Order::Stop(done)) => break Some(done),
                    None => break None,
                    Some(order) => self.order(order),
                },
                Some(looks) = ears.looks.recv() => self.look(&looks),
                () = saved(&mut self.journal) => {}
                _ = rounds.tick() => self.sweep(),
                () = tokio::time::sleep_until(wake.into()) => self.feed(Input::Tick),
            }
            self.hear();
            self.flush(false);
        };
        self.stop().await;
        if let Some(done) = stopped {
            let _ = done.send(());
        }
    }

    /// One input, and those that follow from what is done about it at once.
    fn feed(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        let mut ended = Vec::new();
        // An order to a device that is gone is answered at once, and each order at most once.
        while let Some(input) = inputs.pop_front() {
            for output in self.control.step(self.now_s(), input) {
                self.act(output, &mut inputs, &mut ended);
            }
        }
        for (request, outcome) in ended {
            self.close(request, outcome);
        }
    }

    fn act(&mut self, output: Output, inputs: &mut VecDeque<Input>, ended: &mut Vec<(RequestId, Outcome)>) {
        match output {
            Output::Admitted(request) => {
                if let Some(held) = self.held.get_mut(&request) {
                    held.admit();
                }
            }
            Output::Refused { request, refusal } => {
                if let Some(held) = self.held.remove(&request) {
                    held.refuse(refusal);
                }
            }
            Output::Place { device, job, request, samples } => {
                self.place(device, job, request, &samples, inputs);
            }
            Output::Cancel { job, samples, .. } => {
                if let Some(job) = self.jobs.get(&job) {
                    for sample in samples {
                        // Full only where this was said already.
                        let _ = job.cancels.try_send(sample);
                    }
                }
            }
            Output::Pace { device, duty } => {
                if let Some((running, _)) = self.slot(device).and_then(|slot| slot.alive()) {
                    tokio::spawn(async move { running.pace(duty).await });
                }
            }
            Output::Start(device) => self.start(device),
            Output::Stop(device) => self.halt(device, inputs),
            Output::Probe(device) => match self.slot(device).and_then(|slot| slot.alive()) {
                Some((running, start)) => {
                    let lives = self.lives.clone();
                    tokio::spawn(async move {
                        let outcome = running.probe().await;
                        let _ = lives.send(Life::Probed(device, start, outcome)).await;
                    });
                }
                None => inputs.push_back(Input::Probed { device, outcome: Err(NOT_RUNNING.into()) }),
            },
            Output::Check(device) => {
                if !self.check(device) {
                    inputs.push_back(Input::Checked { device, outcome: Err(NOT_RUNNING.into()) });
                }
            }
            Output::Ended { request, outcome } => ended.push((request, outcome)),
            Output::Decided(decision) => {
                let held = decision.request.and_then(|request| self.held.get_mut(&request));
                let about = held.map(|held| (held, decision.clone()));
                let row = self.journal.as_mut().map_or(0, |journal| journal.enter(decision));
                if let Some((held, decision)) = about {
                    held.decided(Decided { row, decision });
                }
            }
        }
    }

    fn slot(&mut self, device: DeviceId) -> Option<&mut Slot> {
        self.slots.get_mut(usize::from(device.0))
    }

    fn place(
        &mut self,
        device: DeviceId,
        job: JobId,
        request: RequestId,
        samples: &[Resume],
        inputs: &mut VecDeque<Input>,
    ) {
        let numbers: Vec<u32> = samples.iter().map(|resume| resume.sample).collect();
        let running = self.slot(device).and_then(|slot| slot.alive());
        let (Some((running, _)), Some(held)) = (running, self.held.get_mut(&request)) else {
            // Its death is on its way to the loop; until then it takes nothing.
            let end = |sample| Input::SampleEnded {
                device,
                job,
                sample,
                end: SampleEnd::Refused(NOT_RUNNING.into()),
            };
            inputs.extend(numbers.into_iter().map(end));
            return;
        };
        let (placement, lost) = held.place(job, device, &numbers);
        for loss in lost {
            if self.reroutes.len() == REROUTES_MAX {
                self.reroutes.pop_front();
            }
            self.reroutes.push_back(Reroute {
                request,
                from: loss.from,
                to: device,
                known_s: loss.known.duration_since(self.began).as_secs_f64(),
                told_s: loss.told.duration_since(self.began).as_secs_f64(),
                free: loss.free,
                placed_s: self.now_s(),
            });
        }
        let (cancels, inbox) = mpsc::channel(numbers.len() + CANCELS_EXTRA);
        let events = JobEvents { job, outbox: self.job_events.clone() };
        self.account.begins(self.now_s(), device, request);
        self.jobs.insert(job, Job { device, request, open: numbers.into_iter().collect(), cancels });
        tokio::spawn(running.work(placement, inbox, events));
    }

    fn job(&mut self, id: JobId, event: JobEvent) {
        let now_s = self.now_s();
        // A placement that died with its device may have words on the way still.
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (device, request) = (job.device, job.request);
        match event {
            JobEvent::Tokens { sample, ids, count, text } => {
                if !job.open.contains(&sample) {
                    return;
                }
                self.account.works(device, request, count);
                let Some(held) = self.held.get_mut(&request) else { return };
                if held.tokens(now_s, (id, sample), &ids, count, &text) {
                    self.feed(Input::Tokens { device, job: id, sample, count });
                }
            }
            JobEvent::Ended { sample, end, tail } => {
                if !job.open.remove(&sample) {
                    return;
                }
                if job.open.is_empty() {
                    self.jobs.remove(&id);
                    self.account.ends(now_s, device, request);
                }
                let (finish, end) = match end {
                    // Cancelled may mean that it goes on elsewhere: the loop knows.
                    End::Finished(FinishReason::Cancelled) => (None, SampleEnd::Cancelled),
                    End::Finished(reason) => (Some(reason), SampleEnd::Complete),
                    End::Failed(why) => (None, SampleEnd::Failed(why)),
                    End::Refused(why) => (None, SampleEnd::Refused(why)),
                };
                if let Some(held) = self.held.get_mut(&request) {
                    held.ended(sample, id, finish, &tail);
                }
                self.feed(Input::SampleEnded { device, job: id, sample, end });
            }
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Submit { ask, prompt, prompt_tokens, reply } => {
                let id = RequestId(self.next_request);
                self.next_request += 1;
                let request = Request {
                    id,
                    client: ask.client,
                    priority: ask.priority,
                    prompt_tokens,
                    samples: ask.samples,
                    tokens_max: ask.tokens_max,
                    deadline_s: ask.deadline_s,
                    energy_budget_j: ask.energy_budget_j,
                    until_pass: ask.until_pass,
                };
                self.held.insert(id, Held::new(id, *ask, prompt, prompt_tokens, self.now_s(), reply));
                self.feed(Input::Arrive(request));
            }
            Order::Withdraw(request) => self.feed(Input::Withdraw(request)),
            Order::Judged { request, sample, passed } => self.feed(Input::Judged { request, sample, passed }),
            Order::Snapshot(reply) => {
                let _ = reply.send(self.snapshot());
            }
            // A device that does not run is checked when it comes back anyway.
            Order::Check(device) => {
                self.check(device);
            }
            // Taken where the loop can end.
            Order::Stop(_) => {}
        }
    }

    fn look(&mut self, looks: &[Look]) {
        let busy_s = self.busy_s();
        let now_s = self.now_s();
        for (request, joules) in self.account.looked(now_s, looks, &busy_s) {
            self.feed(Input::Spent { request, joules });
        }
        for at in 0..self.slots.len() {
            if let Some(look) = self.slots[at].place.and_then(|place| looks.get(place)) {
                let device = DeviceId(at as u16);
                self.feed(Input::Sensed { device, reading: look.reading });
            }
        }
    }

    fn busy_s(&self) -> BTreeMap<DeviceId, f64> {
        let of = |(at, slot): (usize, &Slot)| Some((DeviceId(at as u16), slot.running.as_ref()?.busy_s()?));
        self.slots.iter().enumerate().filter_map(of).collect()
    }

    /// Tell the loop how far prompts are, at most once a round. Whatever else keeps this task busy, a device that works on a
    /// long prompt must not seem silent.
    fn hear(&mut self) {
        if self.heard.elapsed() < ROUNDS_EVERY {
            return;
        }
        self.heard = Instant::now();
        for at in 0..self.slots.len() {
            let tokens = self.slots[at].prefilled();
            if tokens > 0 {
                self.feed(Input::Prefilled { device: DeviceId(at as u16), tokens });
            }
        }
    }

    /// Withdraw what nobody waits for any more.
    fn sweep(&mut self) {
        let deserted: Vec<RequestId> =
            self.held.values().filter(|held| held.is_deserted()).map(|held| held.request).collect();
        for request in deserted {
            self.feed(Input::Withdraw(request));
        }
    }

    fn close(&mut self, request: RequestId, outcome: Outcome) {
        let Some(held) = self.held.remove(&request) else { return };
        self.outcomes += 1;
        let busy_s = self.busy_s();
        let now_s = self.now_s();
        let energy = self.account.settle(now_s, request, &busy_s);
        let row = held.last_decision().unwrap_or(0);
        let name = |device: DeviceId| {
            self.slots.get(usize::from(device.0)).map_or_else(String::new, |slot| slot.name.clone())
        };
        let (outlet, report) = held.close(now_s, outcome, energy, name);
        self.reports.push_back((row, outlet, report));
    }

    /// Send the reports whose rows are on disk; all of them where there is no disk to wait for.
    fn flush(&mut self, all: bool) {
        let saved = self.journal.as_ref().map(Writer::saved);
        let mut waiting = VecDeque::new();
        for (row, outlet, mut report) in std::mem::take(&mut self.reports) {
            let done = saved.is_none_or(|saved| saved.up_to >= row || saved.failed);
            if done || all {
                report.journalled = saved.is_some_and(|saved| saved.up_to >= row && !saved.failed);
                let _ = outlet.try_send(AnswerEvent::Ended(Box::new(report)));
            } else {
                waiting.push_back((row, outlet, report));
            }
        }
        self.reports = waiting;
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            now_s: self.now_s(),
            devices: self.control.devices(),
            names: self.slots.iter().map(|slot| slot.name.clone()).collect(),
            pids: self
                .slots
                .iter()
                .map(|slot| slot.running.as_ref().and_then(|running| running.pid()))
                .collect(),
            starts: self.slots.iter().map(|slot| slot.starts).collect(),
            requests: self.control.requests(),
            reroutes: self.reroutes.iter().copied().collect(),
            outcomes: self.outcomes,
        }
    }

    /// Withdraw everything, end the devices, write what is left.
    async fn stop(&mut self) {
        let open: Vec<RequestId> = self.held.keys().copied().collect();
        for request in open {
            self.feed(Input::Withdraw(request));
        }
        for slot in &mut self.slots {
            if let Some(starting) = slot.starting.take() {
                starting.abort();
            }
            if let Some(running) = slot.running.take() {
                running.stop().await;
            }
        }
        self.enlist();
        if let Some(journal) = &mut self.journal {
            journal.close();
        }
        self.flush(true);
    }
}

/// What is said of a device that is asked something while it has no worker.
const NOT_RUNNING: &str = "its worker does not run";

async fn saved(journal: &mut Option<Writer>) {
    match journal {
        Some(journal) => journal.progress().await,
        None => std::future::pending().await,
    }
}
