//! Extractive question answering: where in its text a question's answer stands.

use super::packed::{Packed, check_keys, unpacked};
use super::{Keys, Text};
use crate::set::{Set, Sets};
use crate::task::{Answers, Ready, Task, TaskConfig, TaskKeys};
use candle_core::DType;
use selfsup_core::data::{Collate, Dataset, Loader, LoaderConfig, Source};
use selfsup_core::objective::Batch;
use selfsup_core::{Error, Key, Pass, Result, Rng, Scope};
use selfsup_datasets::Records;
use selfsup_text::batch::{Example, Pad, Sequences};
use selfsup_text::squad::{self, Question};
use selfsup_text::task::{AnswerConfig, AnswerFinder};
use selfsup_text::tokenizer::{Tokenizer, Window};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The task.
pub struct Answering;

/// What the head's outputs are; the third stands in the list where a question may have no answer.
const OUTPUTS: [&str; 3] = ["start", "end", "none"];
/// Most tokens of an answer (BERT's).
const MOST: usize = 30;

/// How questions become windows.
#[derive(Clone)]
struct Cut {
    tokenizer: Tokenizer,
    longest: usize,
    /// Whether the encoder tells the question from the text.
    types: bool,
}

impl Cut {
    fn new(modality: &Text) -> Result<Self> {
        Ok(Cut {
            tokenizer: modality.tokenizer().clone(),
            longest: modality.longest()?,
            types: modality.bert()?.types > 1,
        })
    }

    /// A third of a window is shared with the next one, as SQuAD's 128 of 384.
    fn windows(&self, question: &Question) -> Result<Vec<Window>> {
        let mut made = squad::windows(&self.tokenizer, question, self.longest, self.longest / 3)
            .map_err(|e| Error::input(format!("question {}", question.id), e))?;
        if !self.types {
            made.iter_mut().for_each(|w| w.example.types.clear());
        }
        Ok(made)
    }

    fn pad(&self) -> Pad {
        Pad { pad: self.tokenizer.vocabulary().pad, length: None }
    }
}

/// Windows of all questions: which question, and which of its windows.
struct Windows {
    records: Arc<dyn Records>,
    cut: Cut,
    places: Vec<(u32, u32)>,
}

impl Windows {
    fn new(set: &Set, cut: Cut) -> Result<Self> {
        let mut places = Vec::with_capacity(set.len());
        for i in 0..set.len() {
            let count = cut.windows(&unpacked(set.records(), i)?)?.len();
            places.extend((0..count).map(|k| (i as u32, k as u32)));
        }
        Ok(Windows { records: set.records().clone(), cut, places })
    }
}

impl Dataset for Windows {
    type Item = Example;

    fn len(&self) -> usize {
        self.places.len()
    }

    fn get(&self, index: usize) -> Result<Example> {
        let gone = || Error::input("windows", format!("there is no window {index} of {}", self.places.len()));
        let &(record, k) = self.places.get(index).ok_or_else(gone)?;
        let mut windows = self.cut.windows(&unpacked(&self.records, record as usize)?)?;
        if (k as usize) < windows.len() { Ok(windows.swap_remove(k as usize).example) } else { Err(gone()) }
    }
}

fn questions(what: &str, labelled: bool) -> Result<Set> {
    let path = Path::new(what);
    let found = if labelled { squad::read(path)? } else { squad::read_unanswered(path)? };
    if found.is_empty() {
        return Err(Error::file(path, "no question in this file"));
    }
    // Questions on the same text stay together.
    Ok(Set::new(Packed::new(
        found.into_iter().map(|q| (format!("{what}: {}", q.id), Some(q.context.clone()), q)),
    )?))
}

/// The best answer to each question of `set`, with its score.
fn each(
    ready: &Ready<Text, Answering>,
    set: &Set,
    f: &mut dyn FnMut(Question, Option<String>, f32) -> Result<()>,
) -> Result<()> {
    let cut = Cut::new(ready.modality)?;
    let batch_size = ready.loader.batch_size;
    let may_be_none = ready.keys.classes.iter().any(|c| c == OUTPUTS[2]);
    let mut open: Vec<(Question, Vec<Window>)> = Vec::new();
    let mut flush = |open: &mut Vec<(Question, Vec<Window>)>| -> Result<()> {
        let examples: Vec<Example> =
            open.iter().flat_map(|(_, w)| w.iter().map(|w| w.example.clone())).collect();
        let mut scores = Vec::with_capacity(examples.len());
        for (b, part) in examples.chunks(batch_size.max(1)).enumerate() {
            let indices: Vec<usize> = (0..part.len()).collect();
            let batch =
                cut.pad().collate(part.to_vec(), &indices, Key::new(b as u64))?.to_device(ready.device)?;
            let (start, end) = ready.objective.logits(&batch, &Pass::eval())?;
            let rows = |t: candle_core::Tensor| -> Result<Vec<Vec<f32>>> {
                Ok(t.detach().to_dtype(DType::F32)?.to_vec2()?)
            };
            scores.extend(rows(start)?.into_iter().zip(rows(end)?));
        }
        let mut rest = scores.as_slice();
        for (question, windows) in open.drain(..) {
            let (own, after) = rest.split_at(windows.len().min(rest.len()));
            rest = after;
            let found = squad::best(&windows, own, MOST, may_be_none);
            let answer = found.span.and_then(|(a, b)| question.context.get(a..b)).map(str::to_string);
            f(question, answer, found.score)?;
        }
        Ok(())
    };
    for i in 0..set.len() {
        let question: Question = unpacked(set.records(), i)?;
        let windows = cut.windows(&question)?;
        open.push((question, windows));
        if open.iter().map(|o| o.1.len()).sum::<usize>() >= batch_size {
            flush(&mut open)?;
        }
    }
    flush(&mut open)
}

impl Task<Text> for Answering {
    type Objective = AnswerFinder;

    const WATCHED: &'static str = "validation_f1";
    // Words stand for their tags or places: they are read as they are.
    const CORRUPTIBLE: bool = false;
    const SCORE: &'static str = "f1";
    const READS: &'static [&'static str] = &[];
    const OUTPUTS: &'static str = "scores a token";

    fn check(config: &TaskConfig<Keys>) -> Result<()> {
        check_keys(config)
    }

    fn open(_modality: &Text, what: &str, labelled: bool) -> Result<Set> {
        questions(what, labelled)
    }

    fn targets(sets: Sets, _keys: &TaskKeys) -> Result<(Sets, Vec<String>)> {
        let mut none = false;
        for i in 0..sets.train.len() {
            none |= unpacked::<Question>(sets.train.records(), i)?.answers.is_empty();
        }
        Ok((sets, OUTPUTS[..if none { 3 } else { 2 }].iter().map(|s| (*s).to_string()).collect()))
    }

    fn build(
        modality: &Text,
        scope: &Scope,
        _keys: &TaskKeys,
        _class_weights: &[f32],
    ) -> Result<AnswerFinder> {
        AnswerFinder::new(scope, modality.bert()?, &AnswerConfig::default())
    }

    fn batches(
        modality: &Text,
        _keys: &TaskKeys,
        set: &Set,
        loader: LoaderConfig,
    ) -> Result<Box<dyn Source<Sequences>>> {
        let windows = Windows::new(set, Cut::new(modality)?)?;
        let pad = windows.cut.pad();
        let same = Arc::new(|e: Example, _: &mut Rng| Ok(e));
        Ok(Box::new(Loader::new(Arc::new(windows), same, Arc::new(pad), loader)?))
    }

    fn measure(ready: &Ready<Text, Self>, set: &Set) -> Result<Vec<(String, f64)>> {
        let (mut asked, mut found) = (Vec::new(), BTreeMap::new());
        each(ready, set, &mut |question, answer, _| {
            // Ids of several files may be the same: questions are told apart by their number.
            let id = asked.len().to_string();
            found.insert(id.clone(), answer.unwrap_or_default());
            asked.push(Question { id, ..question });
            Ok(())
        })?;
        let (exact, f1) = squad::evaluate(&asked, &found);
        Ok(vec![("f1".to_string(), f1), ("exact_match".into(), exact)])
    }

    fn predict(ready: &Ready<Text, Self>, set: &Set, answers: &mut dyn Answers) -> Result<()> {
        each(ready, set, &mut |question, answer, score| {
            answers.row(vec![
                ("id".to_string(), json!(question.id)),
                ("question".into(), json!(question.question)),
                ("answer".into(), json!(answer)),
                ("score".into(), json!(score)),
            ])
        })
    }
}
