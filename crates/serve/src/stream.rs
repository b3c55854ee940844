//! Following a request to its end, for a client that may stop listening at any moment.
//!
//! A whole answer is followed inside its handler: when the connection closes, hyper drops the handler, and with it the
//! flow, which withdraws the request. A stream is followed by a task of its own, so that events keep being read while the
//! client reads slowly; between the two stands a bounded channel. Whatever ends the task (the client is gone, it took
//! nothing for too long, the server stops) drops the flow.

use crate::answer::Tally;
use crate::backend::{Ending, Event, Finish, Flow};
use crate::error::ApiError;
use crate::limits::{KEEP_ALIVE_EVERY, SLOW_READER_MAX, STREAM_CHUNKS_MAX};
use crate::phase::Phase;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use qeil_tasks::{Judge, Verifier};
use serde_json::Value;
use std::convert::Infallible;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;

/// What ends every stream of OpenAI's.
const DONE: &str = "[DONE]";

/// A request that was admitted, and what is known of it.
#[derive(Debug)]
pub struct Course {
    /// Its events.
    pub flow: Box<dyn Flow>,
    /// Its samples so far.
    pub tally: Tally,
    /// Judge of the samples.
    pub judge: Option<Verifier>,
    /// Whether the server is being stopped.
    pub phase: Phase,
    /// Its place among the completions in flight.
    pub permit: OwnedSemaphorePermit,
}

/// What comes next.
enum Step {
    Pieces(Vec<Value>),
    Over(Box<Ending>),
    Lost(ApiError),
}

impl Course {
    async fn step(&mut self) -> Step {
        let event = tokio::select! {
            biased;
            () = self.phase.withdrawn() => return Step::Lost(ApiError::stopping()),
            event = self.flow.next() => event,
        };
        match event {
            // The backend ended without a last event.
            None => Step::Lost(ApiError::failed()),
            Some(Event::Ended(ending)) => Step::Over(ending),
            Some(event) => {
                let pieces = self.tally.take(&event);
                self.judge(&event).await;
                Step::Pieces(pieces)
            }
        }
    }

    /// Judge a sample that came to its own end.
    async fn judge(&mut self, event: &Event) {
        let Event::SampleEnded { sample, finish: Finish::EndOfText | Finish::Stop | Finish::Length } = event
        else {
            return;
        };
        if let Some(judge) = &self.judge {
            let passed = judge.verify(self.tally.text(*sample), &Judge::default()).passed;
            self.flow.judged(*sample, passed).await;
        }
    }

    /// The whole answer, and how the request ended.
    ///
    /// # Errors
    /// It failed, or the server is being stopped.
    pub async fn whole(mut self) -> Result<Value, ApiError> {
        loop {
            match self.step().await {
                Step::Pieces(_) => {}
                Step::Over(ending) => return self.tally.whole(&ending),
                Step::Lost(error) => return Err(error),
            }
        }
    }

    /// The answer piece by piece.
    pub fn pieces(self) -> Response {
        let (outbox, inbox) = mpsc::channel(STREAM_CHUNKS_MAX);
        tokio::spawn(self.follow(outbox));
        let stream = futures_util::stream::unfold(inbox, |mut inbox| async move {
            let data: String = inbox.recv().await?;
            Some((Ok::<_, Infallible>(sse::Event::default().data(data)), inbox))
        });
        let keep_alive = KeepAlive::new().interval(KEEP_ALIVE_EVERY).text("waiting");
        Sse::new(stream).keep_alive(keep_alive).into_response()
    }

    async fn follow(mut self, outbox: mpsc::Sender<String>) {
        loop {
            let step = tokio::select! {
                biased;
                () = outbox.closed() => return,
                step = self.step() => step,
            };
            let (pieces, over) = match step {
                Step::Pieces(pieces) => (pieces, false),
                Step::Lost(error) => (vec![error.body()], true),
                Step::Over(ending) => {
                    let _ = send(&outbox, self.tally.last(&ending)).await;
                    let _ = outbox.send_timeout(DONE.into(), SLOW_READER_MAX).await;
                    return;
                }
            };
            if send(&outbox, pieces).await.is_err() || over {
                return;
            }
        }
    }
}

/// The client is gone, or as good as.
struct Gone;

async fn send(outbox: &mpsc::Sender<String>, pieces: Vec<Value>) -> Result<(), Gone> {
    for piece in pieces {
        match timeout(SLOW_READER_MAX, outbox.send(piece.to_string())).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(Gone),
        }
    }
    Ok(())
}
