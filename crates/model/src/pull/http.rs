//! Hugging Face over HTTP.
//!
//! Redirects are followed by hand: the hub states a file's SHA-256 (`X-Linked-Etag`) in the redirect itself, and
//! a hop from https down to http has to be seen to be refused. A transfer that breaks goes on where it broke:
//! `Range` asks for the rest, `If-Range` makes the server send the whole file instead if it has changed, and an
//! answer that does not start at our end is never glued to what is there.

use super::{
    Job, Progress, SourceError, Stop,
    part::{BLOCK_BYTES, Origin, Part},
};
use crate::catalogue::{HuggingFaceFile, Sha256Sum};
use std::{fmt::Write as _, io::Read, thread, time::Duration};
use ureq::{Agent, Body, http::Response};

/// Most redirects in a row; the hub needs one or two.
const REDIRECTS_MAX: u32 = 5;
/// Most failed attempts in a row that brought no byte.
const FRUITLESS_MAX: u32 = 4;
/// Most attempts in all: a line that breaks this often is not worth holding.
const ATTEMPTS_MAX: u32 = 64;
/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// How long finding and reaching the server may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Most bytes of an entity tag worth remembering; the hub's have under 100.
const ETAG_BYTES_MAX: usize = 512;

/// Bring the file into `part`, whole. Returns the checksum to demand of it, where one is known.
pub(super) fn fetch(
    job: &Job<'_>,
    file: &HuggingFaceFile,
    part: &mut Part,
    progress: &mut dyn Progress,
) -> Result<Option<Sha256Sum>, Stop> {
    let address = format!(
        "{}/{}/resolve/{}/{}",
        job.options.hub,
        escaped(&file.repo),
        escaped(&file.revision),
        escaped(&file.file)
    );
    let id = format!("huggingface {}@{}/{}", file.repo, file.revision, file.file);
    part.resume(&id, job.bytes_max(), progress)?;
    let mut transfer = Transfer { job, agent: agent(job, &address), address, id, expected: job.expected };
    let (mut fruitless, mut pause, mut reached) = (0, job.options.retry_pause, false);
    for _ in 0..ATTEMPTS_MAX {
        let before_bytes = part.len();
        match transfer.attempt(part, progress)? {
            Attempt::Whole => return Ok(transfer.expected),
            Attempt::Again => {}
            Attempt::Broken(why) => {
                if part.len() > before_bytes {
                    (fruitless, pause, reached) = (0, job.options.retry_pause, true);
                }
                fruitless += 1;
                // A server that never answered is not there; one that did may come back.
                let absent = !reached && matches!(why, SourceError::Network { .. });
                if absent || fruitless >= FRUITLESS_MAX {
                    return Err(why.into());
                }
                progress.message(&format!("broken off after {} bytes; trying again", part.len()));
                thread::sleep(pause);
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
    let why = format!("the transfer broke {ATTEMPTS_MAX} times");
    Err(SourceError::Network { address: transfer.address, why }.into())
}

struct Transfer<'a> {
    job: &'a Job<'a>,
    agent: Agent,
    address: String,
    id: String,
    expected: Option<Sha256Sum>,
}

enum Attempt {
    /// The file is complete.
    Whole,
    /// What was there turned out useless and was dropped; ask for the whole file.
    Again,
    /// Worth another attempt.
    Broken(SourceError),
}

impl Transfer<'_> {
    fn attempt(&mut self, part: &mut Part, progress: &mut dyn Progress) -> Result<Attempt, Stop> {
        if part.held(&self.id) > 0 && self.expected.is_none() && part.etag().is_none() {
            part.restart()?; // nothing would notice if the file had changed meanwhile
        }
        let held_bytes = part.held(&self.id);
        let etag = part.etag().map(str::to_owned).filter(|_| held_bytes > 0);
        let response = match self.ask(held_bytes, etag.as_deref())? {
            Ok(response) => response,
            Err(broken) => return Ok(Attempt::Broken(broken)),
        };
        let header =
            |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let now_etag = header("etag").filter(|tag| is_strong(tag));
        let length = header("content-length").and_then(|text| text.parse::<u64>().ok());
        let range = header("content-range");
        let total_bytes = match response.status().as_u16() {
            200 => {
                if held_bytes > 0 {
                    progress.message("the server starts over: the file has changed, or it cannot resume");
                }
                length.map(|total| self.job.check_size(total)).transpose()?;
                part.restart()?;
                part.begin(Origin { id: self.id.clone(), etag: now_etag })?;
                length
            }
            206 if held_bytes > 0 => {
                let range = range.as_deref().and_then(content_range);
                let same = range.is_some_and(|(start, _)| start == held_bytes)
                    && (now_etag.is_none() || etag.is_none() || now_etag == etag);
                if !same {
                    part.restart()?;
                    return Ok(Attempt::Again);
                }
                let total =
                    range.and_then(|(_, total)| total).or_else(|| length.map(|rest| held_bytes + rest));
                total.map(|total| self.job.check_size(total)).transpose()?;
                total
            }
            416 if held_bytes > 0 => {
                let total = range.and_then(|text| text.strip_prefix("bytes */")?.parse().ok());
                if total == Some(held_bytes) {
                    return Ok(Attempt::Whole);
                }
                part.restart()?;
                return Ok(Attempt::Again);
            }
            status => {
                let refused = SourceError::Status { address: self.address.clone(), status };
                let passing = matches!(status, 408 | 429 | 500..=599);
                return if passing { Ok(Attempt::Broken(refused)) } else { Err(refused.into()) };
            }
        };
        let total_bytes = total_bytes.or(self.job.entry.bytes);
        self.job.check_disk(total_bytes.unwrap_or(0).saturating_sub(part.len()))?;
        progress.start(total_bytes, part.len());
        self.receive(response, total_bytes, part, progress)
    }

    fn receive(
        &self,
        response: Response<Body>,
        total_bytes: Option<u64>,
        part: &mut Part,
        progress: &mut dyn Progress,
    ) -> Result<Attempt, Stop> {
        let most = total_bytes.unwrap_or_else(|| self.job.bytes_max());
        let mut body = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            match body.read(&mut block) {
                Ok(0) => break,
                Ok(n) => {
                    let actual_bytes = part.len() + n as u64;
                    if actual_bytes > most {
                        part.restart()?;
                        return Err(SourceError::WrongSize { actual_bytes, expected_bytes: most }.into());
                    }
                    part.write(&block[..n])?;
                    progress.advance(n as u64);
                }
                Err(e) => return Ok(Attempt::Broken(self.network(&self.address, &e))),
            }
        }
        match total_bytes {
            Some(total) if part.len() < total => {
                let why = format!("the connection closed after {} of {total} bytes", part.len());
                Ok(Attempt::Broken(SourceError::Network { address: self.address.clone(), why }))
            }
            _ => Ok(Attempt::Whole),
        }
    }

    /// Ask for the file from byte `from` on, through redirects. The inner error is worth another attempt.
    fn ask(&mut self, from: u64, etag: Option<&str>) -> Result<Result<Response<Body>, SourceError>, Stop> {
        let mut address = self.address.clone();
        for hop in 0..=REDIRECTS_MAX {
            let mut request = self.agent.get(&address).header("Accept-Encoding", "identity");
            if from > 0 {
                request = request.header("Range", format!("bytes={from}-"));
                if let Some(etag) = etag {
                    request = request.header("If-Range", etag);
                }
            }
            let response = match request.call() {
                Ok(response) => response,
                Err(e) => return Ok(Err(self.network(&address, &e))),
            };
            if hop == 0 {
                self.heed_stated_sum(&response)?;
            }
            if !response.status().is_redirection() || response.status().as_u16() == 304 {
                return Ok(Ok(response));
            }
            let to = response.headers().get("location").and_then(|v| v.to_str().ok()).unwrap_or_default();
            address = target(&address, to).map_err(|why| SourceError::Redirect {
                address: address.clone(),
                to: to.into(),
                why,
            })?;
        }
        let why = "too many redirects";
        Err(SourceError::Redirect { address: self.address.clone(), to: address, why }.into())
    }

    /// Take note of the checksum the hub states, and stop before the download where it is not the right one.
    fn heed_stated_sum(&mut self, response: &Response<Body>) -> Result<(), SourceError> {
        let header = response.headers().get("x-linked-etag").and_then(|v| v.to_str().ok());
        let Some(stated) = header.and_then(|tag| tag.trim_matches('"').parse::<Sha256Sum>().ok()) else {
            return Ok(());
        };
        match self.expected {
            Some(expected) if expected != stated => Err(SourceError::Mismatch { expected, actual: stated }),
            _ => {
                self.expected = Some(stated);
                Ok(())
            }
        }
    }

    fn network(&self, address: &str, why: &dyn std::fmt::Display) -> SourceError {
        SourceError::Network { address: address.into(), why: why.to_string() }
    }
}

fn agent(job: &Job<'_>, address: &str) -> Agent {
    let silence_max = Some(job.options.silence_max);
    let mut config = Agent::config_builder()
        .user_agent(concat!("qeil/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_resolve(Some(CONNECT_MAX))
        .timeout_connect(Some(CONNECT_MAX))
        .timeout_recv_response(silence_max)
        .timeout_per_read(silence_max);
    if ["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|own| address.starts_with(own)) {
        config = config.proxy(None); // a proxy would look for the hub on itself
    }
    config.build().new_agent()
}

/// Where a `Location` leads.
fn target(from: &str, to: &str) -> Result<String, &'static str> {
    let secure = from.starts_with("https://");
    let target = if to.starts_with("https://") || to.starts_with("http://") {
        to.to_owned()
    } else if to.starts_with('/') && !to.starts_with("//") {
        let host_end = from.find("://").and_then(|i| from[i + 3..].find('/').map(|j| i + 3 + j));
        format!("{}{to}", &from[..host_end.unwrap_or(from.len())])
    } else {
        return Err("it is neither an http address nor an absolute path");
    };
    if secure && !target.starts_with("https://") {
        return Err("it leads from https to http");
    }
    Ok(target)
}

/// Start and total of a `Content-Range`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, total.trim().parse().ok()))
}

/// Whether an entity tag promises the same bytes, not merely the same meaning, and fits on a line.
fn is_strong(tag: &str) -> bool {
    tag.starts_with('"') && tag.len() <= ETAG_BYTES_MAX && !tag.contains(['\n', '\r'])
}

fn escaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
