//! Softness: heat, slowness, health and the power cap, and what they do to work in flight.
//!
//! None of these takes the last serving device out; a device that is merely hot or slow is paced, gets less work, and
//! where others can take over lets go of what it holds. All of it is off where the configuration says so, and then shows
//! what it prevents.

use super::{Control, reading};
use crate::config::DeviceId;
use crate::event::{Output, Reading};
use crate::faults::Jobs;
use crate::health::Signs;
use crate::heat::{DUTY_MIN, Guard};
use crate::journal::Kind;
use crate::view::HeatState;

/// A lower duty is ordered when it differs by so much, a higher one when it differs by more: each is a message and a row.
const DUTY_STEP: f64 = 0.03;
const DUTY_STEP_UP: f64 = 0.1;
/// Seconds that a device must be hot before its work is moved away: a reading that corrects itself moves nothing.
const HOT_S: f64 = 2.0;
/// Seconds between two such moves from one device, so that no sample is carried to and fro.
pub(super) const LEAVE_EVERY_S: f64 = 30.0;
/// A device disobeys that is near its guard temperature (so many degrees over it, or less under) and has not become cooler by
/// so many degrees within so many seconds of least duty: some readings of a slow sensor, and a twentieth of what a heat
/// sink with a time constant of two minutes would lose.
const DISOBEYS_C: f64 = -1.0;
const COOLS_C: f64 = 0.1;
const DISOBEYS_S: f64 = 6.0;
/// And half of that over the guard temperature: a graphics card that hangs warms by half a degree a second.
const DISOBEYS_OVER_S: f64 = 3.0;
/// A device that takes so many times as long as its profile says, and as its peers do by theirs, is at fault. Less is a
/// matter of placement, which sees the same figure.
const SLOW: f64 = 3.0;
/// Seconds for which it must do so: some memories of the observed speed.
const SLOW_S: f64 = 10.0;

impl Control {
    pub(super) fn sensed(&mut self, device: DeviceId, told: &Reading) {
        let Some(i) = self.index(device) else { return };
        let now_s = self.now_s;
        let device = &mut self.devices[i];
        if let Some(guard) = &mut device.guard {
            guard.sensed(now_s, told);
        }
        let signs = Signs {
            slowness: device.speed.slowness(),
            headroom_c: device.guard.as_ref().and_then(Guard::headroom_c),
            warming_c_per_s: device.guard.as_ref().map_or(0.0, Guard::warming_c_per_s),
            throttling: told.throttling,
            memory_share: told.memory_share,
        };
        device.health.sensed(now_s, &signs);
        if self.config.guarded
            && let Some((trend, figure)) = self.devices[i].health.warning(now_s)
        {
            let score = self.devices[i].health.score();
            let mut readings = vec![reading("figure", figure), reading("health", score)];
            readings.extend(signs.headroom_c.map(|left_c| reading("headroom_c", left_c)));
            readings.push(reading("slowness", signs.slowness));
            self.decide(Kind::Warned, Some(i), None, trend.words(), readings);
        }
        self.guard_act(i);
    }

    /// Time has passed for the guard of a device.
    pub(super) fn guard_time(&mut self, i: usize) {
        self.guard_act(i);
        self.watch_obedience(i);
        self.watch_slowness(i);
        self.rescue(i);
    }

    /// Stops the worker of a device that does not cool near its guard temperature though it was told to do next to nothing:
    /// it hangs in its work, or its driver ignores the pace, and no order but this one cools it. The last device, too.
    fn watch_obedience(&mut self, i: usize) {
        let now_s = self.now_s;
        let device = &self.devices[i];
        // A sensor that is not believed shows no cooling, either.
        let felt = device.guard.as_ref().filter(|guard| guard.believed());
        let over_c = felt.and_then(Guard::headroom_c).map(|left_c| -left_c);
        // Not only in service: a probe or a known answer is work as well, and what hangs in it heats as well.
        let told = self.config.guarded && device.course.has_worker() && device.duty <= DUTY_MIN;
        let Some(over_c) = over_c.filter(|over_c| told && *over_c > DISOBEYS_C) else {
            self.devices[i].unmoved = None;
            return;
        };
        let (since_s, from_c) = *self.devices[i].unmoved.get_or_insert((now_s, over_c));
        let patience_s = if over_c > 0.0 { DISOBEYS_OVER_S } else { DISOBEYS_S };
        if now_s - since_s < patience_s {
            return;
        }
        if over_c < from_c - COOLS_C {
            self.devices[i].unmoved = Some((now_s, over_c));
            return;
        }
        let reason =
            format!("{over_c:+.1} degrees from its guard temperature it does not cool at its least duty");
        let draw = self.random.uniform();
        let turn = self.devices[i].course.quarantine(now_s, Jobs::Lost, true, reason, draw);
        self.devices[i].unmoved = None;
        self.take_turn(i, Some(turn));
    }

    /// Tells the device its duty and the journal its heat, where they changed; moves work away from what stays hot.
    fn guard_act(&mut self, i: usize) {
        if !self.config.guarded {
            return;
        }
        self.tell_heat(i);
        let duty = self.wanted_duty(i);
        let told = self.devices[i].duty;
        let at_end = duty != told && (duty == 1.0 || duty == DUTY_MIN);
        if at_end || told - duty >= DUTY_STEP || duty - told >= DUTY_STEP_UP {
            self.devices[i].duty = duty;
            if let Some(guard) = &mut self.devices[i].guard {
                guard.tell(duty);
            }
            self.out.push(Output::Pace { device: super::id_of(i), duty: duty as f32 });
            let mut readings = self.heat_readings(i);
            readings.push(reading("duty", f64::from(duty as f32)));
            let reason = match &self.devices[i].guard {
                Some(guard) if !guard.believed() => guard.disbelief(),
                _ if duty < told => "its temperature or power would go over the bound",
                _ => "there is room for more",
            };
            self.decide(Kind::Paced, Some(i), None, reason, readings);
        }
        let hot = self.is_hot(i);
        if !hot {
            self.devices[i].hot_since_s = None;
            return;
        }
        let now_s = self.now_s;
        let since_s = *self.devices[i].hot_since_s.get_or_insert(now_s);
        let device = &self.devices[i];
        let due = device.sequences > 0 && now_s - since_s >= HOT_S && now_s - device.left_s >= LEAVE_EVERY_S;
        if due && self.a_cool_device_takes_work() {
            self.devices[i].left_s = now_s;
            self.leave_jobs(i, "the device is hot or its sensor is not believed");
        }
    }

    fn tell_heat(&mut self, i: usize) {
        let Some(guard) = &self.devices[i].guard else { return };
        let state = guard.state();
        if state == self.devices[i].heat {
            return;
        }
        let reason = match state {
            HeatState::Critical if !guard.believed() => guard.disbelief(),
            HeatState::Critical => "it is over its guard temperature",
            HeatState::Throttled => "its duty is held down to stay under its guard temperature",
            HeatState::Warm => "it is near its guard temperature",
            HeatState::Nominal => "it is far from its guard temperature",
        };
        self.devices[i].heat = state;
        let mut readings = self.heat_readings(i);
        readings.push(reading("heat_state", state.code()));
        self.decide(Kind::Heat, Some(i), None, reason, readings);
    }

    fn heat_readings(&self, i: usize) -> Vec<(String, f64)> {
        let Some(guard) = &self.devices[i].guard else { return Vec::new() };
        let mut readings = Vec::with_capacity(4);
        readings.extend(guard.temperature_c().map(|value| reading("temperature_c", value)));
        readings.extend(guard.headroom_c().map(|value| reading("headroom_c", value)));
        readings.extend(guard.steady_c().map(|value| reading("steady_c", value)));
        readings
    }

    /// The lower of what the guard and the power cap allow.
    fn wanted_duty(&self, i: usize) -> f64 {
        let heat = self.devices[i].guard.as_ref().map_or(1.0, Guard::duty);
        let Some(cap_w) = self.config.power_cap_w else { return heat };
        // What the others draw or idle with is not this one's; where it alone is too much, it is paced.
        let others_w: f64 =
            (0..self.devices.len()).filter(|other| *other != i).map(|other| self.predicted_w(other, 0)).sum();
        let (idle_w, busy_w) = self.idle_and_busy_w(i);
        let room = (cap_w - others_w - idle_w) / (busy_w - idle_w).max(f64::MIN_POSITIVE);
        heat.min(room.clamp(DUTY_MIN, 1.0))
    }

    /// Whether a device is over its guard temperature or blind. Never where nothing is guarded.
    pub(super) fn is_hot(&self, i: usize) -> bool {
        self.config.guarded && self.devices[i].guard.as_ref().is_some_and(Guard::hot)
    }

    /// Whether any device takes work and is not hot.
    pub(super) fn a_cool_device_takes_work(&self) -> bool {
        (0..self.devices.len()).any(|i| self.devices[i].course.takes_work(self.now_s) && !self.is_hot(i))
    }

    /// Takes a device out that is far slower than it should be and than its peers are, as long as another serves.
    fn watch_slowness(&mut self, i: usize) {
        let now_s = self.now_s;
        let slowness = self.devices[i].speed.slowness();
        if !self.config.guarded || slowness < SLOW || !self.devices[i].course.serves() {
            self.devices[i].slow_since_s = None;
            return;
        }
        let since_s = *self.devices[i].slow_since_s.get_or_insert(now_s);
        if now_s - since_s < SLOW_S {
            return;
        }
        let peers = |other: &usize| *other != i && self.devices[*other].course.serves();
        let best = (0..self.devices.len())
            .filter(peers)
            .map(|other| self.devices[other].speed.slowness())
            .fold(f64::INFINITY, f64::min);
        // Where the others are slow as well, the machine is busy with something else.
        if !best.is_finite() || slowness < SLOW * best {
            return;
        }
        let reason = format!(
            "it takes {slowness:.1} times as long as its profile says, its best peer {best:.1} times"
        );
        let draw = self.random.uniform();
        let turn = self.devices[i].course.quarantine(now_s, Jobs::Leave, false, reason, draw);
        self.devices[i].slow_since_s = None;
        self.devices[i].speed.forget();
        self.take_turn(i, Some(turn));
    }
}
