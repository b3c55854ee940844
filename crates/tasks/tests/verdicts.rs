//! What each verifier lets pass, and what it says.

use qeil_tasks::{Judge, Verifier, extract::Extraction, number::Number, verifier::Schema};
use serde_json::{Value, json};

fn verifier(json: Value) -> Verifier {
    serde_json::from_value(json).unwrap()
}

fn check(json: Value, cases: &[(&str, bool, Option<&str>)]) {
    let verifier = verifier(json);
    for (output, passed, answer) in cases {
        let verdict = verifier.verify(output, &Judge::default());
        assert_eq!(
            (verdict.passed, verdict.answer.as_deref()),
            (*passed, *answer),
            "{output:?}: {}",
            verdict.why
        );
    }
}

#[test]
fn exact() {
    check(
        json!({"type": "exact", "answer": " a B\n"}),
        &[
            ("a B", true, Some("a B")),
            ("\n a B ", true, Some("a B")),
            ("a b", false, Some("a b")),
            ("", false, Some("")),
        ],
    );
}

#[test]
fn text() {
    check(
        json!({"type": "text", "answers": ["New York", "NYC"]}),
        &[
            ("new york!", true, Some("new york")),
            ("The answer is: \"NYC\".", true, Some("nyc")),
            ("New York, then Boston", false, Some("new york then boston")),
            ("", false, None),
        ],
    );
}

#[test]
fn numbers_equal_digit_by_digit() {
    check(
        json!({"type": "number", "answer": "9007199254740993"}),
        &[
            ("9,007,199,254,740,993", true, Some("9007199254740993")),
            ("9007199254740992", false, Some("9007199254740992")),
        ],
    );
    check(
        json!({"type": "number", "answer": "1/3"}),
        &[("2/6", true, Some("1/3")), ("0.333333", false, Some("0.333333")), ("one third", false, None)],
    );
}

#[test]
fn tolerances() {
    check(
        json!({"type": "number", "answer": 200, "absolute": 0.5, "relative": 0.01}),
        &[
            ("202.5", true, Some("202.5")),
            ("197.5", true, Some("197.5")),
            ("202.6", false, Some("202.6")),
            ("-200", false, Some("-200")),
            ("1e500", false, Some("1e500")),
        ],
    );
    check(json!({"type": "number", "answer": "1/3", "relative": 0.001}), &[("0.3333", true, Some("0.3333"))]);
}

#[test]
fn letters() {
    check(
        json!({"type": "choice", "answer": "C", "choices": 3}),
        &[("(c)", true, Some("C")), ("The answer is B", false, Some("B")), ("D", false, None)],
    );
}

#[test]
fn patterns() {
    check(
        json!({"type": "regex", "pattern": "^colou?r: (\\w+)$"}),
        &[(" color: red\n", true, Some("red")), ("colour: red, blue", false, None)],
    );
    check(json!({"type": "regex", "pattern": "b+"}), &[("abbc", true, Some("bb"))]);
}

#[test]
fn schemas() {
    check(
        json!({"type": "json_schema", "schema": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}}),
        &[
            ("```json\n{\"n\": 3, \"a\": 1}\n```", true, Some("{\"a\":1,\"n\":3}")),
            ("{\"n\": \"3\"}", false, Some("{\"n\":\"3\"}")),
            ("{}", false, Some("{}")),
            ("n = 3", false, None),
        ],
    );
}

#[test]
fn schemas_point_nowhere_else() {
    for reference in ["file:///etc/hostname", "https://example.com/schema.json", "other.json", "#/nowhere"] {
        let error = Schema::new(json!({"$ref": reference})).unwrap_err().to_string();
        assert!(error.contains("nothing outside itself"), "{error}");
    }
    let inside =
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}});
    check(
        json!({"type": "json_schema", "schema": inside}),
        &[("[[], [[]]]", true, Some("[[],[[]]]")), ("[1]", false, Some("[1]"))],
    );
    // A schema that is nothing but itself says nothing; the answer is a verdict, not an overflow.
    let circle = verifier(json!({"type": "json_schema", "schema": {"$ref": "#"}}));
    circle.verify("[1]", &Judge::default());
    // A pattern that makes a backtracking engine run for ever.
    let slow = verifier(json!({"type": "json_schema", "schema": {"type": "string", "pattern": "^(a|a)*$"}}));
    assert!(!slow.verify(&format!("\"{}b\"", "a".repeat(100_000)), &Judge::default()).passed);
}

#[test]
fn agreement_extracts_and_never_passes() {
    let numbers = verifier(json!({"type": "agreement", "extract": {"type": "number"}}));
    assert!(numbers.is_agreement() && !numbers.needs_sandbox());
    let votes: Vec<_> = ["#### 1,200", "so 1200.0", "1.2e3", "12"]
        .iter()
        .map(|output| numbers.verify(output, &Judge::default()))
        .map(|verdict| (verdict.passed, verdict.answer.unwrap()))
        .collect();
    assert_eq!(
        votes,
        [(false, "1200".into()), (false, "1200".into()), (false, "1200".into()), (false, "12".into())]
    );
    assert_eq!(Extraction::Choice { choices: 4 }.apply("(b)").unwrap(), "B");
    assert!(Extraction::Text.apply("").is_err());
}

#[test]
fn code_needs_a_sandbox() {
    let python = verifier(
        json!({"type": "python", "prompt": "def f():\n", "test": "def check(c): pass", "entry_point": "f"}),
    );
    assert!(python.needs_sandbox());
    let verdict = python.verify("    return 1\n", &Judge::default());
    assert_eq!((verdict.passed, verdict.answer.as_deref()), (false, Some("def f():\n    return 1\n")));
    assert_eq!(verdict.why, "no sandbox to run the code in");
}

#[test]
fn programs_end_in_a_token_that_depends_on_them() {
    let Verifier::Python(python) = verifier(
        json!({"type": "python", "prompt": "def f():\n", "test": "def check(c):\n    c()", "entry_point": "f"}),
    ) else {
        panic!()
    };
    let (program, token) = python.program("    return 1\n").unwrap();
    assert_eq!(
        program,
        format!("def f():\n    return 1\n\n\ndef check(c):\n    c()\n\ncheck(f)\nprint(\"\\n{token}\")\n")
    );
    assert_eq!(token.len(), 64);
    assert_ne!(python.program("    return 2\n").unwrap().1, token);
}

#[test]
fn all_say_what_they_accept() {
    for (json, expected) in [
        (json!({"type": "exact", "answer": "x"}), "exactly \"x\""),
        (
            json!({"type": "text", "answers": ["x", "y"]}),
            "the final answer \"x\" or \"y\", whatever its case and punctuation",
        ),
        (json!({"type": "number", "answer": 5}), "the final number 5"),
        (
            json!({"type": "number", "answer": 5, "absolute": 0.5, "relative": 0.25}),
            "the final number 5 ± 0.5 ± 25 %",
        ),
        (json!({"type": "choice", "answer": "B"}), "the letter B out of A to D"),
        (json!({"type": "regex", "pattern": "a+"}), "a match of /a+/"),
        (json!({"type": "json_schema", "schema": true}), "JSON that satisfies the schema"),
        (
            json!({"type": "agreement", "extract": {"type": "choice", "choices": 3}}),
            "the final letter out of A to C that most samples agree on",
        ),
    ] {
        assert_eq!(verifier(json).describe(), expected);
    }
}

#[test]
fn numbers_have_one_spelling() {
    for (text, spelling) in [
        ("0", "0"),
        ("-0.0", "0"),
        ("00012.500", "12.5"),
        ("1e3", "1000"),
        ("1.50e-2", "0.015"),
        ("4/8", "0.5"),
        ("-4/6", "-2/3"),
        ("6/3", "2"),
        ("1e41", "1e41"),
        ("12e60", "1.2e61"),
        ("1e-45", "1e-45"),
    ] {
        let number = Number::parse(text).unwrap();
        assert_eq!(number.to_string(), spelling);
        assert_eq!(Number::parse(spelling), Some(number));
    }
    for text in
        ["", "-", ".", "1,000", "1/0", "1/2/3", "e5", "1e10000", "1e-99999999999", "--1", "+1", "0x10", " 1"]
    {
        assert_eq!(Number::parse(text), None, "{text:?}");
    }
    assert_eq!(Number::parse("1e4").unwrap().shifted(-5).unwrap().to_string(), "0.1");
    assert_eq!(Number::parse("1/3").unwrap().shifted(1), None);
}
