//! T5's relative positions: the distance of key and query, in buckets, decides a learned number that is added
//! to the scores of a head.
//!
//! Half of the buckets are exact distances, the others grow logarithmically up to `max_distance`; an encoder
//! uses one half for keys before the query and the other for keys behind it. One table serves all blocks of a
//! stack (Raffel et al. 2020, arXiv 1910.10683, section 2.1).

use candle_core::{Device, Tensor};
use selfsup_core::{Init, Pass, Result, Scope, Weight};

/// The bucket of a key `offset` places behind (negative: before) its query.
pub fn bucket(offset: i64, two_sided: bool, buckets: usize, max_distance: usize) -> usize {
    let (side, first) =
        if two_sided { (buckets / 2, if offset > 0 { buckets / 2 } else { 0 }) } else { (buckets, 0) };
    // One-sided: keys behind the query are hidden by causality anyway.
    let distance = if two_sided { offset.unsigned_abs() } else { (-offset).max(0) as u64 } as usize;
    let exact = side / 2;
    if distance < exact {
        return first + distance;
    }
    // In f32, as transformers computes it: the edges of the buckets depend on the rounding.
    let ratio = (distance as f32 / exact as f32).ln() / (max_distance as f64 / exact as f64).ln() as f32;
    first + (exact + (ratio * (side - exact) as f32) as usize).min(side - 1)
}

/// The table of one stack.
#[derive(Clone, Debug)]
pub struct RelativePositions {
    weight: Weight,
    heads: usize,
    two_sided: bool,
    max_distance: usize,
}

impl RelativePositions {
    /// A table `(buckets, heads)`.
    ///
    /// # Errors
    /// If the name is taken by a tensor of another shape.
    pub fn new(
        scope: &Scope,
        buckets: usize,
        heads: usize,
        two_sided: bool,
        max_distance: usize,
        init: Init,
    ) -> Result<Self> {
        Ok(RelativePositions {
            weight: scope.get("weight", (buckets, heads), init)?,
            heads,
            two_sided,
            max_distance,
        })
    }

    /// The bias of the last `t` of `s` places as queries against all `s` as keys: `(1, H, T, S)`, with a
    /// graph.
    ///
    /// # Errors
    /// If the device refuses it.
    pub fn bias(&self, t: usize, s: usize, device: &Device, pass: &Pass) -> Result<Tensor> {
        let weight = self.weight.on(pass)?;
        let buckets = weight.dim(0)?;
        let ids: Vec<u32> = (s - t..s)
            .flat_map(|query| (0..s).map(move |key| key as i64 - query as i64))
            .map(|offset| bucket(offset, self.two_sided, buckets, self.max_distance) as u32)
            .collect();
        let rows = weight.index_select(&Tensor::from_vec(ids, t * s, device)?, 0)?;
        // (T S, H) -> (1, H, T, S)
        Ok(rows.t()?.contiguous()?.reshape((1, self.heads, t, s))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Values of transformers' `T5Attention._relative_position_bucket`.
    #[test]
    fn known_buckets() {
        let two = |o| bucket(o, true, 32, 128);
        assert_eq!(
            [-200, -20, -9, -8, -7, -1, 0, 1, 7, 8, 9, 12, 20, 200].map(two),
            [15, 10, 8, 8, 7, 1, 0, 17, 23, 24, 24, 25, 26, 31]
        );
        let one = |o| bucket(o, false, 32, 128);
        assert_eq!([-200, -40, -16, -15, -1, 0, 5].map(one), [31, 23, 16, 15, 1, 0, 0]);
    }

    proptest! {
        #[test]
        fn buckets_exist_and_grow_with_distance(offset in -4000_i64..4000, two_sided: bool) {
            let b = |o| bucket(o, two_sided, 32, 128);
            prop_assert!(b(offset) < 32);
            if offset <= 0 {
                prop_assert!(b(offset - 1) >= b(offset));
            } else if two_sided {
                prop_assert!(b(offset + 1) >= b(offset) && b(offset) >= 16);
            }
        }
    }
}
