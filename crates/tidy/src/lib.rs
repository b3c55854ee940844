//! Empty on purpose: the checks are in `tests/`.
