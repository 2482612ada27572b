//! FCOS' head (Tian et al. 2019, arXiv 1904.01355): the same two towers of convolutions on every level, one
//! for classes, one for boxes and centre-ness.

use super::layers::{ConvGn, conv3};
use candle_core::{D, Tensor};
use selfsup_core::nn::Conv;
use selfsup_core::{Init, Pass, Result, Scope, Weight};

/// Initial weights of all layers.
const INIT: Init = Init::Normal(0.01);
/// Probability that a place begins with (Lin et al. 2017, arXiv 1708.02002, section 4.1).
const PRIOR: f32 = 0.01;
/// Largest exponent of a side: e^8 strides are more than any image has.
const MOST: f64 = 8.0;

/// What the head says of each place of all levels.
pub(super) struct Said {
    /// Scores of the classes before the sigmoid, `(N, L, C)`.
    pub(super) scores: Tensor,
    /// Distances to the left, top, right and bottom side in pixels, above 0: `(N, L, 4)`.
    pub(super) sides: Tensor,
    /// Centre-ness before the sigmoid, `(N, L)`.
    pub(super) centre: Tensor,
}

/// The head.
pub(super) struct FcosHead {
    classes: Vec<ConvGn>,
    boxes: Vec<ConvGn>,
    score: Conv,
    /// The bias of `score`, which begins at the prior.
    prior: Weight,
    side: Conv,
    centre: Conv,
}

impl FcosHead {
    /// Towers of `depth` layers of `width` channels: `scope.cls.0.conv`, ..., `scope.box.0.conv`,
    /// ..., `scope.score`, `scope.side`, `scope.centre`.
    ///
    /// # Errors
    /// If the names are taken by tensors of other shapes.
    pub(super) fn new(scope: &Scope, width: usize, depth: usize, classes: usize) -> Result<Self> {
        let tower = |name: &str| -> Result<Vec<ConvGn>> {
            (0..depth).map(|i| ConvGn::new(&scope.sub(name).sub(i), width, width, INIT)).collect()
        };
        let last =
            |name: &str, outputs: usize, bias: bool| conv3(&scope.sub(name), width, outputs, bias, INIT);
        let prior = -((1.0 - PRIOR) / PRIOR).ln();
        Ok(FcosHead {
            classes: tower("cls")?,
            boxes: tower("box")?,
            score: last("score", classes, false)?,
            prior: scope.sub("score").get("bias", classes, Init::Const(prior))?,
            side: last("side", 4, true)?,
            centre: last("centre", 1, true)?,
        })
    }

    /// `levels`, finest first, `(N, H_i, W_i, width)` with these `strides`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub(super) fn forward(&self, levels: &[Tensor], strides: &[usize], pass: &Pass) -> Result<Said> {
        let (mut scores, mut sides, mut centre) = (Vec::new(), Vec::new(), Vec::new());
        for (x, stride) in levels.iter().zip(strides) {
            let through = |tower: &[ConvGn]| -> Result<Tensor> {
                tower.iter().try_fold(x.clone(), |x, layer| layer.forward(&x, pass))
            };
            let (of_class, of_box) = (through(&self.classes)?, through(&self.boxes)?);
            // (N, H, W, K) -> (N, H W, K)
            let flat = |t: Tensor| -> Result<Tensor> { Ok(t.flatten(1, 2)?) };
            let prior = self.prior.on(pass)?;
            scores.push(flat(self.score.forward(&of_class, pass)?.broadcast_add(&prior)?)?);
            let exponent = self.side.forward(&of_box, pass)?;
            sides.push(flat((exponent.clamp(-MOST, MOST)?.exp()? * *stride as f64)?)?);
            centre.push(flat(self.centre.forward(&of_box, pass)?)?.squeeze(D::Minus1)?);
        }
        Ok(Said {
            scores: Tensor::cat(&scores, 1)?,
            sides: Tensor::cat(&sides, 1)?,
            centre: Tensor::cat(&centre, 1)?,
        })
    }
}
