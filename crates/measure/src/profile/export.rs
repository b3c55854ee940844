//! Rows for other programs: flat columns, stable names with units.
//!
//! CSV after RFC 4180 with a header line, and JSON lines with the same rows in full; both are read as they are by
//! DuckDB, pandas and Arrow, which also write Parquet from them.

use super::observation::Observation;
use qeil_units::Labelled;

/// Name of a column and its value in a row; an empty field is a missing value.
type Column = (&'static str, fn(&Observation) -> String);

const COLUMNS: &[Column] = &[
    ("model", |o| o.model.name.clone()),
    ("architecture", |o| o.model.architecture.clone()),
    ("quantisation", |o| o.model.quantisation.clone()),
    ("weightless", |o| o.model.weightless.to_string()),
    ("parameters", |o| o.model.parameters.to_string()),
    ("parameters_non_embedding", |o| o.model.parameters_non_embedding.to_string()),
    ("weight_bytes", |o| o.model.weight_bytes.to_string()),
    ("step_bytes", |o| o.model.step_bytes.to_string()),
    ("machine", |o| o.machine.clone()),
    ("model_sha256", |o| o.model.sha256.clone()),
    ("device", |o| o.cell.device.clone()),
    ("threads", |o| o.cell.threads.to_string()),
    ("prompt_tokens", |o| o.cell.prompt_tokens.to_string()),
    ("depth_tokens", |o| o.cell.depth_tokens.to_string()),
    ("output_tokens", |o| o.cell.output_tokens.to_string()),
    ("samples", |o| o.cell.samples.to_string()),
    ("settings", |o| o.settings.to_string()),
    ("repetition", |o| o.repetition.to_string()),
    ("at_unix_ms", |o| o.at_unix_ms.to_string()),
    ("prefill_ms", |o| o.prefill_ms.to_string()),
    ("first_token_ms", |o| o.first_token_ms.to_string()),
    ("decode_ms", |o| maybe(o.decode_ms)),
    ("wall_s", |o| o.wall_s.to_string()),
    ("cpu_s", |o| o.cpu_s.to_string()),
    ("energy_gross_j", |o| maybe(o.energy.as_ref().map(|e| e.gross.value.0))),
    ("energy_net_j", |o| maybe(o.energy.as_ref().and_then(|e| Some(e.net.as_ref()?.value.0)))),
    ("energy_provenance", |o| maybe(o.energy.as_ref().map(|e| label(&e.gross)))),
    ("energy_source", |o| maybe(o.energy.as_ref().map(|e| e.gross.source.clone()))),
    ("temperature_before_c", |o| maybe(o.temperature_c.map(|[before, _]| before))),
    ("temperature_after_c", |o| maybe(o.temperature_c.map(|[_, after]| after))),
    ("interference_share", |o| maybe(o.interference)),
    ("disturbed", |o| o.disturbed.to_string()),
];

fn maybe(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn label<T>(figure: &Labelled<T>) -> String {
    figure.provenance.to_string()
}

/// All rows as CSV.
pub fn csv(rows: &[Observation]) -> String {
    let line = |fields: Vec<String>| fields.join(",") + "\r\n";
    let header = line(COLUMNS.iter().map(|(name, _)| (*name).to_owned()).collect());
    let body = rows.iter().map(|row| line(COLUMNS.iter().map(|(_, value)| quoted(value(row))).collect()));
    std::iter::once(header).chain(body).collect()
}

fn quoted(field: String) -> String {
    if field.contains([',', '"', '\n', '\r']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

/// All rows in full, one JSON document a line.
pub fn json_lines(rows: &[Observation]) -> String {
    // Plain structs of numbers and strings: these always serialise.
    rows.iter().filter_map(|row| serde_json::to_string(row).ok()).map(|line| line + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::super::observation::tests::row;
    use super::*;

    #[test]
    fn csv_keeps_commas_quotes_and_missing_values() {
        let text = csv(&[row(200.0, None, 0.25)]);
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].split(',').count(), COLUMNS.len());
        assert!(lines[1].starts_with("\"a model, \"\"quoted\"\"\",llama,F32,true,1000,800,"), "{}", lines[1]);
        assert!(lines[1].contains(",200,200,,0.25,0.25,,,,,,,,false"), "{}", lines[1]);
    }

    #[test]
    fn json_lines_can_be_read_back() {
        let rows = [row(1.0, Some(2.0), 3.0), row(4.0, None, 5.0)];
        let text = json_lines(&rows);
        let back: Vec<Observation> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(back, rows);
    }
}
