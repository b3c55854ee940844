//! From a conversation to the prompt of one model.
//!
//! The chat template is compiled once and then renders any number of conversations; what it writes itself is trusted,
//! what users wrote is not (see [`crate::template`]). A model without a template continues the plain text of its
//! messages, an empty line between two of them.

use crate::facts::ModelFacts;
use crate::template::{ChatTemplate, Conversation, Limits, Message, Part, TemplateError, plain};

/// What stands between two messages where no template says it.
const BETWEEN_PLAIN: &str = "\n\n";

/// Renders conversations for one model.
#[derive(Debug)]
pub struct Prompter {
    template: Option<ChatTemplate>,
    bos: String,
    eos: String,
    controls: Vec<String>,
}

impl Prompter {
    /// From a template's source and the spellings of the control tokens.
    ///
    /// # Errors
    /// The template is too large, or not a template.
    pub fn new(
        template: Option<&str>,
        bos: &str,
        eos: &str,
        controls: Vec<String>,
    ) -> Result<Self, TemplateError> {
        let template = template.map(|source| ChatTemplate::compile(source, Limits::default())).transpose()?;
        Ok(Self { template, bos: bos.into(), eos: eos.into(), controls })
    }

    /// Of a model.
    ///
    /// # Errors
    /// As [`Prompter::new`].
    pub fn of(facts: &ModelFacts) -> Result<Self, TemplateError> {
        let tokenizer = &facts.tokenizer;
        let spelling = |id: Option<u32>| id.and_then(|id| tokenizer.text(id)).unwrap_or_default();
        let controls = tokenizer.special.iter().map(|token| token.text.clone()).collect();
        Self::new(
            facts.chat_template.as_deref(),
            spelling(tokenizer.bos_id),
            spelling(tokenizer.eos_id),
            controls,
        )
    }

    /// The prompt that asks for the next message.
    ///
    /// # Errors
    /// The template refuses the conversation or costs too much; see [`TemplateError`].
    pub fn render(&self, messages: &[Message]) -> Result<Vec<Part>, TemplateError> {
        match &self.template {
            None => {
                let texts: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
                Ok(plain(texts.join(BETWEEN_PLAIN)))
            }
            Some(template) => template.render(&Conversation {
                messages,
                add_generation_prompt: true,
                bos: &self.bos,
                eos: &self.eos,
                controls: &self.controls,
                now_unix_s: None,
                extra: Default::default(),
            }),
        }
    }
}
