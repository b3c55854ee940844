//! What the machine is, how it feels, and what it draws.
//!
//! Everything is read from `/proc` and `/sys`, through one small trait and below folders that a test can choose
//! ([`Roots`]): the second implementation of a sensor is a fixture tree. NVIDIA's driver is the one exception, and a
//! trait as well ([`nvml::GpuDriver`]). What cannot be read is `None`, a [`files::Fault`] or a flag on the reading, never
//! a made-up number; a counter that lies is treated as one that is missing.
//!
//! | module | job |
//! |---|---|
//! | [`files`] | reading bounded files, and what can go wrong with one |
//! | [`cpu`], [`memory`], [`machine`] | what the machine is |
//! | [`usage`], [`frequency`], [`thermal`] | how busy, how fast and how hot it is, and who else is using it |
//! | [`gpu`], [`nvml`] | graphics devices: their sensors and their state |
//! | [`energy`] | energy of a span: counters, else integrated power, else a stated estimate |
//! | [`catalogue`], [`calibration`] | watts and prices where no sensor tells: published, or the user's own |
//! | [`roofline`] | bandwidth and arithmetic that the processor reaches at most |
//! | [`live`], [`doctor`] | all of it at once: for a live view, and for a user who asks what can be measured |
//!
//! Nothing here knows what a token is.

pub(crate) mod battery;
pub mod calibration;
pub mod catalogue;
pub mod cpu;
pub mod doctor;
pub mod energy;
pub mod files;
pub mod frequency;
pub mod gpu;
pub(crate) mod hwmon;
pub mod live;
pub mod machine;
pub mod memory;
pub mod nvml;
pub mod roofline;
pub mod thermal;
pub mod usage;

pub use files::Roots;
