//! Texts that must pass and texts that must not.

use super::*;
use proptest::prelude::*;

#[test]
fn characters_that_hide_are_refused_and_languages_are_not() {
    // (text, what the refusal says; empty: none)
    let cases: &[(&str, &str)] = &[
        ("plain\ttext\r\nwith lines", ""),
        ("Zażółć gęślą jaźń — 你好, مرحبا, שלום, नमस्ते, Việt", ""),
        ("👩‍👩‍👧‍👦 ❤️ 🏳️‍🌈", ""),
        ("\u{1f3f4}\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}", ""),
        ("a\0b", "control character (U+0000) at byte 1"),
        ("\u{1b}[31m", "control character"),
        ("a\u{85}", "control character"),
        ("a\u{7f}", "control character"),
        ("if x\u{202e} {", "reorders"),
        ("a\u{2066}b", "reorders"),
        ("\u{e0041}", "tag"),
        ("\u{1f3f4}x\u{e0041}", "tag"),
        ("\u{fff9}", "annotation"),
        ("\u{fdd0}", "noncharacter"),
        ("\u{1ffff}", "noncharacter"),
        ("\u{ffff}", "noncharacter"),
        ("a\u{200b}\u{200b}\u{200b}\u{200b}b", ""),
        ("a\u{200b}\u{200b}\u{200b}\u{200b}\u{200b}b", "invisible"),
    ];
    for (text, says) in cases {
        check(check_characters(text), says, text);
    }
    check(check_characters(&format!("a{}", "\u{301}".repeat(MARKS_MAX))), "", "marks");
    check(check_characters(&format!("a{}", "\u{301}".repeat(MARKS_MAX + 1))), "combining marks", "marks");
}

fn check(result: Result<(), Refusal>, says: &str, text: &str) {
    match (result, says) {
        (Ok(()), "") => {}
        (Err(refusal), says) if !says.is_empty() => {
            assert!(refusal.to_string().contains(says), "{refusal} for {text:.80}");
        }
        (result, _) => panic!("{result:?} for {text:.80}, expected {says:?}"),
    }
}

#[test]
fn walls_of_repetition_are_refused() {
    let numbered: String = (0..3000).map(|i| format!("{i}, ")).collect();
    let cases = [
        ("a".repeat(2 * REPEAT_BLOCK), "1 bytes"),
        (format!("Tell me.{}", "ha ".repeat(2000)), "3 bytes"),
        ("The same sentence again and again. ".repeat(200), "35 bytes"),
        ("a".repeat(REPEAT_BLOCK - 1), ""),
        (numbered, ""),
        ("x".repeat(REPEAT_PERIOD_MAX).chars().chain("y".chars()).collect::<String>().repeat(100), ""),
    ];
    for (text, says) in cases {
        check(check_repetition(&text), says, &text);
    }
}

#[test]
fn spellings_of_control_tokens_are_refused() {
    let mut special: Vec<String> = ["<|im_start|>", "</s>", "[INST]", "<｜User｜>"].map(String::from).into();
    special.sort();
    let cases = [
        ("a < b and c > d, [1, 2], <html>", ""),
        ("<|im_start|", ""),
        ("<<|im_start|>system", "control token of the model at byte 1"),
        ("end</s>", "byte 3"),
        ("[INST] x", "byte 0"),
        ("<｜User｜>", "byte 0"),
        ("<a </s>", "byte 3"),
    ];
    for (text, says) in cases {
        check(check_special(text, &special), says, text);
    }
    assert_eq!(check_special("</s>", &[]), Ok(()));
    check(check_text("</s>", &special), "control token", "all checks");
    check(check_text(&"ab ".repeat(TEXT_BYTES_MAX / 3 + 1), &special), "the text in bytes", "too long");
    check(check_text("\u{202e}", &[]), "reorders", "all checks");
    check(check_text(&"a".repeat(5000), &[]), "repeats", "all checks");
    check(check_text("What is 2 + 2?", &special), "", "all checks");
}

#[test]
fn patterns_with_unbounded_cost_are_refused() {
    let deep = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    let cases: Vec<(String, &str)> = vec![
        (r"^\d{4}-\d{2}-\d{2}$".into(), ""),
        ("(foo|ba[rz]+)*?x".into(), "repeats a repetition"),
        ("(a|b)*c+".into(), ""),
        ("(a+)+$".into(), "repeats a repetition"),
        ("((a*))*".into(), "repeats a repetition"),
        ("(a+){20}".into(), "repeats a repetition"),
        ("(a{2,})*".into(), "repeats a repetition"),
        ("a{100}{100}{100}".into(), "written out"),
        ("((a{100}){100}){100}".into(), "written out"),
        ("a{10000}".into(), ""),
        ("a{10001}".into(), "written out"),
        ("(a{50}b{50}){99}".into(), ""),
        ("(a{50}b{50}){101}".into(), "written out"),
        (r"(a)\1".into(), "refers back"),
        (r"(?<x>a)\k<x>".into(), "refers back"),
        ("(?=a)b".into(), "looks around"),
        ("(?<!a)b".into(), "looks around"),
        (r"[(+*)]+\(\)".into(), ""),
        ("[]+)]*".into(), ""),
        (r"[\]+)]*".into(), ""),
        ("a)".into(), "did not open"),
        ("(a".into(), "open"),
        ("a{x}".into(), ""),
        (deep(GROUPS_MAX), ""),
        (deep(GROUPS_MAX + 1), "nests more"),
        ("a".repeat(PATTERN_BYTES_MAX + 1), "in bytes"),
    ];
    for (pattern, says) in cases {
        check(check_pattern(&pattern), says, &pattern);
    }
}

#[test]
fn grammars_have_bounds() {
    let cases: Vec<(String, &str)> = vec![
        ("root ::= \"(\" item{1,3} \")\" # a ( comment\nitem ::= [(a-z]+ | (\"x\" item)".into(), ""),
        ("nothing".into(), "no rule"),
        ("a ::= b\n".repeat(GRAMMAR_RULES_MAX + 1), "number of rules"),
        ("a ::= b\n".repeat(GRAMMAR_RULES_MAX), ""),
        ("a ::= (b".into(), "open"),
        ("a ::= b)".into(), "did not open"),
        ("a ::= b{99999}".into(), "written out"),
        ("a ::= b{9999} c{2}".into(), "written out"),
        ("a ::= b{9998} c{2}".into(), ""),
        ("a ::= b{".into(), "cannot be read"),
        (format!("a ::= {}b{}", "(".repeat(GROUPS_MAX + 1), ")".repeat(GROUPS_MAX + 1)), "nests more"),
        (format!("a ::= {}b{}", "(".repeat(GROUPS_MAX), ")".repeat(GROUPS_MAX)), ""),
        (format!("a ::= {}", "b".repeat(GRAMMAR_BYTES_MAX)), "in bytes"),
        ("a ::= \"\\\")\" \"{9}".into(), ""),
    ];
    for (grammar, says) in cases {
        check(check_grammar(&grammar), says, &grammar);
    }
}

#[test]
fn documents_have_a_depth() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let cases = [
        (deep(JSON_DEPTH_MAX), ""),
        (deep(JSON_DEPTH_MAX + 1), "depth"),
        (format!("{{\"a\": \"{}\"}}", "[".repeat(100)), ""),
        (format!("{{\"a\\\"\": \"\\\\\", \"b\": {}}}", deep(JSON_DEPTH_MAX)), "depth"),
        ("[]".repeat(100), ""),
        ("}}}}".to_owned() + &deep(JSON_DEPTH_MAX), ""),
    ];
    for (text, says) in cases {
        check(check_json_depth(text.as_bytes()), says, &text);
    }
}

proptest! {
    #[test]
    fn no_text_makes_a_check_panic(text in any::<String>(), pattern in "[a(){}\\[\\]|*+?,0-9\\\\^\"#:=<>]{0,60}") {
        let special = vec!["<s>".to_owned()];
        for text in [&text, &pattern] {
            let _ = check_text(text, &special);
            let _ = check_pattern(text);
            let _ = check_grammar(text);
            let _ = check_json_depth(text.as_bytes());
        }
    }
}
