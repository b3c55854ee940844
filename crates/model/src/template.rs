//! Chat templates, rendered so that text from users never becomes a control token.

use std::collections::BTreeMap;

/// What rendering a template may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of template source.
    pub source_bytes_max: usize,
    /// Most messages of one conversation.
    pub messages_max: usize,
    /// Most bytes of all messages together.
    pub input_bytes_max: usize,
    /// Most bytes of the rendered prompt.
    pub output_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            source_bytes_max: 256 << 10,
            messages_max: 4096,
            input_bytes_max: 4 << 20,
            output_bytes_max: 5 << 20,
        }
    }
}

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool.
    Tool,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What they say.
    pub content: String,
}

/// A piece of the rendered prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The text.
    pub text: String,
    /// Whether special-token spellings in it mean the tokens: true only for what the template itself wrote.
    pub trusted: bool,
}

/// A value a template may ask for beyond the messages (`enable_thinking`, `date_string`, …).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extra {
    /// A switch.
    Bool(bool),
    /// A number.
    Integer(i64),
    /// Text; as little trusted as a message.
    Text(String),
}

/// What to render.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conversation<'a> {
    /// The messages, oldest first.
    pub messages: &'a [Message],
    /// End with the beginning of the assistant's answer.
    pub add_generation_prompt: bool,
    /// Spelling of the beginning-of-sequence token.
    pub bos: &'a str,
    /// Spelling of the end-of-sequence token.
    pub eos: &'a str,
    /// Spellings of all control tokens of the model.
    pub controls: &'a [String],
    /// What `strftime_now` answers, in seconds since 1970 UTC. `None`: the template finds no such function.
    pub now_unix_s: Option<i64>,
    /// Further values.
    pub extra: BTreeMap<String, Extra>,
}

/// Why a template could not be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template itself says no.
    #[error("the chat template refuses this conversation: {0}")]
    Refused(String),
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    _limits: Limits,
}

impl ChatTemplate {
    /// Compile a template.
    ///
    /// # Errors
    /// It is too large, or not a template.
    pub fn compile(_source: &str, limits: Limits) -> Result<Self, TemplateError> {
        Ok(Self { _limits: limits })
    }

    /// Render a conversation.
    ///
    /// # Errors
    /// See [`TemplateError`].
    pub fn render(&self, _conversation: &Conversation<'_>) -> Result<Vec<Part>, TemplateError> {
        Err(TemplateError::Refused("not built yet".into()))
    }
}

/// The prompt of a model without a chat template (GPT-2): the text as it is, untrusted.
pub fn plain(text: impl Into<String>) -> Vec<Part> {
    vec![Part { text: text.into(), trusted: false }]
}
