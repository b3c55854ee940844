//! What one coverage run showed: the document of `qeil coverage`.
//!
//! **Which estimate.** Where a run went through its tasks in order, the tasks up to the first unsettled one are a sample
//! that no outcome has chosen, and coverage at each k is observed: with all K samples drawn as unbiased pass@k, with a
//! stop at the first pass as the share of tasks that passed within k samples (samples count in the order of their numbers,
//! so a stop hides nothing of the first k). Where outcomes decided which task was sampled how often, neither holds, and
//! the curve is that of a law fitted by the likelihood of stopped data. Each point says which it is.
//!
//! **Whose joules.** A meter sees a run, not a task. A task's energy is its share of the run's by computed tokens, prompt
//! tokens counted once for each group of samples that shared a prefill; what was cancelled or drawn beyond a decision is
//! spread in the same proportion. That share is a model, so whatever rests on it is labelled estimated at best. Energy at
//! fewer samples than were drawn is that of the first k of each task.

use crate::{FitError, LEVEL, SEED};
use qeil_laws::coverage::Counts;
use qeil_laws::coverage::agreement::leader_confidence;
use qeil_laws::coverage::pass::pass_at_k;
use qeil_laws::coverage::study::Study;
use qeil_laws::interval::{Interval, REPLICATES, of_shares};
use qeil_laws::random::Random;
use qeil_measure::coverage::{CoveragePlan, Spent, Strategy, TaskOutcome, outcomes};
use qeil_measure::profile::ModelIdentity;
use qeil_measure::settings::Settings;
use qeil_measure::store::coverage::CoverageRun;
use qeil_units::{Joules, Labelled, Provenance};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Multiples of the samples drawn at which the laws are asked what more samples would solve.
pub const BEYOND: [u32; 2] = [4, 10];
/// Why a share of energy is an estimate.
const BY_TOKENS: &str = "shared out by computed tokens";

/// How a point of the curve was come by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// Unbiased pass@k of all K samples of each task (Chen et al. 2021).
    PassAtK,
    /// Share of tasks that passed within their first k samples.
    WithinFirst,
    /// Share of tasks with a pass among the samples they were given, few or many.
    AsDrawn,
    /// A law fitted by the likelihood of stopped data.
    Fitted,
}

/// Coverage at a number of samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Samples of each task, k.
    pub samples: u32,
    /// Share of tasks solved by at least one of them.
    pub coverage: f64,
    /// Its 95 % interval: the score interval of a share of tasks, or that of the law.
    pub interval: Option<Interval>,
    /// How it was come by.
    pub basis: Basis,
    /// Energy of all tasks' first k samples; under a stop at the first pass, of those that were needed.
    pub energy: Option<Labelled<Joules>>,
}

/// One task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRow {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: Option<String>,
    /// Samples that count.
    pub samples: u32,
    /// Of these, samples that passed.
    pub passed: u32,
    /// How many samples its first pass took; missing where none passed.
    pub first_pass: Option<u32>,
    /// Whether it needs nothing more.
    pub settled: bool,
    /// Its share of the run's energy.
    pub energy: Option<Labelled<Joules>>,
}

/// All tasks of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KindRow {
    /// The kind; missing for tasks that name none.
    pub kind: Option<String>,
    /// Tasks.
    pub tasks: u32,
    /// Tasks solved.
    pub solved: u32,
    /// Samples that count.
    pub samples: u64,
    /// Share of single samples that passed; missing without one.
    pub pass_rate: Option<f64>,
    /// Its share of the run's energy.
    pub energy: Option<Labelled<Joules>>,
}

/// A task whose samples vote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VoteRow {
    /// Its id.
    pub id: String,
    /// The answer with most votes; missing where no sample gave one.
    pub answer: Option<String>,
    /// Its votes.
    pub votes: u32,
    /// Samples that count.
    pub samples: u32,
    /// Probability that it stays ahead of the second (Aggarwal et al. 2023).
    pub confidence: Option<f64>,
}

/// What a run cost, all its sittings together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Sittings.
    pub sittings: u32,
    /// Seconds.
    pub wall_s: f64,
    /// CPU seconds of worker, program and judges.
    pub cpu_s: f64,
    /// Of these, of the worker.
    pub worker_cpu_s: f64,
    /// All energy of the device; missing where a sitting has none.
    pub gross: Option<Labelled<Joules>>,
    /// Above idle.
    pub net: Option<Labelled<Joules>>,
    /// What a reader should know about the energy.
    pub remarks: Vec<String>,
    /// Gross energy for each solved task; missing where none was solved.
    pub joules_per_solved: Option<Labelled<Joules>>,
    /// Tokens emitted.
    pub emitted_tokens: u64,
    /// Prompt tokens computed.
    pub prefilled_tokens: u64,
    /// Prompt tokens found in the prefix cache.
    pub reused_tokens: u64,
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CoverageRunReport {
    /// Version of QEIL that wrote this.
    pub qeil_version: String,
    /// The run's number in the store.
    pub run: i64,
    /// Processor and engine.
    pub machine: String,
    /// The model.
    pub model: ModelIdentity,
    /// The engine's settings.
    pub settings: Settings,
    /// The plan.
    pub plan: CoveragePlan,
    /// Why its last sitting ended; missing after a kill.
    pub ended: Option<String>,
    /// Whether every task is settled.
    pub finished: bool,
    /// Tasks with a known answer.
    pub solvable: u32,
    /// Of these, tasks with a sample that counts.
    pub asked: u32,
    /// Of these, tasks solved.
    pub solved: u32,
    /// Samples judged.
    pub samples: u64,
    /// Of these, samples beyond a task's decision: drawn beside others, and not counted.
    pub surplus: u64,
    /// Samples cancelled since their task was settled.
    pub cancelled: u64,
    /// Coverage over samples.
    pub curve: Vec<CurvePoint>,
    /// The laws, at the same numbers of samples and beyond ([`BEYOND`]); missing where no task was asked.
    pub laws: Option<Laws>,
    /// By kind, in the order of the set.
    pub kinds: Vec<KindRow>,
    /// Tasks whose samples vote.
    pub votes: Vec<VoteRow>,
    /// What it cost.
    pub cost: Cost,
    /// Tasks with a known answer that were asked and never solved.
    pub never_solved: Vec<String>,
    /// Every task with a known answer.
    pub tasks: Vec<TaskRow>,
}

/// All laws of coverage, fitted to a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Laws {
    /// Numbers of samples that they are asked for.
    pub at: Vec<u32>,
    /// What they say there, and which to go by.
    pub study: Study,
}

impl Laws {
    /// Of these tasks. Counts of a run whose rules let outcomes decide are marked as stopped: the laws' likelihood holds
    /// for both, pass@k only for the others.
    fn of(run: &CoverageRun, outcomes: &[&TaskOutcome<'_>]) -> Option<Self> {
        let stopped = run.plan.stop_at_pass || run.plan.strategy == Strategy::Sequential;
        let counts: Vec<Counts> = outcomes.iter().map(|outcome| outcome.counts(stopped)).collect();
        let mut at = steps(run.plan.samples);
        at.extend(BEYOND.iter().map(|times| run.plan.samples.saturating_mul(*times)));
        let asked: Vec<f64> = at.iter().map(|&k| f64::from(k)).collect();
        let study = Study::new(&counts, &asked, LEVEL, REPLICATES, SEED).ok()?;
        Some(Self { at, study })
    }

    /// What the law to go by says at each number of samples, with its interval.
    pub fn chosen(&self) -> impl Iterator<Item = (u32, f64, Option<Interval>)> {
        let law = self.study.chosen();
        let figures = law.into_iter().flat_map(|law| law.coverage.iter().zip(&law.intervals));
        self.at.iter().zip(figures).map(|(&k, (&coverage, &interval))| (k, coverage, interval))
    }
}

/// One task, as figures: what coverage and energy at each k are summed from.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskFigures {
    /// Samples that count.
    pub samples: u32,
    /// Of these, those that passed.
    pub passed: u32,
    /// Samples up to the first pass.
    pub first_pass: Option<u32>,
    /// Computed tokens of each sample that counts, by number.
    pub tokens: Vec<u64>,
}

impl TaskFigures {
    /// Of one task of a run.
    pub fn of(outcome: &TaskOutcome<'_>) -> Self {
        let first = outcome.counting().find(|row| row.passed == Some(true));
        Self {
            samples: outcome.counted,
            passed: outcome.counts(false).correct,
            first_pass: first.map(|row| row.sample + 1),
            tokens: outcome.counting().map(|row| row.computed_tokens()).collect(),
        }
    }

    /// Tokens of its first `k` samples.
    pub fn tokens_at(&self, k: u32) -> f64 {
        self.tokens.iter().take(k as usize).sum::<u64>() as f64
    }

    /// Whether (or with which probability) `k` samples solve it; missing where they were not drawn.
    pub fn solved_at(&self, k: u32, basis: Basis) -> Option<f64> {
        match basis {
            Basis::PassAtK => pass_at_k(self.samples, self.passed, k),
            Basis::WithinFirst => {
                let within = self.first_pass.is_some_and(|first| first <= k);
                (within || self.samples >= k).then_some(f64::from(u8::from(within)))
            }
            Basis::AsDrawn => Some(f64::from(u8::from(self.first_pass.is_some_and(|first| first <= k)))),
            Basis::Fitted => None,
        }
    }
}

/// The tasks that an observed curve may rest on, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// How.
    pub basis: Basis,
    /// The leading settled tasks with a known answer.
    pub tasks: Vec<TaskFigures>,
}

impl Observed {
    /// Those of a run; missing where outcomes chose which tasks were sampled, or none is settled.
    pub fn of(run: &CoverageRun) -> Option<Self> {
        // A finished run has every task at its end, whoever chose the order.
        if run.plan.strategy == Strategy::Sequential && !run.finished {
            return None;
        }
        let outcomes = outcomes(&run.plan, &run.samples);
        let leading = outcomes.iter().take_while(|outcome| outcome.settled);
        let tasks: Vec<TaskFigures> =
            leading.filter(|outcome| !outcome.label.votes).map(TaskFigures::of).collect();
        let basis = if run.plan.stop_at_pass { Basis::WithinFirst } else { Basis::PassAtK };
        (!tasks.is_empty()).then_some(Self { basis, tasks })
    }

    /// Of each task, whether (or with which probability) `k` samples solve it; missing where a task has fewer.
    fn solved(&self, k: u32) -> Option<Vec<f64>> {
        self.tasks.iter().map(|task| task.solved_at(k, self.basis)).collect()
    }

    /// Share of tasks that `k` samples solve; missing where a task has fewer.
    pub fn coverage(&self, k: u32) -> Option<f64> {
        let solved = self.solved(k)?;
        Some(solved.iter().sum::<f64>() / solved.len() as f64)
    }

    /// Its 95 % interval over tasks of this kind; a task's samples count for so many trials of `k` as they are.
    pub fn interval(&self, k: u32) -> Option<Interval> {
        let trials: u32 = self.tasks.iter().map(|task| task.samples / k.max(1)).sum();
        of_shares(&self.solved(k)?, f64::from(trials), LEVEL)
    }

    /// Resamples of the tasks: for each, its coverage at `k`, and the tokens of its first `k` samples as a share of those
    /// of all tasks as they are. Draw i resamples the same tasks for every k.
    pub fn draws(&self, k: u32) -> Option<(Vec<f64>, Vec<f64>)> {
        let each: Option<Vec<(f64, f64)>> =
            self.tasks.iter().map(|task| Some((task.solved_at(k, self.basis)?, task.tokens_at(k)))).collect();
        let each = each?;
        let count = each.len();
        let all: f64 = each.iter().map(|(_, tokens)| tokens).sum();
        let draw = |replicate| {
            let mut random = Random::new(SEED, u64::from(replicate));
            let (solved, tokens) = (0..count).fold((0.0, 0.0), |(solved, tokens), _| {
                let (one, its) = each[random.below(count)];
                (solved + one, tokens + its)
            });
            (solved / count as f64, if all > 0.0 { tokens / all } else { 1.0 })
        };
        Some((0..REPLICATES).map(draw).unzip())
    }

    /// Computed tokens of all its samples.
    pub fn tokens(&self) -> f64 {
        self.tasks.iter().map(|task| task.tokens_at(u32::MAX)).sum()
    }

    /// Tokens of all tasks' first `k` samples, as a share of those of all that count.
    pub fn share_at(&self, k: u32) -> f64 {
        let all = self.tokens();
        let first: f64 = self.tasks.iter().map(|task| task.tokens_at(k)).sum();
        if all > 0.0 { first / all } else { 1.0 }
    }
}

/// Numbers of samples that a curve is shown at: 1, 2, 4… and the last.
pub fn steps(samples: u32) -> Vec<u32> {
    let mut steps: Vec<u32> =
        std::iter::successors(Some(1u32), |k| k.checked_mul(2)).take_while(|k| *k < samples).collect();
    steps.push(samples);
    steps
}

/// A share of an energy, which is an estimate whatever the energy is.
fn part(energy: &Labelled<Joules>, share: f64) -> Labelled<Joules> {
    Labelled {
        value: Joules(energy.value.0 * share),
        provenance: energy.provenance.weakest(Provenance::Estimated),
        source: format!("{}, {BY_TOKENS}", energy.source),
    }
}

/// The report of a run.
///
/// # Errors
/// It has no sample.
pub fn report(run: &CoverageRun) -> Result<CoverageRunReport, FitError> {
    if run.samples.is_empty() {
        return Err(FitError::Nothing);
    }
    let outcomes = outcomes(&run.plan, &run.samples);
    let solvable: Vec<&TaskOutcome<'_>> = outcomes.iter().filter(|outcome| !outcome.label.votes).collect();
    let figures: Vec<TaskFigures> = solvable.iter().map(|outcome| TaskFigures::of(outcome)).collect();
    let cost = cost(run, figures.iter().filter(|task| task.first_pass.is_some()).count());
    let counted_tokens: u64 =
        outcomes.iter().flat_map(TaskOutcome::counting).map(|row| row.computed_tokens()).sum();
    let share_of = |tokens: f64| {
        let energy = cost.gross.as_ref().filter(|_| counted_tokens > 0)?;
        Some(part(energy, tokens / counted_tokens as f64))
    };
    let tasks: Vec<TaskRow> = solvable
        .iter()
        .zip(&figures)
        .map(|(outcome, task)| TaskRow {
            id: outcome.label.id.clone(),
            kind: outcome.label.kind.clone(),
            samples: task.samples,
            passed: task.passed,
            first_pass: task.first_pass,
            settled: outcome.settled,
            energy: share_of(task.tokens_at(u32::MAX)),
        })
        .collect();
    let kinds = kinds(&tasks, &figures, share_of);
    let laws = Laws::of(run, &solvable);
    let judged = run.samples.len() as u64;
    let counted: u64 = outcomes.iter().map(|outcome| u64::from(outcome.counted)).sum();
    let asked: Vec<&TaskRow> = tasks.iter().filter(|task| task.samples > 0).collect();
    Ok(CoverageRunReport {
        qeil_version: qeil_measure::VERSION.into(),
        run: run.number,
        machine: run.host.label(),
        model: run.model.clone(),
        settings: run.settings,
        plan: run.plan.clone(),
        ended: run.sittings.last().and_then(|sitting| sitting.ended.clone()),
        finished: run.finished,
        solvable: tasks.len() as u32,
        asked: asked.len() as u32,
        solved: asked.iter().filter(|task| task.first_pass.is_some()).count() as u32,
        samples: judged,
        surplus: judged - counted,
        cancelled: run.sittings.iter().map(|sitting| sitting.cancelled).sum(),
        curve: curve(run, cost.gross.as_ref(), laws.as_ref()),
        laws,
        never_solved: asked
            .iter()
            .filter(|task| task.first_pass.is_none())
            .map(|task| task.id.clone())
            .collect(),
        kinds,
        votes: outcomes.iter().filter(|outcome| outcome.label.votes).map(votes).collect(),
        cost,
        tasks,
    })
}

fn curve(run: &CoverageRun, energy: Option<&Labelled<Joules>>, laws: Option<&Laws>) -> Vec<CurvePoint> {
    let Some(observed) = Observed::of(run) else {
        // Fewer samples would have been given to other tasks, so their energy is not known.
        let fitted = |(samples, coverage, interval)| CurvePoint {
            samples,
            coverage,
            interval,
            basis: Basis::Fitted,
            energy: None,
        };
        let drawn = |point: &CurvePoint| point.samples <= run.plan.samples;
        return laws.into_iter().flat_map(Laws::chosen).map(fitted).filter(drawn).collect();
    };
    let point = |k: u32| {
        let coverage = observed.coverage(k)?;
        let interval = observed.interval(k);
        let energy = energy.map(|energy| part(energy, observed.share_at(k)));
        Some(CurvePoint { samples: k, coverage, interval, basis: observed.basis, energy })
    };
    steps(run.plan.samples).into_iter().filter_map(point).collect()
}

fn kinds(
    tasks: &[TaskRow],
    figures: &[TaskFigures],
    share_of: impl Fn(f64) -> Option<Labelled<Joules>>,
) -> Vec<KindRow> {
    let mut order: Vec<&Option<String>> = Vec::new();
    let mut members: BTreeMap<&Option<String>, Vec<usize>> = BTreeMap::new();
    for (at, task) in tasks.iter().enumerate() {
        if !members.contains_key(&task.kind) {
            order.push(&task.kind);
        }
        members.entry(&task.kind).or_default().push(at);
    }
    let row = |kind: &Option<String>| {
        let of: Vec<&TaskFigures> = members.get(kind).into_iter().flatten().map(|&at| &figures[at]).collect();
        let samples: u64 = of.iter().map(|task| u64::from(task.samples)).sum();
        let passed: u64 = of.iter().map(|task| u64::from(task.passed)).sum();
        KindRow {
            kind: kind.clone(),
            tasks: of.len() as u32,
            solved: of.iter().filter(|task| task.first_pass.is_some()).count() as u32,
            samples,
            pass_rate: (samples > 0).then(|| passed as f64 / samples as f64),
            energy: share_of(of.iter().map(|task| task.tokens_at(u32::MAX)).sum()),
        }
    };
    order.into_iter().map(row).collect()
}

fn votes(outcome: &TaskOutcome<'_>) -> VoteRow {
    let votes = outcome.votes();
    let counts: Vec<u32> = votes.iter().map(|(_, votes)| *votes).collect();
    VoteRow {
        id: outcome.label.id.clone(),
        answer: votes.first().map(|(answer, _)| (*answer).to_owned()),
        votes: counts.first().copied().unwrap_or(0),
        samples: outcome.counted,
        confidence: leader_confidence(&counts),
    }
}

/// The energy of all sittings; missing where one has none.
pub(crate) fn spent(run: &CoverageRun) -> Option<Spent> {
    let each: Option<Vec<Spent>> = run.sittings.iter().map(|sitting| sitting.energy.clone()).collect();
    each?.into_iter().reduce(Spent::plus)
}

fn cost(run: &CoverageRun, solved: usize) -> Cost {
    let spent = spent(run);
    let sum = |of: fn(&qeil_measure::coverage::Sitting) -> f64| run.sittings.iter().map(of).sum::<f64>();
    let count = |of: fn(&qeil_measure::coverage::Sitting) -> u64| run.sittings.iter().map(of).sum::<u64>();
    let mut remarks: Vec<String> =
        spent.iter().flat_map(|spent| &spent.flags).map(ToString::to_string).collect();
    for why in run.sittings.iter().filter_map(|sitting| sitting.energy_missing.as_ref()) {
        if !remarks.contains(why) {
            remarks.push(why.clone());
        }
    }
    Cost {
        sittings: run.sittings.len() as u32,
        wall_s: sum(|sitting| sitting.wall_s),
        cpu_s: sum(qeil_measure::coverage::Sitting::cpu_s),
        worker_cpu_s: sum(|sitting| sitting.worker_cpu_s),
        joules_per_solved: spent.as_ref().filter(|_| solved > 0).map(|spent| {
            let each = spent.gross.value.0 / solved as f64;
            spent.gross.clone().map(|_| Joules(each))
        }),
        net: spent.as_ref().and_then(|spent| spent.net.clone()),
        gross: spent.map(|spent| spent.gross),
        remarks,
        emitted_tokens: count(|sitting| sitting.emitted_tokens),
        prefilled_tokens: count(|sitting| sitting.prefilled_tokens),
        reused_tokens: count(|sitting| sitting.reused_tokens),
    }
}
