//! The data side of probes: features of frames with the phone said in their middle, features of utterances
//! with their class, and both in noise. What comes out are plain matrices and labels for `selfsup-eval`'s
//! linear probe, kNN and metrics.
//!
//! Features come from a function of a wave, so that MFCC, log-mel ([`crate::features::Extractor`]) and
//! encoders ([`crate::layers::layer_frames`]) are measured alike; it may give several kinds at once, as the
//! layers of an encoder are. Accuracy against the signal-to-noise ratio is the same call with a [`Prepare`]
//! that adds noise, and the probe that was fitted on clean speech.

use crate::data::{Clip, Corpus, Prepare, Whole};
use crate::features::Frames;
use crate::labels::{Alignment, Phones};
use rayon::prelude::*;
use selfsup_core::data::Dataset;
use selfsup_core::{Error, Result};

/// One or more kinds of features of a wave.
pub type FeatureFn<'a> = dyn Fn(&[f32]) -> Result<Vec<Frames>> + Sync + 'a;

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

    fn push(&mut self, clip: usize, frames: Frames, labels: Vec<u32>) -> Result<()> {
        if self.dim != 0 && frames.dim() != self.dim {
            return Err(Error::input(
                "features",
                format!("{} dimensions, expected {}", frames.dim(), self.dim),
            ));
        }
        self.dim = frames.dim();
        self.clips.extend(std::iter::repeat_n(clip, labels.len()));
        self.labels.extend(labels);
        self.values.extend(frames.into_vec());
        Ok(())
    }
}

/// Frames with the class of each.
type Labelled = (Frames, Vec<u32>);

/// Clips whose features are computed before their rows are joined: so many of them are in memory twice.
const BLOCK: usize = 64;

/// Features of every clip with the labels of their rows, kind by kind, on all threads.
fn rows(corpus: &Corpus, one: &(dyn Fn(&Clip) -> Result<Vec<Labelled>> + Sync)) -> Result<Vec<Rows>> {
    let mut out: Vec<Rows> = Vec::new();
    for (block, clips) in corpus.clips().chunks(BLOCK).enumerate() {
        let made: Vec<Result<Vec<Labelled>>> = clips.par_iter().map(one).collect();
        for (i, kinds) in made.into_iter().enumerate() {
            let kinds = kinds?;
            out.resize_with(out.len().max(kinds.len()), Rows::default);
            for (rows, (frames, labels)) in out.iter_mut().zip(kinds) {
                rows.push(block * BLOCK + i, frames, labels)?;
            }
        }
    }
    Ok(out)
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
    Alignment::read(
        clip.alignment
            .as_ref()
            .ok_or_else(|| Error::input(&clip.id, "has no alignment: phones cannot be probed"))?,
    )
}

/// Every frame of every clip with the phone that is said in its middle, for each kind of features. A phone
/// that is not among `phones` (those of the training clips) gets the number `phones.len()`, which no probe
/// predicts: it counts as wrong.
///
/// # Errors
/// If a clip has no alignment, cannot be decoded, or is too short for the features.
pub fn phone_frames(
    corpus: &Corpus,
    phones: &Phones,
    prepare: &Prepare,
    features: &FeatureFn<'_>,
) -> Result<Vec<Rows>> {
    rows(corpus, &|clip| {
        let said = alignment(clip)?;
        let kinds = features(&prepare.whole(clip)?).map_err(|e| Error::input(&clip.id, e))?;
        let label = |frames: Frames| {
            let first = frames.centre + clip.part.map_or(0.0, |p| p.0);
            let named = said.at_frames(first, frames.step, frames.len());
            let labels = named.into_iter().map(|p| phones.id(p).unwrap_or(phones.len() as u32)).collect();
            (frames, labels)
        };
        Ok(kinds.into_iter().map(label).collect())
    })
}

/// Mean and standard deviation of the features over each clip, with its class (a speaker, a language), for
/// each kind of features.
///
/// # Errors
/// If a clip has no label, cannot be decoded, or is too short for the features.
pub fn utterances(corpus: &Corpus, prepare: &Prepare, features: &FeatureFn<'_>) -> Result<Vec<Rows>> {
    rows(corpus, &|clip| {
        let label = clip.label.ok_or_else(|| Error::input(&clip.id, "has no label"))?;
        let kinds = features(&prepare.whole(clip)?).map_err(|e| Error::input(&clip.id, e))?;
        let pool = |frames: Frames| {
            let pooled = frames.pooled();
            let dim = pooled.len();
            Ok((Frames::new(pooled, dim, frames.centre, frames.step)?, vec![label]))
        };
        kinds.into_iter().map(pool).collect()
    })
}

/// Mean and standard deviation of the features over each part of recordings that are read whole, and the
/// frames that they are of, on all threads.
///
/// # Errors
/// If a recording cannot be decoded, or is too short for the features.
pub fn part_statistics(
    whole: &Whole,
    features: &(dyn Fn(&[f32]) -> Result<Frames> + Sync),
) -> Result<Vec<(Vec<f32>, usize)>> {
    let one = |i: usize| -> Result<(Vec<f32>, usize)> {
        let frames = features(&whole.get(i)?.samples)?;
        Ok((frames.pooled(), frames.len()))
    };
    (0..whole.len()).into_par_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::Content;
    use crate::augment::{Noise, NoiseLevel, snr};
    use crate::data::PrepareConfig;
    use crate::features::{Extractor, FeatureConfig};

    fn prepare(noise: Option<NoiseLevel>) -> Prepare {
        Prepare::new(PrepareConfig { normalize: false, noise, ..PrepareConfig::default() }).unwrap()
    }

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
                Clip {
                    label: Some(i % 2),
                    alignment: Some(lab.clone()),
                    ..Clip::new(format!("clip {i}"), content)
                }
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
        let features = |w: &[f32]| Ok(vec![extractor.compute(w)?, extractor.compute(w)?.with_context(1)]);
        let kinds = phone_frames(&corpus, &phones, &prepare(None), &features).unwrap();
        assert_eq!((kinds.len(), kinds[1].dim, &kinds[1].labels), (2, 240, &kinds[0].labels));
        let rows = &kinds[0];
        assert_eq!((rows.len(), rows.dim, rows.values.len()), (6 * 48, 80, 6 * 48 * 80));
        // Frame 23 has its middle at 0.2425 s, frame 24 at 0.2525 s; `high` is 0, `low` is 1.
        assert_eq!(rows.labels[..24], [1; 24]);
        assert_eq!(rows.labels[24..48], [0; 24]);
        assert_eq!((rows.clips[47], rows.clips[48]), (0, 1));
        // A phone that training did not know counts as wrong.
        let lab = dir.path().join("b.lab");
        std::fs::write(&lab, "#\n0.5 125 low\n").unwrap();
        let few = Phones::of([&Alignment::read(&lab).unwrap()]);
        let rows = phone_frames(&corpus, &few, &prepare(None), &features).unwrap();
        assert_eq!((rows[0].labels[0], rows[0].labels[47]), (0, 1));
        let none = Corpus::new(
            vec![Clip { alignment: None, ..corpus.clips()[0].clone() }],
            corpus.classes().to_vec(),
        )
        .unwrap();
        assert!(super::phones(&none).unwrap_err().to_string().contains("clip 0"));
    }

    #[test]
    fn utterances_are_pooled_and_noise_has_its_ratio() {
        let dir = tempfile::tempdir().unwrap();
        let corpus = corpus(dir.path());
        let extractor = Extractor::new(&FeatureConfig::fbank(), 16_000).unwrap();
        let features = |w: &[f32]| Ok(vec![extractor.compute(w)?]);
        let rows = &utterances(&corpus, &prepare(None), &features).unwrap()[0];
        assert_eq!((rows.len(), rows.dim, rows.labels.as_slice()), (6, 160, [0, 1, 0, 1, 0, 1].as_slice()));
        assert_eq!(rows.values[..160], rows.values[320..480]);
        let noisy = |snr_db| prepare(Some(NoiseLevel { snr_db, kind: Noise::White, seed: 1, folder: None }));
        let clean = prepare(None).whole(&corpus.clips()[0]).unwrap();
        for db in [20.0, 0.0] {
            let wave = noisy(db).whole(&corpus.clips()[0]).unwrap();
            assert!((snr(&clean, &wave) - f64::from(db)).abs() < 0.05);
            assert_eq!(wave, noisy(db).whole(&corpus.clips()[0]).unwrap());
        }
        assert_ne!(
            noisy(0.0).whole(&corpus.clips()[0]).unwrap(),
            noisy(0.0).whole(&corpus.clips()[2]).unwrap()
        );
        let nameless = Corpus::new(vec![Clip { label: None, ..corpus.clips()[1].clone() }], vec![]).unwrap();
        assert!(utterances(&nameless, &prepare(None), &features).unwrap_err().to_string().contains("clip 1"));
    }
}
