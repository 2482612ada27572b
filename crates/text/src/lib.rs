//! Text: tokenizers, corpora, encoders and recipes of self-supervised pre-training, on candle.
//!
//! For programs that pre-train a language model on texts of their own, continue from a released one, or
//! fine-tune it. This crate is enough: its [`prelude`] holds that of `selfsup-core`, candle's tensor
//! included.
//!
//! - [`tokenizer`] loads `tokenizer.json` and makes vocabularies (WordPiece, BPE, Unigram, characters).
//! - [`corpus`] reads txt, md, jsonl, csv and tsv, compressed too, and cuts them into examples; a corpus
//!   larger than memory streams.
//! - [`encoder`] has BERT, RoBERTa, ELECTRA, GPT-2 and T5; [`export`](mod@export) writes folders of
//!   transformers.
//! - [`method`] has masked and causal language modelling, ELECTRA, SimCSE and span corruption; [`task`] has
//!   classification, tagging and question answering.
//! - [`recipe`] builds encoders and methods from the keys of a configuration file.
//!
//! BERT on a text file:
//!
//! ```
//! use selfsup_text::prelude::*;
//!
//! # let dir = tempfile::tempdir().map_err(|e| Error::io("a temporary folder", e))?;
//! # let run = dir.path().join("bert");
//! let corpus = CorpusConfig { length: Some(16), ..CorpusConfig::default() };
//! let vocabulary = TokenizerConfig { vocab_size: 400, ..TokenizerConfig::default() };
//! let text = "../../docs/testing.md";
//! let tokenizer = tokenizer::train(&vocabulary, corpus.texts(corpus.documents(text)?))?;
//! let tokens = corpus.tokenize(corpus.documents(text)?, &tokenizer, None)?;
//!
//! let method = MethodConfig::named("masked-lm")?;
//! let bert = EncoderConfig::from(BertKeys { dim: Some(16), depth: Some(1), ..BertKeys::default() });
//! let bert = bert.resolve(&tokenizer.vocabulary())?;
//! let config = TrainConfig { steps: 2, batch_size: 4, workers: 0, ..TrainConfig::default() };
//! let prepared = corpus.examples(tokens, &tokenizer, &method, bert.longest())?;
//! let batches = prepared.loader(&prepared.train, &method, &config)?;
//!
//! let scope = Scope::root(&Params::new(), config.seed, &Device::Cpu);
//! let objective = method.build(&scope, &bert)?;
//! let summary = train(&*objective, &batches, &config, &OptimConfig::default(), &run)?;
//! assert!(summary.loss.is_some_and(|loss| loss < 10.0));
//! # Ok::<(), Error>(())
//! ```
//!
//! The example `pretrain_bert` is a whole program; `docs/library.md` lists more. The command is in `selfsup`,
//! and the page of each method in `docs/methods`.

pub mod batch;
pub mod conll;
pub mod corpus;
pub mod corrupt;
pub mod encoder;
pub mod export;
pub mod fill;
pub mod folder;
pub mod generate;
mod head;
pub mod hf;
mod json;
pub mod mask;
pub mod method;
pub mod metrics;
pub mod names;
pub mod pairs;
pub mod prelude;
pub mod recipe;
pub mod squad;
pub mod task;
pub mod tokenizer;

pub use selfsup_core;
