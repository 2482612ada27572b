//! A linear probe and neighbours of clean samples, for samples as some modality reads them.

use super::Scores;
use crate::evaluate::{Probe, encode_each};
use crate::modality::{Corruptible, Modality, RawOf};
use crate::set::Labelled;
use selfsup_core::Result;
use selfsup_core::data::LoaderConfig;
use selfsup_eval::knn::{KnnConfig, classify};
use selfsup_eval::linear::LogisticConfig;
use selfsup_eval::metrics::accuracy;
use selfsup_eval::protocol::Named;
use selfsup_eval::{LinearProbe, Matrix};

/// The sets of features that are compared.
const FEATURES: [&str; 3] = ["trained", "random", "raw"];

/// Probes of the trained encoder, of the random one and of features without an encoder, fitted once.
pub struct Probes<'a, M: Modality> {
    what: &'a Probe<'a, M>,
    data: &'a Labelled,
    loader: &'a LoaderConfig,
    /// Features of the samples that the probes were fitted on.
    train: [Matrix; 3],
    fitted: Vec<LinearProbe>,
    raw: RawOf<'a, M>,
    labels: (Vec<u32>, Vec<u32>, usize),
    knn: KnnConfig,
}

impl<'a, M: Modality> Probes<'a, M> {
    /// Fits on the training samples of `data`, as `what` says.
    ///
    /// # Errors
    /// If a sample cannot be read, or there are no labels.
    pub fn fit(
        what: &'a Probe<'a, M>,
        corruptible: &'a dyn Corruptible<M>,
        data: &'a Labelled,
        loader: &'a LoaderConfig,
    ) -> Result<Self> {
        let labels = data.labels()?;
        let (raw, of) = corruptible.raw_fitted(&data.train, data.test.len(), loader)?;
        let encoders = [what.trained, what.random];
        let made = encode_each(what.modality, &encoders, &data.train, what.eval.read, loader, what.device)?;
        let mut made = made.into_iter();
        let train = match (made.next(), made.next()) {
            (Some(trained), Some(random)) => [trained, random, raw],
            _ => return Err(selfsup_core::Error::input("features", "of too few encoders")),
        };
        let config = LogisticConfig { c: what.eval.c, ..LogisticConfig::default() };
        let fit = |x: &Matrix| LinearProbe::fit(x.view(), &labels.0, labels.2, &config);
        let fitted = train.iter().map(fit).collect::<Result<_>>()?;
        let k = what.eval.knn_k.min(labels.0.len());
        let knn = KnnConfig { k, temperature: what.eval.knn_temperature };
        Ok(Probes { what, data, loader, train, fitted, raw: of, labels, knn })
    }

    /// Accuracies in percent on the test samples as `reader` reads them.
    ///
    /// # Errors
    /// If a sample cannot be read.
    pub fn score(&self, reader: &M) -> Result<Scores> {
        let (what, test) = (self.what, &self.data.test);
        let encoders = [what.trained, what.random];
        let mut made = encode_each(reader, &encoders, test, what.eval.read, self.loader, what.device)?;
        made.push((self.raw)(reader, test)?);
        let (train_labels, test_labels, classes) = &self.labels;
        let mut scores = Scores::default();
        for (i, (name, z)) in FEATURES.into_iter().zip(&made).enumerate() {
            let linear = accuracy(&self.fitted[i].predict(z.view())?, test_labels)?;
            let votes = classify(self.train[i].view(), train_labels, z.view(), *classes, &self.knn)?;
            let knn = accuracy(&votes.predictions, test_labels)?;
            let of = [("linear", linear), ("knn", knn)].map(|(name, v)| (name.to_string(), 100.0 * v));
            scores.0.push((name.to_string(), Named(of.to_vec())));
        }
        Ok(scores)
    }
}
