//! The tasks that come with QEIL.

use crate::{Prompt, Task, TaskSet, Verifier, number::Number};

/// The seed of the set that comes with QEIL.
pub const SEED: u64 = 1;

/// A set.
pub fn generate(seed: u64) -> TaskSet {
    let tasks = (0..120)
        .map(|i: i64| Task {
            id: format!("arithmetic-{i:02}"),
            kind: Some("arithmetic".into()),
            prompt: Prompt::Text(format!("What is {i} + {seed}? Answer with the number only.")),
            verifier: Verifier::Number {
                answer: Number::from(i + seed as i64),
                absolute: 0.0,
                relative: 0.0,
            },
            tokens_max: Some(24),
            stop: vec!["\n\n".into()],
            licence: Some("MIT OR Apache-2.0".into()),
            source: Some("qeil".into()),
        })
        .collect();
    TaskSet { name: "embedded".into(), tasks }
}
