//! Word and character error rates: the edits that turn what was heard into what was said, over the length of
//! what was said.

use selfsup_core::{Error, Result};

/// Edits of an alignment with the fewest edits, and the length of the reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Edits {
    /// Items replaced.
    pub substitutions: usize,
    /// Items of the reference that are missing.
    pub deletions: usize,
    /// Items that the reference does not have.
    pub insertions: usize,
    /// Items of the reference.
    pub length: usize,
}

impl Edits {
    /// All edits.
    pub fn total(&self) -> usize {
        self.substitutions + self.deletions + self.insertions
    }

    /// Edits over the length of the reference; above 1 if much was inserted. Without a reference 0 if nothing
    /// was inserted, else infinite.
    pub fn rate(&self) -> f64 {
        if self.total() == 0 { 0.0 } else { self.total() as f64 / self.length as f64 }
    }

    fn add(&mut self, other: Edits) {
        self.substitutions += other.substitutions;
        self.deletions += other.deletions;
        self.insertions += other.insertions;
        self.length += other.length;
    }
}

/// Levenshtein alignment of `hypothesis` to `reference`. Among alignments with equally few edits, one with
/// the most substitutions. Takes `O(reference x hypothesis)` time and `O(hypothesis)` memory.
pub fn edits<T: PartialEq>(reference: &[T], hypothesis: &[T]) -> Edits {
    // A cell holds (all edits, deletions, insertions) of the best alignment of the prefixes.
    let mut row: Vec<(usize, usize, usize)> = (0..=hypothesis.len()).map(|j| (j, 0, j)).collect();
    for (i, said) in reference.iter().enumerate() {
        let mut corner = row[0];
        row[0] = (i + 1, i + 1, 0);
        for (j, heard) in hypothesis.iter().enumerate() {
            let (above, left) = (row[j + 1], row[j]);
            let same = usize::from(said != heard);
            let keep = (corner.0 + same, corner.1, corner.2);
            let drop = (above.0 + 1, above.1 + 1, above.2);
            let add = (left.0 + 1, left.1, left.2 + 1);
            corner = above;
            row[j + 1] = [drop, add]
                .into_iter()
                .fold(keep, |best, c| if (c.0, c.1 + c.2) < (best.0, best.1 + best.2) { c } else { best });
        }
    }
    let (all, deletions, insertions) = row[hypothesis.len()];
    Edits { substitutions: all - deletions - insertions, deletions, insertions, length: reference.len() }
}

/// Edits over words of a corpus, summed over its pairs; words are what whitespace separates.
///
/// # Errors
/// If the numbers of texts differ, or the references have no word at all.
pub fn word_edits<S: AsRef<str>, T: AsRef<str>>(references: &[S], hypotheses: &[T]) -> Result<Edits> {
    corpus("word error rate", references, hypotheses, |r, h| {
        edits(&r.split_whitespace().collect::<Vec<_>>(), &h.split_whitespace().collect::<Vec<_>>())
    })
}

/// Edits over characters (Unicode scalar values) of a corpus, summed over its pairs; spaces count, except
/// around the text.
///
/// # Errors
/// If the numbers of texts differ, or the references have no character at all.
pub fn character_edits<S: AsRef<str>, T: AsRef<str>>(references: &[S], hypotheses: &[T]) -> Result<Edits> {
    corpus("character error rate", references, hypotheses, |r, h| {
        edits(&r.trim().chars().collect::<Vec<_>>(), &h.trim().chars().collect::<Vec<_>>())
    })
}

/// Word error rate of a corpus.
///
/// # Errors
/// As [`word_edits`].
pub fn wer<S: AsRef<str>, T: AsRef<str>>(references: &[S], hypotheses: &[T]) -> Result<f64> {
    Ok(word_edits(references, hypotheses)?.rate())
}

/// Character error rate of a corpus.
///
/// # Errors
/// As [`character_edits`].
pub fn cer<S: AsRef<str>, T: AsRef<str>>(references: &[S], hypotheses: &[T]) -> Result<f64> {
    Ok(character_edits(references, hypotheses)?.rate())
}

fn corpus<S: AsRef<str>, T: AsRef<str>>(
    what: &str,
    references: &[S],
    hypotheses: &[T],
    count: impl Fn(&str, &str) -> Edits,
) -> Result<Edits> {
    if references.len() != hypotheses.len() {
        return Err(Error::input(
            what,
            format!("{} references and {} hypotheses, expected as many", references.len(), hypotheses.len()),
        ));
    }
    let mut sum = Edits::default();
    for (r, h) in references.iter().zip(hypotheses) {
        sum.add(count(r.as_ref(), h.as_ref()));
    }
    if sum.length == 0 { Err(Error::input(what, "the references are empty")) } else { Ok(sum) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counts_kinds_of_edits() {
        let e = edits(&['k', 'i', 't', 't', 'e', 'n'], &['s', 'i', 't', 't', 'i', 'n', 'g']);
        assert_eq!(e, Edits { substitutions: 2, deletions: 0, insertions: 1, length: 6 });
        assert_eq!(edits(&[1, 2, 3], &[]), Edits { deletions: 3, length: 3, ..Edits::default() });
        assert_eq!(edits(&[], &[1]).rate(), f64::INFINITY);
        assert_eq!(wer(&["  a  b "], &["a b"]).unwrap(), 0.0);
        assert_eq!(cer(&["ab cd"], &["abcd"]).unwrap(), 0.2);
        assert_eq!(cer(&["жук"], &["жак"]).unwrap(), 1.0 / 3.0);
        assert!(wer(&["a"], &[] as &[&str]).is_err() && wer(&[" "], &["a"]).is_err());
    }

    proptest! {
        #[test]
        fn is_a_metric(a in proptest::collection::vec(0u8..3, 0..12), b in proptest::collection::vec(0u8..3, 0..12), c in proptest::collection::vec(0u8..3, 0..12)) {
            let d = |x: &[u8], y: &[u8]| edits(x, y).total();
            prop_assert_eq!(d(&a, &a), 0);
            prop_assert_eq!(d(&a, &b), d(&b, &a));
            prop_assert!(d(&a, &c) <= d(&a, &b) + d(&b, &c));
            let e = edits(&a, &b);
            prop_assert_eq!(a.len() + e.insertions, b.len() + e.deletions);
            prop_assert!(e.total() >= a.len().abs_diff(b.len()) && e.total() <= a.len().max(b.len()));
        }
    }
}
