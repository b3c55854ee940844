//! The handle that clients hold.
//!
//! Cheap to clone. When the last handle is dropped, or on [`Orchestra::stop`], every request in flight is withdrawn, every
//! worker ends, and the journal is written to its end.

use crate::ask::{Answer, Ask};
use crate::conductor::{Conductor, Ears, Order, Roster};
use crate::device::{Device, Running};
use crate::journal::{JournalError, ROWS_MAX, Writer};
use crate::sense::{self, Sensors};
use crate::snapshot::Snapshot;
use qeil_control::config::{Config, DeviceConfig, DeviceId};
use qeil_control::event::{Refusal, RequestId};
use qeil_control::input;
use qeil_engine::request::{Prompt, Token};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Orders waiting for the loop, which takes each in microseconds.
const ORDERS_WAITING: usize = 256;
/// Words of devices waiting: each start, death, probe and check has one, and a device has few at a time.
const LIVES_WAITING: usize = 256;
/// Tokens and ends of samples waiting for the loop; beyond them the tasks that bring them wait.
const JOB_EVENTS_WAITING: usize = 4096;
/// Requests being tokenised at once: each holds its prompt, and the loop has not seen it yet.
const SUBMITTING_MAX: usize = 64;
/// What a client is told to wait where that many are.
const SUBMITTING_RETRY_S: f64 = 1.0;
/// How long a device may take to tokenise before the next one is asked as well: it answers between two steps.
const TOKENISE_NEXT: Duration = Duration::from_millis(250);
/// How long all of them may take once the last was asked: one that hangs while it has nothing to do is missed by nobody else.
const TOKENISE_MOST: Duration = Duration::from_secs(5);
/// Bytes of text for each token where nobody tokenises: English has four to five, so this counts rather too many.
const BYTES_PER_TOKEN: usize = 3;

/// What an orchestra is made of.
pub struct Setup {
    /// Devices, limits, goal. Names and profiles of the devices stand here, in the order of `devices`.
    pub config: Config,
    /// What stands behind each device, and its place among the sensors' (`None`: nothing here feels it).
    pub devices: Vec<(Arc<dyn Device>, Option<usize>)>,
    /// The sensors; `None` reads none.
    pub sensors: Option<Box<dyn Sensors>>,
    /// The journal's file; `None` keeps none.
    pub journal: Option<PathBuf>,
    /// Rows that it may have.
    pub journal_rows_max: u64,
}

impl Setup {
    /// Without devices, sensors and journal yet.
    pub fn new(config: Config) -> Self {
        let config = Config { devices: Vec::new(), ..config };
        Self { config, devices: Vec::new(), sensors: None, journal: None, journal_rows_max: ROWS_MAX }
    }

    /// Add a device.
    #[must_use]
    pub fn with(mut self, named: DeviceConfig, device: Arc<dyn Device>, place: Option<usize>) -> Self {
        self.config.devices.push(named);
        self.devices.push((device, place));
        self
    }
}

/// Why an orchestra could not begin.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The thread of the sensors.
    #[error("the sensors' thread could not be started: {0}")]
    Sensors(std::io::Error),
    /// No device, or not one name for each.
    #[error("{devices} devices and {names} names of devices: at least one is needed, and as many names")]
    Devices {
        /// Devices.
        devices: usize,
        /// Names.
        names: usize,
    },
}

/// What can be said of a request before it costs any work: bounds, and text that no honest client sends. What a chat
/// template wrote is its own.
fn check(ask: &Ask) -> Result<(), Refusal> {
    ask.check().map_err(|error| Refusal::Invalid(error.to_string()))?;
    if let Prompt::Parts(parts) = &ask.prompt {
        for part in parts.iter().filter(|part| !part.trusted) {
            // The worker never reads the spelling of a control token in such a part as the token.
            input::check_text(&part.text, &[])?;
        }
    }
    ask.grammar.as_deref().map_or(Ok(()), input::check_grammar)
}

/// See the module's text.
#[derive(Debug, Clone)]
pub struct Orchestra {
    orders: mpsc::Sender<Order>,
    roster: Roster,
    submitting: Arc<Semaphore>,
}

impl Orchestra {
    /// Begin; devices start in the background, in the loop's order. Call it inside a Tokio runtime.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn start(setup: Setup) -> Result<Self, SetupError> {
        let Setup { config, devices, sensors, journal, journal_rows_max } = setup;
        if devices.is_empty() || devices.len() != config.devices.len() {
            return Err(SetupError::Devices { devices: devices.len(), names: config.devices.len() });
        }
        let journal = match journal {
            Some(path) => Some(Writer::open(&path, &config, journal_rows_max)?),
            None => None,
        };
        let looks = match sensors {
            Some(sensors) => sense::watch(sensors).map_err(SetupError::Sensors)?,
            // Its sender is gone: the branch that listens to it rests.
            None => mpsc::channel(1).1,
        };
        let (orders, orders_inbox) = mpsc::channel(ORDERS_WAITING);
        let (lives, lives_inbox) = mpsc::channel(LIVES_WAITING);
        let (job_events, job_inbox) = mpsc::channel(JOB_EVENTS_WAITING);
        let roster = Roster::default();
        let conductor = Conductor::new(config, devices, journal, Arc::clone(&roster), lives, job_events);
        let ears = Ears { orders: orders_inbox, lives: lives_inbox, job_events: job_inbox, looks };
        tokio::spawn(conductor.run(ears));
        Ok(Self { orders, roster, submitting: Arc::new(Semaphore::new(SUBMITTING_MAX)) })
    }

    /// Ask for samples; returns when the request is admitted.
    ///
    /// # Errors
    /// Why it was not.
    pub async fn submit(&self, ask: Ask) -> Result<Answer, Refusal> {
        check(&ask)?;
        let Ok(_permit) = self.submitting.try_acquire() else {
            return Err(Refusal::Overloaded { retry_after_s: SUBMITTING_RETRY_S });
        };
        let (prompt, prompt_tokens) = self.tokenize(&ask.prompt).await?;
        let (reply, answer) = oneshot::channel();
        let gone = || Refusal::Unavailable { why: "the server is stopping".into(), retry_after_s: 1.0 };
        let order = Order::Submit { ask: Box::new(ask), prompt, prompt_tokens, reply };
        self.orders.send(order).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// The prompt as tokens, from whichever device answers first; as it is, and its length guessed, where none does.
    async fn tokenize(&self, prompt: &Prompt) -> Result<(Prompt, u32), Refusal> {
        let living: Vec<Arc<dyn Running>> = {
            let roster = self.roster.lock().unwrap_or_else(PoisonError::into_inner);
            roster.iter().flatten().cloned().collect()
        };
        let mut asked = JoinSet::new();
        let mut living = living.into_iter().peekable();
        while let Some(running) = living.next() {
            let prompt = prompt.clone();
            asked.spawn(async move { running.tokenize(prompt).await });
            let patience = if living.peek().is_some() { TOKENISE_NEXT } else { TOKENISE_MOST };
            let answer = async {
                loop {
                    match asked.join_next().await {
                        Some(Ok(Some(answer))) => break Some(answer),
                        // It knows no tokens.
                        Some(_) => {}
                        None => break None,
                    }
                }
            };
            match timeout(patience, answer).await {
                Ok(Some(Ok(tokens))) => {
                    let count = tokens.len() as u32;
                    return Ok((Prompt::Tokens(tokens), count));
                }
                Ok(Some(Err(why))) => return Err(Refusal::Invalid(why)),
                Ok(None) | Err(_) => {}
            }
        }
        let count = match prompt {
            Prompt::Parts(parts) => {
                parts.iter().map(|part| part.text.len()).sum::<usize>() / BYTES_PER_TOKEN + 1
            }
            Prompt::Tokens(tokens) => tokens.len(),
        };
        Ok((prompt.clone(), count as u32))
    }

    /// The tokens of a prompt, where a living device knows them.
    pub async fn tokens(&self, prompt: &Prompt) -> Option<Vec<Token>> {
        match self.tokenize(prompt).await {
            Ok((Prompt::Tokens(tokens), _)) => Some(tokens),
            _ => None,
        }
    }

    /// End a request; its last event still comes.
    pub async fn withdraw(&self, request: RequestId) {
        // Where the loop has ended, so has the request.
        let _ = self.orders.send(Order::Withdraw(request)).await;
    }

    /// Say whether a finished sample passed.
    pub async fn judged(&self, request: RequestId, sample: u32, passed: bool) {
        let _ = self.orders.send(Order::Judged { request, sample, passed }).await;
    }

    /// Ask a device the known questions now, whatever its turn: a wrong answer takes it out.
    pub async fn check(&self, device: DeviceId) {
        let _ = self.orders.send(Order::Check(device)).await;
    }

    /// How everything stands; `None` once stopped.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(Order::Snapshot(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Withdraw everything, end every worker, write the journal to its end; all done on return.
    pub async fn stop(&self) {
        let (reply, done) = oneshot::channel();
        if self.orders.send(Order::Stop(reply)).await.is_ok() {
            let _ = done.await;
        }
    }
}
