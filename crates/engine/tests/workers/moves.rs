//! A sequence leaves one worker and goes on in another.

use crate::models::{real, spec, tiny};
use crate::parts::worker;
use qeil_engine::handle::{EngineError, GenerationEvent, Worker};
use qeil_engine::protocol::{Fault, StateSource};
use qeil_engine::request::{FinishReason, GenerateRequest, Prompt, SampleStart, Sampling};
use qeil_model::write::{TinyShape, tiny_llama};
use std::path::PathBuf;
use std::sync::Arc;

const TOKENS: u32 = 48;

fn request(sampling: &Sampling) -> GenerateRequest {
    let prompt = Prompt::text("The ship left the harbour before dawn, and nobody on the pier");
    let mut request = GenerateRequest::new(prompt, 1, TOKENS, sampling.clone());
    request.ignore_end = true;
    request
}

async fn moves_token_for_token(model: PathBuf, sampling: Sampling) {
    let start = async || Worker::start(&worker(), spec(model.clone())).await;
    let (from, to) = (start().await.unwrap(), start().await.unwrap());
    let whole = from.generate(request(&sampling)).await.unwrap().collect().await.unwrap();
    let whole_ids = whole.samples[0].ids();
    assert_eq!(whole_ids.len() as u32, TOKENS);

    from.inject(Fault::Slow(5)).await.unwrap();
    let mut leaving = from.generate(request(&sampling)).await.unwrap();
    for _ in 0..10 {
        assert!(matches!(leaving.next().await, Some(GenerationEvent::Token(_))));
    }
    let source = StateSource::Sample { request: leaving.id(), sample: 0 };
    let state = from.export(source, true).await.unwrap();
    let emitted = state.header.emitted.clone();
    assert!((10..TOKENS as usize).contains(&emitted.len()), "{}", emitted.len());
    assert_eq!(emitted, whole_ids[..emitted.len()], "what it said here");
    let left = leaving.collect().await.unwrap();
    assert_eq!(left.samples[0].reason, FinishReason::Moved);

    to.import(&state).await.unwrap();
    let mut goes_on = request(&sampling);
    goes_on.prompt = Prompt::Tokens(left.prompt_tokens);
    goes_on.samples = vec![SampleStart { index: 0, emitted: emitted.clone() }];
    let arrived = to.generate(goes_on).await.unwrap().collect().await.unwrap();
    assert_eq!(arrived.samples[0].ids(), whole_ids[emitted.len()..], "what it says there");
    assert_eq!(arrived.samples[0].reason, FinishReason::Length);
    assert_eq!(arrived.usage.reused_tokens as usize, state.header.tokens.len(), "nothing was computed again");
}

#[tokio::test]
async fn a_moved_sample_goes_on_token_for_token() {
    for model in [Some(tiny()), real()].into_iter().flatten() {
        for sampling in [Sampling::greedy(), Sampling { temperature: 1.0, seed: 11, ..Sampling::default() }] {
            moves_token_for_token(model.clone(), sampling).await;
        }
    }
}

#[tokio::test]
async fn a_prefilled_prompt_moves() {
    let start = async || Worker::start(&worker(), spec(tiny())).await;
    let (from, to) = (start().await.unwrap(), start().await.unwrap());
    let mut prefill = request(&Sampling::greedy());
    prefill.tokens_max = 0;
    let prompt = from.generate(prefill).await.unwrap().collect().await.unwrap().prompt_tokens;
    let state = from.export(StateSource::Prefix(prompt.clone()), false).await.unwrap();
    assert_eq!(state.header.tokens, prompt);
    to.import(&state).await.unwrap();
    let there = to.generate(request(&Sampling::greedy())).await.unwrap().collect().await.unwrap();
    let here = from.generate(request(&Sampling::greedy())).await.unwrap().collect().await.unwrap();
    assert!(there.usage.reused_tokens as usize + 1 >= prompt.len(), "{:?}", there.usage);
    assert_eq!(there.samples[0].ids(), here.samples[0].ids());
}

#[tokio::test]
async fn a_state_that_does_not_belong_is_refused() {
    let home = Worker::start(&worker(), spec(tiny())).await.unwrap();
    home.generate(request(&Sampling::greedy())).await.unwrap().collect().await.unwrap();
    let prompt = home.tokenize(request(&Sampling::greedy()).prompt).await.unwrap();
    let state = home.export(StateSource::Prefix(prompt), false).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.gguf");
    tiny_llama(&other, &TinyShape { layers: 3, ..TinyShape::default() }).unwrap();
    let stranger = Worker::start(&worker(), spec(other)).await.unwrap();
    let mut attentive = spec(tiny());
    attentive.flash_attention = true;
    let attentive = Worker::start(&worker(), attentive).await.unwrap();

    let mut flipped = state.clone();
    let mut bytes = flipped.bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    flipped.bytes = Arc::new(bytes);
    let mut lying = flipped.clone();
    lying.header.crc32 = crc32fast::hash(&lying.bytes);
    lying.bytes = Arc::new(lying.bytes[..middle].to_vec());
    lying.header.bytes = middle as u64;
    lying.header.crc32 = crc32fast::hash(&lying.bytes);
    let mut empty = state.clone();
    (empty.header.bytes, empty.bytes) = (0, Arc::default());
    let mut foreign_tokens = state.clone();
    foreign_tokens.header.tokens[0] = 999;

    let cases = [
        ("another model", &stranger, &state),
        ("another attention", &attentive, &state),
        ("a flipped bit", &home, &flipped),
        ("half of it, with a fitting checksum", &home, &lying),
        ("nothing", &home, &empty),
        ("tokens outside the vocabulary", &home, &foreign_tokens),
    ];
    for (name, worker, state) in cases {
        let refused = worker.import(state).await;
        assert!(matches!(refused, Err(EngineError::Import(_))), "{name}: {refused:?}");
        // And it still works.
        worker.generate(request(&Sampling::greedy())).await.unwrap().collect().await.unwrap();
    }
    for source in [StateSource::Sample { request: 999, sample: 0 }, StateSource::Prefix(vec![5, 5, 5])] {
        let missing = home.export(source, false).await;
        assert!(matches!(missing, Err(EngineError::Export(_))), "{missing:?}");
    }
}

/// How a worker computes, and what a sample that moves brings along.
struct Way {
    name: &'static str,
    flash_attention: bool,
    kv_unified: bool,
    /// One row at a time through the engine.
    one_row: bool,
    replay: bool,
}

/// Samples of one request, of which each is cut and goes on elsewhere.
const MOVED: u32 = 4;

/// How many of the moved samples say something else than those that stayed.
async fn differ(model: PathBuf, way: &Way, seeds: u64) -> (u32, u32) {
    let mut set = spec(model);
    (set.flash_attention, set.kv_unified) = (way.flash_attention, way.kv_unified);
    (set.sequences, set.prefix_cache_tokens) = (8, 0);
    if way.one_row {
        set.ubatch_tokens = 1;
    }
    let start = async || Worker::start(&worker(), set.clone()).await;
    let (here, there) = (start().await.unwrap(), start().await.unwrap());
    let (mut different, mut moved) = (0, 0);
    for seed in 0..seeds {
        let sampling = Sampling { temperature: 1.0, seed, ..Sampling::default() };
        let mut all = request(&sampling);
        all.samples = (0..MOVED).map(|index| SampleStart { index, emitted: Vec::new() }).collect();
        let whole = here.generate(all.clone()).await.unwrap().collect().await.unwrap();
        // Somebody else decodes there meanwhile.
        let mut other = request(&Sampling { seed: seed + 1000, ..sampling.clone() });
        other.prompt = Prompt::text("Elsewhere");
        other.tokens_max = 200;
        let other = there.generate(other).await.unwrap();
        for sample in &whole.samples {
            let ids = sample.ids();
            let cut = 6 + 9 * sample.index as usize;
            let mut goes_on = all.clone();
            goes_on.replay = way.replay;
            goes_on.samples = vec![SampleStart { index: sample.index, emitted: ids[..cut].to_vec() }];
            let arrived = there.generate(goes_on).await.unwrap().collect().await.unwrap();
            moved += 1;
            different += u32::from(arrived.samples[0].ids() != ids[cut..]);
        }
        drop(other);
    }
    (different, moved)
}

#[tokio::test]
async fn how_often_a_moved_sample_says_something_else() {
    let ways = [
        Way {
            name: "unified, prefilled",
            flash_attention: false,
            kv_unified: true,
            one_row: false,
            replay: false,
        },
        Way {
            name: "unified, replayed",
            flash_attention: false,
            kv_unified: true,
            one_row: false,
            replay: true,
        },
        Way {
            name: "separate, prefilled",
            flash_attention: false,
            kv_unified: false,
            one_row: false,
            replay: false,
        },
        Way {
            name: "separate, replayed",
            flash_attention: false,
            kv_unified: false,
            one_row: false,
            replay: true,
        },
        Way {
            name: "row by row, prefilled",
            flash_attention: false,
            kv_unified: false,
            one_row: true,
            replay: false,
        },
        Way {
            name: "row by row, replayed",
            flash_attention: false,
            kv_unified: false,
            one_row: true,
            replay: true,
        },
    ];
    // A real model takes its time: one request of each way shows as much.
    for (which, model, seeds) in [("tiny", Some(tiny()), 5), ("real", real(), 1)] {
        let Some(model) = model else { continue };
        for way in &ways {
            let (different, moved) = differ(model.clone(), way, seeds).await;
            eprintln!("{which} model, {}: {different} of {moved} moved samples differ (measured)", way.name);
            // Nothing can divide the work of a single row by what else is there.
            assert!(!way.one_row || different == 0, "{which}, {}: {different} of {moved}", way.name);
        }
    }
}

#[tokio::test]
async fn a_stop_string_that_came_before_the_move_ends_the_sample() {
    let worker = Worker::start(&worker(), spec(tiny())).await.unwrap();
    let whole = worker.generate(request(&Sampling::greedy())).await.unwrap().collect().await.unwrap();
    let ids = whole.samples[0].ids();
    // A whole token's text is there as soon as the token is.
    let text = |n: usize| String::from_utf8(whole.samples[0].tokens[n].text.clone()).ok();
    let (at, stop) = (4..20).find_map(|n| Some((n, text(n).filter(|t| !t.is_empty())?))).unwrap();
    for replay in [false, true] {
        let mut goes_on = request(&Sampling::greedy());
        (goes_on.replay, goes_on.stop) = (replay, vec![stop.clone()]);
        goes_on.samples = vec![SampleStart { index: 0, emitted: ids[..=at].to_vec() }];
        let done = worker.generate(goes_on).await.unwrap().collect().await.unwrap();
        assert_eq!((&done.samples[0].reason, done.samples[0].tokens.len()), (&FinishReason::Stop(0), 0));
    }
}
