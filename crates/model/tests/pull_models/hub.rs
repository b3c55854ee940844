//! A model hub on 127.0.0.1 that answers as a test tells it to.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// One answer. Ranges are honoured, unless it says otherwise.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
    pub etag: Option<&'static str>,
    pub headers: Vec<(&'static str, String)>,
    /// Close the connection after so many bytes of body.
    pub cut: Option<usize>,
    pub states_length: bool,
    pub ranges: bool,
    /// Take a range's start to be so much later.
    pub range_slip: usize,
    /// Honour `Range` without looking at `If-Range`.
    pub careless: bool,
    /// Say nothing, and keep the connection open until the hub is gone.
    pub silent: bool,
}

impl Reply {
    pub fn file(body: &[u8]) -> Self {
        Self {
            status: 200,
            body: body.into(),
            etag: Some("\"one\""),
            headers: Vec::new(),
            cut: None,
            states_length: true,
            ranges: true,
            range_slip: 0,
            careless: false,
            silent: false,
        }
    }

    pub fn status(status: u16) -> Self {
        Self { status, etag: None, ..Self::file(b"no") }
    }

    pub fn redirect(to: impl Into<String>) -> Self {
        Self { headers: vec![("Location", to.into())], ..Self::status(302) }
    }

    pub fn cut(self, after: usize) -> Self {
        Self { cut: Some(after), ..self }
    }

    pub fn etag(self, etag: Option<&'static str>) -> Self {
        Self { etag, ..self }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn send(&self, request: &Request, to: &mut TcpStream) -> std::io::Result<()> {
        let (mut status, mut body, mut extra) = (self.status, &self.body[..], String::new());
        let unchanged =
            self.careless || request.if_range.is_none() || request.if_range.as_deref() == self.etag;
        if let Some(start) = request.from.filter(|_| self.ranges && status == 200 && unchanged) {
            let start = start + self.range_slip;
            if start >= body.len() {
                status = 416;
                extra = format!("Content-Range: bytes */{}\r\n", body.len());
                body = &[];
            } else {
                status = 206;
                extra = format!("Content-Range: bytes {start}-{}/{}\r\n", body.len() - 1, body.len());
                body = &body[start..];
            }
        }
        if self.states_length {
            extra += &format!("Content-Length: {}\r\n", body.len());
        }
        if let Some(etag) = self.etag {
            extra += &format!("ETag: {etag}\r\n");
        }
        for (name, value) in &self.headers {
            extra += &format!("{name}: {value}\r\n");
        }
        write!(to, "HTTP/1.1 {status} Reply\r\n{extra}Connection: close\r\n\r\n")?;
        to.write_all(&body[..self.cut.unwrap_or(body.len()).min(body.len())])
    }
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub path: String,
    pub from: Option<usize>,
    pub if_range: Option<String>,
}

/// The hub. It answers with its replies in turn, and with the last one from then on.
pub struct Hub {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    stop: Arc<AtomicBool>,
}

impl Hub {
    pub fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let hub = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            replies: Arc::new(Mutex::new(replies.into_iter().collect())),
            stop: Arc::default(),
        };
        let (requests, replies, stop) = (hub.requests.clone(), hub.replies.clone(), hub.stop.clone());
        thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let mut stream = stream.unwrap();
                let Some(request) = read(&stream) else { continue };
                requests.lock().unwrap().push(request.clone());
                let reply = {
                    let mut replies = replies.lock().unwrap();
                    if replies.len() > 1 { replies.pop_front() } else { replies.front().cloned() }
                };
                let reply = reply.expect("a reply");
                if reply.silent {
                    kept.push(stream);
                } else {
                    // The client may hang up in the middle: that is its right.
                    let _ = reply.send(&request, &mut stream);
                }
            }
        });
        hub
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, answer with these.
    pub fn now(&self, replies: impl IntoIterator<Item = Reply>) {
        self.requests.lock().unwrap().clear();
        *self.replies.lock().unwrap() = replies.into_iter().collect();
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Where each request wanted to start.
    pub fn starts(&self) -> Vec<Option<usize>> {
        self.requests().into_iter().map(|request| request.from).collect()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let mut request = Request { path, from: None, if_range: None };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "range" => request.from = value.trim().strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok(),
            "if-range" => request.if_range = Some(value.trim().into()),
            _ => {}
        }
    }
    Some(request)
}
