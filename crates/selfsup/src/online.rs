//! What is measured while a run trains: kNN accuracy where there are labels, and measures of held-out features
//! that need none, each with the seconds that it takes.

use crate::config::{EvalConfig, Measure, Read};
use crate::evaluate::{encode_finite, encode_views};
use crate::modality::Modality;
use crate::say::warning;
use crate::screen::unreadable;
use crate::set::{Labelled, Set};
use selfsup_core::data::LoaderConfig;
use selfsup_core::run::COST;
use selfsup_core::trainer::{Look, Observer};
use selfsup_core::{Key, Result};
use selfsup_eval::knn::{KnnConfig, classify, normalize_rows};
use selfsup_eval::metrics::{
    alignment, alpha_range, alpha_req, cluster_learnability, lidar, rankme, two_nn, uniformity,
};
use selfsup_eval::{Features, Matrix, collapse};
use std::collections::BTreeSet;
use std::time::Instant;

/// Samples that are measured, with labels and without.
const SAMPLES: usize = 1000;
const HELD_OUT: usize = 500;
/// Samples of which LiDAR sees views.
const LIDAR: usize = 250;
/// Clusterings that learnability is averaged over.
const CLUSTERINGS: u64 = 5;

/// The samples that are looked at, always the same ones.
enum Looked {
    /// Neighbours vote among the first, for the second.
    Labelled(Labelled, (Vec<u32>, Vec<u32>, usize)),
    /// Without labels.
    Plain(Set),
}

/// Looks at the encoder during training.
pub struct Online<'a, M> {
    modality: &'a M,
    looked: Looked,
    knn: KnnConfig,
    measures: Vec<Measure>,
    read: Read,
    loader: LoaderConfig,
}

impl<'a, M: Modality> Online<'a, M> {
    /// Looks at `eval.online_knn` samples of each side of `labelled`, or at samples that were held out; nothing
    /// where there are neither, or nothing is to be measured. Of `held_out` what cannot be read is left out,
    /// where samples may be bad.
    ///
    /// # Errors
    /// If labels do not fit, or samples cannot be gone through.
    pub fn new(
        modality: &'a M,
        labelled: Option<&Labelled>,
        held_out: Option<&Set>,
        eval: &EvalConfig,
        (workers, max_bad): (usize, f64),
    ) -> Result<Option<Self>> {
        let mut knn = KnnConfig { k: eval.knn_k, temperature: eval.knn_temperature };
        let looked = match (labelled, held_out) {
            (Some(data), _) if eval.online_knn > 0 => {
                let few = |set: &Set| set.clone().limit(eval.online_knn);
                let data = Labelled { train: few(&data.train)?, test: few(&data.test)? };
                let labels = data.labels()?;
                knn.k = knn.k.min(labels.0.len());
                Looked::Labelled(data, labels)
            }
            (_, Some(set)) if !eval.measures.is_empty() => {
                let mut set = set.clone().limit(HELD_OUT)?;
                if max_bad > 0.0 && !M::EAGER {
                    let bad: BTreeSet<usize> =
                        unreadable(modality, &set, workers)?.into_iter().map(|(i, _)| i).collect();
                    set = set.part((0..set.len()).filter(|i| !bad.contains(i)).collect())?;
                }
                if set.len() < 2 {
                    return Ok(None);
                }
                Looked::Plain(set)
            }
            _ => return Ok(None),
        };
        Ok(Some(Online {
            modality,
            looked,
            knn,
            measures: eval.measures.clone(),
            read: eval.read,
            loader: LoaderConfig::in_order(eval.batch_size, workers),
        }))
    }

    /// The features of `views` augmented views of `set`, one matrix a view.
    fn views(&self, look: &Look, set: &Set, views: u64) -> Result<Vec<Matrix>> {
        let of =
            |view| encode_views(self.modality, look.encoder, set, self.read, &self.loader, look.device, view);
        (0..views).map(of).collect()
    }

    /// A measure of the features `z` of `set`; nothing where it is not defined (all samples alike, too few).
    fn value(&self, measure: Measure, z: Features<'_>, set: &Set, look: &Look) -> Result<Option<f64>> {
        let unit = |m: &Matrix| Matrix::new(normalize_rows(m.view()), m.n(), m.d());
        Ok(match measure {
            Measure::EffectiveRank => Some(collapse::diagnose(z)?.effective_rank),
            Measure::Spread => Some(collapse::diagnose(z)?.spread),
            Measure::Rankme => rankme(z).ok(),
            Measure::Uniformity => uniformity(Matrix::new(normalize_rows(z), z.n(), z.d())?.view()).ok(),
            Measure::AlphaReq => {
                let (first, last) = alpha_range(z.n(), z.d());
                alpha_req(z, first, last).ok().map(|decay| decay.alpha)
            }
            Measure::Twonn => two_nn(z, 0.1).ok().map(|found| found.likelihood),
            Measure::Learnability => cluster_learnability(z, CLUSTERINGS, Key::new(0)).ok(),
            Measure::Alignment => {
                let views = self.views(look, set, measure.views())?;
                let [one, other] = &views[..] else { return Ok(None) };
                alignment(unit(one)?.view(), unit(other)?.view()).ok()
            }
            Measure::Lidar => {
                let set = set.clone().limit(LIDAR)?;
                let views = self.views(look, &set, measure.views())?;
                let rows: Vec<f32> = (0..set.len())
                    .flat_map(|i| views.iter().flat_map(move |view| view.view().row(i).iter().copied()))
                    .collect();
                let grouped = Matrix::new(rows, set.len() * views.len(), z.d())?;
                lidar(grouped.view(), views.len(), 1e-4).ok()
            }
        })
    }
}

/// Of features that are no numbers: `train.non_finite` says what becomes of the run.
fn nothing(look: &Look) -> Vec<(String, f64)> {
    warning(format_args!("step {}: features are not finite, and nothing is measured", look.progress.step));
    Vec::new()
}

/// The name of a measure among the metrics.
fn name(measure: Measure) -> &'static str {
    match measure {
        Measure::EffectiveRank => "effective_rank",
        Measure::Spread => "feature_spread",
        Measure::Rankme => "rankme",
        Measure::Uniformity => "uniformity",
        Measure::Alignment => "alignment",
        Measure::AlphaReq => "alpha_req",
        Measure::Twonn => "twonn",
        Measure::Learnability => "learnability",
        Measure::Lidar => "lidar",
    }
}

impl<M: Modality> Observer for Online<'_, M> {
    fn observe(&mut self, look: &Look) -> Result<Vec<(String, f64)>> {
        let mut found = Vec::new();
        let mut since = Instant::now();
        let mut cost = |found: &mut Vec<(String, f64)>, what: &str| {
            found.push((format!("{COST}{what}"), since.elapsed().as_secs_f64()));
            since = Instant::now();
        };
        let of =
            |set: &Set| encode_finite(self.modality, look.encoder, set, self.read, &self.loader, look.device);
        let (set, z) = match &self.looked {
            Looked::Labelled(data, (train_labels, test_labels, classes)) => {
                let Some((train, test)) = of(&data.train)?.zip(of(&data.test)?) else {
                    return Ok(nothing(look));
                };
                cost(&mut found, "encoding");
                let votes = classify(train.view(), train_labels, test.view(), *classes, &self.knn)?;
                let right = votes.predictions.iter().zip(test_labels).filter(|(p, y)| p == y).count();
                found.push(("knn".into(), 100.0 * right as f64 / test_labels.len().max(1) as f64));
                cost(&mut found, "knn");
                (&data.test, test)
            }
            Looked::Plain(set) => {
                let Some(z) = of(set)? else { return Ok(nothing(look)) };
                cost(&mut found, "encoding");
                (set, z)
            }
        };
        let n = z.n().min(SAMPLES);
        let few = set.clone().limit(n)?;
        let z = z.view().select(&(0..n).map(|i| i * z.n() / n.max(1)).collect::<Vec<_>>())?;
        for measure in &self.measures {
            if z.n() >= 2
                && let Some(value) = self.value(*measure, z.view(), &few, look)?
            {
                found.push((name(*measure).into(), value));
                cost(&mut found, name(*measure));
            }
        }
        Ok(found)
    }

    fn decides(&self) -> Option<&'static str> {
        matches!(self.looked, Looked::Labelled(..)).then_some("knn")
    }
}
