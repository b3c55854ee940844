//! `qeil predict`: what a model that was never run will do.

use crate::arguments::PredictArguments;
use crate::models::file_of;
use crate::profile::store_path;
use crate::table::{self, COLUMNS_MAX, figure, wrap};
use anyhow::Result;
use qeil_engine::spec::LoadSpec;
use qeil_fit::FitError;
use qeil_fit::limits::Roof;
use qeil_fit::predict::{Predicted, Prediction, predict as foretell};
use qeil_fit::series::{SeriesKey, hold_out, series_of};
use qeil_fit::workload::Workload;
use qeil_hardware::Roots;
use qeil_measure::profile::{Host, Subject};
use qeil_measure::store::Store;

pub async fn predict(arguments: PredictArguments) -> Result<String> {
    let path = file_of(&arguments.model).await?;
    let facts = qeil_model::inspect(&path)?;
    let model = Subject::of(&path, &facts).await?.identity;
    let store = Store::open(&store_path(arguments.store.as_deref())?)?;
    let rooflines = store.rooflines()?;
    let observations = store.observations()?;
    if observations.is_empty() {
        return Err(FitError::Nothing.into());
    }
    let mut all = series_of(&observations);
    for wanted in &arguments.leave_out {
        hold_out(&mut all, wanted)?;
    }
    let threads = arguments.threads.unwrap_or_else(|| LoadSpec::new("", "").threads);
    let machine = Host::read(&Roots::default(), &[]).label();
    let fits = |of: &SeriesKey| {
        of.machine == machine
            && of.device.eq_ignore_ascii_case(&arguments.device)
            && of.threads == threads
            && of.quantisation == model.quantisation
    };
    let series = all.iter().find(|series| fits(&series.key)).ok_or_else(|| FitError::UnknownSeries {
        wanted: format!("{}, {threads} threads, {} of {machine}", arguments.device, model.quantisation),
        known: all.iter().map(|series| format!("{} of {}", series.key, series.key.machine)).collect(),
    })?;
    let workload = Workload {
        prompt_tokens: arguments.prompt_tokens,
        output_tokens: arguments.output_tokens,
        samples: arguments.samples,
        depth_tokens: arguments.depth_tokens,
    };
    let roof = Roof::of(&rooflines, &series.key);
    let prediction = foretell(&model, workload, series, roof)?;
    if arguments.json { table::json(&prediction) } else { Ok(text(&prediction)) }
}

fn text(prediction: &Prediction) -> String {
    let Workload { prompt_tokens, output_tokens, samples, depth_tokens } = prediction.workload;
    let headers = ["figure", "unit", "predicted", "95 % interval", "label", "by"];
    let mut rows = table::table(&headers, 2..4);
    table::keep_whole(&mut rows, 0);
    let mut add = |name: &str, predicted: &Predicted| {
        let range = format!("{} to {}", figure(predicted.interval.low), figure(predicted.interval.high));
        let bounded = if predicted.bounded { ", raised to the machine's limit" } else { "" };
        rows.add_row([
            name.to_owned(),
            predicted.unit.clone(),
            figure(predicted.value),
            range,
            predicted.label.provenance.to_string(),
            format!("{}{bounded}", predicted.basis),
        ]);
    };
    add("prefill", &prediction.prefill_ms);
    add("first token", &prediction.first_token_ms);
    if let Some(decode) = &prediction.decode_ms {
        add("decode", decode);
    }
    add("total", &prediction.total_ms);
    if let Some(energy) = &prediction.energy_j {
        add("energy, gross", energy);
    }
    let width = usize::from(COLUMNS_MAX) - 1;
    let missing = prediction.energy_missing.iter().map(|why| format!("No energy: {why}."));
    let memory = format!(
        "Memory at least {}: weights {}, keys and values {}; the engine's own buffers come on top.",
        table::bytes(prediction.memory_bytes_least as u64),
        table::bytes(prediction.weight_bytes),
        table::bytes(prediction.kv_bytes as u64)
    );
    let notes: String = std::iter::once(memory)
        .chain(missing)
        .chain(prediction.notes.iter().cloned())
        .map(|note| format!(" {}\n", wrap(&note, width, "   ")))
        .collect();
    let depth = if depth_tokens > 0 { format!(" after {depth_tokens} in memory") } else { String::new() };
    let about = format!(
        "{} on {}: {samples} × {output_tokens} tokens after a prompt of {prompt_tokens}{depth}",
        prediction.model.label(),
        prediction.series
    );
    format!("{}\n{rows}\n{notes}", wrap(&about, width, ""))
}
