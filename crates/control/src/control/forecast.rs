//! When a request would likely be finished if it were let in now.
//!
//! Under overload a queue that is merely bounded still fills with requests that will be late, and then serves nobody in
//! time. So a request with a deadline of its own is refused, with the time after which it is worth coming again, when the
//! work that waits ahead of it takes too long. Work is counted in seconds of all serving devices together, as fast as they are seen
//! to be, and with the share of the allowed tokens that samples were seen to use. Fair queueing lets a client that has
//! nothing waiting overtake those that ask for much, so for such a one no more counts of each than it asks for itself.

use super::Control;
use crate::admission::RETRY_AFTER_S;
use crate::event::{Priority, Refusal, Request};
use crate::work::Live;
use std::collections::BTreeMap;

/// How fast the share of used tokens follows: some dozen samples.
const USED_SHARE: f64 = 0.05;
/// Part of the time to a deadline that may be planned for: forecasts of a loaded device err by some tenths.
const FORECAST_SHARE: f64 = 0.8;
/// Least duty that is reckoned with.
const DUTY_MIN: f64 = 0.01;

impl Control {
    /// A sample came to its own end.
    pub(super) fn note_used(&mut self, emitted: u32, tokens_max: u32) {
        let used = f64::from(emitted) / f64::from(tokens_max.max(1));
        self.used_share += USED_SHARE * (used.min(1.0) - self.used_share);
    }

    /// Seconds of all serving devices together for so many tokens to prefill and to decode; missing where none serves.
    fn together_s(&self, prefill: f64, decode: f64) -> Option<f64> {
        let mut rate = 0.0;
        for (device, config) in self.devices.iter().zip(&self.config.devices) {
            if !device.course.serves() {
                continue;
            }
            let profile = &config.profile;
            let share = device.course.load_share(self.now_s);
            let sequences = ((f64::from(config.sequences_max) * share) as u32).max(1);
            let token_s = profile.decode_step_s(sequences) / f64::from(sequences);
            let stretch = device.speed.slowness() / device.duty.max(DUTY_MIN);
            let alone_s = (prefill * profile.prefill_s_per_token + decode * token_s) * stretch;
            rate += 1.0 / alone_s.max(f64::MIN_POSITIVE);
        }
        (rate > 0.0).then_some(1.0 / rate)
    }

    /// Seconds that a sample takes on the quickest device, full as it is under load: steps with all sequences, between
    /// which the prompts of the others are computed.
    fn one_s(&self, request: &Request) -> f64 {
        let tokens = f64::from(request.tokens_max) * self.used_share;
        let loaded_s = |(device, config): (&super::Device, &crate::config::DeviceConfig)| {
            let profile = &config.profile;
            let sequences = config.sequences_max.max(1);
            let prompts =
                f64::from(request.prompt_tokens) * f64::from((sequences / request.samples.max(1)).max(1));
            let stretch = device.speed.slowness() / device.duty.max(DUTY_MIN);
            (prompts * profile.prefill_s_per_token + tokens * profile.decode_step_s(sequences)) * stretch
        };
        self.devices.iter().zip(&self.config.devices).map(loaded_s).fold(f64::INFINITY, f64::min)
    }

    /// Refuses a request that names a deadline which the work ahead of it leaves no time for.
    pub(super) fn check_forecast(&self, request: &Request) -> Result<(), Refusal> {
        let Some(deadline_s) = request.deadline_s else { return Ok(()) };
        let fresh = |request: &Request, samples: u32| {
            let tokens = f64::from(samples) * f64::from(request.tokens_max) * self.used_share;
            (f64::from(request.prompt_tokens), tokens)
        };
        let own = fresh(request, request.samples);
        // What waits of each client.
        let mut waiting: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
        for live in self.live.values() {
            let behind =
                live.request.priority == Priority::Batch && request.priority == Priority::Interactive;
            if live.waiting > 0 && !behind {
                let (of_prefill, of_decode) = fresh(&live.request, live.waiting);
                let sum = waiting.entry(live.request.client).or_default();
                *sum = (sum.0 + of_prefill, sum.1 + of_decode);
            }
        }
        // With nothing before it, it gets all there is, and coming again later would not help it.
        if waiting.is_empty() && (self.jobs.is_empty() || self.free_sequences() >= request.samples) {
            return Ok(());
        }
        // Who has nothing waiting is let past those that have much; who has something waits behind all of it, or what was
        // promised to the others would not hold.
        let newcomer = !waiting.contains_key(&request.client);
        let (mut prefill, mut decode) = own;
        for sum in waiting.values() {
            let counted = if newcomer { (sum.0.min(own.0), sum.1.min(own.1)) } else { *sum };
            prefill += counted.0;
            decode += counted.1;
        }
        let Some(wait_s) = self.together_s(prefill, decode) else { return Ok(()) };
        let (needed_s, usable_s) = (wait_s + self.one_s(request), deadline_s * FORECAST_SHARE);
        if needed_s <= usable_s {
            return Ok(());
        }
        let (least_s, most_s) = RETRY_AFTER_S;
        Err(Refusal::Overloaded { retry_after_s: (needed_s - usable_s).clamp(least_s, most_s) })
    }

    /// Samples that the serving devices could take at once.
    fn free_sequences(&self) -> u32 {
        let free = |(device, config): (&super::Device, &crate::config::DeviceConfig)| {
            let most = f64::from(config.sequences_max) * device.course.load_share(self.now_s);
            if device.course.serves() { (most as u32).max(1).saturating_sub(device.sequences) } else { 0 }
        };
        self.devices.iter().zip(&self.config.devices).map(free).sum()
    }

    /// Whether a waiting request will be late even if it is started now: it then goes behind those that will not.
    pub(super) fn is_late(&self, live: &Live) -> bool {
        self.now_s + self.one_s(&live.request) / FORECAST_SHARE > live.deadline_at_s
    }
}
