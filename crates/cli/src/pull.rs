//! `qeil pull`: the bar above a download.

use crate::arguments::PullArguments;
use crate::table;
use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use qeil_model::catalogue::{Catalogue, Entry};
use qeil_model::pull::{Progress, pull as pull_model};
use qeil_model::shelf::{Shelf, ShelfError};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// How often the spinner turns where the size is unknown.
const SPINNER_EVERY: Duration = Duration::from_millis(100);

#[derive(Serialize)]
struct Pulled {
    name: String,
    path: PathBuf,
    file_bytes: u64,
}

pub async fn pull(arguments: PullArguments) -> Result<String> {
    let (catalogue, shelf) = (Catalogue::load()?, Shelf::of_user()?);
    let wanted = &arguments.name;
    let Some(entry) = catalogue.find(wanted) else {
        return match shelf.resolve(wanted, &catalogue) {
            Ok(path) => Ok(format!("{wanted} is here already: {}\n", path.display())),
            Err(error @ ShelfError::Unknown { .. }) => Err(error.into()),
            Err(error) => Err(error).context("only models of the catalogue can be pulled"),
        };
    };
    let entry = entry.clone();
    let name = entry.name.clone();
    let path = fetch(entry, shelf).await?;
    let file_bytes = std::fs::metadata(&path)?.len();
    if arguments.json {
        return table::json(&Pulled { name, path, file_bytes });
    }
    Ok(format!("{name} is here: {} ({})\n", path.display(), table::bytes(file_bytes)))
}

/// Bring a model to the shelf, with a bar on standard error.
pub async fn fetch(entry: Entry, shelf: Shelf) -> Result<PathBuf> {
    let path = tokio::task::spawn_blocking(move || {
        let mut bar = Bar::new(&entry.name);
        let pulled = pull_model(&entry, &shelf, &mut bar);
        bar.0.finish_and_clear();
        pulled
    })
    .await
    .context("the download ended unexpectedly")??;
    Ok(path)
}

struct Bar(ProgressBar);

impl Bar {
    fn new(name: &str) -> Self {
        let bar = ProgressBar::no_length().with_prefix(name.to_owned());
        bar.set_style(style("{prefix} {spinner} {bytes} {bytes_per_sec}"));
        bar.enable_steady_tick(SPINNER_EVERY);
        Self(bar)
    }
}

/// A style from a template of ours; a wrong one would show as the default bar.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress for Bar {
    fn start(&mut self, total_bytes: Option<u64>, done_bytes: u64) {
        match total_bytes {
            Some(total) => {
                self.0.set_length(total);
                self.0.set_style(style(
                    "{prefix} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
                ));
            }
            None => self.0.unset_length(),
        }
        self.0.set_position(done_bytes);
        // What lay there already was not fetched at this speed.
        self.0.reset_eta();
    }

    fn advance(&mut self, bytes: u64) {
        self.0.inc(bytes);
    }

    fn message(&mut self, text: &str) {
        table::progress(&self.0, text);
    }
}
