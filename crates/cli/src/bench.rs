//! `qeil bench`.

use crate::arguments::{BenchArguments, Weights};
use crate::models::file_of;
use crate::table::{self, Footnotes, figure, figure_or_missing};
use anyhow::Result;
use indicatif::ProgressBar;
use qeil_engine::handle::{Launch, probe_devices};
use qeil_engine::spec::LoadSpec;
use qeil_measure::bench::{BenchPlan, BenchReport, BenchRow, Test, bench as measure};
use qeil_measure::survey::{select, spec};
use qeil_measure::weights::Copies;
use std::time::Duration;

/// How often the spinner turns.
const SPINNER_EVERY: Duration = Duration::from_millis(200);

pub async fn bench(arguments: BenchArguments) -> Result<String> {
    let model = file_of(&arguments.model).await?;
    let launch = Launch::this_program()?;
    let devices = select(probe_devices(&launch).await?, &arguments.devices)?;
    let parameters = qeil_model::inspect(&model)?.parameters;
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(SPINNER_EVERY);
    let mut reports = Vec::new();
    for device in &devices {
        spinner.set_message(format!("{}: measuring", device.name));
        let base = spec(&model, device, None);
        let auto = arguments.weights == Weights::Auto;
        let copies = if auto { Copies::of_user(parameters, device) } else { None };
        let plan = plan(&arguments, copies);
        let row_done = |row: &BenchRow| {
            spinner.set_message(format!(
                "{}: {} with {} threads {} tok/s",
                device.name,
                row.name,
                row.threads,
                figure(row.tokens_per_s.median)
            ));
        };
        reports.push(measure(&launch, &base, &plan, row_done).await?);
    }
    spinner.finish_and_clear();
    if arguments.json {
        return table::json(&reports);
    }
    Ok(reports.iter().map(text).collect::<Vec<_>>().join("\n"))
}

fn plan(arguments: &BenchArguments, copies: Option<Copies>) -> BenchPlan {
    let mut tests = Vec::new();
    if !arguments.only_samples {
        tests.extend(arguments.prompt_tokens.iter().map(|&prompt_tokens| Test::Prefill { prompt_tokens }));
        tests.extend(arguments.output_tokens.iter().map(|&output_tokens| Test::Decode { output_tokens }));
    }
    for &prompt_tokens in &arguments.prompt_tokens {
        for &output_tokens in &arguments.output_tokens {
            tests.extend(arguments.samples.iter().map(|&samples| Test::Shared {
                prompt_tokens,
                output_tokens,
                samples,
            }));
        }
    }
    let threads = match &arguments.threads[..] {
        [] => vec![LoadSpec::new("", "").threads],
        given => given.to_vec(),
    };
    BenchPlan {
        tests,
        threads,
        flash_attention: arguments.flash_attention.fixed(),
        copies,
        repetitions: arguments.repetitions,
        seed: arguments.seed,
    }
}

fn text(report: &BenchReport) -> String {
    let mut notes = Footnotes::default();
    let headers = [
        "test",
        "threads",
        "tok/s\nmedian",
        "min to max",
        "first token\nms",
        "end to end\ntok/s",
        "wall s",
        "flash\nattention",
        "KV",
        "weights",
    ];
    let mut rows = table::table(&headers, 1..7);
    for row in &report.rows {
        let mut rate = figure(row.tokens_per_s.median);
        rate += &notes.mark(definition(&row.test));
        let attention = if row.settings.flash_attention { "on" } else { "off" };
        let kv = match (row.test.shape().samples, row.settings.kv_unified) {
            (1, _) => "one sequence",
            (_, true) => "unified",
            (_, false) => "separate",
        };
        let weights = row.settings.weights.map_or("file", |format| format.name());
        let chosen = match &row.slower[..] {
            [] => String::new(),
            slower => notes.mark(slower_text(row, slower)),
        };
        rows.add_row([
            row.name.clone(),
            row.threads.to_string(),
            rate,
            format!("{} to {}", figure(row.tokens_per_s.min), figure(row.tokens_per_s.max)),
            figure_or_missing(row.first_token_ms.as_ref().map(|s| s.median)),
            figure_or_missing(row.end_to_end_tokens_per_s.as_ref().map(|s| s.median)),
            figure(row.wall_s.median),
            format!("{attention}{chosen}"),
            kv.into(),
            weights.into(),
        ]);
    }
    let repetitions = report.rows.first().map_or(0, |row| row.tokens_per_s.repetitions);
    let width = usize::from(table::COLUMNS_MAX) - 1;
    let about = format!(
        "{} ({} parameters, {}) on {}: {}. Medians of {repetitions} runs after an uncounted one, measured by \
         monotonic clocks.",
        report.model_description,
        table::parameters(report.parameters),
        table::bytes(report.weight_bytes),
        report.device,
        report.device_description
    );
    format!("{}\n{rows}\n{}", table::wrap(&about, width, ""), notes.text())
}

fn definition(test: &Test) -> &'static str {
    match test {
        Test::Prefill { .. } => "prompt tokens by the time of the steps that held them",
        Test::Decode { .. } => "tokens after the first by the time from the first to the last",
        Test::Shared { .. } => {
            "tokens of all samples after their first by the time from the first to the last; end to end: all tokens \
             by the wall time, prefill included"
        }
    }
}

fn slower_text(row: &BenchRow, slower: &[qeil_measure::bench::Slower]) -> String {
    let others: Vec<String> = slower
        .iter()
        .map(|other| {
            format!(
                "{}: {} tok/s in {} s",
                other.settings,
                figure(other.tokens_per_s_median),
                figure(other.wall_s_median)
            )
        })
        .collect();
    format!("{} with {} threads, measured and slower: {}", row.name, row.threads, others.join("; "))
}
