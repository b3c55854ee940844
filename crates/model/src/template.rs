//! Chat templates, rendered so that text from users never becomes a control token.
//!
//! A chat template comes out of a model file, so it is as hostile as the file: it runs with bounded fuel (which
//! counts steps and bytes), depth, source and output, and can include nothing. What users typed is hostile too: the
//! engine reads control tokens in **trusted** parts only, so rendering must tell the template's own words from
//! theirs, whatever the template does with them. It does so by taint (see `taint`): marks that occur nowhere in
//! the input go in behind every character a user wrote, and come out of the rendered text with what they mark.
//!
//! Marks could disturb a template that looks into a message (`'</think>' in content`). So each conversation is
//! rendered plainly as well, and a marked rendering counts only if it is the plain one once its marks are gone. The
//! ways are tried in this order:
//!
//! 1. every character marked: nothing can slip through;
//! 2. the template's own string literals left whole where they occur in a message (and marked as a whole), so that
//!    tests and splits on them work;
//! 3. no marks at all and all of it trusted, allowed only where no user typed a character that control tokens are
//!    made of, so that there is nothing to smuggle;
//! 4. otherwise [`TemplateError::Entangled`].
//!
//! White space around a message stays unmarked, or `| trim` would not find it; it ends up in trusted parts, where
//! it means nothing.

mod clock;
mod engine;
mod taint;

use engine::Engine;
use std::{collections::BTreeMap, fmt, str::FromStr};
use taint::{Literals, Marks};

/// What rendering a template may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of template source. The longest in use (tool calling spelled out) have about 20 KiB.
    pub source_bytes_max: usize,
    /// Most messages of one conversation.
    pub messages_max: usize,
    /// Most bytes of all messages together.
    pub input_bytes_max: usize,
    /// Most bytes of the rendered prompt.
    pub output_bytes_max: usize,
    /// Fuel of one rendering besides what its input earns: a step costs one, and so do 64 bytes made.
    pub fuel: u64,
    /// Deepest nesting of blocks, loops and macro calls; a macro call counts for about ten.
    pub depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            source_bytes_max: 256 << 10,
            messages_max: 4096,
            input_bytes_max: 4 << 20,
            output_bytes_max: 5 << 20,
            fuel: 500_000,
            depth_max: 200,
        }
    }
}

/// Who says a message. There are no others: a role becomes template text.
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

impl Role {
    /// As chat templates spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let roles = [Self::System, Self::User, Self::Assistant, Self::Tool];
        roles.into_iter().find(|role| role.as_str() == text).ok_or(UnknownRole)
    }
}

/// A role that is none of those allowed. (It is not repeated: it may be anything.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message's role must be system, user, assistant or tool")]
pub struct UnknownRole;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What they say.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into() }
    }
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
    /// Spellings of all control tokens of the model. (Not of user-defined ones: llama.cpp reads those in any text.)
    pub controls: &'a [String],
    /// What `strftime_now` answers, in seconds since 1970 UTC. `None`: the template finds no such function.
    pub now_unix_s: Option<i64>,
    /// Further values.
    pub extra: BTreeMap<String, Extra>,
}

impl Conversation<'_> {
    /// Everything users wrote.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let extra = self.extra.values().filter_map(|extra| match extra {
            Extra::Text(text) => Some(text.as_str()),
            Extra::Bool(_) | Extra::Integer(_) => None,
        });
        self.messages.iter().map(|message| message.content.as_str()).chain(extra)
    }
}

/// Why a template could not be compiled or rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Something has more than it may have.
    #[error("the {what} has {actual} {unit}, but at most {most} are allowed")]
    TooLarge {
        /// What.
        what: &'static str,
        /// In what it is measured.
        unit: &'static str,
        /// How many it has.
        actual: usize,
        /// How many it may have.
        most: usize,
    },
    /// The model's template is not one that can be understood.
    #[error("the model's chat template is not valid: {0}")]
    Syntax(String),
    /// The template itself says no (`raise_exception`).
    #[error("the model's chat template refuses this conversation: {0}")]
    Refused(String),
    /// The template does more work than it may.
    #[error("the model's chat template needs more work or memory than a template may")]
    Exhausted,
    /// The template fails.
    #[error("the model's chat template failed: {0}")]
    Failed(String),
    /// The template takes messages apart in a way that leaves no telling which text is whose.
    #[error(
        "the model's chat template takes messages apart, and a message contains characters of control tokens ({0}), \
         so its text could not be kept apart from the template's; send it without them"
    )]
    Entangled(String),
    /// An extra value's name is not usable.
    #[error("{0:?} cannot be the name of a template value: it must be an identifier that has no meaning yet")]
    ExtraName(String),
    /// The messages use up all characters that marks could be made of.
    #[error("the messages contain every private-use character there is")]
    NoMarks,
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    engine: Engine,
    literals: Literals,
    source_chars: Vec<char>,
    limits: Limits,
}

impl ChatTemplate {
    /// Compile a template.
    ///
    /// # Errors
    /// It is too large, or not a template.
    pub fn compile(source: &str, limits: Limits) -> Result<Self, TemplateError> {
        at_most("chat template", "bytes", source.len(), limits.source_bytes_max)?;
        Ok(Self {
            engine: Engine::new(source, &limits)?,
            literals: Literals::of(source),
            source_chars: taint::private_use(source).collect(),
            limits,
        })
    }

    /// Render a conversation. The texts of the parts, joined, are what a plain rendering gives.
    ///
    /// # Errors
    /// See [`TemplateError`].
    pub fn render(&self, conversation: &Conversation<'_>) -> Result<Vec<Part>, TemplateError> {
        at_most("conversation", "messages", conversation.messages.len(), self.limits.messages_max)?;
        let input_bytes = conversation.texts().map(str::len).sum();
        at_most("conversation", "bytes", input_bytes, self.limits.input_bytes_max)?;

        let plain = self.engine.render(conversation, |text| text.to_owned())?;
        at_most("rendered prompt", "bytes", plain.len(), self.limits.output_bytes_max)?;

        let controls = taint::Controls::of(conversation.controls);
        let used = self.source_chars.iter().copied().chain(conversation.texts().flat_map(taint::private_use));
        let other =
            [conversation.bos, conversation.eos].map(|text| taint::private_use(text).collect::<Vec<_>>());
        let mut marks =
            Marks::free_of(used.chain(other.into_iter().flatten())).ok_or(TemplateError::NoMarks)?;

        for whole_literals in [false, true] {
            let literals = if whole_literals { self.literals.exempt(&controls) } else { Literals::default() };
            let coder = marks.coder(&literals, &controls).ok_or(TemplateError::NoMarks)?;
            // A failure here is the marks' doing: the plain rendering has succeeded.
            let Ok(marked) = self.engine.render(conversation, |text| coder.mark(text)) else { continue };
            if let Some(parts) = coder.unmark(&marked, &plain) {
                return Ok(parts);
            }
        }
        match conversation.texts().find_map(|text| controls.character_in(text)) {
            None => Ok(vec![Part { text: plain, trusted: true }]
                .into_iter()
                .filter(|p| !p.text.is_empty())
                .collect()),
            Some(character) => Err(TemplateError::Entangled(character.to_string())),
        }
    }
}

/// The prompt of a model without a chat template (GPT-2): the text as it is, untrusted.
pub fn plain(text: impl Into<String>) -> Vec<Part> {
    vec![Part { text: text.into(), trusted: false }]
}

fn at_most(what: &'static str, unit: &'static str, actual: usize, most: usize) -> Result<(), TemplateError> {
    if actual > most { Err(TemplateError::TooLarge { what, unit, actual, most }) } else { Ok(()) }
}
