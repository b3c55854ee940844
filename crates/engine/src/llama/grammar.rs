//! Grammars: llama.cpp's own, used to judge tokens that we have drawn.

use super::Grammar;
use crate::request::Token;
use llama_cpp_sys_2 as sys;
use std::ffi::CString;

/// llama.cpp's grammar sampler, and a buffer for its candidates.
pub(super) struct Gbnf {
    raw: *mut sys::llama_sampler,
    all: Vec<sys::llama_token_data>,
}

impl Drop for Gbnf {
    fn drop(&mut self) {
        // SAFETY: created by init or clone, freed once.
        unsafe { sys::llama_sampler_free(self.raw) }
    }
}

impl Gbnf {
    /// Compile a grammar with root rule `root`; `None` where it is not valid GBNF.
    ///
    /// # Safety
    /// `vocab` must stay alive as long as the grammar does.
    pub(super) unsafe fn compile(vocab: *const sys::llama_vocab, text: &str) -> Option<Self> {
        let text = CString::new(text).ok()?;
        // SAFETY: two NUL-terminated strings and a live vocabulary.
        let raw = unsafe { sys::llama_sampler_init_grammar(vocab, text.as_ptr(), c"root".as_ptr()) };
        (!raw.is_null()).then(|| Self { raw, all: Vec::new() })
    }

    fn apply(&mut self) {
        let mut array = sys::llama_token_data_array {
            data: self.all.as_mut_ptr(),
            size: self.all.len(),
            selected: -1,
            sorted: false,
        };
        // SAFETY: an array of `size` candidates that outlives the call; the grammar sampler changes logits only.
        unsafe { sys::llama_sampler_apply(self.raw, &mut array) }
    }
}

impl Grammar for Gbnf {
    fn allows(&mut self, token: Token) -> bool {
        self.all.clear();
        self.all.push(sys::llama_token_data { id: token, logit: 0.0, p: 0.0 });
        self.apply();
        self.all[0].logit.is_finite()
    }

    fn mask(&mut self, logits: &mut [f32]) {
        self.all.clear();
        let candidates = logits.iter().enumerate();
        self.all.extend(candidates.map(|(i, &logit)| sys::llama_token_data {
            id: i as Token,
            logit,
            p: 0.0,
        }));
        self.apply();
        for candidate in &self.all {
            if let Some(logit) = usize::try_from(candidate.id).ok().and_then(|i| logits.get_mut(i)) {
                *logit = candidate.logit;
            }
        }
    }

    fn accept(&mut self, token: Token) {
        // SAFETY: only called with tokens that `allows` or `mask` let pass; anything else would throw inside.
        unsafe { sys::llama_sampler_accept(self.raw, token) }
    }

    fn duplicate(&self) -> Box<dyn Grammar> {
        // SAFETY: clones a live sampler.
        Box::new(Self { raw: unsafe { sys::llama_sampler_clone(self.raw) }, all: Vec::new() })
    }
}
