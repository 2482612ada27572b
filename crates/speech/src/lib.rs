//! Speech encoders, audio decoding and recipes.

pub mod audio;
pub mod augment;
pub mod batch;
mod cluster_labels;
pub mod data;
pub mod encoder;
pub mod features;
pub mod finetune;
pub mod hubert_plan;
pub mod labels;
pub mod layers;
pub mod mask;
pub mod methods;
pub mod names;
pub mod probe;
pub mod recipe;
pub mod search;
pub mod transcript;
