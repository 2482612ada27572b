//! What nearest neighbours say without labels: how many dimensions the data fills (TwoNN), and how soon its
//! clusters can be told (cluster learnability).

use crate::data::{Features, check_labels};
use crate::kmeans::{self, KMeansConfig};
use crate::math::{centered, dot};
use crate::product::{View, multiply};
use rayon::prelude::*;
use selfsup_core::{Error, Key, Result};

/// The intrinsic dimension by two nearest neighbours.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TwoNn {
    /// The estimate of maximum likelihood, `N / sum ln mu`.
    pub likelihood: f64,
    /// The slope of `-ln(1 - F)` on `ln mu` through the origin, without the largest values.
    pub fit: f64,
    /// Samples that count: those without a copy.
    pub used: usize,
}

/// TwoNN (Facco et al. 2017, doi 10.1038/s41598-017-11873-y): the dimension of the manifold that the rows of
/// `x`, `(n, d)`, lie on, from `mu`, the ratio of the distances to the second and to the nearest neighbour.
/// Samples with a copy are left out; `fit` leaves the share `discard` of the largest ratios out (0.1 in the
/// paper). Biased to low values in high dimensions.
///
/// # Errors
/// If fewer than three samples are left, or `discard` is not a share below 1.
pub fn two_nn(x: Features<'_>, discard: f64) -> Result<TwoNn> {
    if !(0.0..1.0).contains(&discard) {
        return Err(Error::input("TwoNN", format!("discard {discard}: expected a share below 1")));
    }
    let mut mu: Vec<f64> = two_distances(x)?
        .into_iter()
        .filter(|(first, second)| *first > 0.0 && second.is_finite())
        .map(|(first, second)| 0.5 * (second / first).ln())
        .collect();
    mu.sort_by(f64::total_cmp);
    let used = mu.len();
    let sum: f64 = mu.iter().sum();
    if used < 3 || sum <= 0.0 {
        return Err(Error::input("TwoNN", format!("{used} samples without a copy, expected at least 3")));
    }
    let kept = ((used as f64 * (1.0 - discard)).floor() as usize).clamp(1, used - 1);
    let (mut xy, mut xx) = (0.0, 0.0);
    for (i, m) in mu.iter().take(kept).enumerate() {
        xy -= m * (1.0 - (i + 1) as f64 / used as f64).ln();
        xx += m * m;
    }
    Ok(TwoNn { likelihood: used as f64 / sum, fit: xy / xx, used })
}

/// Squared distances of each row to its nearest and its second nearest neighbour.
fn two_distances(x: Features<'_>) -> Result<Vec<(f64, f64)>> {
    const ROWS: usize = 128;
    // As many candidates as rounding can confuse; their distances are computed again from the differences.
    const CANDIDATES: usize = 4;
    let (n, d) = (x.n(), x.d());
    let (wide, _) = centered(x.as_slice(), d);
    let square: Vec<f64> = wide.chunks_exact(d).map(|r| dot(r, r)).collect();
    let blocks: Vec<Vec<(f64, f64)>> = (0..n.div_ceil(ROWS))
        .into_par_iter()
        .map(|block| {
            let first = block * ROWS;
            let rows = ROWS.min(n - first);
            let mut tile = vec![0f64; rows * n];
            let own = View::rows(&wide[first * d..], rows, d, d);
            multiply(&mut tile, n, own, View::rows(&wide, n, d, d).t(), None)?;
            Ok(tile
                .chunks_exact(n)
                .enumerate()
                .map(|(i, products)| {
                    let i = first + i;
                    let mut best = [(f64::INFINITY, usize::MAX); CANDIDATES];
                    for (j, product) in products.iter().enumerate() {
                        let about = square[j] - 2.0 * product;
                        if j != i && about < best[CANDIDATES - 1].0 {
                            best[CANDIDATES - 1] = (about, j);
                            best.sort_by(|a, b| a.0.total_cmp(&b.0));
                        }
                    }
                    let mut exact = best.map(|(_, j)| match wide.get(j.saturating_mul(d)..) {
                        Some(other) if j < n => distance(&wide[i * d..(i + 1) * d], &other[..d]),
                        _ => f64::INFINITY,
                    });
                    exact.sort_by(f64::total_cmp);
                    (exact[0], exact[1])
                })
                .collect())
        })
        .collect::<Result<_>>()?;
    Ok(blocks.concat())
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

/// For each row of `x`, `(n, d)`, but the first: whether the nearest of the rows before it is of the same
/// cluster; among equally near ones the first counts.
///
/// # Errors
/// If there are fewer than two rows, or not one cluster a row.
pub fn prequential_hits(x: Features<'_>, clusters: &[u32]) -> Result<Vec<bool>> {
    let (n, d) = (x.n(), x.d());
    if n < 2 {
        return Err(Error::input("cluster learnability", "1 sample, expected at least 2"));
    }
    check_labels("clusters", clusters, n, u32::MAX as usize)?;
    let wide: Vec<f64> = x.as_slice().iter().map(|v| f64::from(*v)).collect();
    Ok((1..n)
        .into_par_iter()
        .map(|i| {
            let own = &wide[i * d..(i + 1) * d];
            let mut best = (f64::INFINITY, 0);
            for (j, row) in wide.chunks_exact(d).take(i).enumerate() {
                let gap = distance(own, row);
                if gap < best.0 {
                    best = (gap, j);
                }
            }
            clusters[best.1] == clusters[i]
        })
        .collect())
}

/// Cluster learnability (Lu et al. 2022, arXiv 2206.01251): how often the nearest earlier sample is of the
/// same cluster, mean over `seeds` k-means clusterings into `sqrt(n)` clusters, each with the samples in
/// another order. With the intrinsic dimension, both standardised over the runs that are compared, it makes
/// CLID.
///
/// # Errors
/// If there are fewer than four samples, or no seed.
pub fn cluster_learnability(x: Features<'_>, seeds: u64, key: Key) -> Result<f64> {
    if x.n() < 4 || seeds == 0 {
        let problem = format!("{} samples, {seeds} seeds: expected at least 4 and 1", x.n());
        return Err(Error::input("cluster learnability", problem));
    }
    let k = (x.n() as f64).sqrt().round() as usize;
    let mut sum = 0.0;
    for seed in 0..seeds {
        let key = key.fold(seed);
        let shuffled = x.select(&key.named("order").rng().permutation(x.n()))?;
        let config = KMeansConfig { k, starts: 1, ..KMeansConfig::default() };
        let clusters = kmeans::fit(shuffled.view(), &config, key)?.labels;
        let hits = prequential_hits(shuffled.view(), &clusters)?;
        sum += hits.iter().filter(|h| **h).count() as f64 / hits.len() as f64;
    }
    Ok(sum / seeds as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;

    /// `n` rows of 12 columns that fill `dim` dimensions evenly.
    fn cube(n: usize, dim: usize, seed: u64) -> Matrix {
        let mut r = Key::new(seed).rng();
        let data = (0..n).flat_map(|_| {
            let own: Vec<f32> = (0..dim).map(|_| r.uniform()).collect();
            (0..12).map(move |j| own[j % dim] * (1.0 + (j / dim) as f32))
        });
        Matrix::new(data.collect(), n, 12).unwrap()
    }

    #[test]
    fn dimensions_of_cubes() {
        for dim in [1, 2, 4] {
            let found = two_nn(cube(1500, dim, 1).view(), 0.1).unwrap();
            let near = |v: f64| (v - dim as f64).abs() < 0.12 * dim as f64 + 0.1;
            assert!(near(found.likelihood) && near(found.fit) && found.used == 1500, "{dim}: {found:?}");
        }
        // Copies are left out, and nothing else.
        let x = cube(300, 2, 2);
        let doubled = [x.as_slice(), &x.as_slice()[..120]].concat();
        let found = two_nn(Matrix::new(doubled, 310, 12).unwrap().view(), 0.1).unwrap();
        assert_eq!(found.used, 290);
        assert!(two_nn(Matrix::new(vec![1.0; 20], 10, 2).unwrap().view(), 0.1).is_err());
        assert!(two_nn(x.view(), 1.0).is_err());
    }

    #[test]
    fn clear_clusters_are_learnt_at_once() {
        let mut r = Key::new(4).rng();
        let clear = (0..200).flat_map(|i| {
            let centre = (i % 14) as f32 * 100.0;
            [centre + r.normal(), r.normal()]
        });
        let clear = Matrix::new(clear.collect(), 200, 2).unwrap();
        let clusters: Vec<u32> = (0..200).map(|i| i % 14).collect();
        let hits = prequential_hits(clear.view(), &clusters).unwrap();
        assert_eq!(hits.iter().filter(|h| !**h).count(), 13, "each cluster is missed once, the first aside");
        let mut r = Key::new(5).rng();
        let noise = Matrix::new((0..200 * 40).map(|_| r.normal()).collect(), 200, 40).unwrap();
        let of = |x: &Matrix| cluster_learnability(x.view(), 5, Key::new(1)).unwrap();
        assert!(of(&clear) > of(&noise) + 0.2, "{} {}", of(&clear), of(&noise));
        assert!(prequential_hits(clear.view(), &[0]).is_err());
        assert!(cluster_learnability(clear.view(), 0, Key::new(1)).is_err());
    }
}
