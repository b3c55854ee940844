//! Who waits for which answer.
//!
//! Every id that is sent out has an entry here until its terminal event, and the entry ends in exactly one way:
//! by that event, or by the worker's death. An event that fits no entry breaks the protocol; the caller kills
//! the worker for it, since a worker that miscounts cannot be trusted with numbers either.

use super::error::{Death, EngineError};
use super::generation::GenerationEvent;
use super::worker::SequenceState;
use crate::protocol::{Event, Heartbeat, STATE_BYTES_MAX, StateHeader};
use crate::request::Token;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

/// One question in flight.
#[derive(Debug)]
pub(super) enum Pending {
    Generation { admission: Option<Reply<Vec<Token>>>, events: mpsc::Sender<GenerationEvent> },
    Export { reply: Reply<SequenceState>, arriving: Option<Arriving> },
    Import(Reply<()>),
    Score(Reply<Vec<f32>>),
    Tokenize(Reply<Vec<Token>>),
}

impl Pending {
    fn fail(self, error: EngineError) {
        // A receiver that is gone asked and no longer wants to know.
        match self {
            Self::Generation { admission: Some(admission), .. } => drop(admission.send(Err(error))),
            Self::Generation { admission: None, events } => {
                let _ = events.try_send(GenerationEvent::Failed(error));
            }
            Self::Export { reply, .. } => drop(reply.send(Err(error))),
            Self::Import(reply) => drop(reply.send(Err(error))),
            Self::Score(reply) => drop(reply.send(Err(error))),
            Self::Tokenize(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// A state that is being received.
#[derive(Debug)]
pub(super) struct Arriving {
    header: StateHeader,
    bytes: Vec<u8>,
    crc: crc32fast::Hasher,
}

impl Arriving {
    fn is_complete(&self) -> bool {
        self.bytes.len() as u64 == self.header.bytes
    }

    fn finish(self) -> Result<SequenceState, EngineError> {
        let crc = self.crc.finalize();
        if crc == self.header.crc32 {
            Ok(SequenceState { header: self.header, bytes: Arc::new(self.bytes) })
        } else {
            Err(EngineError::Export(format!(
                "its bytes have checksum {crc:08x}, but {:08x} was announced",
                self.header.crc32
            )))
        }
    }
}

/// All questions in flight to one worker.
#[derive(Debug)]
pub(super) struct Desk {
    books: Mutex<Books>,
    next_id: AtomicU64,
    stopping: AtomicBool,
    pub(super) heartbeat: watch::Sender<Heartbeat>,
    pub(super) death: watch::Sender<Option<Death>>,
    /// Whether the process was reaped and its descriptors closed.
    pub(super) gone: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Books {
    pending: HashMap<u64, Pending>,
    /// The answer to everything, once the worker is dead.
    closed: Option<EngineError>,
    /// The text of a failed assertion, sent just before the end.
    dying: Option<String>,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self {
            books: Mutex::default(),
            next_id: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
            heartbeat: watch::Sender::new(Heartbeat::default()),
            death: watch::Sender::new(None),
            gone: watch::Sender::new(false),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an answer is waited for.
    pub(super) fn is_busy(&self) -> bool {
        !self.books().pending.is_empty()
    }

    pub(super) fn fresh_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// From here on the worker's end is this program's wish, not a failure.
    pub(super) fn stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) fn enter(&self, id: u64, pending: Pending) -> Result<(), EngineError> {
        let mut books = self.books();
        match &books.closed {
            Some(error) => Err(error.clone()),
            None => {
                books.pending.insert(id, pending);
                Ok(())
            }
        }
    }

    /// Why nothing can be asked any more. Waits for the driver's verdict: a failed write is noticed before it.
    pub(super) async fn closed(&self) -> EngineError {
        let _ = self.death.subscribe().wait_for(Option::is_some).await;
        self.books().closed.clone().unwrap_or(EngineError::Stopped)
    }

    pub(super) fn dying_words(&self) -> Option<String> {
        self.books().dying.clone()
    }

    /// The worker is dead: answer everything that is open, and everything to come.
    pub(super) fn close(&self, death: Death) {
        let stopped = self.stopping.load(Ordering::Relaxed);
        let error = if stopped { EngineError::Stopped } else { EngineError::Died(death.clone()) };
        let pending = {
            let mut books = self.books();
            books.closed = Some(error.clone());
            std::mem::take(&mut books.pending)
        };
        self.death.send_replace(Some(death));
        for open in pending.into_values() {
            open.fail(error.clone());
        }
    }

    /// Hand an event to whoever waits for it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn take(&self, event: Event) -> Result<(), String> {
        let mut guard = self.books();
        let books = &mut *guard;
        match event {
            Event::Heartbeat(heartbeat) => {
                self.heartbeat.send_replace(heartbeat);
                Ok(())
            }
            Event::Dying(words) => {
                books.dying = Some(words);
                Ok(())
            }
            Event::Tokens(tokens) => tokens.into_iter().try_for_each(|token| {
                books.generation(token.request).and_then(|events| emit(events, GenerationEvent::Token(token)))
            }),
            Event::SampleDone { id, sample, reason, tail } => books
                .generation(id)
                .and_then(|events| emit(events, GenerationEvent::SampleDone { sample, reason, tail })),
            Event::Done { id, usage } => {
                let sent = books.generation(id).and_then(|events| emit(events, GenerationEvent::Done(usage)));
                books.pending.remove(&id);
                sent
            }
            Event::Admitted { id, prompt, .. } => match books.pending.get_mut(&id) {
                Some(Pending::Generation { admission, .. }) if admission.is_some() => {
                    if let Some(admission) = admission.take() {
                        let _ = admission.send(Ok(prompt));
                    }
                    Ok(())
                }
                _ => Err(format!("request {id} was admitted, but does not wait for that")),
            },
            Event::Rejected { id, error } => books.close(id, |pending| match pending {
                open @ Pending::Generation { admission: Some(_), .. } => {
                    open.fail(EngineError::Rejected(error));
                    Ok(())
                }
                other => Err(other),
            }),
            Event::State { id, header } => books.state_begins(id, header),
            Event::StateChunk { id, bytes } => books.state_goes_on(id, &bytes),
            Event::ExportFailed { id, why } => books.close(id, |pending| match pending {
                Pending::Export { reply, .. } => {
                    drop(reply.send(Err(EngineError::Export(why))));
                    Ok(())
                }
                other => Err(other),
            }),
            Event::Imported { id, error } => books.close(id, |pending| match pending {
                Pending::Import(reply) => {
                    drop(reply.send(error.map_or(Ok(()), |why| Err(EngineError::Import(why)))));
                    Ok(())
                }
                other => Err(other),
            }),
            Event::Scored { id, logprobs } => books.close(id, |pending| match pending {
                Pending::Score(reply) => {
                    drop(reply.send(logprobs.map_err(EngineError::Score)));
                    Ok(())
                }
                other => Err(other),
            }),
            Event::Tokenized { id, tokens } => books.close(id, |pending| match pending {
                Pending::Tokenize(reply) => {
                    drop(reply.send(tokens.map_err(EngineError::Tokenize)));
                    Ok(())
                }
                other => Err(other),
            }),
            Event::Hello { .. }
            | Event::Devices(_)
            | Event::Transcoded(_)
            | Event::Loaded(_)
            | Event::Refused(_) => Err("a message of the start after the start".into()),
        }
    }
}

fn emit(events: &mpsc::Sender<GenerationEvent>, event: GenerationEvent) -> Result<(), String> {
    match events.try_send(event) {
        Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        Err(mpsc::error::TrySendError::Full(_)) => Err("a request emitted more tokens than it may".into()),
    }
}

impl Books {
    fn generation(&self, id: u64) -> Result<&mpsc::Sender<GenerationEvent>, String> {
        match self.pending.get(&id) {
            Some(Pending::Generation { admission: None, events }) => Ok(events),
            _ => Err(format!("request {id} emitted something, but is not running")),
        }
    }

    /// Take an entry out and answer it; `answer` gives it back where it is of the wrong kind.
    fn close(&mut self, id: u64, answer: impl FnOnce(Pending) -> Result<(), Pending>) -> Result<(), String> {
        let pending = self.pending.remove(&id).ok_or(format!("{id} was answered, but not asked"))?;
        answer(pending).map_err(|pending| {
            self.pending.insert(id, pending);
            format!("the answer to {id} is of another kind than the question")
        })
    }

    fn state_begins(&mut self, id: u64, header: StateHeader) -> Result<(), String> {
        let Some(Pending::Export { arriving, .. }) = self.pending.get_mut(&id) else {
            return Err(format!("state {id} begins, but was not asked for"));
        };
        if arriving.is_some() || header.bytes > STATE_BYTES_MAX {
            return Err(format!("state {id} begins twice or is larger than {STATE_BYTES_MAX} bytes"));
        }
        // Grown as bytes come, never allocated on the word of a header.
        *arriving = Some(Arriving { header, bytes: Vec::new(), crc: crc32fast::Hasher::new() });
        self.state_goes_on(id, &[])
    }

    fn state_goes_on(&mut self, id: u64, bytes: &[u8]) -> Result<(), String> {
        let Some(Pending::Export { arriving: Some(state), .. }) = self.pending.get_mut(&id) else {
            return Err(format!("a piece of state {id} came, but none has begun"));
        };
        if (state.bytes.len() + bytes.len()) as u64 > state.header.bytes {
            return Err(format!("state {id} is longer than announced"));
        }
        state.bytes.extend_from_slice(bytes);
        state.crc.update(bytes);
        if state.is_complete()
            && let Some(Pending::Export { reply, arriving: Some(state) }) = self.pending.remove(&id)
        {
            let _ = reply.send(state.finish());
        }
        Ok(())
    }
}
