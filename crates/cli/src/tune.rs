//! `qeil tune`.

use crate::arguments::TuneArguments;
use crate::models::file_of;
use crate::table::{self, Footnotes, MISSING, figure, figure_or_missing};
use anyhow::Result;
use indicatif::ProgressBar;
use qeil_engine::handle::{Launch, probe_devices};
use qeil_measure::kept::{Kept, Key};
use qeil_measure::shape::Shape;
use qeil_measure::survey::{select, spec};
use qeil_measure::tune::{Outcome, THOROUGH, Tuned, tune as measure};
use qeil_measure::weights::Copies;
use serde::Serialize;
use std::time::Duration;

/// How often the spinner turns.
const SPINNER_EVERY: Duration = Duration::from_millis(200);

#[derive(Serialize)]
struct TunedDevice {
    device: String,
    threads: u32,
    tuned: Tuned,
}

pub async fn tune(arguments: TuneArguments) -> Result<String> {
    let model = file_of(&arguments.model).await?;
    let parameters = qeil_model::inspect(&model)?.parameters;
    let launch = Launch::this_program()?;
    let devices = select(probe_devices(&launch).await?, &arguments.device.devices)?;
    let shape = Shape {
        prompt_tokens: arguments.prompt_tokens,
        output_tokens: arguments.output_tokens,
        samples: arguments.samples,
    };
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(SPINNER_EVERY);
    let mut all = Vec::new();
    for device in &devices {
        spinner.set_message(format!("{}: trying settings", device.name));
        let base = spec(&model, device, arguments.device.threads);
        let copies = Copies::of_user(parameters, device);
        let tuned = measure(&launch, &base, shape, None, copies.as_ref(), THOROUGH, |trial| {
            spinner.set_message(format!("{}: tried {}", device.name, trial.settings));
        })
        .await?;
        if let Some(kept) = Kept::of_user() {
            kept.keep(&Key::new(&base, &device.description, shape, None, copies.is_some())?, &tuned)?;
        }
        all.push(TunedDevice { device: device.name.clone(), threads: base.threads, tuned });
    }
    spinner.finish_and_clear();
    if arguments.json { table::json(&all) } else { Ok(all.iter().map(text).collect::<Vec<_>>().join("\n")) }
}

fn text(found: &TunedDevice) -> String {
    let TunedDevice { device, threads, tuned } = found;
    let Shape { prompt_tokens, output_tokens, samples } = tuned.shape;
    let mut notes = Footnotes::default();
    let headers = [
        "settings",
        "prefill\ntok/s",
        "decode\ntok/s",
        "workload s\n(predicted)",
        "KL nats",
        "trial s",
        "chosen",
    ];
    let mut rows = table::table(&headers, 1..6);
    for trial in &tuned.trials {
        let (mut settings, mut figures) =
            (table::brief(trial.settings, samples), vec![MISSING.to_owned(); 4]);
        match &trial.outcome {
            Outcome::Measured {
                prefill_tokens_per_s, decode_tokens_per_s, predicted_ms, kl_nats, ..
            } => {
                figures = vec![
                    figure(*prefill_tokens_per_s),
                    figure_or_missing(*decode_tokens_per_s),
                    figure(predicted_ms / 1e3),
                    figure_or_missing(*kl_nats),
                ];
            }
            Outcome::Skipped => settings += &notes.mark("no figure: the time for trials was over"),
            Outcome::Failed { why } => settings += &notes.mark(format!("failed: {why}")),
            Outcome::Distrusted { why } => settings += &notes.mark(format!("answers differently: {why}")),
        }
        let mut row = vec![settings];
        row.extend(figures);
        row.push(match trial.outcome {
            Outcome::Skipped => MISSING.into(),
            _ => figure(trial.took_ms / 1e3),
        });
        row.push(if trial.settings == tuned.settings { "yes".into() } else { String::new() });
        rows.add_row(row);
    }
    let threads_word = if *threads == 1 { "thread" } else { "threads" };
    let kept = if tuned.is_complete() {
        "`qeil run` uses it for workloads of this size."
    } else {
        "`qeil run` uses it for workloads of this size. The machine was too slow or too busy to try all of them."
    };
    let chosen = table::wrap(&format!("Chosen: {}.", tuned.reason), usize::from(table::COLUMNS_MAX) - 1, " ");
    format!(
        "{device}, {threads} {threads_word}: {samples} samples of {output_tokens} tokens after {prompt_tokens}\n\
         {rows}\n FA: flash attention\n{} {chosen}\n {kept}\n",
        notes.text(),
    )
}
