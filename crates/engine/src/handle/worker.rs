//! The calls a supervisor can make on a living worker.

use super::desk::{Pending, Reply};
use super::error::{Death, EngineError};
use super::frames::{FrameReader, Lost};
use super::generation::{Generation, events_max};
use super::launch::{Launch, Process};
use super::link::{Link, Order, STOP_GRACE, stillborn};
use crate::protocol::{
    self, Command, Event, Fault, Heartbeat, PROTOCOL_VERSION, STATE_CHUNK_BYTES, StateHeader, StateSource,
};
use crate::request::{GenerateRequest, Prompt, RequestError, Token};
use crate::spec::{DeviceEntry, LoadSpec, Loaded, TranscodeSpec};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

/// How long a probe of the devices may take: some drivers compile shaders when first touched.
const PROBE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long writing a model in another format may take: the largest of the catalogue takes a minute from a slow disk.
const TRANSCODE_TIMEOUT: Duration = Duration::from_secs(1800);

/// A handle to one loaded worker process. Cheap to clone; when the last clone and the last [`Generation`] are
/// dropped, the worker is told to exit.
#[derive(Debug, Clone)]
pub struct Worker {
    link: Arc<Link>,
    facts: Arc<Facts>,
}

#[derive(Debug)]
struct Facts {
    spec: LoadSpec,
    loaded: Loaded,
    pid: u32,
}

/// The state of a sequence outside of any worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceState {
    /// What it is: its tokens, its size, its checksum.
    pub header: StateHeader,
    /// llama.cpp's bytes.
    pub bytes: Arc<Vec<u8>>,
}

/// A started process before it serves: a conversation with one side speaking at a time.
struct Starting {
    process: Process,
    reader: FrameReader,
    half: OwnedWriteHalf,
    deadline: Instant,
    limit: Duration,
    dying: Option<String>,
}

impl Starting {
    async fn launch(launch: &Launch, limit: Duration) -> Result<Self, EngineError> {
        let (process, socket) = launch.start().await?;
        let (read, half) = socket.into_split();
        let deadline = Instant::now() + limit;
        let mut starting =
            Self { process, reader: FrameReader::new(read), half, deadline, limit, dying: None };
        match starting.event().await {
            Ok(Event::Hello { version: PROTOCOL_VERSION }) => Ok(starting),
            Ok(Event::Hello { version }) => {
                starting.process.dismiss(Duration::ZERO).await;
                Err(EngineError::Version { ours: PROTOCOL_VERSION, theirs: version })
            }
            other => Err(starting.failed(other).await),
        }
    }

    async fn say(&mut self, command: &Command) -> Result<(), EngineError> {
        let frame = protocol::encode(command).map_err(|error| EngineError::Protocol(error.to_string()))?;
        // A worker that is gone is noticed, with its last words, by the read that follows.
        let _ = timeout_at(self.deadline, self.half.write_all(&frame)).await;
        Ok(())
    }

    /// The next event that is an answer; `None` when time is up.
    async fn event(&mut self) -> Result<Event, Option<Lost>> {
        loop {
            // Heartbeats are welcome during a load, but not owed: only the deadline counts.
            match timeout_at(self.deadline, self.reader.next(self.limit)).await {
                Ok(Ok(Event::Heartbeat(_))) => {}
                Ok(Ok(Event::Dying(words))) => self.dying = Some(words),
                Ok(Ok(event)) => return Ok(event),
                Ok(Err(Lost::Silent(_))) | Err(_) => return Err(None),
                Ok(Err(lost)) => return Err(Some(lost)),
            }
        }
    }

    /// What to report where another event was needed.
    async fn failed(self, got: Result<Event, Option<Lost>>) -> EngineError {
        let Self { process, reader, half, limit, dying, .. } = self;
        drop((reader, half));
        let lost = match got {
            Ok(Event::Refused(refusal)) => {
                process.dismiss(STOP_GRACE).await;
                return EngineError::Refused(refusal);
            }
            Ok(_) => Lost::BadFrame("an answer that does not fit the start".into()),
            Err(Some(lost)) => lost,
            Err(None) => {
                process.dismiss(Duration::ZERO).await;
                return EngineError::LoadTimeout(limit);
            }
        };
        EngineError::Died(stillborn(lost, process, dying).await)
    }
}

/// List the ggml devices of the worker's build. A process of its own asks the drivers, and may die of it.
///
/// # Errors
/// Where the process could not be started or did not answer.
pub async fn probe_devices(launch: &Launch) -> Result<Vec<DeviceEntry>, EngineError> {
    let mut starting = Starting::launch(launch, PROBE_TIMEOUT).await?;
    starting.say(&Command::Probe).await?;
    match starting.event().await {
        Ok(Event::Devices(devices)) => {
            starting.process.dismiss(STOP_GRACE).await;
            Ok(devices)
        }
        other => Err(starting.failed(other).await),
    }
}

/// Write a model file with its weights in another format, in a process of its own. Returns the bytes written. The
/// file appears under its name only when it is whole.
///
/// # Errors
/// [`EngineError::Model`] where our reader rejects the file; [`EngineError::Transcode`] where llama.cpp does.
pub async fn transcode(launch: &Launch, spec: TranscodeSpec) -> Result<u64, EngineError> {
    check_model(&spec.from).await?;
    let mut part = spec.to.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut starting = Starting::launch(launch, TRANSCODE_TIMEOUT).await?;
    starting.say(&Command::Transcode(TranscodeSpec { to: part.clone(), ..spec.clone() })).await?;
    let outcome = match starting.event().await {
        Ok(Event::Transcoded(written)) => {
            starting.process.dismiss(STOP_GRACE).await;
            written.map_err(EngineError::Transcode)
        }
        other => Err(starting.failed(other).await),
    };
    let renamed = outcome.and_then(|bytes| {
        std::fs::rename(&part, &spec.to).map_err(|error| EngineError::Transcode(error.to_string()))?;
        Ok(bytes)
    });
    if renamed.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    renamed
}

async fn check_model(path: &Path) -> Result<(), EngineError> {
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || qeil_model::inspect(&path))
        .await
        .map_err(|_| EngineError::Stopped)?
        .map_err(|error| EngineError::Model(Arc::new(error)))?;
    Ok(())
}

impl Worker {
    /// Start a process and load a model into it. Spec and file are checked before there is a process.
    ///
    /// # Errors
    /// [`EngineError::Spec`], [`EngineError::Model`] from the checks; else how the start failed.
    pub async fn start(launch: &Launch, spec: LoadSpec) -> Result<Self, EngineError> {
        spec.check()?;
        check_model(&spec.model).await?;
        Self::start_unchecked(launch, spec).await
    }

    /// [`Worker::start`] without its checks, for fault drills: llama.cpp meets whatever the file holds.
    ///
    /// # Errors
    /// How the start failed.
    #[doc(hidden)]
    pub async fn start_unchecked(launch: &Launch, spec: LoadSpec) -> Result<Self, EngineError> {
        let mut starting = Starting::launch(launch, launch.load_timeout).await?;
        starting.say(&Command::Load(Box::new(spec.clone()))).await?;
        match starting.event().await {
            Ok(Event::Loaded(loaded)) => {
                let Starting { process, reader, half, .. } = starting;
                let pid = process.pid;
                let link = Link::new(process, reader, half, launch.silence(spec.heartbeat_ms));
                Ok(Self { link: Arc::new(link), facts: Arc::new(Facts { spec, loaded: *loaded, pid }) })
            }
            other => Err(starting.failed(other).await),
        }
    }

    /// What it has loaded.
    pub fn loaded(&self) -> &Loaded {
        &self.facts.loaded
    }

    /// What it was asked to load.
    pub fn spec(&self) -> &LoadSpec {
        &self.facts.spec
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.facts.pid
    }

    /// Its heartbeat, as it comes; all zero before the first one.
    pub fn heartbeat(&self) -> watch::Receiver<Heartbeat> {
        self.link.desk.heartbeat.subscribe()
    }

    /// Its death, once.
    pub fn death(&self) -> watch::Receiver<Option<Death>> {
        self.link.desk.death.subscribe()
    }

    /// Whether nobody has seen it die yet.
    pub fn is_alive(&self) -> bool {
        self.link.desk.death.borrow().is_none()
    }

    /// Start a request; returns when the worker has admitted it.
    ///
    /// # Errors
    /// [`EngineError::Rejected`] where the request is out of bounds or the worker has no room for it.
    pub async fn generate(&self, request: GenerateRequest) -> Result<Generation, EngineError> {
        request.check()?;
        let (events, inbox) = mpsc::channel(events_max(&request));
        let (admission, answer) = oneshot::channel();
        let id = self.link.desk.fresh_id();
        let command = Command::Generate { id, request: Box::new(request) };
        self.ask(id, Pending::Generation { admission: Some(admission), events }, &command).await?;
        // From here on, giving up the wait drops the generation, and that cancels it.
        let mut generation = Generation::new(id, inbox, Arc::clone(&self.link));
        match self.answer(answer).await {
            Ok(prompt) => {
                generation.admitted(prompt);
                Ok(generation)
            }
            Err(error) => {
                generation.rejected();
                Err(error)
            }
        }
    }

    /// Natural log-probabilities of every token of the vocabulary as the next one after `prompt`.
    ///
    /// # Errors
    /// Where the prompt does not fit, or the worker computed no finite numbers.
    pub async fn score(&self, prompt: Prompt) -> Result<Vec<f32>, EngineError> {
        check_prompt(&prompt)?;
        self.question(Pending::Score, |id| Command::Score { id, prompt }).await
    }

    /// The tokens of a prompt.
    ///
    /// # Errors
    /// Where the worker's tokenizer refuses it.
    pub async fn tokenize(&self, prompt: Prompt) -> Result<Vec<Token>, EngineError> {
        check_prompt(&prompt)?;
        self.question(Pending::Tokenize, |id| Command::Tokenize { id, prompt }).await
    }

    /// Let the worker compute for this share of the time, in (0, 1].
    ///
    /// # Errors
    /// Where `duty` is outside, or the worker is dead.
    pub async fn pace(&self, duty: f32) -> Result<(), EngineError> {
        if !(duty > 0.0 && duty <= 1.0) {
            let why = format!("duty is {duty}, but must be above 0 and at most 1");
            return Err(EngineError::Rejected(RequestError::Invalid(why)));
        }
        self.tell(&Command::Pace { duty }).await
    }

    /// Take the state of a sequence out; with `detach` a running sample ends here with
    /// [`crate::request::FinishReason::Moved`].
    ///
    /// # Errors
    /// Where there is no such sequence, or the bytes that came do not have the announced checksum.
    pub async fn export(&self, from: StateSource, detach: bool) -> Result<SequenceState, EngineError> {
        self.question(
            |reply| Pending::Export { reply, arriving: None },
            |id| Command::Export { id, from, detach },
        )
        .await
    }

    /// Put a state into the worker's prefix cache, where a request with that prefix finds it.
    ///
    /// # Errors
    /// Where it is damaged, or does not fit this worker.
    pub async fn import(&self, state: &SequenceState) -> Result<(), EngineError> {
        let (reply, answer) = oneshot::channel();
        let id = self.link.desk.fresh_id();
        let command = Command::Import { id, header: state.header.clone() };
        self.ask(id, Pending::Import(reply), &command).await?;
        // In a task of its own: an import whose caller goes away must not stay half-sent. It ends with the worker.
        let (outbox, bytes) = (self.link.outbox.clone(), Arc::clone(&state.bytes));
        tokio::spawn(async move {
            for chunk in bytes.chunks(STATE_CHUNK_BYTES) {
                let frame = protocol::encode(&Command::ImportChunk { id, bytes: chunk.to_vec() });
                let Ok(frame) = frame else { return };
                if outbox.send(frame).await.is_err() {
                    return;
                }
            }
        });
        self.answer(answer).await
    }

    /// Make the worker fail, where its spec allows it.
    ///
    /// # Errors
    /// Where the worker is dead already.
    pub async fn inject(&self, fault: Fault) -> Result<(), EngineError> {
        self.tell(&Command::Inject(fault)).await
    }

    /// Tell the worker to finish its step and exit; kill it where it does not. It is reaped on return.
    pub async fn stop(&self) -> Option<Death> {
        self.link.desk.stopping();
        // Where the queue is full for so long, the order below still ends it.
        let _ = timeout(STOP_GRACE, self.tell(&Command::Shutdown)).await;
        self.end(Order::Stop).await
    }

    /// Kill the worker at once. It is reaped on return.
    pub async fn kill(&self) -> Option<Death> {
        self.end(Order::Kill).await
    }

    async fn end(&self, order: Order) -> Option<Death> {
        let mut gone = self.link.desk.gone.subscribe();
        // Fails only where the driver is past taking orders.
        let _ = self.link.orders.send(order).await;
        let _ = gone.wait_for(|gone| *gone).await;
        self.link.desk.death.borrow().clone()
    }

    async fn question<T>(
        &self,
        pending: impl FnOnce(Reply<T>) -> Pending,
        command: impl FnOnce(u64) -> Command,
    ) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        let id = self.link.desk.fresh_id();
        self.ask(id, pending(reply), &command(id)).await?;
        self.answer(answer).await
    }

    /// Enter a question into the books and queue its frame, both or neither: a caller that goes away while
    /// waiting for a place in the queue leaves nothing behind.
    async fn ask(&self, id: u64, pending: Pending, command: &Command) -> Result<(), EngineError> {
        let frame = protocol::encode(command).map_err(|error| EngineError::Protocol(error.to_string()))?;
        let Ok(place) = self.link.outbox.reserve().await else { return Err(self.link.desk.closed().await) };
        self.link.desk.enter(id, pending)?;
        place.send(frame);
        Ok(())
    }

    async fn tell(&self, command: &Command) -> Result<(), EngineError> {
        let frame = protocol::encode(command).map_err(|error| EngineError::Protocol(error.to_string()))?;
        match self.link.outbox.send(frame).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.link.desk.closed().await),
        }
    }

    async fn answer<T>(&self, answer: oneshot::Receiver<Result<T, EngineError>>) -> Result<T, EngineError> {
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(self.link.desk.closed().await),
        }
    }
}

fn check_prompt(prompt: &Prompt) -> Result<(), RequestError> {
    GenerateRequest::new(prompt.clone(), 1, 0, crate::request::Sampling::default()).check()
}
