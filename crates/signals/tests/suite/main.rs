//! Tests of the crate from the outside, in one binary.
#![allow(clippy::unwrap_used)] // tests

mod damage;
mod encoders;
mod methods;
