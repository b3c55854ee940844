//! The command line: every flag, its bounds and its help.
//!
//! Bounds that hold on any machine (a number of samples, an empty prompt) are checked here, so that they end with
//! the usage exit code; what depends on the machine (a device, a file) is checked where it is used.

use crate::compare::CompareArguments;
use crate::coverage::CoverageArguments;
use crate::fit::FitArguments;
use crate::journal::JournalArguments;
use crate::plan::PlanArguments;
use crate::serve::ServeArguments;
use crate::simulate::SimulateArguments;
use clap::{Args, Parser, Subcommand, ValueEnum};
use qeil_engine::spec::WeightFormat;
use qeil_model::write::synth::Quantisation;
use qeil_plan::problem::{LIFE_YEARS, USD_PER_KWH};
use std::path::PathBuf;

/// What `--help` says about exit codes, and what `main` keeps to.
const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    it failed; the reason is on standard error
  2    the command line is wrong
  130  interrupted (Ctrl-C)";

/// Measure, plan and serve language models on mixed edge hardware.
#[derive(Debug, Parser)]
#[command(name = "qeil", version, about, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer a prompt with several samples on every device, and show what that costs
    Run(RunArguments),
    /// Measure prefill and decode speed, and k samples sharing one prefilled prompt
    Bench(BenchArguments),
    /// Measure which engine settings serve a workload best, and keep them
    Tune(TuneArguments),
    /// Characterise this machine: a designed sweep over models, lengths, samples and devices, saved as it goes
    Profile(ProfileArguments),
    /// Sample a task set, judge the answers, and show what k samples solve and what that costs
    Coverage(CoverageArguments),
    /// Find the laws that the measurements follow, draw them, and name the better ones
    Fit(FitArguments),
    /// Say what a model that was never run will take, from the laws
    Predict(PredictArguments),
    /// Choose model, device, phase split and samples for a goal, from what is measured or simulated
    Plan(PlanArguments),
    /// Tabulate the metrics of all stored runs
    Metrics(MetricsArguments),
    /// Run hours of operation on simulated devices: would this machine hold this load in this heat?
    Simulate(SimulateArguments),
    /// Fetch a model of the catalogue
    Pull(PullArguments),
    /// List the models that can be pulled and those that are here
    Models(OutputArguments),
    /// List the devices this build can compute on, or watch their sensors
    Devices(DevicesArguments),
    /// Say what can be measured on this machine, what cannot, and what would change that
    Doctor(DoctorArguments),
    /// Serve a model over HTTP as OpenAI's interface does, on all devices, within their heat and power limits
    Serve(Box<ServeArguments>),
    /// Ask the same tasks on each device alone and on the orchestrated mix, and show both side by side
    Compare(CompareArguments),
    /// Show what the control loop decided and why, or how everything stood at a moment
    Journal(JournalArguments),
    /// Show what a model file is and how much memory it needs
    Inspect(InspectArguments),
    /// Write a variant of a model in another format, and measure how far its answers are from the original's
    Quantize(QuantizeArguments),
    /// Write a model of a published shape with random weights, to measure what cannot be pulled
    Synth(SynthArguments),
    /// Hold one model for a supervisor (started by qeil itself)
    #[command(hide = true)]
    Worker,
}

#[derive(Debug, Args)]
pub struct OutputArguments {
    /// Print one JSON document instead of tables
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DevicesArguments {
    /// Show use, clock, temperature, power and memory of each device until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = every, requires = "watch")]
    pub every: f64,
    /// Print one JSON document instead of tables; with --watch, one a line for each look
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Keep two readings of a wall meter for later estimates: the whole machine idle, and with every CPU busy
    #[arg(long, value_name = "IDLE_W:BUSY_W", value_parser = watts)]
    pub calibrate: Option<(f64, f64)>,
    /// Print one JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct DeviceArguments {
    /// Device to use, as `qeil devices` lists it; may be repeated [default: all]
    #[arg(long = "device", short = 'd', value_name = "NAME")]
    pub devices: Vec<String>,
    /// Threads that compute on the CPU [default: all]
    #[arg(long, short = 't', value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,
}

#[derive(Debug, Args)]
pub struct RunArguments {
    /// Name from `qeil models`, or path of a GGUF file; pulled if it is missing
    #[arg(default_value = qeil_model::catalogue::DEFAULT_MODEL)]
    pub model: String,
    /// What to ask; `-` reads standard input [default: a built-in question]
    #[arg(value_name = "PROMPT", value_parser = not_empty)]
    pub question: Option<String>,
    /// The same as PROMPT, for use without MODEL
    #[arg(long, value_name = "TEXT|-", conflicts_with = "question", value_parser = not_empty)]
    pub prompt: Option<String>,
    /// System message for the chat template
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Samples drawn from the one prompt
    #[arg(long, short = 'k', default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub samples: u32,
    /// Most tokens per sample
    #[arg(long, short = 'n', default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub max_tokens: u32,
    #[command(flatten)]
    pub sampling: SamplingArguments,
    #[command(flatten)]
    pub device: DeviceArguments,
    /// Flash attention; `auto` takes what was measured to be faster for this workload
    #[arg(long, value_enum, default_value_t = Switch::Auto)]
    pub flash_attention: Switch,
    /// Format of the weights in memory; `auto` takes what was measured to be faster (its copy is cached)
    #[arg(long, value_enum, default_value_t = Weights::Auto)]
    pub weights: Weights,
    /// Measure the settings again, whatever was kept
    #[arg(long)]
    pub tune: bool,
    /// Power the CPU package draws idle and busy, in watts, for the estimate of energy
    #[arg(long, value_name = "IDLE:MAX", value_parser = watts)]
    pub cpu_watts: Option<(f64, f64)>,
    /// Skip the second run, in which each sample prefills the prompt for itself
    #[arg(long)]
    pub no_compare: bool,
    /// Show the answers in full
    #[arg(long)]
    pub full: bool,
    /// Print one JSON document instead of tables
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingArguments {
    /// 0 always takes the most likely token
    #[arg(long, default_value_t = 0.8, value_parser = real::<0, 100>, allow_negative_numbers = true)]
    pub temperature: f32,
    /// Keep the K most likely tokens; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 40)]
    pub top_k: u32,
    /// Keep the likeliest tokens up to this probability; 1 keeps all
    #[arg(long, value_name = "P", default_value_t = 0.95, value_parser = real::<0, 1>, allow_negative_numbers = true)]
    pub top_p: f32,
    /// Drop tokens below this share of the likeliest one's probability; 0 keeps all
    #[arg(long, value_name = "P", default_value_t = 0.05, value_parser = real::<0, 1>, allow_negative_numbers = true)]
    pub min_p: f32,
    /// Make recently seen tokens less likely; 1 is off
    #[arg(long, value_name = "X", default_value_t = 1.0, value_parser = real::<0, 100>, allow_negative_numbers = true)]
    pub repetition_penalty: f32,
    /// The same seed draws the same samples on the same device with the same settings
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Text that ends a sample; may be repeated
    #[arg(long, value_name = "TEXT", value_parser = not_empty)]
    pub stop: Vec<String>,
    /// File with a GBNF grammar that answers must follow
    #[arg(long, value_name = "FILE")]
    pub grammar: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct BenchArguments {
    /// Name from `qeil models`, or path of a GGUF file
    #[arg(default_value = qeil_model::catalogue::DEFAULT_MODEL)]
    pub model: String,
    /// Prompt lengths in tokens, separated by commas
    #[arg(long, short = 'p', value_name = "N,..", value_delimiter = ',', default_value = "512",
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub prompt_tokens: Vec<u32>,
    /// Output lengths in tokens, separated by commas
    #[arg(long, short = 'n', value_name = "N,..", value_delimiter = ',', default_value = "128",
          value_parser = clap::value_parser!(u32).range(2..=1 << 20))]
    pub output_tokens: Vec<u32>,
    /// Samples sharing one prefilled prompt, separated by commas [default: none]
    #[arg(long, short = 'k', value_name = "K,..", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..=256))]
    pub samples: Vec<u32>,
    /// Threads, separated by commas [default: all]
    #[arg(long, short = 't', value_name = "N,..", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Vec<u32>,
    /// Repetitions of each test, after one that is not counted
    #[arg(long, short = 'r', default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repetitions: u32,
    /// Only the rows of -k, without the prefill and decode tests
    #[arg(long, requires = "samples")]
    pub only_samples: bool,
    /// Flash attention; `auto` measures both for each test and reports the faster
    #[arg(long, value_enum, default_value_t = Switch::Auto)]
    pub flash_attention: Switch,
    /// Format of the weights in memory; with `auto`, short trials choose it and all other settings, and only
    /// those are measured
    #[arg(long, value_enum, default_value_t = Weights::File)]
    pub weights: Weights,
    /// Device to measure, as `qeil devices` lists it; may be repeated
    #[arg(long = "device", short = 'd', value_name = "NAME", default_value = "CPU")]
    pub devices: Vec<String>,
    /// Seed of the random prompts
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print one JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct TuneArguments {
    /// Name from `qeil models`, or path of a GGUF file
    #[arg(default_value = qeil_model::catalogue::DEFAULT_MODEL)]
    pub model: String,
    /// Prompt length of the workload in tokens
    #[arg(long, short = 'p', default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub prompt_tokens: u32,
    /// Output length of the workload in tokens
    #[arg(long, short = 'n', default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub output_tokens: u32,
    /// Samples of the workload
    #[arg(long, short = 'k', default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub samples: u32,
    #[command(flatten)]
    pub device: DeviceArguments,
    /// Print one JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ProfileArguments {
    /// Names from `qeil models`, or paths of GGUF files
    #[arg(default_value = qeil_model::catalogue::DEFAULT_MODEL)]
    pub models: Vec<String>,
    /// A coarse sweep that ends within two minutes for a small model
    #[arg(long)]
    pub quick: bool,
    /// Device to measure, as `qeil devices` lists it; may be repeated
    #[arg(long = "device", short = 'd', value_name = "NAME", default_value = "CPU")]
    pub devices: Vec<String>,
    /// Threads, separated by commas [default: all]
    #[arg(long, short = 't', value_name = "N,..", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Vec<u32>,
    /// Prompt lengths in tokens, the reference first [default: 128,32,512]
    #[arg(long, short = 'p', value_name = "N,..", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub prompt_tokens: Vec<u32>,
    /// Tokens of each sample, the reference first; 1 measures prefill alone [default: 33,1,97]
    #[arg(long, short = 'n', value_name = "N,..", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub output_tokens: Vec<u32>,
    /// Samples sharing the prompt, the reference first [default: 1,4,16]
    #[arg(long, short = 'k', value_name = "K,..", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..=256))]
    pub samples: Vec<u32>,
    /// Tokens of context already in memory, the reference first [default: 0,512]
    #[arg(long, value_name = "N,..", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    pub depth_tokens: Vec<u32>,
    /// All combinations of the levels, instead of one axis at a time
    #[arg(long)]
    pub full: bool,
    /// Flash attention, the same for all cells; `auto` is off
    #[arg(long, value_enum, default_value_t = Switch::Auto)]
    pub flash_attention: Switch,
    /// Half width of the 95 % interval, as a share of the mean, at which a cell is repeated no more
    #[arg(long, value_name = "SHARE", default_value_t = 0.05,
          value_parser = within::<0, 1>, allow_negative_numbers = true)]
    pub half_width: f64,
    /// Repetitions of a cell at most (at least 3)
    #[arg(long, short = 'r', default_value_t = 8, value_parser = clap::value_parser!(u32).range(3..=1000))]
    pub repetitions_max: u32,
    /// Seconds of measuring after which a cell is repeated no more
    #[arg(long, value_name = "S", default_value_t = 60.0,
          value_parser = within::<0, 1_000_000>, allow_negative_numbers = true)]
    pub cell_s_max: f64,
    /// Share of the CPU time taken by other programs above which a repetition is made again
    #[arg(long, value_name = "SHARE", default_value_t = 0.1,
          value_parser = within::<0, 1>, allow_negative_numbers = true)]
    pub interference_max: f64,
    /// Power the CPU package draws idle and busy, in watts, for the estimate of energy
    #[arg(long, value_name = "IDLE:MAX", value_parser = watts)]
    pub cpu_watts: Option<(f64, f64)>,
    /// File of measurements [default: in the user's data folder]
    #[arg(long, value_name = "FILE")]
    pub store: Option<PathBuf>,
    /// Begin a new sweep, even if the same one was stopped before its end
    #[arg(long)]
    pub new: bool,
    /// Write the rows of this sweep to a file: `.csv`, or JSON lines under any other name
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
    /// Seed of prompts and order
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print each row as a line of JSON once it is saved
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct PredictArguments {
    /// Name from `qeil models`, or path of a GGUF file
    pub model: String,
    /// Device, as the measurements name it
    #[arg(long, short = 'd', value_name = "NAME", default_value = "CPU")]
    pub device: String,
    /// Threads [default: all]
    #[arg(long, short = 't', value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,
    /// Prompt length in tokens
    #[arg(long, short = 'p', default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub prompt_tokens: u32,
    /// Tokens of each sample
    #[arg(long, short = 'n', default_value_t = 33, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub output_tokens: u32,
    /// Samples sharing the prompt
    #[arg(long, short = 'k', default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub samples: u32,
    /// Tokens of context already in memory
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    pub depth_tokens: u32,
    /// Measured model that the laws must not see; may be repeated
    #[arg(long, value_name = "MODEL")]
    pub leave_out: Vec<String>,
    /// File of measurements [default: in the user's data folder]
    #[arg(long, value_name = "FILE")]
    pub store: Option<PathBuf>,
    /// Print one JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct MetricsArguments {
    /// File of measurements [default: in the user's data folder]
    #[arg(long, value_name = "FILE")]
    pub store: Option<PathBuf>,
    /// What the devices cost, in US dollars [default: the catalogue's price of this processor]
    #[arg(long, value_name = "USD", value_parser = within::<0, 1_000_000_000>, allow_negative_numbers = true)]
    pub price_usd: Option<f64>,
    /// Years that the hardware is used for
    #[arg(long, value_name = "YEARS", default_value_t = LIFE_YEARS,
          value_parser = within::<0, 100>, allow_negative_numbers = true)]
    pub life_years: f64,
    /// Price of electricity, in US dollars for a kilowatt-hour
    #[arg(long, value_name = "USD", default_value_t = USD_PER_KWH,
          value_parser = within::<0, 100>, allow_negative_numbers = true)]
    pub electricity_usd_per_kwh: f64,
    /// Print one JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct PullArguments {
    /// Name from `qeil models`
    #[arg(default_value = qeil_model::catalogue::DEFAULT_MODEL)]
    pub name: String,
    /// Print one JSON document instead of a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct InspectArguments {
    /// Name from `qeil models`, or path of a GGUF file
    pub model: String,
    /// Context, in tokens, to reckon the KV memory for [default: what the model was trained for]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    /// Print one JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct QuantizeArguments {
    /// Name from `qeil models`, or path of a GGUF file
    pub model: String,
    /// Format of the large tensors: F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_1 or Q4_0
    #[arg(value_name = "TYPE", value_parser = format)]
    pub format: WeightFormat,
    /// File to write [default: beside the original, with the type behind its name]
    #[arg(long, short = 'o', value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Threads [default: all]
    #[arg(long, short = 't', value_parser = clap::value_parser!(u32).range(1..=512))]
    pub threads: Option<u32>,
    /// Print one JSON document instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct SynthArguments {
    /// Which shape, as `--list` names it
    #[arg(required_unless_present = "list")]
    pub family: Option<String>,
    /// Show the shapes that are known, and where they come from
    #[arg(long, conflicts_with = "family")]
    pub list: bool,
    /// Format of the weights: F32, F16, BF16, Q8_0, Q4_0 or Q4_1
    #[arg(long, value_name = "FORMAT", default_value = "Q4_0", value_parser = quantisation)]
    pub quant: Quantisation,
    /// File to write [default: FAMILY-weightless-FORMAT among the models]
    #[arg(long, short = 'o', value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The same seed writes the same file
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print one JSON document instead of a line or a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Weights {
    /// As they are in the file
    File,
    /// In the fastest format that fits into memory and answers alike
    Auto,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    Auto,
    On,
    Off,
}

impl Switch {
    /// The fixed choice, if there is one.
    pub fn fixed(self) -> Option<bool> {
        match self {
            Self::Auto => None,
            Self::On => Some(true),
            Self::Off => Some(false),
        }
    }
}

fn not_empty(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("it is empty".into()) } else { Ok(text.into()) }
}

fn real<const LEAST: i32, const MOST: i32>(text: &str) -> Result<f32, String> {
    within::<LEAST, MOST>(text).map(|value| value as f32)
}

pub fn within<const LEAST: i32, const MOST: i32>(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    if (f64::from(LEAST)..=f64::from(MOST)).contains(&value) {
        Ok(value)
    } else {
        Err(format!("it must lie between {LEAST} and {MOST}"))
    }
}

/// A number above 0.
pub fn positive(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    if value > 0.0 && value.is_finite() { Ok(value) } else { Err("it must be above 0".into()) }
}

/// A share above 0 and at most 1.
pub fn fraction(text: &str) -> Result<f64, String> {
    positive(text).and_then(|share| if share <= 1.0 { Ok(share) } else { Err("it must be at most 1".into()) })
}

fn quantisation(text: &str) -> Result<Quantisation, String> {
    Quantisation::named(text).ok_or_else(|| {
        let names = Quantisation::ALL.map(Quantisation::name);
        format!("it must be one of {}", names.join(", "))
    })
}

fn format(text: &str) -> Result<WeightFormat, String> {
    WeightFormat::named(text).ok_or_else(|| {
        let names = WeightFormat::ALL.map(WeightFormat::name);
        format!("it must be one of {}", names.join(", "))
    })
}

/// Seconds between two looks: no sensor moves faster than the least, and the most is an hour.
fn every(text: &str) -> Result<f64, String> {
    const SECONDS: std::ops::RangeInclusive<f64> = 0.1..=3600.0;
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    if SECONDS.contains(&seconds) {
        Ok(seconds)
    } else {
        Err(format!("it must lie between {} and {}", SECONDS.start(), SECONDS.end()))
    }
}

pub fn watts(text: &str) -> Result<(f64, f64), String> {
    const FORM: &str = "write two numbers of watts, idle and busy, like 8:45";
    let (idle, max) = text.split_once(':').ok_or(FORM)?;
    let number =
        |text: &str| text.trim().parse::<f64>().ok().filter(|w| w.is_finite() && *w >= 0.0).ok_or(FORM);
    let (idle, max) = (number(idle)?, number(max)?);
    if max > idle { Ok((idle, max)) } else { Err("the busy power must be above the idle power".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn clap_accepts_its_own_definition() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn seconds_between_looks() {
        for (text, expected) in [
            ("1", Some(1.0)),
            ("0.1", Some(0.1)),
            ("3600", Some(3600.0)),
            ("0", None),
            ("-1", None),
            ("nan", None),
        ] {
            assert_eq!(every(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn watts_of() {
        for (text, expected) in [
            ("8:45", Some((8.0, 45.0))),
            ("0:6.5", Some((0.0, 6.5))),
            (" 2 : 3 ", Some((2.0, 3.0))),
            ("45", None),
            ("45:8", None),
            ("8:8", None),
            ("-1:8", None),
            ("a:b", None),
            ("1:inf", None),
        ] {
            assert_eq!(watts(text).ok(), expected, "{text}");
        }
    }
}
