//! How tokens are made.
//!
//! llama.cpp aborts its whole process on many errors, so the supervisor never calls it. A **worker** process
//! holds one model on one ggml device; the **handle** in the supervisor speaks to it over a socket pair. Each
//! file below is one side of that line:
//!
//! | module | side | job |
//! |---|---|---|
//! | [`protocol`] | both | the messages, and how they are framed |
//! | [`spec`] | both | what a worker is asked to load, and the bounds it is checked against |
//! | [`request`] | both | what a generation request is, and the bounds it is checked against |
//! | [`handle`] | supervisor | start, watch, talk to and restart a worker |
//! | [`trust`] | supervisor | the known-answer check: a device's next-token distribution against the CPU's |
//! | [`worker`] | worker | the process: confinement, reader and writer threads, heartbeat |
//! | `worker::schedule` | worker | which tokens go into the next batch (pure) |
//! | `worker::sample` | worker | from logits to one token (pure) |
//! | `llama` | worker | the only module with `unsafe`: llama.cpp behind safe types |
//!
//! Nothing here decides which device serves what: that is the orchestrator's work.

pub mod attention;
pub mod handle;
mod llama;
pub mod protocol;
pub mod request;
pub mod spec;
pub mod trust;
pub mod worker;

/// The engine that makes the tokens, as measurements record it: what was measured with another is no repetition.
pub const ENGINE_VERSION: &str = "llama.cpp of llama-cpp-sys-2 0.1.161";

#[cfg(test)]
mod tests {
    #[test]
    fn the_engine_version_is_the_pinned_one() {
        let manifest = include_str!("../../../Cargo.toml");
        let pinned = manifest.lines().find(|line| line.starts_with("llama-cpp-sys-2")).unwrap();
        let version = super::ENGINE_VERSION.rsplit(' ').next().unwrap();
        assert!(pinned.contains(&format!("\"={version}\"")), "{pinned}");
    }
}
