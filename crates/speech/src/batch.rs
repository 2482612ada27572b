//! Batches of waves: mono, 16 kHz (or the rate of the encoder), padded with zeros to the longest.

use candle_core::{DType, Device, Tensor};
use selfsup_core::objective::Batch;
use selfsup_core::{Error, Result};
use std::ops::Range;

/// The target of a sample, if it has one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// Nothing: pre-training finds its own targets.
    #[default]
    None,
    /// One class for each frame of the encoder (cluster ids, phones); [`selfsup_core::loss::IGNORED`] for
    /// frames without one.
    Frames(Vec<i64>),
    /// Ids of the characters or phones that are said, in order.
    Transcript(Vec<u32>),
    /// One class for the utterance (speaker, language).
    Class(u32),
}

/// One decoded sample, before it is put into a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Utterance {
    /// The wave.
    pub samples: Vec<f32>,
    /// Where the wave starts within its recording, in samples: above 0 for a crop.
    pub start: usize,
    /// Its target.
    pub target: Target,
}

/// A batch of waves of different lengths.
#[derive(Clone, Debug)]
pub struct Waves {
    /// `(N, T)` f32, 0 from the end of each wave on.
    pub values: Tensor,
    /// Samples of each wave, at least 1 and at most `T`.
    pub lengths: Vec<usize>,
    /// Where each wave starts within its recording, in samples.
    pub starts: Vec<usize>,
    /// The target of each wave.
    pub targets: Vec<Target>,
    /// Global index of each sample in the data set.
    pub indices: Vec<usize>,
}

impl Waves {
    /// Pads `items` with zeros to the longest; `indices` are their numbers in the data set.
    ///
    /// # Errors
    /// If there are none, one is empty or has a value that is not finite, or the indices are not as many.
    pub fn stack(items: Vec<Utterance>, indices: &[usize]) -> Result<Self> {
        if items.is_empty() || items.len() != indices.len() {
            return Err(Error::input(
                "batch",
                format!("{} waves with {} indices: expected as many, at least 1", items.len(), indices.len()),
            ));
        }
        for (item, index) in items.iter().zip(indices) {
            if item.samples.is_empty() {
                return Err(Error::input(format!("sample {index}"), "a wave of 0 samples"));
            }
            if let Some(at) = item.samples.iter().position(|v| !v.is_finite()) {
                return Err(Error::input(
                    format!("sample {index}"),
                    format!("value {at} of the wave is {}", item.samples[at]),
                ));
            }
        }
        let (n, t) = (items.len(), items.iter().map(|i| i.samples.len()).max().unwrap_or(0));
        let mut values = vec![0f32; n * t];
        let (mut lengths, mut starts, mut targets) =
            (Vec::with_capacity(n), Vec::with_capacity(n), Vec::with_capacity(n));
        for (row, item) in values.chunks_exact_mut(t).zip(items) {
            row[..item.samples.len()].copy_from_slice(&item.samples);
            lengths.push(item.samples.len());
            starts.push(item.start);
            targets.push(item.target);
        }
        Ok(Waves {
            values: Tensor::from_vec(values, (n, t), &Device::Cpu)?,
            lengths,
            starts,
            targets,
            indices: indices.to_vec(),
        })
    }

    /// `(N, T)`, 1 where a wave has a value and 0 where it is padded; `None` if all have the full length.
    ///
    /// # Errors
    /// If the device refuses the tensor.
    pub fn valid(&self) -> Result<Option<Tensor>> {
        let (n, t) = self.values.dims2()?;
        if self.lengths.len() != n || self.lengths.iter().any(|&l| l > t) {
            return Err(Error::input(
                "batch",
                format!("lengths {:?} for waves of shape ({n}, {t})", self.lengths),
            ));
        }
        if self.lengths.iter().all(|&l| l == t) {
            return Ok(None);
        }
        let mut valid = vec![0f32; n * t];
        for (row, &length) in valid.chunks_exact_mut(t).zip(&self.lengths) {
            row[..length].fill(1.0);
        }
        Ok(Some(Tensor::from_vec(valid, (n, t), self.values.device())?.to_dtype(DType::F32)?))
    }
}

/// Neighbouring waves of `lengths` samples that go through an encoder together: at most `most` samples with
/// their padding (or a single wave), and with `alike` only waves of one length.
pub fn together(lengths: &[usize], alike: bool, most: usize) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    let mut longest = 0;
    for (i, &length) in lengths.iter().enumerate() {
        let joined = longest.max(length);
        match out.last_mut() {
            Some(run) if (!alike || longest == length) && joined.saturating_mul(run.len() + 1) <= most => {
                run.end = i + 1;
                longest = joined;
            }
            _ => {
                out.push(i..i + 1);
                longest = length;
            }
        }
    }
    out
}

impl Waves {
    /// Some of its waves, padded to the longest of them only.
    ///
    /// # Errors
    /// If there are no such waves.
    pub fn trimmed(&self, run: Range<usize>) -> Result<Self> {
        let part = self.narrow(run.start, run.len())?;
        let t = part.lengths.iter().copied().max().unwrap_or(0).min(part.values.dim(1)?);
        Ok(Waves { values: part.values.narrow(1, 0, t)?.contiguous()?, ..part })
    }
}

impl Batch for Waves {
    fn samples(&self) -> usize {
        self.lengths.len()
    }

    /// Utterances where each has one loss (a transcript, a class); else seconds of speech count, here in
    /// samples, so that a short wave beside a long one is not weighed like it.
    fn weight(&self) -> f64 {
        match self.targets.first() {
            Some(Target::Transcript(_) | Target::Class(_)) => self.samples() as f64,
            _ => self.lengths.iter().sum::<usize>() as f64,
        }
    }

    fn narrow(&self, start: usize, len: usize) -> Result<Self> {
        let end = start.saturating_add(len);
        if end > self.samples() {
            return Err(Error::input("batch", format!("samples {start}..{end} of {}", self.samples())));
        }
        // The padding stays that of the whole batch: a part then computes what the whole computes for its
        // samples.
        Ok(Waves {
            values: self.values.narrow(0, start, len)?.contiguous()?,
            lengths: self.lengths[start..end].to_vec(),
            starts: self.starts.get(start..end).unwrap_or_default().to_vec(),
            targets: self.targets.get(start..end).unwrap_or_default().to_vec(),
            indices: self.indices.get(start..end).unwrap_or_default().to_vec(),
        })
    }

    fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(Waves { values: self.values.to_device(device)?, ..self.clone() })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn wave(n: usize, target: Target) -> Utterance {
        Utterance { samples: (0..n).map(|i| i as f32 + 1.0).collect(), start: 10 * n, target }
    }

    #[test]
    fn stacking_pads_and_narrowing_keeps_the_padding() {
        let batch = Waves::stack(vec![wave(3, Target::None), wave(1, Target::None)], &[7, 4]).unwrap();
        assert_eq!(batch.values.to_vec2::<f32>().unwrap(), [[1.0, 2.0, 3.0], [1.0, 0.0, 0.0]]);
        assert_eq!(
            batch.valid().unwrap().unwrap().to_vec2::<f32>().unwrap(),
            [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
        );
        assert_eq!((batch.samples(), batch.weight()), (2, 4.0));
        let part = batch.narrow(1, 1).unwrap();
        assert_eq!(
            (part.values.dims(), part.lengths.as_slice(), part.indices.as_slice()),
            ([1, 3].as_slice(), [1].as_slice(), [4].as_slice())
        );
        assert_eq!(part.starts, [10]);
        assert!(part.valid().unwrap().is_some());
        assert!(batch.narrow(0, 1).unwrap().valid().unwrap().is_none());
        assert!(batch.narrow(1, 2).is_err());
    }

    #[test]
    fn waves_go_together_as_far_as_memory_and_padding_allow() {
        let lengths = [5, 5, 3, 9, 1];
        assert_eq!(together(&lengths, false, 10), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(together(&lengths, false, 100).first(), Some(&(0..5)));
        assert_eq!(together(&lengths, true, 100), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(together(&[30], true, 10).first(), Some(&(0..1)));
        assert!(together(&[], true, 10).is_empty());
        let waves = [3, 1, 2].map(|n| wave(n, Target::None)).to_vec();
        let part = Waves::stack(waves, &[0, 1, 2]).unwrap().trimmed(1..3).unwrap();
        assert_eq!(part.values.to_vec2::<f32>().unwrap(), [[1.0, 0.0], [1.0, 2.0]]);
        assert_eq!((part.lengths, part.indices), (vec![1, 2], vec![1, 2]));
    }

    #[test]
    fn labelled_utterances_count_one_each() {
        let batch =
            Waves::stack(vec![wave(30, Target::Class(1)), wave(1, Target::Class(0))], &[0, 1]).unwrap();
        assert_eq!(batch.weight(), 2.0);
    }

    #[test]
    fn bad_waves_are_refused() {
        assert!(Waves::stack(vec![], &[]).is_err());
        let empty = Waves::stack(vec![wave(0, Target::None)], &[3]).unwrap_err().to_string();
        assert!(empty.contains("sample 3") && empty.contains("0 samples"), "{empty}");
        let nan = Utterance { samples: vec![0.0, f32::NAN], ..Utterance::default() };
        let nan = Waves::stack(vec![nan], &[5]).unwrap_err().to_string();
        assert!(nan.contains("sample 5") && nan.contains("value 1"), "{nan}");
    }
}
