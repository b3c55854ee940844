//! Graphics devices: NVIDIA's driver acted by a script, the others by files.

use super::*;
use crate::gpu::{self, GpuMaker};
use crate::nvml::{GpuDriver, GpuFault, GpuFigures, GpuIdentity};
use std::sync::{Arc, Mutex};

/// A driver of two equal cards, whose first one the test moves.
#[derive(Debug)]
struct Script {
    energy_mj: Mutex<Result<u64, GpuFault>>,
    power_mw: Mutex<Result<u32, GpuFault>>,
}

impl Script {
    fn new(energy_mj: Result<u64, GpuFault>, power_mw: Result<u32, GpuFault>) -> Arc<Self> {
        Arc::new(Self { energy_mj: Mutex::new(energy_mj), power_mw: Mutex::new(power_mw) })
    }

    fn counts(&self, energy_mj: Result<u64, GpuFault>) {
        *self.energy_mj.lock().unwrap() = energy_mj;
    }

    fn draws(&self, power_mw: Result<u32, GpuFault>) {
        *self.power_mw.lock().unwrap() = power_mw;
    }

    fn meter(self: &Arc<Self>) -> EnergyMeter {
        let driver: Arc<dyn GpuDriver> = self.clone();
        let gpus = gpu::find(&Fixture::new().roots(), Some(&driver));
        assert_eq!(
            (gpus.len(), gpus[0].maker, gpus[0].power_limit),
            (2, GpuMaker::Nvidia, Some(Watts(300.0)))
        );
        EnergyMeter::open_gpu(&gpus[0], Envelope::from_watts(Watts(10.0), Watts(210.0)).unwrap())
    }
}

impl GpuDriver for Script {
    fn gpus(&self) -> Result<Vec<GpuIdentity>, GpuFault> {
        let card = GpuIdentity { name: "NVIDIA Card".into(), address: None, power_limit_mw: Some(300_000) };
        Ok(vec![card.clone(), card])
    }

    fn energy_mj(&self, index: u32) -> Result<u64, GpuFault> {
        if index == 0 { self.energy_mj.lock().unwrap().clone() } else { Err(GpuFault::Lost) }
    }

    fn power_mw(&self, index: u32) -> Result<u32, GpuFault> {
        if index == 0 { self.power_mw.lock().unwrap().clone() } else { Err(GpuFault::Lost) }
    }

    fn figures(&self, _: u32) -> GpuFigures {
        GpuFigures {
            utilisation: Some(0.5),
            temperature_c: Some(60.0),
            slowdown_c: Some(90.0),
            ..GpuFigures::default()
        }
    }
}

#[test]
fn the_counter_comes_before_the_power() {
    let card = Script::new(Ok(5_000), Ok(250_000));
    let meter = card.meter();
    assert_eq!(meter.tick_period(), None);
    let span = meter.begin_at(at(0.0));
    card.counts(Ok(305_000));
    let reading = meter.end_at(span, at(2.0), 0.0);
    near(reading.gross.value.0, 300.0);
    near(reading.power.value.0, 150.0);
    assert_eq!(reading.gross.source, "NVML energy counter of NVIDIA Card (all processes)");
    assert_eq!((reading.updates, reading.flags), (Some(20), vec![]));
    let span = meter.begin_at(at(2.0));
    card.counts(Ok(306_000));
    let reading = meter.end_at(span, at(2.5), 0.0);
    assert!(matches!(reading.flags[..], [EnergyFlag::ShortSpan { .. }]), "{:?}", reading.flags);
}

#[test]
fn a_card_without_a_counter_is_integrated() {
    for none in [Err(GpuFault::Unsupported), Ok(0)] {
        let card = Script::new(none, Ok(100_000));
        let meter = card.meter();
        assert_eq!(meter.tick_period(), Some(Seconds(0.1)));
        let mut span = meter.begin_at(at(0.0));
        card.draws(Ok(200_000));
        meter.tick_at(&mut span, at(1.0));
        let reading = meter.end_at(span, at(2.0), 0.0);
        near(reading.gross.value.0, 150.0 + 200.0);
        assert!(reading.gross.source.starts_with("NVML power of NVIDIA Card"), "{}", reading.gross.source);
    }
}

#[test]
fn counter_and_integral_of_the_same_work_agree() {
    let counted = Script::new(Ok(1), Ok(0));
    let integrated = Script::new(Err(GpuFault::Unsupported), Ok(50_000));
    let (by_counter, by_power) = (counted.meter(), integrated.meter());
    let (mut a, mut b) = (by_counter.begin_at(at(0.0)), by_power.begin_at(at(0.0)));
    let mut total_mj = 1.0;
    for i in 1..=300 {
        // Between 50 and 250 W, changing as a load does.
        let power_w = |i: i32| 150.0 - 100.0 * (f64::from(i) * 0.1).cos();
        total_mj += (power_w(i - 1) + power_w(i)) / 2.0 * 0.1 * 1e3;
        counted.counts(Ok(total_mj as u64));
        integrated.draws(Ok((power_w(i) * 1e3) as u32));
        by_counter.tick_at(&mut a, at(f64::from(i) * 0.1));
        by_power.tick_at(&mut b, at(f64::from(i) * 0.1));
    }
    let (a, b) = (by_counter.end_at(a, at(30.0), 0.0), by_power.end_at(b, at(30.0), 0.0));
    let ratio = a.gross.value / b.gross.value;
    assert!((ratio - 1.0).abs() < 1e-3, "{ratio}");
}

#[test]
fn a_card_that_fails_inside_a_span_leaves_an_estimate() {
    type Told = fn(&EnergyFlag) -> bool;
    let cases: &[(&str, Result<u64, GpuFault>, Told)] = &[
        ("reset", Ok(3), |f| matches!(f, EnergyFlag::CounterReset { .. })),
        ("lost", Err(GpuFault::Lost), |f| matches!(f, EnergyFlag::CounterUnreadable { .. })),
        ("closed", Err(GpuFault::Denied), |f| matches!(f, EnergyFlag::CounterDenied { .. })),
        ("stuck", Ok(5_000), |f| matches!(f, EnergyFlag::CounterStuck { .. })),
        ("a jump", Ok(u64::MAX / 2000), |f| matches!(f, EnergyFlag::CounterJumped { .. })),
        ("beyond range", Ok(u64::MAX), |f| matches!(f, EnergyFlag::CounterGarbled { .. })),
    ];
    for (what, later, told) in cases {
        let card = Script::new(Ok(5_000), Ok(100_000));
        let meter = card.meter();
        let span = meter.begin_at(at(0.0));
        card.counts(later.clone());
        // Ten watts idle, and two hundred more for the half that it worked.
        let reading = meter.end_at(span, at(2.0), 1.0);
        assert_eq!(reading.gross.provenance, Provenance::Estimated, "{what}");
        near(reading.gross.value.0, 220.0);
        assert_eq!(reading.gross.source, "10.0 W idle + 200 W while busy (figures given by the user)");
        assert!(told(&reading.flags[0]), "{what}: {:?}", reading.flags);
        assert!(!reading.flags[0].to_string().is_empty());
    }
}

#[test]
fn a_card_that_tells_nothing_is_estimated() {
    let card = Script::new(Err(GpuFault::Unsupported), Err(GpuFault::Denied));
    let meter = card.meter();
    assert!(matches!(meter.missing(), Some(EnergyFlag::CounterDenied { .. })));
    let reading = meter.end_at(meter.begin_at(at(0.0)), at(1.0), f64::NAN);
    near(reading.gross.value.0, 210.0);
    assert!(reading.flags.contains(&EnergyFlag::CpuTimeUnknown));
}

fn card_of_files(name: &str, files: &[(&str, &str)]) -> Fixture {
    let machine = Fixture::new();
    machine.tree.write("sys/class/hwmon/hwmon4/name", name);
    for (file, text) in files {
        machine.tree.write(&format!("sys/class/hwmon/hwmon4/{file}"), text);
    }
    machine
}

fn meter_of_files(machine: &Fixture) -> EnergyMeter {
    let gpus = gpu::find(&machine.roots(), None);
    EnergyMeter::open_gpu(&gpus[0], Envelope::from_watts(Watts(10.0), Watts(210.0)).unwrap())
}

#[test]
fn cards_behind_files() {
    // (driver, files, file that moves, what to, source, joules in two seconds)
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a str, &'a str, f64);
    let cases: &[Case] = &[
        (
            "i915",
            &[("energy1_input", "7000000")],
            "energy1_input",
            "47000000",
            "hwmon energy counter of i915",
            40.0,
        ),
        (
            "xe",
            &[("energy1_input", "7000000"), ("energy2_input", "1")],
            "energy1_input",
            "47000000",
            "hwmon energy counter of xe",
            40.0,
        ),
        (
            "amdgpu",
            &[("power1_average", "30000000"), ("power1_input", "99000000")],
            "power1_average",
            "50000000",
            "hwmon power of amdgpu",
            80.0,
        ),
        (
            "amdgpu",
            &[("power1_input", "30000000")],
            "power1_input",
            "50000000",
            "hwmon power of amdgpu",
            80.0,
        ),
    ];
    for (name, files, moving, to, source, joules) in cases {
        let machine = card_of_files(name, files);
        let meter = meter_of_files(&machine);
        let span = meter.begin_at(at(0.0));
        machine.tree.write(&format!("sys/class/hwmon/hwmon4/{moving}"), to);
        let reading = meter.end_at(span, at(2.0), 0.0);
        near(reading.gross.value.0, *joules);
        assert!(reading.gross.source.starts_with(source), "{}", reading.gross.source);
        assert_eq!(reading.gross.provenance, Provenance::Measured);
    }
}

#[test]
fn cards_behind_files_that_fail() {
    type Told = fn(&EnergyFlag) -> bool;
    let cases: &[(&str, &str, Told)] = &[
        ("3", "reset", |f| matches!(f, EnergyFlag::CounterReset { .. })),
        ("-3", "negative", |f| matches!(f, EnergyFlag::CounterGarbled { .. })),
        ("7000000", "stuck", |f| matches!(f, EnergyFlag::CounterStuck { .. })),
    ];
    for (later, what, told) in cases {
        let machine = card_of_files("i915", &[("energy1_input", "7000000")]);
        let meter = meter_of_files(&machine);
        let span = meter.begin_at(at(0.0));
        machine.tree.write("sys/class/hwmon/hwmon4/energy1_input", later);
        let reading = meter.end_at(span, at(2.0), 1.0);
        assert_eq!(reading.gross.provenance, Provenance::Estimated);
        assert!(told(&reading.flags[0]), "{what}: {:?}", reading.flags);
    }
    let machine = card_of_files("amdgpu", &[("power1_average", "1"), ("power1_cap", "200000000")]);
    machine.tree.deny("sys/class/hwmon/hwmon4/power1_average");
    assert!(matches!(meter_of_files(&machine).missing(), Some(EnergyFlag::CounterDenied { .. })));
    machine.tree.remove("sys/class/hwmon/hwmon4/power1_average");
    let machine = card_of_files("amdgpu", &[]);
    assert!(matches!(meter_of_files(&machine).missing(), Some(EnergyFlag::NoCounter { .. })));
}

#[test]
fn the_state_of_a_card_behind_files() {
    let machine = card_of_files(
        "amdgpu",
        &[
            ("temp1_input", "61000"),
            ("temp1_label", "edge"),
            ("temp2_input", "72000"),
            ("temp2_label", "junction"),
            ("temp2_crit", "110000"),
            ("freq1_input", "1800000000"),
            ("power1_cap", "200000000"),
        ],
    );
    for (file, text) in
        [("gpu_busy_percent", "37"), ("mem_info_vram_used", "100"), ("mem_info_vram_total", "900")]
    {
        machine.tree.write(&format!("sys/class/hwmon/hwmon4/device/{file}"), text);
    }
    let gpus = gpu::find(&machine.roots(), None);
    assert_eq!(gpus[0].power_limit, Some(Watts(200.0)));
    let state = gpus[0].state();
    assert_eq!((state.utilisation, state.clock_hz), (Some(0.37), Some(1_800_000_000)));
    assert_eq!((state.memory_used_bytes, state.memory_total_bytes), (Some(100), Some(900)));
    let hottest = state.temperature.unwrap();
    assert_eq!(hottest.sensor, "amdgpu junction");
    assert_eq!(hottest.limit(), Some(qeil_units::Celsius(110.0)));
    // Gone between two reads.
    machine.tree.remove("sys/class/hwmon/hwmon4");
    assert_eq!(gpus[0].state(), gpu::GpuState::default());
    machine.tree.write("sys/class/hwmon/hwmon4/name", "amdgpu");
    machine.tree.write("sys/class/hwmon/hwmon4/device/gpu_busy_percent", "250");
    assert_eq!(gpus[0].state().utilisation, None);
}

#[test]
fn which_sensors_belong_to_a_device_of_the_engine() {
    let machine = card_of_files("amdgpu", &[("power1_average", "1")]);
    machine.tree.write("sys/class/hwmon/hwmon5/name", "xe");
    let driver: Arc<dyn GpuDriver> = Script::new(Ok(1), Ok(1));
    let gpus = gpu::find(&machine.roots(), Some(&driver));
    // (what the engine's driver calls it, which of several, index of the device)
    let cases = [
        ("NVIDIA Card", 0, Some(0)),
        ("NVIDIA Card", 1, Some(1)),
        ("NVIDIA Card", 2, None),
        ("NVIDIA Other", 0, None),
        ("AMD Radeon RX 7900 XTX (RADV NAVI31)", 0, Some(2)),
        ("AMD Radeon RX 7900 XTX (RADV NAVI31)", 1, None),
        ("Intel(R) Arc(tm) A770 Graphics (DG2)", 0, Some(3)),
        ("Intel(R) UHD Graphics 620 (KBL GT2)", 0, None),
        ("llvmpipe (LLVM 19.1.7, 256 bits)", 0, None),
    ];
    for (description, ordinal, expected) in cases {
        let found = gpu::named(&gpus, description, ordinal);
        assert!(
            match (found, expected) {
                (Some(found), Some(at)) => std::ptr::eq(found, &gpus[at]),
                (None, None) => true,
                _ => false,
            },
            "{description} {ordinal}: {found:?}"
        );
    }
    let state = gpus[0].state();
    assert_eq!(state.temperature.unwrap().first_trip().unwrap().at_c, qeil_units::Celsius(90.0));
}

#[test]
fn the_envelope_of_a_card() {
    let catalogue = crate::catalogue::Catalogue::builtin().unwrap();
    let driver: Arc<dyn GpuDriver> = Script::new(Ok(1), Ok(1));
    let machine = card_of_files("amdgpu", &[("power1_average", "1")]);
    let mut gpus = gpu::find(&machine.roots(), Some(&driver));
    // By the driver's limit, by nothing, by its name.
    let cases = [(0, 300.0, "its driver lets it take"), (2, 75.0, "for want of a figure")];
    for (at, max_w, named) in cases {
        let envelope = Envelope::of_gpu(&gpus[at], &catalogue);
        near(envelope.max().0, max_w);
        assert!(envelope.is_assumed() && envelope.source(Units::Device).contains(named));
    }
    gpus[0].name = "NVIDIA GeForce RTX 4090".into();
    let envelope = Envelope::of_gpu(&gpus[0], &catalogue);
    near(envelope.max().0, 450.0);
    near(envelope.idle().0, 90.0);
}
