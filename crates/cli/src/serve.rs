//! `qeil serve`: the OpenAI-compatible server over the control loop.

mod backend;
mod fleet;

use crate::Output;
use crate::arguments::{DeviceArguments, positive, watts};
use crate::models::file_of;
use crate::run::envelope;
use crate::table;
use anyhow::{Context, Result};
use backend::Served;
use clap::{Args, ValueEnum};
use fleet::{Meters, Shared, Station, stations, trial};
use qeil_control::config::{Config, Goal, Limits};
use qeil_engine::handle::{Launch, probe_devices};
use qeil_hardware::catalogue::Catalogue;
use qeil_hardware::cpu::Cpu;
use qeil_hardware::live::Watcher;
use qeil_hardware::{Roots, gpu, nvml};
use qeil_measure::survey::select;
use qeil_model::ModelFacts;
use qeil_model::prompt::Prompter;
use qeil_orchestrate::engine::{EngineDevice, Reference};
use qeil_orchestrate::sense::Machine;
use qeil_orchestrate::{Orchestra, Setup};
use qeil_serve::backend::{Model, ModelAbout};
use qeil_serve::keys::Keys;
use qeil_serve::phase::Stages;
use qeil_serve::routes::App;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;

#[derive(Debug, Args)]
pub struct ServeArguments {
    /// Name from `qeil models`, or path of a GGUF file; pulled if it is missing
    #[arg(default_value = qeil_model::catalogue::DEFAULT_MODEL)]
    pub model: String,
    #[command(flatten)]
    pub device: DeviceArguments,
    /// Share the processor's cores out over so many engines, each a device of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub split_cpu: u32,
    /// Address to listen on. Any but the loopback is open to others, and needs --api-key-file to keep them out
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub host: IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// File with API keys, one a line, of which clients must send one
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// What placement prefers where several devices could serve
    #[arg(long, value_enum, default_value_t = GoalWord::Energy)]
    pub goal: GoalWord,
    /// Most watts that all devices may draw together
    #[arg(long, value_name = "WATTS", value_parser = positive)]
    pub power_cap_w: Option<f64>,
    /// Most joules that one request may take
    #[arg(long, value_name = "JOULES", value_parser = positive)]
    pub energy_max_j: Option<f64>,
    /// Most requests that wait; a further one is told to come back
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=128))]
    pub queue: u32,
    /// Tokens of context that each device holds, shared by all its samples
    #[arg(long, value_name = "TOKENS", default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(256..=1 << 20))]
    pub context: u32,
    /// Samples that each device computes at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub sequences: u32,
    /// The journal's file [default: in the user's data folder]
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// Power the CPU package draws idle and busy, in watts, for the estimate of energy
    #[arg(long, value_name = "IDLE:MAX", value_parser = watts)]
    pub cpu_watts: Option<(f64, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GoalWord {
    /// Fewest joules that keep the deadline
    Energy,
    /// Earliest end
    Latency,
}

/// Serve until `stop` resolves.
pub async fn serve(arguments: ServeArguments, stop: impl Future<Output = ()>) -> Result<Output> {
    let keys = arguments.api_key_file.as_deref().map(Keys::read).transpose()?;
    // Before anything is loaded: a port that is taken should be told at once.
    let address = SocketAddr::new(arguments.host, arguments.port);
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let address = listener.local_addr()?;
    tokio::pin!(stop);
    let started = tokio::select! {
        () = &mut stop => return Ok(String::new().into()),
        started = start(&arguments) => started?,
    };
    let (served, about) = started;
    let orchestra = served.orchestra.clone();
    say(&announcement(address, keys.is_some(), &about));

    let (stages, phase) = Stages::serving();
    let router = App::new(Arc::new(served), keys, address.ip().is_loopback(), phase).router();
    qeil_serve::server::serve(listener, router, stages, stop).await;
    orchestra.stop().await;
    Ok(String::from("stopped\n").into())
}

/// A reader of standard output that went away is no reason to stop serving.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// What is told at the start.
struct About {
    model: String,
    devices: Vec<String>,
    energy: Vec<String>,
    journal: Option<PathBuf>,
}

async fn start(arguments: &ServeArguments) -> Result<(Served, About)> {
    let roots = Roots::default();
    let cpu = Cpu::read(&roots);
    let catalogue = Catalogue::load()?;
    let nvidia = nvml::open().ok();
    let gpus = gpu::find(&roots, nvidia.as_ref());
    let watts = || envelope(arguments.cpu_watts, &cpu);
    let meters = Meters::open(&roots, watts()?, &gpus, &catalogue);
    let states = Watcher::open(&roots, nvidia.as_ref(), watts()?, &catalogue).look();

    let launch = Launch::this_program()?;
    let devices = select(probe_devices(&launch).await?, &arguments.device.devices)?;
    let path = file_of(&arguments.model).await?;
    let facts = qeil_model::inspect(&path)?;
    let model = Arc::new(model(&arguments.model, &path, &facts, arguments.context)?);
    let shared = Shared {
        model: &path,
        threads: arguments.device.threads,
        split_cpu: arguments.split_cpu,
        context_tokens: arguments.context,
        sequences: arguments.sequences,
    };
    let stations = stations(&devices, shared, &cpu, &gpus, &states)?;

    let mut setup = Setup::new(config(arguments, &model));
    let reference = Reference::new(launch.clone(), &stations[0].spec);
    let mut about = About {
        model: format!(
            "{} ({}, {})",
            model.id,
            table::parameters(facts.parameters),
            if facts.weightless {
                "random weights: its answers mean nothing"
            } else {
                facts.quantisation.as_str()
            }
        ),
        devices: Vec::new(),
        energy: Vec::new(),
        journal: arguments.journal.clone().or_else(crate::journal::default_path),
    };
    for station in &stations {
        say(&format!("measuring {} …\n", station.name));
        let device = trial(station, &launch, &meters).await?;
        about.devices.push(line(station, &device.profile));
        let energy = meters.source(station.place);
        if !about.energy.contains(&energy) {
            about.energy.push(energy);
        }
        let engine = EngineDevice::new(launch.clone(), station.spec.clone(), Arc::clone(&reference));
        setup = setup.with(device, Arc::new(engine), station.place);
    }
    setup.sensors = Some(Box::new(Machine::open(&roots, nvidia.as_ref(), watts()?, &catalogue)));
    setup.journal.clone_from(&about.journal);
    let config = Arc::new(setup.config.clone());
    let orchestra = Orchestra::start(setup)?;
    Ok((Served { orchestra, models: vec![model], config }, about))
}

/// The model as clients know it: by the name it was asked for, or its file's.
fn model(word: &str, path: &Path, facts: &ModelFacts, context_tokens: u32) -> Result<Model> {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let is_path = word.contains(std::path::MAIN_SEPARATOR) || word.ends_with(".gguf");
    let id = stem.filter(|_| is_path).unwrap_or_else(|| word.to_owned());
    let made = std::fs::metadata(path).and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(Model {
        id,
        created_unix_s: made.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        prompter: Prompter::of(facts)?,
        vocab_tokens: facts.vocab_tokens,
        context_tokens: facts.context_train_tokens.min(context_tokens),
        about: ModelAbout {
            parameters: facts.parameters,
            quantisation: facts.quantisation.clone(),
            weightless: facts.weightless,
        },
    })
}

fn config(arguments: &ServeArguments, model: &Model) -> Config {
    let limits = Limits::default();
    let context = model.context_tokens;
    Config {
        devices: Vec::new(),
        limits: Limits {
            queue_requests_max: arguments.queue,
            prompt_tokens_max: limits.prompt_tokens_max.min(context),
            tokens_max: limits.tokens_max.min(context),
            energy_max_j: arguments.energy_max_j,
            ..limits
        },
        power_cap_w: arguments.power_cap_w,
        goal: match arguments.goal {
            GoalWord::Energy => Goal::Energy,
            GoalWord::Latency => Goal::Latency,
        },
        guarded: true,
        seed: 0,
    }
}

fn line(station: &Station, profile: &qeil_control::config::Profile) -> String {
    let guard = match station.thermal {
        Some(limits) => format!("guarded at {:.0} °C ({})", limits.guard_c(), station.thermal_source),
        None => station.thermal_source.clone(),
    };
    format!(
        "{}: {} threads, {:.0} prompt tokens/s, {:.1} ms a step of one (measured now); {guard}",
        station.name,
        station.spec.threads,
        1.0 / profile.prefill_s_per_token,
        profile.decode_step_s(1) * 1e3,
    )
}

/// What is served, where, how hot it may get, and where the joules come from.
fn announcement(address: SocketAddr, keyed: bool, about: &About) -> String {
    let mut text = format!("serving {} at http://{address}/v1\n", about.model);
    for device in &about.devices {
        text += &format!("  {device}\n");
    }
    for energy in &about.energy {
        text += &format!("energy is {energy}\n");
    }
    match &about.journal {
        Some(path) => text += &format!("decisions go to {} (`qeil journal`)\n", path.display()),
        None => text += "decisions are not kept: there is no data folder; name a file with --journal\n",
    }
    if !keyed && !address.ip().is_loopback() {
        text += "WARNING: anybody who can reach this address can use this server: there is no authentication \
                 without --api-key-file\n";
    }
    text + "Ctrl-C ends it: what is being answered may finish first\n"
}
