//! Pulling models: from a hub on this machine, and through a pip made for the occasion. No test leaves the machine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod http;
mod hub;
mod pip;

use hub::Hub;
use qeil_model::{
    catalogue::{Entry, HuggingFaceFile, Licence, Sha256Sum, Source},
    pull::{Options, Progress, PullError, SourceError, pull_with},
    shelf::Shelf,
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

const NAME: &str = "Model";

/// Bytes that look like a model's to a pull: the magic, then noise that differs by `seed`.
fn model(bytes: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let noise = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    });
    b"GGUF".iter().copied().chain(noise).take(bytes).collect()
}

fn sum(bytes: &[u8]) -> Sha256Sum {
    Sha256Sum(Sha256::digest(bytes).into())
}

/// A source on the hub under test.
fn on_hub() -> Source {
    on_hub_as("file name.gguf")
}

fn on_hub_as(file: &str) -> Source {
    Source::HuggingFace(HuggingFaceFile { repo: "own/er".into(), file: file.into(), revision: "main".into() })
}

/// Keeps what a pull says.
#[derive(Default)]
struct Told {
    messages: Vec<String>,
    /// Of the latest stretch of work.
    total_bytes: Option<u64>,
    done_bytes: u64,
}

impl Progress for Told {
    fn start(&mut self, total_bytes: Option<u64>, done_bytes: u64) {
        (self.total_bytes, self.done_bytes) = (total_bytes, done_bytes);
    }

    fn advance(&mut self, bytes: u64) {
        self.done_bytes += bytes;
    }

    fn message(&mut self, text: &str) {
        self.messages.push(text.into());
    }
}

/// A shelf of its own, an entry, and the options to pull it with.
struct Bench {
    folder: tempfile::TempDir,
    entry: Entry,
    options: Options,
    told: Told,
}

impl Bench {
    /// For the file `content`, known to the catalogue.
    fn new(content: &[u8], sources: Vec<Source>) -> Self {
        let entry = Entry {
            name: NAME.into(),
            architecture: "llama".into(),
            parameters: 1,
            quantisation: "F16".into(),
            licence: Licence { name: "MIT".into(), url: None },
            sha256: Some(sum(content)),
            bytes: Some(content.len() as u64),
            sources,
        };
        let options = Options {
            hub: "http://127.0.0.1:1".into(),
            pips: Vec::new(),
            retry_pause: Duration::from_millis(1),
            silence_max: Duration::from_secs(20),
        };
        Self { folder: tempfile::tempdir().unwrap(), entry, options, told: Told::default() }
    }

    fn on(mut self, hub: &Hub) -> Self {
        self.options.hub = hub.address();
        self
    }

    /// The same file, but the catalogue knows neither checksum nor size.
    fn unknown(mut self) -> Self {
        (self.entry.sha256, self.entry.bytes) = (None, None);
        self
    }

    fn shelf(&self) -> Shelf {
        Shelf::at(self.folder.path().join("models"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.shelf().root().join(name)
    }

    fn pull(&mut self) -> Result<PathBuf, PullError> {
        self.told = Told::default();
        pull_with(&self.entry, &self.shelf(), &self.options, &mut self.told)
    }

    /// Pull, and check that the file is `content` and that nothing but its checksum is left beside it.
    fn expect(&mut self, content: &[u8]) {
        let path = self.pull().unwrap_or_else(|e| panic!("{e}\n{:?}", self.told.messages));
        assert_eq!(path, self.path("Model.gguf"));
        assert!(fs::read(&path).unwrap() == content, "the file is not the one that was served");
        assert_eq!(
            fs::read_to_string(self.path("Model.gguf.sha256")).unwrap(),
            format!("{}  Model.gguf\n", sum(content))
        );
        assert_eq!(self.files(), ["Model.gguf", "Model.gguf.sha256"].map(String::from).into());
    }

    /// Pull, and return why the only source failed.
    fn expect_failure(&mut self) -> SourceError {
        match self.pull() {
            Err(PullError::AllFailed { mut failures, .. }) => {
                assert_eq!(failures.len(), 1);
                failures.remove(0).1
            }
            other => panic!("{other:?}\n{:?}", self.told.messages),
        }
    }

    /// What lies on the shelf, but for the lock.
    fn files(&self) -> BTreeSet<String> {
        let Ok(files) = fs::read_dir(self.shelf().root()) else { return BTreeSet::new() };
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != ".Model.lock").collect()
    }

    fn part_bytes(&self) -> Option<u64> {
        fs::metadata(self.path("Model.gguf.part")).ok().map(|meta| meta.len())
    }

    fn was_told(&self, what: &str) -> bool {
        self.told.messages.iter().any(|message| message.contains(what))
    }
}
