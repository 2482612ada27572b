//! One process.

use super::collective::Collective;
use crate::error::Result;
use candle_core::Tensor;

/// The only rank there is.
#[derive(Debug)]
pub(super) struct Single;

impl Collective for Single {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn exchange(&self, x: &Tensor) -> Result<Vec<Tensor>> {
        Ok(vec![x.detach()])
    }
}
