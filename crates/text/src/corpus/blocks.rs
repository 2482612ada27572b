//! Tokens as examples: blocks of a fixed length, or one document each.

use super::Tokens;
use crate::batch::Example;
use selfsup_core::data::Dataset;
use selfsup_core::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// Tokens that stand around those of the corpus in each example, and how its words are told apart.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// In front of them (a class token).
    pub front: Option<u32>,
    /// Behind them (a separator).
    pub back: Option<u32>,
    /// For each id whether a word begins with it ([`crate::tokenizer::Tokenizer::word_starts`]); without it
    /// words are not known.
    pub word_starts: Option<Arc<Vec<bool>>>,
}

impl Around {
    fn size(&self) -> usize {
        usize::from(self.front.is_some()) + usize::from(self.back.is_some())
    }

    fn example(&self, tokens: Vec<u32>) -> Example {
        let words = match &self.word_starts {
            None => Vec::new(),
            Some(starts) => {
                let mut word = 0u32;
                let inner = tokens.iter().enumerate().map(|(i, id)| {
                    word += u32::from(i > 0 && starts.get(*id as usize).copied().unwrap_or(true));
                    Some(word)
                });
                let front = self.front.map(|_| None);
                front.into_iter().chain(inner).chain(self.back.map(|_| None)).collect()
            }
        };
        let ids = self.front.into_iter().chain(tokens).chain(self.back).collect();
        Example { words, ..Example::new(ids) }
    }
}

/// A part of a corpus: for each shard a range, and how many items lie before it.
#[derive(Clone, Debug)]
struct Part {
    ranges: Vec<Range<u64>>,
    before: Vec<u64>,
    len: u64,
}

impl Part {
    /// `count` is the number of items in a range.
    fn new(ranges: Vec<Range<u64>>, count: impl Fn(&Range<u64>) -> u64) -> Self {
        let mut len = 0;
        let before = ranges
            .iter()
            .map(|r| {
                len += count(r);
                len - count(r)
            })
            .collect();
        Part { ranges, before, len }
    }

    /// `(shard, number within it)` of an item.
    fn find(&self, index: usize) -> Result<(usize, u64)> {
        let index = index as u64;
        if index >= self.len {
            return Err(Error::input(
                "corpus",
                format!("there is no example {index}, expected an index below {}", self.len),
            ));
        }
        let shard = self.before.partition_point(|b| *b <= index) - 1;
        Ok((shard, index - self.before[shard]))
    }
}

/// All of the items of each shard but the last `held_out` share of the corpus, or that share; `size` is what
/// a shard has.
fn share(sizes: &[u64], held_out: f64, validation: bool) -> Vec<Range<u64>> {
    let total: u64 = sizes.iter().sum();
    let cut = (total as f64 * (1.0 - held_out)) as u64;
    let mut before = 0;
    let mut ranges = Vec::new();
    for size in sizes {
        let at = cut.saturating_sub(before).min(*size);
        ranges.push(if validation { at..*size } else { 0..at });
        before += size;
    }
    ranges
}

/// Blocks of one length, cut from the corpus without regard to where documents end.
#[derive(Clone, Debug)]
pub struct Blocks {
    tokens: Tokens,
    around: Around,
    length: u64,
    stride: u64,
    part: Part,
}

impl Blocks {
    /// Blocks of `length` tokens of the corpus and those around them, starting `stride` tokens apart:
    /// `length` for blocks side by side, 1 for every block there is. Of the corpus the last share `held_out`
    /// is left out, or, for `validation`, taken.
    ///
    /// # Errors
    /// [`Error::TooFew`] if no block fits into this part of the corpus; [`Error::Config`] if a block has no
    /// room for text.
    pub fn new(
        tokens: Tokens,
        length: usize,
        stride: usize,
        around: Around,
        held_out: f64,
        validation: bool,
    ) -> Result<Self> {
        let inner = length.saturating_sub(around.size()) as u64;
        if inner == 0 || stride == 0 {
            return Err(Error::config(format!(
                "blocks of {length} tokens {stride} apart: expected room for text, and at least 1 apart"
            )));
        }
        let sizes: Vec<u64> = (0..tokens.shards()).map(|s| tokens.size(s).0).collect();
        let stride = stride as u64;
        let count = |r: &Range<u64>| (r.end - r.start).checked_sub(inner).map_or(0, |left| left / stride + 1);
        let part = Part::new(share(&sizes, held_out, validation), count);
        if part.len == 0 {
            let have: u64 = part.ranges.iter().map(|r| r.end - r.start).max().unwrap_or(0);
            let which = if validation { "validation part of the corpus" } else { "corpus" };
            return Err(Error::too_few(
                "corpus",
                format!("the {which} has {have} tokens, fewer than one block of {inner}: use shorter blocks"),
            ));
        }
        Ok(Blocks { tokens, around, length: inner, stride, part })
    }
}

impl Dataset for Blocks {
    type Item = Example;

    fn len(&self) -> usize {
        self.part.len as usize
    }

    fn get(&self, index: usize) -> Result<Example> {
        let (shard, i) = self.part.find(index)?;
        let start = self.part.ranges[shard].start + i * self.stride;
        Ok(self.around.example(self.tokens.read(shard, start..start + self.length)?))
    }
}

/// One document an example, cut at a length.
#[derive(Clone, Debug)]
pub struct Documents {
    tokens: Tokens,
    around: Around,
    longest: u64,
    part: Part,
}

impl Documents {
    /// Examples of at most `longest` tokens, those around the text included. Of the documents the last share
    /// `held_out` is left out, or, for `validation`, taken.
    ///
    /// # Errors
    /// [`Error::TooFew`] if there is no document in this part; [`Error::Config`] without room for text.
    pub fn new(
        tokens: Tokens,
        longest: usize,
        around: Around,
        held_out: f64,
        validation: bool,
    ) -> Result<Self> {
        let inner = longest.saturating_sub(around.size()) as u64;
        let sizes: Vec<u64> = (0..tokens.shards()).map(|s| tokens.size(s).1).collect();
        let part = Part::new(share(&sizes, held_out, validation), |r| r.end - r.start);
        if inner == 0 {
            return Err(Error::config(format!(
                "documents of up to {longest} tokens: expected room for text beside the {} around it",
                around.size()
            )));
        }
        if part.len == 0 {
            let which = if validation { "validation part of the corpus" } else { "corpus" };
            return Err(Error::too_few(
                "corpus",
                format!("the {which} has no document, expected at least one"),
            ));
        }
        Ok(Documents { tokens, around, longest: inner, part })
    }
}

impl Dataset for Documents {
    type Item = Example;

    fn len(&self) -> usize {
        self.part.len as usize
    }

    fn get(&self, index: usize) -> Result<Example> {
        let (shard, i) = self.part.find(index)?;
        let place = self.tokens.document(shard, self.part.ranges[shard].start + i)?;
        Ok(self
            .around
            .example(self.tokens.read(shard, place.start..place.end.min(place.start + self.longest))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_cover_the_corpus(n in 5_u32..200, length in 2_usize..9, stride in 1_usize..9, held_out in 0.0_f64..0.5) {
            let tokens = Tokens::memory((0..n).map(|i| vec![i])).unwrap();
            let blocks = |validation| Blocks::new(tokens.clone(), length, stride, Around::default(), held_out, validation);
            let cut = (f64::from(n) * (1.0 - held_out)) as u32;
            for (validation, range) in [(false, 0..cut), (true, cut..n)] {
                let Ok(b) = blocks(validation) else {
                    prop_assert!(range.len() < length);
                    continue;
                };
                prop_assert_eq!(b.len(), (range.len() - length) / stride + 1);
                for i in 0..b.len() {
                    let first = range.start + (i * stride) as u32;
                    prop_assert_eq!(b.get(i).unwrap().ids, (first..first + length as u32).collect::<Vec<_>>());
                }
                prop_assert!(b.get(b.len()).is_err());
            }
        }
    }

    #[test]
    fn shards_do_not_mix() {
        let dir = tempfile::tempdir().unwrap();
        let mut w = crate::corpus::ShardWriter::create(dir.path(), 100, "", 5).unwrap();
        for d in [&[1, 2, 3, 4, 5][..], &[10, 11], &[20, 21, 22, 23, 24, 25]] {
            w.push(d).unwrap();
        }
        let tokens = w.finish().unwrap();
        assert_eq!(tokens.shards(), 3);
        let all =
            |d: &dyn Dataset<Item = Example>| (0..d.len()).map(|i| d.get(i).unwrap().ids).collect::<Vec<_>>();
        let blocks = Blocks::new(tokens.clone(), 3, 2, Around::default(), 0.0, false).unwrap();
        assert_eq!(all(&blocks), [[1, 2, 3], [3, 4, 5], [20, 21, 22], [22, 23, 24]]);
        let around = Around { front: Some(90), back: Some(91), word_starts: None };
        let documents = Documents::new(tokens.clone(), 5, around.clone(), 0.0, false).unwrap();
        assert_eq!(all(&documents), [vec![90, 1, 2, 3, 91], vec![90, 10, 11, 91], vec![90, 20, 21, 22, 91]]);
        let last = Documents::new(tokens.clone(), 9, around, 0.34, true).unwrap();
        assert_eq!(all(&last), [vec![90, 10, 11, 91], vec![90, 20, 21, 22, 23, 24, 25, 91]]);
        assert!(
            Blocks::new(tokens, 7, 7, Around::default(), 0.0, false)
                .err()
                .unwrap()
                .to_string()
                .contains("fewer than one block of 7")
        );
    }

    #[test]
    fn too_little_text_is_an_error_of_its_own() {
        let tokens = Tokens::memory([vec![1, 2, 3]]).unwrap();
        let (plain, around) =
            (Around::default(), Around { front: Some(90), back: Some(91), word_starts: None });
        let too_few = |e: Option<Error>| matches!(e, Some(Error::TooFew { .. }));
        assert!(too_few(Tokens::memory([vec![]]).err()));
        assert!(too_few(Blocks::new(tokens.clone(), 4, 4, plain.clone(), 0.0, false).err()));
        assert!(too_few(Documents::new(tokens.clone(), 4, plain, 0.0, true).err()));
        // No room for text is a matter of the configuration.
        assert!(matches!(Documents::new(tokens, 2, around, 0.0, false).err(), Some(Error::Config(_))));
    }

    #[test]
    fn words_are_numbered() {
        // Ids from 50 on continue a word.
        let starts = Arc::new((0..100).map(|i| i < 50).collect());
        let around = Around { front: Some(1), back: Some(2), word_starts: Some(starts) };
        let e = around.example(vec![60, 7, 61, 8]);
        assert_eq!(e.ids, [1, 60, 7, 61, 8, 2]);
        assert_eq!(e.words, [None, Some(0), Some(1), Some(1), Some(2), None]);
    }
}
