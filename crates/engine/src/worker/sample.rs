//! From logits to one token.
//!
//! Our own sampler rather than llama.cpp's chain, for two reasons. The random number of token *t* of sample *s*
//! must depend on (seed, s, t) alone, so that a sample can move between workers; llama.cpp's generators carry
//! state. And sixteen samples of a 49k vocabulary are drawn after every step, so nothing here sorts or copies
//! the vocabulary: candidates are selected in one pass, and only they are sorted.
//!
//! Filters apply in the order in which [`Sampling`] lists them. Ties are broken by the lower token id, so that
//! the result does not depend on how candidates were selected.

use crate::llama::Grammar;
use crate::request::{Sampling, Token};
use std::cmp::Ordering;

/// Why no token could be drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// NaN or infinity among the model's logits: its numbers mean nothing.
    #[error("the model computed non-finite logits")]
    NonFinite,
    /// Every token is excluded by bias or grammar.
    #[error("grammar and logit biases allow no token here")]
    NothingAllowed,
}

/// A candidate with its (biased, penalised) logit.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    id: Token,
    logit: f32,
}

/// Descending logit, then ascending id.
fn rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// Draws tokens; holds only buffers, so one serves every sample of a worker.
#[derive(Debug, Default)]
pub struct Sampler {
    logits: Vec<f32>,
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// Draw token `t` of sample `s`.
    ///
    /// `logits` is the model's row; `recent` the latest tokens of the sequence, newest last (only the last
    /// `penalty_window` of them count).
    ///
    /// # Errors
    /// See [`SampleError`].
    pub fn draw(
        &mut self,
        logits: &[f32],
        sampling: &Sampling,
        recent: &[Token],
        grammar: Option<&mut (dyn Grammar + 'static)>,
        s: u32,
        t: u32,
    ) -> Result<Token, SampleError> {
        if !all_finite(logits) {
            return Err(SampleError::NonFinite);
        }
        let plain =
            sampling.logit_bias.is_empty() && (sampling.repetition_penalty == 1.0 || recent.is_empty());
        let mut row = std::mem::take(&mut self.logits);
        row.clear();
        if !plain || grammar.is_some() {
            row.extend_from_slice(logits);
            adjust(&mut row, sampling, recent);
        }
        let u = uniform(sampling.seed, s, t);
        let view: &[f32] = if row.is_empty() { logits } else { &row };
        let mut drawn = self.choose(view, sampling, u);
        // Checking one token against a grammar is cheap and nearly always enough; masking the vocabulary is not.
        if let (Ok(token), Some(grammar)) = (drawn, grammar)
            && !grammar.allows(token)
        {
            grammar.mask(&mut row);
            drawn = self.choose(&row, sampling, u);
        }
        self.logits = row;
        drawn
    }

    fn choose(&mut self, logits: &[f32], sampling: &Sampling, u: f64) -> Result<Token, SampleError> {
        let (best, max) = argmax(logits).ok_or(SampleError::NothingAllowed)?;
        if sampling.temperature == 0.0 || sampling.top_k == 1 {
            return Ok(best);
        }
        let inverse = 1.0 / sampling.temperature;
        let weight = |logit: f32| f64::from(((logit - max) * inverse).exp());
        self.select(logits, max, sampling);
        let candidates = &mut self.candidates;
        candidates.sort_unstable_by(rank);

        if sampling.top_p < 1.0 {
            // Mass within what top-k left, or within the whole vocabulary where it left everything.
            let total: f64 = if keeps_all(sampling.top_k, logits.len()) {
                logits.iter().map(|&logit| weight(logit)).sum()
            } else {
                candidates.iter().map(|c| weight(c.logit)).sum()
            };
            let wanted = f64::from(sampling.top_p) * total;
            let mut mass = 0.0;
            let keep = candidates.iter().position(|c| {
                mass += weight(c.logit);
                mass >= wanted
            });
            candidates.truncate(keep.map_or(candidates.len(), |at| at + 1));
        }
        if sampling.min_p > 0.0 {
            let least = f64::from(sampling.min_p);
            let keep = candidates.iter().take_while(|c| weight(c.logit) >= least).count();
            candidates.truncate(keep.max(1));
        }
        let total: f64 = candidates.iter().map(|c| weight(c.logit)).sum();
        let mut left = u * total;
        for candidate in candidates.iter() {
            left -= weight(candidate.logit);
            if left < 0.0 {
                return Ok(candidate.id);
            }
        }
        candidates.last().map(|c| c.id).ok_or(SampleError::NothingAllowed)
    }

    /// Fill `candidates` with a superset of what the filters keep, as small as one pass can make it; exactly the
    /// top k where top-k filters.
    fn select(&mut self, logits: &[f32], max: f32, sampling: &Sampling) {
        let candidates = &mut self.candidates;
        candidates.clear();
        // Below this logit nothing survives min-p, or, in a vocabulary of n, the nucleus: tokens less likely
        // than (1 - p)/n make up less than 1 - p together, and total mass is at least that of the best token.
        let ln = |x: f32| x.ln() * sampling.temperature;
        let floor_min_p = if sampling.min_p > 0.0 { max + ln(sampling.min_p) } else { f32::NEG_INFINITY };
        let floor_top_p = if sampling.top_p < 1.0 && keeps_all(sampling.top_k, logits.len()) {
            max + ln((1.0 - sampling.top_p) / logits.len() as f32)
        } else {
            f32::NEG_INFINITY
        };
        // Rounding must not drop a token that the exact filter keeps.
        let slack = 1e-3 * (1.0 + max.abs());
        // top-p after top-k needs all of the top k, so min-p may only cut early where top-p does not look.
        let floor = if sampling.top_p < 1.0 { floor_top_p } else { floor_min_p } - slack;
        let k = sampling.top_k as usize;
        if keeps_all(sampling.top_k, logits.len()) {
            let kept = logits.iter().enumerate().filter(|(_, l)| **l >= floor && **l > f32::NEG_INFINITY);
            candidates.extend(kept.map(|(i, &logit)| Candidate { id: i as Token, logit }));
            return;
        }
        // Running selection: gather up to 2k above the threshold, halve, raise the threshold to the k-th.
        let mut threshold = floor;
        for (i, &logit) in logits.iter().enumerate() {
            if logit < threshold || logit == f32::NEG_INFINITY {
                continue;
            }
            candidates.push(Candidate { id: i as Token, logit });
            if candidates.len() >= 2 * k {
                candidates.select_nth_unstable_by(k - 1, rank);
                candidates.truncate(k);
                threshold = candidates[k - 1].logit;
            }
        }
        if candidates.len() > k {
            candidates.select_nth_unstable_by(k - 1, rank);
            candidates.truncate(k);
        }
    }
}

fn keeps_all(top_k: u32, vocab: usize) -> bool {
    top_k == 0 || top_k as usize >= vocab
}

fn adjust(logits: &mut [f32], sampling: &Sampling, recent: &[Token]) {
    for &(token, bias) in &sampling.logit_bias {
        if let Some(logit) = usize::try_from(token).ok().and_then(|i| logits.get_mut(i)) {
            *logit += bias;
        }
    }
    let penalty = sampling.repetition_penalty;
    if penalty == 1.0 {
        return;
    }
    let from = recent.len().saturating_sub(sampling.penalty_window as usize);
    let mut seen: Vec<Token> = recent[from..].to_vec();
    seen.sort_unstable();
    seen.dedup();
    for token in seen {
        if let Some(logit) = usize::try_from(token).ok().and_then(|i| logits.get_mut(i)) {
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }
}

#[expect(clippy::eq_op, reason = "0 or NaN is what it is for")]
fn all_finite(logits: &[f32]) -> bool {
    // x - x is 0 for finite x and NaN else; sums in lanes so that the compiler can vectorise.
    let mut lanes = [0f32; 16];
    let chunks = logits.chunks_exact(16);
    let rest = chunks.remainder().iter().all(|x| x.is_finite());
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x - x;
        }
    }
    rest && lanes.iter().all(|&lane| lane == 0.0)
}

/// Index and value of the largest logit (the first of equals); `None` where all are negative infinity.
fn argmax(logits: &[f32]) -> Option<(Token, f32)> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let at = logits.iter().position(|&x| x == max)?;
    (max > f32::NEG_INFINITY).then_some((at as Token, max))
}

/// The uniform random number in [0, 1) of token `t` of sample `s` under `seed`.
///
/// Counter-based: the three numbers go through the finaliser of SplitMix64 (Steele, Lea and Flood 2014) one
/// after the other, which avalanches every input bit; 53 bits of the result make the number.
pub fn uniform(seed: u64, s: u32, t: u32) -> f64 {
    let mix = |mut z: u64| {
        z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let bits = mix(mix(seed) ^ (u64::from(s) << 32 | u64::from(t)));
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// Natural log-probabilities of a whole row.
pub fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let norm = log_normaliser(logits);
    logits.iter().map(|&x| (f64::from(x) - norm) as f32).collect()
}

/// Natural log of the sum of the exponentials of a row.
pub fn log_normaliser(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    f64::from(max) + logits.iter().map(|&x| f64::from((x - max).exp())).sum::<f64>().ln()
}

/// The `n` most likely tokens of a row with their log-probabilities, most likely first.
pub fn top_logprobs(logits: &[f32], norm: f64, n: usize) -> Vec<(Token, f32)> {
    let mut sampler = Sampler::default();
    let wide = Sampling { top_k: n as u32, min_p: 0.0, top_p: 1.0, ..Sampling::default() };
    if n == 0 {
        return Vec::new();
    }
    sampler.select(logits, 0.0, &wide);
    sampler.candidates.sort_unstable_by(rank);
    sampler.candidates.truncate(n);
    sampler.candidates.iter().map(|c| (c.id, (f64::from(c.logit) - norm) as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The filters by definition: sort everything, walk. What `choose` must equal.
    fn reference(logits: &[f32], sampling: &Sampling, u: f64) -> Token {
        let mut all: Vec<Candidate> =
            logits.iter().enumerate().map(|(i, &logit)| Candidate { id: i as Token, logit }).collect();
        all.sort_by(rank);
        let max = all[0].logit;
        if sampling.temperature == 0.0 {
            return all[0].id;
        }
        let inverse = 1.0 / sampling.temperature;
        let weight = |c: &Candidate| f64::from(((c.logit - max) * inverse).exp());
        if sampling.top_k > 0 {
            all.truncate(sampling.top_k as usize);
        }
        if sampling.top_p < 1.0 {
            let total: f64 = all.iter().map(weight).sum();
            let mut mass = 0.0;
            let mut keep = all.len();
            for (i, c) in all.iter().enumerate() {
                mass += weight(c);
                if mass >= f64::from(sampling.top_p) * total {
                    keep = i + 1;
                    break;
                }
            }
            all.truncate(keep);
        }
        if sampling.min_p > 0.0 {
            let keep = all.iter().filter(|c| weight(c) >= f64::from(sampling.min_p)).count();
            all.truncate(keep.max(1));
        }
        let total: f64 = all.iter().map(weight).sum();
        let mut left = u * total;
        for c in &all {
            left -= weight(c);
            if left < 0.0 {
                return c.id;
            }
        }
        all.last().unwrap().id
    }

    proptest! {
        #[test]
        fn equals_the_definition(
            logits in proptest::collection::vec(-12f32..12.0, 1..200),
            temperature in prop_oneof![Just(0.0f32), 0.1f32..3.0],
            top_k in prop_oneof![Just(0u32), 1u32..60],
            top_p in prop_oneof![Just(1.0f32), 0.05f32..0.999],
            min_p in prop_oneof![Just(0.0f32), 0.001f32..0.5],
            t in 0u32..1000,
        ) {
            let sampling = Sampling { temperature, top_k, top_p, min_p, seed: 7, ..Sampling::default() };
            let got = Sampler::default().draw(&logits, &sampling, &[], None, 3, t).unwrap();
            prop_assert_eq!(got, reference(&logits, &sampling, uniform(7, 3, t)));
        }
    }

    #[test]
    fn frequencies_follow_the_distribution() {
        let logits = [0.0f32, 1.0, 2.0, 3.0];
        let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Sampling::default() };
        let mut counts = [0f64; 4];
        let n = 40_000;
        for t in 0..n {
            counts[Sampler::default().draw(&logits, &sampling, &[], None, 0, t).unwrap() as usize] += 1.0;
        }
        let expected = log_softmax(&logits);
        // Pearson's chi-square with 3 degrees of freedom: 16.27 is its 99.9 % point.
        let chi2: f64 = counts
            .iter()
            .zip(&expected)
            .map(|(&seen, &l)| {
                let want = f64::from(n) * f64::from(l).exp();
                (seen - want).powi(2) / want
            })
            .sum();
        assert!(chi2 < 16.27, "chi-square {chi2}, counts {counts:?}");
    }

    #[test]
    fn random_numbers_depend_on_all_three_and_nothing_else() {
        assert_eq!(uniform(1, 2, 3).to_bits(), uniform(1, 2, 3).to_bits());
        let others = [uniform(2, 2, 3), uniform(1, 3, 3), uniform(1, 2, 4), uniform(1, 3, 2)];
        assert!(others.iter().all(|&u| u != uniform(1, 2, 3) && (0.0..1.0).contains(&u)));
    }

    #[test]
    fn non_finite_logits_are_an_error_wherever_they_are() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 15, 16, 32] {
                let mut logits = vec![0.5f32; 33];
                logits[at] = bad;
                let drawn = Sampler::default().draw(&logits, &Sampling::greedy(), &[], None, 0, 0);
                assert_eq!(drawn, Err(SampleError::NonFinite), "{bad} at {at}");
            }
        }
    }

    #[test]
    fn bias_and_penalty_move_the_choice() {
        let logits = [1.0f32, 2.0, 3.0];
        let draw = |sampling: &Sampling, recent: &[Token]| {
            Sampler::default().draw(&logits, sampling, recent, None, 0, 0).unwrap()
        };
        let banned = Sampling { logit_bias: vec![(2, f32::NEG_INFINITY)], ..Sampling::greedy() };
        assert_eq!(draw(&banned, &[]), 1);
        let all =
            Sampling { logit_bias: (0..3).map(|t| (t, f32::NEG_INFINITY)).collect(), ..Sampling::greedy() };
        let drawn = Sampler::default().draw(&logits, &all, &[], None, 0, 0);
        assert_eq!(drawn, Err(SampleError::NothingAllowed));
        let penalised = Sampling { repetition_penalty: 2.0, penalty_window: 2, ..Sampling::greedy() };
        assert_eq!(draw(&penalised, &[2]), 1, "3/2 < 2");
        assert_eq!(draw(&penalised, &[2, 0, 0]), 2, "outside the window");
    }

    #[test]
    fn top_logprobs_are_the_largest_in_order() {
        let logits = [0.0f32, 5.0, -1.0, 4.0, 5.0];
        let top = top_logprobs(&logits, log_normaliser(&logits), 3);
        assert_eq!(top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 4, 3]);
        assert!((top[0].1 - log_softmax(&logits)[1]).abs() < 1e-6);
    }
}
