//! The two tasks behind a worker: one writes to its socket, one reads it and watches over the process.

use super::desk::Desk;
use super::error::{Death, DeathKind};
use super::frames::{FrameReader, Lost};
use super::launch::Process;
use super::leaving::leaving;
use crate::protocol::{self, Command};
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};

/// Frames waiting to be written: hides the latency of the writer; a worker that reads slowly makes callers wait.
pub(super) const OUTBOX_FRAMES: usize = 64;
/// After the socket has ended, how long the exit status may take; half of what a death's report may take.
const EXIT_PATIENCE: Duration = Duration::from_millis(50);
/// After the exit or its beginning, how long the last of the socket or of stderr may take: both are in the kernel already.
const DRAIN_PATIENCE: Duration = Duration::from_millis(20);
/// How long a worker that was told to stop may take: a step of a large prefill chunk on a slow CPU.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(3);
/// Orders waiting for the driver; it takes them at once.
const ORDERS: usize = 4;

/// What the driver can be told. All handles being dropped counts as `Stop`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    /// The worker was told to exit: wait for it, then kill it.
    Stop,
    /// Kill it now.
    Kill,
}

/// The way to one worker; shared by its handles and its generations.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) desk: Arc<Desk>,
    pub(super) outbox: mpsc::Sender<Vec<u8>>,
    pub(super) orders: mpsc::Sender<Order>,
    cancels: Arc<Cancels>,
}

impl Link {
    /// Start the tasks.
    pub(super) fn new(
        process: Process,
        reader: FrameReader,
        half: OwnedWriteHalf,
        silence: Duration,
    ) -> Self {
        let desk = Arc::new(Desk::new());
        let cancels = Arc::new(Cancels::default());
        let (outbox, frames) = mpsc::channel(OUTBOX_FRAMES);
        let (orders, inbox) = mpsc::channel(ORDERS);
        let writer = tokio::spawn(write_out(half, frames, Arc::clone(&cancels)));
        tokio::spawn(drive(process, reader, silence, Arc::clone(&desk), inbox, writer));
        Self { desk, outbox, orders, cancels }
    }

    /// Ask for the end of a request or of one sample. Never waits, so `drop` can call it.
    pub(super) fn cancel(&self, id: u64, sample: Option<u32>) {
        self.cancels.waiting().insert((id, sample));
        self.cancels.wake.notify_one();
    }
}

/// Cancels to be sent: at most one per sample of a request in flight.
#[derive(Debug, Default)]
struct Cancels {
    waiting: Mutex<BTreeSet<(u64, Option<u32>)>>,
    wake: Notify,
}

impl Cancels {
    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeSet<(u64, Option<u32>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when all handles are gone or the socket is; dropping `half` then tells the worker to exit.
async fn write_out(mut half: OwnedWriteHalf, mut frames: mpsc::Receiver<Vec<u8>>, cancels: Arc<Cancels>) {
    loop {
        let batch = tokio::select! {
            frame = frames.recv() => match frame {
                Some(frame) => frame,
                None => return,
            },
            () = cancels.wake.notified() => {
                let due = std::mem::take(&mut *cancels.waiting());
                // A cancel must not overtake the request it means, which may still be in the queue.
                let mut batch = Vec::new();
                for _ in 0..OUTBOX_FRAMES {
                    match frames.try_recv() {
                        Ok(frame) => batch.extend(frame),
                        Err(_) => break,
                    }
                }
                for (id, sample) in due {
                    batch.extend(protocol::encode(&Command::Cancel { id, sample }).unwrap_or_default());
                }
                batch
            }
        };
        if half.write_all(&batch).await.is_err() {
            return; // The reader sees the same end and reports it.
        }
    }
}

async fn drive(
    mut process: Process,
    mut reader: FrameReader,
    silence: Duration,
    desk: Arc<Desk>,
    mut orders: mpsc::Receiver<Order>,
    writer: JoinHandle<()>,
) {
    let how = watch_over(&mut process, &mut reader, silence, &desk, &mut orders).await;
    let last_words = match desk.dying_words() {
        Some(words) => Some(words),
        None if how == DeathKind::Exited(0) || how == DeathKind::Killed => None,
        None => process.log.last_words(DRAIN_PATIENCE).await,
    };
    desk.close(Death { how, last_words, at: Instant::now() });
    writer.abort();
    drop(reader);
    drop(orders);
    let _ = writer.await;
    // A killed process that holds gigabytes takes its time; nobody waits for it but `stop`.
    let _ = process.wait().await;
    drop(process);
    desk.gone.send_replace(true);
}

async fn watch_over(
    process: &mut Process,
    reader: &mut FrameReader,
    silence: Duration,
    desk: &Desk,
    orders: &mut mpsc::Receiver<Order>,
) -> DeathKind {
    let mut deadline: Option<tokio::time::Instant> = None;
    let mut listening = true;
    let leaves = leaving(process.pid, || desk.is_busy());
    tokio::pin!(leaves);
    loop {
        tokio::select! {
            lost = take_events(reader, silence, desk) => return after(lost, process).await,
            status = process.wait() => {
                let _ = timeout(DRAIN_PATIENCE, take_events(reader, silence, desk)).await;
                return status.map_or(DeathKind::Killed, kind_of);
            }
            status = &mut leaves => {
                // Its memory may take long to be freed; what it said before that is here already.
                return match timeout(DRAIN_PATIENCE, take_events(reader, silence, desk)).await {
                    Ok(lost) => after(lost, process).await,
                    Err(_) => kind_of(status),
                };
            }
            order = orders.recv(), if listening => match order {
                Some(Order::Kill) => {
                    process.kill();
                    return DeathKind::Killed;
                }
                Some(Order::Stop) | None => {
                    listening = order.is_some();
                    desk.stopping();
                    deadline.get_or_insert(tokio::time::Instant::now() + STOP_GRACE);
                }
            },
            () = sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => {
                process.kill();
                return DeathKind::Killed;
            }
        }
    }
}

async fn take_events(reader: &mut FrameReader, silence: Duration, desk: &Desk) -> Lost {
    loop {
        match reader.next(silence).await {
            Ok(event) => {
                if let Err(why) = desk.take(event) {
                    return Lost::BadFrame(why);
                }
            }
            Err(lost) => return lost,
        }
    }
}

/// The exact cause, once the socket gave nothing more; the process is dead or killed afterwards.
pub(super) async fn after(lost: Lost, process: &mut Process) -> DeathKind {
    let how = match lost {
        Lost::Eof => match timeout(EXIT_PATIENCE, process.wait()).await {
            Ok(Ok(status)) => return kind_of(status),
            _ => DeathKind::ClosedSocket,
        },
        Lost::Silent(silence) => DeathKind::Silent(silence),
        Lost::BadFrame(why) => DeathKind::BadFrame(why),
    };
    process.kill();
    how
}

/// The death of a worker that never came to serve; reaped on return.
pub(super) async fn stillborn(lost: Lost, mut process: Process, dying: Option<String>) -> Death {
    let how = after(lost, &mut process).await;
    let last_words = match dying {
        Some(words) => Some(words),
        None => process.log.last_words(DRAIN_PATIENCE).await,
    };
    let at = Instant::now();
    process.dismiss(STOP_GRACE).await;
    Death { how, last_words, at }
}

fn kind_of(status: ExitStatus) -> DeathKind {
    match (status.code(), status.signal()) {
        (Some(code), _) => DeathKind::Exited(code),
        (None, Some(signal)) => DeathKind::Signal(signal),
        (None, None) => DeathKind::Exited(status.into_raw()),
    }
}
