//! The decisions of the orchestrator, apart from everything that carries them out.
//!
//! Sense, decide, act, check: [`event::Input`] is everything the loop can sense, [`event::Output`] everything it can do,
//! and between the two there is one deterministic step over time. Nothing here reads a clock, a sensor or a file, spawns
//! a task, or draws a random number that its seed does not fix; so the same inputs at the same moments give the same
//! decisions, a failing hour replays exactly, and thousands of hours pass in minutes. Real workers and simulated devices
//! stand behind the same two types.
//!
//! | module | job |
//! |---|---|
//! | [`config`] | devices, their profiles and limits; bounds of every queue |
//! | [`event`] | what goes in, what comes out |
//! | [`journal`] | a decision with its reason and the readings it was made on |
//! | [`control`] | the step from one to the other: [`Control`] |
//! | [`admission`] | who is let in, who goes first, when to come again |
//! | [`placement`] | which device a sample goes to |
//! | [`faults`] | the course of a device between gone and serving |
//! | [`health`] | how well a device does, and trends that warn |
//! | [`heat`] | the guard of a device's temperature |
//! | [`thermal`] | the first-order model of a temperature, fitted while it runs |
//! | [`sensor`] | whether a temperature sensor can be believed |
//! | `silence` | how long a device gave no sign of its work |
//! | [`speed`] | how fast a device is against its profile |
//! | [`input`] | what a text, a pattern or a grammar may not be |
//! | [`replay`] | the state of any moment, from the journal |
//! | [`view`] | what the loop shows of itself |

pub mod admission;
pub mod config;
pub mod control;
pub mod event;
pub mod faults;
pub mod health;
pub mod heat;
pub mod input;
pub mod journal;
pub mod placement;
pub mod replay;
pub mod sensor;
pub mod silence;
pub mod speed;
pub mod thermal;
pub mod view;
mod work;

pub use control::Control;
