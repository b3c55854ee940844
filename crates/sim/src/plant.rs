//! Heat: how warm the devices of a package get.
//!
//! Each device is a first-order node over the heat sink, and the heat sink one over the surroundings. All heat of all
//! devices goes through the sink, so a busy processor warms its idle neighbour:
//!
//! ```text
//! sink:   C_s · dT_s/dt = ΣP − (T_s − T_ambient) / R_s
//! device: T = T_s + d,   C · dd/dt = P − d / R
//! ```
//!
//! Both are solved exactly for constant power, so the result does not depend on the lengths of the steps. What a device
//! stores for itself reaches the sink at once in this model; its capacity is small beside the sink's.
//!
//! Silicon protects itself: at its maximum a device halves its clock until it has cooled a little. That is the hardware's
//! doing, not the guard's; it is what happens where the guard does not act.

use crate::machine::Machine;

/// Share of the clock that is left to a device that throttles itself: "halves" is what drivers report in steps.
pub const THROTTLED_CLOCK: f64 = 0.5;
/// Degrees below the maximum at which the full clock comes back: the usual hysteresis of trip points.
const THROTTLE_HYSTERESIS_C: f64 = 3.0;

/// A node that heats and cools.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Node {
    resistance_c_per_w: f64,
    time_constant_s: f64,
    /// Degrees over what is around it.
    rise_c: f64,
}

impl Node {
    fn new(resistance_c_per_w: f64, capacity_j_per_c: f64) -> Self {
        Self { resistance_c_per_w, time_constant_s: resistance_c_per_w * capacity_j_per_c, rise_c: 0.0 }
    }

    fn advance(&mut self, power_w: f64, seconds: f64) {
        let end = power_w * self.resistance_c_per_w;
        self.rise_c = end + (self.rise_c - end) * (-seconds / self.time_constant_s).exp();
    }
}

/// The temperatures of one machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Plant {
    sink: Node,
    devices: Vec<Node>,
    max_c: Vec<f64>,
    throttling: Vec<bool>,
    ambient_c: f64,
}

impl Plant {
    /// A machine that has been off for long.
    pub fn new(machine: &Machine, ambient_c: f64) -> Self {
        let node = |r: f64, c: f64| Node::new(r, c);
        Self {
            sink: node(machine.package.resistance_c_per_w.value, machine.package.capacity_j_per_c.value),
            devices: machine
                .devices
                .iter()
                .map(|device| node(device.resistance_c_per_w.value, device.capacity_j_per_c.value))
                .collect(),
            max_c: machine.devices.iter().map(|device| device.max_c.value).collect(),
            throttling: vec![false; machine.devices.len()],
            ambient_c,
        }
    }

    /// Set the rises to what constant powers lead to.
    pub fn settle(&mut self, powers_w: &[f64]) {
        self.advance(powers_w, 1e9);
    }

    /// Let so many seconds pass at these powers, watts, one for each device.
    pub fn advance(&mut self, powers_w: &[f64], seconds: f64) {
        if seconds <= 0.0 {
            return;
        }
        self.sink.advance(powers_w.iter().sum(), seconds);
        for (device, power_w) in self.devices.iter_mut().zip(powers_w) {
            device.advance(*power_w, seconds);
        }
    }

    /// Let the hardware look at its temperatures; whether any clock changed.
    pub fn protect(&mut self) -> bool {
        let mut changed = false;
        for at in 0..self.devices.len() {
            let temperature = self.temperature_c(at);
            let throttling = if self.throttling[at] {
                temperature > self.max_c[at] - THROTTLE_HYSTERESIS_C
            } else {
                temperature >= self.max_c[at]
            };
            changed |= throttling != self.throttling[at];
            self.throttling[at] = throttling;
        }
        changed
    }

    /// The temperature of the surroundings changes.
    pub fn set_ambient(&mut self, ambient_c: f64) {
        self.ambient_c = ambient_c;
    }

    /// Temperature of a device, degrees Celsius.
    pub fn temperature_c(&self, device: usize) -> f64 {
        self.ambient_c + self.sink.rise_c + self.devices[device].rise_c
    }

    /// Whether a device throttles itself.
    pub fn throttling(&self, device: usize) -> bool {
        self.throttling[device]
    }

    /// The share of its clock that the hardware leaves a device.
    pub fn clock(&self, device: usize) -> f64 {
        if self.throttling[device] { THROTTLED_CLOCK } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::machine;
    use proptest::prelude::*;

    #[test]
    fn constant_power_ends_at_resistance_times_power_and_gets_there_by_the_time_constant() {
        let machine = machine("jetson-orin-nano").unwrap();
        let (sink, gpu) = (&machine.package, &machine.devices[1]);
        let mut plant = Plant::new(&machine, 20.0);
        assert_eq!(plant.temperature_c(1), 20.0);
        let tau = sink.resistance_c_per_w.value * sink.capacity_j_per_c.value;
        plant.advance(&[0.0, 10.0], tau);
        let (of_sink, of_gpu) = (10.0 * sink.resistance_c_per_w.value, 10.0 * gpu.resistance_c_per_w.value);
        let after = 20.0 + of_sink * (1.0 - (-1.0f64).exp());
        assert!((plant.temperature_c(0) - after).abs() < 1e-9, "the idle neighbour is as warm as the sink");
        plant.settle(&[0.0, 10.0]);
        assert!((plant.temperature_c(1) - (20.0 + of_sink + of_gpu)).abs() < 1e-6);
    }

    #[test]
    fn hardware_halves_its_clock_at_the_maximum_and_gives_it_back_below() {
        let machine = machine("raspberry-pi-5").unwrap();
        let mut plant = Plant::new(&machine, 45.0);
        plant.settle(&[7.0]);
        let max_c = machine.devices[0].max_c.value;
        assert!(plant.temperature_c(0) > max_c);
        assert!(plant.protect() && plant.throttling(0) && plant.clock(0) == THROTTLED_CLOCK);
        assert!(!plant.protect(), "a change is told once");
        plant.settle(&[(max_c - 1.0 - 45.0) / 6.7]);
        assert!(!plant.protect() && plant.throttling(0), "one degree below is not cool enough");
        plant.settle(&[2.0]);
        assert!(plant.protect() && plant.clock(0) == 1.0);
    }

    proptest! {
        #[test]
        fn the_lengths_of_the_steps_do_not_matter(power in 0.0..30f64, cuts in prop::collection::vec(0.01..50f64, 1..20)) {
            let machine = machine("core-ultra-9-285h").unwrap();
            let (mut whole, mut pieces) = (Plant::new(&machine, 25.0), Plant::new(&machine, 25.0));
            let powers = [power, 5.0, 1.0];
            whole.advance(&powers, cuts.iter().sum());
            cuts.iter().for_each(|cut| pieces.advance(&powers, *cut));
            for at in 0..3 {
                prop_assert!((whole.temperature_c(at) - pieces.temperature_c(at)).abs() < 1e-9);
            }
        }
    }
}
