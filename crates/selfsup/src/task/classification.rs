//! One class for each sample, in every modality: encoder, linear head, cross entropy.

use super::{Build, Task, TaskKeys};
use crate::evaluate::Means;
use crate::modality::Modality;
use crate::set::{Set, Sets};
use candle_core::Device;
use selfsup_core::data::{LoaderConfig, Source};
use selfsup_core::objective::{Batch, Classify, ClassifyConfig, Inputs};
use selfsup_core::run::counted;
use selfsup_core::{Error, Result};
use selfsup_eval::metrics::{Confusion, expected_calibration_error, macro_auroc, negative_log_likelihood};
use serde_json::{Value, json};

/// The task.
pub struct Classification;

impl<M: Modality> Task<M> for Classification {
    type Objective = Classify;

    // Not the accuracy: on a few dozen labels it is level for many epochs, and the first of them is hardly
    // trained.
    const WATCHED: &'static str = "validation_log_likelihood";

    fn targets(sets: Sets) -> Result<(Sets, Vec<String>)> {
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

    fn build(_modality: &M, build: &Build) -> Result<Classify> {
        let classes = build.keys.classes.len();
        let config = ClassifyConfig {
            classes,
            label_smoothing: build.keys.label_smoothing,
            class_weights: build.weights.to_vec(),
            dropout: build.keys.dropout,
            frozen: build.keys.train_blocks == Some(0),
        };
        Classify::new(&build.scope, build.encoder, config)
    }

    fn batches(
        modality: &M,
        _keys: &TaskKeys,
        set: &Set,
        augment: bool,
        loader: LoaderConfig,
    ) -> Result<Box<dyn Source<Inputs>>> {
        modality.inputs(set, augment, loader)
    }

    fn measure(
        modality: &M,
        _keys: &TaskKeys,
        objective: &Classify,
        set: &Set,
        loader: &LoaderConfig,
        device: &Device,
    ) -> Result<Vec<(String, f64)>> {
        let probabilities = probabilities(modality, objective, set, loader, device)?;
        let labels = set.labels().ok_or_else(|| Error::input("measured samples", "some have no label"))?;
        let classes = objective.classes();
        let said: Vec<u32> = probabilities.iter().map(|row| best(row).0 as u32).collect();
        let confusion = Confusion::new(&said, &labels, classes)?;
        let flat: Vec<f32> = probabilities.concat();
        let loss = negative_log_likelihood(&flat, &labels, classes)?;
        let mut out = vec![
            ("accuracy".to_string(), 100.0 * confusion.accuracy()),
            ("balanced_accuracy".into(), 100.0 * confusion.balanced_accuracy()),
            ("macro_f1".into(), 100.0 * confusion.macro_f1()),
            ("majority".into(), 100.0 * confusion.majority()),
            ("loss".into(), loss),
            ("log_likelihood".into(), -loss),
            ("calibration_error".into(), 100.0 * expected_calibration_error(&flat, &labels, classes, 15)?),
        ];
        // Undefined where a class has no sample.
        if let Ok(auroc) = macro_auroc(&flat, &labels, classes) {
            out.push(("auroc".into(), 100.0 * auroc));
        }
        Ok(out)
    }

    fn predict(
        modality: &M,
        objective: &Classify,
        keys: &TaskKeys,
        set: &Set,
        loader: &LoaderConfig,
        device: &Device,
        each: &mut dyn FnMut(Vec<(String, Value)>) -> Result<()>,
    ) -> Result<()> {
        for (index, row) in probabilities(modality, objective, set, loader, device)?.iter().enumerate() {
            let (class, p) = best(row);
            let mut out = vec![
                ("path".to_string(), json!(set.records().id(index)?)),
                ("label".into(), json!(keys.classes.get(class))),
                ("confidence".into(), json!(p)),
            ];
            out.extend(keys.classes.iter().zip(row).map(|(name, p)| (format!("p({name})"), json!(p))));
            each(out)?;
        }
        Ok(())
    }
}

/// The largest value and its place; the first of equal ones.
fn best(row: &[f32]) -> (usize, f32) {
    row.iter().enumerate().fold((0, f32::NEG_INFINITY), |top, (i, &p)| if p > top.1 { (i, p) } else { top })
}

/// Probabilities of the classes for every sample, in the order of the set. Where a sample has several inputs
/// (patches of a volume), their mean.
fn probabilities<M: Modality>(
    modality: &M,
    objective: &Classify,
    set: &Set,
    loader: &LoaderConfig,
    device: &Device,
) -> Result<Vec<Vec<f32>>> {
    let classes = objective.classes();
    let mut means = Means::new(set.len(), classes);
    for loaded in counted("predictions: batch", &*modality.inputs(set, false, loader.clone())?)? {
        let batch = loaded?.batch.to_device(device)?;
        batch
            .indices
            .iter()
            .zip(objective.probabilities(&batch)?)
            .try_for_each(|(&i, row)| means.add(i, &row))?;
    }
    Ok(means.rows()?.chunks_exact(classes.max(1)).map(<[f32]>::to_vec).collect())
}
