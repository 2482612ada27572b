//! Recordings: `[method]`, `[encoder]` and `[input]` of `selfsup-speech`; HuBERT in its stages; MFCC
//! statistics as the baseline.

mod about;
mod corrupt;
mod folder;
mod frames;
mod made_up;
#[cfg(feature = "vision")]
mod pictures;
mod plan;
mod recipes;
mod recognition;
mod tasks;
mod transcripts;
mod whole;

use super::{Corruptible, FrameProbe, Method, Modality, Shown, Shows, Training};
use crate::config::{self, PretrainConfig, Read};
use crate::recipe::{Given, Recipe, Seen, set};
use crate::set::{Set, evenly};
use candle_core::Tensor;
use selfsup_core::config::Unread;
use selfsup_core::data::{Collate, Loader, LoaderConfig, Source};
use selfsup_core::objective::Inputs;
use selfsup_core::objective::boxed;
use selfsup_core::weights::left_out;
use selfsup_core::{Encoder, Error, Key, Params, Result, Scope};
use selfsup_datasets::{Kind, Reading, Records, Source as Place};
use selfsup_eval::Matrix;
use selfsup_speech::audio::{AudioConfig, Content, wav};
use selfsup_speech::batch::{Utterance, Waves};
use selfsup_speech::data::{Clip, Corpus, Padded, Prepare, PrepareConfig};
use selfsup_speech::encoder::{Family, SpeechConfig, SpeechEncoder};
use selfsup_speech::features::{Extractor, FeatureConfig};
use selfsup_speech::methods::{Hubert, Iteration};
use selfsup_speech::names::{Head, load_pretrained, read_config, save_folder};
use selfsup_speech::recipe::{EncoderConfig, MethodConfig};
use selfsup_speech::transcript::TranscriptConfig;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use toml::Table;

/// Batches that are sorted by length together.
const WINDOW: usize = 50;

/// Recordings that are looked at for their lengths.
const LOOKED: usize = 1000;

/// Width of MFCCs with first and second differences.
const MFCC: usize = 39;

/// The sections of recordings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Keys {
    /// The objective.
    pub method: MethodConfig,
    /// The network.
    pub encoder: EncoderConfig,
    /// From recordings to waves.
    pub input: PrepareConfig,
    /// How transcripts are simplified before they are learnt and compared.
    pub transcript: TranscriptConfig,
}

impl config::Keys for Keys {
    const KIND: Kind = Kind::Speech;
    const METHODS: &'static [&'static str] = &MethodConfig::NAMES;

    fn method(&self) -> &str {
        self.method.name()
    }

    fn encoder(&self) -> &str {
        if self.encoder.name.is_empty() { "tiny" } else { &self.encoder.name }
    }

    fn outline(&self) -> String {
        let crop = self.input.crop_seconds.map_or(String::new(), |s| format!(" on crops of {s} s"));
        format!("{}{crop}", config::Keys::encoder(self))
    }

    fn for_steps(&self, steps: u64) -> Table {
        let mut keys = Table::new();
        if let MethodConfig::Wav2vec2(c) = &self.method {
            set(&mut keys, "method.name", self.method.name());
            set(&mut keys, "method.gumbel_decay", recipes::gumbel_decay(c.gumbel_start, c.gumbel_end, steps));
        }
        keys
    }

    fn forget_pretrained(&mut self, run: &Path) {
        self.encoder.pretrained = super::kept_shape(self.encoder.pretrained.take(), run);
    }

    /// All sizes of all families are one network.
    fn alike(_a: &str, _b: &str) -> bool {
        true
    }

    fn unread(&self, task: Option<&str>) -> Vec<Unread> {
        let mut unread = Vec::new();
        if task != Some("ctc") {
            unread.push(Unread::new("transcript", "is read by task ctc"));
        }
        if self
            .encoder
            .pretrained
            .as_deref()
            .is_some_and(|p| super::weights_path(p).is_ok_and(|p| p.is_dir()))
        {
            let why = "is read for a network of random weights: here encoder.pretrained gives the network";
            unread.extend(Unread::all_instead("encoder", &EncoderConfig::SHAPE, "encoder.pretrained", why));
        }
        if task.is_none() {
            let why = "is read in fine-tuning: in pre-training the method's own mask counts";
            unread.extend(Unread::all("encoder", &["mask", "channel_mask"], why));
        }
        unread
    }
}

/// Recordings.
pub struct Speech {
    keys: Keys,
    encoder: SpeechConfig,
    reading: Reading,
}

/// Waves with the labels of their records.
struct Stacked(Arc<dyn Records>);

impl Collate<Utterance> for Stacked {
    type Batch = Inputs;

    fn collate(&self, items: Vec<Utterance>, indices: &[usize], _key: Key) -> Result<Inputs> {
        let waves = Waves::stack(items, indices)?;
        let labels = indices.iter().filter_map(|&i| self.0.label(i)).collect();
        Ok(Inputs { valid: waves.valid()?, x: waves.values, labels, indices: waves.indices })
    }
}

/// The clips of a set, one for each record.
fn corpus(set: &Set) -> Result<Corpus> {
    let records = set.records();
    let clips = (0..set.len()).map(|i| {
        let record = records.get(i)?;
        let content = match record.source {
            Place::File(path) => Content::File(path),
            Place::Bytes(bytes) => Content::Bytes(bytes),
            Place::Pixels { .. } => {
                return Err(Error::input(&record.id, "is a picture, expected a recording"));
            }
        };
        let mut clip = Clip::new(record.id, content);
        clip.label = record.label;
        clip.group = record.group;
        clip.transcript = records.transcript(i).filter(|text| !text.is_empty());
        clip.alignment = records.alignment(i);
        Ok(clip)
    });
    Corpus::new(clips.collect::<Result<_>>()?, set.classes().to_vec())
}

impl Speech {
    /// The samples whose length is within `input.min_seconds` and `input.max_seconds`: those that are trained
    /// on.
    fn within(&self, set: &Set) -> Result<Set> {
        let bounds = self.keys.input.lengths();
        let kept = corpus(set)?
            .within(&bounds)
            .map_err(|e| Error::config(format!("input.min_seconds, input.max_seconds: {e}")))?;
        if kept.len() == set.len() {
            return Ok(set.clone());
        }
        let (out, least, most) =
            (set.len() - kept.len(), bounds.min_seconds, bounds.max_seconds.unwrap_or(f64::INFINITY));
        crate::say::warning(format_args!(
            "{out} of {} recordings are left out: not within {least} to {most} s",
            set.len()
        ));
        set.part(kept)
    }

    /// Clips whose lengths are known, for batches of like length. A recording that cannot be read ends the
    /// run unless some may be bad.
    fn measured(&self, set: &Set, max_bad: f64) -> Result<Corpus> {
        let all = corpus(set)?;
        let (measured, bad) = all.measure()?;
        match bad.first() {
            Some((_, why)) if bad.len() as f64 > max_bad * set.len() as f64 => Err(Error::input(
                "recordings",
                format!("{} of {} cannot be read; the first: {why}", bad.len(), set.len()),
            )),
            _ => Ok(measured),
        }
    }

    fn prepare(&self, augment: bool) -> Result<Prepare> {
        let config = if augment {
            self.keys.input.clone()
        } else {
            PrepareConfig { random_crop: false, augment: Vec::new(), ..self.keys.input.clone() }
        };
        Prepare::new(config)
    }
}

impl Modality for Speech {
    type Keys = Keys;
    type Batch = Waves;

    const RAW: &'static str = "MFCC statistics";
    const LAYOUTS: &'static [&'static str] = &["hf"];

    fn new(config: &PretrainConfig<Keys>) -> Result<Self> {
        let keys = config.keys.clone();
        let encoder = match &keys.encoder.pretrained {
            Some(name) => {
                let path = super::weights_path(name)?;
                if path.is_dir() {
                    read_config(&path)?
                } else {
                    keys.encoder.resolve(keys.method.family())?
                }
            }
            None => keys.encoder.resolve(keys.method.family())?,
        };
        Ok(Speech { keys, encoder, reading: config.data.reading() })
    }

    fn seen(config: &PretrainConfig<Keys>, given: &Given) -> Result<Seen> {
        let set = Speech::new(config)?.open(&config.data.path)?;
        let looked = evenly(LOOKED.min(set.len()), set.len()).collect();
        let corpus = corpus(&set.part(looked)?)?;
        let rate = config.keys.input.audio.rate;
        let lengths = corpus.each(&|clip: &Clip| clip.samples(rate).ok());
        let seconds: Vec<f64> = lengths.into_iter().flatten().map(|n| n as f64 / f64::from(rate)).collect();
        let hours = seconds.iter().sum::<f64>() / 3600.0 * set.len() as f64 / seconds.len().max(1) as f64;
        let (low, high) = seconds.iter().fold((f64::INFINITY, 0.0_f64), |(l, h), s| (l.min(*s), h.max(*s)));
        let data = format!("{low:.1} to {high:.1} s each, {:.1} min in all", hours * 60.0);
        let family = match config.keys.method.family() {
            Family::Hubert => "hubert",
            Family::Data2vecAudio => "data2vec",
            _ => "wav2vec2",
        };
        let mut recipes = recipes::recipes(&seconds, hours, family, given);
        if let MethodConfig::Hubert(c) = &config.keys.method
            && !given.any("method.iterations")
            && let Some(fewer) = recipes::fewer_clusters(&c.iterations, hours * 3600.0)
            && let Ok(fewer) = toml::Value::try_from(fewer)
        {
            let lower = |r: Recipe| r.with("method.name", "hubert").with("method.iterations", fewer.clone());
            recipes = recipes.into_iter().map(lower).collect();
        }
        Ok(Seen { data, recipes })
    }

    /// HuBERT's iterations.
    fn trainings(keys: &Keys) -> usize {
        match &keys.method {
            MethodConfig::Hubert(c) => c.iterations.len(),
            _ => 1,
        }
    }

    /// HuBERT's clusterings: each goes over all recordings twice, and k-means between.
    fn between(&self, samples: usize, reading: f64, encoding: f64) -> f64 {
        let MethodConfig::Hubert(c) = &self.keys.method else { return 0.0 };
        let one = |i: &Iteration| {
            let (each, dim) = match i.features.block(self.encoder.depth) {
                Some(_) => (encoding, self.encoder.dim),
                None => (reading, MFCC),
            };
            2.0 * samples as f64 * each + recipes::clustering(i.clusters, dim)
        };
        c.iterations.iter().map(one).sum()
    }

    /// HuBERT's batches with clusters that are made up: a step costs the same whatever they are.
    fn trial(&self, set: &Set, loader: LoaderConfig) -> Result<Box<dyn Source<Waves>>> {
        let batches = self.batches(set, loader)?;
        match &self.keys.method {
            MethodConfig::Hubert(c) => Ok(Box::new(made_up::MadeUp {
                batches,
                clusters: c.iterations.last().map_or(2, |i| i.clusters),
                encoder: self.encoder.clone(),
            })),
            _ => Ok(batches),
        }
    }

    fn reading(&self) -> Reading {
        self.reading.clone()
    }

    fn open(&self, what: &str) -> Result<Set> {
        folder::warn_of_passed_over(what)?;
        Ok(Set::new(selfsup_datasets::open_kind_with(what, Kind::Speech, &self.reading)?))
    }

    fn about(&self, set: &Set) -> Result<Vec<String>> {
        Ok(about::lines(&corpus(set)?, &**set.records()))
    }

    fn usable(&self, set: Set) -> Result<Option<Set>> {
        folder::usable(&corpus(&set)?, set, self.encoder.receptive_field(), self.keys.input.audio.rate)
    }

    fn batches(&self, set: &Set, loader: LoaderConfig) -> Result<Box<dyn Source<Waves>>> {
        let measured = self.measured(&self.within(set)?, loader.max_bad_fraction)?;
        let prepare = Arc::new(self.prepare(true)?);
        if !loader.shuffle {
            return Ok(Box::new(Loader::new(Arc::new(measured), prepare, Arc::new(Padded), loader)?));
        }
        let lengths = measured.lengths(self.keys.input.crop_seconds);
        Ok(Box::new(Loader::by_length(
            Arc::new(measured),
            prepare,
            Arc::new(Padded),
            loader,
            lengths,
            WINDOW,
        )?))
    }

    fn inputs(&self, set: &Set, augment: bool, loader: LoaderConfig) -> Result<Box<dyn Source<Inputs>>> {
        if !augment {
            return self.read_whole(set, loader);
        }
        let set = self.within(set)?;
        let (prepare, stacked) = (Arc::new(self.prepare(true)?), Arc::new(Stacked(set.records().clone())));
        Ok(Box::new(Loader::new(Arc::new(corpus(&set)?), prepare, stacked, loader)?))
    }

    fn method(&self, scope: &Scope) -> Result<Method<Waves>> {
        match &self.keys.method {
            // What a finished run holds: the method of its last iteration.
            MethodConfig::Hubert(c) => {
                let clusters = c.iterations.last().map_or(0, |i| i.clusters);
                Ok(boxed(Hubert::new(scope, self.encoder.clone(), c.clone(), clusters)?))
            }
            other => other.build(scope, &self.encoder),
        }
    }

    fn encoder(&self, scope: &Scope) -> Result<Box<dyn Encoder>> {
        Ok(Box::new(SpeechEncoder::new(scope, self.encoder.clone())?))
    }

    fn load_pretrained(&self, params: &Params) -> Result<Option<String>> {
        let Some(name) = &self.keys.encoder.pretrained else { return Ok(None) };
        let path = super::weights_path(name)?;
        let report = load_pretrained(params, "encoder", &path)?;
        Ok(Some(format!("{} of {}", left_out(&report), path.display())))
    }

    fn features(&self, encoder: &dyn Encoder, batch: &Inputs, read: Read) -> Result<Tensor> {
        self.pooled(encoder, batch, read)
    }

    fn weights(&self, batch: &Inputs) -> Result<Vec<f64>> {
        let lengths = SpeechEncoder::lengths(&batch.x, batch.valid.as_ref())?;
        Ok(lengths.into_iter().map(|n| self.encoder.frames(n) as f64).collect())
    }

    /// Mean and standard deviation over time of MFCCs with first and second differences.
    fn raw(&self, train: &Set, test: &Set, _loader: &LoaderConfig) -> Result<(Matrix, Matrix)> {
        let features = Extractor::new(&FeatureConfig::default(), self.keys.input.audio.rate)?;
        Ok((self.statistics_of(&features, train)?, self.statistics_of(&features, test)?))
    }

    fn export(&self, params: &Params, out: &Path, _layout: &str) -> Result<()> {
        save_folder(out, params, "encoder", &self.encoder, &Head::None, self.keys.input.normalize)
    }

    fn keep(&self, run: &Path) -> Result<()> {
        super::keep_shape(self.keys.encoder.pretrained.as_deref(), run)
    }

    fn preview(&self, batch: &Waves, _set: &Set) -> Result<Vec<String>> {
        let rate = f64::from(self.keys.input.audio.rate);
        let seconds: Vec<String> =
            batch.lengths.iter().take(8).map(|&l| format!("{:.2}", l as f64 / rate)).collect();
        Ok(vec![format!("waves: {:?}", batch.values.dims()), format!("seconds: {} ...", seconds.join(", "))])
    }

    fn training(&self) -> Training<'_, Waves> {
        if self.keys.method.staged() { Training::Plan(self) } else { Training::One }
    }

    fn corruptible(&self) -> Option<&dyn Corruptible<Self>> {
        Some(self)
    }

    fn frame_probe(&self) -> Option<&dyn FrameProbe> {
        Some(self)
    }

    fn shows(&self) -> Option<&dyn Shows> {
        Some(self)
    }

    #[cfg(feature = "vision")]
    fn draws(&self) -> Option<&dyn super::Draws<Waves>> {
        Some(self)
    }
}

/// Of a recording a page plays so many seconds, at the rate of a telephone line: 48 KB.
const PLAYED: (f64, u32) = (3.0, 8000);

impl Shows for Speech {
    fn show(&self, set: &Set, index: usize) -> Result<Shown> {
        let corpus = corpus(&set.part(vec![index])?)?;
        let (seconds, rate) = PLAYED;
        let clip = corpus.clips().first().ok_or_else(|| Error::input("recordings", "none"))?;
        let audio = AudioConfig { rate, ..self.keys.input.audio.clone() };
        let played = clip.samples(rate)?.min((seconds * f64::from(rate)) as u64);
        Ok(Shown::Sound(wav(&clip.load(Some((0, played)), &audio)?, rate)?))
    }
}
