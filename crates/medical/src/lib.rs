//! Medical images (DICOM, NIfTI, NRRD), 3-D encoders and recipes.

pub mod augment;
pub mod blocks;
pub mod data;
pub mod encoder;
pub mod export;
pub mod grid;
pub mod image;
pub mod method;
pub mod names;
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
pub use volume::Volume;
pub use window::Window;
