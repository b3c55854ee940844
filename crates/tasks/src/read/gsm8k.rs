//! GSM8K (Cobbe et al. 2021): grade-school word problems whose solution ends in `#### NUMBER`.

use super::Line;
use crate::{Prompt, Task, TaskError, Verifier, number::Number};

/// Most tokens of an answer: the longest of the test half's own solutions take about 400.
const TOKENS_MAX: u32 = 400;

pub(super) fn is_solution(answer: &str) -> bool {
    answer.lines().last().is_some_and(|line| line.starts_with("####"))
}

pub(super) fn task(line: &Line<'_>) -> Result<Task, TaskError> {
    let object = line.object()?;
    let question = line.text(&object, "question")?;
    let solution = line.text(&object, "answer")?;
    let figure = solution.rsplit_once("####").map(|(_, figure)| figure.trim().replace([',', '$'], ""));
    let answer = figure.as_deref().and_then(Number::parse).ok_or_else(|| {
        let why = "it does not end in `#### NUMBER`";
        line.error(Some("answer"), why, "use GSM8K's own files, or read them as pairs")
    })?;
    Ok(Task {
        id: format!("{}-{:04}", line.set, line.number),
        kind: Some("gsm8k".into()),
        prompt: Prompt::Text(format!(
            "Solve the problem step by step, in short sentences. Then write the final answer on a line of its own: \
             #### and the number, without a unit.\n\nProblem: {}",
            question.trim()
        )),
        verifier: Verifier::Number { answer, absolute: 0.0, relative: 0.0 },
        tokens_max: Some(TOKENS_MAX),
        stop: Vec::new(),
        licence: Some("MIT".into()),
        source: Some("GSM8K (Cobbe et al. 2021)".into()),
    })
}
