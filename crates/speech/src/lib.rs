//! Speech encoders, audio decoding and recipes.

pub mod batch;
