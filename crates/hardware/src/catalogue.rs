//! What is published about devices: the watts they are made for, and what they cost.
//!
//! The catalogue is data: `devices.toml`, built into the binary, and one of the user's own that is looked at first. It
//! feeds estimates only, and whatever comes out of it says where the figure is from and whether it was **assumed**: a
//! part of the same family standing in, a share of its cores, an idle power nobody published.

use crate::cpu::Cpu;
use qeil_units::{Usd, Watts};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const BUILTIN: &str = include_str!("../devices.toml");
/// The user's file in the folder of [`config_folder`].
const FILE_NAME: &str = "devices.toml";
/// Thousands of entries, and nothing a typo in a path could fill memory with.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// No device draws more; a larger figure is milliwatts taken for watts.
pub(crate) const WATTS_MAX: f64 = 10_000.0;
/// No device of an edge machine costs more: a larger figure is another currency.
const PRICE_USD_MAX: f64 = 10_000_000.0;

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// A processor, or a board that is bought and fed as one.
    Cpu,
    /// A graphics card.
    Gpu,
}

/// One part of the catalogue.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// All of these are in the name of a device that it describes, in any case.
    pub words: Vec<String>,
    /// Its own name.
    pub part: String,
    /// Whether it stands for its whole family.
    #[serde(default)]
    pub stand_in: bool,
    /// Its cores; for processors.
    pub cores: Option<u32>,
    /// Power when idle.
    pub idle_w: Option<f64>,
    /// Power at full work.
    pub max_w: f64,
    /// Who says so.
    #[serde(default)]
    pub max_w_source: String,
    /// What it costs.
    pub price_usd: Option<f64>,
    /// On which day, as year-month-day.
    pub price_date: Option<String>,
    /// Who says so.
    pub price_source: Option<String>,
    /// Whether it comes from the user's own file.
    #[serde(skip)]
    pub of_user: bool,
}

/// What a device costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Price {
    /// The price.
    pub usd: Usd,
    /// The day it was asked, as year-month-day; the user's own may have none.
    pub date: Option<String>,
    /// Which part's price, and who says so.
    pub source: String,
    /// Whether another part stands in, or a share of its cores.
    pub assumed: bool,
}

/// What went wrong with a file of figures.
#[derive(Debug, thiserror::Error)]
pub enum FigureError {
    /// It could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It makes no sense.
    #[error("{origin} is wrong: {why}")]
    Wrong {
        /// The file.
        origin: String,
        /// What is wrong with it.
        why: String,
    },
    /// The system does not say where configuration goes.
    #[error("there is no home folder to keep it in: set HOME")]
    NoHome,
}

/// The folder of the user's own files, `qeil` in the configuration folder; `None` without a home.
pub fn config_folder() -> Option<PathBuf> {
    use etcetera::BaseStrategy;
    Some(etcetera::choose_base_strategy().ok()?.config_dir().join("qeil"))
}

/// Reads a small file of the user's; `None` where there is none.
pub(crate) fn read_file(path: &Path) -> Result<Option<String>, FigureError> {
    let read = |source| FigureError::Read { path: path.into(), source };
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(read(e)),
        Ok(meta) if meta.len() > FILE_BYTES_MAX => {
            Err(read(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes"))))
        }
        Ok(_) => fs::read_to_string(path).map(Some).map_err(read),
    }
}

/// Parts by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Catalogue {
    parts: Vec<Part>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    device: Vec<Part>,
}

impl Catalogue {
    /// The built-in one.
    ///
    /// # Errors
    /// If it makes no sense, which a test forbids.
    pub fn builtin() -> Result<Self, FigureError> {
        parse(BUILTIN, "the built-in device catalogue", false).map(|parts| Self { parts })
    }

    /// The built-in one with the user's own before it.
    ///
    /// # Errors
    /// The user's file cannot be read, or is wrong.
    pub fn load() -> Result<Self, FigureError> {
        match config_folder() {
            Some(folder) => Self::load_from(&folder),
            None => Self::builtin(),
        }
    }

    /// The same with the user's own in `folder`.
    ///
    /// # Errors
    /// The user's file cannot be read, or is wrong.
    pub fn load_from(folder: &Path) -> Result<Self, FigureError> {
        let path = folder.join(FILE_NAME);
        let mut parts = match read_file(&path)? {
            Some(text) => parse(&text, &path.display().to_string(), true)?,
            None => Vec::new(),
        };
        parts.extend(Self::builtin()?.parts);
        Ok(Self { parts })
    }

    /// The part that describes a device of this name.
    pub fn find(&self, kind: PartKind, name: &str) -> Option<&Part> {
        let name = name.to_lowercase();
        let fits = |part: &&Part| part.words.iter().all(|word| name.contains(&word.to_lowercase()));
        self.parts.iter().filter(|part| part.kind == kind).find(fits)
    }

    /// What a processor costs; `None` where the catalogue does not say.
    pub fn price_of_cpu(&self, cpu: &Cpu) -> Option<Price> {
        let part = self.find(PartKind::Cpu, cpu.model.as_deref()?)?;
        let share = part.share(cpu);
        let whole = share.fract() == 0.0;
        let note =
            if part.stand_in || !whole { format!(", for {share:.3} of its cores") } else { String::new() };
        part.price(share, part.stand_in || !whole, &note)
    }

    /// What a graphics device costs; `None` where the catalogue does not say.
    pub fn price_of_gpu(&self, name: &str) -> Option<Price> {
        self.find(PartKind::Gpu, name)?.price(1.0, false, "")
    }
}

impl Part {
    /// How many of this part the processor amounts to, by cores. A part without cores is one.
    pub(crate) fn share(&self, cpu: &Cpu) -> f64 {
        let own = f64::from(cpu.physical_cores.unwrap_or(cpu.logical_cpus));
        self.cores.map_or(1.0, |cores| own / f64::from(cores.max(1)))
    }

    /// Power at full work.
    pub fn max(&self) -> Watts {
        Watts(self.max_w)
    }

    fn price(&self, share: f64, assumed: bool, note: &str) -> Option<Price> {
        let source = self.price_source.as_deref().unwrap_or("the user's own catalogue");
        Some(Price {
            usd: Usd(self.price_usd? * share),
            date: self.price_date.clone(),
            source: format!("{}: {source}{note}", self.part),
            assumed: assumed && !self.of_user,
        })
    }

    fn check(&self) -> Result<(), String> {
        let fault = |why: &str| Err(format!("device {:?}: {why}", self.part));
        if self.words.is_empty() || self.words.iter().any(|word| word.trim().is_empty()) {
            return fault("`words` must name at least one word of its name, and no empty one");
        }
        if self.part.trim().is_empty() {
            return fault("`part` is empty");
        }
        if !(self.max_w > 0.0 && self.max_w <= WATTS_MAX) {
            return fault(&format!("`max_w` must be watts between 0 and {WATTS_MAX}"));
        }
        if self.idle_w.is_some_and(|idle_w| !(idle_w >= 0.0 && idle_w < self.max_w)) {
            return fault("`idle_w` must be watts, and below `max_w`");
        }
        if self.price_usd.is_some_and(|usd| !(usd > 0.0 && usd <= PRICE_USD_MAX)) {
            return fault(&format!("`price_usd` must be US dollars between 0 and {PRICE_USD_MAX}"));
        }
        if self.cores == Some(0) {
            return fault("`cores` is 0");
        }
        if self.kind == PartKind::Cpu && self.stand_in && self.cores.is_none() {
            return fault("a processor that stands for its family needs `cores`");
        }
        Ok(())
    }
}

fn parse(text: &str, origin: &str, of_user: bool) -> Result<Vec<Part>, FigureError> {
    let wrong = |why: String| FigureError::Wrong { origin: origin.into(), why };
    let mut parts = toml::from_str::<File>(text).map_err(|error| wrong(error.to_string()))?.device;
    for part in &mut parts {
        part.of_user = of_user;
        part.check().map_err(wrong)?;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn cpu(model: &str, cores: u32) -> Cpu {
        Cpu::named(Some(model), cores)
    }

    #[test]
    fn every_built_in_part_names_its_sources() {
        let catalogue = Catalogue::builtin().unwrap();
        assert!(catalogue.parts.len() > 30);
        for part in &catalogue.parts {
            assert!(!part.max_w_source.is_empty(), "{}: where do its watts come from?", part.part);
            let priced = part.price_usd.is_some();
            assert_eq!(priced, part.price_source.is_some(), "{}", part.part);
            assert_eq!(priced, part.price_date.is_some(), "{}", part.part);
            assert!(
                part.price_date.as_deref().is_none_or(|date| date.len() == 10 && date.starts_with("20")),
                "{}",
                part.part
            );
            // A part must not be hidden behind one that comes before it.
            let name = part.words.join(" ");
            assert_eq!(catalogue.find(part.kind, &name).unwrap().words, part.words, "{name}");
        }
    }

    #[test]
    fn prices() {
        let catalogue = Catalogue::builtin().unwrap();
        // (name, cores, dollars, assumed)
        let cases = [
            ("AMD EPYC 9654 96-Core Processor", 96, Some(11805.0), false),
            ("AMD EPYC 9654 96-Core Processor", 192, Some(23610.0), false),
            ("AMD EPYC", 48, Some(5902.5), true),
            ("Intel(R) Xeon(R) Platinum 8480+", 7, Some(1338.75), true),
            ("AMD Ryzen 5 5600U", 6, None, false),
            ("Something else", 4, None, false),
        ];
        for (name, cores, usd, assumed) in cases {
            let price = catalogue.price_of_cpu(&cpu(name, cores));
            assert_eq!(
                price.as_ref().map(|p| (p.usd, p.assumed)),
                usd.map(|usd| (Usd(usd), assumed)),
                "{name}"
            );
        }
        let card = catalogue.price_of_gpu("NVIDIA GeForce RTX 4070 Ti SUPER").unwrap();
        assert_eq!((card.usd, card.date.as_deref()), (Usd(799.0), Some("2023-01-05")));
        assert_eq!(catalogue.price_of_gpu("NVIDIA H100 80GB HBM3"), None);
    }

    #[test]
    fn the_users_file_comes_first_and_is_not_an_assumption() {
        let folder = TempDir::new().unwrap();
        let own = "[[device]]\nkind = \"cpu\"\nwords = [\"EPYC\"]\npart = \"my box\"\nidle_w = 8\nmax_w = 45.5\n\
                   price_usd = 900\n";
        fs::write(folder.path().join(FILE_NAME), own).unwrap();
        let catalogue = Catalogue::load_from(folder.path()).unwrap();
        let part = catalogue.find(PartKind::Cpu, "AMD EPYC 9654").unwrap();
        assert_eq!(
            (part.part.as_str(), part.idle_w, part.max_w, part.of_user),
            ("my box", Some(8.0), 45.5, true)
        );
        let price = catalogue.price_of_cpu(&cpu("AMD EPYC 9654", 5)).unwrap();
        assert_eq!((price.usd, price.assumed), (Usd(900.0), false));
        assert!(price.source.contains("user's own"), "{}", price.source);
        assert_eq!(Catalogue::load_from(&folder.path().join("none")).unwrap(), Catalogue::builtin().unwrap());
    }

    #[test]
    fn files_that_are_wrong() {
        let device =
            |rest: &str| format!("[[device]]\nkind = \"cpu\"\nwords = [\"x\"]\npart = \"X\"\n{rest}");
        let cases = [
            ("not toml", "]".to_string(), "expected"),
            ("unknown key", device("max_w = 1\nwatts = 3\n"), "watts"),
            ("no power", device(""), "max_w"),
            ("negative", device("max_w = -1\n"), "max_w"),
            ("not a number", device("max_w = nan\n"), "max_w"),
            ("milliwatts", device("max_w = 45000\n"), "max_w"),
            ("idle above", device("max_w = 10\nidle_w = 10\n"), "idle_w"),
            ("free", device("max_w = 10\nprice_usd = 0\n"), "price_usd"),
            ("no cores", device("max_w = 10\ncores = 0\n"), "cores"),
            ("family", device("max_w = 10\nstand_in = true\n"), "cores"),
            ("no words", "[[device]]\nkind = \"gpu\"\nwords = []\npart = \"X\"\nmax_w = 1\n".into(), "words"),
            (
                "no name",
                "[[device]]\nkind = \"gpu\"\nwords = [\"x\"]\npart = \" \"\nmax_w = 1\n".into(),
                "part",
            ),
        ];
        for (what, text, named) in cases {
            let folder = TempDir::new().unwrap();
            fs::write(folder.path().join(FILE_NAME), text).unwrap();
            let error = Catalogue::load_from(folder.path()).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains(FILE_NAME), "{what}: {error}");
        }
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join(FILE_NAME)).unwrap();
        assert!(matches!(Catalogue::load_from(folder.path()), Err(FigureError::Read { .. })));
    }
}
