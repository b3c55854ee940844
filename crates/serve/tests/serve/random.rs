//! Random bytes and random JSON: never a 5xx, never a panic, always an answer in the shape of the interface.

use crate::client::{hello, post, router, send};
use crate::toy::Toy;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

/// Names that mean something, so that random objects get past the first check.
const NAMES: [&str; 24] = [
    "model",
    "messages",
    "role",
    "content",
    "n",
    "seed",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "logit_bias",
    "stream",
    "stream_options",
    "include_usage",
    "qeil",
    "deadline_s",
    "energy_budget_j",
    "priority",
    "until_pass",
    "type",
    "text",
];

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..20u64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec![
            "toy",
            "user",
            "system",
            "text",
            "regex",
            "interactive",
            "<|im_end|>",
            "[a-z]*"
        ])
        .prop_map(Value::from),
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(6, 48, 6, |inner| {
        let name = prop_oneof![prop::sample::select(&NAMES[..]).prop_map(str::to_owned), any::<String>()];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A good request with one field made random: this gets deepest.
fn almost_good() -> impl Strategy<Value = Value> {
    (prop::sample::select(&NAMES[..]), tree()).prop_map(|(name, value)| {
        let mut body = hello();
        body["max_tokens"] = json!(2);
        body[name] = value;
        body
    })
}

fn check(body: Vec<u8>) {
    let answer = RUNTIME.block_on(async {
        let toy = Toy::new(|limits| limits.tokens_max = 8);
        let (router, _stages) = router(&toy, None);
        send(&router, post(body)).await
    });
    assert!(!answer.status.is_server_error(), "{answer:?}");
    match answer.status.as_u16() {
        200 if answer.text.starts_with("data: ") => drop(answer.pieces()),
        200 => assert_eq!(answer.json()["object"], "chat.completion"),
        _ => assert!(answer.json()["error"]["message"].is_string(), "{answer:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn bytes(body in prop::collection::vec(any::<u8>(), 0..2000)) {
        check(body);
    }

    #[test]
    fn trees(body in tree()) {
        check(body.to_string().into_bytes());
    }

    #[test]
    fn almost_good_requests(body in almost_good()) {
        check(body.to_string().into_bytes());
    }

    #[test]
    fn damaged_requests(at in 0..120usize, byte in any::<u8>()) {
        let mut body = hello().to_string().into_bytes();
        let at = at % body.len();
        body[at] = byte;
        check(body);
    }
}
