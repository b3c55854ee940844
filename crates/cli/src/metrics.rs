//! `qeil metrics`: what each stored run achieved for its watts, joules and dollars.

use crate::arguments::MetricsArguments;
use crate::profile::{brief, place, store_path};
use crate::table::{self, COLUMNS_MAX, Footnotes, MISSING, figure, wrap};
use anyhow::Result;
use qeil_fit::coverage_metrics::{CoverageMetricsRow, coverage_metrics};
use qeil_fit::metrics::{MetricsRow, PriceTag, metrics as tabulate};
use qeil_hardware::Roots;
use qeil_hardware::catalogue::Catalogue;
use qeil_hardware::cpu::Cpu;
use qeil_laws::metrics::{Metric, Price};
use qeil_measure::coverage::Strategy;
use qeil_measure::profile::Host;
use qeil_measure::store::Store;
use qeil_units::{Seconds, Usd};
use serde::Serialize;
use std::collections::BTreeSet;

/// Seconds of a year of 365.25 days.
pub const YEAR_S: f64 = 31_557_600.0;

pub fn metrics(arguments: &MetricsArguments) -> Result<String> {
    let store = Store::open(&store_path(arguments.store.as_deref())?)?;
    let observations = store.observations()?;
    let runs = store.coverage_runs()?;
    let swept = observations.iter().map(|row| row.cell.device.as_str());
    let devices = swept.chain(runs.iter().map(|run| run.plan.device.as_str())).collect();
    let prices = prices(arguments, &devices)?;
    let coverage = coverage_metrics(&runs, &prices)?;
    let workloads = if observations.is_empty() && !coverage.is_empty() {
        Vec::new()
    } else {
        tabulate(&observations, &prices)?
    };
    if arguments.json {
        return table::json(&Document { workloads, coverage });
    }
    let parts = [
        (!coverage.is_empty()).then(|| coverage_text(&coverage)),
        (!workloads.is_empty()).then(|| text(&workloads)),
    ];
    Ok(parts.into_iter().flatten().collect::<Vec<_>>().join("\n"))
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document {
    /// Workloads of `qeil profile`, whose answers nobody checked.
    workloads: Vec<MetricsRow>,
    /// Coverage runs, at each number of samples.
    coverage: Vec<CoverageMetricsRow>,
}

/// The user's price, or the catalogue's for this machine's processor, and where it is from.
pub fn known_price(given: Option<f64>) -> Result<Option<(Usd, String)>> {
    if let Some(usd) = given {
        return Ok(Some((Usd(usd), "given by the user".to_owned())));
    }
    Ok(Catalogue::load()?.price_of_cpu(&Cpu::read(&Roots::default())).map(|price| {
        let date = price.date.map_or_else(String::new, |date| format!(", {date}"));
        let assumed = if price.assumed { "assumed: " } else { "" };
        (price.usd, format!("{assumed}{}{date}", price.source))
    }))
}

/// What the devices of the rows cost: the user's price, or the catalogue's for this machine's processor.
fn prices(arguments: &MetricsArguments, devices: &BTreeSet<&str>) -> Result<Vec<PriceTag>> {
    let Some((device, source)) = known_price(arguments.price_usd)? else { return Ok(Vec::new()) };
    // The catalogue's price is this machine's processor's; the user's is of whatever was measured.
    let own = arguments.price_usd.is_some();
    let machine = (!own).then(|| Host::read(&Roots::default(), &[]).label());
    let priced = |name: &&str| own || *name == "CPU";
    let tag = |name: &str| PriceTag {
        machine: machine.clone(),
        device: name.into(),
        price: Price {
            device,
            life: Seconds(arguments.life_years * YEAR_S),
            electricity_per_kwh: Usd(arguments.electricity_usd_per_kwh),
        },
        source: format!(
            "{source}; life {} years, electricity {} USD/kWh",
            arguments.life_years, arguments.electricity_usd_per_kwh
        ),
    };
    Ok(devices.iter().copied().filter(priced).map(tag).collect())
}

fn text(rows: &[MetricsRow]) -> String {
    let headers = [
        "model",
        "where",
        "cell",
        "runs",
        "power\nW",
        "energy\nJ/request",
        "USD per 1000\nrequests",
        "IPW\n1/W",
        "ECE\ntasks/J",
        "PPP\n1/(s·W·USD)",
    ];
    let mut out = table::table(&headers, 3..10);
    let mut notes = Footnotes::default();
    for row in rows {
        let mut cell = |metric: &Metric| match metric {
            Metric::Known { value, .. } => figure(*value),
            Metric::Missing(why) => format!("{MISSING}{}", notes.mark(why.to_string())),
        };
        let figures_of = [
            cell(&row.metrics.power_w),
            cell(&row.metrics.energy_per_task_j),
            cell(&row.metrics.usd_per_thousand_tasks),
            cell(&row.metrics.ipw),
            cell(&row.metrics.ece),
            cell(&row.metrics.ppp),
        ];
        let mut fields = vec![
            row.model.clone(),
            format!("{}, {}", place(&row.series.device, row.series.threads), row.series.quantisation),
            brief(&row.cell),
            row.repetitions.to_string(),
        ];
        fields.extend(figures_of);
        out.add_row(fields);
    }
    let label = rows.iter().filter_map(|row| Some(row.energy_label.as_ref()?.provenance)).min();
    let label = label.map_or_else(String::new, |label| format!("Power and energy: {label}. "));
    let price = rows.iter().find_map(|row| row.price_source.clone());
    let price = price.map_or_else(String::new, |price| format!("Price: {price}. "));
    let about = format!(
        "{label}{price}Means over the runs; `--json` has 95 % intervals. A request of k samples counts as one task. \
         IPW: accuracy by watt. ECE: solved tasks by joule. PPP: solved tasks a second by watt and dollar."
    );
    format!("{out}\n{} {}\n", notes.text(), wrap(&about, usize::from(COLUMNS_MAX) - 1, " "))
}

/// Coverage runs, a table each, with intervals below the figures.
fn coverage_text(rows: &[CoverageMetricsRow]) -> String {
    let mut notes = Footnotes::default();
    let tables: String = rows.chunk_by(|a, b| a.run == b.run).map(|run| run_text(run, &mut notes)).collect();
    let label = rows.iter().filter_map(|row| Some(row.energy_label.as_ref()?.provenance)).min();
    let label = label.map_or_else(String::new, |label| format!("Energy: {label}. "));
    let price = rows.iter().find_map(|row| row.price_source.clone());
    let price = price.map_or_else(String::new, |price| format!("Price: {price}. "));
    let about = format!(
        "{label}{price}Below each figure its 95 % interval over resampled tasks, which carry their joules and seconds along \
         with their passes; an error of the meter as a whole is not in it. Energy at fewer samples than were drawn is \
         shared out by computed tokens. IPW: accuracy by watt. IPJ: accuracy by joule of a task. ECE: solved tasks by \
         joule; marginal: what the joules since the row above bought. PPP: solved tasks a second by watt and dollar."
    );
    format!("{tables}{} {}\n", notes.text(), wrap(&about, usize::from(COLUMNS_MAX) - 1, " "))
}

/// One coverage run at every number of samples.
fn run_text(rows: &[CoverageMetricsRow], notes: &mut Footnotes) -> String {
    let headers = [
        "samples",
        "accuracy\n%",
        "IPW\n1/W",
        "IPJ\n1/J",
        "ECE\ntasks/J",
        "marginal\nECE",
        "PPP\n1/(s·W·USD)",
        "USD per 1000\nsolved",
    ];
    let mut out = table::table(&headers, 0..headers.len());
    for row in rows {
        let mut cell = |metric: &Metric| match metric {
            Metric::Known { value, interval: Some(interval), .. } => {
                format!("{}\n{} to\n{}", figure(*value), figure(interval.low), figure(interval.high))
            }
            Metric::Known { value, interval: None, .. } => figure(*value),
            Metric::Missing(why) => format!("{MISSING}{}", notes.mark(why.to_string())),
        };
        let metrics = &row.metrics;
        let figures_of = [
            cell(&metrics.ipw),
            cell(&metrics.ipj),
            cell(&metrics.ece),
            cell(&metrics.marginal_ece),
            cell(&metrics.ppp),
            cell(&metrics.usd_per_thousand_solved),
        ];
        let mut fields = vec![row.samples.to_string(), format!("{:.1}", row.coverage * 100.0)];
        fields.extend(figures_of);
        out.add_row(fields);
    }
    let Some(row) = rows.first() else { return String::new() };
    let how = match (row.strategy, row.stop_at_pass) {
        (Strategy::Sequential, _) => "samples at most, each where it was expected to solve most",
        (Strategy::Fixed, true) => "up to the first pass",
        (Strategy::Fixed, false) => "all samples drawn",
    };
    let about = format!(
        "Coverage run {}: {}, {}, {} tasks of {}, {how}, {}",
        row.run,
        row.model,
        row.quantisation,
        row.tasks,
        row.set,
        place(&row.device, row.threads)
    );
    format!("{}\n{out}\n", wrap(&about, usize::from(COLUMNS_MAX), ""))
}
