//! Power sensors of the processor: rails and the battery.

use super::*;

const JETSON: &[(&str, &str)] = &[
    ("sys/class/hwmon/hwmon1/name", "ina3221\n"),
    ("sys/class/hwmon/hwmon1/update_interval", "40\n"),
    ("sys/class/hwmon/hwmon1/in1_label", "VDD_IN\n"),
    ("sys/class/hwmon/hwmon1/in1_input", "19000\n"),
    ("sys/class/hwmon/hwmon1/curr1_input", "500\n"),
    ("sys/class/hwmon/hwmon1/in2_label", "VDD_CPU_CV\n"),
    ("sys/class/hwmon/hwmon1/in2_input", "19000\n"),
    ("sys/class/hwmon/hwmon1/curr2_input", "100\n"),
    ("sys/class/hwmon/hwmon1/in3_label", "VDD_GPU_SOC\n"),
    ("sys/class/hwmon/hwmon1/in3_input", "19000\n"),
    ("sys/class/hwmon/hwmon1/curr3_input", "200\n"),
    ("sys/class/hwmon/hwmon1/in7_label", "sum of shunt voltages\n"),
    ("sys/class/hwmon/hwmon1/in7_input", "8\n"),
    ("sys/class/hwmon/hwmon1/curr4_input", "800\n"),
];
const CPU_MA: &str = "sys/class/hwmon/hwmon1/curr2_input";

fn with_files(files: &[(&str, &str)]) -> Fixture {
    let machine = Fixture::new();
    files.iter().for_each(|(path, text)| machine.tree.write(path, text));
    machine
}

#[test]
fn a_rail_is_integrated_by_trapezoids() {
    let machine = with_files(JETSON);
    let meter = machine.meter();
    assert_eq!((meter.provenance(), meter.tick_period()), (Provenance::Measured, Some(Seconds(0.05))));
    let mut span = meter.begin_at(at(0.0));
    // 1.9 W at 0 s, 5.7 W at 1 s, 5.7 W at 2 s.
    machine.tree.write(CPU_MA, "300\n");
    meter.tick_at(&mut span, at(1.0));
    let reading = meter.end_at(span, at(2.0), 0.0);
    near(reading.gross.value.0, (1.9 + 5.7) / 2.0 + 5.7);
    assert_eq!(reading.gross.source, "INA3221 VDD_CPU_CV (integrated from power samples, all processes)");
    let shown: Vec<(&str, bool)> = reading.domains.iter().map(|d| (d.name.as_str(), d.summed)).collect();
    assert_eq!(shown, [("VDD_IN", false), ("VDD_CPU_CV", true), ("VDD_GPU_SOC", false)]);
    assert_eq!((reading.updates, reading.flags), (Some(50), vec![]));
}

/// What happens between two samples of a power sensor, and what is made of it.
#[test]
fn a_power_sensor_that_fails_inside_a_span_leaves_an_estimate() {
    type Spoil = fn(&Fixture);
    type Told = fn(&EnergyFlag) -> bool;
    let cases: &[(&str, Spoil, Told)] = &[
        ("closed", |m| m.tree.deny(CPU_MA), |f| matches!(f, EnergyFlag::CounterDenied { .. })),
        (
            "vanishes",
            |m| m.tree.remove("sys/class/hwmon/hwmon1"),
            |f| matches!(f, EnergyFlag::CounterUnreadable { .. }),
        ),
        ("negative", |m| m.tree.write(CPU_MA, "-300\n"), |f| matches!(f, EnergyFlag::CounterGarbled { .. })),
        ("text", |m| m.tree.write(CPU_MA, "n/a\n"), |f| matches!(f, EnergyFlag::CounterGarbled { .. })),
        (
            "a megawatt",
            |m| m.tree.write(CPU_MA, "99999999\n"),
            |f| matches!(f, EnergyFlag::CounterGarbled { .. }),
        ),
        (
            "beyond 64 bits",
            |m| m.tree.write(CPU_MA, "18446744073709551615\n"),
            |f| matches!(f, EnergyFlag::CounterGarbled { .. }),
        ),
    ];
    for (what, spoil, told) in cases {
        let machine = with_files(JETSON);
        assert_estimated_after(&machine.meter(), || spoil(&machine), told, what);
    }
}

#[test]
fn a_power_sensor_that_never_changes() {
    // (current in mA, ticks, measured, flag)
    type Told = fn(&[EnergyFlag]) -> bool;
    let cases: &[(&str, u32, bool, Told)] = &[
        ("100", 10, true, |f| f.is_empty()),
        ("100", 60, true, |f| matches!(f, [EnergyFlag::PowerUnchanged { samples: 62, .. }])),
        ("0", 60, false, |f| matches!(f, [EnergyFlag::CounterStuck { .. }])),
    ];
    for (ma, ticks, measured, told) in cases {
        let machine = with_files(JETSON);
        machine.tree.write(CPU_MA, ma);
        let meter = machine.meter();
        let mut span = meter.begin_at(at(0.0));
        for i in 1..=*ticks {
            meter.tick_at(&mut span, at(f64::from(i) * 0.1));
        }
        let reading = meter.end_at(span, at(f64::from(*ticks) * 0.1 + 0.1), 0.0);
        assert_eq!(reading.gross.provenance == Provenance::Measured, *measured, "{ma} mA");
        assert!(told(&reading.flags), "{ma} mA, {ticks} ticks: {:?}", reading.flags);
    }
}

#[test]
fn few_samples_are_flagged() {
    let machine = with_files(JETSON);
    let meter = machine.meter();
    let span = meter.begin_at(at(0.0));
    machine.tree.write(CPU_MA, "300\n");
    let reading = meter.end_at(span, at(30.0), 0.0);
    assert!(
        matches!(reading.flags[..], [EnergyFlag::SparseSamples { gap_s: 30.0, .. }]),
        "{:?}",
        reading.flags
    );
    let reading = meter.end_at(meter.begin_at(at(31.0)), at(31.2), 0.0);
    assert!(matches!(reading.flags[..], [EnergyFlag::ShortSpan { .. }]), "{:?}", reading.flags);
    assert_eq!(reading.updates, Some(5));
}

const LAPTOP: &[(&str, &str)] = &[
    ("sys/class/power_supply/AC/type", "Mains\n"),
    ("sys/class/power_supply/AC/online", "0\n"),
    ("sys/class/power_supply/BAT0/type", "Battery\n"),
    ("sys/class/power_supply/BAT0/status", "Discharging\n"),
    ("sys/class/power_supply/BAT0/power_now", "9000000\n"),
];

#[test]
fn a_laptop_on_battery_is_measured_until_it_is_plugged_in() {
    let machine = with_files(LAPTOP);
    let meter = machine.meter();
    assert_eq!(meter.tick_period(), Some(Seconds(1.0)));
    let mut span = meter.begin_at(at(0.0));
    machine.tree.write("sys/class/power_supply/BAT0/power_now", "11000000\n");
    meter.tick_at(&mut span, at(10.0));
    let reading = meter.end_at(span, at(20.0), 0.0);
    near(reading.gross.value.0, 100.0 + 110.0);
    assert_eq!(reading.gross.provenance, Provenance::Measured);
    assert!(reading.gross.source.contains("the whole machine"), "{}", reading.gross.source);

    let span = meter.begin_at(at(20.0));
    machine.tree.write("sys/class/power_supply/AC/online", "1\n");
    let reading = meter.end_at(span, at(40.0), 1.0);
    assert_estimate(&reading, 20.0, 1.0);
    assert_eq!(reading.flags, [EnergyFlag::NotOnBattery]);
}

#[test]
fn counters_come_before_rails_and_rails_before_the_battery() {
    let machine = with_files(LAPTOP);
    assert!(machine.meter().source().starts_with("battery"));
    JETSON.iter().for_each(|(path, text)| machine.tree.write(path, text));
    assert!(machine.meter().source().starts_with("INA3221"));
    machine.domain("intel-rapl:0", "package-0", "1");
    assert!(machine.meter().source().starts_with("powercap"));
    // A counter that is closed leaves the next best sensor.
    machine.tree.deny(&Fixture::counter("intel-rapl:0"));
    assert!(machine.meter().source().starts_with("INA3221"));
}

#[test]
fn boards_whose_rails_are_not_the_processors() {
    let machine = with_files(JETSON);
    machine.tree.write("sys/class/hwmon/hwmon1/in2_label", "VDD_CV\n");
    assert!(matches!(machine.meter().missing(), Some(EnergyFlag::NoCounter { .. })));
    let machine = with_files(JETSON);
    machine.tree.remove("sys/class/hwmon/hwmon1/in1_input");
    machine.tree.fail("sys/class/hwmon/hwmon1/in3_input", 61);
    // A rail that is switched off is not shown; the processor's is there.
    let reading = {
        let meter = machine.meter();
        meter.end_at(meter.begin_at(at(0.0)), at(1.0), 0.0)
    };
    assert_eq!(reading.domains.len(), 1);
}
