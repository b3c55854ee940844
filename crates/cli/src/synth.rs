//! `qeil synth`: a weightless model, with a bar on standard error.

use crate::arguments::SynthArguments;
use crate::table;
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use qeil_measure::report::{ModelSummary, SynthFamily};
use qeil_model::shelf::Shelf;
use qeil_model::write::synth::{Synth, families, family};
use std::path::Path;

pub async fn synth(arguments: SynthArguments) -> Result<String> {
    let Some(name) = arguments.family else { return list(arguments.json) };
    let synth = Synth { family: family(&name)?, quantisation: arguments.quant, seed: arguments.seed };
    let name = synth.name();
    let path = match arguments.out {
        Some(path) => path,
        None => {
            let shelf = Shelf::of_user()?;
            std::fs::create_dir_all(shelf.root())
                .with_context(|| format!("cannot make the model folder {}", shelf.root().display()))?;
            shelf.path_of(&name)
        }
    };
    let written = path.clone();
    tokio::task::spawn_blocking(move || write(&synth, &written))
        .await
        .context("the writing ended unexpectedly")??;
    let facts = qeil_model::inspect(&path)?;
    if arguments.json {
        return table::json(&ModelSummary::new(&path, &facts));
    }
    Ok(format!(
        "{name} is written: {} ({}, {} parameters). Its weights are random: measure it, do not believe it.\n",
        path.display(),
        table::bytes(facts.file_bytes),
        table::parameters(facts.parameters)
    ))
}

fn write(synth: &Synth, path: &Path) -> Result<()> {
    let bar = ProgressBar::no_length().with_prefix(synth.name());
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {bytes} of {total_bytes}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let done = synth.create(path, |done_bytes, total_bytes| {
        bar.set_length(total_bytes);
        bar.set_position(done_bytes);
    });
    bar.finish_and_clear();
    Ok(done?)
}

fn list(json: bool) -> Result<String> {
    let known = families()?;
    if json {
        return table::json(&known.iter().map(SynthFamily::new).collect::<Vec<_>>());
    }
    let headers = ["family", "architecture", "parameters", "layers", "width", "vocabulary"];
    let mut rows = table::table(&headers, 2..6);
    table::keep_whole(&mut rows, 0);
    let mut sources = String::new();
    let width = usize::from(table::COLUMNS_MAX) - 1;
    for family in known {
        let source = format!("{}: {}", family.name, family.source);
        sources += &format!(" {}\n", table::wrap(&source, width, "   "));
        rows.add_row([
            family.name,
            family.architecture,
            table::parameters(family.parameters),
            family.layers.to_string(),
            family.width.to_string(),
            family.vocabulary.tokens.to_string(),
        ]);
    }
    Ok(format!(
        "{rows}\n Parameters as published. `qeil synth FAMILY` writes one. Where the shapes come from:\n{sources}"
    ))
}
