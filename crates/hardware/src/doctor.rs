//! What can be measured on this machine, what cannot, and what would change that.
//!
//! Every source of figures is tried once, as a measurement would use it, and gives a [`Finding`]: its reading, or the
//! reason why there is none and the commands that would help. Nothing is changed, and no right is asked for.

use crate::Roots;
use crate::battery;
use crate::catalogue::Catalogue;
use crate::energy::{EnergyFlag, EnergyMeter, EnergyReading, Envelope, Units, discharge, powercap, rails};
use crate::frequency::Frequencies;
use crate::gpu::{self, Gpu};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::nvml::GpuDriver;
use crate::thermal::{self, Throttling};
use crate::usage::{self, CpuTimes};
use qeil_units::Provenance;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// How long the sensors are watched: twelve updates of NVIDIA's, the slowest but for batteries.
pub const WATCH: Duration = Duration::from_millis(1200);
/// They are read this often meanwhile.
const STEP: Duration = Duration::from_millis(50);

/// How to open the counters until the next boot.
const OPEN_NOW: &str = "sudo chmod a+r /sys/class/powercap/*/energy_uj";
/// How to open them for good.
const OPEN_FOR_GOOD: &str = "echo 'SUBSYSTEM==\"powercap\", ACTION==\"add\", RUN+=\"/bin/chmod a+r \
                             /sys%p/energy_uj\"' | sudo tee /etc/udev/rules.d/70-energy-counters.rules";
/// The module that makes counters of Intel's and, since Zen, AMD's processors readable.
const LOAD_RAPL: &str = "sudo modprobe intel_rapl_msr";
/// How readings of a wall meter are typed in.
const CALIBRATE: &str = "qeil doctor --calibrate IDLE_W:BUSY_W";

/// Whether figures come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is read.
    Measured,
    /// A model of ours fills in.
    Estimated,
    /// There is none.
    Missing,
}

/// One figure that a source gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What it is of.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
}

/// What came of one source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The source.
    pub what: String,
    /// Whether figures come of it.
    pub state: State,
    /// Its readings.
    pub figures: Vec<Figure>,
    /// Where they come from, or why there are none, or what to know about them.
    pub remark: Option<String>,
    /// What would change that, in words or as commands, the easiest first.
    pub remedies: Vec<Remedy>,
}

/// Something that the user can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// What it does.
    pub what: String,
    /// The command, if it is one.
    pub command: Option<String>,
}

/// All findings.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diagnosis {
    /// The machine.
    pub machine: Machine,
    /// The label that the processor's energy has on this machine.
    pub energy: Provenance,
    /// Every source.
    pub findings: Vec<Finding>,
}

/// What the machine is examined with.
#[derive(Debug)]
pub struct Instruments<'a> {
    /// NVIDIA's driver, or why there is none.
    pub nvidia: Result<Arc<dyn GpuDriver>, String>,
    /// The processor's envelope for the estimate.
    pub envelope: Envelope,
    /// What is published about devices.
    pub catalogue: &'a Catalogue,
}

/// Tries every source. `wait` lets time pass; it is asked for [`WATCH`] in all.
pub fn examine(roots: &Roots, with: &Instruments, mut wait: impl FnMut(Duration)) -> Diagnosis {
    let machine = Machine::read(roots);
    let nvidia = with.nvidia.as_ref().ok();
    let gpus = gpu::find(roots, nvidia);
    let own = |sources| {
        EnergyMeter::over(roots, sources, with.envelope.clone(), Units::LogicalCpus(machine.logical_cpus))
    };
    let counters = own(powercap::discover(roots));
    let board = own(rails::discover(roots, "CPU"));
    let battery = own(discharge::discover(roots));
    let meter = EnergyMeter::open(roots, with.envelope.clone());
    let cards: Vec<EnergyMeter> =
        gpus.iter().map(|gpu| EnergyMeter::open_gpu(gpu, Envelope::of_gpu(gpu, with.catalogue))).collect();

    let times = CpuTimes::read(roots);
    let meters: Vec<&EnergyMeter> = [&counters, &board, &battery, &meter].into_iter().chain(&cards).collect();
    let mut spans: Vec<_> = meters.iter().map(|meter| meter.begin()).collect();
    for _ in 0..WATCH.as_millis() / STEP.as_millis() {
        wait(STEP);
        meters.iter().zip(&mut spans).for_each(|(meter, span)| meter.tick(span));
    }
    let later = CpuTimes::read(roots);
    let busy_s = match (&times, &later) {
        (Ok(before), Ok(after)) => usage::busy_s(before, after),
        _ => None,
    };
    let mut readings: Vec<EnergyReading> =
        meters.iter().zip(spans).map(|(meter, span)| meter.end(span, busy_s.unwrap_or(f64::NAN))).collect();
    let of_cards = readings.split_off(4);

    let mut findings = vec![
        of_counters(roots, &machine, &counters, &readings[0]),
        of_board(&board, &readings[1]),
        of_battery(roots, &battery, &readings[2]),
    ];
    if meter.missing().is_some() {
        findings.push(of_estimate(&readings[3], with.envelope.is_assumed()));
    }
    findings.extend(
        gpus.iter().zip(&cards).zip(&of_cards).map(|((gpu, meter), reading)| of_gpu(gpu, meter, reading)),
    );
    if let Err(why) = &with.nvidia {
        findings.push(missing("NVIDIA devices", why, vec![]));
    }
    findings.extend(of_heat(roots, &machine));
    findings.push(of_frequency(roots, &machine));
    findings.push(match (times, later) {
        (Ok(before), Ok(after)) => measured(
            "CPU use",
            usage::utilisation(&before, &after).map(|share| figure("all CPUs", share * 100.0, "%")),
            "/proc/stat, time stolen by a hypervisor included; tells disturbed measurements",
        ),
        (Err(fault), _) | (_, Err(fault)) => missing("CPU use", &fault.to_string(), vec![]),
    });
    findings.push(match Memory::read(roots) {
        Ok(memory) => {
            let available = memory.available_bytes.map(|bytes| figure("available", bytes as f64, "B"));
            let total = figure("all", memory.total_bytes as f64, "B");
            measured("memory", available.into_iter().chain([total]), "/proc/meminfo")
        }
        Err(fault) => missing("memory", &fault.to_string(), vec![]),
    });
    Diagnosis { machine, energy: meter.provenance(), findings }
}

fn figure(name: impl Into<String>, value: f64, unit: &'static str) -> Figure {
    Figure { name: name.into(), value, unit }
}

fn measured(what: &str, figures: impl IntoIterator<Item = Figure>, remark: &str) -> Finding {
    Finding {
        what: what.into(),
        state: State::Measured,
        figures: figures.into_iter().collect(),
        remark: Some(remark.into()),
        remedies: vec![],
    }
}

fn missing(what: &str, why: &str, remedies: Vec<Remedy>) -> Finding {
    Finding { what: what.into(), state: State::Missing, figures: vec![], remark: Some(why.into()), remedies }
}

fn command(what: &str, command: &str) -> Remedy {
    Remedy { what: what.into(), command: Some(command.into()) }
}

fn advice(what: &str) -> Remedy {
    Remedy { what: what.into(), command: None }
}

/// Watts of each domain, and what the reading's flags say.
fn of_reading(what: &str, reading: &EnergyReading) -> Finding {
    let watts = |domain: &crate::energy::Domain| {
        let note = if domain.summed { "" } else { ", not added" };
        figure(format!("{}{note}", domain.name), (domain.energy / reading.seconds).0, "W")
    };
    let flags: Vec<String> = reading.flags.iter().map(ToString::to_string).collect();
    let remark = [vec![reading.gross.source.clone()], flags].concat().join("; ");
    let mut finding = measured(what, reading.domains.iter().map(watts), &remark);
    if reading.gross.provenance != Provenance::Measured {
        finding.state = State::Missing;
        finding.figures.clear();
        finding.remark = reading.flags.first().map(ToString::to_string);
    }
    finding
}

fn of_counters(roots: &Roots, machine: &Machine, meter: &EnergyMeter, reading: &EnergyReading) -> Finding {
    const WHAT: &str = "processor energy counters (RAPL)";
    let x86 = machine.architecture.starts_with("x86");
    let why = match meter.missing() {
        None => return of_reading(WHAT, reading),
        Some(flag) => flag,
    };
    let in_vm = machine.virtual_machine == Some(true);
    match why {
        EnergyFlag::CounterDenied { .. } => {
            let closed = powercap::closed(roots).len();
            let text = format!(
                "there are counters, but {closed} of them are closed to this user, as on every Linux since 5.10, \
                 because they let local users spy on others"
            );
            let remedies = vec![
                command("open them until the next boot", OPEN_NOW),
                command("open them for good", OPEN_FOR_GOOD),
            ];
            missing(WHAT, &text, remedies)
        }
        EnergyFlag::NoCounter { .. } if in_vm => {
            let text = "none: this is a virtual machine, and hypervisors pass no energy counter on";
            missing(WHAT, text, vec![advice("run on the host itself (bare metal), where the counters are")])
        }
        EnergyFlag::NoCounter { folder } if x86 && roots.files.entries(folder).is_ok() => missing(
            WHAT,
            &format!("no package counter in {}", folder.display()),
            vec![
                command("load the module that reads them", LOAD_RAPL),
                advice(
                    "in a container, start it with `--security-opt systempaths=unconfined`: Docker hides the folder",
                ),
            ],
        ),
        EnergyFlag::NoCounter { .. } if x86 => missing(
            WHAT,
            "none: this kernel shows none",
            vec![command("load the module that reads them", LOAD_RAPL)],
        ),
        EnergyFlag::NoCounter { .. } => {
            missing(WHAT, "none: this kind of processor has no such counter", vec![])
        }
        other => missing(WHAT, &other.to_string(), vec![]),
    }
}

fn of_board(meter: &EnergyMeter, reading: &EnergyReading) -> Finding {
    const WHAT: &str = "supply rails (INA3221, as on Jetson boards)";
    match meter.missing() {
        None => of_reading(WHAT, reading),
        Some(EnergyFlag::NoCounter { .. }) => missing(WHAT, "none: this board has no such monitor", vec![]),
        Some(EnergyFlag::CounterDenied { path }) => {
            let open = format!("sudo chmod a+r {}", path.display());
            missing(WHAT, "closed to this user", vec![command("open it until the next boot", &open)])
        }
        Some(other) => missing(WHAT, &other.to_string(), vec![]),
    }
}

fn of_battery(roots: &Roots, meter: &EnergyMeter, reading: &EnergyReading) -> Finding {
    const WHAT: &str = "battery discharge";
    if meter.missing().is_none() {
        return of_reading(WHAT, reading);
    }
    match battery::discharge_uw(roots) {
        Err(battery::NoDischarge::NoBattery) => missing(WHAT, "none: this machine has no battery", vec![]),
        Err(battery::NoDischarge::NotDischarging) => missing(
            WHAT,
            "the battery is not discharging",
            vec![advice("unplug the machine: then its battery tells what all of it draws")],
        ),
        Err(other) => missing(WHAT, &other.to_string(), vec![]),
        Ok(_) => missing(WHAT, "it changed while it was looked at", vec![]),
    }
}

fn of_estimate(reading: &EnergyReading, assumed: bool) -> Finding {
    let steps = format!(
        "put a wall meter between plug and socket; note the watts when nothing runs, and the watts while `qeil bench -r 100` \
         keeps every CPU busy; then type both in{}",
        if assumed { "" } else { " again, if the machine has changed" }
    );
    let mut remedies = vec![command(&steps, CALIBRATE)];
    if assumed {
        remedies.push(advice(
            "or, where nobody can reach the plug, put idle and maximum watts of this processor into devices.toml in the \
             folder qeil of your configuration folder",
        ));
        remedies.push(command("or give them for one run", "qeil run --cpu-watts IDLE_W:BUSY_W"));
    }
    Finding {
        what: "processor energy, estimated".into(),
        state: State::Estimated,
        figures: vec![figure("power now", reading.power.value.0, "W")],
        remark: Some(reading.gross.source.clone()),
        remedies,
    }
}

fn of_gpu(gpu: &Gpu, meter: &EnergyMeter, reading: &EnergyReading) -> Finding {
    let what = format!("graphics device {}", gpu.name);
    let mut finding = match meter.missing() {
        None => of_reading(&what, reading),
        Some(flag) => missing(&what, &flag.to_string(), vec![]),
    };
    let state = gpu.state();
    let degrees = state.temperature.as_ref().and_then(|t| t.reading.as_ref().ok());
    let more = [
        state.utilisation.map(|share| figure("use", share * 100.0, "%")),
        state.clock_hz.map(|hz| figure("clock", hz as f64, "Hz")),
        degrees.map(|c| figure("temperature", c.0, "°C")),
        state.memory_used_bytes.map(|bytes| figure("memory in use", bytes as f64, "B")),
    ];
    finding.figures.extend(more.into_iter().flatten());
    finding
}

fn of_heat(roots: &Roots, machine: &Machine) -> Vec<Finding> {
    let found = thermal::temperatures(roots);
    let readable = found.iter().filter_map(|t| Some(figure(&t.sensor, t.reading.as_ref().ok()?.0, "°C")));
    let temperatures = if found.iter().any(|t| t.reading.is_ok()) {
        let speaks = thermal::processor(&found).map_or_else(
            || "none of them is known to be the processor's".into(),
            |t| format!("{} speaks for the processor", t.sensor),
        );
        measured("temperatures", readable, &speaks)
    } else {
        let why = found.iter().find_map(|t| t.reading.as_ref().err()).map(ToString::to_string);
        let remedies = match (why.is_some(), machine.virtual_machine) {
            (true, _) => vec![],
            (false, Some(true)) => vec![advice("run on the host itself: hypervisors pass no sensor on")],
            (false, _) => vec![
                command("load the module of Intel's sensors", "sudo modprobe coretemp"),
                command("or of AMD's", "sudo modprobe k10temp"),
            ],
        };
        missing("temperatures", &why.unwrap_or_else(|| "no sensor: heat cannot be guarded".into()), remedies)
    };
    let trips: Vec<Figure> = found
        .iter()
        .filter_map(|t| t.limit().map(|limit| figure(format!("limit of {}", t.sensor), limit.0, "°C")))
        .collect();
    let trips = if trips.is_empty() {
        missing("trip points", "no sensor tells where the machine acts on heat", vec![])
    } else {
        measured("trip points", trips, "where the machine switches off, else its maximum")
    };
    let throttling = match Throttling::read(roots) {
        Some(counts) => measured(
            "slowed down by heat",
            [
                figure("cores", counts.core_events as f64, "events since boot"),
                figure("package", counts.package_events as f64, "events since boot"),
            ],
            "counts of the kernel",
        ),
        None => missing(
            "slowed down by heat",
            "only Intel's processors are counted, and not in virtual machines",
            vec![],
        ),
    };
    vec![temperatures, trips, throttling]
}

fn of_frequency(roots: &Roots, machine: &Machine) -> Finding {
    match Frequencies::read(roots) {
        Some(found) => measured(
            "CPU clocks",
            [
                Some(figure("mean", found.mean_hz, "Hz")),
                found.limit_hz.map(|hz| figure("limit", hz as f64, "Hz")),
            ]
            .into_iter()
            .flatten(),
            "cpufreq",
        ),
        None if machine.virtual_machine == Some(true) => {
            missing("CPU clocks", "none: a virtual machine does not see its clocks", vec![])
        }
        None => missing("CPU clocks", "none: the kernel runs no cpufreq driver", vec![]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fixture::Tree;
    use qeil_units::Watts;

    const RAPL: &str = "sys/class/powercap/intel-rapl:0";

    fn tree(flags: &str) -> Tree {
        Tree::new(&[
            ("proc/cpuinfo", &format!("processor : 0\nmodel name : Some\nflags : fpu {flags}\n")),
            ("proc/meminfo", "MemTotal: 100 kB\nMemAvailable: 50 kB\n"),
            ("proc/stat", "cpu 1 1 1 1\n"),
            ("sys/devices/system/cpu/online", "0\n"),
        ])
    }

    fn diagnose(tree: &Tree, mut step: impl FnMut(u32)) -> Diagnosis {
        let catalogue = Catalogue::builtin().unwrap();
        let with = Instruments {
            nvidia: Err("no NVIDIA driver".into()),
            envelope: Envelope::from_watts(Watts(1.0), Watts(2.0)).unwrap(),
            catalogue: &catalogue,
        };
        let mut steps = 0;
        examine(&tree.roots(), &with, |_| {
            steps += 1;
            step(steps);
        })
    }

    fn finding<'a>(found: &'a Diagnosis, what: &str) -> &'a Finding {
        found.findings.iter().find(|f| f.what.contains(what)).unwrap_or_else(|| panic!("{what}: {found:?}"))
    }

    fn commands(finding: &Finding) -> String {
        finding
            .remedies
            .iter()
            .map(|r| format!("{} {}\n", r.what, r.command.as_deref().unwrap_or("")))
            .collect()
    }

    #[test]
    fn a_virtual_machine_is_told_what_helps() {
        let found = diagnose(&tree("hypervisor"), |_| {});
        assert_eq!(found.energy, Provenance::Estimated);
        let counters = finding(&found, "RAPL");
        assert_eq!(counters.state, State::Missing);
        assert!(commands(counters).contains("bare metal"), "{counters:?}");
        let estimate = finding(&found, "estimated");
        assert_eq!((estimate.state, estimate.figures[0].unit), (State::Estimated, "W"));
        assert!(commands(estimate).contains("qeil doctor --calibrate IDLE_W:BUSY_W"), "{estimate:?}");
        assert_eq!(finding(&found, "temperatures").state, State::Missing);
        assert_eq!(finding(&found, "memory").figures[0].value, 51_200.0);
        // No figure stands where something is missing.
        assert!(
            found.findings.iter().all(|f| f.state != State::Missing || f.figures.is_empty()),
            "{found:?}"
        );
        assert!(serde_json::to_string(&found).unwrap().contains("\"state\":\"estimated\""));
    }

    #[test]
    fn counters_that_are_closed_come_with_the_commands_that_open_them() {
        let tree = tree("");
        tree.write(&format!("{RAPL}/name"), "package-0\n");
        tree.write(&format!("{RAPL}/energy_uj"), "1\n");
        tree.deny(&format!("{RAPL}/energy_uj"));
        let found = diagnose(&tree, |_| {});
        let text = commands(finding(&found, "RAPL"));
        assert!(text.contains("chmod a+r /sys/class/powercap") && text.contains("udev"), "{text}");
    }

    #[test]
    fn a_machine_with_sensors_shows_their_readings() {
        let tree = tree("");
        tree.write(&format!("{RAPL}/name"), "package-0\n");
        tree.write(&format!("{RAPL}/max_energy_range_uj"), "262143328850\n");
        tree.write("sys/class/thermal/thermal_zone0/type", "x86_pkg_temp\n");
        tree.write("sys/class/thermal/thermal_zone0/temp", "55000\n");
        tree.write("sys/class/thermal/thermal_zone0/trip_point_0_type", "critical\n");
        tree.write("sys/class/thermal/thermal_zone0/trip_point_0_temp", "100000\n");
        tree.write("sys/class/power_supply/BAT0/type", "Battery\n");
        tree.write("sys/class/power_supply/BAT0/status", "Full\n");
        tree.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "3000000\n");
        tree.write("sys/class/hwmon/hwmon0/name", "amdgpu\n");
        tree.write("sys/class/hwmon/hwmon0/power1_average", "7000000\n");
        // A real clock runs while the counter is moved step by step: it must not look like a jump.
        let counter =
            |steps: u32| tree.write(&format!("{RAPL}/energy_uj"), &format!("{}\n", 1 + 1000 * steps));
        counter(0);
        let found = diagnose(&tree, counter);
        assert_eq!(found.energy, Provenance::Measured);
        assert!(!found.findings.iter().any(|f| f.state == State::Estimated), "{found:?}");
        let card = finding(&found, "amdgpu");
        assert!(card.figures.iter().any(|f| f.unit == "W") || card.remark.is_some(), "{card:?}");
        assert_eq!(finding(&found, "temperatures").figures, [figure("x86_pkg_temp", 55.0, "°C")]);
        assert_eq!(finding(&found, "trip points").figures[0].value, 100.0);
        assert_eq!(finding(&found, "CPU clocks").figures[0].value, 3e9);
        assert!(commands(finding(&found, "battery")).contains("unplug"));
    }

    #[test]
    fn a_bare_machine_without_the_module_is_told_to_load_it() {
        if !cfg!(target_arch = "x86_64") {
            return;
        }
        assert!(commands(finding(&diagnose(&tree(""), |_| {}), "RAPL")).contains("modprobe intel_rapl_msr"));
    }
}
