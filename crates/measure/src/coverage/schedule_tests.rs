//! The schedule on a toy: every sample's verdict is scripted, and which one ends next is drawn at random.

use super::*;
use qeil_laws::coverage::agreement;
use qeil_laws::random::Random;
use std::collections::{BTreeMap, BTreeSet};

/// What each sample of each task would say.
#[derive(Clone)]
enum Script {
    /// Passes by number.
    Passes(Vec<bool>),
    /// Answers by number.
    Answers(Vec<Option<&'static str>>),
}

impl Script {
    fn passing_at(first: u32, samples: u32) -> Self {
        Self::Passes((0..samples).map(|sample| sample == first).collect())
    }

    fn mark(&self, sample: u32) -> Mark<'_> {
        match self {
            Self::Passes(passes) if passes[sample as usize] => Mark::Passed,
            Self::Answers(answers) => answers[sample as usize].map_or(Mark::Failed, Mark::Vote),
            Self::Passes(_) => Mark::Failed,
        }
    }

    fn votes(&self) -> bool {
        matches!(self, Self::Answers(_))
    }
}

/// Picks the unfinished task with the fewest samples: the allocator of the toy.
#[derive(Debug, Clone)]
struct Fewest {
    drawn: Vec<u32>,
    solved: Vec<bool>,
    voters: Vec<bool>,
    most: u32,
}

impl Allocate for Fewest {
    fn pick(&mut self) -> Option<usize> {
        let open = |task: &usize| !self.solved[*task] && !self.voters[*task] && self.drawn[*task] < self.most;
        let task = (0..self.drawn.len()).filter(open).min_by_key(|task| self.drawn[*task])?;
        self.drawn[task] += 1;
        Some(task)
    }

    fn record(&mut self, task: usize, passed: bool, _: f64) {
        assert!(!self.voters[task], "it was told of a vote");
        self.solved[task] |= passed;
    }

    fn abandon(&mut self, task: usize) {
        assert!(!self.voters[task], "it was told of a vote");
        self.drawn[task] = self.drawn[task].saturating_sub(1);
    }
}

struct Toy {
    rules: Rules,
    scripts: Vec<Script>,
    allocated: bool,
    known: BTreeSet<(usize, u32)>,
}

impl Toy {
    fn new(rules: Rules, scripts: Vec<Script>) -> Self {
        Self { rules, scripts, allocated: false, known: BTreeSet::new() }
    }

    fn schedule(&self) -> Schedule {
        let votes: Vec<bool> = self.scripts.iter().map(Script::votes).collect();
        let allocator = self.allocated.then(|| {
            let count = self.scripts.len();
            let fewest = Fewest {
                drawn: vec![0; count],
                solved: vec![false; count],
                voters: votes.clone(),
                most: self.rules.samples,
            };
            Box::new(fewest) as Box<dyn Allocate>
        });
        let mut schedule = Schedule::new(&votes, self.rules, allocator);
        for &(task, sample) in &self.known {
            schedule.known(task, sample, 1.0, self.scripts[task].mark(sample));
        }
        schedule
    }

    /// Run until nothing is left, or so many verdicts; returns how many samples count for each task.
    fn run(&mut self, seed: u64, verdicts_max: usize) -> (Schedule, Vec<u32>) {
        let mut random = Random::new(seed, 0);
        let mut schedule = self.schedule();
        let mut running: Vec<(usize, u32)> = Vec::new();
        let mut judging: Vec<(usize, u32)> = Vec::new();
        let mut cancelled: BTreeSet<(usize, u32)> = BTreeSet::new();
        for _ in 0..verdicts_max {
            while let Some(group) = schedule.next() {
                for sample in group.samples {
                    let started = (group.task, sample);
                    assert!(
                        !self.known.contains(&started) && !running.contains(&started),
                        "{started:?} twice"
                    );
                    running.push(started);
                }
                assert!(running.len() <= self.rules.parallel as usize, "{running:?}");
            }
            if running.is_empty() && judging.is_empty() {
                break;
            }
            // Either a sample ends (or turns out to be cancelled) or one is judged.
            if !running.is_empty() && (judging.is_empty() || random.below(2) == 0) {
                let ended = running.swap_remove(random.below(running.len()));
                if cancelled.remove(&ended) {
                    schedule.cancelled(ended.0, ended.1);
                } else {
                    schedule.ended(ended.0, ended.1);
                    judging.push(ended);
                }
                continue;
            }
            let (task, sample) = judging.swap_remove(random.below(judging.len()));
            self.known.insert((task, sample));
            for needless in schedule.judged(task, sample, 1.0, self.scripts[task].mark(sample)) {
                assert!(running.contains(&(task, needless)), "{needless} does not run");
                cancelled.insert((task, needless));
            }
        }
        let counted = (0..self.scripts.len()).map(|task| schedule.counted(task)).collect();
        (schedule, counted)
    }
}

const LONG: usize = 100_000;

fn rules(samples: u32, parallel: u32, stop_at_pass: bool) -> Rules {
    let votes = stop_at_pass.then_some((0.95, agreement::settled as Decided));
    Rules { samples, parallel, stop_at_pass, votes }
}

fn mixed() -> Vec<Script> {
    let mut random = Random::new(5, 0);
    let hard = (0..20).map(|task| {
        let p = f64::from(task) / 40.0;
        Script::Passes((0..16).map(|_| random.uniform() < p).collect())
    });
    let mut scripts: Vec<Script> = hard.collect();
    let answers = ["a", "b", "a", "a", "a", "a", "b", "a", "a", "a", "a", "a", "a", "a", "a", "a"];
    scripts.insert(3, Script::Answers(answers.map(Some).to_vec()));
    scripts.push(Script::Answers(vec![None; 16]));
    scripts
}

/// What must count, by looking at the scripts alone.
fn expected(scripts: &[Script], stop_at_pass: bool) -> Vec<u32> {
    let settled = |script: &Script| {
        let mut votes: BTreeMap<&str, u32> = BTreeMap::new();
        (0..16u32)
            .find(|&sample| match script.mark(sample) {
                Mark::Passed => stop_at_pass,
                Mark::Failed => false,
                Mark::Vote(answer) => {
                    *votes.entry(answer).or_default() += 1;
                    let counts: Vec<u32> = votes.values().copied().collect();
                    stop_at_pass && agreement::settled(&counts, 15 - sample, 0.95)
                }
            })
            .map_or(16, |sample| sample + 1)
    };
    scripts.iter().map(settled).collect()
}

#[test]
fn what_counts_does_not_depend_on_which_sample_was_faster() {
    for stop_at_pass in [true, false] {
        for allocated in [false, true] {
            if allocated && !stop_at_pass {
                continue;
            }
            for seed in 0..40 {
                let parallel = [1, 3, 16, 64][seed as usize % 4];
                let mut toy = Toy::new(rules(16, parallel, stop_at_pass), mixed());
                toy.allocated = allocated;
                let (schedule, counted) = toy.run(seed, LONG);
                assert!(schedule.is_done(), "stop {stop_at_pass}, allocated {allocated}, seed {seed}");
                assert_eq!(
                    counted,
                    expected(&toy.scripts, stop_at_pass),
                    "allocated {allocated}, seed {seed}"
                );
            }
        }
    }
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_with_the_same_samples() {
    for allocated in [false, true] {
        for seed in 0..40 {
            let mut toy = Toy::new(rules(16, 8, true), mixed());
            toy.allocated = allocated;
            // What was in flight is forgotten; what was judged is known to the next sitting.
            let mut sittings = 0;
            while !toy.run(seed + 1000 * sittings, 25).0.is_done() {
                sittings += 1;
                assert!(sittings < 200, "it never ends");
            }
            assert!(sittings > 5, "it was not interrupted");
            let (_, counted) = toy.run(0, 0);
            assert_eq!(counted, expected(&toy.scripts, true), "allocated {allocated}, seed {seed}");
        }
    }
}

#[test]
fn a_pass_cancels_later_samples_and_waits_for_earlier_ones() {
    let mut toy = Toy::new(rules(8, 4, true), vec![Script::passing_at(2, 8)]);
    let mut schedule = toy.schedule();
    assert_eq!(schedule.next(), Some(Group { task: 0, samples: vec![0, 1, 2, 3] }));
    assert_eq!(schedule.next(), None);
    schedule.ended(0, 2);
    assert_eq!(schedule.judged(0, 2, 1.0, Mark::Passed), [3], "0 and 1 decide whether 2 was the first");
    assert_eq!((schedule.solved(), schedule.settled()), (0, 0), "it counts once the earlier ones are judged");
    schedule.cancelled(0, 3);
    for sample in [1, 0] {
        assert_eq!(schedule.next(), None);
        schedule.ended(0, sample);
        assert!(schedule.judged(0, sample, 1.0, Mark::Failed).is_empty());
    }
    assert_eq!((schedule.solved(), schedule.settled(), schedule.counted(0)), (1, 1, 3));
    // A sitting that lost the earlier ones draws them, and nothing else.
    toy.known = [(0, 2), (0, 0)].into();
    let mut schedule = toy.schedule();
    assert_eq!(schedule.next(), Some(Group { task: 0, samples: vec![1] }));
    assert_eq!(schedule.next(), None);
}

#[test]
fn groups_double_while_nothing_passes() {
    let mut schedule = Toy::new(rules(32, 64, true), vec![Script::passing_at(40, 41)]).schedule();
    let mut sizes = Vec::new();
    while let Some(group) = schedule.next() {
        sizes.push(group.samples.len());
        assert_eq!(schedule.next(), None, "its verdicts come first");
        for sample in group.samples {
            schedule.ended(0, sample);
            schedule.judged(0, sample, 1.0, Mark::Failed);
        }
    }
    assert_eq!(sizes, [4, 4, 8, 16]);
    // With all of them to be drawn anyway there is nothing to wait for.
    let mut all = Toy::new(rules(32, 20, false), vec![Script::passing_at(0, 32); 2]).schedule();
    let groups: Vec<usize> = std::iter::from_fn(|| all.next()).map(|group| group.samples.len()).collect();
    assert_eq!(groups, [20], "as large as fits");
}

#[test]
fn crumbs_are_not_started() {
    let mut schedule = Toy::new(rules(16, 16, false), vec![Script::passing_at(0, 16); 3]).schedule();
    assert_eq!(schedule.next().unwrap().samples.len(), 16);
    for sample in 0..3 {
        schedule.ended(0, sample);
    }
    assert_eq!(schedule.next(), None, "three of sixteen are not worth a prefill");
    schedule.ended(0, 3);
    assert_eq!(schedule.next(), Some(Group { task: 1, samples: vec![0, 1, 2, 3] }));
}

#[test]
fn a_stop_cancels_everything_and_starts_nothing() {
    let mut schedule = Toy::new(rules(4, 6, true), vec![Script::passing_at(9, 10); 3]).schedule();
    while schedule.next().is_some() {}
    let mut running = schedule.stop();
    running.sort_unstable();
    assert_eq!(running, [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]);
    for (task, sample) in running {
        schedule.cancelled(task, sample);
    }
    assert_eq!(schedule.next(), None);
    assert!(!schedule.is_done());
}
