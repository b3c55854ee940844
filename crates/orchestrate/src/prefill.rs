//! A prompt computed by one engine for another.
//!
//! Two ways lead to a prompt in the decoding engine's memory: it computes the prompt itself, or another engine does and
//! the state of the sequence travels. Which is cheaper depends on both engines, the model and the prompt's length, and
//! published results disagree; so the first long prompts take both ways in turn, and the quicker one, by the median of
//! what was measured, is taken from then on. Two engines that cannot exchange a state (another backend, other settings)
//! find that out at the first try, and the prompt is computed where it is needed from then on.

use qeil_engine::handle::{EngineError, Launch, Worker};
use qeil_engine::protocol::StateSource;
use qeil_engine::request::{GenerateRequest, Prompt, Sampling, Token};
use qeil_engine::spec::LoadSpec;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Prompts measured each way before one way is chosen: the median of three forgives one that met a busy machine.
pub const TRIALS: usize = 3;
/// Latest measurements kept for each way.
const KEPT: usize = 9;
/// Prompts shorter than this stay: the two engines' requests and the copy cost more than a small prefill.
pub const PROMPT_TOKENS_MIN: usize = 64;

/// Which way a prompt took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Computed by the other engine, its state moved.
    Moved,
    /// Computed where it is needed.
    Again,
}

/// What was measured, seconds for each prompt token.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Costs {
    moved: VecDeque<f64>,
    again: VecDeque<f64>,
    /// Why no state can be moved, once that is known.
    pub refused: Option<String>,
}

impl Costs {
    /// Median seconds for each prompt token of one way.
    pub fn median(&self, way: Way) -> Option<f64> {
        let mut sorted: Vec<f64> = self.of(way).iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }

    fn of(&self, way: Way) -> &VecDeque<f64> {
        match way {
            Way::Moved => &self.moved,
            Way::Again => &self.again,
        }
    }

    /// The way of the next prompt: each in turn until both are known, then the quicker one.
    pub fn choose(&self) -> Way {
        if self.refused.is_some() {
            return Way::Again;
        }
        if self.moved.len() < TRIALS || self.again.len() < TRIALS {
            return if self.moved.len() <= self.again.len() { Way::Moved } else { Way::Again };
        }
        match (self.median(Way::Moved), self.median(Way::Again)) {
            (Some(moved), Some(again)) if moved < again => Way::Moved,
            _ => Way::Again,
        }
    }

    /// Take in what one prompt cost.
    pub fn enter(&mut self, way: Way, seconds_per_token: f64) {
        let kept = match way {
            Way::Moved => &mut self.moved,
            Way::Again => &mut self.again,
        };
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(seconds_per_token);
    }
}

/// An engine that computes prompts for one other engine.
#[derive(Debug)]
pub struct Prefiller {
    launch: Launch,
    spec: LoadSpec,
    worker: tokio::sync::Mutex<Option<Worker>>,
    costs: Mutex<Costs>,
}

impl Prefiller {
    /// Prompts computed by a worker of `spec`, which is started when the first one comes.
    pub fn new(launch: Launch, spec: LoadSpec) -> Self {
        Self { launch, spec, worker: tokio::sync::Mutex::default(), costs: Mutex::default() }
    }

    /// What was measured so far.
    pub fn costs(&self) -> Costs {
        self.costs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bring a prompt into the memory of `to`, or let it compute the prompt now; never an error, since a prompt that was
    /// not brought is computed by whoever asks for it. Returns the way it took, `None` where it stayed.
    pub async fn bring(&self, to: &Worker, prompt: &[Token]) -> Option<Way> {
        if prompt.len() < PROMPT_TOKENS_MIN {
            return None;
        }
        let way = self.costs().choose();
        let began = Instant::now();
        let done = match way {
            Way::Moved => self.carry(to, prompt).await,
            Way::Again => prefill(to, prompt).await,
        };
        let mut costs = self.costs.lock().unwrap_or_else(PoisonError::into_inner);
        match done {
            // A prompt that was in a cache already says nothing about the cost of the next.
            Ok(reused) if reused * 2 > prompt.len() => {}
            Ok(_) => costs.enter(way, began.elapsed().as_secs_f64() / prompt.len() as f64),
            // The two will not agree on the next prompt either.
            Err(EngineError::Import(why) | EngineError::Export(why)) => costs.refused = Some(why),
            // One of them died: the loop hears of the one that it watches, and the other is started anew.
            Err(_) => return None,
        }
        Some(way)
    }

    async fn carry(&self, to: &Worker, prompt: &[Token]) -> Result<usize, EngineError> {
        let from = self.worker().await?;
        let reused = prefill(&from, prompt).await?;
        let state = from.export(StateSource::Prefix(prompt.to_vec()), false).await?;
        to.import(&state).await?;
        Ok(reused)
    }

    async fn worker(&self) -> Result<Worker, EngineError> {
        let mut held = self.worker.lock().await;
        if let Some(worker) = held.as_ref().filter(|worker| worker.is_alive()) {
            return Ok(worker.clone());
        }
        let worker = Worker::start(&self.launch, self.spec.clone()).await?;
        Ok(held.insert(worker).clone())
    }
}

/// Compute a prompt into the prefix cache of a worker; how many of its tokens were there already.
async fn prefill(worker: &Worker, prompt: &[Token]) -> Result<usize, EngineError> {
    let request = GenerateRequest::new(Prompt::Tokens(prompt.to_vec()), 1, 0, Sampling::greedy());
    Ok(worker.generate(request).await?.collect().await?.usage.reused_tokens as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quicker_way_is_taken_once_both_are_known() {
        // (moved, again, refused, expected)
        let cases: [(&[f64], &[f64], bool, Way); 7] = [
            (&[], &[], false, Way::Moved),
            (&[1.0], &[], false, Way::Again),
            (&[1.0], &[2.0], false, Way::Moved),
            (&[1.0; 3], &[2.0; 3], false, Way::Moved),
            (&[2.0; 3], &[1.0; 3], false, Way::Again),
            (&[1.0, 1.0, 90.0], &[2.0; 3], false, Way::Moved),
            (&[1.0; 3], &[2.0; 3], true, Way::Again),
        ];
        for (moved, again, refused, expected) in cases {
            let mut costs = Costs { refused: refused.then(|| "other settings".into()), ..Costs::default() };
            moved.iter().for_each(|&s| costs.enter(Way::Moved, s));
            again.iter().for_each(|&s| costs.enter(Way::Again, s));
            assert_eq!(costs.choose(), expected, "{moved:?} {again:?} {refused}");
        }
    }

    #[test]
    fn old_measurements_give_way() {
        let mut costs = Costs::default();
        (0..100).for_each(|n| costs.enter(Way::Again, f64::from(n)));
        assert_eq!((costs.again.len(), costs.median(Way::Again)), (KEPT, Some(95.0)));
    }
}
