//! Single operations: the same scenario gives the same report, and what each fault does to it.

use qeil_sim::fault::{Fault, FaultKind};
use qeil_sim::hour::Hours;
use qeil_sim::machine::Machine;
use qeil_sim::report::Report;
use qeil_sim::scenario::Scenario;
use qeil_sim::world::run;
use std::path::Path;

fn scenario(text: &str) -> Scenario {
    Scenario::parse("test.toml", text, |path| Machine::parse(path, ""))
        .unwrap_or_else(|error| panic!("{error}"))
}

fn ten_minutes(machine: &str, celsius: f64, per_minute: f64) -> Scenario {
    scenario(&format!(
        "machine = {machine:?}\nmodel = \"Qwen2-0.5B\"\nhours = 0.1667\n[ambient]\ncelsius = {celsius:?}\n[load]\n\
         requests_per_minute = {per_minute:?}\nprompt_tokens = [20, 200]\nsamples = [1, 4]\noutput_tokens = [16, 128]\n"
    ))
}

fn assert_kept(report: &Report) {
    assert!(report.kept(), "{:#?}", report.violations);
}

#[test]
fn the_same_seed_gives_the_same_report_and_another_one_another() {
    let hours = Hours::new().unwrap();
    for seed in [0, 3, 11] {
        let mut hour = hours.hour(seed);
        hour.seconds = 900.0;
        let first = run(&hour);
        assert_eq!(first, run(&hour), "seed {seed}");
        assert_eq!(first.provenance.to_string(), "simulated");
        hour.seed += 1;
        assert_ne!(first.digest, run(&hour).digest);
    }
}

#[test]
fn a_quiet_operation_completes_what_it_let_in() {
    for machine in qeil_sim::machine::machine_names() {
        let report = run(&ten_minutes(machine, 20.0, 2.0));
        assert_kept(&report);
        let requests = &report.requests;
        assert!(requests.admitted >= 8 && requests.completed == requests.admitted, "{machine}: {requests:?}");
        assert!(requests.tokens > 0 && report.energy_j() > 0.0);
        let emitted: u64 = report.devices.iter().map(|device| device.tokens).sum();
        assert_eq!(emitted, requests.tokens, "{machine}");
    }
}

/// Each fault alone, on the device that does the work: nothing is lost, and what must be found out is.
#[test]
fn every_fault_is_survived() {
    let kinds = [
        FaultKind::Death,
        FaultKind::Hang,
        FaultKind::Slow(5.0),
        FaultKind::WrongNumbers,
        FaultKind::LostMemory(0.0),
        FaultKind::Vanish,
        FaultKind::Reset,
        FaultKind::SensorStuck,
        FaultKind::SensorAbsurd(f64::NAN),
        FaultKind::SensorMissing,
        FaultKind::SensorSilent,
    ];
    for kind in kinds {
        for machine in ["jetson-orin-nano", "core-ultra-9-285h"] {
            let mut scenario = ten_minutes(machine, 25.0, 20.0);
            for device in 0..scenario.machine.devices.len() {
                let at_s = 100.0 + 150.0 * device as f64;
                scenario.faults.push(Fault { at_s, for_s: 60.0, device, kind });
            }
            let report = run(&scenario);
            assert!(report.kept(), "{kind:?} on {machine}: {:#?}", report.violations);
            let requests = &report.requests;
            assert!(requests.completed * 10 >= requests.admitted * 6, "{kind:?} on {machine}: {requests:?}");
        }
    }
}

#[test]
fn samples_of_a_device_that_dies_go_on_elsewhere_token_for_token() {
    let mut scenario = ten_minutes("jetson-orin-nano", 20.0, 30.0);
    for at in 1..50 {
        scenario.faults.push(Fault {
            at_s: 12.0 * f64::from(at),
            for_s: 0.0,
            device: (at % 2) as usize,
            kind: FaultKind::Death,
        });
    }
    let report = run(&scenario);
    assert_kept(&report);
    assert!(report.requests.moves > 20, "{:?}", report.requests);
    assert_eq!(report.requests.wrong_tokens, 0);
}

#[test]
fn the_scenarios_of_the_documentation_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/scenarios");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut scenario =
            Scenario::parse(&path.display().to_string(), &text, |path| Machine::parse(path, "")).unwrap();
        scenario.seconds = 600.0;
        assert_kept(&run(&scenario));
        count += 1;
    }
    assert!(count >= 3);
}
