//! Tests of the crate from the outside, in one binary.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // tests; the child of `memory` tells its peak

mod encoders;
#[cfg(target_os = "linux")]
mod memory;
mod methods;
mod samples;
