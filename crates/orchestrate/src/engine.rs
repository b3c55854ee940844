//! A device that is an engine worker: one process, one model, one ggml device, the CPUs it may run on.
//!
//! Two specs that name different CPUs are two devices. A start gives a new process each time; who decides when is the
//! control loop, so there is no supervisor with a mind of its own in between. The known answers that a check compares
//! with come from a CPU worker of the same model that lives for three questions: they are asked once, when the first
//! check is due, and shared by all devices of the model.

use crate::device::{Device, End, Ended, JobEvent, JobEvents, Later, Placement, Running};
use crate::prefill::Prefiller;
use qeil_engine::handle::{EngineError, GenerationEvent, Launch, Worker};
use qeil_engine::request::{FinishReason, GenerateRequest, Prompt, SampleStart, Sampling, Token};
use qeil_engine::spec::LoadSpec;
use qeil_engine::trust;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OnceCell, mpsc};
use tokio::time::timeout;

/// How long a probe or a check may take here. The loop's own bounds are shorter and know how much the device is paced;
/// this one only ends a wait that the loop has forgotten.
const ANSWER_MOST: Duration = Duration::from_secs(1800);
/// The probe's prompt: short, and none that a cache could know.
const PROBE_PROMPT: &str = "The";

/// The known answers of one model, asked when they are first needed.
#[derive(Debug)]
pub struct Reference {
    launch: Launch,
    spec: LoadSpec,
    answers: OnceCell<Vec<Vec<f32>>>,
}

impl Reference {
    /// The answers of a CPU worker of the model of `spec`.
    pub fn new(launch: Launch, spec: &LoadSpec) -> Arc<Self> {
        let spec = LoadSpec {
            device: "CPU".into(),
            prefix_cache_tokens: 0,
            allow_faults: false,
            memory_limit_bytes: None,
            ..spec.clone()
        };
        Arc::new(Self { launch, spec, answers: OnceCell::new() })
    }

    async fn get(&self) -> Result<&Vec<Vec<f32>>, EngineError> {
        self.answers
            .get_or_try_init(|| async {
                let worker = Worker::start(&self.launch, self.spec.clone()).await?;
                let answers = trust::answers(&worker).await;
                worker.stop().await;
                answers
            })
            .await
    }
}

/// An engine worker as a device.
#[derive(Debug)]
pub struct EngineDevice {
    launch: Launch,
    spec: LoadSpec,
    reference: Arc<Reference>,
    prefiller: Option<Arc<Prefiller>>,
    latest: Mutex<Option<Worker>>,
}

impl EngineDevice {
    /// A worker of `spec`.
    pub fn new(launch: Launch, spec: LoadSpec, reference: Arc<Reference>) -> Self {
        Self { launch, spec, reference, prefiller: None, latest: Mutex::default() }
    }

    /// Let long prompts be computed by another engine, and their state brought here. Nothing is told of them meanwhile:
    /// the device's `chunk_tokens` must be `None`.
    #[must_use]
    pub fn prefilled_by(mut self, prefiller: Arc<Prefiller>) -> Self {
        self.prefiller = Some(prefiller);
        self
    }

    /// The worker that was started last, while it lives, where its spec allows faults: for drills that make it fail.
    pub fn worker(&self) -> Option<Worker> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.clone().filter(Worker::is_alive)
    }
}

impl Device for EngineDevice {
    fn start(&self) -> Later<'_, Result<Arc<dyn Running>, String>> {
        Box::pin(async move {
            let worker =
                Worker::start(&self.launch, self.spec.clone()).await.map_err(|error| error.to_string())?;
            // A drill's handle; elsewhere one more would keep a worker that the loop has let go.
            if self.spec.allow_faults {
                *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(worker.clone());
            }
            let running = RunningEngine {
                worker,
                reference: Arc::clone(&self.reference),
                prefiller: self.prefiller.clone(),
            };
            Ok(Arc::new(running) as Arc<dyn Running>)
        })
    }
}

/// A living worker.
#[derive(Debug)]
struct RunningEngine {
    worker: Worker,
    reference: Arc<Reference>,
    prefiller: Option<Arc<Prefiller>>,
}

impl Running for RunningEngine {
    fn work(
        self: Arc<Self>,
        placement: Placement,
        cancels: mpsc::Receiver<u32>,
        events: JobEvents,
    ) -> Later<'static, ()> {
        Box::pin(async move { self.drive(placement, cancels, events).await })
    }

    fn tokenize(&self, prompt: Prompt) -> Later<'_, Option<Result<Vec<Token>, String>>> {
        Box::pin(async move {
            match self.worker.tokenize(prompt).await {
                Ok(tokens) => Some(Ok(tokens)),
                Err(EngineError::Tokenize(why)) => Some(Err(why)),
                Err(EngineError::Rejected(error)) => Some(Err(error.to_string())),
                // It died: another one may know.
                Err(_) => None,
            }
        })
    }

    fn pace(&self, duty: f32) -> Later<'_, ()> {
        Box::pin(async move {
            // A worker that is dead is paced enough.
            let _ = self.worker.pace(duty).await;
        })
    }

    fn probe(&self) -> Later<'_, Result<f64, String>> {
        Box::pin(async move {
            let asked = Instant::now();
            let mut request = GenerateRequest::new(Prompt::text(PROBE_PROMPT), 1, 1, Sampling::greedy());
            (request.ignore_end, request.reuse_prefix) = (true, false);
            let token = async { self.worker.generate(request).await?.collect().await };
            match timeout(ANSWER_MOST, token).await {
                Ok(Ok(done)) => match &done.samples[..] {
                    [sample] if sample.reason == FinishReason::Length => Ok(asked.elapsed().as_secs_f64()),
                    [sample] => Err(format!("its sample ended with {:?}", sample.reason)),
                    _ => Err("it gave no sample".into()),
                },
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no token within {ANSWER_MOST:?}")),
            }
        })
    }

    fn check(&self) -> Later<'_, Result<(f64, bool), String>> {
        Box::pin(async move {
            let answer = async { trust::check(&self.worker, self.reference.get().await?).await };
            match timeout(ANSWER_MOST, answer).await {
                Ok(Ok(verdict)) => Ok((verdict.kl_nats, verdict.trusted)),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {ANSWER_MOST:?}")),
            }
        })
    }

    fn stop(&self) -> Later<'_, ()> {
        Box::pin(async move {
            self.worker.kill().await;
        })
    }

    fn death(&self) -> Later<'_, Ended> {
        Box::pin(async move {
            let mut death = self.worker.death();
            match death.wait_for(Option::is_some).await.as_deref() {
                Ok(Some(death)) => Ended { words: death.to_string(), at: death.at },
                _ => Ended { words: "nobody watches over it any more".into(), at: Instant::now() },
            }
        })
    }

    fn busy_s(&self) -> Option<f64> {
        Some(self.worker.heartbeat().borrow().busy_s)
    }

    fn prefilled_tokens(&self) -> Option<u64> {
        Some(self.worker.heartbeat().borrow().prefilled_tokens)
    }

    fn pid(&self) -> Option<u32> {
        Some(self.worker.pid())
    }
}

impl RunningEngine {
    async fn drive(&self, placement: Placement, mut cancels: mpsc::Receiver<u32>, events: JobEvents) {
        let mut open: BTreeSet<u32> = placement.samples.iter().map(|start| start.sample).collect();
        let request = match self.request(&placement).await {
            Ok(request) => request,
            Err(end) => return events.end_all(open, &end).await,
        };
        if let (Some(prefiller), Prompt::Tokens(prompt)) = (&self.prefiller, &request.prompt) {
            prefiller.bring(&self.worker, prompt).await;
        }
        let mut generation = match self.worker.generate(request).await {
            Ok(generation) => generation,
            Err(EngineError::Rejected(error)) => {
                return events.end_all(open, &End::Refused(error.to_string())).await;
            }
            // Dead: its end is told once, for all that it held.
            Err(_) => return,
        };
        loop {
            let event = tokio::select! {
                event = generation.next() => event,
                Some(sample) = cancels.recv() => {
                    generation.cancel(Some(sample));
                    continue;
                }
            };
            match event {
                Some(GenerationEvent::Token(token)) => {
                    let event = JobEvent::Tokens {
                        sample: token.sample,
                        ids: vec![token.token.id],
                        count: 1,
                        text: token.token.text,
                    };
                    events.send(event).await;
                }
                Some(GenerationEvent::SampleDone { sample, reason, tail }) => {
                    open.remove(&sample);
                    events.send(JobEvent::Ended { sample, end: end_of(reason), tail }).await;
                }
                Some(GenerationEvent::Done(_)) => {
                    let silent = End::Failed("its worker did not say how it ended".into());
                    return events.end_all(open, &silent).await;
                }
                Some(GenerationEvent::Failed(_)) | None => return,
            }
        }
    }

    async fn request(&self, placement: &Placement) -> Result<GenerateRequest, End> {
        let mut request = placement.ask.generate(&placement.prompt);
        // What was emitted elsewhere is computed as it was there: token by token.
        request.replay = true;
        request.samples.clear();
        for start in &placement.samples {
            let emitted = match &start.tokens {
                Some(tokens) => tokens.clone(),
                None => {
                    let text = Prompt::text(String::from_utf8_lossy(&start.text));
                    self.worker.tokenize(text).await.map_err(|error| End::Refused(error.to_string()))?
                }
            };
            request.samples.push(SampleStart { index: start.sample, emitted });
        }
        Ok(request)
    }
}

fn end_of(reason: FinishReason) -> End {
    match reason {
        FinishReason::Failed(why) => End::Failed(why),
        // Room was promised when it was admitted: the device has less than it said.
        FinishReason::ContextFull => End::Refused("no KV cell was left".into()),
        FinishReason::Moved => End::Refused("its state was moved".into()),
        FinishReason::Deadline => End::Refused("its worker's deadline passed".into()),
        reason @ (FinishReason::EndOfText
        | FinishReason::Length
        | FinishReason::Stop(_)
        | FinishReason::Cancelled) => End::Finished(reason),
    }
}
