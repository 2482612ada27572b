//! Released weights of timm, torchvision, transformers and the repositories of methods: their names, the
//! network that they are of, and continuing from them.
//!
//! The layout of a file is recognised by its keys (`layout`, `place`), the network by its shapes and the
//! `config.json` beside it (`stated`, `described`). Loading is strict (`load`).

mod described;
mod layout;
mod load;
mod normalisation;
mod place;
mod stated;

pub use described::Described;
pub use layout::Layout;
pub use load::{Pretrained, Released, Resized, load_pretrained, read_config};
pub use normalisation::Normalisation;
