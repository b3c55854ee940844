//! From a typed request to an ask: every count, range and text is checked, and the prompt is made.
//!
//! The order is by price. Numbers come first, then counts, then the texts (one pass each), and last the chat template,
//! which has bounds of its own. Text of a client reaches the prompt only through the template, which marks it: its
//! spellings of control tokens stay plain text (`qeil_model::template`).

use crate::backend::{Ask, Model, Sampling};
use crate::body::{ChatMessage, ChatRequest, Content, Extension, Stop};
use crate::error::{ApiError, echo};
use crate::limits::{
    LOGIT_BIAS_ABS_MAX, LOGIT_BIAS_MAX, MESSAGES_MAX, PARTS_MAX, STOP_STRING_BYTES_MAX, STOP_STRINGS_MAX,
    TEMPERATURE_MAX, TOKENS_DEFAULT, USER_BYTES_MAX,
};
use crate::text;
use axum::http::StatusCode;
use qeil_control::config::Limits;
use qeil_control::event::Priority;
use qeil_model::template::{Message, Role, TemplateError};
use qeil_tasks::Verifier;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// Most kept tokens of `top_k`: more than any vocabulary has.
const TOP_K_MAX: u64 = 1 << 20;

/// A request that was checked.
#[derive(Debug)]
pub struct Checked {
    /// What goes down.
    pub ask: Ask,
    /// Whether the answer comes piece by piece.
    pub stream: bool,
    /// Whether a stream ends with the numbers of tokens.
    pub include_usage: bool,
    /// Judge of the samples.
    pub judge: Option<Verifier>,
}

/// Check a request of client number `client`.
///
/// # Errors
/// 400 about the first field that is wrong, 404 where the model is not served.
pub fn check(
    request: ChatRequest,
    models: &[Arc<Model>],
    limits: &Limits,
    client: u32,
) -> Result<Checked, ApiError> {
    let model = find(models, &request.model, Some("model"))?;
    refuse_what_is_not_offered(&request)?;
    let stream = request.stream.unwrap_or(false);
    if request.stream_options.is_some() && !stream {
        return Err(ApiError::invalid("stream_options", "stream_options needs stream to be true"));
    }
    let samples = whole("n", request.n.unwrap_or(1), 1, limits.samples_max.into())? as u32;
    let tokens_max = tokens_max(&request, model, limits)?;
    let sampling = sampling(&request, model)?;
    let extension = request.qeil.unwrap_or_default();
    let judge = judge(&extension)?;
    let deadline_s = seconds(&extension, limits)?;
    let energy_budget_j = joules(&extension, limits)?;
    if let Some(user) = &request.user {
        at_most("user", "bytes", user.len(), USER_BYTES_MAX)?;
        text::check("user", user)?;
    }
    let stop = stop(request.stop)?;
    let messages = messages(request.messages)?;
    let prompt = model.prompter.render(&messages).map_err(|error| refused_by_template(&error))?;
    if prompt.iter().all(|part| part.text.is_empty()) {
        return Err(ApiError::invalid("messages", "the conversation is empty"));
    }
    Ok(Checked {
        ask: Ask {
            model: model.id.clone(),
            client,
            priority: extension.priority.unwrap_or(Priority::Interactive),
            prompt,
            samples,
            tokens_max,
            sampling,
            stop,
            deadline_s,
            energy_budget_j,
            until_pass: judge.is_some(),
        },
        stream,
        include_usage: request.stream_options.and_then(|options| options.include_usage).unwrap_or(false),
        judge,
    })
}

/// The served model of a name.
///
/// # Errors
/// 404.
pub fn find<'a>(models: &'a [Arc<Model>], name: &str, param: Option<&str>) -> Result<&'a Model, ApiError> {
    models.iter().find(|model| model.id == name).map(Arc::as_ref).ok_or_else(|| ApiError {
        param: param.map(Into::into),
        ..ApiError::new(
            StatusCode::NOT_FOUND,
            "model_not_found",
            format!("the model `{}` is not served here; GET /v1/models lists those that are", echo(name)),
        )
    })
}

/// Fields that OpenAI's clients may send with a value that means nothing; any other value is not offered.
fn refuse_what_is_not_offered(request: &ChatRequest) -> Result<(), ApiError> {
    let zero = |value: Option<f64>| value.is_none_or(|value| value == 0.0);
    let text = |kind: &str| kind == "text";
    let checks = [
        ("logprobs", "false", !request.logprobs.unwrap_or(false)),
        ("top_logprobs", "0", request.top_logprobs.unwrap_or(0) == 0),
        ("frequency_penalty", "0", zero(request.frequency_penalty)),
        ("presence_penalty", "0", zero(request.presence_penalty)),
        (
            "response_format.type",
            "text",
            request.response_format.as_ref().is_none_or(|format| text(&format.kind)),
        ),
    ];
    match checks.into_iter().find(|check| !check.2) {
        None => Ok(()),
        Some((field, only, _)) => {
            Err(ApiError::field(field, "unsupported_value", format!("{field}: only {only} is supported")))
        }
    }
}

fn tokens_max(request: &ChatRequest, model: &Model, limits: &Limits) -> Result<u32, ApiError> {
    let (field, asked) = match (request.max_completion_tokens, request.max_tokens) {
        (Some(new), Some(old)) if new != old => {
            let message = "max_tokens and max_completion_tokens differ; send one of them";
            return Err(ApiError::invalid("max_tokens", message));
        }
        (Some(new), _) => ("max_completion_tokens", Some(new)),
        (None, old) => ("max_tokens", old),
    };
    let most = limits.tokens_max.min(model.context_tokens);
    match asked {
        None => Ok(TOKENS_DEFAULT.min(most)),
        Some(asked) => Ok(whole(field, asked, 1, most.into())? as u32),
    }
}

fn sampling(request: &ChatRequest, model: &Model) -> Result<Sampling, ApiError> {
    let real = |field, value: Option<f64>, default| {
        value.map_or(Ok(default), |value| ranged(field, value, 0.0, 1.0)).map(|value| value as f32)
    };
    let temperature = match request.temperature {
        None => 1.0,
        Some(value) => ranged("temperature", value, 0.0, TEMPERATURE_MAX)? as f32,
    };
    Ok(Sampling {
        logit_bias: logit_bias(request, model)?,
        temperature,
        top_k: whole("top_k", request.top_k.unwrap_or(0), 0, TOP_K_MAX)? as u32,
        top_p: real("top_p", request.top_p, 1.0)?,
        min_p: real("min_p", request.min_p, 0.0)?,
        seed: seed(request.seed.as_ref())?,
    })
}

fn logit_bias(request: &ChatRequest, model: &Model) -> Result<Vec<(u32, f32)>, ApiError> {
    let Some(biases) = &request.logit_bias else { return Ok(Vec::new()) };
    at_most("logit_bias", "tokens", biases.len(), LOGIT_BIAS_MAX)?;
    let one = |(token, &bias): (&String, &f64)| {
        let field = format!("logit_bias.{}", echo(token));
        let digits = token.bytes().all(|byte| byte.is_ascii_digit());
        let id = token.parse::<u32>().ok().filter(|&id| digits && id < model.vocab_tokens);
        let id = id.ok_or_else(|| {
            let most = model.vocab_tokens.saturating_sub(1);
            ApiError::invalid(&field, format!("{field}: must be a token id of the model, 0 to {most}"))
        })?;
        Ok((id, ranged(&field, bias, -LOGIT_BIAS_ABS_MAX, LOGIT_BIAS_ABS_MAX)? as f32))
    };
    biases.iter().map(one).collect()
}

/// The seed given, or one that nobody knows beforehand.
fn seed(given: Option<&serde_json::Number>) -> Result<u64, ApiError> {
    match given {
        // The hasher's keys come from the operating system: as random as a seed needs to be.
        None => Ok(RandomState::new().hash_one(0_u8)),
        Some(number) => number
            .as_u64()
            .or_else(|| number.as_i64().map(i64::cast_unsigned))
            .ok_or_else(|| ApiError::invalid("seed", "seed must be a whole number of at most 64 bits")),
    }
}

fn judge(extension: &Extension) -> Result<Option<Verifier>, ApiError> {
    let field = "qeil.until_pass";
    let Some(verifier) = &extension.until_pass else { return Ok(None) };
    let offered = match verifier {
        Verifier::Exact { .. } | Verifier::Text { .. } | Verifier::Number { .. } => true,
        Verifier::Choice { .. } | Verifier::Regex { .. } => true,
        // They run code, cost more than a pass over the output, or know no answer.
        Verifier::Python(_) | Verifier::JsonSchema { .. } | Verifier::Agreement { .. } => false,
    };
    if !offered {
        let message = format!("{field}.type: only exact, text, number, choice and regex are supported");
        return Err(ApiError::field("qeil.until_pass.type", "unsupported_value", message));
    }
    verifier.check().map_err(|invalid| ApiError::invalid(field, format!("{field}: {}", invalid.why)))?;
    Ok(Some(verifier.clone()))
}

fn seconds(extension: &Extension, limits: &Limits) -> Result<Option<f64>, ApiError> {
    let field = "qeil.deadline_s";
    extension.deadline_s.map(|s| above_zero(field, s, limits.deadline_max_s)).transpose()
}

fn joules(extension: &Extension, limits: &Limits) -> Result<Option<f64>, ApiError> {
    let field = "qeil.energy_budget_j";
    let most = limits.energy_max_j.unwrap_or(f64::MAX);
    extension.energy_budget_j.map(|j| above_zero(field, j, most)).transpose()
}

fn stop(stop: Option<Stop>) -> Result<Vec<String>, ApiError> {
    let strings = match stop {
        None => Vec::new(),
        Some(Stop::One(one)) => vec![one],
        Some(Stop::Many(many)) => many,
    };
    at_most("stop", "strings", strings.len(), STOP_STRINGS_MAX)?;
    for (i, string) in strings.iter().enumerate() {
        let field = format!("stop[{i}]");
        if string.is_empty() {
            return Err(ApiError::invalid(&field, format!("{field} is empty")));
        }
        at_most(&field, "bytes", string.len(), STOP_STRING_BYTES_MAX)?;
        text::check(&field, string)?;
    }
    Ok(strings)
}

fn messages(messages: Vec<ChatMessage>) -> Result<Vec<Message>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::invalid("messages", "messages is empty"));
    }
    at_most("messages", "messages", messages.len(), MESSAGES_MAX)?;
    messages.into_iter().enumerate().map(|(i, message)| one_message(i, message)).collect()
}

fn one_message(i: usize, message: ChatMessage) -> Result<Message, ApiError> {
    let role = match message.role.as_str() {
        // OpenAI's newer name of the same thing.
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => {
            let field = format!("messages[{i}].role");
            let message = format!("{field} must be system, developer, user or assistant");
            return Err(ApiError::field(field, "unsupported_value", message));
        }
    };
    let field = format!("messages[{i}].content");
    let parts = match message.content {
        Content::Text(text) => {
            text::check(&field, &text)?;
            return Ok(Message::new(role, text));
        }
        Content::Parts(parts) => parts,
    };
    at_most(&field, "parts", parts.len(), PARTS_MAX)?;
    let mut whole = String::new();
    for (j, part) in parts.into_iter().enumerate() {
        let field = format!("{field}[{j}]");
        if part.kind != "text" {
            let message = format!("{field}.type: only text is supported");
            return Err(ApiError::field(format!("{field}.type"), "unsupported_value", message));
        }
        if let Some(name) = part.rest.keys().next() {
            let param = format!("{field}.{}", echo(name));
            return Err(ApiError::field(&param, "unknown_parameter", format!("unknown parameter: {param}")));
        }
        let Some(text) = part.text else {
            let param = format!("{field}.text");
            let message = format!("missing required parameter: {param}");
            return Err(ApiError::field(param, "missing_required_parameter", message));
        };
        text::check(&format!("{field}.text"), &text)?;
        whole.push_str(&text);
    }
    Ok(Message::new(role, whole))
}

/// What a client hears of a template's refusal. Failures of the template itself are not the client's doing, but neither
/// are they news: the conversation does not fit this model.
fn refused_by_template(error: &TemplateError) -> ApiError {
    let message = match error {
        TemplateError::TooLarge { .. } | TemplateError::Entangled(_) | TemplateError::NoMarks => {
            error.to_string()
        }
        TemplateError::Refused(why) => {
            format!("the model's chat template refuses this conversation: {}", echo(why))
        }
        _ => "the model's chat template cannot render this conversation".into(),
    };
    ApiError::field("messages", "template_refused", message)
}

fn whole(field: &str, value: u64, least: u64, most: u64) -> Result<u64, ApiError> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(ApiError::invalid(field, format!("{field} is {value}, but must lie between {least} and {most}")))
}

fn ranged(field: &str, value: f64, least: f64, most: f64) -> Result<f64, ApiError> {
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(ApiError::invalid(field, format!("{field} is {value}, but must lie between {least} and {most}")))
}

fn above_zero(field: &str, value: f64, most: f64) -> Result<f64, ApiError> {
    if value > 0.0 && value <= most {
        return Ok(value);
    }
    Err(ApiError::invalid(field, format!("{field} is {value}, but must be above 0 and at most {most}")))
}

fn at_most(field: &str, unit: &str, actual: usize, most: usize) -> Result<(), ApiError> {
    if actual <= most {
        return Ok(());
    }
    let message = format!("{field} has {actual} {unit}, but at most {most} are allowed");
    Err(ApiError::field(field, "too_large", message))
}
