//! What most programs take from here, candle's tensor and device among it: `use selfsup_core::prelude::*;`.
//! The preludes of the modality crates hold it too.

pub use crate::checkpoint::save_safetensors;
pub use crate::data::{Collate, Dataset, LoadedBatch, Loader, LoaderConfig, Source, Transform};
pub use crate::embeddings;
pub use crate::encoder::{Encoder, Features, Layer, TokenEncoder};
pub use crate::error::{Error, Result};
#[cfg(feature = "candle-nn")]
pub use crate::foreign::{AsModule, Foreign};
pub use crate::init::Init;
pub use crate::loss;
pub use crate::nn::{self, Linear};
pub use crate::objective::{
    BarlowTwins, BarlowTwinsConfig, Batch, Byol, ByolConfig, Gauge, IJepa, IJepaConfig, Inpainting,
    InpaintingConfig, Jigsaw, JigsawConfig, Loss, Mae, MaeConfig, MoCo, MoCoConfig, MoCoV3, MoCoV3Config,
    Objective, Picture, RelativePosition, RelativePositionConfig, Rotation, RotationConfig, SimClr,
    SimClrConfig, SimMim, SimMimConfig, SimSiam, SimSiamConfig, VicReg, VicRegConfig, Views, boxed,
};
pub use crate::optim::{OptimConfig, OptimKind};
pub use crate::params::{Params, Role};
pub use crate::pass::{Pass, Progress};
pub use crate::run::Run;
pub use crate::scope::Scope;
pub use crate::trainer::{Observer, Summary, TrainConfig, Trainer, train};
pub use crate::weights;
pub use candle_core::{D, DType, Device, Tensor};
#[cfg(feature = "candle-nn")]
pub use candle_nn;
pub use selfsup_kernels::rng::{Key, Rng};
