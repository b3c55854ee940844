//! Whose turn it is among those that wait.

mod toy;

use qeil_control::config::{DeviceConfig, DeviceId, Limits};
use qeil_control::event::*;
use qeil_control::placement::STALL_MAX_S;
use qeil_control::view::Standing;
use toy::*;

#[test]
fn interactive_goes_first_and_clients_get_equal_shares() {
    let limits = Limits { queue_requests_max: 400, queue_tokens_max: 1 << 20, ..Limits::default() };
    let mut toy = Toy::serving(qeil_control::config::Config { limits, ..config(vec![device("a")]) });
    // One client floods, two others ask for little.
    for id in 0..200 {
        toy.arrive(Request { client: 7, ..request(id) });
    }
    for id in 200..205 {
        toy.arrive(Request { client: 8, ..request(id) });
        toy.arrive(Request { client: 9, priority: Priority::Batch, ..request(id + 100) });
    }
    toy.run(100.0);
    let last = |ids: std::ops::Range<u64>| {
        ids.filter_map(|id| toy.ended_s.get(&RequestId(id)).copied()).fold(0.0, f64::max)
    };
    assert_eq!(toy.outcomes.len(), 210);
    assert!(last(200..205) < 30.0, "the client with little is served early: {}", last(200..205));
    assert!(last(300..305) > last(0..200) - 3.0, "batch comes last: {} {}", last(300..305), last(0..200));
}

#[test]
fn what_a_device_failed_in_the_middle_goes_before_what_never_began() {
    let single = |name: &str| DeviceConfig { sequences_max: 1, ..device(name) };
    let mut toy = Toy::serving(config(vec![single("a"), single("b")]));
    for client in 1..=2 {
        toy.arrive(Request { client, tokens_max: 200, ..request(client.into()) });
    }
    toy.run(1.0);
    // Both are on a device; two newcomers wait, whose clients got nothing yet.
    for client in 3..=4 {
        toy.arrive(Request { client, ..request(client.into()) });
    }
    toy.arrive(Request { client: 5, priority: Priority::Batch, ..request(5) });
    let victim = toy.places.iter().find(|place| place.1 == RequestId(1)).unwrap().0;
    toy.devices[usize::from(victim.0)].gone = true;
    toy.die(usize::from(victim.0));
    toy.run(60.0);
    let order: Vec<u64> = toy.places.iter().map(|place| place.1.0).collect();
    assert_eq!(order, [1, 2, 1, 3, 4, 5]);
    assert!(toy.places[2].2[0].emitted > 0);
}

/// When and where a request was placed last.
fn placed_last(toy: &Toy, id: u64) -> Option<(f64, DeviceId)> {
    let place = |(at_s, output): &(f64, Output)| match output {
        Output::Place { device, request, .. } if *request == RequestId(id) => Some((*at_s, *device)),
        _ => None,
    };
    toy.outputs.iter().filter_map(place).next_back()
}

#[test]
fn what_is_read_does_not_wait_long_for_a_better_device() {
    let mut slow = DeviceConfig { sequences_max: 1, ..device("slow") };
    (slow.profile.step_s, slow.profile.prefill_s_per_token) = (0.2, 0.01);
    let single = |name: &str| DeviceConfig { sequences_max: 1, ..device(name) };
    for (priority, goes_to) in [(Priority::Interactive, 2), (Priority::Batch, 1)] {
        let mut toy = Toy::serving(config(vec![single("a"), single("b"), slow.clone()]));
        for id in 1..=2 {
            toy.arrive(Request { tokens_max: 100, priority, ..request(id) });
        }
        toy.run(0.5);
        assert_eq!(toy.places.iter().map(|place| place.0.0).collect::<Vec<_>>(), [0, 1]);
        toy.devices[0].gone = true;
        toy.die(0);
        let died_s = toy.now_s;
        toy.run(STALL_MAX_S - 2.0 * DT_S);
        assert_eq!(placed_last(&toy, 1).unwrap().1, DeviceId(0), "the other quick device is worth a moment");
        toy.run(5.0);
        let (at_s, device) = placed_last(&toy, 1).unwrap();
        assert_eq!(device, DeviceId(goes_to), "{priority:?}");
        // The toy looks at the clock each `DT_S`.
        assert_eq!(at_s <= died_s + STALL_MAX_S + DT_S, goes_to == 2, "{priority:?}: {at_s}, {died_s}");
    }
}

#[test]
fn what_stalls_may_use_what_a_returned_device_holds_back() {
    let mut toy = Toy::serving(config(vec![device("a"), device("b")]));
    toy.devices[1].gone = true;
    toy.die(0);
    toy.die(1);
    toy.run(3.0);
    assert_eq!(toy.standing(0), Standing::Serving);
    toy.devices[1].gone = false;
    // Half full is as full as the first may be; what comes last waits for the second.
    toy.arrive(Request { samples: 4, tokens_max: 1900, ..request(1) });
    toy.arrive(Request { tokens_max: 1000, ..request(2) });
    while placed_last(&toy, 2).is_none() {
        toy.run(DT_S);
    }
    assert_eq!(placed_last(&toy, 2).unwrap().1, DeviceId(1));
    toy.run(0.5);
    let died_s = toy.now_s;
    toy.devices[1].gone = true;
    toy.die(1);
    toy.run(1.0);
    let (at_s, device) = placed_last(&toy, 2).unwrap();
    assert_eq!((device, toy.control.devices()[0].sequences), (DeviceId(0), 5));
    assert!(at_s <= died_s + STALL_MAX_S + DT_S, "{at_s}, {died_s}");
}
