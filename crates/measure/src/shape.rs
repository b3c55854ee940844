//! What a piece of work needs room for.
//!
//! A worker's context is fixed when it loads, so the number of KV cells has to be known before. How many a request
//! needs depends on the layout: in one unified buffer k samples share the cells of their prompt; with a buffer for
//! each sequence llama.cpp divides the context evenly, so every sequence needs room for prompt and output.

use qeil_engine::spec::{CONTEXT_TOKENS_MAX, LoadSpec, OutOfBounds, QUEUE_REQUESTS_MAX, SEQUENCES_MAX};
use serde::{Deserialize, Serialize};

/// llama.cpp rounds the cells of a sequence up to a multiple of this (`GGML_PAD(n_ctx, 256)`).
const CELLS_MULTIPLE: u64 = 256;
/// Sequences beyond the samples: one that holds the prompt while samples are copied from it.
const SEQUENCES_SPARE: u32 = 1;

/// One request: a prompt and k samples of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shape {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Most tokens each sample may have.
    pub output_tokens: u32,
    /// Samples.
    pub samples: u32,
}

impl Shape {
    /// Set `spec`'s context and sequences so that this request fits, under the spec's own KV layout. With
    /// `own_prompts` it also fits as k separate requests, each holding a prompt of its own.
    ///
    /// # Errors
    /// When the request needs more sequences or cells than a worker may have.
    pub fn fit(&self, spec: &mut LoadSpec, own_prompts: bool) -> Result<(), OutOfBounds> {
        let bound = |field: &str, value: u64, least: u64, most: u64| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(OutOfBounds { field: field.into(), value, least, most })
            }
        };
        bound("samples", self.samples.into(), 1, SEQUENCES_MAX.into())?;
        let (prompt, output) = (u64::from(self.prompt_tokens), u64::from(self.output_tokens));
        let samples = u64::from(self.samples);
        let sequences = (self.samples + SEQUENCES_SPARE).min(SEQUENCES_MAX);
        let padded = |cells: u64| cells.div_ceil(CELLS_MULTIPLE) * CELLS_MULTIPLE;
        let cells = match (spec.kv_unified, own_prompts) {
            (true, false) => padded(prompt + samples * output + samples),
            (true, true) => padded(samples * (prompt + output + 1)),
            (false, _) => u64::from(sequences) * padded(prompt + output + 1),
        };
        bound("context tokens needed", cells, 1, CONTEXT_TOKENS_MAX.into())?;
        spec.sequences = sequences;
        spec.context_tokens = cells as u32;
        spec.batch_tokens = spec.batch_tokens.max(sequences);
        spec.ubatch_tokens = spec.ubatch_tokens.min(spec.batch_tokens);
        spec.prefix_cache_tokens = spec.prefix_cache_tokens.min(spec.context_tokens);
        spec.check()
    }
}

/// Samples of many prompts in flight at once, each perhaps alone with its prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowd {
    /// Tokens of the longest prompt.
    pub prompt_tokens: u32,
    /// Tokens that the longest sample may have, its prompt included.
    pub sequence_tokens: u32,
    /// Samples in flight.
    pub sequences: u32,
    /// Prompts that are kept for later samples.
    pub cached_prompts: u32,
}

impl Crowd {
    /// Set `spec`'s context, sequences, queue and prefix cache so that all of these fit at once, under the spec's own KV
    /// layout.
    ///
    /// # Errors
    /// When that needs more sequences or cells than a worker may have.
    pub fn fit(&self, spec: &mut LoadSpec) -> Result<(), OutOfBounds> {
        let (prompt, whole) = (u64::from(self.prompt_tokens), u64::from(self.sequence_tokens));
        // A request holds its prompt in a sequence of its own until its samples are forked from it.
        let wanted = u64::from(self.sequences) * 2 + u64::from(self.cached_prompts);
        let sequences = wanted.min(SEQUENCES_MAX.into());
        let cached = u64::from(self.cached_prompts) * prompt;
        let padded = |cells: u64| cells.div_ceil(CELLS_MULTIPLE) * CELLS_MULTIPLE;
        let cells = if spec.kv_unified {
            padded(u64::from(self.sequences) * (whole + 1) + cached)
        } else {
            sequences * padded(whole + 1)
        };
        if !(1..=u64::from(CONTEXT_TOKENS_MAX)).contains(&cells) {
            let most = CONTEXT_TOKENS_MAX.into();
            return Err(OutOfBounds { field: "context tokens needed".into(), value: cells, least: 1, most });
        }
        spec.sequences = sequences as u32;
        spec.context_tokens = cells as u32;
        spec.batch_tokens = spec.batch_tokens.max(spec.sequences);
        spec.ubatch_tokens = spec.ubatch_tokens.min(spec.batch_tokens);
        spec.prefix_cache_tokens = (cached.min(cells)) as u32;
        spec.queue_requests =
            self.sequences.clamp(spec.queue_requests.min(QUEUE_REQUESTS_MAX), QUEUE_REQUESTS_MAX);
        spec.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(
        shape: (u32, u32, u32),
        kv_unified: bool,
        own_prompts: bool,
    ) -> Result<(u32, u32), OutOfBounds> {
        let (prompt_tokens, output_tokens, samples) = shape;
        let mut spec = LoadSpec { kv_unified, ..LoadSpec::new("m.gguf", "CPU") };
        Shape { prompt_tokens, output_tokens, samples }.fit(&mut spec, own_prompts)?;
        Ok((spec.sequences, spec.context_tokens))
    }

    #[test]
    fn room_by_layout() {
        let cases = [
            // one sample: prompt + output + 1, rounded up to 256
            ((100, 27, 1), true, false, (2, 256)),
            ((200, 56, 1), true, false, (2, 512)),
            // eight samples share the prompt: 600 + 8·128 + 8 = 1632
            ((600, 128, 8), true, false, (9, 1792)),
            // or hold it eight times: 8·729 = 5832
            ((600, 128, 8), true, true, (9, 5888)),
            // separate buffers: nine times 729 rounded up to 768
            ((600, 128, 8), false, false, (9, 9 * 768)),
            ((600, 128, 8), false, true, (9, 9 * 768)),
            // the largest k leaves no spare sequence
            ((10, 10, 256), true, false, (256, 3072)),
        ];
        for (shape, unified, own, expected) in cases {
            assert_eq!(fitted(shape, unified, own), Ok(expected), "{shape:?} unified {unified} own {own}");
        }
    }

    #[test]
    fn room_for_a_crowd() {
        let crowd = Crowd { prompt_tokens: 60, sequence_tokens: 108, sequences: 16, cached_prompts: 16 };
        // unified, sequences, context, cache: 16·109 + 16·60 = 2704; 48 sequences of 109 rounded up to 256
        for (kv_unified, sequences, context, cache) in [(true, 48, 2816, 960), (false, 48, 48 * 256, 960)] {
            let mut spec = LoadSpec { kv_unified, ..LoadSpec::new("m.gguf", "CPU") };
            crowd.fit(&mut spec).unwrap();
            let found = (spec.sequences, spec.context_tokens, spec.prefix_cache_tokens, spec.queue_requests);
            assert_eq!(found, (sequences, context, cache, 64), "unified {kv_unified}");
        }
        let mut spec = LoadSpec::new("m.gguf", "CPU");
        let large = Crowd { sequences: 200, ..crowd };
        large.fit(&mut spec).unwrap();
        assert_eq!((spec.sequences, spec.queue_requests), (SEQUENCES_MAX, 200), "as many as there may be");
        let endless = Crowd { sequence_tokens: 1 << 20, ..crowd };
        assert_eq!(endless.fit(&mut spec).unwrap_err().field, "context tokens needed");
    }

    #[test]
    fn too_much_is_refused() {
        for (shape, field) in [
            ((10, 10, 0), "samples"),
            ((10, 10, 257), "samples"),
            ((10, 1 << 20, 16), "context tokens needed"),
            ((u32::MAX, u32::MAX, 256), "context tokens needed"),
        ] {
            assert_eq!(fitted(shape, true, false).unwrap_err().field, field, "{shape:?}");
        }
    }
}
