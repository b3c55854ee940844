//! Pure mathematics: laws fitted to measurements, how sure they are, and the metrics made of them.
//!
//! The data this crate is made for is small and skewed: five to twenty models, each a point, spread over two decades
//! of size, with errors that are a share of the value and not an amount. Everything follows from that. Errors are
//! relative; spreads are factors; intervals are Student's t with the models (not the rows) as the degrees of freedom;
//! and which of two laws is better is asked of models that the law has not seen. A law that cannot be told from the
//! data is a typed error, never a number.
//!
//! | module | job |
//! |---|---|
//! | [`random`] | random numbers that depend on a seed and a counter alone |
//! | [`linear`] | weighted least squares, with the rank checked |
//! | [`law`] | the power law `y = a·x^b` and its affine rival `y = a + b·x` |
//! | [`joint`] | `y = e0·N^γ·S^δ·T^τ`, or any product of powers |
//! | [`contest`] | leave-one-model-out errors, and which law wins by them |
//! | [`interval`] | percentile intervals, Student's t, the bootstrap over models |
//! | [`contrast`] | two ways to run the same tasks, paired |
//! | [`coverage`] | pass@k, laws of repeated sampling, and which task gets the next sample |
//! | [`metrics`] | intelligence per watt and per joule, energy coverage efficiency, price power performance |
//!
//! It reads no clock, no file and no environment variable; the same input gives the same bits.

pub mod contest;
pub mod contrast;
pub mod coverage;
mod error;
pub mod interval;
pub mod joint;
pub mod law;
pub mod linear;
pub mod metrics;
pub mod random;

pub use error::LawError;
