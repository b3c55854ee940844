//! The search: every configuration once, with those cut off that cannot be on the front.
//!
//! First all rungs are priced. What breaks a limit wherever it stands (a device not allowed, memory, power, heat, the
//! deadline) goes at once. Ladders are then built rung by rung, and three cuts keep that exact:
//!
//! - a prefix that another prefix of the same models, devices and coverage beats on time, worst time, energy and every
//!   memory that could fill up is dropped: whatever follows costs both the same;
//! - a rung that solves no more than the prefix before it is not added: the prefix alone is better;
//! - of rungs that draw all samples, one that another beats in the same way is not added.
//!
//! Points are thinned to their front whenever there are too many to hold, which loses nothing: the front of a union is
//! the front of the fronts.
//!
//! **Where that is too much** ([`RUNGS_MAX`], [`LADDERS_MAX`]) the space is narrowed in steps, each named in
//! [`Method::Searched`]: samples are handed out greedily instead of in every composition; numbers of samples are powers
//! of two; only rungs that nothing of the same model, samples and devices beats (started afresh, and after half of what they
//! solve is solved) are stacked; at last an even choice of those along the front of energy and time. The gap to the
//! exact front is tested where both can be computed.

use crate::cost::Costs;
use crate::evaluate::{Evaluator, Footprint, Spent, broken};
use crate::front::{OBJECTIVES, Point, front};
use crate::problem::{LADDER_MAX, MEMORIES_MAX, PlanError, Problem, Stop};
use crate::rung::{Rung, Shares, rungs};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

/// Most rungs that are priced: about a second's work, and 150 MB.
pub const RUNGS_MAX: usize = 1 << 20;
/// Most ladders that are looked at: about two seconds' work.
pub const LADDERS_MAX: u64 = 1 << 23;
/// Points held before they are thinned to their front: 40 MB.
const POINTS_MAX: usize = 1 << 20;
/// Rungs that stay where even the unbeaten ones are too many.
const BEAM: usize = 512;
/// Bits of a rung's number in a ladder's.
const RUNG_BITS: u32 = 21;

/// How much is looked at before a space is narrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// Rungs; at most [`RUNGS_MAX`].
    pub rungs: usize,
    /// Ladders.
    pub ladders: u64,
}

impl Default for Effort {
    fn default() -> Self {
        Self { rungs: RUNGS_MAX, ladders: LADDERS_MAX }
    }
}

/// How the front was come by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Every configuration was looked at, or cut by a bound that loses nothing: the front is exact.
    Enumerated,
    /// The space was narrowed: what was left out.
    Searched(Vec<String>),
}

/// What decides between configurations, as objectives that are minimised.
pub(crate) struct Known {
    pub energy: bool,
    pub coverage: bool,
    pub usd: bool,
}

/// A priced rung.
pub(crate) struct Entry {
    pub rung: Rung,
    pub footprint: Footprint,
    pub spent: Spent,
}

/// A ladder so far.
#[derive(Clone, Copy)]
pub(crate) struct Prefix {
    pub id: u64,
    models: [u16; LADDER_MAX],
    pub depth: usize,
    pub coverage: f64,
    pub spent: Spent,
    pub bytes: [f64; MEMORIES_MAX],
    pub devices: u64,
    pub prefill_devices: u64,
}

/// What a limit kept out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub count: u64,
    /// The best by the goal of those that broke this limit alone.
    pub best: Option<Point>,
}

/// Configurations that a reader would call one kind: same models, same devices.
pub(crate) type Kind = ([u16; LADDER_MAX], u64, u64);

/// Everything that a search found.
pub(crate) struct Found {
    pub entries: Vec<Entry>,
    pub front: Vec<Point>,
    pub best: HashMap<Kind, Point>,
    pub excluded: [Tally; 6],
    pub examined: u64,
    pub method: Method,
}

/// Numbers of the rungs of a ladder.
pub(crate) fn rungs_of(id: u64) -> impl Iterator<Item = usize> {
    (0..LADDER_MAX as u32).map_while(move |at| {
        (id >> (at * RUNG_BITS) & ((1 << RUNG_BITS) - 1)).checked_sub(1).map(|rung| rung as usize)
    })
}

pub(crate) struct Search<'a> {
    evaluator: &'a Evaluator<'a>,
    problem: &'a Problem,
    known: &'a Known,
    goal: usize,
    effort: Effort,
    points: Vec<Point>,
    best: HashMap<Kind, Point>,
    excluded: [Tally; 6],
    examined: u64,
    narrowed: Vec<String>,
    /// Which memories could fill up.
    tight: [bool; MEMORIES_MAX],
}

impl<'a> Search<'a> {
    /// The front, and the best of each kind by objective number `goal`.
    pub fn run(
        evaluator: &'a Evaluator<'a>,
        known: &'a Known,
        goal: usize,
        effort: Effort,
    ) -> Result<Found, PlanError> {
        let mut search = Self {
            evaluator,
            problem: evaluator.problem,
            known,
            goal,
            effort,
            points: Vec::new(),
            best: HashMap::new(),
            excluded: [Tally::default(); 6],
            examined: 0,
            narrowed: Vec::new(),
            tight: [false; MEMORIES_MAX],
        };
        let entries = search.entries();
        search.tight = search.memories_that_could_fill(&entries);
        let ladders = search.problem.menu.ladder_max > 1;
        let mut usable = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let prefix = single(at, entry);
            let mask = search.evaluator.broken(&entry.footprint, &entry.spent);
            search.judge(&prefix, mask);
            if mask == 0 && ladders {
                usable.push(prefix);
            }
        }
        let mut seconds = search.seconds(&entries, &usable);
        let mut prefixes = search.unbeaten(usable);
        for depth in 2..=search.problem.menu.ladder_max {
            prefixes = search.extend(&entries, prefixes, &mut seconds, depth);
        }
        let Self { points, best, excluded, examined, narrowed, .. } = search;
        let method = if narrowed.is_empty() { Method::Enumerated } else { Method::Searched(narrowed) };
        Ok(Found { entries, front: front(points), best, excluded, examined, method })
    }

    fn entries(&mut self) -> Vec<Entry> {
        let mut thinned = self.problem.clone();
        for (shares, thin, why) in [
            (Shares::All, false, None),
            (Shares::Greedy, false, Some("samples are shared out greedily")),
            (Shares::Greedy, true, Some("numbers of samples are powers of two")),
        ] {
            if thin {
                let most = thinned.menu.samples.iter().copied().max().unwrap_or(1);
                thinned.menu.samples.retain(|k| k.is_power_of_two() || *k == most);
            }
            self.narrowed.extend(why.map(str::to_owned));
            let (mut count, most) = (0, self.effort.rungs.min(RUNGS_MAX));
            let counted = rungs(&thinned, self.evaluator.costs, shares, &mut |_| {
                count += 1;
                if count > most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if counted.is_continue() {
                return self.priced(&thinned, shares);
            }
        }
        self.narrowed
            .push(format!("only the first {} ways to draw samples are looked at", self.effort.rungs));
        self.priced(&thinned, Shares::Greedy)
    }

    fn priced(&self, problem: &Problem, shares: Shares) -> Vec<Entry> {
        let mut entries = Vec::new();
        // Ended by the bound where there are more.
        let _ = rungs(problem, self.evaluator.costs, shares, &mut |rung| {
            let spent = self.evaluator.spent(&rung, 0.0);
            let footprint = self.evaluator.footprint(&rung, spent.s_max);
            entries.push(Entry { rung, footprint, spent });
            if entries.len() >= self.effort.rungs.min(RUNGS_MAX) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        entries
    }

    fn memories_that_could_fill(&self, entries: &[Entry]) -> [bool; MEMORIES_MAX] {
        let mut most = [0f64; MEMORIES_MAX];
        for entry in entries {
            most.iter_mut().zip(entry.footprint.bytes).for_each(|(most, bytes)| *most = most.max(bytes));
        }
        let ladder = self.problem.menu.ladder_max as f64;
        let mut tight = [false; MEMORIES_MAX];
        for at in 0..self.problem.memories.len() {
            let mut alone = [0.0; MEMORIES_MAX];
            alone[at] = most[at] * ladder;
            tight[at] = self.evaluator.broken_by_bytes(&alone) != 0;
        }
        tight
    }

    /// Count a configuration that breaks these limits (none: it is a candidate).
    fn judge(&mut self, prefix: &Prefix, mut mask: u8) {
        self.examined += 1;
        if self.problem.limits.coverage_min.is_some_and(|least| prefix.coverage < least) {
            mask |= broken::COVERAGE;
        }
        let point = Point { at: self.objectives(prefix), id: prefix.id };
        if mask != 0 {
            for (at, (bit, _)) in broken::NAMES.iter().enumerate() {
                let tally = &mut self.excluded[at];
                tally.count += u64::from(mask & bit != 0);
                if mask == *bit && tally.best.is_none_or(|best| better(&point, &best, self.goal)) {
                    tally.best = Some(point);
                }
            }
            return;
        }
        let kind = (prefix.models, prefix.devices, prefix.prefill_devices);
        let goal = self.goal;
        self.best
            .entry(kind)
            .and_modify(|best| {
                if better(&point, best, goal) {
                    *best = point;
                }
            })
            .or_insert(point);
        self.points.push(point);
        if self.points.len() >= POINTS_MAX {
            self.points = front(std::mem::take(&mut self.points));
        }
    }

    fn objectives(&self, prefix: &Prefix) -> [f64; OBJECTIVES] {
        let energy = if self.known.energy { self.evaluator.joules(&prefix.spent) } else { 0.0 };
        let coverage = if self.known.coverage { -prefix.coverage } else { 0.0 };
        let usd = if self.known.usd {
            self.evaluator.usd(&prefix.spent, prefix.devices).unwrap_or(f64::INFINITY)
        } else {
            0.0
        };
        [energy, prefix.spent.s, coverage, usd]
    }

    /// Prefixes that no other of the same models, devices and coverage beats.
    fn unbeaten(&self, prefixes: Vec<Prefix>) -> Vec<Prefix> {
        let mut classes: BTreeMap<([u16; LADDER_MAX], u64, u64), Vec<Prefix>> = BTreeMap::new();
        for prefix in prefixes {
            classes
                .entry((prefix.models, prefix.coverage.to_bits(), prefix.devices))
                .or_default()
                .push(prefix);
        }
        classes.into_values().flat_map(|class| least(class, |prefix| self.criteria(prefix))).collect()
    }

    fn criteria(&self, prefix: &Prefix) -> Vec<f64> {
        let spent = &prefix.spent;
        let bytes = prefix.bytes.iter().zip(self.tight).filter(|(_, tight)| *tight).map(|(bytes, _)| *bytes);
        // Worst time matters only where a deadline does.
        let s_max = self.problem.limits.deadline_s.map(|_| spent.s_max);
        [self.evaluator.joules(spent), spent.s].into_iter().chain(s_max).chain(bytes).collect()
    }

    /// Rungs that may follow others.
    fn seconds(&self, entries: &[Entry], usable: &[Prefix]) -> Vec<usize> {
        let rung = |prefix: &Prefix| &entries[number(prefix)].rung;
        let (all, until_pass): (Vec<Prefix>, Vec<Prefix>) =
            usable.iter().partition(|prefix| rung(prefix).stop == Stop::All);
        let mut seconds: Vec<usize> = self.unbeaten(all).iter().chain(&until_pass).map(number).collect();
        seconds.sort_unstable();
        seconds
    }

    fn extend(
        &mut self,
        entries: &[Entry],
        prefixes: Vec<Prefix>,
        seconds: &mut Vec<usize>,
        depth: usize,
    ) -> Vec<Prefix> {
        let mut classes = by_class(prefixes);
        if self.pairs(entries, &classes, seconds) > self.effort.ladders {
            *seconds = self.narrow(entries, seconds);
            self.narrowed.push("only ways to draw samples that nothing alike beats are stacked".into());
            if self.pairs(entries, &classes, seconds) > self.effort.ladders {
                *seconds = spread(std::mem::take(seconds), BEAM, |&at| entries[at].spent.s);
                let all: Vec<Prefix> = classes.into_values().flatten().collect();
                classes = by_class(spread(all, (self.effort.ladders as usize / BEAM).max(BEAM), |prefix| {
                    prefix.spent.s
                }));
                self.narrowed.push(format!("of these, {BEAM} along the front are stacked"));
            }
        }
        let mut longer = Vec::new();
        let last = depth == self.problem.menu.ladder_max;
        for (&(models, coverage), class) in &classes {
            let before = f64::from_bits(coverage);
            for &at in seconds.iter() {
                let entry = &entries[at];
                if !follows(entry, &models, before) {
                    continue;
                }
                let spent = self.evaluator.spent(&entry.rung, before);
                for prefix in class {
                    let ladder = stacked(prefix, at, entry, &spent);
                    let mut mask = self.evaluator.broken_by_bytes(&ladder.bytes);
                    if self.problem.limits.deadline_s.is_some_and(|most| ladder.spent.s_max > most) {
                        mask |= broken::DEADLINE;
                    }
                    self.judge(&ladder, mask);
                    if mask == 0 && !last {
                        longer.push(ladder);
                    }
                }
            }
        }
        self.unbeaten(longer)
    }

    fn pairs(&self, entries: &[Entry], classes: &Classes, seconds: &[usize]) -> u64 {
        let of = |(&(models, coverage), class): (&([u16; LADDER_MAX], u64), &Vec<Prefix>)| {
            let before = f64::from_bits(coverage);
            let after = seconds.iter().filter(|&&at| follows(&entries[at], &models, before)).count();
            class.len() as u64 * after as u64
        };
        classes.iter().map(of).sum()
    }

    /// Rungs that nothing of the same model, number of samples and (where dollars count, since hardware is paid for by the
    /// device) devices beats, fresh or half-way.
    fn narrow(&self, entries: &[Entry], seconds: &[usize]) -> Vec<usize> {
        let mut classes: BTreeMap<(u16, u32, u64), Vec<usize>> = BTreeMap::new();
        for &at in seconds {
            let (rung, devices) = (&entries[at].rung, entries[at].footprint.devices);
            let devices = if self.known.usd { devices } else { 0 };
            classes.entry((rung.model, rung.samples(), devices)).or_default().push(at);
        }
        let criteria = |&at: &usize| {
            let entry = &entries[at];
            let later = self.evaluator.spent(&entry.rung, entry.footprint.coverage / 2.0);
            [entry.spent, later].iter().flat_map(|spent| [self.evaluator.joules(spent), spent.s]).collect()
        };
        let mut kept: Vec<usize> = classes.into_values().flat_map(|class| least(class, criteria)).collect();
        kept.sort_unstable();
        kept
    }
}

type Classes = BTreeMap<([u16; LADDER_MAX], u64), Vec<Prefix>>;

fn by_class(prefixes: Vec<Prefix>) -> Classes {
    let mut classes = Classes::new();
    for prefix in prefixes {
        classes.entry((prefix.models, prefix.coverage.to_bits())).or_default().push(prefix);
    }
    classes
}

/// No model: the rest of a ladder's list.
const NONE: u16 = u16::MAX;

fn single(at: usize, entry: &Entry) -> Prefix {
    let mut models = [NONE; LADDER_MAX];
    models[0] = entry.rung.model;
    Prefix {
        id: at as u64 + 1,
        models,
        depth: 1,
        coverage: entry.footprint.coverage,
        spent: entry.spent,
        bytes: entry.footprint.bytes,
        devices: entry.footprint.devices,
        prefill_devices: entry.footprint.prefill_devices,
    }
}

/// The first rung's number.
fn number(prefix: &Prefix) -> usize {
    rungs_of(prefix.id).next().unwrap_or(0)
}

/// Whether a rung adds anything after these models.
fn follows(entry: &Entry, models: &[u16; LADDER_MAX], before: f64) -> bool {
    entry.footprint.coverage > before && !models.contains(&entry.rung.model)
}

fn stacked(prefix: &Prefix, at: usize, entry: &Entry, spent: &Spent) -> Prefix {
    let mut ladder = *prefix;
    ladder.id |= (at as u64 + 1) << (prefix.depth as u32 * RUNG_BITS);
    ladder.models[prefix.depth] = entry.rung.model;
    ladder.depth += 1;
    ladder.coverage = entry.footprint.coverage;
    ladder.spent.s += spent.s;
    ladder.spent.j += spent.j;
    ladder.spent.s_max += spent.s_max;
    ladder.bytes.iter_mut().zip(entry.footprint.bytes).for_each(|(sum, bytes)| *sum += bytes);
    ladder.devices |= entry.footprint.devices;
    ladder.prefill_devices |= entry.footprint.prefill_devices;
    ladder
}

/// Whether `a` serves the goal better, or equally well and something else better.
pub(crate) fn better(a: &Point, b: &Point, goal: usize) -> bool {
    a.at[goal].total_cmp(&b.at[goal]).then_with(|| crate::front::order(a, b)).is_lt()
}

/// Those that no other is at most equal to on every criterion; of equal ones the first.
fn least<T>(all: Vec<T>, criteria: impl Fn(&T) -> Vec<f64>) -> Vec<T> {
    let mut keyed: Vec<(Vec<f64>, T)> = all.into_iter().map(|item| (criteria(&item), item)).collect();
    let by = |a: &[f64], b: &[f64]| {
        a.iter().zip(b).map(|(a, b)| a.total_cmp(b)).fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
    };
    keyed.sort_by(|(a, _), (b, _)| by(a, b));
    let mut kept: Vec<(Vec<f64>, T)> = Vec::new();
    for (criteria, item) in keyed {
        let beaten = kept.iter().rev().any(|(other, _)| other.iter().zip(&criteria).all(|(a, b)| a <= b));
        if !beaten {
            kept.push((criteria, item));
        }
    }
    kept.into_iter().map(|(_, item)| item).collect()
}

/// At most so many, evenly along `by`, both ends among them.
fn spread<T>(mut all: Vec<T>, most: usize, by: impl Fn(&T) -> f64) -> Vec<T> {
    let count = all.len();
    if count <= most {
        return all;
    }
    all.sort_by(|a, b| by(a).total_cmp(&by(b)));
    let mut keep = vec![false; count];
    (0..most).for_each(|at| keep[at * (count - 1) / (most - 1)] = true);
    let mut keep = keep.into_iter();
    all.retain(|_| keep.next().unwrap_or(false));
    all
}

/// Costs and what is known of them.
pub(crate) fn known(problem: &Problem, costs: &Costs) -> Known {
    let priced = problem.devices.iter().all(|device| device.price_usd.is_some() || !device.allowed);
    Known {
        energy: costs.energy_known,
        coverage: problem.models.iter().all(|model| model.coverage.is_some()),
        usd: costs.energy_known && priced,
    }
}
