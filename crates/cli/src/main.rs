//! `qeil`: arguments in, tables out.
//!
//! Everything that computes, measures or decides lives in the libraries; here a subcommand turns its arguments into
//! one call and the answer into text. Each returns its whole output, so that an error leaves no half-printed table.

mod arguments;
mod bench;
mod compare;
mod coverage;
mod devices;
mod doctor;
mod fit;
mod fit_coverage;
mod inspect;
mod journal;
mod metrics;
mod models;
mod moment;
mod plan;
mod predict;
mod profile;
mod pull;
mod quantize;
mod run;
mod serve;
mod simulate;
mod synth;
mod table;
mod tune;
mod watch;

use anyhow::Result;
use arguments::{Arguments, Command};
use clap::Parser;
use std::io::{self, Write};
use std::process::ExitCode;

/// What the shell expects of a program that Ctrl-C ended: 128 + SIGINT.
const INTERRUPTED: u8 = 130;
/// The command line is wrong: clap's own code.
const USAGE: u8 = 2;

/// What a subcommand has to say.
pub struct Output {
    /// For standard output.
    pub text: String,
    /// Whether it did what it was asked.
    pub success: bool,
}

impl From<String> for Output {
    fn from(text: String) -> Self {
        Self { text, success: true }
    }
}

fn main() -> ExitCode {
    // Before anything else: neither of them may inherit threads or a runtime from argument parsing.
    match std::env::args_os().nth(1) {
        Some(first) if first == "worker" => return qeil_engine::worker::main(),
        Some(first) if first == "sandbox" => return qeil_tasks::sandbox::main(),
        _ => {}
    }
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&error.into()),
    };
    // A server takes the first signal as the time to end in an orderly way, and only the second as all others do.
    let signals = if matches!(arguments.command, Command::Serve(_)) { 2 } else { 1 };
    let done = runtime.block_on(async {
        tokio::select! {
            biased;
            () = interrupted(signals) => None,
            done = dispatch(arguments) => Some(done),
        }
    });
    // Dropping its tasks kills their workers; a download in a blocking thread is left to the end of the process.
    runtime.shutdown_background();
    match done {
        None => ExitCode::from(INTERRUPTED),
        Some(Err(error)) => report(&error),
        Some(Ok(output)) => match print(&output.text) {
            Err(error) => report(&error.into()),
            Ok(()) if output.success => ExitCode::SUCCESS,
            Ok(()) => ExitCode::FAILURE,
        },
    }
}

async fn dispatch(arguments: Arguments) -> Result<Output> {
    match arguments.command {
        Command::Run(arguments) => run::run(arguments).await,
        Command::Bench(arguments) => bench::bench(arguments).await.map(Output::from),
        Command::Tune(arguments) => tune::tune(arguments).await.map(Output::from),
        Command::Profile(arguments) => profile::profile(arguments).await.map(Output::from),
        Command::Coverage(arguments) => coverage::coverage(arguments).await,
        Command::Fit(arguments) => fit::fit(&arguments).map(Output::from),
        Command::Predict(arguments) => predict::predict(arguments).await.map(Output::from),
        Command::Plan(arguments) => plan::plan(arguments).await.map(Output::from),
        Command::Metrics(arguments) => metrics::metrics(&arguments).map(Output::from),
        Command::Simulate(arguments) => simulate::simulate(arguments).await,
        Command::Pull(arguments) => pull::pull(arguments).await.map(Output::from),
        Command::Models(arguments) => models::models(&arguments).map(Output::from),
        Command::Devices(arguments) if arguments.watch => watch::watch(&arguments).await.map(Output::from),
        Command::Devices(arguments) => devices::devices(&arguments).await.map(Output::from),
        Command::Doctor(arguments) => doctor::doctor(&arguments).await.map(Output::from),
        Command::Compare(arguments) => compare::compare(arguments).await.map(Output::from),
        Command::Journal(arguments) => journal::journal(&arguments).map(Output::from),
        Command::Inspect(arguments) => inspect::inspect(&arguments).map(Output::from),
        Command::Quantize(arguments) => quantize::quantize(arguments).await.map(Output::from),
        Command::Synth(arguments) => synth::synth(arguments).await.map(Output::from),
        Command::Serve(arguments) => serve::serve(*arguments, interrupted(1)).await,
        Command::Worker => unreachable_worker(),
    }
}

/// `qeil worker` never gets here, but `qeil -- worker` does.
fn unreachable_worker() -> Result<Output> {
    anyhow::bail!("`worker` is started by qeil itself")
}

/// Resolves when Ctrl-C or a request to terminate came so many times.
async fn interrupted(times: u32) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers the signals keep their default: they end the process, and the kernel its workers.
        return std::future::pending().await;
    };
    for _ in 0..times {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

/// One report of what went wrong, where errors of the command line keep clap's form.
fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(usage) = error.downcast_ref::<clap::Error>() {
        // Fails only where standard error is closed: nobody is there to read it.
        let _ = usage.print();
        return ExitCode::from(USAGE);
    }
    let _ = writeln!(io::stderr(), "error: {error:#}");
    ExitCode::FAILURE
}

/// Print to standard output; a reader that went away (`| head`) is no failure.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}
