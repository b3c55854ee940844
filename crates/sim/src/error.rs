//! What can be wrong with a description or a scenario.
//!
//! Both are files that people write, so each error names the file, the key, and what to write instead.

use thiserror::Error;

/// Why a description or a scenario cannot be used.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum SimError {
    /// The text is no TOML, or a key is unknown, missing or of the wrong type.
    #[error("{file}: {key}: {why}")]
    Syntax {
        /// Name of the file.
        file: String,
        /// The key that it is about, or "the file".
        key: String,
        /// What is wrong, and where.
        why: String,
    },
    /// A figure is out of its range.
    #[error("{file}: {key} is {value}; give {expected}")]
    Figure {
        /// Name of the file.
        file: String,
        /// The key.
        key: String,
        /// What it is.
        value: String,
        /// What it may be.
        expected: String,
    },
    /// No such machine is built in.
    #[error(
        "no machine is called {wanted:?}; known are {known}; or give the path of a description (a name with a slash or .toml)"
    )]
    UnknownMachine {
        /// What was asked for.
        wanted: String,
        /// Those there are.
        known: String,
    },
    /// No such model.
    #[error("no model is called {wanted:?}; known are {known}")]
    UnknownModel {
        /// What was asked for.
        wanted: String,
        /// Those there are.
        known: String,
    },
    /// The model fits no device.
    #[error(
        "{model} needs {needs_gb:.1} GB, and no device of {machine} has that much; take a smaller model or format"
    )]
    TooLarge {
        /// The model.
        model: String,
        /// The machine.
        machine: String,
        /// Bytes needed, in 10⁹.
        needs_gb: f64,
    },
}

/// Parse a file of this form, with the key that is wrong in the error.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(file: &str, text: &str) -> Result<T, SimError> {
    let syntax = |key: String, why: &toml::de::Error| SimError::Syntax {
        file: file.to_owned(),
        key: if key == "." { "the file".into() } else { key },
        why: why.to_string().trim_end().to_owned(),
    };
    let reader = toml::Deserializer::parse(text).map_err(|why| syntax(".".into(), &why))?;
    serde_path_to_error::deserialize(reader).map_err(|error| syntax(error.path().to_string(), error.inner()))
}
