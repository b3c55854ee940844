//! What a task is: a question, and how an answer to it is judged.
//!
//! In a file it is one line of JSON, flat, with either `prompt` or `messages`; [`Line`] is that line, and the only
//! place that knows its field names. A task checks its own bounds when it is made, whichever reader made it.

use crate::verifier::{Invalid, Verifier};
use serde::{Deserialize, Serialize};

/// Longest id, in bytes: it is shown in tables and stored with every sample.
pub const ID_BYTES_MAX: usize = 200;
/// Longest kind, licence or source, in bytes: labels, not texts.
pub const LABEL_BYTES_MAX: usize = 500;
/// Longest prompt, all messages together, in bytes: more than any model of the sizes measured here can hold.
pub const PROMPT_BYTES_MAX: usize = 256 << 10;
/// Most messages of a prompt: a long conversation.
pub const MESSAGES_MAX: usize = 64;
/// Most tokens that a task may ask for: beyond any context measured here.
pub const TOKENS_MAX: u32 = 1 << 17;
/// Most stop strings, as many as the engine takes.
pub const STOPS_MAX: usize = 16;
/// Longest stop string in bytes, as long as the engine takes.
pub const STOP_BYTES_MAX: usize = 256;
/// Roles that chat templates know.
pub const ROLES: [&str; 3] = ["system", "user", "assistant"];

/// A question with a judge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Line", into = "Line")]
pub struct Task {
    /// Unique in its set.
    pub id: String,
    /// The sort of task, for tables.
    pub kind: Option<String>,
    /// What the model is asked.
    pub prompt: Prompt,
    /// How the answer is judged.
    pub verifier: Verifier,
    /// Most tokens of an answer.
    pub tokens_max: Option<u32>,
    /// Texts that end an answer; they are not part of it.
    pub stop: Vec<String>,
    /// Under which licence the task may be used, as an SPDX expression where there is one.
    pub licence: Option<String>,
    /// Where it is from.
    pub source: Option<String>,
}

/// What the model is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// One message of the user, put into the model's chat template.
    Text(String),
    /// A conversation, put into the model's chat template.
    Messages(Vec<Message>),
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// One of [`ROLES`].
    pub role: String,
    /// What is said.
    pub content: String,
}

/// A task as it stands in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prompt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<Message>>,
    verifier: Verifier,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens_max: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stop: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    licence: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

impl Task {
    /// Whether every part keeps its bounds.
    ///
    /// # Errors
    /// Which field does not, and what it should be.
    pub fn check(&self) -> Result<(), Invalid> {
        length("id", &self.id, 1, ID_BYTES_MAX)?;
        if self.id.chars().any(char::is_control) {
            return Err(Invalid::new("id", "control characters", "use printable ones"));
        }
        for (field, label) in [("kind", &self.kind), ("licence", &self.licence), ("source", &self.source)] {
            if let Some(label) = label {
                length(field, label, 1, LABEL_BYTES_MAX)?;
            }
        }
        self.check_prompt()?;
        if let Some(n) = self.tokens_max.filter(|n| !(1..=TOKENS_MAX).contains(n)) {
            return Err(Invalid::new("tokens_max", format!("{n}"), format!("write 1 to {TOKENS_MAX}")));
        }
        if self.stop.len() > STOPS_MAX {
            let why = format!("{} stop strings", self.stop.len());
            return Err(Invalid::new("stop", why, format!("write at most {STOPS_MAX}")));
        }
        for stop in &self.stop {
            length("stop", stop, 1, STOP_BYTES_MAX)?;
        }
        self.verifier.check()
    }

    fn check_prompt(&self) -> Result<(), Invalid> {
        match &self.prompt {
            Prompt::Text(text) => length("prompt", text, 1, PROMPT_BYTES_MAX),
            Prompt::Messages(messages) => {
                if !(1..=MESSAGES_MAX).contains(&messages.len()) {
                    let why = format!("{} messages", messages.len());
                    return Err(Invalid::new("messages", why, format!("write 1 to {MESSAGES_MAX}")));
                }
                if let Some(odd) = messages.iter().find(|m| !ROLES.contains(&m.role.as_str())) {
                    let why = format!("the role {:?}", odd.role);
                    return Err(Invalid::new("messages", why, format!("write one of {}", ROLES.join(", "))));
                }
                let bytes = messages.iter().map(|message| message.content.len()).sum();
                within("messages", bytes, 1, PROMPT_BYTES_MAX)
            }
        }
    }
}

/// Whether a text is as long as it may be.
pub(crate) fn length(field: &str, text: &str, min: usize, max: usize) -> Result<(), Invalid> {
    within(field, text.len(), min, max)
}

fn within(field: &str, bytes: usize, min: usize, max: usize) -> Result<(), Invalid> {
    if (min..=max).contains(&bytes) {
        return Ok(());
    }
    Err(Invalid::new(field, format!("{bytes} bytes long"), format!("write {min} to {max} bytes")))
}

impl TryFrom<Line> for Task {
    type Error = Invalid;

    fn try_from(line: Line) -> Result<Self, Invalid> {
        let prompt = match (line.prompt, line.messages) {
            (Some(text), None) => Prompt::Text(text),
            (None, Some(messages)) => Prompt::Messages(messages),
            (Some(_), Some(_)) => {
                return Err(Invalid::new("messages", "there is a `prompt`, too", "leave one of the two"));
            }
            (None, None) => {
                return Err(Invalid::new("prompt", "missing", "write `prompt` (a text) or `messages`"));
            }
        };
        let Line { id, kind, verifier, tokens_max, stop, licence, source, .. } = line;
        let task = Self { id, kind, prompt, verifier, tokens_max, stop, licence, source };
        task.check()?;
        Ok(task)
    }
}

impl From<Task> for Line {
    fn from(task: Task) -> Self {
        let (prompt, messages) = match task.prompt {
            Prompt::Text(text) => (Some(text), None),
            Prompt::Messages(messages) => (None, Some(messages)),
        };
        let Task { id, kind, verifier, tokens_max, stop, licence, source, .. } = task;
        Self { id, kind, prompt, messages, verifier, tokens_max, stop, licence, source }
    }
}
