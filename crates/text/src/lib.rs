//! Text encoders, tokenizers and recipes.

pub mod batch;
