//! What the machine is, and what it draws.
//!
//! Everything is read from `/proc` and `/sys`, and both are paths that a test can point at a folder of its own
//! ([`Roots`]): the second implementation of a sensor is a fixture tree. What cannot be read is `None` or a
//! flag on the reading, never a made-up number; a counter that lies is treated as one that is missing.
//!
//! | module | job |
//! |---|---|
//! | [`cpu`] | processor name, logical CPUs, physical cores, which of them this process may use |
//! | [`energy`] | energy of a span: package counters where they can be read, else a stated estimate |
//!
//! Nothing here knows what a token is.

pub(crate) mod battery;
pub mod cpu;
pub mod energy;
pub mod files;
pub mod frequency;
pub(crate) mod hwmon;
pub mod machine;
pub mod memory;
pub mod roofline;
pub mod thermal;
pub mod usage;

pub use files::Roots;
