//! What devices offer for a sample, and which offer is taken.

mod toy;

use qeil_control::config::{DeviceId, Goal};
use qeil_control::placement::*;
use toy::profile;

fn idle() -> Candidate {
    Candidate {
        device: DeviceId(0),
        profile: profile(),
        places: 8,
        reserve: 0,
        room_tokens: 10_000,
        sequences_max: 8,
        sequences: 0,
        prefill_tokens: 0,
        left: (0, 0),
        ahead_tokens: 0,
        stretch: 1.0,
        doubt: 1.0,
        more_w: 0.0,
    }
}

fn ask() -> Ask {
    Ask {
        prompt_tokens: 100,
        emitted: 0,
        tokens: 50,
        held_tokens: 150,
        left_s: 60.0,
        interactive: false,
        stalled: false,
    }
}

#[test]
fn offers_are_predicted_from_profile_load_and_observation() {
    // An idle device: 0.1 s of prefill, 50 steps of 22 ms. Joules beyond its 2 W at rest: (2 - 0.2) + 50 × (0.4 - 0.04)
    // + 50 × (0.02 - 0.004).
    let (prefill_j, step_j, own_j) = (1.8, 0.36, 0.016);
    let full = Candidate { places: 0, sequences: 8, left: (10, 40), ..idle() };
    // (what, candidate, ask, prompt shared, another kin, seconds, joules, at once)
    let cases = [
        ("idle", idle(), ask(), false, false, 1.2, prefill_j + 50.0 * (step_j + own_j), true),
        ("prompt shared", idle(), ask(), true, false, 1.1, 50.0 * (step_j + own_j), true),
        (
            "resumed",
            idle(),
            Ask { emitted: 200, ..ask() },
            true,
            false,
            1.3,
            2.0 * prefill_j + 50.0 * (step_j + own_j),
            true,
        ),
        (
            "busy",
            Candidate { sequences: 3, left: (10, 40), ..idle() },
            ask(),
            false,
            false,
            0.1 + 50.0 * 0.028,
            prefill_j + 10.0 * step_j + 50.0 * own_j,
            true,
        ),
        (
            "others' prompts first",
            Candidate { prefill_tokens: 1000, ..idle() },
            ask(),
            false,
            false,
            2.2,
            prefill_j + 50.0 * (step_j + own_j),
            true,
        ),
        (
            "slow",
            Candidate { stretch: 2.0, ..idle() },
            ask(),
            false,
            false,
            2.4,
            prefill_j + 50.0 * (step_j + own_j),
            true,
        ),
        (
            "doubtful",
            Candidate { doubt: 2.0, ..idle() },
            ask(),
            false,
            false,
            2.4,
            2.0 * (prefill_j + 50.0 * (step_j + own_j)),
            true,
        ),
        ("stranger", idle(), ask(), false, true, 1.5, 1.25 * (prefill_j + 50.0 * (step_j + own_j)), true),
        (
            "full",
            full.clone(),
            ask(),
            false,
            false,
            0.1 + 60.0 * 0.036,
            prefill_j + 10.0 * step_j + 50.0 * own_j,
            false,
        ),
        (
            "full, and others wait",
            Candidate { ahead_tokens: 80, ..full },
            ask(),
            false,
            false,
            0.1 + 60.0 * 0.036 + 80.0 * 0.036 / 8.0,
            prefill_j + 10.0 * step_j + 50.0 * own_j,
            false,
        ),
        (
            "no memory",
            Candidate { room_tokens: 149, ..idle() },
            ask(),
            false,
            false,
            1.2,
            prefill_j + 50.0 * (step_j + own_j),
            false,
        ),
        (
            "just enough memory",
            Candidate { room_tokens: 150, ..idle() },
            ask(),
            false,
            false,
            1.2,
            prefill_j + 50.0 * (step_j + own_j),
            true,
        ),
    ];
    for (what, candidate, ask, shared, stranger, finish_s, joules, at_once) in cases {
        let got = offer(&candidate, &ask, shared, stranger);
        assert!((got.finish_s - finish_s).abs() < 1e-9, "{what}: {got:?}, not {finish_s} s");
        assert!((got.joules - joules).abs() < 1e-9, "{what}: {got:?}, not {joules} J");
        assert_eq!(got.at_once, at_once, "{what}");
    }
}

#[test]
fn the_goal_chooses_and_the_deadline_comes_first() {
    let of = |finish_s: f64, joules: f64| Some(Offer { finish_s, joules, at_once: true });
    let offers = [of(1.0, 100.0), of(5.0, 10.0), None, of(3.0, 50.0), of(5.0, 10.0)];
    let batch = |left_s: f64| Ask { left_s, ..ask() };
    let waits = |left_s: f64| Ask { left_s, interactive: true, ..ask() };
    // (goal, ask, chosen)
    let cases = [
        (Goal::Latency, batch(60.0), Some(0)),
        (Goal::Energy, batch(60.0), Some(1)),
        (Goal::Energy, batch(5.6), Some(1)),
        (Goal::Energy, batch(5.5), Some(3)),
        (Goal::Energy, batch(3.3), Some(0)),
        (Goal::Energy, batch(0.5), Some(0)),
        (Goal::Energy, waits(60.0), Some(0)),
    ];
    for (goal, ask, chosen) in cases {
        assert_eq!(choose(goal, &ask, &offers), chosen, "{goal:?} {ask:?}");
    }
    let patient = [of(1.0, 100.0), of(1.9, 10.0)];
    assert_eq!(choose(Goal::Energy, &waits(60.0), &patient), Some(1));
    assert_eq!(choose(Goal::Energy, &batch(60.0), &[None, None]), None);
    assert_eq!(choose(Goal::Latency, &batch(60.0), &[]), None);
    let equal_joules = [of(2.0, 10.0), of(1.0, 10.0)];
    assert_eq!(choose(Goal::Energy, &batch(60.0), &equal_joules), Some(1), "the quicker of two equals");
}

#[test]
fn what_stalls_goes_on_where_a_place_is_free() {
    let of = |finish_s: f64, at_once: bool| Some(Offer { finish_s, joules: finish_s, at_once });
    let offers = [of(2.0, false), of(5.0, true), None, of(4.0, true)];
    let stalls = |left_s: f64| Ask { left_s, interactive: true, stalled: true, ..ask() };
    for goal in [Goal::Latency, Goal::Energy] {
        assert_eq!(choose(goal, &Ask { stalled: false, ..stalls(60.0) }, &offers), Some(0), "{goal:?}");
        assert_eq!(choose(goal, &stalls(60.0), &offers), Some(3), "{goal:?}");
        // Where no free place keeps the deadline, it waits for one that does.
        assert_eq!(choose(goal, &stalls(4.4), &offers), Some(0), "{goal:?}");
        assert_eq!(choose(goal, &stalls(60.0), &[None, of(9.0, false)]), Some(1), "{goal:?}");
    }
    // What a device holds back after its return is only for those.
    let returned = Candidate { places: 0, reserve: 4, sequences: 4, left: (30, 40), ..idle() };
    let at_once = |ask: Ask| offer(&returned, &ask, false, false).at_once;
    assert!(!at_once(ask()) && at_once(stalls(60.0)));
    assert!(!at_once(Ask { held_tokens: 10_001, ..stalls(60.0) }), "its memory is as full as it is");
}
