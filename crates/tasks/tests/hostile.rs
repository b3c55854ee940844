//! Ten thousand outputs that no model would write, against every verifier: a verdict each, no panic.

use proptest::{collection::vec, prelude::*, test_runner::Config};
use qeil_tasks::{
    Judge, Verifier,
    verifier::{OUTPUT_BYTES_MAX, Pattern, Schema},
};
use serde_json::json;

const PIECES: &[&str] = &[
    "42",
    "-",
    "−",
    "–",
    ".",
    ",",
    "1,234",
    "3/4",
    "½",
    "²",
    "⁻",
    "10^",
    "×",
    "e9",
    "%",
    "$",
    "€",
    " ",
    "\n",
    "\t",
    "\r\n",
    "\\boxed{",
    "\\boxed",
    "}",
    "{",
    "\\frac",
    "\\",
    "\\,",
    "####",
    "#",
    "answer",
    " is ",
    "Answer:",
    "option",
    ":",
    "=",
    "**",
    "*",
    "_",
    "`",
    "```",
    "```python\n",
    "```json\n",
    "def f(",
    "):\n",
    "    return 1\n",
    "</think>",
    "<think>",
    "A",
    "(B)",
    "b)",
    " or ",
    "to",
    "million",
    "negative ",
    "minus ",
    "\"",
    "'",
    "“",
    "”",
    "[",
    "]",
    "{\"a\":1}",
    "null",
    "٣",
    "𝟒",
    "\u{200B}",
    "\u{2009}",
    "\u{FEFF}",
    "\u{0}",
    "🦀",
    "é",
    "e\u{301}",
    "答案",
    "x",
    "π",
    "√",
    "0",
    "000",
    "9e99999",
    "99999999999999999999999999999999999999",
    "1/0",
    "0/0",
    ":30",
    "..",
    "…",
    "\u{FF11}",
    "\u{FF0C}",
    "İ",
    "ß",
];

fn verifiers() -> Vec<Verifier> {
    let mut all: Vec<Verifier> = [
        json!({"type": "exact", "answer": "42"}),
        json!({"type": "text", "answers": ["forty two"]}),
        json!({"type": "number", "answer": 424_243, "relative": 1e-9}),
        json!({"type": "choice", "answer": "C", "choices": 26}),
        json!({"type": "python", "prompt": "def f():\n", "test": "def check(c): pass", "entry_point": "f"}),
        json!({"type": "agreement", "extract": {"type": "text"}}),
        json!({"type": "agreement", "extract": {"type": "number"}}),
        json!({"type": "agreement", "extract": {"type": "choice", "choices": 4}}),
    ]
    .into_iter()
    .map(|json| serde_json::from_value(json).unwrap())
    .collect();
    all.push(Verifier::Regex { pattern: Pattern::new(r"(?s)(a|b)*c.{1,50}42$").unwrap() });
    let schema = json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}});
    all.push(Verifier::JsonSchema { schema: Schema::new(schema).unwrap() });
    all
}

fn judge(verifier: &Verifier, output: &str) {
    let verdict = verifier.verify(output, &Judge::default());
    assert!(!verdict.why.is_empty());
    assert!(!verdict.passed || verdict.answer.is_some(), "passed without an answer: {output:?}");
    assert_eq!(verdict, verifier.verify(output, &Judge::default()), "a verdict is the same twice");
}

proptest! {
    #![proptest_config(Config { cases: 10_000, ..Config::default() })]

    #[test]
    fn ten_thousand_outputs(pieces in vec(prop_oneof![
        9 => prop::sample::select(PIECES).prop_map(String::from),
        1 => any::<char>().prop_map(String::from),
    ], 0..24)) {
        let output = pieces.concat();
        for verifier in verifiers_once() {
            judge(verifier, &output);
        }
    }
}

fn verifiers_once() -> &'static [Verifier] {
    static ALL: std::sync::LazyLock<Vec<Verifier>> = std::sync::LazyLock::new(verifiers);
    &ALL
}

/// Each piece without end, as long as an output may be: what is not linear does not come back.
#[test]
fn longest_outputs() {
    for piece in PIECES {
        let output = piece.repeat(OUTPUT_BYTES_MAX / piece.len());
        for verifier in verifiers_once() {
            judge(verifier, &output);
        }
    }
}

#[test]
fn beyond_the_bound_nothing_is_looked_at() {
    let long = format!("{}#### 42", " ".repeat(OUTPUT_BYTES_MAX));
    for verifier in verifiers_once() {
        let verdict = verifier.verify(&long, &Judge::default());
        assert!(
            !verdict.passed && verdict.answer.is_none() && verdict.why.contains("more than"),
            "{verdict:?}"
        );
    }
}

#[test]
fn a_number_answer_is_found_in_any_prose_without_numbers() {
    for prose in ["So ", "I think\n\n", "\"", "**", "答", "(", "≈ ", "x = "] {
        let verifier: Verifier =
            serde_json::from_value(json!({"type": "number", "answer": -1234.5})).unwrap();
        let verdict = verifier.verify(&format!("{prose}-1,234.50 apples, indeed!"), &Judge::default());
        assert!(verdict.passed, "{prose:?}: {verdict:?}");
    }
}
