//! A small BERT on WordNet's glosses, and what it is good for: masked accuracy and perplexity against unigrams, and the topic of a gloss from
//! few labels, frozen and fine-tuned, against the same encoder with random weights and from scratch.
//!
//!     cargo run --release --example text-bert-mlm -- FOLDER [--steps 4000] [--seconds 0] [--seed 0] [--start MODEL]
//!
//! `FOLDER` keeps the tokenizer and the run; a second call goes on where the first stopped (`--seconds` stops it). With `--start` nothing is
//! pre-trained: the weights and the tokenizer of that folder are judged instead (real ones, such as MiniLM's).

#![allow(clippy::print_stdout)] // a report is what this program is

use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use selfsup::core::checkpoint::Checkpoint;
use selfsup::core::data::{Collate, Dataset, Loader, LoaderConfig, Transform};
use selfsup::core::objective::Objective;
use selfsup::core::optim::OptimConfig;
use selfsup::core::run::Run;
use selfsup::core::signal::Stop;
use selfsup::core::trainer::{TrainConfig, Trainer};
use selfsup::core::{Encoder, Error, Key, Params, Pass, Rng, Scope, weights};
use selfsup::datasets::{Records, wordnet};
use selfsup::eval::{Matrix, linear::CvConfig, linear::LinearProbe, linear::Standardizer};
use selfsup::text::batch::{Example, IGNORED, Pad, Sequences};
use selfsup::text::encoder::{Bert, BertConfig};
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
    folder: PathBuf,
    steps: u64,
    seconds: u64,
    seed: u64,
    start: Option<PathBuf>,
}

fn options() -> Result<Options> {
    let (mut named, mut places) = (BTreeMap::from([("steps", 4000), ("seconds", 0), ("seed", 0)]), Vec::new());
    let mut start = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.strip_prefix("--") {
            None => places.push(PathBuf::from(arg)),
            Some("start") => start = Some(PathBuf::from(args.next().context("--start needs a folder")?)),
            Some(name) => {
                let value = args.next().context("an option needs a value")?.parse()?;
                match named.get_mut(name) {
                    Some(v) => *v = value,
                    None => bail!("unknown option --{name}"),
                }
            }
        }
    }
    let [folder] = places.as_slice() else { bail!("expected FOLDER") };
    Ok(Options { folder: folder.clone(), steps: named["steps"], seconds: named["seconds"], seed: named["seed"], start })
}

fn main() -> Result<()> {
    let o = options()?;
    std::fs::create_dir_all(&o.folder)?;
    // The order in which the labels are spent (see datasets::wordnet).
    let (train_glosses, test_glosses) = (wordnet::budget(usize::MAX)?, wordnet::nouns(wordnet::Part::Test)?);
    let classes = train_glosses.classes().len();
    let tokenizer = match &o.start {
        Some(folder) => Tokenizer::load(folder)?,
        None => tokenizer(&o.folder.join("tokenizer"), &train_glosses)?,
    };
    let encode = |set: &dyn Records| -> Result<Vec<Example>> {
        texts(set)?
            .iter()
            .enumerate()
            .map(|(i, text)| {
                let topic = set.label(i).context("a topic")?;
                Ok(Example { targets: vec![i64::from(topic)], ..tokenizer.example(text, None, LONGEST)? })
            })
            .collect()
    };
    let (train_set, test_set) = (encode(&train_glosses)?, encode(&test_glosses)?);
    println!("{} glosses to train on, {} to test, {} topics, {} tokens", train_set.len(), test_set.len(), classes, tokenizer.size());

    let vocabulary = tokenizer.vocabulary();
    let shape = EncoderConfig {
        dim: Some(256),
        depth: Some(4),
        heads: Some(4),
        positions: Some(LONGEST),
        pretrained: o.start.as_ref().map(|f| f.display().to_string()),
        ..EncoderConfig::default()
    };
    let network = shape.resolve(&vocabulary)?;
    let Architecture::Bert(shape) = network.clone() else { bail!("expected a BERT") };
    let params = Params::new();
    let method = MethodConfig::default();
    let MethodConfig::MaskedLm(config) = &method else { bail!("expected masked language modelling") };
    let bert = MaskedLm::new(&Scope::root(&params, o.seed, &Device::Cpu), shape.clone(), config)?;
    let random = weights::export(&params, "encoder").into_iter().map(|(k, t)| Ok((k, t.copy()?))).collect::<Result<BTreeMap<_, _>>>()?;
    match &o.start {
        Some(folder) => drop(network.load(&params, "encoder", folder)?),
        None => {
            let masking = Masking::new(config.masking.clone(), &vocabulary)?;
            if !pretrain(&bert, &o, &train_set, masking.clone(), vocabulary.pad)? {
                println!("stopped; the same command goes on");
                return Ok(());
            }
            let folder = o.folder.join("model");
            export(&folder, &method, &network, &params, Some(&tokenizer))?;
            println!("{}: for AutoModelForMaskedLM.from_pretrained", folder.display());
            look(&bert, &tokenizer, "a small furry [MASK] kept as a pet")?;
            language(&bert, &train_set, &test_set, &masking, vocabulary.pad)?;
        }
    }
    let trained = weights::export(&params, "encoder");
    let task = Topics { shape, train: &train_set, test: &test_set, classes, pad: vocabulary.pad };
    for labels in [100, 1000] {
        for (name, start) in [("pre-trained", &trained), ("random", &random)] {
            println!("{labels} labels, frozen, {name}: {:.1}", 100.0 * task.probe(start, labels)?);
        }
        for (name, start) in [("pre-trained", Some(&trained)), ("from scratch", None)] {
            println!("{labels} labels, fine-tuned, {name}: {:.1}", 100.0 * task.fine_tune(start, labels, &o)?);
        }
    }
    Ok(())
}

/// The topic of a gloss.
struct Topics<'a> {
    shape: BertConfig,
    train: &'a [Example],
    test: &'a [Example],
    classes: usize,
    pad: u32,
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

/// The texts of a set.
fn texts(set: &dyn Records) -> Result<Vec<String>> {
    (0..set.len()).map(|i| Ok(std::str::from_utf8(&set.get(i)?.source.content()?)?.to_string())).collect()
}

/// Made from the training glosses once, then read.
fn tokenizer(folder: &Path, glosses: &dyn Records) -> Result<Tokenizer> {
    if folder.join("tokenizer.json").exists() {
        return Ok(Tokenizer::load(folder)?);
    }
    let config = TokenizerConfig { vocab_size: VOCABULARY, ..TokenizerConfig::of(TokenizerKind::Wordpiece) };
    let made = train(&config, texts(glosses)?.into_iter().map(Ok))?;
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

impl Topics<'_> {
    /// Test accuracy of a logistic probe on frozen features, whose strength is chosen inside the labels.
    fn probe(&self, start: &BTreeMap<String, Tensor>, labels: usize) -> Result<f64> {
        let params = Params::new();
        let encoder = Bert::new(&Scope::root(&params, 0, &Device::Cpu).sub("encoder"), self.shape.clone())?;
        weights::load_into(&params, start, "encoder", &weights::Options::default())?;
        let features = |examples: &[Example]| -> Result<Matrix> {
            let pooled = |b: &Sequences| -> Result<Tensor> {
                Ok(encoder.forward(&b.input()?, b.valid.as_ref(), &[], &Pass::eval())?.pooled.detach())
            };
            Ok(Matrix::new(rows(examples, self.pad, pooled)?.concat(), examples.len(), encoder.dim())?)
        };
        // Scales are those of unlabelled glosses.
        let scales = Standardizer::fit(features(&self.train[..2000.min(self.train.len())])?.view());
        let (x, y) = (features(&self.train[..labels])?, topics(&self.train[..labels]));
        let (fit, _) = LinearProbe::fit_few(x.view(), &y, self.classes, &CvConfig::default(), Some(&scales), Key::new(0))?;
        Ok(share_right(&fit.predict(features(self.test)?.view())?, &topics(self.test)))
    }

    /// Test accuracy after training encoder and head on the first `labels` glosses, from `start` or from scratch.
    fn fine_tune(&self, start: Option<&BTreeMap<String, Tensor>>, labels: usize, o: &Options) -> Result<f64> {
        let params = Params::new();
        let config = SequenceConfig { classes: self.classes, pool: Some(self.shape.pool), ..SequenceConfig::default() };
        let task = SequenceClassifier::new(&Scope::root(&params, o.seed, &Device::Cpu), &self.shape, config)?;
        if let Some(start) = start {
            weights::load_into(&params, start, "encoder", &weights::Options::default())?;
        }
        let source = loader(self.train[..labels].to_vec(), |e: Example, _: &mut Rng| Ok(e), 16, true, o.seed, self.pad)?;
        // As many steps for both; from scratch a higher rate does better.
        let lr = if start.is_some() { "2e-4" } else { "1e-3" };
        let optim: OptimConfig =
            toml::from_str(&format!("lr = {lr}\nweight_decay = 0.01\nclip_grad_norm = 1.0\nschedule = {{ kind = \"warmup_linear\" }}"))?;
        let epochs = if labels <= 100 { 30 } else { 10 };
        let train = TrainConfig { epochs, batch_size: 16, seed: o.seed, log_every: 50, eval_every: 0, ..TrainConfig::default() };
        let dir = o.folder.join(format!("tune-{}-{labels}-{}", o.seed, start.is_some()));
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        let mut run = Run::create(&dir, "")?;
        Trainer::new(&task, train, &optim, labels.div_ceil(16) as u64, &Device::Cpu)?.fit(&source, &mut run)?;
        let scores = rows(self.test, self.pad, |b| Ok(task.predict(b)?))?;
        let best = |row: &Vec<f32>| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i as u32);
        Ok(share_right(&scores.iter().map(best).collect::<Vec<_>>(), &topics(self.test)))
    }
}

fn share_right(guesses: &[u32], truth: &[u32]) -> f64 {
    guesses.iter().zip(truth).filter(|(a, b)| a == b).count() as f64 / truth.len().max(1) as f64
}
