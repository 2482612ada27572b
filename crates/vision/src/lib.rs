//! Vision: image decoding, transforms, encoders and recipes.

pub mod augment;
pub mod data;
pub mod encoder;
pub mod image;
pub mod names;
pub mod preview;
pub mod recipe;
pub mod transform;
