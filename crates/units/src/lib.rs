//! What QEIL's figures are made of: a quantity with its unit, and where it came from.
//!
//! Two mistakes are made over and over in energy measurement: units that do not fit (joules added to watts,
//! milliseconds read as seconds), and estimates that turn into measurements on their way into a table. Both
//! are mistakes of types, so they are types here:
//!
//! | module | job |
//! |---|---|
//! | [`quantity`] | joules, watts, seconds, degrees Celsius, US dollars, tokens, bytes; only sums and products that mean something |
//! | [`provenance`] | measured, estimated or simulated; whatever is computed from several figures bears the weakest label |
//!
//! A figure that is not known is `None`, never zero. Nothing here does I/O.

pub mod provenance;
pub mod quantity;

pub use provenance::{Labelled, Provenance};
pub use quantity::{Bytes, Celsius, Joules, Seconds, Tokens, Usd, Watts};
