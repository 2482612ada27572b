//! Colourisation (Zhang et al. 2016, "Colorful Image Colorization", arXiv 1603.08511): which colour has each
//! place of a gray picture? A sky, grass and a face have to be known as such.
//!
//! ```text
//! L = mean over places of w(q) (-sum_k z_k log softmax(f(gray))_k)
//! w(q) = ((1 - lambda) p(q) + lambda / Q)^-1, scaled so that sum_q p(q) w(q) = 1
//! ```
//!
//! A colour is one of `Q` squares of 10 x 10 of the ab plane ([`Bins`]); the target `z` spreads a pixel over
//! its five nearest squares. Most pixels are nearly gray, so a place counts by the rarity `w` of its nearest
//! square. `p` is counted in the run itself, a running mean over the batches, kept with the parameters; the
//! authors count ImageNet once and smooth. They name 313 squares, sRGB has 260.
//!
//! The batch holds the gray view and, as its target, the colours in `[0, 1]` ([`crate::data::Colours`]).

use super::colours::{Bins, NEAREST, lab, rgb};
use candle_core::{DType, Device, Tensor};
use selfsup_core::kernels::host::floats;
use selfsup_core::kernels::host::indices;
use selfsup_core::nn::PixelDecoder;
use selfsup_core::objective::{
    Band, Gauge, GaugeInfo, Loss, Method, Needs, Networks, Objective, OverViews, Picture, Views, Wanted,
    boxed, pooled_spread,
};
use selfsup_core::scope::Buffer;
use selfsup_core::{Encoder, Error, Init, Params, Pass, Progress, Result, Scope, World};
use selfsup_kernels::Path;
use selfsup_kernels::loss::log_sum_exp;
use selfsup_kernels::resize::{Resize, resize};
use serde::{Deserialize, Serialize};

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ColourisationConfig {
    /// Side of the view over that of the predicted map; by default the paper's 4, and 2 for views of less
    /// than 128 pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reduction: Option<usize>,
    /// Share of the uniform distribution in the weights of rare colours (the paper's lambda of 0.5); 1
    /// weights all alike.
    pub rebalance: f64,
    /// Channels of the decoder's first step; halved with every doubling of the resolution.
    pub decoder_dim: usize,
}

impl Default for ColourisationConfig {
    fn default() -> Self {
        ColourisationConfig { reduction: None, rebalance: 0.5, decoder_dim: 128 }
    }
}

impl ColourisationConfig {
    fn check(&self, channels: usize) -> Result<()> {
        let bad = |key: &str, value: &dyn std::fmt::Display, expected: &str| {
            Err(Error::config(format!("method.{key} = {value}: expected {expected}")))
        };
        if channels != 3 {
            return Err(Error::config(format!(
                "encoder.channels = {channels}: colourisation learns from pictures in colour, expected 3"
            )));
        }
        if self.reduction == Some(0) {
            return bad("reduction", &0, "at least 1");
        }
        if !(self.rebalance > 0.0 && self.rebalance <= 1.0) {
            return bad("rebalance", &self.rebalance, "a share above 0 and at most 1");
        }
        Ok(())
    }

    /// Rows and columns of the predicted map for views of this size.
    fn map(&self, height: usize, width: usize) -> [usize; 2] {
        let by = self.reduction.unwrap_or(if height.min(width) >= 128 { 4 } else { 2 });
        [height.div_ceil(by), width.div_ceil(by)]
    }
}

selfsup_core::embeddings! {
    /// What is said of the colours of each place, and what they are.
    pub struct Coloured {
        /// Scores of the squares `(N, h, w, Q)`.
        graph scores: Tensor,
        /// The nearest squares of each place, the nearest first, `(N, h, w, 5)`, integers.
        fixed bins: Tensor,
        /// Their shares, `(N, h, w, 5)`.
        fixed shares: Tensor,
        /// The weight of each place, `(N, h, w)`.
        fixed weights: Tensor,
        /// Mean of the encoder's map, `(N, D)`.
        fixed pooled: Tensor,
        /// Mean distance of each sample's colours from gray, in units of a* and b*.
        host chroma: Vec<f32>,
    }
}

/// The method.
pub struct Colourisation {
    config: ColourisationConfig,
    params: Params,
    encoder: Box<dyn Encoder>,
    decoder: PixelDecoder,
    prior: Buffer,
}

/// Temperature of the mean colour in pictures: 1 is the mean, 0 the likeliest square (the paper's 0.38).
const TEMPERATURE: f64 = 0.38;

static INFO: [GaugeInfo; 1] =
    [GaugeInfo::new("chroma", "mean distance of the pictures' colours from gray, in units of a* and b*")
        .healthy(Band::above(1.0))
        .too_low(
            "the pictures are gray, so every place has the same answer",
            "pictures in colour; for gray ones another method: in-painting, MAE, or one that compares views",
        )];

/// Name of the buffer of the colours' shares.
const PRIOR: &str = "prior";

impl Colourisation {
    /// Builds the encoder at `encoder`, the decoder at `decoder` and the shares of the squares at `prior`,
    /// for encoders of `channels`.
    ///
    /// # Errors
    /// If the encoder cannot be built, takes no colours or does not say its stride, or the configuration is
    /// not possible.
    pub fn new(
        scope: &Scope,
        build: &dyn Fn(&Scope) -> Result<Box<dyn Encoder>>,
        channels: usize,
        config: ColourisationConfig,
    ) -> Result<Self> {
        config.check(channels)?;
        let (encoder, q) = (build(&scope.sub("encoder"))?, Bins::of_srgb().centres().len());
        let decoder =
            PixelDecoder::new(&scope.sub("decoder").top(), encoder.as_ref(), config.decoder_dim, q)?;
        let prior = scope.buffer(PRIOR, q, Init::Const(1.0 / q as f32))?;
        Ok(Colourisation { config, params: scope.params().clone(), encoder, decoder, prior })
    }

    fn scores(&self, x: &Tensor, pass: &Pass) -> Result<(Tensor, Tensor)> {
        let (_, _, height, width) = x.dims4()?;
        let map = self.encoder.map(x, pass)?;
        Ok((self.decoder.forward(&map, &self.config.map(height, width), pass)?, map))
    }

    /// The weight of each square.
    fn weights(&self) -> Result<Vec<f32>> {
        let prior = self.prior.tensor.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        Ok(rarity(&prior, self.config.rebalance as f32))
    }

    /// Colours of scores `(N, h, w, Q)`, a* and b* `(N, h, w, 2)`: the mean of the squares under a softmax of
    /// low temperature (the paper's annealed mean).
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn annealed_mean(&self, scores: &Tensor) -> Result<Tensor> {
        let z = (scores.detach().to_dtype(DType::F32)? / TEMPERATURE)?;
        let e = z.broadcast_sub(&z.max_keepdim(3)?)?.exp()?;
        let shares = e.broadcast_div(&e.sum_keepdim(3)?)?;
        let (n, h, w, q) = shares.dims4()?;
        let centres: Vec<f32> = Bins::of_srgb().centres().iter().flatten().copied().collect();
        let centres = Tensor::from_vec(centres, (q, 2), scores.device())?;
        Ok(shares.reshape((n * h * w, q))?.matmul(&centres)?.reshape((n, h, w, 2))?)
    }
}

/// `w(q)` of shares `p(q)`.
fn rarity(prior: &[f32], lambda: f32) -> Vec<f32> {
    let uniform = lambda / prior.len().max(1) as f32;
    let weights: Vec<f32> = prior.iter().map(|p| 1.0 / ((1.0 - lambda) * p + uniform)).collect();
    let mean: f32 = prior.iter().zip(&weights).map(|(p, w)| p * w).sum();
    weights.into_iter().map(|w| w / mean.max(f32::MIN_POSITIVE)).collect()
}

/// The gray view and the colours `(N, 3, H, W)` of a batch.
fn parts(batch: &Views) -> Result<(&Tensor, &Tensor)> {
    match (batch.globals.first(), &batch.targets) {
        (Some(x), Some(colours)) if colours.dims() == x.dims() && x.rank() == 4 && x.dim(1)? == 3 => {
            Ok((x, colours))
        }
        _ => Err(Error::input(
            "batch",
            "colourisation needs one gray view of three channels and its colours: collate with Colours",
        )),
    }
}

/// Colours on a map of `size`, `(N, h, w, 3)`.
fn reduced(colours: &Tensor, size: &[usize]) -> Result<Tensor> {
    let last = colours.permute((0, 2, 3, 1))?.contiguous()?;
    Ok(resize(&last, size, Resize::BicubicAntialias, Path::Auto)?.clamp(0f64, 1f64)?)
}

impl OverViews for ColourisationConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Plain
    }

    /// No class token is trained towards anything.
    fn needs(&self) -> Needs {
        Needs { mean_pool: true, ..Needs::default() }
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        let build = |s: &Scope| networks.encoder(s);
        Ok(boxed(Colourisation::new(scope, &build, networks.channels(), self.clone())?))
    }

    fn shrink(&mut self) {
        (self.decoder_dim, self.reduction) = (4, Some(4));
    }
}

impl Objective for Colourisation {
    type Batch = Views;
    type Embeddings = Coloured;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Coloured> {
        let (x, colours) = parts(batch)?;
        let (scores, map) = self.scores(x, pass)?;
        let (n, h, w, _) = scores.dims4()?;
        let small = reduced(colours, &[h, w])?.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let small = floats(&small)?;
        let (rarity, places) = (self.weights()?, n * h * w);
        let (mut bins, mut shares) =
            (Vec::with_capacity(places * NEAREST), Vec::with_capacity(places * NEAREST));
        let (mut weights, mut chroma) = (Vec::with_capacity(places), vec![0f32; n]);
        for (i, c) in small.chunks_exact(3).enumerate() {
            let [_, a, b] = lab([c[0], c[1], c[2]]);
            let spread = Bins::of_srgb().spread([a, b]);
            weights.push(rarity[spread[0].0]);
            chroma[i / (h * w)] += a.hypot(b) / (h * w) as f32;
            bins.extend(spread.iter().map(|s| s.0 as u32));
            shares.extend(spread.iter().map(|s| s.1));
        }
        let device = x.device();
        Ok(Coloured {
            scores,
            bins: Tensor::from_vec(bins, (n, h, w, NEAREST), device)?,
            shares: Tensor::from_vec(shares, (n, h, w, NEAREST), device)?,
            weights: Tensor::from_vec(weights, (n, h, w), device)?,
            pooled: map.detach().flatten(1, 2)?.mean(1)?,
            chroma,
        })
    }

    fn criterion(&self, e: &Coloured, _pass: &Pass) -> Result<Loss> {
        let scores = e.scores.to_dtype(DType::F32)?;
        let (n, h, w, q) = scores.dims4()?;
        let all = log_sum_exp(&scores.reshape((n * h * w, q))?, &[], Path::Auto)?; // (N h w)
        let own = (scores.gather(&e.bins.contiguous()?, 3)? * &e.shares)?.sum(3)?; // (N, h, w)
        let each = ((all.reshape((n, h, w))? - own)? * &e.weights)?;
        Ok(each.mean_all()?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    /// Counts the colours of the step: a mean over the first hundred steps, a running one afterwards.
    fn after_step(&self, e: &Coloured, progress: &Progress, world: &World) -> Result<()> {
        let q = self.prior.tensor.dim(0)?;
        let nearest = indices(&e.bins.narrow(3, 0, 1)?)?;
        let mut counts = vec![0f32; q];
        nearest.iter().for_each(|&b| counts[b as usize] += 1.0);
        let counts = Tensor::from_vec(counts, q, self.prior.tensor.device())?;
        let counts = world.all_reduce(&counts)?.detach();
        let shares = counts.broadcast_div(&counts.sum_keepdim(0)?)?;
        let rate = (1.0 / (progress.step as f64 + 1.0)).max(0.01);
        let moved = ((&self.prior.tensor * (1.0 - rate))? + (shares * rate)?)?;
        self.params.set(&self.prior.name, &moved)
    }

    /// Share of the places whose likeliest square is the right one, in percent; how colourful the pictures
    /// are, which is what they learn from: near 0 in gray ones; and the spread of the features.
    fn gauges(&self, e: &Coloured, _pass: &Pass) -> Result<Vec<Gauge>> {
        let told = indices(&e.scores.detach().argmax(3)?)?;
        let right = indices(&e.bins.narrow(3, 0, 1)?)?;
        let same = told.iter().zip(&right).filter(|(a, b)| a == b).count();
        let chroma = e.chroma.iter().map(|c| f64::from(*c)).sum::<f64>() / e.chroma.len().max(1) as f64;
        Ok(vec![
            Gauge::plain("colour_accuracy", 100.0 * same as f64 / told.len().max(1) as f64),
            Gauge::plain("chroma", chroma),
            pooled_spread(&e.pooled)?,
        ])
    }

    fn gauge_info(&self) -> &'static [GaugeInfo] {
        &INFO
    }

    /// The picture in gray, in the predicted colours (annealed mean, with the lightness of the original) and
    /// in its own.
    fn pictures(&self, batch: &Views, pass: &Pass) -> Result<Vec<Picture>> {
        let (x, colours) = parts(batch)?;
        let (n, _, height, width) = x.dims4()?;
        let ab = self.annealed_mean(&self.scores(x, pass)?.0)?;
        let ab = resize(&ab, &[height, width], Resize::Linear, Path::Auto)?;
        let ab = floats(&ab)?;
        let own = reduced(colours, &[height, width])?.flatten_all()?.to_device(&Device::Cpu)?;
        let own = own.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        let (mut made, mut gray) = (Vec::with_capacity(own.len()), Vec::with_capacity(own.len()));
        for (c, ab) in own.chunks_exact(3).zip(ab.chunks_exact(2)) {
            let [l, ..] = lab([c[0], c[1], c[2]]);
            made.extend(rgb([l, ab[0], ab[1]]));
            gray.extend(rgb([l, 0.0, 0.0]));
        }
        let whole = |v: Vec<f32>| -> Result<Tensor> {
            Ok(Tensor::from_vec(v, (n, height, width, 3), x.device())?.permute((0, 3, 1, 2))?.contiguous()?)
        };
        Ok(vec![
            Picture::unit("target", colours),
            Picture::unit("input", &whole(gray)?),
            Picture::unit("prediction", &whole(made)?),
        ])
    }

    fn may_skip(&self) -> Vec<String> {
        self.encoder.may_skip().into_iter().map(|name| format!("encoder.{name}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Flat;

    impl Encoder for Flat {
        fn forward(
            &self,
            _: &Tensor,
            _: Option<&Tensor>,
            _: &[selfsup_core::Layer],
            _: &Pass,
        ) -> Result<selfsup_core::Features> {
            Err(Error::input("encoder", "has a map only"))
        }
        fn dim(&self) -> usize {
            2
        }
        fn map(&self, x: &Tensor, _: &Pass) -> Result<Tensor> {
            Ok(Tensor::ones((x.dim(0)?, x.dim(2)? / 2, x.dim(3)? / 2, 2), DType::F32, x.device())?)
        }
        fn stride(&self) -> Vec<usize> {
            vec![2, 2]
        }
    }

    fn method(params: &Params) -> Result<Colourisation> {
        let scope = Scope::root(params, 0, &Device::Cpu);
        Colourisation::new(&scope, &|_| Ok(Box::new(Flat)), 3, ColourisationConfig::default())
    }

    /// Half of the colours are one: `1 / (0.5 * 0.5 + 0.25) = 2` and `1 / (0.5 * 0.5 + 0.25)` for two squares
    /// of equal share; of shares 1 and 0 the second is worth three of the first.
    #[test]
    fn rare_colours_count_more() {
        assert_eq!(rarity(&[0.5, 0.5], 0.5), [1.0, 1.0]);
        let weights = rarity(&[1.0, 0.0], 0.5);
        assert!((weights[0] - 1.0).abs() < 1e-6 && (weights[1] - 3.0).abs() < 1e-6, "{weights:?}");
        assert_eq!(rarity(&[0.9, 0.1], 1.0), [1.0, 1.0]);
    }

    /// Equal scores cost `log Q` at each place, whatever the colours; the prior follows them.
    #[test]
    fn the_loss_of_equal_scores_is_known() -> Result<()> {
        let params = Params::new();
        let method = method(&params)?;
        let red = Tensor::new(&[1f32, 0.0, 0.0], &Device::Cpu)?.reshape((1, 3, 1, 1))?;
        let colours = red.broadcast_as((2, 3, 8, 8))?.contiguous()?;
        let batch = Views {
            targets: Some(colours),
            ..Views::of(vec![Tensor::zeros((2, 3, 8, 8), DType::F32, &Device::Cpu)?], vec![0, 1])
        };
        let mut e = method.embed(&batch, &Pass::eval())?;
        assert_eq!(e.scores.dims(), [2, 4, 4, 260]);
        e.scores = e.scores.zeros_like()?;
        let loss = method.criterion(&e, &Pass::eval())?.value.to_scalar::<f32>()?;
        assert!((loss - 260f32.ln()).abs() < 1e-4, "{loss}");
        assert!((e.chroma[0] - 104.55).abs() < 0.1, "{:?}", e.chroma);
        method.after_step(&e, &Progress::default(), &World::default())?;
        let prior =
            params.get(PRIOR).map(|p| p.var.as_tensor().to_vec1::<f32>()).transpose()?.unwrap_or_default();
        let first = e.bins.flatten_all()?.to_vec1::<u32>()?[0] as usize;
        assert!((prior[first] - 1.0).abs() < 1e-6 && prior.iter().filter(|p| **p > 0.0).count() == 1);
        assert_eq!(method.pictures(&batch, &Pass::eval())?.len(), 3);
        Ok(())
    }

    /// A sure square is its own mean; equal ones meet in the middle.
    #[test]
    fn the_annealed_mean_follows_the_likeliest() -> Result<()> {
        let method = method(&Params::new())?;
        let centres = Bins::of_srgb().centres();
        let (i, j) = (7, 200);
        let mut scores = vec![0f32; 2 * 260];
        scores[i] = 200.0;
        (scores[260 + i], scores[260 + j]) = (200.0, 200.0);
        let scores = Tensor::from_vec(scores, (1, 1, 2, 260), &Device::Cpu)?;
        let made = method.annealed_mean(&scores)?.flatten_all()?.to_vec1::<f32>()?;
        for axis in 0..2 {
            assert!((made[axis] - centres[i][axis]).abs() < 1e-3);
            assert!((made[2 + axis] - (centres[i][axis] + centres[j][axis]) / 2.0).abs() < 1e-3);
        }
        Ok(())
    }

    #[test]
    fn gray_encoders_are_refused() {
        let config = ColourisationConfig::default();
        assert!(config.check(1).unwrap_err().to_string().contains("encoder.channels"));
        let none = ColourisationConfig { rebalance: 0.0, ..config };
        assert!(none.check(3).unwrap_err().to_string().contains("method.rebalance"));
    }
}
