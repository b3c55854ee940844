//! A plan carried out: what one task takes when its samples are drawn one by one.
//!
//! The planner reckons with expectations. Here a task has outcomes: each sample passes or not, the first pass ends a rung
//! that stops at one, and a rung that fails hands on to the next. Time and energy are integrated by the very code that
//! prices expectations, with a weight of 1 while the task runs and 0 after, so a mean over many tasks must come to what
//! the planner expected, and a test holds it to that.

use crate::cost::{Amount, Costs, Prefill};
use crate::evaluate::{Evaluator, Spent};
use crate::plan::{RungChoice, rung_of};
use crate::problem::{PlanError, Problem, Stop};
use crate::rung::Rung;
use qeil_laws::random::Random;

/// What one task took.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Trial {
    /// Seconds.
    pub seconds: f64,
    /// Gross joules of the whole machine.
    pub joules: f64,
    /// Samples that were completed.
    pub samples: u32,
    /// Whether one of them passed.
    pub solved: bool,
}

/// Carry out `tasks` tasks with these rungs: `passes` says of task i whether the next sample of a model passes.
///
/// # Errors
/// The data contradict themselves, lack a cost that the rungs need, or joules of it.
pub fn carry_out(
    problem: &Problem,
    rungs: &[RungChoice],
    tasks: usize,
    mut passes: impl FnMut(usize, usize) -> bool,
) -> Result<Vec<Trial>, PlanError> {
    problem.check()?;
    let costs = Costs::of(problem)?;
    if !costs.energy_known {
        return Err(PlanError::Invalid("a cost bears no joules, so a trial would have none".into()));
    }
    let evaluator = Evaluator::new(problem, &costs);
    let rungs: Option<Vec<Rung>> = rungs.iter().map(|choice| rung_of(&costs, choice)).collect();
    let rungs = rungs.ok_or_else(|| PlanError::Invalid("the plan needs a cost that is not there".into()))?;
    let one = |task: usize| {
        let mut trial = Trial::default();
        for rung in &rungs {
            if trial.solved {
                break;
            }
            let spent = attempt(&evaluator, rung, &mut trial, |model| passes(task, model));
            trial.seconds += spent.s;
            trial.joules += evaluator.joules(&spent);
        }
        trial
    };
    Ok((0..tasks).map(one).collect())
}

fn attempt(
    evaluator: &Evaluator<'_>,
    rung: &Rung,
    trial: &mut Trial,
    mut passes: impl FnMut(usize) -> bool,
) -> Spent {
    let mut complete = 0;
    evaluator.integrated(rung, |now| {
        let ended = rung.stop == Stop::UntilPass && trial.solved;
        while !ended && complete < now {
            complete += 1;
            trial.samples += 1;
            trial.solved |= passes(usize::from(rung.model));
        }
        if rung.stop == Stop::UntilPass && trial.solved { 0.0 } else { 1.0 }
    })
}

/// The same problem with each cost off by a factor of its own, log-normal with deviation `sigma` of the logarithm: one for
/// the seconds and one for the joules of each phase of each offer, and of each transfer. What a machine truly takes,
/// where its profile is that far off.
pub fn perturbed(problem: &Problem, sigma: f64, seed: u64) -> Problem {
    let mut random = Random::new(seed, 1);
    let mut factor = || (sigma * random.normal()).exp();
    let scaled = |amount: Amount, [s, j]: [f64; 2]| Amount {
        seconds: amount.seconds * s,
        joules: amount.joules.map(|joules| joules * j),
    };
    let mut true_costs = problem.clone();
    for offer in &mut true_costs.offers {
        let by = [factor(), factor()];
        if let Some(prefill) = &mut offer.prefill {
            *prefill = Prefill { fixed: scaled(prefill.fixed, by), per_token: scaled(prefill.per_token, by) };
        }
        let by = [factor(), factor()];
        if let Some(decode) = &mut offer.decode {
            decode.points.iter_mut().for_each(|(_, amount)| *amount = scaled(*amount, by));
            decode.per_context_token = scaled(decode.per_context_token, by);
        }
    }
    for transfer in &mut true_costs.transfers {
        transfer.bytes_per_s /= factor();
        transfer.joules_per_byte *= factor();
    }
    true_costs
}
