//! Sweeps over what latency and energy depend on: model, device, threads, prompt, output, samples, depth.
//!
//! A sweep goes in **rounds**. Each round visits every block (a model on a device with a number of threads) and every
//! unfinished cell of it once, both in an order drawn anew, so a machine that warms up or slows down during the sweep
//! spreads over all cells instead of falling on the last ones. A cell is finished when its interval is narrow, or a
//! limit is reached. Each repetition is saved as it is made.
//!
//! | file | its one job |
//! |---|---|
//! | `plan` | which cells there are, and when one is finished |
//! | `observation` | the row that is saved |
//! | `subject` | a model file and what rows record about it |
//! | `sweep` | rounds, blocks, repetitions |
//! | `export` | rows as CSV and as JSON lines |

mod export;
mod observation;
mod plan;
mod subject;
mod sweep;

pub use export::{csv, json_lines};
pub use observation::{Cell, ModelIdentity, Observation};
pub use plan::{Axes, Host, Plan, Roofline, Stopping};
pub use subject::{Subject, sha256};
pub use sweep::{Instruments, Progress, SweepEvent, sweep};
