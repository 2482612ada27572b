//! Tests of the crate from the outside, in one binary.
#![allow(clippy::unwrap_used)] // tests

mod encoders;
mod methods;
mod released;
