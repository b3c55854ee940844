//! One request, or several at once, with the clock and the energy meter around it.

use crate::error::MeasureError;
use crate::stats::tokens_per_s;
use qeil_engine::handle::{CompletedSample, EngineError, Worker};
use qeil_engine::request::{FinishReason, GenerateRequest, Usage};
use qeil_hardware::energy::{EnergyMeter, EnergyReading};
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// A finished request.
#[derive(Debug, Clone)]
pub struct Timed {
    /// The worker's own account.
    pub usage: Usage,
    /// Seconds from sending the request to its last event, at the supervisor.
    pub wall_s: f64,
    /// What each sample said.
    pub samples: Vec<CompletedSample>,
}

impl Timed {
    /// Computed prompt tokens per second of the steps that held them.
    pub fn prefill_tokens_per_s(&self) -> Option<f64> {
        let computed = self.usage.prompt_tokens.saturating_sub(self.usage.reused_tokens);
        tokens_per_s(computed, self.usage.prefill_ms)
    }

    /// Tokens of all samples per second, from the first token to the last. The k first tokens come out of the
    /// prefill, so they are not counted.
    pub fn decode_tokens_per_s(&self, samples: u32) -> Option<f64> {
        tokens_per_s(self.usage.emitted_tokens.saturating_sub(samples), self.usage.decode_ms)
    }
}

/// Run a request to its end.
///
/// # Errors
/// When it is refused, when the worker dies, and when the engine failed on a sample.
pub async fn timed(worker: &Worker, request: GenerateRequest) -> Result<Timed, MeasureError> {
    let start = Instant::now();
    let done = worker.generate(request).await?.collect().await?;
    for sample in &done.samples {
        if let FinishReason::Failed(why) = &sample.reason {
            return Err(MeasureError::SampleFailed { sample: sample.index, why: why.clone() });
        }
    }
    Ok(Timed { usage: done.usage, wall_s: start.elapsed().as_secs_f64(), samples: done.samples })
}

/// Run a request to its end under the energy meter.
///
/// # Errors
/// Those of [`timed`].
pub async fn metered(
    worker: &Worker,
    request: GenerateRequest,
    meter: &EnergyMeter,
) -> Result<(Timed, EnergyReading), MeasureError> {
    let mut span = meter.begin();
    let mut run = pin!(timed(worker, request));
    let timed = loop {
        match meter.tick_period() {
            None => break run.await?,
            Some(period) => tokio::select! {
                timed = &mut run => break timed?,
                () = tokio::time::sleep(Duration::from_secs_f64(period.0)) => meter.tick(&mut span),
            },
        }
    };
    let reading = meter.end(span, timed.usage.cpu_s);
    Ok((timed, reading))
}

/// Submit requests at once and wait for all: the seconds from the first sent to the last finished.
///
/// # Errors
/// Those of [`timed`].
pub async fn at_once(worker: &Worker, requests: Vec<GenerateRequest>) -> Result<f64, MeasureError> {
    let start = Instant::now();
    let mut running = JoinSet::new();
    for request in requests {
        let worker = worker.clone();
        running.spawn(async move { timed(&worker, request).await });
    }
    while let Some(finished) = running.join_next().await {
        finished.map_err(|_| EngineError::Stopped)??;
    }
    Ok(start.elapsed().as_secs_f64())
}
