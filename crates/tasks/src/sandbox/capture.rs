//! Two pipes read at once, without threads: what is over the limit is read and dropped.
//!
//! A writer that is not read blocks, and one that is cut off learns that something is amiss; a program that prints
//! too much must do neither, it may yet pass its tests.

use super::{End, Outcome};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::Instant;

/// What a pipe holds by default: one read empties it.
const CHUNK_BYTES: usize = 64 << 10;

struct Stream {
    pipe: Option<OwnedFd>,
    kept: Vec<u8>,
    cut: bool,
}

/// What a process prints.
pub struct Capture {
    streams: [Stream; 2],
    most: usize,
    chunk: Vec<u8>,
}

impl Capture {
    /// Of a child started with both pipes; at most so many bytes of each are kept.
    pub fn of(child: &mut Child, most: usize) -> Self {
        let stream = |pipe| Stream { pipe, kept: Vec::new(), cut: false };
        let stdout = child.stdout.take().map(OwnedFd::from);
        let stderr = child.stderr.take().map(OwnedFd::from);
        Self { streams: [stream(stdout), stream(stderr)], most, chunk: vec![0; CHUNK_BYTES] }
    }

    /// Whether anybody can still write.
    pub fn open(&self) -> bool {
        self.streams.iter().any(|stream| stream.pipe.is_some())
    }

    /// Wait for output, for something on `other`, or for the moment given; take the output. True if `other` is ready.
    pub fn wait(&mut self, other: Option<BorrowedFd<'_>>, until: Instant) -> io::Result<bool> {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let pipes = self.streams.iter().filter_map(|stream| stream.pipe.as_ref()).map(AsFd::as_fd);
        let mut watched: Vec<PollFd<'_>> =
            pipes.chain(other).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        match poll(&mut watched, Some(&timeout)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let mut ready: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
        let other_ready = other.is_some() && ready.pop().unwrap_or(false);
        let open = self.streams.iter_mut().filter(|stream| stream.pipe.is_some());
        for (stream, _) in open.zip(ready).filter(|(_, ready)| *ready) {
            stream.read(&mut self.chunk, self.most);
        }
        Ok(other_ready)
    }

    /// What came of it all.
    pub fn outcome(self, end: End, started: Instant) -> Outcome {
        let [stdout, stderr] = self.streams;
        Outcome {
            end,
            truncated: stdout.cut || stderr.cut,
            stdout: stdout.kept,
            stderr: stderr.kept,
            wall_s: started.elapsed().as_secs_f64(),
        }
    }
}

impl Stream {
    fn read(&mut self, chunk: &mut [u8], most: usize) {
        let Some(pipe) = &self.pipe else { return };
        match rustix::io::read(pipe, &mut *chunk) {
            Ok(0) => self.pipe = None,
            Ok(n) => {
                let room = most - self.kept.len();
                self.cut |= n > room;
                self.kept.extend_from_slice(&chunk[..n.min(room)]);
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(_) => self.pipe = None,
        }
    }
}
