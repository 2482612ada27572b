//! Masked patches (PatchTST, Nie et al. 2023, arXiv 2211.14730, section 3.2): a share of the patches of each channel is
//! set to 0, and one linear layer paints them from what the network makes of the others.
//!
//! ```text
//! L = sum over masked patches of mean((pred - x)^2) / (number of masked patches)
//! ```
//!
//! Patches are those of the standardised channel, so a prediction of 0 is its mean. The weights do not tell channels
//! apart; a mask is drawn for each.

use crate::encoder::PatchTst;
use candle_core::Tensor;
use selfsup_core::nn::Linear;
use selfsup_core::objective::gauge::GAIN_OVER_MEAN;
use selfsup_core::objective::{Gauge, Views, pooled_spread};
use selfsup_core::{Encoder, Error, Init, Loss, Objective, Params, Pass, Result, Scope};
use serde::{Deserialize, Serialize};

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaskedPatchesConfig {
    /// Share of the patches of each channel that are masked.
    pub mask_ratio: f64,
}

impl Default for MaskedPatchesConfig {
    fn default() -> Self {
        MaskedPatchesConfig { mask_ratio: 0.4 }
    }
}

selfsup_core::embeddings! {
    /// The patches that the linear layer paints, and those of the input.
    pub struct Painted {
        /// Predicted patches `(N, C, L, P)`.
        graph made: Tensor,
        /// The patches of the input `(N, C, L, P)`.
        fixed target: Tensor,
        /// 1 where a patch was masked, `(N, C, L)`.
        fixed mask: Tensor,
        /// Mean of the patches' representations, `(N, C D)`.
        fixed pooled: Tensor,
    }
}

/// The method.
pub struct MaskedPatches {
    config: MaskedPatchesConfig,
    params: Params,
    encoder: PatchTst,
    head: Linear,
}

impl MaskedPatches {
    /// The method around an encoder that was built at `encoder` of `scope`; the linear layer is at `head.linear`.
    ///
    /// # Errors
    /// If the share leaves no patch on one side.
    pub fn new(scope: &Scope, encoder: PatchTst, config: MaskedPatchesConfig) -> Result<Self> {
        let (l, ratio) = (encoder.config().patches(), config.mask_ratio);
        let masked = masked(l, ratio);
        if !(ratio > 0.0 && ratio < 1.0) || masked == 0 || masked == l {
            return Err(Error::config(format!(
                "method.mask_ratio = {ratio} masks {masked} of {l} patches: expected some of them, and not all"
            )));
        }
        let c = encoder.config();
        let head = Linear::new(&scope.sub("head.linear").top(), c.dim, c.patch, true, Init::Normal(0.02))?;
        Ok(MaskedPatches { config, params: scope.params().clone(), encoder, head })
    }

    /// The encoder.
    pub fn network(&self) -> &PatchTst {
        &self.encoder
    }

    /// Paints `patches (N, C, L, P)` where `mask (N, C, L)` is 1: patches of the same shape, and the representation
    /// `(N, C, L, D)`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn paint(&self, patches: &Tensor, mask: &Tensor, pass: &Pass) -> Result<(Tensor, Tensor)> {
        let encoded = self.encoder.encode(patches, Some(mask), pass)?;
        Ok((self.head.forward(&encoded, pass)?, encoded))
    }
}

/// Masked ones of `l` patches.
fn masked(l: usize, ratio: f64) -> usize {
    l - (l as f64 * (1.0 - ratio)) as usize
}

/// The mean squared error of the masked patches: of `made` and `target (N, C, L, P)` where `mask (N, C, L)` is 1. A
/// scalar.
///
/// # Errors
/// If shapes differ.
pub fn masked_mse(made: &Tensor, target: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let each = (made - target)?.sqr()?.mean(3)?;
    let mask = mask.to_dtype(each.dtype())?;
    let count = mask.sum_all()?.maximum(1.0)?;
    Ok((each * mask)?.sum_all()?.div(&count)?)
}

impl Objective for MaskedPatches {
    type Batch = Views;
    type Embeddings = Painted;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.encoder
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Painted> {
        let x = batch
            .globals
            .first()
            .ok_or_else(|| Error::input("batch", "masked patches need a view of each sample"))?;
        let target = self.encoder.patches(x, None)?;
        let (n, c, l, _) = target.dims4()?;
        let count = masked(l, self.config.mask_ratio);
        let mut drawn = vec![0f32; n * c * l];
        for (i, channel) in drawn.chunks_exact_mut(l).enumerate() {
            let mut rng = pass.sample_key("masked-patches", i / c).fold((i % c) as u64).rng();
            rng.permutation(l).into_iter().take(count).for_each(|p| channel[p] = 1.0);
        }
        let mask = Tensor::from_vec(drawn, (n, c, l), x.device())?;
        let (made, encoded) = self.paint(&target, &mask, pass)?;
        let pooled = encoded.detach().mean(2)?.reshape((n, ()))?;
        Ok(Painted { made: made.to_dtype(target.dtype())?, target, mask, pooled })
    }

    fn criterion(&self, e: &Painted, _pass: &Pass) -> Result<Loss> {
        Ok(masked_mse(&e.made, &e.target, &e.mask)?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    /// How much better than the mean of the channel, and the spread of the features.
    fn gauges(&self, e: &Painted, _pass: &Pass) -> Result<Vec<Gauge>> {
        let own = masked_mse(&e.made.detach(), &e.target, &e.mask)?.to_scalar::<f32>()?;
        let flat = masked_mse(&e.target.zeros_like()?, &e.target, &e.mask)?.to_scalar::<f32>()?;
        let gain = if flat > 0.0 { 1.0 - f64::from(own) / f64::from(flat) } else { 0.0 };
        Ok(vec![Gauge::plain(GAIN_OVER_MEAN, gain), pooled_spread(&e.pooled)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn masked_patches_count() {
        assert_eq!((masked(6, 0.5), masked(10, 0.4), masked(3, 0.4)), (3, 4, 2));
        let of = |v: &[f32]| Tensor::from_slice(v, (1, 1, 2, 2), &Device::Cpu).unwrap();
        let mask = Tensor::new(&[[[1f32, 0.0]]], &Device::Cpu).unwrap();
        let loss = masked_mse(&of(&[1.0, 2.0, 9.0, 9.0]), &of(&[0.0, 4.0, 0.0, 0.0]), &mask).unwrap();
        assert_eq!(loss.to_scalar::<f32>().unwrap(), 2.5);
    }
}
