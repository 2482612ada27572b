//! What most programs take from here, with the core's prelude: `use selfsup_medical::prelude::*;`.

pub use crate::augment::AugmentConfig;
pub use crate::encoder::{
    MapDecoder, MapEncoder, ResNet3d, ResNet3dConfig, UNet, UNetConfig, ViT3d, ViT3dConfig,
};
pub use crate::grid::Grid;
pub use crate::read::{self, NotFinite, ReadConfig};
pub use crate::recipe::{
    Architecture, EncoderConfig, Method, MethodConfig, MonaiKeys, PatchLoader, ResNet3dKeys, UNetKeys,
    ViT3dKeys,
};
pub use crate::sliding::SlidingWindow;
pub use crate::transform::{self, Scale};
pub use crate::volume::Volume;
pub use crate::window::Window;
pub use selfsup_core::prelude::*;
