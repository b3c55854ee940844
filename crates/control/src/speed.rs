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

    /// What was observed counts no more: the device was away.
    pub fn forget(&mut self) {
        *self = Self { at_s: self.at_s, ..Self::default() };
    }

    /// Time taken over time predicted.
    pub fn slowness(&self) -> f64 {
        let (least, most) = SLOWNESS;
        // What is forgotten is replaced by the profile's word.
        let trust_s = (TRUST_IN_PROFILE_S - self.predicted_s).max(0.0);
        ((self.taken_s + trust_s) / (self.predicted_s + trust_s).max(f64::MIN_POSITIVE)).clamp(least, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Works for so many seconds, with its work told every `told_s`, at this slowness and duty.
    fn worked(speed: &mut Speed, from_s: f64, seconds: f64, told_s: f64, slowness: f64, duty: f64) {
        let steps = (seconds / told_s) as u32;
        for step in 1..=steps {
            speed.pass(from_s + f64::from(step) * told_s, true, duty);
            speed.work(told_s * duty / slowness);
        }
    }

    #[test]
    fn slowness_is_found_and_follows() {
        for slowness in [0.5, 1.0, 3.0, 8.0] {
            for (told_s, duty) in [(0.05, 1.0), (1.0, 1.0), (0.5, 0.2)] {
                let mut speed = Speed::default();
                assert_eq!(speed.slowness(), 1.0);
                worked(&mut speed, 0.0, 400.0, told_s, slowness, duty);
                let got = speed.slowness();
                assert!((got / slowness - 1.0).abs() < 0.15, "{got} for {slowness} at {duty}");
            }
        }
        let mut speed = Speed::default();
        worked(&mut speed, 0.0, 100.0, 0.1, 4.0, 1.0);
        worked(&mut speed, 100.0, 60.0, 0.1, 1.0, 1.0);
        assert!((speed.slowness() - 1.0).abs() < 0.15, "{}", speed.slowness());
        worked(&mut speed, 160.0, 100.0, 0.1, 4.0, 1.0);
        speed.forget();
        assert_eq!(speed.slowness(), 1.0);
        worked(&mut speed, 260.0, 1.0, 0.1, 1.0, 1.0);
        assert!((speed.slowness() - 1.0).abs() < 1e-6, "the time before is not counted again");
    }

    #[test]
    fn time_without_work_and_nonsense_count_for_nothing_and_there_are_bounds() {
        let mut speed = Speed::default();
        speed.pass(1000.0, false, 1.0);
        speed.pass(900.0, true, 1.0);
        speed.work(f64::NAN);
        speed.work(-5.0);
        speed.work(f64::INFINITY);
        assert_eq!(speed.slowness(), 1.0);
        speed.pass(5000.0, true, 1.0);
        assert_eq!(speed.slowness(), SLOWNESS.1);
        let mut speed = Speed::default();
        speed.work(1e9);
        assert_eq!(speed.slowness(), SLOWNESS.0);
    }
}
