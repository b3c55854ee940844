//! Random events, most of them nonsense: unknown numbers, doubles, late answers, time that runs backwards.
//!
//! Whatever is told, the loop must not panic, end each admitted request exactly once, keep its queues within bounds,
//! place nothing where nothing may be placed, and write a journal that tells what is.

use proptest::prelude::*;
use qeil_control::Control;
use qeil_control::config::{Config, DeviceConfig, DeviceId, Goal, Limits, Profile, ThermalLimits};
use qeil_control::event::*;
use qeil_control::replay::State;
use qeil_control::view::Standing;
use qeil_units::Provenance;
use std::collections::BTreeMap;

fn config(goal: Goal, guarded: bool) -> Config {
    let device = |name: &str, step_s: f64| DeviceConfig {
        name: name.into(),
        kin: name.into(),
        sequences_max: 4,
        context_tokens: 2000,
        chunk_tokens: None,
        profile: Profile {
            prefill_s_per_token: 0.001,
            prefill_j_per_token: 0.01,
            step_s,
            step_s_per_sequence: 0.001,
            step_j: 0.3,
            step_j_per_sequence: 0.01,
            idle_w: 1.0,
            provenance: Provenance::Simulated,
        },
        thermal: Some(ThermalLimits::new(90.0)),
    };
    Config {
        devices: vec![device("a", 0.02), device("b", 0.05), device("c", 0.1)],
        limits: Limits { queue_requests_max: 6, queue_tokens_max: 4000, ..Limits::default() },
        power_cap_w: Some(30.0),
        goal,
        guarded,
        seed: 5,
    }
}

fn requests() -> impl Strategy<Value = Request> {
    let numbers = (0..30u64, 0..3u32, any::<bool>(), 0..800u32, 0..6u32, 0..300u32);
    let bounds = (prop::option::of(-1.0..40.0f64), prop::option::of(-1.0..200.0f64), any::<bool>());
    (numbers, bounds).prop_map(
        |((id, client, batch, prompt, samples, tokens), (deadline, energy, until_pass))| Request {
            id: RequestId(id),
            client,
            priority: if batch { Priority::Batch } else { Priority::Interactive },
            prompt_tokens: prompt,
            samples,
            tokens_max: tokens,
            deadline_s: deadline,
            energy_budget_j: energy,
            until_pass,
        },
    )
}

fn readings() -> impl Strategy<Value = Reading> {
    let temperature = prop_oneof![Just(None), (20.0..95.0f64).prop_map(Some), any::<f64>().prop_map(Some)];
    let share = prop::option::of(-1.0..2.0f64);
    (temperature, prop::option::of(any::<f64>()), any::<bool>(), share).prop_map(
        |(temperature_c, power_w, throttling, memory_share)| Reading {
            temperature_c,
            power_w,
            throttling,
            memory_share,
        },
    )
}

fn inputs() -> impl Strategy<Value = Input> {
    let device = || (0..4u16).prop_map(DeviceId);
    let job = || (0..40u64).prop_map(JobId);
    let ends = prop_oneof![
        4 => Just(SampleEnd::Complete),
        1 => Just(SampleEnd::Cancelled),
        1 => Just(SampleEnd::Failed("x".into())),
        1 => Just(SampleEnd::Refused("x".into())),
    ];
    let causes = prop_oneof![
        Just(DownCause::Stopped),
        Just(DownCause::Died("x".into())),
        Just(DownCause::NotStarted("x".into())),
        Just(DownCause::Vanished("x".into())),
    ];
    prop_oneof![
        6 => requests().prop_map(Input::Arrive),
        1 => (0..30u64).prop_map(|id| Input::Withdraw(RequestId(id))),
        4 => (device(), job(), 0..7u32, any::<u32>())
            .prop_map(|(device, job, sample, count)| Input::Tokens { device, job, sample, count: count % 40 }),
        4 => (device(), job(), 0..7u32, ends)
            .prop_map(|(device, job, sample, end)| Input::SampleEnded { device, job, sample, end }),
        1 => (0..30u64, 0..7u32, any::<bool>())
            .prop_map(|(id, sample, passed)| Input::Judged { request: RequestId(id), sample, passed }),
        1 => (0..30u64, any::<f64>()).prop_map(|(id, joules)| Input::Spent { request: RequestId(id), joules }),
        4 => device().prop_map(Input::Up),
        1 => (device(), causes).prop_map(|(device, cause)| Input::Down { device, cause }),
        4 => (device(), readings()).prop_map(|(device, reading)| Input::Sensed { device, reading }),
        2 => (device(), prop_oneof![Just(Ok(0.1)), Just(Ok(99.0)), Just(Err("x".into()))])
            .prop_map(|(device, outcome)| Input::Probed { device, outcome }),
        4 => (device(), prop_oneof![4 => Just(Ok((0.1, true))), 1 => Just(Ok((9.0, false))), 1 => Just(Err("x".into()))])
            .prop_map(|(device, outcome)| Input::Checked { device, outcome }),
        1 => device().prop_map(|device| Input::DriverEvent { device, what: "x".into() }),
        2 => Just(Input::Tick),
    ]
}

fn steps() -> impl Strategy<Value = Vec<(f64, Input)>> {
    let pause = prop_oneof![8 => 0.0..0.5f64, 2 => 0.0..10.0f64, 1 => Just(-1.0), 1 => Just(f64::NAN), 1 => 0.0..700.0f64];
    prop::collection::vec((pause, inputs()), 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_told_the_promises_hold(steps in steps(), energy in any::<bool>(), guarded in any::<bool>()) {
        let config = config(if energy { Goal::Energy } else { Goal::Latency }, guarded);
        let (limits, devices) = (config.limits.clone(), config.devices.clone());
        let mut control = Control::new(config.clone());
        let mut twin = Control::new(config);
        let mut replay = State::new(devices.len());
        // Admissions less ends, for each number.
        let mut open: BTreeMap<RequestId, i32> = BTreeMap::new();
        let (mut now_s, mut latest_s) = (0.0f64, 0.0f64);
        for (pause, input) in steps {
            now_s = if pause.is_nan() { now_s } else { (now_s + pause).max(0.0) };
            latest_s = latest_s.max(now_s);
            let told_s = if pause.is_nan() { f64::NAN } else { now_s };
            let outputs = control.step(told_s, input.clone());
            prop_assert_eq!(&outputs, &twin.step(told_s, input), "the same inputs give the same decisions");
            let views = control.devices();
            for output in &outputs {
                match output {
                    Output::Admitted(id) => {
                        let open = open.entry(*id).or_default();
                        *open += 1;
                        prop_assert_eq!(*open, 1);
                    }
                    Output::Ended { request, .. } => {
                        let open = open.entry(*request).or_default();
                        *open -= 1;
                        prop_assert_eq!(*open, 0);
                    }
                    Output::Place { device, samples, .. } => {
                        let view = &views[usize::from(device.0)];
                        prop_assert_eq!(view.standing, Standing::Serving);
                        prop_assert!(!samples.is_empty());
                    }
                    Output::Pace { duty, .. } => prop_assert!(*duty > 0.0 && *duty <= 1.0),
                    Output::Decided(row) => replay.apply(row),
                    _ => {}
                }
            }
            let (requests, tokens) = control.queued();
            prop_assert!(requests <= limits.queue_requests_max && tokens <= limits.queue_tokens_max);
            for (view, device) in views.iter().zip(&devices) {
                prop_assert!(view.sequences <= device.sequences_max, "{:?}", view);
                prop_assert!(view.tokens_held <= u64::from(device.context_tokens), "{:?}", view);
                prop_assert!(view.health > 0.0 && view.health <= 1.0 && view.slowness.is_finite());
                prop_assert!(view.temperature_c.is_none_or(f64::is_finite), "{:?}", view);
            }
            for (told, view) in replay.devices.iter().zip(&views) {
                prop_assert_eq!((told.standing, told.heat, told.duty), (view.standing, view.heat, view.duty));
            }
            let live = control.requests();
            prop_assert_eq!(live.len(), open.values().filter(|open| **open == 1).count());
            prop_assert_eq!(live.iter().map(|view| (view.request, view.begun)).collect::<Vec<_>>(),
                replay.requests.iter().map(|(id, begun)| (*id, *begun)).collect::<Vec<_>>());
            prop_assert!(control.wake_s().is_none_or(f64::is_finite));
        }
        // When every deadline has passed, every request has ended.
        let outputs = control.step(latest_s + limits.deadline_max_s + 1.0, Input::Tick);
        let ended = outputs.iter().filter(|output| matches!(output, Output::Ended { .. })).count();
        prop_assert_eq!(ended, open.values().filter(|open| **open == 1).count());
        prop_assert!(control.requests().is_empty());
    }
}
