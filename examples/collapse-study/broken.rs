//! SimSiam and BYOL without what keeps them from collapsing. No key of the methods takes it away, so they are
//! written anew here: an encoder, a projector, and a predictor or none; the targets with a gradient or without.

use candle_core::Tensor;
use selfsup_core::nn::{MlpHead, MlpHeadNorm};
use selfsup_core::objective::{Gauge, Loss, Objective, Views, embedding_std, views_match};
use selfsup_core::{Encoder, Error, Params, Pass, Result, Scope};
use selfsup_kernels::Path;
use selfsup_kernels::norm::l2_normalize;

/// What is left of the method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// The bottleneck that predicts the other view's projection.
    pub predictor: bool,
    /// Targets are constants.
    pub stop_gradient: bool,
}

selfsup_core::embeddings! {
    /// Predictions and targets of two views, `(N, D)` each, all with a graph.
    pub struct Both {
        graph a: Tensor,
        graph b: Tensor,
        graph target_a: Tensor,
        graph target_b: Tensor,
    }
}

/// A method that compares two views and repels none.
pub struct Broken {
    params: Params,
    encoder: Box<dyn Encoder>,
    projector: MlpHead,
    predictor: Option<MlpHead>,
    left: Left,
}

impl Broken {
    /// Around `encoder`, which stands at `encoder` of `scope`.
    pub fn new(scope: &Scope, encoder: Box<dyn Encoder>, left: Left) -> Result<Self> {
        let (d, out) = (encoder.dim(), 64);
        let head = |name: &str, widths: &[usize], last| {
            MlpHead::new(&scope.sub(name).top(), widths, MlpHeadNorm::Batch, last)
        };
        let projector = head("projector", &[d, 128, out], MlpHeadNorm::BatchPlain)?;
        let predictor = match left.predictor {
            true => Some(head("predictor", &[out, 32, out], MlpHeadNorm::None)?),
            false => None,
        };
        Ok(Broken { params: scope.params().clone(), encoder, projector, predictor, left })
    }
}

/// Mean of `1 - cos`.
fn distance(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let unit = |x: &Tensor| l2_normalize(&x.contiguous()?, 1e-8, Path::Auto);
    Ok(((unit(a)? * unit(b)?)?.sum(1)?.mean_all()?.neg()? + 1.0)?)
}

impl Objective for Broken {
    type Batch = Views;
    type Embeddings = Both;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Both> {
        let [a, b] = &batch.globals[..] else { return Err(Error::input("batch", "expected two views")) };
        let project = |x: &Tensor| -> Result<Tensor> {
            self.projector.forward(&self.encoder.forward(x, None, &[], pass)?.pooled, pass)
        };
        let (z_a, z_b) = (project(a)?, project(b)?);
        let predict = |z: &Tensor| match &self.predictor {
            Some(predictor) => predictor.forward(z, pass),
            None => Ok(z.clone()),
        };
        let target = |z: &Tensor| if self.left.stop_gradient { z.detach() } else { z.clone() };
        Ok(Both { a: predict(&z_a)?, b: predict(&z_b)?, target_a: target(&z_a), target_b: target(&z_b) })
    }

    fn criterion(&self, e: &Both, _pass: &Pass) -> Result<Loss> {
        Ok(((distance(&e.a, &e.target_b)? + distance(&e.b, &e.target_a)?)? * 0.5)?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    fn gauges(&self, e: &Both, _pass: &Pass) -> Result<Vec<Gauge>> {
        let mut gauges = vec![embedding_std(&e.target_a)?];
        gauges.extend(views_match(&e.target_a, &e.target_b)?);
        Ok(gauges)
    }
}
