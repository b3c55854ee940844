//! Counters of powercap: which are added, and that wraps do not matter.

use super::*;
use proptest::prelude::*;

const PARTS: [(&str, &str); 6] = [
    ("intel-rapl:0:0", "core"),
    ("intel-rapl:0:1", "uncore"),
    ("intel-rapl:1", "psys"),
    ("intel-rapl-mmio:0", "package-0"),
    ("intel-rapl:0:3", "package-9"),
    ("intel-rapl", "package-0"),
];

#[test]
fn overlapping_domains_are_shown_and_not_counted_twice() {
    let machine = Fixture::with_packages(1);
    for (folder, name) in PARTS {
        machine.domain(folder, name, "7");
    }
    let meter = machine.meter();
    let span = meter.begin_at(at(0.0));
    machine.set("intel-rapl:0", "2000000");
    machine.set("intel-rapl:0:0", "600007");
    machine.set("intel-rapl:1", "9000007");
    machine.set("intel-rapl-mmio:0", "900000000");
    let reading = meter.end_at(span, at(1.0), 0.0);
    near(reading.gross.value.0, 1.0);
    assert_eq!(reading.gross.source, "powercap package-0 (all processes, without memory)");
    // The uncore counter stood still: that is no energy of zero.
    let shown: Vec<(&str, f64, bool)> =
        reading.domains.iter().map(|d| (d.name.as_str(), d.energy.0, d.summed)).collect();
    assert_eq!(shown, [("package-0", 1.0, true), ("core of package-0", 0.6, false), ("psys", 9.0, false)]);
    assert_eq!(reading.flags, []);
}

#[test]
fn memory_is_added_where_its_counter_moves() {
    // (what happens to the counter, joules, source, remark)
    type Spoil = fn(&Fixture);
    let left_out = EnergyFlag::PartLeftOut { name: "dram of package-0".into() };
    let alone = "powercap package-0 (all processes, without memory)";
    let cases: [(&str, Spoil, f64, &str, Option<&EnergyFlag>); 5] = [
        (
            "moves",
            |m| m.set("intel-rapl:0:2", "500000"),
            1.5,
            "powercap package-0 + dram of package-0 (all processes)",
            None,
        ),
        ("stands still", |_| {}, 1.0, alone, Some(&left_out)),
        ("turns negative", |m| m.set("intel-rapl:0:2", "-1"), 1.0, alone, Some(&left_out)),
        ("is closed", |m| m.tree.deny(&Fixture::counter("intel-rapl:0:2")), 1.0, alone, Some(&left_out)),
        ("vanishes", |m| m.tree.remove("sys/class/powercap/intel-rapl:0:2"), 1.0, alone, Some(&left_out)),
    ];
    for (what, spoil, joules, source, remark) in cases {
        let machine = Fixture::with_packages(1);
        machine.domain("intel-rapl:0:2", "dram", "0");
        let meter = machine.meter();
        let span = meter.begin_at(at(0.0));
        machine.set("intel-rapl:0", "2000000");
        spoil(&machine);
        let reading = meter.end_at(span, at(1.0), 0.0);
        near(reading.gross.value.0, joules);
        assert_eq!(reading.gross.provenance, Provenance::Measured, "{what}");
        assert_eq!(reading.gross.source, source, "{what}");
        assert_eq!(reading.flags.first(), remark, "{what}");
    }
}

#[test]
fn an_idle_baseline_says_how_busy_the_machine_was() {
    let machine = Fixture::with_packages(1);
    machine.tree.write("proc/stat", "cpu 0 0 0 0\n");
    let mut meter = machine.meter();
    let mut now_s = 0.0;
    // Ten watts, ticked every second.
    let idle = meter.measure_idle_by(at(4.0), |step| {
        now_s += step.as_secs_f64();
        machine.set("intel-rapl:0", &format!("{}", 1_000_000 + (now_s * 10e6) as u64));
        machine.tree.write("proc/stat", &format!("cpu {} 0 0 {}\n", now_s as u64 * 10, now_s as u64 * 190));
        at(now_s)
    });
    near(now_s, 4.0);
    near(idle.value.0, 10.0);
    assert_eq!(idle.provenance, Provenance::Measured);
    assert!(idle.source.ends_with("idle for 4.0 s, CPU use 5 %"), "{}", idle.source);
    meter.set_idle(idle);
    machine.set("intel-rapl:0", "0");
    let span = meter.begin_at(at(0.0));
    machine.set("intel-rapl:0", "50000000");
    let net = meter.end_at(span, at(2.0), 0.0).net.unwrap();
    near(net.value.0, 30.0);
    assert_eq!(net.provenance, Provenance::Measured);
}

#[test]
fn an_idle_baseline_without_a_sensor_is_the_envelopes() {
    let meter = Fixture::new().meter();
    let idle = meter.measure_idle_by(at(2.0), |_| panic!("there is nothing to wait for"));
    near(idle.value.0, 10.0);
    assert_eq!(idle.provenance, Provenance::Estimated);
    assert!(idle.source.contains("figures given by the user"), "{}", idle.source);
    // The blocking form waits by itself; a counter that stands still meanwhile is no baseline of zero.
    let idle = Fixture::with_packages(1).meter().measure_idle(Duration::from_millis(20));
    assert_eq!(idle.provenance, Provenance::Estimated);
    near(idle.value.0, 10.0);
}

proptest! {
    /// The same work under a counter that wraps and under one that never does.
    #[test]
    fn a_wrap_at_any_point_changes_nothing(
        range_uj in 300_000_000..300_000_000_000u64,
        start in 0.0..1.0f64,
        moves in prop::collection::vec(1..250_000_000u64, 1..20),
    ) {
        let energy = |range_uj: u64, wraps: bool| {
            let machine = Fixture::with_packages(1);
            let range = "sys/class/powercap/intel-rapl:0/max_energy_range_uj";
            machine.tree.write(range, &range_uj.to_string());
            let mut total_uj = (start * range_uj as f64) as u64;
            machine.set("intel-rapl:0", &total_uj.to_string());
            let meter = machine.meter();
            let mut span = meter.begin_at(at(0.0));
            for (i, uj) in moves.iter().enumerate() {
                total_uj += uj;
                let shown_uj = if wraps { total_uj % range_uj } else { total_uj };
                machine.set("intel-rapl:0", &shown_uj.to_string());
                meter.tick_at(&mut span, at(0.1 * (i + 1) as f64));
            }
            meter.end_at(span, at(0.1 * moves.len() as f64), 0.0)
        };
        let wrapped = energy(range_uj, true);
        // A range that nothing here reaches.
        let plain = energy(1 << 50, false);
        prop_assert_eq!(wrapped.gross.provenance, Provenance::Measured);
        let true_j = moves.iter().sum::<u64>() as f64 * 1e-6;
        prop_assert!((wrapped.gross.value.0 - true_j).abs() < 1e-6);
        prop_assert!((plain.gross.value.0 - true_j).abs() < 1e-6);
    }

    #[test]
    fn any_counter_text_gives_a_finite_label(text in ".{0,70}", later in ".{0,70}") {
        let machine = Fixture::with_packages(1);
        machine.set("intel-rapl:0", &text);
        let meter = machine.meter();
        let span = meter.begin_at(at(0.0));
        machine.set("intel-rapl:0", &later);
        let reading = meter.end_at(span, at(1.0), 0.5);
        prop_assert!(reading.gross.value.0.is_finite() && reading.gross.value.0 > 0.0);
    }
}
