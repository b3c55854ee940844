//! The Jinja engine as chat templates expect it.
//!
//! Templates are written against `transformers`: blocks trimmed, no escaping, Python's string methods, `tojson` in
//! Python's layout, `raise_exception` and `strftime_now`. Everything that could reach outside is left out at
//! compile time: without minijinja's `multi_template` there is no `include`, `import` or `extends`.

use super::{Conversation, Extra, Limits, TemplateError, clock};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, State, Value, context, syntax::SyntaxConfig, value::Kwargs,
};
use serde::Serialize as _;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::{collections::BTreeMap, io};

/// The one template's name.
const NAME: &str = "chat";
/// Bytes of (marked) input that earn one more fuel. One fuel pays for 64 bytes, so every byte may be handled about
/// sixteen times.
const INPUT_BYTES_PER_FUEL: u64 = 4;
/// Bytes that marks make of one byte of input.
const MARKED_BYTES_PER_BYTE: u64 = 5;
/// Most characters of a template's own error message that are passed on.
const MESSAGE_CHARS_MAX: usize = 500;
/// Deepest indentation `tojson` makes.
const INDENT_MAX: usize = 16;
/// What the template finds under these names is ours.
const NAMES_TAKEN: [&str; 8] = [
    "messages",
    "add_generation_prompt",
    "bos_token",
    "eos_token",
    "tools",
    "documents",
    "raise_exception",
    "strftime_now",
];

/// A compiled template in its environment.
#[derive(Debug)]
pub(super) struct Engine {
    environment: Environment<'static>,
    fuel: u64,
}

/// Marks an error as the template's own decision.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

impl Engine {
    pub fn new(source: &str, limits: &Limits) -> Result<Self, TemplateError> {
        let syntax = |e: Error| TemplateError::Syntax(described(&e));
        let mut environment = Environment::new();
        environment.set_syntax(
            SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(syntax)?,
        );
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_recursion_limit(limits.depth_max);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(Raised(message)))
        });
        environment.add_template_owned(NAME, source.to_owned()).map_err(syntax)?;
        Ok(Self { environment, fuel: limits.fuel })
    }

    /// Render, with every text of users passed through `coded`.
    pub fn render(
        &self,
        conversation: &Conversation<'_>,
        coded: impl Fn(&str) -> String,
    ) -> Result<String, TemplateError> {
        let input_bytes: u64 = conversation.texts().map(|text| text.len() as u64).sum();
        let earned = input_bytes * MARKED_BYTES_PER_BYTE / INPUT_BYTES_PER_FUEL;
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(self.fuel.saturating_add(earned)));

        let mut values: BTreeMap<&str, Value> = BTreeMap::new();
        for (name, extra) in &conversation.extra {
            let value = match extra {
                Extra::Bool(value) => Value::from(*value),
                Extra::Integer(value) => Value::from(*value),
                Extra::Text(text) => Value::from(coded(text)),
            };
            if !is_free_name(name) {
                return Err(TemplateError::ExtraName(name.clone()));
            }
            values.insert(name, value);
        }
        let messages = conversation.messages.iter().map(|message| {
            context! { role => message.role.as_str(), content => coded(&message.content) }
        });
        values.insert("messages", Value::from(messages.collect::<Vec<_>>()));
        values.insert("add_generation_prompt", conversation.add_generation_prompt.into());
        values.insert("bos_token", conversation.bos.into());
        values.insert("eos_token", conversation.eos.into());
        // `transformers` passes these always; templates ask whether they are none.
        values.insert("tools", ().into());
        values.insert("documents", ().into());
        if let Some(now) = conversation.now_unix_s {
            let strftime = move |format: String| {
                clock::strftime(now, &format)
                    .ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "unknown date format"))
            };
            values.insert("strftime_now", Value::from_function(strftime));
        }
        let template = environment.get_template(NAME).map_err(failure)?;
        template.render(Value::from(values)).map_err(failure)
    }
}

fn is_free_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !NAMES_TAKEN.contains(&name)
}

fn failure(e: Error) -> TemplateError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&e);
    while let Some(at) = cause {
        if let Some(Raised(message)) = at.downcast_ref() {
            return TemplateError::Refused(message.chars().take(MESSAGE_CHARS_MAX).collect());
        }
        if at.downcast_ref::<Error>().is_some_and(|e| e.kind() == ErrorKind::OutOfFuel) {
            return TemplateError::Exhausted;
        }
        cause = at.source();
    }
    TemplateError::Failed(described(&e))
}

fn described(e: &Error) -> String {
    let line = e.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    let detail = e.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
    format!("{line}{}{detail}", e.kind()).chars().take(MESSAGE_CHARS_MAX).collect()
}

/// `tojson` as `transformers` has it: Python's layout, nothing escaped that need not be.
fn tojson(_state: &State, value: Value, indent: Option<usize>, options: Kwargs) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => options.get::<Option<usize>>("indent")?,
    };
    for name in ["ensure_ascii", "sort_keys", "separators"] {
        let _ = options.get::<Option<Value>>(name)?; // accepted; their effect on what templates write is nil
    }
    options.assert_all_used()?;
    let mut out = Vec::new();
    let done = match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut out, PythonLayout)),
        Some(spaces) => {
            let spaces = " ".repeat(spaces.min(INDENT_MAX));
            let layout = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut out, layout))
        }
    };
    let wrong = |why: String| Error::new(ErrorKind::BadSerialization, why);
    done.map_err(|e| wrong(e.to_string()))?;
    String::from_utf8(out).map_err(|e| wrong(e.to_string()))
}

/// `json.dumps`: a space after commas and colons.
struct PythonLayout;

impl Formatter for PythonLayout {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}
