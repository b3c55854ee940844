//! `qeil models`, and how a word on the command line becomes a model file.

use crate::arguments::OutputArguments;
use crate::pull::fetch;
use crate::table::{self, MISSING};
use anyhow::Result;
use qeil_measure::report::ModelsReport;
use qeil_model::catalogue::Catalogue;
use qeil_model::shelf::{Shelf, ShelfError};
use std::path::PathBuf;

/// The file of a name or path; a model of the catalogue that is missing is pulled.
pub async fn file_of(word: &str) -> Result<PathBuf> {
    let (catalogue, shelf) = (Catalogue::load()?, Shelf::of_user()?);
    match shelf.resolve(word, &catalogue) {
        Err(ShelfError::NotPulled { name }) => match catalogue.find(&name) {
            Some(entry) => fetch(entry.clone(), shelf).await,
            None => Err(ShelfError::NotPulled { name }.into()),
        },
        found => Ok(found?),
    }
}

pub fn models(arguments: &OutputArguments) -> Result<String> {
    let report = ModelsReport::new(&Catalogue::load()?, &Shelf::of_user()?)?;
    if arguments.json {
        return table::json(&report);
    }
    let headers = ["model", "family", "parameters", "file size", "format", "licence", "here"];
    let mut rows = table::table(&headers, 2..4);
    table::keep_whole(&mut rows, 0);
    let mut notes = table::Footnotes::default();
    for model in &report.models {
        let or_missing = |text: &Option<String>| text.clone().unwrap_or_else(|| MISSING.into());
        let mut name = model.name.clone();
        if let Some(why) = &model.unusable {
            name += &notes.mark(format!("cannot be used: {why}"));
        }
        if model.weightless {
            name += &notes.mark(table::WEIGHTLESS);
        }
        if model.name == report.default {
            name += " *";
        }
        rows.add_row([
            name,
            or_missing(&model.architecture),
            model.parameters.map_or_else(|| MISSING.into(), table::parameters),
            model.file_bytes.map_or_else(|| MISSING.into(), table::bytes),
            or_missing(&model.quantisation),
            or_missing(&model.licence),
            if model.present { "yes" } else { "no" }.into(),
        ]);
    }
    Ok(format!(
        "{rows}\n{} * used where no model is named\n Models lie in {}. `qeil pull NAME` fetches one.\n",
        notes.text(),
        report.shelf.display()
    ))
}
