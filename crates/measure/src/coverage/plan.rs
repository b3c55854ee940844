//! What a coverage run is: everything that decides which samples it draws.
//!
//! Two runs with equal plans on one host draw from the same distributions with the same random numbers, so an
//! unfinished one is resumed by asking for it again. Budgets are no part of a plan: they say when to pause.

use crate::answer::Finish;
use qeil_engine::request::Sampling;
use qeil_laws::random::word_at;
use qeil_tasks::{Task, TaskSet};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How samples are given to tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Task by task, each up to the same number.
    Fixed,
    /// Each sample to the task where it is expected to solve most for its cost.
    Sequential,
}

/// A task, as far as reports need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskLabel {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: Option<String>,
    /// Whether its answer is not known, and its samples vote.
    pub votes: bool,
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CoveragePlan {
    /// SHA-256 of the model file, in hexadecimal.
    pub model_sha256: String,
    /// What the task set is called.
    pub set: String,
    /// Its fingerprint, those left out by a limit included.
    pub set_sha256: String,
    /// The tasks, in order.
    pub tasks: Vec<TaskLabel>,
    /// Samples of a task at most.
    pub samples: u32,
    /// Whether a task's first pass ends its sampling.
    pub stop_at_pass: bool,
    /// How samples are given to tasks.
    pub strategy: Strategy,
    /// How sure the leading answer of a task without a known one must be, above 0 and below 1.
    pub confidence: f64,
    /// How tokens are chosen; its seed is the run's.
    pub sampling: Sampling,
    /// Most tokens of a sample, where the user said so; else the task's own.
    pub tokens_max: Option<u32>,
    /// Most tokens of a sample where neither says so.
    pub tokens_max_default: u32,
    /// Texts that end a sample, beside the task's own.
    pub stop: Vec<String>,
    /// A GBNF grammar that samples follow.
    pub grammar: Option<String>,
    /// Device.
    pub device: String,
    /// Threads.
    pub threads: u32,
    /// Samples in flight at most.
    pub parallel: u32,
    /// Whether code of the model runs unconfined.
    pub unconfined: bool,
    /// Whether settings are those under which a sample does not depend on what shares its batch.
    pub reproducible: bool,
}

impl CoveragePlan {
    /// The labels of a set's first tasks.
    pub fn labels(set: &TaskSet, limit: Option<usize>) -> Vec<TaskLabel> {
        let label = |task: &Task| TaskLabel {
            id: task.id.clone(),
            kind: task.kind.clone(),
            votes: task.verifier.is_agreement(),
        };
        set.tasks.iter().take(limit.unwrap_or(usize::MAX)).map(label).collect()
    }

    /// Most tokens of a sample of `task`.
    pub fn tokens_max(&self, task: &Task) -> u32 {
        self.tokens_max.or(task.tokens_max).unwrap_or(self.tokens_max_default)
    }

    /// The seed of a task's samples: of the run's seed and the task's id alone, so neither its place in the set nor the
    /// schedule changes what it draws.
    pub fn seed(&self, task: &str) -> u64 {
        let digest = Sha256::digest(task.as_bytes());
        let first = digest.iter().take(8).fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        word_at(self.sampling.seed, first)
    }
}

/// One judged sample: the row that is saved when it ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleRow {
    /// Id of its task.
    pub task: String,
    /// Its number among the task's samples, from 0.
    pub sample: u32,
    /// Tokens it emitted.
    pub tokens: u32,
    /// Tokens of the prompt, on the first sample of each group that shared a prefill; 0 on the others.
    pub prompt_tokens: u32,
    /// Why it ended.
    pub finish: Finish,
    /// Whether it solves the task; missing where the answer is not known.
    pub passed: Option<bool>,
    /// Its final answer in the verifier's normal form.
    pub answer: Option<String>,
    /// The verifier's reason.
    pub why: String,
    /// What the model wrote.
    pub text: String,
    /// When it was judged, in milliseconds since 1970.
    pub at_unix_ms: u64,
}

impl SampleRow {
    /// Tokens computed for it: the measure by which a run's energy is shared out.
    pub fn computed_tokens(&self) -> u64 {
        u64::from(self.tokens) + u64::from(self.prompt_tokens)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn plan() -> CoveragePlan {
        let label = |id: &str| TaskLabel { id: id.into(), kind: Some("kind".into()), votes: false };
        CoveragePlan {
            model_sha256: "00".into(),
            set: "set".into(),
            set_sha256: "11".into(),
            tasks: vec![label("a"), label("b")],
            samples: 4,
            stop_at_pass: true,
            strategy: Strategy::Fixed,
            confidence: 0.95,
            sampling: Sampling::default(),
            tokens_max: None,
            tokens_max_default: 128,
            stop: Vec::new(),
            grammar: None,
            device: "CPU".into(),
            threads: 2,
            parallel: 4,
            unconfined: false,
            reproducible: false,
        }
    }

    pub fn row(task: &str, sample: u32, passed: bool) -> SampleRow {
        SampleRow {
            task: task.into(),
            sample,
            tokens: 10,
            prompt_tokens: if sample == 0 { 20 } else { 0 },
            finish: Finish::End,
            passed: Some(passed),
            answer: Some("4".into()),
            why: "because".into(),
            text: "2 + 2 = 4".into(),
            at_unix_ms: 1,
        }
    }

    #[test]
    fn seeds_depend_on_run_and_task_alone() {
        let seeded = |seed| {
            let mut plan = plan();
            plan.sampling.seed = seed;
            plan
        };
        let reordered = CoveragePlan { tasks: Vec::new(), parallel: 9, ..seeded(1) };
        assert_eq!(seeded(1).seed("a"), reordered.seed("a"));
        assert_ne!(seeded(1).seed("a"), seeded(1).seed("b"));
        assert_ne!(seeded(1).seed("a"), seeded(2).seed("a"));
    }
}
