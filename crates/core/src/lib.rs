//! The core of selfsup: parameters, layers, losses, optimisers, the data loader, checkpoints and the training
//! loop.
//!
//! A modality crate plugs in encoders and transforms; everything else is here and the same for all.

pub mod checkpoint;
pub mod cluster;
pub mod config;
pub mod conformance;
pub mod data;
pub mod device;
pub mod encoder;
pub mod error;
pub mod hub;
pub mod init;
pub mod loss;
pub mod nn;
pub mod objective;
pub mod optim;
pub mod params;
pub mod pass;
pub mod plan;
pub mod recipe;
pub mod run;
pub mod schedule;
pub mod scope;
pub mod signal;
pub mod trainer;
pub mod weights;
pub mod world;

pub use encoder::{Encoder, Features, Layer, TokenEncoder};
pub use error::{Error, Result};
pub use init::Init;
pub use objective::{Gauge, Loss, Objective, Views};
pub use params::{Param, Params, Place, Role, Weight};
pub use pass::{Deferred, Pass, Progress};
pub use scope::{Buffer, Scope};
pub use selfsup_kernels as kernels;
pub use selfsup_kernels::rng::{Key, Rng};
pub use world::World;
