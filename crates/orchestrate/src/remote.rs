//! A remote OpenAI-compatible endpoint as one more device: vLLM, llama-server, a Ray Serve or Kubernetes gateway.
//!
//! It is asked through `/completions` with the prompt that the chat template wrote, one stream for each sample, because
//! that is what lets a sample go on from text that another device had begun. Its tokens are counted by the pieces that it
//! streams; their ids are unknown, so a sample that moves away from it is tokenised from its text. Nothing here feels its
//! power: a request that it worked on has no joules. Its kin is its own, for its random numbers are.
//!
//! The client is blocking, one thread for each stream; there are as many as the device's sequences, and each ends with
//! the stream. A line that cannot be connected, or breaks, is the death of the device: what it held goes elsewhere, and
//! the loop tries it again after a pause.

use crate::ask::Ask;
use crate::device::{Device, End, Ended, JobEvent, JobEvents, Later, Placement, Running, Start};
use qeil_engine::request::{FinishReason, Prompt, Token};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use ureq::{Agent, Body, http::Response};

/// How long finding and reaching the endpoint may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long it may take to begin an answer: a prompt of thousands of tokens behind a full queue.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// How long a stream may go on: the longest deadline that the loop gives.
const STREAM_MAX: Duration = Duration::from_secs(600);
/// Bytes of one line of a stream: one piece of text with its JSON around it.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Bytes of an answer that is no stream.
const BODY_BYTES_MAX: u64 = 1 << 20;
/// Pieces beyond the tokens asked for: those that carry a role, a finish reason, the usage.
const EXTRA_PIECES: u32 = 8;

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address up to and with the version: `http://10.0.0.7:8000/v1`.
    pub base: String,
    /// The model's name there.
    pub model: String,
    /// Sent as a bearer token.
    pub key: Option<String>,
}

/// An endpoint as a device.
#[derive(Debug)]
pub struct RemoteDevice {
    endpoint: Endpoint,
}

impl RemoteDevice {
    /// The device at `endpoint`.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
}

impl Device for RemoteDevice {
    fn start(&self) -> Later<'_, Result<Arc<dyn Running>, String>> {
        let line = Arc::new(Line::new(self.endpoint.clone()));
        Box::pin(async move {
            let asked = Arc::clone(&line);
            tokio::task::spawn_blocking(move || asked.models())
                .await
                .map_err(|error| error.to_string())?
                .map_err(|error| error.to_string())?;
            Ok(Arc::new(RunningRemote { line, dead: watch::Sender::new(None) }) as Arc<dyn Running>)
        })
    }
}

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
enum Broken {
    /// The line: nobody answers, or the stream broke off.
    #[error("{0}")]
    Line(String),
    /// It does not take the request now, or ever: no fault of the line.
    #[error("{0}")]
    Refused(String),
    /// It failed on the request.
    #[error("{0}")]
    Failed(String),
}

/// The way to an endpoint.
#[derive(Debug)]
struct Line {
    endpoint: Endpoint,
    agent: Agent,
}

impl Line {
    fn new(endpoint: Endpoint) -> Self {
        let agent = Agent::config_builder()
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_recv_response(Some(ANSWER_MAX))
            .timeout_global(Some(STREAM_MAX))
            .http_status_as_error(false)
            .build()
            .new_agent();
        Self { endpoint, agent }
    }

    fn models(&self) -> Result<(), Broken> {
        let mut request = self.agent.get(format!("{}/models", self.endpoint.base));
        if let Some(key) = &self.endpoint.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut response = accepted(request.call())?;
        let text = body(&mut response)?;
        let names =
            serde_json::from_str::<Value>(&text).map_err(|error| Broken::Failed(error.to_string()))?;
        let known = |model: &Value| model["id"] == self.endpoint.model.as_str();
        match names["data"].as_array() {
            Some(models) if models.iter().any(known) => Ok(()),
            _ => Err(Broken::Failed(format!("it does not serve a model called {}", self.endpoint.model))),
        }
    }

    fn completion(&self, body: &Value) -> Result<Response<Body>, Broken> {
        let mut request = self.agent.post(format!("{}/completions", self.endpoint.base));
        if let Some(key) = &self.endpoint.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        accepted(request.header("content-type", "application/json").send(body.to_string()))
    }

    /// One sample, piece by piece, until it ends or nobody wants more.
    fn stream(
        &self,
        ask: &Ask,
        start: &Start,
        ended: &AtomicBool,
        mut tell: impl FnMut(&str),
    ) -> Result<FinishReason, Broken> {
        let body = self.question(ask, start)?;
        let response = self.completion(&body)?;
        let mut lines = BufReader::new(response.into_body().into_reader());
        let mut finish = None;
        let left = ask.tokens_max.saturating_sub(start.count);
        for _ in 0..left.saturating_add(EXTRA_PIECES) {
            let Some(data) = next_data(&mut lines)? else { break };
            if ended.load(Ordering::Relaxed) {
                return Ok(FinishReason::Cancelled);
            }
            if data == "[DONE]" {
                break;
            }
            let piece: Value = serde_json::from_str(&data)
                .map_err(|error| Broken::Failed(format!("{error}: {data:.80}")))?;
            if let Some(error) = piece["error"]["message"].as_str() {
                return Err(Broken::Failed(error.to_owned()));
            }
            let choice = &piece["choices"][0];
            if let Some(text) = choice["text"].as_str().filter(|text| !text.is_empty()) {
                tell(text);
            }
            match choice["finish_reason"].as_str() {
                Some("length") => finish = Some(FinishReason::Length),
                Some(_) => finish = Some(FinishReason::EndOfText),
                None => {}
            }
        }
        finish.ok_or_else(|| Broken::Line("its stream ended without a reason".into()))
    }

    fn question(&self, ask: &Ask, start: &Start) -> Result<Value, Broken> {
        if ask.grammar.is_some() || ask.ignore_end {
            return Err(Broken::Refused("the endpoint takes neither grammars nor benchmarks".into()));
        }
        let prompt = match &ask.prompt {
            Prompt::Parts(parts) => {
                let text: String = parts.iter().map(|part| part.text.as_str()).collect();
                json!(text + &String::from_utf8_lossy(&start.text))
            }
            Prompt::Tokens(tokens) => match &start.tokens {
                Some(emitted) => json!([tokens.as_slice(), emitted].concat()),
                None => return Err(Broken::Refused("a prompt of tokens cannot go on from text".into())),
            },
        };
        Ok(json!({
            "model": self.endpoint.model,
            "prompt": prompt,
            "max_tokens": ask.tokens_max.saturating_sub(start.count).max(1),
            "temperature": ask.sampling.temperature,
            "top_p": ask.sampling.top_p,
            // Its own random numbers: the same seed for two samples would give one text twice.
            "seed": ask.sampling.seed.wrapping_add(start.sample.into()) & SEED_MASK,
            "stop": ask.stop,
            "stream": true,
        }))
    }
}

/// Seeds travel as JSON numbers, and servers read them into 64 bits with a sign.
const SEED_MASK: u64 = u64::MAX >> 1;

fn accepted(sent: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Broken> {
    let mut response = sent.map_err(|error| Broken::Line(error.to_string()))?;
    let status = response.status().as_u16();
    let said = |response: &mut Response<Body>| {
        let text = body(response).unwrap_or_default();
        format!("status {status}: {}", text.chars().take(200).collect::<String>())
    };
    match status {
        200..300 => Ok(response),
        // Too many requests, overloaded, and what is wrong with the request itself.
        400..500 | 503 => Err(Broken::Refused(said(&mut response))),
        _ => Err(Broken::Failed(said(&mut response))),
    }
}

fn body(response: &mut Response<Body>) -> Result<String, Broken> {
    let mut text = String::new();
    let mut reader = response.body_mut().as_reader().take(BODY_BYTES_MAX);
    reader.read_to_string(&mut text).map_err(|error| Broken::Line(error.to_string()))?;
    Ok(text)
}

/// The payload of the next `data:` line of a stream of server-sent events; `None` at its end.
fn next_data(lines: &mut impl BufRead) -> Result<Option<String>, Broken> {
    // Comments and empty lines between two events; a server that sends nothing else is not worth hearing.
    const IDLE_LINES_MAX: usize = 1024;
    for _ in 0..IDLE_LINES_MAX {
        let mut line = String::new();
        let read = lines.by_ref().take(LINE_BYTES_MAX).read_line(&mut line);
        match read.map_err(|error| Broken::Line(error.to_string()))? {
            0 => return Ok(None),
            _ => {
                if let Some(data) = line.strip_prefix("data:") {
                    return Ok(Some(data.trim().to_owned()));
                }
            }
        }
    }
    Err(Broken::Line("its stream holds no data".into()))
}

/// An endpoint that answered.
#[derive(Debug)]
struct RunningRemote {
    line: Arc<Line>,
    dead: watch::Sender<Option<Ended>>,
}

impl RunningRemote {
    fn die(&self, words: String) {
        self.dead.send_if_modified(|dead| {
            let alive = dead.is_none();
            if alive {
                *dead = Some(Ended { words, at: Instant::now() });
            }
            alive
        });
    }

    async fn ask_once(&self, ask: Ask) -> Result<String, Broken> {
        let line = Arc::clone(&self.line);
        let asked = move || {
            let mut text = String::new();
            let start = Start::default();
            line.stream(&ask, &start, &AtomicBool::new(false), |piece| text.push_str(piece)).map(|_| text)
        };
        match tokio::task::spawn_blocking(asked).await {
            Ok(answer) => answer,
            Err(error) => Err(Broken::Failed(error.to_string())),
        }
    }
}

/// Words of the threads of one placement on their way to its task: each waits for its turn.
const WORDS_WAITING: usize = 64;

impl Running for RunningRemote {
    fn work(
        self: Arc<Self>,
        placement: Placement,
        mut cancels: mpsc::Receiver<u32>,
        events: JobEvents,
    ) -> Later<'static, ()> {
        Box::pin(async move {
            let (words, mut inbox) = mpsc::channel(WORDS_WAITING);
            let mut open: BTreeMap<u32, Arc<AtomicBool>> = BTreeMap::new();
            for start in placement.samples {
                let ended = Arc::new(AtomicBool::new(false));
                open.insert(start.sample, Arc::clone(&ended));
                let (line, ask, words) = (Arc::clone(&self.line), Arc::clone(&placement.ask), words.clone());
                tokio::task::spawn_blocking(move || {
                    let sample = start.sample;
                    let end = line.stream(&ask, &start, &ended, |text| {
                        let _ = words.blocking_send((sample, Ok(text.to_owned())));
                    });
                    let _ = words.blocking_send((sample, Err(end)));
                });
            }
            while !open.is_empty() {
                let (sample, word) = tokio::select! {
                    Some(word) = inbox.recv() => word,
                    Some(sample) = cancels.recv() => {
                        if let Some(ended) = open.remove(&sample) {
                            ended.store(true, Ordering::Relaxed);
                            events.end_all([sample], &End::Finished(FinishReason::Cancelled)).await;
                        }
                        continue;
                    }
                };
                if !open.contains_key(&sample) {
                    continue;
                }
                let end = match word {
                    Ok(text) => {
                        let text = text.into_bytes();
                        events.send(JobEvent::Tokens { sample, ids: Vec::new(), count: 1, text }).await;
                        continue;
                    }
                    Err(Ok(reason)) => End::Finished(reason),
                    Err(Err(Broken::Refused(why))) => End::Refused(why),
                    Err(Err(Broken::Failed(why))) => End::Failed(why),
                    // What it held is lost with it, all at once.
                    Err(Err(Broken::Line(why))) => {
                        open.values().for_each(|ended| ended.store(true, Ordering::Relaxed));
                        return self.die(why);
                    }
                };
                open.remove(&sample);
                events.end_all([sample], &end).await;
            }
        })
    }

    fn tokenize(&self, _: Prompt) -> Later<'_, Option<Result<Vec<Token>, String>>> {
        Box::pin(async move { None })
    }

    fn pace(&self, _: f32) -> Later<'_, ()> {
        // It heats somebody else's room.
        Box::pin(async move {})
    }

    fn probe(&self) -> Later<'_, Result<f64, String>> {
        Box::pin(async move {
            let asked = Instant::now();
            let sampling = qeil_engine::request::Sampling::greedy();
            match self.ask_once(Ask::new(Prompt::text("The"), 1, 1, sampling)).await {
                Ok(_) => Ok(asked.elapsed().as_secs_f64()),
                Err(error) => Err(error.to_string()),
            }
        })
    }

    /// It tells no distributions, so nothing can be compared: that it answers is all that is checked, and its kin keeps
    /// its numbers apart from those of others.
    fn check(&self) -> Later<'_, Result<(f64, bool), String>> {
        Box::pin(async move { self.probe().await.map(|_| (0.0, true)) })
    }

    fn stop(&self) -> Later<'_, ()> {
        self.die("it was let go".into());
        Box::pin(async move {})
    }

    fn death(&self) -> Later<'_, Ended> {
        Box::pin(async move {
            let mut dead = self.dead.subscribe();
            match dead.wait_for(Option::is_some).await.as_deref() {
                Ok(Some(ended)) => ended.clone(),
                _ => Ended { words: "nobody watches over it any more".into(), at: Instant::now() },
            }
        })
    }

    fn prefilled_tokens(&self) -> Option<u64> {
        None
    }

    fn busy_s(&self) -> Option<f64> {
        None
    }

    fn pid(&self) -> Option<u32> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qeil_engine::request::Sampling;

    #[test]
    fn streams_are_read_line_by_line() {
        let text = ": hello\r\n\r\ndata: {\"a\":1}\r\n\ndata:[DONE]\n";
        let mut lines = text.as_bytes();
        assert_eq!(next_data(&mut lines).unwrap().as_deref(), Some("{\"a\":1}"));
        assert_eq!(next_data(&mut lines).unwrap().as_deref(), Some("[DONE]"));
        assert_eq!(next_data(&mut lines).unwrap(), None);
        assert!(next_data(&mut "\n".repeat(5000).as_bytes()).is_err(), "idle for ever");
    }

    #[test]
    fn a_sample_goes_on_from_its_text() {
        let endpoint = Endpoint { base: "http://a".into(), model: "m".into(), key: None };
        let line = Line::new(endpoint);
        let ask = Ask::new(Prompt::text("One two"), 4, 10, Sampling { seed: 5, ..Sampling::default() });
        let start = Start { sample: 2, count: 3, tokens: None, text: b" three".to_vec() };
        let question = line.question(&ask, &start).unwrap();
        assert_eq!(
            (&question["prompt"], &question["max_tokens"], &question["seed"]),
            (&json!("One two three"), &json!(7), &json!(7))
        );
        let grammar = Ask { grammar: Some("root ::= [a]".into()), ..ask };
        assert!(matches!(line.question(&grammar, &start), Err(Broken::Refused(_))));
    }
}
