//! A scripted worker: speaks the protocol, runs no model, and misbehaves as its script says.
//!
//! Scripts of the start are named in [`play`]. The script `serve` loads at once and then reads its cue from each
//! prompt's text: `tokens`, `stall`, `overflow`, …

use qeil_engine::protocol::{
    self, Command, Event, Heartbeat, LoadRefusal, SampleToken, StateHeader, StateSource,
};
use qeil_engine::request::{FinishReason, GenerateRequest, Prompt, RequestError, TokenOut, Usage};
use qeil_engine::spec::Loaded;
use std::collections::HashMap;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// What a peer says on stderr before it exits with a code.
pub const LAST_LINE: &str = "the peer says good-bye";
/// Bytes of the state that the peer exports: more than one chunk.
pub const STATE_BYTES: usize = 700_000;
/// The token that makes the prompt of an export cue.
pub const DAMAGED: i32 = 1;
/// See [`DAMAGED`].
pub const TOO_LONG: i32 = 2;

struct Peer {
    socket: UnixStream,
    cancels: i32,
    open: HashMap<u64, GenerateRequest>,
    imports: HashMap<u64, (StateHeader, Vec<u8>)>,
    /// A request that is admitted only when it is cancelled.
    late: Option<u64>,
    /// Exit neither when told to nor when left alone.
    stubborn: bool,
}

/// Play a script; returns the exit code.
pub fn play(script: &str) -> i32 {
    let fd = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let mut socket = UnixStream::from(fd);
    let hello = Event::Hello { version: protocol::PROTOCOL_VERSION };
    match script {
        "other-version" => {
            protocol::write(&mut socket, &Event::Hello { version: 4711 }).unwrap();
            std::thread::sleep(Duration::from_secs(600));
        }
        "exit-at-once" => {
            eprintln!("{LAST_LINE}");
            return 3;
        }
        "garbage" => {
            socket.write_all(&[3, 0, 0, 0, 250, 250, 250]).unwrap();
            std::thread::sleep(Duration::from_secs(600));
        }
        _ => protocol::write(&mut socket, &hello).unwrap(),
    }
    let first = protocol::read::<Command>(&mut socket).unwrap();
    match script {
        "never-loads" => std::thread::sleep(Duration::from_secs(600)),
        "dies-loading" => {
            protocol::write(&mut socket, &Event::Dying("GGML_ASSERT(n_layer > 0) failed".into())).unwrap();
            std::process::abort();
        }
        "refuses" => {
            let refusal = LoadRefusal::Engine("unknown architecture".into());
            protocol::write(&mut socket, &Event::Refused(refusal)).unwrap();
            return 0;
        }
        "wrong-answer" => {
            protocol::write(&mut socket, &Event::Devices(Vec::new())).unwrap();
            std::thread::sleep(Duration::from_secs(600));
        }
        _ => {}
    }
    let Some(Command::Load(spec)) = first else { return 1 };
    let loaded = Loaded {
        pid: std::process::id(),
        device: spec.device.clone(),
        device_description: "a script".into(),
        model_description: "none".into(),
        parameters: 0,
        weight_bytes: 0,
        vocab_tokens: 100,
        context_train_tokens: 1,
        context_tokens: spec.context_tokens,
        recurrent: false,
        load_ms: 0.0,
        confinement: "none".into(),
        cpu_features: String::new(),
    };
    protocol::write(&mut socket, &Event::Loaded(Box::new(loaded))).unwrap();
    if script == "silent" {
        std::thread::sleep(Duration::from_secs(600));
    }
    if script == "crashes-soon" {
        std::thread::sleep(Duration::from_millis(20));
        eprintln!("{LAST_LINE}");
        return 3;
    }
    let mut peer = Peer {
        socket,
        cancels: 0,
        open: HashMap::new(),
        imports: HashMap::new(),
        late: None,
        stubborn: script == "stubborn",
    };
    peer.say(Event::Heartbeat(Heartbeat { steps: 42, ..Heartbeat::default() }));
    while let Some(command) = protocol::read::<Command>(&mut peer.socket).unwrap() {
        if let Some(code) = peer.take(command) {
            return code;
        }
    }
    if peer.stubborn {
        std::thread::sleep(Duration::from_secs(600));
    }
    0
}

impl Peer {
    fn say(&mut self, event: Event) {
        protocol::write(&mut self.socket, &event).unwrap();
    }

    fn take(&mut self, command: Command) -> Option<i32> {
        match command {
            Command::Generate { id, request } => return self.generate(id, *request),
            Command::Cancel { id, .. } => {
                self.cancels += 1;
                if self.late.take() == Some(id) {
                    self.say(Event::Admitted { id, prompt: vec![1], queued: 0 });
                }
                if let Some(request) = self.open.remove(&id) {
                    self.end(id, &request, &FinishReason::Cancelled);
                }
            }
            Command::Tokenize { id, .. } => {
                let tokens = Ok(vec![self.cancels]);
                self.say(Event::Tokenized { id, tokens });
            }
            Command::Score { id, .. } => self.say(Event::Scored { id, logprobs: Err("not a model".into()) }),
            Command::Export { id, from, .. } => self.export(id, &from),
            Command::Import { id, header } => {
                self.imports.insert(id, (header, Vec::new()));
            }
            Command::ImportChunk { id, bytes } => {
                let (header, have) = self.imports.get_mut(&id).unwrap();
                have.extend(bytes);
                if have.len() as u64 == header.bytes {
                    let error = (crc32fast::hash(have) != header.crc32).then(|| "damaged".to_owned());
                    self.say(Event::Imported { id, error });
                }
            }
            Command::Shutdown if !self.stubborn => return Some(0),
            _ => {}
        }
        None
    }

    fn export(&mut self, id: u64, from: &StateSource) {
        let StateSource::Prefix(tokens) = from else {
            return self.say(Event::ExportFailed { id, why: "no such sample".into() });
        };
        let mut bytes: Vec<u8> = (0..STATE_BYTES).map(|i| (i * 31 % 251) as u8).collect();
        let header = StateHeader {
            tokens: tokens.clone(),
            emitted: Vec::new(),
            bytes: bytes.len() as u64,
            crc32: crc32fast::hash(&bytes),
            flash_attention: false,
        };
        self.say(Event::State { id, header });
        match tokens.first() {
            Some(&DAMAGED) => bytes[STATE_BYTES / 2] ^= 1,
            Some(&TOO_LONG) => bytes.push(0),
            _ => {}
        }
        for chunk in bytes.chunks(protocol::STATE_CHUNK_BYTES) {
            self.say(Event::StateChunk { id, bytes: chunk.to_vec() });
        }
    }

    fn token(&mut self, request: u64, sample: u32, id: i32) {
        let token = TokenOut { id, text: format!("t{id} ").into_bytes(), logprob: None, top: Vec::new() };
        self.say(Event::Tokens(vec![SampleToken { request, sample, token }]));
    }

    fn end(&mut self, id: u64, request: &GenerateRequest, reason: &FinishReason) {
        for start in &request.samples {
            self.say(Event::SampleDone {
                id,
                sample: start.index,
                reason: reason.clone(),
                tail: b"tail".to_vec(),
            });
        }
        self.say(Event::Done { id, usage: Usage::default() });
    }

    fn generate(&mut self, id: u64, request: GenerateRequest) -> Option<i32> {
        let cue = match &request.prompt {
            Prompt::Parts(parts) => parts[0].text.clone(),
            Prompt::Tokens(_) => String::new(),
        };
        if cue == "reject" {
            self.say(Event::Rejected { id, error: RequestError::QueueFull(7) });
            return None;
        }
        if cue == "late" {
            self.late = Some(id);
            self.open.insert(id, request);
            return None;
        }
        self.say(Event::Admitted { id, prompt: vec![1, 2, 3], queued: 0 });
        for t in 0..request.tokens_max.min(3) {
            for start in &request.samples {
                self.token(id, start.index, t as i32);
            }
        }
        match cue.as_str() {
            "tokens" => {
                for t in 3..request.tokens_max {
                    for start in &request.samples {
                        self.token(id, start.index, t as i32);
                    }
                }
                self.end(id, &request, &FinishReason::Length);
            }
            "exit" => {
                eprintln!("{LAST_LINE}");
                return Some(7);
            }
            "overflow" => (0..1000).for_each(|t| self.token(id, 0, t)),
            "stranger" => self.token(id + 1000, 0, 1),
            "half-frame" => {
                self.socket.write_all(&[200, 0, 0, 0, 1, 2, 3]).unwrap();
                return Some(0);
            }
            "done-twice" => {
                self.end(id, &request, &FinishReason::Length);
                self.say(Event::Done { id, usage: Usage::default() });
            }
            "hello-again" => self.say(Event::Hello { version: protocol::PROTOCOL_VERSION }),
            "stall" => {
                self.open.insert(id, request);
            }
            other => panic!("no such cue: {other}"),
        }
        None
    }
}
