//! Text encoders, tokenizers and recipes.

pub mod batch;
pub mod encoder;
mod head;
pub mod hf;
pub mod mask;
pub mod method;
pub mod names;
pub mod recipe;
