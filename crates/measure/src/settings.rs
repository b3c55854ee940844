//! The settings of a worker that change its speed and not its answer.
//!
//! Which is best depends on device, model and workload: on one CPU flash attention made prefill 28 % faster and
//! sixteen samples sharing a prompt almost three times slower. So nothing here knows which is better; [`crate::tune`]
//! and [`crate::bench`] measure the rows of [`CANDIDATES`].

use qeil_engine::spec::LoadSpec;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One combination of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Settings {
    /// [`LoadSpec::flash_attention`].
    pub flash_attention: bool,
    /// [`LoadSpec::kv_unified`].
    pub kv_unified: bool,
}

/// What is tried, in this order; of two that are equally fast the earlier one is taken.
pub const CANDIDATES: &[Settings] = &[
    Settings { flash_attention: false, kv_unified: true },
    Settings { flash_attention: true, kv_unified: true },
    Settings { flash_attention: false, kv_unified: false },
    Settings { flash_attention: true, kv_unified: false },
];

impl Settings {
    /// Put them into a spec.
    pub fn apply(self, spec: &mut LoadSpec) {
        spec.flash_attention = self.flash_attention;
        spec.kv_unified = self.kv_unified;
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
        write!(f, "{attention}, {kv}")
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
