//! Pairs of texts for next-sentence prediction (Devlin et al. 2018, arXiv 1810.04805, section 3.1 and
//! appendix A.2): half of the second texts follow the first in their document, half come from another
//! document.
//!
//! The class is transformers': 0 follows, 1 does not. All is drawn when a sample is read, from its own
//! generator.

use crate::batch::Example;
use selfsup_core::data::{Dataset, Transform};
use selfsup_core::{Error, Result, Rng};

/// A document: its sentences, each the ids of its tokens without special ones.
pub type Document = Vec<Vec<u32>>;

/// The tokens around a pair: class, text, separator, text, separator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// In front of the first text.
    pub class: u32,
    /// Behind each text.
    pub separator: u32,
}

/// A data set of the places where a pair may begin, and the transform that makes one there.
#[derive(Clone, Debug)]
pub struct NextSentences {
    documents: Vec<Document>,
    /// `(document, sentence)` at which the first text begins.
    starts: Vec<(u32, u32)>,
    frame: Frame,
    longest: usize,
    /// For each token id, whether a word begins with it; empty if every token is a word.
    word_starts: Vec<bool>,
}

impl NextSentences {
    /// Pairs of at most `longest` tokens, the three special ones among them. `word_starts` says of each token
    /// id whether a word begins with it
    /// ([`Tokenizer::word_starts`](crate::tokenizer::Tokenizer::word_starts)).
    ///
    /// # Errors
    /// If there are fewer than two documents, no document has two sentences, a sentence is empty, or
    /// `longest` is below 5.
    pub fn new(
        documents: Vec<Document>,
        frame: Frame,
        longest: usize,
        word_starts: Vec<bool>,
    ) -> Result<Self> {
        if longest < 5 || documents.len() < 2 {
            return Err(Error::config(format!(
                "pairs of at most {longest} tokens from {} documents: expected at least 5 tokens and 2 documents",
                documents.len()
            )));
        }
        if let Some((d, s)) =
            documents.iter().enumerate().find_map(|(d, doc)| Some((d, doc.iter().position(Vec::is_empty)?)))
        {
            return Err(Error::input(format!("document {d}"), format!("sentence {s} has no tokens")));
        }
        if let Some(d) = documents.iter().position(Vec::is_empty) {
            return Err(Error::input(format!("document {d}"), "has no sentences"));
        }
        // A pair begins where a sentence follows.
        let starts: Vec<(u32, u32)> = documents
            .iter()
            .enumerate()
            .flat_map(|(d, doc)| (0..doc.len().saturating_sub(1)).map(move |s| (d as u32, s as u32)))
            .collect();
        if starts.is_empty() {
            return Err(Error::input("documents", "none has two sentences: there is no next one to predict"));
        }
        Ok(NextSentences { documents, starts, frame, longest, word_starts })
    }

    /// Sentences of `document` from `start` on, up to `room` tokens: at least one, cut if it is longer. Also
    /// the sentence behind the last.
    fn text(document: &Document, start: usize, end: usize, room: usize) -> (Vec<u32>, usize) {
        let (mut ids, mut next) = (Vec::new(), start);
        while next < end && (ids.is_empty() || ids.len() + document[next].len() <= room) {
            ids.extend_from_slice(&document[next]);
            next += 1;
        }
        ids.truncate(room);
        (ids, next)
    }

    /// Words of `ids`, counted from `first`.
    fn words(&self, ids: &[u32], first: u32) -> Vec<Option<u32>> {
        let mut word = first;
        let begins = |id: u32| self.word_starts.get(id as usize).copied().unwrap_or(true);
        let numbered = ids.iter().enumerate().map(|(i, &id)| {
            word += u32::from(i > 0 && begins(id));
            Some(word)
        });
        numbered.collect()
    }
}

impl Dataset for NextSentences {
    type Item = usize;

    fn len(&self) -> usize {
        self.starts.len()
    }

    fn get(&self, index: usize) -> Result<usize> {
        if index < self.starts.len() {
            Ok(index)
        } else {
            Err(Error::input("pair", format!("{index} of {}", self.starts.len())))
        }
    }
}

impl Transform<usize> for NextSentences {
    type Out = Example;

    fn apply(&self, index: usize, rng: &mut Rng) -> Result<Example> {
        let index = self.get(index)?;
        let (d, s) = (self.starts[index].0 as usize, self.starts[index].1 as usize);
        let document = &self.documents[d];
        let room = self.longest - 3;
        // The last sentence is left for the second text.
        let (a, next) = Self::text(document, s, document.len() - 1, room / 2);
        let left = room - a.len();
        let follows = rng.chance(0.5);
        let b = if follows {
            Self::text(document, next, document.len(), left).0
        } else {
            // Another document, each with the same chance.
            let other = rng.below(self.documents.len() - 1);
            let other = &self.documents[if other >= d { other + 1 } else { other }];
            Self::text(other, rng.below(other.len()), other.len(), left).0
        };
        let Frame { class, separator } = self.frame;
        let mut e = Example { targets: vec![i64::from(!follows)], ..Example::default() };
        e.ids = [&[class][..], &a, &[separator], &b, &[separator]].concat();
        e.types = [vec![0; a.len() + 2], vec![1; b.len() + 1]].concat();
        let first = self.words(&a, 0);
        let behind = first.last().copied().flatten().unwrap_or(0) + 1;
        e.words = [vec![None], first, vec![None], self.words(&b, behind), vec![None]].concat();
        Ok(e)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use selfsup_core::Key;

    /// Document d, sentence s, token k is the number 10,000 + 1000 d + 20 s + k, so that a token says where
    /// it comes from.
    fn corpus(documents: usize, sentences: usize, seed: u64) -> Vec<Document> {
        let mut rng = Key::new(seed).rng();
        (0..documents)
            .map(|d| {
                let n = 2 + rng.below(sentences);
                (0..n)
                    .map(|s| {
                        (0..1 + rng.below(19)).map(|k| (10_000 + 1000 * d + 20 * s + k) as u32).collect()
                    })
                    .collect()
            })
            .collect()
    }

    const FRAME: Frame = Frame { class: 1, separator: 2 };

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_pair_is_what_its_class_says(documents in 2usize..6, sentences in 1usize..8, longest in 5usize..80, seed in 0u64..1000) {
            let set = NextSentences::new(corpus(documents, sentences, seed), FRAME, longest, vec![]).unwrap();
            for i in 0..set.len().min(10) {
                let e = set.apply(i, &mut Key::new(seed).fold(i as u64).rng()).unwrap();
                prop_assert!(e.ids.len() <= longest);
                prop_assert!(e.types.len() == e.ids.len() && e.words.len() == e.ids.len());
                let split = e.types.iter().position(|&t| t == 1).unwrap();
                let (a, b) = (&e.ids[1..split - 1], &e.ids[split..e.ids.len() - 1]);
                prop_assert!(!a.is_empty() && !b.is_empty());
                prop_assert_eq!((e.ids[0], e.ids[split - 1], e.ids[e.ids.len() - 1]), (1, 2, 2));
                let document = |id: u32| (id - 10_000) / 1000;
                prop_assert!(a.iter().all(|&id| document(id) == document(a[0])) && b.iter().all(|&id| document(id) == document(b[0])));
                prop_assert_eq!(e.targets[0] == 0, document(a[0]) == document(b[0]));
                if e.targets[0] == 0 {
                    // The second text begins with the sentence after the first text's last (which may be
                    // cut).
                    let sentence = |id: u32| (id - 10_000) % 1000 / 20;
                    prop_assert_eq!(sentence(b[0]), sentence(a[a.len() - 1]) + 1);
                }
            }
        }
    }

    #[test]
    fn half_follow_and_words_are_numbered_on() -> Result<()> {
        let mut starts = vec![true; 30];
        starts[12] = false;
        let documents = vec![vec![vec![10, 12], vec![11]], vec![vec![20], vec![21, 12, 22]]];
        let set = NextSentences::new(documents, FRAME, 20, starts)?;
        let e = set.apply(0, &mut Key::new(0).rng())?;
        assert_eq!(e.words[..4], [None, Some(0), Some(0), None]);
        assert_eq!(e.words[4], Some(1));
        let follow = (0..1000)
            .filter(|&i| set.apply(1, &mut Key::new(1).fold(i).rng()).is_ok_and(|e| e.targets == [0]))
            .count();
        assert!((440..560).contains(&follow), "{follow}");
        Ok(())
    }

    #[test]
    fn impossible_corpora_are_refused() {
        let wrong = |d: Vec<Document>, longest: usize| NextSentences::new(d, FRAME, longest, vec![]).is_err();
        assert!(wrong(corpus(1, 4, 0), 20) && wrong(corpus(3, 4, 0), 4));
        assert!(wrong(vec![vec![vec![5]], vec![vec![6]]], 20), "no second sentence anywhere");
        assert!(
            wrong(vec![vec![vec![5], vec![]], vec![vec![6]]], 20)
                && wrong(vec![vec![], vec![vec![6], vec![7]]], 20)
        );
    }
}
