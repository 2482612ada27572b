//! From configuration to objects: which encoder, which method. The structs here are both the keys of a file
//! and the Rust interface.

mod encoder;
mod method;

pub use encoder::{Architecture, EncoderConfig};
pub use method::{Method, MethodConfig};
