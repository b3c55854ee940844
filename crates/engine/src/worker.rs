//! The worker process: one model on one device, one conversation on file descriptor 0.
//!
//! Four threads. The **main** thread (thread 0 of the compute pool, so its affinity is the pool's) runs the step
//! loop. The **reader** turns frames into commands and, for those that cannot wait for the end of a step, sets
//! the abort flag. The **writer** owns the sending side, so a slow supervisor stalls the loop only once the
//! bounded queue between them is full. The **pulse** sends heartbeats, so that a hung step can be told from a
//! dead process.
//!
//! The process dies with its parent, opens nothing and connects nowhere after its model is loaded (see
//! [`confine`]), and leaves the socket only by exiting.

mod advance;
pub mod confine;
mod job;
mod prefix;
mod pulse;
mod sample;
mod schedule;
mod stepper;
mod stops;
#[cfg(test)]
mod toy;
mod transfer;

pub use sample::{log_softmax, uniform};

use crate::llama::{self, Engine, abort_flag};
use crate::protocol::{self, Command, Event, Fault, LoadRefusal, PROTOCOL_VERSION, SampleToken};
use crate::spec::LoadSpec;
use pulse::Pulse;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};
use stepper::Stepper;

/// Commands read but not yet taken: a full queue makes the supervisor's writes wait.
const COMMANDS_MAX: usize = 1024;
/// Frames computed but not yet written: a few steps of 256 samples each.
const FRAMES_MAX: usize = 1024;
/// Longest sleep between two looks at the commands while pacing.
const PACE_SLICE: Duration = Duration::from_millis(20);
/// Frames of tokens follow each other no faster than this: nobody reads more than 40 updates a second.
const TOKENS_EVERY: Duration = Duration::from_millis(25);

/// Run the worker. Called by the hidden subcommand `qeil worker`, with one end of a socket pair as descriptor 0.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("qeil worker: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The sending side, shared with the handler of failed assertions.
static SOCKET: OnceLock<Mutex<UnixStream>> = OnceLock::new();

fn run() -> io::Result<()> {
    confine::die_with_parent()?;
    let socket = inherited_socket()?;
    let mut reading = socket.try_clone()?;
    let writing = SOCKET.get_or_init(|| Mutex::new(socket));
    send_now(writing, &Event::Hello { version: PROTOCOL_VERSION })?;
    llama::init(|text| {
        // The process is about to abort; the writer may hold the lock, so do not wait for it.
        if let Ok(mut socket) = writing_side().try_lock()
            && let Ok(frame) = protocol::encode(&Event::Dying(text.to_owned()))
        {
            let _ = socket.write_all(&frame);
        }
    });
    match protocol::read::<Command>(&mut reading)? {
        None | Some(Command::Shutdown) => Ok(()),
        Some(Command::Probe) => send_now(writing, &Event::Devices(llama::devices())),
        Some(Command::Transcode(spec)) => {
            confine::restrict_to_transcode(&spec);
            let written = llama::transcode(&spec).and_then(|()| {
                std::fs::metadata(&spec.to).map(|m| m.len()).map_err(|error| error.to_string())
            });
            send_now(writing, &Event::Transcoded(written))
        }
        Some(Command::Load(spec)) => serve(*spec, reading, writing),
        Some(other) => {
            let text = format!("the first command must be Load, Probe or Transcode, not {other:?}");
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
    }
}

fn writing_side() -> &'static Mutex<UnixStream> {
    // Set before llama.cpp is started, so there is nothing to abort earlier.
    #[expect(clippy::expect_used, reason = "set at the start of run")]
    SOCKET.get().expect("the socket is set first")
}

fn inherited_socket() -> io::Result<UnixStream> {
    use std::os::fd::AsFd;
    let fd = io::stdin().as_fd().try_clone_to_owned()?;
    let socket = UnixStream::from(fd);
    socket.local_addr().map_err(|error| {
        io::Error::new(error.kind(), "descriptor 0 is not a socket: `qeil worker` is started by qeil itself")
    })?;
    Ok(socket)
}

fn send_now(socket: &Mutex<UnixStream>, event: &Event) -> io::Result<()> {
    let frame = protocol::encode(event)?;
    let mut socket = socket.lock().map_err(|_| io::Error::other("the writer panicked"))?;
    socket.write_all(&frame)
}

fn serve(spec: LoadSpec, reading: UnixStream, writing: &'static Mutex<UnixStream>) -> io::Result<()> {
    let refuse = |refusal: LoadRefusal| send_now(writing, &Event::Refused(refusal));
    if let Err(error) = spec.check() {
        return refuse(LoadRefusal::Spec(error.to_string()));
    }
    if let Err(error) = confine::limit_resources(&spec).and_then(|()| confine::pin_this_thread(&spec)) {
        return refuse(LoadRefusal::Spec(error.to_string()));
    }
    // Everything that needs the file system later is opened before confinement.
    let pulse = Arc::new(Pulse::new()?);
    let confinement = confine::restrict(&spec);
    let (engine, mut loaded) = match Engine::load(&spec) {
        Ok(pair) => pair,
        Err(refusal) => return refuse(refusal),
    };
    loaded.confinement = confinement;

    let (commands_in, commands) = sync_channel(COMMANDS_MAX);
    let (frames, frames_out) = sync_channel(FRAMES_MAX);
    thread::Builder::new().name("reader".into()).spawn(move || read_commands(reading, &commands_in))?;
    let writer =
        thread::Builder::new().name("writer".into()).spawn(move || write_frames(&frames_out, writing))?;
    let every = Duration::from_millis(spec.heartbeat_ms.into());
    let (beat, beats) = (Arc::clone(&pulse), frames.clone());
    thread::Builder::new().name("pulse".into()).spawn(move || {
        let beat = || protocol::encode(&Event::Heartbeat(beat.read()));
        while beat().is_ok_and(|frame| beats.send(Frame::Bytes(frame)).is_ok()) {
            thread::sleep(every);
        }
    })?;
    let ready = Frame::Bytes(protocol::encode(&Event::Loaded(Box::new(loaded)))?);
    frames.send(ready).map_err(|_| writer_gone())?;

    let allow_faults = spec.allow_faults;
    let stepper = Stepper::new(engine, spec, Arc::clone(&pulse));
    let last = frames.clone();
    let (held, sent) = (Vec::new(), Instant::now());
    Loop {
        stepper,
        commands,
        frames,
        pulse,
        allow_faults,
        duty: 1.0,
        slow: Duration::ZERO,
        writing,
        held,
        sent,
    }
    .run()?;
    // The pulse thread holds a sender too, so the writer is told where the end is.
    let _ = last.send(Frame::End);
    writer.join().map_err(|_| io::Error::other("the writer panicked"))
}

fn read_commands(mut socket: UnixStream, commands: &SyncSender<Command>) {
    loop {
        let command = match protocol::read::<Command>(&mut socket) {
            Ok(Some(command)) => command,
            Ok(None) => Command::Shutdown,
            Err(error) => {
                eprintln!("qeil worker: unreadable command: {error}");
                Command::Shutdown
            }
        };
        // These cannot wait for the end of a step; the loop clears the flag when it takes them.
        if matches!(command, Command::Cancel { .. } | Command::Shutdown) {
            abort_flag().store(true, Ordering::Relaxed);
        }
        let last = command == Command::Shutdown;
        if commands.send(command).is_err() || last {
            return;
        }
    }
}

/// What the writer is given.
enum Frame {
    Bytes(Vec<u8>),
    End,
}

fn writer_gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the supervisor closed the socket")
}

fn write_frames(frames: &Receiver<Frame>, socket: &Mutex<UnixStream>) {
    while let Ok(Frame::Bytes(frame)) = frames.recv() {
        let Ok(mut socket) = socket.lock() else { return };
        if socket.write_all(&frame).is_err() {
            // Nobody listens any more: the reader sees the end of the stream and stops the loop.
            return;
        }
    }
}

struct Loop {
    stepper: Stepper<Engine, Arc<Pulse>>,
    commands: Receiver<Command>,
    frames: SyncSender<Frame>,
    pulse: Arc<Pulse>,
    allow_faults: bool,
    duty: f32,
    slow: Duration,
    writing: &'static Mutex<UnixStream>,
    /// Tokens that wait for company, and when the last ones went.
    held: Vec<SampleToken>,
    sent: Instant,
}

impl Loop {
    fn run(mut self) -> io::Result<()> {
        let mut next: Option<Command> = None;
        loop {
            abort_flag().store(false, Ordering::Relaxed);
            while let Some(command) = next.take().or_else(|| self.commands.try_recv().ok()) {
                if !self.take(command) {
                    return Ok(());
                }
            }
            self.send()?;
            if !self.stepper.has_work() {
                self.stepper.rest();
                match self.commands.recv() {
                    Ok(command) => next = Some(command),
                    Err(_) => return Ok(()),
                }
                continue;
            }
            thread::sleep(self.slow);
            self.pulse.step_starts();
            let step = self.stepper.step();
            self.pulse.step_ends(&self.stepper, self.duty);
            self.send()?;
            if let Some(step) = step {
                next = self.pace(step.seconds);
            }
        }
    }

    /// Sleep as the duty cycle asks, unless a command comes.
    fn pace(&self, step_s: f64) -> Option<Command> {
        let rest = step_s * (1.0 / f64::from(self.duty) - 1.0);
        let until = Instant::now() + Duration::from_secs_f64(rest.clamp(0.0, 60.0));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            match self.commands.recv_timeout(left.min(PACE_SLICE)) {
                Ok(command) => return Some(command),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Take one command; `false` ends the process.
    fn take(&mut self, command: Command) -> bool {
        let stepper = &mut self.stepper;
        match command {
            Command::Generate { id, request } => stepper.generate(id, *request),
            Command::Cancel { id, sample } => stepper.cancel(id, sample),
            Command::Pace { duty } if duty > 0.0 && duty <= 1.0 => self.duty = duty,
            Command::Export { id, from, detach } => stepper.export(id, &from, detach),
            Command::Import { id, header } => stepper.import(id, header),
            Command::ImportChunk { id, bytes } => stepper.import_chunk(id, &bytes),
            Command::Score { id, prompt } => stepper.score(id, &prompt),
            Command::Tokenize { id, prompt } => {
                let tokens = stepper.tokenize(&prompt);
                stepper.outbox.push(Event::Tokenized { id, tokens });
            }
            Command::Inject(fault) if self.allow_faults => self.inject(fault),
            Command::Inject(_) => eprintln!("qeil worker: faults are not allowed here"),
            Command::Shutdown => return false,
            // Ignored rather than obeyed: the supervisor checks what it sends.
            Command::Pace { .. } | Command::Load(_) | Command::Probe | Command::Transcode(_) => {}
        }
        true
    }

    fn inject(&mut self, fault: Fault) {
        match fault {
            Fault::Assertion => llama::fail_assertion(),
            Fault::OutOfMemory => {
                let mut hoard = Vec::new();
                loop {
                    hoard.push(vec![1u8; 64 << 20]);
                }
            }
            Fault::Hang => loop {
                thread::sleep(Duration::from_secs(3600));
            },
            Fault::WrongNumbers(size) => self.stepper.disturb(size),
            Fault::Slow(ms) => self.slow = Duration::from_millis(ms.into()),
            Fault::CloseSocket => {
                if let Ok(socket) = self.writing.lock() {
                    let _ = socket.shutdown(std::net::Shutdown::Both);
                }
                loop {
                    thread::sleep(Duration::from_secs(3600));
                }
            }
        }
    }

    /// Send what the stepper has to say. Tokens that follow each other closely travel together: each frame wakes two
    /// threads, on cores that the next step needs.
    fn send(&mut self) -> io::Result<()> {
        for event in self.stepper.drain() {
            match event {
                Event::Tokens(tokens) => self.held.extend(tokens),
                other => {
                    self.release()?;
                    self.frame(&other)?;
                }
            }
        }
        if self.sent.elapsed() >= TOKENS_EVERY || !self.stepper.has_work() {
            self.release()?;
        }
        Ok(())
    }

    fn release(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        self.sent = Instant::now();
        let tokens = Event::Tokens(std::mem::take(&mut self.held));
        self.frame(&tokens)
    }

    fn frame(&self, event: &Event) -> io::Result<()> {
        self.frames.send(Frame::Bytes(protocol::encode(event)?)).map_err(|_| writer_gone())
    }
}
