//! Objectives on volumes: restoration (Models Genesis, resolution) before there are labels, segmentation with
//! them. Masked autoencoding and the contrastive methods are core's, unchanged.

pub mod genesis;
pub mod restoration;
pub mod segment;
pub mod superres;

pub use genesis::GenesisConfig;
pub use restoration::{Restoration, RestorationLoss};
pub use segment::{Labelled, Segment, SegmentConfig};
pub use superres::SuperResolutionConfig;
