//! The published JSON schema and the types say the same of what a task is.

use qeil_tasks::{Task, TaskSet};
use serde_json::{Value, json};

fn validator() -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(include_str!("../schema/task.schema.json")).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    jsonschema::options().offline().build(&schema).unwrap()
}

/// Changes of a good task: a pointer, what to put there (or to remove), whether it is still a task.
fn changes() -> Vec<(&'static str, Option<Value>, bool)> {
    let verifier = |json: Value, good| ("/verifier", Some(json), good);
    let python = json!({"type": "python", "prompt": "", "test": "x", "entry_point": "f_1"});
    vec![
        ("/id", None, false),
        ("/id", Some(json!("")), false),
        ("/id", Some(json!(7)), false),
        ("/id", Some(json!("x".repeat(201))), false),
        ("/id", Some(json!("x".repeat(200))), true),
        ("/kind", Some(json!("k")), true),
        ("/kind", Some(json!("")), false),
        ("/prompt", None, false),
        ("/prompt", Some(json!("")), false),
        ("/prompt", Some(json!("x".repeat((256 << 10) + 1))), false),
        ("/messages", Some(json!([{"role": "user", "content": "x"}])), false),
        ("/tokens_max", Some(json!(1)), true),
        ("/tokens_max", Some(json!(0)), false),
        ("/tokens_max", Some(json!(131_072)), true),
        ("/tokens_max", Some(json!(131_073)), false),
        ("/tokens_max", Some(json!(1.5)), false),
        ("/stop", Some(json!([])), true),
        ("/stop", Some(json!(["\n"])), true),
        ("/stop", Some(json!([""])), false),
        ("/stop", Some(json!(["x".repeat(257)])), false),
        ("/stop", Some(json!(vec!["x"; 17])), false),
        ("/licence", Some(json!("MIT")), true),
        ("/license", Some(json!("MIT")), false),
        ("/source", Some(json!("x".repeat(501))), false),
        ("/verifier", None, false),
        verifier(json!({"type": "exact", "answer": ""}), true),
        verifier(json!({"type": "exact"}), false),
        verifier(json!({"type": "exact", "answer": "x", "more": 1}), false),
        verifier(json!({"type": "text", "answers": ["x"]}), true),
        verifier(json!({"type": "text", "answers": []}), false),
        verifier(json!({"type": "text", "answers": vec!["x"; 65]}), false),
        verifier(json!({"type": "number", "answer": 1}), true),
        verifier(json!({"type": "number", "answer": -1.5e-3}), true),
        verifier(json!({"type": "number", "answer": "3/4", "absolute": 0.5, "relative": 0}), true),
        verifier(json!({"type": "number", "answer": "three"}), false),
        verifier(json!({"type": "number", "answer": true}), false),
        verifier(json!({"type": "number", "answer": 1, "absolute": -1}), false),
        verifier(json!({"type": "choice", "answer": "D"}), true),
        verifier(json!({"type": "choice", "answer": "DD"}), false),
        verifier(json!({"type": "choice", "answer": "d"}), false),
        verifier(json!({"type": "choice", "answer": "A", "choices": 1}), false),
        verifier(json!({"type": "choice", "answer": "Z", "choices": 26}), true),
        verifier(json!({"type": "regex", "pattern": "^a"}), true),
        verifier(json!({"type": "regex", "pattern": ""}), false),
        verifier(json!({"type": "regex", "pattern": "x".repeat(4097)}), false),
        verifier(json!({"type": "json_schema", "schema": {"type": "object"}}), true),
        verifier(json!({"type": "json_schema", "schema": true}), true),
        verifier(json!({"type": "json_schema", "schema": "x"}), false),
        verifier(python.clone(), true),
        verifier(json!({"type": "python", "prompt": "", "test": "x"}), false),
        verifier(json!({"type": "python", "prompt": "", "test": "", "entry_point": "f"}), false),
        verifier(json!({"type": "python", "prompt": "", "test": "x", "entry_point": "f()"}), false),
        verifier(json!({"type": "agreement", "extract": {"type": "text"}}), true),
        verifier(json!({"type": "agreement", "extract": {"type": "number"}}), true),
        verifier(json!({"type": "agreement", "extract": {"type": "choice", "choices": 4}}), true),
        verifier(json!({"type": "agreement", "extract": {"type": "choice"}}), false),
        verifier(json!({"type": "agreement", "extract": {"type": "json"}}), false),
        verifier(json!({"type": "agreement"}), false),
        verifier(json!({"type": "other"}), false),
    ]
}

#[test]
fn schema_and_types_agree() {
    let validator = validator();
    for (pointer, value, good) in changes() {
        let mut task = json!({"id": "a", "prompt": "x", "verifier": {"type": "exact", "answer": "x"}});
        let fields = task.as_object_mut().unwrap();
        let field = &pointer[1..];
        match value {
            Some(value) => fields.insert(field.into(), value),
            None => fields.remove(field),
        };
        let shown: String = task.to_string().chars().take(200).collect();
        assert_eq!(validator.is_valid(&task), good, "the schema, of {shown}");
        assert_eq!(serde_json::from_value::<Task>(task).is_ok(), good, "the types, of {shown}");
    }
}

#[test]
fn conversations_too() {
    let validator = validator();
    for (messages, good) in [
        (json!([{"role": "system", "content": ""}, {"role": "user", "content": "x"}]), true),
        (json!([]), false),
        (json!([{"role": "wizard", "content": "x"}]), false),
        (json!([{"role": "user"}]), false),
        (json!([{"role": "user", "content": "x", "name": "y"}]), false),
        (json!(vec![json!({"role": "user", "content": "x"}); 65]), false),
    ] {
        let task = json!({"id": "a", "messages": messages, "verifier": {"type": "exact", "answer": "x"}});
        assert_eq!(validator.is_valid(&task), good, "{task}");
        assert_eq!(serde_json::from_value::<Task>(task.clone()).is_ok(), good, "{task}");
    }
}

#[test]
fn embedded_tasks_satisfy_it() {
    let validator = validator();
    for task in TaskSet::embedded().tasks {
        let json = serde_json::to_value(&task).unwrap();
        validator.validate(&json).unwrap();
        assert_eq!(serde_json::from_value::<Task>(json).unwrap(), task);
    }
}
