//! Who is let in, whose turn it is, when to come again.

mod toy;

use qeil_control::admission::{Queue, check_bounds, check_hope, tokens_per_s};
use qeil_control::config::{Config, Limits};
use qeil_control::event::*;
use toy::{config, device, request};

fn bounded() -> Config {
    let limits = Limits {
        queue_requests_max: 8,
        queue_tokens_max: 4000,
        prompt_tokens_max: 1000,
        samples_max: 10,
        tokens_max: 900,
        ..Limits::default()
    };
    let mut small = device("small");
    small.context_tokens = 1500;
    Config { limits, ..config(vec![small]) }
}

#[test]
fn what_is_never_allowed_is_refused_by_name() {
    // (request, what the refusal says; empty: none)
    let cases = [
        (request(1), ""),
        (Request { prompt_tokens: 0, ..request(1) }, "at least 1 token"),
        (Request { samples: 0, ..request(1) }, "samples must be at least 1"),
        (Request { tokens_max: 0, ..request(1) }, "tokens_max must be at least 1"),
        (Request { prompt_tokens: 1000, ..request(1) }, ""),
        (Request { prompt_tokens: 1001, ..request(1) }, "the prompt in tokens is 1001, at most 1000"),
        (Request { samples: 10, ..request(1) }, ""),
        (Request { samples: 11, ..request(1) }, "the number of samples is 11, at most 10"),
        (Request { tokens_max: 900, ..request(1) }, ""),
        (Request { tokens_max: 901, ..request(1) }, "tokens of a sample is 901, at most 900"),
        (Request { prompt_tokens: 600, tokens_max: 900, ..request(1) }, ""),
        (
            Request { prompt_tokens: 601, tokens_max: 900, ..request(1) },
            "prompt and answer in tokens is 1501",
        ),
        (Request { prompt_tokens: 400, tokens_max: 360, samples: 10, ..request(1) }, ""),
        (
            Request { prompt_tokens: 401, tokens_max: 360, samples: 10, ..request(1) },
            "all tokens together is 4001",
        ),
        (
            Request {
                prompt_tokens: 400,
                tokens_max: 261,
                samples: 10,
                priority: Priority::Batch,
                ..request(1)
            },
            "all tokens together is 3010, at most 3000",
        ),
        (Request { deadline_s: Some(0.0), ..request(1) }, "the deadline must be"),
        (Request { deadline_s: Some(f64::NAN), ..request(1) }, "the deadline must be"),
        (Request { deadline_s: Some(f64::INFINITY), ..request(1) }, "the deadline must be"),
        (Request { energy_budget_j: Some(-1.0), ..request(1) }, "the energy budget must be"),
        (Request { energy_budget_j: Some(0.1), deadline_s: Some(0.1), ..request(1) }, ""),
    ];
    for (request, says) in cases {
        let text =
            check_bounds(&request, &bounded()).err().map_or(String::new(), |refusal| refusal.to_string());
        assert!(text.contains(says) && text.is_empty() == says.is_empty(), "{text:?} for {request:?}");
    }
}

#[test]
fn what_cannot_be_kept_even_alone_is_hopeless() {
    // One sample alone: 100 × 1 ms + 50 × 22 ms = 1.2 s; 100 × 0.02 J + 50 × 0.42 J = 23 J.
    // Eight together: 50 × 36 ms = 1.8 s; 2 J + 8 × 50 × 0.07 J = 30 J.
    let both = Config { ..config(vec![device("a"), device("b")]) };
    let one = config(vec![device("a")]);
    let at = |deadline_s: f64| Request { deadline_s: Some(deadline_s), ..request(1) };
    let with = |energy: f64| Request { energy_budget_j: Some(energy), ..request(1) };
    let eight = |request: Request| Request { samples: 8, ..request };
    // (request, devices, hopeless)
    let cases = [
        (request(1), &one, false),
        (at(1.21), &one, false),
        (at(1.19), &one, true),
        (eight(at(1.81)), &one, false),
        (eight(at(1.79)), &one, true),
        (eight(at(1.21)), &both, false),
        (eight(at(1.19)), &both, true),
        (Request { until_pass: true, ..eight(at(1.21)) }, &one, false),
        (with(23.1), &one, false),
        (with(22.9), &one, true),
        (eight(with(30.1)), &one, false),
        (eight(with(29.9)), &one, true),
        (Request { until_pass: true, ..eight(with(23.1)) }, &one, false),
        (Request { samples: 256, tokens_max: 8000, ..request(1) }, &one, false),
    ];
    for (request, config, hopeless) in cases {
        let got = check_hope(&request, config);
        assert_eq!(matches!(got, Err(Refusal::Hopeless(_))), hopeless, "{got:?} for {request:?}");
    }
    // A device that could not hold it does not count.
    let mut cramped = device("cramped");
    cramped.context_tokens = 149;
    cramped.profile.step_s = 0.001;
    let mixed = config(vec![cramped.clone(), device("a")]);
    assert!(check_hope(&at(1.19), &mixed).is_err());
    cramped.context_tokens = 150;
    assert_eq!(check_hope(&at(1.19), &config(vec![cramped])), Ok(()));
    assert!((tokens_per_s(&device("a")) - 8.0 / 0.036).abs() < 1e-9);
}

#[test]
fn the_queue_is_bounded_in_requests_and_in_tokens_and_batch_leaves_room() {
    let limits = Limits { queue_requests_max: 4, queue_tokens_max: 1000, ..Limits::default() };
    let batch = |id| Request { priority: Priority::Batch, ..request(id) };
    let mut queue = Queue::new(100.0);
    for id in 0..3 {
        assert_eq!(queue.check_room(&batch(id), &limits), Ok(()), "{id}");
        queue.enter(&batch(id));
    }
    assert!(queue.check_room(&batch(3), &limits).is_err(), "three quarters of four");
    assert_eq!(queue.check_room(&request(3), &limits), Ok(()));
    queue.enter(&request(3));
    assert_eq!((queue.requests(), queue.tokens()), (4, 600));
    assert!(queue.check_room(&request(4), &limits).is_err());
    queue.begin();
    queue.take(150);
    assert_eq!(queue.check_room(&request(4), &limits), Ok(()));
    let long = |tokens_max| Request { tokens_max, ..request(4) };
    assert_eq!(queue.check_room(&long(450), &limits), Ok(()));
    assert!(queue.check_room(&long(451), &limits).is_err(), "1001 tokens");
    let long_batch = |tokens_max| Request { tokens_max, ..batch(4) };
    queue.begin();
    assert_eq!(queue.check_room(&long_batch(200), &limits), Ok(()));
    assert!(queue.check_room(&long_batch(201), &limits).is_err(), "751 of 750 tokens");
    assert!((queue.fill(&limits) - 0.5).abs() < 1e-9, "two of four requests");
    queue.begin();
    assert!((queue.fill(&limits) - 0.45).abs() < 1e-9, "450 of 1000 tokens");
    let least = Limits { queue_requests_max: 1, ..limits };
    assert_eq!(Queue::new(1.0).check_room(&batch(1), &least), Ok(()), "a queue of one takes batch work");
}

#[test]
fn retry_after_comes_from_the_rate_at_which_the_queue_was_seen_to_drain() {
    let limits = Limits { queue_requests_max: 2, queue_tokens_max: 10_000, ..Limits::default() };
    let wait = |queue: &Queue, request: &Request| match queue.check_room(request, &limits) {
        Err(Refusal::Overloaded { retry_after_s }) => retry_after_s,
        other => panic!("{other:?}"),
    };
    let full = |rate: f64| {
        let mut queue = Queue::new(rate);
        queue.enter(&request(0));
        queue.enter(&Request { tokens_max: 250, ..request(1) });
        queue
    };
    // One place of 250 tokens on average.
    assert!((wait(&full(50.0), &request(2)) - 5.0).abs() < 1e-9);
    assert_eq!(wait(&full(5000.0), &request(2)), 1.0);
    assert_eq!(wait(&full(0.01), &request(2)), 600.0);
    assert_eq!(wait(&full(0.0), &request(2)), 600.0);
    // 9,000 + 500 + 600 - 10,000 tokens too many, beside the place.
    let long = Request { tokens_max: 9500, ..request(2) };
    assert!((wait(&full(10.0), &long) - 25.0).abs() < 1e-9);
    let mut queue = full(100.0);
    queue.take(200);
    assert!((wait(&queue, &Request { tokens_max: 9899, samples: 1, ..request(2) }) - 3.0).abs() < 0.1);
    // 20 tokens leave each second: after some windows that is the rate, whatever was expected.
    let mut queue = full(1000.0);
    for second in 1..=300 {
        queue.leave(f64::from(second), 9, 20);
    }
    let wait_s = wait(&queue, &request(2));
    assert!((wait_s - 12.5).abs() < 0.5, "{wait_s}");
    // And when nothing leaves for a while, it takes longer.
    queue.leave(330.0, 9, 0);
    assert!(wait(&queue, &request(2)) > 30.0);
}

#[test]
fn the_client_that_got_least_goes_first_and_nobody_saves_up() {
    let of = |client: u32, id: u64| Request { client, ..request(id) };
    let mut queue = Queue::new(1.0);
    queue.enter(&of(1, 1));
    queue.enter(&of(2, 2));
    assert_eq!(queue.turn(1), queue.turn(2));
    queue.give(1, 100);
    assert!(queue.turn(2) < queue.turn(1));
    queue.give(2, 300);
    assert!(queue.turn(1) < queue.turn(2));
    queue.give(1, 50);
    assert!(queue.turn(1) < queue.turn(2), "150 against 300");
    // One that comes now starts with those that are served, not at nothing.
    queue.enter(&of(3, 3));
    assert!(queue.turn(3) >= 100.0 && queue.turn(3) <= queue.turn(2), "{}", queue.turn(3));
    // One that left and comes back finds the clock where the others are.
    queue.leave(1.0, 3, 0);
    queue.give(1, 1000);
    queue.give(1, 1000);
    queue.enter(&of(3, 4));
    assert!(queue.turn(3) >= 1000.0, "{}", queue.turn(3));
    queue.give(99, 5);
    assert_eq!(queue.turn(99), queue.turn(98), "one that has nothing in flight is given nothing");
}
