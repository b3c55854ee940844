//! `qeil devices --watch`: the devices' sensors, look after look.
//!
//! On a terminal the table is drawn anew on a screen of its own, which is left whichever way the program ends; anywhere
//! else each look is a few plain lines, to be read by a person in a log or, with `--json`, by a program.

use crate::arguments::DevicesArguments;
use crate::doctor::clock;
use crate::table::{self, MISSING};
use anyhow::Result;
use qeil_hardware::Roots;
use qeil_hardware::catalogue::Catalogue;
use qeil_hardware::cpu::Cpu;
use qeil_hardware::energy::Envelope;
use qeil_hardware::live::{DeviceState, Watcher};
use qeil_hardware::nvml;
use qeil_hardware::thermal::{Temperature, TripKind};
use qeil_units::Bytes;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Enter a screen of its own, without a cursor; and leave it.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the first line, and delete everything after it.
const CLEAR: &str = "\x1b[H\x1b[J";

/// A terminal that gets back what it showed.
struct Screen;

impl Screen {
    fn enter() -> io::Result<Self> {
        write(ENTER)?;
        Ok(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Fails only where the terminal is gone: there is nothing to leave.
        let _ = write(LEAVE);
    }
}

/// Shows the devices until it is dropped, at Ctrl-C, or until nobody reads.
pub async fn watch(arguments: &DevicesArguments) -> Result<String> {
    let roots = Roots::default();
    let nvidia = nvml::open().ok();
    let envelope = Envelope::of_user(&Cpu::read(&roots))?;
    let mut watcher = Watcher::open(&roots, nvidia.as_ref(), envelope, &Catalogue::load()?);
    let every = Duration::from_secs_f64(arguments.every);
    let screen = if !arguments.json && io::stdout().is_terminal() { Some(Screen::enter()?) } else { None };
    let start = Instant::now();
    loop {
        let next = Instant::now() + every;
        while Instant::now() < next {
            let tick = watcher.tick_period().map(|period| Instant::now() + Duration::from_secs_f64(period.0));
            sleep_until(tick.map_or(next, |tick| tick.min(next))).await;
            watcher.tick();
        }
        let states = watcher.look();
        let shown = match (&screen, arguments.json) {
            (_, true) => serde_json::to_string(&states)? + "\n",
            (Some(_), _) => {
                let hint = format!("every {} s, Ctrl-C ends", arguments.every);
                format!("{CLEAR}{}\n {hint}\n", drawn(&states))
            }
            (None, _) => lines(&states, start.elapsed().as_secs_f64()),
        };
        match write(&shown) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(String::new()),
            done => done?,
        }
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

const COLUMNS: [&str; 7] = ["device", "use", "clock", "temperature", "power", "memory", "slowed by"];

fn drawn(states: &[DeviceState]) -> String {
    let mut rows = table::table(&COLUMNS, 1..6);
    for state in states {
        rows.add_row(cells(state));
    }
    rows.to_string()
}

/// One line for each device, with its columns named.
fn lines(states: &[DeviceState], seconds: f64) -> String {
    let line = |state: &DeviceState| {
        let cells = cells(state);
        let named = COLUMNS.iter().zip(&cells).skip(1).filter(|(_, cell)| *cell != MISSING);
        let named: Vec<String> = named.map(|(column, cell)| format!("{column} {cell}")).collect();
        format!("{seconds:.1} s, {}: {}\n", cells[0], named.join(", "))
    };
    states.iter().map(line).collect()
}

fn cells(state: &DeviceState) -> [String; 7] {
    let or_missing = |cell: Option<String>| cell.unwrap_or_else(|| MISSING.into());
    let memory = |used: u64| match state.memory_total_bytes {
        Some(total) => format!("{} of {}", Bytes(used), Bytes(total)),
        None => Bytes(used).to_string(),
    };
    [
        state.name.clone(),
        or_missing(state.utilisation.map(|share| format!("{:.0} %", share * 100.0))),
        or_missing(state.clock_hz.map(clock)),
        or_missing(state.temperature.as_ref().and_then(temperature)),
        or_missing(state.power.as_ref().map(|power| format!("{} {}", power.value, power.provenance))),
        or_missing(state.memory_used_bytes.map(memory)),
        or_missing(
            state.throttled_by.as_ref().map(
                |by| {
                    if by.is_empty() { "nothing".into() } else { by.join(", ") }
                },
            ),
        ),
    ]
}

/// The temperature, and the first one at which the machine acts.
fn temperature(found: &Temperature) -> Option<String> {
    let now = found.reading.as_ref().ok()?;
    let trip = found.first_trip().map(|trip| {
        let word = match trip.kind {
            TripKind::Slow => "slows at",
            TripKind::Max => "meant for",
            TripKind::Hot => "hot at",
            TripKind::Critical => "off at",
        };
        format!(" ({word} {:.0} °C)", trip.at_c.0)
    });
    Some(format!("{:.0} °C{}", now.0, trip.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use qeil_hardware::thermal::Trip;
    use qeil_units::{Celsius, Labelled, Watts};

    fn state() -> DeviceState {
        DeviceState {
            name: "Some".into(),
            utilisation: Some(0.375),
            clock_hz: Some(3.456e9),
            temperature: Some(Temperature {
                sensor: "coretemp".into(),
                reading: Ok(Celsius(61.4)),
                trips: vec![Trip { kind: TripKind::Slow, at_c: Celsius(95.0) }],
            }),
            power: Some(Labelled::estimated(Watts(12.34), "envelope")),
            memory_used_bytes: Some(1 << 30),
            memory_total_bytes: Some(4 << 30),
            throttled_by: Some(vec![]),
        }
    }

    #[test]
    fn plain_lines() {
        assert_eq!(
            lines(&[state()], 2.0),
            "2.0 s, Some: use 38 %, clock 3.46 GHz, temperature 61 °C (slows at 95 °C), power 12.3 W estimated, \
             memory 1.00 GiB of 4.00 GiB, slowed by nothing\n"
        );
        let nothing = DeviceState {
            utilisation: None,
            clock_hz: None,
            temperature: None,
            power: None,
            memory_used_bytes: None,
            throttled_by: None,
            ..state()
        };
        assert_eq!(lines(std::slice::from_ref(&nothing), 2.0), "2.0 s, Some: \n");
        assert!(drawn(&[state(), nothing]).contains(MISSING));
    }

    #[test]
    fn the_table_fits_its_width() {
        let long = DeviceState { name: "NVIDIA GeForce RTX 4070 Ti SUPER Laptop GPU".into(), ..state() };
        let width = drawn(&[long]).lines().map(|line| line.chars().count()).max();
        assert!(width.is_some_and(|width| width <= usize::from(table::COLUMNS_MAX)), "{width:?}");
    }
}
