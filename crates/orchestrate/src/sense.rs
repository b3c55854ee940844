//! The sensors, read again and again on a thread of their own.
//!
//! Several devices of the loop may be one piece of silicon (two engines on different cores of one processor), and a
//! sensor speaks of the silicon. A **place** is such a piece; each device names its place, or none where nothing on this
//! machine feels it (a remote endpoint).

use qeil_control::event::Reading;
use qeil_hardware::Roots;
use qeil_hardware::catalogue::Catalogue;
use qeil_hardware::energy::Envelope;
use qeil_hardware::live::{DeviceState, Watcher};
use qeil_hardware::nvml::GpuDriver;
use qeil_units::{Labelled, Watts};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Between two looks: silicon with a heat sink warms by less than a degree in it (time constants are seconds and more).
pub const PERIOD: Duration = Duration::from_millis(250);
/// Looks that may wait for the loop; older ones say nothing that the next does not.
const LOOKS_WAITING: usize = 2;

/// One place at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// For the guard.
    pub reading: Reading,
    /// Mean power since the last look.
    pub power: Option<Labelled<Watts>>,
}

/// What can be read; the second implementation is a test's.
pub trait Sensors: Send + 'static {
    /// Every place, always in the same order.
    fn look(&mut self) -> Vec<Look>;
    /// Sample what wants to be sampled between two looks.
    fn tick(&mut self) {}
    /// How often; `None` for never.
    fn tick_period(&self) -> Option<Duration> {
        None
    }
}

/// This machine: place 0 is the processor, then each graphics device.
#[derive(Debug)]
pub struct Machine {
    watcher: Watcher,
}

impl Machine {
    /// Find the sensors and begin to watch them.
    pub fn open(
        roots: &Roots,
        nvidia: Option<&Arc<dyn GpuDriver>>,
        envelope: Envelope,
        catalogue: &Catalogue,
    ) -> Self {
        Self { watcher: Watcher::open(roots, nvidia, envelope, catalogue) }
    }
}

impl Sensors for Machine {
    fn look(&mut self) -> Vec<Look> {
        self.watcher.look().into_iter().map(of_state).collect()
    }

    fn tick(&mut self) {
        self.watcher.tick();
    }

    fn tick_period(&self) -> Option<Duration> {
        self.watcher.tick_period().map(|period| Duration::from_secs_f64(period.0.max(0.0)))
    }
}

fn of_state(state: DeviceState) -> Look {
    let share = |used: u64, total: u64| (total > 0).then(|| used as f64 / total as f64);
    let reading = Reading {
        temperature_c: state.temperature.and_then(|sensor| sensor.reading.ok()).map(|celsius| celsius.0),
        power_w: state.power.as_ref().map(|power| power.value.0),
        throttling: state.throttled_by.is_some_and(|reasons| !reasons.is_empty()),
        memory_share: state.memory_used_bytes.zip(state.memory_total_bytes).and_then(|(u, t)| share(u, t)),
    };
    Look { reading, power: state.power }
}

/// Read `sensors` until nobody listens any more.
///
/// # Errors
/// Where no thread could be started.
pub(crate) fn watch(mut sensors: Box<dyn Sensors>) -> std::io::Result<mpsc::Receiver<Vec<Look>>> {
    let (outbox, looks) = mpsc::channel(LOOKS_WAITING);
    let read = move || {
        let step = sensors.tick_period().unwrap_or(PERIOD).clamp(Duration::from_millis(1), PERIOD);
        let mut looked = Instant::now();
        while !outbox.is_closed() {
            std::thread::sleep(step);
            sensors.tick();
            if looked.elapsed() >= PERIOD {
                looked = Instant::now();
                // A loop that is behind reads the next look.
                let _ = outbox.try_send(sensors.look());
            }
        }
    };
    std::thread::Builder::new().name("sensors".into()).spawn(read)?;
    Ok(looks)
}
