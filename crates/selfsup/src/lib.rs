//! Self-supervised pre-training in Rust on candle.
//!
//! This crate is the facade: it re-exports the libraries and holds what the `selfsup` command does. Depend on
//! `selfsup-vision` and `selfsup-core` alone if you only train.
//!
//! ```no_run
//! use selfsup::verbs::pretrain::{Request, run};
//! run(Request { data: Some("photos".into()), method: Some("simclr".into()), ..Request::default() })?;
//! # Ok::<(), selfsup::Error>(())
//! ```

pub mod config;
pub mod copies;
pub mod cost;
pub mod curve;
pub mod draft;
pub mod evaluate;
pub mod geometry;
pub mod grouping;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod keys_test;
#[cfg(all(test, feature = "vision"))]
#[allow(clippy::unwrap_used)]
mod loop_keys_test;
pub mod modality;
pub mod online;
pub mod plan;
pub mod recipe;
#[cfg(all(
    test,
    feature = "vision",
    feature = "text",
    feature = "speech",
    feature = "medical",
    feature = "signals"
))]
#[allow(clippy::unwrap_used)]
mod reference_test;
pub mod registry;
pub mod robustness;
pub mod say;
pub mod screen;
pub mod set;
pub mod task;
pub mod uncertainty;
pub mod unlabelled;
pub mod verbs;
pub mod verdict;

pub use selfsup_core as core;
pub use selfsup_core::{Error, Result};
pub use selfsup_datasets as datasets;
pub use selfsup_eval as eval;
pub use selfsup_kernels as kernels;
#[cfg(feature = "medical")]
pub use selfsup_medical as medical;
#[cfg(feature = "signals")]
pub use selfsup_signals as signals;
#[cfg(feature = "speech")]
pub use selfsup_speech as speech;
#[cfg(feature = "text")]
pub use selfsup_text as text;
#[cfg(feature = "vision")]
pub use selfsup_vision as vision;
