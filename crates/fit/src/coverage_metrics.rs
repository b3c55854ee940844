//! The three metrics of every coverage run, at each number of samples.
//!
//! **Uncertainty.** A run happens once, and a second one with the same seeds would draw the same samples, so what is
//! uncertain is the tasks: another set of the same make would have held others. Each resample of the tasks takes their
//! joules and seconds along with their passes, so an interval carries both, and their dependence. What no resampling shows
//! is an error of the meter itself: an estimated energy may be off as a whole, and says so by its label.
//!
//! Energy and time at fewer samples than were drawn are the run's by computed tokens: those of the first k samples of
//! each task.

use crate::coverage_run::{Basis, Observed, TaskFigures, spent, steps};
use crate::metrics::PriceTag;
use crate::{FitError, SEED};
use qeil_laws::metrics::{Coverage, Metrics, Repetition, Run};
use qeil_measure::coverage::{Strategy, outcomes};
use qeil_measure::store::coverage::CoverageRun;
use qeil_units::{Joules, Labelled, Seconds};
use serde::{Deserialize, Serialize};

/// The metrics of one coverage run at one number of samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CoverageMetricsRow {
    /// The run's number in the store.
    pub run: i64,
    /// The model, marked if weightless.
    pub model: String,
    /// Its quantisation.
    pub quantisation: String,
    /// Machine.
    pub machine: String,
    /// Device.
    pub device: String,
    /// Threads.
    pub threads: u32,
    /// The task set.
    pub set: String,
    /// Tasks that the figures rest on.
    pub tasks: u32,
    /// How samples were given to tasks.
    pub strategy: Strategy,
    /// Whether a task's first pass ended its sampling.
    pub stop_at_pass: bool,
    /// Samples of each task, k; with a stop or a choice, at most.
    pub samples: u32,
    /// Accuracy: share of tasks solved.
    pub coverage: f64,
    /// How the energy was come by; missing where there is none.
    pub energy_label: Option<Labelled<()>>,
    /// Where the price comes from; missing where none is known.
    pub price_source: Option<String>,
    /// The metrics, or why they are missing.
    pub metrics: Metrics,
}

/// The metrics of all runs that have something to show.
///
/// # Errors
/// A run's figures are nonsense (a time of zero, say).
pub fn coverage_metrics(
    runs: &[CoverageRun],
    prices: &[PriceTag],
) -> Result<Vec<CoverageMetricsRow>, FitError> {
    let mut rows = Vec::new();
    for run in runs {
        let Some((observed, steps)) = observed(run) else { continue };
        let wall_s: f64 = run.sittings.iter().map(|sitting| sitting.wall_s).sum();
        let energy = spent(run).map(|spent| spent.gross);
        let machine = run.host.label();
        let tag = prices.iter().find(|tag| {
            tag.device == run.plan.device && tag.machine.as_ref().is_none_or(|of| *of == machine)
        });
        let mut smaller: Option<Run> = None;
        // Tasks of the observed part only: an unfinished run has spent on others, too.
        let part = observed.tokens() / all_tokens(run);
        for k in steps {
            let (Some(share), Some((draws, spend))) = (observed.coverage(k), observed.draws(k)) else {
                continue;
            };
            let factor = part * observed.share_at(k);
            let judged = Run {
                tasks: observed.tasks.len() as u32,
                repetitions: vec![Repetition {
                    wall: Seconds(wall_s * factor),
                    energy: energy.clone().map(|energy| energy.map(|all| Joules(all.0 * factor))),
                }],
                coverage: Some(Coverage { samples: k, share, draws, spend }),
                price: tag.map(|tag| tag.price),
            };
            let metrics = Metrics::new(&judged, smaller.as_ref(), SEED).map_err(|source| {
                FitError::Metrics { run: format!("coverage run {}", run.number), source }
            })?;
            smaller = Some(judged);
            rows.push(CoverageMetricsRow {
                run: run.number,
                model: run.model.label(),
                quantisation: run.model.quantisation.clone(),
                machine: machine.clone(),
                device: run.plan.device.clone(),
                threads: run.plan.threads,
                set: run.plan.set.clone(),
                tasks: observed.tasks.len() as u32,
                strategy: run.plan.strategy,
                stop_at_pass: run.plan.stop_at_pass,
                samples: k,
                coverage: share,
                energy_label: energy.clone().map(|energy| energy.map(|_| ())),
                price_source: tag.map(|tag| tag.source.clone()),
                metrics,
            });
        }
    }
    Ok(rows)
}

/// What is known of a run at which numbers of samples. A sequential run has one: as it was, since fewer samples would have
/// been given to other tasks.
fn observed(run: &CoverageRun) -> Option<(Observed, Vec<u32>)> {
    if run.plan.strategy == Strategy::Fixed {
        return Observed::of(run).map(|observed| (observed, steps(run.plan.samples)));
    }
    let outcomes = outcomes(&run.plan, &run.samples);
    let tasks: Vec<TaskFigures> =
        outcomes.iter().filter(|outcome| !outcome.label.votes).map(TaskFigures::of).collect();
    let sampled = tasks.iter().any(|task| task.samples > 0);
    sampled.then(|| (Observed { basis: Basis::AsDrawn, tasks }, vec![run.plan.samples]))
}

/// Computed tokens of all samples of a run that count.
fn all_tokens(run: &CoverageRun) -> f64 {
    let outcomes = outcomes(&run.plan, &run.samples);
    outcomes.iter().flat_map(|outcome| outcome.counting()).map(|row| row.computed_tokens()).sum::<u64>()
        as f64
}
