//! SupCon (Khosla et al. 2020, arXiv 2004.11362): contrastive learning with labels where there are some. Views of a
//! sample attract, and so do those of all samples of its class; a sample without a label has its own views alone.
//!
//! `l_i = -1 / |P(i)| sum_{p in P(i)} log exp(z_i . z_p / T) / sum_{k != i} exp(z_i . z_k / T)`, P(i) the other rows
//! of i's class: the mean over positives stands outside of the logarithm (the paper's L_out). Without any label it
//! is SimCLR, so one run learns from labelled and unlabelled samples together.
//!
//! Where we differ: the paper has labels for all samples, and its code the factor T / 0.07.

use super::{
    BatchRate, BuildEncoder, Gauge, Loss, Method, Networks, Objective, OverViews, Views, Wanted, boxed, joint,
};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::loss::sup_con;
use crate::nn::{MlpHead, MlpHeadNorm};
use crate::params::Params;
use crate::pass::Pass;
use crate::scope::Scope;
use candle_core::Tensor;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SupConConfig {
    /// Temperature T (the paper's 0.1).
    pub temperature: f64,
    /// Width of the hidden layer of the projection head (the paper's 2048).
    pub hidden_dim: usize,
    /// Width of the projection (the paper's 128).
    pub out_dim: usize,
}

impl Default for SupConConfig {
    fn default() -> Self {
        SupConConfig { temperature: 0.1, hidden_dim: 2048, out_dim: 128 }
    }
}

crate::embeddings! {
    /// The projections of two views, `(N, D)` each, and what is known of their classes.
    pub struct Classed {
        /// Of the first view.
        graph a: Tensor,
        /// Of the second view.
        graph b: Tensor,
        /// The class of each sample, `(N)` integers; -1 where it is unknown.
        fixed labels: Tensor,
    }
}

/// The method.
pub struct SupCon {
    config: SupConConfig,
    params: Params,
    branch: joint::Branch,
}

impl SupCon {
    /// Builds encoder and head, SimCLR's, at `encoder` and `projector`.
    ///
    /// # Errors
    /// If the encoder cannot be built.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: SupConConfig) -> Result<Self> {
        let branch = joint::Branch::new(scope, build, |s, d| {
            MlpHead::new(s, &[d, config.hidden_dim, config.out_dim], MlpHeadNorm::Batch, MlpHeadNorm::Batch)
        })?;
        Ok(SupCon { config, params: scope.params().clone(), branch })
    }
}

/// A class of its own, below 0, for each sample whose class is unknown.
fn told_apart(labels: &Tensor) -> Result<Tensor> {
    let labels = labels.to_vec1::<i64>()?;
    let each: Vec<i64> =
        labels.iter().enumerate().map(|(i, &label)| if label < 0 { -1 - i as i64 } else { label }).collect();
    Ok(Tensor::new(each, &candle_core::Device::Cpu)?)
}

impl OverViews for SupConConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Joint(2)
    }

    fn reads_labels(&self) -> bool {
        true
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(SupCon::new(scope, &|s: &Scope| networks.encoder(s), self.clone())?))
    }

    fn rate(&self) -> BatchRate {
        BatchRate::Root
    }

    fn shrink(&mut self) {
        (self.hidden_dim, self.out_dim) = (16, 8);
    }
}

impl Objective for SupCon {
    type Batch = Views;
    type Embeddings = Classed;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.branch.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Classed> {
        let joint::Pair { a, b } = self.branch.both(joint::two(batch, "SupCon")?, pass)?;
        let n = a.dim(0)?;
        if !batch.labels.is_empty() && batch.labels.len() != n {
            let problem = format!("{} labels of {n} samples, expected one each or none", batch.labels.len());
            return Err(Error::input("batch", problem));
        }
        let label = |i: usize| batch.labels.get(i).copied().flatten().map_or(-1, i64::from);
        let labels = Tensor::from_vec((0..n).map(label).collect::<Vec<_>>(), n, a.device())?;
        Ok(Classed { a, b, labels })
    }

    fn criterion(&self, e: &Classed, _pass: &Pass) -> Result<Loss> {
        let labels = told_apart(&e.labels)?.to_device(e.a.device())?;
        let views = Tensor::cat(&[&e.a, &e.b], 0)?;
        Ok(sup_con(&views, &Tensor::cat(&[&labels, &labels], 0)?, self.config.temperature)?.into())
    }

    /// The spread of the projections, and the share of samples whose class is known.
    fn gauges(&self, e: &Classed, _pass: &Pass) -> Result<Vec<Gauge>> {
        let labels = e.labels.to_vec1::<i64>()?;
        let known = labels.iter().filter(|l| **l >= 0).count() as f64 / labels.len().max(1) as f64;
        let mut gauges = vec![joint::embedding_std(&e.a)?, Gauge::plain("labelled", known)];
        // Views of one class are to be alike: their samples need not be told apart.
        if known == 0.0 {
            gauges.extend(joint::views_match(&e.a, &e.b)?);
        }
        gauges.extend(joint::contrast(&e.a, &e.b, self.config.temperature, true)?);
        Ok(gauges)
    }
}

#[cfg(test)]
mod tests {
    use super::super::toy::{self, Parts};
    use super::*;
    use crate::loss::nt_xent;
    use crate::objective::Batch;

    fn build(scope: &Scope) -> Result<Box<SupCon>> {
        let mut config = SupConConfig::default();
        config.shrink();
        Ok(Box::new(SupCon::new(scope, &toy::encoder, config)?))
    }

    fn labelled(labels: &[Option<u32>]) -> Result<Views> {
        Ok(Views { labels: labels.to_vec(), ..toy::batch(0, 0, 0)? })
    }

    #[test]
    fn passes_the_conformance_checks() -> Result<()> {
        toy::conforms("supcon", 0, Parts::BatchNorm, &build)
    }

    #[test]
    fn without_labels_it_is_simclr() -> Result<()> {
        let (method, pass) = (build(&toy::scope(1))?, Pass::eval());
        let loss = |e: &Classed| -> Result<f32> { Ok(method.criterion(e, &pass)?.value.to_scalar()?) };
        let none = method.embed(&labelled(&[])?, &pass)?;
        let want = nt_xent(&none.a, &none.b, 0.1)?.to_scalar::<f32>()?;
        assert!((loss(&none)? - want).abs() < 1e-5);
        let unknown = method.embed(&labelled(&[None; toy::BATCH])?, &pass)?;
        assert_eq!(loss(&none)?, loss(&unknown)?);
        assert_eq!(method.gauges(&unknown, &pass)?[1].value, 0.0);
        // Samples 1 and 4 are of one class: their rows attract.
        let mut some = [None; toy::BATCH];
        (some[1], some[4]) = (Some(7), Some(7));
        let some = method.embed(&labelled(&some)?, &pass)?;
        let classes: Vec<i64> = vec![0, 1, 2, 3, 1, 5, 6, 7];
        let classes = Tensor::new([&classes[..], &classes[..]].concat(), some.a.device())?;
        let want = sup_con(&Tensor::cat(&[&some.a, &some.b], 0)?, &classes, 0.1)?.to_scalar::<f32>()?;
        assert_eq!(loss(&some)?, want);
        assert_ne!(loss(&some)?, loss(&none)?);
        assert_eq!(method.gauges(&some, &pass)?[1].value, 0.25);
        let few = method.embed(&labelled(&[None; 3])?, &pass).unwrap_err().to_string();
        assert!(few.contains("3 labels of 8"), "{few}");
        Ok(())
    }

    #[test]
    fn labels_are_cut_with_the_batch() -> Result<()> {
        let labels: Vec<Option<u32>> = (0..8).map(Some).collect();
        assert_eq!(labelled(&labels)?.narrow(2, 3)?.labels, [Some(2), Some(3), Some(4)]);
        assert!(labelled(&[])?.narrow(2, 3)?.labels.is_empty());
        Ok(())
    }
}
