//! Simulated devices: latency, power and heat from a description of a device, with injectable faults.
//!
//! Safety cannot be tested on the one machine at hand: it does not overheat on demand, it has no NPU, and an hour takes
//! an hour. Here machines are descriptions, time is a number, and everything random comes from a seed, so thousands of
//! hours pass in minutes and one that went wrong comes back exactly. What is simulated is everything outside of
//! `qeil-control`; the decisions are those of the real loop, the same code that drives real workers.
//!
//! | module | job |
//! |---|---|
//! | [`machine`] | descriptions of machines, each figure with its source |
//! | [`shape`] | what a model reads and computes in a step |
//! | [`cost`] | time and power of a step, by roofline; profiles from it |
//! | [`execution`] | one plan carried out, step by step, without the loop |
//! | [`plant`] | heat of devices over a shared heat sink, hardware's own throttling |
//! | [`fault`] | what can go wrong with a device |
//! | [`worker`] | continuous batching, tokens that depend on their place alone |
//! | [`scenario`], [`hour`] | an operation: from a file, or at random from a seed |
//! | [`world`] | virtual time, the control loop at work, the safety contract checked |
//! | [`report`] | what came of it |
//! | [`seeds`] | many hours, on all processors |

pub mod cost;
pub mod error;
pub mod execution;
pub mod fault;
pub mod hour;
pub mod machine;
pub mod plant;
pub mod report;
pub mod scenario;
pub mod seeds;
pub mod shape;
pub mod worker;
pub mod world;

pub use error::SimError;
