//! Vision: image decoding, transforms, encoders and recipes of self-supervised pre-training, on candle.
//!
//! For programs that pre-train an encoder on images without labels, continue from released weights, or embed
//! images. This crate is enough: its [`prelude`] holds that of `selfsup-core`, candle's tensor included.
//!
//! - [`ImageFolder`](folder::ImageFolder) lists the images below a folder; [`image`] decodes JPEG, PNG, WebP,
//!   TIFF, BMP and GIF.
//! - [`AugmentConfig`](augment::AugmentConfig) says how views are made; [`transform`] has the single
//!   operations.
//! - [`encoder`] has ResNets, ConvNeXt, Swin and vision transformers with torchvision's and timm's names;
//!   [`names`] reads weights of timm, torchvision and transformers (ViT, DINOv2, DINOv3, I-JEPA, ViT-MAE,
//!   ConvNeXt).
//! - [`dense`] has heads that segment images and find objects, and views that masks and boxes follow.
//! - [`recipe`] builds encoders and methods from the keys of a configuration file.
//!
//! SimCLR on a folder of images:
//!
//! ```
//! use selfsup_vision::prelude::*;
//!
//! # let dir = tempfile::tempdir().map_err(|e| Error::io("a temporary folder", e))?;
//! # let run = dir.path().join("simclr");
//! let images = ImageFolder::open("examples/images")?;
//! let config = TrainConfig { epochs: 1, batch_size: 16, workers: 0, ..TrainConfig::default() };
//! let augment = AugmentConfig { size: 16, ..AugmentConfig::default() };
//! let batches = images.loader(augment.views(Wanted::Joint(2), 3, MAX_PIXELS)?, &config)?;
//!
//! let network = ResNetKeys { depths: Some(vec![1]), widths: Some(vec![8]), ..ResNetKeys::default() };
//! let network = EncoderConfig::from(network);
//! let scope = Scope::root(&Params::new(), config.seed, &Device::Cpu);
//! let heads = SimClrConfig { hidden_dim: 32, out_dim: 16, ..SimClrConfig::default() };
//! let method = SimClr::new(&scope, &|s| network.build(s, 16), heads)?;
//!
//! let summary = train(&method, &batches, &config, &OptimConfig::default(), &run)?;
//! assert_eq!(summary.steps, 2);
//! # Ok::<(), Error>(())
//! ```
//!
//! Features of an image, from a folder with `config.json` and `model.safetensors`:
//!
//! ```
//! use selfsup_vision::prelude::*;
//!
//! let dinov2 = ViT::pretrained("../../tests/golden/models/dinov2", &Device::Cpu)?;
//! let augment = AugmentConfig { size: dinov2.config().size[0], ..AugmentConfig::default() };
//! let image = ImageFolder::open("examples/images/00.png")?;
//! let view = image.loader(augment.evaluation(3, MAX_PIXELS)?, LoaderConfig::in_order(1, 0))?;
//! for batch in view.epoch_from(0, 0)? {
//!     let features = dinov2.forward(&batch?.batch.globals[0], None, &[], &Pass::eval())?.pooled;
//!     assert_eq!(features.dims(), [1, dinov2.dim()]);
//! }
//! # Ok::<(), Error>(())
//! ```
//!
//! The examples `pretrain_simclr`, `pretrain_candle_nn`, `own_objective` and `embed_image` are whole programs;
//! `docs/library.md` lists them. Evaluation is in `selfsup-eval`, data sets by name in `selfsup-datasets`, the
//! command in `selfsup`.

pub mod augment;
pub mod corrupt;
pub mod data;
pub mod dense;
pub mod encoder;
pub mod folder;
pub mod image;
mod levels;
pub mod maps;
pub mod method;
pub mod names;
mod png;
pub mod prelude;
mod pretrained;
pub mod preview;
pub mod recipe;
pub mod thumbnail;
mod tiff;
pub mod transform;

pub use pretrained::FromReleased;
pub use selfsup_core;
