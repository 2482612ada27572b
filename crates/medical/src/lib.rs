//! Volumes: DICOM, NIfTI, NRRD and MetaImage, encoders in three dimensions and recipes of self-supervised
//! pre-training, on candle.
//!
//! For programs that pre-train on scans without labels, segment or classify them. This crate is enough: its
//! [`prelude`] holds that of `selfsup-core`, candle's tensor included.
//!
//! - [`read`] turns files into a [`Volume`] on a grid of RAS+, [`write`](mod@write) writes it back; geometry
//!   is never guessed, and no message names a patient.
//! - [`blocks`] draws patches, of volumes larger than memory too; [`transform`] and [`augment`] change them.
//! - [`encoder`] has U-Nets (MONAI's among them), residual networks and vision transformers, and decoders.
//! - [`recipe`] builds encoders and methods from the keys of a configuration file: Models Genesis,
//!   super-resolution, and every method over views (SimCLR, BYOL, MoCo, MAE ...).
//! - [`method`] has segmentation; [`sliding`] labels whole volumes.
//!
//! A U-Net on a NIfTI, pre-trained by restoring corrupted patches:
//!
//! ```
//! use selfsup_medical::prelude::*;
//!
//! # let dir = tempfile::tempdir().map_err(|e| Error::io("a temporary folder", e))?;
//! # let run = dir.path().join("genesis");
//! let volume = read::volume("../../datasets/samples/mni152/t1_2mm.nii.gz", &ReadConfig::default())?;
//! let config = TrainConfig { epochs: 1, batch_size: 2, workers: 0, ..TrainConfig::default() };
//! let augment = AugmentConfig { size: [16; 3], ..AugmentConfig::default() };
//! let genesis = MethodConfig::named("genesis")?;
//! let batches = genesis.loader(vec![volume], 4, &augment, &config)?;
//!
//! let unet = EncoderConfig::from(UNetKeys { widths: Some(vec![4, 8]), ..UNetKeys::default() });
//! let unet = unet.resolve(augment.size, genesis.needs())?;
//! let scope = Scope::root(&Params::new(), config.seed, &Device::Cpu);
//! let method = genesis.build(&scope, &unet)?;
//! let summary = train(&*method, &batches, &config, &OptimConfig::default(), &run)?;
//! assert_eq!(summary.steps, 2);
//! # Ok::<(), Error>(())
//! ```
//!
//! The example `unet_nifti` is a whole program; `docs/library.md` lists more, `docs/medical-formats.md` says
//! what is read and refused. The command is in `selfsup`.

pub mod augment;
pub mod blocks;
pub mod corrupt;
pub mod data;
pub mod encoder;
pub mod export;
pub mod grid;
pub mod image;
pub mod method;
pub mod names;
mod per_axis;
pub mod prelude;
pub mod read;
pub mod recipe;
pub mod sliding;
pub mod transform;
pub mod volume;
pub mod window;
pub mod write;

pub use blocks::{BlockCache, Foreground, PatchConfig, Patches, RandomPatch, Scan};
pub use grid::{Affine, Grid, Stored};
pub use image::{Image, Plane, SliceImages};
pub use read::{NotFinite, ReadConfig, Slices};
pub use selfsup_core;
pub use volume::Volume;
pub use window::Window;
