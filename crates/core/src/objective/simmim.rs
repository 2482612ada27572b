//! SimMIM (Xie et al. 2021, arXiv 2111.09886): masked patches stay in the encoder's input as a learned token,
//! and one linear layer paints their pixels.
//!
//! ```text
//! L = sum over masked pixels of |pred - x| / (number of masked pixels)
//! ```
//!
//! Squares of `mask_unit` patches (the paper: 32 pixels) are masked together, `ceil(ratio U)` of `U` in each
//! sample. Beside MAE: the encoder sees all places, so a step costs what a forward pass of all patches costs,
//! and no decoder is thrown away. The mask token has the position of its patch; it belongs to the method and
//! not to the encoder, so the encoder is exported as any other. The reference adds 1e-5 to the divisor, we do
//! not.

use super::gauge::GAIN_OVER_MEAN;
use super::mae::{as_view, view};
use super::{
    Gauge, GaugeInfo, Loss, Method, Needs, Networks, Objective, OverViews, Picture, Views, Wanted, boxed,
    joint, masks,
};
use crate::encoder::{Encoder, TokenEncoder};
use crate::error::{Error, Result};
use crate::init::Init;
use crate::loss::masked_l1;
use crate::nn::Linear;
use crate::params::{Params, Weight};
use crate::pass::Pass;
use crate::scope::Scope;
use candle_core::Tensor;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimMimConfig {
    /// Share of the units that are masked (the paper's 0.6).
    pub mask_ratio: f64,
    /// Side of the squares that are masked together, in patches: the paper's 32 pixels are two patches of 16.
    pub mask_unit: usize,
}

impl Default for SimMimConfig {
    fn default() -> Self {
        SimMimConfig { mask_ratio: 0.6, mask_unit: 2 }
    }
}

crate::embeddings! {
    /// The patches that the linear layer paints, and those of the input.
    pub struct Filled {
        /// Predicted patches `(N, L, P)`.
        graph pixels: Tensor,
        /// The patches of the input `(N, L, P)`.
        fixed target: Tensor,
        /// 1 where a patch was masked, `(N, L)`.
        fixed mask: Tensor,
        /// Mean of the patch tokens, `(N, D)`.
        fixed pooled: Tensor,
        /// Masked patches of each sample.
        host masked: Vec<usize>,
    }
}

/// The method.
pub struct SimMim {
    config: SimMimConfig,
    params: Params,
    encoder: Box<dyn TokenEncoder>,
    mask_token: Weight,
    predict: Linear,
}

impl SimMim {
    /// Builds the encoder at `encoder`, the mask token at `mask_token` and the linear layer at `head`.
    ///
    /// # Errors
    /// If the encoder cannot be built, or the share or the unit is not possible.
    pub fn new(
        scope: &Scope,
        build: &dyn Fn(&Scope) -> Result<Box<dyn TokenEncoder>>,
        config: SimMimConfig,
    ) -> Result<Self> {
        if !(config.mask_ratio > 0.0 && config.mask_ratio < 1.0) {
            let ratio = config.mask_ratio;
            return Err(Error::config(format!(
                "method.mask_ratio = {ratio}: expected a share between 0 and 1"
            )));
        }
        if config.mask_unit == 0 {
            return Err(Error::config("method.mask_unit = 0: expected at least one patch"));
        }
        let encoder = build(&scope.sub("encoder"))?;
        let init = Init::TruncNormal(0.02);
        Ok(SimMim {
            params: scope.params().clone(),
            mask_token: scope.stem().no_decay().get("mask_token", (1, 1, encoder.dim()), init)?,
            predict: Linear::new(&scope.sub("head").top(), encoder.dim(), encoder.patch_dim(), true, init)?,
            encoder,
            config,
        })
    }

    /// Paints `x (N, C, S..)` where `mask (N, L)` is 1: patches `(N, L, P)`, and the tokens `(N, L, D)`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn paint(&self, x: &Tensor, mask: &Tensor, pass: &Pass) -> Result<(Tensor, Tensor)> {
        let tokens = with_mask_token(self.encoder.as_ref(), x, mask, &self.mask_token, pass)?;
        let l = tokens.dim(1)?;
        let encoded = self.encoder.contextualize(&tokens, None, pass)?; // (N, P + L, D)
        let encoded = encoded.narrow(1, self.encoder.prefix(), l)?.contiguous()?;
        Ok((self.predict.forward(&encoded, pass)?, encoded))
    }
}

/// The tokens of `x` with their positions, `(N, L, D)`, where `mask (N, L)` is 1 those of `token`.
pub(super) fn with_mask_token(
    encoder: &dyn TokenEncoder,
    x: &Tensor,
    mask: &Tensor,
    token: &Weight,
    pass: &Pass,
) -> Result<Tensor> {
    let tokens = encoder.embed(x, pass)?;
    let (n, l, d) = tokens.dims3()?;
    if mask.dims() != [n, l] {
        return Err(Error::input("mask", format!("shape {:?}: expected ({n}, {l})", mask.dims())));
    }
    let token = token.on(pass)?;
    let hidden = match encoder.positions(pass)? {
        Some(table) => token.broadcast_add(&table)?,
        None => token,
    };
    let hidden = hidden.broadcast_as((n, l, d))?;
    masks::blend(&tokens, &hidden, &mask.unsqueeze(2)?)
}

impl OverViews for SimMimConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Plain
    }

    /// The class token is not trained towards anything.
    fn needs(&self) -> Needs {
        Needs { tokens: true, mean_pool: true, ..Needs::default() }
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(SimMim::new(scope, &|s: &Scope| networks.tokens(s), self.clone())?))
    }

    fn shrink(&mut self) {
        self.mask_unit = 1;
    }
}

impl Objective for SimMim {
    type Batch = Views;
    type Embeddings = Filled;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Filled> {
        let x = view(batch, "SimMIM")?;
        let SimMimConfig { mask_ratio, mask_unit } = self.config;
        let grid = self.encoder.grid();
        let drawn = (0..x.dim(0)?)
            .map(|i| masks::units(&grid, mask_unit, mask_ratio, &mut pass.sample_key("simmim", i).rng()))
            .collect::<Result<Vec<_>>>()?;
        let mask = masks::tensor(&drawn, x)?;
        let (pixels, encoded) = self.paint(x, &mask, pass)?;
        Ok(Filled {
            pixels,
            target: self.encoder.patchify(x)?,
            mask,
            pooled: encoded.detach().mean(1)?,
            masked: drawn.iter().map(|m| m.iter().filter(|hidden| **hidden).count()).collect(),
        })
    }

    fn criterion(&self, e: &Filled, _pass: &Pass) -> Result<Loss> {
        Ok(masked_l1(&e.pixels, &e.target, &e.mask)?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    /// Masked patches, which all have equally many pixels. Units at the edge of a grid that they do not
    /// divide are smaller, so samples differ.
    fn weight(&self, _batch: &Views, e: &Filled) -> Result<f64> {
        Ok(e.masked.iter().sum::<usize>() as f64)
    }

    /// How much better than one constant for all masked pixels, the best there is but for the median, and the
    /// spread of the features.
    fn settings(&self) -> Vec<Gauge> {
        vec![masks::ratio(self.config.mask_ratio)]
    }

    fn gauge_info(&self) -> &'static [GaugeInfo] {
        &masks::RATIO
    }

    fn gauges(&self, e: &Filled, _pass: &Pass) -> Result<Vec<Gauge>> {
        let mask = e.mask.unsqueeze(2)?.broadcast_as(e.target.shape())?.contiguous()?;
        let mean = ((&e.target * &mask)?.sum_all()? / mask.sum_all()?)?;
        let constant = mean.broadcast_as(e.target.shape())?.contiguous()?;
        let of = |made: &Tensor| -> Result<f64> {
            Ok(f64::from(masked_l1(made, &e.target, &e.mask)?.to_scalar::<f32>()?))
        };
        let (own, flat) = (of(&e.pixels)?, of(&constant)?);
        let gain = if flat > 0.0 { 1.0 - own / flat } else { 0.0 };
        Ok(vec![Gauge::plain(GAIN_OVER_MEAN, gain), joint::pooled_spread(&e.pooled)?])
    }

    fn pictures(&self, batch: &Views, pass: &Pass) -> Result<Vec<Picture>> {
        let (x, e) = (view(batch, "SimMIM")?, self.embed(batch, pass)?);
        let mask = e.mask.unsqueeze(2)?;
        let whole = |patches: &Tensor| as_view(patches, self.encoder.as_ref(), x);
        let gone = e.target.broadcast_mul(&mask.affine(-1.0, 1.0)?)?;
        Ok(vec![
            Picture::new("target", x),
            Picture::new("input", &whole(&gone)?),
            Picture::new("prediction", &whole(&masks::blend(&e.target, &e.pixels, &mask)?)?),
        ])
    }

    fn may_skip(&self) -> Vec<String> {
        self.encoder.may_skip().into_iter().map(|name| format!("encoder.{name}")).collect()
    }
}
