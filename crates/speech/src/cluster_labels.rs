//! Clusters of the frames of recordings, and batches that carry them: HuBERT's targets.

use crate::batch::{Target, Waves};
use crate::encoder::SpeechConfig;
use candle_core::{Device, Tensor};
use selfsup_core::checkpoint::save_safetensors;
use selfsup_core::cluster::Clusters;
use selfsup_core::data::{LoadedBatch, Source};
use selfsup_core::kernels::host::integers;
use selfsup_core::{Error, Result, weights};
use std::path::Path;

/// A cluster for each frame of each recording, and the instants of the frames.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameLabels {
    /// Middle of the first frame, in seconds.
    pub centre: f64,
    /// Seconds between two frames.
    pub step: f64,
    /// Labels of each recording.
    pub labels: Vec<Vec<u32>>,
}

impl FrameLabels {
    /// The labels of a recording at `n` instants from `first` on, every `step` seconds: those of the nearest
    /// frames.
    ///
    /// # Errors
    /// If there is no such recording.
    pub fn at(&self, recording: usize, first: f64, step: f64, n: usize) -> Result<Vec<i64>> {
        let labels = self.labels.get(recording).filter(|l| !l.is_empty());
        let labels = labels.ok_or_else(|| {
            Error::input(format!("sample {recording}"), "no cluster labels: made for other recordings")
        })?;
        let place =
            |t: usize| ((first + step * t as f64 - self.centre) / self.step).round().max(0.0) as usize;
        Ok((0..n).map(|t| i64::from(labels[place(t).min(labels.len() - 1)])).collect())
    }

    /// Writes them with the centres they belong to, whole or not at all.
    pub(crate) fn write(&self, path: &Path, clusters: &Clusters) -> Result<()> {
        let host = Device::Cpu;
        let lengths: Vec<u32> = self.labels.iter().map(|l| l.len() as u32).collect();
        let flat: Vec<u32> = self.labels.iter().flatten().copied().collect();
        let tensors = [
            ("centers", Tensor::from_slice(clusters.centers(), (clusters.k(), clusters.dim()), &host)?),
            ("labels", Tensor::from_slice(&flat, flat.len(), &host)?),
            ("lengths", Tensor::from_slice(&lengths, lengths.len(), &host)?),
            // Nanoseconds as whole numbers: an f32 of seconds would drift over a long recording.
            ("timing", Tensor::new(&[nanos(self.centre), nanos(self.step)], &host)?),
        ];
        save_safetensors(path, &tensors.map(|(name, t)| (name.to_string(), t)))
    }

    /// Reads what a clustering wrote.
    ///
    /// # Errors
    /// If the file cannot be read or is not whole.
    pub fn read(path: &Path) -> Result<Self> {
        let tensors = weights::read(path)?;
        let integers = |name: &str| -> Result<Vec<i64>> {
            let t = tensors.get(name).ok_or_else(|| Error::file(path, format!("no tensor {name}")))?;
            Ok(integers(t)?)
        };
        let (flat, lengths, timing) = (integers("labels")?, integers("lengths")?, integers("timing")?);
        let whole = lengths.iter().all(|l| *l >= 0) && lengths.iter().sum::<i64>() == flat.len() as i64;
        let &[centre, step] = timing.as_slice() else {
            return Err(Error::file(path, "timing: expected two numbers"));
        };
        if !whole || step <= 0 || flat.iter().any(|l| u32::try_from(*l).is_err()) {
            return Err(Error::file(path, "labels, lengths and timing do not fit together"));
        }
        let mut flat = flat.into_iter().map(|l| l as u32);
        let labels = lengths.iter().map(|&l| flat.by_ref().take(l as usize).collect()).collect();
        Ok(FrameLabels { centre: centre as f64 * 1e-9, step: step as f64 * 1e-9, labels })
    }
}

fn nanos(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}

/// Batches of a source with the clusters of their frames as targets.
pub(crate) struct Labelled<'a> {
    pub(crate) inner: &'a dyn Source<Waves>,
    pub(crate) labels: &'a FrameLabels,
    pub(crate) encoder: &'a SpeechConfig,
    pub(crate) rate: u32,
}

impl Labelled<'_> {
    fn label(&self, mut loaded: LoadedBatch<Waves>) -> Result<LoadedBatch<Waves>> {
        let rate = f64::from(self.rate);
        let (hop, middle) =
            (self.encoder.hop() as f64 / rate, self.encoder.receptive_field() as f64 / 2.0 / rate);
        let batch = &mut loaded.batch;
        let mut targets = Vec::with_capacity(batch.lengths.len());
        for ((&index, &start), &length) in batch.indices.iter().zip(&batch.starts).zip(&batch.lengths) {
            targets.push(Target::Frames(self.labels.at(
                index,
                start as f64 / rate + middle,
                hop,
                self.encoder.frames(length),
            )?));
        }
        batch.targets = targets;
        Ok(loaded)
    }
}

impl Source<Waves> for Labelled<'_> {
    fn batches(&self) -> usize {
        self.inner.batches()
    }

    fn epoch_from(
        &self,
        epoch: u64,
        first: usize,
    ) -> Result<Box<dyn Iterator<Item = Result<LoadedBatch<Waves>>> + '_>> {
        Ok(Box::new(self.inner.epoch_from(epoch, first)?.map(|loaded| self.label(loaded?))))
    }

    fn counts(&self) -> (u64, u64) {
        self.inner.counts()
    }

    fn restore_counts(&self, bad: u64, seen: u64) {
        self.inner.restore_counts(bad, seen);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_the_nearest_instants() {
        // MFCC frames: middles at 12.5 ms, every 10 ms. Encoder frames: 12.5 ms, every 20 ms.
        let labels = FrameLabels { centre: 0.0125, step: 0.01, labels: vec![(0..10).collect()] };
        assert_eq!(labels.at(0, 0.0125, 0.02, 5).unwrap(), [0, 2, 4, 6, 8]);
        // A crop that starts 1,000 samples (62.5 ms) in: 75 ms is nearest to frame 6 (72.5 ms); the last
        // label stands for what is beyond.
        assert_eq!(labels.at(0, 0.0625 + 0.0125, 0.02, 3).unwrap(), [6, 8, 9]);
        assert!(labels.at(1, 0.0, 0.02, 1).unwrap_err().to_string().contains("sample 1"));
    }

    #[test]
    fn labels_there_and_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clusters.safetensors");
        let labels = FrameLabels { centre: 0.0125, step: 0.01, labels: vec![vec![1, 0, 1], vec![], vec![2]] };
        labels.write(&path, &Clusters::new(vec![0.5; 6], 2).unwrap()).unwrap();
        assert_eq!(FrameLabels::read(&path).unwrap(), labels);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        assert!(FrameLabels::read(&path).is_err());
    }
}
