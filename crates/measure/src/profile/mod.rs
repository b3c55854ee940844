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
//! | `instruments` | meter, thermometer, and who else used the processor |
//! | `sweep` | rounds, blocks, repetitions |
//! | `export` | rows as CSV and as JSON lines |

mod export;
mod instruments;
mod observation;
mod plan;
mod subject;
mod sweep;

pub use export::{csv, json_lines};
pub use instruments::Instruments;
pub use observation::{Cell, ModelIdentity, Observation};
pub use plan::{Axes, Host, Plan, Roofline, Stopping};
pub use subject::Subject;
pub use sweep::{Progress, SweepEvent, sweep};

#[cfg(test)]
pub(crate) mod tests {
    pub use super::observation::tests::row;
    use super::{Axes, Host, Plan, Stopping};
    use crate::settings::CANDIDATES;
    use qeil_hardware::Roots;
    use qeil_hardware::machine::Machine;

    pub fn plan() -> Plan {
        Plan {
            models: vec!["00".into()],
            devices: vec!["CPU".into()],
            threads: vec![2],
            axes: Axes {
                prompt_tokens: vec![100],
                output_tokens: vec![11],
                samples: vec![4],
                depth_tokens: vec![0],
                full: false,
            },
            settings: CANDIDATES[0],
            stopping: Stopping {
                repetitions_min: 2,
                repetitions_max: 3,
                half_width: 0.1,
                cell_s_max: 10.0,
                sweep_s_max: None,
            },
            interference_max: 0.1,
            seed: 0,
        }
    }

    pub fn host() -> Host {
        Host {
            machine: Machine::read(&Roots::default()),
            devices: vec![("CPU".into(), "a processor".into())],
            qeil_version: "1".into(),
            engine_version: "2".into(),
        }
    }
}
