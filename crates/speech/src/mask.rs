//! Span masks over time: which frames a masked method hides, and SpecAugment inside an encoder.
//!
//! `wav2vec 2.0` (Baevski et al. 2020, arXiv 2006.11477) draws the starts of spans of `length` frames without
//! replacement and lets spans overlap, so the share of hidden frames is below `prob`: with 0.65 and 10 it is
//! about a half. As in transformers, `prob` counts frames: `prob * frames / length` spans, rounded up or down
//! at random, are drawn.

use candle_core::{Device, Tensor};
use selfsup_core::{Error, Key, Result, Rng};

/// How many spans of which length.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpanMask {
    /// Share of the frames that spans would hide if none overlapped; 0 for no mask.
    pub prob: f64,
    /// Frames of a span.
    pub length: usize,
    /// Spans at least, as far as they fit.
    pub min_spans: usize,
}

impl Default for SpanMask {
    /// wav2vec 2.0's: 0.65 (a start probability of 0.065), 10 frames, 2 spans at least.
    fn default() -> Self {
        SpanMask { prob: 0.65, length: 10, min_spans: 2 }
    }
}

impl SpanMask {
    /// No mask at all.
    pub const NONE: SpanMask = SpanMask { prob: 0.0, length: 10, min_spans: 0 };

    /// Refuses what cannot be drawn; `key` names the setting.
    ///
    /// # Errors
    /// If the share is outside `[0, 1]` or a span has no frame.
    pub fn check(&self, key: &str) -> Result<()> {
        if !(0.0..=1.0).contains(&self.prob) {
            return Err(Error::config(format!(
                "{key}.prob = {}: expected a share between 0 and 1",
                self.prob
            )));
        }
        if self.length == 0 {
            return Err(Error::config(format!("{key}.length = 0: expected at least one frame")));
        }
        Ok(())
    }

    /// Whether anything is hidden.
    pub fn hides(&self) -> bool {
        self.prob > 0.0
    }

    /// Which of `frames` frames are hidden. A sequence that is shorter than a span stays whole.
    pub fn draw(&self, frames: usize, rng: &mut Rng) -> Vec<bool> {
        let mut mask = vec![false; frames];
        if !self.hides() || self.length == 0 || frames < self.length {
            return mask;
        }
        let wanted = (self.prob * frames as f64 / self.length as f64 + f64::from(rng.uniform())) as usize;
        // Starts at which a span fits; and never more spans than would lie side by side.
        let places = frames - self.length + 1;
        let count = wanted.max(self.min_spans).min(frames / self.length).min(places);
        let mut starts: Vec<usize> = (0..places).collect();
        for i in 0..count {
            // A partial Fisher-Yates shuffle: `count` places without replacement.
            let j = i + rng.below(places - i);
            starts.swap(i, j);
            mask[starts[i]..starts[i] + self.length].fill(true);
        }
        mask
    }

    /// Masks for a batch, one for each number of frames, from the keys of the samples: `(N, L)` u8, 1 where
    /// hidden.
    ///
    /// # Errors
    /// If a sample has more than `width` frames.
    pub fn batch(
        &self,
        frames: &[usize],
        width: usize,
        key: impl Fn(usize) -> Key,
        device: &Device,
    ) -> Result<Tensor> {
        let mut values = vec![0u8; frames.len() * width];
        for (i, (row, &count)) in values.chunks_exact_mut(width.max(1)).zip(frames).enumerate() {
            if count > width {
                return Err(Error::input(
                    "mask",
                    format!("sample {i} has {count} frames, expected at most {width}"),
                ));
            }
            for (v, hidden) in row.iter_mut().zip(self.draw(count, &mut key(i).rng())) {
                *v = u8::from(hidden);
            }
        }
        Ok(Tensor::from_vec(values, (frames.len(), width), device)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lengths of the runs of hidden frames.
    fn runs(mask: &[bool]) -> Vec<usize> {
        mask.split(|m| !m).map(<[bool]>::len).filter(|&l| l > 0).collect()
    }

    proptest! {
        #[test]
        fn spans_are_whole_and_inside(frames in 0usize..400, prob in 0.0f64..1.0, length in 1usize..20, min in 0usize..4, seed in 0u64..1000) {
            let spans = SpanMask { prob, length, min_spans: min };
            let mask = spans.draw(frames, &mut Key::new(seed).rng());
            prop_assert_eq!(mask.len(), frames);
            prop_assert!(runs(&mask).iter().all(|&l| l >= length), "{:?}", runs(&mask));
            let hidden = mask.iter().filter(|m| **m).count();
            let most = ((prob * frames as f64 / length as f64) as usize + 1).max(min) * length;
            prop_assert!(hidden <= most, "{hidden} hidden of at most {most}");
            if prob > 0.0 && min > 0 && frames >= length {
                prop_assert!(hidden >= length);
            }
            prop_assert_eq!(&mask, &spans.draw(frames, &mut Key::new(seed).rng()));
        }

        #[test]
        fn padding_is_never_hidden(a in 1usize..60, b in 1usize..60, seed in 0u64..200) {
            let width = a.max(b);
            let mask = SpanMask::default().batch(&[a, b], width, |i| Key::new(seed).fold(i as u64), &Device::Cpu).unwrap();
            let rows: Vec<Vec<u8>> = mask.to_vec2().unwrap();
            prop_assert!(rows[0][a..].iter().chain(&rows[1][b..]).all(|&v| v == 0));
        }
    }

    #[test]
    fn about_half_of_the_frames_are_hidden() {
        // 1 - (1 - 0.065)^10 = 0.49 for spans that start anywhere; drawing starts without replacement comes
        // close.
        let hidden: usize = (0..200)
            .map(|s| SpanMask::default().draw(500, &mut Key::new(s).rng()).iter().filter(|m| **m).count())
            .sum();
        let share = hidden as f64 / 100_000.0;
        assert!((0.44..0.54).contains(&share), "{share}");
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        assert!(
            SpanMask { prob: 1.5, ..SpanMask::default() }
                .check("method.mask")
                .unwrap_err()
                .to_string()
                .contains("method.mask.prob")
        );
        assert!(SpanMask { length: 0, ..SpanMask::default() }.check("method.mask").is_err());
        assert!(
            SpanMask::default().draw(9, &mut Key::new(0).rng()).iter().all(|m| !m),
            "shorter than a span"
        );
        assert!(SpanMask::NONE.draw(99, &mut Key::new(0).rng()).iter().all(|m| !m));
        assert!(SpanMask::default().batch(&[3], 2, |_| Key::new(0), &Device::Cpu).is_err());
    }
}
