//! Networks of candle-nn as encoders, and our encoders as modules of candle-nn.
//!
//! [`Scope::var_builder`](crate::Scope::var_builder) hands out our parameters through candle-nn's
//! `VarBuilder`: they have names, places and roles, their first values follow from the seed and the name, and
//! they are saved, resumed, decayed and exported like all others. [`Foreign`] makes an
//! [`Encoder`](crate::Encoder) of a network that is built from it. [`AsModule`] is the way back: the
//! evaluation pass of an encoder as a `candle_nn::Module`.
//!
//! Some of candle's layers compute a wrong gradient or none, and some keep hidden state; a run with them
//! looks like a run that learns badly. `Foreign` therefore checks a network before its first training pass,
//! and refuses such layers by name with their replacement. docs/adding-an-encoder.md has a table of them.

mod backend;
mod check;
mod encoder;
mod faults;
mod module;
#[cfg(test)]
mod tests;

pub use encoder::Foreign;
pub use module::AsModule;
