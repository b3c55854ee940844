//! How well a device does, as one figure, and the trends that warn before anything fails.
//!
//! The score is a product of what each sign leaves of 1: failed samples, slowness, little headroom of temperature or
//! memory, throttling by the hardware itself, events of the driver. A product, since one bad sign is not made good by five
//! good ones. Placement treats a device with half the score as if it were half as good. The score never takes a device
//! out: that needs a fault.
//!
//! A trend is a sign that moves: memory that will be full, heat that will reach the guard, a device that gets slower. Each
//! warns once and then keeps still for a while.

/// Samples over which errors are averaged: one failure in ten shows at once, and is forgotten after some dozen good ones.
const ERROR_SHARE: f64 = 0.1;
/// Seconds over which throttling and events are forgotten.
const MEMORY_S: f64 = 60.0;
/// Seconds over which a device's usual speed and the slope of its memory are averaged: long against a request.
const USUAL_S: f64 = 300.0;
/// Degrees of headroom from which on heat does not matter.
const HEADROOM_C: f64 = 10.0;
/// Share of memory from which on it matters, and at which it warns.
const MEMORY_SHARE: f64 = 0.9;
const MEMORY_WARNS: f64 = 0.95;
/// A trend warns when what it leads to is this near, seconds.
const AHEAD_S: f64 = 300.0;
/// Samples that fail, and slowness over the usual one, from which on they warn.
const ERRORS_WARN: f64 = 0.2;
const SLOWER_WARNS: f64 = 1.5;
/// Events of the driver, within some minutes, that warn.
const EVENTS_WARN: f64 = 1.5;
/// Seconds for which a warning is not repeated.
pub const QUIET_S: f64 = 300.0;
/// Least score: a device is never quite useless as long as it serves.
pub const SCORE_MIN: f64 = 0.05;

/// What a trend is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trend {
    /// Samples fail.
    Errors,
    /// It gets slower.
    Slower,
    /// It will reach its guard temperature.
    Heat,
    /// Its memory will be full.
    Memory,
    /// Its driver complains.
    Driver,
}

const TRENDS: [Trend; 5] = [Trend::Errors, Trend::Slower, Trend::Heat, Trend::Memory, Trend::Driver];

impl Trend {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Trend::Errors => "samples fail on it",
            Trend::Slower => "it gets slower than it was",
            Trend::Heat => "it will reach its guard temperature",
            Trend::Memory => "its memory will be full",
            Trend::Driver => "its driver complains",
        }
    }
}

/// The signs of one device.
#[derive(Debug, Clone)]
pub struct Health {
    errors: f64,
    slowness: f64,
    usual_slowness: f64,
    headroom_c: Option<f64>,
    heat_in_s: f64,
    memory: Option<f64>,
    memory_slope: f64,
    throttled: f64,
    events: f64,
    at_s: f64,
    sensed_s: Option<f64>,
    quiet_until_s: [f64; TRENDS.len()],
}

impl Default for Health {
    fn default() -> Self {
        Self {
            errors: 0.0,
            slowness: 1.0,
            usual_slowness: 1.0,
            headroom_c: None,
            heat_in_s: f64::INFINITY,
            memory: None,
            memory_slope: 0.0,
            throttled: 0.0,
            events: 0.0,
            at_s: 0.0,
            sensed_s: None,
            quiet_until_s: [f64::NEG_INFINITY; TRENDS.len()],
        }
    }
}

/// What is read of a device at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Signs {
    /// Its time for the same work over its profile's.
    pub slowness: f64,
    /// Degrees left to its guard temperature.
    pub headroom_c: Option<f64>,
    /// Degrees a second by which it warms at present.
    pub warming_c_per_s: f64,
    /// Whether the hardware throttles itself.
    pub throttling: bool,
    /// Share of its memory in use.
    pub memory_share: Option<f64>,
}

impl Health {
    /// A sample ended, or the engine failed on it.
    pub fn sample_ended(&mut self, failed: bool) {
        let now = if failed { 1.0 } else { 0.0 };
        self.errors += ERROR_SHARE * (now - self.errors);
    }

    /// The driver reported something.
    pub fn driver_event(&mut self, now_s: f64) {
        self.forget(now_s);
        self.events += 1.0;
    }

    /// The device was read.
    pub fn sensed(&mut self, now_s: f64, signs: &Signs) {
        self.forget(now_s);
        let passed_s = self.sensed_s.map_or(0.0, |sensed_s| (now_s - sensed_s).max(0.0));
        self.sensed_s = Some(now_s);
        let share = 1.0 - (-passed_s / USUAL_S).exp();
        self.slowness = signs.slowness;
        self.usual_slowness += share * (signs.slowness - self.usual_slowness);
        self.headroom_c = signs.headroom_c;
        self.heat_in_s = match signs.headroom_c {
            Some(headroom_c) if signs.warming_c_per_s > 0.0 => headroom_c.max(0.0) / signs.warming_c_per_s,
            _ => f64::INFINITY,
        };
        let now = if signs.throttling { 1.0 } else { 0.0 };
        self.throttled += (1.0 - (-passed_s / MEMORY_S).exp()) * (now - self.throttled);
        let memory = signs.memory_share.filter(|share| (0.0..=1.0).contains(share));
        if let (Some(before), Some(now), true) = (self.memory, memory, passed_s > 0.0) {
            self.memory_slope += share * ((now - before) / passed_s - self.memory_slope);
        }
        self.memory = memory;
    }

    fn forget(&mut self, now_s: f64) {
        let passed_s = (now_s - self.at_s).max(0.0);
        self.at_s = self.at_s.max(now_s);
        self.events *= (-passed_s / MEMORY_S).exp();
    }

    /// 1 is faultless, [`SCORE_MIN`] nearly useless.
    pub fn score(&self) -> f64 {
        let heat = self.headroom_c.map_or(1.0, |left_c| 0.5 + 0.5 * (left_c / HEADROOM_C).clamp(0.0, 1.0));
        let full = |share: f64| ((share - MEMORY_SHARE) / (1.0 - MEMORY_SHARE)).clamp(0.0, 1.0);
        let memory = self.memory.map_or(1.0, |share| 1.0 - 0.5 * full(share));
        let speed = (1.0 / self.slowness.max(1.0)).sqrt();
        let score = (1.0 - self.errors)
            * speed
            * heat
            * memory
            * (1.0 - 0.5 * self.throttled)
            * (1.0 / (1.0 + 0.5 * self.events));
        score.clamp(SCORE_MIN, 1.0)
    }

    /// The next trend that has not warned yet, with the figure that it is about.
    pub fn warning(&mut self, now_s: f64) -> Option<(Trend, f64)> {
        for (trend, quiet_until_s) in TRENDS.into_iter().zip(&mut self.quiet_until_s) {
            if now_s < *quiet_until_s {
                continue;
            }
            let figure = match trend {
                Trend::Errors => (self.errors >= ERRORS_WARN).then_some(self.errors),
                Trend::Slower => {
                    let ratio = self.slowness / self.usual_slowness.max(f64::MIN_POSITIVE);
                    (ratio >= SLOWER_WARNS).then_some(ratio)
                }
                Trend::Heat => (self.heat_in_s <= AHEAD_S).then_some(self.heat_in_s),
                Trend::Memory => self.memory.filter(|share| {
                    let ahead = share + self.memory_slope.max(0.0) * AHEAD_S;
                    *share >= MEMORY_WARNS || (*share >= 0.5 && ahead >= 1.0)
                }),
                Trend::Driver => (self.events >= EVENTS_WARN).then_some(self.events),
            };
            if let Some(figure) = figure {
                *quiet_until_s = now_s + QUIET_S;
                return Some((trend, figure));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Signs = Signs {
        slowness: 1.0,
        headroom_c: Some(30.0),
        warming_c_per_s: 0.0,
        throttling: false,
        memory_share: Some(0.4),
    };

    /// A device that shows these signs for ten minutes.
    fn after(signs: Signs) -> Health {
        let mut health = Health::default();
        for second in 0..600 {
            health.sensed(f64::from(second), &signs);
        }
        health
    }

    #[test]
    fn each_sign_takes_its_part_of_the_score() {
        // (signs, score)
        let cases = [
            (WELL, 1.0),
            (Signs { headroom_c: None, memory_share: None, ..WELL }, 1.0),
            (Signs { slowness: 4.0, ..WELL }, 0.5),
            (Signs { slowness: 0.5, ..WELL }, 1.0),
            (Signs { headroom_c: Some(5.0), ..WELL }, 0.75),
            (Signs { headroom_c: Some(-5.0), ..WELL }, 0.5),
            (Signs { memory_share: Some(0.95), ..WELL }, 0.75),
            (Signs { memory_share: Some(1.0), ..WELL }, 0.5),
            (Signs { memory_share: Some(7.0), ..WELL }, 1.0),
            (Signs { throttling: true, ..WELL }, 0.5),
            (Signs { slowness: 4.0, throttling: true, headroom_c: Some(0.0), ..WELL }, 0.125),
        ];
        for (signs, score) in cases {
            let got = after(signs).score();
            assert!((got - score).abs() < 1e-3, "{signs:?}: {got}, not {score}");
        }
    }

    #[test]
    fn failures_and_events_weigh_and_are_forgotten() {
        let mut health = after(WELL);
        health.sample_ended(true);
        assert!((health.score() - 0.9).abs() < 1e-9);
        for _ in 0..200 {
            health.sample_ended(true);
        }
        assert_eq!(health.score(), SCORE_MIN);
        for _ in 0..100 {
            health.sample_ended(false);
        }
        assert!(health.score() > 0.99);
        health.driver_event(600.0);
        assert!((health.score() - 1.0 / 1.5).abs() < 1e-3);
        health.sensed(900.0, &WELL);
        assert!(health.score() > 0.99);
    }

    #[test]
    fn trends_warn_before_the_end_and_once() {
        // (trend, signs at a second)
        type Course = fn(f64) -> Signs;
        let cases: [(Option<Trend>, Course); 6] = [
            (None, |_| WELL),
            (Some(Trend::Heat), |_| Signs { warming_c_per_s: 0.11, ..WELL }),
            (None, |_| Signs { warming_c_per_s: 0.09, ..WELL }),
            (Some(Trend::Memory), |t| Signs { memory_share: Some(0.3 + 0.0011 * t), ..WELL }),
            (Some(Trend::Memory), |_| Signs { memory_share: Some(0.96), ..WELL }),
            (Some(Trend::Slower), |t| Signs { slowness: if t < 400.0 { 1.0 } else { 2.0 }, ..WELL }),
        ];
        for (trend, course) in cases {
            let mut health = Health::default();
            let mut warned = Vec::new();
            for t in 0..600 {
                health.sensed(f64::from(t), &course(f64::from(t)));
                warned.extend(health.warning(f64::from(t)).map(|(trend, _)| (t, trend)));
            }
            assert_eq!(warned.first().map(|warned| warned.1), trend, "{warned:?}");
            assert!(warned.windows(2).all(|pair| f64::from(pair[1].0 - pair[0].0) >= QUIET_S), "{warned:?}");
            if let (Some(Trend::Memory), [(t, _), ..]) = (trend, &warned[..]) {
                assert!(0.3 + 0.0011 * f64::from(*t) < 0.95, "at {t} s it is too late");
            }
        }
    }

    /// Readings at unequal distances: each average moves by the share `1 − exp(−t / its time)` of the way.
    #[test]
    fn averages_follow_the_time_between_readings() {
        let near = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-12, "{got}, not {expected}");
        let mut health = Health::default();
        health.sensed(10.0, &Signs { slowness: 5.0, throttling: true, memory_share: Some(0.5), ..WELL });
        // No time is known to lie before the first reading.
        assert_eq!((health.usual_slowness, health.throttled, health.memory_slope), (1.0, 0.0, 0.0));
        health.sensed(40.0, &Signs { slowness: 3.0, throttling: true, memory_share: Some(0.53), ..WELL });
        let (of_usual, of_memory) = (1.0 - (-30.0f64 / USUAL_S).exp(), 1.0 - (-30.0f64 / MEMORY_S).exp());
        near(health.usual_slowness, 1.0 + 2.0 * of_usual);
        near(health.throttled, of_memory);
        near(health.memory_slope, 0.001 * of_usual);
        let before = health.clone();
        health.sensed(100.0, &Signs { slowness: 1.5, throttling: false, memory_share: Some(0.65), ..WELL });
        let (of_usual, of_memory) = (1.0 - (-60.0f64 / USUAL_S).exp(), 1.0 - (-60.0f64 / MEMORY_S).exp());
        near(health.usual_slowness, before.usual_slowness + of_usual * (1.5 - before.usual_slowness));
        near(health.throttled, before.throttled * (1.0 - of_memory));
        near(health.memory_slope, before.memory_slope + of_usual * (0.002 - before.memory_slope));
        // A second reading of the same moment changes no slope.
        let before = health.clone();
        health.sensed(100.0, &Signs { memory_share: Some(0.9), ..WELL });
        near(health.memory_slope, before.memory_slope);
        near(health.usual_slowness, before.usual_slowness);
        // (degrees left, degrees a second, seconds to the guard temperature)
        for (left_c, warming, expected_s) in [
            (Some(30.0), 0.5, 60.0),
            (Some(30.0), 0.0, f64::INFINITY),
            (Some(30.0), -0.5, f64::INFINITY),
            (Some(-3.0), 0.5, 0.0),
            (Some(-3.0), 0.0, f64::INFINITY),
            (None, 0.5, f64::INFINITY),
        ] {
            health.sensed(101.0, &Signs { headroom_c: left_c, warming_c_per_s: warming, ..WELL });
            assert_eq!(health.heat_in_s, expected_s, "{left_c:?} {warming}");
        }
        health.driver_event(200.0);
        health.driver_event(230.0);
        near(health.events, 1.0 + (-30.0f64 / MEMORY_S).exp());
    }

    #[test]
    fn memory_warns_where_it_is_nearly_full_or_will_be() {
        // (share, growth a second, whether it warns)
        for (share, slope, warns) in [
            (0.94, 0.0, false),
            (0.95, -0.001, true),
            (0.6, 0.0, false),
            (0.6, 0.0013, false),
            (0.6, 0.00134, true),
            (0.5, 0.0017, true),
            (0.45, 0.01, false),
        ] {
            let mut health = Health { memory: Some(share), memory_slope: slope, ..Health::default() };
            let expected = warns.then_some((Trend::Memory, share));
            assert_eq!(health.warning(0.0), expected, "{share} growing by {slope}");
        }
    }

    #[test]
    fn failures_and_complaints_warn() {
        let mut health = after(WELL);
        health.sample_ended(true);
        health.sample_ended(true);
        assert_eq!(health.warning(600.0), None);
        health.sample_ended(true);
        assert!(matches!(health.warning(600.0), Some((Trend::Errors, errors)) if errors > 0.2));
        health.driver_event(600.0);
        assert_eq!(health.warning(600.0), None);
        health.driver_event(601.0);
        assert!(matches!(health.warning(601.0), Some((Trend::Driver, _))));
        assert!(matches!(health.warning(600.0 + QUIET_S), Some((Trend::Errors, _))));
        assert_eq!(Trend::Driver.words(), "its driver complains");
    }
}
