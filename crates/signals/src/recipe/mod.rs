//! `[method]` and `[encoder]` of signals.

mod encoder;
mod method;

pub use encoder::{Architecture, DilatedKeys, EncoderConfig, PatchKeys, ResNetKeys};
pub use method::{METHODS, Method, MethodConfig};
