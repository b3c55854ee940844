//! The settings of a worker that change its speed and not its answer (beyond rounding: [`crate::tune`] checks).
//!
//! Which is best depends on device, model and workload: on one CPU flash attention made prefill 28 % faster and
//! sixteen samples sharing a prompt almost three times slower. So nothing here knows which is better; [`crate::tune`]
//! and [`crate::bench`] measure the rows of [`CANDIDATES`].

use crate::error::MeasureError;
use crate::weights::WeightCache;
use qeil_engine::handle::Launch;
use qeil_engine::spec::{LoadSpec, WeightFormat};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One combination of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// Format of the weights in memory; `None` for the file's own.
    #[serde(default)]
    pub weights: Option<WeightFormat>,
    /// [`LoadSpec::flash_attention`].
    pub flash_attention: bool,
    /// [`LoadSpec::kv_unified`].
    pub kv_unified: bool,
}

/// What is tried, in this order; of two that are equally fast the earlier one is taken. Other formats of the weights
/// ([`crate::weights::FORMATS`]) are tried on top of the best of these.
pub const CANDIDATES: &[Settings] = &[
    Settings { weights: None, flash_attention: false, kv_unified: true },
    Settings { weights: None, flash_attention: true, kv_unified: true },
    Settings { weights: None, flash_attention: false, kv_unified: false },
    Settings { weights: None, flash_attention: true, kv_unified: false },
];

impl Settings {
    /// Put them into a spec. Where the weights' format is not the file's own, the spec's model becomes the copy in
    /// `cache`, which is written now if it is not there.
    ///
    /// # Errors
    /// When the copy cannot be made.
    pub async fn apply(
        self,
        launch: &Launch,
        cache: Option<&WeightCache>,
        spec: &mut LoadSpec,
    ) -> Result<(), MeasureError> {
        if let (Some(format), Some(cache)) = (self.weights, cache) {
            spec.model = cache.copy(launch, &spec.model, format, spec.threads).await?;
        }
        spec.flash_attention = self.flash_attention;
        spec.kv_unified = self.kv_unified;
        Ok(())
    }

    /// The candidates for a workload of `samples` samples, with flash attention fixed if it is given. The layout of
    /// the KV buffer means nothing to a single sequence.
    pub fn candidates(samples: u32, flash_attention: Option<bool>) -> Vec<Self> {
        CANDIDATES
            .iter()
            .filter(|c| flash_attention.is_none_or(|fixed| c.flash_attention == fixed))
            .filter(|c| samples > 1 || c.kv_unified)
            .copied()
            .collect()
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attention = if self.flash_attention { "flash attention on" } else { "flash attention off" };
        let kv = if self.kv_unified { "unified KV" } else { "separate KV" };
        match self.weights {
            None => write!(f, "{attention}, {kv}"),
            Some(format) => write!(f, "{attention}, {kv}, weights as {}", format.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_by_workload() {
        for (samples, fixed, expected) in
            [(8, None, 4), (8, Some(true), 2), (8, Some(false), 2), (1, None, 2), (1, Some(true), 1)]
        {
            let found = Settings::candidates(samples, fixed);
            assert_eq!(found.len(), expected, "{samples} samples, fixed {fixed:?}: {found:?}");
            assert!(found.iter().all(|c| fixed.is_none_or(|f| c.flash_attention == f)));
        }
    }

    #[test]
    fn a_candidate_stands_once() {
        for (i, a) in CANDIDATES.iter().enumerate() {
            assert!(!CANDIDATES[i + 1..].contains(a), "{a} twice");
        }
    }
}
