//! From what a user types to the tokens that every device gets alike.
//!
//! The chat template comes from the model file; what it writes itself may name control tokens, what the user wrote
//! may not. A small worker on the CPU tokenises once, before any large context is sized, so that every device is
//! asked the very same thing and a prompt that is too long fails early.

use crate::error::MeasureError;
use crate::shape::Shape;
use qeil_engine::handle::{Launch, Worker};
use qeil_engine::request::{GenerateRequest, Prompt, PromptPart, Sampling, Token};
use qeil_engine::spec::LoadSpec;
use qeil_model::ModelFacts;
use qeil_model::prompt::Prompter;
use qeil_model::template::{Message, Role};
use std::path::Path;

/// Context of the worker that only tokenises.
const TOKENIZE_CONTEXT_TOKENS: u32 = 256;

/// What is asked, before tokenising.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The prompt, rendered through the model's template.
    pub parts: Vec<PromptPart>,
    /// Samples to draw.
    pub samples: u32,
    /// Most tokens of each.
    pub tokens_max: u32,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Text that ends a sample.
    pub stop: Vec<String>,
    /// GBNF grammar that samples follow.
    pub grammar: Option<String>,
}

/// A question as tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Tokenized {
    /// The question.
    pub question: Question,
    /// Its prompt.
    pub tokens: Vec<Token>,
}

/// Render a user's message (and a system message) through the chat template of the model. A model without a template
/// continues the plain text; a system message then stands in front of it.
///
/// # Errors
/// When the template cannot be compiled or refuses the conversation.
pub fn render(facts: &ModelFacts, system: Option<&str>, user: &str) -> Result<Vec<PromptPart>, MeasureError> {
    let system = system.map(|system| Message { role: Role::System, content: system.into() });
    let messages: Vec<Message> =
        system.into_iter().chain([Message { role: Role::User, content: user.into() }]).collect();
    render_conversation(facts, &messages)
}

/// Render a conversation through the chat template of the model. A model without a template continues the plain text of
/// its messages, an empty line between two of them.
///
/// # Errors
/// When the template cannot be compiled or refuses the conversation.
pub fn render_conversation(
    facts: &ModelFacts,
    messages: &[Message],
) -> Result<Vec<PromptPart>, MeasureError> {
    let parts = Prompter::of(facts)?.render(messages)?;
    Ok(parts.into_iter().map(|part| PromptPart { text: part.text, trusted: part.trusted }).collect())
}

/// A small CPU worker that only tokenises.
///
/// # Errors
/// When it cannot be started.
pub(crate) async fn tokenizer(launch: &Launch, model: &Path) -> Result<Worker, MeasureError> {
    let spec = LoadSpec {
        context_tokens: TOKENIZE_CONTEXT_TOKENS,
        sequences: 1,
        batch_tokens: TOKENIZE_CONTEXT_TOKENS,
        ubatch_tokens: TOKENIZE_CONTEXT_TOKENS,
        prefix_cache_tokens: 0,
        repack: false,
        ..LoadSpec::new(model, "CPU")
    };
    Ok(Worker::start(launch, spec).await?)
}

/// Check that prompt and output fit what the model was trained for.
///
/// # Errors
/// When they do not.
pub(crate) fn check_context(
    prompt_tokens: u32,
    output_tokens: u32,
    context_train_tokens: u32,
) -> Result<(), MeasureError> {
    if u64::from(prompt_tokens) + u64::from(output_tokens) > u64::from(context_train_tokens) {
        return Err(MeasureError::BeyondContext { prompt_tokens, output_tokens, context_train_tokens });
    }
    Ok(())
}

impl Question {
    /// Tokenise on a small CPU worker, and check that prompt and output fit the model.
    ///
    /// # Errors
    /// When the worker cannot be started, the request is out of bounds, or it is too long for the model.
    pub async fn tokenize(self, launch: &Launch, model: &Path) -> Result<Tokenized, MeasureError> {
        self.request(Prompt::Parts(self.parts.clone())).check()?;
        let worker = tokenizer(launch, model).await?;
        let tokens = worker.tokenize(Prompt::Parts(self.parts.clone())).await?;
        let context_train_tokens = worker.loaded().context_train_tokens;
        worker.stop().await;
        let asked = Tokenized { question: self, tokens };
        let Shape { prompt_tokens, output_tokens, .. } = asked.shape();
        check_context(prompt_tokens, output_tokens, context_train_tokens)?;
        Ok(asked)
    }

    fn request(&self, prompt: Prompt) -> GenerateRequest {
        let mut request = GenerateRequest::new(prompt, self.samples, self.tokens_max, self.sampling.clone());
        request.stop.clone_from(&self.stop);
        request.grammar.clone_from(&self.grammar);
        request.reuse_prefix = false;
        request
    }
}

impl Tokenized {
    /// How large it is.
    pub fn shape(&self) -> Shape {
        Shape {
            prompt_tokens: self.tokens.len() as u32,
            output_tokens: self.question.tokens_max,
            samples: self.question.samples,
        }
    }

    /// The request that shares one prefill among all samples.
    pub fn shared(&self) -> GenerateRequest {
        self.question.request(Prompt::Tokens(self.tokens.clone()))
    }

    /// The same samples as requests of their own, each with its own prefill. The random numbers depend on seed,
    /// sample and position alone, so these are drawn as the shared ones are.
    pub fn separate(&self) -> Vec<GenerateRequest> {
        let shared = self.shared();
        let alone = |sample| GenerateRequest { samples: vec![sample], ..shared.clone() };
        shared.samples.iter().cloned().map(alone).collect()
    }
}
