//! How hot it is, at what temperature the machine acts on it, and whether it already did.
//!
//! Two interfaces tell temperatures, and often the same one twice: thermal zones, which know the trip points that the
//! kernel acts on (Documentation/driver-api/thermal/sysfs-api.rst), and hardware monitoring chips, which know the
//! limits that the chip was given. A chip that only mirrors a zone is left out, and so are storage devices: they are
//! not what computes.
//!
//! A sensor that cannot be read, or tells of a temperature that no working chip has, is kept with its [`Fault`]: a guard
//! has to see that it is blind.

use crate::Roots;
use crate::files::Fault;
use crate::hwmon::{self, Chip};
use qeil_units::Celsius;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Trip points looked at in a zone: `THERMAL_MAX_TRIPS` was 12 as long as the kernel had a bound.
const TRIPS_MAX: u32 = 16;
/// Semiconductor sensors are specified from -55 °C; silicon does not work above 200 °C. Drivers give -273.2 or 0.1 °C
/// for a sensor that is off.
const MILLIDEGREES: std::ops::RangeInclusive<i64> = -55_000..=200_000;
/// Chips of storage devices.
const STORAGE: [&str; 2] = ["nvme", "drivetemp"];

/// What the machine does at a temperature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TripKind {
    /// Slows down (a zone's `passive`).
    Slow,
    /// The most that the chip is meant for (`_max`).
    Max,
    /// Tells the system that it is too hot (a zone's `hot`).
    Hot,
    /// Switches off (`critical`, `_crit`).
    Critical,
}

/// A temperature at which something happens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Trip {
    /// What.
    pub kind: TripKind,
    /// Where.
    pub at_c: Celsius,
}

/// One sensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Temperature {
    /// Chip or zone, and the channel's label: `coretemp Package id 0`.
    pub sensor: String,
    /// Degrees Celsius, or why there are none.
    pub reading: Result<Celsius, Fault>,
    /// Trip points, lowest first.
    pub trips: Vec<Trip>,
}

impl Temperature {
    /// The lowest temperature at which the machine acts.
    pub fn first_trip(&self) -> Option<Trip> {
        self.trips.first().copied()
    }

    /// The temperature that the device must not reach: where it switches off, else its maximum.
    pub fn limit(&self) -> Option<Celsius> {
        let of = |kind| self.trips.iter().find(|trip| trip.kind == kind);
        [TripKind::Critical, TripKind::Hot, TripKind::Max].into_iter().find_map(of).map(|trip| trip.at_c)
    }
}

/// Every sensor of the machine but those of storage.
pub fn temperatures(roots: &Roots) -> Vec<Temperature> {
    let zones: Vec<(String, PathBuf)> = roots
        .entries(&roots.sys.join("class/thermal"))
        .into_iter()
        .filter(|path| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"thermal_zone"))
        })
        .map(|path| (roots.word(&path.join("type")).unwrap_or_else(|| "unnamed zone".into()), path))
        .collect();
    let mirrored = |chip: &Chip| zones.iter().any(|(kind, _)| kind.replace('-', "_") == chip.name);
    let chips = hwmon::chips(roots);
    let of_chips = chips.iter().filter(|chip| !STORAGE.contains(&chip.name.as_str()) && !mirrored(chip));
    let of_zones = zones.iter().map(|(kind, folder)| of_zone(roots, kind, folder));
    of_zones.chain(of_chips.flat_map(|chip| of_chip(roots, chip))).collect()
}

fn of_zone(roots: &Roots, kind: &str, folder: &Path) -> Temperature {
    let trip = |n: u32| {
        let kind = match roots.word(&folder.join(format!("trip_point_{n}_type")))?.as_str() {
            "passive" => TripKind::Slow,
            "hot" => TripKind::Hot,
            "critical" => TripKind::Critical,
            // A fan that starts.
            _ => return None,
        };
        limit(roots, &folder.join(format!("trip_point_{n}_temp")), kind)
    };
    Temperature {
        sensor: kind.to_owned(),
        reading: celsius(roots, &folder.join("temp")),
        trips: sorted((0..TRIPS_MAX).filter_map(trip).collect()),
    }
}

/// All temperatures of a chip.
pub(crate) fn of_chip(roots: &Roots, chip: &Chip) -> Vec<Temperature> {
    let of_channel = |n: u32| {
        let label = chip.label(roots, "temp", n).unwrap_or_else(|| format!("temp{n}"));
        let of = |what, kind| limit(roots, &chip.file("temp", n, what), kind);
        let trips = [of("max", TripKind::Max), of("crit", TripKind::Critical)];
        Temperature {
            sensor: format!("{} {label}", chip.name),
            reading: celsius(roots, &chip.file("temp", n, "input")),
            trips: sorted(trips.into_iter().flatten().collect()),
        }
    };
    chip.channels(roots, "temp", "input").into_iter().map(of_channel).collect()
}

fn sorted(mut trips: Vec<Trip>) -> Vec<Trip> {
    trips.sort_by(|a, b| a.at_c.0.total_cmp(&b.at_c.0).then(a.kind.cmp(&b.kind)));
    trips
}

fn celsius(roots: &Roots, path: &Path) -> Result<Celsius, Fault> {
    match roots.number::<i64>(path)? {
        m if MILLIDEGREES.contains(&m) => Ok(Celsius(m as f64 * 1e-3)),
        m => Err(Fault::garbled(path, &m.to_string())),
    }
}

/// A limit at or below freezing is one that was never set.
fn limit(roots: &Roots, path: &Path, kind: TripKind) -> Option<Trip> {
    let at_c = celsius(roots, path).ok()?;
    (at_c.0 > 0.0).then_some(Trip { kind, at_c })
}

/// The sensor that speaks for the processor: the best known kind of sensor that can be read, and of several (two
/// packages) the hottest.
pub fn processor(temperatures: &[Temperature]) -> Option<&Temperature> {
    type Is = fn(&str) -> bool;
    /// Package sensors of x86, then zones that boards name after their processor, then single cores, then whatever the
    /// firmware calls the system.
    const KINDS: [Is; 7] = [
        |s| s.starts_with("coretemp Package id"),
        |s| s == "k10temp Tdie" || s == "zenpower Tdie",
        |s| s == "k10temp Tctl",
        |s| s == "x86_pkg_temp",
        |s| s.to_lowercase().starts_with("cpu") || s.starts_with("soc"),
        |s| s.starts_with("coretemp"),
        |s| s.starts_with("acpitz"),
    ];
    let readable = |t: &&Temperature| t.reading.is_ok();
    let degrees = |t: &Temperature| t.reading.as_ref().map_or(f64::NEG_INFINITY, |c| c.0);
    KINDS.iter().find_map(|is| {
        let of_kind = temperatures.iter().filter(readable).filter(|t| is(&t.sensor));
        of_kind.max_by(|a, b| degrees(a).total_cmp(&degrees(b)))
    })
}

/// How often processors were slowed down by heat since boot. Only Intel's count is told by the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Throttling {
    /// Events of single cores, all cores together.
    pub core_events: u64,
    /// Events of the package that had most.
    pub package_events: u64,
}

impl Throttling {
    /// Reads the counts; `None` where the processor has none.
    pub fn read(roots: &Roots) -> Option<Self> {
        let mut found = None;
        for cpu in roots.entries(&roots.sys.join("devices/system/cpu")) {
            let events =
                |level| roots.number::<u64>(&cpu.join(format!("thermal_throttle/{level}_throttle_count")));
            if let (Ok(core), Ok(package)) = (events("core"), events("package")) {
                let so_far = found.get_or_insert(Self { core_events: 0, package_events: 0 });
                so_far.core_events = so_far.core_events.saturating_add(core);
                so_far.package_events = so_far.package_events.max(package);
            }
        }
        found
    }

    /// Events since an earlier reading; `None` if the counts went back.
    pub fn since(&self, before: &Self) -> Option<Self> {
        Some(Self {
            core_events: self.core_events.checked_sub(before.core_events)?,
            package_events: self.package_events.checked_sub(before.package_events)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fixture::Tree;

    const LAPTOP: &[(&str, &str)] = &[
        ("sys/class/thermal/cooling_device0/type", "Processor\n"),
        ("sys/class/thermal/thermal_zone0/type", "acpitz\n"),
        ("sys/class/thermal/thermal_zone0/temp", "47000\n"),
        ("sys/class/thermal/thermal_zone0/trip_point_0_type", "critical\n"),
        ("sys/class/thermal/thermal_zone0/trip_point_0_temp", "105000\n"),
        ("sys/class/thermal/thermal_zone0/trip_point_1_type", "active\n"),
        ("sys/class/thermal/thermal_zone0/trip_point_1_temp", "40000\n"),
        ("sys/class/thermal/thermal_zone0/trip_point_2_type", "passive\n"),
        ("sys/class/thermal/thermal_zone0/trip_point_2_temp", "95000\n"),
        ("sys/class/thermal/thermal_zone0/trip_point_3_type", "hot\n"),
        ("sys/class/thermal/thermal_zone0/trip_point_3_temp", "-274000\n"),
        ("sys/class/hwmon/hwmon0/name", "acpitz\n"),
        ("sys/class/hwmon/hwmon0/temp1_input", "47000\n"),
        ("sys/class/hwmon/hwmon1/name", "nvme\n"),
        ("sys/class/hwmon/hwmon1/temp1_input", "39000\n"),
        ("sys/class/hwmon/hwmon2/name", "coretemp\n"),
        ("sys/class/hwmon/hwmon2/temp1_input", "61000\n"),
        ("sys/class/hwmon/hwmon2/temp1_label", "Package id 0\n"),
        ("sys/class/hwmon/hwmon2/temp1_max", "100000\n"),
        ("sys/class/hwmon/hwmon2/temp1_crit", "100000\n"),
        ("sys/class/hwmon/hwmon2/temp2_input", "63000\n"),
        ("sys/class/hwmon/hwmon2/temp2_label", "Core 0\n"),
    ];

    fn trip(kind: TripKind, at_c: f64) -> Trip {
        Trip { kind, at_c: Celsius(at_c) }
    }

    #[test]
    fn zones_and_chips_without_storage_and_mirrors() {
        let tree = Tree::new(LAPTOP);
        let found = temperatures(&tree.roots());
        let names: Vec<&str> = found.iter().map(|t| t.sensor.as_str()).collect();
        assert_eq!(names, ["acpitz", "coretemp Package id 0", "coretemp Core 0"]);
        assert_eq!(found[0].reading, Ok(Celsius(47.0)));
        assert_eq!(found[0].trips, [trip(TripKind::Slow, 95.0), trip(TripKind::Critical, 105.0)]);
        assert_eq!(found[0].limit(), Some(Celsius(105.0)));
        assert_eq!(found[1].first_trip(), Some(trip(TripKind::Max, 100.0)));
        assert_eq!((found[2].first_trip(), found[2].limit()), (None, None));
        assert_eq!(processor(&found).unwrap().sensor, "coretemp Package id 0");
    }

    #[test]
    fn what_a_sensor_may_say() {
        let path = "sys/class/hwmon/hwmon2/temp1_input";
        // (content, degrees)
        let cases = [
            ("0\n", Some(0.0)),
            ("-5500\n", Some(-5.5)),
            ("-273200\n", None),
            ("2147483647\n", None),
            ("hot\n", None),
            ("\n", None),
            ("61000 C\n", None),
        ];
        for (text, degrees) in cases {
            let tree = Tree::new(LAPTOP);
            tree.write(path, text);
            let found = temperatures(&tree.roots());
            match degrees {
                Some(degrees) => assert_eq!(found[1].reading, Ok(Celsius(degrees)), "{text:?}"),
                None => {
                    assert!(matches!(found[1].reading, Err(Fault::Garbled { .. })), "{text:?}: {found:?}");
                    // The next best sensor speaks for the processor.
                    assert_eq!(processor(&found).unwrap().sensor, "coretemp Core 0");
                }
            }
        }
    }

    #[test]
    fn a_sensor_that_is_closed_or_goes_away_stays_in_the_list_with_its_fault() {
        let tree = Tree::new(LAPTOP);
        let zone = "sys/class/thermal/thermal_zone0/temp";
        // What a driver gives while the device sleeps.
        const EAGAIN: i32 = 11;
        tree.fail(zone, EAGAIN);
        assert!(matches!(temperatures(&tree.roots())[0].reading, Err(Fault::Unreadable { .. })));
        tree.deny(zone);
        assert!(matches!(temperatures(&tree.roots())[0].reading, Err(Fault::Denied { .. })));
        tree.remove("sys/class/hwmon/hwmon2");
        let found = temperatures(&tree.roots());
        assert_eq!(found.len(), 1);
        assert_eq!(processor(&found), None);
        assert!(temperatures(&Tree::new(&[]).roots()).is_empty());
    }

    #[test]
    fn which_sensor_is_the_processor() {
        let sensor = |(name, degrees): &(&str, f64)| Temperature {
            sensor: (*name).into(),
            reading: Ok(Celsius(*degrees)),
            trips: vec![],
        };
        type Case<'a> = (&'a [(&'a str, f64)], Option<&'a str>);
        let cases: &[Case] = &[
            (&[("k10temp Tctl", 90.0), ("k10temp Tdie", 63.0)], Some("k10temp Tdie")),
            (&[("amdgpu edge", 90.0), ("k10temp Tctl", 50.0)], Some("k10temp Tctl")),
            (&[("acpitz", 99.0), ("cpu-thermal", 50.0), ("gpu-thermal", 70.0)], Some("cpu-thermal")),
            (&[("CPU-therm", 50.0), ("GPU-therm", 60.0)], Some("CPU-therm")),
            (
                &[("coretemp Package id 0", 50.0), ("coretemp Package id 1", 55.0)],
                Some("coretemp Package id 1"),
            ),
            (&[("iwlwifi_1", 50.0)], None),
        ];
        for (sensors, expected) in cases {
            let sensors: Vec<Temperature> = sensors.iter().map(sensor).collect();
            assert_eq!(processor(&sensors).map(|t| t.sensor.as_str()), *expected);
        }
    }

    #[test]
    fn events_of_throttling() {
        let count = |cpu: u32, level: &str| {
            format!("sys/devices/system/cpu/cpu{cpu}/thermal_throttle/{level}_throttle_count")
        };
        let tree = Tree::new(&[("sys/devices/system/cpu/online", "0-2")]);
        assert_eq!(Throttling::read(&tree.roots()), None);
        for (cpu, core, package) in [(0, "3", "10"), (1, "4", "10"), (2, "many", "10")] {
            tree.write(&count(cpu, "core"), core);
            tree.write(&count(cpu, "package"), package);
        }
        let before = Throttling::read(&tree.roots()).unwrap();
        assert_eq!(before, Throttling { core_events: 7, package_events: 10 });
        tree.write(&count(1, "core"), "9");
        let after = Throttling::read(&tree.roots()).unwrap();
        assert_eq!(after.since(&before), Some(Throttling { core_events: 5, package_events: 0 }));
        assert_eq!(before.since(&after), None);
        tree.deny(&count(0, "core"));
        tree.deny(&count(1, "core"));
        assert_eq!(Throttling::read(&tree.roots()), None);
    }
}
