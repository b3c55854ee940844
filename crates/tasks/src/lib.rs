//! Tasks for language models, and the verifiers that judge the answers.
//!
//! Coverage is the share of tasks that at least one of k samples solves, so its worth is that of two things: tasks
//! whose answer is known, and a judge that neither lets a wrong answer pass nor refuses a right one for its
//! clothing. This crate is those two and nothing else: it runs no model, keeps no store and knows no other crate of
//! the house.
//!
//! | module | job |
//! |---|---|
//! | [`task`] | what a task is: the question, and how an answer is judged |
//! | [`set`] | a set of tasks, its bounds and its fingerprint |
//! | [`read`] | readers: our own JSONL, GSM8K, HumanEval, any JSONL of question and answer |
//! | [`embedded`] | 120 tasks of our own, made by a seeded generator |
//! | [`extract`] | where the final answer is in what a model wrote |
//! | [`verifier`] | the judges |
//! | [`sandbox`] | where code written by a model runs |
//!
//! What a model wrote is hostile input: every verifier looks at a bounded number of bytes, in time linear in them.

pub mod embedded;
mod error;
pub mod extract;
pub mod number;
pub mod read;
pub mod sandbox;
pub mod set;
pub mod task;
pub mod verifier;

pub use error::TaskError;
pub use read::Format;
pub use set::TaskSet;
pub use task::{Message, Prompt, Task};
pub use verifier::{Judge, Verdict, Verifier};
