//! Every verifier on an arbitrary output.
//!
//! The input is what a model wrote. Beside panics, overflows and hangs (libFuzzer's business) it checks that what
//! passes has an answer, and that an answer in its normal form is found again, the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use qeil_tasks::{Judge, Verifier, extract, number::Number};
use std::sync::LazyLock;

/// One of each sort, as task files have them.
const VERIFIERS: [&str; 8] = [
    r#"{"type": "exact", "answer": "42"}"#,
    r#"{"type": "text", "answers": ["forty two"]}"#,
    r#"{"type": "number", "answer": 42, "relative": 0.001}"#,
    r#"{"type": "choice", "answer": "C", "choices": 26}"#,
    r#"{"type": "regex", "pattern": "(?s)(a|b)*c.{1,50}42$"}"#,
    r#"{"type": "json_schema", "schema": {"type": "object", "additionalProperties": {"pattern": "^(a+)+$"}}}"#,
    r#"{"type": "python", "prompt": "def f():\n", "test": "def check(c): pass", "entry_point": "f"}"#,
    r#"{"type": "agreement", "extract": {"type": "text"}}"#,
];

static ALL: LazyLock<Vec<Verifier>> =
    LazyLock::new(|| VERIFIERS.iter().map(|json| serde_json::from_str(json).expect("a verifier")).collect());

fuzz_target!(|bytes: &[u8]| {
    let output = String::from_utf8_lossy(bytes);
    for verifier in ALL.iter() {
        let verdict = verifier.verify(&output, &Judge::default());
        assert!(!verdict.passed || verdict.answer.is_some());
        assert!(!verdict.why.is_empty());
    }
    if let Ok(found) = extract::number(&output) {
        let text = found.value.to_string();
        assert_eq!(Number::parse(&text).as_ref(), Some(&found.value), "{text}");
        assert_eq!(extract::number(&text).expect("a number").value, found.value, "{text}");
    }
    let words = extract::words(&output);
    assert_eq!(extract::words(&words), words);
    if let Ok(found) = extract::json(&output) {
        assert_eq!(extract::json(&found.value.to_string()).expect("JSON").value, found.value);
    }
});
