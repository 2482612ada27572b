//! Picking frames out of a padded batch: the hidden ones, utterance after utterance.

use candle_core::{DType, Tensor};
use selfsup_core::{Error, Result};

/// Where the picked frames of one utterance lie among all picked ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splice {
    /// The first.
    pub start: usize,
    /// How many.
    pub len: usize,
}

/// Frames picked from `(N, L)`, in order.
#[derive(Clone, Debug)]
pub struct Rows {
    flat: Vec<u32>,
    counts: Vec<usize>,
}

impl Rows {
    /// The frames at which `mask (N, L)` is not 0.
    ///
    /// # Errors
    /// If the mask has another rank.
    pub fn of(mask: &Tensor) -> Result<Self> {
        let mask: Vec<Vec<f32>> = mask.to_dtype(DType::F32)?.to_vec2()?;
        Ok(Self::picked(mask.iter().map(|row| row.iter().map(|v| *v != 0.0).collect()).collect()))
    }

    /// The frames that are true in each row; rows have the same length.
    pub fn picked(rows: Vec<Vec<bool>>) -> Self {
        let width = rows.first().map_or(0, Vec::len);
        let mut out = Rows { flat: Vec::new(), counts: Vec::new() };
        for (i, row) in rows.iter().enumerate() {
            let before = out.flat.len();
            out.flat.extend(row.iter().enumerate().filter(|(_, p)| **p).map(|(t, _)| (i * width + t) as u32));
            out.counts.push(out.flat.len() - before);
        }
        out
    }

    /// How many are picked.
    pub fn len(&self) -> usize {
        self.flat.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.flat.is_empty()
    }

    /// How many of each utterance.
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// Their places in `(N L)`.
    pub fn flat(&self) -> &[u32] {
        &self.flat
    }

    /// Where those of each utterance lie.
    pub fn splices(&self) -> impl Iterator<Item = Splice> + '_ {
        self.counts.iter().scan(0, |at, &len| {
            let start = *at;
            *at += len;
            Some(Splice { start, len })
        })
    }

    /// An error if there is none.
    ///
    /// # Errors
    /// If there is none.
    pub fn some(&self) -> Result<()> {
        if self.is_empty() {
            return Err(Error::input(
                "batch",
                "no hidden frame in it: every wave is shorter than a span of the mask; use longer waves",
            ));
        }
        Ok(())
    }

    /// Picks from `(N, L, D)`: `(M, D)`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn take(&self, x: &Tensor) -> Result<Tensor> {
        let (n, l, d) = x.dims3()?;
        let flat = Tensor::from_slice(&self.flat, self.flat.len(), x.device())?;
        Ok(x.reshape((n * l, d))?.index_select(&flat, 0)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn picks_in_order() {
        let mask = Tensor::new(&[[1u8, 0, 1], [0, 0, 0], [0, 1, 0]], &Device::Cpu).unwrap();
        let rows = Rows::of(&mask).unwrap();
        assert_eq!((rows.flat(), rows.counts()), ([0, 2, 7].as_slice(), [2, 0, 1].as_slice()));
        let splices: Vec<Splice> = rows.splices().collect();
        assert_eq!(
            splices,
            [Splice { start: 0, len: 2 }, Splice { start: 2, len: 0 }, Splice { start: 2, len: 1 }]
        );
        let x = Tensor::arange(0f32, 9.0, &Device::Cpu).unwrap().reshape((3, 3, 1)).unwrap();
        assert_eq!(rows.take(&x).unwrap().to_vec2::<f32>().unwrap(), [[0.0], [2.0], [7.0]]);
        assert!(Rows::picked(vec![vec![false]]).some().unwrap_err().to_string().contains("no hidden frame"));
    }
}
