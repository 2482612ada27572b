//! Pre-trains BERT on a text file, or a folder of them (txt, md, jsonl, csv; .gz and .zst too): makes a
//! vocabulary, tokenises, hides tokens, and writes a folder that transformers opens. By default the pages of
//! `docs`.
//!
//! `cargo run -p selfsup-text --example pretrain_bert -- [TEXT]`
#![allow(clippy::print_stdout)]

use selfsup_text::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");
    let path = std::env::args().nth(1).unwrap_or(bundled.into());

    // Each line is a document; inputs are blocks of 64 tokens.
    let corpus = CorpusConfig { length: Some(64), ..CorpusConfig::default() };
    let vocabulary = TokenizerConfig { vocab_size: 1000, ..TokenizerConfig::default() };
    let tokenizer = tokenizer::train(&vocabulary, corpus.texts(corpus.documents(&path)?))?;
    let tokens = corpus.tokenize(corpus.documents(&path)?, &tokenizer, None)?;
    println!("{path}: {} tokens, {} in the vocabulary", tokens.len(), tokenizer.size());

    // A small BERT, and masked language modelling on it: 15% of the tokens are predicted.
    let method = MethodConfig::named("masked-lm")?;
    let bert = BertKeys { dim: Some(64), depth: Some(2), heads: Some(2), ..BertKeys::default() };
    let bert = EncoderConfig::from(bert).resolve(&tokenizer.vocabulary())?;
    let config = TrainConfig { steps: 20, batch_size: 16, workers: 2, ..TrainConfig::default() };
    let prepared = corpus.examples(tokens, &tokenizer, &method, bert.longest())?;
    let batches = prepared.loader(&prepared.train, &method, &config)?;

    let params = Params::new();
    let objective = method.build(&Scope::root(&params, config.seed, &Device::Cpu), &bert)?;
    let summary = train(&*objective, &batches, &config, &OptimConfig::default(), "runs/bert")?;
    println!("{} steps, {}", summary.steps, summary.shown_loss());

    export("runs/bert/model".as_ref(), &method, &bert, &params, Some(&tokenizer))?;
    println!("runs/bert/model: AutoModelForMaskedLM.from_pretrained opens it");
    Ok(())
}
