//! A small BERT on dictionaries, and what it is good for: masked accuracy and perplexity against unigrams,
//! and the topic of a gloss from few labels, frozen and fine-tuned, against the same encoder with random
//! weights and from scratch.
//!
//!     cargo run --release --example text-bert-mlm -- FOLDER [--steps 4000] [--seconds 0] [--seed 0] [--tunings 3] [--nouns] [--start MODEL]
//!
//! `FOLDER` keeps the tokenizer, the run and the results; a second call goes on where the first stopped
//! (`--seconds` stops the training). `--nouns` reads the bundled glosses alone; else the other glosses and a
//! dictionary are fetched. With `--start` nothing is pre-trained: the weights and the tokenizer of that
//! folder are judged instead (`--start minilm` fetches MiniLM's).

#![allow(clippy::print_stdout)] // a report is what this program is

mod batches;
mod corpus;
mod language;
mod topics;

use anyhow::{Context, Result, bail};
use batches::plain;
use candle_core::{Device, Tensor};
use corpus::{Glosses, LONGEST, encode};
use language::{Budget, Unigrams};
use selfsup::core::{Params, Scope, weights};
use selfsup::datasets::minilm;
use selfsup::text::batch::Example;
use selfsup::text::encoder::BertConfig;
use selfsup::text::export::export;
use selfsup::text::mask::{MaskConfig, Masking};
use selfsup::text::method::{MaskedLm, MaskedLmConfig};
use selfsup::text::recipe::{Architecture, BertKeys, EncoderConfig, MethodConfig};
use selfsup::text::tokenizer::{Tokenizer, TokenizerConfig, TokenizerKind, train};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use topics::Topics;

const VOCABULARY: usize = 8000;
const BUDGETS: [usize; 2] = [100, 1000];

struct Options {
    folder: PathBuf,
    budget: Budget,
    tunings: u64,
    nouns: bool,
    start: Option<PathBuf>,
}

fn options() -> Result<Options> {
    let mut named = BTreeMap::from([("steps", 4000), ("seconds", 0), ("seed", 0), ("tunings", 3)]);
    let (mut places, mut start, mut nouns) = (Vec::new(), None, false);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.strip_prefix("--") {
            None => places.push(PathBuf::from(arg)),
            Some("nouns") => nouns = true,
            Some("start") => {
                start = Some(PathBuf::from(args.next().context("--start needs a folder, or minilm")?))
            }
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
    let start = match start {
        Some(name) if name == Path::new("minilm") => Some(minilm::folder()?),
        other => other,
    };
    let budget = Budget { steps: named["steps"], seconds: named["seconds"], seed: named["seed"] };
    Ok(Options { folder: folder.clone(), budget, tunings: named["tunings"], nouns, start })
}

/// A folder's results, a line each: what is there is not made again.
struct Results(PathBuf);

impl Results {
    fn value(&self, name: &str) -> Option<serde_json::Value> {
        let text = std::fs::read_to_string(&self.0).ok()?;
        let lines = text.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
        lines.rev().find(|v| v["name"] == name)
    }

    /// Makes and writes down `name` unless it is there, and says it.
    fn cell(&self, name: &str, make: impl FnOnce() -> Result<serde_json::Value>) -> Result<()> {
        if self.value(name).is_none() {
            let line = serde_json::json!({ "name": name, "found": make()? });
            let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&self.0)?;
            writeln!(file, "{line}")?;
        }
        let found = self.value(name).context("a result that was just written")?;
        println!("{name}: {}", found["found"]);
        Ok(())
    }
}

fn main() -> Result<()> {
    let o = options()?;
    std::fs::create_dir_all(&o.folder)?;
    let glosses = Glosses::open()?;
    let unlabelled = if o.start.is_none() { corpus::unlabelled(&glosses, !o.nouns)? } else { Vec::new() };
    let tokenizer = match &o.start {
        Some(folder) => Tokenizer::load(folder)?,
        None => tokenizer(&o.folder.join("tokenizer"), &unlabelled)?,
    };
    let labelled = |set: &[(String, u32)]| -> Result<Vec<Example>> {
        let examples = encode(&tokenizer, set.iter().map(|g| g.0.as_str()))?;
        Ok(examples
            .into_iter()
            .zip(set)
            .map(|(e, g)| Example { targets: vec![i64::from(g.1)], ..e })
            .collect())
    };
    let (train_set, test_set) = (labelled(&glosses.train)?, labelled(&glosses.test)?);
    let vocabulary = tokenizer.vocabulary();
    let shape = BertKeys {
        dim: Some(256),
        depth: Some(4),
        heads: Some(4),
        positions: Some(LONGEST),
        pretrained: o.start.as_ref().map(|f| f.display().to_string()),
        ..BertKeys::default()
    };
    let network = EncoderConfig::from(shape).resolve(&vocabulary)?;
    let Architecture::Bert(shape) = network.clone() else { bail!("expected a BERT") };
    // A quarter of the tokens is hidden in training: more to learn from a text than the paper's 15%, which a
    // short run cannot spare; nothing is dropped (Geiping and Goldstein 2022, arXiv 2212.14034, sections 4.2
    // and 4.4). What is measured hides 15%.
    let hide = |share| Masking::new(MaskConfig { share, ..MaskConfig::default() }, &vocabulary);
    let method = MaskedLmConfig {
        masking: MaskConfig { share: 0.25, ..MaskConfig::default() },
        ..MaskedLmConfig::default()
    };
    let params = Params::new();
    let undropped = BertConfig { dropout: 0.0, attention_dropout: 0.0, ..shape.clone() };
    let bert = MaskedLm::new(&Scope::root(&params, o.budget.seed, &Device::Cpu), undropped, &method)?;
    let random = weights::export(&params, "encoder")
        .into_iter()
        .map(|(k, t)| Ok((k, t.copy()?)))
        .collect::<Result<BTreeMap<_, _>>>()?;
    let results = Results(o.folder.join("results.jsonl"));
    match &o.start {
        Some(folder) => drop(network.load(&params, "encoder", folder)?),
        None => {
            let texts = encode(&tokenizer, unlabelled.iter().map(String::as_str))?;
            let tokens: usize = texts.iter().map(|e| e.ids.len()).sum();
            println!(
                "{} texts of {tokens} tokens to pre-train on, {} tokens in the vocabulary",
                texts.len(),
                tokenizer.size()
            );
            let dir = o.folder.join(format!("run-{}-{}", o.budget.steps, o.budget.seed));
            let watched: Vec<Example> = test_set.iter().take(1024).map(plain).collect();
            if !language::pretrain(&bert, &o.budget, &texts, &watched, &hide(0.25)?, vocabulary.pad, &dir)? {
                println!("the same command goes on");
                return Ok(());
            }
            let folder = o.folder.join("model");
            export(&folder, &MethodConfig::MaskedLm(method), &network, &params, Some(&tokenizer))?;
            println!("{}: for AutoModelForMaskedLM.from_pretrained", folder.display());
            for text in
                ["a small furry [MASK] kept as a pet", "the [MASK] of a church", "a person who [MASK] music"]
            {
                language::look(&bert, &tokenizer, text, LONGEST)?;
            }
            let unigrams = Unigrams::of(&texts, tokenizer.size());
            let masking = hide(0.15)?;
            let found = |texts: &[Example]| -> Result<serde_json::Value> {
                Ok(serde_json::to_value(language::measure(
                    &bert,
                    texts,
                    &unigrams,
                    &masking,
                    vocabulary.pad,
                )?)?)
            };
            results.cell("hidden tokens of the test glosses", || found(&test_set))?;
            if !o.nouns {
                let prose = corpus::prose()?;
                results.cell("hidden tokens of running prose", || {
                    found(&encode(&tokenizer, prose.iter().map(String::as_str))?)
                })?;
            }
        }
    }
    let trained = weights::export(&params, "encoder");
    judge(
        &o,
        &results,
        &Topics { shape, train: &train_set, test: &test_set, classes: glosses.classes, pad: vocabulary.pad },
        &trained,
        &random,
    )
}

/// All cells of the table of topics.
fn judge(
    o: &Options,
    results: &Results,
    task: &Topics,
    trained: &BTreeMap<String, Tensor>,
    random: &BTreeMap<String, Tensor>,
) -> Result<()> {
    let scores =
        |(accuracy, macro_f1): (f64, f64)| serde_json::json!({ "accuracy": accuracy, "macro_f1": macro_f1 });
    for (name, start) in [("pre-trained", trained), ("random", random)] {
        results.cell(&format!("frozen, {name}, {BUDGETS:?} labels"), || {
            Ok(task.probe(start, &BUDGETS)?.into_iter().map(scores).collect())
        })?;
    }
    for seed in 0..o.tunings {
        for labels in BUDGETS {
            for (name, start) in [("pre-trained", Some(trained)), ("from scratch", None)] {
                let dir = o.folder.join(format!("tune-{labels}-{seed}-{}", name.replace(' ', "-")));
                results.cell(&format!("fine-tuned, {name}, {labels} labels, seed {seed}"), || {
                    Ok(scores(task.fine_tune(start, labels, seed, &dir)?))
                })?;
            }
        }
    }
    Ok(())
}

/// Made from the texts to pre-train on once, then read.
fn tokenizer(folder: &Path, texts: &[String]) -> Result<Tokenizer> {
    if folder.join("tokenizer.json").exists() {
        return Ok(Tokenizer::load(folder)?);
    }
    let config = TokenizerConfig { vocab_size: VOCABULARY, ..TokenizerConfig::of(TokenizerKind::Wordpiece) };
    let made = train(&config, texts.iter().map(|t| Ok(t.clone())))?;
    made.save(folder, Some(LONGEST))?;
    Ok(made)
}
