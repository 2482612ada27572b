//! The baseline without an encoder: words weighed by TF-IDF.

use super::records::corrupted;
use crate::set::Set;
use selfsup_core::Result;
use selfsup_eval::Matrix;
use selfsup_text::corrupt::Corrupt;
use std::collections::BTreeMap;

/// Most words of the baseline, and most values of its matrix: more words would not fit into memory.
const WORDS: usize = 4096;
const VALUES: usize = 1 << 26;

/// Words in lower case.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase)
}

/// The most frequent words of the texts to fit on, each with its place and weight.
pub(super) struct Words(BTreeMap<String, (usize, f32)>);

/// How often each word is in a text.
fn counts(set: &Set, i: usize, corrupt: Option<Corrupt>) -> Result<BTreeMap<String, f32>> {
    let mut counts = BTreeMap::new();
    words(&corrupted(set.records(), i, corrupt)?).for_each(|w| *counts.entry(w).or_default() += 1.0);
    Ok(counts)
}

impl Words {
    /// Of the texts of `train`. As many as memory has room for, with `others` more texts.
    pub(super) fn of(train: &Set, others: usize) -> Result<Self> {
        let mut frequency: BTreeMap<String, usize> = BTreeMap::new();
        for i in 0..train.len() {
            counts(train, i, None)?.into_keys().for_each(|w| *frequency.entry(w).or_default() += 1);
        }
        let mut frequent: Vec<(String, usize)> = frequency.into_iter().collect();
        frequent.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        frequent.truncate(WORDS.min(VALUES / (train.len() + others).max(1)).max(64));
        let weight = |df: usize| (train.len() as f32 / df as f32).ln() + 1.0;
        let placed = frequent.into_iter().enumerate().map(|(k, (w, df))| (w, (k, weight(df))));
        Ok(Words(placed.collect()))
    }

    /// `(1 + log tf) log(n / df)` of the words, rows of length 1 (Salton and Buckley 1988); frequencies are
    /// those of the texts to fit on. A column of ones keeps texts without a known word apart from nothing.
    pub(super) fn matrix(&self, set: &Set, corrupt: Option<Corrupt>) -> Result<Matrix> {
        let width = self.0.len() + 1;
        let mut rows = vec![0f32; set.len() * width];
        for (i, row) in rows.chunks_exact_mut(width).enumerate() {
            for (word, tf) in counts(set, i, corrupt)? {
                if let Some(&(k, idf)) = self.0.get(word.as_str()) {
                    row[k] = (1.0 + tf.ln()) * idf;
                }
            }
            let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-6);
            row.iter_mut().for_each(|v| *v /= norm);
            row[width - 1] = 1.0;
        }
        Matrix::new(rows, set.len(), width)
    }
}
