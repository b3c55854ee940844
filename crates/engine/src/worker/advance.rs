//! One step: gather rows, compute them, draw tokens.
//!
//! After a step that failed or was stopped in the middle, llama.cpp may hold part of the batch; every sequence
//! is then cut back to where it was, and the step can be tried again.
//!
//! A sample that comes from elsewhere brings the tokens it has emitted. As one prefill they are in memory soonest, but a
//! matrix kernel for many rows sums in another order than the one for a single row, and the last bits differ; sampling can
//! turn that into other text. A request with `replay` feeds them one in a step, between those that decode.

use super::job::Purpose;
use super::prefix::Entry;
use super::sample::{SampleError, log_normaliser, log_softmax, top_logprobs, uniform};
use super::schedule::{Demand, Limits, plan};
use super::stepper::{Clock, Stepper};
use crate::llama::{Backend, Row, Seq, StepError};
use crate::protocol::{Event, SampleToken};
use crate::request::{FinishReason, Token, TokenOut};

/// Whose tokens some consecutive rows of the batch are.
#[derive(Debug, Clone, Copy)]
enum Lane {
    Trunk(usize),
    Sample(usize, usize),
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Rows computed.
    pub rows: usize,
    /// Seconds it took.
    pub seconds: f64,
}

/// Tokens drawn and samples ended in a step; reported together, tokens first.
#[derive(Default)]
struct Drawn {
    tokens: Vec<SampleToken>,
    endings: Vec<(usize, usize, FinishReason)>,
}

impl<B: Backend, C: Clock> Stepper<B, C> {
    /// Compute one step. `None` if there was nothing to compute.
    pub fn step(&mut self) -> Option<Step> {
        self.expire();
        self.start_waiting();
        self.reap();
        let (lanes, demands): (Vec<Lane>, Vec<Demand>) = self.lanes().into_iter().unzip();
        let limits = Limits {
            batch: self.spec.batch_tokens as usize,
            solo: self.spec.ubatch_tokens as usize,
            chunk: self.spec.prefill_chunk_tokens as usize,
        };
        let grants = plan(&demands, limits);
        let mut rows = Vec::with_capacity(grants.iter().sum());
        for ((&lane, demand), &grant) in lanes.iter().zip(&demands).zip(&grants) {
            self.push_rows(lane, grant, grant == demand.pending, &mut rows);
        }
        if rows.is_empty() {
            return None;
        }
        let started = self.clock.now();
        let outcome = self.backend.step(&rows);
        let seconds = (self.clock.now() - started).as_secs_f64();
        let fed: Vec<(Lane, usize)> = lanes.into_iter().zip(grants).filter(|(_, n)| *n > 0).collect();
        match outcome {
            Ok(()) => self.absorb(&fed, seconds),
            Err(error) => self.recover(&fed, error),
        }
        Some(Step { rows: rows.len(), seconds })
    }

    fn lanes(&self) -> Vec<(Lane, Demand)> {
        let mut lanes = Vec::new();
        for (j, job) in self.jobs.iter().enumerate() {
            if let Some(trunk) = &job.trunk {
                lanes.push((Lane::Trunk(j), Demand { pending: trunk.tokens.len() - trunk.fed }));
            }
            // A replayed token is a row of its own step, as it was where it was drawn.
            let most = if job.request().is_some_and(|r| r.replay) { 1 } else { usize::MAX };
            let pending =
                (0..job.samples.len()).map(|s| (s, job.pending(s).min(most))).filter(|&(_, n)| n > 0);
            lanes.extend(pending.map(|(s, pending)| (Lane::Sample(j, s), Demand { pending })));
        }
        if self.spec.ubatch_tokens == 1 {
            // One row at a time is a promise: equal numbers whatever shares the step. llama.cpp takes the row of the next
            // sequence along even then where that follows in the batch (`split_equal`), so none follows.
            lanes.sort_by_key(|(lane, _)| std::cmp::Reverse(self.seq_of(*lane)));
        }
        lanes
    }

    fn seq_of(&self, lane: Lane) -> Option<Seq> {
        match lane {
            Lane::Trunk(j) => self.jobs[j].trunk.as_ref().map(|trunk| trunk.seq),
            Lane::Sample(j, s) => self.jobs[j].samples[s].seq,
        }
    }

    fn push_rows(&self, lane: Lane, grant: usize, last: bool, rows: &mut Vec<Row>) {
        let mut push = |seq: Seq, fed: usize, tokens: &mut dyn Iterator<Item = Token>| {
            rows.extend(tokens.take(grant).enumerate().map(|(i, token)| Row {
                token,
                position: (fed + i) as u32,
                seq,
                logits: last && i + 1 == grant,
            }));
        };
        match lane {
            Lane::Trunk(j) => {
                if let Some(trunk) = &self.jobs[j].trunk {
                    push(trunk.seq, trunk.fed, &mut trunk.tokens[trunk.fed..].iter().copied());
                }
            }
            Lane::Sample(j, s) => {
                let (job, sample) = (&self.jobs[j], &self.jobs[j].samples[s]);
                if let Some(seq) = sample.seq {
                    // A sample's sequence holds the whole prompt, so what is pending are emitted tokens.
                    let from = sample.fed - job.prompt.len();
                    push(seq, sample.fed, &mut sample.emitted[from..].iter().copied());
                }
            }
        }
    }

    /// Take in the results of a completed step.
    fn absorb(&mut self, fed: &[(Lane, usize)], seconds: f64) {
        self.counts.steps += 1;
        let mut row = 0;
        let mut drawn = Drawn::default();
        let mut complete = Vec::new();
        for &(lane, n) in fed {
            row += n;
            match lane {
                Lane::Trunk(j) => {
                    self.counts.prefilled += n as u64;
                    self.jobs[j].usage.prefill_ms += seconds * 1e3;
                    if let Some(trunk) = &mut self.jobs[j].trunk {
                        trunk.fed += n;
                        if trunk.fed == trunk.tokens.len()
                            && let Some(logits) = self.backend.logits(row - 1)
                        {
                            complete.push((j, logits.to_vec()));
                        }
                    }
                }
                Lane::Sample(j, s) => {
                    self.jobs[j].samples[s].fed += n;
                    if self.jobs[j].pending(s) > 0 {
                        // It still computes what was emitted elsewhere.
                        self.counts.prefilled += n as u64;
                    }
                    if self.jobs[j].pending(s) == 0
                        && let Some(logits) = self.backend.logits(row - 1)
                    {
                        // One buffer for all rows: a fresh one of this size costs page faults every time.
                        let mut copy = std::mem::take(&mut self.row);
                        copy.clear();
                        copy.extend_from_slice(logits);
                        self.draw(j, s, &copy, &mut drawn);
                        self.row = copy;
                    }
                }
            }
        }
        self.report(drawn);
        for (j, logits) in complete {
            self.trunk_complete(j, logits);
        }
        self.reap();
    }

    /// The prompt is in memory: answer a score, or let the samples start from it.
    pub(super) fn trunk_complete(&mut self, j: usize, logits: Vec<f32>) {
        let Some(trunk) = self.jobs[j].trunk.take() else { return };
        if let Purpose::Score = self.jobs[j].purpose {
            let row = self.disturbed(&logits, 0, 0);
            let finite = row.iter().all(|x| x.is_finite());
            let error = || SampleError::NonFinite.to_string();
            let logprobs = if finite { Ok(log_softmax(&row)) } else { Err(error()) };
            self.outbox.push(Event::Scored { id: self.jobs[j].id, logprobs });
            self.release([trunk.seq]);
            self.end_score(j);
            return;
        }
        let tokens_max = self.jobs[j].request().map_or(0, |r| r.tokens_max) as usize;
        let mut live = Vec::new();
        for s in 0..self.jobs[j].samples.len() {
            if let Some(which) = self.jobs[j].samples[s].stopped {
                self.finish(j, s, FinishReason::Stop(which));
            } else if self.jobs[j].samples[s].emitted.len() >= tokens_max {
                self.finish(j, s, FinishReason::Length);
            } else if self.jobs[j].samples[s].finished.is_none() {
                live.push(s);
            }
        }
        let mut trunk_seq = Some(trunk.seq);
        for (i, &s) in live.iter().enumerate() {
            // With as many samples as sequences the last one takes the trunk over.
            let job = &mut self.jobs[j];
            let seq = if job.promised > 0
                && let Some(seq) = self.free.pop_first()
            {
                job.promised -= 1;
                self.backend.fork(trunk.seq, seq);
                Some(seq)
            } else {
                debug_assert_eq!(i + 1, live.len());
                trunk_seq.take()
            };
            job.samples[s].seq = seq;
            job.samples[s].fed = trunk.tokens.len();
        }
        self.jobs[j].promised = 0;
        let mut drawn = Drawn::default();
        for &s in &live {
            if self.jobs[j].pending(s) == 0 {
                self.draw(j, s, &logits, &mut drawn);
            }
        }
        if let Some(seq) = trunk_seq {
            let keep = self.jobs[j].request().is_some_and(|r| r.reuse_prefix);
            let entry = Entry { seq, tokens: trunk.tokens, logits: Some(logits) };
            let freed = if keep { self.cache.insert(entry) } else { vec![seq] };
            self.release(freed);
        }
        self.report(drawn);
    }

    fn report(&mut self, drawn: Drawn) {
        if !drawn.tokens.is_empty() {
            self.counts.decoded += drawn.tokens.len() as u64;
            self.outbox.push(Event::Tokens(drawn.tokens));
        }
        for (j, s, reason) in drawn.endings {
            self.finish(j, s, reason);
        }
    }

    /// Draw the next token of a sample from a row of logits.
    fn draw(&mut self, j: usize, s: usize, logits: &[f32], drawn: &mut Drawn) {
        let now = self.clock.now();
        let row;
        let logits = if self.noise > 0.0 {
            let sample = &self.jobs[j].samples[s];
            row = self.disturbed(logits, sample.index + 1, sample.emitted.len() as u32);
            &row
        } else {
            logits
        };
        let job = &mut self.jobs[j];
        let Purpose::Generate(request) = &job.purpose else { return };
        let sample = &mut job.samples[s];
        let recent = recent(&job.prompt, &sample.emitted, &request.sampling);
        let t = sample.emitted.len() as u32;
        let grammar = sample.grammar.as_deref_mut();
        let token = match self.sampler.draw(logits, &request.sampling, &recent, grammar, sample.index, t) {
            Ok(token) => token,
            Err(error) => {
                drawn.endings.push((j, s, FinishReason::Failed(error.to_string())));
                return;
            }
        };
        if self.backend.is_end(token) && !request.ignore_end {
            drawn.endings.push((j, s, FinishReason::EndOfText));
            return;
        }
        if let Some(grammar) = sample.grammar.as_mut() {
            grammar.accept(token);
        }
        sample.emitted.push(token);
        job.first_token.get_or_insert(now);
        job.last_token = now;
        job.usage.emitted_tokens += 1;

        let mut piece = Vec::new();
        self.backend.piece(token, &mut piece);
        let (text, stop) = sample.watch.push(&piece, &request.stop);
        let (logprob, top) = match request.logprobs {
            None => (None, Vec::new()),
            Some(n) => {
                let norm = log_normaliser(logits);
                let own = (f64::from(logits[token as usize]) - norm) as f32;
                (Some(own), top_logprobs(logits, norm, n.into()))
            }
        };
        let token = TokenOut { id: token, text, logprob, top };
        drawn.tokens.push(SampleToken { request: job.id, sample: sample.index, token });
        if let Some(which) = stop {
            drawn.endings.push((j, s, FinishReason::Stop(which)));
        } else if sample.emitted.len() >= request.tokens_max as usize {
            drawn.endings.push((j, s, FinishReason::Length));
        }
    }

    /// A row with the noise of a fault drill added.
    fn disturbed(&self, logits: &[f32], s: u32, t: u32) -> Vec<f32> {
        let mut row = logits.to_vec();
        if self.noise > 0.0 {
            let seed = (u64::from(s) << 32) | u64::from(t);
            for (i, x) in row.iter_mut().enumerate() {
                *x += self.noise * (uniform(seed, 0, i as u32) as f32 * 2.0 - 1.0);
            }
        }
        row
    }

    /// Put every sequence back to where it was before a step that did not complete.
    fn recover(&mut self, fed: &[(Lane, usize)], error: StepError) {
        let mut broken = Vec::new();
        for &(lane, _) in fed {
            let (j, place) = match lane {
                Lane::Trunk(j) => (j, self.jobs[j].trunk.as_ref().map(|t| (t.seq, t.fed))),
                Lane::Sample(j, s) => {
                    (j, self.jobs[j].samples[s].seq.map(|seq| (seq, self.jobs[j].samples[s].fed)))
                }
            };
            if let Some((seq, keep)) = place
                && !self.backend.truncate(seq, keep as u32)
            {
                broken.push(j);
            }
        }
        match error {
            StepError::Aborted => {}
            StepError::Full => {
                // Room was set aside at the start, so this is llama.cpp needing more than we count; cached
                // prefixes go first, then the youngest request.
                let mut evicted = false;
                while let Some(seq) = self.cache.evict() {
                    self.release([seq]);
                    evicted = true;
                }
                if !evicted && let Some(j) = self.jobs.iter().rposition(|job| job.started) {
                    self.finish_all(j, &FinishReason::ContextFull);
                }
            }
            StepError::Failed(status) => {
                let reason =
                    FinishReason::Failed(format!("llama.cpp could not compute the step (status {status})"));
                for &(lane, _) in fed {
                    let (Lane::Trunk(j) | Lane::Sample(j, _)) = lane;
                    self.finish_all(j, &reason);
                }
            }
        }
        for j in broken {
            let text = "a stopped step left a state that this model's memory cannot take back";
            self.finish_all(j, &FinishReason::Failed(text.into()));
        }
        self.reap();
    }
}

/// The tokens that a repetition penalty looks at; none where it is off.
fn recent(prompt: &[Token], emitted: &[Token], sampling: &crate::request::Sampling) -> Vec<Token> {
    if sampling.repetition_penalty == 1.0 {
        return Vec::new();
    }
    let window = sampling.penalty_window as usize;
    let from_prompt = window.saturating_sub(emitted.len()).min(prompt.len());
    let from_emitted = window.min(emitted.len());
    [&prompt[prompt.len() - from_prompt..], &emitted[emitted.len() - from_emitted..]].concat()
}
