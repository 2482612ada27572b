//! What most programs take from here, with the core's prelude: `use selfsup_vision::prelude::*;`.

pub use crate::FromReleased;
pub use crate::augment::{Augment, AugmentConfig, Policy};
pub use crate::data::{Collated, Colours, Content, Planes, Sample};
pub use crate::encoder::{
    ConvNeXt, ConvNeXtConfig, Pool, ResNet, ResNetConfig, Swin, SwinConfig, ViT, ViTConfig,
};
pub use crate::folder::{ImageFolder, ImageLoader};
pub use crate::image::{Image, MAX_PIXELS, Pixels};
pub use crate::names::{load_pretrained, read_config};
pub use crate::recipe::{
    Architecture, ConvNeXtKeys, EncoderConfig, Method, MethodConfig, ResNetKeys, SwinKeys, ViTKeys,
};
pub use crate::transform::{Op, Pipeline};
pub use selfsup_core::objective::{Needs, Wanted};
pub use selfsup_core::prelude::*;
