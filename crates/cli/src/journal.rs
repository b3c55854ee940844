//! `qeil journal`: what was decided, why, and how everything stood at a moment.

use crate::moment;
use crate::table::{self, MISSING};
use anyhow::{Context, Result, anyhow};
use clap::Args;
use qeil_control::journal::Kind;
use qeil_control::replay::State;
use qeil_orchestrate::journal::{Filter, Journal, Row};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct JournalArguments {
    /// Not before this moment: 90s, 15m, 2h, 3d ago, seconds since 1970, or 2026-03-01T12:00:00Z
    #[arg(long, value_name = "MOMENT", value_parser = crate::moment::parse)]
    pub since: Option<i64>,
    /// About this device
    #[arg(long, short = 'd', value_name = "NAME")]
    pub device: Option<String>,
    /// About this request
    #[arg(long, value_name = "NUMBER")]
    pub request: Option<u64>,
    /// Of this kind: admitted, refused, placed, moved, quarantined, …
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,
    /// The last so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub limit: u32,
    /// How every device and request stood at this moment
    #[arg(long, value_name = "MOMENT", value_parser = crate::moment::parse,
          conflicts_with_all = ["since", "device", "request", "kind", "limit"])]
    pub at: Option<i64>,
    /// The journal's file [default: in the user's data folder]
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// Print one JSON document instead of tables
    #[arg(long)]
    pub json: bool,
}

/// The journal's file, beside the store of measurements.
pub fn default_path() -> Option<PathBuf> {
    Some(qeil_measure::store::default_path()?.with_file_name("journal.sqlite"))
}

pub fn journal(arguments: &JournalArguments) -> Result<String> {
    let path = match &arguments.journal {
        Some(path) => path.clone(),
        None => default_path()
            .ok_or_else(|| anyhow!("there is no data folder; name the journal with --journal"))?,
    };
    let journal = Journal::open(&path)?;
    match arguments.at {
        Some(at) => state(&journal, &path, at, arguments.json),
        None => rows(&journal, arguments),
    }
}

fn rows(journal: &Journal, arguments: &JournalArguments) -> Result<String> {
    let kind = arguments.kind.as_ref().map(|word| kind(word)).transpose()?;
    let filter = Filter {
        since_unix_ms: arguments.since,
        device: arguments.device.clone(),
        request: arguments.request,
        kind,
        limit: arguments.limit,
    };
    let rows = journal.rows(&filter)?;
    if arguments.json {
        return table::json(&rows);
    }
    let mut shown = table::table(&["row", "when (UTC)", "what", "device", "request", "why"], 0..1);
    for row in &rows {
        shown.add_row([
            row.id.to_string(),
            moment::format(row.at_unix_ms),
            word(row.decision.kind),
            row.device_name.clone().unwrap_or_else(|| MISSING.into()),
            row.decision.request.map_or_else(|| MISSING.into(), |request| request.0.to_string()),
            why(row),
        ]);
    }
    Ok(format!("{shown}\n"))
}

/// The reason, with the readings it rests on.
fn why(row: &Row) -> String {
    let readings = row.decision.readings.iter();
    let readings: Vec<String> =
        readings.map(|(name, value)| format!("{name} {}", table::figure(*value))).collect();
    if readings.is_empty() {
        row.decision.reason.clone()
    } else {
        format!("{} [{}]", row.decision.reason, readings.join(", "))
    }
}

/// How one device stood.
#[derive(Debug, Serialize)]
struct Stood {
    device: String,
    standing: String,
    heat: String,
    duty: f32,
}

/// How everything stood.
#[derive(Debug, Serialize)]
struct Moment {
    run: i64,
    began_unix_ms: i64,
    at_unix_ms: i64,
    decisions: usize,
    devices: Vec<Stood>,
    requests_waiting: Vec<u64>,
    requests_begun: Vec<u64>,
}

fn state(journal: &Journal, path: &Path, at_unix_ms: i64, json: bool) -> Result<String> {
    let (run, decisions) = journal.until(at_unix_ms)?.with_context(|| {
        format!("{}: nothing had begun by {}", path.display(), moment::format(at_unix_ms))
    })?;
    let state = State::at(run.config.devices.len(), f64::INFINITY, &decisions);
    let stood =
        |(config, device): (&qeil_control::config::DeviceConfig, &qeil_control::replay::DeviceState)| Stood {
            device: config.name.clone(),
            standing: words(&device.standing),
            heat: words(&device.heat),
            duty: device.duty,
        };
    let begun = |wanted: bool| {
        state.requests.iter().filter(|(_, begun)| **begun == wanted).map(|(request, _)| request.0).collect()
    };
    let moment = Moment {
        run: run.id,
        began_unix_ms: run.began_unix_ms,
        at_unix_ms,
        decisions: decisions.len(),
        devices: run.config.devices.iter().zip(&state.devices).map(stood).collect(),
        requests_waiting: begun(false),
        requests_begun: begun(true),
    };
    if json {
        return table::json(&moment);
    }
    let mut shown = table::table(&["device", "standing", "heat", "duty"], 3..4);
    for device in &moment.devices {
        let duty = format!("{:.0} %", device.duty * 100.0);
        shown.add_row([device.device.clone(), device.standing.clone(), device.heat.clone(), duty]);
    }
    Ok(format!(
        "{shown}\n {}, after {} decisions of the run that began {}\n Requests that waited: {}; that were worked on: {}\n",
        moment::format(at_unix_ms),
        moment.decisions,
        moment::format(moment.began_unix_ms),
        moment.requests_waiting.len(),
        moment.requests_begun.len(),
    ))
}

fn words(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn word(kind: Kind) -> String {
    words(&kind)
}

fn kind(word: &str) -> Result<Kind> {
    serde_json::from_value(word.to_lowercase().into()).map_err(|_| {
        anyhow!(
            "there is no kind of decision called `{word}`; there are admitted, refused, placed, moved, cancelled, ended, \
             paced, heat, quarantined, probed, returned, started, stopped and warned"
        )
    })
}
