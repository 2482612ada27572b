//! Span corruption (Raffel et al. 2020, "T5", arXiv 1910.10683, section 3.1.4): spans of the text are taken
//! out, each replaced by a token of its own, and the decoder writes them down.
//!
//! `Thank you for inviting me to your party last week .` becomes the input `Thank you <0> me to your party
//! <1> week .` and the output `<0> for inviting <1> last </s>`. With density 0.15 and mean length 3, `n =
//! round(0.15 L)` tokens go in `round(n / 3)` spans; the lengths of the spans, and of what stays between
//! them, are drawn uniformly among all ways to cut (`random_spans_noise_mask` of the published code). The
//! text starts with what stays. `L = -mean_t log p(y_t | y_<t, input)`.

use super::written;
use crate::batch::{Example, Sequences, Vocabulary};
use crate::encoder::{T5, T5Config};
use selfsup_core::data::Transform;
use selfsup_core::objective::{Gauge, Loss, Objective, Outputs};
use selfsup_core::{Encoder, Error, Params, Pass, Result, Rng, Scope};
use serde::{Deserialize, Serialize};

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpanCorruptionConfig {
    /// Share of the tokens that is taken out (0.15).
    pub density: f64,
    /// Mean length of a span (3).
    pub mean_span: f64,
}

impl Default for SpanCorruptionConfig {
    fn default() -> Self {
        SpanCorruptionConfig { density: 0.15, mean_span: 3.0 }
    }
}

impl SpanCorruptionConfig {
    /// `(tokens taken out, spans)` of a text of `length` tokens; `(0, 0)` for fewer than two, of which none
    /// can go.
    pub fn counts(&self, length: usize) -> (usize, usize) {
        if length < 2 {
            return (0, 0);
        }
        let out = ((length as f64 * self.density).round() as usize).clamp(1, length - 1);
        // Each span has a token, and so has each stretch between spans.
        (out, ((out as f64 / self.mean_span).round() as usize).clamp(1, out.min(length - out)))
    }

    /// `(encoder's, decoder's)` number of tokens for a text of `length`: the ends of both, and a sentinel a
    /// span.
    pub fn lengths(&self, length: usize) -> (usize, usize) {
        let (out, spans) = self.counts(length);
        (length - out + spans + 1, out + spans + 1)
    }

    /// The longest text whose input has at most `input` tokens: 568 for 512. Of settings that [`Spans::new`]
    /// refuses it is `input`: with a density of 1 every text would do.
    pub fn text_length(&self, input: usize) -> usize {
        let mut length = input;
        if self.check().is_err() {
            return length;
        }
        while self.lengths(length + 1).0 <= input {
            length += 1;
        }
        while length > 0 && self.lengths(length).0 > input {
            length -= 1;
        }
        length
    }

    fn check(&self) -> Result<()> {
        if !(self.density > 0.0 && self.density < 1.0) {
            return Err(Error::config(format!(
                "method.density = {}: expected a share between 0 and 1",
                self.density
            )));
        }
        if !(self.mean_span >= 1.0 && self.mean_span.is_finite()) {
            return Err(Error::config(format!("method.mean_span = {}: expected at least 1", self.mean_span)));
        }
        Ok(())
    }
}

/// `total` cut into `parts` lengths of at least 1, all ways with the same chance.
fn cut(total: usize, parts: usize, rng: &mut Rng) -> Vec<usize> {
    // Which of the total - 1 gaps between items are cuts.
    let mut gaps = vec![false; total.saturating_sub(1)];
    gaps.iter_mut().take(parts - 1).for_each(|g| *g = true);
    rng.shuffle(&mut gaps);
    let mut lengths = vec![1];
    for gap in gaps {
        match lengths.last_mut() {
            Some(last) if !gap => *last += 1,
            _ => lengths.push(1),
        }
    }
    lengths
}

/// The transform that takes spans out of a text: labels are the decoder's tokens.
#[derive(Clone, Debug)]
pub struct Spans {
    config: SpanCorruptionConfig,
    sentinels: Vec<u32>,
    end: u32,
}

impl Spans {
    /// For the tokens of `vocabulary`.
    ///
    /// # Errors
    /// If the shares are impossible, or the vocabulary has no sentinels or no token that ends a text.
    pub fn new(config: SpanCorruptionConfig, vocabulary: &Vocabulary) -> Result<Self> {
        config.check()?;
        let missing = |what| {
            Error::config(format!(
                "the tokenizer has no {what}: span corruption needs a tokenizer of T5's kind (unigram)"
            ))
        };
        let end = vocabulary.end.ok_or_else(|| missing("token that ends a text (</s>)"))?;
        if vocabulary.sentinels.is_empty() {
            return Err(missing("sentinels (<extra_id_0> ...)"));
        }
        Ok(Spans { config, sentinels: vocabulary.sentinels.clone(), end })
    }

    /// Lengths of what stays and what goes, in turn, beginning with what stays; they sum to `length`.
    fn stretches(&self, length: usize, rng: &mut Rng) -> Vec<(usize, usize)> {
        let (out, spans) = self.config.counts(length);
        if spans == 0 {
            return Vec::new();
        }
        let gone = cut(out, spans, rng);
        cut(length - out, spans, rng).into_iter().zip(gone).collect()
    }
}

impl Transform<Example> for Spans {
    type Out = Example;

    fn apply(&self, e: Example, rng: &mut Rng) -> Result<Example> {
        // An end that the tokenizer has set is set again behind the input.
        let ids = e.ids.strip_suffix(&[self.end]).unwrap_or(&e.ids);
        if ids.len() < 2 {
            return Err(Error::input(
                "example",
                format!("{} tokens: span corruption needs at least two", ids.len()),
            ));
        }
        let stretches = self.stretches(ids.len(), rng);
        if stretches.len() > self.sentinels.len() {
            return Err(Error::input(
                "example",
                format!(
                    "{} spans in {} tokens, but the tokenizer has {} sentinels: use shorter texts or longer spans",
                    stretches.len(),
                    ids.len(),
                    self.sentinels.len()
                ),
            ));
        }
        let (input_length, output_length) = self.config.lengths(ids.len());
        let (mut input, mut output) = (Vec::with_capacity(input_length), Vec::with_capacity(output_length));
        let mut rest = ids;
        for ((stay, go), &sentinel) in stretches.into_iter().zip(&self.sentinels) {
            let (kept, after) = rest.split_at(stay);
            let (gone, after) = after.split_at(go);
            rest = after;
            input.extend_from_slice(kept);
            input.push(sentinel);
            output.push(i64::from(sentinel));
            output.extend(gone.iter().map(|id| i64::from(*id)));
        }
        input.extend_from_slice(rest);
        input.push(self.end);
        output.push(i64::from(self.end));
        Ok(Example { labels: output, ..Example::new(input) })
    }
}

/// The method.
pub struct SpanCorruption {
    params: Params,
    model: T5,
}

impl SpanCorruption {
    /// Builds the model, encoder and decoder, at `encoder`.
    ///
    /// # Errors
    /// If it cannot be built.
    pub fn new(scope: &Scope, model: T5Config) -> Result<Self> {
        Ok(SpanCorruption { params: scope.params().clone(), model: T5::new(&scope.sub("encoder"), model)? })
    }

    /// The model.
    pub fn model(&self) -> &T5 {
        &self.model
    }
}

impl Objective for SpanCorruption {
    type Batch = Sequences;
    type Embeddings = Outputs;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.model
    }

    /// The decoder's states where a token is to be written, `(M, D)`; fixed: the tokens.
    fn embed(&self, batch: &Sequences, pass: &Pass) -> Result<Outputs> {
        if batch.labels.dim(1)? == 0 {
            return Err(Error::input("batch.labels", "no tokens for the decoder"));
        }
        let valid = batch.valid.as_ref();
        let encoded = self.model.encode(&batch.ids, valid, pass)?;
        let decoded = self.model.decode(&self.model.shift_right(&batch.labels)?, &encoded, valid, pass)?;
        written::states(&decoded, &batch.labels, batch.predicted())
    }

    fn criterion(&self, e: &Outputs, pass: &Pass) -> Result<Loss> {
        written::loss(e, |h| self.model.scores(h, pass))
    }

    fn couples_samples(&self) -> bool {
        false
    }

    fn gauges(&self, e: &Outputs, pass: &Pass) -> Result<Vec<Gauge>> {
        written::gauges(e, |h| self.model.scores(h, pass), "token_accuracy")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use selfsup_core::Key;

    const END: u32 = 1;

    fn spans(density: f64, mean_span: f64) -> Spans {
        // Sentinels from 1000 downwards: text is below 900.
        let vocabulary = Vocabulary {
            size: 1001,
            end: Some(END),
            sentinels: (901..=1000).rev().collect(),
            ..Vocabulary::default()
        };
        Spans::new(SpanCorruptionConfig { density, mean_span }, &vocabulary).unwrap()
    }

    /// Puts the text together again from input and output.
    fn restore(e: &Example) -> Vec<u32> {
        let output: Vec<u32> = e.labels.iter().map(|l| *l as u32).collect();
        let mut text = Vec::new();
        for &id in &e.ids[..e.ids.len() - 1] {
            if id <= 900 {
                text.push(id);
                continue;
            }
            let at =
                output.iter().position(|o| *o == id).expect("each sentinel of the input is in the output");
            text.extend(output[at + 1..].iter().take_while(|o| **o <= 900 && **o != END));
        }
        text
    }

    proptest! {
        #[test]
        fn nothing_is_lost(length in 2_usize..300, density in 0.05_f64..0.6, mean_span in 1.0_f64..8.0, seed: u64) {
            let (s, text) = (spans(density, mean_span), (0..length).map(|i| 2 + (i * 7 % 890) as u32).collect::<Vec<_>>());
            prop_assume!(s.config.counts(length).1 <= 100);
            let e = s.apply(Example::new(text.clone()), &mut Key::new(seed).rng()).unwrap();
            prop_assert_eq!(restore(&e), text.clone());
            let (out, count) = s.config.counts(length);
            prop_assert_eq!((e.ids.len(), e.labels.len()), s.config.lengths(length));
            let sentinels: Vec<u32> = e.ids.iter().copied().filter(|id| *id > 900).collect();
            prop_assert_eq!(&sentinels, &(901..=1000).rev().take(count).collect::<Vec<_>>());
            prop_assert_eq!(e.ids.iter().filter(|id| **id <= 900).count(), length - out + 1);
            prop_assert!(e.ids[0] <= 900, "the text starts with what stays");
            prop_assert_eq!((e.ids.last(), e.labels.last()), (Some(&END), Some(&i64::from(END))));
            // The same generator, the same spans; an end behind the text changes nothing.
            let with_end = [text, vec![END]].concat();
            prop_assert_eq!(s.apply(Example::new(with_end), &mut Key::new(seed).rng()).unwrap(), e);
        }

        #[test]
        fn cuts_are_whole(total in 1_usize..60, parts in 1_usize..60, seed: u64) {
            prop_assume!(parts <= total);
            let c = cut(total, parts, &mut Key::new(seed).rng());
            prop_assert_eq!((c.len(), c.iter().sum::<usize>()), (parts, total));
            prop_assert!(c.iter().all(|l| *l > 0));
        }
    }

    /// The published sizes: 568 tokens of text make 512 of input and 114 of output.
    #[test]
    fn published_lengths() {
        let c = SpanCorruptionConfig::default();
        assert_eq!((c.text_length(512), c.lengths(568)), (568, (512, 114)));
        assert_eq!(c.counts(1), (0, 0));
    }

    /// All three ways to cut 4 into 3 come up alike, and every place is hidden about as often as the density
    /// says.
    #[test]
    fn cuts_and_places_are_uniform() {
        let mut counts = std::collections::BTreeMap::new();
        for seed in 0..3000 {
            *counts.entry(cut(4, 3, &mut Key::new(seed).rng())).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 3);
        assert!(counts.values().all(|c| (900..1100).contains(c)), "{counts:?}");
        let s = spans(0.3, 2.0);
        let mut hidden = [0f64; 40];
        for seed in 0..4000 {
            let mut at = 0;
            for (stay, go) in s.stretches(40, &mut Key::new(seed).rng()) {
                at += stay;
                hidden[at..at + go].iter_mut().for_each(|h| *h += 1.0 / 4000.0);
                at += go;
            }
        }
        assert_eq!(hidden[0], 0.0);
        assert!(hidden[6..34].iter().all(|h| (h - 0.3).abs() < 0.06), "{hidden:?}");
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let bare = Vocabulary { size: 10, end: Some(1), ..Vocabulary::default() };
        let says = |e: Option<Error>, part: &str| {
            let e = e.map(|e| e.to_string()).unwrap_or_default();
            assert!(e.contains(part), "{e}");
        };
        says(Spans::new(SpanCorruptionConfig::default(), &bare).err(), "no sentinels");
        let c = SpanCorruptionConfig { density: 1.0, ..SpanCorruptionConfig::default() };
        assert_eq!(c.text_length(12), 12);
        says(Spans::new(c, &bare).err(), "density");
        let mut rng = Key::new(0).rng();
        says(spans(0.15, 3.0).apply(Example::new(vec![5, END]), &mut rng).err(), "at least two");
        says(spans(0.5, 1.0).apply(Example::new(vec![5; 400]), &mut rng).err(), "100 sentinels");
    }
}
