//! weight_norm.
