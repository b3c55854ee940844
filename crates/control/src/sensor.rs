//! Whether a temperature sensor can be believed.
//!
//! A sensor that fails does not say so: it repeats its last value while the device heats, gives a value from another
//! world, or falls silent. Each reading is held against what physics allows since the last one that was believed, and a
//! sensor that fails too often is not believed until it has behaved for a while. An unbelieved sensor counts as hot.

/// What a temperature can be at all on a machine that computes, degrees Celsius.
const POSSIBLE_C: (f64, f64) = (-40.0, 150.0);
/// Degrees by which a reading may lie beyond what the model holds possible.
const SURPRISE_C: f64 = 15.0;
/// Degrees a second by which that grows while nothing is believed: what the model holds possible ages.
const SURPRISE_C_PER_S: f64 = 0.1;
/// Bad readings in a row after which a sensor is not believed.
const BAD_MAX: u32 = 3;
/// Good readings in a row after which it is believed again.
const GOOD_MIN: u32 = 5;
/// Equal readings in a row, with the device at work, that a sensor of fine steps never shows: its last bits flutter.
const EQUAL_MAX: u32 = 8;
/// Degrees that the model may have moved while the sensor repeats itself.
const EXCURSION_C: f64 = 4.0;
/// Readings that may fail to come, in periods of the sensor.
const STALE_PERIODS: f64 = 3.0;
/// Bounds of the period that is reckoned with, seconds.
const PERIOD_S: (f64, f64) = (0.2, 5.0);
/// Period before any was seen, seconds.
const PERIOD_FIRST_S: f64 = 1.0;

/// What a reading is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A new value.
    Fresh,
    /// The same value again.
    Equal,
    /// No value, or one that cannot be.
    Bad,
}

/// The state of trust in one sensor.
#[derive(Debug, Clone)]
pub struct Sensor {
    last_c: Option<f64>,
    last_good_s: f64,
    last_reading_s: Option<f64>,
    period_s: f64,
    bad: u32,
    good: u32,
    equal: u32,
    /// All values so far were multiples of half a degree: such a sensor repeats itself in good health.
    coarse: bool,
    distrusted: bool,
    reason: &'static str,
}

impl Default for Sensor {
    fn default() -> Self {
        Self {
            last_c: None,
            last_good_s: 0.0,
            last_reading_s: None,
            period_s: PERIOD_FIRST_S,
            bad: 0,
            good: 0,
            equal: 0,
            coarse: true,
            distrusted: false,
            reason: "",
        }
    }
}

impl Sensor {
    /// A reading came. `possible_c`: what physics allows by the model; `excursion_c`: how far the model has moved from the
    /// value that the sensor repeats; `busy`: whether the device computed since the last one.
    pub fn judge(
        &mut self,
        now_s: f64,
        value_c: Option<f64>,
        possible_c: Option<(f64, f64)>,
        excursion_c: f64,
        busy: bool,
    ) -> Verdict {
        if let Some(last_s) = self.last_reading_s.replace(now_s) {
            let (least, most) = PERIOD_S;
            self.period_s += 0.2 * ((now_s - last_s).clamp(least, most) - self.period_s);
        }
        let verdict = self.verdict(now_s, value_c, possible_c);
        match verdict {
            Verdict::Bad => {
                self.good = 0;
                self.bad = self.bad.saturating_add(1);
                if self.bad >= BAD_MAX {
                    self.distrust("its readings cannot be");
                }
            }
            Verdict::Equal => {
                self.bad = 0;
                if busy {
                    self.equal = self.equal.saturating_add(1);
                }
                let stuck = busy && ((!self.coarse && self.equal >= EQUAL_MAX) || excursion_c > EXCURSION_C);
                if stuck {
                    self.distrust("it repeats one reading while the device's heat changes");
                } else if !self.distrusted {
                    self.last_good_s = now_s;
                } else if !busy {
                    self.count_good(now_s);
                }
            }
            Verdict::Fresh => {
                self.bad = 0;
                self.equal = 0;
                self.count_good(now_s);
            }
        }
        verdict
    }

    fn verdict(&mut self, now_s: f64, value_c: Option<f64>, possible_c: Option<(f64, f64)>) -> Verdict {
        let Some(value) = value_c.filter(|value| (POSSIBLE_C.0..=POSSIBLE_C.1).contains(value)) else {
            return Verdict::Bad;
        };
        let surprise_c = SURPRISE_C + SURPRISE_C_PER_S * (now_s - self.last_good_s).max(0.0);
        if let Some((least, most)) = possible_c
            && !(least - surprise_c..=most + surprise_c).contains(&value)
        {
            return Verdict::Bad;
        }
        if self.last_c == Some(value) {
            return Verdict::Equal;
        }
        self.coarse &= (value * 2.0).fract() == 0.0;
        self.last_c = Some(value);
        Verdict::Fresh
    }

    fn count_good(&mut self, now_s: f64) {
        self.good = self.good.saturating_add(1);
        if self.distrusted && self.good < GOOD_MIN {
            return;
        }
        self.distrusted = false;
        self.last_good_s = now_s;
    }

    fn distrust(&mut self, reason: &'static str) {
        self.good = 0;
        self.distrusted = true;
        self.reason = reason;
    }

    /// Time has passed.
    pub fn tick(&mut self, now_s: f64) {
        if now_s >= self.stale_at_s() && !self.distrusted {
            self.distrust("its readings stopped coming");
        }
    }

    /// The loop starts: the first reading is awaited from now on.
    pub fn begin(&mut self, now_s: f64) {
        self.last_good_s = now_s;
    }

    /// When it counts as silent if nothing comes, seconds.
    pub fn stale_at_s(&self) -> f64 {
        self.last_good_s + STALE_PERIODS * self.period_s
    }

    /// Whether it can be believed.
    pub fn believed(&self) -> bool {
        !self.distrusted
    }

    /// Why it is not, as of the last time.
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sensor that gave ten good readings, a second apart, the last at 9 s.
    fn good() -> Sensor {
        let mut sensor = Sensor::default();
        sensor.begin(0.0);
        for second in 0..10 {
            let value = 50.0 + 0.13 * f64::from(second);
            assert_eq!(
                sensor.judge(f64::from(second), Some(value), Some((49.0, 52.0)), 0.0, true),
                Verdict::Fresh
            );
        }
        assert!(sensor.believed());
        sensor
    }

    #[test]
    fn readings_that_cannot_be_are_bad_and_three_are_too_many() {
        // (value, bad) where 40 to 60 degrees are possible by the model
        let cases = [
            (Some(50.0), false),
            (Some(25.5), false),
            (Some(24.0), true),
            (Some(74.5), false),
            (Some(76.0), true),
            (Some(-41.0), true),
            (Some(151.0), true),
            (Some(f64::NAN), true),
            (Some(f64::INFINITY), true),
            (None, true),
        ];
        for (value, bad) in cases {
            let verdict = good().judge(10.0, value, Some((40.0, 60.0)), 0.0, true);
            assert_eq!(verdict == Verdict::Bad, bad, "{value:?}: {verdict:?}");
        }
        for (value, bad) in [(-40.0, false), (150.0, false), (-40.1, true), (150.1, true)] {
            assert_eq!(good().judge(10.0, Some(value), None, 0.0, true) == Verdict::Bad, bad, "{value}");
        }
        let mut sensor = good();
        for n in 1..=BAD_MAX {
            sensor.judge(9.0 + f64::from(n), None, None, 0.0, true);
            assert_eq!(sensor.believed(), n < BAD_MAX);
        }
        assert_eq!(sensor.reason(), "its readings cannot be");
        let mut sensor = good();
        for second in 10..30 {
            let value = (second % 2 == 0).then_some(f64::from(second));
            sensor.judge(f64::from(second), value, None, 0.0, true);
        }
        assert!(sensor.believed(), "every other one is enough");
    }

    #[test]
    fn trust_comes_back_after_five_good_readings() {
        let mut sensor = good();
        for second in 10..14 {
            sensor.judge(f64::from(second), None, None, 0.0, true);
        }
        for n in 1..=GOOD_MIN {
            assert!(!sensor.believed());
            sensor.judge(14.0 + f64::from(n), Some(50.1 * f64::from(n)), None, 0.0, true);
        }
        assert!(!sensor.believed(), "the last was out of this world, and its row ends");
        for n in 1..=GOOD_MIN {
            assert!(!sensor.believed());
            sensor.judge(24.0 + f64::from(n), Some(50.0 + f64::from(n)), None, 0.0, true);
        }
        assert!(sensor.believed());
    }

    #[test]
    fn what_is_possible_widens_while_nothing_is_believed() {
        let mut sensor = good();
        let far = Some((80.0, 90.0));
        assert_eq!(sensor.judge(10.0, Some(50.3), far, 0.0, true), Verdict::Bad);
        assert_eq!(sensor.judge(60.0, Some(50.3), far, 0.0, true), Verdict::Bad, "20 degrees");
        assert_eq!(sensor.judge(209.0, Some(50.3), far, 0.0, true), Verdict::Fresh, "35 degrees");
    }

    #[test]
    fn repetition_is_believed_of_coarse_sensors_and_of_idle_devices() {
        // (value of all readings, busy, degrees that the model moved, believed after ten)
        let cases = [
            (50.07, true, 0.0, false),
            (50.07, false, 0.0, true),
            (50.07, false, 9.0, true),
            (50.5, true, 0.0, true),
            (50.0, true, 3.9, true),
            (50.0, true, 4.1, false),
            (50.0, true, -9.0, true),
        ];
        for (value, busy, excursion_c, believed) in cases {
            let mut sensor = Sensor::default();
            for second in 0..10 {
                sensor.judge(f64::from(second), Some(value), None, excursion_c, busy);
            }
            assert_eq!(sensor.believed(), believed, "{value} {busy} {excursion_c}");
        }
        let mut sensor = Sensor::default();
        for second in 0..=EQUAL_MAX {
            assert!(sensor.believed());
            sensor.judge(f64::from(second), Some(50.07), None, 0.0, true);
        }
        assert!(!sensor.believed(), "the first and eight more");
        assert!(sensor.reason().contains("repeats"));
        for second in 20..40 {
            sensor.judge(f64::from(second), Some(50.07), None, 0.0, true);
        }
        assert!(!sensor.believed(), "repeating on earns no trust");
        for second in 40..45 {
            sensor.judge(f64::from(second), Some(50.07), None, 0.0, false);
        }
        assert!(sensor.believed(), "at rest it does");
    }

    #[test]
    fn silence_is_three_periods_of_the_sensor() {
        let mut sensor = good();
        assert!((sensor.stale_at_s() - 12.0).abs() < 1e-9, "{}", sensor.stale_at_s());
        sensor.tick(11.9);
        assert!(sensor.believed());
        sensor.tick(12.0);
        assert!(!sensor.believed());
        assert_eq!(sensor.reason(), "its readings stopped coming");
        // A quick one is missed sooner, a slow one later, within bounds.
        let after = |period_s: f64| {
            let mut sensor = Sensor::default();
            for n in 0..100 {
                sensor.judge(f64::from(n) * period_s, Some(40.0 + 0.01 * f64::from(n)), None, 0.0, true);
            }
            sensor.stale_at_s() - 99.0 * period_s
        };
        for (period_s, stale_s) in [(0.05, 0.6), (0.5, 1.5), (2.0, 6.0), (60.0, 15.0)] {
            assert!((after(period_s) - stale_s).abs() < 1e-6, "{period_s}: {}", after(period_s));
        }
        let mut sensor = Sensor::default();
        sensor.begin(100.0);
        assert_eq!(sensor.stale_at_s(), 103.0);
    }
}
