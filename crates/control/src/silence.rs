//! How long a device that has work gave no sign of it.
//!
//! The wait for a sign (a token, or a chunk of a prompt) is counted in work: in seconds at full duty. A device that is paced takes longer on the clock and
//! no longer by this count; were its deadline stretched by the duty in force instead, a guard that answers the heat of a
//! hung worker with the least duty would itself keep the hang from being seen. Only the margin beyond the prediction is
//! counted on the clock, since a worker past its prediction has no excuse in its pace.

use crate::faults::hang_after_s;

/// Seconds of tokens that a worker may tell together: it bundles by the clock, whatever its pace.
const TOGETHER_S: f64 = 0.5;
/// Least duty that the rest of a prediction reckons with.
const DUTY_MIN: f64 = 0.01;

/// The silence of one device.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silence {
    /// When the last sign came, seconds.
    since_s: f64,
    /// Up to when work was counted, seconds.
    at_s: f64,
    /// Work that it had time for since the last sign, seconds at full duty.
    work_s: f64,
    /// Most that was expected since a step ended, seconds at full duty: what the step in progress may compute.
    step_s: f64,
    /// Whether something was cancelled since: the step in progress goes on and may then give no sign.
    cut: bool,
    /// When the work became as much as the next sign takes, seconds.
    overdue_s: Option<f64>,
}

impl Silence {
    /// A step ended: tokens or a chunk of a prompt came.
    pub fn heard(&mut self, now_s: f64) {
        *self = Self { since_s: now_s, at_s: now_s, ..Self::default() };
    }

    /// It answered something else, a cancelled sample above all: it lives, and the step in progress goes on.
    pub fn answered(&mut self, now_s: f64) {
        *self = Self { since_s: now_s, at_s: now_s, step_s: self.step_s, cut: true, ..Self::default() };
    }

    /// It had nothing to do, and now it has; a step may still be in progress whose samples were all cancelled.
    pub fn begins(&mut self, now_s: f64) {
        if self.cut && self.work_s < self.step_s { self.answered(now_s) } else { self.heard(now_s) }
    }

    /// Time has passed at this duty; its next sign takes `expected_s` at full duty.
    pub fn pass(&mut self, now_s: f64, duty: f64, expected_s: f64) {
        self.step_s = self.step_s.max(expected_s);
        let expected_s = self.expected_s(expected_s);
        let passed_s = (now_s - self.at_s).max(0.0);
        self.at_s = self.at_s.max(now_s);
        let before_s = self.work_s;
        self.work_s += passed_s * duty;
        if self.work_s < expected_s {
            self.overdue_s = None;
        } else if self.overdue_s.is_none() {
            let beyond_s = (self.work_s - expected_s.max(before_s)) / duty.max(DUTY_MIN);
            self.overdue_s = Some(now_s - beyond_s);
        }
    }

    /// Seconds at full duty to the next sign: of the step in progress, or of the one after it.
    fn expected_s(&self, expected_s: f64) -> f64 {
        if self.cut { self.step_s + expected_s } else { self.step_s.max(expected_s) }
    }

    /// When it counts as hung if no sign comes and the duty stays, seconds; it is given so many times what is expected.
    pub fn ends_s(&self, duty: f64, expected_s: f64, patience: f64) -> f64 {
        let duty = duty.max(DUTY_MIN);
        let expected_s = self.expected_s(expected_s);
        let margin_s = hang_after_s(expected_s) - expected_s + TOGETHER_S;
        let rest_s = (expected_s - self.work_s).max(0.0) / duty;
        self.overdue_s.unwrap_or(self.at_s + rest_s) + margin_s + (patience - 1.0) * expected_s / duty
    }

    /// Seconds since the last sign.
    pub fn lasts_s(&self, now_s: f64) -> f64 {
        now_s - self.since_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prediction_counts_in_work_and_the_margin_on_the_clock() {
        let mut silence = Silence::default();
        silence.heard(10.0);
        assert_eq!(silence.ends_s(1.0, 4.0, 1.0), 10.0 + hang_after_s(4.0) + TOGETHER_S);
        assert_eq!(silence.ends_s(0.1, 4.0, 1.0), 10.0 + 40.0 + 5.5);
        // Half of the work at full duty, the rest at a tenth of it.
        silence.pass(12.0, 1.0, 4.0);
        assert_eq!(silence.ends_s(0.1, 4.0, 1.0), 12.0 + 20.0 + 5.5);
        silence.pass(32.0, 0.1, 4.0);
        assert!((silence.ends_s(0.05, 4.0, 1.0) - 37.5).abs() < 1e-9, "{silence:?}");
        // Past the prediction no pace puts it off.
        silence.pass(36.0, 0.05, 4.0);
        assert!((silence.ends_s(0.05, 4.0, 1.0) - 37.5).abs() < 1e-9, "{silence:?}");
        assert_eq!(silence.lasts_s(36.0), 26.0);
        // Patience gives more of the prediction's own time, and where it ends it ends at once.
        assert!((silence.ends_s(0.05, 4.0, 1.5) - 77.5).abs() < 1e-9, "{silence:?}");
        silence.heard(36.5);
        assert_eq!(silence.ends_s(0.5, 4.0, 2.0), 36.5 + 8.0 + 5.5 + 8.0);
        assert_eq!(silence.ends_s(1.0, 0.5, 1.0), 36.5 + 0.5 + 2.5);
    }

    #[test]
    fn the_moment_it_was_overdue_lies_within_the_time_that_passed() {
        let mut silence = Silence::default();
        silence.heard(0.0);
        silence.pass(100.0, 0.5, 10.0);
        assert_eq!(silence.ends_s(0.5, 10.0, 1.0), 20.0 + 5.5);
        // More work than before is expected: it is not overdue any more.
        silence.pass(100.0, 0.5, 60.0);
        assert_eq!(silence.ends_s(0.5, 60.0, 1.0), 100.0 + 20.0 + 5.5);
    }

    #[test]
    fn the_step_in_progress_computes_what_it_began_with() {
        let mut silence = Silence::default();
        silence.heard(0.0);
        silence.pass(1.0, 1.0, 8.0);
        // Its prompt is cancelled, and it says so.
        silence.answered(1.0);
        assert_eq!(silence.ends_s(1.0, 1.0, 1.0), 1.0 + hang_after_s(9.0) + TOGETHER_S);
        silence.answered(1.0);
        assert_eq!(
            silence.ends_s(1.0, 1.0, 1.0),
            1.0 + hang_after_s(9.0) + TOGETHER_S,
            "one step is in progress"
        );
        silence.pass(1.5, 1.0, 1.0);
        silence.begins(1.5);
        assert_eq!(
            silence.ends_s(1.0, 2.0, 1.0),
            1.5 + hang_after_s(10.0) + TOGETHER_S,
            "new work waits for it"
        );
        silence.heard(2.0);
        assert_eq!(silence.ends_s(1.0, 1.0, 1.0), 2.0 + hang_after_s(1.0) + TOGETHER_S);
        silence.answered(2.0);
        silence.pass(4.0, 1.0, 1.0);
        silence.begins(4.0);
        assert_eq!(
            silence.ends_s(1.0, 1.0, 1.0),
            4.0 + hang_after_s(1.0) + TOGETHER_S,
            "by now it has ended"
        );
    }

    #[test]
    fn time_that_runs_backwards_stands_still() {
        let mut silence = Silence::default();
        silence.heard(5.0);
        silence.pass(3.0, 1.0, 1.0);
        assert_eq!(silence.ends_s(1.0, 1.0, 1.0), 5.0 + 1.0 + 2.5);
    }
}
