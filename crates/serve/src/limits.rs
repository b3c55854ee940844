//! Bounds of everything that a client could make large, long or slow.
//!
//! What depends on the machine (samples, tokens, waiting requests, joules) is the control loop's and comes from
//! [`qeil_control::config::Limits`]; what stands here is about HTTP and holds on any machine.

use std::time::Duration;

/// Most bytes of a request's body. The longest prompt allowed (32,768 tokens of about 4 bytes) escaped as JSON fits.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// A body must arrive within this time: a megabyte over a slow link of 1 Mbit/s.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// The headers of a request must arrive within this time, and an idle connection is closed after it.
pub const HEADERS_TIME_MAX: Duration = Duration::from_secs(30);
/// Most bytes of a request's headers (hyper's least): nothing that we read is long.
pub const HEADERS_BYTES_MAX: usize = 16 << 10;
/// Most connections at a time; a further one waits in the kernel's queue until one closes.
pub const CONNECTIONS_MAX: usize = 256;
/// Most completions in flight at a time, waiting ones included. The control loop's own queue (64) is fuller earlier; this
/// bounds what arrives before it can say so.
pub const COMPLETIONS_MAX: usize = 192;
/// Most request bodies that are read and checked at once: each takes up to 50 times its bytes while it is parsed.
pub const CHECKS_MAX: usize = 4;
/// Deepest nesting of a request's JSON: what is accepted needs 5 (messages, message, content, part, text).
pub const DEPTH_MAX: usize = 16;
/// Most messages of one conversation.
pub const MESSAGES_MAX: usize = 256;
/// Most pieces of text of one message.
pub const PARTS_MAX: usize = 64;
/// Most stop strings of one request, as the engine has it.
pub const STOP_STRINGS_MAX: usize = 16;
/// Most bytes of one stop string, as the engine has it.
pub const STOP_STRING_BYTES_MAX: usize = 256;
/// Most biased tokens of one request: OpenAI's own bound.
pub const LOGIT_BIAS_MAX: usize = 300;
/// Largest bias in either direction: OpenAI's own bound, and enough to force or forbid a token.
pub const LOGIT_BIAS_ABS_MAX: f64 = 100.0;
/// Highest temperature: OpenAI's own bound.
pub const TEMPERATURE_MAX: f64 = 2.0;
/// Most bytes of the `user` field, which is checked and otherwise ignored.
pub const USER_BYTES_MAX: usize = 256;
/// Tokens of a sample where the request names no limit: room for all of them is set aside when a request starts, so a
/// request that says nothing should not take a whole device.
pub const TOKENS_DEFAULT: u32 = 512;
/// Pieces of a stream that may wait for a slow reader.
pub const STREAM_CHUNKS_MAX: usize = 64;
/// A reader that took nothing for this long while pieces waited is gone for us.
pub const SLOW_READER_MAX: Duration = Duration::from_secs(30);
/// A comment goes down a silent stream this often, so that a dead connection is found while a request waits.
pub const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
/// What is in flight when the server is told to stop may take this long before it is withdrawn.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Connections that are still open this long after everything was withdrawn are cut.
pub const CUT_AFTER: Duration = Duration::from_secs(2);
/// Most decisions that an answer repeats; the journal has all of them.
pub const DECISIONS_MAX: usize = 32;
/// Most characters of a client's own words that an error repeats.
pub const ECHO_CHARS_MAX: usize = 64;
/// Most bytes of the file of API keys.
pub const KEY_FILE_BYTES_MAX: u64 = 64 << 10;
/// Fewest characters of an API key: shorter ones can be tried out.
pub const KEY_CHARS_MIN: usize = 16;
