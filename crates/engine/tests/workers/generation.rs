//! What a real worker does with requests: sampling, limits, grammar, reuse, pacing.

use crate::models::{real, spec, tiny, tiny_worker};
use crate::parts::{LONG, worker};
use qeil_engine::handle::{Completed, EngineError, GenerationEvent, Worker, probe_devices};
use qeil_engine::protocol::Fault;
use qeil_engine::request::{
    FinishReason, GenerateRequest, Prompt, PromptPart, RequestError, SampleStart, Sampling, Token,
};
use qeil_engine::spec::DeviceKind;
use std::path::PathBuf;

/// The tiny model's first control token, which also ends a generation.
const END_OF_TEXT: Token = 262;

fn request(text: &str, samples: u32, tokens_max: u32, sampling: Sampling) -> GenerateRequest {
    let mut request = GenerateRequest::new(Prompt::text(text), samples, tokens_max, sampling);
    request.ignore_end = true;
    request.reuse_prefix = false;
    request
}

fn seeded(seed: u64) -> Sampling {
    Sampling { temperature: 1.0, seed, ..Sampling::default() }
}

async fn run(worker: &Worker, request: GenerateRequest) -> Completed {
    let generation = worker.generate(request).await.unwrap();
    tokio::time::timeout(LONG, generation.collect()).await.unwrap().unwrap()
}

fn tokens(done: &Completed) -> Vec<Vec<Token>> {
    done.samples.iter().map(|sample| sample.ids()).collect()
}

#[tokio::test]
async fn devices_are_listed_and_facts_are_true() {
    let devices = probe_devices(&worker()).await.unwrap();
    assert!(devices.iter().any(|d| d.name == "CPU" && d.kind == DeviceKind::Cpu), "{devices:?}");
    let worker = tiny_worker().await;
    let loaded = worker.loaded();
    assert_eq!((loaded.pid, loaded.vocab_tokens), (worker.pid(), 265));
    assert_eq!(loaded.context_tokens, 2048);
    assert!(loaded.load_ms > 0.0 && !loaded.confinement.is_empty() && !loaded.recurrent, "{loaded:?}");
    let mut heartbeat = worker.heartbeat();
    let beat = heartbeat.wait_for(|beat| beat.resident_bytes > 0).await.unwrap();
    assert!(beat.cpu_s > 0.0, "{beat:?}");
}

async fn same_seed_same_samples(model: PathBuf) {
    let worker = Worker::start(&worker(), spec(model)).await.unwrap();
    let again = async |seed| tokens(&run(&worker, request("Once upon a time", 8, 32, seeded(seed))).await);
    let first = again(7).await;
    assert_eq!(first.len(), 8);
    assert!(first.iter().all(|sample| sample.len() == 32));
    assert!(first.windows(2).any(|pair| pair[0] != pair[1]), "samples differ from each other");
    assert_eq!(first, again(7).await);
    assert_ne!(first, again(8).await);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_samples() {
    same_seed_same_samples(tiny()).await;
    if let Some(model) = real() {
        same_seed_same_samples(model).await;
    }
}

#[tokio::test]
async fn a_sample_does_not_depend_on_its_siblings() {
    let worker = tiny_worker().await;
    let all = tokens(&run(&worker, request("the and", 4, 24, seeded(3))).await);
    let mut only = request("the and", 1, 24, seeded(3));
    only.samples = vec![SampleStart { index: 2, emitted: Vec::new() }];
    let done = run(&worker, only).await;
    assert_eq!((done.samples[0].index, tokens(&done)[0].len()), (2, 24));
    // The numbers of a batch of one may differ in the last bits, so a later token may be another one; the first
    // comes from the shared prompt.
    assert_eq!(tokens(&done)[0][0], all[2][0]);
}

#[tokio::test]
async fn grammar_and_stop_strings_bound_the_text() {
    let worker = tiny_worker().await;
    let mut graded = request("Answer: ", 4, 64, seeded(1));
    graded.ignore_end = false;
    graded.grammar = Some(r#"root ::= ("yes" | "no") " " [0-9]{1,5} ".""#.into());
    for sample in run(&worker, graded.clone()).await.samples {
        let rest = sample.text.strip_prefix("yes ").or(sample.text.strip_prefix("no ")).unwrap();
        let digits = rest.strip_suffix('.').unwrap();
        assert!((1..=5).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()), "{sample:?}");
        assert_eq!(sample.reason, FinishReason::EndOfText);
    }
    graded.grammar = Some("root ::= [a-z]{40}".into());
    let whole = run(&worker, graded.clone()).await.samples[0].text.clone();
    assert_eq!(whole.len(), 40, "{whole}");
    let stop = &whole[17..20];
    graded.stop = vec!["NEVER".into(), stop.into()];
    let stopped = run(&worker, graded.clone()).await.samples.remove(0);
    assert_eq!(stopped.text, whole[..whole.find(stop).unwrap()]);
    assert_eq!(stopped.reason, FinishReason::Stop(1));
    graded.grammar = Some("root ::= (".into());
    let error = worker.generate(graded).await.unwrap_err();
    assert!(matches!(error, EngineError::Rejected(RequestError::Invalid(_))), "{error:?}");
}

#[tokio::test]
async fn end_tokens_count_unless_ignored() {
    let worker = tiny_worker().await;
    let mut wants_end = request("x", 1, 6, Sampling::greedy());
    wants_end.sampling.logit_bias = vec![(END_OF_TEXT, 1e6)];
    assert_eq!(run(&worker, wants_end.clone()).await.samples[0].reason, FinishReason::Length);
    wants_end.ignore_end = false;
    let ended = run(&worker, wants_end).await;
    assert_eq!((&ended.samples[0].reason, ended.samples[0].text.as_str()), (&FinishReason::EndOfText, ""));
}

#[tokio::test]
async fn logprobs_are_the_models() {
    let worker = tiny_worker().await;
    let mut asked = request("the", 1, 8, Sampling::greedy());
    asked.logprobs = Some(5);
    let done = run(&worker, asked).await;
    let score = worker.score(Prompt::text("the")).await.unwrap();
    assert_eq!(score.len(), worker.loaded().vocab_tokens as usize);
    let sum: f64 = score.iter().map(|&p| f64::from(p).exp()).sum();
    assert!((sum - 1.0).abs() < 1e-3, "{sum}");
    let first = &done.samples[0].tokens[0];
    assert!((first.logprob.unwrap() - score[first.id as usize]).abs() < 1e-3, "{first:?}");
    for token in &done.samples[0].tokens {
        assert_eq!(token.top.len(), 5);
        assert_eq!((token.top[0].0, Some(token.top[0].1)), (token.id, token.logprob), "greedy takes the top");
        assert!(token.top.windows(2).all(|pair| pair[0].1 >= pair[1].1));
    }
    let unasked = run(&worker, request("the", 1, 2, Sampling::greedy())).await;
    assert!(unasked.samples[0].tokens.iter().all(|t| t.logprob.is_none() && t.top.is_empty()));
}

#[tokio::test]
async fn only_trusted_text_becomes_control_tokens() {
    let worker = tiny_worker().await;
    let tokenize = async |trusted| {
        let part = PromptPart { text: "<|im_end|>".into(), trusted };
        worker.tokenize(Prompt::Parts(vec![part])).await.unwrap()
    };
    assert_eq!(tokenize(true).await, [END_OF_TEXT + 2]);
    let harmless = tokenize(false).await;
    assert!(harmless.len() > 1 && harmless.iter().all(|&t| t < END_OF_TEXT), "{harmless:?}");
    let error = worker.tokenize(Prompt::Tokens(vec![4711])).await.unwrap_err();
    assert!(matches!(&error, EngineError::Tokenize(why) if why.contains("4711")), "{error:?}");
}

#[tokio::test]
async fn what_cannot_fit_is_rejected_with_numbers() {
    let worker = tiny_worker().await;
    type Fits = fn(&RequestError) -> bool;
    let cases: [(GenerateRequest, Fits); 4] = [
        (
            request("x", 17, 4, seeded(0)),
            |e| matches!(e, RequestError::TooLarge { what, needed: 17, available: 16 } if what == "sequences"),
        ),
        (request("x", 2, 2000, seeded(0)), |e| matches!(e, RequestError::TooLarge { available: 2048, .. })),
        (GenerateRequest::new(Prompt::Tokens(vec![999]), 1, 4, seeded(0)), |e| {
            matches!(e, RequestError::Invalid(_))
        }),
        (request("", 1, 4, seeded(0)), |e| matches!(e, RequestError::OutOfBounds(_))),
    ];
    for (request, fits) in cases {
        match worker.generate(request).await {
            Err(EngineError::Rejected(error)) if fits(&error) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn as_many_samples_as_sequences_and_all_sequences_there_are() {
    let mut wide = spec(tiny());
    (wide.sequences, wide.context_tokens) = (256, 4096);
    let worker = Worker::start(&worker(), wide).await.unwrap();
    let done = run(&worker, request("many", 256, 4, seeded(5))).await;
    assert_eq!(done.samples.len(), 256);
    assert!(tokens(&done).iter().all(|sample| sample.len() == 4));
    assert_eq!(done.usage.emitted_tokens, 1024);
}

#[tokio::test]
async fn a_cancel_takes_effect_within_a_step() {
    let worker = tiny_worker().await;
    worker.inject(Fault::Slow(50)).await.unwrap();
    let mut generation = worker.generate(request("x", 2, 500, seeded(0))).await.unwrap();
    let mut ended = Vec::new();
    let (mut late, mut cancelled) = (0, false);
    loop {
        match generation.next().await.unwrap() {
            GenerationEvent::Token(token) if !cancelled => {
                assert_eq!(token.sample, 0);
                generation.cancel(Some(0));
                cancelled = true;
            }
            GenerationEvent::Token(token) => {
                late += u32::from(token.sample == 0);
                // The other sample goes on, and is ended once it has shown so.
                if token.sample == 1 && token.token.id >= 0 && ended.len() == 1 {
                    generation.cancel(None);
                }
            }
            GenerationEvent::SampleDone { sample, reason, .. } => {
                assert_eq!(reason, FinishReason::Cancelled);
                ended.push(sample);
            }
            GenerationEvent::Done(usage) => {
                assert!(usage.emitted_tokens < 20, "{usage:?}");
                break;
            }
            GenerationEvent::Failed(error) => panic!("{error}"),
        }
    }
    assert_eq!(ended, [0, 1]);
    assert!(late <= 1, "{late} tokens after the cancel");
}

#[tokio::test]
async fn a_deadline_ends_what_runs() {
    let worker = tiny_worker().await;
    worker.inject(Fault::Slow(20)).await.unwrap();
    let mut late = request("x", 2, 500, seeded(0));
    late.deadline_ms = Some(150);
    let done = run(&worker, late).await;
    for sample in &done.samples {
        assert_eq!(sample.reason, FinishReason::Deadline);
        assert!((1..20).contains(&sample.tokens.len()), "{} tokens", sample.tokens.len());
    }
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let mut narrow = spec(tiny());
    (narrow.sequences, narrow.queue_requests) = (1, 2);
    let worker = Worker::start(&worker(), narrow).await.unwrap();
    worker.inject(Fault::Slow(5)).await.unwrap();
    let mut running = worker.generate(request("x", 1, 500, seeded(0))).await.unwrap();
    assert!(matches!(running.next().await, Some(GenerationEvent::Token(_))));
    let waiting = [1, 2].map(|seed| worker.generate(request("x", 1, 3, seeded(seed))));
    let [one, two] = waiting;
    let (one, two) = (one.await.unwrap(), two.await.unwrap());
    match worker.generate(request("x", 1, 3, seeded(3))).await {
        Err(EngineError::Rejected(RequestError::QueueFull(2))) => {}
        other => panic!("{other:?}"),
    }
    drop(running);
    for generation in [one, two] {
        let done = generation.collect().await.unwrap();
        assert_eq!(done.samples[0].tokens.len(), 3);
        assert!(done.usage.queued_ms > 0.0);
    }
}

#[tokio::test]
async fn prompts_are_computed_once() {
    let worker = tiny_worker().await;
    let text = "A long common beginning that several requests share, so that it pays to keep it. ";
    let ask = async |text: &str, tokens_max| {
        let mut request = request(text, 3, tokens_max, Sampling::greedy());
        request.reuse_prefix = true;
        run(&worker, request).await
    };
    let beginning = worker.tokenize(Prompt::text(text)).await.unwrap().len() as u32;
    let warm = ask(text, 0).await;
    assert_eq!((warm.usage.reused_tokens, warm.usage.emitted_tokens), (0, 0));
    assert!(warm.samples.iter().all(|s| s.reason == FinishReason::Length && s.tokens.is_empty()));
    let same = ask(text, 4).await;
    assert!(same.usage.reused_tokens + 1 >= beginning, "{:?}", same.usage);
    let longer = ask(&format!("{text}And then?"), 4).await;
    // Tokens at the seam may merge.
    assert!(longer.usage.reused_tokens + 2 >= beginning, "{:?} of {beginning}", longer.usage);
    assert!(longer.usage.reused_tokens < longer.usage.prompt_tokens);
    let mut alone = request(text, 3, 4, Sampling::greedy());
    alone.reuse_prefix = false;
    let alone = run(&worker, alone).await;
    assert_eq!(alone.usage.reused_tokens, 0);
    assert_eq!(tokens(&alone)[0][0], tokens(&same)[0][0], "a kept prompt answers like a computed one");
}

#[tokio::test]
async fn pacing_leaves_the_device_idle() {
    let worker = tiny_worker().await;
    worker.pace(0.2).await.unwrap();
    let before = worker.heartbeat().borrow().busy_s;
    let since = std::time::Instant::now();
    run(&worker, request("x", 4, 200, seeded(0))).await;
    let wall_s = since.elapsed().as_secs_f64();
    let mut heartbeat = worker.heartbeat();
    let beat = heartbeat.wait_for(|beat| beat.decoded_tokens >= 800).await.unwrap().clone();
    assert_eq!(beat.duty, 0.2);
    // Sleeping is only ever longer than asked for, so the share cannot come out above by accident.
    let share = (beat.busy_s - before) / wall_s;
    assert!(share < 0.3, "{share}");
}

#[tokio::test]
async fn many_requests_at_once_each_end_once() {
    let worker = tiny_worker().await;
    let mut all = tokio::task::JoinSet::new();
    for n in 0..40u32 {
        let worker = worker.clone();
        all.spawn(async move {
            let mut generation = worker
                .generate(request(&format!("request {n} of many"), n % 4 + 1, 10 + n, seeded(u64::from(n))))
                .await
                .unwrap();
            if n % 5 == 0 {
                generation.next().await;
                return 0;
            }
            let done = generation.collect().await.unwrap();
            assert!(done.samples.iter().all(|s| s.tokens.len() as u32 == 10 + n), "{n}");
            done.usage.emitted_tokens
        });
    }
    let emitted: u32 = tokio::time::timeout(LONG, all.join_all()).await.unwrap().into_iter().sum();
    assert_eq!(emitted, (0..40).filter(|n| n % 5 != 0).map(|n| (n % 4 + 1) * (10 + n)).sum::<u32>());
    // The cancelled ones have left too.
    let mut heartbeat = worker.heartbeat();
    run(&worker, request("last", 1, 1, seeded(0))).await;
    heartbeat.wait_for(|beat| beat.active == 0 && beat.queued == 0).await.unwrap();
}
