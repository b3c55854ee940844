//! What the readers take, and what they say of what they do not.

use super::*;
use crate::{Prompt, Verifier, number::Number};
use std::io::Write;

fn read(text: &str) -> Result<TaskSet, TaskError> {
    parse(Path::new("set.jsonl"), text, None)
}

fn number(answer: i64) -> Verifier {
    Verifier::Number { answer: Number::from(answer), absolute: 0.0, relative: 0.0 }
}

const OWN: &str = r#"{"id":"a","prompt":"What is 2 + 3?","verifier":{"type":"number","answer":5}}"#;
const GSM8K: &str = r#"{"question":"How many?","answer":"6 hundred <<6*200=1200>>1200\n#### 1,200"}"#;
const HUMANEVAL: &str = r#"{"task_id":"HumanEval/0","prompt":"def f(x):\n","canonical_solution":"    return x\n","test":"def check(c):\n    assert c(1) == 1\n","entry_point":"f"}"#;

#[test]
fn formats_are_told_by_their_fields() {
    for (line, id, verifier) in [
        (OWN, "a", number(5)),
        (GSM8K, "set-0001", number(1200)),
        (r#"{"question":"2 + 3?","answer":5}"#, "set-0001", number(5)),
        (r#"{"prompt":"2 + 3?","answer":"$1,005."}"#, "set-0001", number(1005)),
        (
            r#"{"id":7,"input":"Capital?","output":"Paris"}"#,
            "7",
            Verifier::Text { answers: vec!["Paris".into()] },
        ),
        (
            r#"{"instruction":"x","target":["a","b"]}"#,
            "set-0001",
            Verifier::Text { answers: vec!["a".into(), "b".into()] },
        ),
    ] {
        let set = read(line).unwrap();
        assert_eq!((set.tasks[0].id.as_str(), &set.tasks[0].verifier), (id, &verifier), "{line}");
    }
    let code = &read(HUMANEVAL).unwrap().tasks[0];
    assert!(code.verifier.needs_sandbox());
    assert!(
        matches!(&code.prompt, Prompt::Text(text) if text.contains("```python\ndef f(x):\n```")),
        "{code:?}"
    );
}

#[test]
fn errors_name_line_and_field_and_what_to_do() {
    for (text, expected) in [
        ("", "set.jsonl: there is no task in it; write one JSON object a line"),
        ("[1]", "line 1: no JSON object"),
        ("{\"a\": 1}", "line 1: its fields are of no known format; write `verifier`"),
        (&format!("{OWN}\n\n{OWN}"), "line 3, field `id`: \"a\" is the id of line 1, too"),
        (&format!("{OWN}\n{{\"id\":\"b\"}}"), "line 2: missing field `verifier`"),
        (&OWN.replace("\"id\"", "\"tokens_max\":0,\"id\""), "line 1: `tokens_max`: 0; write 1 to"),
        (&OWN.replace("\"id\"", "\"tokens_max\":\"9\",\"id\""), "line 1, field `tokens_max`: invalid type"),
        (&OWN.replace("\"id\"", "\"tokenz\":1,\"id\""), "unknown field `tokenz`"),
        (&OWN.replace("\"prompt\"", "\"messages\":[],\"prompt\""), "`messages`: there is a `prompt`, too"),
        (&OWN.replace("5}", "\"five\"}"), "field `verifier`: \"five\" is not a number"),
        (&OWN.replace("5}", "5,\"absolute\":-1}"), "`verifier.absolute`: -1; write zero or more"),
        (
            &OWN.replace("{\"type\":\"number\",\"answer\":5}", "{\"type\":\"regex\",\"pattern\":\"(\"}"),
            "unclosed group",
        ),
        (
            &OWN.replace("{\"type\":\"number\",\"answer\":5}", "{\"type\":\"choice\",\"answer\":\"E\"}"),
            "`verifier.answer`: 'E'; write A to D",
        ),
        (
            &OWN.replace(
                "{\"type\":\"number\",\"answer\":5}",
                "{\"type\":\"json_schema\",\"schema\":{\"$ref\":\"file:///etc/hosts\"}}",
            ),
            "refers to nothing outside itself",
        ),
        (
            &OWN.replace("{\"type\":\"number\",\"answer\":5}", "{\"type\":\"guess\"}"),
            "unknown variant `guess`",
        ),
        (&format!("{OWN} x"), "trailing characters"),
        (
            &format!("{GSM8K}\n{{\"question\":\"x\",\"answer\":\"none\"}}"),
            "line 2, field `answer`: it does not end in",
        ),
        (&format!("{GSM8K}\n{{\"answer\":\"#### 1\"}}"), "line 2, field `question`: missing"),
        (&HUMANEVAL.replace("\"f\"", "\"f; x\""), "field `verifier.entry_point`: \"f; x\""),
        (&format!("{{\"id\":\"{}\"", "x".repeat(LINE_BYTES_MAX)), "write at most 1048576 bytes a line"),
        (
            &OWN.replace("\"a\"", &format!("\"{}\"", "x".repeat(300))),
            "`id`: 300 bytes long; write 1 to 200 bytes",
        ),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\nlacks: {expected}");
    }
}

#[test]
fn what_is_written_is_read_again() {
    let mut text = String::new();
    for (i, verifier) in [
        r#"{"type":"exact","answer":"x"}"#,
        r#"{"type":"text","answers":["x","y"]}"#,
        r#"{"type":"number","answer":"2/3","absolute":0.5,"relative":0.25}"#,
        r#"{"type":"number","answer":-7}"#,
        r#"{"type":"choice","answer":"B","choices":5}"#,
        r#"{"type":"regex","pattern":"^a+$"}"#,
        r#"{"type":"json_schema","schema":{"type":"object"}}"#,
        r#"{"type":"python","prompt":"def f():\n","test":"def check(c): pass","entry_point":"f"}"#,
        r#"{"type":"agreement","extract":{"type":"choice","choices":4}}"#,
    ]
    .iter()
    .enumerate()
    {
        text += &format!(
            "{{\"id\":\"{i}\",\"kind\":\"k\",\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}}],\
             \"verifier\":{verifier},\"tokens_max\":9,\"stop\":[\"\\n\"],\"licence\":\"MIT\",\"source\":\"s\"}}\n"
        );
    }
    let set = read(&text).unwrap();
    let again: String = set.tasks.iter().map(|task| serde_json::to_string(task).unwrap() + "\n").collect();
    assert_eq!(again, text);
    assert_eq!(read(&again).unwrap().fingerprint(), set.fingerprint());
}

#[test]
fn fingerprints_know_tasks_and_their_order() {
    let second = OWN.replace("\"a\"", "\"b\"");
    let of = |text: &str| read(text).unwrap().fingerprint();
    let both = of(&format!("{OWN}\n{second}"));
    assert_eq!(both.len(), 64);
    assert_eq!(both, of(&format!("\u{20}{OWN}\n\n{second}\n")), "layout does not count");
    assert_ne!(both, of(&format!("{second}\n{OWN}")));
    assert_ne!(of(OWN), of(&second));
}

#[test]
fn gzip_is_unpacked_and_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let pack = |name: &str, pieces: &mut dyn Iterator<Item = Vec<u8>>| {
        let path = folder.path().join(name);
        let mut file =
            flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        pieces.for_each(|piece| file.write_all(&piece).unwrap());
        file.finish().unwrap();
        path
    };
    let path = pack("Human.jsonl.gz", &mut std::iter::once(HUMANEVAL.into()));
    let set = TaskSet::read(&path, Some(Format::HumanEval)).unwrap();
    assert_eq!((set.name.as_str(), set.tasks.len()), ("human", 1));

    let megabyte = vec![b' '; 1 << 20];
    let bomb = pack("bomb.gz", &mut (0..65).map(|_| megabyte.clone()));
    assert!(std::fs::metadata(&bomb).unwrap().len() < 1 << 20);
    assert!(matches!(TaskSet::read(&bomb, None), Err(TaskError::TooLarge { .. })));

    let odd = folder.path().join("odd.jsonl");
    std::fs::write(&odd, b"{\"id\":\"\xff\"}").unwrap();
    assert!(TaskSet::read(&odd, None).unwrap_err().to_string().contains("byte 7 is not UTF-8"));
    assert!(matches!(TaskSet::read(&folder.path().join("none"), None), Err(TaskError::Io { .. })));
}

#[test]
fn formats_have_names() {
    for format in Format::ALL {
        assert_eq!(Format::named(&format.to_string()), Some(format));
    }
    assert_eq!(Format::named("csv"), None);
}
