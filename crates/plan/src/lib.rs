//! Which model, device, phase split and sample budget serves a goal best: exact search, no device touched.
//!
//! A plan answers one question: given what everything is known to cost, how should this kind of request be run? It is a
//! pure function of plain data ([`Problem`]), so the same data give the same plan on every machine, and a test can hold it
//! against brute force.
//!
//! | module | job |
//! |---|---|
//! | [`problem`] | models, devices, places, limits, prices; what may be chosen |
//! | [`cost`] | costs of phases, and which source counts where several speak |
//! | `rung` | all ways to draw samples of one model |
//! | `evaluate` | expected time and energy of one of them; which limits it breaks |
//! | `search` | all of them, stacked into ladders, and what may be cut without loss |
//! | [`front`] | the Pareto front of a million points |
//! | [`plan`](mod@plan) | from a problem and a goal to a front, a choice and its reasons |
//! | [`words`] | a configuration in a line |
//!
//! Nothing here assumes which phase suits which device: where costs say that a prompt is best computed where nobody would
//! expect it, that is the plan.

pub mod cost;
mod evaluate;
pub mod front;
pub mod plan;
pub mod problem;
mod rung;
mod search;
pub mod words;

pub use plan::{Candidate, Figures, Goal, Plan, plan};
pub use problem::{PlanError, Problem};
