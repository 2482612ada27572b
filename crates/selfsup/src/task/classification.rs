//! One class for each sample, in every modality: encoder, linear head, cross entropy.

use super::{Answers, Ready, Task, TaskKeys, Tasks};
use crate::config::Read;
use crate::set::{Set, Sets};
use candle_core::{DType, Device, Tensor};
use selfsup_core::data::{LoaderConfig, Source};
use selfsup_core::objective::{Batch, Classify, ClassifyConfig, Inputs, Objective};
use selfsup_core::run::counted;
use selfsup_core::{Error, Result, Scope};
use selfsup_eval::Means;
use selfsup_eval::metrics::{Confusion, expected_calibration_error, macro_auroc, negative_log_likelihood};
use selfsup_kernels::Path;
use selfsup_kernels::softmax::softmax;
use serde_json::json;

/// The task.
pub struct Classification;

impl<M: Tasks> Task<M> for Classification {
    type Objective = Classify;

    // Not the accuracy: on a few dozen labels it is level for many epochs, and the first of them is hardly
    // trained.
    const WATCHED: &'static str = "validation_log_likelihood";
    const READS: &'static [&'static str] = &["label_smoothing", "class_weights", "dropout"];

    fn targets(sets: Sets, _keys: &TaskKeys) -> Result<(Sets, Vec<String>)> {
        let none = || {
            Error::input(
                "training data",
                "no labels: give a table with --labels FILE.csv (columns path and label), or put the samples of each class into a folder of its own",
            )
        };
        let train = sets.train.labelled()?.ok_or_else(none)?;
        let classes = train.classes().to_vec();
        let of = |set: Option<Set>, what: &str| match set {
            None => Ok(None),
            Some(set) if set.classes() == classes => set.labelled(),
            Some(set) => Err(Error::input(
                what,
                format!("classes {:?}, expected those of the training data {classes:?}", set.classes()),
            )),
        };
        let sets = Sets {
            held_out: of(sets.held_out, "validation data")?,
            test: of(sets.test, "test data")?,
            train,
        };
        Ok((sets, classes))
    }

    fn build(modality: &M, scope: &Scope, keys: &TaskKeys, class_weights: &[f32]) -> Result<Classify> {
        let config = ClassifyConfig {
            classes: keys.classes.len(),
            label_smoothing: keys.label_smoothing,
            class_weights: class_weights.to_vec(),
            dropout: keys.dropout,
            frozen: keys.train_blocks == Some(0),
        };
        Classify::new(scope, &|scope| modality.tuned_encoder(scope), config)
    }

    fn batches(
        modality: &M,
        _keys: &TaskKeys,
        set: &Set,
        loader: LoaderConfig,
    ) -> Result<Box<dyn Source<Inputs>>> {
        modality.inputs(set, true, loader)
    }

    fn measure(ready: &Ready<M, Self>, set: &Set) -> Result<Vec<(String, f64)>> {
        let known = &ready.keys.classes;
        let labels = set.labels().filter(|_| set.classes() == known).ok_or_else(|| {
            Error::input(
                "labelled samples",
                format!("the classes {:?}, expected one of {known:?} for each sample", set.classes()),
            )
        })?;
        measures(&probabilities(ready, set)?.concat(), &labels, ready.objective.classes())
    }

    fn predict(ready: &Ready<M, Self>, set: &Set, answers: &mut dyn Answers) -> Result<()> {
        let classes = &ready.keys.classes;
        for (index, row) in probabilities(ready, set)?.iter().enumerate() {
            let (class, p) = best(row);
            let mut out = vec![
                ("path".to_string(), json!(set.records().id(index)?)),
                ("label".into(), json!(classes.get(class))),
                ("confidence".into(), json!(p)),
            ];
            out.extend(classes.iter().zip(row).map(|(name, p)| (format!("p({name})"), json!(p))));
            answers.row(out)?;
        }
        Ok(())
    }
}

/// What is measured of the probabilities of samples, `(n, classes)`, that have these labels; shares in percent.
///
/// # Errors
/// If shapes do not fit, or a value is NaN.
pub fn measures(probabilities: &[f32], labels: &[u32], classes: usize) -> Result<Vec<(String, f64)>> {
    let predicted: Vec<u32> =
        probabilities.chunks_exact(classes.max(1)).map(|row| best(row).0 as u32).collect();
    let confusion = Confusion::new(&predicted, labels, classes)?;
    let loss = negative_log_likelihood(probabilities, labels, classes)?;
    let mut out = vec![
        ("accuracy".to_string(), 100.0 * confusion.accuracy()),
        ("balanced_accuracy".into(), 100.0 * confusion.balanced_accuracy()),
        ("macro_f1".into(), 100.0 * confusion.macro_f1()),
        ("majority".into(), 100.0 * confusion.majority()),
        ("loss".into(), loss),
        ("log_likelihood".into(), -loss),
        ("calibration_error".into(), 100.0 * expected_calibration_error(probabilities, labels, classes, 15)?),
    ];
    // Undefined where a class has no sample.
    if let Ok(auroc) = macro_auroc(probabilities, labels, classes) {
        out.push(("auroc".into(), 100.0 * auroc));
    }
    Ok(out)
}

/// The place of the largest value, and the value; the first of equal ones.
pub fn best(row: &[f32]) -> (usize, f32) {
    row.iter().enumerate().fold((0, f32::NEG_INFINITY), |top, (i, &p)| if p > top.1 { (i, p) } else { top })
}

/// Probabilities of the classes for every sample, in the order of the set. Where a sample has several inputs,
/// their mean (patches of a volume), or those of their pooled features (windows of a recording): the head is
/// linear, so the scores of pooled features are the pooled scores.
///
/// # Errors
/// If a sample cannot be read.
pub fn probabilities<M: Tasks>(ready: &Ready<M, Classification>, set: &Set) -> Result<Vec<Vec<f32>>> {
    let classes = ready.objective.classes();
    let mut means = Means::new(set.len(), classes);
    let inputs = ready.modality.inputs(set, false, ready.loader.clone())?;
    let softmax = |scores: &Tensor| softmax(&scores.to_dtype(DType::F32)?, Path::Auto);
    for loaded in counted("predictions: batch", &*inputs)? {
        let batch = loaded?.batch.to_device(ready.device)?;
        let pooled = ready.modality.features(ready.objective.encoder(), &batch, Read::Pooled)?;
        let scores = ready.objective.scores(&pooled)?;
        let rows = if M::VOTES { softmax(&scores)? } else { scores.to_dtype(DType::F32)? };
        let rows = rows.to_vec2::<f32>()?;
        for ((&i, row), weight) in batch.indices.iter().zip(&rows).zip(ready.modality.weights(&batch)?) {
            means.weigh(i, row, weight)?;
        }
    }
    let rows = Tensor::from_vec(means.rows()?, (set.len(), classes), &Device::Cpu)?;
    Ok(if M::VOTES { rows } else { softmax(&rows)? }.to_vec2()?)
}
