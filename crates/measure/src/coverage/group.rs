//! A group of samples in flight: one request to the worker, seen as the ends of its samples.

use crate::answer::Finish;
use qeil_engine::handle::{EngineError, GenerationEvent, Worker};
use qeil_engine::request::{FinishReason, GenerateRequest, Usage};
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// What happens to a group.
#[derive(Debug)]
pub enum Event {
    /// A sample ended by itself.
    Ended {
        /// Number of its task.
        task: usize,
        /// The sample.
        sample: Written,
    },
    /// A sample was cancelled.
    Cancelled {
        /// Number of its task.
        task: usize,
        /// Its number.
        sample: u32,
    },
    /// The engine failed on a sample.
    Failed {
        /// Number of its task.
        task: usize,
        /// Its number.
        sample: u32,
        /// What the engine said.
        why: String,
    },
    /// All samples ended.
    Done {
        /// What the request cost.
        usage: Usage,
    },
    /// The request could not be made, or the worker died.
    Lost(EngineError),
}

/// What a sample wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Its number.
    pub number: u32,
    /// Its text.
    pub text: String,
    /// Its tokens.
    pub tokens: u32,
    /// Tokens of the prompt, if it is the first of its group.
    pub prompt_tokens: u32,
    /// Why it ended.
    pub finish: Finish,
}

#[derive(Debug, Default)]
struct Draft {
    bytes: Vec<u8>,
    tokens: u32,
}

/// Drive a request to its end; `cancels` names samples that are needed no more.
pub async fn drive(
    task: usize,
    worker: Worker,
    request: GenerateRequest,
    mut cancels: mpsc::Receiver<u32>,
    out: mpsc::Sender<Event>,
) {
    let first = request.samples.first().map(|sample| sample.index);
    let mut generation = match worker.generate(request).await {
        Ok(generation) => generation,
        // Who sent us is gone where this fails, and wants no answer.
        Err(error) => return drop(out.send(Event::Lost(error)).await),
    };
    let mut drafts: BTreeMap<u32, Draft> = BTreeMap::new();
    loop {
        let event = tokio::select! {
            event = generation.next() => event,
            Some(sample) = cancels.recv() => {
                generation.cancel(Some(sample));
                continue;
            }
        };
        let sent = match event {
            None => return,
            Some(GenerationEvent::Token(token)) => {
                let draft = drafts.entry(token.sample).or_default();
                draft.bytes.extend_from_slice(&token.token.text);
                draft.tokens += 1;
                continue;
            }
            Some(GenerationEvent::SampleDone { sample, reason, tail }) => {
                let mut draft = drafts.remove(&sample).unwrap_or_default();
                draft.bytes.extend_from_slice(&tail);
                let prompt_tokens = if first == Some(sample) { generation.prompt().len() as u32 } else { 0 };
                match reason {
                    FinishReason::Cancelled => Event::Cancelled { task, sample },
                    FinishReason::Failed(why) => Event::Failed { task, sample, why },
                    reason => Event::Ended {
                        task,
                        sample: Written {
                            number: sample,
                            text: String::from_utf8_lossy(&draft.bytes).into_owned(),
                            tokens: draft.tokens,
                            prompt_tokens,
                            finish: Finish::from(&reason),
                        },
                    },
                }
            }
            Some(GenerationEvent::Done(usage)) => Event::Done { usage },
            Some(GenerationEvent::Failed(error)) => Event::Lost(error),
        };
        if out.send(sent).await.is_err() {
            return;
        }
    }
}
