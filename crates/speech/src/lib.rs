//! Speech encoders, audio decoding and recipes.

pub mod audio;
pub mod batch;
pub mod encoder;
pub mod features;
pub mod finetune;
pub mod hubert_plan;
pub mod mask;
pub mod methods;
pub mod names;
pub mod recipe;
