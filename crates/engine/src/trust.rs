//! The known-answer check: does a device compute what the CPU computes?
//!
//! A driver can be wrong without failing: the text still reads like text. So a device answers a few fixed
//! prompts before it serves, and its distributions of the next token are compared with the CPU's. Texts are
//! useless for that (two good backends swap near-equal tokens at once); distributions are not. The measure is
//! the Kullback–Leibler divergence KL(cpu ‖ device) in nats over the whole vocabulary, and the worst prompt
//! counts.

use crate::handle::{EngineError, Worker};
use crate::request::Prompt;

/// Largest divergence of a trusted device, in nats. Good ones differ by the order of their sums: 0.0076 was seen
/// on a Vulkan device, 0.0098 on the CPU with flash attention and other threads, both on a 4-bit 135M model, where
/// small size and few bits make it largest. Every logit off by up to 1 gave 0.11 there. Five times the former is
/// half of the latter.
pub const KL_NATS_MAX: f64 = 0.05;
/// How many of the ten likeliest tokens both must share, as a share. KL weighs tokens by probability; on a
/// very sure prompt it hides errors in all the others, and this does not.
pub const TOP10_OVERLAP_MIN: f64 = 0.6;
/// How many likeliest tokens are compared.
const TOP: usize = 10;
/// How far the probabilities of an answer may sum from one: sums in f32 over 262k tokens stay well below.
const NORM_ERROR_MAX: f64 = 0.01;

/// The questions: prose, code and a list, so that the next token is once open, once nearly certain and once in
/// between.
pub const PROMPTS: [&str; 3] = [
    "The lighthouse keeper counted the ships that passed in the night, and in the morning she wrote down",
    "fn largest(numbers: &[i32]) -> Option<i32> {\n    let mut best = None;\n    for &n in numbers {\n        if",
    "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday,",
];

/// What the comparison says about a device.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// KL(cpu ‖ device) of the worst prompt, in nats; infinite where the device gave no finite numbers.
    pub kl_nats: f64,
    /// Share of the ten likeliest tokens that both name, of the worst prompt.
    pub top10_overlap: f64,
    /// Whether the device may serve.
    pub trusted: bool,
    /// Why, in words with the figures.
    pub why: String,
}

impl Verdict {
    fn distrusted(why: String) -> Self {
        Self { kl_nats: f64::INFINITY, top10_overlap: 0.0, trusted: false, why }
    }

    /// The worse of two verdicts on one device.
    fn worse(self, other: Self) -> Self {
        let kl_nats = self.kl_nats.max(other.kl_nats);
        let top10_overlap = self.top10_overlap.min(other.top10_overlap);
        let blamed = match (self.trusted, other.trusted) {
            (false, _) => self,
            (true, false) => other,
            (true, true) if self.kl_nats >= other.kl_nats => self,
            (true, true) => other,
        };
        Self { kl_nats, top10_overlap, ..blamed }
    }
}

/// Compare one distribution with the reference: natural log-probabilities over the same vocabulary.
pub fn compare(reference: &[f32], device: &[f32]) -> Verdict {
    if reference.len() != device.len() || reference.len() < TOP {
        let (theirs, ours) = (device.len(), reference.len());
        return Verdict::distrusted(format!("the device answered {theirs} numbers, the reference {ours}"));
    }
    for (name, logprobs) in [("reference", reference), ("device", device)] {
        // Minus infinity is a probability of zero; NaN and plus infinity are no probabilities.
        if let Some(token) = logprobs.iter().position(|p| p.is_nan() || *p == f32::INFINITY) {
            return Verdict::distrusted(format!("the {name}'s number for token {token} is not finite"));
        }
        let sum: f64 = logprobs.iter().map(|&p| f64::from(p).exp()).sum();
        if (sum - 1.0).abs() > NORM_ERROR_MAX {
            return Verdict::distrusted(format!("the {name}'s probabilities sum to {sum:.3}"));
        }
    }
    let kl_nats: f64 = reference
        .iter()
        .zip(device)
        .filter(|(p, _)| **p > f32::NEG_INFINITY)
        .map(|(&p, &q)| f64::from(p).exp() * (f64::from(p) - f64::from(q)))
        .sum::<f64>()
        .max(0.0);
    let likeliest = top(reference);
    let shared = top(device).iter().filter(|token| likeliest.contains(token)).count();
    let top10_overlap = shared as f64 / TOP as f64;
    let trusted = kl_nats <= KL_NATS_MAX && top10_overlap >= TOP10_OVERLAP_MIN;
    let why = format!(
        "KL(cpu, device) is {kl_nats:.4} nats (at most {KL_NATS_MAX}), {shared} of the {TOP} likeliest tokens agree \
         (at least {:.0})",
        TOP10_OVERLAP_MIN * TOP as f64
    );
    Verdict { kl_nats, top10_overlap, trusted, why }
}

fn top(logprobs: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logprobs.len()).collect();
    order.select_nth_unstable_by(TOP - 1, |&a, &b| logprobs[b].total_cmp(&logprobs[a]));
    order.truncate(TOP);
    order
}

/// The answers of a worker to all [`PROMPTS`], in their order.
///
/// # Errors
/// Where it did not answer; numbers that are not finite may already be an error there.
pub async fn answers(worker: &Worker) -> Result<Vec<Vec<f32>>, EngineError> {
    let mut answers = Vec::with_capacity(PROMPTS.len());
    for prompt in PROMPTS {
        answers.push(worker.score(Prompt::text(prompt)).await?);
    }
    Ok(answers)
}

/// Compare a device's answers with the reference's, prompt by prompt; the worst counts.
pub fn judge(reference: &[Vec<f32>], device: &[Vec<f32>]) -> Verdict {
    if reference.len() != PROMPTS.len() || device.len() != PROMPTS.len() {
        let (theirs, ours) = (device.len(), reference.len());
        return Verdict::distrusted(format!(
            "{theirs} answers against {ours}, there are {} prompts",
            PROMPTS.len()
        ));
    }
    let verdicts = reference.iter().zip(device).map(|(reference, device)| compare(reference, device));
    verdicts.reduce(Verdict::worse).unwrap_or_else(|| Verdict::distrusted("there are no prompts".into()))
}

/// Ask `candidate` the known questions and compare with `reference`, the CPU's [`answers`] for the same model.
///
/// # Errors
/// Where the candidate died or could not be asked. One that answers that its numbers are not finite is
/// distrusted, not an error.
pub async fn check(candidate: &Worker, reference: &[Vec<f32>]) -> Result<Verdict, EngineError> {
    match answers(candidate).await {
        Ok(answers) => Ok(judge(reference, &answers)),
        Err(EngineError::Score(why)) => Ok(Verdict::distrusted(format!("the device gave no answer: {why}"))),
        Err(error) => Err(error),
    }
}

/// [`check`] with the reference asked on the spot: a CPU worker with the same model.
///
/// # Errors
/// As [`check`], for both workers.
pub async fn check_against(candidate: &Worker, reference: &Worker) -> Result<Verdict, EngineError> {
    check(candidate, &answers(reference).await?).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Log-probabilities of made-up logits, spread like a language model's: few likely, many not.
    fn distribution(change: impl Fn(usize, f64) -> f64) -> Vec<f32> {
        let logits: Vec<f64> = (0..5000u64)
            .map(|i| {
                let noise = (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / (1 << 24) as f64;
                change(i as usize, 25.0 * noise.powi(4))
            })
            .collect();
        let sum = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
        logits.into_iter().map(|l| (l - sum) as f32).collect()
    }

    fn wobble(size: f64) -> impl Fn(usize, f64) -> f64 {
        move |i, logit| logit + size * ((i as f64 * 12.9898).sin() * 43_758.545).fract()
    }

    #[test]
    fn verdicts() {
        let honest = distribution(|_, l| l);
        let mut nan = honest.clone();
        nan[77] = f32::NAN;
        let mut infinite = honest.clone();
        infinite[5] = f32::INFINITY;
        let mut zero = honest.clone();
        zero[3] = f32::NEG_INFINITY;
        let half: Vec<f32> = honest.iter().map(|p| p - 0.7).collect();
        let likeliest = top(&honest)[0];
        let cases = [
            ("itself", honest.clone(), true, "KL"),
            ("rounding", distribution(wobble(0.02)), true, "KL"),
            ("noise of a logit", distribution(wobble(4.0)), false, "KL"),
            (
                "one likely token lost",
                distribution(|i, l| if i == likeliest { l - 9.0 } else { l }),
                false,
                "KL",
            ),
            ("uniform", distribution(|_, _| 0.0), false, "KL"),
            ("a token impossible on the device", zero, false, "inf"),
            ("NaN", nan, false, "token 77 is not finite"),
            ("plus infinity", infinite, false, "token 5 is not finite"),
            ("not normalised", half, false, "sum to 0.497"),
            ("another vocabulary", honest[1..].to_vec(), false, "4999 numbers"),
        ];
        for (name, device, trusted, part) in cases {
            let verdict = compare(&honest, &device);
            assert_eq!(verdict.trusted, trusted, "{name}: {verdict:?}");
            assert!(verdict.why.contains(part), "{name}: {verdict:?}");
        }
    }

    #[test]
    fn kl_is_the_textbook_value() {
        // p = (1/2, 1/2, 0…), q = (1/4, 3/4, 0…): KL = ½ ln 2 + ½ ln 2/3.
        let pair = |a: f32, b: f32| {
            let mut p = vec![f32::NEG_INFINITY; 16];
            (p[0], p[1]) = (a.ln(), b.ln());
            p
        };
        let verdict = compare(&pair(0.5, 0.5), &pair(0.25, 0.75));
        assert!((verdict.kl_nats - 0.5 * (2f64.ln() + (2f64 / 3.0).ln())).abs() < 1e-6, "{verdict:?}");
    }

    #[test]
    fn the_worst_prompt_counts() {
        let honest = distribution(|_, l| l);
        let wrong = distribution(wobble(4.0));
        let all = vec![honest.clone(); PROMPTS.len()];
        assert!(judge(&all, &all).trusted);
        for at in 0..PROMPTS.len() {
            let mut device = all.clone();
            device[at].clone_from(&wrong);
            let verdict = judge(&all, &device);
            assert!(!verdict.trusted && verdict.kl_nats > KL_NATS_MAX, "wrong at {at}: {verdict:?}");
        }
        assert!(!judge(&all, &all[1..]).trusted);
    }
}
