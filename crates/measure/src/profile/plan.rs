//! Which cells a sweep has, and when one of them is finished.

use super::observation::{Cell, Observation};
use crate::settings::Settings;
use crate::stats::Summary;
use qeil_engine::ENGINE_VERSION;
use qeil_engine::spec::DeviceEntry;
use qeil_hardware::Roots;
use qeil_hardware::machine::Machine;
use qeil_hardware::roofline::{peak_f32, read_bandwidth};
use serde::{Deserialize, Serialize};

/// The machine and the program: measurements made under another one are no repetitions of these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// The machine.
    pub machine: Machine,
    /// Each device's name and its driver's words for it.
    pub devices: Vec<(String, String)>,
    /// Version of QEIL.
    pub qeil_version: String,
    /// Version of the engine.
    pub engine_version: String,
}

impl Host {
    /// This machine, with these devices.
    pub fn read(roots: &Roots, devices: &[DeviceEntry]) -> Self {
        Self {
            machine: Machine::read(roots),
            devices: devices.iter().map(|d| (d.name.clone(), d.description.clone())).collect(),
            qeil_version: crate::VERSION.into(),
            engine_version: ENGINE_VERSION.into(),
        }
    }

    /// Processor and engine in a few words: what has to be the same for two rows to be compared.
    pub fn label(&self) -> String {
        let cpu = self.machine.cpu_model.as_deref().unwrap_or("unknown processor");
        format!("{cpu}, {} logical CPUs, {}", self.machine.logical_cpus, self.engine_version)
    }
}

/// How the limits of a processor are come by.
const ROOFLINE_SOURCE: &str = "measured: threads that sum a buffer larger than the caches; threads of independent \
                               32-bit multiply-adds";

/// What a device can do at most, measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Roofline {
    /// The machine it is in ([`Host::label`]).
    #[serde(default)]
    pub machine: String,
    /// Device.
    pub device: String,
    /// Threads.
    pub threads: u32,
    /// Bytes per second that this many threads read from memory.
    pub read_bytes_per_s: f64,
    /// 32-bit multiply-adds per second, counted as two operations each.
    pub f32_flop_per_s: f64,
    /// How both were measured.
    pub source: String,
}

impl Roofline {
    /// Measure the processor, which takes a second or two; of other devices we know no such probe.
    pub fn of_processor(host: &Host, device: &str, threads: u32) -> Self {
        Self {
            machine: host.label(),
            device: device.into(),
            threads,
            read_bytes_per_s: read_bandwidth(threads),
            f32_flop_per_s: peak_f32(threads),
            source: ROOFLINE_SOURCE.into(),
        }
    }
}

/// Levels of each axis. The first level of each is the reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axes {
    /// Tokens of the prompt.
    pub prompt_tokens: Vec<u32>,
    /// Tokens emitted by each sample; 1 measures prefill alone.
    pub output_tokens: Vec<u32>,
    /// Samples that share the prompt.
    pub samples: Vec<u32>,
    /// Tokens of context already in memory.
    pub depth_tokens: Vec<u32>,
    /// All combinations, instead of one axis at a time.
    pub full: bool,
}

impl Axes {
    /// The cells of one device and number of threads, without repetition. One axis at a time: the reference, every
    /// other level of one axis with the others at their reference, and the corner where all are at their last level
    /// (it shows whether the axes interact).
    pub fn cells(&self, device: &str, threads: u32) -> Vec<Cell> {
        let axes = [&self.prompt_tokens, &self.output_tokens, &self.samples, &self.depth_tokens];
        if axes.iter().any(|axis| axis.is_empty()) {
            return Vec::new();
        }
        let cell = |at: [usize; 4]| Cell {
            device: device.into(),
            threads,
            prompt_tokens: axes[0][at[0]],
            output_tokens: axes[1][at[1]],
            samples: axes[2][at[2]],
            depth_tokens: axes[3][at[3]],
        };
        let mut points = vec![[0; 4]];
        if self.full {
            for (axis, levels) in axes.iter().enumerate() {
                points = points
                    .iter()
                    .flat_map(|point| {
                        (0..levels.len()).map(|level| {
                            let mut next = *point;
                            next[axis] = level;
                            next
                        })
                    })
                    .collect();
            }
        } else {
            for (axis, levels) in axes.iter().enumerate() {
                points.extend((1..levels.len()).map(|level| {
                    let mut point = [0; 4];
                    point[axis] = level;
                    point
                }));
            }
            points.push(axes.map(|axis| axis.len() - 1));
        }
        let mut cells: Vec<Cell> = points.into_iter().map(cell).collect();
        cells.sort_unstable();
        cells.dedup();
        cells
    }
}

/// When a cell has been repeated enough.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Stopping {
    /// Repetitions at least.
    pub repetitions_min: u32,
    /// Repetitions at most.
    pub repetitions_max: u32,
    /// Half width of the 95 % interval, as a share of the mean, at which a cell is narrow enough.
    pub half_width: f64,
    /// Seconds of measuring after which a cell is not repeated.
    pub cell_s_max: f64,
    /// Seconds of measuring in the whole sweep after which no cell that has a row is repeated.
    pub sweep_s_max: Option<f64>,
}

impl Stopping {
    /// Why a cell with these repetitions needs no more, when the sweep has measured for `sweep_s` seconds; `None` if it
    /// does.
    pub fn verdict(&self, rows: &[Observation], sweep_s: f64) -> Option<String> {
        let count = rows.len() as u32;
        let spent_s: f64 = rows.iter().map(|row| row.wall_s).sum();
        if count == 0 {
            return None;
        }
        if self.sweep_s_max.is_some_and(|most_s| sweep_s >= most_s) {
            return Some(format!("the sweep's {sweep_s:.0} s were over"));
        }
        if spent_s >= self.cell_s_max {
            return Some(format!("{spent_s:.1} s spent on it"));
        }
        if count >= self.repetitions_max {
            return Some(format!("{count} repetitions"));
        }
        let widest = self.widest(rows)?;
        (count >= self.repetitions_min && widest <= self.half_width)
            .then(|| format!("interval of ±{:.1} % after {count} repetitions", widest * 100.0))
    }

    /// The wider of the intervals of prefill and decode time, as a share of the mean.
    fn widest(&self, rows: &[Observation]) -> Option<f64> {
        let share = |figures: Vec<f64>| {
            let summary = Summary::of(&figures)?;
            let [low, high] = summary.mean_interval_95?;
            Some((high - low) / 2.0 / summary.mean)
        };
        let prefill = share(rows.iter().map(|row| row.prefill_ms).collect())?;
        let decode: Vec<f64> = rows.iter().filter_map(|row| row.decode_ms).collect();
        if decode.is_empty() { Some(prefill) } else { share(decode).map(|decode| decode.max(prefill)) }
    }
}

/// A sweep: what is measured, and how well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Checksums of the model files.
    pub models: Vec<String>,
    /// Devices.
    pub devices: Vec<String>,
    /// Numbers of threads.
    pub threads: Vec<u32>,
    /// The grid.
    pub axes: Axes,
    /// The engine's settings, the same for all, so that rows differ only in what the axes say.
    pub settings: Settings,
    /// When a cell is finished.
    pub stopping: Stopping,
    /// Share of the machine's CPU time above which a repetition counts as disturbed and is made again.
    pub interference_max: f64,
    /// Seed of prompts and order.
    pub seed: u64,
}

#[cfg(test)]
mod tests {
    use super::super::observation::tests::row;
    use super::*;

    fn axes(full: bool) -> Axes {
        Axes {
            prompt_tokens: vec![256, 64, 512],
            output_tokens: vec![32, 1],
            samples: vec![1, 4],
            depth_tokens: vec![0],
            full,
        }
    }

    #[test]
    fn one_axis_at_a_time_and_the_corner() {
        let cells = axes(false).cells("CPU", 2);
        let brief: Vec<_> = cells.iter().map(|c| (c.prompt_tokens, c.output_tokens, c.samples)).collect();
        assert_eq!(brief, [(64, 32, 1), (256, 1, 1), (256, 32, 1), (256, 32, 4), (512, 1, 4), (512, 32, 1)]);
    }

    #[test]
    fn all_combinations_stand_once() {
        assert_eq!(axes(true).cells("CPU", 2).len(), 3 * 2 * 2);
        let mut same = axes(true);
        same.samples = vec![4, 4];
        assert_eq!(same.cells("CPU", 2).len(), 3 * 2);
        same.depth_tokens.clear();
        assert!(same.cells("CPU", 2).is_empty());
    }

    #[test]
    fn finished_when_narrow_or_at_a_limit() {
        let stopping = Stopping {
            repetitions_min: 3,
            repetitions_max: 5,
            half_width: 0.05,
            cell_s_max: 100.0,
            sweep_s_max: Some(500.0),
        };
        let rows = |prefill: &[f64], decode: &[f64]| -> Vec<Observation> {
            prefill.iter().zip(decode).map(|(&p, &d)| row(p, Some(d), 1.0)).collect()
        };
        let cases: [(&str, Vec<Observation>, Option<&str>); 6] = [
            ("nothing yet", Vec::new(), None),
            ("too few", rows(&[10.0; 2], &[10.0; 2]), None),
            ("narrow", rows(&[10.0, 10.1, 9.9], &[20.0, 20.1, 20.0]), Some("interval")),
            ("decode is wide", rows(&[10.0, 10.1, 9.9], &[20.0, 30.0, 20.0]), None),
            ("enough is enough", rows(&[10.0, 20.0, 10.0, 20.0, 10.0], &[1.0; 5]), Some("5 repetitions")),
            ("slow", vec![row(10.0, None, 101.0)], Some("101.0 s")),
        ];
        for (what, rows, expected) in cases {
            let verdict = stopping.verdict(&rows, 0.0);
            match expected {
                None => assert_eq!(verdict, None, "{what}"),
                Some(part) => {
                    assert!(verdict.as_deref().is_some_and(|v| v.contains(part)), "{what}: {verdict:?}")
                }
            }
        }
        let one = rows(&[10.0], &[10.0]);
        assert!(stopping.verdict(&one, 500.0).is_some_and(|why| why.contains("sweep")));
        assert_eq!(stopping.verdict(&[], 500.0), None, "a cell without a row is measured once");
    }
}
