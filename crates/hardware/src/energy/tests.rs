//! The meter on fixture trees. Times are given, not waited for.

mod domains;
mod gpus;
mod power;

use super::*;
use crate::files::fixture::Tree;
use std::fs;
use std::path::PathBuf;

const RANGE_UJ: u64 = 262_143_328_850;

/// A machine of two CPUs whose counters the test moves.
struct Fixture {
    tree: Tree,
}

impl Fixture {
    fn new() -> Self {
        Self { tree: Tree::new(&[("sys/devices/system/cpu/online", "0-1\n")]) }
    }

    fn with_packages(count: usize) -> Self {
        let fixture = Self::new();
        for i in 0..count {
            fixture.domain(&format!("intel-rapl:{i}"), &format!("package-{i}"), "1000000");
        }
        fixture
    }

    fn domain(&self, folder: &str, name: &str, energy_uj: &str) {
        self.tree.write(&format!("sys/class/powercap/{folder}/name"), &format!("{name}\n"));
        self.tree
            .write(&format!("sys/class/powercap/{folder}/max_energy_range_uj"), &format!("{RANGE_UJ}\n"));
        self.set(folder, energy_uj);
    }

    fn counter(folder: &str) -> String {
        format!("sys/class/powercap/{folder}/energy_uj")
    }

    fn energy(&self, folder: &str) -> PathBuf {
        self.tree.path(&Self::counter(folder))
    }

    fn set(&self, folder: &str, energy_uj: &str) {
        self.tree.write(&Self::counter(folder), &format!("{energy_uj}\n"));
    }

    fn roots(&self) -> Roots {
        self.tree.roots()
    }

    fn meter(&self) -> EnergyMeter {
        EnergyMeter::open(&self.roots(), Envelope::from_watts(Watts(10.0), Watts(30.0)).unwrap())
    }
}

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
}

/// What the estimate of the fixture's envelope gives: 10 W idle, 10 W for each of the two busy CPUs.
/// A span of two seconds, a second of CPU time in it, that is spoilt after its beginning: estimated, with one flag.
fn assert_estimated_after(
    meter: &EnergyMeter,
    spoil: impl FnOnce(),
    told: impl Fn(&EnergyFlag) -> bool,
    what: &str,
) {
    let mut span = meter.begin_at(at(0.0));
    spoil();
    meter.tick_at(&mut span, at(1.0));
    let reading = meter.end_at(span, at(2.0), 1.0);
    assert_estimate(&reading, 2.0, 1.0);
    assert!(reading.flags.len() == 1 && told(&reading.flags[0]), "{what}: {:?}", reading.flags);
}

fn assert_estimate(reading: &EnergyReading, seconds: f64, cpu_s: f64) {
    assert_eq!(reading.gross.provenance, Provenance::Estimated);
    assert_eq!(reading.power.provenance, Provenance::Estimated);
    near(reading.gross.value.0, 10.0 * seconds + 10.0 * cpu_s);
    near(reading.net.as_ref().unwrap().value.0, 10.0 * cpu_s);
    near(reading.power.value.0, 10.0 + 10.0 * cpu_s / seconds);
    assert_eq!(reading.gross.source, "10.0 W idle + 10.0 W per busy logical CPU (figures given by the user)");
}

#[test]
fn packages_are_added_up() {
    let machine = Fixture::with_packages(2);
    let meter = machine.meter();
    assert_eq!(meter.provenance(), Provenance::Measured);
    let span = meter.begin_at(at(1.0));
    machine.set("intel-rapl:0", "3000000");
    machine.set("intel-rapl:1", "5000000");
    let reading = meter.end_at(span, at(3.0), 1.0);
    assert_eq!(reading.gross.provenance, Provenance::Measured);
    assert_eq!(reading.gross.source, "powercap package-0 + package-1 (all processes, without memory)");
    near(reading.gross.value.0, 6.0);
    near(reading.power.value.0, 3.0);
    near(reading.seconds.0, 2.0);
    assert_eq!((reading.net, reading.flags), (None, vec![]));
    // An update a millisecond.
    assert_eq!(reading.updates, Some(2000));
}

#[test]
fn net_needs_an_idle_baseline_and_bears_its_label() {
    let machine = Fixture::with_packages(1);
    let mut meter = machine.meter();
    let cases = [
        (Labelled::measured(Watts(0.5), "idle"), 1.0, Provenance::Measured, vec![]),
        (Labelled::estimated(Watts(0.25), "guess"), 1.5, Provenance::Estimated, vec![]),
        (Labelled::measured(Watts(2.0), "idle"), -2.0, Provenance::Measured, vec![EnergyFlag::BelowIdle]),
    ];
    for (idle, net_j, provenance, flags) in cases {
        machine.set("intel-rapl:0", "0");
        meter.set_idle(idle);
        let span = meter.begin_at(at(0.0));
        machine.set("intel-rapl:0", "2000000");
        let reading = meter.end_at(span, at(2.0), 0.0);
        let net = reading.net.unwrap();
        near(net.value.0, net_j);
        assert_eq!((net.provenance, reading.flags), (provenance, flags));
    }
}

#[test]
fn wraps_are_unwrapped_and_ticks_catch_several() {
    let machine = Fixture::with_packages(1);
    let meter = machine.meter();
    // 262 kJ at 2000 W is 131 s; ticking twice in that time sees every wrap.
    near(meter.tick_period().unwrap().0, RANGE_UJ as f64 * 1e-6 / 2000.0 / 2.0);
    machine.set("intel-rapl:0", &(RANGE_UJ - 4_000_000).to_string());
    let mut span = meter.begin_at(at(0.0));
    machine.set("intel-rapl:0", "1000000");
    meter.tick_at(&mut span, at(1.0));
    let mut expected_j = 5.0;
    for i in 1..=4 {
        // 100 kJ in 60 s, four times: one more wrap.
        machine.set("intel-rapl:0", &((1_000_000 + i * 100_000_000_000) % RANGE_UJ).to_string());
        meter.tick_at(&mut span, at(1.0 + 60.0 * i as f64));
        expected_j += 100_000.0;
    }
    machine.set("intel-rapl:0", &((1_000_000 + 4 * 100_000_000_000u64) % RANGE_UJ).to_string());
    let reading = meter.end_at(span, at(250.0), 0.0);
    near(reading.gross.value.0, expected_j);
    assert_eq!(reading.flags, []);
}

#[test]
fn a_gap_that_may_hide_a_wrap_is_flagged() {
    let machine = Fixture::with_packages(1);
    let meter = machine.meter();
    let span = meter.begin_at(at(0.0));
    machine.set("intel-rapl:0", "9000000");
    let reading = meter.end_at(span, at(200.0), 0.0);
    assert_eq!(reading.gross.provenance, Provenance::Measured);
    assert!(matches!(reading.flags[..], [EnergyFlag::LongGap { gap_s: 200.0, .. }]), "{:?}", reading.flags);
}

#[test]
fn short_spans_are_flagged_and_never_zero() {
    let machine = Fixture::with_packages(1);
    let meter = machine.meter();
    let span = meter.begin_at(at(0.0));
    machine.set("intel-rapl:0", "1000300");
    let reading = meter.end_at(span, at(0.005), 0.005);
    assert_eq!(reading.gross.provenance, Provenance::Measured);
    assert!(matches!(reading.flags[..], [EnergyFlag::ShortSpan { .. }]));

    let span = meter.begin_at(at(1.0));
    let reading = meter.end_at(span, at(1.0005), 0.0005);
    assert_estimate(&reading, 0.0005, 0.0005);
    assert!(matches!(reading.flags[..], [EnergyFlag::ShortSpan { .. }]));
    // Not even a span of no length.
    let reading = meter.end_at(meter.begin_at(at(2.0)), at(2.0), 0.0);
    assert!(reading.power.value.0.is_finite() && reading.gross.value.0 > 0.0);
}

#[test]
fn machines_without_counters_are_estimated() {
    let empty = Fixture::new();
    let folder_only = Fixture::new();
    folder_only.domain("intel-rapl:0", "psys", "5");
    for machine in [empty, folder_only] {
        let meter = machine.meter();
        assert_eq!((meter.provenance(), meter.tick_period()), (Provenance::Estimated, None));
        assert!(matches!(meter.missing(), Some(EnergyFlag::NoCounter { .. })));
        let reading = meter.end_at(meter.begin_at(at(0.0)), at(2.0), 3.0);
        assert_estimate(&reading, 2.0, 3.0);
        assert!(matches!(reading.flags[..], [EnergyFlag::NoCounter { .. }]), "{:?}", reading.flags);
    }
}

/// Each way a counter can go wrong in the middle of a span: what is done to it, and the flag that tells.
#[test]
fn a_counter_that_fails_inside_a_span_leaves_an_estimate() {
    type Spoil = fn(&Fixture);
    type Told = fn(&EnergyFlag) -> bool;
    let cases: &[(&str, Spoil, Told)] = &[
        ("stands still", |_| {}, |f| matches!(f, EnergyFlag::CounterStuck { .. })),
        (
            "is closed",
            |m| m.tree.deny(&Fixture::counter("intel-rapl:1")),
            |f| matches!(f, EnergyFlag::CounterDenied { .. }),
        ),
        (
            "vanishes",
            |m| fs::remove_dir_all(m.energy("intel-rapl:1").parent().unwrap()).unwrap(),
            |f| matches!(f, EnergyFlag::CounterUnreadable { .. }),
        ),
        (
            "turns to text",
            |m| m.set("intel-rapl:1", "n/a"),
            |f| matches!(f, EnergyFlag::CounterGarbled { .. }),
        ),
        (
            "turns negative",
            |m| m.set("intel-rapl:1", "-5"),
            |f| matches!(f, EnergyFlag::CounterGarbled { .. }),
        ),
        ("is emptied", |m| m.set("intel-rapl:1", ""), |f| matches!(f, EnergyFlag::CounterGarbled { .. })),
        (
            "leaves its range",
            |m| m.set("intel-rapl:1", &(RANGE_UJ + 1).to_string()),
            |f| matches!(f, EnergyFlag::CounterGarbled { .. }),
        ),
        (
            "grows without end",
            |m| m.set("intel-rapl:1", &"9".repeat(100)),
            |f| matches!(f, EnergyFlag::CounterGarbled { .. }),
        ),
        (
            "becomes binary",
            |m| fs::write(m.energy("intel-rapl:1"), [0xff, 0xfe, 0x00]).unwrap(),
            |f| matches!(f, EnergyFlag::CounterGarbled { .. }),
        ),
        ("is reset", |m| m.set("intel-rapl:1", "0"), |f| matches!(f, EnergyFlag::CounterJumped { .. })),
        (
            "becomes a folder",
            |m| {
                fs::remove_file(m.energy("intel-rapl:1")).unwrap();
                fs::create_dir(m.energy("intel-rapl:1")).unwrap();
            },
            |f| matches!(f, EnergyFlag::CounterUnreadable { .. }),
        ),
    ];
    for (what, spoil, told) in cases {
        let machine = Fixture::with_packages(2);
        let meter = machine.meter();
        let spoilt = || {
            machine.set("intel-rapl:0", "2000000");
            spoil(&machine);
        };
        assert_estimated_after(&meter, spoilt, told, what);
    }
}

#[test]
fn a_counter_that_recovers_serves_the_next_span() {
    let machine = Fixture::with_packages(1);
    let meter = machine.meter();
    machine.set("intel-rapl:0", "garbage");
    let reading = meter.end_at(meter.begin_at(at(0.0)), at(1.0), 0.0);
    assert_eq!(reading.gross.provenance, Provenance::Estimated);
    machine.set("intel-rapl:0", "1000000");
    let span = meter.begin_at(at(1.0));
    machine.set("intel-rapl:0", "3000000");
    let reading = meter.end_at(span, at(2.0), 0.0);
    assert_eq!(reading.gross.provenance, Provenance::Measured);
    near(reading.gross.value.0, 2.0);
}

#[test]
fn without_a_range_no_wrap_is_believed() {
    let machine = Fixture::with_packages(1);
    fs::remove_file(machine.energy("intel-rapl:0").with_file_name("max_energy_range_uj")).unwrap();
    let meter = machine.meter();
    assert_eq!(meter.tick_period(), None);
    let span = meter.begin_at(at(0.0));
    machine.set("intel-rapl:0", "5");
    let reading = meter.end_at(span, at(1.0), 1.0);
    assert_estimate(&reading, 1.0, 1.0);
    assert!(matches!(reading.flags[..], [EnergyFlag::CounterReset { .. }]));
}

#[test]
fn one_bad_package_spoils_the_sum_from_the_start() {
    let machine = Fixture::with_packages(2);
    machine.set("intel-rapl:1", "?");
    let meter = machine.meter();
    assert!(matches!(meter.missing(), Some(EnergyFlag::CounterGarbled { .. })));
    assert_eq!(meter.provenance(), Provenance::Estimated);
}

#[test]
fn a_closed_counter_is_explained() {
    let machine = Fixture::with_packages(1);
    let path = machine.energy("intel-rapl:0");
    machine.tree.deny(&Fixture::counter("intel-rapl:0"));
    let meter = machine.meter();
    assert_eq!(meter.missing(), Some(&EnergyFlag::CounterDenied { path: path.clone() }));
    let reading = meter.end_at(meter.begin_at(at(0.0)), at(1.0), 1.0);
    assert_estimate(&reading, 1.0, 1.0);
    assert_eq!(reading.flags, [EnergyFlag::CounterDenied { path: path.clone() }]);
    assert_eq!(powercap::closed(&machine.roots()), [path]);
}

#[test]
fn the_remedy_for_a_closed_counter_is_spelled_out() {
    let path = PathBuf::from("/sys/class/powercap/intel-rapl:0/energy_uj");
    let text = EnergyFlag::CounterDenied { path }.to_string();
    assert!(text.contains("`sudo chmod a+r /sys/class/powercap/intel-rapl:0/energy_uj`"), "{text}");
    assert!(text.contains("estimated"), "{text}");
}

#[test]
fn cpu_time_is_bounded_by_the_machine() {
    let meter = Fixture::new().meter();
    // (given CPU time, CPU time that counts in a span of 2 s on 2 CPUs, flagged as unknown)
    let cases =
        [(0.0, 0.0, false), (3.5, 3.5, false), (4.3, 4.0, false), (f64::NAN, 4.0, true), (-1.0, 4.0, true)];
    for (cpu_s, counted_s, unknown) in cases {
        let reading = meter.end_at(meter.begin_at(at(0.0)), at(2.0), cpu_s);
        assert_estimate(&reading, 2.0, counted_s);
        assert_eq!(reading.flags.contains(&EnergyFlag::CpuTimeUnknown), unknown, "{cpu_s}");
    }
}

#[test]
fn an_assumed_envelope_says_whose_figures_it_took() {
    // (processor, cores, expected maximum in watts, part named)
    let cases = [
        (Some("AMD EPYC 7B13"), 8, 30.0, "8 cores like those of AMD EPYC 9654"),
        (Some("AMD EPYC 9654 96-Core Processor"), 96, 360.0, "AMD EPYC 9654, 360 W"),
        (Some("Intel(R) Xeon(R) CPU @ 2.20GHz"), 56, 350.0, "Intel Xeon Platinum 8480+"),
        (Some("AMD Ryzen 5 5600U with Radeon Graphics"), 6, 21.0, "AMD Ryzen 7 7840U"),
        (Some("12th Gen Intel(R) Core(TM) i5-1240P"), 12, 28.0, "Intel Core i7-1260P"),
        (Some("Intel(R) N100"), 4, 6.0, "Intel N100"),
        (Some("Raspberry Pi 5 Model B Rev 1.0"), 4, 12.0, "Raspberry Pi 5"),
        (Some("Loongson"), 4, 14.0, "for want of a figure for this processor"),
        (None, 2, 7.0, "for want of a figure for this processor"),
    ];
    for (model, cores, max_w, named) in cases {
        let envelope = Envelope::assumed(&Cpu::named(model, cores));
        near(envelope.max().0, max_w);
        let meter = EnergyMeter::open(&Fixture::new().roots(), envelope);
        let reading = meter.end_at(meter.begin_at(at(0.0)), at(1.0), 2.0);
        // Two busy CPUs of the fixture's two are the whole machine.
        near(reading.gross.value.0, max_w);
        assert!(reading.gross.source.contains(named), "{}", reading.gross.source);
        assert!(!reading.gross.source.contains(';'), "{}", reading.gross.source);
        assert!(reading.flags.contains(&EnergyFlag::AssumedEnvelope));
    }
}

#[test]
fn the_users_own_figures_come_first() {
    let folder = tempfile::TempDir::new().unwrap();
    let cpu = Cpu::named(Some("AMD EPYC"), 1);
    let source = |envelope: &Envelope| {
        let meter = EnergyMeter::open(&Fixture::new().roots(), envelope.clone());
        let reading = meter.end_at(meter.begin_at(at(0.0)), at(1.0), 0.0);
        assert_eq!(reading.flags.contains(&EnergyFlag::AssumedEnvelope), envelope.is_assumed());
        reading.gross.source
    };
    let assumed = Envelope::of_folder(&cpu, folder.path()).unwrap();
    assert!(assumed.is_assumed() && source(&assumed).contains("assumed"), "{}", source(&assumed));

    let own = "[[device]]\nkind = \"cpu\"\nwords = [\"EPYC\"]\npart = \"my box\"\nidle_w = 8\nmax_w = 45\n";
    fs::write(folder.path().join("devices.toml"), own).unwrap();
    let of_file = Envelope::of_folder(&cpu, folder.path()).unwrap();
    assert_eq!((of_file.idle(), of_file.max(), of_file.is_assumed()), (Watts(8.0), Watts(45.0), false));
    assert!(source(&of_file).contains("the user's device catalogue: my box"), "{}", source(&of_file));

    let readings = "idle_w = 20\nbusy_w = 60\nat_unix_s = 1\ncpu_model = \"AMD EPYC\"\nlogical_cpus = 2\n";
    fs::write(folder.path().join("calibration.toml"), readings).unwrap();
    let calibrated = Envelope::of_folder(&cpu, folder.path()).unwrap();
    assert_eq!(
        (calibrated.idle(), calibrated.max(), calibrated.is_assumed()),
        (Watts(20.0), Watts(60.0), false)
    );
    assert!(source(&calibrated).contains("wall meter"), "{}", source(&calibrated));

    fs::write(folder.path().join("calibration.toml"), "idle_w = \"a lot\"").unwrap();
    assert!(Envelope::of_folder(&cpu, folder.path()).is_err());
}

#[test]
fn figures_that_are_no_envelope() {
    for (idle, max) in
        [(10.0, 10.0), (20.0, 10.0), (-1.0, 5.0), (1.0, f64::NAN), (f64::NAN, 5.0), (1.0, 15_000.0)]
    {
        let error = Envelope::from_watts(Watts(idle), Watts(max)).unwrap_err().to_string();
        assert!(error.contains("give"), "{error}");
    }
    let zero_idle = Envelope::from_watts(Watts(0.0), Watts(5.0)).unwrap();
    near(zero_idle.busy_unit(Units::LogicalCpus(4)).0, 1.25);
}

#[test]
fn a_reading_survives_json() {
    let meter = Fixture::new().meter();
    let reading = meter.end_at(meter.begin_at(at(0.0)), at(1.0), 1.0);
    let json = serde_json::to_string(&reading).unwrap();
    assert!(json.contains(r#""flag":"no_counter""#), "{json}");
    assert_eq!(serde_json::from_str::<EnergyReading>(&json).unwrap(), reading);
}

#[test]
fn this_machine_gives_a_positive_reading() {
    let roots = Roots::default();
    let meter = EnergyMeter::open(&roots, Envelope::assumed(&Cpu::read(&roots)));
    let mut span = meter.begin();
    meter.tick(&mut span);
    let reading = meter.end(span, 0.0);
    assert!(reading.gross.value.0 > 0.0 && reading.power.value.0.is_finite(), "{reading:?}");
    assert!(!reading.gross.source.is_empty());
}
