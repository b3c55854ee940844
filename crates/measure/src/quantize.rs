//! A variant of a model with its weights in another format, and how far its answers are from the original's.
//!
//! Fewer bits are another model: it may be faster and good enough, but that is for its user to say, with figures. So
//! the variant is named after its format, its file says what it was made from, and beside it lies a small record: the
//! divergence of its next-token distributions from the original's over a fixed set of positions, and how often both
//! name the same likeliest token.
//!
//! The positions are prefixes of six texts of our own, cut between words: prose, speech, code, a table, a sum and a
//! list, from a few words to some eighty tokens. Both models compute on the CPU under the same settings, so what is
//! measured is the weights and nothing else.

use crate::checksum::checksum;
use crate::error::MeasureError;
use qeil_engine::ENGINE_VERSION;
use qeil_engine::handle::{Launch, Worker, transcode};
use qeil_engine::request::Prompt;
use qeil_engine::spec::{LoadSpec, TEXT_BYTES_MAX, TranscodeSpec, WeightFormat};
pub use qeil_engine::trust::KL_NATS_MAX;
use qeil_engine::trust::compare;
use qeil_model::facts::QUANTISED_FROM_KEY;
use qeil_model::{ModelFacts, inspect};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Version of [`TEXTS`] and of how they are cut: figures of different versions are not compared.
pub const PROMPTS_VERSION: u32 = 1;
/// Positions scored in each text.
const CUTS: usize = 8;
/// Words before the first of them: a model needs some context to be sure of anything.
const WORDS_MIN: usize = 4;
/// Context of the workers that score: the longest text has about a hundred tokens, up to four times as many where a
/// vocabulary has little but bytes.
const CONTEXT_TOKENS: u32 = 1024;
/// Largest record believed to be ours: it takes half a kilobyte.
const RECORD_BYTES_MAX: u64 = 64 << 10;

/// The texts whose prefixes are scored.
pub const TEXTS: [&str; 6] = [
    "The ferry left the island at six in the morning, before the bakery had opened, and by the time the sun stood above \
     the water the passengers had finished the coffee that the captain kept for them in a large blue can. Nobody spoke \
     much. The old woman who sold cheese on the mainland counted her baskets twice and then once more.",
    "\"Did you lock the door?\" she asked. \"I thought you did,\" he said, and both of them turned around and looked at \
     the house, where a light was still burning in the kitchen. \"Then we have to go back,\" she said. \"We always have \
     to go back.\" He laughed, took the keys out of his pocket and gave them to her.",
    "def mean(values):\n    \"\"\"The arithmetic mean of a list of numbers.\"\"\"\n    if not values:\n        raise \
     ValueError(\"the mean of nothing\")\n    total = 0.0\n    for value in values:\n        total += value\n    return \
     total / len(values)\n\n\ndef variance(values):\n    middle = mean(values)\n    return mean([(value - middle) ** 2 \
     for value in values])\n",
    "| planet | moons | day in hours |\n| --- | --- | --- |\n| Mercury | 0 | 4223 |\n| Venus | 0 | 2802 |\n| Earth | 1 \
     | 24 |\n| Mars | 2 | 25 |\n| Jupiter | 95 | 10 |\n| Saturn | 146 | 11 |\n| Uranus | 28 | 17 |\n| Neptune | 16 | 16 |\n",
    "Question: A box holds 12 eggs. A cook uses 5 eggs for a cake and 3 eggs for breakfast. How many eggs are left in \
     the box? Answer: The cook uses 5 + 3 = 8 eggs. The box had 12 eggs, so 12 - 8 = 4 eggs are left. The answer is 4. \
     Question: A train has 9 cars with 40 seats each. How many seats are there? Answer: There are 9 times 40 = 360 seats.",
    "How to repair a flat bicycle tyre: 1. Turn the bicycle over and take the wheel out. 2. Lift one side of the tyre \
     over the rim with two levers. 3. Pull out the tube, pump it up and hold it under water: where bubbles rise, there \
     is the hole. 4. Dry the place, roughen it with sandpaper and put glue on it. 5. Press the patch on and wait.",
];

/// How far a variant is from the model it was made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Checksum of the original's file.
    pub original_sha256: String,
    /// Checksum of the variant's file.
    pub variant_sha256: String,
    /// Bytes of the variant's file.
    pub variant_bytes: u64,
    /// Format of the variant, as llama.cpp names it.
    pub format: String,
    /// KL(original ‖ variant) of the next-token distributions, in nats: mean over the positions.
    pub kl_nats_mean: f64,
    /// The same on the worst position.
    pub kl_nats_max: f64,
    /// Share of positions at which both name the same likeliest token.
    pub top1_agreement: f64,
    /// Positions that were scored.
    pub positions: u32,
    /// [`PROMPTS_VERSION`] they were taken from.
    pub prompts_version: u32,
    /// Version of the engine that computed them.
    pub engine_version: String,
}

impl Quality {
    /// Where the record of `model` lies: `MODEL.quality.json`.
    pub fn path_beside(model: &Path) -> PathBuf {
        let mut name = model.as_os_str().to_owned();
        name.push(".quality.json");
        name.into()
    }

    /// The record beside `model`, if there is one.
    ///
    /// # Errors
    /// It cannot be read, is no such record, or speaks of a file of another size (checksums are not computed).
    pub fn beside(model: &Path) -> Result<Option<Self>, MeasureError> {
        let path = Self::path_beside(model);
        let wrong = |why: String| MeasureError::Quality { path: path.clone(), why };
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(RECORD_BYTES_MAX).read_to_string(&mut text)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(MeasureError::File { path, source }),
            Ok(_) => {}
        }
        let quality: Self = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        let bytes = fs::metadata(model).map_err(failed(model))?.len();
        if bytes != quality.variant_bytes {
            let recorded = quality.variant_bytes;
            return Err(wrong(format!("it speaks of a file of {recorded} bytes, this one has {bytes}")));
        }
        Ok(Some(quality))
    }

    /// Keep it beside `model`; the record appears only when it is whole.
    fn keep(&self, model: &Path) -> Result<(), MeasureError> {
        let path = Self::path_beside(model);
        let mut part = path.clone().into_os_string();
        part.push(".part");
        let text = serde_json::to_string_pretty(self).map_err(io::Error::from).map_err(failed(&path))?;
        fs::write(&part, text + "\n").and_then(|()| fs::rename(&part, &path)).map_err(failed(&path))
    }
}

/// What to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantizePlan {
    /// The model.
    pub model: PathBuf,
    /// The format of its large tensors.
    pub format: WeightFormat,
    /// The file to write.
    pub out: PathBuf,
    /// Threads.
    pub threads: u32,
}

impl QuantizePlan {
    /// A plan whose variant lies beside the model, named after its format.
    pub fn beside(model: PathBuf, format: WeightFormat) -> Self {
        let stem = model.file_stem().unwrap_or_default().to_string_lossy();
        let out = model.with_file_name(format!("{stem}-{}.gguf", format.name()));
        Self { threads: LoadSpec::new("", "").threads, model, format, out }
    }
}

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The file is being written.
    Writing,
    /// The original answers.
    ScoringOriginal,
    /// The variant answers.
    ScoringVariant,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quantized {
    /// The variant's file.
    pub path: PathBuf,
    /// Its name inside the file.
    pub name: String,
    /// Bytes of the original's tensors.
    pub original_weight_bytes: u64,
    /// Bytes of its own.
    pub weight_bytes: u64,
    /// How far it is from the original.
    pub quality: Quality,
}

/// Make the variant, compare it with the original and keep the record beside it.
///
/// # Errors
/// When the file cannot be read or written, llama.cpp cannot convert it, or either model gives no finite numbers.
pub async fn quantize(
    launch: &Launch,
    plan: &QuantizePlan,
    mut on_step: impl FnMut(Step),
) -> Result<Quantized, MeasureError> {
    if same_file(&plan.model, &plan.out) {
        return Err(MeasureError::NotComparable(format!(
            "{} would replace the original: give another file with --out",
            plan.out.display()
        )));
    }
    on_step(Step::Writing);
    let original_facts = inspect(&plan.model)?;
    let original_sha256 = checksum(&plan.model).await?;
    let name = variant_name(&plan.model, &original_facts, plan.format);
    let spec = TranscodeSpec {
        from: plan.model.clone(),
        to: plan.out.clone(),
        format: plan.format,
        threads: plan.threads,
        texts: vec![
            ("general.name".into(), name.clone()),
            (QUANTISED_FROM_KEY.into(), original_sha256.clone()),
        ],
    };
    // A record of what lay there before would speak of another file.
    match fs::remove_file(Quality::path_beside(&plan.out)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed(&plan.out)(error));
        }
        _ => {}
    }
    transcode(launch, spec).await?;
    let facts = inspect(&plan.out)?;

    on_step(Step::ScoringOriginal);
    let original = scores(launch, &plan.model, plan.threads).await?;
    on_step(Step::ScoringVariant);
    let variant = scores(launch, &plan.out, plan.threads).await?;
    let distance = distance(&original, &variant)?;
    let quality = Quality {
        original_sha256,
        variant_sha256: checksum(&plan.out).await?,
        variant_bytes: facts.file_bytes,
        format: plan.format.name().into(),
        kl_nats_mean: distance.kl_nats_mean,
        kl_nats_max: distance.kl_nats_max,
        top1_agreement: distance.top1_agreement,
        positions: original.len() as u32,
        prompts_version: PROMPTS_VERSION,
        engine_version: ENGINE_VERSION.into(),
    };
    quality.keep(&plan.out)?;
    Ok(Quantized {
        path: plan.out.clone(),
        name,
        original_weight_bytes: original_facts.weight_bytes,
        weight_bytes: facts.weight_bytes,
        quality,
    })
}

fn failed(path: &Path) -> impl Fn(io::Error) -> MeasureError {
    move |source| MeasureError::File { path: path.into(), source }
}

fn same_file(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The original's name with the format behind it, cut so that the format is never lost.
fn variant_name(model: &Path, facts: &ModelFacts, format: WeightFormat) -> String {
    let stem = || model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut name = facts.name.clone().unwrap_or_else(stem).replace('\0', " ");
    let room = TEXT_BYTES_MAX - 1 - format.name().len();
    while name.len() > room {
        name.pop();
    }
    format!("{name} {}", format.name())
}

/// All prefixes that are scored.
fn prefixes() -> Vec<&'static str> {
    TEXTS.iter().flat_map(|text| cuts(text)).collect()
}

/// [`CUTS`] prefixes of `text` at ends of words, evenly spread, the last one a word before its end.
fn cuts(text: &str) -> Vec<&str> {
    let ends: Vec<usize> = text
        .char_indices()
        .zip(text.chars().skip(1))
        .filter(|((_, c), next)| !c.is_whitespace() && next.is_whitespace())
        .map(|((at, c), _)| at + c.len_utf8())
        .collect();
    let usable = &ends[WORDS_MIN - 1..];
    (1..=CUTS).map(|cut| &text[..usable[cut * (usable.len() - 1) / CUTS]]).collect()
}

/// The model's distribution of the next token after each prefix.
async fn scores(launch: &Launch, model: &Path, threads: u32) -> Result<Vec<Vec<f32>>, MeasureError> {
    let spec = LoadSpec {
        context_tokens: CONTEXT_TOKENS,
        sequences: 1,
        prefix_cache_tokens: 0,
        threads,
        ..LoadSpec::new(model, "CPU")
    };
    let worker = Worker::start(launch, spec).await?;
    let mut scores = Vec::new();
    for prefix in prefixes() {
        scores.push(worker.score(Prompt::text(prefix)).await?);
    }
    worker.stop().await;
    Ok(scores)
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Distance {
    kl_nats_mean: f64,
    kl_nats_max: f64,
    top1_agreement: f64,
}

fn distance(original: &[Vec<f32>], variant: &[Vec<f32>]) -> Result<Distance, MeasureError> {
    let (mut sum, mut kl_nats_max, mut agreed) = (0.0, 0.0f64, 0u32);
    for (reference, given) in original.iter().zip(variant) {
        let verdict = compare(reference, given);
        if !verdict.kl_nats.is_finite() {
            return Err(MeasureError::NotComparable(verdict.why));
        }
        sum += verdict.kl_nats;
        kl_nats_max = kl_nats_max.max(verdict.kl_nats);
        agreed += u32::from(likeliest(reference) == likeliest(given));
    }
    if original.is_empty() || original.len() != variant.len() {
        let why = format!("{} answers against {}", variant.len(), original.len());
        return Err(MeasureError::NotComparable(why));
    }
    let positions = original.len() as f64;
    Ok(Distance { kl_nats_mean: sum / positions, kl_nats_max, top1_agreement: f64::from(agreed) / positions })
}

fn likeliest(logprobs: &[f32]) -> Option<usize> {
    logprobs.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(token, _)| token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn positions_are_many_distinct_and_between_words() {
        let all = prefixes();
        assert_eq!(all.len(), CUTS * TEXTS.len());
        assert!(all.len() >= 32);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        for prefix in all {
            let text = TEXTS.iter().find(|text| text.starts_with(prefix)).unwrap();
            assert!(prefix.split_whitespace().count() >= WORDS_MIN, "{prefix:?}");
            assert!(!prefix.ends_with(char::is_whitespace), "{prefix:?}");
            assert!(text[prefix.len()..].starts_with(char::is_whitespace), "{prefix:?} ends within a word");
        }
    }

    /// Log-probabilities of twelve tokens, the first three as given, the rest sharing what is left.
    fn distribution(first: [f64; 3]) -> Vec<f32> {
        let rest = (1.0 - first.iter().sum::<f64>()) / 9.0;
        first.into_iter().chain([rest; 9]).map(|p| p.ln() as f32).collect()
    }

    #[test]
    fn distances() {
        let (a, b) = (distribution([0.5, 0.3, 0.1]), distribution([0.3, 0.5, 0.1]));
        let kl = 0.5 * (0.5f64 / 0.3).ln() + 0.3 * (0.3f64 / 0.5).ln();
        let same = distance(&[a.clone(), b.clone()], &[a.clone(), b.clone()]).unwrap();
        assert_eq!(same, Distance { kl_nats_mean: 0.0, kl_nats_max: 0.0, top1_agreement: 1.0 });
        let half = distance(&[a.clone(), a.clone()], &[a.clone(), b]).unwrap();
        assert!((half.kl_nats_mean - kl / 2.0).abs() < 1e-6, "{half:?}");
        assert!((half.kl_nats_max - kl).abs() < 1e-6, "{half:?}");
        assert_eq!(half.top1_agreement, 0.5);

        let nan = vec![f32::NAN; 12];
        for (original, variant) in [(vec![a.clone()], vec![nan]), (vec![a.clone()], vec![]), (vec![], vec![])]
        {
            assert!(matches!(distance(&original, &variant), Err(MeasureError::NotComparable(_))));
        }
    }

    #[test]
    fn records_are_believed_only_of_the_file_they_speak_of() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m.gguf");
        fs::write(&model, b"four").unwrap();
        assert_eq!(Quality::beside(&model).unwrap(), None);
        let quality = Quality {
            original_sha256: "a".into(),
            variant_sha256: "b".into(),
            variant_bytes: 4,
            format: "Q8_0".into(),
            kl_nats_mean: 0.01,
            kl_nats_max: 0.1,
            top1_agreement: 0.9,
            positions: 48,
            prompts_version: PROMPTS_VERSION,
            engine_version: "e".into(),
        };
        quality.keep(&model).unwrap();
        assert_eq!(Quality::beside(&model).unwrap(), Some(quality));
        fs::write(&model, b"fives").unwrap();
        let error = Quality::beside(&model).unwrap_err().to_string();
        assert!(error.contains("of 4 bytes, this one has 5"), "{error}");
        fs::write(Quality::path_beside(&model), "{").unwrap();
        assert!(matches!(Quality::beside(&model), Err(MeasureError::Quality { .. })));
    }

    #[test]
    fn the_format_is_never_lost_from_the_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        qeil_model::write::tiny_llama(&path, &qeil_model::write::TinyShape::default()).unwrap();
        let mut facts = inspect(&path).unwrap();
        for (name, expected) in [
            (None, "tiny Q4_K_M".to_owned()),
            (Some("A Model".to_owned()), "A Model Q4_K_M".to_owned()),
            (Some("ü".repeat(100)), format!("{} Q4_K_M", "ü".repeat(60))),
        ] {
            facts.name = name;
            assert_eq!(variant_name(&path, &facts, WeightFormat::Q4Km), expected);
        }
    }
}
