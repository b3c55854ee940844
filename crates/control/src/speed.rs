//! How fast a device really is, against its profile.
//!
//! Work done is counted in the seconds that the profile predicts for it, time is counted while the device has work and
//! scaled by its duty; both sums are forgotten slowly, and their ratio is the slowness: 1 as the profile says, 2 half as
//! fast. Sums and not single steps, since tokens travel in groups and prompts are credited when their first token comes:
//! what one interval lacks the next one has.

/// Seconds of work over which the sums are forgotten: long against a prefill, short against a change worth planning for.
pub const MEMORY_S: f64 = 15.0;
/// Seconds of the profile's own word in the sums, so that the first token decides nothing.
pub const TRUST_IN_PROFILE_S: f64 = 2.0;
/// Bounds of the slowness that is believed.
pub const SLOWNESS: (f64, f64) = (0.1, 20.0);

/// The two sums.
#[derive(Debug, Clone)]
pub struct Speed {
    predicted_s: f64,
    taken_s: f64,
    /// Time up to which the time taken was counted.
    at_s: f64,
}

impl Default for Speed {
    fn default() -> Self {
        Self { predicted_s: TRUST_IN_PROFILE_S, taken_s: TRUST_IN_PROFILE_S, at_s: 0.0 }
    }
}

impl Speed {
    /// Time has passed in which the device had work (or had none) at this duty.
    pub fn pass(&mut self, now_s: f64, busy: bool, duty: f64) {
        let passed_s = (now_s - self.at_s).max(0.0);
        self.at_s = now_s;
        if !busy || passed_s == 0.0 {
            return;
        }
        let taken_s = passed_s * duty;
        let kept = (-taken_s / MEMORY_S).exp();
        self.taken_s = self.taken_s * kept + taken_s;
        self.predicted_s *= kept;
    }

    /// Work was done for which the profile predicts so many seconds.
    pub fn work(&mut self, predicted_s: f64) {
        if predicted_s.is_finite() && predicted_s > 0.0 {
            self.predicted_s += predicted_s;
        }
    }

    /// Time taken over time predicted.
    pub fn slowness(&self) -> f64 {
        let (least, most) = SLOWNESS;
        // What is forgotten is replaced by the profile's word.
        let trust_s = (TRUST_IN_PROFILE_S - self.predicted_s).max(0.0);
        ((self.taken_s + trust_s) / (self.predicted_s + trust_s).max(f64::MIN_POSITIVE)).clamp(least, most)
    }
}
