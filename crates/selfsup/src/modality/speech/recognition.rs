//! Recognition with CTC: characters on every frame, read off greedily.

use super::{Speech, WINDOW, corpus};
use crate::set::{Set, Sets};
use crate::task::{Build, Task, TaskKeys};
use candle_core::{DType, Device};
use selfsup_core::data::{Loader, LoaderConfig, Source};
use selfsup_core::objective::Batch;
use selfsup_core::run::counted;
use selfsup_core::{Error, Pass, Result};
use selfsup_eval::text::{cer, wer};
use selfsup_speech::batch::{Target, Waves};
use selfsup_speech::data::{Clip, Padded, Prepare, PrepareConfig, Targets};
use selfsup_speech::finetune::{Ctc, CtcConfig, Units, Vocabulary};
use selfsup_speech::search::greedy;
use serde_json::{Value, json};
use std::sync::Arc;

/// The task.
pub struct Recognition;

/// Transcripts as ids; recordings to be recognised may have none.
struct Spelled {
    vocabulary: Vocabulary,
    needed: bool,
}

impl Targets for Spelled {
    fn of(&self, clip: &Clip, _start: u64, _len: usize) -> Result<Target> {
        match &clip.transcript {
            Some(text) => Ok(Target::Transcript(self.vocabulary.encode(text))),
            None if self.needed => Err(Error::input(&clip.id, "has no transcript")),
            None => Ok(Target::None),
        }
    }

    fn of_parts(&self) -> bool {
        false
    }
}

/// The vocabulary whose tokens `[task]` lists: characters in the order of their ids.
fn vocabulary(tokens: &[String]) -> Result<Vocabulary> {
    let text: String = tokens.iter().filter(|t| t.chars().count() == 1).cloned().collect();
    Vocabulary::build([text.as_str()], Units::Characters)
}

/// The records that have a transcript.
fn spoken(set: &Set) -> Result<(Option<Set>, Vec<String>)> {
    let (mut with, mut said) = (Vec::new(), Vec::new());
    for (i, clip) in corpus(set)?.clips().iter().enumerate() {
        if let Some(text) = &clip.transcript {
            with.push(i);
            said.push(text.clone());
        }
    }
    Ok((if with.is_empty() { None } else { Some(set.part(with)?) }, said))
}

impl Task<Speech> for Recognition {
    type Objective = Ctc;

    const WATCHED: &'static str = "validation_character_accuracy";

    fn targets(sets: Sets) -> Result<(Sets, Vec<String>)> {
        let (train, said) = spoken(&sets.train)?;
        let train = train.ok_or_else(|| {
            Error::input(
                "training data",
                "no transcripts: give a table with --labels FILE.csv (columns path and transcript), or NAME.txt beside NAME.wav",
            )
        })?;
        let vocabulary = Vocabulary::build(said.iter().map(String::as_str), Units::Characters)?;
        let part = |set: Option<Set>| -> Result<Option<Set>> {
            Ok(set.map(|s| spoken(&s)).transpose()?.and_then(|(s, _)| s))
        };
        let sets = Sets { held_out: part(sets.held_out)?, test: part(sets.test)?, train };
        Ok((sets, vocabulary.tokens().to_vec()))
    }

    fn build(modality: &Speech, build: &Build) -> Result<Ctc> {
        let keys = build.keys;
        // A front of random weights has nothing to keep.
        let started = !keys.scratch && (!keys.run.is_empty() || modality.keys.encoder.pretrained.is_some());
        let config = CtcConfig { freeze_front: started, final_dropout: keys.dropout };
        Ctc::new(&build.scope, modality.encoder.clone(), config, keys.classes.len())
    }

    fn batches(
        modality: &Speech,
        keys: &TaskKeys,
        set: &Set,
        augment: bool,
        loader: LoaderConfig,
    ) -> Result<Box<dyn Source<Waves>>> {
        waves(modality, keys, set, augment, loader, true)
    }

    fn measure(
        modality: &Speech,
        keys: &TaskKeys,
        objective: &Ctc,
        set: &Set,
        loader: &LoaderConfig,
        device: &Device,
    ) -> Result<Vec<(String, f64)>> {
        let vocabulary = vocabulary(&keys.classes)?;
        let clips = corpus(set)?;
        let (mut said, mut heard) = (Vec::new(), Vec::new());
        each(
            &*waves(modality, keys, set, false, loader.clone(), true)?,
            objective,
            &vocabulary,
            device,
            &mut |index, text| {
                said.push(clips.clips()[index].transcript.clone().unwrap_or_default());
                heard.push(text);
                Ok(())
            },
        )?;
        let (c, w) = (cer(&said, &heard)?, wer(&said, &heard)?);
        Ok(vec![
            ("character_accuracy".into(), 100.0 * (1.0 - c)),
            ("cer".into(), 100.0 * c),
            ("wer".into(), 100.0 * w),
        ])
    }

    fn predict(
        modality: &Speech,
        objective: &Ctc,
        keys: &TaskKeys,
        set: &Set,
        loader: &LoaderConfig,
        device: &Device,
        each_row: &mut dyn FnMut(Vec<(String, Value)>) -> Result<()>,
    ) -> Result<()> {
        let vocabulary = vocabulary(&keys.classes)?;
        each(
            &*waves(modality, keys, set, false, loader.clone(), false)?,
            objective,
            &vocabulary,
            device,
            &mut |index, text| {
                each_row(vec![
                    ("path".to_string(), json!(set.records().id(index)?)),
                    ("transcript".into(), json!(text)),
                ])
            },
        )
    }
}

/// Whole recordings: a transcript is not that of a part.
fn waves(
    modality: &Speech,
    task: &TaskKeys,
    set: &Set,
    augment: bool,
    loader: LoaderConfig,
    needed: bool,
) -> Result<Box<dyn Source<Waves>>> {
    let mut config = PrepareConfig { crop_seconds: None, random_crop: false, ..modality.keys.input.clone() };
    if !augment {
        config.augment = Vec::new();
    }
    let prepare = Arc::new(Prepare::with_targets(
        config,
        Arc::new(Spelled { vocabulary: vocabulary(&task.classes)?, needed }),
    )?);
    if !augment {
        return Ok(Box::new(Loader::new(Arc::new(corpus(set)?), prepare, Arc::new(Padded), loader)?));
    }
    // Training: batches of like length, of recordings within the bounds.
    let measured = modality.measured(&modality.within(set)?, loader.max_bad_fraction)?;
    let lengths = measured.lengths(None);
    Ok(Box::new(Loader::by_length(Arc::new(measured), prepare, Arc::new(Padded), loader, lengths, WINDOW)?))
}

/// What is heard in each recording of `source`, with its index.
fn each(
    source: &dyn Source<Waves>,
    objective: &Ctc,
    vocabulary: &Vocabulary,
    device: &Device,
    f: &mut dyn FnMut(usize, String) -> Result<()>,
) -> Result<()> {
    for loaded in counted("transcripts: batch", source)? {
        let batch = loaded?.batch.to_device(device)?;
        let (logits, counts) = objective.logits(&batch, &Pass::eval())?;
        let (_, _, labels) = logits.dims3()?;
        for (i, (&index, frames)) in batch.indices.iter().zip(counts).enumerate() {
            let scores = logits
                .get(i)?
                .narrow(0, 0, frames)?
                .detach()
                .to_dtype(DType::F32)?
                .to_device(&Device::Cpu)?;
            let best = greedy(&scores.flatten_all()?.to_vec1::<f32>()?, labels, Vocabulary::BLANK)?;
            f(index, vocabulary.decode(&best.labels))?;
        }
    }
    Ok(())
}
