//! From the bytes of the socket to events.
//!
//! The reader keeps what it has in a buffer of its own, so a read that is abandoned half-way (another branch of
//! a `select!` was faster) loses nothing.

use crate::protocol::{self, Event};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::unix::OwnedReadHalf;

/// Bytes asked for in one read: more than all tokens of a step, less than a chunk of state.
const READ_BYTES: usize = 64 << 10;
/// A buffer that grew beyond this for one large message is given back afterwards.
const KEEP_BYTES: usize = 1 << 20;

/// Why there is no further event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The socket ended, possibly inside a frame.
    Eof,
    /// Nothing came for this long.
    Silent(Duration),
    /// What came is no event.
    BadFrame(String),
}

/// Reads events.
#[derive(Debug)]
pub(super) struct FrameReader {
    half: OwnedReadHalf,
    buffer: Vec<u8>,
    /// Bytes at the start of `buffer` that were already decoded.
    taken: usize,
}

impl FrameReader {
    pub(super) fn new(half: OwnedReadHalf) -> Self {
        Self { half, buffer: Vec::new(), taken: 0 }
    }

    /// The next event. Can be dropped and called again at any time.
    pub(super) async fn next(&mut self, silence: Duration) -> Result<Event, Lost> {
        loop {
            let missing = match self.buffered()? {
                Ok(event) => return Ok(event),
                Err(missing) => missing,
            };
            self.buffer.drain(..self.taken);
            self.taken = 0;
            if self.buffer.is_empty() && self.buffer.capacity() > KEEP_BYTES {
                self.buffer = Vec::new();
            }
            self.buffer.reserve(missing.max(READ_BYTES));
            match self.read(silence).await? {
                0 => return Err(Lost::Eof),
                _ => continue,
            }
        }
    }

    async fn read(&mut self, silence: Duration) -> Result<usize, Lost> {
        loop {
            let since = Instant::now();
            match tokio::time::timeout(silence, self.half.read_buf(&mut self.buffer)).await {
                Ok(Ok(n)) => return Ok(n),
                // A peer that dies with unread commands resets the connection; what it wrote was read before.
                Ok(Err(_)) => return Ok(0),
                // Twice the time passed: it was this process that slept (job control, a suspended laptop), and
                // the worker may have slept with it.
                Err(_) if since.elapsed() > silence * 2 => {}
                Err(_) => return Err(Lost::Silent(silence)),
            }
        }
    }

    /// The event at the front of the buffer, or how many bytes it lacks.
    fn buffered(&mut self) -> Result<Result<Event, usize>, Lost> {
        let bad = |error: std::io::Error| Lost::BadFrame(error.to_string());
        let have = &self.buffer[self.taken..];
        let Some((prefix, rest)) = have.split_first_chunk::<4>() else { return Ok(Err(4 - have.len())) };
        let len = protocol::body_len(*prefix).map_err(bad)?;
        let Some(body) = rest.get(..len) else { return Ok(Err(len - rest.len())) };
        let event = protocol::decode(body).map_err(bad)?;
        self.taken += 4 + len;
        Ok(Ok(event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixStream;

    const LONG: Duration = Duration::from_secs(30);

    fn frames() -> Vec<u8> {
        let words = ["", "an assertion", &"x".repeat(200_000)];
        words.iter().flat_map(|w| protocol::encode(&Event::Dying((*w).into())).unwrap()).collect()
    }

    async fn read_in_pieces(bytes: Vec<u8>, piece: usize) -> (Vec<Event>, Lost) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (half, _keep) = ours.into_split();
        let mut reader = FrameReader::new(half);
        let feed = tokio::spawn(async move {
            for part in bytes.chunks(piece) {
                theirs.write_all(part).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut events = Vec::new();
        let lost = loop {
            // Abandoned reads must lose nothing: a poll that is dropped at once goes before each real one.
            let _ = tokio::time::timeout(Duration::ZERO, std::future::pending::<()>()).await;
            tokio::select! {
                biased;
                event = reader.next(LONG) => match event {
                    Ok(event) => events.push(event),
                    Err(lost) => break lost,
                },
                () = tokio::task::yield_now() => {}
            }
        };
        feed.await.unwrap();
        (events, lost)
    }

    #[tokio::test]
    async fn events_survive_any_fragmentation_and_cancellation() {
        for piece in [1, 3, 4, 5, 64, 4096, 1 << 20] {
            let bytes = frames();
            let bytes = if piece < 64 { bytes[..bytes.len() - 190_000].to_vec() } else { bytes };
            let whole = if piece < 64 { 2 } else { 3 };
            let (events, lost) = read_in_pieces(bytes, piece).await;
            assert_eq!((events.len(), lost), (whole, Lost::Eof), "pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn what_is_no_event_is_named() {
        let mut after = protocol::encode(&Event::Hello { version: 1 }).unwrap();
        after[0] += 1;
        after.push(0);
        let cases: [(&str, Vec<u8>, &str); 3] = [
            ("a length above the limit", u32::MAX.to_le_bytes().to_vec(), "announces"),
            ("an unknown variant", vec![2, 0, 0, 0, 250, 1], ""),
            ("bytes after the message", after, "1 bytes after"),
        ];
        for (name, bytes, part) in cases {
            let (_, lost) = read_in_pieces(bytes, 64).await;
            assert!(matches!(&lost, Lost::BadFrame(why) if why.contains(part)), "{name}: {lost:?}");
        }
    }

    #[tokio::test]
    async fn silence_is_noticed() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (half, _keep) = ours.into_split();
        let silence = Duration::from_millis(20);
        assert_eq!(FrameReader::new(half).next(silence).await, Err(Lost::Silent(silence)));
    }
}
