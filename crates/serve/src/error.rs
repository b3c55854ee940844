//! What a client is told when it does not get what it asked for.
//!
//! The shape is OpenAI's, `{"error": {"message", "type", "param", "code"}}`, since their clients turn it into typed
//! exceptions. A message is for whoever wrote the request: it names the field and the bound, and repeats at most a few
//! characters of the client's own words. What failed inside (paths, last words of a process) goes to the operator.

use crate::limits::ECHO_CHARS_MAX;
use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use qeil_control::event::Refusal;
use serde_json::{Value, json};

/// Seconds that a client should wait where nothing better is known.
const RETRY_AFTER_S: f64 = 1.0;
/// Longest wait that is asked for: by then a device is back or the operator has been there.
const RETRY_AFTER_MAX_S: f64 = 600.0;

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// Status of the answer.
    pub status: StatusCode,
    /// For whoever wrote the request.
    pub message: String,
    /// The field that is wrong, as a path.
    pub param: Option<String>,
    /// What programs can act on.
    pub code: &'static str,
    /// Seconds after which it may be tried again.
    pub retry_after_s: Option<f64>,
}

impl ApiError {
    /// An error with a status, a code for programs and a message for people.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), param: None, code, retry_after_s: None }
    }

    /// 400 about a field.
    pub fn field(param: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::new(StatusCode::BAD_REQUEST, code, message) }
    }

    /// 400: a field has a value that is not accepted.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::field(param, "invalid_value", message)
    }

    /// 503: the server is being stopped.
    pub fn stopping() -> Self {
        Self {
            retry_after_s: Some(RETRY_AFTER_S),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", "the server is shutting down")
        }
    }

    /// 429: too many requests are in flight.
    pub fn overloaded(retry_after_s: f64) -> Self {
        let message = "too many requests are waiting; try again later";
        Self {
            retry_after_s: Some(retry_after_s),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "overloaded", message)
        }
    }

    /// 500: it could not be completed. Why is not the client's to know.
    pub fn failed() -> Self {
        let message = "the request could not be completed: the devices that it was placed on failed";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message)
    }

    /// OpenAI's word for the kind of error.
    fn kind(&self) -> &'static str {
        match self.status.as_u16() {
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The body of the answer.
    pub fn body(&self) -> Value {
        json!({
            "error": {
                "message": self.message, "type": self.kind(), "param": self.param, "code": self.code,
            }
        })
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TooLarge { what, asked, most } => {
                let message = format!("{what} is {asked}, at most {most} is allowed");
                Self { param: field_of(&what), ..Self::new(StatusCode::BAD_REQUEST, "too_large", message) }
            }
            Refusal::Invalid(why) => Self::new(StatusCode::BAD_REQUEST, "invalid_value", why),
            Refusal::Overloaded { retry_after_s } => Self::overloaded(retry_after_s),
            Refusal::Hopeless(why) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "hopeless", why),
            Refusal::Unavailable { retry_after_s, .. } => Self {
                retry_after_s: Some(retry_after_s),
                ..Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "no_device",
                    "no device can serve at present; try again later",
                )
            },
        }
    }
}

/// The client's name for what the control loop speaks of in words of its own, if it has one.
fn field_of(what: &str) -> Option<String> {
    // The first that occurs counts.
    const FIELDS: [(&str, &str); 5] = [
        ("number of samples", "n"),
        ("of a sample", "max_completion_tokens"),
        ("prompt", "messages"),
        ("deadline", "qeil.deadline_s"),
        ("energy", "qeil.energy_budget_j"),
    ];
    FIELDS.into_iter().find(|(words, _)| what.contains(words)).map(|(_, field)| field.into())
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body().to_string()));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after_s {
            // Whole seconds, at least one: a client that comes back at once finds what it left.
            let seconds = if seconds.is_finite() { seconds.ceil() } else { RETRY_AFTER_MAX_S };
            let seconds = seconds.clamp(RETRY_AFTER_S, RETRY_AFTER_MAX_S) as u64;
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A client's own words, short and without what could disturb a terminal or a log.
pub fn echo(text: &str) -> String {
    let mut kept: String = text
        .chars()
        .take(ECHO_CHARS_MAX)
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if text.chars().nth(ECHO_CHARS_MAX).is_some() {
        kept.push('…');
    }
    kept
}
