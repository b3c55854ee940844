//! What comes back: whole and in pieces, its order, its ends, the joules and the decisions.

use crate::client::{chat, get, hello_with, router};
use crate::toy::{STEP_S, Toy, WORD_J};
use serde_json::{Value, json};

#[tokio::test]
async fn a_whole_answer_has_text_usage_joules_and_decisions() {
    let toy = Toy::new(|_| {});
    let (router, _stages) = router(&toy, None);
    let answer = chat(&router, &hello_with(json!({"n": 4}))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "toy");
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    let choices = body["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 4);
    for (i, choice) in choices.iter().enumerate() {
        assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(i), &json!("length")));
        assert_eq!(choice["message"]["role"], "assistant");
        assert_eq!(choice["message"]["content"].as_str().unwrap().split_whitespace().count(), 8);
    }
    assert_ne!(choices[0]["message"], choices[1]["message"], "samples differ");
    assert_eq!(body["usage"], json!({"prompt_tokens": 7, "completion_tokens": 32, "total_tokens": 39}));

    let extension = &body["qeil"];
    assert_eq!(extension["outcome"], "completed");
    assert_eq!(extension["seed"], 7);
    assert_eq!(extension["energy"]["joules"], 32.0 * WORD_J);
    assert_eq!(extension["energy"]["provenance"], "simulated");
    let devices = extension["devices"].as_array().unwrap();
    assert!(!devices.is_empty() && devices.iter().all(|name| name.as_str().unwrap().starts_with("toy ")));
    assert_eq!(extension["samples"].as_array().unwrap().len(), 4);
    assert_eq!(extension["samples"][3]["end"], "length");
    let decisions = extension["decisions"].as_array().unwrap();
    assert!(
        decisions.iter().any(|row| row["kind"] == "placed" && row["journal"].as_u64() > Some(0)),
        "{decisions:?}"
    );
    assert!(decisions.iter().all(|row| !row["why"].as_str().unwrap().is_empty()));
    assert!(extension["first_token_s"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn a_stream_tells_the_same_as_the_whole() {
    let toy = Toy::new(|_| {});
    let (router, _stages) = router(&toy, None);
    for (n, usage) in [(1, false), (1, true), (4, false), (4, true)] {
        let whole = chat(&router, &hello_with(json!({"n": n}))).await.json();
        let options = json!({"n": n, "stream": true, "stream_options": {"include_usage": usage}});
        let pieces = chat(&router, &hello_with(options)).await.pieces();
        let mut texts = vec![String::new(); n];
        let mut stages = vec![0; n];
        let (last, earlier) = pieces.split_last().unwrap();
        for piece in &pieces {
            assert_eq!(piece["object"], "chat.completion.chunk");
            assert_eq!((&piece["id"], &piece["created"]), (&pieces[0]["id"], &pieces[0]["created"]));
            let Some(choice) = piece["choices"].get(0) else {
                assert!(usage && piece == last);
                continue;
            };
            let i = choice["index"].as_u64().unwrap() as usize;
            let delta = &choice["delta"];
            match stages[i] {
                0 => assert_eq!(delta, &json!({"role": "assistant", "content": ""})),
                1 => assert!(delta.get("role").is_none()),
                _ => panic!("a piece of sample {i} after its end"),
            }
            texts[i] += delta["content"].as_str().unwrap_or_default();
            stages[i] = if choice["finish_reason"].is_null() { 1 } else { 2 };
        }
        assert_eq!(stages, vec![2; n], "each sample ends once");
        for (i, text) in texts.iter().enumerate() {
            assert_eq!(whole["choices"][i]["message"]["content"], json!(text), "sample {i}");
        }
        assert!(earlier.iter().all(|piece| piece.get("qeil").is_none()));
        assert_eq!(last["qeil"]["energy"], whole["qeil"]["energy"]);
        assert_eq!(last["qeil"]["outcome"], "completed");
        assert_eq!(last.get("usage"), usage.then_some(&whole["usage"]));
    }
}

#[tokio::test]
async fn seeds_repeat_and_their_absence_does_not() {
    let toy = Toy::new(|_| {});
    let (router, _stages) = router(&toy, None);
    let text = async |seed: Value| {
        let answer = chat(&router, &hello_with(json!({"seed": seed, "max_tokens": 40}))).await.json();
        answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    };
    assert_eq!(text(json!(5)).await, text(json!(5)).await);
    assert_eq!(text(json!(-5)).await, text(json!(-5)).await);
    assert_eq!(text(json!(u64::MAX)).await, text(json!(-1)).await);
    assert_ne!(text(json!(5)).await, text(json!(6)).await);
    assert_ne!(text(Value::Null).await, text(Value::Null).await);
}

#[tokio::test]
async fn every_field_reaches_the_backend() {
    let toy = Toy::new(|_| {});
    let (router, _stages) = router(&toy, None);
    let body = json!({
        "model": "toy",
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]},
        ],
        "n": 3, "seed": 9, "temperature": 0.5, "top_p": 0.75, "top_k": 10, "min_p": 0.25, "max_completion_tokens": 5,
        "stop": "zzz", "logit_bias": {"12": -100, "7": 1.5}, "user": "me", "logprobs": false, "top_logprobs": 0,
        "frequency_penalty": 0, "presence_penalty": 0.0, "response_format": {"type": "text"}, "stream": false,
        "qeil": {
            "deadline_s": 30, "energy_budget_j": 400.5, "priority": "batch",
            "until_pass": {"type": "regex", "pattern": "never"},
        },
    });
    let answer = chat(&router, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let ask = toy.seen.lock().unwrap().asks[0].clone();
    assert_eq!((ask.samples, ask.tokens_max, ask.stop), (3, 5, vec!["zzz".to_owned()]));
    assert_eq!(ask.sampling.logit_bias, [(12, -100.0), (7, 1.5)]);
    let sampling = &ask.sampling;
    assert_eq!((sampling.temperature, sampling.top_p, sampling.top_k), (0.5, 0.75, 10));
    assert_eq!((sampling.min_p, sampling.seed), (0.25, 9));
    assert_eq!((ask.deadline_s, ask.energy_budget_j, ask.until_pass), (Some(30.0), Some(400.5), true));
    assert_eq!(ask.priority, qeil_control::event::Priority::Batch);
    let prompt: String = ask.prompt.iter().map(|part| part.text.as_str()).collect();
    let expected = "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\none two<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(prompt, expected);
}

#[tokio::test]
async fn a_stop_string_ends_a_sample() {
    let toy = Toy::new(|_| {});
    let (router, _stages) = router(&toy, None);
    let answer = chat(&router, &hello_with(json!({"stop": ["cold"], "max_tokens": 500}))).await.json();
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert!(!answer["choices"][0]["message"]["content"].as_str().unwrap().contains("cold"));
    assert_eq!(answer["qeil"]["samples"][0]["end"], "stop");
}

#[tokio::test]
async fn deadlines_and_budgets_deliver_what_had_come() {
    // The toy is slower and hungrier than its profile says, so the loop believes that these can be kept.
    let cases = [
        (json!({"deadline_s": STEP_S * 50.0}), "deadline"),
        (json!({"energy_budget_j": WORD_J * 50.0}), "energy_budget"),
    ];
    for (extension, outcome) in cases {
        for stream in [false, true] {
            let toy = Toy::new(|_| {});
            let (router, _stages) = router(&toy, None);
            let body = hello_with(json!({"qeil": extension, "max_tokens": 60, "stream": stream}));
            let answer = chat(&router, &body).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let (finish, extension) = if stream {
                let pieces = answer.pieces();
                let last = pieces.last().unwrap().clone();
                (last["choices"][0]["finish_reason"].clone(), last["qeil"].clone())
            } else {
                let body = answer.json();
                (body["choices"][0]["finish_reason"].clone(), body["qeil"].clone())
            };
            assert_eq!(finish, "length");
            assert_eq!(
                (&extension["outcome"], &extension["samples"][0]["end"]),
                (&json!(outcome), &json!(outcome))
            );
            let came = extension["samples"][0]["tokens"].as_u64().unwrap();
            assert!((40..=55).contains(&came), "{came} tokens: {extension}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_or_ends_with_nothing() {
    // What the request asks for, and the errors it may meet: refused beforehand, or ended before the first token.
    let cases = [
        (json!({"deadline_s": STEP_S / 100.0}), vec![(422, "hopeless"), (504, "deadline_exceeded")]),
        (
            json!({"energy_budget_j": WORD_J / 1000.0}),
            vec![(422, "hopeless"), (422, "energy_budget_exceeded")],
        ),
    ];
    for (extension, errors) in cases {
        let toy = Toy::new(|_| {});
        let (router, _stages) = router(&toy, None);
        let answer = chat(&router, &hello_with(json!({"qeil": extension, "max_tokens": 60}))).await;
        let got = (answer.status.as_u16(), answer.code());
        assert!(errors.iter().any(|error| (error.0, error.1) == (got.0, &got.1)), "{answer:?}");
    }
}

#[tokio::test]
async fn the_first_sample_that_passes_ends_the_others() {
    let toy = Toy::new(|_| {});
    let (router, _stages) = router(&toy, None);
    // Twelve samples of one word each on sixteen places: some pass, all are judged as they end.
    let body = hello_with(json!({
        "n": 200, "max_tokens": 1, "qeil": {"until_pass": {"type": "regex", "pattern": "heat|cold|flows"}},
    }));
    for stream in [false, true] {
        let mut body = body.clone();
        body["stream"] = json!(stream);
        let answer = chat(&router, &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let extension = if stream {
            answer.pieces().last().unwrap()["qeil"].clone()
        } else {
            answer.json()["qeil"].clone()
        };
        assert_eq!(extension["outcome"], "completed");
        let samples = extension["samples"].as_array().unwrap();
        let cut = samples.iter().filter(|sample| sample["end"] == "cancelled").count();
        assert!(cut > 100, "{cut} of 200 samples were not needed");
    }
}

#[tokio::test]
async fn overload_is_told_with_a_time_to_come_back() {
    let toy = Toy::new(|limits| limits.queue_requests_max = 2);
    toy.running.send_replace(false);
    let (router, _stages) = router(&toy, None);
    let body = hello_with(json!({"n": 16, "max_tokens": 100}));
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (router, body) = (router.clone(), body.clone());
        waiting.spawn(async move { chat(&router, &body).await });
    }
    // Time stands still in the toy, so only the refused ones come back.
    let refused = waiting.join_next().await.unwrap().unwrap();
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.retry_after >= Some(1));
    assert_eq!(
        (refused.code().as_str(), &refused.json()["error"]["type"]),
        ("overloaded", &json!("rate_limit_error"))
    );
    toy.running.send_replace(true);
    let mut statuses = vec![];
    while let Some(answer) = waiting.join_next().await {
        statuses.push(answer.unwrap().status.as_u16());
    }
    assert!(
        statuses.contains(&200) && statuses.iter().all(|status| [200, 429].contains(status)),
        "{statuses:?}"
    );
}

#[tokio::test]
async fn without_a_device_nothing_is_served_and_ready_says_so() {
    let toy = Toy::new(|_| {});
    let (router, _stages) = router(&toy, None);
    let ready = get(&router, "/health/ready").await;
    assert_eq!((ready.status.as_u16(), &ready.json()["status"]), (200, &json!("ready")));
    toy.kill(0).await;
    assert_eq!(get(&router, "/health/ready").await.status, 200);
    toy.kill(1).await;
    let ready = get(&router, "/health/ready").await;
    assert_eq!((ready.status.as_u16(), &ready.json()["status"]), (503, &json!("no_device")));
    assert_eq!(ready.json()["devices"].as_array().unwrap().len(), 2);
    // It may wait for a device that is on its way, but not for one that comes too late for it.
    let answer = chat(&router, &hello_with(json!({"qeil": {"deadline_s": 0.2}}))).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "no_device"), "{answer:?}");
    assert!(answer.retry_after >= Some(1) && !answer.text.contains("/var"));
    assert_eq!(get(&router, "/health/live").await.status, 200);
}

#[tokio::test]
async fn models_are_listed() {
    let toy = Toy::new(|_| {});
    let (router, _stages) = router(&toy, None);
    let list = get(&router, "/v1/models").await.json();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("toy")));
    assert_eq!(get(&router, "/v1/models/toy").await.json(), list["data"][0]);
}
