//! The dropout mask of attention: a function of the sample's key and the position, so that the backward draws
//! it again instead of keeping it.

use super::Dims;
use crate::dropout::Dropout;
use crate::rng::{Key, philox};
use rayon::prelude::*;

/// What folds the position of a block apart from the other uses of a key's stream.
const STREAM: u64 = 3;

/// Draws below this are dropped, of 16 random bits.
pub(super) fn threshold(share: f32) -> u32 {
    ((f64::from(share) * 65536.0).round() as u32).min(65535)
}

/// Factor of what is kept.
pub(super) fn factor(share: f32) -> f32 {
    65536.0 / (65536 - threshold(share)) as f32
}

/// The factors 0 and `1 / (1 - share)` of one row of a sample's scores, from the sample's key; rows are
/// numbered over `(H, T)`. One Philox block serves eight columns.
pub(super) fn row(share: f32, key: Key, row: usize, out: &mut [f32]) {
    let (threshold, factor) = (threshold(share), factor(share));
    for (i, out) in out.chunks_mut(8).enumerate() {
        // Rows are shorter than 2^35 elements: the row and the block share the counter.
        let bits = philox(key.bits(), STREAM, ((row as u64) << 32) | i as u64);
        for (j, o) in out.iter_mut().enumerate() {
            let draw = (bits[j / 2] >> (16 * (j % 2))) & 0xffff;
            *o = if draw < threshold { 0.0 } else { factor };
        }
    }
}

/// The factors of all scores, `(N, H, T, S)`, in parallel over their rows.
pub(super) fn mask(dropout: &Dropout, dims: &Dims) -> Vec<f32> {
    let Dims { n, t, s, h, .. } = *dims;
    let mut out = vec![0.0; n * h * t * s];
    out.par_chunks_mut(h * t * s).enumerate().for_each(|(n, out)| {
        let key = dropout.sample(n);
        out.par_chunks_mut(s).enumerate().for_each(|(i, out)| row(dropout.share, key, i, out));
    });
    out
}
