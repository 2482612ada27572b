//! From configuration to objects: which encoder, which method. The structs here are both the keys of a file
//! and the Rust interface.

mod encoder;
mod loader;
mod method;

pub use encoder::{Architecture, EncoderConfig, MonaiKeys, ResNet3dKeys, UNetKeys, ViT3dKeys};
pub use loader::{PatchLoader, PatchViews};
pub use method::{Method, MethodConfig};
