//! conv_transpose.
