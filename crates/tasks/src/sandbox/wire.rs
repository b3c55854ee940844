//! What the caller and the launcher say to each other, over the socket that is the launcher's standard input.
//!
//! The caller sends one byte when the launcher may go, then one [`Spec`]; the launcher answers with [`Report`]s. Each
//! is its length (four bytes, little-endian) and its postcard form. The program never sees the socket: it is closed
//! by the `exec` that starts it, after the inner process has put the program's own input in its place.

use super::{Limits, Means};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};
use std::path::PathBuf;

/// The byte that says: go.
pub const GO: [u8; 1] = *b"g";
/// A program and its files travel in one piece; more than this is no unit test.
pub const SPEC_BYTES_MAX: usize = 256 << 20;
/// A report is a sentence.
pub const REPORT_BYTES_MAX: usize = 64 << 10;

/// What to run, and within what.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spec {
    pub means: Means,
    pub limits: Limits,
    /// Nothing: everything but the last step, to see whether it works.
    pub program: Option<Executable>,
    /// A folder of the caller's, where the sandbox cannot make one of its own.
    pub folder: Option<PathBuf>,
}

/// A program, found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Executable {
    /// The file.
    pub path: PathBuf,
    /// Its arguments, its name first.
    pub argv: Vec<String>,
    /// What it reads outside the system's folders.
    pub readable: Vec<PathBuf>,
    /// What lies in its folder.
    pub files: Vec<(String, Vec<u8>)>,
    /// Its standard input.
    pub stdin: Vec<u8>,
}

/// What the launcher says.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// A step failed; nothing ran.
    Failed(String),
    /// Everything is in place (the answer to a spec without a program).
    Holds(Held),
    /// The program has ended, and every process that it left.
    Ended { code: Option<i32>, signal: Option<i32>, cpu_s: f64 },
}

/// What holds, as far as it depends on the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The version of Landlock in force.
    pub landlock: Option<i32>,
    /// Whether the program runs as another user than the caller.
    pub nobody: bool,
}

/// Send one message.
pub fn send(to: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&body)
}

/// Receive one message, waiting for it.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > SPEC_BYTES_MAX {
        return Err(io::Error::other(format!("a message of {length} bytes, more than {SPEC_BYTES_MAX}")));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    postcard::from_bytes(&body).map_err(io::Error::other)
}

/// Take one report off the front of what has come so far.
pub fn take_report(come: &mut Vec<u8>) -> io::Result<Option<Report>> {
    let Some((length, rest)) = come.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > REPORT_BYTES_MAX {
        return Err(io::Error::other(format!("a report of {length} bytes, more than {REPORT_BYTES_MAX}")));
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let report = postcard::from_bytes(body).map_err(io::Error::other)?;
    come.drain(..4 + length);
    Ok(Some(report))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_arrive_in_any_pieces() {
        let sent = [
            Report::Failed("a step".into()),
            Report::Holds(Held { landlock: Some(7), nobody: true }),
            Report::Ended { code: Some(3), signal: None, cpu_s: 0.25 },
        ];
        let mut bytes = Vec::new();
        for report in &sent {
            send(&mut bytes, report).unwrap();
        }
        for piece in 1..bytes.len() {
            let (mut come, mut got) = (Vec::new(), Vec::new());
            for chunk in bytes.chunks(piece) {
                come.extend_from_slice(chunk);
                while let Some(report) = take_report(&mut come).unwrap() {
                    got.push(report);
                }
            }
            assert_eq!(got, sent, "pieces of {piece}");
            assert!(come.is_empty());
        }
    }

    #[test]
    fn lengths_out_of_bounds_are_refused() {
        assert!(take_report(&mut u32::MAX.to_le_bytes().to_vec()).is_err());
        assert!(receive::<Report>(&mut &u32::MAX.to_le_bytes()[..]).is_err());
    }
}
