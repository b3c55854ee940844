//! A toy engine with exact memory, and the step loop tested on it.
//!
//! The toy's logits after a token are a function of all tokens of its sequence from position 0. Any slip in the
//! loop's bookkeeping (a token fed twice, a fork from the wrong place, a rollback forgotten) changes the text, so
//! comparing texts tests the bookkeeping. It also refuses what llama.cpp would abort on.

use super::stepper::{Clock, Stepper};
use crate::llama::{Backend, Grammar, Row, Seq, StepError};
use crate::protocol::{Event, StateHeader, StateSource};
use crate::request::{FinishReason, GenerateRequest, Prompt, RequestError, Sampling, Token, Usage};
use crate::spec::LoadSpec;
use crate::worker::uniform;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::Duration;

const VOCAB: usize = 64;
/// Ends a generation.
const END: Token = 63;

struct Toy {
    memory: BTreeMap<Seq, Vec<Token>>,
    rows: HashMap<usize, Vec<f32>>,
    fail: Rc<Cell<Option<StepError>>>,
    largest_step: Rc<Cell<usize>>,
}

fn logits(tokens: &[Token]) -> Vec<f32> {
    let hash = tokens.iter().fold(17u64, |h, &t| (h ^ t as u64).wrapping_mul(0x0100_0000_01b3));
    (0..VOCAB as u32).map(|i| uniform(hash, 0, i) as f32 * 4.0).collect()
}

impl Backend for Toy {
    fn vocab_tokens(&self) -> usize {
        VOCAB
    }
    fn recurrent(&self) -> bool {
        false
    }
    fn step(&mut self, rows: &[Row]) -> Result<(), StepError> {
        self.largest_step.set(self.largest_step.get().max(rows.len()));
        self.rows.clear();
        let failure = self.fail.take();
        // A failing step leaves half of its rows behind, as llama.cpp may.
        let done = if failure.is_some() { rows.len() / 2 } else { rows.len() };
        for (i, row) in rows[..done].iter().enumerate() {
            let tokens = self.memory.entry(row.seq).or_default();
            assert_eq!(tokens.len(), row.position as usize, "sequence {} continues where it ends", row.seq);
            tokens.push(row.token);
            if row.logits {
                self.rows.insert(i, logits(tokens));
            }
        }
        failure.map_or(Ok(()), Err)
    }
    fn logits(&self, row: usize) -> Option<&[f32]> {
        self.rows.get(&row).map(Vec::as_slice)
    }
    fn fork(&mut self, from: Seq, to: Seq) {
        assert!(self.memory.get(&to).is_none_or(Vec::is_empty), "fork into an empty sequence");
        let tokens = self.memory.get(&from).cloned().unwrap_or_default();
        self.memory.insert(to, tokens);
    }
    fn truncate(&mut self, seq: Seq, keep: u32) -> bool {
        if let Some(tokens) = self.memory.get_mut(&seq) {
            tokens.truncate(keep as usize);
        }
        true
    }
    fn export(&mut self, seq: Seq) -> Option<Vec<u8>> {
        Some(self.memory.get(&seq)?.iter().flat_map(|t| t.to_le_bytes()).collect())
    }
    fn import(&mut self, seq: Seq, state: &[u8]) -> bool {
        let tokens = state.chunks(4).map(|b| Token::from_le_bytes(b.try_into().unwrap())).collect();
        self.memory.insert(seq, tokens);
        true
    }
    fn tokenize(&self, text: &str, _: bool, _: bool) -> Result<Vec<Token>, String> {
        Ok(text.bytes().map(|b| Token::from(b % 60)).collect())
    }
    fn piece(&self, token: Token, out: &mut Vec<u8>) {
        out.push(b'0' + token as u8);
    }
    fn is_end(&self, token: Token) -> bool {
        token == END
    }
    fn grammar(&self, _: &str) -> Option<Box<dyn Grammar>> {
        None
    }
    fn rest(&mut self) {}
}

#[derive(Clone, Default)]
struct Manual(Rc<Cell<u64>>);
impl Clock for Manual {
    fn now(&self) -> Duration {
        // Every look takes a microsecond, so that no span is empty.
        self.0.set(self.0.get() + 1);
        Duration::from_micros(self.0.get())
    }
    fn cpu_s(&self) -> f64 {
        0.0
    }
}

struct Bench {
    stepper: Stepper<Toy, Manual>,
    clock: Manual,
    fail: Rc<Cell<Option<StepError>>>,
    largest_step: Rc<Cell<usize>>,
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Outcome {
    tokens: BTreeMap<u32, Vec<Token>>,
    text: BTreeMap<u32, String>,
    reasons: BTreeMap<u32, FinishReason>,
    usage: Option<Usage>,
}

fn spec() -> LoadSpec {
    LoadSpec {
        context_tokens: 400,
        sequences: 10,
        batch_tokens: 32,
        ubatch_tokens: 24,
        prefill_chunk_tokens: 4,
        prefix_cache_tokens: 100,
        queue_requests: 8,
        ..LoadSpec::new("toy", "CPU")
    }
}

impl Bench {
    fn new(spec: LoadSpec) -> Self {
        let (clock, fail, largest_step) = (Manual::default(), Rc::default(), Rc::default());
        let toy = Toy {
            memory: BTreeMap::new(),
            rows: HashMap::new(),
            fail: Rc::clone(&fail),
            largest_step: Rc::clone(&largest_step),
        };
        Self { stepper: Stepper::new(toy, spec, clock.clone()), clock, fail, largest_step }
    }

    fn events(&mut self) -> Vec<Event> {
        self.stepper.drain()
    }

    /// Step until nothing is left and sort the events by request.
    fn finish(&mut self) -> BTreeMap<u64, Outcome> {
        let mut events = self.events();
        for _ in 0..10_000 {
            if !self.stepper.has_work() {
                break;
            }
            self.stepper.step();
            events.extend(self.events());
        }
        assert!(!self.stepper.has_work(), "the loop comes to an end");
        sort(events)
    }

    fn run(&mut self, request: GenerateRequest) -> Outcome {
        self.stepper.generate(1, request);
        self.finish().remove(&1).unwrap()
    }

    /// Everything given back except what the prefix cache holds.
    fn assert_idle(&self) {
        let held = self.stepper.cache.len();
        assert_eq!(self.stepper.free.len() + held, self.stepper.spec.sequences as usize, "sequences leaked");
    }
}

fn sort(events: Vec<Event>) -> BTreeMap<u64, Outcome> {
    let mut outcomes: BTreeMap<u64, Outcome> = BTreeMap::new();
    for event in events {
        match event {
            Event::Tokens(tokens) => {
                for t in tokens {
                    let outcome = outcomes.entry(t.request).or_default();
                    assert!(outcome.usage.is_none(), "a token after the end");
                    outcome.tokens.entry(t.sample).or_default().push(t.token.id);
                    outcome
                        .text
                        .entry(t.sample)
                        .or_default()
                        .push_str(std::str::from_utf8(&t.token.text).unwrap());
                }
            }
            Event::SampleDone { id, sample, reason, tail } => {
                let outcome = outcomes.entry(id).or_default();
                outcome.text.entry(sample).or_default().push_str(std::str::from_utf8(&tail).unwrap());
                assert_eq!(outcome.reasons.insert(sample, reason), None, "a sample ends once");
            }
            Event::Done { id, usage } => {
                let outcome = outcomes.entry(id).or_default();
                assert!(outcome.usage.replace(usage).is_none(), "a request ends once");
            }
            _ => {}
        }
    }
    outcomes
}

fn request(prompt: &str, k: u32, tokens_max: u32) -> GenerateRequest {
    let sampling = Sampling { temperature: 1.0, seed: 5, ..Sampling::default() };
    GenerateRequest {
        ignore_end: true,
        ..GenerateRequest::new(Prompt::text(prompt), k, tokens_max, sampling)
    }
}

/// What sample `s` must be, by definition: no batches, no memory.
fn expected(prompt: &str, request: &GenerateRequest, s: u32) -> Vec<Token> {
    let mut tokens: Vec<Token> = prompt.bytes().map(|b| Token::from(b % 60)).collect();
    let from = tokens.len();
    for t in 0..request.tokens_max {
        let mut sampler = super::sample::Sampler::default();
        let drawn = sampler.draw(&logits(&tokens), &request.sampling, &[], None, s, t).unwrap();
        tokens.push(drawn);
    }
    tokens.split_off(from)
}

#[test]
fn samples_are_what_they_are_by_definition_whatever_shares_the_batch() {
    let long = "the quick brown fox jumps over the lazy dog and then some more text";
    let mut bench = Bench::new(spec());
    let prompts = [(long, 5, 9), ("short", 2, 20), (long, 3, 7), ("x", 1, 30)];
    for (i, (prompt, k, n)) in prompts.iter().enumerate() {
        bench.stepper.generate(i as u64, request(prompt, *k, *n));
        bench.stepper.step();
    }
    let mut got = bench.finish();
    // The first tokens came before `finish` looked: run again, all at once, for the full texts.
    for (i, (prompt, k, n)) in prompts.iter().enumerate() {
        bench.stepper.generate(10 + i as u64, request(prompt, *k, *n));
    }
    got.append(&mut bench.finish());
    for (i, (prompt, k, n)) in prompts.iter().enumerate() {
        let outcome = &got[&(10 + i as u64)];
        for s in 0..*k {
            assert_eq!(
                outcome.tokens[&s],
                expected(prompt, &request(prompt, *k, *n), s),
                "request {i} sample {s}"
            );
            assert_eq!(outcome.reasons[&s], FinishReason::Length);
        }
    }
    assert!(bench.largest_step.get() <= 32);
    bench.assert_idle();
}

#[test]
fn the_prompt_is_computed_once_for_all_samples_and_found_again() {
    let mut bench = Bench::new(spec());
    let prompt = "twenty six letters or more";
    bench.run(request(prompt, 8, 4));
    assert_eq!(bench.stepper.counts().prefilled, prompt.len() as u64);
    let again = bench.run(request(prompt, 8, 4)).usage.unwrap();
    assert_eq!(again.reused_tokens as usize, prompt.len(), "the same prompt needs no step");
    assert_eq!(bench.stepper.counts().prefilled, prompt.len() as u64);
    let longer = format!("{prompt}, and on");
    let usage = bench.run(request(&longer, 1, 4)).usage.unwrap();
    assert_eq!(usage.reused_tokens as usize, prompt.len());
    let other = format!("{}!", &prompt[..10]);
    let outcome = bench.run(request(&other, 2, 6));
    assert_eq!(outcome.usage.as_ref().unwrap().reused_tokens, 10, "cut back to the common part");
    assert_eq!(outcome.tokens[&1], expected(&other, &request(&other, 2, 6), 1));
    bench.assert_idle();
}

#[test]
fn as_many_samples_as_sequences() {
    let mut bench = Bench::new(spec());
    let outcome = bench.run(request("all of them", 10, 5));
    for s in 0..10 {
        assert_eq!(outcome.tokens[&s], expected("all of them", &request("", 10, 5), s));
    }
    bench.assert_idle();
    assert_eq!(bench.stepper.cache.len(), 0, "the last sample took the trunk over");
}

#[test]
fn a_moved_sample_goes_on_as_if_nothing_had_happened() {
    let whole = request("move me", 3, 12);
    let want: Vec<_> = (0..3).map(|s| expected("move me", &whole, s)).collect();
    // One alone, and several with different progress: their emitted tokens are fed after the fork.
    for progress in [vec![(1u32, 5usize)], vec![(0, 0), (1, 1), (2, 11)]] {
        let mut moved = whole.clone();
        moved.samples.retain(|s| progress.iter().any(|p| p.0 == s.index));
        for (sample, (s, n)) in moved.samples.iter_mut().zip(&progress) {
            sample.emitted = want[*s as usize][..*n].to_vec();
        }
        let outcome = Bench::new(spec()).run(moved);
        for (s, n) in &progress {
            assert_eq!(outcome.tokens[s], want[*s as usize][*n..], "sample {s} after {n}");
        }
    }
}

#[test]
fn what_a_moved_sample_computes_again_is_told_of() {
    let whole = request("move me", 1, 12);
    let mut moved = whole.clone();
    moved.replay = true;
    moved.samples[0].emitted = expected("move me", &whole, 0)[..8].to_vec();
    let mut bench = Bench::new(spec());
    bench.run(moved);
    // The last token's row gives a new one: that is decoding.
    assert_eq!(bench.stepper.counts().prefilled, "move me".len() as u64 + 7);
}

#[test]
fn a_state_moves_and_a_damaged_one_is_refused() {
    let mut from = Bench::new(spec());
    from.stepper.generate(1, request("state", 1, 12));
    for _ in 0..5 {
        from.stepper.step();
    }
    from.events();
    from.stepper.export(9, &StateSource::Sample { request: 1, sample: 0 }, true);
    let mut header: Option<StateHeader> = None;
    let mut state = Vec::new();
    let mut reason = None;
    for event in from.events() {
        match event {
            Event::State { id: 9, header: h } => header = Some(h),
            Event::StateChunk { id: 9, bytes } => state.extend(bytes),
            Event::SampleDone { reason: r, .. } => reason = Some(r),
            _ => {}
        }
    }
    let header = header.unwrap();
    assert_eq!(reason, Some(FinishReason::Moved));
    assert_eq!(header.tokens.len(), "state".len() + header.emitted.len() - 1);
    from.assert_idle();

    let import = |header: StateHeader, state: &[u8]| {
        let mut to = Bench::new(spec());
        to.stepper.import(3, header);
        for chunk in state.chunks(7) {
            to.stepper.import_chunk(3, chunk);
        }
        let imported = to.events().into_iter().find_map(|e| match e {
            Event::Imported { error, .. } => Some(error),
            _ => None,
        });
        (to, imported.unwrap())
    };
    let (mut to, error) = import(header.clone(), &state);
    assert_eq!(error, None);
    let mut rest = request("state", 1, 12);
    rest.samples[0].emitted = header.emitted.clone();
    let outcome = to.run(rest);
    assert_eq!(outcome.usage.as_ref().unwrap().reused_tokens as usize, header.tokens.len());
    let want = expected("state", &request("", 1, 12), 0);
    assert_eq!(outcome.tokens[&0], want[header.emitted.len()..]);

    let mut damaged = state.clone();
    damaged[3] ^= 4;
    assert!(import(header.clone(), &damaged).1.unwrap().contains("damaged"));
    let longer = [state.clone(), vec![0]].concat();
    assert!(import(header.clone(), &longer).1.unwrap().contains("announced"));
    let other = StateHeader { flash_attention: true, ..header.clone() };
    assert!(import(other, &state).1.unwrap().contains("flash attention"));
    let large = StateHeader { tokens: vec![0; 101], ..header };
    assert!(import(large, &state).1.unwrap().contains("prefix cache"));
}

#[test]
fn a_stopped_step_is_taken_back() {
    for error in [StepError::Aborted, StepError::Full] {
        let mut bench = Bench::new(spec());
        // Something in the cache, for `Full` to evict.
        bench.run(request("cached", 1, 1));
        bench.stepper.generate(2, request("a prompt of some length", 3, 8));
        let mut events = bench.events();
        for i in 0..60 {
            if i % 3 == 1 {
                bench.fail.set(Some(error).filter(|e| *e == StepError::Aborted || i == 1));
            }
            bench.stepper.step();
            events.extend(bench.events());
        }
        let outcome = &sort(events)[&2];
        for s in 0..3 {
            let want = expected("a prompt of some length", &request("", 3, 8), s);
            assert_eq!(outcome.tokens[&s], want, "{error:?}");
        }
        bench.assert_idle();
    }
    let mut bench = Bench::new(spec());
    bench.fail.set(Some(StepError::Failed(-3)));
    let outcome = bench.run(request("broken", 2, 8));
    assert!(matches!(&outcome.reasons[&1], FinishReason::Failed(why) if why.contains("-3")));
    bench.assert_idle();
}

#[test]
fn requests_wait_for_room_and_all_of_them_end() {
    let mut bench = Bench::new(LoadSpec { context_tokens: 120, ..spec() });
    for id in 0..8 {
        bench.stepper.generate(id, request("each of them needs fifty cells", 2, 11));
    }
    bench.stepper.generate(8, request("one too many", 1, 1));
    let events = bench.events();
    let full = |e: &Event| matches!(e, Event::Rejected { id: 8, error: RequestError::QueueFull(8) });
    assert!(events.iter().any(full), "{events:?}");
    bench.stepper.step();
    let (waiting, active, _) = bench.stepper.load();
    assert_eq!((waiting, active), (6, 2), "two fit into 120 cells");
    let outcomes = bench.finish();
    assert_eq!(outcomes.values().filter(|o| o.usage.is_some()).count(), 8);
    bench.assert_idle();
}

#[test]
fn refused_at_the_door() {
    let mut bench = Bench::new(spec());
    let cases: &[(GenerateRequest, &str)] = &[
        (request("", 1, 1), "prompt bytes is 0"),
        (request("x", 0, 1), "samples is 0"),
        (request("x", 11, 1), "11 sequences"),
        (request("x", 1, 1000), "1000 tokens of context"),
        (GenerateRequest { grammar: Some("root".into()), ..request("x", 1, 1) }, "GBNF"),
        (GenerateRequest { prompt: Prompt::Tokens(vec![1, 64]), ..request("x", 1, 1) }, "token 64"),
        (GenerateRequest { stop: vec![String::new()], ..request("x", 1, 1) }, "stop string"),
    ];
    for (request, why) in cases {
        bench.stepper.generate(1, request.clone());
        match bench.events().as_slice() {
            [Event::Rejected { error, .. }] => assert!(error.to_string().contains(why), "{error} / {why}"),
            other => panic!("{why}: {other:?}"),
        }
    }
}

#[test]
fn cancel_deadline_stop_and_end() {
    let mut bench = Bench::new(spec());
    bench.stepper.generate(1, request("cancel one of us", 2, 50));
    bench.stepper.step();
    bench.stepper.cancel(1, Some(0));
    for _ in 0..4 {
        bench.stepper.step();
    }
    bench.stepper.cancel(1, None);
    let outcome = &sort(bench.events())[&1];
    assert_eq!(outcome.reasons[&0], FinishReason::Cancelled);
    assert!(outcome.tokens[&1].len() > outcome.tokens[&0].len());
    assert!(outcome.usage.is_some());
    bench.assert_idle();

    let late = GenerateRequest { deadline_ms: Some(20), ..request("late", 1, 300) };
    bench.stepper.generate(2, late);
    bench.stepper.step();
    bench.clock.0.set(bench.clock.0.get() + 20_000);
    assert_eq!(bench.finish()[&2].reasons[&0], FinishReason::Deadline);

    let free = bench.run(request("stop here", 1, 20));
    let stop = free.text[&0][7..9].to_owned();
    let at = free.text[&0].find(&stop).unwrap();
    let stopped = bench.run(GenerateRequest { stop: vec!["~".into(), stop], ..request("stop here", 1, 20) });
    assert_eq!(stopped.reasons[&0], FinishReason::Stop(1));
    assert_eq!(stopped.text[&0], free.text[&0][..at]);

    let sampling = Sampling { logit_bias: vec![(END, 100.0)], ..Sampling::greedy() };
    let ended = bench.run(GenerateRequest { ignore_end: false, sampling, ..request("end", 1, 20) });
    assert_eq!((&ended.reasons[&0], ended.tokens.get(&0)), (&FinishReason::EndOfText, None));

    let prefilled = bench.run(request("only prefill", 1, 0));
    assert_eq!(prefilled.reasons[&0], FinishReason::Length);
    bench.stepper.export(5, &StateSource::Prefix(vec![Token::from(b'o' % 60)]), false);
    assert!(matches!(bench.events()[0], Event::State { id: 5, .. }));
    bench.assert_idle();
}

#[test]
fn a_score_is_the_distribution_after_the_prompt() {
    let mut bench = Bench::new(spec());
    bench.stepper.score(4, &Prompt::text("how likely"));
    bench.stepper.generate(5, request("and a neighbour", 2, 3));
    let mut events = Vec::new();
    while bench.stepper.has_work() {
        bench.stepper.step();
        events.extend(bench.events());
    }
    let scored = events.into_iter().find_map(|e| match e {
        Event::Scored { id: 4, logprobs } => Some(logprobs.unwrap()),
        _ => None,
    });
    let tokens: Vec<Token> = "how likely".bytes().map(|b| Token::from(b % 60)).collect();
    assert_eq!(scored.unwrap(), super::log_softmax(&logits(&tokens)));
    bench.assert_idle();
}
