//! Hiding tokens (BERT, Devlin et al. 2018, arXiv 1810.04805, section 3.1): 15% of the tokens are to be
//! predicted; of those 80% become the mask token, 10% another token, 10% stay.
//!
//! The choice is made anew each time a sample is read, from the sample's own generator (RoBERTa's dynamic
//! masking, Liu et al. 2019, arXiv 1907.11692). With whole words all pieces of a chosen word are predicted
//! (the May 2019 release of BERT; Cui et al. 2019, arXiv 1906.08101). The number is `max(1, round(share x
//! tokens))`, exact and not expected, so that no sample is without a label and batches weigh alike.

use crate::batch::{Example, IGNORED, Vocabulary};
use selfsup_core::data::Transform;
use selfsup_core::objective::{Gauge, GaugeInfo};
use selfsup_core::{Error, Result, Rng};
use serde::{Deserialize, Serialize};

/// Which tokens are hidden, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaskConfig {
    /// Share of the tokens that is predicted.
    pub share: f64,
    /// Of those, the share that becomes the mask token.
    pub mask: f32,
    /// Of those, the share that becomes a token drawn from the vocabulary; the rest stays.
    pub random: f32,
    /// Whether all pieces of a word are chosen together.
    pub whole_words: bool,
}

impl Default for MaskConfig {
    fn default() -> Self {
        MaskConfig { share: 0.15, mask: 0.8, random: 0.1, whole_words: false }
    }
}

/// The gauge of [`MaskConfig::hidden`].
const HIDDEN: &str = "method.masking";

/// What the gauge of the masking means.
pub(crate) static HIDDEN_INFO: [GaugeInfo; 1] =
    [GaugeInfo::new(HIDDEN, "share of the predicted tokens that cannot be read off the input").too_low(
        "most of the tokens that are predicted stay in the input: copying them is all there is to learn",
        "method.masking.mask = 0.8 and method.masking.random = 0.1",
    )];

impl MaskConfig {
    /// A gauge of the share of the predicted tokens that are hidden or replaced.
    pub(crate) fn hidden(&self) -> Gauge {
        Gauge::above(HIDDEN, f64::from(self.mask + self.random), 0.3)
    }
}

/// The transform that writes an example's labels and hides what they hold.
#[derive(Clone, Debug)]
pub struct Masking {
    config: MaskConfig,
    vocabulary: Vocabulary,
    mask: u32,
}

impl Masking {
    /// For the tokens of `vocabulary`.
    ///
    /// # Errors
    /// If the shares are impossible, or the vocabulary has no mask token or nothing but special ones.
    pub fn new(config: MaskConfig, vocabulary: &Vocabulary) -> Result<Self> {
        let MaskConfig { share, mask, random, .. } = config;
        if !(share > 0.0 && share < 1.0) {
            return Err(Error::config(format!(
                "method.masking.share = {share}: expected a share between 0 and 1"
            )));
        }
        if !(mask >= 0.0 && random >= 0.0 && mask + random <= 1.0 + 1e-6) {
            return Err(Error::config(format!(
                "method.masking: mask = {mask} and random = {random}, expected shares that sum to at most 1"
            )));
        }
        let token = vocabulary.mask.ok_or_else(|| {
            Error::config(
                "the tokenizer has no mask token ([MASK] or <mask>): masked language modelling needs one",
            )
        })?;
        if vocabulary.special.len() >= vocabulary.size || !vocabulary.special.windows(2).all(|w| w[0] < w[1])
        {
            return Err(Error::config(
                "the vocabulary's special tokens must be in ascending order, and fewer than all",
            ));
        }
        Ok(Masking { config, vocabulary: vocabulary.clone(), mask: token })
    }

    /// The runs of places that are chosen together: words or tokens, without special ones.
    fn units(&self, e: &Example) -> Vec<(usize, usize)> {
        let text = |i: usize| {
            self.vocabulary.special.binary_search(&e.ids[i]).is_err()
                && e.words.get(i).is_none_or(Option::is_some)
        };
        let joined = |i: usize| {
            self.config.whole_words
                && e.words.get(i).is_some()
                && e.words[i] == e.words[i - 1]
                && e.types.get(i) == e.types.get(i - 1)
        };
        let mut units: Vec<(usize, usize)> = Vec::new();
        for i in (0..e.ids.len()).filter(|&i| text(i)) {
            match units.last_mut() {
                Some((start, len)) if *start + *len == i && joined(i) => *len += 1,
                _ => units.push((i, 1)),
            }
        }
        units
    }

    /// A token that is not special, all with the same chance.
    fn any(&self, rng: &mut Rng) -> u32 {
        let special = &self.vocabulary.special;
        let mut id = rng.below(self.vocabulary.size - special.len()) as u32;
        for &s in special {
            if id >= s {
                id += 1;
            }
        }
        id
    }
}

impl Transform<Example> for Masking {
    type Out = Example;

    fn apply(&self, mut e: Example, rng: &mut Rng) -> Result<Example> {
        if !(e.words.is_empty() || e.words.len() == e.ids.len()) {
            return Err(Error::input(
                "example",
                format!("{} word numbers for {} tokens", e.words.len(), e.ids.len()),
            ));
        }
        let mut units = self.units(&e);
        let tokens: usize = units.iter().map(|u| u.1).sum();
        let wanted = ((tokens as f64 * self.config.share).round() as usize).max(1);
        rng.shuffle(&mut units);
        e.labels = vec![IGNORED; e.ids.len()];
        let mut chosen = 0;
        for (start, len) in units {
            // A word that would be too much is passed over, unless nothing is chosen yet.
            if chosen > 0 && chosen + len > wanted {
                continue;
            }
            for i in start..start + len {
                e.labels[i] = i64::from(e.ids[i]);
                let u = rng.uniform();
                if u < self.config.mask {
                    e.ids[i] = self.mask;
                } else if u < self.config.mask + self.config.random {
                    e.ids[i] = self.any(rng);
                }
            }
            chosen += len;
            if chosen >= wanted {
                break;
            }
        }
        Ok(e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use selfsup_core::Key;

    fn vocabulary() -> Vocabulary {
        Vocabulary { size: 50, pad: 0, mask: Some(4), special: vec![0, 2, 3, 4, 7], ..Vocabulary::default() }
    }

    fn masking(config: MaskConfig) -> Masking {
        Masking::new(config, &vocabulary()).expect("a possible configuration")
    }

    /// A class token, `words` words of 1 to 4 pieces, a separator.
    fn example(words: usize, seed: u64) -> Example {
        let mut rng = Key::new(seed).rng();
        let mut e = Example { ids: vec![2], words: vec![None], ..Example::default() };
        for word in 0..words {
            for _ in 0..1 + rng.below(4) {
                e.ids.push(10 + rng.below(40) as u32);
                e.words.push(Some(word as u32));
            }
        }
        e.ids.push(3);
        e.words.push(None);
        e
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn labels_hold_what_was_hidden(words in 0usize..40, seed in 0u64..10_000, share in 0.01f64..0.9, whole_words: bool) {
            let e = example(words, seed);
            let m = masking(MaskConfig { share, whole_words, ..MaskConfig::default() });
            let out = m.apply(e.clone(), &mut Key::new(seed).named("mask").rng()).unwrap();
            prop_assert_eq!(out.ids.len(), e.ids.len());
            prop_assert_eq!(out.labels.len(), e.ids.len());
            let tokens = e.ids.len() - 2;
            let wanted = ((tokens as f64 * share).round() as usize).max(1).min(tokens);
            let count = out.labels.iter().filter(|l| **l != IGNORED).count();
            for i in 0..e.ids.len() {
                if out.labels[i] == IGNORED {
                    prop_assert_eq!(out.ids[i], e.ids[i], "only what is predicted changes");
                } else {
                    prop_assert_eq!(out.labels[i], i64::from(e.ids[i]));
                    prop_assert!(e.words[i].is_some(), "special tokens are never hidden");
                    prop_assert!(out.ids[i] == 4 || !vocabulary().special.contains(&out.ids[i]), "nor drawn");
                }
            }
            if whole_words {
                for (i, j) in (1..e.ids.len() - 1).zip(2..) {
                    if e.words[i] == e.words[j] {
                        prop_assert_eq!(out.labels[i] == IGNORED, out.labels[j] == IGNORED, "a word is chosen whole");
                    }
                }
                prop_assert!(count <= wanted.max(4) && (count > 0) == (tokens > 0));
            } else {
                prop_assert_eq!(count, wanted);
            }
            prop_assert_eq!(out, m.apply(e, &mut Key::new(seed).named("mask").rng()).unwrap(), "the generator alone decides");
        }
    }

    /// Binomial counts lie within five deviations of 80, 10 and 10 per cent; a drawn token may be the old one
    /// (1 in 45).
    #[test]
    fn shares_are_the_papers() -> Result<()> {
        let m = masking(MaskConfig::default());
        let (mut masked, mut same, mut n) = (0f64, 0f64, 0f64);
        let mut places = vec![0usize; 100];
        for i in 0..2000u64 {
            let e = Example::new((0..100).map(|k| 10 + k % 40).collect());
            let out = m.apply(e.clone(), &mut Key::new(1).fold(i).rng())?;
            for (k, label) in out.labels.iter().enumerate().filter(|(_, l)| **l != IGNORED) {
                n += 1.0;
                places[k] += 1;
                masked += f64::from(u8::from(out.ids[k] == 4));
                same += f64::from(u8::from(i64::from(out.ids[k]) == *label));
            }
        }
        assert_eq!(n, 2000.0 * 15.0);
        let near = |x: f64, p: f64| (x / n - p).abs() < 5.0 * (p * (1.0 - p) / n).sqrt();
        assert!(near(masked, 0.8) && near(same, 0.1 + 0.1 / 45.0), "{} {}", masked / n, same / n);
        assert!(places.iter().all(|&c| (200..400).contains(&c)), "every place has its turn: {places:?}");
        Ok(())
    }

    #[test]
    fn each_draw_is_new() -> Result<()> {
        let m = masking(MaskConfig::default());
        let e = Example::new((10..50).collect());
        assert_ne!(
            m.apply(e.clone(), &mut Key::new(1).fold(0).rng())?,
            m.apply(e, &mut Key::new(1).fold(1).rng())?
        );
        Ok(())
    }

    #[test]
    fn impossible_masks_are_refused() {
        let v = vocabulary();
        let wrong = |c: MaskConfig| Masking::new(c, &v).is_err();
        assert!(
            wrong(MaskConfig { share: 0.0, ..MaskConfig::default() })
                && wrong(MaskConfig { share: 1.0, ..MaskConfig::default() })
        );
        assert!(wrong(MaskConfig { mask: 0.9, random: 0.2, ..MaskConfig::default() }));
        assert!(wrong(MaskConfig { mask: f32::NAN, ..MaskConfig::default() }));
        let e = Masking::new(MaskConfig::default(), &Vocabulary { mask: None, ..v })
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default();
        assert!(e.contains("no mask token"), "{e}");
        let short = Example { words: vec![None], ..Example::new(vec![11, 12]) };
        assert!(masking(MaskConfig::default()).apply(short, &mut Key::new(0).rng()).is_err());
    }
}
