//! Metrics of classification, ranking, clustering and representations. Shares are in `[0, 1]`, not
//! percentages.

mod classification;
mod clustering;
mod ranking;
mod representation;

pub use classification::{
    Confusion, accuracy, expected_calibration_error, negative_log_likelihood, top_k_accuracy,
};
pub use clustering::{adjusted_rand_index, normalized_mutual_information};
pub use ranking::{auroc, average_precision, macro_auroc, macro_average_precision};
pub(crate) use representation::entropy_rank;
pub use representation::{alignment, effective_rank, linear_cka, rankme, uniformity};
