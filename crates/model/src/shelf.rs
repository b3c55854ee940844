//! The folder of pulled models, and the one place where a word from the command line becomes a file.
//!
//! Models lie flat as `NAME.gguf`, so that any other tool can use them and `ls` explains everything. Files that
//! start with a dot, and `.part` files, belong to pulls under way.

use crate::catalogue::Catalogue;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Most suggestions after a name that is not known.
const SUGGESTIONS_MAX: usize = 3;
/// How alike (Jaro-Winkler, 0 to 1) a name must be to be suggested; one or two typos stay above it.
const SUGGESTION_LIKENESS_MIN: f64 = 0.8;

/// The folder of pulled models.
#[derive(Debug, Clone)]
pub struct Shelf {
    root: PathBuf,
}

/// A model on the shelf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shelved {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Size of the file.
    pub bytes: u64,
}

/// Why a word could not be turned into a model file.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// There is no home folder to put a shelf in.
    #[error("no folder for models: set QEIL_MODELS to one ({0})")]
    NoHome(String),
    /// The folder cannot be used.
    #[error("cannot use the model folder {path}: {source}; set QEIL_MODELS to choose another one")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A path that leads to no file.
    #[error("no model file at {0}")]
    NoSuchFile(PathBuf),
    /// In the catalogue, but not pulled yet.
    #[error("{name} is not on this machine yet: run `qeil pull {name}`")]
    NotPulled {
        /// The model's name.
        name: String,
    },
    /// Neither on the shelf nor in the catalogue.
    #[error(
        "no model is called {name:?}{}; `qeil models` lists all names, and a path to a GGUF file works too",
        did_you_mean(suggestions)
    )]
    Unknown {
        /// What was asked for.
        name: String,
        /// Names that look like it, best first.
        suggestions: Vec<String>,
    },
}

fn did_you_mean(suggestions: &[String]) -> String {
    if suggestions.is_empty() {
        String::new()
    } else {
        format!(" (did you mean {}?)", suggestions.join(" or "))
    }
}

impl Shelf {
    /// The user's shelf: `$QEIL_MODELS`, else `$XDG_DATA_HOME/qeil/models`. The folder need not exist yet.
    ///
    /// # Errors
    /// There is neither the variable nor a home folder.
    pub fn of_user() -> Result<Self, ShelfError> {
        use etcetera::BaseStrategy;
        if let Some(root) = std::env::var_os("QEIL_MODELS").filter(|root| !root.is_empty()) {
            return Ok(Self::at(root));
        }
        let folders = etcetera::choose_base_strategy().map_err(|e| ShelfError::NoHome(e.to_string()))?;
        Ok(Self::at(folders.data_dir().join("qeil").join("models")))
    }

    /// The shelf in this folder.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the model of this name lies once it is pulled.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.gguf"))
    }

    /// The file a name (in any case) or a path stands for. A word with a slash, or that ends in `.gguf`, is a
    /// path; any other is looked up on the shelf first, then taken as a path if such a file exists.
    ///
    /// # Errors
    /// There is no such file; the error says what to do.
    pub fn resolve(&self, name_or_path: &str, catalogue: &Catalogue) -> Result<PathBuf, ShelfError> {
        let path = Path::new(name_or_path);
        let lower = name_or_path.to_ascii_lowercase();
        if name_or_path.contains(std::path::is_separator) || lower.ends_with(".gguf") {
            return if path.is_file() { Ok(path.into()) } else { Err(ShelfError::NoSuchFile(path.into())) };
        }
        let shelved = self.list()?;
        if let Some(model) = shelved.iter().find(|m| m.name.eq_ignore_ascii_case(name_or_path)) {
            return Ok(model.path.clone());
        }
        if path.is_file() {
            return Ok(path.into());
        }
        if let Some(entry) = catalogue.find(name_or_path) {
            return Err(ShelfError::NotPulled { name: entry.name.clone() });
        }
        let names = shelved.iter().map(|m| &m.name).chain(catalogue.entries().iter().map(|e| &e.name));
        let mut alike: Vec<(f64, &String)> = names
            .map(|name| {
                let known = name.to_ascii_lowercase();
                let part_of = lower.len() >= 3 && known.contains(&lower);
                (if part_of { 1.0 } else { strsim::jaro_winkler(&lower, &known) }, name)
            })
            .filter(|(likeness, _)| *likeness >= SUGGESTION_LIKENESS_MIN)
            .collect();
        alike.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        alike.dedup_by(|a, b| a.1.eq_ignore_ascii_case(b.1));
        let suggestions = alike.into_iter().take(SUGGESTIONS_MAX).map(|(_, name)| name.clone()).collect();
        Err(ShelfError::Unknown { name: name_or_path.into(), suggestions })
    }

    /// The models on the shelf, by name. None where the folder does not exist yet.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn list(&self) -> Result<Vec<Shelved>, ShelfError> {
        let wrong = |source| ShelfError::Folder { path: self.root.clone(), source };
        let folder = match fs::read_dir(&self.root) {
            Ok(folder) => folder,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(wrong(e)),
        };
        let mut models = Vec::new();
        for file in folder {
            let path = file.map_err(wrong)?.path();
            let Some(name) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".gguf"))
            else {
                continue;
            };
            if name.is_empty() || name.starts_with('.') {
                continue;
            }
            // A dangling link, or a file removed meanwhile, is not a model.
            let Ok(meta) = fs::metadata(&path) else { continue };
            if meta.is_file() {
                models.push(Shelved { name: name.into(), bytes: meta.len(), path });
            }
        }
        models.sort_by_cached_key(|m| (m.name.to_ascii_lowercase(), m.name.clone()));
        Ok(models)
    }
}
