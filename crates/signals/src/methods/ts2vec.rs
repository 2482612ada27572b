//! TS2Vec (Yue et al. 2022, arXiv 2106.10466): a step of a series has one representation, in whatever context
//! it is seen.
//!
//! Two overlapping crops of each series go through the encoder, each with half of its steps hidden behind the
//! projection. On the steps that both crops have, the representations are contrasted between the series of the
//! batch and between the steps of each, at all scales of time ([`crate::loss`]).
//!
//! The length of the overlap and the crops around it are drawn once a step of training, where the crops start
//! in a series is drawn for each, as the authors do. They average the weights over all steps for encoding; we
//! take the last ones.

use crate::encoder::Dilated;
use crate::encoder::largest;
use crate::loss::hierarchical;
use candle_core::Tensor;
use selfsup_core::kernels::rng::Rng;
use selfsup_core::objective::{Gauge, Views, embedding_std, views_match};
use selfsup_core::{Encoder, Error, Loss, Objective, Params, Pass, Result, Scope};
use serde::{Deserialize, Serialize};

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ts2VecConfig {
    /// Weight of the contrast between series; that between the steps of a series has the rest.
    pub alpha: f64,
    /// Share of the steps that are hidden behind the projection.
    pub mask: f32,
    /// Halvings of time before steps are contrasted; 0 for all scales.
    pub temporal_unit: usize,
}

impl Default for Ts2VecConfig {
    fn default() -> Self {
        Ts2VecConfig { alpha: 0.5, mask: 0.5, temporal_unit: 0 }
    }
}

impl Ts2VecConfig {
    fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.alpha) || !(0.0..1.0).contains(&self.mask) || self.temporal_unit > 30 {
            return Err(Error::config(format!(
                "method.alpha = {}, method.mask = {}, method.temporal_unit = {}: expected shares of at most 1 and a \
                 number of halvings of at most 30",
                self.alpha, self.mask, self.temporal_unit
            )));
        }
        Ok(())
    }
}

/// The crops of a step: `first` and `second` reach around the overlap, to the left and to the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    /// Start of the first crop, whose end is that of the overlap.
    early: usize,
    /// Start of the overlap and of the second crop.
    left: usize,
    /// End of the overlap.
    right: usize,
    /// End of the second crop.
    late: usize,
}

impl Cut {
    /// A random cut of series of `length` steps, with an overlap of at least `shortest`.
    fn draw(length: usize, shortest: usize, rng: &mut Rng) -> Self {
        let overlap = shortest + rng.below(length - shortest + 1);
        let left = rng.below(length - overlap + 1);
        let right = left + overlap;
        Cut { early: rng.below(left + 1), left, right, late: right + rng.below(length - right + 1) }
    }

    /// How far a series may shift the cut to the left and to the right: a random place among these.
    fn shift(self, length: usize, rng: &mut Rng) -> isize {
        rng.below(self.early + length - self.late + 1) as isize - self.early as isize
    }
}

selfsup_core::embeddings! {
    /// The representations of the steps that two crops share, `(N, L, D)` each.
    pub struct Crops {
        /// In the crop that reaches to the left.
        graph a: Tensor,
        /// In the crop that reaches to the right.
        graph b: Tensor,
    }
}

/// The method.
pub struct Ts2Vec {
    config: Ts2VecConfig,
    params: Params,
    encoder: Dilated,
}

/// Where the second crop's samples stand in a step: dropout then draws other values than for the first.
const SECOND: u64 = 1 << 32;

impl Ts2Vec {
    /// The method around an encoder that was built at `encoder` of `scope`.
    ///
    /// # Errors
    /// Naming the key that is out of range.
    pub fn new(scope: &Scope, encoder: Dilated, config: Ts2VecConfig) -> Result<Self> {
        config.check()?;
        Ok(Ts2Vec { config, params: scope.params().clone(), encoder })
    }

    /// The steps `from..to` of each series of `x (N, C, T)`, shifted by its own `shifts`; half of them hidden.
    fn crop(
        &self,
        x: &Tensor,
        (from, to): (usize, usize),
        shifts: &[isize],
        name: &str,
        pass: &Pass,
    ) -> Result<Tensor> {
        let length = to - from;
        let rows: Vec<Tensor> = shifts
            .iter()
            .enumerate()
            .map(|(i, shift)| x.narrow(0, i, 1)?.narrow(2, from.saturating_add_signed(*shift), length))
            .collect::<candle_core::Result<_>>()?;
        let keep: Vec<f32> = (0..shifts.len())
            .flat_map(|i| {
                let mut rng = pass.sample_key(name, i).rng();
                (0..length).map(move |_| f32::from(u8::from(!rng.chance(self.config.mask))))
            })
            .collect();
        let keep = Tensor::from_vec(keep, (shifts.len(), length), x.device())?;
        self.encoder.steps(&Tensor::cat(&rows, 0)?, Some(&keep), pass)
    }
}

impl Objective for Ts2Vec {
    type Batch = Views;
    type Embeddings = Crops;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.encoder
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Crops> {
        let x = batch
            .globals
            .first()
            .ok_or_else(|| Error::input("batch", "TS2Vec needs a view of each sample"))?;
        let (n, _, t) = x.dims3()?;
        let shortest = 2usize << self.config.temporal_unit;
        if t < shortest {
            return Err(Error::input(
                "batch",
                format!("series of {t} steps: TS2Vec needs at least {shortest} (augment.length)"),
            ));
        }
        let cut = Cut::draw(t, shortest, &mut pass.key("ts2vec.cut").rng());
        let shifts: Vec<isize> =
            (0..n).map(|i| cut.shift(t, &mut pass.sample_key("ts2vec.shift", i).rng())).collect();
        let overlap = cut.right - cut.left;
        let a = self.crop(x, (cut.early, cut.right), &shifts, "ts2vec.mask.a", pass)?;
        let second = pass.at(pass.offset + SECOND);
        let b = self.crop(x, (cut.left, cut.late), &shifts, "ts2vec.mask.b", &second)?;
        Ok(Crops {
            a: a.narrow(1, cut.left - cut.early, overlap)?.contiguous()?,
            b: b.narrow(1, 0, overlap)?.contiguous()?,
        })
    }

    fn criterion(&self, e: &Crops, _pass: &Pass) -> Result<Loss> {
        let parts = hierarchical(&e.a, &e.b, self.config.alpha, self.config.temporal_unit)?;
        Loss::sum(vec![("instance", parts.instance), ("temporal", parts.temporal)])
    }

    fn gauges(&self, e: &Crops, _pass: &Pass) -> Result<Vec<Gauge>> {
        let (a, b) = (largest(&e.a.detach())?, largest(&e.b.detach())?);
        let mut gauges = vec![embedding_std(&a)?];
        gauges.extend(views_match(&a, &b)?);
        Ok(gauges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Key;

    #[test]
    fn crops_stay_inside_and_overlap() {
        for seed in 0..500 {
            let mut rng = Key::new(seed).rng();
            let (length, shortest) = (2 + rng.below(40), 2);
            let cut = Cut::draw(length, shortest, &mut rng);
            assert!(cut.early <= cut.left && cut.left + shortest <= cut.right && cut.right <= cut.late);
            assert!(cut.late <= length);
            let shift = cut.shift(length, &mut rng);
            assert!(cut.early as isize + shift >= 0 && cut.late as isize + shift <= length as isize);
        }
    }

    #[test]
    fn keys_out_of_range_are_refused() {
        for config in [
            Ts2VecConfig { alpha: 1.5, ..Ts2VecConfig::default() },
            Ts2VecConfig { mask: 1.0, ..Ts2VecConfig::default() },
            Ts2VecConfig { temporal_unit: 99, ..Ts2VecConfig::default() },
        ] {
            assert!(config.check().unwrap_err().to_string().contains("method.alpha"));
        }
    }
}
