//! Mini-batch k-means (Sculley 2010, "Web-scale k-means clustering"): centres move towards the mean of the
//! samples that they are nearest to, a batch at a time, each by the share that the batch has of all samples
//! it has seen.
//!
//! Starts are drawn by k-means++ (Arthur and Vassilvitskii 2007) from a part of the data. Distances come from
//! one matrix product per block of rows; blocks are cut by the shape alone and sums are taken in order, so
//! the centres have the same bits for any number of threads.

use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use selfsup_kernels::host::floats;
use selfsup_kernels::rng::Key;

/// Settings of [`Clusters::fit`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// Samples of a batch (HuBERT: 10,000).
    pub batch: usize,
    /// Batches at most.
    pub steps: usize,
    /// The search ends when this many batches in a row have not lowered the smoothed distance by a
    /// thousandth.
    pub patience: usize,
    /// Samples that the starts are drawn from, at most.
    pub init: usize,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        ClusterConfig { batch: 10_000, steps: 300, patience: 30, init: 20_000 }
    }
}

/// Centres of clusters.
#[derive(Clone, Debug, PartialEq)]
pub struct Clusters {
    centers: Vec<f32>,
    dim: usize,
}

/// Rows of a block of distances.
const ROWS: usize = 1024;

impl Clusters {
    /// Centres that were found before, `(k, dim)` row by row.
    ///
    /// # Errors
    /// If they are not whole rows, or none.
    pub fn new(centers: Vec<f32>, dim: usize) -> Result<Self> {
        if dim == 0 || centers.is_empty() || !centers.len().is_multiple_of(dim) {
            return Err(Error::input(
                "clusters",
                format!("{} values for centres of width {dim}", centers.len()),
            ));
        }
        Ok(Clusters { centers, dim })
    }

    /// Clusters `rows (n, dim)`, row by row, into `k`.
    ///
    /// # Errors
    /// If there are fewer samples than clusters, a value is not finite, or a setting is 0.
    pub fn fit(rows: &[f32], dim: usize, k: usize, config: &ClusterConfig, key: Key) -> Result<Self> {
        let n = rows.len().checked_div(dim).unwrap_or(0);
        if dim == 0 || n * dim != rows.len() || k == 0 || k > n {
            return Err(Error::input(
                "clusters",
                format!("{k} clusters of {n} samples of width {dim}: expected 1 to as many as the samples"),
            ));
        }
        if config.batch == 0 || config.init == 0 {
            return Err(Error::config("clustering: batch and init must be at least 1"));
        }
        if let Some(at) = rows.iter().position(|v| !v.is_finite()) {
            return Err(Error::input(
                "clusters",
                format!("value {} of sample {} is {}", at % dim, at / dim, rows[at]),
            ));
        }
        let mut rng = key.named("init").rng();
        let pool: Vec<f32> = pick(n, config.init.max(k).min(n), &mut rng)
            .flat_map(|i| rows[i * dim..(i + 1) * dim].to_vec())
            .collect();
        let mut found = Clusters { centers: plus_plus(&pool, dim, k, key.named("start"))?, dim };
        let mut seen = vec![0f64; k];
        let (mut smooth, mut best, mut waited) = (None::<f64>, f64::INFINITY, 0);
        for step in 0..config.steps {
            let mut rng = key.named("batch").fold(step as u64).rng();
            let batch: Vec<f32> = pick(n, config.batch.min(n), &mut rng)
                .flat_map(|i| rows[i * dim..(i + 1) * dim].to_vec())
                .collect();
            let distance = found.move_by(&batch, &mut seen)?;
            let now = smooth.map_or(distance, |s| 0.8 * s + 0.2 * distance);
            smooth = Some(now);
            if now < best * 0.999 {
                (best, waited) = (now, 0);
            } else {
                waited += 1;
                if waited >= config.patience {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// One batch; returns its mean squared distance to the centres before the move.
    fn move_by(&mut self, batch: &[f32], seen: &mut [f64]) -> Result<f64> {
        let (labels, gaps) = self.nearest(batch)?;
        let (d, k) = (self.dim, seen.len());
        let (mut sums, mut counts) = (vec![0f64; k * d], vec![0f64; k]);
        for (&c, row) in labels.iter().zip(batch.chunks_exact(d)) {
            counts[c as usize] += 1.0;
            sums[c as usize * d..][..d].iter_mut().zip(row).for_each(|(s, v)| *s += f64::from(*v));
        }
        for (c, center) in self.centers.chunks_exact_mut(d).enumerate() {
            if counts[c] > 0.0 {
                seen[c] += counts[c];
                // c + (sum - n c) / seen: the mean of all samples so far, each weighed alike.
                for (v, s) in center.iter_mut().zip(&sums[c * d..]) {
                    *v = (f64::from(*v) + (s - counts[c] * f64::from(*v)) / seen[c]) as f32;
                }
            }
        }
        Ok(gaps.iter().sum::<f64>() / gaps.len().max(1) as f64)
    }

    /// The nearest centre of each row, among equals the lower, and the squared distance to it.
    fn nearest(&self, rows: &[f32]) -> Result<(Vec<u32>, Vec<f64>)> {
        let (d, k) = (self.dim, self.k());
        if !rows.len().is_multiple_of(d) {
            return Err(Error::input("clusters", format!("{} values, expected rows of {d}", rows.len())));
        }
        let centers = Tensor::from_slice(&self.centers, (k, d), &Device::Cpu)?.t()?.contiguous()?;
        let norms: Vec<f64> =
            self.centers.chunks_exact(d).map(|c| c.iter().map(|v| f64::from(*v).powi(2)).sum()).collect();
        let blocks: Vec<Result<(Vec<u32>, Vec<f64>)>> = rows
            .par_chunks(ROWS * d)
            .map(|block| {
                let n = block.len() / d;
                let products = floats(&Tensor::from_slice(block, (n, d), &Device::Cpu)?.matmul(&centers)?)?;
                let (mut labels, mut gaps) = (Vec::with_capacity(n), Vec::with_capacity(n));
                for (row, products) in block.chunks_exact(d).zip(products.chunks_exact(k)) {
                    let square: f64 = row.iter().map(|v| f64::from(*v).powi(2)).sum();
                    let gap = |c: usize| norms[c] - 2.0 * f64::from(products[c]);
                    let best = (1..k).fold(0, |b, c| if gap(c) < gap(b) { c } else { b });
                    labels.push(best as u32);
                    gaps.push((square + gap(best)).max(0.0));
                }
                Ok((labels, gaps))
            })
            .collect();
        let (mut labels, mut gaps) = (Vec::new(), Vec::new());
        for block in blocks {
            let (l, g) = block?;
            labels.extend(l);
            gaps.extend(g);
        }
        Ok((labels, gaps))
    }

    /// The nearest centre of each of `rows (n, dim)`, row by row; among equals the lower.
    ///
    /// # Errors
    /// If they are not whole rows.
    pub fn assign(&self, rows: &[f32]) -> Result<Vec<u32>> {
        Ok(self.nearest(rows)?.0)
    }

    /// Number of clusters.
    pub fn k(&self) -> usize {
        self.centers.len() / self.dim
    }

    /// Width of a sample.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The centres `(k, dim)`, row by row.
    pub fn centers(&self) -> &[f32] {
        &self.centers
    }
}

/// `count` of `0..n` without replacement, in random order.
fn pick(n: usize, count: usize, rng: &mut selfsup_kernels::rng::Rng) -> impl Iterator<Item = usize> + use<> {
    let order = crate::data::Permutation::new(n, Key::new(rng.next_u64()));
    (0..count.min(n)).filter_map(move |i| order.at(i))
}

/// `k` rows, each drawn with chance proportional to its squared distance to the nearest one before.
fn plus_plus(rows: &[f32], dim: usize, k: usize, key: Key) -> Result<Vec<f32>> {
    let n = rows.len() / dim;
    let row = |i: usize| &rows[i * dim..(i + 1) * dim];
    let mut rng = key.rng();
    let mut centers = row(rng.below(n)).to_vec();
    let mut nearest = vec![f64::INFINITY; n];
    for _ in 1..k {
        let last = centers[centers.len() - dim..].to_vec();
        nearest.par_chunks_mut(ROWS).zip(rows.par_chunks(ROWS * dim)).for_each(|(nearest, rows)| {
            for (gap, row) in nearest.iter_mut().zip(rows.chunks_exact(dim)) {
                let new: f64 =
                    row.iter().zip(&last).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
                *gap = gap.min(new);
            }
        });
        let mut left = f64::from(rng.uniform()) * nearest.iter().sum::<f64>();
        // Where all rows lie on centres already, any will do.
        let spare = rng.below(n);
        let next = nearest.iter().position(|gap| {
            left -= gap;
            left < 0.0
        });
        centers.extend_from_slice(row(next.unwrap_or(spare)));
    }
    Ok(centers)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `n` samples around `k` means that lie far apart.
    fn blobs(n: usize, d: usize, k: usize) -> (Vec<f32>, Vec<usize>) {
        let mut rng = Key::new(1).rng();
        let means: Vec<f32> = (0..k * d).map(|_| 30.0 * rng.normal()).collect();
        let of: Vec<usize> = (0..n).map(|i| i % k).collect();
        (
            of.iter()
                .flat_map(|c| (0..d).map(|j| means[c * d + j] + rng.normal()).collect::<Vec<_>>())
                .collect(),
            of,
        )
    }

    #[test]
    fn finds_separated_blobs() {
        let (rows, of) = blobs(4000, 6, 5);
        let config = ClusterConfig { batch: 200, ..ClusterConfig::default() };
        let found = Clusters::fit(&rows, 6, 5, &config, Key::new(3)).unwrap();
        let labels = found.assign(&rows).unwrap();
        // One cluster for each blob, and the centre within a few standard errors of its mean.
        for blob in 0..5 {
            let mine: Vec<u32> =
                labels.iter().zip(&of).filter(|(_, b)| **b == blob).map(|(l, _)| *l).collect();
            assert!(mine.iter().all(|l| *l == mine[0]), "blob {blob} is torn");
            let mean: f32 =
                rows.chunks_exact(6).zip(&of).filter(|(_, b)| **b == blob).map(|(r, _)| r[0]).sum::<f32>()
                    / 800.0;
            assert!((found.centers()[mine[0] as usize * 6] - mean).abs() < 0.3);
        }
        let mut all = labels;
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn same_bits_for_any_number_of_threads() {
        let (rows, _) = blobs(5000, 7, 9);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                Clusters::fit(
                    &rows,
                    7,
                    12,
                    &ClusterConfig { batch: 3000, steps: 20, ..ClusterConfig::default() },
                    Key::new(1),
                )
                .unwrap()
            })
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(5));
    }

    #[test]
    fn what_cannot_be_clustered_is_refused() {
        let c = ClusterConfig::default();
        assert!(Clusters::fit(&[1.0, 2.0], 1, 3, &c, Key::new(0)).is_err());
        assert!(Clusters::fit(&[1.0, 2.0, 3.0], 2, 1, &c, Key::new(0)).is_err());
        let e = Clusters::fit(&[1.0, 2.0, f32::NAN, 4.0], 2, 2, &c, Key::new(0)).unwrap_err().to_string();
        assert!(e.contains("sample 1"), "{e}");
        assert!(Clusters::new(vec![1.0; 3], 2).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn assigned_is_nearest(n in 1usize..60, d in 1usize..5, k in 1usize..6, seed in 0u64..500) {
            let mut rng = Key::new(seed).rng();
            let rows: Vec<f32> = (0..n * d).map(|_| rng.normal()).collect();
            let k = k.min(n);
            let found = Clusters::fit(&rows, d, k, &ClusterConfig { batch: 16, steps: 10, ..ClusterConfig::default() }, Key::new(seed)).unwrap();
            prop_assert_eq!(found.k(), k);
            for (row, label) in rows.chunks_exact(d).zip(found.assign(&rows).unwrap()) {
                let gap = |c: usize| row.iter().zip(&found.centers()[c * d..]).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
                prop_assert!((0..k).all(|c| gap(label as usize) <= gap(c) + 1e-4));
            }
        }
    }
}
