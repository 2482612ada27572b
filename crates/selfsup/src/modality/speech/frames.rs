//! `selfsup probe --frames`: which phone is said in each frame, read off by a linear layer.
//!
//! Every block of the encoder is probed. The block that is reported is chosen by a tenth of the training
//! recordings (whole groups) that the probes were not fitted on, never by the test recordings; then a probe
//! is fitted on all training frames. So is one on the outputs of all blocks side by side. The same is done
//! with the same encoder before training, and with MFCCs and log-mel energies at the same instants. In noise
//! the probe is the one of clean speech.

use super::corrupt::noise_level;
use super::{Speech, corpus};
use crate::modality::{FrameProbe, FrameRequest};
use crate::set::Set;
use selfsup_core::run::Display;
use selfsup_core::{Encoder, Error, Key, Layer, Result};
use selfsup_eval::LinearProbe;
use selfsup_eval::linear::SgdConfig;
use selfsup_eval::metrics::accuracy;
use selfsup_speech::data::{Clip, Corpus, Prepare, PrepareConfig};
use selfsup_speech::features::{Extractor, FeatureConfig, Frames};
use selfsup_speech::labels::{Alignment, ENDINGS, Phones};
use selfsup_speech::layers::{Timing, layer_frames};
use selfsup_speech::probe::{Rows, phone_frames, phones};
use serde::Serialize;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// Features that are measured: a block and all blocks, trained and random, and four of the wave.
const KINDS: usize = 8;

/// Share of the training recordings that chooses the block.
const CHOOSES: f64 = 0.1;

/// Ten passes over all frames; more over few, up to 200, so that there are 1,000 steps. The rate is one for
/// standardised features.
fn sgd(frames: usize) -> SgdConfig {
    let batch = 512;
    let epochs = 1000usize.div_ceil(frames.div_ceil(batch).max(1)).clamp(10, 200);
    SgdConfig { epochs, batch, learning_rate: 0.02, momentum: 0.9, weight_decay: 0.0 }
}

/// What was found.
#[derive(Serialize)]
struct FrameReport {
    /// Frames fitted on, with those that chose.
    train_frames: usize,
    /// Frames tested on.
    test_frames: usize,
    /// Recordings of each.
    recordings: [usize; 2],
    /// Recordings without an alignment, which were left out.
    left_out: usize,
    /// Kinds of phones in training.
    phones: usize,
    /// Milliseconds between frames.
    step_ms: f64,
    /// Test accuracy of the most frequent phone of training.
    majority: f64,
    /// Accuracies in percent, feature by feature.
    features: Vec<Found>,
}

#[derive(Serialize)]
struct Found {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<usize>,
    dim: usize,
    test: f64,
    /// By ratio in decibels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    noisy: Vec<(f32, f64)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blocks: Vec<Block>,
}

/// A block with a probe of the frames that did not choose.
#[derive(Serialize)]
struct Block {
    block: usize,
    chooses: f64,
    test: f64,
}

/// Several kinds of features of a wave that are chosen from: all, or one of them.
type Kinds<'a> = dyn Fn(&[f32], Option<usize>) -> Result<Vec<Frames>> + Sync + 'a;

/// Recordings with their phones.
struct Data {
    fit: Corpus,
    choose: Option<Corpus>,
    test: Corpus,
    phones: Phones,
}

/// The records of a set that have an alignment, in `folder` where one is named, as clips; and how many have
/// none.
fn aligned(set: &Set, folder: Option<&Path>) -> Result<(Set, Corpus, usize)> {
    let all = corpus(set)?;
    let (mut with, mut clips) = (Vec::new(), Vec::new());
    for (i, clip) in all.clips().iter().enumerate() {
        let alignment = folder.map_or_else(|| clip.alignment.clone(), |dir| Alignment::find(dir, &clip.id));
        if alignment.is_some() {
            with.push(i);
            clips.push(Clip { alignment, ..clip.clone() });
        }
    }
    let left_out = all.clips().len() - clips.len();
    if clips.is_empty() {
        let first = all.clips().first().map_or("", |c| c.id.as_str());
        let place = folder.map_or_else(
            || "beside them (name their folder: --frames DIR)".into(),
            |d| format!("in {}", d.display()),
        );
        let kinds = ENDINGS.map(|e| format!(".{e}")).join(", ");
        return Err(Error::input(
            "recordings",
            format!(
                "none of {left_out} has an alignment, for example {first}: looked {place} for files of the same name ending in {kinds}"
            ),
        ));
    }
    Ok((set.part(with)?, Corpus::new(clips, all.classes().to_vec())?, left_out))
}

impl Data {
    /// The recordings that have an alignment, and how many have none.
    fn open(request: &FrameRequest) -> Result<(Self, usize)> {
        let (train, all, without) = aligned(request.train, request.folder)?;
        let (_, test, more) = aligned(request.test, request.folder)?;
        let (fit, choose) = train.hold_out_and_say(CHOOSES, 1)?;
        let clips = |set: &Set| aligned(set, request.folder).map(|(_, clips, _)| clips);
        let data = Data {
            fit: clips(&fit)?,
            choose: choose.as_ref().map(clips).transpose()?,
            test,
            phones: phones(&all)?,
        };
        Ok((data, without + more))
    }
}

fn fit(rows: &Rows, phones: &Phones) -> Result<LinearProbe> {
    let x = selfsup_eval::Features::new(&rows.values, rows.len(), rows.dim)?;
    LinearProbe::fit_sgd(x, &rows.labels, phones.len(), &sgd(rows.len()), Key::new(0).named("frames"))
}

fn percent(probe: &LinearProbe, rows: &Rows) -> Result<f64> {
    let x = selfsup_eval::Features::new(&rows.values, rows.len(), rows.dim)?;
    Ok(100.0 * accuracy(&probe.predict(x)?, &rows.labels)?)
}

/// Two sets of rows as one.
fn join(mut a: Rows, b: Option<Rows>) -> Rows {
    if let Some(b) = b {
        a.values.extend(b.values);
        a.labels.extend(b.labels);
    }
    a
}

/// Chooses one of the kinds, fits on all training frames and tests, clean and with each of `noisy`.
fn measure(
    name: &str,
    data: &Data,
    prepare: &Prepare,
    noisy: &[(f32, Prepare)],
    kinds: &Kinds<'_>,
) -> Result<Found> {
    let of = |corpus: &Corpus, prepare: &Prepare, only: Option<usize>| {
        phone_frames(corpus, &data.phones, prepare, &|wave: &[f32]| kinds(wave, only))
    };
    let mut fitted = of(&data.fit, prepare, None)?;
    let mut choose = data.choose.as_ref().map(|c| of(c, prepare, None)).transpose()?.unwrap_or_default();
    let (mut blocks, mut best) = (Vec::new(), 0);
    let several = fitted.len() > 1;
    if several {
        let test = of(&data.test, prepare, None)?;
        for (i, rows) in fitted.iter().enumerate() {
            let probe = fit(rows, &data.phones)?;
            // Where nothing could be held out, the last block is taken.
            let chooses = choose.get(i).map_or(Ok(i as f64), |rows| percent(&probe, rows))?;
            blocks.push(Block { block: i + 1, chooses, test: percent(&probe, &test[i])? });
        }
        best =
            (0..blocks.len()).fold(0, |top, i| if blocks[i].chooses > blocks[top].chooses { i } else { top });
    }
    let rows = join(
        fitted.swap_remove(best),
        if best < choose.len() { Some(choose.swap_remove(best)) } else { None },
    );
    drop((fitted, choose));
    let probe = fit(&rows, &data.phones)?;
    let dim = rows.dim;
    drop(rows);
    let only = several.then_some(best);
    let test = |prepare: &Prepare| -> Result<f64> {
        let mut rows = of(&data.test, prepare, only)?;
        percent(&probe, &rows.swap_remove(0))
    };
    let clean = test(prepare)?;
    let noisy = noisy.iter().map(|(db, prepare)| Ok((*db, test(prepare)?))).collect::<Result<_>>()?;
    Ok(Found { name: name.to_string(), block: only.map(|b| b + 1), dim, test: clean, noisy, blocks })
}

impl FrameProbe for Speech {
    fn probe_frames(&self, request: &FrameRequest) -> Result<(String, serde_json::Value)> {
        let found = probe(self, request)?;
        Ok((found.table(), serde_json::to_value(&found).map_err(|e| Error::Other(e.to_string()))?))
    }
}

/// Runs the probe.
fn probe(modality: &Speech, request: &FrameRequest) -> Result<FrameReport> {
    let (data, left_out) = Data::open(request)?;
    let (config, depth) = (&modality.encoder, modality.encoder.depth);
    let rate = modality.keys.input.audio.rate;
    let timing = Timing::of(config, rate);
    let waves = |snr_db: Option<f32>, normalize: bool| -> Result<Prepare> {
        let noise = snr_db.map(|db| noise_level(db, request.noise)).transpose()?;
        Prepare::new(PrepareConfig {
            crop_seconds: None,
            augment: Vec::new(),
            normalize,
            noise,
            ..modality.keys.input.clone()
        })
    };
    let noisy = |normalize: bool| {
        request.snr.iter().map(|&db| Ok((db, waves(Some(db), normalize)?))).collect::<Result<Vec<_>>>()
    };
    let (mut features, mut display) = (Vec::new(), Display::new(Duration::ZERO));
    let normal = modality.keys.input.normalize;
    let sizes = [&data.fit, &data.test].map(|c| c.clips().len());
    let mut announce = |i: usize, name: &str| {
        display.note(&format!(
            "frames, {} of {KINDS}: {name}, {} recordings to fit on, {} to test on ...",
            i + 1,
            sizes[0],
            sizes[1]
        ));
    };
    let encoders: [(&str, &dyn Encoder); 2] =
        [("trained", request.trained), ("random encoder", request.random)];
    for (name, encoder) in encoders {
        let kinds = |wave: &[f32], only: Option<usize>| {
            let layers: Vec<Layer> =
                only.map_or_else(|| (0..depth).map(Layer::Hidden).collect(), |i| vec![Layer::Hidden(i)]);
            layer_frames(encoder, &layers, wave, timing, request.device)
        };
        announce(features.len(), name);
        features.push(measure(name, &data, &waves(None, normal)?, &noisy(normal)?, &kinds)?);
        let together = |wave: &[f32], _: Option<usize>| Ok(vec![Frames::side_by_side(&kinds(wave, None)?)?]);
        let name = format!("{name}, all {depth} blocks");
        announce(features.len(), &name);
        features.push(measure(&name, &data, &waves(None, normal)?, &noisy(normal)?, &together)?);
    }
    let (mfcc, fbank) = (FeatureConfig::default(), FeatureConfig::fbank());
    for (name, config, context) in [
        ("MFCC + deltas", &mfcc, 0),
        ("MFCC + deltas, 5 frames of context", &mfcc, 5),
        ("log-mel", &fbank, 0),
        ("log-mel, 5 frames of context", &fbank, 5),
    ] {
        let extractor = Extractor::new(&FeatureConfig { context, ..config.clone() }, rate)?;
        // At the encoder's instants, so that labels and their number are the same.
        let kinds = |wave: &[f32], _: Option<usize>| {
            Ok(vec![extractor.compute(wave)?.at(
                timing.centre(),
                timing.seconds(),
                timing.frames(wave.len()),
            )])
        };
        announce(features.len(), name);
        features.push(measure(name, &data, &waves(None, false)?, &noisy(false)?, &kinds)?);
    }
    let (mut counts, mut labels) = (vec![0usize; data.phones.len() + 1], [Vec::new(), Vec::new()]);
    // A feature of one value: only the labels are looked at.
    let blank = |wave: &[f32]| {
        Ok(vec![Frames::new(vec![0.0; timing.frames(wave.len())], 1, timing.centre(), timing.seconds())?])
    };
    let train: Vec<&Corpus> = [Some(&data.fit), data.choose.as_ref()].into_iter().flatten().collect();
    for (corpora, labels) in [train.clone(), vec![&data.test]].into_iter().zip(&mut labels) {
        for corpus in corpora {
            labels.extend(
                phone_frames(corpus, &data.phones, &waves(None, false)?, &blank)?
                    .into_iter()
                    .flat_map(|r| r.labels),
            );
        }
    }
    labels[0].iter().for_each(|&l: &u32| counts[l as usize] += 1);
    let most = (0..counts.len()).fold(0, |best, c| if counts[c] > counts[best] { c } else { best }) as u32;
    let right = labels[1].iter().filter(|&&l| l == most).count();
    Ok(FrameReport {
        train_frames: labels[0].len(),
        test_frames: labels[1].len(),
        recordings: [train.iter().map(|c| c.clips().len()).sum(), data.test.clips().len()],
        left_out,
        phones: data.phones.len(),
        step_ms: 1000.0 * timing.seconds(),
        majority: 100.0 * right as f64 / labels[1].len().max(1) as f64,
        features,
    })
}

impl FrameReport {
    /// The accuracies as a table.
    fn table(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{} training and {} test frames of {} ms from {} and {} recordings, {} phones, most frequent {:.1} %",
            self.train_frames,
            self.test_frames,
            self.step_ms,
            self.recordings[0],
            self.recordings[1],
            self.phones,
            self.majority
        );
        if self.left_out > 0 {
            let _ = writeln!(out, "{} recordings without an alignment were left out", self.left_out);
        }
        let ratios: Vec<String> = self.features.first().map_or(Vec::new(), |f| {
            f.noisy.iter().map(|(db, _)| format!("{:>9}", format!("{db} dB"))).collect()
        });
        let _ = writeln!(out, "{:<40}{:>9}{}", "frame accuracy in %", "clean", ratios.concat());
        for f in &self.features {
            let name = f.block.map_or_else(|| f.name.clone(), |b| format!("{}, block {b}", f.name));
            let noisy: String = f.noisy.iter().map(|(_, a)| format!("{a:>9.1}")).collect();
            let _ = writeln!(out, "{name:<40}{:>9.1}{noisy}", f.test);
        }
        for f in self.features.iter().filter(|f| !f.blocks.is_empty()) {
            let list: Vec<String> =
                f.blocks.iter().map(|b| format!("{} {:.1} / {:.1}", b.block, b.chooses, b.test)).collect();
            let _ = writeln!(
                out,
                "{} by block, held-out training recordings / test: {}",
                f.name,
                list.join(", ")
            );
        }
        out
    }
}
