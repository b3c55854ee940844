//! The guard of one device's temperature.
//!
//! It lets the device compute just so much that its temperature, by the fitted model, comes near the guard temperature
//! and never over it: the slope allowed is what is left to the target over a horizon of some seconds. Near the target that
//! is a slow approach, far below it no limit at all. A slope is asked of the model at the duty in force and not of its
//! constants one by one, so an error in them costs speed of adjustment and not safety; and a rise of the duty is computed
//! with the heating that the model holds, a cut with less, so that both err to the cool side.
//!
//! What is believed of the temperature is the model's prediction, pulled towards each believed reading. Between readings,
//! and while a sensor repeats itself or fails, the prediction goes on alone and keeps acting. A sensor that is not
//! believed counts as hot: least duty.
//!
//! The **duty acts at once**. The **state** that is shown has hysteresis and stays for a while, so that it can be read.

use crate::config::ThermalLimits;
use crate::event::Reading;
use crate::sensor::{Sensor, Verdict};
use crate::thermal::Fit;
use crate::view::HeatState;

/// Least duty: a device that only just lives. Not zero, since samples on it must not stop for good.
pub const DUTY_MIN: f64 = 0.05;
/// Duty before anything is known.
pub const DUTY_FIRST: f64 = 0.3;
/// Most by which the duty rises in a second, before and after the fit has seen a few stretches.
const DUTY_RISE_PER_S: (f64, f64) = (0.05, 0.15);
/// Stretches after which the fit is more than a guess.
const STRETCHES_MIN: u32 = 3;
/// Degrees under the guard temperature that the duty aims at: what a late reading costs on a device that heats by 1.6
/// degrees a second.
const MARGIN_C: f64 = 1.5;
/// Most degrees that the margin grows with the scatter of the readings.
const SCATTER_MAX_C: f64 = 3.0;
/// Seconds within which the target may be reached: some periods of a sensor, so that several readings can correct.
const HORIZON_S: f64 = 6.0;
/// Share of a surprise of a reading that is believed to be true.
const GAIN: f64 = 0.6;
/// A cut of the duty reckons with this share of the fitted heating, or once more this share where that is beyond so many
/// degrees a second: a fit that has only seen rest still holds the prior's fast heating.
const CUT_SHARE: f64 = 0.5;
const CUT_HEATING_C_PER_S: f64 = 1.0;
/// A stretch for the fit ends after so many degrees, but not before so many seconds, and after so many at the latest.
const STRETCH_C: f64 = 1.0;
const STRETCH_S: (f64, f64) = (2.0, 8.0);
/// While a sensor repeats itself and the model has moved further than this, nothing is learnt from it.
const LEARN_EXCURSION_C: f64 = 2.0;
/// Seconds that a state stays at least: the safety contract's.
pub const DWELL_S: f64 = 10.0;
/// Degrees: warm begins so far under the guard, critical so far over it, and a cooler state needs so much more.
const WARM_C: f64 = 10.0;
const CRITICAL_C: f64 = 1.0;
const HYSTERESIS_C: f64 = 3.0;
/// Share of a full duty from which on nothing is held back.
const UNLIMITED: f64 = 0.99;

/// The guard.
#[derive(Debug, Clone)]
pub struct Guard {
    limits: ThermalLimits,
    /// Watts that power is counted in: the device's full power by its profile.
    unit_w: f64,
    idle_p: f64,
    /// Full power as observed, in units.
    full_p: f64,
    sensor: Sensor,
    fit: Option<Fit>,
    believed_c: f64,
    scatter_c: f64,
    /// The stretch that is being observed: since when, from which temperature, power so far (units × seconds).
    stretch: Option<(f64, f64)>,
    stretch_energy: f64,
    /// Power since the last reading, and how long it was busy of it.
    energy: f64,
    busy_s: f64,
    span_s: f64,
    busy_last: bool,
    passed_s: Option<f64>,
    wanted: f64,
    duty: f64,
    /// The duty that the device was told last.
    told: f64,
    state: HeatState,
    state_since_s: f64,
}

impl Guard {
    /// A guard that knows nothing yet of a device with this idle and full power.
    pub fn new(limits: ThermalLimits, idle_w: f64, full_w: f64) -> Self {
        let unit_w = if full_w.is_finite() && full_w > 0.0 { full_w } else { 1.0 };
        Self {
            limits,
            unit_w,
            idle_p: (idle_w / unit_w).clamp(0.0, 0.95),
            full_p: 1.0,
            sensor: Sensor::default(),
            fit: None,
            believed_c: f64::NAN,
            scatter_c: 0.0,
            stretch: None,
            stretch_energy: 0.0,
            energy: 0.0,
            busy_s: 0.0,
            span_s: 0.0,
            busy_last: false,
            passed_s: None,
            wanted: 1.0,
            duty: DUTY_FIRST,
            told: 1.0,
            state: HeatState::Nominal,
            state_since_s: f64::NEG_INFINITY,
        }
    }

    /// Time has passed, in which the device computed at the duty in force or had nothing to do.
    pub fn pass(&mut self, now_s: f64, busy: bool) {
        let Some(passed_s) = self.passed_s else {
            self.passed_s = Some(now_s);
            self.sensor.begin(now_s);
            return;
        };
        let seconds = now_s - passed_s;
        if seconds <= 0.0 {
            return;
        }
        self.passed_s = Some(now_s);
        self.busy_last = busy;
        let p = self.power(busy);
        self.energy += p * seconds;
        self.span_s += seconds;
        if busy {
            self.busy_s += seconds;
        }
        if let Some(fit) = &self.fit {
            self.believed_c = fit.after_c(self.believed_c, p, seconds).clamp(-40.0, 200.0);
        }
        self.sensor.tick(now_s);
        self.adjust(now_s, seconds);
    }

    /// The device was told this duty: the guard's own, or less.
    pub fn tell(&mut self, duty: f64) {
        self.told = duty.clamp(DUTY_MIN, 1.0);
    }

    /// Power in units, by what the device does.
    fn power(&self, busy: bool) -> f64 {
        if busy { self.idle_p + (self.full_p - self.idle_p) * self.told } else { self.idle_p }
    }

    /// The sensor was read. [`Guard::pass`] comes first.
    pub fn sensed(&mut self, now_s: f64, reading: &Reading) {
        let mean_p = if self.span_s > 0.0 { self.energy / self.span_s } else { self.idle_p };
        let told = reading.power_w.filter(|power_w| power_w.is_finite() && *power_w >= 0.0);
        let p = told.map_or(mean_p, |power_w| (power_w / self.unit_w).min(4.0));
        let busy = self.busy_s > 0.5 * self.span_s;
        if told.is_some() && busy {
            // What full power would be, from the power at this duty.
            let full = self.idle_p + (p - self.idle_p) / self.told;
            self.full_p += 0.05 * (full.clamp(self.idle_p + 0.1, 2.0) - self.full_p);
        }
        self.stretch_energy += p * self.span_s;
        let possible_c = self.fit.as_ref().map(|fit| {
            let seconds = self.span_s.max(0.1);
            let cold = fit.after_c(self.believed_c, 0.0, seconds).min(self.believed_c);
            let hot = fit.after_c(self.believed_c, self.full_p.max(1.0), seconds).max(self.believed_c);
            (cold, hot)
        });
        let excursion_c = reading.temperature_c.map_or(0.0, |value| self.believed_c - value);
        match self.sensor.judge(now_s, reading.temperature_c, possible_c, excursion_c, busy) {
            Verdict::Fresh => self.correct(now_s, reading.temperature_c.unwrap_or(self.believed_c), p, true),
            Verdict::Equal => self.correct(now_s, reading.temperature_c.unwrap_or(self.believed_c), p, false),
            Verdict::Bad => self.stretch = None,
        }
        (self.energy, self.busy_s, self.span_s) = (0.0, 0.0, 0.0);
        self.adjust(now_s, 0.0);
    }

    /// Pulls what is believed towards a reading, and learns from the stretch that it ends.
    fn correct(&mut self, now_s: f64, value_c: f64, p: f64, fresh: bool) {
        let Some(fit) = &mut self.fit else {
            self.fit = Some(Fit::new(value_c, p));
            self.believed_c = value_c;
            self.stretch = Some((now_s, value_c));
            self.stretch_energy = 0.0;
            return;
        };
        let surprise = value_c - self.believed_c;
        if fresh {
            self.believed_c += GAIN * surprise;
            self.scatter_c += 0.1 * (surprise.abs() - self.scatter_c);
        } else if surprise > 0.0 {
            self.believed_c = value_c;
        }
        match self.stretch {
            Some((since_s, from_c)) => {
                let seconds = now_s - since_s;
                let over = seconds >= STRETCH_S.0 && (value_c - from_c).abs() >= STRETCH_C;
                if !over && seconds < STRETCH_S.1 {
                    return;
                }
                if fresh || surprise.abs() <= LEARN_EXCURSION_C {
                    fit.learn(from_c, value_c, seconds, self.stretch_energy / seconds);
                }
                self.stretch = Some((now_s, value_c));
                self.stretch_energy = 0.0;
            }
            None => {
                self.stretch = Some((now_s, value_c));
                self.stretch_energy = 0.0;
            }
        }
    }

    /// Chooses the duty and the state.
    fn adjust(&mut self, now_s: f64, seconds: f64) {
        self.wanted = self.wanted_duty();
        let tried = self.fit.as_ref().is_some_and(|fit| fit.stretches() >= STRETCHES_MIN);
        let rise = if tried { DUTY_RISE_PER_S.1 } else { DUTY_RISE_PER_S.0 };
        let highest = if self.fit.is_some() { self.duty + rise * seconds } else { DUTY_FIRST.min(self.duty) };
        self.duty = self.wanted.min(highest).clamp(DUTY_MIN, 1.0);
        let next = self.next_state();
        if next != self.state && now_s - self.state_since_s >= DWELL_S {
            self.state = next;
            self.state_since_s = now_s;
        }
    }

    /// The duty that keeps the prediction under the target.
    fn wanted_duty(&self) -> f64 {
        if !self.sensor.believed() {
            return DUTY_MIN;
        }
        let Some(fit) = &self.fit else { return DUTY_FIRST };
        let allowed = (self.target_c() - self.believed_c) / HORIZON_S;
        let p = self.power(true);
        let spare = allowed - fit.slope(p, self.believed_c);
        let heating = if spare >= 0.0 {
            fit.heating_c_per_s()
        } else {
            let heating = fit.heating_c_per_s();
            CUT_SHARE * heating.min(CUT_HEATING_C_PER_S.max(CUT_SHARE * heating))
        };
        let duty = (p + spare / heating - self.idle_p) / (self.full_p - self.idle_p).max(0.05);
        duty.clamp(DUTY_MIN, 1.0)
    }

    /// The temperature that the duty aims at, degrees.
    pub fn target_c(&self) -> f64 {
        self.limits.guard_c() - MARGIN_C - self.scatter_c.min(SCATTER_MAX_C)
    }

    fn next_state(&self) -> HeatState {
        let guard_c = self.limits.guard_c();
        let over = self.believed_c - guard_c;
        let held = |state: HeatState| if self.state >= state { HYSTERESIS_C } else { 0.0 };
        if !self.sensor.believed() || over >= CRITICAL_C - held(HeatState::Critical) {
            return HeatState::Critical;
        }
        if self.fit.is_none() {
            return HeatState::Nominal;
        }
        if self.wanted < UNLIMITED || (self.state >= HeatState::Throttled && self.duty < UNLIMITED) {
            return HeatState::Throttled;
        }
        if over >= -WARM_C - held(HeatState::Warm) { HeatState::Warm } else { HeatState::Nominal }
    }

    /// What it believes the temperature to be, degrees; missing before the first reading.
    pub fn temperature_c(&self) -> Option<f64> {
        self.fit.is_some().then_some(self.believed_c)
    }

    /// Where full work at the duty in force leads, degrees; missing before the first reading.
    pub fn steady_c(&self) -> Option<f64> {
        self.fit.as_ref().map(|fit| fit.steady_c(self.power(true)))
    }

    /// Degrees a second by which it warms with what it does now; 0 before the first reading.
    pub fn warming_c_per_s(&self) -> f64 {
        self.fit.as_ref().map_or(0.0, |fit| fit.slope(self.power(self.busy_last), self.believed_c))
    }

    /// Share of the time that the device may compute, in (0, 1].
    pub fn duty(&self) -> f64 {
        self.duty
    }

    /// How hot it is, as shown.
    pub fn state(&self) -> HeatState {
        self.state
    }

    /// Whether it is over its guard temperature or blind, now: work should go elsewhere.
    pub fn hot(&self) -> bool {
        !self.sensor.believed() || self.believed_c >= self.limits.guard_c() + CRITICAL_C
    }

    /// Whether its sensor is believed.
    pub fn believed(&self) -> bool {
        self.sensor.believed()
    }

    /// Why its sensor is not believed.
    pub fn disbelief(&self) -> &'static str {
        self.sensor.reason()
    }

    /// When time alone changes something, seconds: the sensor falls silent.
    pub fn wake_s(&self) -> f64 {
        if self.sensor.believed() { self.sensor.stale_at_s() } else { f64::INFINITY }
    }

    /// Degrees left to the guard temperature; missing before the first reading.
    pub fn headroom_c(&self) -> Option<f64> {
        self.temperature_c().map(|temperature_c| self.limits.guard_c() - temperature_c)
    }

    /// Whether it would be no warmer than what the duty aims at, had it hung at full power for so many seconds: a sensor that
    /// is believed would show that, another not.
    pub fn cool_if_hung(&self, seconds: f64) -> bool {
        let unseen_c = self
            .fit
            .as_ref()
            .filter(|_| !self.sensor.believed())
            .map_or(f64::NEG_INFINITY, |fit| fit.after_c(self.believed_c, self.full_p.max(1.0), seconds));
        self.fit.is_none() || self.believed_c.max(unseen_c) <= self.target_c()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(celsius: f64) -> Reading {
        Reading { temperature_c: Some(celsius), power_w: None, throttling: false, memory_share: None }
    }

    fn near(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-9, "{got}, not {expected}");
    }

    /// A guard that began a second ago with a reading of 50 °C, of a device with 2 W idle and 10 W at full power.
    fn begun() -> Guard {
        let mut guard = Guard::new(ThermalLimits::new(100.0), 2.0, 10.0);
        guard.pass(0.0, false);
        guard.pass(1.0, false);
        guard.sensed(1.0, &reading(50.0));
        guard
    }

    #[test]
    fn power_and_time_are_counted_between_readings() {
        let mut guard = begun();
        near(guard.believed_c, 50.0);
        assert_eq!((guard.energy, guard.busy_s, guard.span_s), (0.0, 0.0, 0.0));
        guard.tell(0.5);
        guard.pass(3.0, true);
        guard.pass(4.0, false);
        // 2 s at idle 0.2 + 0.8 · 0.5, 1 s idle, in units of full power.
        near(guard.energy, 2.0 * 0.6 + 0.2);
        assert_eq!((guard.busy_s, guard.span_s, guard.busy_last), (2.0, 3.0, false));
        let before = (guard.energy, guard.stretch_energy);
        guard.pass(3.5, true);
        near(guard.energy, before.0);
        guard.sensed(4.0, &reading(50.2));
        near(guard.stretch_energy, before.1 + before.0);
        assert_eq!((guard.energy, guard.span_s), (0.0, 0.0));
    }

    #[test]
    fn a_reading_pulls_what_is_believed_and_a_repeated_one_only_upwards() {
        let mut guard = begun();
        guard.pass(2.0, true);
        let believed_c = guard.believed_c;
        guard.sensed(2.0, &reading(believed_c + 2.0));
        near(guard.believed_c, believed_c + 2.0 * GAIN);
        near(guard.scatter_c, 0.2);
        near(guard.target_c(), 85.0 - MARGIN_C - 0.2f64.min(SCATTER_MAX_C));
        let believed_c = guard.believed_c;
        guard.sensed(2.5, &reading(believed_c - 1.0));
        near(guard.believed_c, believed_c - GAIN);
        near(guard.scatter_c, 0.2 + 0.1 * (1.0 - 0.2));
        // The same value again says nothing new: it lifts what is believed, and does not lower it.
        guard.correct(3.0, guard.believed_c - 0.5, 0.2, false);
        near(guard.believed_c, believed_c - GAIN);
        guard.correct(3.0, believed_c, 0.2, false);
        near(guard.believed_c, believed_c);
    }

    #[test]
    fn full_power_is_learned_from_a_sensor_of_power() {
        let mut guard = begun();
        guard.tell(0.5);
        guard.pass(3.0, true);
        // 9 W at half duty: idle 0.2, so full power would be 0.2 + 0.7 / 0.5 units.
        guard.sensed(3.0, &Reading { power_w: Some(9.0), ..reading(50.0) });
        near(guard.full_p, 1.0 + 0.05 * (1.6 - 1.0));
        let learned = guard.full_p;
        guard.pass(5.0, false);
        guard.sensed(5.0, &Reading { power_w: Some(2.0), ..reading(50.1) });
        near(guard.full_p, learned);
        guard.pass(7.0, true);
        guard.sensed(7.0, &Reading { power_w: Some(-1.0), ..reading(50.2) });
        near(guard.full_p, learned);
    }

    #[test]
    fn a_hang_warms_unseen_where_the_sensor_is_not_believed() {
        let mut guard = begun();
        guard.pass(2.0, true);
        assert!(guard.believed() && guard.cool_if_hung(1e6), "a sensor would show it");
        guard.believed_c = guard.target_c() + 0.1;
        assert!(!guard.cool_if_hung(0.0));
        // Blind for a minute at least duty; the prior says 3 degrees a second at full power, and 30 s.
        let mut guard = begun();
        guard.tell(DUTY_MIN);
        (2..60).for_each(|second| guard.pass(f64::from(second), true));
        assert!(!guard.believed());
        let (target_c, believed_c, fit) = (guard.target_c(), guard.believed_c, guard.fit.clone().unwrap());
        let turns_s = |full: f64| {
            let end_c = fit.steady_c(full);
            fit.tau_s() * ((end_c - believed_c) / (end_c - target_c)).ln()
        };
        for full in [1.0, 1.5] {
            guard.full_p = full;
            assert!(guard.cool_if_hung(turns_s(full) - 0.01) && !guard.cool_if_hung(turns_s(full) + 0.01));
        }
        // However warm it is believed to be, a hang does not cool it.
        guard.believed_c = 190.0;
        assert!(!guard.cool_if_hung(1e3));
        assert!(Guard::new(ThermalLimits::new(100.0), 2.0, 10.0).cool_if_hung(1.0), "nothing is known");
    }

    #[test]
    fn a_blind_guard_allows_the_least_and_a_new_one_little() {
        let mut guard = Guard::new(ThermalLimits::new(100.0), 2.0, 10.0);
        near(guard.duty(), DUTY_FIRST);
        guard.pass(0.0, true);
        guard.pass(60.0, true);
        assert!(!guard.believed() && guard.hot());
        near(guard.duty(), DUTY_MIN);
        assert_eq!(guard.state(), HeatState::Critical);
    }

    #[test]
    fn the_state_follows_what_is_believed_and_wanted_with_hysteresis() {
        use HeatState::{Critical, Nominal, Throttled, Warm};
        // The state, degrees over the guard temperature, the duty that is wanted and that in force, the next state.
        for (state, over_c, wanted, duty, expected) in [
            (Nominal, -10.1, 1.0, 1.0, Nominal),
            (Nominal, -9.9, 1.0, 1.0, Warm),
            (Warm, -12.9, 1.0, 1.0, Warm),
            (Warm, -13.1, 1.0, 1.0, Nominal),
            (Warm, 0.9, 1.0, 1.0, Warm),
            (Warm, 1.1, 1.0, 1.0, Critical),
            (Critical, -1.9, 1.0, 1.0, Critical),
            (Critical, -2.1, 1.0, 1.0, Warm),
            (Nominal, -20.0, 0.98, 1.0, Throttled),
            (Nominal, -20.0, UNLIMITED, 1.0, Nominal),
            (Nominal, -20.0, 1.0, 0.5, Nominal),
            (Throttled, -20.0, 1.0, 0.5, Throttled),
            (Throttled, -20.0, 1.0, 1.0, Nominal),
        ] {
            let mut guard = begun();
            (guard.state, guard.believed_c) = (state, 85.0 + over_c);
            (guard.wanted, guard.duty) = (wanted, duty);
            assert_eq!(guard.next_state(), expected, "{state:?}, {over_c}, {wanted}, {duty}");
            assert_eq!(guard.hot(), over_c >= 1.0, "{over_c}");
        }
        let unknown = Guard::new(ThermalLimits::new(100.0), 2.0, 10.0);
        assert_eq!(unknown.next_state(), Nominal);
    }

    #[test]
    fn the_duty_rises_by_the_fitted_heating_and_is_cut_by_less() {
        let mut guard = begun();
        let fit = guard.fit.clone().unwrap();
        let heating = fit.heating_c_per_s();
        let cut = CUT_SHARE * heating.min(CUT_HEATING_C_PER_S.max(CUT_SHARE * heating));
        for (told, believed_c, rises) in [(0.5, 80.0, true), (1.0, 74.0, false), (1.0, 73.0, true)] {
            guard.tell(told);
            guard.believed_c = believed_c;
            let p = 0.2 + 0.8 * told;
            let spare = (83.5 - believed_c) / HORIZON_S - fit.slope(p, believed_c);
            assert_eq!(spare >= 0.0, rises, "{told} at {believed_c}: {spare}");
            let expected = (p + spare / if rises { heating } else { cut } - 0.2) / 0.8;
            near(guard.wanted_duty(), expected.clamp(DUTY_MIN, 1.0));
        }
    }

    #[test]
    fn what_it_tells_of_itself() {
        let new = Guard::new(ThermalLimits::new(100.0), 2.0, 10.0);
        assert_eq!((new.temperature_c(), new.steady_c(), new.warming_c_per_s()), (None, None, 0.0));
        let mut guard = begun();
        guard.tell(0.5);
        guard.pass(2.0, true);
        let fit = guard.fit.clone().unwrap();
        let believed_c = guard.temperature_c().unwrap();
        near(believed_c, fit.after_c(50.0, 0.6, 1.0));
        near(guard.headroom_c().unwrap(), 85.0 - believed_c);
        near(guard.steady_c().unwrap(), fit.steady_c(0.6));
        near(guard.warming_c_per_s(), fit.slope(0.6, believed_c));
        assert!(guard.warming_c_per_s() > 0.5);
        // The sensor counts as silent some of its periods after its last word.
        assert!(guard.wake_s() > 1.0 && guard.wake_s() < 60.0, "{}", guard.wake_s());
        (3..90).for_each(|second| guard.pass(f64::from(second), true));
        assert!(!guard.believed() && guard.hot());
        assert_eq!(guard.wake_s(), f64::INFINITY);
    }

    #[test]
    fn a_cold_device_is_believed_and_a_stretch_ends_after_its_time() {
        let mut guard = Guard::new(ThermalLimits::new(100.0), 2.0, 10.0);
        guard.pass(0.0, false);
        guard.pass(1.0, false);
        guard.sensed(1.0, &reading(-5.0));
        guard.pass(2.0, false);
        assert!(guard.believed_c < 0.0, "{}", guard.believed_c);
        let learnt = |at_s: f64| {
            let mut guard = begun();
            guard.correct(at_s, 50.0, 0.2, true);
            guard.fit.unwrap().stretches()
        };
        assert_eq!((learnt(1.0 + STRETCH_S.1 - 0.1), learnt(1.0 + STRETCH_S.1)), (0, 1));
        // Power that would mean less than idle at full work is no power of full work.
        let mut guard = begun();
        guard.tell(1.0);
        guard.pass(3.0, true);
        guard.sensed(3.0, &Reading { power_w: Some(2.0), ..reading(50.0) });
        near(guard.full_p, 1.0 + 0.05 * (0.3 - 1.0));
    }
}
