//! Options and shapes of an attention.

use crate::dropout::Dropout;

/// Options of [`attention`](super::attention).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AttentionOpts {
    /// Query `t` of `T` sees the keys `s <= t + S - T` only: the last query sees all, as when decoding with a
    /// cache. For `T = S` this is the usual triangle.
    pub causal: bool,
    /// Factor of `q k^T`; `None` is `1 / sqrt(D)`.
    pub scale: Option<f64>,
    /// Dropout of the probabilities; its share is rounded to a multiple of `1 / 65536`.
    pub dropout: Option<Dropout>,
}

impl AttentionOpts {
    /// The factor for heads of `d` numbers.
    pub(super) fn scale_for(&self, d: usize) -> f64 {
        self.scale.unwrap_or(1.0 / (d.max(1) as f64).sqrt())
    }
}

/// Shapes of one attention.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dims {
    /// Samples.
    pub(super) n: usize,
    /// Queries.
    pub(super) t: usize,
    /// Keys.
    pub(super) s: usize,
    /// Heads.
    pub(super) h: usize,
    /// Numbers per head.
    pub(super) d: usize,
}
