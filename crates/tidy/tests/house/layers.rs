//! Which crate may know which.

use super::files::File;
use toml::{Table, Value};

/// A crate, and the crates of the workspace that it may be built on.
pub type Layer = (&'static str, &'static [&'static str]);

/// From the bottom up. A crate is listed when it exists or when the plan of the house has a place for it. Tests
/// may use any crate further down (a simulated device as a double, say); nothing may ever use one further up.
pub const LAYERS: &[Layer] = &[
    ("qeil-tidy", &[]),
    ("qeil-units", &[]),
    ("qeil-laws", &["qeil-units"]),
    ("qeil-model", &["qeil-units", "qeil-laws"]),
    ("qeil-hardware", &["qeil-units"]),
    ("qeil-engine", &["qeil-units", "qeil-model"]),
    ("qeil-control", &["qeil-units", "qeil-laws"]),
    ("qeil-sim", &["qeil-units", "qeil-laws", "qeil-model", "qeil-control"]),
    ("qeil-tasks", &[]),
    (
        "qeil-measure",
        &["qeil-units", "qeil-laws", "qeil-model", "qeil-hardware", "qeil-engine", "qeil-tasks"],
    ),
    ("qeil-fit", &["qeil-units", "qeil-laws", "qeil-model", "qeil-measure"]),
    ("qeil-plan", &["qeil-units", "qeil-laws"]),
    ("qeil-orchestrate", &["qeil-units", "qeil-model", "qeil-hardware", "qeil-engine", "qeil-control"]),
    ("qeil-serve", &["qeil-units", "qeil-model", "qeil-control", "qeil-tasks"]),
    (
        "qeil",
        &[
            "qeil-units",
            "qeil-laws",
            "qeil-model",
            "qeil-hardware",
            "qeil-engine",
            "qeil-control",
            "qeil-sim",
            "qeil-tasks",
            "qeil-measure",
            "qeil-fit",
            "qeil-plan",
            "qeil-orchestrate",
            "qeil-serve",
        ],
    ),
];

/// Complaints about the dependencies of one manifest.
pub fn check(manifest: &File) -> Vec<String> {
    let File { path, text } = manifest;
    let table: Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return vec![format!("{path}: {error}")],
    };
    let Some(name) = table.get("package").and_then(|package| package.get("name")).and_then(Value::as_str)
    else {
        return vec![format!("{path}: no package name")];
    };
    let Some(layer) = LAYERS.iter().position(|(known, _)| *known == name) else {
        return vec![format!(
            "{path}: crate {name} has no place in the layers (crates/tidy/tests/house/layers.rs)"
        )];
    };
    let below: Vec<&str> = LAYERS[..layer].iter().map(|(name, _)| *name).collect();
    let mut complaints = Vec::new();
    for (section, allowed) in [
        ("dependencies", LAYERS[layer].1),
        ("build-dependencies", LAYERS[layer].1),
        ("dev-dependencies", &below[..]),
    ] {
        for dependency in dependencies(&table, section) {
            if !allowed.contains(&dependency.as_str()) {
                complaints.push(format!("{path}: {name} may not have {dependency} in its {section}"));
            }
        }
    }
    complaints
}

/// Names of workspace crates in a section, those of single targets included.
fn dependencies(manifest: &Table, section: &str) -> Vec<String> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let of_targets =
        targets.into_iter().flat_map(|targets| targets.values()).filter_map(|target| target.get(section));
    let tables = manifest.get(section).into_iter().chain(of_targets).filter_map(Value::as_table);
    tables
        .flat_map(|table| table.iter())
        .map(|(key, value)| value.get("package").and_then(Value::as_str).unwrap_or(key).to_owned())
        .filter(|name| name == "qeil" || name.starts_with("qeil-"))
        .collect()
}

/// Arrows of a table that do not point to an earlier row.
pub fn upward_arrows(layers: &[Layer]) -> Vec<String> {
    let mut arrows = Vec::new();
    for (i, (name, allowed)) in layers.iter().enumerate() {
        for other in *allowed {
            if !layers[..i].iter().any(|(below, _)| below == other) {
                arrows.push(format!("{name} -> {other}"));
            }
        }
    }
    arrows
}
