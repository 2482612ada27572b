//! Recognition with CTC: characters on every frame, read off greedily.

use super::{Speech, WINDOW, corpus};
use crate::set::{Set, Sets};
use crate::task::{Answers, Ready, Task, TaskKeys};
use candle_core::{DType, Device};
use selfsup_core::data::{Loader, LoaderConfig, Source};
use selfsup_core::objective::Batch;
use selfsup_core::run::counted;
use selfsup_core::{Error, Pass, Result, Scope};
use selfsup_eval::text::{cer, wer};
use selfsup_speech::batch::{Target, Waves};
use selfsup_speech::data::{Clip, Padded, Prepare, PrepareConfig, Targets};
use selfsup_speech::finetune::{Ctc, CtcConfig, Units, Vocabulary};
use selfsup_speech::search::greedy;
use serde_json::json;
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

/// The records that have a transcript, and the transcripts.
fn transcribed(set: &Set) -> Result<(Option<Set>, Vec<String>)> {
    let (mut with, mut texts) = (Vec::new(), Vec::new());
    for (i, clip) in corpus(set)?.clips().iter().enumerate() {
        if let Some(text) = &clip.transcript {
            with.push(i);
            texts.push(text.clone());
        }
    }
    Ok((if with.is_empty() { None } else { Some(set.part(with)?) }, texts))
}

impl Task<Speech> for Recognition {
    type Objective = Ctc;

    const WATCHED: &'static str = "validation_character_accuracy";
    const READS: &'static [&'static str] = &["dropout"];
    const OUTPUTS: &'static str = "tokens";

    fn targets(sets: Sets) -> Result<(Sets, Vec<String>)> {
        let (train, texts) = transcribed(&sets.train)?;
        let train = train.ok_or_else(|| {
            Error::input(
                "training data",
                "no transcripts: give a table with --labels FILE.csv (columns path and transcript), or NAME.txt beside NAME.wav",
            )
        })?;
        let vocabulary = Vocabulary::build(texts.iter().map(String::as_str), Units::Characters)?;
        let part = |set: Option<Set>| -> Result<Option<Set>> {
            Ok(set.map(|s| transcribed(&s)).transpose()?.and_then(|(s, _)| s))
        };
        let sets = Sets { held_out: part(sets.held_out)?, test: part(sets.test)?, train };
        Ok((sets, vocabulary.tokens().to_vec()))
    }

    fn build(modality: &Speech, scope: &Scope, keys: &TaskKeys, _class_weights: &[f32]) -> Result<Ctc> {
        // A front of random weights has nothing to keep.
        let started = !keys.scratch && (!keys.run.is_empty() || modality.keys.encoder.pretrained.is_some());
        let config = CtcConfig { freeze_front: started, final_dropout: keys.dropout };
        Ctc::new(scope, modality.encoder.clone(), config, keys.classes.len())
    }

    /// Batches of like length, of recordings within the bounds.
    fn batches(
        modality: &Speech,
        keys: &TaskKeys,
        set: &Set,
        loader: LoaderConfig,
    ) -> Result<Box<dyn Source<Waves>>> {
        let prepare = Arc::new(whole(modality, keys, true, true)?);
        let measured = modality.measured(&modality.within(set)?, loader.max_bad_fraction)?;
        let lengths = measured.lengths(None);
        Ok(Box::new(Loader::by_length(
            Arc::new(measured),
            prepare,
            Arc::new(Padded),
            loader,
            lengths,
            WINDOW,
        )?))
    }

    fn measure(ready: &Ready<Speech, Self>, set: &Set) -> Result<Vec<(String, f64)>> {
        let clips = corpus(set)?;
        let (mut wanted, mut heard) = (Vec::new(), Vec::new());
        each(ready, set, true, &mut |index, text| {
            wanted.push(clips.clips()[index].transcript.clone().unwrap_or_default());
            heard.push(text);
            Ok(())
        })?;
        let (c, w) = (cer(&wanted, &heard)?, wer(&wanted, &heard)?);
        Ok(vec![
            ("character_accuracy".into(), 100.0 * (1.0 - c)),
            ("cer".into(), 100.0 * c),
            ("wer".into(), 100.0 * w),
        ])
    }

    fn predict(ready: &Ready<Speech, Self>, set: &Set, answers: &mut dyn Answers) -> Result<()> {
        each(ready, set, false, &mut |index, text| {
            answers.row(vec![
                ("path".to_string(), json!(set.records().id(index)?)),
                ("transcript".into(), json!(text)),
            ])
        })
    }
}

/// Prepares whole recordings: a transcript is not that of a part.
fn whole(modality: &Speech, task: &TaskKeys, augment: bool, needed: bool) -> Result<Prepare> {
    let mut config = PrepareConfig { crop_seconds: None, random_crop: false, ..modality.keys.input.clone() };
    if !augment {
        config.augment = Vec::new();
    }
    Prepare::with_targets(config, Arc::new(Spelled { vocabulary: vocabulary(&task.classes)?, needed }))
}

/// What is heard in each recording of `set`, with its index; with `needed` each must have a transcript.
fn each(
    ready: &Ready<Speech, Recognition>,
    set: &Set,
    needed: bool,
    f: &mut dyn FnMut(usize, String) -> Result<()>,
) -> Result<()> {
    let vocabulary = vocabulary(&ready.keys.classes)?;
    let prepare = Arc::new(whole(ready.modality, ready.keys, false, needed)?);
    let source = Loader::new(Arc::new(corpus(set)?), prepare, Arc::new(Padded), ready.loader.clone())?;
    for loaded in counted("transcripts: batch", &source)? {
        let batch = loaded?.batch.to_device(ready.device)?;
        let (logits, counts) = ready.objective.logits(&batch, &Pass::eval())?;
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
