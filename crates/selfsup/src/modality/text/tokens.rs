//! A tag for every word: names, parts of speech.

use super::packed::{Packed, check_keys, unpacked};
use super::{Keys, Text};
use crate::set::{Set, Sets};
use crate::task::classification::best;
use crate::task::{Answers, Ready, Task, TaskConfig, TaskKeys};
use candle_core::DType;
use selfsup_core::data::{Dataset, Loader, LoaderConfig, Source};
use selfsup_core::objective::Batch;
use selfsup_core::run::counted;
use selfsup_core::{Error, Pass, Result, Rng, Scope};
use selfsup_datasets::Records;
use selfsup_kernels::Path as Kernel;
use selfsup_kernels::softmax::softmax;
use selfsup_text::batch::{Example, IGNORED, Pad, Sequences};
use selfsup_text::conll::{self, Sentence};
use selfsup_text::metrics::{Reading, entity_f1};
use selfsup_text::task::{TokenClassifier, TokenConfig, align_labels};
use selfsup_text::tokenizer::Tokenizer;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

/// The task.
pub struct Tagging;

/// Sentences as examples: the first token of each word carries the number of its tag, or 0 where tags are not
/// known.
struct Sentences {
    records: Arc<dyn Records>,
    tokenizer: Tokenizer,
    classes: Vec<String>,
    longest: usize,
}

impl Dataset for Sentences {
    type Item = Example;

    fn len(&self) -> usize {
        self.records.len()
    }

    fn get(&self, index: usize) -> Result<Example> {
        let sentence: Sentence = unpacked(&self.records, index)?;
        let example = self.tokenizer.sentence(&sentence.words, self.longest)?;
        let number = |tag: &String| -> Result<i64> {
            let found = self.classes.iter().position(|c| c == tag);
            found.map(|i| i as i64).ok_or_else(|| {
                Error::input(&sentence.id, format!("tag {tag}, which no training sentence has"))
            })
        };
        let labels = match sentence.tags.is_empty() {
            true => vec![0; sentence.words.len()],
            false => sentence.tags.iter().map(number).collect::<Result<_>>()?,
        };
        let labels = align_labels(&example.words, &labels).map_err(|e| Error::input(&sentence.id, e))?;
        Ok(Example { labels, ..example })
    }
}

fn sentences(what: &str, tagged: bool) -> Result<Set> {
    let read = conll::read(Path::new(what), tagged)?;
    read.notes.iter().for_each(crate::say::note);
    Ok(Set::new(Packed::new(read.sentences.into_iter().map(|s| (s.id.clone(), None, s)))?))
}

fn batches(
    modality: &Text,
    keys: &TaskKeys,
    set: &Set,
    loader: LoaderConfig,
) -> Result<Box<dyn Source<Sequences>>> {
    let data = Sentences {
        records: set.records().clone(),
        tokenizer: modality.tokenizer().clone(),
        classes: keys.classes.clone(),
        longest: modality.longest()?,
    };
    let same = Arc::new(|e: Example, _: &mut Rng| Ok(e));
    Ok(Box::new(Loader::new(
        Arc::new(data),
        same,
        Arc::new(Pad { pad: modality.tokenizer().vocabulary().pad, length: None }),
        loader,
    )?))
}

/// For each sentence its words and the probabilities of the classes at each; of the words behind the longest
/// input there are none.
fn each(
    ready: &Ready<Text, Tagging>,
    set: &Set,
    f: &mut dyn FnMut(Sentence, Vec<Vec<f32>>) -> Result<()>,
) -> Result<()> {
    let source = batches(ready.modality, ready.keys, set, ready.loader.clone())?;
    let (mut cut, mut sentences) = (0, 0);
    for loaded in counted("predictions: batch", &*source)? {
        let batch = loaded?.batch.to_device(ready.device)?;
        let logits = ready.objective.logits(&batch, &Pass::eval())?.detach().to_dtype(DType::F32)?;
        let scores = softmax(&logits, Kernel::Auto)?.to_vec3::<f32>()?;
        let labels = batch.labels.to_vec2::<i64>()?;
        for ((rows, labels), &index) in scores.into_iter().zip(labels).zip(&batch.indices) {
            let at_words: Vec<Vec<f32>> =
                rows.into_iter().zip(labels).filter(|(_, l)| *l != IGNORED).map(|(row, _)| row).collect();
            let sentence: Sentence = unpacked(set.records(), index)?;
            let behind = sentence.words.len().saturating_sub(at_words.len());
            cut += behind;
            sentences += usize::from(behind > 0);
            f(sentence, at_words)?;
        }
    }
    if cut > 0 {
        let longest = ready.modality.longest()?;
        crate::say::warning(format_args!(
            "{cut} words of {sentences} sentences lie behind {longest} tokens (corpus.length): they get no tag and count as missed"
        ));
    }
    Ok(())
}

impl Task<Text> for Tagging {
    type Objective = TokenClassifier;

    // Entity F1 is 0 for many epochs on a few sentences.
    const WATCHED: &'static str = "validation_log_likelihood";
    // Words stand for their tags or places: they are read as they are.
    const CORRUPTIBLE: bool = false;
    const SCORE: &'static str = "f1";
    const READS: &'static [&'static str] = &["label_smoothing", "dropout"];

    fn check(config: &TaskConfig<Keys>) -> Result<()> {
        check_keys(config)
    }

    fn open(_modality: &Text, what: &str, labelled: bool) -> Result<Set> {
        sentences(what, labelled)
    }

    fn targets(sets: Sets, _keys: &TaskKeys) -> Result<(Sets, Vec<String>)> {
        let all = |set: &Set| {
            (0..set.len()).map(|i| unpacked::<Sentence>(set.records(), i)).collect::<Result<Vec<_>>>()
        };
        let classes = conll::classes(&all(&sets.train)?);
        for set in [&sets.held_out, &sets.test].into_iter().flatten() {
            for sentence in all(set)? {
                if let Some(tag) = sentence.tags.iter().find(|t| !classes.contains(t)) {
                    return Err(Error::input(
                        &sentence.id,
                        format!("tag {tag}, which no training sentence has ({})", classes.join(", ")),
                    ));
                }
            }
        }
        Ok((sets, classes))
    }

    fn build(
        modality: &Text,
        scope: &Scope,
        keys: &TaskKeys,
        _class_weights: &[f32],
    ) -> Result<TokenClassifier> {
        let config = TokenConfig {
            classes: keys.classes.len(),
            dropout: keys.dropout,
            label_smoothing: keys.label_smoothing,
            ..TokenConfig::default()
        };
        TokenClassifier::new(scope, modality.bert()?, config)
    }

    fn batches(
        modality: &Text,
        keys: &TaskKeys,
        set: &Set,
        loader: LoaderConfig,
    ) -> Result<Box<dyn Source<Sequences>>> {
        batches(modality, keys, set, loader)
    }

    fn measure(ready: &Ready<Text, Self>, set: &Set) -> Result<Vec<(String, f64)>> {
        let classes = &ready.keys.classes;
        let (mut wanted, mut found) = (Vec::new(), Vec::new());
        let (mut likelihood, mut right, mut seen, mut words) = (0.0, 0usize, 0usize, 0usize);
        each(ready, set, &mut |sentence, rows| {
            let mut tags: Vec<String> = Vec::with_capacity(sentence.words.len());
            for (row, tag) in rows.iter().zip(&sentence.tags) {
                let (class, _) = best(row);
                let truth = classes.iter().position(|c| c == tag).unwrap_or(usize::MAX);
                likelihood += f64::from(row.get(truth).copied().unwrap_or(0.0).max(f32::MIN_POSITIVE)).ln();
                right += usize::from(class == truth);
                seen += 1;
                tags.push(classes[class].clone());
            }
            // What was cut off was not found.
            words += sentence.words.len();
            tags.resize(sentence.words.len(), "O".into());
            wanted.push(sentence.tags);
            found.push(tags);
            Ok(())
        })?;
        let likelihood = likelihood / seen.max(1) as f64;
        let mut out = vec![
            ("accuracy".to_string(), 100.0 * right as f64 / words.max(1) as f64),
            ("loss".into(), -likelihood),
            ("log_likelihood".into(), likelihood),
        ];
        if conll::of_entities(classes) {
            for (mark, reading) in [("", Reading::Default), ("strict_", Reading::Strict)] {
                let (all, types) = entity_f1(&wanted, &found, reading);
                let named = |name: &str, share: f64| (format!("{mark}{name}"), 100.0 * share);
                out.push(named("precision", all.precision));
                out.push(named("recall", all.recall));
                out.push(named("f1", all.f1));
                out.extend(types.iter().map(|(kind, s)| named(&format!("f1_{kind}"), s.f1)));
            }
        }
        Ok(out)
    }

    fn predict(ready: &Ready<Text, Self>, set: &Set, answers: &mut dyn Answers) -> Result<()> {
        let classes = &ready.keys.classes;
        each(ready, set, &mut |sentence, rows| {
            for (k, word) in sentence.words.iter().enumerate() {
                // Words behind the longest input have no tag.
                let found = rows.get(k).map(|row| best(row));
                answers.row(vec![
                    ("sentence".to_string(), json!(sentence.id)),
                    ("word".into(), json!(word)),
                    ("tag".into(), json!(found.map(|(class, _)| &classes[class]))),
                    ("confidence".into(), json!(found.map(|(_, p)| p))),
                ])?;
            }
            Ok(())
        })
    }
}
