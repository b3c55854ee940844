//! The loop in a toy world: requests, failures, moves, budgets.

mod toy;

use qeil_control::Control;
use qeil_control::config::{DeviceConfig, DeviceId, Goal};
use qeil_control::event::*;
use qeil_control::journal::Kind;
use qeil_control::view::Standing;
use toy::*;

#[test]
fn a_request_is_placed_and_completes() {
    let mut toy = Toy::serving(config(vec![device("a")]));
    toy.arrive(Request { samples: 4, ..request(1) });
    toy.run(10.0);
    assert_eq!(toy.outcomes[&RequestId(1)], Outcome::Completed);
    for sample in 0..4 {
        assert_eq!(toy.emitted[&(RequestId(1), sample)], 50);
    }
    assert_eq!(toy.places.len(), 1, "one job, one prefill");
    let kinds: Vec<Kind> = toy.rows.iter().filter(|row| row.request.is_some()).map(|row| row.kind).collect();
    assert_eq!(kinds, [Kind::Admitted, Kind::Placed, Kind::Ended]);
}

#[test]
fn no_device_serves_before_its_known_answer() {
    let mut toy = Toy::new(config(vec![device("a")]));
    toy.devices[0].wrong = true;
    toy.arrive(request(1));
    toy.run(200.0);
    assert!(toy.places.is_empty());
    assert!(toy.rows_of(Kind::Quarantined).len() > 3);
    toy.devices[0].wrong = false;
    toy.run(390.0);
    assert_eq!(toy.outcomes[&RequestId(1)], Outcome::Completed, "it is well again and serves");
}

#[test]
fn quarantines_double_and_have_jitter() {
    let mut toy = Toy::new(config(vec![device("a"), device("b")]));
    toy.devices[0].wrong = true;
    toy.devices[1].wrong = true;
    toy.run(400.0);
    let lengths = |device: u16| -> Vec<f64> {
        let rows = toy.rows_of(Kind::Quarantined).into_iter();
        rows.filter(|row| row.device == Some(DeviceId(device)))
            .map(|row| row.readings.iter().find(|reading| reading.0 == "quarantine_s").unwrap().1)
            .collect()
    };
    let (a, b) = (lengths(0), lengths(1));
    for (n, length) in a.iter().enumerate() {
        let middle = (1u64 << n) as f64;
        assert!(*length >= 0.75 * middle && *length <= 1.25 * middle, "{a:?}");
    }
    assert!(a.iter().zip(&b).all(|(a, b)| a != b), "{a:?} {b:?}");
}

#[test]
fn a_death_moves_the_work_and_nobody_notices() {
    let mut toy = Toy::serving(config(vec![device("a"), device("b")]));
    toy.arrive(Request { samples: 8, tokens_max: 200, ..request(1) });
    toy.run(2.0);
    let victim = usize::from(toy.places[0].0.0);
    toy.die(victim);
    let moved = toy.places.last().unwrap();
    assert_eq!(usize::from(moved.0.0), 1 - victim, "it goes on elsewhere in the same step");
    assert!(moved.2.iter().all(|resume| resume.emitted > 0), "from what it had emitted");
    toy.run(60.0);
    assert_eq!(toy.outcomes[&RequestId(1)], Outcome::Completed);
    for sample in 0..8 {
        assert_eq!(toy.emitted[&(RequestId(1), sample)], 200);
    }
    assert_eq!(toy.standing(victim), Standing::Serving, "it came back");
    assert!(!toy.rows_of(Kind::Moved).is_empty());
}

#[test]
fn a_hung_device_is_out_within_five_seconds_past_its_prediction() {
    let mut toy = Toy::serving(config(vec![device("a"), device("b")]));
    toy.arrive(Request { tokens_max: 400, ..request(1) });
    toy.run(2.0);
    let victim = usize::from(toy.places[0].0.0);
    toy.devices[victim].hung = true;
    let since = toy.now_s;
    toy.run(20.0);
    let out = toy.rows_of(Kind::Quarantined)[0];
    assert!(out.reason.contains("no sign"), "{out:?}");
    assert!(out.at_s - since <= 5.6 && out.at_s - since >= 1.5, "{}", out.at_s - since);
    toy.run(20.0);
    assert_eq!(toy.outcomes[&RequestId(1)], Outcome::Completed);
    assert_eq!(toy.emitted[&(RequestId(1), 0)], 400);
}

/// At the very moment at which it would be given up, a token comes: it counts, and so the sample is not drawn again from
/// before it somewhere else.
#[test]
fn what_comes_at_the_last_moment_counts() {
    let mut toy = Toy::serving(config(vec![device("a"), device("b")]));
    toy.arrive(Request { tokens_max: 400, ..request(1) });
    toy.run(2.0);
    let (_, job, device) = toy.placed_jobs()[0];
    toy.devices[usize::from(device.0)].hung = true;
    let (since_s, before) = (toy.now_s, toy.control.requests()[0].emitted);
    let given_up = |outputs: &[Output]| {
        outputs.iter().any(|output| matches!(output, Output::Decided(row) if row.kind == Kind::Quarantined))
    };
    while !given_up(&toy.control.clone().step(toy.now_s + DT_S, Input::Tick)) {
        toy.run(DT_S);
        assert!(toy.now_s < since_s + 20.0, "it is never given up");
    }
    let outputs = toy.control.step(toy.now_s + DT_S, Input::Tokens { device, job, sample: 0, count: 2 });
    assert!(!given_up(&outputs), "{outputs:?}");
    assert_eq!(toy.control.requests()[0].emitted, before + 2);
}

#[test]
fn the_last_device_that_hangs_is_restarted_too() {
    let mut toy = Toy::serving(config(vec![device("a")]));
    toy.arrive(Request { tokens_max: 400, ..request(1) });
    toy.run(2.0);
    toy.devices[0].hung = true;
    toy.run(40.0);
    assert_eq!(toy.outcomes[&RequestId(1)], Outcome::Completed);
}

#[test]
fn a_device_returns_at_half_load_and_ramps() {
    let mut toy = Toy::serving(config(vec![device("a")]));
    toy.die(0);
    toy.arrive(Request { samples: 8, tokens_max: 1900, ..request(1) });
    toy.run(4.0);
    let view = toy.control.devices().remove(0);
    assert_eq!((view.standing, view.sequences), (Standing::Serving, 4), "{view:?}");
    assert!(view.load_share < 0.6);
    toy.run(30.0);
    let view = toy.control.devices().remove(0);
    assert_eq!((view.load_share, view.sequences), (1.0, 8), "{view:?}");
}

#[test]
fn a_sample_that_fails_everywhere_ends_its_request() {
    let mut toy = Toy::serving(config(vec![device("a"), device("b")]));
    toy.arrive(request(1));
    for _ in 0..10 {
        toy.run(0.3);
        let held = toy.control.devices().iter().position(|view| view.sequences > 0);
        if let Some(i) = held {
            toy.die(i);
        }
        toy.run(5.0);
        if toy.outcomes.contains_key(&RequestId(1)) {
            break;
        }
    }
    assert!(matches!(toy.outcomes.get(&RequestId(1)), Some(Outcome::Completed | Outcome::Failed(_))));

    let mut toy = Toy::serving(config(vec![device("a")]));
    toy.devices[0].failing = true;
    toy.arrive(request(1));
    toy.run(60.0);
    let Some(Outcome::Failed(why)) = toy.outcomes.get(&RequestId(1)) else {
        panic!("{:?}", toy.outcomes);
    };
    assert!(why.contains("5 times") && why.contains("no finite number"), "{why}");
    assert_eq!(toy.places.len(), 5, "placed once and moved four times");
}

#[test]
fn a_failing_engine_is_avoided_while_another_serves() {
    let mut toy = Toy::serving(config(vec![device("a"), device("b")]));
    toy.devices[0].failing = true;
    for id in 1..=6 {
        toy.arrive(request(id));
    }
    toy.run(30.0);
    assert!(toy.outcomes.values().all(|outcome| *outcome == Outcome::Completed), "{:?}", toy.outcomes);
    assert!(toy.rows_of(Kind::Quarantined).iter().any(|row| row.reason.contains("in a row")));
}

#[test]
fn a_full_device_is_no_faulty_one() {
    let mut toy = Toy::serving(config(vec![device("a")]));
    toy.devices[0].full = true;
    toy.arrive(request(1));
    toy.run(10.0);
    assert!(toy.places.len() > 5 && toy.places.len() < 25, "{}", toy.places.len());
    toy.devices[0].full = false;
    toy.run(10.0);
    assert_eq!(toy.outcomes[&RequestId(1)], Outcome::Completed);
    assert!(toy.rows_of(Kind::Quarantined).is_empty());
}

#[test]
fn deadlines_budgets_and_clients_end_a_request_once() {
    let mut toy = Toy::serving(config(vec![device("a")]));
    toy.arrive(Request { deadline_s: Some(20.0), tokens_max: 800, samples: 4, ..request(1) });
    toy.arrive(Request { energy_budget_j: Some(500.0), tokens_max: 800, ..request(2) });
    toy.arrive(Request { tokens_max: 800, ..request(3) });
    toy.run(1.0);
    toy.tell(Input::Spent { request: RequestId(2), joules: 499.0 });
    assert!(!toy.outcomes.contains_key(&RequestId(2)));
    toy.tell(Input::Spent { request: RequestId(2), joules: f64::NAN });
    toy.tell(Input::Spent { request: RequestId(2), joules: -5.0 });
    toy.tell(Input::Spent { request: RequestId(2), joules: 1.0 });
    assert_eq!(toy.outcomes[&RequestId(2)], Outcome::EnergyBudget);
    toy.tell(Input::Withdraw(RequestId(3)));
    toy.tell(Input::Withdraw(RequestId(3)));
    assert_eq!(toy.outcomes[&RequestId(3)], Outcome::Withdrawn);
    toy.devices[0].slow = 3.0;
    toy.run(30.0);
    assert_eq!(toy.outcomes[&RequestId(1)], Outcome::Deadline);
    let late = toy.ended_s[&RequestId(1)] - 40.0;
    assert!(late.abs() < 1.5, "{late}");
    let view = toy.control.devices().remove(0);
    assert_eq!((view.sequences, view.tokens_held), (0, 0), "their places are free again");
}

#[test]
fn the_first_sample_that_passes_ends_the_others() {
    let mut toy = Toy::serving(config(vec![device("a")]));
    let until_pass = Request { samples: 3, until_pass: true, ..request(1) };
    toy.arrive(until_pass.clone());
    toy.run(5.0);
    assert!(!toy.outcomes.contains_key(&RequestId(1)), "all are done, none is judged");
    toy.tell(Input::Judged { request: RequestId(1), sample: 0, passed: false });
    toy.tell(Input::Judged { request: RequestId(1), sample: 1, passed: true });
    assert_eq!(toy.outcomes[&RequestId(1)], Outcome::Completed);

    toy.arrive(Request { id: RequestId(2), tokens_max: 500, ..until_pass.clone() });
    toy.run(1.0);
    toy.tell(Input::Judged { request: RequestId(2), sample: 0, passed: true });
    assert_eq!(toy.outcomes[&RequestId(2)], Outcome::Completed);
    assert_eq!(toy.control.devices()[0].sequences, 0, "the others were cancelled");

    toy.arrive(Request { id: RequestId(3), ..until_pass });
    toy.run(5.0);
    for sample in 0..3 {
        assert!(!toy.outcomes.contains_key(&RequestId(3)));
        toy.tell(Input::Judged { request: RequestId(3), sample, passed: false });
    }
    assert_eq!(toy.outcomes[&RequestId(3)], Outcome::Completed, "every sample was judged");
}

#[test]
fn samples_are_shared_out_over_unlike_devices() {
    let mut slow = device("slow");
    slow.profile.step_s *= 3.0;
    slow.profile.step_s_per_sequence *= 3.0;
    let mut toy = Toy::serving(config(vec![slow, device("fast")]));
    toy.arrive(Request { samples: 32, tokens_max: 200, ..request(1) });
    toy.run(120.0);
    assert_eq!(toy.outcomes[&RequestId(1)], Outcome::Completed);
    let on = |device: u16| -> usize {
        toy.places.iter().filter(|place| place.0 == DeviceId(device)).map(|place| place.2.len()).sum()
    };
    assert!(on(0) >= 4 && on(1) > on(0), "slow {}, fast {}", on(0), on(1));
}

#[test]
fn joules_prefer_the_frugal_device_and_a_deadline_the_quick_one() {
    let mut frugal = device("frugal");
    frugal.profile.step_s *= 4.0;
    frugal.profile.step_j /= 4.0;
    frugal.profile.idle_w = 0.2;
    let mut toy = Toy::serving(qeil_control::config::Config {
        goal: Goal::Energy,
        ..config(vec![device("quick"), frugal])
    });
    toy.arrive(Request { priority: Priority::Batch, ..request(1) });
    assert_eq!(toy.places[0].0, DeviceId(1));
    toy.arrive(Request { priority: Priority::Batch, deadline_s: Some(3.0), ..request(2) });
    assert_eq!(toy.places[1].0, DeviceId(0));
    toy.arrive(request(3));
    assert_eq!(toy.places[2].0, DeviceId(0), "somebody waits, and four times is too long");
}

#[test]
fn devices_under_a_power_cap_take_turns() {
    let capped = |cap_w| qeil_control::config::Config {
        power_cap_w: Some(cap_w),
        ..config(vec![device("a"), device("b")])
    };
    let run = |cap_w| {
        let mut toy = Toy::serving(capped(cap_w));
        for id in 1..=12 {
            toy.arrive(Request { samples: 4, tokens_max: 100, client: id as u32, ..request(id) });
        }
        let mut most: f64 = 0.0;
        for _ in 0..400 {
            toy.run(0.2);
            most = most.max(toy.control.devices().iter().map(|view| view.predicted_w).sum());
        }
        assert!(toy.outcomes.values().all(|outcome| *outcome == Outcome::Completed), "{:?}", toy.outcomes);
        most
    };
    let free = run(1000.0);
    let one = run(25.0);
    let paced = run(12.0);
    assert!(free > 30.0, "{free}");
    assert!(one <= 25.5, "{one}");
    assert!(paced <= 13.0, "{paced}");
}

#[test]
fn a_slow_device_is_out_only_while_another_serves() {
    let mut toy = Toy::serving(config(vec![device("a"), device("b")]));
    toy.devices[0].slow = 8.0;
    toy.devices[1].slow = 1.0;
    for id in 1..=60 {
        toy.arrive(Request { samples: 4, tokens_max: 100, client: id as u32, ..request(id) });
        toy.run(1.0);
    }
    let slow =
        |toy: &Toy| toy.rows_of(Kind::Quarantined).iter().any(|row| row.reason.contains("times as long"));
    assert!(slow(&toy), "{:?}", toy.control.devices());
    toy.run(60.0);
    assert!(toy.outcomes.values().all(|outcome| *outcome == Outcome::Completed), "{:?}", toy.outcomes);

    let mut toy = Toy::serving(config(vec![device("a")]));
    toy.devices[0].slow = 8.0;
    for id in 1..=20 {
        toy.arrive(Request { tokens_max: 20, ..request(id) });
        toy.run(5.0);
    }
    assert!(toy.rows_of(Kind::Quarantined).is_empty(), "the last one stays");
    assert!(toy.control.devices()[0].slowness > 4.0, "{:?}", toy.control.devices());
}

#[test]
fn a_hot_device_hands_its_work_over_and_the_last_one_goes_on() {
    let mut toy = Toy::serving(config(vec![device("a"), device("b")]));
    toy.arrive(Request { samples: 4, tokens_max: 2000, ..request(1) });
    toy.run(5.0);
    let hot = usize::from(toy.places[0].0.0);
    toy.devices[hot].silent_sensor = true;
    toy.run(15.0);
    assert_eq!(toy.control.devices()[hot].sequences, 0, "{:?}", toy.control.devices());
    assert!(toy.control.devices()[1 - hot].sequences > 0);
    assert_eq!(toy.devices[hot].duty, qeil_control::heat::DUTY_MIN as f32);
    toy.devices[1 - hot].silent_sensor = true;
    toy.run(300.0);
    assert!(toy.rows_of(Kind::Quarantined).is_empty(), "warmth takes nobody out");
    toy.devices[0].silent_sensor = false;
    toy.devices[1].silent_sensor = false;
    toy.run(100.0);
    assert_eq!(toy.outcomes[&RequestId(1)], Outcome::Completed);
}

#[test]
fn heat_is_paced_in_the_loop_and_unguarded_it_is_not() {
    let run = |guarded: bool| {
        let mut toy = Toy::serving(qeil_control::config::Config { guarded, ..config(vec![device("a")]) });
        toy.devices[0].cooling = 0.9;
        let mut hottest: f64 = 0.0;
        for id in 1..=100 {
            toy.arrive(Request { samples: 8, tokens_max: 150, client: id as u32, ..request(id) });
            toy.run(5.0);
            hottest = hottest.max(30.0 + toy.devices[0].rise_c);
        }
        hottest
    };
    let (with, without) = (run(true), run(false));
    assert!(with <= 87.0, "{with}");
    assert!(without > 100.0, "{without}: the guard has something to prevent");
}

#[test]
fn resets_again_and_again_take_a_device_out_but_not_the_last() {
    let event = |device| Input::DriverEvent { device: DeviceId(device), what: "GPU reset".into() };
    let mut toy = Toy::serving(config(vec![device("a"), device("b")]));
    toy.tell(event(0));
    toy.tell(event(0));
    assert_eq!(toy.standing(0), Standing::Serving);
    toy.tell(event(0));
    assert_eq!(toy.standing(0), Standing::Quarantined);
    for _ in 0..5 {
        toy.tell(event(1));
    }
    assert_eq!(toy.standing(1), Standing::Serving);
}

#[test]
fn a_device_that_vanishes_and_comes_back_serves_again() {
    let mut toy = Toy::serving(config(vec![device("a")]));
    toy.devices[0].gone = true;
    toy.die(0);
    toy.run(120.0);
    assert_eq!(toy.standing(0), Standing::Quarantined);
    toy.arrive(request(1));
    toy.arrive(Request { deadline_s: Some(2.0), ..request(2) });
    assert!(matches!(toy.refused[&RequestId(2)], Refusal::Unavailable { .. }), "{:?}", toy.refused);
    toy.devices[0].gone = false;
    toy.run(300.0);
    assert_eq!(toy.outcomes[&RequestId(1)], Outcome::Completed);
}

#[test]
fn overload_is_refused_and_goodput_stays() {
    // (deadline, percent of the admitted that must complete): the forecast errs, and more where there is little time.
    for (deadline_s, percent) in [(60.0, 95), (8.0, 70), (3.0, 70)] {
        let mut toy = Toy::serving(config(vec![device("a")]));
        let mut id = 0;
        for _ in 0..600 {
            for _ in 0..3 {
                id += 1;
                toy.arrive(Request {
                    client: (id % 5) as u32,
                    samples: 2,
                    deadline_s: Some(deadline_s),
                    ..request(id)
                });
            }
            toy.run(0.1);
        }
        toy.run(60.0);
        let completed = toy.outcomes.values().filter(|outcome| **outcome == Outcome::Completed).count();
        let (admitted, refused) = (toy.admitted.len(), toy.refused.len());
        println!("{deadline_s} s: {completed} of {admitted} completed, {refused} refused");
        assert!(refused > 1000, "{refused} of {id} refused");
        assert!(
            completed * 100 >= admitted * percent,
            "{completed} of {admitted} completed with {deadline_s} s"
        );
        // Alone, the device ends 8 samples of 50 tokens and their prompts each 2.2 s: 109 requests in a minute.
        assert!(completed > 70, "{completed} completed with {deadline_s} s");
        for refusal in toy.refused.values() {
            let Refusal::Overloaded { retry_after_s } = refusal else { panic!("{refusal:?}") };
            assert!((1.0..=60.0).contains(retry_after_s), "{retry_after_s}");
        }
    }
}

#[test]
fn a_sample_that_would_be_late_moves_to_a_device_that_keeps_its_deadline() {
    let run = |deadline_s: f64| {
        let mut toy = Toy::serving(config(vec![device("a"), device("b")]));
        toy.arrive(Request { tokens_max: 800, deadline_s: Some(deadline_s), ..request(1) });
        toy.run(1.0);
        let first = usize::from(toy.places[0].0.0);
        // Slow, but not so slow that the device is at fault.
        toy.devices[first].slow = 2.5;
        toy.run(deadline_s + 1.0);
        toy
    };
    let toy = run(30.0);
    assert_eq!(toy.outcomes[&RequestId(1)], Outcome::Completed);
    assert_eq!(toy.places.len(), 2, "once");
    assert!(toy.rows_of(Kind::Cancelled)[0].reason.contains("would miss its deadline"));
    let toy = run(100.0);
    assert_eq!((toy.outcomes[&RequestId(1)].clone(), toy.places.len()), (Outcome::Completed, 1), "no need");
}

/// One device without a heat sensor that serves, at 1 s, with the chunk that it tells of.
fn one_serving(chunk_tokens: Option<u32>) -> Control {
    let one = DeviceConfig { chunk_tokens, thermal: None, ..device("a") };
    let mut control = Control::new(config(vec![one]));
    control.step(0.0, Input::Tick);
    control.step(1.0, Input::Up(DeviceId(0)));
    control.step(1.0, Input::Checked { device: DeviceId(0), outcome: Ok((0.0, true)) });
    control
}

#[test]
fn the_last_device_is_waited_for_while_a_hang_would_leave_it_cool() {
    // Paced by hand through the guard: blind, it may hardly compute, and a step of it takes long.
    let waited_s = |from_c: f64, by_wakes: bool| {
        let mut control = Control::new(config(vec![device("a")]));
        control.step(0.0, Input::Tick);
        control.step(1.0, Input::Up(DeviceId(0)));
        control.step(1.0, Input::Checked { device: DeviceId(0), outcome: Ok((0.0, true)) });
        let temperature_c = Some(from_c);
        let reading = Reading { temperature_c, power_w: None, throttling: false, memory_share: None };
        control.step(1.0, Input::Sensed { device: DeviceId(0), reading });
        control.step(60.0, Input::Tick);
        assert!(!control.devices()[0].sensor_believed);
        control.step(60.0, Input::Arrive(Request { prompt_tokens: 1000, ..request(1) }));
        let mut at_s = 60.0;
        loop {
            at_s = if by_wakes { control.wake_s().unwrap().max(at_s + 0.01) } else { at_s + 0.1 };
            if control.step(at_s, Input::Tick).contains(&Output::Stop(DeviceId(0))) {
                return at_s - 60.0;
            }
        }
    };
    // A prompt of a second takes twenty; beyond it a hang would be unseen heat.
    let (cool_s, warm_s) = (waited_s(5.0, false), waited_s(60.0, false));
    assert!(cool_s > 1.4 * warm_s, "{cool_s} {warm_s}");
    for from_c in [5.0, 30.0, 60.0] {
        let (alone_s, watched_s) = (waited_s(from_c, true), waited_s(from_c, false));
        assert!(
            alone_s <= watched_s + 1.01,
            "from {from_c}: {alone_s} by its own wakes, {watched_s} watched"
        );
    }
}

/// Step in tenths of a second until the device is stopped; when that was.
fn stopped_s(control: &mut Control, from_s: f64, until_s: f64) -> Option<f64> {
    let steps = ((until_s - from_s) * 10.0) as u32;
    (1..=steps)
        .map(|step| from_s + f64::from(step) / 10.0)
        .find(|at_s| control.step(*at_s, Input::Tick).contains(&Output::Stop(DeviceId(0))))
}

#[test]
fn a_hang_in_a_long_prompt_is_seen_by_the_chunk() {
    // Ten seconds of prefill.
    let long = Request { prompt_tokens: 10_000, ..request(1) };
    let mut whole = one_serving(None);
    whole.step(2.0, Input::Arrive(long.clone()));
    let by_prompt_s = stopped_s(&mut whole, 2.0, 600.0).unwrap();
    let mut told = one_serving(Some(100));
    told.step(2.0, Input::Arrive(long.clone()));
    let by_chunk_s = stopped_s(&mut told, 2.0, 60.0).unwrap();
    assert!(by_prompt_s > 12.0 && (4.0..6.0).contains(&by_chunk_s), "{by_prompt_s} {by_chunk_s}");

    // As long as it tells of chunks it works, however slowly: half a minute for a seventh of the prompt.
    let mut slow = one_serving(Some(100));
    slow.step(2.0, Input::Arrive(long));
    for second in 3..30 {
        let outputs = slow.step(f64::from(second), Input::Prefilled { device: DeviceId(0), tokens: 50 });
        assert!(!outputs.contains(&Output::Stop(DeviceId(0))), "at {second} s");
    }
    assert!(slow.devices()[0].slowness > 4.0, "what it tells counts as work: {:?}", slow.devices()[0]);
    assert!(stopped_s(&mut slow, 29.0, 60.0).is_some());
}

#[test]
fn a_prompt_that_was_told_of_counts_as_work_once() {
    let mut control = one_serving(Some(1000));
    let outputs = control.step(2.0, Input::Arrive(Request { prompt_tokens: 8000, ..request(1) }));
    let job = outputs.into_iter().find_map(|output| match output {
        Output::Place { job, .. } => Some(job),
        _ => None,
    });
    for second in 3..=10 {
        // More than there is to compute, at last: a known answer's tokens are nobody's prompt.
        let tokens = if second < 10 { 1000 } else { 5000 };
        control.step(f64::from(second), Input::Prefilled { device: DeviceId(0), tokens });
    }
    let exact = |control: &Control| (control.devices()[0].slowness - 1.0).abs() < 0.02;
    assert!(exact(&control), "{:?}", control.devices()[0]);
    control.step(10.0, Input::Tokens { device: DeviceId(0), job: job.unwrap(), sample: 0, count: 1 });
    assert!(exact(&control), "{:?}", control.devices()[0]);
}

#[test]
fn the_last_device_is_waited_for_as_its_probe_was_slow() {
    let waited_s = |slow: f64| {
        let mut control = one_serving(Some(100));
        control.step(2.0, Input::Down { device: DeviceId(0), cause: DownCause::Died("x".into()) });
        let back_s = 62.0;
        control.step(back_s, Input::Tick);
        control.step(back_s, Input::Up(DeviceId(0)));
        // 16 tokens of prefill and a step take 0.038 s by the profile.
        control.step(back_s, Input::Probed { device: DeviceId(0), outcome: Ok(0.038 * slow) });
        control.step(back_s, Input::Checked { device: DeviceId(0), outcome: Ok((0.0, true)) });
        assert_eq!(control.devices()[0].slowness, 1.0, "a probe may have compiled kernels");
        control.step(back_s, Input::Arrive(Request { prompt_tokens: 10_000, ..request(1) }));
        stopped_s(&mut control, back_s, 120.0).unwrap() - back_s
    };
    let (quick_s, slow_s) = (waited_s(1.0), waited_s(16.0));
    assert!(quick_s < 5.0 && slow_s > 8.0, "{quick_s} {slow_s}");
}
