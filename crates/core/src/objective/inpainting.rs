//! Context encoders (Pathak et al. 2016, "Context Encoders: Feature Learning by Inpainting", arXiv
//! 1604.07379): blocks of the view are painted over; encoder and decoder give back what was there.
//!
//! ```text
//! L = mean over samples of sum_p w_p |F(x without the region)_p - x_p|^2 / (C sum_p w_p)
//! w = 1 in the region, border_weight in a band of visible pixels around it, 0 elsewhere
//! ```
//!
//! The region is a union of random blocks, the paper's better choice: a centre square teaches features of its
//! border. The band asks that what is painted goes on from what is seen. Left out: the paper's adversarial
//! loss, of weight 0.001, which sharpens the picture and has little part in the features; its square has the
//! overlap inside of the region, ours outside. The encoder keeps no skips to the decoder.

use super::gauge::GAIN_OVER_MEAN;
use super::mae::view;
use super::{
    BuildEncoder, Gauge, Loss, Method, Needs, Networks, Objective, OverViews, Picture, Views, Wanted, boxed,
    masks,
};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::nn::PixelDecoder;
use crate::params::Params;
use crate::pass::Pass;
use crate::scope::Scope;
use candle_core::{D, Tensor};
use selfsup_kernels::rng::Rng;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InpaintingConfig {
    /// Share of the view that is painted over, at least (the paper's 0.25).
    pub region: f64,
    /// Smallest and largest side of a block, as a share of the view's.
    pub block: [f64; 2],
    /// Width of the band around the region in pixels; by default that of the paper, 7 of 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub border: Option<usize>,
    /// Weight of the band (the paper's 10).
    pub border_weight: f64,
    /// Channels of the decoder's first step; halved with every doubling of the resolution.
    pub decoder_dim: usize,
}

impl Default for InpaintingConfig {
    fn default() -> Self {
        InpaintingConfig {
            region: 0.25,
            block: [0.125, 0.375],
            border: None,
            border_weight: 10.0,
            decoder_dim: 128,
        }
    }
}

impl InpaintingConfig {
    fn check(&self) -> Result<()> {
        if !(self.region > 0.0 && self.region <= 0.75) {
            return Err(Error::config(format!(
                "method.region = {}: expected a share above 0 and at most 0.75",
                self.region
            )));
        }
        let [low, high] = self.block;
        if !(low > 0.0 && low <= high && high <= 0.5) {
            return Err(Error::config(format!(
                "method.block = [{low}, {high}]: expected two shares above 0 and at most 0.5, the smaller first"
            )));
        }
        if !(self.border_weight >= 0.0 && self.border_weight.is_finite()) {
            return Err(Error::config(format!(
                "method.border_weight = {}: expected a number of at least 0",
                self.border_weight
            )));
        }
        Ok(())
    }

    /// The region of a view of `sizes`: blocks until they cover their share.
    fn region(&self, sizes: &[usize], rng: &mut Rng) -> Vec<bool> {
        let l: usize = sizes.iter().product();
        let enough = ((self.region * l as f64).ceil() as usize).clamp(1, l);
        let (mut hidden, mut covered) = (vec![false; l], 0);
        while covered < enough {
            let [low, high] = self.block.map(|s| s as f32);
            let sides: Vec<usize> = sizes
                .iter()
                .map(|s| ((rng.range_f32(low, high) * *s as f32).round() as usize).clamp(1, *s))
                .collect();
            for p in masks::block(sizes, &masks::start(sizes, &sides, rng), &sides) {
                covered += usize::from(!std::mem::replace(&mut hidden[p], true));
            }
        }
        hidden
    }

    /// The weight of each pixel, of sum 1.
    fn weights(&self, sizes: &[usize], region: &[bool]) -> Vec<f32> {
        let default =
            || (sizes.iter().min().copied().unwrap_or(0) as f64 * 7.0 / 128.0).round().max(1.0) as usize;
        let near = dilated(sizes, region, self.border.unwrap_or_else(default));
        let of = |(inside, near): (&bool, bool)| match (inside, near) {
            (true, _) => 1.0,
            (false, true) => self.border_weight,
            _ => 0.0,
        };
        let weights: Vec<f64> = region.iter().zip(near).map(of).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|w| (w / sum) as f32).collect()
    }
}

/// What is at most `by` pixels away from `region`, along each axis in turn.
fn dilated(sizes: &[usize], region: &[bool], by: usize) -> Vec<bool> {
    let mut near = region.to_vec();
    for axis in 0..sizes.len() {
        let step: usize = sizes[axis + 1..].iter().product();
        let length = sizes[axis];
        for line in (0..near.len()).filter(|p| (p / step).is_multiple_of(length)) {
            let at = |i: usize| line + i * step;
            let was: Vec<bool> = (0..length).map(|i| near[at(i)]).collect();
            let mut last: Option<usize> = None;
            for (i, inside) in was.iter().enumerate() {
                if *inside {
                    last = Some(i);
                }
                near[at(i)] = last.is_some_and(|l| i - l <= by);
            }
            last = None;
            for i in (0..length).rev() {
                if was[i] {
                    last = Some(i);
                }
                near[at(i)] |= last.is_some_and(|l| l - i <= by);
            }
        }
    }
    near
}

crate::embeddings! {
    /// What the decoder paints, and what was there. All are channels-last.
    pub struct Restored {
        /// The painted view `(N, S.., C)`.
        graph made: Tensor,
        /// The view `(N, S.., C)`.
        fixed target: Tensor,
        /// The weight of each pixel, of sum 1 over a sample, `(N, S..)`.
        fixed weights: Tensor,
        /// 1 in the region, `(N, S..)`.
        fixed region: Tensor,
        /// Mean of the encoder's map, `(N, D)`.
        fixed pooled: Tensor,
    }
}

/// The method.
pub struct Inpainting {
    config: InpaintingConfig,
    params: Params,
    encoder: Box<dyn Encoder>,
    decoder: PixelDecoder,
}

impl Inpainting {
    /// Builds the encoder at `encoder` and the decoder at `decoder`, for views of `channels`.
    ///
    /// # Errors
    /// If the encoder cannot be built or does not say its stride, or the configuration is not possible.
    pub fn new(
        scope: &Scope,
        build: &BuildEncoder,
        channels: usize,
        config: InpaintingConfig,
    ) -> Result<Self> {
        config.check()?;
        let encoder = build(&scope.sub("encoder"))?;
        let d = scope.sub("decoder").top();
        let decoder = PixelDecoder::new(&d, encoder.as_ref(), config.decoder_dim, channels)?;
        Ok(Inpainting { config, params: scope.params().clone(), encoder, decoder })
    }
}

/// `sum_p w_p mean_c (made - target)^2`, mean over the samples.
fn weighted_error(made: &Tensor, target: &Tensor, weights: &Tensor) -> Result<Tensor> {
    let n = made.dim(0)? as f64;
    let each = (made - target.to_dtype(made.dtype())?)?.sqr()?.mean(D::Minus1)?; // (N, S.., C) -> (N, S..)
    Ok(((each * weights.to_dtype(made.dtype())?)?.sum_all()? / n)?)
}

impl OverViews for InpaintingConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Plain
    }

    /// No class token is trained towards anything.
    fn needs(&self) -> Needs {
        Needs { mean_pool: true, ..Needs::default() }
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        let build = |s: &Scope| networks.encoder(s);
        Ok(boxed(Inpainting::new(scope, &build, networks.channels(), self.clone())?))
    }

    fn shrink(&mut self) {
        self.decoder_dim = 4;
    }
}

impl Objective for Inpainting {
    type Batch = Views;
    type Embeddings = Restored;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Restored> {
        let x = view(batch, "in-painting")?;
        let (n, sizes) = (x.dim(0)?, x.dims()[2..].to_vec());
        let (mut regions, mut weights) = (Vec::new(), Vec::new());
        for i in 0..n {
            let region = self.config.region(&sizes, &mut pass.sample_key("inpainting", i).rng());
            weights.extend(self.config.weights(&sizes, &region));
            regions.extend(region.iter().map(|r| f32::from(u8::from(*r))));
        }
        let shape: Vec<usize> = [&[n], &sizes[..]].concat();
        let weights = Tensor::from_vec(weights, shape.clone(), x.device())?;
        let region = Tensor::from_vec(regions, shape, x.device())?.to_dtype(x.dtype())?;
        // Views have mean 0: the region gets the mean of the data.
        let left = x.broadcast_mul(&region.affine(-1.0, 1.0)?.unsqueeze(1)?)?;
        let map = self.encoder.map(&left, pass)?;
        let made = self.decoder.forward(&map, &sizes, pass)?;
        let order: Vec<usize> = [0].into_iter().chain(2..x.rank()).chain([1]).collect();
        let target = x.permute(order)?.contiguous()?; // (N, C, S..) -> (N, S.., C)
        let pooled = map.detach().flatten(1, map.rank() - 2)?.mean(1)?;
        Ok(Restored { made, target, weights, region, pooled })
    }

    fn criterion(&self, e: &Restored, _pass: &Pass) -> Result<Loss> {
        Ok(weighted_error(&e.made, &e.target, &e.weights)?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    /// How much better than the mean of what is seen in each sample, and the spread of the features.
    fn gauges(&self, e: &Restored, _pass: &Pass) -> Result<Vec<Gauge>> {
        let rows = |t: &Tensor| -> Result<Tensor> { Ok(t.flatten(1, t.rank() - 2)?) }; // (N, S.., C) -> (N, L, C)
        let seen = e.region.affine(-1.0, 1.0)?.flatten_from(1)?.unsqueeze(2)?; // (N, L, 1)
        let target = rows(&e.target)?;
        let count = (seen.sum_keepdim(1)? + 1e-6)?;
        let mean = target.broadcast_mul(&seen)?.sum_keepdim(1)?.broadcast_div(&count)?;
        let flat = mean.broadcast_as(target.shape())?.contiguous()?.reshape(e.target.shape())?;
        let of = |made: &Tensor| -> Result<f64> {
            Ok(f64::from(
                weighted_error(made, &e.target, &e.weights)?
                    .to_dtype(candle_core::DType::F32)?
                    .to_scalar::<f32>()?,
            ))
        };
        let (own, constant) = (of(&e.made)?, of(&flat)?);
        let gain = if constant > 0.0 { 1.0 - own / constant } else { 0.0 };
        Ok(vec![Gauge::plain(GAIN_OVER_MEAN, gain), super::pooled_spread(&e.pooled)?])
    }

    /// The view, the view without the region, and with what is painted there.
    fn pictures(&self, batch: &Views, pass: &Pass) -> Result<Vec<Picture>> {
        let (x, e) = (view(batch, "in-painting")?, self.embed(batch, pass)?);
        let axes = x.rank() - 2;
        let order: Vec<usize> = [0, axes + 1].into_iter().chain(1..=axes).collect();
        let made = e.made.permute(order)?.contiguous()?; // (N, S.., C) -> (N, C, S..)
        let region = e.region.unsqueeze(1)?;
        let left = x.broadcast_mul(&region.affine(-1.0, 1.0)?)?;
        let filled = (&left + made.broadcast_mul(&region)?)?;
        Ok(vec![Picture::new("target", x), Picture::new("input", &left), Picture::new("prediction", &filled)])
    }

    fn may_skip(&self) -> Vec<String> {
        self.encoder.may_skip().into_iter().map(|name| format!("encoder.{name}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use selfsup_kernels::rng::Key;

    #[test]
    fn regions_cover_their_share() {
        let config = InpaintingConfig::default();
        for sizes in [vec![28, 28], vec![8, 8, 8], vec![224, 64]] {
            let l: usize = sizes.iter().product();
            for seed in 0..20 {
                let region = config.region(&sizes, &mut Key::new(seed).rng());
                let covered = region.iter().filter(|r| **r).count() as f64 / l as f64;
                // The last block may go beyond by its own size.
                assert!((0.25..0.4).contains(&covered), "{sizes:?} {covered}");
                let weights = config.weights(&sizes, &region);
                assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-3);
            }
        }
    }

    /// One pixel in the middle of 5 x 5: the band of one pixel has eight of weight 10.
    #[test]
    fn the_border_counts_ten_times() -> Result<()> {
        let mut region = vec![false; 25];
        region[12] = true;
        let config = InpaintingConfig { border: Some(1), ..InpaintingConfig::default() };
        let weights = config.weights(&[5, 5], &region);
        assert_eq!(weights.iter().filter(|w| **w > 0.0).count(), 9);
        assert!((weights[12] - 1.0 / 81.0).abs() < 1e-7 && (weights[6] - 10.0 / 81.0).abs() < 1e-7);
        assert_eq!(
            dilated(&[1, 7], &[false, false, false, true, false, false, false], 2),
            [false, true, true, true, true, true, false]
        );
        // Two channels, off by 1 and by 3 where all weight is: (1 + 9) / 2.
        let made = Tensor::new(&[[[1f32, 3.0], [7.0, 7.0]]], &Device::Cpu)?;
        let target = made.zeros_like()?;
        let error = weighted_error(&made, &target, &Tensor::new(&[[1f32, 0.0]], &Device::Cpu)?)?;
        assert_eq!(error.to_scalar::<f32>()?, 5.0);
        Ok(())
    }
}
