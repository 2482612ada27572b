//! Recognition with CTC: characters on every frame, read off greedily.

use super::folder::shown;
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
use selfsup_speech::data::{Clip, Corpus, Padded, Prepare, PrepareConfig, Targets};
use selfsup_speech::finetune::{Ctc, CtcConfig, Units, Vocabulary, frames_needed};
use selfsup_speech::search::collapse;
use serde_json::json;
use std::sync::Arc;

/// Seconds that are heard on each side of a window of a long recording.
const CONTEXT: f64 = 2.0;

/// The task.
pub struct Recognition;

/// Transcripts as ids.
struct Spelled {
    vocabulary: Vocabulary,
}

impl Targets for Spelled {
    fn of(&self, clip: &Clip, _start: u64, _len: usize) -> Result<Target> {
        match &clip.transcript {
            Some(text) => Ok(Target::Transcript(self.vocabulary.encode(text))),
            None => Err(Error::input(&clip.id, "has no transcript")),
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
    let (mut with, mut texts, mut without) = (Vec::new(), Vec::new(), Vec::new());
    let corpus = corpus(set)?;
    for (i, clip) in corpus.clips().iter().enumerate() {
        match &clip.transcript {
            Some(text) => {
                with.push(i);
                texts.push(text.clone());
            }
            None => without.push(clip.id.as_str()),
        }
    }
    if !(without.is_empty() || with.is_empty()) {
        crate::say::warning(format_args!(
            "{} of {} recordings are left out, they have no transcript (none, an empty one, punctuation only, or not UTF-8): {}",
            without.len(),
            set.len(),
            shown(&without)
        ));
    }
    Ok((if with.is_empty() { None } else { Some(set.part(with)?) }, texts))
}

impl Task<Speech> for Recognition {
    type Objective = Ctc;

    const WATCHED: &'static str = "validation_character_accuracy";
    const READS: &'static [&'static str] = &["dropout"];
    const OUTPUTS: &'static str = "tokens";
    const SCORE: &'static str = "character_accuracy";

    fn seconds(modality: &Speech, set: &Set) -> Result<Option<Vec<f64>>> {
        let rate = modality.keys.input.audio.rate;
        let samples = corpus(set)?.each(&|clip: &Clip| clip.samples(rate).ok());
        Ok(Some(samples.into_iter().map(|n| n.map_or(0.0, |n| n as f64 / f64::from(rate))).collect()))
    }

    fn targets(sets: Sets, _keys: &TaskKeys) -> Result<(Sets, Vec<String>)> {
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
        let prepare = Arc::new(whole(modality, keys)?);
        let measured = modality.measured(&modality.within(set)?, loader.max_bad_fraction)?;
        let measured = fitting(modality, &vocabulary(&keys.classes)?, &measured)?;
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
        if let Some(clip) = clips.clips().iter().find(|clip| clip.transcript.is_none()) {
            return Err(Error::input(&clip.id, "has no transcript"));
        }
        let (mut wanted, mut heard) = (Vec::new(), Vec::new());
        each(ready, set, &mut |index, text| {
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
        each(ready, set, &mut |index, text| {
            answers.row(vec![
                ("path".to_string(), json!(set.records().id(index)?)),
                ("transcript".into(), json!(text)),
            ])
        })
    }
}

/// The clips whose transcript fits their frames; the others are counted and named.
fn fitting(modality: &Speech, vocabulary: &Vocabulary, measured: &Corpus) -> Result<Corpus> {
    let rate = f64::from(modality.keys.input.audio.rate);
    let mut out = Vec::new();
    let mut kept = Vec::with_capacity(measured.clips().len());
    for (i, clip) in measured.clips().iter().enumerate() {
        let needed = frames_needed(&vocabulary.encode(clip.transcript.as_deref().unwrap_or_default()));
        match clip.seconds.map(|s| modality.encoder.frames((s * rate).round() as usize)) {
            Some(frames) if frames < needed => {
                out.push(format!("{} ({needed} in {frames})", clip.id));
            }
            _ => kept.push(i),
        }
    }
    if out.is_empty() {
        return Ok(measured.clone());
    }
    let names: Vec<&str> = out.iter().map(String::as_str).collect();
    let all = measured.clips().len();
    if kept.is_empty() {
        return Err(Error::input(
            "recordings",
            format!("none of {all} transcripts fits the frames of its recording: {}", shown(&names)),
        ));
    }
    crate::say::warning(format_args!(
        "{} of {all} transcripts are left out, they need more frames than their recordings have: {}",
        out.len(),
        shown(&names)
    ));
    measured.select(&kept)
}

/// Prepares whole recordings: a transcript is not that of a part.
fn whole(modality: &Speech, task: &TaskKeys) -> Result<Prepare> {
    let config = PrepareConfig { crop_seconds: None, random_crop: false, ..modality.keys.input.clone() };
    Prepare::with_targets(config, Arc::new(Spelled { vocabulary: vocabulary(&task.classes)? }))
}

/// What is heard in each recording of `set`, with its index. Windows of a long recording have some seconds of
/// context on both sides; the best labels of their own frames make up one path.
fn each(
    ready: &Ready<Speech, Recognition>,
    set: &Set,
    f: &mut dyn FnMut(usize, String) -> Result<()>,
) -> Result<()> {
    let vocabulary = vocabulary(&ready.keys.classes)?;
    let parts = Arc::new(ready.modality.parts(set, CONTEXT)?);
    let source = Speech::part_loader(parts.clone(), Padded, ready.loader.clone())?;
    let mut path: Vec<u32> = Vec::new();
    for loaded in counted("transcripts: batch", &*source)? {
        let batch = loaded?.batch.to_device(ready.device)?;
        for run in ready.modality.runs(&batch.lengths) {
            let batch = batch.trimmed(run)?;
            let (logits, counts) = ready.objective.logits(&batch, &Pass::eval())?;
            let logits = logits.detach().to_dtype(DType::F32)?.to_device(&Device::Cpu)?;
            for (i, (&index, frames)) in batch.indices.iter().zip(counts).enumerate() {
                let part = parts.parts()[index];
                let (skip, count) = part.kept.unwrap_or((0, frames));
                let count = count.min(frames.saturating_sub(skip));
                let scores = logits.get(i)?.narrow(0, skip.min(frames), count)?;
                path.extend(scores.argmax(1)?.to_vec1::<u32>()?);
                if parts.parts().get(index + 1).is_none_or(|next| next.clip != part.clip) {
                    f(part.clip, vocabulary.decode(&collapse(&path, Vocabulary::BLANK)))?;
                    path.clear();
                }
            }
        }
    }
    Ok(())
}
