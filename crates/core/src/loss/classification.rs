//! Cross entropies over class scores: labelled rows, masked and causal language models, and CTC.

use super::check::Check;
use crate::Result;
use crate::kernels::{self, Path};
use candle_core::{D, DType, Tensor};

/// The label of a row that is not counted.
pub const IGNORED: i64 = -100;
