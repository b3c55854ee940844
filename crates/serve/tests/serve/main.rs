//! The HTTP interface over a toy backend: what it refuses, what it answers, how requests end.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod answers;
mod client;
mod hostile;
mod life;
mod random;
mod toy;
