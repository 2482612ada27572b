//! Classification by an encoder and a linear layer: the use of a few labels after pre-training.
//!
//! `loss = -1/N sum_i sum_c q_ic log softmax(W f(x_i) + b)_c` with `q_ic = w_c ((1 - e) [c = y_i] + e / C)`:
//! label smoothing `e` (Szegedy et al. 2015, arXiv 1512.00567, section 7) and weights `w` of the classes.
//! PyTorch divides by the weights of a batch; here the weights have a mean of 1 over the training samples and
//! a batch is divided by its size, so that parts of a batch add up to the whole.
//!
//! How much of the encoder is trained is a matter of roles: see [`crate::optim::train_last_blocks`]. With the
//! head alone (`frozen`) the encoder runs as in evaluation, with its running statistics and without dropout.

use super::{Batch, BuildEncoder, Gauge, Loss, Objective, Outputs};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::loss::soft_cross_entropy;
use crate::nn::Linear;
use crate::params::Params;
use crate::pass::Pass;
use crate::scope::Scope;
use candle_core::{DType, Device, Tensor};
use selfsup_kernels::Path;
use selfsup_kernels::dropout::dropout;

/// Inputs of an encoder with their classes, if they have some.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The input of the encoder, samples along dimension 0.
    pub x: Tensor,
    /// `(N, L | T)`, 1 where real and 0 where padded; `None` where nothing is padded.
    pub valid: Option<Tensor>,
    /// Class of each sample; empty where there are no labels.
    pub labels: Vec<u32>,
    /// Global index of each sample in the data set.
    pub indices: Vec<usize>,
}

impl Batch for Inputs {
    fn samples(&self) -> usize {
        self.x.dims().first().copied().unwrap_or(0)
    }

    fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        Ok(Inputs {
            x: self.x.narrow(0, start, len)?.contiguous()?,
            valid: self.valid.as_ref().map(|v| v.narrow(0, start, len)?.contiguous()).transpose()?,
            labels: self.labels.get(start..start + len).unwrap_or_default().to_vec(),
            indices: self.indices.get(start..start + len).unwrap_or_default().to_vec(),
        })
    }

    fn to_device(&self, device: &Device) -> Result<Self> {
        let valid = self.valid.as_ref().map(|v| v.to_device(device)).transpose()?;
        Ok(Inputs { x: self.x.to_device(device)?, valid, ..self.clone() })
    }
}

/// Hyper-parameters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassifyConfig {
    /// Number of classes, at least 2.
    pub classes: usize,
    /// Label smoothing `e`, from 0 to below 1.
    pub label_smoothing: f64,
    /// Weight of each class; empty for 1 each.
    pub class_weights: Vec<f32>,
    /// Dropout of the pooled features.
    pub dropout: f32,
    /// The encoder is not trained: it runs as in evaluation.
    pub frozen: bool,
}

/// The objective.
pub struct Classify {
    config: ClassifyConfig,
    params: Params,
    encoder: Box<dyn Encoder>,
    head: Linear,
}

impl Classify {
    /// Builds the encoder at `encoder` and the linear layer at `head`, whose weights are small so that
    /// training starts at even odds.
    ///
    /// # Errors
    /// If the configuration is not possible or the encoder cannot be built.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: ClassifyConfig) -> Result<Self> {
        let c = &config;
        if c.classes < 2 {
            return Err(Error::input("classes", format!("{}: expected at least 2", c.classes)));
        }
        if !(0.0..1.0).contains(&c.label_smoothing) || !(0.0..1.0).contains(&c.dropout) {
            return Err(Error::config(format!(
                "label_smoothing = {} and dropout = {}: expected shares of at least 0 and below 1",
                c.label_smoothing, c.dropout
            )));
        }
        let positive = |w: &f32| w.is_finite() && *w > 0.0;
        if !c.class_weights.is_empty()
            && (c.class_weights.len() != c.classes || !c.class_weights.iter().all(positive))
        {
            return Err(Error::config(format!(
                "class weights {:?}: expected {} numbers above 0",
                c.class_weights, c.classes
            )));
        }
        let encoder = build(&scope.sub("encoder"))?;
        let head =
            Linear::new(&scope.sub("head").top(), encoder.dim(), c.classes, true, Init::TruncNormal(0.01))?;
        Ok(Classify { config, params: scope.params().clone(), encoder, head })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.config.classes
    }

    /// Scores `(N, C)` before the softmax.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn logits(&self, batch: &Inputs, pass: &Pass) -> Result<Tensor> {
        let quiet = Pass::eval();
        let inner = if self.config.frozen { &quiet } else { pass };
        let mut pooled = self.encoder.forward(&batch.x, batch.valid.as_ref(), &[], inner)?.pooled;
        if let Some(drop) = pass.dropout(self.config.dropout, pass.key("head").named("dropout")) {
            pooled = dropout(&pooled, &drop, Path::Auto)?;
        }
        self.head.forward(&pooled, pass)
    }

    /// Scores `(N, C)` of features `(N, D)` that were pooled elsewhere: over several inputs of a sample, say.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn scores(&self, pooled: &Tensor) -> Result<Tensor> {
        Ok(self.head.forward(pooled, &Pass::eval())?.detach())
    }

    /// Probabilities of the classes, one row a sample.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn probabilities(&self, batch: &Inputs) -> Result<Vec<Vec<f32>>> {
        let logits = self.logits(batch, &Pass::eval())?.detach().to_dtype(DType::F32)?;
        Ok(selfsup_kernels::softmax::softmax(&logits, Path::Auto)?.to_vec2()?)
    }
}

impl Objective for Classify {
    type Batch = Inputs;
    type Embeddings = Outputs;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.encoder.as_ref()
    }

    fn embed(&self, batch: &Inputs, pass: &Pass) -> Result<Outputs> {
        let (n, c) = (batch.samples(), self.config.classes);
        if batch.labels.len() != n {
            return Err(Error::input(
                "batch",
                format!("{} labels for {n} samples: expected one each", batch.labels.len()),
            ));
        }
        let e = self.config.label_smoothing as f32;
        let mut targets = vec![e / c as f32; n * c];
        for (row, &label) in targets.chunks_exact_mut(c).zip(&batch.labels) {
            let hit = row
                .get_mut(label as usize)
                .ok_or_else(|| Error::input("label", format!("{label}: expected a class below {c}")))?;
            *hit += 1.0 - e;
            row.iter_mut().zip(&self.config.class_weights).for_each(|(q, w)| *q *= w);
        }
        let logits = self.logits(batch, pass)?;
        let targets = Tensor::from_vec(targets, (n, c), logits.device())?;
        Ok(Outputs { outputs: logits, targets })
    }

    fn criterion(&self, e: &Outputs, _pass: &Pass) -> Result<Loss> {
        Ok(soft_cross_entropy(&e.outputs, &e.targets, 1.0, Path::Auto)?.mean_all()?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    /// Share of the batch that is classified right, in percent.
    fn gauges(&self, e: &Outputs, _pass: &Pass) -> Result<Vec<Gauge>> {
        let pick = |t: &Tensor| -> Result<Vec<u32>> { Ok(t.argmax(1)?.to_vec1()?) };
        let (said, right) = (pick(&e.outputs)?, pick(&self.unweighted(&e.targets)?)?);
        let hits = said.iter().zip(&right).filter(|(a, b)| a == b).count();
        Ok(vec![Gauge::plain("accuracy", 100.0 * hits as f64 / said.len().max(1) as f64)])
    }

    fn may_skip(&self) -> Vec<String> {
        self.encoder.may_skip().into_iter().map(|name| format!("encoder.{name}")).collect()
    }
}

impl Classify {
    /// Targets without the weights of the classes, so that the largest is the label again.
    fn unweighted(&self, targets: &Tensor) -> Result<Tensor> {
        if self.config.class_weights.is_empty() {
            return Ok(targets.clone());
        }
        Ok(targets.broadcast_div(&Tensor::from_slice(
            &self.config.class_weights,
            self.config.classes,
            targets.device(),
        )?)?)
    }
}

/// How often each of `classes` classes stands in `labels`; others are not counted.
pub fn class_counts(labels: impl IntoIterator<Item = u32>, classes: usize) -> Vec<usize> {
    let mut counts = vec![0usize; classes];
    labels.into_iter().filter_map(|l| Some(l as usize).filter(|l| *l < classes)).for_each(|l| counts[l] += 1);
    counts
}

/// Weights that make every class count the same in all: `n / (C n_c)`, whose mean over the samples is 1. A
/// class without a sample gets 1.
pub fn balanced_weights(counts: &[usize]) -> Vec<f32> {
    let all: usize = counts.iter().sum();
    let present = counts.iter().filter(|n| **n > 0).count().max(1);
    counts
        .iter()
        .map(|&n| if n == 0 { 1.0 } else { (all as f64 / (present as f64 * n as f64)) as f32 })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::{Features, Layer};
    use crate::pass::Progress;
    use crate::trainer::gradients;

    struct Plain(Linear);

    impl Encoder for Plain {
        fn forward(
            &self,
            x: &Tensor,
            _valid: Option<&Tensor>,
            _want: &[Layer],
            pass: &Pass,
        ) -> Result<Features> {
            Ok(Features { pooled: self.0.forward(x, pass)?, tokens: None, layers: Vec::new() })
        }
        fn dim(&self) -> usize {
            5
        }
    }

    fn build(config: ClassifyConfig) -> Result<Classify> {
        let encoder = |s: &Scope| -> Result<Box<dyn Encoder>> {
            Ok(Box::new(Plain(Linear::new(s, 4, 5, true, Init::TorchLinear)?)))
        };
        Classify::new(&Scope::root(&Params::new(), 3, &Device::Cpu), &encoder, config)
    }

    fn batch(labels: &[u32]) -> Inputs {
        let n = labels.len();
        let x: Vec<f32> = (0..n * 4).map(|i| ((i * 7) % 11) as f32 / 5.0 - 1.0).collect();
        Inputs {
            x: Tensor::from_vec(x, (n, 4), &Device::Cpu).unwrap(),
            valid: None,
            labels: labels.to_vec(),
            indices: (0..n).collect(),
        }
    }

    fn value(loss: &Loss) -> f64 {
        f64::from(loss.value.to_scalar::<f32>().unwrap())
    }

    #[test]
    fn it_is_the_weighted_smoothed_cross_entropy() -> Result<()> {
        let (weights, e) = (vec![0.5f32, 1.0, 2.5], 0.1f64);
        let c = ClassifyConfig {
            classes: 3,
            label_smoothing: e,
            class_weights: weights.clone(),
            ..ClassifyConfig::default()
        };
        let (method, batch) = (build(c)?, batch(&[0, 2, 2, 1]));
        let pass = Pass::eval();
        let p = method.probabilities(&batch)?;
        let mut expected = 0.0;
        for (row, &y) in p.iter().zip(&batch.labels) {
            for (k, p) in row.iter().enumerate() {
                let q = f64::from(weights[k]) * (if k as u32 == y { 1.0 - e } else { 0.0 } + e / 3.0);
                expected -= q * f64::from(*p).ln() / 4.0;
            }
        }
        let embeddings = method.embed(&batch, &pass)?;
        let loss = value(&method.criterion(&embeddings, &pass)?);
        assert!((loss - expected).abs() < 1e-5, "{loss} {expected}");
        let right =
            p.iter().zip(&batch.labels).filter(|(r, y)| r.iter().all(|v| *v <= r[**y as usize])).count();
        assert_eq!(method.gauges(&embeddings, &pass)?[0].value, 25.0 * right as f64);
        Ok(())
    }

    #[test]
    fn parts_of_a_batch_make_the_whole() -> Result<()> {
        let c = ClassifyConfig {
            classes: 3,
            class_weights: vec![0.2, 1.0, 3.0],
            dropout: 0.3,
            ..ClassifyConfig::default()
        };
        let (method, batch) = (build(c)?, batch(&[0, 2, 1, 1, 0, 2, 2]));
        let pass = Pass::train(1, Progress::default());
        let (whole, parts) = (gradients(&method, &batch, 0, &pass)?, gradients(&method, &batch, 3, &pass)?);
        assert!((whole.loss - parts.loss).abs() < 1e-6);
        for (name, g) in whole.grads.iter() {
            let other = parts.grads.get(name).unwrap();
            let gap = (g - other)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(gap < 1e-6, "{name} {gap}");
        }
        assert_eq!(whole.grads.iter().count(), 4, "encoder and head are both trained");
        Ok(())
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for c in [
            ClassifyConfig { classes: 1, ..ClassifyConfig::default() },
            ClassifyConfig { classes: 3, label_smoothing: 1.0, ..ClassifyConfig::default() },
            ClassifyConfig { classes: 3, class_weights: vec![1.0, 2.0], ..ClassifyConfig::default() },
            ClassifyConfig { classes: 3, class_weights: vec![1.0, 0.0, 1.0], ..ClassifyConfig::default() },
        ] {
            assert!(build(c).is_err());
        }
        let method = build(ClassifyConfig { classes: 3, ..ClassifyConfig::default() }).unwrap();
        assert!(method.embed(&batch(&[0, 3]), &Pass::eval()).unwrap_err().to_string().contains("below 3"));
        let none = Inputs { labels: Vec::new(), ..batch(&[0, 1]) };
        assert!(method.embed(&none, &Pass::eval()).unwrap_err().to_string().contains("one each"));
    }

    #[test]
    fn balanced_weights_have_mean_one() {
        let labels = [0, 0, 0, 1, 2, 2];
        let w = balanced_weights(&class_counts(labels.into_iter().chain([9]), 4));
        assert_eq!(w, [6.0 / 9.0, 2.0, 1.0, 1.0]);
        let mean: f32 = labels.iter().map(|l| w[*l as usize]).sum::<f32>() / 6.0;
        assert!((mean - 1.0).abs() < 1e-6);
    }
}
