//! Prefixes kept for reuse across requests.
//!
//! An entry is a sequence in the engine's memory together with the tokens it holds. The cache is bounded in
//! tokens and in entries, least recently used out first. It never touches the engine: evicted sequences are
//! handed back to the caller, who frees them.

use crate::llama::Seq;
use crate::request::Token;

/// Most entries: each may keep a row of logits (a megabyte for a 262k vocabulary).
pub const ENTRIES_MAX: usize = 128;

/// A cached prefix.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The sequence that holds it.
    pub seq: Seq,
    /// Its tokens, from position 0.
    pub tokens: Vec<Token>,
    /// The distribution after its last token, where known: a request for exactly this prompt needs no step, and
    /// starts from exactly the numbers that the first one started from.
    pub logits: Option<Vec<f32>>,
}

/// Least recently used first.
#[derive(Debug, Default)]
pub struct PrefixCache {
    entries: Vec<Entry>,
    tokens_max: usize,
}

impl PrefixCache {
    /// An empty cache of at most `tokens_max` tokens; 0 keeps nothing.
    pub fn new(tokens_max: u32) -> Self {
        Self { entries: Vec::new(), tokens_max: tokens_max as usize }
    }

    /// Whether a prefix of this length could be kept at all.
    pub fn fits(&self, tokens: usize) -> bool {
        (1..=self.tokens_max).contains(&tokens)
    }

    /// Tokens held.
    pub fn tokens(&self) -> usize {
        self.entries.iter().map(|e| e.tokens.len()).sum()
    }

    /// Sequences held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry that shares the most leading tokens with `wanted`, and how many; it becomes the most recently
    /// used. With `whole`, only entries all of whose tokens are shared (memory that cannot be shortened).
    pub fn longest(&mut self, wanted: &[Token], whole: bool) -> Option<(&Entry, usize)> {
        let shared = |e: &Entry| e.tokens.iter().zip(wanted).take_while(|(a, b)| a == b).count();
        let (at, best) = self
            .entries
            .iter()
            .enumerate()
            .map(|(i, e)| (i, shared(e)))
            .filter(|&(i, n)| n > 0 && (!whole || n == self.entries[i].tokens.len()))
            .max_by_key(|&(_, n)| n)?;
        let entry = self.entries.remove(at);
        self.entries.push(entry);
        self.entries.last().map(|e| (e, best))
    }

    /// Keep an entry as the most recently used. Returns the sequences to free: those evicted for it, those whose
    /// tokens it contains, or its own if it cannot be kept.
    pub fn insert(&mut self, entry: Entry) -> Vec<Seq> {
        if !self.fits(entry.tokens.len()) {
            return vec![entry.seq];
        }
        let mut freed = Vec::new();
        self.entries.retain(|old| {
            let contained = entry.tokens.starts_with(&old.tokens);
            if contained {
                freed.push(old.seq);
            }
            !contained
        });
        while self.entries.len() >= ENTRIES_MAX || self.tokens() + entry.tokens.len() > self.tokens_max {
            freed.extend(self.evict());
        }
        self.entries.push(entry);
        freed
    }

    /// Drop the least recently used entry and return its sequence.
    pub fn evict(&mut self) -> Option<Seq> {
        (!self.entries.is_empty()).then(|| self.entries.remove(0).seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(seq: Seq, tokens: &[Token]) -> Entry {
        Entry { seq, tokens: tokens.to_vec(), logits: None }
    }

    #[test]
    fn finds_the_longest_and_evicts_the_oldest() {
        let mut cache = PrefixCache::new(8);
        assert_eq!(cache.insert(entry(0, &[1, 2, 3])), Vec::<Seq>::new());
        assert_eq!(cache.insert(entry(1, &[1, 9])), Vec::<Seq>::new());
        let hit = |cache: &mut PrefixCache, wanted: &[Token], whole| {
            cache.longest(wanted, whole).map(|(e, n)| (e.seq, n))
        };
        assert_eq!(hit(&mut cache, &[1, 2, 7], false), Some((0, 2)));
        assert_eq!(hit(&mut cache, &[1, 2, 7], true), None, "3 is not shared");
        assert_eq!(hit(&mut cache, &[1, 2, 3, 4], true), Some((0, 3)));
        assert_eq!(hit(&mut cache, &[5], false), None);
        // 0 was used last, so 1 goes first.
        assert_eq!(cache.insert(entry(2, &[6, 6, 6, 6])), [1]);
        assert_eq!(cache.tokens(), 7);
        assert_eq!(cache.insert(entry(3, &[1; 9])), [3], "larger than the cache");
        assert_eq!(cache.insert(entry(4, &[6, 6, 6, 6, 6])), [2], "replaces what it contains");
    }

    #[test]
    fn bounded_in_entries() {
        let mut cache = PrefixCache::new(u32::MAX);
        let freed: Vec<Seq> = (0..200).flat_map(|i| cache.insert(entry(i, &[i as Token]))).collect();
        assert_eq!((cache.len(), freed), (ENTRIES_MAX, (0..72).collect()));
    }
}
