//! Evaluation of representations: weighted kNN, linear probes, metrics, clustering, collapse and the probe
//! report.
//!
//! Everything here works on plain `f32` feature matrices ([`Features`], [`Matrix`]) and `u32` labels, so
//! features of any modality, or features that another program wrote, are evaluated alike. Results have the
//! same bits for any number of threads: work is split by shape, and partial sums are added in a fixed order.
//!
//! ```
//! use selfsup_eval::{Matrix, knn::{KnnConfig, classify}};
//! let train = Matrix::new(vec![1.0, 0.0, 0.0, 1.0], 2, 2)?;
//! let test = Matrix::new(vec![0.9, 0.1], 1, 2)?;
//! let votes = classify(train.view(), &[0, 1], test.view(), 2, &KnnConfig { k: 1, ..KnnConfig::default() })?;
//! assert_eq!(votes.predictions, [0]);
//! # Ok::<(), selfsup_core::Error>(())
//! ```

pub mod collapse;
mod data;
pub mod detection;
pub mod episodes;
pub mod groups;
pub mod kmeans;
pub mod knn;
pub mod linear;
mod math;
pub mod metrics;
pub mod ood;
mod product;
pub mod projection;
pub mod protocol;
pub mod search;
pub mod segmentation;
pub mod text;

pub use collapse::{CollapseReport, Verdict};
pub use data::{Features, Matrix, Means};
pub use knn::KnnConfig;
pub use linear::{LinearProbe, LogisticConfig};
pub use protocol::{EvalInput, FeatureSet, ProbeReport, evaluate};
pub use selfsup_core::{Error, Key, Result};
