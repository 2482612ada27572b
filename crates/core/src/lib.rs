//! The core of selfsup, self-supervised pre-training on candle: parameters, layers, losses, methods,
//! optimisers, the data loader, checkpoints and the training loop.
//!
//! It is for those who write a method, an encoder or a kind of data of their own. Who trains on images, text,
//! speech or volumes starts at `selfsup-vision`, `selfsup-text`, `selfsup-speech` or `selfsup-medical`, whose
//! preludes hold this crate's; who wants a command, at `selfsup`.
//!
//! - An [`Objective`] maps a batch to embeddings, and embeddings to a loss. The [`trainer`] makes
//!   micro-batches, exact resumption and several processes of it, whatever the method. SimCLR, BYOL, MoCo,
//!   VICReg, MAE and others are in [`objective`]; their losses are functions in [`loss`].
//! - An [`Encoder`] maps a batch to features. Layers ([`nn`]) ask a [`Scope`] for their tensors by name;
//!   [`Params`] owns all that outlives a step. A network of candle-nn is an encoder through [`Foreign`].
//! - A [`data::Dataset`], a [`data::Transform`] and a [`data::Collate`] make a [`data::Loader`], whose
//!   batches are the same for any number of threads.
//! - [`weights`] reads files of other libraries, [`checkpoint`] and [`run`] hold a run on the disk.
//!
//! A loss of one's own, with its gradient: two views of four samples attract, and their features spread.
//!
//! ```
//! use selfsup_core::prelude::*;
//!
//! embeddings! { struct Pair { graph a: Tensor, graph b: Tensor, } }
//!
//! let scope = Scope::root(&Params::new(), 0, &Device::Cpu);
//! let layer = Linear::new(&scope.sub("encoder"), 8, 4, true, Init::TorchLinear)?;
//! let pass = Pass::train(0, Progress::default());
//! let view = |seed| -> Result<Tensor> {
//!     let mut rng = Key::new(seed).rng();
//!     Ok(Tensor::from_vec((0..32).map(|_| rng.normal()).collect::<Vec<_>>(), (4, 8), &Device::Cpu)?)
//! };
//! let pair = Pair { a: layer.forward(&view(1)?, &pass)?, b: layer.forward(&view(2)?, &pass)? };
//! let loss = loss::nt_xent(&pair.a, &pair.b, 0.5)?;
//! let grads = loss.backward()?;
//! let weight = scope.params().get("encoder.weight").expect("the layer made it");
//! assert_eq!(grads.get(&weight.var).expect("it is trained").dims(), [4, 8]);
//! # Ok::<(), Error>(())
//! ```
//!
//! A whole training stands at [`trainer::train`]; a method on images, in 40 lines, in `selfsup-vision`'s
//! example `own_objective`. `docs/ARCHITECTURE.md` tells how a step runs, `docs/adding-a-method.md` how a
//! method joins the command, `docs/adding-an-encoder.md` how to write an encoder.

pub mod checkpoint;
pub mod cluster;
pub mod config;
pub mod conformance;
pub mod data;
pub mod device;
pub mod encoder;
pub mod error;
pub mod file;
#[cfg(feature = "candle-nn")]
pub mod foreign;
pub mod guard;
pub mod hub;
pub mod init;
pub mod linalg;
pub mod loss;
pub mod network;
pub mod nn;
pub mod objective;
pub mod optim;
pub mod params;
pub mod pass;
pub mod plan;
pub mod prelude;
pub mod recipe;
pub mod run;
pub mod schedule;
pub mod scope;
pub mod sha256;
pub mod signal;
pub mod trainer;
pub mod weights;
pub mod world;

#[cfg(feature = "candle-nn")]
pub use candle_nn;
pub use encoder::{Encoder, Features, Layer, TokenEncoder};
pub use error::{Error, Result};
#[cfg(feature = "candle-nn")]
pub use foreign::{AsModule, Foreign};
pub use init::Init;
pub use objective::{Gauge, Loss, Objective, Views};
pub use params::{Param, Params, Place, Role, Weight};
pub use pass::{Deferred, Pass, Progress};
pub use scope::{Buffer, Scope};
pub use selfsup_kernels as kernels;
pub use selfsup_kernels::rng::{Key, Rng};
pub use world::World;
