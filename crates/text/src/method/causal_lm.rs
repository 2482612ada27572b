//! Causal language modelling (Radford et al. 2018, "Improving Language Understanding by Generative
//! Pre-Training", equation 1): each token is predicted from those before it.
//!
//! `L = -mean_i log softmax(E h_i)[x_{i+1}]`, with `h_i` the state after token `i` and `E` the table of
//! tokens. The mean runs over all predicted tokens of the batch.

use super::written;
use crate::batch::{Example, IGNORED, Sequences};
use crate::encoder::{Gpt2, Gpt2Config};
use candle_core::Tensor;
use selfsup_core::data::Transform;
use selfsup_core::objective::{Gauge, Loss, Objective, Outputs};
use selfsup_core::{Encoder, Error, Params, Pass, Result, Rng, Scope};
use serde::{Deserialize, Serialize};

/// Hyper-parameters: there are none beside the network's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CausalLmConfig {}

/// Writes the labels of an example: at each place the token that follows, nothing at the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NextToken;

impl Transform<Example> for NextToken {
    type Out = Example;

    fn apply(&self, mut e: Example, _rng: &mut Rng) -> Result<Example> {
        e.labels = e.ids.iter().skip(1).map(|id| i64::from(*id)).chain([IGNORED]).take(e.ids.len()).collect();
        Ok(e)
    }
}

/// The method.
pub struct CausalLm {
    params: Params,
    model: Gpt2,
}

impl CausalLm {
    /// Builds the model at `encoder`.
    ///
    /// # Errors
    /// If it cannot be built.
    pub fn new(scope: &Scope, model: Gpt2Config) -> Result<Self> {
        Ok(CausalLm { params: scope.params().clone(), model: Gpt2::new(&scope.sub("encoder"), model)? })
    }

    /// The model.
    pub fn model(&self) -> &Gpt2 {
        &self.model
    }
}

impl Objective for CausalLm {
    type Batch = Sequences;
    type Embeddings = Outputs;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.model
    }

    /// States after the tokens that have a label, `(M, D)`; fixed: the labels.
    fn embed(&self, batch: &Sequences, pass: &Pass) -> Result<Outputs> {
        let l = batch.ids.dim(1)?;
        if l < 2 {
            return Err(Error::input("batch", "sequences of one token: there is no next token to predict"));
        }
        // Nothing follows the last token, so it is no input.
        let before = |t: &Tensor| -> Result<Tensor> { Ok(t.narrow(1, 0, l - 1)?.contiguous()?) };
        let (ids, labels) = (before(&batch.ids)?, before(batch.token_labels()?)?);
        let hidden = self.model.hidden(&ids, pass)?;
        written::states(&hidden, &labels, batch.predicted())
    }

    fn criterion(&self, e: &Outputs, pass: &Pass) -> Result<Loss> {
        written::loss(e, |h| self.model.scores(h, pass))
    }

    fn couples_samples(&self) -> bool {
        false
    }

    fn gauges(&self, e: &Outputs, pass: &Pass) -> Result<Vec<Gauge>> {
        written::gauges(e, |h| self.model.scores(h, pass), "next_token_accuracy")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Pad;
    use candle_core::Device;
    use selfsup_core::data::Collate;
    use selfsup_core::loss::causal_lm;
    use selfsup_core::objective::Batch;
    use selfsup_core::{Key, Progress};

    fn batch(rows: &[&[u32]]) -> Result<Sequences> {
        let items = rows
            .iter()
            .map(|r| NextToken.apply(Example::new(r.to_vec()), &mut Key::new(0).rng()))
            .collect::<Result<Vec<_>>>()?;
        Pad::default().collate(items, &(0..rows.len()).collect::<Vec<_>>(), Key::new(0))
    }

    #[test]
    fn labels_are_the_next_tokens() -> Result<()> {
        let b = batch(&[&[1, 2, 3], &[4, 5]])?;
        assert_eq!(b.labels.to_vec2::<i64>()?, [[2, 3, IGNORED], [5, IGNORED, IGNORED]]);
        assert_eq!(b.weight(), 3.0);
        Ok(())
    }

    /// The same number as the loss that shifts inside and computes all scores, with and without padding.
    #[test]
    fn the_loss_is_the_shifted_cross_entropy() -> Result<()> {
        let params = Params::new();
        let method = CausalLm::new(&Scope::root(&params, 3, &Device::Cpu), Gpt2Config::new(9, 8, 8, 2, 2))?;
        for rows in [&[&[1u32, 2, 3, 4][..], &[5, 6, 7, 8]], &[&[1, 2, 3, 4][..], &[5, 6]]] {
            let b = batch(rows)?;
            let pass = Pass::eval();
            let loss = method.criterion(&method.embed(&b, &pass)?, &pass)?.value.to_scalar::<f32>()?;
            let scores = method.model.scores(&method.model.hidden(&b.ids, &pass)?, &pass)?;
            let mut own: Vec<i64> =
                b.ids.flatten_all()?.to_vec1::<u32>()?.into_iter().map(i64::from).collect();
            if let Some(valid) = &b.valid {
                let valid = valid.flatten_all()?.to_vec1::<f32>()?;
                own.iter_mut().zip(valid).for_each(|(id, v)| *id = if v > 0.0 { *id } else { IGNORED });
            }
            let labels = candle_core::Tensor::from_vec(own, b.ids.dims(), &Device::Cpu)?;
            let expected = causal_lm(&scores, &labels)?.to_scalar::<f32>()?;
            assert!((loss - expected).abs() < 1e-5, "{loss} {expected}");
        }
        let one = batch(&[&[1]])?;
        assert!(method.embed(&one, &Pass::train(0, Progress::default())).is_err());
        Ok(())
    }
}
