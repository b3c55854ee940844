//! Allocation in simulated worlds: what it saves, and that what it leaves behind can be fitted without bias.

use super::*;
use crate::coverage::simulation::Family;
use crate::random::Random;

/// Simulated tasks: pass probability, kind, and mean joules of a sample.
struct World {
    p: Vec<f64>,
    kinds: Vec<u32>,
    energy_j: Vec<f64>,
    random: Random,
}

impl World {
    /// 120 tasks in four kinds, from those that mostly pass to those that hardly do, a sample of which costs from 1 J to
    /// this much more, whatever its kind.
    fn new(stream: u64, dearest: f64) -> Self {
        let mut random = Random::new(41, stream);
        let family = |alpha, beta| Family::Beta(Difficulty { alpha, beta, unsolvable: 0.1 });
        let families = [family(2.0, 1.0), family(0.8, 2.0), family(0.5, 8.0), family(0.3, 40.0)];
        let kinds: Vec<u32> = (0..120).map(|task| task % 4).collect();
        let p = kinds.iter().map(|&kind| families[kind as usize].draw(&mut random)).collect();
        let energy_j = kinds.iter().map(|_| dearest.powf(random.uniform())).collect();
        Self { p, kinds, energy_j, random }
    }

    fn sample(&mut self, task: usize) -> (bool, f64) {
        let energy_j = self.energy_j[task] * (0.5 + self.random.uniform());
        (self.random.uniform() < self.p[task], energy_j)
    }
}

/// Samples and joules spent until `target` tasks were solved.
struct Spent {
    samples: u32,
    energy_j: f64,
}

/// All tasks `k` times, whatever comes; and how many were solved.
fn fixed(world: &mut World, k: u32) -> (Spent, usize) {
    let mut solved = vec![false; world.p.len()];
    let mut spent = Spent { samples: 0, energy_j: 0.0 };
    for (task, solved) in solved.iter_mut().enumerate() {
        for _ in 0..k {
            let (passed, energy_j) = world.sample(task);
            *solved |= passed;
            spent.samples += 1;
            spent.energy_j += energy_j;
        }
    }
    (spent, solved.iter().filter(|&&solved| solved).count())
}

/// Round after round over the unsolved tasks.
fn rounds(world: &mut World, target: usize, samples_max: u32) -> Spent {
    let mut solved = vec![false; world.p.len()];
    let mut spent = Spent { samples: 0, energy_j: 0.0 };
    for _ in 0..samples_max {
        for task in 0..world.p.len() {
            if solved.iter().filter(|&&solved| solved).count() >= target {
                return spent;
            }
            if !solved[task] {
                let (passed, energy_j) = world.sample(task);
                solved[task] = passed;
                spent.samples += 1;
                spent.energy_j += energy_j;
            }
        }
    }
    spent
}

/// The allocator with this many samples in flight, which end in the order they began.
fn allocated(world: &mut World, target: usize, samples_max: u32, width: usize) -> (Spent, Allocator) {
    let mut allocator = Allocator::new(&world.kinds, samples_max);
    let mut flight = std::collections::VecDeque::new();
    let mut spent = Spent { samples: 0, energy_j: 0.0 };
    while allocator.solved() < target {
        while flight.len() < width {
            let Some(task) = allocator.pick() else { break };
            flight.push_back(task);
        }
        let Some(task) = flight.pop_front() else { break };
        let (passed, energy_j) = world.sample(task);
        allocator.record(task, passed, Some(energy_j));
        spent.samples += 1;
        spent.energy_j += energy_j;
    }
    // What is still in flight was begun and is paid for.
    for task in flight {
        let (passed, energy_j) = world.sample(task);
        allocator.record(task, passed, Some(energy_j));
        spent.samples += 1;
        spent.energy_j += energy_j;
    }
    (spent, allocator)
}

#[test]
fn equal_coverage_for_fewer_samples_and_joules() {
    const WORLDS: u64 = 16;
    const K: u32 = 32;
    // Where all samples cost the same, samples are what is saved; where they do not, joules.
    for dearest in [1.0, 4.0] {
        let [mut all, mut uniform, mut single, mut batched] =
            [(); 4].map(|()| Spent { samples: 0, energy_j: 0.0 });
        for stream in 0..WORLDS {
            let add = |to: &mut Spent, spent: Spent| {
                to.samples += spent.samples;
                to.energy_j += spent.energy_j;
            };
            let world = || World::new(stream, dearest);
            let (spent, solved) = fixed(&mut world(), K);
            add(&mut all, spent);
            add(&mut uniform, rounds(&mut world(), solved, K * 8));
            add(&mut single, allocated(&mut world(), solved, K * 8, 1).0);
            add(&mut batched, allocated(&mut world(), solved, K * 8, 8).0);
        }
        for (name, spent) in [("one at a time", &single), ("eight in flight", &batched)] {
            println!(
                "{name}, up to {dearest} J: {} of {} samples ({} in rounds), {:.0} of {:.0} J ({:.0} J in rounds)",
                spent.samples, all.samples, uniform.samples, spent.energy_j, all.energy_j, uniform.energy_j
            );
            assert!(spent.energy_j <= 0.65 * all.energy_j, "{name}");
            assert!(spent.energy_j <= uniform.energy_j, "{name}");
            if dearest == 1.0 {
                assert!(f64::from(spent.samples) <= 0.65 * f64::from(all.samples), "{name}");
                assert!(spent.samples <= uniform.samples, "{name}");
            }
        }
    }
}

/// Graded worlds: each kind from its easiest task to its hardest, or the same tasks in another order.
fn graded(stream: u64, shuffled: bool) -> World {
    let mut world = World::new(stream, 1.0);
    let mut random = Random::new(43, stream);
    let middle = Difficulty { alpha: 0.5, beta: 4.0, unsolvable: 0.0 };
    let law = Graded { middle, slope: -3.0 };
    world.p = grades(&world.kinds.iter().map(|kind| *kind as usize).collect::<Vec<_>>())
        .iter()
        .map(|grade| Family::Beta(law.at(*grade)).draw(&mut random))
        .collect();
    if shuffled {
        for task in (1..world.p.len()).rev() {
            world.p.swap(task, random.below(task + 1));
        }
    }
    world
}

#[test]
fn order_saves_samples_where_a_set_is_graded() {
    const WORLDS: u64 = 16;
    let spent = |shuffled| {
        let (mut samples, mut all) = (0, 0);
        for stream in 0..WORLDS {
            let (spent, solved) = fixed(&mut graded(stream, shuffled), 32);
            all += spent.samples;
            samples += allocated(&mut graded(stream, shuffled), solved, 256, 8).0.samples;
        }
        f64::from(samples) / f64::from(all)
    };
    let (in_order, shuffled) = (spent(false), spent(true));
    println!("graded {in_order:.3}, shuffled {shuffled:.3} of fixed");
    assert!(in_order <= 0.55, "{in_order}");
    assert!(in_order <= 0.9 * shuffled, "{in_order} in order, {shuffled} shuffled");
    assert!(shuffled <= 0.65, "{shuffled}");
}

#[test]
fn grades_are_places_among_tasks_of_a_kind() {
    assert_eq!(grades(&[0, 1, 0, 2, 0, 1]), [-1.0, -1.0, 0.0, 0.0, 1.0, 1.0]);
    assert!(grades(&[]).is_empty());
}

#[test]
fn the_hard_end_of_a_kind_waits_whichever_it_is() {
    for hard_last in [true, false] {
        // Two kinds; all tasks but the two at each end of the second have been asked, and their easy half passed.
        let kinds: Vec<u32> = (0..40).map(|task| task / 20).collect();
        let mut allocator = Allocator::new(&kinds, 100);
        for task in (0..40).filter(|task| !(20..22).contains(task) && *task < 38) {
            for _ in 0..4 {
                allocator.record(task, (task % 20 < 10) == hard_last, None);
            }
        }
        let first = allocator.pick();
        let of = |task| allocator.prospect(task).unwrap().pass_probability;
        let (easy, hard) = if hard_last { (20, 39) } else { (39, 20) };
        assert_eq!(first, Some(easy));
        assert!(of(easy) > 5.0 * of(hard), "{} {}", of(easy), of(hard));
    }
}

#[test]
fn failures_in_flight_spread_the_samples() {
    // Nothing is known: each of the tasks is picked once before any is picked twice.
    let mut allocator = Allocator::new(&[0; 5], 3);
    let picked: Vec<usize> = (0..10).filter_map(|_| allocator.pick()).collect();
    assert_eq!(picked, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
    assert_eq!(allocator.in_flight(), 10);
    // A failure that was in flight changes nothing when it becomes known; a pass takes the task out.
    allocator.record(0, false, None);
    allocator.record(1, true, None);
    assert_eq!((allocator.in_flight(), allocator.solved()), (8, 1));
    let rest: Vec<usize> = std::iter::from_fn(|| allocator.pick()).collect();
    assert_eq!(rest.len(), 4, "three samples each at most, and task 1 is solved: {rest:?}");
    assert!(!rest.contains(&1));
    // The second sample of task 1 was chosen before its pass was known: it counts, pass or not.
    allocator.record(1, true, None);
    assert_eq!(allocator.counts()[1], Counts { samples: 2, correct: 2, stopped: true });
    // A sample that will not end may be drawn again.
    allocator.abandon(3);
    assert_eq!(allocator.pick(), Some(3));
}

#[test]
fn dear_tasks_wait() {
    // Of two kinds, so that neither stands at an end.
    let mut allocator = Allocator::new(&[0, 1], 100);
    for _ in 0..5 {
        allocator.record(0, false, Some(10.0));
        allocator.record(1, false, Some(1.0));
    }
    let (dear, cheap) = (allocator.prospect(0).unwrap(), allocator.prospect(1).unwrap());
    assert_eq!(dear.pass_probability, cheap.pass_probability);
    // Five own samples and two of the mean 5.5 J.
    assert!((dear.energy_j - 61.0 / 7.0).abs() < 1e-12 && (cheap.energy_j - 16.0 / 7.0).abs() < 1e-12);
    for _ in 0..3 {
        assert_eq!(allocator.pick(), Some(1));
    }
}

#[test]
fn kinds_are_learned() {
    // Kind 7 passes half the time, kind 9 never: a fresh task of kind 7 goes before one of kind 9.
    let kinds: Vec<u32> = (0..20).map(|task| if task % 2 == 0 { 9 } else { 7 }).collect();
    let mut allocator = Allocator::new(&kinds, 100);
    for (task, &kind) in kinds.iter().enumerate().take(18) {
        allocator.record(task, kind == 7 && task % 4 == 1, None);
    }
    assert_eq!(allocator.pick(), Some(19));
    let of = |task| allocator.prospect(task).unwrap().pass_probability;
    assert!(of(19) > 2.0 * of(18), "{} {}", of(19), of(18));
}

#[test]
fn every_outcome_from_the_first_is_bearable() {
    for (name, passed) in [("all fail", false), ("all pass", true)] {
        let mut allocator = Allocator::new(&[0; 4], 50);
        let mut samples = 0;
        while let Some(task) = allocator.pick() {
            let prospect = allocator.tasks[task];
            assert_eq!(prospect.in_flight, 1);
            allocator.record(task, passed, Some(0.0));
            samples += 1;
            let difficulty = allocator.difficulty();
            let Graded { middle, slope } = difficulty;
            assert!(
                middle.alpha > 0.0 && middle.beta.is_finite() && slope.is_finite(),
                "{name}: {difficulty:?}"
            );
        }
        assert_eq!(samples, if passed { 4 } else { 200 }, "{name}");
    }
    assert_eq!(Allocator::new(&[], 9).pick(), None);
    assert_eq!(Allocator::new(&[0], 0).pick(), None);
}

#[test]
fn the_same_outcomes_give_the_same_picks() {
    let run = || {
        let (_, allocator) = allocated(&mut World::new(3, 4.0), 80, 64, 8);
        allocator
    };
    assert_eq!(run(), run());
}

#[test]
fn estimates_from_its_runs_are_unbiased() {
    // Coverage at 16 and 128 of a known difficulty, from runs that the allocator steered with a tight budget.
    // So many that the mean error is known to about 0.004 at 128.
    const RUNS: u64 = 120;
    let truth = Difficulty { alpha: 0.4, beta: 6.0, unsolvable: 0.0 };
    let mut errors = [0.0; 2];
    let mut naive_error = 0.0;
    for stream in 0..RUNS {
        let mut random = Random::new(42, stream);
        let p: Vec<f64> = (0..400).map(|_| Family::Beta(truth).draw(&mut random)).collect();
        let mut allocator = Allocator::new(&vec![0; p.len()], 64);
        for _ in 0..4_000 {
            let Some(task) = allocator.pick() else { break };
            allocator.record(task, random.uniform() < p[task], Some(1.0 + random.uniform()));
        }
        let counts = allocator.counts();
        let fit = Difficulty::fit(&Tally::new(&counts), &Hyperprior::FLAT);
        for (error, k) in errors.iter_mut().zip([16.0, 128.0]) {
            *error += (fit.coverage(k) - truth.coverage(k)) / RUNS as f64;
        }
        // As if each task's share of passes were its pass probability.
        let naive: f64 = counts
            .iter()
            .map(|task| 1.0 - (1.0 - f64::from(task.correct) / f64::from(task.samples.max(1))).powi(16))
            .sum::<f64>()
            / counts.len() as f64;
        naive_error += (naive - truth.coverage(16.0)) / RUNS as f64;
    }
    println!("errors {errors:?}, naive {naive_error}");
    assert!(errors.iter().all(|error| error.abs() < 0.02), "{errors:?}");
    assert!(naive_error.abs() > 0.05, "{naive_error}");
}
