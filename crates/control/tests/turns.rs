//! Whose turn it is among those that wait.

mod toy;

use qeil_control::config::{DeviceConfig, Limits};
use qeil_control::event::*;
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
