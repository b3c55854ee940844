//! Letters, words, JSON and code, found in awkward outputs.

use qeil_tasks::extract::{choice, json, python, text, words};

const LETTERS: &[(&str, Option<char>)] = &[
    ("B", Some('B')),
    ("B.", Some('B')),
    ("b)", Some('B')),
    ("(b)", Some('B')),
    ("b", Some('B')),
    ("**B**", Some('B')),
    ("**(C) Paris**", Some('C')),
    ("B) Paris", Some('B')),
    ("B: Paris is the capital of a country", Some('B')),
    ("Answer: (B)", Some('B')),
    ("Answer: B", Some('B')),
    ("**Answer**: **B**", Some('B')),
    ("The answer is B, not A.", Some('B')),
    ("The answer is (c).", Some('C')),
    ("The correct option is D because A is too small", Some('D')),
    ("The answer is A because it fits", Some('A')),
    ("The answer is a matter of taste", None),
    ("Options: A) 3 B) 4. I pick B", Some('B')),
    ("A) is wrong. B) is wrong. So it must be C.", Some('A')),
    ("It cannot be A, so C", Some('C')),
    ("A dog and a cat", None),
    ("I think it is D", Some('D')),
    ("\\boxed{B}", Some('B')),
    ("\\boxed{\\text{(B)}}", Some('B')),
    ("#### C", Some('C')),
    ("A or B", None),
    ("The answer is A or B", None),
    ("The answer is A/B", None),
    ("Answer:\nD", Some('D')),
    ("E", None),
    ("Vitamin C is in a B-side", Some('C')),
    ("44 B.C. was D", Some('D')),
    ("42", None),
    ("", None),
    ("<think>A</think> B", Some('B')),
];

const WORDS: &[(&str, Option<&str>)] = &[
    ("tenalp", Some("tenalp")),
    ("  Tenalp. ", Some("tenalp")),
    ("\"tenalp\"", Some("tenalp")),
    ("**tenalp**", Some("tenalp")),
    ("`tenalp`", Some("tenalp")),
    ("The word \"planet\" backwards is \"tenalp\".", Some("tenalp")),
    ("Sorted: ant, bee, cat", Some("ant bee cat")),
    ("Sorted: \"ant\", \"bee\" and \"cat\".", Some("ant bee and cat")),
    ("'ant', 'bee', 'cat'", Some("ant bee cat")),
    ("[\"ant\", \"bee\"]", Some("ant bee")),
    ("4, 7, 9", Some("4 7 9")),
    ("4,7,9", Some("4 7 9")),
    ("4 < 7 < 9", Some("4 7 9")),
    ("-4, 3.5, 9.", Some("-4 3.5 9")),
    ("Answer: ant bee", Some("ant bee")),
    ("The answer is \"ant\". It is small.", Some("ant")),
    ("Let me think.\nFirst I sort.\n\nant, bee\n", Some("ant bee")),
    ("```\ntenalp\n```", Some("tenalp")),
    ("\\boxed{\\text{tenalp}}", Some("text tenalp")),
    ("#### Bob", Some("bob")),
    ("It's Bob's dog", Some("its bobs dog")),
    ("ＴＥＮ", Some("ten")),
    ("Crème Brûlée", Some("crème brûlée")),
    ("?!", Some("?!")),
    ("", None),
    (" \n ", None),
];

#[test]
fn letters() {
    let wrong: Vec<_> = LETTERS
        .iter()
        .filter(|(output, expected)| choice(output, 4).ok().map(|found| found.value) != *expected)
        .map(|(output, expected)| format!("{output:?}: {:?}, not {expected:?}", choice(output, 4)))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), LETTERS.len(), wrong.join("\n"));
}

#[test]
fn final_words() {
    let wrong: Vec<_> = WORDS
        .iter()
        .filter(|(output, expected)| text(output).ok().map(|found| found.value).as_deref() != *expected)
        .map(|(output, expected)| format!("{output:?}: {:?}, not {expected:?}", text(output)))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), WORDS.len(), wrong.join("\n"));
}

#[test]
fn words_are_equal_whatever_their_clothes() {
    for (a, b) in [("1,2,3", "[1, 2, 3]"), ("don't", "Don’t"), ("ﬁne", "FINE"), ("a-b", "a b")] {
        assert_eq!(words(a), words(b));
    }
    for (a, b) in [("12", "1 2"), ("-4", "4"), ("3.5", "35"), ("ab", "a b")] {
        assert_ne!(words(a), words(b));
    }
}

#[test]
fn json_in_prose() {
    for (output, expected) in [
        ("{\"a\": 1}", Some("{\"a\":1}")),
        ("Here you are:\n```json\n{\"a\": 1}\n```\nEnjoy!", Some("{\"a\":1}")),
        ("```\n[1]\n```\nor better\n```\n[2]\n```", Some("[2]")),
        ("I say {\"a\": [1, 2]} and that [is] {it}", Some("{\"a\":[1,2]}")),
        ("[1] cites {\"name\": \"Ada\"}", Some("{\"name\":\"Ada\"}")),
        ("42", Some("42")),
        ("{\"a\": 1", None),
        ("{'a': 1}", None),
        ("no JSON here", None),
        ("", None),
    ] {
        let found = json(output).ok().map(|found| found.value.to_string());
        assert_eq!(found.as_deref(), expected, "{output:?}");
    }
    assert!(json(&"[".repeat(100_000)).is_err(), "nested too deep");
}

const SIGNATURE: &str = "import math\n\n\ndef area(r):\n    \"\"\"Area of a circle.\"\"\"\n";
const WHOLE: &str = "import math\n\n\ndef area(r):\n    return math.pi * r * r\n";

#[test]
fn python_code() {
    let body = format!("{SIGNATURE}    return math.pi * r * r\n");
    let cases: &[(&str, &str)] = &[
        // A base model goes on.
        ("    return math.pi * r * r\n", &body),
        ("    return math.pi * r * r\n\nprint(area(2))\n", &body.replace("r * r\n", "r * r\n\n")),
        ("return math.pi * r * r", &body),
        ("return math.pi * r * r\n\nThat is it.", &format!("{body}\n    That is it.\n")),
        // A chat model answers.
        ("Sure!\n```python\ndef area(r):\n    return math.pi * r * r\n```\nIt squares r.", WHOLE),
        ("```py\ndef area(r):\n    return math.pi * r * r\n", WHOLE),
        ("Sure!\n\ndef area(r):\n    return math.pi * r * r\n\nIt squares r.", &format!("{WHOLE}\n")),
        ("```python\n    return math.pi * r * r\n```", &body),
        (
            "```python\ndef area(r):\n    return math.pi * r * r\n```\nUse it:\n```python\nprint(area(1))\n```",
            WHOLE,
        ),
        ("<think>def area(r): no</think>\n    return math.pi * r * r\n", &body),
    ];
    for (output, expected) in cases {
        assert_eq!(python(output, SIGNATURE, "area").unwrap().value, *expected, "{output:?}");
    }
    for output in ["", " \n ", "```python\n```"] {
        assert!(python(output, SIGNATURE, "area").is_err(), "{output:?}");
    }
    let loop_body = python("for i in r:\n    go(i)\nreturn 1", SIGNATURE, "area").unwrap().value;
    assert!(loop_body.ends_with("    for i in r:\n        go(i)\n    return 1\n"), "{loop_body}");
}
