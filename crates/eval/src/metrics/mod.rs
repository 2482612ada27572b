//! Metrics of classification, ranking, calibration, clustering, events and representations. Shares are in
//! `[0, 1]`, not percentages.

mod calibration;
mod cka;
mod classification;
mod clustering;
mod events;
mod multilabel;
mod nearest;
mod ranking;
mod representation;
mod spectrum;

pub use calibration::{brier, fit_temperature, selective_accuracy, softmax};
pub use cka::{debiased_cka, debiased_cka_in_batches, linear_cka};
pub use classification::{
    Confusion, accuracy, expected_calibration_error, negative_log_likelihood, top_k_accuracy,
};
pub use clustering::{adjusted_rand_index, normalized_mutual_information};
pub use events::Events;
pub use multilabel::MultiLabel;
pub use nearest::{TwoNn, cluster_learnability, prequential_hits, two_nn};
pub use ranking::{auroc, average_precision, macro_auroc, macro_average_precision};
pub(crate) use representation::entropy_rank;
pub use representation::{alignment, effective_rank, rankme, uniformity};
pub use spectrum::{Decay, alpha_range, alpha_req, lidar};
