//! Drills on real processes: engines that are killed, stopped, starved and made to lie while clients ask.
//!
//! This one binary plays both parts: a worker is this program started again with [`PART`] set.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests fail by panicking")]

mod clients;
mod endpoint;
mod faults;
mod floor;
mod prompts;
mod reports;
mod splits;

pub const PART: &str = "QEIL_TEST_PART";

#[test]
fn entry() {
    if std::env::var_os(PART).is_some_and(|part| part == "worker") {
        let done = qeil_engine::worker::main();
        std::process::exit(i32::from(done != std::process::ExitCode::SUCCESS));
    }
}
