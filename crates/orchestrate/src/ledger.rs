//! What the loop does not know of its requests: their prompts, the text and tokens of their samples, and who reads them.
//!
//! The loop counts; this remembers. A sample's tokens are written down here when they are told to the loop, in the same
//! breath, so both always agree on how far a sample had come when its device died. Tokens of a placement that no longer
//! holds the sample are dropped: whoever holds it now draws the same ones.

use crate::ask::{Answer, AnswerEvent, Ask, DECISIONS_MAX, Decided, Report, SampleReport};
use crate::device::{Placement, Start};
use qeil_control::config::DeviceId;
use qeil_control::event::{JobId, Outcome, Refusal, RequestId};
use qeil_engine::request::{FinishReason, Prompt, Token};
use qeil_units::{Joules, Labelled};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// Devices that a sample's report names: as many as it may move, and more than anyone reads.
const DEVICES_MAX: usize = 16;

/// Who waits for admission.
pub(crate) type Reply = oneshot::Sender<Result<Answer, Refusal>>;

/// A request between its arrival and its outcome.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) request: RequestId,
    pub(crate) ask: Arc<Ask>,
    prompt: Prompt,
    pub(crate) prompt_tokens: u32,
    samples: Vec<Book>,
    outlet: mpsc::Sender<AnswerEvent>,
    admission: Option<(Reply, mpsc::Receiver<AnswerEvent>)>,
    arrived_s: f64,
    first_token_s: Option<f64>,
    decisions: VecDeque<Decided>,
}

/// A device's death, for a sample that it held.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Loss {
    /// Which device.
    pub(crate) from: DeviceId,
    /// When its death was known.
    pub(crate) known: Instant,
    /// When the loop was told.
    pub(crate) told: Instant,
    /// Places free on the other devices then.
    pub(crate) free: u32,
}

/// A sample.
#[derive(Debug, Clone)]
struct Book {
    /// `None` once a device without a tokenizer emitted some.
    tokens: Option<Vec<Token>>,
    count: u32,
    text: Vec<u8>,
    /// The end of `text` that is no whole character yet.
    told: usize,
    finish: Option<FinishReason>,
    devices: Vec<DeviceId>,
    /// The placement that holds it.
    job: Option<JobId>,
    /// How its device died with it.
    lost: Option<Loss>,
}

impl Held {
    pub(crate) fn new(
        request: RequestId,
        ask: Ask,
        prompt: Prompt,
        prompt_tokens: u32,
        arrived_s: f64,
        reply: Reply,
    ) -> Self {
        let (outlet, events) = mpsc::channel(ask.events_max());
        let book = Book {
            tokens: Some(Vec::new()),
            count: 0,
            text: Vec::new(),
            told: 0,
            finish: None,
            devices: Vec::new(),
            job: None,
            lost: None,
        };
        Self {
            request,
            samples: vec![book; ask.samples as usize],
            ask: Arc::new(ask),
            prompt,
            prompt_tokens,
            outlet,
            admission: Some((reply, events)),
            arrived_s,
            first_token_s: None,
            decisions: VecDeque::new(),
        }
    }

    /// Tell the client that it is admitted. A client that is gone by now shows as [`Held::is_deserted`].
    pub(crate) fn admit(&mut self) {
        if let Some((reply, events)) = self.admission.take() {
            let _ = reply.send(Ok(Answer { request: self.request, events, over: false }));
        }
    }

    /// Tell the client that it is not.
    pub(crate) fn refuse(mut self, refusal: Refusal) {
        if let Some((reply, _)) = self.admission.take() {
            let _ = reply.send(Err(refusal));
        }
    }

    /// Whether its client went away.
    pub(crate) fn is_deserted(&self) -> bool {
        self.admission.is_none() && self.outlet.is_closed()
    }

    /// Remember a decision about it.
    pub(crate) fn decided(&mut self, decided: Decided) {
        if self.decisions.len() == DECISIONS_MAX {
            self.decisions.pop_front();
        }
        self.decisions.push_back(decided);
    }

    /// The last row of the journal about it.
    pub(crate) fn last_decision(&self) -> Option<u64> {
        self.decisions.back().map(|decided| decided.row)
    }

    /// Put samples on a device: what it is given, and how those that lost their device did.
    pub(crate) fn place(&mut self, job: JobId, device: DeviceId, samples: &[u32]) -> (Placement, Vec<Loss>) {
        let mut starts = Vec::with_capacity(samples.len());
        let mut lost = Vec::new();
        for &sample in samples {
            let Some(book) = self.samples.get_mut(sample as usize) else { continue };
            book.job = Some(job);
            if book.devices.len() < DEVICES_MAX && book.devices.last() != Some(&device) {
                book.devices.push(device);
            }
            lost.extend(book.lost.take());
            starts.push(Start {
                sample,
                count: book.count,
                tokens: book.tokens.clone(),
                text: book.text.clone(),
            });
        }
        let prompt = self.prompt.clone();
        (Placement { job, ask: Arc::clone(&self.ask), prompt, samples: starts }, lost)
    }

    /// A device died while it held the sample.
    pub(crate) fn lose(&mut self, sample: u32, job: JobId, loss: Loss) {
        if let Some(book) = self.book(sample, job) {
            book.job = None;
            book.lost = Some(loss);
        }
    }

    /// Tokens of a sample came from a placement; `false` where it no longer holds the sample.
    pub(crate) fn tokens(
        &mut self,
        now_s: f64,
        (job, sample): (JobId, u32),
        ids: &[Token],
        count: u32,
        text: &[u8],
    ) -> bool {
        let since_arrival_s = now_s - self.arrived_s;
        let Some(book) = self.book(sample, job) else { return false };
        book.count += count;
        match &mut book.tokens {
            Some(tokens) if ids.len() == count as usize => tokens.extend_from_slice(ids),
            tokens => *tokens = None,
        }
        book.text.extend_from_slice(text);
        let text = book.whole_characters(false);
        self.first_token_s.get_or_insert(since_arrival_s);
        self.tell(AnswerEvent::Delta { sample, text, tokens: count });
        true
    }

    /// A placement has let go of a sample, to its end or not.
    pub(crate) fn ended(&mut self, sample: u32, job: JobId, finish: Option<FinishReason>, tail: &[u8]) {
        let Some(book) = self.book(sample, job) else { return };
        book.job = None;
        if let Some(finish) = finish {
            book.text.extend_from_slice(tail);
            self.finish(sample, finish);
        }
    }

    fn finish(&mut self, sample: u32, finish: FinishReason) {
        let Some(book) = self.samples.get_mut(sample as usize) else { return };
        if book.finish.is_some() {
            return;
        }
        book.finish = Some(finish.clone());
        let text = book.whole_characters(true);
        if !text.is_empty() {
            self.tell(AnswerEvent::Delta { sample, text, tokens: 0 });
        }
        self.tell(AnswerEvent::SampleEnded { sample, finish });
    }

    fn book(&mut self, sample: u32, job: JobId) -> Option<&mut Book> {
        self.samples.get_mut(sample as usize).filter(|book| book.job == Some(job) && book.finish.is_none())
    }

    fn tell(&self, event: AnswerEvent) {
        // There is room for everything; a client that is gone is found by the next look.
        let _ = self.outlet.try_send(event);
    }

    /// The end: what has not ended yet ends now, and the report is made.
    pub(crate) fn close(
        mut self,
        now_s: f64,
        outcome: Outcome,
        energy: Option<Labelled<Joules>>,
        name: impl Fn(DeviceId) -> String,
    ) -> (mpsc::Sender<AnswerEvent>, Report) {
        for sample in 0..self.samples.len() as u32 {
            let finish = match &outcome {
                Outcome::Deadline => FinishReason::Deadline,
                Outcome::Failed(why) => FinishReason::Failed(why.clone()),
                Outcome::Completed | Outcome::Withdrawn | Outcome::EnergyBudget => FinishReason::Cancelled,
            };
            self.finish(sample, finish);
        }
        let of_book = |(sample, book): (usize, &Book)| SampleReport {
            sample: sample as u32,
            finish: book.finish.clone().unwrap_or(FinishReason::Cancelled),
            tokens: book.count,
            devices: book.devices.iter().map(|&device| name(device)).collect(),
        };
        let report = Report {
            request: self.request,
            outcome,
            samples: self.samples.iter().enumerate().map(of_book).collect(),
            prompt_tokens: self.prompt_tokens,
            energy,
            decisions: self.decisions.into_iter().collect(),
            journalled: false,
            first_token_s: self.first_token_s,
            wall_s: now_s - self.arrived_s,
        };
        (self.outlet, report)
    }
}

impl Book {
    /// Text that has not been told and is whole characters; at the end, everything.
    fn whole_characters(&mut self, at_the_end: bool) -> String {
        let mut told = String::new();
        let mut rest = &self.text[self.told..];
        // Each turn takes at least one byte.
        while !rest.is_empty() {
            let (taken, bad) = match std::str::from_utf8(rest) {
                Ok(_) => (rest.len(), 0),
                Err(error) => match error.error_len() {
                    Some(bad) => (error.valid_up_to(), bad),
                    None if at_the_end => (error.valid_up_to(), rest.len() - error.valid_up_to()),
                    None => (error.valid_up_to(), 0),
                },
            };
            told.push_str(&String::from_utf8_lossy(&rest[..taken + bad]));
            self.told += taken + bad;
            if taken + bad == 0 {
                break;
            }
            rest = &rest[taken + bad..];
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qeil_engine::request::Sampling;

    fn held(samples: u32) -> (Held, oneshot::Receiver<Result<Answer, Refusal>>) {
        let ask = Ask::new(Prompt::text("x"), samples, 8, Sampling::greedy());
        let (reply, answer) = oneshot::channel();
        (Held::new(RequestId(1), ask, Prompt::text("x"), 1, 0.0, reply), answer)
    }

    #[tokio::test]
    async fn characters_are_told_whole() {
        let (mut held, answer) = held(1);
        held.admit();
        let mut answer = answer.await.unwrap().unwrap();
        let job = JobId(1);
        held.place(job, DeviceId(0), &[0]);
        // "é" in two pieces, a byte that is no text, and a character that never ends.
        for piece in [&[0xC3][..], &[0xA9], &[0xFF, b'a'], &[0xE2, 0x82]] {
            assert!(held.tokens(1.0, (job, 0), &[7], 1, piece));
        }
        held.ended(0, job, Some(FinishReason::Length), b"");
        let (outlet, report) = held.close(2.0, Outcome::Completed, None, |_| "device".into());
        outlet.try_send(AnswerEvent::Ended(Box::new(report))).unwrap();
        let mut texts = Vec::new();
        while let Some(event) = answer.next().await {
            if let AnswerEvent::Delta { text, .. } = event {
                texts.push(text);
            }
        }
        assert_eq!(texts, ["", "é", "\u{FFFD}a", "", "\u{FFFD}"]);
    }

    #[test]
    fn only_the_placement_that_holds_a_sample_may_speak_for_it() {
        let (mut held, _answer) = held(1);
        let (first, second) = (JobId(1), JobId(2));
        held.place(first, DeviceId(0), &[0]);
        assert!(held.tokens(0.0, (first, 0), &[1], 1, b"a"));
        let loss = Loss { from: DeviceId(0), known: Instant::now(), told: Instant::now(), free: 1 };
        held.lose(0, first, loss);
        assert!(!held.tokens(0.0, (first, 0), &[2], 1, b"b"), "late");
        let (placement, lost) = held.place(second, DeviceId(1), &[0]);
        assert_eq!(
            placement.samples[0],
            Start { sample: 0, count: 1, tokens: Some(vec![1]), text: b"a".to_vec() }
        );
        assert_eq!(lost, [loss]);
        assert!(!held.tokens(0.0, (first, 0), &[2], 1, b"b"), "late");
        held.ended(0, first, Some(FinishReason::Length), b"late");
        assert!(held.tokens(0.0, (second, 0), &[2], 1, b"b"));
        held.ended(0, second, Some(FinishReason::Length), b"");
        let (_, report) = held.close(1.0, Outcome::Completed, None, |id| id.0.to_string());
        let sample = &report.samples[0];
        assert_eq!((sample.tokens, sample.devices.join(" ").as_str()), (2, "0 1"));
        assert_eq!(sample.finish, FinishReason::Length);
    }

    #[test]
    fn a_device_without_tokens_leaves_text() {
        let (mut held, _answer) = held(1);
        held.place(JobId(1), DeviceId(0), &[0]);
        held.tokens(0.0, (JobId(1), 0), &[5], 1, b"five");
        held.tokens(0.0, (JobId(1), 0), &[], 2, b" six seven");
        let (placement, _) = held.place(JobId(2), DeviceId(1), &[0]);
        let expected = Start { sample: 0, count: 3, tokens: None, text: b"five six seven".to_vec() };
        assert_eq!(placement.samples[0], expected);
    }
}
