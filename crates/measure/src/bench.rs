//! How fast a model prefills and decodes: the tests that llama-bench made customary, and one more.
//!
//! | test | what runs | tokens per second |
//! |---|---|---|
//! | `ppN` | one prompt of N random tokens, no output | N / time in prefill steps |
//! | `tgN` | N greedy tokens after a one-token prompt, past any end of text | (N − 1) / time from the first token to the last |
//! | `ppP+tgN×K` | K samples of N tokens, all sharing one prefilled prompt of P random tokens | K·(N − 1) / time from the first token to the last |
//!
//! Times are the worker's own; `wall_s` is the supervisor's, socket and scheduling included. Each test runs once
//! uncounted, then R times. A test with more than one candidate for its settings runs under each of them, and the
//! row is the fastest one's; the others stand beside it.

use crate::error::MeasureError;
use crate::settings::Settings;
use crate::shape::Shape;
use crate::stats::{Summary, tokens_per_s};
use crate::timed::{Timed, timed};
use crate::tune::{THOROUGH, tune};
use crate::weights::Copies;
use qeil_engine::handle::{Launch, Worker};
use qeil_engine::request::{GenerateRequest, Prompt, Sampling, Token};
use qeil_engine::spec::{LoadSpec, Loaded};
use qeil_laws::random::Random;
use serde::{Deserialize, Serialize};

/// One test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Test {
    /// `ppN`.
    Prefill {
        /// N.
        prompt_tokens: u32,
    },
    /// `tgN`.
    Decode {
        /// N.
        output_tokens: u32,
    },
    /// `ppP+tgN×K`.
    Shared {
        /// P.
        prompt_tokens: u32,
        /// N.
        output_tokens: u32,
        /// K.
        samples: u32,
    },
}

impl Test {
    /// Its customary name.
    pub fn name(&self) -> String {
        match self {
            Self::Prefill { prompt_tokens } => format!("pp{prompt_tokens}"),
            Self::Decode { output_tokens } => format!("tg{output_tokens}"),
            Self::Shared { prompt_tokens, output_tokens, samples } => {
                format!("pp{prompt_tokens}+tg{output_tokens}×{samples}")
            }
        }
    }

    /// The request it makes.
    pub fn shape(&self) -> Shape {
        let (prompt_tokens, output_tokens, samples) = match *self {
            Self::Prefill { prompt_tokens } => (prompt_tokens, 0, 1),
            Self::Decode { output_tokens } => (1, output_tokens, 1),
            Self::Shared { prompt_tokens, output_tokens, samples } => (prompt_tokens, output_tokens, samples),
        };
        Shape { prompt_tokens, output_tokens, samples }
    }

    /// Its figure in one run.
    fn rate(&self, run: &Timed) -> Option<f64> {
        match self {
            Self::Prefill { .. } => run.prefill_tokens_per_s(),
            Self::Decode { .. } | Self::Shared { .. } => run.decode_tokens_per_s(self.shape().samples),
        }
    }
}

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchPlan {
    /// The tests, in the order of the rows.
    pub tests: Vec<Test>,
    /// Numbers of threads; every test runs with each.
    pub threads: Vec<u32>,
    /// Flash attention, if it is given; otherwise both are measured.
    pub flash_attention: Option<bool>,
    /// Choose the settings of each test by short trials first, the weights' format among them, and measure only
    /// those; otherwise every candidate is measured with the file's own weights.
    pub copies: Option<Copies>,
    /// Counted runs of each test.
    pub repetitions: u32,
    /// Seed of the random prompts.
    pub seed: u64,
}

/// One test with one number of threads, under the fastest of the candidate settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchRow {
    /// Customary name of the test.
    pub name: String,
    /// The test.
    pub test: Test,
    /// Threads.
    pub threads: u32,
    /// The settings it ran under.
    pub settings: Settings,
    /// The test's figure, as the module's table defines it.
    pub tokens_per_s: Summary,
    /// Seconds from request to answer, at the supervisor.
    pub wall_s: Summary,
    /// Milliseconds from admission to the first token; missing where no token is asked for.
    pub first_token_ms: Option<Summary>,
    /// All emitted tokens by `wall_s`: prefill and overheads included; missing where no token is asked for.
    pub end_to_end_tokens_per_s: Option<Summary>,
    /// The settings that were measured and found slower.
    pub slower: Vec<Slower>,
}

/// A candidate that lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slower {
    /// The settings.
    pub settings: Settings,
    /// Median of the test's figure under them.
    pub tokens_per_s_median: f64,
    /// Median of the wall time under them, in seconds.
    pub wall_s_median: f64,
}

/// All rows of one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    /// The model file.
    pub model: String,
    /// llama.cpp's one-line description of the model, under the settings of the first row.
    pub model_description: String,
    /// Its parameters.
    pub parameters: u64,
    /// Bytes of its weights, under the settings of the first row.
    pub weight_bytes: u64,
    /// Whether its weights are random ones: the figures are those of its shape.
    #[serde(default)]
    pub weightless: bool,
    /// Device.
    pub device: String,
    /// The driver's words for it.
    pub device_description: String,
    /// Instruction-set features compiled into the CPU backend.
    pub cpu_features: String,
    /// Version of QEIL.
    pub qeil_version: String,
    /// Rows, by threads, then in the order of the plan.
    pub rows: Vec<BenchRow>,
}

/// Runs of one test under one candidate.
struct Measured {
    settings: Settings,
    runs: Vec<Timed>,
}

/// Measure `plan` with `base` naming model and device. `on_row` is told of every row as soon as it is known. The
/// candidates of one test follow each other directly, so that a machine that slows down meanwhile favours none much.
///
/// # Errors
/// When a worker cannot be started or dies, or a run gives no figure.
pub async fn bench(
    launch: &Launch,
    base: &LoadSpec,
    plan: &BenchPlan,
    mut on_row: impl FnMut(&BenchRow),
) -> Result<BenchReport, MeasureError> {
    let weightless = qeil_model::inspect(&base.model)?.weightless;
    let mut first: Option<Loaded> = None;
    let mut rows = Vec::new();
    for &threads in &plan.threads {
        let base = LoadSpec { threads, ..base.clone() };
        for &test in &plan.tests {
            let mut measured = Vec::new();
            for settings in candidates(launch, &base, plan, test).await? {
                let mut spec = LoadSpec { prefix_cache_tokens: 0, ..base.clone() };
                settings.apply(launch, plan.copies.as_ref().map(|copies| &copies.cache), &mut spec).await?;
                test.shape().fit(&mut spec, false)?;
                let worker = Worker::start(launch, spec).await?;
                measured.push(Measured { settings, runs: repeat(&worker, test, plan).await? });
                first.get_or_insert_with(|| worker.loaded().clone());
                worker.stop().await;
            }
            let row = best_row(test, threads, &measured)?;
            on_row(&row);
            rows.push(row);
        }
    }
    let loaded = first.ok_or(MeasureError::NothingToMeasure)?;
    Ok(BenchReport {
        model: base.model.display().to_string(),
        model_description: loaded.model_description,
        parameters: loaded.parameters,
        weight_bytes: loaded.weight_bytes,
        weightless,
        device: loaded.device,
        device_description: loaded.device_description,
        cpu_features: loaded.cpu_features,
        qeil_version: crate::VERSION.into(),
        rows,
    })
}

/// The settings to measure a test under.
async fn candidates(
    launch: &Launch,
    base: &LoadSpec,
    plan: &BenchPlan,
    test: Test,
) -> Result<Vec<Settings>, MeasureError> {
    let shape = test.shape();
    if plan.copies.is_none() {
        return Ok(Settings::candidates(shape.samples, plan.flash_attention));
    }
    let tuned =
        tune(launch, base, shape, plan.flash_attention, plan.copies.as_ref(), THOROUGH, |_| {}).await?;
    Ok(vec![tuned.settings])
}

async fn repeat(worker: &Worker, test: Test, plan: &BenchPlan) -> Result<Vec<Timed>, MeasureError> {
    let shape = test.shape();
    let mut random = Random::new(plan.seed, PROMPTS);
    let mut runs = Vec::new();
    for run in 0..=plan.repetitions {
        let prompt = random_tokens(&mut random, shape.prompt_tokens, worker.loaded().vocab_tokens);
        let sampling = match test {
            Test::Shared { .. } => Sampling { seed: plan.seed, ..Sampling::default() },
            Test::Prefill { .. } | Test::Decode { .. } => Sampling::greedy(),
        };
        let mut request =
            GenerateRequest::new(Prompt::Tokens(prompt), shape.samples, shape.output_tokens, sampling);
        request.ignore_end = true;
        request.reuse_prefix = false;
        let timed = timed(worker, request).await?;
        if run > 0 {
            runs.push(timed);
        }
    }
    Ok(runs)
}

fn best_row(test: Test, threads: u32, candidates: &[Measured]) -> Result<BenchRow, MeasureError> {
    let mut rows = Vec::new();
    for Measured { settings, runs } in candidates {
        let summary = |figure: &dyn Fn(&Timed) -> Option<f64>| {
            runs.iter().map(figure).collect::<Option<Vec<f64>>>().and_then(|values| Summary::of(&values))
        };
        let no_figure = || MeasureError::NoFigure { test: test.name(), settings: settings.to_string() };
        let emits = test.shape().output_tokens > 0;
        rows.push(BenchRow {
            name: test.name(),
            test,
            threads,
            settings: *settings,
            tokens_per_s: summary(&|run| test.rate(run)).ok_or_else(no_figure)?,
            wall_s: summary(&|run| Some(run.wall_s)).ok_or_else(no_figure)?,
            first_token_ms: emits.then(|| summary(&|run| Some(run.usage.first_token_ms))).flatten(),
            end_to_end_tokens_per_s: emits
                .then(|| summary(&|run| tokens_per_s(run.usage.emitted_tokens, run.wall_s * 1e3)))
                .flatten(),
            slower: Vec::new(),
        });
    }
    rows.sort_by(|a, b| match test {
        Test::Shared { .. } => a.wall_s.median.total_cmp(&b.wall_s.median),
        Test::Prefill { .. } | Test::Decode { .. } => b.tokens_per_s.median.total_cmp(&a.tokens_per_s.median),
    });
    let mut rows = rows.into_iter();
    let mut best = rows.next().ok_or(MeasureError::NothingToMeasure)?;
    best.slower = rows
        .map(|row| Slower {
            settings: row.settings,
            tokens_per_s_median: row.tokens_per_s.median,
            wall_s_median: row.wall_s.median,
        })
        .collect();
    Ok(best)
}

/// The stream that prompts are drawn from.
pub(crate) const PROMPTS: u64 = 0;

/// `count` token ids below `vocab_tokens`, as llama-bench takes them: any id, special ones included.
pub fn random_tokens(random: &mut Random, count: u32, vocab_tokens: u32) -> Vec<Token> {
    (0..count).map(|_| random.below(vocab_tokens.max(1) as usize) as Token).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::CANDIDATES;
    use qeil_engine::request::Usage;

    fn run(prompt: u32, emitted: u32, prefill_ms: f64, decode_ms: f64, wall_s: f64) -> Timed {
        let usage = Usage {
            prompt_tokens: prompt,
            emitted_tokens: emitted,
            prefill_ms,
            first_token_ms: prefill_ms,
            decode_ms,
            ..Usage::default()
        };
        Timed { usage, wall_s, samples: Vec::new() }
    }

    #[test]
    fn figures_follow_their_definitions() {
        let shared = Test::Shared { prompt_tokens: 100, output_tokens: 11, samples: 4 };
        for (test, name, run, rate) in [
            (Test::Prefill { prompt_tokens: 512 }, "pp512", run(512, 0, 1024.0, 0.0, 1.1), Some(500.0)),
            (Test::Decode { output_tokens: 101 }, "tg101", run(1, 101, 5.0, 1000.0, 1.1), Some(100.0)),
            (shared, "pp100+tg11×4", run(100, 44, 50.0, 500.0, 0.6), Some(80.0)),
            (Test::Decode { output_tokens: 5 }, "tg5", run(1, 1, 5.0, 0.0, 1.1), None),
        ] {
            assert_eq!(test.name(), name);
            assert_eq!(test.rate(&run), rate, "{name}");
        }
    }

    #[test]
    fn the_faster_settings_make_the_row() {
        let test = Test::Prefill { prompt_tokens: 100 };
        let measured = [
            Measured {
                settings: CANDIDATES[0],
                runs: vec![run(100, 0, 200.0, 0.0, 0.2), run(100, 0, 220.0, 0.0, 0.2)],
            },
            Measured {
                settings: CANDIDATES[1],
                runs: vec![run(100, 0, 100.0, 0.0, 0.1), run(100, 0, 900.0, 0.0, 0.9)],
            },
        ];
        let row = best_row(test, 2, &measured).unwrap();
        assert_eq!(row.settings, CANDIDATES[1], "median of 1000 and 111 tok/s is above 477");
        assert_eq!(row.slower.len(), 1);
        assert_eq!(row.slower[0].settings, CANDIDATES[0]);
        assert_eq!(row.first_token_ms, None, "no token was asked for");
        assert!((row.tokens_per_s.max - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn a_run_without_a_figure_is_an_error() {
        let test = Test::Decode { output_tokens: 8 };
        let measured = [Measured { settings: CANDIDATES[0], runs: vec![run(1, 1, 1.0, 0.0, 0.1)] }];
        assert!(matches!(best_row(test, 1, &measured), Err(MeasureError::NoFigure { .. })));
        assert!(matches!(best_row(test, 1, &[]), Err(MeasureError::NothingToMeasure)));
    }

    #[test]
    fn random_prompts_are_reproducible_and_in_range() {
        let draw = |seed| random_tokens(&mut Random::new(seed, PROMPTS), 1000, 50);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert!(draw(3).iter().all(|t| (0..50).contains(t)));
        assert!((0..50).all(|id| draw(4).contains(&id)), "every id turns up in 1000 draws of 50");
    }
}
