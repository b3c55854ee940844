//! The routes, and what happens to a request on its way to the backend.
//!
//! The order is by price and by trust: is the server still serving, who asks, is there room, how large is the body, what
//! does it say. Only then is anything asked of the backend.

use crate::answer::{Heading, Tally};
use crate::ask::{self, Checked};
use crate::backend::{Backend, Model};
use crate::body;
use crate::error::ApiError;
use crate::keys::Keys;
use crate::limits::{BODY_BYTES_MAX, BODY_TIME_MAX, CHECKS_MAX, COMPLETIONS_MAX};
use crate::phase::Phase;
use crate::stream::Course;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Path, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Number of a client, for fair shares.
#[derive(Debug, Clone, Copy)]
struct Client(u32);

/// What all requests share.
pub struct App {
    backend: Arc<dyn Backend>,
    keys: Option<Keys>,
    /// Whether only this machine's own names for itself are answered.
    local: bool,
    phase: Phase,
    /// Room for bodies that are being checked.
    checks: Semaphore,
    /// Room for completions in flight.
    completions: Arc<Semaphore>,
    /// Tells the answers of this server from those of another, and clients from each other.
    random: RandomState,
    answers: AtomicU64,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("backend", &self.backend)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl App {
    /// Over a backend; with keys, only those who have one may ask. `local` says that it listens on the loopback.
    pub fn new(backend: Arc<dyn Backend>, keys: Option<Keys>, local: bool, phase: Phase) -> Self {
        Self {
            backend,
            // A key is proof enough.
            local: local && keys.is_none(),
            keys,
            phase,
            checks: Semaphore::new(CHECKS_MAX),
            completions: Arc::new(Semaphore::new(COMPLETIONS_MAX)),
            random: RandomState::new(),
            answers: AtomicU64::new(1),
        }
    }

    /// The routes.
    pub fn router(self) -> Router {
        let app = Arc::new(self);
        let asking = Router::new()
            .route("/v1/chat/completions", post(chat))
            .route("/v1/models", get(models))
            .route("/v1/models/{*id}", get(model))
            .layer(middleware::from_fn_with_state(Arc::clone(&app), known));
        Router::new()
            .route("/health/live", get(live))
            .route("/health/ready", get(ready))
            .merge(asking)
            .fallback(nothing_here)
            .method_not_allowed_fallback(wrong_method)
            .with_state(app)
    }

    /// A page of another site can have its own name resolve to the loopback, and then its scripts may talk to us as if we
    /// were that site; but they cannot hide the name that they use.
    fn host(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let host = headers.get(HOST).map(|value| value.to_str().unwrap_or_default());
        if !self.local || host.is_none_or(is_loopback) {
            return Ok(());
        }
        let message = "this server listens on the loopback, and answers to no other name";
        Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", message))
    }

    fn client(&self, headers: &HeaderMap, peer: Option<Peer>) -> Result<Client, ApiError> {
        let Some(keys) = &self.keys else {
            // Without keys the address has to do.
            return Ok(Client(peer.map_or(0, |peer| self.random.hash_one(peer.0) as u32)));
        };
        let key = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let key = key.and_then(|value| value.strip_prefix("Bearer "));
        match key.and_then(|key| keys.find(key.trim())) {
            Some(place) => Ok(Client(place as u32 + 1)),
            None => Err(ApiError::new(
                StatusCode::UNAUTHORIZED,
                "invalid_api_key",
                "this server needs a valid API key: Authorization: Bearer KEY",
            )),
        }
    }

    async fn chat(&self, client: Client, request: Request) -> Result<Response, ApiError> {
        if !self.phase.is_serving() {
            return Err(ApiError::stopping());
        }
        let permit = Arc::clone(&self.completions).try_acquire_owned();
        let permit = permit.map_err(|_| ApiError::overloaded(1.0))?;
        let bytes = read(request).await?;
        let Checked { ask, stream, include_usage, judge } = self.check(bytes, client).await?;

        let id = format!(
            "chatcmpl-{:016x}-{}",
            self.random.hash_one(0_u8),
            self.answers.fetch_add(1, Ordering::Relaxed)
        );
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let heading = Heading::new(id, created, &ask, include_usage);
        let tally = Tally::new(heading, ask.samples, !stream || judge.is_some());
        let mut phase = self.phase.clone();
        let flow = tokio::select! {
            biased;
            () = phase.withdrawn() => return Err(ApiError::stopping()),
            flow = self.backend.submit(ask) => flow?,
        };
        let course = Course { flow, tally, judge, phase, permit };
        if stream { Ok(course.pieces()) } else { course.whole().await.map(|answer| json_response(&answer)) }
    }

    /// Parse and check a body, outside of the threads that serve connections: it may take milliseconds.
    async fn check(self: &App, bytes: Bytes, client: Client) -> Result<Checked, ApiError> {
        let broken = || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "internal error");
        let _room = self.checks.acquire().await.map_err(|_| broken())?;
        let backend = Arc::clone(&self.backend);
        let work = move || {
            let request = body::parse(&bytes)?;
            ask::check(request, backend.models(), backend.limits(), client.0)
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| broken())?
    }
}

/// Whether a Host header names this machine itself, with or without a port.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The body of a request, if it is JSON, not too long, and comes in time.
async fn read(request: Request) -> Result<Bytes, ApiError> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        // Pages of other sites can send any other type to a local server without asking.
        let message = "the Content-Type must be application/json";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message));
    }
    let too_large = || {
        let message = format!("the body has more than {BODY_BYTES_MAX} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced.and_then(|text| text.parse::<u64>().ok()).is_some_and(|bytes| bytes > BODY_BYTES_MAX as u64)
    {
        return Err(too_large());
    }
    let reading = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX);
    match tokio::time::timeout(BODY_TIME_MAX, reading).await {
        Ok(Ok(bytes)) => Ok(bytes),
        // Too long without having said so; or the client broke off, and then nobody reads this.
        Ok(Err(_)) => Err(too_large()),
        Err(_) => {
            let message = format!("the body did not arrive within {} s", BODY_TIME_MAX.as_secs());
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message))
        }
    }
}

async fn known(
    State(app): State<Arc<App>>,
    peer: Option<Extension<Peer>>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = peer.map(|Extension(peer)| peer);
    match app.host(request.headers()).and_then(|()| app.client(request.headers(), peer)) {
        Err(error) => error.into_response(),
        Ok(client) => {
            request.extensions_mut().insert(client);
            next.run(request).await
        }
    }
}

async fn chat(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    request: Request,
) -> Result<Response, ApiError> {
    app.chat(client, request).await
}

async fn models(State(app): State<Arc<App>>) -> Response {
    let data: Vec<Value> = app.backend.models().iter().map(|model| card(model)).collect();
    json_response(&json!({"object": "list", "data": data}))
}

async fn model(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response, ApiError> {
    ask::find(app.backend.models(), &id, None).map(|model| json_response(&card(model)))
}

fn card(model: &Model) -> Value {
    json!({
        "id": model.id,
        "object": "model",
        "created": model.created_unix_s,
        "owned_by": "qeil",
        "qeil": {
            "parameters": model.about.parameters,
            "quantisation": model.about.quantisation,
            "weightless": model.about.weightless,
            "context_tokens": model.context_tokens,
            "vocab_tokens": model.vocab_tokens,
        },
    })
}

async fn live() -> Response {
    json_response(&json!({"status": "live"}))
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    let devices = app.backend.devices().await;
    let serving = app.phase.is_serving();
    let ready = serving && devices.iter().any(|device| device.serving);
    let status = match (serving, ready) {
        (false, _) => "shutting_down",
        (true, false) => "no_device",
        (true, true) => "ready",
    };
    let mut response = json_response(&json!({"status": status, "devices": devices}));
    if !ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

async fn nothing_here() -> ApiError {
    let message =
        "there is nothing here; POST /v1/chat/completions, GET /v1/models, /health/live and /health/ready";
    ApiError::new(StatusCode::NOT_FOUND, "unknown_url", message)
}

async fn wrong_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not know that method")
}

fn json_response(value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
