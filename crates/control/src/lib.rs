//! The decisions of the orchestrator, apart from everything that carries them out.
//!
//! Sense, decide, act, check: [`event::Input`] is everything the loop can sense, [`event::Output`] everything it can do,
//! and between the two there is one deterministic step over time. Nothing here reads a clock, a sensor or a file, spawns
//! a task, or draws a random number that its seed does not fix; so the same inputs at the same moments give the same
//! decisions, a failing hour replays exactly, and thousands of hours pass in minutes. Real workers and simulated devices
//! stand behind the same two types.
//!
//! | module | job |
//! |---|---|
//! | [`config`] | devices, their profiles and limits; bounds of every queue |
//! | [`event`] | what goes in, what comes out |
//! | [`journal`] | a decision with its reason and the readings it was made on |

pub mod config;
pub mod event;
pub mod journal;
