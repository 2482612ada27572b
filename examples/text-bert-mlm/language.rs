//! Masked language modelling: the training, and accuracy and perplexity at hidden tokens next to those of
//! unigrams.

use crate::batches::{Loading, by_length, loader, plain};
use anyhow::{Context, Result};
use candle_core::Device;
use selfsup::core::data::{Collate, Transform};
use selfsup::core::objective::{Embedded, Objective};
use selfsup::core::optim::OptimConfig;
use selfsup::core::run::{Display, Run};
use selfsup::core::signal::Stop;
use selfsup::core::trainer::{TrainConfig, Trainer};
use selfsup::core::{Error, Key, Pass};
use selfsup::text::batch::{Example, IGNORED, Pad};
use selfsup::text::fill::fill_mask;
use selfsup::text::mask::Masking;
use selfsup::text::method::MaskedLm;
use selfsup::text::tokenizer::Tokenizer;
use std::path::Path;
use std::time::Duration;

/// Texts of a step: about 600 tokens, so that a small budget of time holds many steps.
const BATCH: usize = 32;

/// How long, and from which seed.
pub struct Budget {
    pub steps: u64,
    pub seconds: u64,
    pub seed: u64,
}

/// Trains in `dir` until `steps`; `false` if `seconds` were over before. The loss on `held_out` is watched.
pub fn pretrain(
    bert: &MaskedLm,
    budget: &Budget,
    texts: &[Example],
    held_out: &[Example],
    masking: &Masking,
    pad: u32,
    dir: &Path,
) -> Result<bool> {
    let source: Loading<Masking> = loader(texts.to_vec(), masking.clone(), BATCH, true, budget.seed, pad)?;
    let watched: Loading<Masking> =
        loader(held_out.to_vec(), masking.clone(), BATCH, false, budget.seed, pad)?;
    let mut run = if dir.exists() { Run::resume(dir, None)?.0 } else { Run::create(dir, "")? };
    let optim: OptimConfig = toml::from_str(
        "lr = 1e-3\nbetas = [0.9, 0.98]\nweight_decay = 0.01\nclip_grad_norm = 1.0\nschedule = { kind = \"warmup_linear\", warmup = { ratio = 0.06 } }",
    )?;
    let config = TrainConfig {
        steps: budget.steps,
        batch_size: BATCH,
        seed: budget.seed,
        log_every: 20,
        checkpoint_every: 250,
        keep_last: 1,
        eval_every: 1,
        ..TrainConfig::default()
    };
    let stop = Stop::manual();
    if budget.seconds > 0 {
        let (stop, seconds) = (stop.clone(), budget.seconds);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_secs(seconds));
            stop.request();
        });
    }
    let per_epoch = texts.len().div_ceil(BATCH) as u64;
    let trainer =
        Trainer::new(bert, config, &optim, per_epoch, &Device::Cpu)?.with_stop(stop).with_validation(watched);
    match trainer.with_display(Display::new(Duration::from_secs(60))).fit(&source, &mut run) {
        Ok(s) => {
            println!(
                "pre-trained: {} steps, {}, {:.0} s, {:.0} texts a second",
                s.steps,
                s.shown_loss(),
                s.seconds,
                s.samples_per_second
            );
            Ok(true)
        }
        Err(Error::Interrupted { step, checkpoint }) => {
            println!("stopped at step {step}; {}", checkpoint.display());
            Ok(false)
        }
        Err(e) => Err(e.into()),
    }
}

/// How often each token of text occurs, each once more than it does.
pub struct Unigrams {
    counts: Vec<f64>,
    all: f64,
    commonest: i64,
}

impl Unigrams {
    pub fn of(texts: &[Example], vocabulary: usize) -> Self {
        let mut counts = vec![1.0f64; vocabulary];
        for (id, _) in
            texts.iter().flat_map(|e| e.ids.iter().zip(&e.words)).filter(|(_, word)| word.is_some())
        {
            counts[*id as usize] += 1.0;
        }
        let commonest =
            counts.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i as i64);
        Unigrams { all: counts.iter().sum(), counts, commonest }
    }
}

/// At hidden tokens, by the model and by unigrams: shares that are right, and perplexities.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Language {
    pub texts: usize,
    pub hidden: u64,
    pub accuracy: f64,
    pub perplexity: f64,
    pub unigram_accuracy: f64,
    pub unigram_perplexity: f64,
}

/// Measures on `texts`, whose hidden tokens are drawn once and for all.
pub fn measure(
    bert: &MaskedLm,
    texts: &[Example],
    unigrams: &Unigrams,
    masking: &Masking,
    pad: u32,
) -> Result<Language> {
    let (mut nll, mut right, mut unigram, mut commonest, mut n) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (b, chunk) in by_length(texts).chunks(128).enumerate() {
        let mut items = Vec::new();
        for &i in chunk {
            let e = masking.apply(plain(&texts[i]), &mut Key::new(9).fold(i as u64).rng())?;
            for &label in e.labels.iter().filter(|l| **l != IGNORED) {
                unigram -= (unigrams.counts[label as usize] / unigrams.all).ln();
                commonest += f64::from(u8::from(label == unigrams.commonest));
            }
            items.push(e);
        }
        let batch = Pad { pad, length: None }.collate(items, chunk, Key::new(b as u64))?;
        let e = bert.embed(&batch, &Pass::eval())?.detach()?;
        let weight = bert.weight(&batch, &e)?;
        nll += f64::from(bert.criterion(&e, &Pass::eval())?.value.to_scalar::<f32>()?) * weight;
        right += bert.gauges(&e, &Pass::eval())?.first().context("a gauge")?.value * weight;
        n += weight;
    }
    Ok(Language {
        texts: texts.len(),
        hidden: n as u64,
        accuracy: 100.0 * right / n,
        perplexity: (nll / n).exp(),
        unigram_accuracy: 100.0 * commonest / n,
        unigram_perplexity: (unigram / n).exp(),
    })
}

/// The likeliest words for the hidden one.
pub fn look(bert: &MaskedLm, tokenizer: &Tokenizer, text: &str, longest: usize) -> Result<()> {
    let ids = tokenizer.example(text, None, longest)?.ids;
    let mask = tokenizer.vocabulary().mask.context("a mask token")?;
    for guesses in fill_mask(bert, &ids, mask, 5)? {
        let words = guesses
            .iter()
            .map(|g| format!("{} {:.0}%", tokenizer.token(g.id).unwrap_or_default(), 100.0 * g.probability));
        println!("{text}: {}", words.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}
