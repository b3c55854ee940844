//! Tasks into tokens, and a worker's size out of them.
//!
//! All prompts are tokenised before the model is loaded for the run, by a small worker of its own: a context is fixed when
//! it loads, and a prompt that does not fit should be known before hours of sampling, not in the middle of them.

use super::plan::{CoveragePlan, Strategy};
use crate::error::MeasureError;
use crate::question::{check_context, render_conversation, tokenizer};
use crate::shape::{Crowd, Shape};
use qeil_engine::handle::Launch;
use qeil_engine::request::{GenerateRequest, Prompt, SampleStart, Token};
use qeil_model::ModelFacts;
use qeil_model::template::{Message, Role};
use qeil_tasks::Task;
use std::path::Path;

/// Prompts that the prefix cache has room for at most beside those in flight: as many as a worker keeps.
const CACHED_PROMPTS_MAX: usize = 128;

/// A task ready to be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The task.
    pub task: Task,
    /// Its prompt.
    pub prompt: Vec<Token>,
    /// Most tokens of a sample.
    pub tokens_max: u32,
    /// Seed of its samples.
    pub seed: u64,
}

impl Asked {
    /// The request for some of its samples.
    pub fn request(&self, plan: &CoveragePlan, samples: &[u32]) -> GenerateRequest {
        let mut sampling = plan.sampling.clone();
        sampling.seed = self.seed;
        let mut request =
            GenerateRequest::new(Prompt::Tokens(self.prompt.clone()), 0, self.tokens_max, sampling);
        request.samples = samples.iter().map(|&index| SampleStart { index, emitted: Vec::new() }).collect();
        request.stop = self.task.stop.iter().chain(&plan.stop).cloned().collect();
        request.grammar.clone_from(&plan.grammar);
        request
    }
}

/// Tokenise the plan's tasks.
///
/// # Errors
/// When the worker cannot be started, or a task does not fit the model: which one.
pub async fn ask(
    launch: &Launch,
    model: &Path,
    facts: &ModelFacts,
    plan: &CoveragePlan,
    tasks: &[Task],
) -> Result<Vec<Asked>, MeasureError> {
    let worker = tokenizer(launch, model).await?;
    let context_train_tokens = worker.loaded().context_train_tokens;
    let mut asked = Vec::with_capacity(tasks.len());
    for task in tasks.iter().take(plan.tasks.len()) {
        let of_task = |source| MeasureError::Task { task: task.id.clone(), source: Box::new(source) };
        let parts = render_conversation(facts, &messages(&task.prompt)).map_err(of_task)?;
        let prompt = worker.tokenize(Prompt::Parts(parts)).await.map_err(|error| of_task(error.into()))?;
        let tokens_max = plan.tokens_max(task);
        check_context(prompt.len() as u32, tokens_max, context_train_tokens).map_err(of_task)?;
        let ready = Asked { prompt, tokens_max, seed: plan.seed(&task.id), task: task.clone() };
        ready.request(plan, &[0]).check().map_err(|error| of_task(error.into()))?;
        asked.push(ready);
    }
    worker.stop().await;
    Ok(asked)
}

fn messages(prompt: &qeil_tasks::Prompt) -> Vec<Message> {
    match prompt {
        qeil_tasks::Prompt::Text(text) => vec![Message::new(Role::User, text.clone())],
        qeil_tasks::Prompt::Messages(messages) => messages
            .iter()
            .map(|message| Message::new(role(&message.role), message.content.clone()))
            .collect(),
    }
}

/// A role by its name; task sets know these three.
fn role(name: &str) -> Role {
    match name {
        "system" => Role::System,
        "assistant" => Role::Assistant,
        _ => Role::User,
    }
}

/// The workload that settings are tuned for: samples in flight of a prompt of mean length, at the mean of the limits.
pub fn typical(asked: &[Asked], parallel: u32) -> Shape {
    let mean = |of: &dyn Fn(&Asked) -> u64| {
        let sum: u64 = asked.iter().map(of).sum();
        sum.div_ceil(asked.len().max(1) as u64) as u32
    };
    Shape {
        prompt_tokens: mean(&|asked| asked.prompt.len() as u64),
        output_tokens: mean(&|asked| asked.tokens_max.into()),
        samples: parallel,
    }
}

/// The room that the run needs: any tasks' samples in flight, each perhaps with a prompt of its own, and the prompts of
/// tasks that will be asked again. In order that is soon: as many as there are samples in flight. An allocator comes back
/// to any task.
pub fn crowd(asked: &[Asked], plan: &CoveragePlan) -> Crowd {
    let parallel = plan.parallel;
    let again = match plan.strategy {
        Strategy::Fixed => parallel as usize,
        Strategy::Sequential => asked.len(),
    };
    let most = |of: &dyn Fn(&Asked) -> u32| asked.iter().map(of).max().unwrap_or(1);
    Crowd {
        prompt_tokens: most(&|asked| asked.prompt.len() as u32),
        sequence_tokens: most(&|asked| asked.prompt.len() as u32 + asked.tokens_max),
        sequences: parallel,
        cached_prompts: again.min(CACHED_PROMPTS_MAX) as u32,
    }
}
