//! Which samples run next: a state machine without clock, worker or store.
//!
//! A task's samples are numbered, and everything is decided in the order of these numbers, never in the order in which
//! samples happen to end. Sample 3 may end first and pass; the task is **settled** only once samples 0 to 2 are judged,
//! and counts the samples up to its first pass. A rule by time would cut off long samples more often than short ones, and
//! if wrong answers ramble, a task would look easier than it is. It also makes what a run ends with the same for every
//! schedule: the leading samples of each task, whichever of them ran beside which.
//!
//! So a pass cancels only samples with higher numbers. What was drawn beyond the decision is surplus: kept, not counted.
//!
//! Samples start in groups of one task, which share the prefill of their prompt. Without a stop at the first pass a
//! group is as large as fits; with it, groups double, so that an easy task costs few samples and a hard one few prefills.

use std::collections::BTreeMap;

/// Samples of a task's first group, where its first pass stops it: with fewer, prefills weigh more than samples; with
/// more, easy tasks pay for samples nobody needs.
const GROUP_FIRST: u32 = 4;
/// Samples of a task that an allocator names: they share one prefill, and go to one place on one guess.
const GROUP_ALLOCATED: u32 = 2;
/// A group smaller than wanted starts only if it fills at least this part of the batch: prefills cost, too.
const GROUP_PART: u32 = 4;

/// What the samples of one task show, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark<'a> {
    /// It solves the task.
    Passed,
    /// It does not.
    Failed,
    /// It says this: the task has no known answer, and its samples vote.
    Vote(&'a str),
}

/// Which task the next sample goes to, where that is decided sample by sample. It speaks of all tasks but those that
/// vote.
pub trait Allocate: std::fmt::Debug + Send {
    /// The task whose next sample is worth most, counted as failed until it is recorded; `None` where no task has
    /// anything to gain.
    fn pick(&mut self) -> Option<usize>;
    /// A sample was judged, at this cost in any unit that is the same for all.
    fn record(&mut self, task: usize, passed: bool, cost: f64);
    /// A picked sample was given up without a verdict.
    fn abandon(&mut self, task: usize);
}

/// Whether votes decide: those of each answer, how many samples are left, and how sure to be.
pub type Decided = fn(votes: &[u32], samples_left: u32, confidence: f64) -> bool;

/// What a schedule keeps to.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Samples of each task at most.
    pub samples: u32,
    /// Samples in flight at most.
    pub parallel: u32,
    /// Whether a task's first pass settles it.
    pub stop_at_pass: bool,
    /// How sure the leader of a vote must be, and who says so; `None` draws all.
    pub votes: Option<(f64, Decided)>,
}

/// Samples of one task that start together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Which task.
    pub task: usize,
    /// Their numbers.
    pub samples: Vec<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Not drawn, or given up.
    Missing,
    Running,
    Judging,
    Passed,
    Failed,
    Vote(String),
}

impl State {
    fn is_judged(&self) -> bool {
        matches!(self, Self::Passed | Self::Failed | Self::Vote(_))
    }
}

#[derive(Debug, Clone, Default)]
struct Track {
    samples: Vec<State>,
    /// Leading samples that settle it.
    settled: Option<u32>,
    /// Whether its samples vote.
    votes: bool,
}

impl Track {
    fn open(&self) -> u32 {
        let open = |state: &&State| matches!(state, State::Running | State::Judging);
        self.samples.iter().filter(open).count() as u32
    }

    fn passed(&self) -> Option<u32> {
        self.samples.iter().position(|state| *state == State::Passed).map(|at| at as u32)
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct Schedule {
    rules: Rules,
    tracks: Vec<Track>,
    allocator: Option<Box<dyn Allocate>>,
    running: u32,
    stopped: bool,
}

impl Schedule {
    /// A schedule over tasks of which some vote: in their order without an allocator, else as it says.
    pub fn new(votes: &[bool], rules: Rules, allocator: Option<Box<dyn Allocate>>) -> Self {
        let track = |&votes: &bool| Track { votes, ..Track::default() };
        Self { rules, tracks: votes.iter().map(track).collect(), allocator, running: 0, stopped: false }
    }

    /// A sample that was drawn and judged before.
    pub fn known(&mut self, task: usize, sample: u32, cost: f64, mark: Mark<'_>) {
        if sample < self.rules.samples {
            self.judge(task, sample, cost, mark);
        }
    }

    /// What to start now. Whatever is returned counts as running.
    pub fn next(&mut self) -> Option<Group> {
        let free = self.rules.parallel.saturating_sub(self.running);
        if self.stopped || free == 0 {
            return None;
        }
        let group = self.owed(free).or_else(|| self.allocated(free)).or_else(|| self.in_order(free))?;
        for &sample in &group.samples {
            self.set(group.task, sample, State::Running);
        }
        self.running += group.samples.len() as u32;
        Some(group)
    }

    /// A running sample ended and is being judged.
    pub fn ended(&mut self, task: usize, sample: u32) {
        self.running = self.running.saturating_sub(1);
        self.set(task, sample, State::Judging);
    }

    /// A running sample was cancelled.
    pub fn cancelled(&mut self, task: usize, sample: u32) {
        self.running = self.running.saturating_sub(1);
        self.set(task, sample, State::Missing);
        if let Some(allocator) = self.allocator.as_mut().filter(|_| !self.tracks[task].votes) {
            allocator.abandon(task);
        }
    }

    /// A sample was judged. Returns the running samples of its task that are needed no more.
    pub fn judged(&mut self, task: usize, sample: u32, cost: f64, mark: Mark<'_>) -> Vec<u32> {
        self.judge(task, sample, cost, mark);
        let needed = self.needed(task);
        let running = |(at, state): (usize, &State)| {
            (*state == State::Running && at as u32 >= needed).then_some(at as u32)
        };
        self.tracks[task].samples.iter().enumerate().filter_map(running).collect()
    }

    /// Start nothing any more. Returns all that runs.
    pub fn stop(&mut self) -> Vec<(usize, u32)> {
        self.stopped = true;
        let running = |(task, track): (usize, &Track)| {
            let samples = track.samples.iter().enumerate();
            samples
                .filter(|(_, state)| **state == State::Running)
                .map(|(sample, _)| (task, sample as u32))
                .collect::<Vec<_>>()
        };
        self.tracks.iter().enumerate().flat_map(running).collect()
    }

    /// Whether every task is settled.
    pub fn is_done(&self) -> bool {
        self.tracks.iter().all(|track| track.settled.is_some())
    }

    /// Tasks that are settled.
    pub fn settled(&self) -> usize {
        self.tracks.iter().filter(|track| track.settled.is_some()).count()
    }

    /// Tasks that can be solved and have a judged sample.
    pub fn asked(&self) -> usize {
        let judged = |track: &Track| track.samples.iter().any(State::is_judged);
        self.tracks.iter().filter(|track| !track.votes && judged(track)).count()
    }

    /// Tasks with a sample that passed and counts.
    pub fn solved(&self) -> usize {
        let counts = |task: &usize| self.tracks[*task].passed().is_some_and(|at| at < self.counted(*task));
        (0..self.tracks.len()).filter(counts).count()
    }

    /// How many samples of a task count: the leading judged ones up to its decision.
    pub fn counted(&self, task: usize) -> u32 {
        let track = &self.tracks[task];
        let most = track.settled.unwrap_or(u32::MAX) as usize;
        track.samples.iter().take(most).take_while(|state| state.is_judged()).count() as u32
    }

    /// Whether a task needs nothing more.
    pub fn is_settled(&self, task: usize) -> bool {
        self.tracks[task].settled.is_some()
    }

    fn set(&mut self, task: usize, sample: u32, state: State) {
        let samples = &mut self.tracks[task].samples;
        let at = sample as usize;
        if samples.len() <= at {
            samples.resize(at + 1, State::Missing);
        }
        samples[at] = state;
    }

    fn judge(&mut self, task: usize, sample: u32, cost: f64, mark: Mark<'_>) {
        let state = match mark {
            Mark::Passed => State::Passed,
            Mark::Failed => State::Failed,
            Mark::Vote(answer) => State::Vote(answer.to_owned()),
        };
        if let Some(allocator) = self.allocator.as_mut().filter(|_| !self.tracks[task].votes) {
            allocator.record(task, state == State::Passed, cost);
        }
        self.set(task, sample, state);
        if self.tracks[task].settled.is_none() {
            self.tracks[task].settled = self.decision(task);
        }
    }

    /// How many leading samples decide a task, once they do.
    fn decision(&self, task: usize) -> Option<u32> {
        let mut votes: BTreeMap<&str, u32> = BTreeMap::new();
        for (at, state) in self.tracks[task].samples.iter().enumerate() {
            let drawn = at as u32 + 1;
            let decides = match state {
                State::Missing | State::Running | State::Judging => return None,
                State::Passed => self.rules.stop_at_pass,
                State::Failed => false,
                State::Vote(answer) => {
                    *votes.entry(answer).or_default() += 1;
                    let counts: Vec<u32> = votes.values().copied().collect();
                    let left = self.rules.samples - drawn;
                    self.rules.votes.is_some_and(|(confidence, decided)| decided(&counts, left, confidence))
                }
            };
            if decides || drawn == self.rules.samples {
                return Some(drawn);
            }
        }
        None
    }

    /// Samples of a task that are needed as far as is known: those up to a pass, even if earlier ones still run.
    fn needed(&self, task: usize) -> u32 {
        let track = &self.tracks[task];
        let passed = track.passed().filter(|_| self.rules.stop_at_pass).map(|at| at + 1);
        track.settled.or(passed).unwrap_or(self.rules.samples)
    }

    /// The lowest numbers of a task that are not drawn yet, at most `most`.
    fn missing(&self, task: usize, most: u32) -> Vec<u32> {
        let samples = &self.tracks[task].samples;
        let missing = |at: &u32| samples.get(*at as usize).is_none_or(|state| *state == State::Missing);
        (0..self.needed(task)).filter(missing).take(most as usize).collect()
    }

    /// How many samples a task should have in its next group.
    fn wanted(&self, task: usize) -> u32 {
        let track = &self.tracks[task];
        if track.settled.is_some() {
            return 0;
        }
        let left = self.missing(task, self.rules.samples).len() as u32;
        let stops = if track.votes { self.rules.votes.is_some() } else { self.rules.stop_at_pass };
        if !stops {
            return left;
        }
        // A group's verdicts come before the next group: most tasks that are solvable are solved by the first.
        let drawn = track.samples.iter().filter(|state| state.is_judged()).count() as u32;
        if track.open() > 0 { 0 } else { left.min(drawn.max(GROUP_FIRST)) }
    }

    /// Samples before a pass that an earlier sitting left out: without them nobody knows which pass is the first.
    fn owed(&self, free: u32) -> Option<Group> {
        let owes = |task: &usize| {
            let track = &self.tracks[*task];
            track.settled.is_none() && self.rules.stop_at_pass && track.passed().is_some()
        };
        (0..self.tracks.len()).filter(owes).find_map(|task| {
            let samples = self.missing(task, free);
            (!samples.is_empty()).then_some(Group { task, samples })
        })
    }

    /// The first task in order with a group that is worth starting; beside an allocator, of those that vote.
    fn in_order(&self, free: u32) -> Option<Group> {
        let least = self.rules.parallel.div_ceil(GROUP_PART);
        let mine = |task: &usize| self.allocator.is_none() || self.tracks[*task].votes;
        (0..self.tracks.len()).filter(mine).find_map(|task| {
            let wanted = self.wanted(task).min(self.rules.parallel);
            let fits = wanted > 0 && (wanted <= free || free >= least);
            fits.then(|| Group { task, samples: self.missing(task, wanted.min(free)) })
        })
    }

    /// The allocator's task.
    fn allocated(&mut self, free: u32) -> Option<Group> {
        let mut allocator = self.allocator.take()?;
        let task = loop {
            let Some(task) = allocator.pick() else { break None };
            // What it does not see: samples beyond a pass that is being waited for.
            if !self.missing(task, 1).is_empty() {
                break Some(task);
            }
        };
        self.allocator = Some(allocator);
        let task = task?;
        Some(Group { task, samples: self.missing(task, free.min(GROUP_ALLOCATED)) })
    }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
