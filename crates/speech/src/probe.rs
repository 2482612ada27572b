//! The data side of probes: features of frames with the phone said in their middle, features of utterances with their class, and both in
//! noise. What comes out are plain matrices and labels for `selfsup-eval`'s linear probe, kNN and metrics.
//!
//! Features come from a function of a wave, so that MFCC, log-mel ([`crate::features::Extractor`]) and encoders ([`encoder_frames`]) are
//! measured alike. Accuracy or WER against the signal-to-noise ratio is the same call for each ratio, with the probe that was fitted on
//! clean speech.

use crate::audio::AudioConfig;
use crate::augment::{Noise, add_noise, noise};
use crate::data::{Clip, Corpus, normalize};
use crate::features::Frames;
use crate::labels::{Alignment, Phones};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use selfsup_core::{Encoder, Error, Key, Layer, Pass, Result};
use serde::{Deserialize, Serialize};

/// Features of a wave.
pub type FeatureFn<'a> = dyn Fn(&[f32]) -> Result<Frames> + Sync + 'a;

/// How waves are made for a probe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeConfig {
    /// Rate and limit of decoding.
    pub audio: AudioConfig,
    /// Mean 0 and variance 1 for each wave: what encoders were trained on; features of Kaldi's kind need it not.
    pub normalize: bool,
    /// Noise that is added, if any.
    pub noise: Option<NoiseLevel>,
}

/// Noise at a ratio. What is added to a clip depends on the seed and the clip alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseLevel {
    /// Signal over noise in decibels.
    pub snr_db: f32,
    /// Its colour.
    #[serde(default)]
    pub kind: Noise,
    /// Which noise.
    #[serde(default)]
    pub seed: u64,
}

impl ProbeConfig {
    /// The wave of a clip as the features see it.
    ///
    /// # Errors
    /// If the clip cannot be decoded.
    pub fn wave(&self, clip: &Clip) -> Result<Vec<f32>> {
        let mut wave = clip.load(None, &self.audio)?;
        if let Some(n) = &self.noise {
            let mut rng = Key::new(n.seed).named("probe noise").named(&clip.id).rng();
            let sound = noise(n.kind, wave.len(), &mut rng);
            add_noise(&mut wave, &sound, n.snr_db);
        }
        if self.normalize {
            normalize(&mut wave);
        }
        Ok(wave)
    }
}

/// Rows of features with a class each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// `(rows, dim)`.
    pub values: Vec<f32>,
    /// Values of a row.
    pub dim: usize,
    /// Class of each row.
    pub labels: Vec<u32>,
    /// Clip that each row is of, as an index into the corpus.
    pub clips: Vec<usize>,
}

impl Rows {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    fn join(parts: Vec<Result<(Frames, Vec<u32>)>>) -> Result<Self> {
        let mut out = Rows::default();
        for (i, part) in parts.into_iter().enumerate() {
            let (frames, labels) = part?;
            if out.dim != 0 && frames.dim() != out.dim {
                return Err(Error::input("features", format!("{} dimensions, expected {}", frames.dim(), out.dim)));
            }
            out.dim = frames.dim();
            out.clips.extend(std::iter::repeat_n(i, labels.len()));
            out.labels.extend(labels);
            out.values.extend(frames.into_vec());
        }
        Ok(out)
    }
}

/// The phones that are said in some clips.
///
/// # Errors
/// If a clip has no alignment, or one cannot be read.
pub fn phones(corpus: &Corpus) -> Result<Phones> {
    let all: Vec<Alignment> = corpus.clips().iter().map(alignment).collect::<Result<_>>()?;
    Ok(Phones::of(&all))
}

fn alignment(clip: &Clip) -> Result<Alignment> {
    Alignment::read(clip.alignment.as_ref().ok_or_else(|| Error::input(&clip.id, "has no alignment: phones cannot be probed"))?)
}

/// Every frame of every clip with the phone that is said in its middle. A phone that is not among `phones` (those of the training clips)
/// gets the number `phones.len()`, which no probe predicts: it counts as wrong.
///
/// # Errors
/// If a clip has no alignment, cannot be decoded, or is too short for the features.
pub fn phone_frames(corpus: &Corpus, phones: &Phones, config: &ProbeConfig, features: &FeatureFn<'_>) -> Result<Rows> {
    let one = |clip: &Clip| {
        let said = alignment(clip)?;
        let frames = features(&config.wave(clip)?).map_err(|e| Error::input(&clip.id, e))?;
        let first = frames.centre + clip.part.map_or(0.0, |p| p.0);
        let named = said.at_frames(first, frames.step, frames.len());
        let labels = named.into_iter().map(|p| phones.id(p).unwrap_or(phones.len() as u32)).collect();
        Ok((frames, labels))
    };
    Rows::join(corpus.clips().par_iter().map(one).collect())
}

/// Mean and standard deviation of the features over each clip, with its class: a speaker, a language.
///
/// # Errors
/// If a clip has no label, cannot be decoded, or is too short for the features.
pub fn utterances(corpus: &Corpus, config: &ProbeConfig, features: &FeatureFn<'_>) -> Result<Rows> {
    let one = |clip: &Clip| {
        let label = clip.label.ok_or_else(|| Error::input(&clip.id, "has no label"))?;
        let frames = features(&config.wave(clip)?).map_err(|e| Error::input(&clip.id, e))?;
        let pooled = frames.pooled();
        let dim = pooled.len();
        Ok((Frames::new(pooled, dim, frames.centre, frames.step)?, vec![label]))
    };
    Rows::join(corpus.clips().par_iter().map(one).collect())
}

/// An encoder's frames as features: of its last layer ([`Layer::Tokens`]) or of a hidden one. A frame sees `window` samples and comes
/// every `step`, at `rate` samples a second: 400, 320 and 16,000 for wav2vec 2.0 and HuBERT.
pub fn encoder_frames<'a>(
    encoder: &'a dyn Encoder,
    layer: Layer,
    device: &'a Device,
    (window, step, rate): (usize, usize, u32),
) -> impl Fn(&[f32]) -> Result<Frames> + Sync + 'a {
    move |wave| {
        let x = Tensor::from_slice(wave, (1, wave.len()), device)?;
        let out = encoder.forward(&x, None, &[layer], &Pass::eval())?;
        let tokens = match layer {
            Layer::Hidden(_) => out.layers.first(),
            _ => out.tokens.as_ref(),
        };
        let tokens = tokens.ok_or_else(|| Error::input("encoder", format!("gives no frames for {layer:?}")))?;
        let (_, _, dim) = tokens.dims3()?; // (1, L, D)
        let rate = f64::from(rate);
        Frames::new(tokens.flatten_all()?.to_vec1()?, dim, window as f64 / 2.0 / rate, step as f64 / rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Content;
    use crate::augment::snr;
    use crate::features::{Extractor, FeatureConfig};
    use selfsup_core::Features;

    /// Two classes of tones, of half a second, in which the first half is low and the second high.
    fn corpus(dir: &std::path::Path) -> Corpus {
        let lab = dir.join("a.lab");
        std::fs::write(&lab, "#\n0.25 125 low\n0.5 125 high\n").unwrap();
        let clips = (0..6)
            .map(|i| {
                let wave = (0..8000).map(|k| {
                    let hz = if k < 4000 { 200.0 } else { 2000.0 } + 100.0 * (i % 2) as f32;
                    0.3 * (std::f32::consts::TAU * hz * k as f32 / 16_000.0).sin()
                });
                let content = Content::Wave { rate: 16_000, samples: wave.collect() };
                Clip { label: Some(i % 2), alignment: Some(lab.clone()), ..Clip::new(format!("clip {i}"), content) }
            })
            .collect();
        Corpus::new(clips, vec!["a".into(), "b".into()]).unwrap()
    }

    #[test]
    fn frames_get_the_phone_in_their_middle() {
        let dir = tempfile::tempdir().unwrap();
        let corpus = corpus(dir.path());
        let extractor = Extractor::new(&FeatureConfig::fbank(), 16_000).unwrap();
        let phones = phones(&corpus).unwrap();
        let rows = phone_frames(&corpus, &phones, &ProbeConfig::default(), &|w| extractor.compute(w)).unwrap();
        assert_eq!((rows.len(), rows.dim, rows.values.len()), (6 * 48, 80, 6 * 48 * 80));
        // Frame 23 has its middle at 0.2425 s, frame 24 at 0.2525 s; `high` is 0, `low` is 1.
        assert_eq!(rows.labels[..24], [1; 24]);
        assert_eq!(rows.labels[24..48], [0; 24]);
        assert_eq!((rows.clips[47], rows.clips[48]), (0, 1));
        // A phone that training did not know counts as wrong.
        let lab = dir.path().join("b.lab");
        std::fs::write(&lab, "#\n0.5 125 low\n").unwrap();
        let few = Phones::of([&Alignment::read(&lab).unwrap()]);
        let rows = phone_frames(&corpus, &few, &ProbeConfig::default(), &|w| extractor.compute(w)).unwrap();
        assert_eq!((rows.labels[0], rows.labels[47]), (0, 1));
        let none = Corpus::new(vec![Clip { alignment: None, ..corpus.clips()[0].clone() }], corpus.classes().to_vec()).unwrap();
        assert!(super::phones(&none).unwrap_err().to_string().contains("clip 0"));
    }

    #[test]
    fn utterances_are_pooled_and_noise_has_its_ratio() {
        let dir = tempfile::tempdir().unwrap();
        let corpus = corpus(dir.path());
        let extractor = Extractor::new(&FeatureConfig::fbank(), 16_000).unwrap();
        let rows = utterances(&corpus, &ProbeConfig::default(), &|w| extractor.compute(w)).unwrap();
        assert_eq!((rows.len(), rows.dim, rows.labels.as_slice()), (6, 160, [0, 1, 0, 1, 0, 1].as_slice()));
        assert_eq!(rows.values[..160], rows.values[320..480]);
        let noisy = |snr_db| ProbeConfig { noise: Some(NoiseLevel { snr_db, kind: Noise::White, seed: 1 }), ..ProbeConfig::default() };
        let clean = ProbeConfig::default().wave(&corpus.clips()[0]).unwrap();
        for db in [20.0, 0.0] {
            let wave = noisy(db).wave(&corpus.clips()[0]).unwrap();
            assert!((snr(&clean, &wave) - f64::from(db)).abs() < 0.05);
            assert_eq!(wave, noisy(db).wave(&corpus.clips()[0]).unwrap());
        }
        assert_ne!(noisy(0.0).wave(&corpus.clips()[0]).unwrap(), noisy(0.0).wave(&corpus.clips()[2]).unwrap());
        let nameless = Corpus::new(vec![Clip { label: None, ..corpus.clips()[1].clone() }], vec![]).unwrap();
        assert!(utterances(&nameless, &ProbeConfig::default(), &|w| extractor.compute(w)).unwrap_err().to_string().contains("clip 1"));
    }

    /// Means of blocks of 320 samples.
    struct Blocks;
    impl Encoder for Blocks {
        fn forward(&self, x: &Tensor, _: Option<&Tensor>, want: &[Layer], _: &Pass) -> Result<Features> {
            let (n, t) = x.dims2()?;
            let tokens = x.narrow(1, 0, t / 320 * 320)?.reshape((n, t / 320, 320))?.mean_keepdim(2)?;
            let layers = want.iter().filter(|l| matches!(l, Layer::Hidden(_))).map(|_| tokens.clone()).collect();
            Ok(Features { pooled: tokens.mean(1)?, tokens: want.contains(&Layer::Tokens).then_some(tokens), layers })
        }
        fn dim(&self) -> usize {
            1
        }
    }

    #[test]
    fn encoders_give_frames() {
        let wave: Vec<f32> = (0..1000).map(|i| (i / 320) as f32).collect();
        for layer in [Layer::Tokens, Layer::Hidden(0)] {
            let frames = encoder_frames(&Blocks, layer, &Device::Cpu, (320, 320, 16_000))(&wave).unwrap();
            assert_eq!((frames.len(), frames.dim(), frames.centre, frames.step), (3, 1, 0.01, 0.02));
            assert_eq!(frames.as_slice(), [0.0, 1.0, 2.0]);
        }
        assert!(encoder_frames(&Blocks, Layer::Pooled, &Device::Cpu, (320, 320, 16_000))(&wave).is_err());
    }
}
