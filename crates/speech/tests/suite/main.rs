//! Tests of the crate from the outside, in one binary.
#![allow(clippy::unwrap_used)] // tests

mod decoding;
mod encoders;
mod folders;
mod hubert_plan;
mod learns;
mod methods;
mod riff;
mod whole;
