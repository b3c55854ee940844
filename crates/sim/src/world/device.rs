//! One device of a world: its worker's process, what it computes at present, what is wrong with it, its account.

use super::contract::OVERSHOOT_MAX_C;
use crate::fault::{Condition, FaultKind, Sensor};
use crate::machine::DeviceSpec;
use crate::report::DeviceReport;
use crate::worker::{Stretch, Worker};
use qeil_control::config::ThermalLimits;
use qeil_control::event::JobId;
use qeil_control::view::{HeatState, Standing};
use qeil_laws::random::Random;

/// Standard deviation of a temperature sensor, degrees Celsius: on-die sensors flicker by some tenths.
const SENSOR_NOISE_C: f64 = 0.2;
/// Share of its dynamic power that a hung worker spins at.
const HUNG_POWER: f64 = 0.5;

/// The process that holds the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// There is none.
    Absent,
    /// It loads.
    Starting,
    /// It answers.
    Up,
}

/// A stretch in progress.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    /// What is computed.
    pub stretch: Stretch,
    /// Seconds at full speed that are left.
    pub left_s: f64,
    /// Joules so far, idle power included.
    pub joules: f64,
    /// Number of the event that ends it, 0 before there is one; an older one is stale.
    pub event: u64,
}

impl Running {
    /// End with the step in progress instead of the last one.
    pub fn cut_short(&mut self) {
        let step_s = self.stretch.cost.seconds;
        let passed_s = self.stretch.seconds() - self.left_s;
        let steps = ((passed_s / step_s).floor() as u32).saturating_add(1).min(self.stretch.steps);
        self.stretch.steps = steps;
        self.left_s = self.stretch.seconds() - passed_s;
    }
}

/// One device.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its description, with the true costs: the profile's times noise.
    pub spec: DeviceSpec,
    /// Its heat limits.
    pub limits: ThermalLimits,
    /// Tokens that its memory holds when healthy.
    pub context_tokens: u32,
    /// Its worker's process.
    pub process: Process,
    /// Number of the process; what an older one still had to say is stale.
    pub life: u64,
    /// Its jobs.
    pub worker: Worker,
    /// What it computes.
    pub running: Option<Running>,
    /// Share of the full speed at present.
    pub speed: f64,
    /// Watts at present.
    pub power_w: f64,
    /// Ordered duty.
    pub duty: f64,
    /// Faults in force, by their number.
    pub faults: Vec<(usize, FaultKind)>,
    /// Their sum.
    pub condition: Condition,
    /// A hang that a restart has cured.
    pub cured: Vec<usize>,
    /// When something last went wrong that justifies taking it out, seconds.
    pub hard_s: f64,
    /// Whether the loop believes its worker to be up.
    pub told_up: bool,
    /// Samples that were cancelled while it hung: it says so when it goes on.
    pub unanswered: Vec<(JobId, u32)>,
    /// What its sensor said last, degrees Celsius.
    pub said_c: f64,
    /// As the loop shows it.
    pub standing: Standing,
    /// As the loop shows it.
    pub heat: HeatState,
    /// When that changed, seconds.
    pub heat_since_s: f64,
    /// Its account.
    pub report: DeviceReport,
}

impl Device {
    /// A device that is down.
    pub fn new(spec: DeviceSpec, context_tokens: u32) -> Self {
        let limits = ThermalLimits::new(spec.max_c.value);
        let report = DeviceReport {
            name: spec.name.clone(),
            kind: spec.kind,
            guard_c: limits.guard_c(),
            max_c: limits.max_c,
            peak_c: f64::NEG_INFINITY,
            over_guard_s: 0.0,
            critical_s: 0.0,
            heat_s: [0.0; 4],
            heat_changes: 0,
            duty: 0.0,
            busy: 0.0,
            tokens: 0,
            energy_j: 0.0,
            quarantines: 0,
        };
        Self {
            limits,
            context_tokens,
            process: Process::Absent,
            life: 0,
            worker: Worker::default(),
            running: None,
            speed: 1.0,
            power_w: spec.idle_w.value,
            duty: 1.0,
            faults: Vec::new(),
            condition: Condition::default(),
            cured: Vec::new(),
            unanswered: Vec::new(),
            hard_s: f64::NEG_INFINITY,
            told_up: false,
            said_c: 25.0,
            standing: Standing::Down,
            heat: HeatState::Nominal,
            heat_since_s: 0.0,
            report,
            spec,
        }
    }

    /// Faults changed.
    pub fn examine(&mut self) {
        let cured = &self.cured;
        let active = self.faults.iter().filter(|(number, _)| !cured.contains(number));
        self.condition = Condition::under(active.map(|(_, kind)| kind));
    }

    /// A new process starts: a hang is gone with the old one.
    pub fn restart(&mut self) {
        let hangs =
            self.faults.iter().filter(|(_, kind)| *kind == FaultKind::Hang).map(|(number, _)| *number);
        self.cured = hangs.collect();
        self.life += 1;
        self.process = Process::Starting;
        self.examine();
    }

    /// The process ends, and with it all that it held.
    pub fn end(&mut self) {
        self.process = Process::Absent;
        self.life += 1;
        self.worker.clear();
        self.unanswered.clear();
        self.running = None;
    }

    /// Tokens that its memory holds at present.
    pub fn room_tokens(&self) -> u64 {
        (f64::from(self.context_tokens) * self.condition.memory_share) as u64
    }

    /// Share of full speed at this clock, were it alone.
    pub fn speed_alone(&self, clock: f64) -> f64 {
        if self.condition.hung { 0.0 } else { self.duty * clock / self.condition.slow }
    }

    /// Watts above idle at this clock, were it alone.
    pub fn dynamic_alone_w(&self, clock: f64) -> f64 {
        let most_w = self.spec.max_w.value - self.spec.idle_w.value;
        if self.process == Process::Up && self.condition.hung && self.running.is_some() {
            return most_w * HUNG_POWER * clock;
        }
        self.running.map_or(0.0, |running| running.stretch.cost.dynamic_w * self.duty * clock)
    }

    /// Bandwidth that it takes from the shared bus at this clock, were it alone, B/s.
    pub fn bus_alone(&self, clock: f64) -> f64 {
        match self.running {
            Some(running) if !self.spec.own_memory => {
                running.stretch.cost.bus_b_per_s * self.speed_alone(clock)
            }
            _ => 0.0,
        }
    }

    /// Power when nothing runs at present, watts.
    pub fn idle_w(&self) -> f64 {
        if self.condition.vanished { 0.0 } else { self.spec.idle_w.value }
    }

    /// Time has passed at a temperature.
    pub fn account(&mut self, seconds: f64, temperature_c: f64) {
        if let Some(running) = &mut self.running {
            running.left_s -= seconds * self.speed;
            running.joules += seconds * self.power_w;
            self.report.busy += seconds * if self.condition.hung { 0.0 } else { self.duty };
        }
        self.report.energy_j += self.power_w * seconds;
        self.report.duty += self.duty * seconds;
        self.report.heat_s[self.heat as usize] += seconds;
        self.report.peak_c = self.report.peak_c.max(temperature_c);
        if temperature_c > self.limits.guard_c() + OVERSHOOT_MAX_C {
            self.report.over_guard_s += seconds;
        }
        if temperature_c >= self.limits.max_c {
            self.report.critical_s += seconds;
        }
    }

    /// What its sensor says of a temperature; nothing where no reading comes at all.
    pub fn sense(&mut self, temperature_c: f64, random: &mut Random) -> Option<Option<f64>> {
        let said = temperature_c + SENSOR_NOISE_C * random.normal();
        match self.condition.sensor {
            _ if self.condition.vanished => None,
            Sensor::Silent => None,
            Sensor::Missing => Some(None),
            Sensor::Absurd(value) => Some(Some(value)),
            Sensor::Stuck => Some(Some(self.said_c)),
            Sensor::Well => {
                self.said_c = said;
                Some(Some(said))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::StepCost;

    #[test]
    fn a_stretch_that_is_cut_short_ends_with_the_step_in_progress() {
        let cost = StepCost { seconds: 0.1, dynamic_w: 1.0, bus_b_per_s: 0.0 };
        let running = |left_s| Running {
            stretch: Stretch { steps: 5, cost, prefill: None },
            left_s,
            joules: 0.0,
            event: 1,
        };
        // (seconds left of half a second, steps, seconds left then)
        for (left_s, steps, then_s) in [(0.5, 1, 0.1), (0.45, 1, 0.05), (0.26, 3, 0.06), (0.05, 5, 0.05)] {
            let mut cut = running(left_s);
            cut.cut_short();
            assert_eq!(cut.stretch.steps, steps, "{left_s}");
            assert!((cut.left_s - then_s).abs() < 1e-9, "{left_s}: {}", cut.left_s);
        }
    }
}
