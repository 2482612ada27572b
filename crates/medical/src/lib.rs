//! Medical images (DICOM, NIfTI, NRRD), 3-D encoders and recipes.

pub mod encoder;
pub mod grid;
pub mod names;
pub mod transform;
pub mod read;
pub mod volume;
pub mod window;

pub use grid::{Affine, Grid, Stored};
pub use read::{NotFinite, ReadConfig, Slices};
pub use volume::Volume;
pub use window::Window;
