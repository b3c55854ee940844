//! What goes wrong with a simulated device.
//!
//! A fault begins at a moment and lasts for a time; what a restart of the worker cures (a hang) and what it does not
//! (slowness, wrong numbers, lost memory, a bad sensor) is part of the kind. Names are those of the scenario files.

use serde::{Deserialize, Serialize};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultKind {
    /// The worker's process dies.
    Death,
    /// The worker stops making progress until it is ended or the time is over; meanwhile it spins.
    Hang,
    /// Everything takes so many times as long.
    Slow(f64),
    /// It computes wrong numbers.
    WrongNumbers,
    /// This share of its memory for keys and values is left.
    LostMemory(f64),
    /// The device is gone; its worker dies, and none can be started.
    Vanish,
    /// The driver reports a reset, and the worker dies.
    Reset,
    /// The temperature sensor repeats its last value.
    SensorStuck,
    /// The temperature sensor gives this value, degrees Celsius.
    SensorAbsurd(f64),
    /// The temperature sensor gives errors.
    SensorMissing,
    /// No reading comes at all.
    SensorSilent,
}

/// A fault of one device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Fault {
    /// When it begins, seconds.
    pub at_s: f64,
    /// How long it lasts, seconds; means nothing to a death or a reset.
    pub for_s: f64,
    /// Which device.
    pub device: usize,
    /// What.
    pub kind: FaultKind,
}

/// What the temperature sensor does.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Sensor {
    /// It reads.
    #[default]
    Well,
    /// It repeats its last value.
    Stuck,
    /// It gives a value that cannot be.
    Absurd(f64),
    /// It gives an error.
    Missing,
    /// It says nothing.
    Silent,
}

/// What is wrong with a device at present.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Condition {
    /// Its worker makes no progress.
    pub hung: bool,
    /// Its time over its healthy time.
    pub slow: f64,
    /// It computes wrong numbers.
    pub wrong: bool,
    /// Share of its memory that is left.
    pub memory_share: f64,
    /// It is not there.
    pub vanished: bool,
    /// Its sensor.
    pub sensor: Sensor,
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            hung: false,
            slow: 1.0,
            wrong: false,
            memory_share: 1.0,
            vanished: false,
            sensor: Sensor::Well,
        }
    }
}

impl Condition {
    /// The condition while these faults last.
    pub fn under<'a>(active: impl IntoIterator<Item = &'a FaultKind>) -> Self {
        let mut condition = Self::default();
        for kind in active {
            match *kind {
                FaultKind::Death | FaultKind::Reset => {}
                FaultKind::Hang => condition.hung = true,
                FaultKind::Slow(factor) => condition.slow = condition.slow.max(factor),
                FaultKind::WrongNumbers => condition.wrong = true,
                FaultKind::LostMemory(share) => condition.memory_share = condition.memory_share.min(share),
                FaultKind::Vanish => condition.vanished = true,
                FaultKind::SensorStuck => condition.sensor = Sensor::Stuck,
                FaultKind::SensorAbsurd(value) => condition.sensor = Sensor::Absurd(value),
                FaultKind::SensorMissing => condition.sensor = Sensor::Missing,
                FaultKind::SensorSilent => condition.sensor = Sensor::Silent,
            }
        }
        condition
    }

    /// Whether taking the device out is right whatever else there is: it cannot serve, or serves wrong answers.
    pub fn hard(&self) -> bool {
        self.hung || self.wrong || self.vanished || self.memory_share < 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_add_up_and_softness_is_not_hard() {
        let condition =
            Condition::under(&[FaultKind::Slow(2.0), FaultKind::Slow(3.0), FaultKind::SensorStuck]);
        assert_eq!((condition.slow, condition.sensor, condition.hard()), (3.0, Sensor::Stuck, false));
        for kind in [FaultKind::Hang, FaultKind::WrongNumbers, FaultKind::LostMemory(0.1), FaultKind::Vanish]
        {
            assert!(Condition::under(&[kind]).hard(), "{kind:?}");
        }
        assert_eq!(Condition::under(&[FaultKind::Death]), Condition::default());
    }
}
