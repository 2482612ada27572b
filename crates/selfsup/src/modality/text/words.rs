//! The baseline without an encoder: words weighed by TF-IDF.

use super::records::text_of;
use crate::set::Set;
use selfsup_core::Result;
use selfsup_eval::Matrix;
use std::collections::BTreeMap;

/// Most words of the baseline, and most values of its matrix: more words would not fit into memory.
const WORDS: usize = 4096;
const VALUES: usize = 1 << 26;

/// Words in lower case.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase)
}

/// `(1 + log tf) log(n / df)` of the most frequent words of the training texts, rows of length 1 (Salton and
/// Buckley 1988); frequencies are those of the training texts. A column of ones keeps texts without a known
/// word apart from nothing.
pub(super) fn tf_idf(train: &Set, test: &Set) -> Result<(Matrix, Matrix)> {
    let counts = |set: &Set, i: usize| -> Result<BTreeMap<String, f32>> {
        let mut counts = BTreeMap::new();
        words(&text_of(set.records(), i)?).for_each(|w| *counts.entry(w).or_default() += 1.0);
        Ok(counts)
    };
    let mut frequency: BTreeMap<String, usize> = BTreeMap::new();
    for i in 0..train.len() {
        counts(train, i)?.into_keys().for_each(|w| *frequency.entry(w).or_default() += 1);
    }
    let mut frequent: Vec<(String, usize)> = frequency.into_iter().collect();
    frequent.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    frequent.truncate(WORDS.min(VALUES / (train.len() + test.len()).max(1)).max(64));
    let place: BTreeMap<&str, (usize, f32)> = frequent
        .iter()
        .enumerate()
        .map(|(k, (w, df))| (w.as_str(), (k, (train.len() as f32 / *df as f32).ln() + 1.0)))
        .collect();
    let width = frequent.len() + 1;
    let matrix = |set: &Set| -> Result<Matrix> {
        let mut rows = vec![0f32; set.len() * width];
        for (i, row) in rows.chunks_exact_mut(width).enumerate() {
            for (word, tf) in counts(set, i)? {
                if let Some(&(k, idf)) = place.get(word.as_str()) {
                    row[k] = (1.0 + tf.ln()) * idf;
                }
            }
            let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-6);
            row.iter_mut().for_each(|v| *v /= norm);
            row[width - 1] = 1.0;
        }
        Matrix::new(rows, set.len(), width)
    };
    Ok((matrix(train)?, matrix(test)?))
}
