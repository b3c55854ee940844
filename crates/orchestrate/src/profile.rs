//! A device's profile by a short trial, for a device that no sweep has measured.
//!
//! Four requests: one for warming up, one for a prefill, one sample decoding alone, four samples decoding together. Two
//! points give the straight line that the loop reckons with: seconds of a step, and further seconds for each sequence.
//! Seconds are measured; joules are those seconds at the watts given, an estimate, and so the profile is labelled one.

use qeil_control::config::Profile;
use qeil_engine::handle::{EngineError, Worker};
use qeil_engine::request::{GenerateRequest, Prompt, Sampling, Token, Usage};
use qeil_units::Provenance;

/// Tokens of the prompt that is timed: enough to fill a batch's arithmetic, few enough for a slow board.
const PROMPT_TOKENS: usize = 128;
/// Tokens that each sample decodes: a second or less on anything that can serve.
const DECODE_TOKENS: u32 = 16;
/// Samples that decode together in the second point.
const TOGETHER: u32 = 4;
/// The shortest time that is believed, seconds: a division by nothing would place everything on one device.
const LEAST_S: f64 = 1e-7;

/// Time a worker. `busy_w` and `idle_w` are the watts of its device at work and at rest.
///
/// # Errors
/// Where it cannot be asked.
pub async fn measure(worker: &Worker, busy_w: f64, idle_w: f64) -> Result<Profile, EngineError> {
    let text = "the rain fell on the roofs of the town and the river rose ".repeat(20);
    let mut prompt = worker.tokenize(Prompt::text(text)).await?;
    prompt.truncate(PROMPT_TOKENS.min(worker.loaded().context_tokens as usize / 4).max(2));
    ask(worker, &prompt[..2], 1, 2).await?;
    let prefill = ask(worker, &prompt, 1, 1).await?;
    let alone = ask(worker, &prompt[..2], 1, DECODE_TOKENS).await?;
    let samples = TOGETHER.min(worker.spec().sequences.saturating_sub(1)).max(1);
    let together = ask(worker, &prompt[..2], samples, DECODE_TOKENS).await?;
    let steps = f64::from(DECODE_TOKENS - 1);
    let (one_s, many_s) = (alone.decode_ms / 1e3 / steps, together.decode_ms / 1e3 / steps);
    let each_s = if samples > 1 { (many_s - one_s) / f64::from(samples - 1) } else { 0.0 };
    // Noise may make four cheaper than one; no device computes for nothing.
    let each_s = each_s.clamp(LEAST_S, one_s.max(LEAST_S));
    let step_s = (one_s - each_s).max(LEAST_S);
    let prefill_s_per_token = (prefill.prefill_ms / 1e3 / prompt.len() as f64).max(LEAST_S);
    Ok(Profile {
        prefill_s_per_token,
        prefill_j_per_token: prefill_s_per_token * busy_w,
        step_s,
        step_s_per_sequence: each_s,
        step_j: step_s * busy_w,
        step_j_per_sequence: each_s * busy_w,
        idle_w,
        provenance: Provenance::Estimated,
    })
}

async fn ask(worker: &Worker, prompt: &[Token], samples: u32, tokens: u32) -> Result<Usage, EngineError> {
    let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
    let mut request = GenerateRequest::new(Prompt::Tokens(prompt.to_vec()), samples, tokens, sampling);
    (request.ignore_end, request.reuse_prefix) = (true, false);
    Ok(worker.generate(request).await?.collect().await?.usage)
}
