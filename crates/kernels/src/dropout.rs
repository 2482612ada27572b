//! dropout.
