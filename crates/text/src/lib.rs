//! Text encoders, tokenizers and recipes.

pub mod batch;
pub mod conll;
pub mod corpus;
pub mod encoder;
pub mod export;
pub mod fill;
pub mod folder;
pub mod generate;
mod head;
pub mod hf;
mod json;
pub mod mask;
pub mod method;
pub mod metrics;
pub mod names;
pub mod pairs;
pub mod recipe;
pub mod squad;
pub mod task;
pub mod tokenizer;
