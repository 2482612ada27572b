//! k-means: k-means++ starts (Arthur and Vassilvitskii 2007) and Lloyd's iterations, several times, keeping
//! the lowest inertia.
//!
//! Each start draws a few candidates per centre and keeps the best (greedy k-means++). Distances come from
//! one blocked product per iteration; sums run over blocks of rows in a fixed order, in f64.

use crate::data::{Features, Matrix, check_width};
use crate::product::{View, multiply};
use rayon::prelude::*;
use selfsup_core::{Error, Key, Result};

/// Rows of a parallel task.
const ROWS: usize = 512;

/// Settings of [`fit`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KMeansConfig {
    /// Number of clusters.
    pub k: usize,
    /// Starts. Default 10.
    pub starts: usize,
    /// Most iterations a start. Default 300.
    pub max_iterations: usize,
    /// A start ends when the centres' squared movement is at most this share of the mean variance of a
    /// column. Default 1e-4.
    pub tolerance: f64,
}

impl Default for KMeansConfig {
    fn default() -> Self {
        KMeansConfig { k: 8, starts: 10, max_iterations: 300, tolerance: 1e-4 }
    }
}

/// The clusters.
#[derive(Clone, Debug, PartialEq)]
pub struct KMeans {
    /// Centres, `(k, d)`.
    pub centers: Matrix,
    /// The nearest centre of each sample, `(n)`; among equals the lower.
    pub labels: Vec<u32>,
    /// Sum of squared distances of the samples to their centres.
    pub inertia: f64,
    /// Iterations of the best start.
    pub iterations: usize,
}

/// Clusters `x`, `(n, d)`.
///
/// # Errors
/// If `k` is 0 or above the number of samples, or a setting is out of range.
pub fn fit(x: Features<'_>, config: &KMeansConfig, key: Key) -> Result<KMeans> {
    if config.k == 0 || config.k > x.n() {
        return Err(Error::input(
            "k-means",
            format!("k = {}, expected 1 to {} (the number of samples)", config.k, x.n()),
        ));
    }
    if config.starts == 0 || config.tolerance.is_nan() || config.tolerance < 0.0 {
        let problem = format!(
            "{} starts, tolerance {}: expected at least one start and a tolerance of at least 0",
            config.starts, config.tolerance
        );
        return Err(Error::input("k-means", problem));
    }
    // Around the mean, so that |x|^2 - 2 x c + |c|^2 does not cancel for data far from the origin.
    let (n, d) = (x.n(), x.d());
    let (wide, mean) = crate::math::centered(x.as_slice(), d);
    let rows: Vec<f32> = wide.iter().map(|v| *v as f32).collect();
    let square: Vec<f64> =
        rows.chunks_exact(d).map(|r| r.iter().map(|v| f64::from(*v).powi(2)).sum()).collect();
    let variance = square.iter().sum::<f64>() / (n * d) as f64;
    let data = Data { rows: &rows, square: &square, d };
    let mut best: Option<KMeans> = None;
    for start in 0..config.starts {
        let mut centers = data.plus_plus(config.k, key.fold(start as u64));
        let mut iterations = 0;
        while iterations < config.max_iterations {
            iterations += 1;
            let (labels, gaps) = data.assign(&centers)?;
            let next = data.means(&labels, &gaps, config.k);
            let moved: f64 = next.iter().zip(&centers).map(|(a, b)| (a - b).powi(2)).sum();
            centers = next;
            if moved <= config.tolerance * variance {
                break;
            }
        }
        let (labels, _) = data.assign(&centers)?;
        let inertia = data.inertia(&centers, &labels);
        if best.as_ref().is_none_or(|b| inertia < b.inertia) {
            let centers = centers
                .chunks_exact(d)
                .flat_map(|c| c.iter().zip(&mean).map(|(v, m)| (v + m) as f32))
                .collect();
            best = Some(KMeans { centers: Matrix::new(centers, config.k, d)?, labels, inertia, iterations });
        }
    }
    best.ok_or_else(|| Error::Other("k-means: no start".into()))
}

impl KMeans {
    /// The nearest centre of each row of `x`; among equals the lower.
    ///
    /// # Errors
    /// If the number of columns differs.
    pub fn predict(&self, x: Features<'_>) -> Result<Vec<u32>> {
        check_width("k-means", self.centers.view(), x)?;
        let square: Vec<f64> =
            x.as_slice().chunks_exact(x.d()).map(|r| r.iter().map(|v| f64::from(*v).powi(2)).sum()).collect();
        let centers: Vec<f64> = self.centers.as_slice().iter().map(|v| f64::from(*v)).collect();
        Ok(Data { rows: x.as_slice(), square: &square, d: x.d() }.assign(&centers)?.0)
    }
}

struct Data<'a> {
    rows: &'a [f32],
    /// Squared norms of the rows.
    square: &'a [f64],
    d: usize,
}

impl Data<'_> {
    fn row(&self, i: usize) -> &[f32] {
        &self.rows[i * self.d..(i + 1) * self.d]
    }

    /// Squared distance of every row to row `center`.
    fn distances(&self, center: usize) -> Vec<f64> {
        let c = self.row(center);
        let mut out = vec![0f64; self.square.len()];
        out.par_chunks_mut(ROWS).zip(self.rows.par_chunks(ROWS * self.d)).for_each(|(out, rows)| {
            for (out, row) in out.iter_mut().zip(rows.chunks_exact(self.d)) {
                *out = row.iter().zip(c).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
            }
        });
        out
    }

    /// Centres drawn with chance proportional to the squared distance to the nearest one so far; the best of
    /// `2 + ln k` candidates each.
    fn plus_plus(&self, k: usize, key: Key) -> Vec<f64> {
        let n = self.square.len();
        let mut r = key.rng();
        let mut chosen = vec![r.below(n)];
        let mut nearest = self.distances(chosen[0]);
        let candidates = 2 + (k as f64).ln() as usize;
        while chosen.len() < k {
            let total: f64 = nearest.iter().sum();
            let mut best: Option<(f64, usize, Vec<f64>)> = None;
            for _ in 0..candidates {
                let mut left = f64::from(r.uniform()) * total;
                // All samples on centres already: any will do.
                let fallback = r.below(n);
                let pick = nearest.iter().position(|v| {
                    left -= v;
                    left < 0.0
                });
                let pick = pick.unwrap_or(fallback);
                let mut near = self.distances(pick);
                near.iter_mut().zip(&nearest).for_each(|(a, b)| *a = a.min(*b));
                let sum: f64 = near.iter().sum();
                if best.as_ref().is_none_or(|b| sum < b.0) {
                    best = Some((sum, pick, near));
                }
            }
            if let Some((_, pick, near)) = best {
                chosen.push(pick);
                nearest = near;
            }
        }
        chosen.into_iter().flat_map(|i| self.row(i).iter().map(|v| f64::from(*v))).collect()
    }

    /// The nearest centre of each row, and the squared distance to it.
    fn assign(&self, centers: &[f64]) -> Result<(Vec<u32>, Vec<f64>)> {
        let (n, d) = (self.square.len(), self.d);
        let k = centers.len() / d;
        let narrow: Vec<f32> = centers.iter().map(|v| *v as f32).collect();
        let norms: Vec<f64> =
            narrow.chunks_exact(d).map(|c| c.iter().map(|v| f64::from(*v).powi(2)).sum()).collect();
        let (mut labels, mut gaps) = (vec![0u32; n], vec![0f64; n]);
        labels.par_chunks_mut(ROWS).zip(gaps.par_chunks_mut(ROWS)).enumerate().try_for_each(
            |(b, (labels, gaps))| {
                let rows = labels.len();
                let mut tile = vec![0f32; rows * k];
                multiply(
                    &mut tile,
                    k,
                    View::rows(&self.rows[b * ROWS * d..], rows, d, d),
                    View::rows(&narrow, k, d, d).t(),
                    None,
                )?;
                for (i, products) in tile.chunks_exact(k).enumerate() {
                    let mut best = (f64::INFINITY, 0);
                    for (c, (p, norm)) in products.iter().zip(&norms).enumerate() {
                        let gap = norm - 2.0 * f64::from(*p);
                        if gap < best.0 {
                            best = (gap, c);
                        }
                    }
                    labels[i] = best.1 as u32;
                    gaps[i] = (best.0 + self.square[b * ROWS + i]).max(0.0);
                }
                Ok::<(), Error>(())
            },
        )?;
        Ok((labels, gaps))
    }

    /// Means of the clusters; an empty one takes the sample that is farthest from its centre (the next
    /// farthest for the next empty one).
    fn means(&self, labels: &[u32], gaps: &[f64], k: usize) -> Vec<f64> {
        let d = self.d;
        let parts: Vec<(Vec<f64>, Vec<f64>)> = labels
            .par_chunks(8 * ROWS)
            .zip(self.rows.par_chunks(8 * ROWS * d))
            .map(|(labels, rows)| {
                let (mut sum, mut count) = (vec![0f64; k * d], vec![0f64; k]);
                for (&c, row) in labels.iter().zip(rows.chunks_exact(d)) {
                    let c = c as usize;
                    count[c] += 1.0;
                    sum[c * d..(c + 1) * d].iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v));
                }
                (sum, count)
            })
            .collect();
        let (mut sum, mut count) = (vec![0f64; k * d], vec![0f64; k]);
        for (s, c) in &parts {
            crate::math::axpy(&mut sum, 1.0, s);
            crate::math::axpy(&mut count, 1.0, c);
        }
        let mut far: Vec<usize> = Vec::new();
        if count.contains(&0.0) {
            far = (0..gaps.len()).collect();
            // Falling distance, then rising index, from the back.
            far.sort_by(|&a, &b| gaps[a].total_cmp(&gaps[b]).then(b.cmp(&a)));
        }
        for c in 0..k {
            let center = &mut sum[c * d..(c + 1) * d];
            if count[c] > 0.0 {
                center.iter_mut().for_each(|v| *v /= count[c]);
            } else if let Some(i) = far.pop() {
                center.iter_mut().zip(self.row(i)).for_each(|(c, v)| *c = f64::from(*v));
            }
        }
        sum
    }

    /// Sum of squared distances to the centres, by differences (the products of [`Data::assign`] round in
    /// f32).
    fn inertia(&self, centers: &[f64], labels: &[u32]) -> f64 {
        let d = self.d;
        let own = |(row, &c): (&[f32], &u32)| -> f64 {
            row.iter()
                .zip(&centers[c as usize * d..(c as usize + 1) * d])
                .map(|(v, m)| (f64::from(*v) - m).powi(2))
                .sum()
        };
        self.rows.chunks_exact(d).zip(labels).map(own).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::adjusted_rand_index;
    use proptest::prelude::*;

    fn blobs(n: usize, d: usize, k: usize, offset: f32, seed: u64) -> (Matrix, Vec<u32>) {
        let mut r = Key::new(seed).rng();
        let means: Vec<f32> = (0..k * d).map(|_| 20.0 * r.normal()).collect();
        let labels: Vec<u32> = (0..n).map(|i| (i % k) as u32).collect();
        let data = labels
            .iter()
            .flat_map(|&y| {
                (0..d).map(|j| means[y as usize * d + j] + offset + r.normal()).collect::<Vec<_>>()
            })
            .collect();
        (Matrix::new(data, n, d).unwrap(), labels)
    }

    #[test]
    fn finds_separated_blobs_and_predicts_them() {
        for offset in [0.0, 1e4] {
            let (x, y) = blobs(600, 8, 5, offset, 3);
            let config = KMeansConfig { k: 5, ..KMeansConfig::default() };
            let m = fit(x.view(), &config, Key::new(1)).unwrap();
            assert_eq!(adjusted_rand_index(&m.labels, &y).unwrap(), 1.0);
            assert!((m.inertia / 600.0 / 8.0 - 1.0).abs() < 0.1, "{}", m.inertia);
            assert!(m.iterations < 10);
        }
        let (x, _) = blobs(600, 8, 5, 0.0, 3);
        let m = fit(x.view(), &KMeansConfig { k: 5, ..KMeansConfig::default() }, Key::new(1)).unwrap();
        assert_eq!(m.predict(x.view()).unwrap(), m.labels);
    }

    #[test]
    fn edges() {
        let same = Matrix::new(vec![2.0; 12], 6, 2).unwrap();
        let m = fit(same.view(), &KMeansConfig { k: 3, ..KMeansConfig::default() }, Key::new(1)).unwrap();
        assert!(m.inertia < 1e-12 && m.labels == [0; 6]);
        let (x, _) = blobs(10, 3, 2, 0.0, 1);
        let all = fit(x.view(), &KMeansConfig { k: 10, ..KMeansConfig::default() }, Key::new(1)).unwrap();
        assert!(all.inertia < 1e-6, "{}", all.inertia);
        assert!(fit(x.view(), &KMeansConfig { k: 11, ..KMeansConfig::default() }, Key::new(1)).is_err());
        assert!(fit(x.view(), &KMeansConfig { k: 0, ..KMeansConfig::default() }, Key::new(1)).is_err());
        assert!(
            fit(x.view(), &KMeansConfig { k: 2, starts: 0, ..KMeansConfig::default() }, Key::new(1)).is_err()
        );
    }

    #[test]
    fn same_bits_for_any_number_of_threads() {
        let (x, _) = blobs(5000, 7, 9, 0.0, 5);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                fit(x.view(), &KMeansConfig { k: 12, starts: 2, ..KMeansConfig::default() }, Key::new(1))
                    .unwrap()
            })
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(5));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn more_clusters_never_cost_more_than_one(n in 2usize..50, d in 1usize..6, k in 1usize..6, seed in 0u64..1000) {
            let (x, _) = blobs(n, d, 3, 0.0, seed);
            let k = k.min(n);
            let inertia = |k| fit(x.view(), &KMeansConfig { k, ..KMeansConfig::default() }, Key::new(seed)).unwrap().inertia;
            prop_assert!(inertia(k) <= inertia(1) * (1.0 + 1e-6) + 1e-9);
        }
    }
}
