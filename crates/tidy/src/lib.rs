//! The house rules, kept by a test and not by memory: `cargo test -p qeil-tidy`.
//!
//! Empty on purpose: the rules and the test of each rule are in `tests/house.rs` and the folder beside it.
