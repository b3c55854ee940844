//! A coverage run: one worker kept busy, every sample judged and saved as it ends.
//!
//! This is the thin shell around [`super::schedule`]: it starts the groups that the schedule names, hands finished samples
//! to the judges, saves verdicts, and tells the schedule. It waits for whichever comes first of an ended sample, a verdict
//! and the clock; between two of these it holds nothing that is not in the store but what is in flight.

use super::budget::{Budget, Ended};
use super::group::{Event, drive};
use super::judges::{Judged, Judges};
use super::outcome::{cost, mark, schedule, solvable};
use super::plan::{CoveragePlan, SampleRow, Strategy};
use super::progress::{Progress, energy, remaining_s};
use super::prompts::{Asked, ask, crowd, typical};
use super::schedule::{Allocate, Schedule};
use super::sequential::Sequential;
use super::spend::{Account, Sitting};
use crate::error::MeasureError;
use crate::profile::{Host, ModelIdentity};
use crate::settings::Settings;
use crate::store::coverage::{CoverageId, SittingId};
use crate::store::{Store, now_unix_ms};
use crate::survey::{Step, Survey, Tuning};
use crate::timed::timed;
use crate::weights::Copies;
use qeil_engine::handle::{Death, EngineError, Worker};
use qeil_engine::spec::{DeviceEntry, DeviceKind, LoadSpec};
use qeil_hardware::Roots;
use qeil_model::gguf::TensorType;
use qeil_tasks::Task;
use qeil_tasks::sandbox::Sandbox;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Seconds of a segment of the account: what a kill loses of it, and how far an energy budget may be passed.
const SEGMENT_S: f64 = 0.5;
/// Longest wait between two looks at the clock.
const LOOK: Duration = Duration::from_millis(250);
/// Samples that may wait for a judge for each sample in flight, before no new ones are started.
const WAITING_PER_SAMPLE: usize = 4;
/// Most bytes of keys and values: a machine that swaps measures its disk.
const KV_BYTES_MAX: u64 = 4 << 30;
/// Tokens of the uncounted request after loading: pages come in, threads wake up.
const WARM_UP_TOKENS: u32 = 4;

/// Settings under which a processor computes each sequence from its own numbers in its own order: every sequence has its
/// keys and values in one place from the first on, and no kernel divides work by how many sequences there are. Samples of
/// a 135M model were equal to the byte at 5, 16 and 32 in flight on a quiet machine. It is no promise: a step that holds a
/// single row goes through another matrix kernel, and on a busy machine some samples differed.
const REPRODUCIBLE: Settings = Settings { weights: None, flash_attention: false, kv_unified: false };

/// What a run is made with.
#[derive(Debug)]
pub struct Bench<'a> {
    /// How settings are found; names model, threads and meter.
    pub survey: Survey<'a>,
    /// The device.
    pub device: &'a DeviceEntry,
    /// The machine.
    pub host: &'a Host,
    /// What is recorded about the model.
    pub model: &'a ModelIdentity,
    /// Where the machine's files are.
    pub roots: &'a Roots,
    /// Where code that the model writes runs; `None` where no task needs one.
    pub sandbox: Option<Sandbox>,
    /// Samples judged at once.
    pub judges: usize,
}

/// What happens in a run.
#[derive(Debug)]
pub enum CoverageEvent<'a> {
    /// A new run begins although one of the same plan ended: which, and when, in milliseconds since 1970.
    Again(i64, i64),
    /// Its worker died, and another goes on.
    Died(&'a Death),
    /// The settings are being found.
    Settling(Step<'a>),
    /// They are found; missing where the run goes on with those that it began with.
    Settled(Settings, Option<Tuning>),
    /// Sampling begins.
    Begun(Progress),
    /// A sample is on disk.
    Saved(&'a SampleRow, Progress),
    /// Time has passed.
    Tick(Progress),
}

/// Run `plan` over `tasks` (of which the plan names the first so many) until it is settled or a bound of `budget` is
/// reached, going on where an unfinished run of the same plan stopped unless `fresh`. A worker that dies after it brought
/// samples is followed by another.
///
/// # Errors
/// A task that does not fit the model, a worker that cannot be started or dies before its first sample, a sample on which
/// the engine fails, and those of the store. Whatever was saved stays, and the same call goes on.
pub async fn run(
    with: &Bench<'_>,
    store: &mut Store,
    plan: &CoveragePlan,
    tasks: &[Task],
    mut fresh: bool,
    budget: Budget,
    mut on_event: impl FnMut(CoverageEvent<'_>),
) -> Result<(CoverageId, Ended), MeasureError> {
    loop {
        let mut saved = false;
        let mut hear = |event: CoverageEvent<'_>| {
            saved |= matches!(event, CoverageEvent::Saved(..));
            on_event(event);
        };
        match sit(with, store, plan, tasks, fresh, budget, &mut hear).await {
            Err(MeasureError::Engine(EngineError::Died(death))) if saved => {
                on_event(CoverageEvent::Died(&death))
            }
            ended => return ended,
        }
        fresh = false;
    }
}

/// One worker's part of a run.
async fn sit(
    with: &Bench<'_>,
    store: &mut Store,
    plan: &CoveragePlan,
    tasks: &[Task],
    fresh: bool,
    budget: Budget,
    on_event: &mut impl FnMut(CoverageEvent<'_>),
) -> Result<(CoverageId, Ended), MeasureError> {
    if plan.tasks.is_empty() {
        return Err(MeasureError::NoTasks(plan.set.clone()));
    }
    let known = if fresh { None } else { store.unfinished_coverage(plan, with.host)? };
    if let Some((number, ended_unix_ms)) =
        store.finished_coverage(plan, with.host)?.filter(|_| known.is_none())
    {
        on_event(CoverageEvent::Again(number, ended_unix_ms));
    }
    let asked = Arc::new(ask(with.survey.launch, with.survey.model, with.survey.facts, plan, tasks).await?);
    let mut spec = with.survey.spec(with.device);
    spec.threads = plan.threads;
    let id = match known {
        Some(id) => {
            let settings = store.coverage_run(id)?.settings;
            let cache = Copies::of_user(with.survey.facts.parameters, with.device).map(|copies| copies.cache);
            settings.apply(with.survey.launch, cache.as_ref(), &mut spec).await?;
            on_event(CoverageEvent::Settled(settings, None));
            id
        }
        None => {
            trust(with, &spec, on_event).await?;
            let (settings, tuning) = if plan.reproducible {
                REPRODUCIBLE.apply(with.survey.launch, None, &mut spec).await?;
                (REPRODUCIBLE, None)
            } else {
                let shape = typical(&asked, plan.parallel);
                let mut on_step = |step: Step<'_>| on_event(CoverageEvent::Settling(step));
                let (settings, tuning) =
                    with.survey.settle(with.device, &mut spec, shape, &mut on_step).await?;
                (settings, Some(tuning))
            };
            on_event(CoverageEvent::Settled(settings, tuning));
            store.begin_coverage(plan, with.host, with.model, &settings)?
        }
    };
    let before = store.coverage_run(id)?;
    let schedule = schedule(plan, &before.samples, allocator(plan));
    let reached = budget.reached(before.sittings.iter(), schedule.solved(), solvable(plan));
    let nothing_left = schedule.is_done().then_some(Ended::Settled);
    if let Some(ended) = nothing_left.or(reached) {
        // A kill between the last sample and the mark leaves a run that is complete and unmarked.
        if ended == Ended::Settled {
            store.finish_coverage(id)?;
        }
        return Ok((id, ended));
    }

    size(with, plan, &asked, &mut spec)?;
    let worker = Worker::start(with.survey.launch, spec).await?;
    let mut warm_up = asked[0].request(plan, &[0]);
    warm_up.tokens_max = WARM_UP_TOKENS;
    warm_up.reuse_prefix = false;
    timed(&worker, warm_up).await?;

    let meter = with.survey.meter_of(with.device);
    let mut sitting = Sitting { began_unix_ms: now_unix_ms(), ..Sitting::default() };
    sitting.energy_missing = meter.as_ref().err().cloned();
    let (outbox, inbox) = mpsc::channel(plan.parallel as usize + 1);
    let mut floor = Floor {
        plan,
        asked: Arc::clone(&asked),
        judges: Judges::new(asked, with.sandbox.clone(), with.judges),
        schedule,
        cancels: HashMap::new(),
        groups: 0,
        outbox,
        inbox,
        account: Account::open(meter.ok(), with.roots, worker.heartbeat().borrow().cpu_s),
        sitting_id: store.begin_sitting(id, &sitting)?,
        sitting,
        earlier: before.sittings,
        samples: before.samples.len() as u64,
        settled_before: 0,
        began: Instant::now(),
        budget,
        worker,
    };
    floor.settled_before = floor.schedule.settled();
    on_event(CoverageEvent::Begun(floor.progress()));
    let ended = floor.work(store, id, on_event).await;
    let why = match &ended {
        Ok(ended) => ended.to_string(),
        Err(error) => error.to_string(),
    };
    floor.sitting.ended = Some(why);
    floor.enter(store)?;
    let ended = ended?;
    if ended == Ended::Settled {
        store.finish_coverage(id)?;
    }
    floor.worker.stop().await;
    Ok((id, ended))
}

fn allocator(plan: &CoveragePlan) -> Option<Box<dyn Allocate>> {
    let sequential = || Box::new(Sequential::new(&plan.tasks, plan.samples)) as Box<dyn Allocate>;
    (plan.strategy == Strategy::Sequential).then(sequential)
}

async fn trust(
    with: &Bench<'_>,
    spec: &LoadSpec,
    on_event: &mut impl FnMut(CoverageEvent<'_>),
) -> Result<(), MeasureError> {
    if with.device.kind == DeviceKind::Cpu {
        return Ok(());
    }
    on_event(CoverageEvent::Settling(Step::Checking(with.device)));
    let verdict = with.survey.check(spec, &mut None).await?;
    if !verdict.trusted {
        return Err(MeasureError::Distrusted { device: with.device.name.clone(), why: verdict.why });
    }
    Ok(())
}

/// Size the worker; where that would take too much memory, without prompts kept for later.
fn size(
    with: &Bench<'_>,
    plan: &CoveragePlan,
    asked: &[Asked],
    spec: &mut LoadSpec,
) -> Result<(), MeasureError> {
    let mut crowd = crowd(asked, plan);
    loop {
        crowd.fit(spec)?;
        let bytes = with.survey.facts.kv_bytes(spec.context_tokens.into(), TensorType::F16);
        if bytes <= KV_BYTES_MAX || crowd.cached_prompts == 0 {
            return Ok(());
        }
        crowd.cached_prompts /= 2;
    }
}

/// Everything that a sitting holds.
struct Floor<'a> {
    plan: &'a CoveragePlan,
    asked: Arc<Vec<Asked>>,
    worker: Worker,
    schedule: Schedule,
    judges: Judges,
    /// How to cancel each sample in flight.
    cancels: HashMap<(usize, u32), mpsc::Sender<u32>>,
    groups: usize,
    outbox: mpsc::Sender<Event>,
    inbox: mpsc::Receiver<Event>,
    account: Account<'a>,
    sitting: Sitting,
    sitting_id: SittingId,
    earlier: Vec<Sitting>,
    samples: u64,
    settled_before: usize,
    began: Instant,
    budget: Budget,
}

impl Floor<'_> {
    async fn work(
        &mut self,
        store: &mut Store,
        id: CoverageId,
        on_event: &mut impl FnMut(CoverageEvent<'_>),
    ) -> Result<Ended, MeasureError> {
        let mut ended = None;
        let mut segment = Instant::now();
        loop {
            self.start();
            if self.groups == 0 && self.judges.is_idle() {
                return Ok(ended.unwrap_or(Ended::Settled));
            }
            tokio::select! {
                Some(event) = self.inbox.recv() => self.take(event)?,
                Some(judged) = self.judges.next() => {
                    let row = self.judged(store, id, judged?)?;
                    on_event(CoverageEvent::Saved(&row, self.progress()));
                }
                () = tokio::time::sleep(LOOK) => {
                    self.account.tick();
                    on_event(CoverageEvent::Tick(self.progress()));
                }
            }
            if segment.elapsed().as_secs_f64() >= SEGMENT_S {
                segment = Instant::now();
                self.enter(store)?;
            }
            if ended.is_none() {
                self.sitting.wall_s = self.began.elapsed().as_secs_f64();
                ended = self.reached();
                if ended.is_some() {
                    for (task, sample) in self.schedule.stop() {
                        self.cancel(task, sample);
                    }
                }
            }
        }
    }

    /// Start what the schedule wants to run.
    fn start(&mut self) {
        let most = WAITING_PER_SAMPLE * self.plan.parallel as usize;
        while self.judges.waiting() < most
            && let Some(group) = self.schedule.next()
        {
            let request = self.asked[group.task].request(self.plan, &group.samples);
            let (cancel, cancels) = mpsc::channel(group.samples.len());
            for &sample in &group.samples {
                self.cancels.insert((group.task, sample), cancel.clone());
            }
            self.groups += 1;
            tokio::spawn(drive(group.task, self.worker.clone(), request, cancels, self.outbox.clone()));
        }
    }

    fn take(&mut self, event: Event) -> Result<(), MeasureError> {
        match event {
            Event::Ended { task, sample } => {
                self.cancels.remove(&(task, sample.number));
                self.schedule.ended(task, sample.number);
                self.judges.take(task, sample);
            }
            Event::Cancelled { task, sample } => {
                self.cancels.remove(&(task, sample));
                self.schedule.cancelled(task, sample);
                self.sitting.cancelled += 1;
            }
            Event::Failed { task, sample, why } => {
                let source = Box::new(MeasureError::SampleFailed { sample, why });
                return Err(MeasureError::Task { task: self.asked[task].task.id.clone(), source });
            }
            Event::Done { usage } => {
                self.groups -= 1;
                let computed = usage.prompt_tokens.saturating_sub(usage.reused_tokens);
                self.sitting.emitted_tokens += u64::from(usage.emitted_tokens);
                self.sitting.prefilled_tokens += u64::from(computed);
                self.sitting.reused_tokens += u64::from(usage.reused_tokens);
            }
            Event::Lost(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Save a verdict, tell the schedule, and cancel what it makes needless.
    fn judged(
        &mut self,
        store: &mut Store,
        id: CoverageId,
        judged: Judged,
    ) -> Result<SampleRow, MeasureError> {
        let Judged { task, sample, verdict } = judged;
        let label = &self.plan.tasks[task];
        let row = SampleRow {
            task: label.id.clone(),
            sample: sample.number,
            tokens: sample.tokens,
            prompt_tokens: sample.prompt_tokens,
            finish: sample.finish,
            passed: (!label.votes).then_some(verdict.passed),
            answer: verdict.answer,
            why: verdict.why,
            text: sample.text,
            at_unix_ms: now_unix_ms(),
        };
        store.save_sample(id, &row)?;
        self.samples += 1;
        for needless in self.schedule.judged(task, row.sample, cost(&row), mark(&row)) {
            self.cancel(task, needless);
        }
        Ok(row)
    }

    fn cancel(&self, task: usize, sample: u32) {
        if let Some(cancels) = self.cancels.get(&(task, sample)) {
            // There is room for every sample of the group, and who is gone has ended.
            let _ = cancels.try_send(sample);
        }
    }

    fn enter(&mut self, store: &mut Store) -> Result<(), MeasureError> {
        self.sitting.wall_s = self.began.elapsed().as_secs_f64();
        let cpu_s = self.worker.heartbeat().borrow().cpu_s;
        self.account.enter(&mut self.sitting, cpu_s);
        Ok(store.save_sitting(self.sitting_id, &self.sitting)?)
    }

    fn sittings(&self) -> Vec<&Sitting> {
        self.earlier.iter().chain([&self.sitting]).collect()
    }

    fn reached(&self) -> Option<Ended> {
        let sittings = self.earlier.iter().chain([&self.sitting]);
        self.budget.reached(sittings, self.schedule.solved(), solvable(self.plan))
    }

    fn progress(&self) -> Progress {
        let wall_s = self.began.elapsed().as_secs_f64();
        let settled = self.schedule.settled();
        let tasks = self.plan.tasks.len();
        let remaining_s = match self.plan.strategy {
            Strategy::Fixed => {
                let left = tasks - self.settled_before;
                remaining_s(settled - self.settled_before, left, wall_s)
            }
            Strategy::Sequential => None,
        };
        let earlier_s: f64 = self.earlier.iter().map(|sitting| sitting.wall_s).sum();
        let budget_left_s = self.budget.wall_s.map(|most_s| (most_s - earlier_s - wall_s).max(0.0));
        Progress {
            tasks,
            settled,
            solvable: solvable(self.plan),
            asked: self.schedule.asked(),
            solved: self.schedule.solved(),
            samples: self.samples,
            energy: energy(&self.sittings()),
            wall_s: earlier_s + wall_s,
            remaining_s: match (remaining_s, budget_left_s) {
                (Some(left), Some(budget)) => Some(left.min(budget)),
                (left, budget) => left.or(budget),
            },
        }
    }
}
