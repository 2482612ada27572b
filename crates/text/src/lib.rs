//! Text encoders, tokenizers and recipes.

pub mod batch;
pub mod encoder;
pub mod export;
pub mod fill;
pub mod folder;
pub mod generate;
mod head;
pub mod hf;
pub mod mask;
pub mod method;
pub mod metrics;
pub mod names;
pub mod recipe;
pub mod task;
pub mod tokenizer;
