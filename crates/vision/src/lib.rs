//! Vision: image decoding, transforms, encoders and recipes.

pub mod encoder;
pub mod recipe;
