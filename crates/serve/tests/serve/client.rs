//! Requests as tests send them: through the router, or raw through a socket.

use crate::toy::Toy;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use qeil_serve::keys::Keys;
use qeil_serve::phase::Stages;
use qeil_serve::routes::App;
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt;

/// A router over a toy, without connections. The stages must be kept: without them the server is over.
pub fn router(toy: &Arc<Toy>, keys: Option<Keys>) -> (Router, Stages) {
    let (stages, phase) = Stages::serving();
    (App::new(Arc::clone(toy) as _, keys, true, phase).router(), stages)
}

/// A small request.
pub fn hello() -> Value {
    json!({"model": "toy", "messages": [{"role": "user", "content": "hello"}], "seed": 7, "max_tokens": 8})
}

/// A small request with some fields changed.
pub fn hello_with(changes: Value) -> Value {
    let mut body = hello();
    for (key, value) in changes.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub retry_after: Option<u64>,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The pieces of a stream, without the last word.
    pub fn pieces(&self) -> Vec<Value> {
        let data: Vec<&str> = self.text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        let (last, pieces) = data.split_last().unwrap();
        assert_eq!(*last, "[DONE]", "{}", self.text);
        pieces.iter().map(|piece| serde_json::from_str(piece).unwrap()).collect()
    }

    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

pub async fn send(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let retry_after =
        response.headers().get("retry-after").map(|value| value.to_str().unwrap().parse().unwrap());
    let bytes = axum::body::to_bytes(response.into_body(), 64 << 20).await.unwrap();
    Answer { status, retry_after, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

pub fn post(body: impl Into<Body>) -> Request<Body> {
    Request::post("/v1/chat/completions")
        .header("content-type", "application/json")
        .body(body.into())
        .unwrap()
}

pub async fn chat(router: &Router, body: &Value) -> Answer {
    send(router, post(body.to_string())).await
}

pub async fn get(router: &Router, path: &str) -> Answer {
    send(router, Request::get(path).body(Body::empty()).unwrap()).await
}
