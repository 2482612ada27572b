//! Restoration: a network sees a corrupted patch and gives back the patch as it was,
//!
//! ```text
//! loss = mean_v |f(corrupt(x))_v - x_v|^q,   q = 2 (or 1)
//! ```
//!
//! What `corrupt` does is the method: see [`genesis`](super::genesis) and [`superres`](super::superres). The
//! corrupted patch is made where patches are loaded, from the sample's own generator, so the first view of a
//! batch is the input and the second the target.

use crate::encoder::Dense;
use candle_core::Tensor;
use selfsup_core::objective::{Gauge, GaugeInfo, Loss, Objective, Picture, Views};
use selfsup_core::{Encoder, Error, Params, Pass, Result, Scope, loss};
use selfsup_kernels::pool::global_avg_pool;
use serde::{Deserialize, Serialize};

/// Distance of the restored from the original patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RestorationLoss {
    /// Mean squared error.
    #[default]
    Mse,
    /// Mean absolute error, which blurs less.
    L1,
}

/// Below this share of their variance, patches are given to the network nearly as they were.
const CORRUPTED: f64 = 1e-3;

static INFO: [GaugeInfo; 1] = [GaugeInfo::new("corruption", "change of the corrupted patch, as a share of the variance")
    .too_low(
        "nothing is corrupted, or the patches are empty: giving the input back is the whole task",
        "the probabilities of the corruption under [method]; patches that lie inside the body (selfsup data inspect)",
    )];

/// The objective.
pub struct Restoration {
    params: Params,
    net: Dense,
    loss: RestorationLoss,
}

impl Restoration {
    /// Around a network whose encoder is at `encoder` and decoder at `decoder` of `scope`, with as many
    /// outputs as the volumes have channels.
    pub fn new(scope: &Scope, net: Dense, loss: RestorationLoss) -> Self {
        Restoration { params: scope.params().clone(), net, loss }
    }

    /// The loss of patches against the originals.
    fn error(&self, made: &Tensor, original: &Tensor) -> Result<Tensor> {
        match self.loss {
            RestorationLoss::Mse => loss::mse(made, original),
            RestorationLoss::L1 => loss::l1(made, original),
        }
    }

    /// What the network makes of `x (N, C, D, H, W)`: `(N, C, D, H, W)`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn restore(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        Ok(self.net.forward(x, pass)?.0.permute((0, 4, 1, 2, 3))?.contiguous()?)
    }
}

selfsup_core::embeddings! {
    /// What the network restores, and what it should have. All maps are `(N, D, H, W, C)`.
    pub struct Restored {
        /// The restored patch.
        graph made: Tensor,
        /// The patch as it was.
        fixed target: Tensor,
        /// Mean of the coarsest map of the encoder, `(N, D)`.
        fixed pooled: Tensor,
        /// The corrupted patch.
        fixed input: Tensor,
    }
}

impl Objective for Restoration {
    type Batch = Views;
    type Embeddings = Restored;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.net.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Restored> {
        let ([corrupted], Some(original)) = (batch.globals.as_slice(), &batch.targets) else {
            let got = batch.globals.len();
            return Err(Error::input(
                "batch",
                format!(
                    "restoration needs one corrupted view of each patch and the original, got {got} views"
                ),
            ));
        };
        if corrupted.dims() != original.dims() {
            return Err(Error::input(
                "batch",
                format!(
                    "corrupted {:?} and original {:?}: expected one shape",
                    corrupted.dims(),
                    original.dims()
                ),
            ));
        }
        let (made, map) = self.net.forward(corrupted, pass)?;
        let target = crate::encoder::channels_last(original, made.dim(4)?)?;
        let input = crate::encoder::channels_last(corrupted, made.dim(4)?)?;
        Ok(Restored { made, target, pooled: global_avg_pool(&map.detach())?, input })
    }

    fn criterion(&self, e: &Restored, _pass: &Pass) -> Result<Loss> {
        Ok(self.error(&e.made, &e.target)?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    /// How much better than the best constant: `1 - mse / variance` of the originals, 1 for perfect
    /// restoration. How much better than giving the corrupted patch back as it is: `1 - loss / loss of the
    /// input`. How much was corrupted, as a share of the variance. And the spread of the features.
    fn gauges(&self, e: &Restored, _pass: &Pass) -> Result<Vec<Gauge>> {
        let (made, original) = (&e.made, &e.target);
        let number = |t: Tensor| -> Result<f64> { Ok(f64::from(t.to_scalar::<f32>()?)) };
        let mse = number((made - original)?.sqr()?.mean_all()?)?;
        let mean = original.mean_all()?;
        let variance = number(original.broadcast_sub(&mean)?.sqr()?.mean_all()?)?;
        let explained = if variance > 0.0 { 1.0 - mse / variance } else { 0.0 };
        let (loss, copied) = (number(self.error(made, original)?)?, number(self.error(&e.input, original)?)?);
        let gain = if copied > 0.0 { 1.0 - loss / copied } else { 0.0 };
        let pooled = &e.pooled;
        let spread = number(pooled.broadcast_sub(&pooled.mean_keepdim(0)?)?.sqr()?.mean_all()?)?.sqrt();
        let corruption =
            if variance > 0.0 { number((&e.input - original)?.sqr()?.mean_all()?)? / variance } else { 0.0 };
        Ok(vec![
            Gauge::plain("explained_variance", explained),
            Gauge::plain("gain_over_input", gain),
            Gauge::above("corruption", corruption, CORRUPTED),
            Gauge::plain("feature_sd", spread).of_rows(pooled),
        ])
    }

    fn gauge_info(&self) -> &'static [GaugeInfo] {
        &INFO
    }

    /// The patch, the corrupted patch and the restored one.
    fn pictures(&self, batch: &Views, pass: &Pass) -> Result<Vec<Picture>> {
        let e = self.embed(batch, pass)?;
        let view = |t: &Tensor| -> Result<Tensor> { Ok(t.permute((0, 4, 1, 2, 3))?.contiguous()?) };
        Ok(vec![
            Picture::new("target", &view(&e.target)?),
            Picture::new("input", &view(&e.input)?),
            Picture::new("prediction", &view(&e.made)?),
        ])
    }
}
