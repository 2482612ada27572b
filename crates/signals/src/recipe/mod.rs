//! `[method]` and `[encoder]` of signals.

mod encoder;
mod method;

pub use encoder::{Architecture, DilatedKeys, EncoderConfig, PatchKeys, PatchTstKeys, ResNetKeys};
pub use method::{METHODS, Method, MethodConfig};
