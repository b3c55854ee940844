//! `qeil bench`.

use crate::arguments::{BenchArguments, Weights};
use crate::models::file_of;
use crate::table::{self, Footnotes, figure, figure_or_missing};
use anyhow::Result;
use indicatif::ProgressBar;
use qeil_engine::handle::{Launch, probe_devices};
use qeil_engine::spec::LoadSpec;
use qeil_measure::bench::{BenchPlan, BenchReport, BenchRow, Slower, Test, bench as measure};
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
        // A run that is cut off has shown the rows it had.
        let row_done = |row: &BenchRow| {
            let (median, threads) = (figure(row.tokens_per_s.median), row.threads);
            table::progress(
                &spinner,
                &format!("{}: {}, threads {threads}: {median} tok/s", device.name, row.name),
            );
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
    let weightless = if report.weightless { notes.mark(table::WEIGHTLESS) } else { String::new() };
    let headers = [
        "test",
        "threads",
        "tok/s\nmedian",
        "tok/s\nmin to max",
        "first token\nms",
        "end to end\ntok/s",
        "wall\ns",
        "settings",
    ];
    let mut rows = table::table(&headers, 1..7);
    for column in 0..headers.len() - 1 {
        table::keep_whole(&mut rows, column);
    }
    for row in &report.rows {
        let slower = match &row.slower[..] {
            [] => String::new(),
            slower => notes.mark(slower_text(row, slower)),
        };
        rows.add_row([
            row.name.clone(),
            row.threads.to_string(),
            figure(row.tokens_per_s.median),
            format!("{} to {}", figure(row.tokens_per_s.min), figure(row.tokens_per_s.max)),
            figure_or_missing(row.first_token_ms.as_ref().map(|s| s.median)),
            figure_or_missing(row.end_to_end_tokens_per_s.as_ref().map(|s| s.median)),
            figure(row.wall_s.median),
            table::brief(row.settings, row.test.shape().samples) + &slower,
        ]);
    }
    let repetitions = report.rows.first().map_or(0, |row| row.tokens_per_s.repetitions);
    let about = format!(
        "{}{weightless} ({} parameters, {}) on {}: {}. Medians of {repetitions} runs after an uncounted one, measured by \
         monotonic clocks.",
        report.model_description,
        table::parameters(report.parameters),
        table::bytes(report.weight_bytes),
        report.device,
        report.device_description
    );
    let width = usize::from(table::COLUMNS_MAX) - 1;
    let defined = definitions(&report.rows).map(|text| format!(" {}\n", table::wrap(text, width, "   ")));
    let defined: String = defined.collect();
    format!("{}\n{rows}\n{defined}{}", table::wrap(&about, width, ""), notes.text())
}

/// What the figures of these rows are, once each.
fn definitions(rows: &[BenchRow]) -> impl Iterator<Item = &'static str> {
    const PREFILL: &str = "ppN: N prompt tokens by the time of the steps that held them";
    const DECODE: &str = "tgN: the tokens after the first by the time from the first to the last";
    const SHARED: &str = "ppP+tgN×K: K samples sharing one prefilled prompt; their tokens after the first by the time \
                          from the first to the last; end to end: all tokens by wall time";
    const ATTENTION: &str = "FA: flash attention";
    let has = |kind: fn(&Test) -> bool| rows.iter().any(|row| kind(&row.test));
    [
        (has(|test| matches!(test, Test::Prefill { .. })), PREFILL),
        (has(|test| matches!(test, Test::Decode { .. })), DECODE),
        (has(|test| matches!(test, Test::Shared { .. })), SHARED),
        (true, ATTENTION),
    ]
    .into_iter()
    .filter_map(|(shown, text)| shown.then_some(text))
}

fn slower_text(row: &BenchRow, slower: &[Slower]) -> String {
    let samples = row.test.shape().samples;
    let other = |other: &Slower| {
        let (rate, wall) = (figure(other.tokens_per_s_median), figure(other.wall_s_median));
        format!("{} {rate} tok/s, {wall} s wall", table::brief(other.settings, samples))
    };
    let others: Vec<String> = slower.iter().map(other).collect();
    format!("also measured, and slower: {}", others.join("; "))
}
