//! The guard against simulated plants: slow ones, fast ones, two time constants, noise, coarse and failing sensors.

use qeil_control::config::ThermalLimits;
use qeil_control::event::Reading;
use qeil_control::heat::{DUTY_MIN, DWELL_S, Guard};
use qeil_control::view::HeatState;
use qeil_laws::random::Random;

/// A die over a heat sink over the surroundings.
#[derive(Clone, Copy)]
struct Plant {
    die_r: f64,
    die_c: f64,
    sink_r: f64,
    sink_c: f64,
    ambient_c: f64,
    idle_w: f64,
    full_w: f64,
    max_c: f64,
}

const BOARD: Plant = Plant {
    die_r: 1.2,
    die_c: 8.0,
    sink_r: 5.5,
    sink_c: 30.0,
    ambient_c: 30.0,
    idle_w: 2.7,
    full_w: 10.0,
    max_c: 85.0,
};
const LAPTOP: Plant = Plant {
    die_r: 0.1,
    die_c: 90.0,
    sink_r: 0.9,
    sink_c: 160.0,
    ambient_c: 35.0,
    idle_w: 3.0,
    full_w: 65.0,
    max_c: 100.0,
};
const QUICK: Plant = Plant {
    die_r: 0.6,
    die_c: 12.0,
    sink_r: 0.01,
    sink_c: 1000.0,
    ambient_c: 40.0,
    idle_w: 5.0,
    full_w: 120.0,
    max_c: 105.0,
};

#[derive(Clone, Copy, PartialEq)]
enum Sensor {
    Exact,
    Noisy(f64),
    Coarse,
}

struct Run {
    hottest_c: f64,
    over_max_s: f64,
    changes: Vec<f64>,
    work_s: f64,
    duty_end: f64,
    /// Mean of the last third.
    temperature_end_c: f64,
    states: Vec<HeatState>,
}

/// What the sensor says in place of the truth.
type Fault = fn(f64, f64) -> Option<Option<f64>>;

fn no_fault(_: f64, _: f64) -> Option<Option<f64>> {
    None
}

struct Case {
    plant: Plant,
    sensor: Sensor,
    period_s: f64,
    tells_power: bool,
    busy: fn(f64) -> bool,
    ambient: fn(f64) -> f64,
    fault: Fault,
    seconds: f64,
}

impl Case {
    fn of(plant: Plant) -> Self {
        Self {
            plant,
            sensor: Sensor::Noisy(0.3),
            period_s: 1.0,
            tells_power: false,
            busy: |_| true,
            ambient: |_| 0.0,
            fault: no_fault,
            seconds: 1800.0,
        }
    }

    fn run(&self) -> Run {
        let plant = self.plant;
        let mut guard = Guard::new(ThermalLimits::new(plant.max_c), plant.idle_w, plant.full_w);
        let mut random = Random::new(7, 0);
        let (mut die, mut sink) = (plant.idle_w * plant.die_r, plant.idle_w * plant.sink_r);
        let mut run = Run {
            hottest_c: f64::MIN,
            over_max_s: 0.0,
            changes: Vec::new(),
            work_s: 0.0,
            duty_end: 0.0,
            temperature_end_c: 0.0,
            states: vec![guard.state()],
        };
        let (dt, mut next_s) = (0.05, 0.0);
        let mut now = 0.0;
        while now < self.seconds {
            let busy = (self.busy)(now);
            let duty = guard.duty();
            guard.tell(duty);
            assert!(duty > 0.0 && duty <= 1.0);
            let watts = if busy { plant.idle_w + (plant.full_w - plant.idle_w) * duty } else { plant.idle_w };
            let to = |rise: f64, r: f64, c: f64| watts * r + (rise - watts * r) * (-dt / (r * c)).exp();
            (die, sink) = (to(die, plant.die_r, plant.die_c), to(sink, plant.sink_r, plant.sink_c));
            now += dt;
            let t = plant.ambient_c + (self.ambient)(now) + die + sink;
            guard.pass(now, busy);
            if now >= next_s {
                next_s += self.period_s;
                let told = match self.sensor {
                    Sensor::Exact => t,
                    Sensor::Noisy(sigma) => t + sigma * random.normal(),
                    Sensor::Coarse => t.round(),
                };
                match (self.fault)(now, told) {
                    Some(None) => {}
                    Some(Some(value)) => guard.sensed(now, &reading(Some(value), None)),
                    None => guard.sensed(now, &reading(Some(told), self.tells_power.then_some(watts))),
                }
            }
            if run.states.last() != Some(&guard.state()) {
                run.changes.push(now);
                run.states.push(guard.state());
            }
            run.hottest_c = run.hottest_c.max(t);
            run.over_max_s += if t > plant.max_c { dt } else { 0.0 };
            run.work_s += if busy { duty * dt } else { 0.0 };
            if now > self.seconds * 2.0 / 3.0 {
                run.temperature_end_c += t * dt / (self.seconds / 3.0);
            }
        }
        run.duty_end = guard.duty();
        run
    }
}

fn reading(temperature_c: Option<f64>, power_w: Option<f64>) -> Reading {
    Reading { temperature_c, power_w, throttling: false, memory_share: None }
}

fn holds(name: &str, plant: Plant, run: &Run) {
    let guard_c = ThermalLimits::new(plant.max_c).guard_c();
    let over = run.hottest_c - guard_c;
    assert!(over <= 2.0, "{name}: {over:.2} degrees over the guard");
    assert_eq!(run.over_max_s, 0.0, "{name}");
    for pair in run.changes.windows(2) {
        assert!(pair[1] - pair[0] >= DWELL_S - 1e-9, "{name}: states change within {}", pair[1] - pair[0]);
    }
}

#[test]
fn full_load_stays_under_the_guard_and_near_it() {
    for (name, plant) in [("board", BOARD), ("laptop", LAPTOP), ("quick", QUICK)] {
        for sensor in [Sensor::Exact, Sensor::Noisy(0.5), Sensor::Coarse] {
            for (period_s, tells_power) in [(0.25, false), (1.0, true), (2.0, false)] {
                let run = Case { sensor, period_s, tells_power, ..Case::of(plant) }.run();
                holds(name, plant, &run);
                let guard_c = ThermalLimits::new(plant.max_c).guard_c();
                let below = guard_c - run.temperature_end_c;
                println!(
                    "{name} {period_s} s: hottest {:.2} of {guard_c}, end {below:.2} below, duty {:.2}, work {:.0} s",
                    run.hottest_c, run.duty_end, run.work_s
                );
                assert!(below < 8.0, "{name}: {below:.1} degrees given away");
                assert!(run.states.contains(&HeatState::Throttled), "{name}: {:?}", run.states);
            }
        }
    }
}

#[test]
fn loads_that_come_and_go_and_ambient_that_rises_stay_under_the_guard() {
    let busies: [fn(f64) -> bool; 3] =
        [|t| t % 60.0 < 30.0, |t| t > 900.0, |t| (t as u64 / 7).is_multiple_of(3)];
    for (name, plant) in [("board", BOARD), ("laptop", LAPTOP), ("quick", QUICK)] {
        for busy in busies {
            let ambient: fn(f64) -> f64 = |t| 10.0 * (t / 1800.0).min(1.0);
            let run = Case { busy, ambient, ..Case::of(plant) }.run();
            holds(name, plant, &run);
        }
    }
}

#[test]
fn a_cool_device_is_not_held_back() {
    let cool = Plant { full_w: 5.0, ambient_c: 15.0, ..BOARD };
    let run = Case::of(cool).run();
    assert_eq!(run.duty_end, 1.0);
    assert!(run.work_s > 1760.0, "{}", run.work_s);
    assert!(!run.states.contains(&HeatState::Throttled) && !run.states.contains(&HeatState::Critical));
}

#[test]
fn failing_sensors_count_as_hot_and_come_back() {
    let faults: [(&str, Fault, bool); 7] = [
        ("silent", |t, _| (t > 300.0).then_some(None), true),
        ("too hot to be", |t, _| (t > 300.0).then_some(Some(900.0)), true),
        ("too cold to be", |t, _| (t > 300.0).then_some(Some(-55.0)), true),
        ("no number", |t, _| (t > 300.0).then_some(Some(f64::NAN)), true),
        ("falls faster than physics", |t, _| (t > 300.0).then_some(Some(21.5)), true),
        ("stuck", |t, _| (t > 300.0).then_some(Some(57.3)), true),
        ("silent for a minute", |t, _| (300.0..360.0).contains(&t).then_some(None), false),
    ];
    for (name, fault, lasting) in faults {
        for (kind, plant) in [("board", BOARD), ("laptop", LAPTOP)] {
            let run = Case { fault, seconds: 900.0, ..Case::of(plant) }.run();
            holds(&format!("{kind}, {name}"), plant, &run);
            assert!(run.states.contains(&HeatState::Critical), "{kind}, {name}: {:?}", run.states);
            assert_eq!(run.duty_end == DUTY_MIN, lasting, "{kind}, {name}: duty {}", run.duty_end);
        }
    }
}

#[test]
fn a_sensor_that_sticks_while_the_device_heats_does_not_let_it_run_hot() {
    // It sticks at the moment when a load begins.
    let fault: Fault = |t, told| {
        thread_local!(static HELD: std::cell::Cell<Option<f64>> = const { std::cell::Cell::new(None) });
        if t < 1.0 {
            HELD.set(None);
        }
        if t < 120.0 {
            return None;
        }
        if HELD.get().is_none() {
            HELD.set(Some(told));
        }
        Some(HELD.get())
    };
    for (name, plant) in [("board", BOARD), ("laptop", LAPTOP)] {
        for sensor in [Sensor::Exact, Sensor::Noisy(0.3), Sensor::Coarse] {
            let run = Case { fault, sensor, busy: |t| !(60.0..=120.0).contains(&t), ..Case::of(plant) }.run();
            holds(name, plant, &run);
            assert_eq!(run.states.last(), Some(&HeatState::Critical), "{name}");
        }
    }
}

#[test]
fn nothing_heard_from_the_start_means_least_duty() {
    let run = Case { fault: |_, _| Some(None), seconds: 60.0, ..Case::of(BOARD) }.run();
    assert_eq!(run.duty_end, DUTY_MIN);
    assert_eq!(run.states, [HeatState::Nominal, HeatState::Critical]);
}
