//! Made-up problems: seeded, with every kind of choice in them, small enough for brute force or as large as asked.

use qeil_laws::random::Random;
use qeil_plan::cost::{Amount, Decode, Offer, Prefill, Source, Transfer};
use qeil_plan::problem::*;
use qeil_units::{Labelled, Provenance};

/// How large a made-up problem is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub models: usize,
    pub devices: usize,
    pub settings: usize,
    pub samples_max: u32,
    pub batches: u32,
    pub lanes_max: usize,
    pub ladder_max: usize,
    /// Whether there is a place of several devices.
    pub split: bool,
}

fn log_uniform(random: &mut Random, low: f64, high: f64) -> f64 {
    (low.ln() + random.uniform() * (high / low).ln()).exp()
}

/// A problem without limits.
pub fn space(seed: u64, size: Size) -> Problem {
    let mut random = Random::new(seed, 0);
    let random = &mut random;
    let models: Vec<Model> = (0..size.models)
        .map(|at| {
            let scale = 3f64.powi(at as i32);
            // A larger model passes oftener: coverage of equally hard tasks, and a share out of reach.
            let (pass, reach) =
                (1.0 - 0.9f64.powf(1.0 + at as f64 + random.uniform()), 0.6 + 0.4 * random.uniform());
            let by_samples =
                (1..=size.samples_max).map(|k| reach * (1.0 - (1.0 - pass).powf(f64::from(k).powf(0.7))));
            Model {
                name: format!("m{at}"),
                quantisation: "Q4_0".into(),
                weight_bytes: (1e8 * scale) as u64,
                kv_bytes_per_token: 2e4 * scale,
                coverage: Some(Coverage {
                    by_samples: by_samples.collect(),
                    label: Labelled::simulated((), "made up"),
                }),
            }
        })
        .collect();
    let devices: Vec<Device> = (0..size.devices)
        .map(|at| Device {
            name: format!("d{at}"),
            memory: at % 2,
            idle_w: Some(log_uniform(random, 0.2, 3.0)),
            max_w: Some(60.0),
            guard_c: Some(80.0),
            kelvin_per_w: Some(log_uniform(random, 0.5, 3.0)),
            price_usd: Some(log_uniform(random, 100.0, 1000.0)),
            allowed: true,
        })
        .collect();
    let mut places: Vec<Place> = (0..size.devices)
        .map(|device| Place { name: format!("d{device}"), parts: vec![Part { device, share: 1.0 }] })
        .collect();
    if size.split && size.devices > 1 {
        let parts = vec![Part { device: 0, share: 0.4 }, Part { device: 1, share: 0.6 }];
        places.push(Place { name: "d0+d1".into(), parts });
    }
    let mut offers = Vec::new();
    for (place, devices_of) in places.iter().enumerate() {
        // No place is good at both phases by nature, and none at one.
        let fast = [log_uniform(random, 0.3, 3.0), log_uniform(random, 0.3, 3.0)];
        let thrift = [log_uniform(random, 0.3, 3.0), log_uniform(random, 0.3, 3.0)];
        for setting in 0..size.settings {
            let pace = 0.7 + 0.6 * random.uniform();
            for (model, scale) in (0..size.models).map(|at| (at, 3f64.powi(at as i32))) {
                // The idle power is part of what is measured.
                let idle: f64 = devices_of.parts.iter().filter_map(|part| devices[part.device].idle_w).sum();
                let amount = |seconds: f64, watts: f64| Amount::new(seconds, seconds * (watts + idle));
                let token_s = 4e-4 * scale * fast[0] * pace * log_uniform(random, 0.8, 1.25);
                let step_s = 1e-2 * scale * fast[1] * pace * log_uniform(random, 0.8, 1.25);
                let share = log_uniform(random, 0.02, 0.4);
                let points = [1, 2, 4, 8, 16, 32].map(|n| {
                    let seconds = step_s * (1.0 + share * f64::from(n - 1));
                    (n, amount(seconds, 8.0 * thrift[1] / pace * (1.0 + 0.05 * f64::from(n))))
                });
                offers.push(Offer {
                    model,
                    place,
                    setting,
                    source: if random.below(2) == 0 { Source::Profile } else { Source::Law },
                    provenance: Provenance::Simulated,
                    basis: "made up".into(),
                    prefill: Some(Prefill {
                        fixed: amount(1e-3, 5.0),
                        per_token: amount(token_s, 15.0 * thrift[0] / pace),
                    }),
                    decode: Some(Decode {
                        points: points.to_vec(),
                        context_tokens: 128.0,
                        per_context_token: amount(step_s * 1e-4, 5.0),
                        bus_share: random.uniform(),
                    }),
                });
            }
        }
    }
    let mut transfers = Vec::new();
    for from in 0..places.len() {
        for to in 0..places.len() {
            // Some pairs cannot exchange state.
            if from != to && random.below(4) > 0 {
                let bytes_per_s = log_uniform(random, 1e8, 1e10);
                transfers.push(Transfer { from, to, fixed_s: 2e-3, bytes_per_s, joules_per_byte: 2e-9 });
            }
        }
    }
    let mut menu = Menu::new(size.samples_max, true);
    menu.batches.retain(|batch| *batch <= size.batches);
    menu.lanes_max = size.lanes_max;
    menu.ladder_max = size.ladder_max;
    Problem {
        models,
        memories: (0..2).map(|at| Memory { name: format!("memory {at}"), bytes: Some(8 << 30) }).collect(),
        devices,
        places,
        sink_kelvin_per_w: 0.3,
        settings: (0..size.settings).map(|at| format!("{} threads", at + 1)).collect(),
        offers,
        transfers,
        workload: Workload { prompt_tokens: 128, output_tokens: 64 },
        menu,
        limits: Limits::default(),
        prices: Prices::default(),
    }
}
