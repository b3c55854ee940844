//! The tasks that come with QEIL.

use qeil_tasks::{Judge, Prompt, Task, TaskSet, Verifier, embedded};
use std::collections::{BTreeMap, HashSet};

#[test]
fn six_kinds_of_twenty() {
    let set = TaskSet::embedded();
    let mut kinds = BTreeMap::new();
    for task in &set.tasks {
        task.check().unwrap();
        *kinds.entry(task.kind.as_deref().unwrap()).or_insert(0) += 1;
    }
    assert_eq!(set.tasks.len(), 120);
    assert_eq!(kinds.len(), 6);
    assert!(kinds.values().all(|&count| count == embedded::TASKS_PER_KIND), "{kinds:?}");
}

#[test]
fn no_task_twice() {
    let set = TaskSet::embedded();
    let ids: HashSet<_> = set.tasks.iter().map(|task| &task.id).collect();
    let texts: HashSet<_> = set.tasks.iter().map(|task| format!("{:?}", task.prompt)).collect();
    assert_eq!((ids.len(), texts.len()), (120, 120));
}

#[test]
fn a_seed_makes_one_set() {
    assert_eq!(embedded::generate(3).fingerprint(), embedded::generate(3).fingerprint());
    assert_ne!(embedded::generate(3).fingerprint(), embedded::generate(4).fingerprint());
    let pinned = "FINGERPRINT";
    assert_eq!(
        TaskSet::embedded().fingerprint(),
        pinned,
        "measurements are compared by this set: a change of it is a new set, and is said in the change log"
    );
}

fn asked(task: &Task) -> &str {
    let Prompt::Messages(messages) = &task.prompt else { panic!("{:?}", task.prompt) };
    &messages.last().unwrap().content
}

/// An answer as a model would write it passes, bare and in a sentence; the example's does not (but by chance), nor
/// does the question.
#[test]
fn right_answers_pass_and_others_do_not() {
    let judge = Judge::default();
    let mut answers = HashSet::new();
    for seed in [embedded::SEED, 1, 2, 3] {
        for task in embedded::generate(seed).tasks {
            let answer = match &task.verifier {
                Verifier::Number { answer, .. } => answer.to_string(),
                Verifier::Text { answers } => answers[0].clone(),
                other => panic!("{other:?}"),
            };
            for output in [
                answer.clone(),
                format!(" {answer}."),
                format!("The answer is {answer}."),
                format!("**{answer}**"),
            ] {
                let verdict = task.verifier.verify(&output, &judge);
                assert!(verdict.passed, "{}: {output:?}: {}", task.id, verdict.why);
            }
            let asked = asked(&task);
            assert!(!task.verifier.verify(asked, &judge).passed, "{}: {asked}", task.id);
            assert!(!task.verifier.verify("", &judge).passed);
            answers.insert(answer);
        }
    }
    assert!(answers.len() > 250, "answers repeat: {}", answers.len());
}

/// The generator's own arithmetic, checked by another way of computing it.
#[test]
fn sums_are_right() {
    for task in embedded::generate(9).tasks.iter().filter(|task| task.kind.as_deref() == Some("arithmetic")) {
        let sum = asked(task).trim_start_matches("What is ").trim_end_matches('?');
        let Verifier::Number { answer, .. } = &task.verifier else { panic!() };
        assert_eq!(evaluate(sum).to_string(), answer.to_string(), "{sum}");
    }
}

/// `+`, `-`, `*` and one pair of brackets at the start.
fn evaluate(sum: &str) -> i64 {
    if let Some((inside, rest)) = sum.strip_prefix('(').and_then(|sum| sum.split_once(')')) {
        return evaluate(&format!("{}{rest}", evaluate(inside)));
    }
    let mut total = 0;
    for term in sum.replace("- ", "+ -").split(" + ").flat_map(|term| term.split(" +")) {
        total += term
            .split('*')
            .map(|factor| factor.trim().replace(' ', "").parse::<i64>().unwrap())
            .product::<i64>();
    }
    total
}
