//! SimCSE (Gao et al. 2021, arXiv 2104.08821): sentence embeddings from two passes of the same sentence under
//! different dropout.
//!
//! `l_i = -log exp(cos(z_i, z'_i) / T) / sum_j exp(cos(z_i, z'_j) / T)`, `z = tanh(W f(x) + b)`: dropout is
//! the only augmentation, so an encoder without it learns nothing and is refused. The projection is left away
//! afterwards (the paper's section 6).

use crate::batch::Sequences;
use crate::encoder::{Bert, BertConfig};
use candle_core::Tensor;
use selfsup_core::loss::cross_entropy;
use selfsup_core::nn::Linear;
use selfsup_core::objective::{Batch, Gauge, Loss, Objective, Pair, contrast, embedding_std, views_match};
use selfsup_core::{Encoder, Error, Params, Pass, Result, Scope};
use selfsup_kernels::Path;
use selfsup_kernels::linear::linear;
use selfsup_kernels::norm::l2_normalize;
use serde::{Deserialize, Serialize};

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimCseConfig {
    /// Temperature T (the paper's 0.05).
    pub temperature: f64,
}

impl Default for SimCseConfig {
    fn default() -> Self {
        SimCseConfig { temperature: 0.05 }
    }
}

/// The method.
pub struct SimCse {
    config: SimCseConfig,
    params: Params,
    encoder: Bert,
    project: Linear,
}

impl SimCse {
    /// Builds the encoder at `encoder` and the projection at `projector`.
    ///
    /// # Errors
    /// If the encoder cannot be built, has no dropout, or the temperature is not positive.
    pub fn new(scope: &Scope, encoder: BertConfig, config: SimCseConfig) -> Result<Self> {
        if config.temperature <= 0.0 || !config.temperature.is_finite() {
            return Err(Error::config(format!(
                "method.temperature = {}: expected a positive number",
                config.temperature
            )));
        }
        if encoder.dropout == 0.0 && encoder.attention_dropout == 0.0 {
            return Err(Error::config(
                "method simcse tells two passes apart by dropout: set encoder.dropout above 0",
            ));
        }
        let encoder = Bert::new(&scope.sub("encoder"), encoder)?;
        let dim = encoder.dim();
        Ok(SimCse {
            params: scope.params().clone(),
            project: Linear::new(&scope.sub("projector").top(), dim, dim, true, BertConfig::INIT)?,
            encoder,
            config,
        })
    }

    /// The encoder.
    pub fn bert(&self) -> &Bert {
        &self.encoder
    }
}

impl Objective for SimCse {
    type Batch = Sequences;
    type Embeddings = Pair;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.encoder
    }

    /// Both passes in one: sample `i` of the step stands at `2 i` and `2 i + 1`, and dropout draws for each
    /// place apart.
    fn embed(&self, batch: &Sequences, pass: &Pass) -> Result<Pair> {
        let twice = |x: &Tensor| Tensor::stack(&[x, x], 1)?.flatten(0, 1); // (N, ..) -> (2 N, ..)
        let valid = batch.valid.as_ref().map(twice).transpose()?;
        let places = pass.at(2 * pass.offset);
        let pooled = self.encoder.forward(&twice(&batch.input()?)?, valid.as_ref(), &[], &places)?.pooled;
        let z = self.project.forward(&pooled, pass)?.tanh()?;
        let z = z.reshape((batch.ids.dim(0)?, 2, z.dim(1)?))?; // (2 N, D) -> (N, 2, D)
        Ok(Pair { a: z.get_on_dim(1, 0)?, b: z.get_on_dim(1, 1)? })
    }

    fn criterion(&self, e: &Pair, _pass: &Pass) -> Result<Loss> {
        sim_cse(&e.a, &e.b, self.config.temperature).map(Loss::from)
    }

    /// No token is predicted: a batch weighs what it has samples.
    fn weight(&self, batch: &Sequences, _embeddings: &Pair) -> Result<f64> {
        Ok(batch.samples() as f64)
    }

    fn gauges(&self, e: &Pair, _pass: &Pass) -> Result<Vec<Gauge>> {
        let mut gauges = vec![embedding_std(&e.a)?];
        gauges.extend(views_match(&e.a, &e.b)?);
        gauges.extend(contrast(&e.a, &e.b, self.config.temperature, true)?);
        Ok(gauges)
    }
}

/// The loss of `a (N, D)` against `b (N, D)`: row `i` of both are positives, the other rows of `b` negatives.
///
/// # Errors
/// If there are fewer than two rows, or shapes do not fit.
pub fn sim_cse(a: &Tensor, b: &Tensor, temperature: f64) -> Result<Tensor> {
    let (n, _) = a.dims2()?;
    if n < 2 || b.dims() != a.dims() {
        return Err(Error::input(
            "batch",
            format!("embeddings {:?} and {:?}: SimCSE needs two samples or more", a.dims(), b.dims()),
        ));
    }
    let unit = |x: &Tensor| l2_normalize(&x.contiguous()?, 1e-8, Path::Auto);
    let scores = (linear(&unit(a)?, &unit(b)?, None, Path::Auto)? / temperature)?; // (N, N)
    cross_entropy(&scores, &Tensor::arange(0, n as i64, a.device())?, 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Orthogonal samples, equal views: `log(1 + (N - 1) exp(-1 / T))`.
    #[test]
    fn closed_form() -> Result<()> {
        let eye = Tensor::eye(4, candle_core::DType::F32, &Device::Cpu)?;
        for t in [0.05, 0.5, 2.0] {
            let got = f64::from(sim_cse(&(&eye * 3.0)?, &eye, t)?.to_scalar::<f32>()?);
            let want = (1.0 + 3.0 * (-1.0 / t).exp()).ln();
            assert!((got - want).abs() < 1e-5 * want.max(1.0), "{t}: {got} for {want}");
        }
        assert!(sim_cse(&eye.narrow(0, 0, 1)?, &eye.narrow(0, 0, 1)?, 0.1).is_err());
        Ok(())
    }
}
