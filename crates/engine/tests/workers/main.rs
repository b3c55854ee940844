//! Worker processes under test: real ones, and scripted ones that misbehave on cue.
//!
//! This one binary plays every part. A worker is this program started again with [`PART`] set: the test
//! [`entry`] then becomes `qeil worker`, a scripted [`peer`], or a supervisor that is about to be killed.
//! Without it, `entry` is a test that passes.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests fail by panicking")]

mod deaths;
mod descriptors;
mod generation;
mod handle;
mod models;
mod moves;
mod mutations;
mod parts;
mod peer;
mod second_backend;
mod trusted;
mod weights;

pub use parts::{PART, entry_part};

#[test]
fn entry() {
    if let Some(part) = std::env::var_os(PART) {
        entry_part(&part.to_string_lossy());
    }
}
