//! Low resolution to high resolution: the view is reduced by a factor, brought back to its size and restored.
//!
//! ```text
//! L = mean_p |up(down(x)) + F(up(down(x))) - x|_p
//! ```
//!
//! "SRCNN" (Dong et al. 2014, arXiv 1501.00092), whose input is the interpolated picture too; the network
//! adds what is missing ("VDSR", Kim et al. 2016, arXiv 1511.04587), so an output of 0 is as good as
//! interpolation. The reduction is bicubic with antialiasing, the way back bilinear. Volumes have a method of
//! the same name, with a U-Net's decoder; here the decoder has no skips, so what is added has to be in the
//! features.

use candle_core::Tensor;
use selfsup_core::nn::PixelDecoder;
use selfsup_core::objective::{
    Band, Gauge, GaugeInfo, Loss, Method, Needs, Networks, Objective, OverViews, Picture, Views, Wanted,
    boxed, pooled_spread,
};
use selfsup_core::{Encoder, Error, Params, Pass, Result, Scope, loss};
use selfsup_kernels::Path;
use selfsup_kernels::resize::{Resize, resize};
use serde::{Deserialize, Serialize};

/// Distance of the restored from the original view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RestorationLoss {
    /// Mean absolute error, which blurs less.
    #[default]
    L1,
    /// Mean squared error.
    Mse,
}

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SuperResolutionConfig {
    /// Smallest and largest factor that a view is reduced by, drawn for each sample.
    pub factor: [usize; 2],
    /// Distance of restored and original view: `l1` or `mse`.
    pub loss: RestorationLoss,
    /// Channels of the decoder's first step; halved with every doubling of the resolution.
    pub decoder_dim: usize,
}

impl Default for SuperResolutionConfig {
    fn default() -> Self {
        SuperResolutionConfig { factor: [2, 4], loss: RestorationLoss::L1, decoder_dim: 128 }
    }
}

static INFO: [GaugeInfo; 1] =
    [GaugeInfo::new("gain_over_input", "how much better the restored view is than interpolation, 1 at best")
        .healthy(Band::above(0.0))
        .after(0.35)
        .too_low(
            "what the network adds makes the view worse than interpolation",
            "a lower optim.lr or a longer warm-up; pictures that were not enlarged before",
        )];

impl SuperResolutionConfig {
    fn check(&self) -> Result<()> {
        let [low, high] = self.factor;
        if low < 2 || low > high || high > 32 {
            return Err(Error::config(format!(
                "method.factor = [{low}, {high}]: expected two factors from 2 to 32, the smaller first"
            )));
        }
        Ok(())
    }
}

selfsup_core::embeddings! {
    /// What the network restores, and what it should have. Views are `(N, H, W, C)`.
    pub struct Sharpened {
        /// The restored view.
        graph made: Tensor,
        /// The view.
        fixed target: Tensor,
        /// The view of low resolution, in the size of the view.
        fixed input: Tensor,
        /// Mean of the encoder's map, `(N, D)`.
        fixed pooled: Tensor,
    }
}

/// The method.
pub struct SuperResolution {
    config: SuperResolutionConfig,
    params: Params,
    encoder: Box<dyn Encoder>,
    decoder: PixelDecoder,
}

impl SuperResolution {
    /// Builds the encoder at `encoder` and the decoder at `decoder`, for views of `channels`.
    ///
    /// # Errors
    /// If the encoder cannot be built or does not say its stride, or the configuration is not possible.
    pub fn new(
        scope: &Scope,
        build: &dyn Fn(&Scope) -> Result<Box<dyn Encoder>>,
        channels: usize,
        config: SuperResolutionConfig,
    ) -> Result<Self> {
        config.check()?;
        let encoder = build(&scope.sub("encoder"))?;
        let top = scope.sub("decoder").top();
        let decoder = PixelDecoder::new(&top, encoder.as_ref(), config.decoder_dim, channels)?;
        Ok(SuperResolution { config, params: scope.params().clone(), encoder, decoder })
    }

    fn error(&self, made: &Tensor, target: &Tensor) -> Result<Tensor> {
        match self.config.loss {
            RestorationLoss::L1 => loss::l1(made, target),
            RestorationLoss::Mse => loss::mse(made, target),
        }
    }
}

/// Each sample of `x (N, H, W, C)` reduced by its factor and brought back.
fn coarse(x: &Tensor, factors: &[usize]) -> Result<Tensor> {
    let (n, h, w, _) = x.dims4()?;
    let mut all = x.clone();
    let mut seen: Vec<usize> = factors.to_vec();
    seen.sort_unstable();
    seen.dedup();
    for factor in seen {
        let small = [h.div_ceil(factor), w.div_ceil(factor)];
        let down = resize(x, &small, Resize::BicubicAntialias, Path::Auto)?;
        let up = resize(&down, &[h, w], Resize::Linear, Path::Auto)?;
        let mask: Vec<u8> = factors.iter().map(|f| u8::from(*f == factor)).collect();
        let mask = Tensor::from_vec(mask, (n, 1, 1, 1), x.device())?.broadcast_as(x.shape())?;
        all = mask.where_cond(&up, &all)?;
    }
    Ok(all)
}

impl OverViews for SuperResolutionConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Plain
    }

    /// No class token is trained towards anything.
    fn needs(&self) -> Needs {
        Needs { mean_pool: true, ..Needs::default() }
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        let build = |s: &Scope| networks.encoder(s);
        Ok(boxed(SuperResolution::new(scope, &build, networks.channels(), self.clone())?))
    }

    fn shrink(&mut self) {
        self.decoder_dim = 4;
    }
}

impl Objective for SuperResolution {
    type Batch = Views;
    type Embeddings = Sharpened;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Sharpened> {
        let x = batch
            .globals
            .first()
            .ok_or_else(|| Error::input("batch", "super-resolution needs one view, got none"))?;
        let target = x.permute((0, 2, 3, 1))?.contiguous()?; // (N, C, H, W) -> (N, H, W, C)
        let [low, high] = self.config.factor;
        let factors: Vec<usize> = (0..x.dim(0)?)
            .map(|i| low + pass.sample_key("super-resolution", i).rng().below(high - low + 1))
            .collect();
        let input = coarse(&target, &factors)?;
        let map = self.encoder.map(&input.permute((0, 3, 1, 2))?.contiguous()?, pass)?;
        let size = [target.dim(1)?, target.dim(2)?];
        let added = self.decoder.forward(&map, &size, pass)?;
        let made = (input.to_dtype(added.dtype())? + added)?;
        Ok(Sharpened { made, target, input, pooled: map.detach().flatten(1, 2)?.mean(1)? })
    }

    fn criterion(&self, e: &Sharpened, _pass: &Pass) -> Result<Loss> {
        Ok(self.error(&e.made, &e.target)?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    /// How much better than interpolation, `1 - loss / loss of the input`, and the spread of the features.
    fn gauges(&self, e: &Sharpened, _pass: &Pass) -> Result<Vec<Gauge>> {
        let number = |t: Tensor| -> Result<f64> { Ok(f64::from(t.to_scalar::<f32>()?)) };
        let (own, input) =
            (number(self.error(&e.made, &e.target)?)?, number(self.error(&e.input, &e.target)?)?);
        let gain = if input > 0.0 { 1.0 - own / input } else { 0.0 };
        Ok(vec![Gauge::plain("gain_over_input", gain), pooled_spread(&e.pooled)?])
    }

    fn gauge_info(&self) -> &'static [GaugeInfo] {
        &INFO
    }

    /// The view, the view of low resolution, and the restored one.
    fn pictures(&self, batch: &Views, pass: &Pass) -> Result<Vec<Picture>> {
        let e = self.embed(batch, pass)?;
        let view = |t: &Tensor| -> Result<Tensor> { Ok(t.permute((0, 3, 1, 2))?.contiguous()?) };
        Ok(vec![
            Picture::new("target", &view(&e.target)?),
            Picture::new("input", &view(&e.input)?),
            Picture::new("prediction", &view(&e.made)?),
        ])
    }

    fn may_skip(&self) -> Vec<String> {
        self.encoder.may_skip().into_iter().map(|name| format!("encoder.{name}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{D, Device};

    /// A flat picture survives any reduction; stripes of one pixel become gray; each sample has its factor.
    #[test]
    fn each_sample_is_reduced_by_its_factor() -> Result<()> {
        let stripes: Vec<f32> = (0..64).map(|p| if p % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let one = Tensor::from_vec(stripes, (1, 8, 8, 1), &Device::Cpu)?;
        let x = Tensor::cat(&[&one, &one.ones_like()?, &one], 0)?;
        let made = coarse(&x, &[2, 4, 4])?;
        let spread = |i: usize| -> Result<f32> {
            Ok(made.get(i)?.flatten_all()?.abs()?.max(D::Minus1)?.to_scalar::<f32>()?)
        };
        assert!(spread(0)? < 0.3 && spread(2)? < 0.3, "{} {}", spread(0)?, spread(2)?);
        let flat = made.get(1)?.flatten_all()?.to_vec1::<f32>()?;
        assert!(flat.iter().all(|v| (v - 1.0).abs() < 1e-5));
        let alone = coarse(&one, &[4])?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(made.get(2)?.flatten_all()?.to_vec1::<f32>()?, alone);
        assert!(SuperResolutionConfig { factor: [1, 2], ..Default::default() }.check().is_err());
        Ok(())
    }
}
