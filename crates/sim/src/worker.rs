//! The simulated worker: which tokens a step computes.
//!
//! It batches as the real one does: requests join and leave between steps, prompts are computed in chunks while others
//! decode, and the samples of a job share their prompt. To keep an hour of virtual time cheap, steps in which nothing
//! joins, leaves or ends are taken together (a *stretch*), and their tokens reported together, as the real worker
//! bundles tokens that follow each other closely.
//!
//! A token is a number that depends on seed, request, sample and position alone, so that a sample that moved can be
//! compared with one that did not. Nothing here is text, and nothing pretends to be.

use crate::cost::{StepCost, Work, step};
use crate::machine::DeviceSpec;
use crate::shape::ModelShape;
use qeil_control::event::{JobId, RequestId, Resume};
use qeil_laws::random::word_at;

/// Seconds of steps that are taken together: longer than the real worker's 25 ms, short beside every deadline.
pub const STRETCH_S: f64 = 0.5;
/// Prompt tokens of one chunk at most, and at least: the real worker's bounds of a step.
const CHUNK_TOKENS: (u32, u32) = (16, 512);

/// Prompt tokens of one chunk at a share of full speed, where a token takes so many seconds at full speed.
pub fn chunk_tokens(speed: f64, per_token_s: f64) -> u32 {
    let (least, most) = CHUNK_TOKENS;
    ((speed * STRETCH_S / per_token_s) as u32).clamp(least, most)
}

/// The simulated token at a position of a sample.
pub fn token(seed: u64, request: RequestId, sample: u32, position: u32) -> u64 {
    word_at(word_at(seed, request.0), (u64::from(sample) << 32) | u64::from(position))
}

/// One sample on a worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slot {
    /// Which sample of the request.
    pub sample: u32,
    /// Tokens that it has, those emitted elsewhere included.
    pub position: u32,
    /// Tokens that it will have at its end.
    pub end: u32,
}

/// Some samples of one request on one worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// Of which request.
    pub request: RequestId,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens set aside for each sample.
    pub tokens_max: u32,
    /// Tokens still to be computed before it decodes: the prompt, and what its samples had emitted elsewhere.
    pub prefill_left: u32,
    /// Its samples that have not ended.
    pub slots: Vec<Slot>,
}

impl Job {
    /// A job as it is placed; `end` says how long each sample gets.
    pub fn new(
        id: JobId,
        request: RequestId,
        prompt_tokens: u32,
        tokens_max: u32,
        samples: &[Resume],
        end: impl Fn(u32) -> u32,
    ) -> Self {
        let emitted = |resume: &Resume| resume.emitted;
        Self {
            id,
            request,
            prompt_tokens,
            tokens_max,
            prefill_left: prompt_tokens
                .saturating_add(samples.iter().map(emitted).fold(0, u32::saturating_add)),
            slots: samples
                .iter()
                .map(|resume| Slot {
                    sample: resume.sample,
                    position: resume.emitted,
                    end: end(resume.sample),
                })
                .collect(),
        }
    }

    /// Tokens that it may come to hold: the prompt once, and each sample's most.
    pub fn tokens_held(&self) -> u64 {
        u64::from(self.prompt_tokens) + u64::from(self.tokens_max) * self.slots.len() as u64
    }
}

/// Steps that are computed together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// How many.
    pub steps: u32,
    /// What each costs.
    pub cost: StepCost,
    /// The chunk of a prompt that the (then only) step holds.
    pub prefill: Option<(JobId, u32)>,
}

impl Stretch {
    /// Seconds at full speed.
    pub fn seconds(&self) -> f64 {
        f64::from(self.steps) * self.cost.seconds
    }
}

/// What a stretch gave one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Emitted {
    /// Of which job.
    pub job: JobId,
    /// Of which request.
    pub request: RequestId,
    /// Which sample.
    pub sample: u32,
    /// Position of the first token.
    pub from: u32,
    /// How many.
    pub count: u32,
    /// Whether it came to its end.
    pub ended: bool,
}

/// The jobs of one worker.
#[derive(Debug, Clone, Default)]
pub struct Worker {
    jobs: Vec<Job>,
}

impl Worker {
    /// Jobs that it holds.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// Samples that it holds.
    pub fn sequences(&self) -> u32 {
        self.jobs.iter().map(|job| job.slots.len() as u32).sum()
    }

    /// Tokens that it has set aside.
    pub fn tokens_held(&self) -> u64 {
        self.jobs.iter().map(Job::tokens_held).sum()
    }

    /// Take a job.
    pub fn place(&mut self, job: Job) {
        self.jobs.push(job);
    }

    /// Take samples of a job out; those that were there.
    pub fn cancel(&mut self, id: JobId, samples: &[u32]) -> Vec<u32> {
        let Some(at) = self.jobs.iter().position(|job| job.id == id) else { return Vec::new() };
        let slots = &mut self.jobs[at].slots;
        let gone = slots.iter().map(|slot| slot.sample).filter(|sample| samples.contains(sample)).collect();
        slots.retain(|slot| !samples.contains(&slot.sample));
        if slots.is_empty() {
            self.jobs.remove(at);
        }
        gone
    }

    /// The process is gone, and everything with it.
    pub fn clear(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }

    /// What is computed next at a share of full speed; nothing where there is nothing to do. A slow device takes fewer
    /// steps together, so that its tokens are reported as often.
    pub fn plan(&self, device: &DeviceSpec, model: &ModelShape, speed: f64) -> Option<Stretch> {
        let ready = || self.jobs.iter().filter(|job| job.prefill_left == 0);
        let sequences: u32 = ready().map(|job| job.slots.len() as u32).sum();
        // Samples of a job read its prompt once: the engine's attention does so, too.
        let of_job = |job: &Job| {
            job.slots.iter().map(|slot| f64::from(slot.position)).sum::<f64>() + f64::from(job.prompt_tokens)
        };
        let context_tokens = ready().map(of_job).sum();
        let work = |prefill_tokens| Work { prefill_tokens, sequences, context_tokens };
        if let Some(job) = self.jobs.iter().find(|job| job.prefill_left > 0) {
            let most = CHUNK_TOKENS.1;
            let per_token_s = step(device, model, work(most)).seconds / f64::from(most);
            let chunk = chunk_tokens(speed, per_token_s).min(job.prefill_left);
            let cost = step(device, model, work(chunk));
            return Some(Stretch { steps: 1, cost, prefill: Some((job.id, chunk)) });
        }
        let left = ready()
            .flat_map(|job| &job.slots)
            .map(|slot| slot.end.saturating_sub(slot.position).max(1))
            .min()?;
        let cost = step(device, model, work(0));
        let steps = ((speed * STRETCH_S / cost.seconds) as u32).clamp(1, left);
        Some(Stretch { steps, cost, prefill: None })
    }

    /// A stretch is done: what each sample got. Samples at their end leave.
    pub fn finish(&mut self, stretch: &Stretch) -> Vec<Emitted> {
        let mut emitted = Vec::new();
        for job in self.jobs.iter_mut().filter(|job| job.prefill_left == 0) {
            for slot in &mut job.slots {
                let from = slot.position;
                slot.position = slot.position.saturating_add(stretch.steps).min(slot.end.max(from));
                let (count, ended) = (slot.position - from, slot.position >= slot.end);
                emitted.push(Emitted {
                    job: job.id,
                    request: job.request,
                    sample: slot.sample,
                    from,
                    count,
                    ended,
                });
            }
            job.slots.retain(|slot| slot.position < slot.end);
        }
        if let Some((id, tokens)) = stretch.prefill
            && let Some(job) = self.jobs.iter_mut().find(|job| job.id == id)
        {
            job.prefill_left = job.prefill_left.saturating_sub(tokens);
        }
        self.jobs.retain(|job| !job.slots.is_empty());
        emitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::machine;

    fn job(id: u64, prompt: u32, samples: &[(u32, u32)], end: u32) -> Job {
        let resumes: Vec<Resume> =
            samples.iter().map(|(sample, emitted)| Resume { sample: *sample, emitted: *emitted }).collect();
        Job::new(JobId(id), RequestId(id), prompt, 100, &resumes, |_| end)
    }

    #[test]
    fn every_sample_gets_each_position_once_and_ends_where_it_must() {
        let jetson = machine("jetson-orin-nano").unwrap();
        let model = ModelShape::named("Qwen2-0.5B", "Q4_0").unwrap();
        let mut worker = Worker::default();
        worker.place(job(1, 700, &[(0, 0), (1, 0)], 37));
        worker.place(job(2, 20, &[(4, 12)], 50));
        let mut next = std::collections::BTreeMap::from([((1, 0), 0), ((1, 1), 0), ((2, 4), 12)]);
        let mut ended = 0;
        for _ in 0..1000 {
            let Some(stretch) = worker.plan(&jetson.devices[1], &model, 1.0) else { break };
            assert!(stretch.steps >= 1 && stretch.seconds() > 0.0);
            for emitted in worker.finish(&stretch) {
                let expected = next.get_mut(&(emitted.request.0, emitted.sample)).unwrap();
                assert_eq!(emitted.from, *expected);
                *expected += emitted.count;
                ended += u32::from(emitted.ended);
            }
        }
        assert_eq!(ended, 3);
        assert_eq!(next.into_values().collect::<Vec<_>>(), [37, 37, 50]);
        assert!(worker.plan(&jetson.devices[1], &model, 1.0).is_none());
    }

    #[test]
    fn what_is_cancelled_emits_no_more() {
        let mut worker = Worker::default();
        worker.place(job(1, 1, &[(0, 0), (1, 0)], 9));
        assert_eq!(worker.tokens_held(), 201);
        assert_eq!(worker.cancel(JobId(1), &[1, 7]), [1]);
        assert_eq!(worker.cancel(JobId(2), &[0]), [0u32; 0]);
        assert_eq!((worker.sequences(), worker.tokens_held()), (1, 101));
        assert_eq!(worker.cancel(JobId(1), &[0]), [0]);
        assert!(worker.jobs().is_empty());
    }

    #[test]
    fn a_token_depends_on_its_place_alone() {
        let here = token(1, RequestId(2), 3, 4);
        assert_eq!(here, token(1, RequestId(2), 3, 4));
        for other in [
            token(2, RequestId(2), 3, 4),
            token(1, RequestId(3), 3, 4),
            token(1, RequestId(2), 4, 4),
            token(1, RequestId(2), 3, 5),
        ] {
            assert_ne!(here, other);
        }
    }
}
