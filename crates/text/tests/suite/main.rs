//! Tests of the crate from the outside, in one binary.
#![allow(clippy::unwrap_used)] // tests

mod corpus;
mod encoders;
mod folders_lm;
mod methods;
mod released_tokenizers;
mod tokenizers;
