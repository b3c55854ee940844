//! The step loop's bookkeeping: requests join and leave at every step.
//!
//! A request's prompt is computed once, in a sequence called its **trunk**. When the trunk is complete, every
//! sample forks from it (in unified memory that copies nothing) and the trunk goes to the prefix cache. A
//! request is started only when the KV cells and sequences that it can need at most are free, so a running
//! sample never runs out of memory; cached prefixes make room first.
//!
//! Nothing here blocks, and the only clock is the one handed in. This file takes requests in and lets them go;
//! [`super::advance`] computes steps; [`super::transfer`] moves states in and out. All leave their events in the
//! outbox. What goes into a batch is decided in [`super::schedule`], how a token is chosen in [`super::sample`].

use super::job::{Job, Purpose, Sample, Trunk};
use super::prefix::PrefixCache;
use super::sample::Sampler;
use super::transfer::Incoming;
use crate::llama::{Backend, Seq};
use crate::protocol::Event;
use crate::request::{FinishReason, GenerateRequest, Prompt, RequestError, Token, Usage};
use crate::spec::LoadSpec;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// Time and CPU time, as the loop sees them.
pub trait Clock {
    /// Monotonic time.
    fn now(&self) -> Duration;
    /// CPU seconds of the process so far.
    fn cpu_s(&self) -> f64;
}

/// Counts since the start, for the heartbeat.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Steps completed.
    pub steps: u64,
    /// Prompt tokens computed.
    pub prefilled: u64,
    /// Tokens emitted.
    pub decoded: u64,
}

/// See the module's text.
pub struct Stepper<B, C> {
    pub(super) backend: B,
    pub(super) spec: LoadSpec,
    pub(super) clock: C,
    pub(super) free: BTreeSet<Seq>,
    /// Oldest first; those that have not started yet are the queue.
    pub(super) jobs: Vec<Job>,
    pub(super) cache: PrefixCache,
    pub(super) incoming: HashMap<u64, Incoming>,
    pub(super) outbox: Vec<Event>,
    pub(super) sampler: Sampler,
    /// The row of logits that is being drawn from.
    pub(super) row: Vec<f32>,
    pub(super) counts: Counts,
    pub(super) noise: f32,
}

impl<B: Backend, C: Clock> Stepper<B, C> {
    /// A loop over an engine that was loaded as `spec` says.
    pub fn new(backend: B, spec: LoadSpec, clock: C) -> Self {
        Self {
            free: (0..spec.sequences).collect(),
            cache: PrefixCache::new(spec.prefix_cache_tokens),
            backend,
            spec,
            clock,
            jobs: Vec::new(),
            incoming: HashMap::new(),
            outbox: Vec::new(),
            sampler: Sampler::default(),
            row: Vec::new(),
            counts: Counts::default(),
            noise: 0.0,
        }
    }

    /// Events since the last call, in order.
    pub fn drain(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.outbox)
    }

    /// Whether a step would do anything.
    pub fn has_work(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Requests waiting, sequences at work, tokens in the prefix cache.
    pub fn load(&self) -> (u32, u32, u32) {
        let at_work = |job: &Job| {
            u32::from(job.trunk.is_some()) + job.samples.iter().filter(|s| s.seq.is_some()).count() as u32
        };
        (self.queued(), self.jobs.iter().map(at_work).sum(), self.cache.tokens() as u32)
    }

    fn queued(&self) -> u32 {
        self.jobs.iter().filter(|job| !job.started).count() as u32
    }

    /// Counts since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Disturb every logit from now on (fault drills).
    pub fn disturb(&mut self, size: f32) {
        self.noise = size;
    }

    /// Let the engine's threads sleep until there is work.
    pub fn rest(&mut self) {
        self.backend.rest();
    }

    /// Tokenise a prompt.
    ///
    /// # Errors
    /// A sentence for whoever wrote it.
    pub fn tokenize(&self, prompt: &Prompt) -> Result<Vec<Token>, String> {
        match prompt {
            Prompt::Tokens(tokens) => {
                let known = |t: &Token| usize::try_from(*t).is_ok_and(|t| t < self.backend.vocab_tokens());
                match tokens.iter().find(|t| !known(t)) {
                    Some(bad) => Err(format!("token {bad} is not in the model's vocabulary")),
                    None => Ok(tokens.clone()),
                }
            }
            Prompt::Parts(parts) => {
                let mut all = Vec::new();
                for (i, part) in parts.iter().enumerate() {
                    let mut tokens = self.backend.tokenize(&part.text, i == 0, part.trusted)?;
                    // A template that writes the beginning-of-sequence token itself must not get a second one.
                    if i == 0 && tokens.len() > 1 && tokens[0] == tokens[1] && part.trusted {
                        let begin = self.backend.tokenize("", true, false)?;
                        if begin.first() == Some(&tokens[0]) {
                            tokens.remove(0);
                        }
                    }
                    all.append(&mut tokens);
                }
                Ok(all)
            }
        }
    }

    /// Take a generation request: admit it to the queue, or refuse it.
    pub fn generate(&mut self, id: u64, request: GenerateRequest) {
        match self.admit(id, request) {
            Ok(job) => {
                let queued = self.queued();
                self.outbox.push(Event::Admitted { id, prompt: job.prompt.clone(), queued });
                self.jobs.push(job);
            }
            Err(error) => self.outbox.push(Event::Rejected { id, error }),
        }
    }

    fn admit(&self, id: u64, request: GenerateRequest) -> Result<Job, RequestError> {
        request.check()?;
        let prompt = self.tokenize(&request.prompt).map_err(RequestError::Invalid)?;
        let grammar = match &request.grammar {
            None => None,
            Some(text) => Some(self.backend.grammar(text).ok_or_else(|| {
                RequestError::Invalid("the grammar is not valid GBNF with a rule called root".into())
            })?),
        };
        let mut samples = Vec::with_capacity(request.samples.len());
        for start in &request.samples {
            let mut sample = Sample::new(start, grammar.as_ref().map(|g| g.duplicate()));
            self.replay(&mut sample, &request)?;
            samples.push(sample);
        }
        let mut job = self.job(id, Purpose::Generate(Box::new(request)), prompt)?;
        job.deadline = job
            .request()
            .and_then(|r| r.deadline_ms)
            .map(|ms| job.admitted + Duration::from_millis(ms.into()));
        job.samples = samples;
        Ok(job)
    }

    /// Bring grammar and stop watch of a moved sample to where its text is.
    fn replay(&self, sample: &mut Sample, request: &GenerateRequest) -> Result<(), RequestError> {
        for i in 0..sample.emitted.len() {
            let token = sample.emitted[i];
            if usize::try_from(token).map_or(true, |t| t >= self.backend.vocab_tokens()) {
                let text = format!("emitted token {token} is not in the model's vocabulary");
                return Err(RequestError::Invalid(text));
            }
            if let Some(grammar) = sample.grammar.as_mut() {
                if !grammar.allows(token) {
                    return Err(RequestError::Invalid(format!(
                        "the grammar does not allow emitted token {i}"
                    )));
                }
                grammar.accept(token);
            }
            let mut piece = Vec::new();
            self.backend.piece(token, &mut piece);
            let (_, stop) = sample.watch.push(&piece, &request.stop);
            // Its worker died between the token and the word that it was the last.
            if stop.is_some() {
                sample.stopped = stop;
                break;
            }
        }
        Ok(())
    }

    fn job(&self, id: u64, purpose: Purpose, prompt: Vec<Token>) -> Result<Job, RequestError> {
        if self.queued() >= self.spec.queue_requests {
            return Err(RequestError::QueueFull(self.spec.queue_requests));
        }
        if prompt.is_empty() {
            return Err(RequestError::Invalid("the prompt has no tokens".into()));
        }
        let (cells, largest) = Job::cells_needed(prompt.len(), &purpose);
        let context = u64::from(self.spec.context_tokens);
        let (needed, available) = if self.spec.kv_unified {
            (cells, context)
        } else {
            (largest, context / u64::from(self.spec.sequences))
        };
        if needed > available {
            return Err(RequestError::TooLarge { what: "tokens of context".into(), needed, available });
        }
        if let Purpose::Generate(request) = &purpose {
            let (needed, available) = (request.samples.len() as u64, u64::from(self.spec.sequences));
            if needed > available {
                return Err(RequestError::TooLarge { what: "sequences".into(), needed, available });
            }
        }
        let now = self.clock.now();
        let usage = Usage { prompt_tokens: prompt.len() as u32, ..Default::default() };
        Ok(Job {
            id,
            purpose,
            prompt,
            trunk: None,
            samples: Vec::new(),
            started: false,
            cells,
            promised: 0,
            admitted: now,
            deadline: None,
            first_token: None,
            last_token: now,
            cpu_s_before: self.clock.cpu_s(),
            usage,
        })
    }

    /// Take a score request.
    pub fn score(&mut self, id: u64, prompt: &Prompt) {
        let tokens = self.tokenize(prompt).map_err(RequestError::Invalid);
        match tokens.and_then(|tokens| self.job(id, Purpose::Score, tokens)) {
            Ok(job) => self.jobs.push(job),
            Err(error) => self.outbox.push(Event::Scored { id, logprobs: Err(error.to_string()) }),
        }
    }

    /// End a request, or one sample of it.
    pub fn cancel(&mut self, id: u64, sample: Option<u32>) {
        for j in (0..self.jobs.len()).filter(|&j| self.jobs[j].id == id).collect::<Vec<_>>() {
            let wanted = |s: &Sample| sample.is_none_or(|index| index == s.index);
            for s in 0..self.jobs[j].samples.len() {
                if wanted(&self.jobs[j].samples[s]) {
                    self.finish(j, s, FinishReason::Cancelled);
                }
            }
        }
        self.reap();
    }

    /// End requests whose deadline has passed.
    pub(super) fn expire(&mut self) {
        let now = self.clock.now();
        for j in 0..self.jobs.len() {
            if self.jobs[j].deadline.is_some_and(|deadline| deadline <= now) {
                self.finish_all(j, &FinishReason::Deadline);
            }
        }
        self.reap();
    }

    /// Let waiting requests start, oldest first, while there is room for all that they can need.
    pub(super) fn start_waiting(&mut self) {
        for j in 0..self.jobs.len() {
            if !self.jobs[j].started && !self.start(j) {
                return;
            }
        }
    }

    /// Start one request; `false` if there is no room yet.
    fn start(&mut self, j: usize) -> bool {
        let job = &self.jobs[j];
        let k = job.samples.len() as u32;
        // Trunk and samples; where that is one more than there are, the last sample takes the trunk over.
        let seqs = (k + 1).min(self.spec.sequences);
        let cells = if self.spec.kv_unified { job.cells } else { 0 };
        let reuse = job.request().is_some_and(|r| r.reuse_prefix);
        // With one sample the prompt and what it emitted elsewhere are one prefill, unless that is to be replayed.
        let replay = job.request().is_some_and(|r| r.replay);
        let tokens = if k == 1 && !replay { job.tokens_of(0) } else { job.prompt.clone() };

        let others = self.jobs.iter().filter(|other| other.started);
        let (cells_taken, promised) =
            others.fold((0, 0), |(cells, promised), job| (cells + job.cells, promised + job.promised));
        let context = u64::from(self.spec.context_tokens);
        let cells_left = |cached: usize| context.saturating_sub(cells_taken + cached as u64);
        let seqs_left = |free: usize| (free as u32).saturating_sub(promised);
        // What the cache could give back at most.
        if seqs_left(self.free.len() + self.cache.len()) < seqs || cells > cells_left(0) {
            return false;
        }
        if self.free.is_empty() {
            let seq = self.cache.evict();
            self.release(seq);
        }
        let Some(trunk) = self.free.pop_first() else { return false };
        // Fork from the cache before making room in it: cells shared with the trunk survive the eviction.
        let (shared, logits) = if reuse { self.fork_cached(trunk, &tokens) } else { (0, None) };
        while self.cache.len() > 0
            && (seqs_left(self.free.len()) + 1 < seqs || cells > cells_left(self.cache.tokens()))
        {
            let seq = self.cache.evict();
            self.release(seq);
        }
        let now = self.clock.now();
        let job = &mut self.jobs[j];
        job.started = true;
        job.promised = seqs - 1;
        job.usage.queued_ms = (now - job.admitted).as_secs_f64() * 1e3;
        job.usage.reused_tokens = shared as u32;
        job.trunk = Some(Trunk { seq: trunk, tokens, fed: shared });
        if let Some(logits) = logits {
            self.trunk_complete(j, logits);
        }
        true
    }

    /// Let the empty sequence `trunk` begin with the longest cached prefix of `tokens`. Returns how many tokens
    /// it shares, and the distribution after them if they are all and it is known; without it the last token is
    /// left to be computed.
    fn fork_cached(&mut self, trunk: Seq, tokens: &[Token]) -> (usize, Option<Vec<f32>>) {
        let whole = self.backend.recurrent();
        let Some((entry, shared)) = self.cache.longest(tokens, whole) else { return (0, None) };
        let exact = shared == tokens.len() && entry.tokens.len() == shared;
        let logits = if exact { entry.logits.clone() } else { None };
        let keep = if logits.is_some() { shared } else { shared.min(tokens.len() - 1) };
        let (seq, held) = (entry.seq, entry.tokens.len());
        if keep == 0 || (whole && held > keep) {
            return (0, None);
        }
        self.backend.fork(seq, trunk);
        if held > keep && !self.backend.truncate(trunk, keep as u32) {
            self.backend.truncate(trunk, 0);
            return (0, None);
        }
        (keep, logits)
    }

    /// Give sequences back, their cells with them.
    pub(super) fn release(&mut self, seqs: impl IntoIterator<Item = Seq>) {
        for seq in seqs {
            self.backend.truncate(seq, 0);
            self.free.insert(seq);
        }
    }

    /// End one sample, once.
    pub(super) fn finish(&mut self, j: usize, s: usize, reason: FinishReason) {
        let job = &mut self.jobs[j];
        let each = job.cells_per_sample();
        let sample = &mut job.samples[s];
        if sample.finished.is_some() {
            return;
        }
        sample.finished = Some(reason.clone());
        sample.grammar = None;
        let tail = sample.watch.finish();
        let seq = sample.seq.take();
        let (id, sample) = (job.id, sample.index);
        job.cells = job.cells.saturating_sub(each);
        if seq.is_none() {
            job.promised = job.promised.saturating_sub(1);
        }
        self.release(seq);
        self.outbox.push(Event::SampleDone { id, sample, reason, tail });
    }

    /// End all samples of a request; a score ends with its answer.
    pub(super) fn finish_all(&mut self, j: usize, reason: &FinishReason) {
        for s in 0..self.jobs[j].samples.len() {
            self.finish(j, s, reason.clone());
        }
        let id = self.jobs[j].id;
        if let Purpose::Score = self.jobs[j].purpose {
            self.outbox.push(Event::Scored { id, logprobs: Err(format!("{reason:?}")) });
            self.end_score(j);
        }
    }

    /// Forget a score that has been answered. The job stays, inert, until [`Self::reap`].
    pub(super) fn end_score(&mut self, j: usize) {
        let trunk = self.jobs[j].trunk.take();
        self.release(trunk.map(|t| t.seq));
        self.jobs[j].purpose = Purpose::Answered;
    }

    /// Let finished requests go.
    pub(super) fn reap(&mut self) {
        let cpu_s = self.clock.cpu_s();
        for j in (0..self.jobs.len()).rev() {
            if !self.jobs[j].is_over() {
                continue;
            }
            let mut job = self.jobs.remove(j);
            self.release(job.trunk.take().map(|t| t.seq));
            if let Purpose::Generate(_) = job.purpose {
                let mut usage = job.usage;
                if let Some(first) = job.first_token {
                    usage.first_token_ms = (first - job.admitted).as_secs_f64() * 1e3;
                    usage.decode_ms = (job.last_token - first).as_secs_f64() * 1e3;
                }
                usage.cpu_s = cpu_s - job.cpu_s_before;
                self.outbox.push(Event::Done { id: job.id, usage });
            }
        }
    }
}
