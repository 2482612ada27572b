//! Data sets: records of a path or bytes, a label and a group, read by index and never decoded here.
//!
//! One file per format or data set; the file of a data set is also its card.

pub mod fashion_mnist;
pub mod folder;
pub mod idx;
pub mod record;
pub mod registry;

pub use record::{Record, Records, Source, Subset};
pub use registry::open;
