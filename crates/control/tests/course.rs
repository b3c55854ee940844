//! The course of a device: what each event makes of each standing.

use qeil_control::event::DownCause;
use qeil_control::faults::*;
use qeil_control::journal::Kind;
use qeil_control::view::Standing;

/// A course that serves since `now_s` seconds.
fn serving(now_s: f64) -> Course {
    let mut course = Course::default();
    course.tick(now_s, true, 0.5);
    course.up(now_s);
    course.checked(now_s, &Ok((0.0, true)), 0.5);
    assert_eq!(course.standing(), Standing::Serving);
    course
}

fn died() -> DownCause {
    DownCause::Died("x".into())
}

#[test]
fn the_way_to_service_and_back() {
    let mut course = Course::default();
    assert_eq!(course.standing(), Standing::Down);
    assert!(course.wake_s(true) < 0.0, "at once");
    let turn = course.tick(0.0, true, 0.5).unwrap();
    assert_eq!((turn.order, turn.kind, turn.jobs), (Some(Order::Start), Kind::Started, Jobs::Keep));
    assert_eq!((course.standing(), course.has_worker()), (Standing::Starting, false));
    let turn = course.up(1.0).unwrap();
    assert!(course.has_worker());
    assert_eq!(
        (turn.order, course.standing()),
        (Some(Order::Check), Standing::Checking),
        "no probe at first"
    );
    assert!(!course.takes_work(1.0) && !course.serves());
    let turn = course.checked(2.0, &Ok((0.01, true)), 0.5).unwrap();
    assert_eq!((turn.order, turn.kind), (None, Kind::Returned));
    assert!(course.takes_work(2.0) && course.serves());
    assert_eq!((course.load_share(2.0), course.back_s()), (1.0, None), "the first time at full load");

    let turn = course.down(3.0, &died(), 0.5).unwrap();
    assert_eq!((turn.order, turn.kind, turn.jobs), (None, Kind::Quarantined, Jobs::Lost));
    assert!(!course.has_worker());
    assert_eq!((course.standing(), course.back_s(), course.strikes()), (Standing::Quarantined, Some(4.0), 1));
    assert_eq!(course.tick(3.9, true, 0.5), None);
    assert_eq!(course.wake_s(true), 4.0);
    assert_eq!(course.tick(4.0, true, 0.5).unwrap().order, Some(Order::Start));
    let turn = course.up(5.0).unwrap();
    assert_eq!((turn.order, course.standing()), (Some(Order::Probe), Standing::Probing));
    let turn = course.probed(5.1, &Ok(0.1), 0.5).unwrap();
    assert_eq!((turn.order, course.standing()), (Some(Order::Check), Standing::Checking));
    course.checked(6.0, &Ok((0.01, true)), 0.5);
    assert_eq!(course.load_share(6.0), 0.5);
    assert_eq!(course.load_share(6.0 + RAMP_S / 2.0), 0.75);
    assert_eq!(course.load_share(6.0 + RAMP_S), 1.0);
    assert_eq!(course.load_share(600.0), 1.0);
}

#[test]
fn failures_of_each_trial_quarantine_and_stop() {
    let probing = || {
        let mut course = serving(0.0);
        course.down(1.0, &died(), 0.5);
        course.tick(2.0, true, 0.5);
        course.up(3.0);
        course
    };
    let checking = || {
        let mut course = Course::default();
        course.tick(0.0, true, 0.5);
        course.up(0.0);
        course
    };
    // (course, what happens to it, what the reason says)
    type Event = fn(&mut Course) -> Option<Turn>;
    let cases: [(Course, Event, &str); 8] = [
        (probing(), |course| course.probed(3.1, &Ok(PROBE_MAX_S + 0.1), 0.5), "took 5.1 s"),
        (probing(), |course| course.probed(3.1, &Err("mute".into()), 0.5), "mute"),
        (probing(), |course| course.tick(3.0 + PROBE_MAX_S, true, 0.5), "not answered"),
        (checking(), |course| course.checked(1.0, &Ok((5.0, false)), 0.5), "is wrong, divergence 5.0000"),
        (checking(), |course| course.checked(1.0, &Err("mute".into()), 0.5), "no known answer: mute"),
        (checking(), |course| course.tick(CHECK_MAX_S, true, 0.5), "no known answer within"),
        (serving(0.0), |course| course.down(1.0, &DownCause::Stopped, 0.5), "stopped"),
        (
            Course::default(),
            |course| {
                course.tick(0.0, true, 0.5);
                course.tick(START_MAX_S, true, 0.5)
            },
            "did not load",
        ),
    ];
    for (mut course, event, says) in cases {
        let turn = event(&mut course).unwrap();
        assert_eq!((turn.kind, turn.jobs), (Kind::Quarantined, Jobs::Lost), "{says}");
        assert!(turn.reason.contains(says), "{}", turn.reason);
        assert_eq!(course.standing(), Standing::Quarantined);
        let stops = !says.contains("stopped");
        assert_eq!(turn.order == Some(Order::Stop), stops, "{says}");
        if stops {
            assert_eq!(course.down(130.0, &DownCause::Stopped, 0.5), None, "that was asked for");
        }
        let due_s = course.back_s().unwrap();
        assert_eq!(course.tick(due_s - 0.001, true, 0.5), None);
        assert_eq!(course.tick(due_s, true, 0.5).unwrap().order, Some(Order::Start));
    }
    assert_eq!(
        probing().probed(3.1, &Ok(PROBE_MAX_S), 0.5).unwrap().order,
        Some(Order::Check),
        "just in time"
    );
}

#[test]
fn a_worker_that_does_not_end_is_told_again() {
    let mut course = serving(0.0);
    let turn = course.quarantine(1.0, Jobs::Lost, true, "hung".into(), 0.5);
    assert_eq!(turn.order, Some(Order::Stop));
    let turn = course.tick(2.0, true, 0.5).unwrap();
    assert_eq!((turn.order, course.strikes()), (Some(Order::Stop), 2));
    assert_eq!(course.back_s(), Some(4.0));
    assert_eq!(course.down(3.0, &died(), 0.5), None);
    assert_eq!(course.tick(4.0, true, 0.5).unwrap().order, Some(Order::Start));
}

#[test]
fn a_device_taken_out_softly_is_probed_where_it_stands() {
    let mut course = serving(0.0);
    let turn = course.quarantine(1.0, Jobs::Leave, false, "slow".into(), 0.5);
    assert_eq!((turn.order, turn.jobs), (None, Jobs::Leave));
    assert_eq!(course.tick(2.0, true, 0.5).unwrap().order, Some(Order::Probe));
    let mut course = serving(0.0);
    course.quarantine(1.0, Jobs::Leave, false, "slow".into(), 0.5);
    assert!(course.down(1.5, &died(), 0.5).is_some(), "nobody asked for that");
    assert_eq!(course.strikes(), 2);
}

#[test]
fn waits_double_up_to_a_bound_with_jitter_and_failures_are_forgiven() {
    let mut course = serving(0.0);
    for n in 0..20 {
        let wanted = (QUARANTINE_S * 2f64.powi(n)).min(QUARANTINE_MAX_S);
        course.quarantine(10.0, Jobs::Lost, false, "x".into(), 0.5);
        assert_eq!(course.back_s().unwrap() - 10.0, wanted);
    }
    for (draw, share) in [(0.0, 0.75), (0.5, 1.0), (0.75, 1.125)] {
        let mut course = serving(0.0);
        course.quarantine(0.0, Jobs::Lost, false, "x".into(), draw);
        assert_eq!(course.back_s(), Some(share * QUARANTINE_S));
    }
    for (served_s, strikes) in [(FORGIVEN_AFTER_S - 1.0, 2), (FORGIVEN_AFTER_S, 1)] {
        let mut course = serving(0.0);
        course.down(0.0, &died(), 0.5);
        course.tick(1.0, true, 0.5);
        course.up(2.0);
        course.probed(2.0, &Ok(0.1), 0.5);
        course.checked(2.0, &Ok((0.0, true)), 0.5);
        course.down(2.0 + served_s, &died(), 0.5);
        assert_eq!(course.strikes(), strikes, "after {served_s} s");
    }
}

#[test]
fn checks_in_service_wait_for_an_idle_device_and_then_empty_a_busy_one() {
    let mut course = serving(0.0);
    let early_s = CHECK_EVERY_S - CHECK_EARLY_S;
    assert_eq!((course.wake_s(true), course.wake_s(false)), (early_s, f64::INFINITY));
    assert_eq!(course.tick(early_s - 1.0, true, 0.5), None);
    assert_eq!(course.tick(early_s, false, 0.5), None, "it is busy");
    assert!(course.takes_work(CHECK_EVERY_S - 0.1));
    assert!(!course.takes_work(CHECK_EVERY_S), "it takes no more until it was checked");
    assert_eq!(course.tick(early_s, true, 0.5).unwrap().order, Some(Order::Check));
    assert!(course.serves() && !course.takes_work(early_s), "alone");
    assert_eq!(course.wake_s(false), early_s + CHECK_MAX_S);
    assert_eq!(course.tick(early_s + 1.0, true, 0.5), None, "once");
    assert_eq!(course.checked(early_s + 1.0, &Ok((0.0, true)), 0.5), None);
    assert!(course.takes_work(early_s + 1.0));
    assert_eq!(course.checked(early_s + 2.0, &Ok((0.0, true)), 0.5), None, "nobody asked");
    let wrong = course.checked(early_s + 3.0, &Ok((9.0, false)), 0.5).unwrap();
    assert_eq!(wrong.order, Some(Order::Stop), "a wrong answer counts whenever it comes");

    let checked = |outcome: Result<(f64, bool), String>| {
        let mut course = serving(0.0);
        course.tick(early_s, true, 0.5);
        let turn = course.checked(early_s, &outcome, 0.5);
        (course, turn)
    };
    assert_eq!(checked(Ok((9.0, false))).1.unwrap().order, Some(Order::Stop), "wrong numbers");
    let (mut course, turn) = checked(Err("busy".into()));
    assert_eq!(turn, None, "one time is none");
    for n in 2..=CHECKS_UNANSWERED_MAX {
        assert_eq!(course.tick(2000.0, true, 0.5).unwrap().order, Some(Order::Check));
        let turn = course.checked(2000.0, &Err("busy".into()), 0.5);
        assert_eq!(turn.is_some(), n == CHECKS_UNANSWERED_MAX, "{n}");
    }
    let mut course = serving(0.0);
    course.tick(early_s, true, 0.5);
    let turn = course.tick(early_s + CHECK_MAX_S, true, 0.5).unwrap();
    assert!(turn.reason.contains("no known answer within"), "{turn:?}");
    let mut course = serving(0.0);
    course.suspect(10.0);
    assert!(!course.takes_work(10.0));
    assert_eq!(course.tick(10.0, true, 0.5).unwrap().order, Some(Order::Check));
}

#[test]
fn resets_count_within_a_window_and_failures_in_a_row() {
    let mut course = serving(0.0);
    let times =
        [(0.0, false), (100.0, false), (RESETS_WINDOW_S + 1.0, false), (RESETS_WINDOW_S + 50.0, true)];
    for (at_s, many) in times {
        assert_eq!(course.reset(at_s), many, "{at_s}");
    }
    for (failed, many) in
        [(true, false), (true, false), (false, false), (true, false), (true, false), (true, true)]
    {
        assert_eq!(course.sample_ended(failed), many);
    }
}

#[test]
fn what_does_not_belong_to_a_standing_changes_nothing() {
    let mut course = Course::default();
    assert_eq!(course.down(0.0, &died(), 0.5), None);
    assert_eq!(course.up(0.0), None);
    assert_eq!(course.probed(0.0, &Ok(0.1), 0.5), None);
    assert_eq!(course.checked(0.0, &Ok((0.0, true)), 0.5), None);
    assert_eq!(course.standing(), Standing::Down);
    let mut course = serving(0.0);
    assert_eq!(course.up(1.0), None);
    assert_eq!(course.probed(1.0, &Err("x".into()), 0.5), None);
    assert_eq!(course.checked(1.0, &Ok((0.0, true)), 0.5), None);
    assert_eq!(course.checked(1.0, &Err("x".into()), 0.5), None);
    assert!(course.serves());
}

#[test]
fn silence_has_a_margin_within_the_contract() {
    // (predicted seconds to the next token, seconds after which it hangs)
    for (predicted_s, hang_s) in [(0.0, 2.0), (0.05, 2.05), (1.0, 3.0), (2.0, 6.0), (2.5, 7.5), (60.0, 65.0)]
    {
        assert!((hang_after_s(predicted_s) - hang_s).abs() < 1e-9, "{predicted_s}");
    }
}

#[test]
fn a_slow_or_paced_device_gets_more_time_for_its_trials() {
    let checking = |check_s: f64, after_s: f64| {
        let mut course = Course::default();
        course.tick(0.0, true, 0.5);
        course.up(0.0);
        course.allow(0.0, check_s);
        course.tick(after_s, true, 0.5).is_some()
    };
    assert!(checking(1.0, CHECK_MAX_S) && !checking(1.0, CHECK_MAX_S - 0.1));
    assert!(checking(100.0, 200.0) && !checking(100.0, 199.9));
    let probing = |probe_s: f64, after_s: f64| {
        let mut course = serving(0.0);
        course.down(1.0, &died(), 0.5);
        course.tick(2.0, true, 0.5);
        course.up(3.0);
        course.allow(probe_s, 0.0);
        course.tick(3.0 + after_s, true, 0.5).is_some()
    };
    assert!(probing(0.1, PROBE_MAX_S) && !probing(0.1, PROBE_MAX_S - 0.1));
    assert!(probing(20.0, 25.0) && !probing(20.0, 24.9), "never above five seconds past the prediction");
}

#[test]
fn what_is_being_answered_keeps_the_time_that_it_was_given() {
    let mut course = serving(0.0);
    course.allow(0.1, 100.0);
    course.tick(CHECK_EVERY_S, true, 0.5);
    // It was asked at the least duty; then the duty rose.
    course.allow(0.1, 100.0);
    course.allow(0.1, 1.0);
    assert_eq!(course.tick(CHECK_EVERY_S + 199.0, true, 0.5), None);
    course.checked(CHECK_EVERY_S + 199.0, &Ok((0.0, true)), 0.5);
    course.allow(0.1, 1.0);
    let asked_s = 2.0 * CHECK_EVERY_S + 199.0;
    course.tick(asked_s, true, 0.5);
    assert!(course.tick(asked_s + CHECK_MAX_S + 1.0, true, 0.5).is_some(), "the next one gets what it needs");
}
