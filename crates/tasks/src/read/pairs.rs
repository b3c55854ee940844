//! Any JSONL of question and answer.
//!
//! The names of the two fields are those that projects use; the first of each list that a line has is taken. How the
//! answer is judged follows from what it is: a number as a number, any other text as words, a list of texts as
//! spellings of which any will do. Who wants it otherwise writes our own format.

use super::Line;
use crate::{Prompt, Task, TaskError, Verifier, number::Number};
use serde_json::{Map, Value};

const QUESTIONS: [&str; 7] = ["question", "prompt", "input", "instruction", "problem", "query", "q"];
const ANSWERS: [&str; 9] =
    ["answer", "answers", "output", "response", "target", "solution", "expected", "completion", "a"];
/// Signs around a number that are not part of it.
const AROUND: [char; 6] = ['$', '€', '£', '%', ' ', '.'];

/// The names of question and answer in a line.
pub(super) fn fields(object: &Map<String, Value>) -> Option<(&'static str, &'static str)> {
    let first = |names: &[&'static str]| names.iter().copied().find(|name| object.contains_key(*name));
    first(&QUESTIONS).zip(first(&ANSWERS))
}

pub(super) fn task(line: &Line<'_>) -> Result<Task, TaskError> {
    let object = line.object()?;
    let (question, answer) = fields(&object).ok_or_else(|| line.unknown())?;
    let id = match object.get("id") {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => format!("{}-{:04}", line.set, line.number),
    };
    let kind = object.get("kind").or_else(|| object.get("category")).and_then(Value::as_str);
    let verifier = match &object[answer] {
        Value::String(text) => verifier(text),
        Value::Number(number) => verifier(&number.to_string()),
        Value::Bool(yes) => verifier(&yes.to_string()),
        Value::Array(all) => {
            let texts: Option<Vec<_>> = all.iter().map(|one| one.as_str().map(String::from)).collect();
            let texts = texts
                .ok_or_else(|| line.error(Some(answer), "not all are texts", "write a list of texts"))?;
            match &texts[..] {
                [only] => verifier(only),
                _ => Verifier::Text { answers: texts },
            }
        }
        _ => {
            return Err(line.error(
                Some(answer),
                "it is no answer",
                "write a text, a number or a list of texts",
            ));
        }
    };
    Ok(Task {
        id,
        kind: kind.map(String::from),
        prompt: Prompt::Text(line.text(&object, question)?),
        verifier,
        tokens_max: None,
        stop: Vec::new(),
        licence: object
            .get("licence")
            .or_else(|| object.get("license"))
            .and_then(Value::as_str)
            .map(String::from),
        source: object.get("source").and_then(Value::as_str).map(String::from),
    })
}

fn verifier(answer: &str) -> Verifier {
    match Number::parse(&answer.trim_matches(AROUND).replace(',', "")) {
        Some(answer) => Verifier::Number { answer, absolute: 0.0, relative: 0.0 },
        None => Verifier::Text { answers: vec![answer.trim().into()] },
    }
}
