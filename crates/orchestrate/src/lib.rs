//! Real workers under the control loop of `qeil-control`: a thin async shell.
