//! What users do first with embeddings: neighbours, groups of near-duplicates, outliers. By cosine similarity,
//! exactly.

use crate::data::{Features, Matrix};
use crate::knn::{Neighbours, normalize_rows, top_k};
use selfsup_core::{Error, Result};

/// Neighbours of each sample that near-duplicates are looked for among.
const NEAR: usize = 20;

fn unit(x: Features<'_>) -> Result<Matrix> {
    Matrix::new(normalize_rows(x), x.n(), x.d())
}

/// The `k` samples of `gallery`, `(n, d)`, that are most similar to each query, `(m, d)`, best first.
///
/// # Errors
/// If widths differ, or `k` is 0 or above the number of samples.
pub fn nearest(queries: Features<'_>, gallery: Features<'_>, k: usize) -> Result<Neighbours> {
    top_k(unit(queries)?.view(), unit(gallery)?.view(), k)
}

/// The neighbours of each sample of `x` among the others: `(index, similarity)`, best first, at most `k`.
fn others(x: Features<'_>, k: usize) -> Result<Vec<Vec<(usize, f32)>>> {
    let x = unit(x)?;
    let k = (k + 1).min(x.n());
    let found = top_k(x.view(), x.view(), k)?;
    let rows = found.index.chunks_exact(k).zip(found.score.chunks_exact(k));
    Ok(rows
        .enumerate()
        .map(|(i, (index, score))| {
            let pairs = index.iter().map(|j| *j as usize).zip(score.iter().copied());
            pairs.filter(|(j, _)| *j != i).take(k - 1).collect()
        })
        .collect())
}

/// Groups of samples that are alike: two belong to one group if their similarity is at least `threshold`, or if
/// others between them are. Each sample is compared with its 20 nearest. Members in order of index, groups by
/// their first member; with each member the similarity to its nearest in the group.
///
/// # Errors
/// If the threshold is not between -1 and 1.
pub fn duplicates(x: Features<'_>, threshold: f32) -> Result<Vec<Vec<(usize, f32)>>> {
    if !(-1.0..=1.0).contains(&threshold) {
        let problem = format!("threshold {threshold}, expected a cosine similarity between -1 and 1");
        return Err(Error::input("duplicates", problem));
    }
    let neighbours = others(x, NEAR)?;
    // Each sample's root is the smallest index of its group.
    let mut root: Vec<usize> = (0..x.n()).collect();
    fn find(root: &mut [usize], mut i: usize) -> usize {
        while root[i] != i {
            root[i] = root[root[i]];
            i = root[i];
        }
        i
    }
    let mut best = vec![f32::NEG_INFINITY; x.n()];
    for (i, row) in neighbours.iter().enumerate() {
        // Rounding leaves copies a little below 1.
        for &(j, similarity) in row.iter().filter(|(_, s)| *s >= threshold - 1e-6) {
            let (a, b) = (find(&mut root, i), find(&mut root, j));
            root[a.max(b)] = a.min(b);
            best[i] = best[i].max(similarity);
            best[j] = best[j].max(similarity);
        }
    }
    let mut groups = std::collections::BTreeMap::<usize, Vec<(usize, f32)>>::new();
    for (i, similarity) in best.into_iter().enumerate().filter(|(_, s)| s.is_finite()) {
        groups.entry(find(&mut root, i)).or_default().push((i, similarity.min(1.0)));
    }
    Ok(groups.into_values().collect())
}

/// How far each sample lies from the others: 1 minus the mean similarity to its `k` nearest. Between 0 and 2.
///
/// # Errors
/// If there are fewer than two samples, or `k` is 0.
pub fn strangeness(x: Features<'_>, k: usize) -> Result<Vec<f64>> {
    if x.n() < 2 || k == 0 {
        let problem = format!("{} samples, {k} neighbours: expected at least 2 and 1", x.n());
        return Err(Error::input("outliers", problem));
    }
    let mean = |row: Vec<(usize, f32)>| {
        1.0 - row.iter().map(|(_, s)| f64::from(*s)).sum::<f64>() / row.len().max(1) as f64
    };
    Ok(others(x, k)?.into_iter().map(mean).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Key;

    #[test]
    fn copies_and_strangers() {
        let mut r = Key::new(1).rng();
        let mut data: Vec<f32> =
            (0..100).flat_map(|_| [1.0 + 0.3 * r.normal(), r.normal(), r.normal()]).collect();
        // Samples 7 and 60 are one, 61 nearly; 99 points the other way.
        let seven = [data[21], data[22], data[23]];
        data[180..183].copy_from_slice(&seven.map(|v| 2.0 * v));
        data[183..186].copy_from_slice(&[seven[0], seven[1], seven[2] + 0.01]);
        data[297..300].copy_from_slice(&[-9.0, 0.1, 0.2]);
        let x = Matrix::new(data, 100, 3).unwrap();
        let groups = duplicates(x.view(), 0.999).unwrap();
        let group = groups.iter().find(|g| g[0].0 == 7).unwrap();
        assert_eq!(group.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [7, 60, 61]);
        assert!(group[0].1 > 0.999999 && group[2].1 < 1.0);
        let strange = strangeness(x.view(), 5).unwrap();
        assert_eq!(crate::math::argmax(&strange), 99);
        let found = nearest(x.view().select(&[60]).unwrap().view(), x.view(), 3).unwrap();
        assert_eq!(found.index[..2], [7, 60]);
        // Many copies are one group, whatever their number; nothing alike makes none.
        let same = Matrix::new([1.0, 2.0].repeat(50), 50, 2).unwrap();
        assert_eq!(duplicates(same.view(), 1.0).unwrap()[0].len(), 50);
        let eye = Matrix::new(vec![1.0, 0.0, 0.0, 1.0], 2, 2).unwrap();
        assert!(duplicates(eye.view(), 0.5).unwrap().is_empty());
        assert!(duplicates(eye.view(), 1.5).is_err() && strangeness(eye.view(), 0).is_err());
        assert_eq!(strangeness(eye.view(), 9).unwrap(), [1.0, 1.0]);
    }
}
