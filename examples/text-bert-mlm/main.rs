//! A small BERT on WordNet's glosses, and what it is good for: masked accuracy and perplexity against unigrams, and the topic of a gloss from
//! few labels, frozen and fine-tuned, against the same encoder with random weights and from scratch.
//!
//!     cargo run --release --example text-bert-mlm -- DATA_NOUN FOLDER [--steps 4000] [--seconds 0] [--seed 0]
//!
//! `FOLDER` keeps the tokenizer and the run; a second call goes on where the first stopped (`--seconds` stops it).

#![allow(clippy::print_stdout)] // a report is what this program is

mod glosses;

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use glosses::{Gloss, Glosses};
use selfsup::core::checkpoint::Checkpoint;
use selfsup::core::data::{Collate, Dataset, Loader, LoaderConfig, Transform};
use selfsup::core::objective::Objective;
use selfsup::core::optim::OptimConfig;
use selfsup::core::run::Run;
use selfsup::core::signal::Stop;
use selfsup::core::trainer::{TrainConfig, Trainer};
use selfsup::core::{Encoder, Error, Key, Params, Pass, Rng, Scope, weights};
use selfsup::eval::{Matrix, linear::CvConfig, linear::LinearProbe, linear::Standardizer};
use selfsup::text::batch::{Example, IGNORED, Pad, Sequences};
use selfsup::text::encoder::BertConfig;
use selfsup::text::export::export;
use selfsup::text::fill::fill_mask;
use selfsup::text::mask::Masking;
use selfsup::text::method::MaskedLm;
use selfsup::text::recipe::{Architecture, EncoderConfig, MethodConfig};
use selfsup::text::task::{SequenceClassifier, SequenceConfig};
use selfsup::text::tokenizer::{Tokenizer, TokenizerConfig, TokenizerKind, train};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const VOCABULARY: usize = 8000;
const LONGEST: usize = 64;

/// Examples in memory.
struct Examples(Vec<Example>);

impl Dataset for Examples {
    type Item = Example;
    fn len(&self) -> usize {
        self.0.len()
    }
    fn get(&self, index: usize) -> selfsup::core::Result<Example> {
        self.0.get(index).cloned().ok_or_else(|| Error::input("gloss", format!("{index} of {}", self.0.len())))
    }
}

struct Options {
    data: PathBuf,
    folder: PathBuf,
    steps: u64,
    seconds: u64,
    seed: u64,
}

fn options() -> Result<Options> {
    let (mut named, mut places) = (BTreeMap::from([("steps", 4000), ("seconds", 0), ("seed", 0)]), Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.strip_prefix("--") {
            None => places.push(PathBuf::from(arg)),
            Some(name) => {
                let value = args.next().context("an option needs a value")?.parse()?;
                match named.get_mut(name) {
                    Some(v) => *v = value,
                    None => bail!("unknown option --{name}"),
                }
            }
        }
    }
    let [data, folder] = places.as_slice() else { bail!("expected DATA_NOUN FOLDER") };
    Ok(Options { data: data.clone(), folder: folder.clone(), steps: named["steps"], seconds: named["seconds"], seed: named["seed"] })
}

fn main() -> Result<()> {
    let o = options()?;
    std::fs::create_dir_all(&o.folder)?;
    let data = glosses::read(&o.data)?;
    let tokenizer = tokenizer(&o.folder.join("tokenizer"), &data)?;
    let encode = |all: &[Gloss]| -> Result<Vec<Example>> {
        all.iter().map(|g| Ok(Example { targets: vec![i64::from(g.topic)], ..tokenizer.example(&g.text, None, LONGEST)? })).collect()
    };
    let (train_set, test_set) = (encode(&data.train)?, encode(&data.test)?);
    println!("{} glosses to train on, {} to test, {} topics, {} tokens", train_set.len(), test_set.len(), data.topics, tokenizer.size());

    let vocabulary = tokenizer.vocabulary();
    let shape = EncoderConfig { dim: Some(256), depth: Some(4), heads: Some(4), positions: Some(LONGEST), ..EncoderConfig::default() };
    let Architecture::Bert(shape) = shape.resolve(&vocabulary)? else { bail!("expected a BERT") };
    let method = MethodConfig::default();
    let MethodConfig::MaskedLm(config) = &method else { bail!("expected masked language modelling") };
    let bert = MaskedLm::new(&Scope::root(&Params::new(), o.seed, &Device::Cpu), shape.clone(), config)?;
    let masking = Masking::new(config.masking.clone(), &vocabulary)?;
    let random =
        weights::export(bert.params(), "encoder").into_iter().map(|(k, t)| Ok((k, t.copy()?))).collect::<Result<BTreeMap<_, _>>>()?;
    if !pretrain(&bert, &o, &train_set, masking.clone(), vocabulary.pad)? {
        println!("stopped; the same command goes on");
        return Ok(());
    }
    let folder = o.folder.join("model");
    export(&folder, &method, &Architecture::Bert(shape.clone()), bert.params(), Some(&tokenizer))?;
    println!("{}: for AutoModelForMaskedLM.from_pretrained", folder.display());
    look(&bert, &tokenizer, "a small furry [MASK] kept as a pet")?;
    language(&bert, &train_set, &test_set, &masking, vocabulary.pad)?;
    let trained = weights::export(bert.params(), "encoder");
    for labels in [100, 1000] {
        for (name, start) in [("pre-trained", &trained), ("random", &random)] {
            println!(
                "{labels} labels, frozen, {name}: {:.1}",
                100.0 * probe(&bert, start, &train_set, &test_set, labels, data.topics, vocabulary.pad)?
            );
        }
        for (name, start) in [("pre-trained", Some(&trained)), ("from scratch", None)] {
            let accuracy = fine_tune(&shape, start, &train_set, &test_set, labels, data.topics, &o, vocabulary.pad)?;
            println!("{labels} labels, fine-tuned, {name}: {:.1}", 100.0 * accuracy);
        }
    }
    Ok(())
}

/// The likeliest words for the hidden one.
fn look(bert: &MaskedLm, tokenizer: &Tokenizer, text: &str) -> Result<()> {
    let ids = tokenizer.example(text, None, LONGEST)?.ids;
    let mask = tokenizer.vocabulary().mask.context("a mask token")?;
    for guesses in fill_mask(bert, &ids, mask, 5)? {
        let words = guesses.iter().map(|g| format!("{} {:.0}%", tokenizer.token(g.id).unwrap_or_default(), 100.0 * g.probability));
        println!("{text}: {}", words.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}

/// Trained on the training glosses once, then read.
fn tokenizer(folder: &Path, data: &Glosses) -> Result<Tokenizer> {
    if folder.join("tokenizer.json").exists() {
        return Ok(Tokenizer::load(folder)?);
    }
    let config = TokenizerConfig { vocab_size: VOCABULARY, ..TokenizerConfig::of(TokenizerKind::Wordpiece) };
    let texts: Vec<String> = data.train.iter().map(|g| g.text.clone()).collect();
    let made = train(&config, texts.into_iter().map(Ok))?;
    made.save(folder, Some(LONGEST))?;
    Ok(made)
}

type Loading<T> = Loader<Examples, T, Pad>;

fn loader<T>(examples: Vec<Example>, transform: T, batch_size: usize, shuffle: bool, seed: u64, pad: u32) -> Result<Loading<T>>
where
    T: Transform<Example, Out = Example> + 'static,
{
    let lengths: Vec<u32> = examples.iter().map(|e| e.ids.len() as u32).collect();
    let config = LoaderConfig { batch_size, workers: 1, drop_last: false, shuffle, seed, ..LoaderConfig::default() };
    let (data, pad) = (Arc::new(Examples(examples)), Arc::new(Pad { pad, length: None }));
    Ok(Loader::by_length(data, Arc::new(transform), pad, config, lengths, if shuffle { 16 } else { 1 })?)
}

/// Trains until `--steps`; `false` if `--seconds` were over before.
fn pretrain(bert: &MaskedLm, o: &Options, examples: &[Example], masking: Masking, pad: u32) -> Result<bool> {
    let source = loader(examples.iter().map(|e| Example { targets: vec![], ..e.clone() }).collect(), masking, 128, true, o.seed, pad)?;
    let dir = o.folder.join(format!("run-{}-{}", o.steps, o.seed));
    let mut run = if dir.exists() { Run::resume(&dir, None)?.0 } else { Run::create(&dir, "")? };
    let optim: OptimConfig =
        toml::from_str("lr = 1e-3\nweight_decay = 0.01\nclip_grad_norm = 1.0\nschedule = { kind = \"warmup_linear\" }")?;
    let config = TrainConfig {
        steps: o.steps,
        batch_size: 128,
        seed: o.seed,
        log_every: 100,
        checkpoint_every: 500,
        eval_every: 0,
        ..TrainConfig::default()
    };
    let per_epoch = examples.len().div_ceil(128) as u64;
    let stop = Stop::manual();
    if o.seconds > 0 {
        let (stop, seconds) = (stop.clone(), o.seconds);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(seconds));
            stop.request();
        });
    }
    match Trainer::new(bert, config, &optim, per_epoch, &Device::Cpu)?.with_stop(stop).fit(&source, &mut run) {
        Ok(summary) => {
            println!(
                "pre-trained: {} steps, last loss {:.3}, {:.0} glosses a second",
                summary.steps, summary.loss, summary.samples_per_second
            );
            Ok(true)
        }
        Err(Error::Interrupted { step, checkpoint }) => {
            let held = Checkpoint::load(&checkpoint, &Device::Cpu).map(|_| "whole").unwrap_or("damaged");
            println!("step {step}; checkpoint {held}");
            Ok(false)
        }
        Err(e) => Err(e.into()),
    }
}

/// Masked accuracy and perplexity on the test glosses, and the perplexity of unigrams counted on the training glosses.
fn language(bert: &MaskedLm, train: &[Example], test: &[Example], masking: &Masking, pad: u32) -> Result<()> {
    let size = bert.bert().config().vocabulary;
    let mut counts = vec![1.0f64; size];
    for id in train.iter().flat_map(|e| e.ids.iter().zip(&e.words).filter(|(_, w)| w.is_some()).map(|(id, _)| *id)) {
        counts[id as usize] += 1.0;
    }
    let all: f64 = counts.iter().sum();
    let likeliest = counts.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i as i64);
    let (mut nll, mut right, mut unigram, mut commonest, mut n) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (b, chunk) in by_length(test).chunks(128).enumerate() {
        let mut items = Vec::new();
        for &i in chunk {
            let e = masking.apply(Example { targets: vec![], ..test[i].clone() }, &mut Key::new(9).fold(i as u64).rng())?;
            for &label in e.labels.iter().filter(|l| **l != IGNORED) {
                unigram -= (counts[label as usize] / all).ln();
                commonest += f64::from(u8::from(label == likeliest));
            }
            items.push(e);
        }
        let batch = Pad { pad, length: None }.collate(items, chunk, Key::new(b as u64))?;
        let e = bert.embed(&batch, &Pass::eval())?.detach();
        let weight = bert.weight(&batch, &e)?;
        nll += f64::from(bert.criterion(&e, &Pass::eval())?.value.to_scalar::<f32>()?) * weight;
        right += bert.vitals(&e)?[0].value * weight;
        n += weight;
    }
    println!(
        "hidden tokens of the test glosses: accuracy {:.1}, perplexity {:.1}; unigrams: accuracy {:.1}, perplexity {:.1}",
        100.0 * right / n,
        (nll / n).exp(),
        100.0 * commonest / n,
        (unigram / n).exp()
    );
    Ok(())
}

/// Numbers of the examples, the shortest first: batches of like length.
fn by_length(examples: &[Example]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_key(|&i| (examples[i].ids.len(), i));
    order
}

/// What `f` makes of batches of the examples, one row each, in their order.
fn rows(examples: &[Example], pad: u32, f: impl Fn(&Sequences) -> Result<Tensor>) -> Result<Vec<Vec<f32>>> {
    let mut out = vec![Vec::new(); examples.len()];
    for chunk in by_length(examples).chunks(128) {
        let items = chunk.iter().map(|&i| Example { targets: vec![], ..examples[i].clone() }).collect();
        let batch = Pad { pad, length: None }.collate(items, chunk, Key::new(0))?;
        for (&i, row) in chunk.iter().zip(f(&batch)?.to_vec2::<f32>()?) {
            out[i] = row;
        }
    }
    Ok(out)
}

fn topics(examples: &[Example]) -> Vec<u32> {
    examples.iter().map(|e| e.targets[0] as u32).collect()
}

/// Test accuracy of a logistic probe on frozen features, whose strength is chosen inside the labels.
fn probe(
    bert: &MaskedLm,
    start: &BTreeMap<String, Tensor>,
    train: &[Example],
    test: &[Example],
    labels: usize,
    classes: usize,
    pad: u32,
) -> Result<f64> {
    let params = Params::new();
    let encoder = selfsup::text::encoder::Bert::new(&Scope::root(&params, 0, &Device::Cpu).sub("encoder"), bert.bert().config().clone())?;
    weights::load_into(&params, start, "encoder", &weights::Options::default())?;
    let features = |examples: &[Example]| -> Result<Matrix> {
        let rows = rows(examples, pad, |b| Ok(encoder.forward(&b.input()?, b.valid.as_ref(), &[], &Pass::eval())?.pooled.detach()))?;
        Ok(Matrix::new(rows.concat(), examples.len(), encoder.dim())?)
    };
    // Scales are those of unlabelled glosses.
    let scales = Standardizer::fit(features(&train[..5000.min(train.len())])?.view());
    let (x, y) = (features(&train[..labels])?, topics(&train[..labels]));
    let (fit, _) = LinearProbe::fit_few(x.view(), &y, classes, &CvConfig::default(), Some(&scales), Key::new(0))?;
    let guesses = fit.predict(features(test)?.view())?;
    Ok(share_right(&guesses, &topics(test)))
}

fn share_right(guesses: &[u32], truth: &[u32]) -> f64 {
    guesses.iter().zip(truth).filter(|(a, b)| a == b).count() as f64 / truth.len().max(1) as f64
}

/// Test accuracy after training encoder and head on the first `labels` glosses, from `start` or from scratch.
#[allow(clippy::too_many_arguments)] // one call, all of it data
fn fine_tune(
    shape: &BertConfig,
    start: Option<&BTreeMap<String, Tensor>>,
    train: &[Example],
    test: &[Example],
    labels: usize,
    classes: usize,
    o: &Options,
    pad: u32,
) -> Result<f64> {
    let params = Params::new();
    let config = SequenceConfig { classes, pool: Some(shape.pool), ..SequenceConfig::default() };
    let task = SequenceClassifier::new(&Scope::root(&params, o.seed, &Device::Cpu), shape, config)?;
    if let Some(start) = start {
        weights::load_into(&params, start, "encoder", &weights::Options::default())?;
    }
    let source = loader(train[..labels].to_vec(), |e: Example, _: &mut Rng| Ok(e), 16, true, o.seed, pad)?;
    // As many steps for both; from scratch a higher rate does better.
    let lr = if start.is_some() { "3e-4" } else { "1e-3" };
    let optim: OptimConfig =
        toml::from_str(&format!("lr = {lr}\nweight_decay = 0.01\nclip_grad_norm = 1.0\nschedule = {{ kind = \"warmup_linear\" }}"))?;
    let epochs = if labels <= 100 { 30 } else { 10 };
    let train_config = TrainConfig { epochs, batch_size: 16, seed: o.seed, log_every: 50, eval_every: 0, ..TrainConfig::default() };
    let dir = o.folder.join(format!("tune-{}-{labels}-{}", o.seed, start.is_some()));
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let mut run = Run::create(&dir, "")?;
    Trainer::new(&task, train_config, &optim, labels.div_ceil(16) as u64, &Device::Cpu)?.fit(&source, &mut run)?;
    let scores = rows(test, pad, |b| Ok(task.predict(b)?))?;
    let best = |row: &Vec<f32>| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i as u32);
    Ok(share_right(&scores.iter().map(best).collect::<Vec<_>>(), &topics(test)))
}
