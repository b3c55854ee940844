//! The OpenAI-compatible HTTP interface.
//!
//! Thin on purpose: what comes in is checked against strict, bounded types and becomes an [`backend::Ask`]; what the
//! backend tells becomes an answer, whole or in pieces, with the joules and the decisions beside the text. It schedules
//! nothing and knows no engine, so the whole interface is tested without one.
//!
//! | module | job |
//! |---|---|
//! | [`limits`] | bounds of everything that a client could make large, long or slow |
//! | [`body`] | from bytes to a typed request |
//! | [`ask`] | from a typed request to an ask: counts, ranges, texts, the prompt |
//! | [`text`] | the one place where text from clients is looked at |
//! | [`backend`] | what stands behind the interface |
//! | [`answer`] | from events to what the client reads |
//! | [`stream`] | following a request to its end, for a client that may stop listening |
//! | [`error`] | what a client is told instead of an answer |
//! | [`keys`] | who may ask |
//! | [`routes`] | the routes |
//! | [`phase`] | serving, draining, withdrawn |
//! | [`patience`] | a connection whose other end must keep reading |
//! | [`server`] | connections: how many, how slow, how they end |

pub mod answer;
pub mod ask;
pub mod backend;
pub mod body;
pub mod error;
pub mod keys;
pub mod limits;
pub mod patience;
pub mod phase;
pub mod routes;
pub mod server;
pub mod stream;
pub mod text;
