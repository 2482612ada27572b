//! What a learnt representation of speech has to beat: linear probes on MFCC and log-mel energies, clean and
//! in noise.
//!
//!     cargo run --release --example speech-baselines -- phones festvox-ru-full
//!     cargo run --release --example speech-baselines -- languages asterisk-sounds
//!
//! `phones` reads the phone said in the middle of each frame of 10 ms; the data set's `/test` part is for
//! testing. `languages` reads the class of a recording from the mean and standard deviation of its features;
//! a fifth of the groups is for testing.

#![allow(clippy::print_stdout)] // a table is what this program is for

use selfsup_core::{Error, Key, Result};
use selfsup_datasets::{Kind, Records, Source, Subset, check_leak, hold_out, registry::open_kind};
use selfsup_eval::linear::SgdConfig;
use selfsup_eval::metrics::accuracy;
use selfsup_eval::{LinearProbe, LogisticConfig, Matrix};
use selfsup_speech::audio::Content;
use selfsup_speech::augment::{Noise, NoiseLevel};
use selfsup_speech::data::{Clip, Corpus, Prepare, PrepareConfig};
use selfsup_speech::features::{Extractor, FeatureConfig};
use selfsup_speech::probe::{Rows, phone_frames, phones, utterances};
use std::sync::Arc;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let run = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["phones"] => on_phones("festvox-ru"),
        ["phones", data] => on_phones(data),
        ["languages"] => on_languages("asterisk-sounds"),
        ["languages", data] => on_languages(data),
        _ => Err(Error::config("expected `phones [DATA]` or `languages [DATA]`")),
    };
    match run {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::ExitCode::from(e.exit_code())
        }
    }
}

/// Records as clips.
fn corpus(records: &dyn Records) -> Result<Corpus> {
    let clip = |i: usize| -> Result<Clip> {
        let record = records.get(i)?;
        let content = match record.source {
            Source::File(path) => Content::File(path),
            Source::Bytes(bytes) => Content::Bytes(bytes),
            Source::Pixels { .. } => {
                return Err(Error::input(&record.id, "holds pixels, expected a recording"));
            }
        };
        Ok(Clip {
            label: record.label,
            group: record.group,
            transcript: records.transcript(i),
            alignment: records.alignment(i),
            ..Clip::new(record.id, content)
        })
    };
    Corpus::new((0..records.len()).map(clip).collect::<Result<_>>()?, records.classes().to_vec())
}

/// The features, simple ones first.
fn kinds() -> Vec<(&'static str, FeatureConfig)> {
    let (mfcc, fbank) = (FeatureConfig::default(), FeatureConfig::fbank());
    vec![
        ("MFCC + deltas (39)", mfcc.clone()),
        ("the same, 5 frames of context", FeatureConfig { context: 5, ..mfcc }),
        ("log-mel 80", fbank.clone()),
        ("the same, 5 frames of context", FeatureConfig { context: 5, ..fbank.clone() }),
        // What is constant over a recording, such as a noise's colour, falls out.
        ("the same, normalised over the recording", FeatureConfig { context: 5, normalize: true, ..fbank }),
    ]
}

/// Waves as they are, or in pink noise at a ratio.
fn waves(snr_db: Option<f32>) -> Result<Prepare> {
    let noise = snr_db.map(|snr_db| NoiseLevel { snr_db, kind: Noise::Pink, folder: None, seed: 0 });
    Prepare::new(PrepareConfig { normalize: false, noise, ..PrepareConfig::default() })
}

/// The only kind of features that was computed.
fn only(mut kinds: Vec<Rows>) -> Rows {
    kinds.pop().unwrap_or_default()
}

/// Clean, and ratios in decibels.
const LEVELS: [Option<f32>; 4] = [None, Some(20.0), Some(10.0), Some(0.0)];

fn percent(probe: &LinearProbe, rows: Rows) -> Result<f64> {
    let (labels, n, d) = (rows.labels.clone(), rows.len(), rows.dim);
    Ok(100.0 * accuracy(&probe.predict(Matrix::new(rows.values, n, d)?.view())?, &labels)?)
}

fn head(what: &str) {
    println!("{what:40} {:>7} {:>7} {:>7} {:>7}", "clean", "20 dB", "10 dB", "0 dB");
}

fn on_phones(data: &str) -> Result<()> {
    let (train, test) = (open_kind(data, Kind::Speech)?, open_kind(&format!("{data}/test"), Kind::Speech)?);
    check_leak(&*train, &*test, ("training", "test"))?;
    let (train, test) = (corpus(&*train)?, corpus(&*test)?);
    let phones = phones(&train)?;
    let config = SgdConfig { epochs: 6, batch: 512, learning_rate: 0.02, momentum: 0.9, weight_decay: 0.0 };
    for (i, (name, features)) in kinds().into_iter().enumerate() {
        let extractor = Extractor::new(&features, 16_000)?;
        let frames = |corpus: &Corpus, level: Option<f32>| -> Result<Rows> {
            Ok(only(phone_frames(corpus, &phones, &waves(level)?, &|w: &[f32]| {
                Ok(vec![extractor.compute(w)?])
            })?))
        };
        let rows = frames(&train, None)?;
        let (labels, n, d) = (rows.labels, rows.clips.len(), rows.dim);
        let x = Matrix::new(rows.values, n, d)?;
        let probe = LinearProbe::fit_sgd(x.view(), &labels, phones.len(), &config, Key::new(0))?;
        drop(x);
        if i == 0 {
            let clean = frames(&test, None)?;
            let mut counts = vec![0usize; phones.len()];
            labels.iter().for_each(|&l| counts[l as usize] += 1);
            let most =
                (0..counts.len()).fold(0, |best, c| if counts[c] > counts[best] { c } else { best }) as u32;
            let majority = clean.labels.iter().filter(|l| **l == most).count() as f64 / clean.len() as f64;
            let sentences = train.clips().len() + test.clips().len();
            println!(
                "{sentences} sentences, {n} training and {} test frames, {} phones, majority {:.1}",
                clean.len(),
                phones.len(),
                100.0 * majority
            );
            head("frame accuracy, %; noise in testing only");
        }
        print!("{name:40}");
        for level in LEVELS {
            print!(" {:7.1}", percent(&probe, frames(&test, level)?)?);
        }
        println!();
    }
    Ok(())
}

fn on_languages(data: &str) -> Result<()> {
    let records: Arc<dyn Records> = Arc::from(open_kind(data, Kind::Speech)?);
    let (kept, out) = hold_out(&*records, 0.2, 0)?;
    let (train, test) = (Subset::new(records.clone(), kept)?, Subset::new(records, out)?);
    check_leak(&train, &test, ("training", "test"))?;
    // What is shorter than a window holds no frame.
    let long = |c: Corpus| c.measure()?.0.filter(&Default::default()).map(|(c, _)| c);
    let (train, test) = (long(corpus(&train)?)?, long(corpus(&test)?)?);
    println!(
        "{} training and {} test recordings, classes {}",
        train.clips().len(),
        test.clips().len(),
        train.classes().join(", ")
    );
    head("accuracy, %; noise in testing only");
    for (name, features) in
        [("MFCC + deltas (39)", FeatureConfig::default()), ("log-mel 80", FeatureConfig::fbank())]
    {
        let extractor = Extractor::new(&features, 16_000)?;
        let pooled = |corpus: &Corpus, level: Option<f32>| -> Result<Rows> {
            Ok(only(utterances(corpus, &waves(level)?, &|w: &[f32]| Ok(vec![extractor.compute(w)?]))?))
        };
        let rows = pooled(&train, None)?;
        let (labels, n, d) = (rows.labels, rows.clips.len(), rows.dim);
        let probe = LinearProbe::fit(
            Matrix::new(rows.values, n, d)?.view(),
            &labels,
            train.classes().len(),
            &LogisticConfig::default(),
        )?;
        print!("{:40}", format!("{name}, mean and deviation"));
        for level in LEVELS {
            print!(" {:7.1}", percent(&probe, pooled(&test, level)?)?);
        }
        println!();
    }
    Ok(())
}
