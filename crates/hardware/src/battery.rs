//! The battery: what the whole machine draws, as long as nothing else feeds it.
//!
//! A discharging battery is the one power sensor that nearly every laptop has and every user may read. It sees the
//! display and the radios too, and firmware refreshes it about once a second at best, so it serves long spans.
//! It speaks only while the machine hangs on it alone: on mains, the flow into the battery is not what the machine
//! draws, and a battery that idles says nothing. Files: Documentation/ABI/testing/sysfs-class-power; whether a current
//! is negative while discharging differs between drivers, so only its size counts.

use crate::Roots;
use crate::files::Fault;
use std::fmt;
use std::path::{Path, PathBuf};

/// No machine that hangs on a battery draws more: 10 kW.
const UW_MAX: u64 = 10_000_000_000;
/// µA × µV are 10⁻¹² W.
const PICOWATTS_PER_UW: u128 = 1_000_000;

/// Why the battery does not tell what the machine draws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoDischarge {
    /// The machine has no battery of its own.
    NoBattery,
    /// It has one, but hangs on mains or on nothing that discharges.
    NotDischarging,
    /// The battery could not be read.
    Fault(Fault),
}

impl fmt::Display for NoDischarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBattery => f.write_str("this machine has no battery"),
            Self::NotDischarging => {
                f.write_str("the battery is not discharging: unplug the machine to measure what it draws")
            }
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

/// Names of the machine's own batteries; those of mice and headsets are left out.
pub(crate) fn batteries(roots: &Roots) -> Vec<PathBuf> {
    let own = |path: &PathBuf| {
        roots.word(&path.join("type")).as_deref() == Some("Battery")
            && roots.word(&path.join("scope")).as_deref() != Some("Device")
            && roots.word(&path.join("present")).as_deref() != Some("0")
    };
    supplies(roots).into_iter().filter(own).collect()
}

fn supplies(roots: &Roots) -> Vec<PathBuf> {
    roots.entries(&roots.sys.join("class/power_supply"))
}

/// Microwatts that the machine draws from its batteries.
pub(crate) fn discharge_uw(roots: &Roots) -> Result<u64, NoDischarge> {
    let batteries = batteries(roots);
    if batteries.is_empty() {
        return Err(NoDischarge::NoBattery);
    }
    let on_mains = supplies(roots).iter().any(|supply| {
        roots.word(&supply.join("type")).as_deref() == Some("Mains")
            && roots.word(&supply.join("online")).as_deref() == Some("1")
    });
    let status = |battery: &PathBuf| roots.word(&battery.join("status")).unwrap_or_default();
    if on_mains || batteries.iter().any(|battery| status(battery) == "Charging") {
        return Err(NoDischarge::NotDischarging);
    }
    let mut sum_uw = None;
    for battery in batteries.iter().filter(|battery| status(battery) == "Discharging") {
        let uw = power_uw(roots, battery).map_err(NoDischarge::Fault)?;
        sum_uw = Some(sum_uw.unwrap_or(0) + uw);
    }
    sum_uw.ok_or(NoDischarge::NotDischarging)
}

/// What one battery gives: its power, or its current times its voltage.
fn power_uw(roots: &Roots, battery: &Path) -> Result<u64, Fault> {
    let size = |name: &str| roots.number::<i64>(&battery.join(name)).map(i64::unsigned_abs);
    let direct = battery.join("power_now");
    let (path, uw) = match size("power_now") {
        Ok(uw) => (direct, u128::from(uw)),
        Err(Fault::Missing { .. } | Fault::Unreadable { .. }) => {
            let (ua, uv) = (size("current_now")?, size("voltage_now")?);
            (battery.join("current_now"), u128::from(ua) * u128::from(uv) / PICOWATTS_PER_UW)
        }
        Err(fault) => return Err(fault),
    };
    // A discharging battery gives something: zero is a firmware that has not looked yet.
    let sane = u64::try_from(uw).ok().filter(|uw| (1..=UW_MAX).contains(uw));
    sane.ok_or_else(|| Fault::garbled(&path, &format!("{uw} µW")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fixture::Tree;

    fn laptop(battery: &[(&str, &str)]) -> Tree {
        let tree = Tree::new(&[
            ("sys/class/power_supply/AC/type", "Mains\n"),
            ("sys/class/power_supply/AC/online", "0\n"),
            ("sys/class/power_supply/BAT0/type", "Battery\n"),
            ("sys/class/power_supply/BAT0/status", "Discharging\n"),
            ("sys/class/power_supply/hid-mouse/type", "Battery\n"),
            ("sys/class/power_supply/hid-mouse/scope", "Device\n"),
            ("sys/class/power_supply/hid-mouse/status", "Discharging\n"),
        ]);
        for (name, text) in battery {
            tree.write(&format!("sys/class/power_supply/BAT0/{name}"), text);
        }
        tree
    }

    #[test]
    fn what_a_discharging_battery_gives() {
        let garbled = |found: &Result<u64, NoDischarge>| {
            matches!(found, Err(NoDischarge::Fault(Fault::Garbled { .. })))
        };
        type Is = fn(&Result<u64, NoDischarge>) -> bool;
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Is);
        let cases: &[Case] = &[
            ("power", &[("power_now", "8500000\n")], |f| *f == Ok(8_500_000)),
            ("power, counted as leaving", &[("power_now", "-8500000\n")], |f| *f == Ok(8_500_000)),
            ("current and voltage", &[("current_now", "-700000\n"), ("voltage_now", "12000000\n")], |f| {
                *f == Ok(8_400_000)
            }),
            ("nothing", &[], |f| matches!(f, Err(NoDischarge::Fault(Fault::Missing { .. })))),
            ("half", &[("current_now", "700000\n")], |f| {
                matches!(f, Err(NoDischarge::Fault(Fault::Missing { .. })))
            }),
            ("zero", &[("power_now", "0\n")], garbled),
            ("text", &[("power_now", "low\n")], garbled),
            ("empty", &[("power_now", "")], garbled),
            ("megawatts", &[("power_now", "99999999999999\n")], garbled),
            (
                "a product beyond bounds",
                &[("current_now", "9223372036854775807"), ("voltage_now", "9223372036854775807")],
                garbled,
            ),
        ];
        for (what, files, is) in cases {
            let found = discharge_uw(&laptop(files).roots());
            assert!(is(&found), "{what}: {found:?}");
        }
    }

    #[test]
    fn a_battery_speaks_only_while_the_machine_hangs_on_it() {
        let bat = "sys/class/power_supply/BAT0";
        let cases: &[(&str, &str, &str)] = &[
            ("charging", "sys/class/power_supply/BAT0/status", "Charging\n"),
            ("full", "sys/class/power_supply/BAT0/status", "Full\n"),
            ("unknown", "sys/class/power_supply/BAT0/status", "Unknown\n"),
            ("mains", "sys/class/power_supply/AC/online", "1\n"),
        ];
        for (what, path, text) in cases {
            let tree = laptop(&[("power_now", "8500000")]);
            tree.write(path, text);
            assert_eq!(discharge_uw(&tree.roots()), Err(NoDischarge::NotDischarging), "{what}");
        }
        let tree = laptop(&[("power_now", "8500000")]);
        tree.deny(&format!("{bat}/power_now"));
        assert!(matches!(discharge_uw(&tree.roots()), Err(NoDischarge::Fault(Fault::Denied { .. }))));
        tree.remove(bat);
        assert_eq!(discharge_uw(&tree.roots()), Err(NoDischarge::NoBattery));
        assert_eq!(discharge_uw(&Tree::new(&[]).roots()), Err(NoDischarge::NoBattery));
    }

    #[test]
    fn two_batteries_are_added_and_a_waiting_one_adds_nothing() {
        let tree = laptop(&[("power_now", "8000000")]);
        tree.write("sys/class/power_supply/BAT1/type", "Battery\n");
        tree.write("sys/class/power_supply/BAT1/status", "Discharging\n");
        tree.write("sys/class/power_supply/BAT1/power_now", "2000000\n");
        assert_eq!(discharge_uw(&tree.roots()), Ok(10_000_000));
        tree.write("sys/class/power_supply/BAT1/status", "Not charging\n");
        assert_eq!(discharge_uw(&tree.roots()), Ok(8_000_000));
        tree.write("sys/class/power_supply/BAT1/present", "0\n");
        assert_eq!(batteries(&tree.roots()).len(), 1);
    }
}
