//! What a model is, without running it.
//!
//! | module | job |
//! |---|---|
//! | [`gguf`] | bounded reader of GGUF metadata and tensor table; weights are never read |
//! | [`facts`] | what the metadata says: architecture, shapes, parameters, memory needs |
//! | [`mod@write`] | writer of GGUF files with made-up weights |
//! | [`catalogue`] | the models known by name, and where they come from |
//! | [`prompt`] | from a conversation to the prompt of one model |
//! | [`pull`] | download: sources in order, resumable, verified, renamed into place |
//! | [`shelf`] | the folder of pulled models; turns a name or a path into a file |
//! | [`template`] | chat templates, rendered so that text from users never becomes a control token |

pub mod catalogue;
pub mod facts;
pub mod gguf;
pub mod prompt;
pub mod pull;
pub mod shelf;
pub mod template;
pub mod write;

pub use facts::{InspectError, ModelFacts, inspect};
