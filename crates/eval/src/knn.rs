//! Exact nearest neighbours by inner product, and the weighted kNN classifier.
//!
//! Each of the `k` nearest training samples votes for its class with weight `exp(cosine / T)` (Wu, Xiong, Yu
//! and Lin 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", arXiv
//! 1805.01978). No training: what is measured is the metric space.
//!
//! The search is a blocked product: a task owns a block of queries, walks over panels of keys, and selects
//! from each tile of scores while it is in cache, so queries x keys is never held. A score enters a query's
//! list only if it beats the current k-th one, which one vectorised comparison per 16 scores decides; with
//! keys in random order a query of n keys has about `k ln(n / k)` entries in all.

use crate::data::{Features, check_labels, check_width};
use crate::product::{View, multiply};
use rayon::prelude::*;
use selfsup_core::{Error, Result};

/// Queries a task owns: the tile of scores and the packed queries stay in the second-level cache.
const QUERIES: usize = 512;
/// Keys a tile covers.
const KEYS: usize = 480;
/// Scores that one comparison with the k-th best covers.
const LANES: usize = 16;

/// Settings of the weighted vote.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KnnConfig {
    /// Neighbours that vote. Default 20 (DINO, arXiv 2104.14294; Wu et al. take 200 for ImageNet).
    pub k: usize,
    /// Temperature `T` of the weight `exp(cosine / T)`. Default 0.07 (Wu et al.).
    pub temperature: f64,
}

impl Default for KnnConfig {
    fn default() -> Self {
        KnnConfig { k: 20, temperature: 0.07 }
    }
}

/// The `k` nearest keys of each query, best first; among equal scores the lower index first.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbours {
    /// Neighbours per query.
    pub k: usize,
    /// Indices of keys, `(queries, k)`.
    pub index: Vec<u32>,
    /// Inner products, `(queries, k)`.
    pub score: Vec<f32>,
}

/// The answers of the classifier for each test sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Votes {
    /// Sum of the weights of the neighbours of each class, `(n, classes)`.
    pub votes: Vec<f64>,
    /// The class with most votes, `(n)`; among equals the lower class.
    pub predictions: Vec<u32>,
}

/// The rows of `x` divided by `max(norm, 1e-12)`, so a zero row stays zero.
pub fn normalize_rows(x: Features<'_>) -> Vec<f32> {
    let d = x.d();
    let mut out = x.as_slice().to_vec();
    out.par_chunks_mut(d * 256).for_each(|rows| {
        for row in rows.chunks_exact_mut(d) {
            let norm = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt().max(1e-12);
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
        }
    });
    out
}

/// The `k` keys of largest inner product with each query, exactly. Inputs are taken as they are: normalise
/// rows for cosine similarity. Memory beside the inputs: a copy of the keys, `k` entries a query, and a tile
/// per task.
///
/// # Errors
/// If widths differ, `k` is 0 or above the number of keys, or there are more than 2^32 - 1 keys.
pub fn top_k(queries: Features<'_>, keys: Features<'_>, k: usize) -> Result<Neighbours> {
    check_width("kNN queries", keys, queries)?;
    if k == 0 || k > keys.n() {
        return Err(Error::input("kNN", format!("k = {k}, expected 1 to {} (the number of keys)", keys.n())));
    }
    if u32::try_from(keys.n()).is_err() {
        return Err(Error::input("kNN", format!("{} keys, expected fewer than 2^32", keys.n())));
    }
    let (n, d) = (queries.n(), queries.d());
    let panels = Panels::new(keys);
    let mut index = vec![0u32; n * k];
    let mut score = vec![0f32; n * k];
    index.par_chunks_mut(QUERIES * k).zip(score.par_chunks_mut(QUERIES * k)).enumerate().try_for_each(
        |(task, (index, score))| {
            let first = task * QUERIES;
            let rows = QUERIES.min(n - first);
            let block = View::rows(&queries.as_slice()[first * d..(first + rows) * d], rows, d, d);
            let mut tile = vec![0f32; QUERIES * (KEYS + LANES)];
            let mut lists: Vec<List> = (0..rows).map(|_| List::new(k)).collect();
            for panel in 0..panels.count() {
                let (base, width, keys) = panels.get(panel);
                // (rows, d) x (d, width); the stride KEYS + LANES keeps rows off a multiple of 4 KiB.
                multiply(&mut tile, KEYS + LANES, block, keys, None)?;
                for (list, scores) in lists.iter_mut().zip(tile.chunks_exact(KEYS + LANES)) {
                    list.offer(&scores[..width], base);
                }
            }
            for (i, list) in lists.iter().enumerate() {
                for (j, &(s, key)) in list.entries.iter().enumerate() {
                    index[i * k + j] = key;
                    score[i * k + j] = s;
                }
            }
            Ok::<(), Error>(())
        },
    )?;
    Ok(Neighbours { k, index, score })
}

/// Keys in panels of `KEYS`, each `(d, width)` with the key index contiguous: the product then reads them
/// without packing.
struct Panels {
    data: Vec<f32>,
    n: usize,
    d: usize,
}

impl Panels {
    fn new(keys: Features<'_>) -> Self {
        let (n, d) = (keys.n(), keys.d());
        let stride = KEYS + LANES;
        let mut data = vec![0f32; n.div_ceil(KEYS) * d * stride];
        data.par_chunks_mut(d * stride).enumerate().for_each(|(p, panel)| {
            let width = KEYS.min(n - p * KEYS);
            // 16 keys at a time: one cache line written per dimension.
            for j0 in (0..width).step_by(LANES) {
                let lanes = LANES.min(width - j0);
                for j in j0..j0 + lanes {
                    for (c, &v) in keys.row(p * KEYS + j).iter().enumerate() {
                        panel[c * stride + j] = v;
                    }
                }
            }
        });
        Panels { data, n, d }
    }

    fn count(&self) -> usize {
        self.n.div_ceil(KEYS)
    }

    /// First key, number of keys and the matrix of panel `p`.
    fn get(&self, p: usize) -> (u32, usize, View<'_, f32>) {
        let stride = KEYS + LANES;
        let width = KEYS.min(self.n - p * KEYS);
        let data = &self.data[p * self.d * stride..(p + 1) * self.d * stride];
        ((p * KEYS) as u32, width, View::rows(data, self.d, width, stride))
    }
}

/// The best `k` so far, sorted by falling score, then rising index.
struct List {
    k: usize,
    entries: Vec<(f32, u32)>,
}

impl List {
    fn new(k: usize) -> Self {
        List { k, entries: Vec::with_capacity(k + 1) }
    }

    /// What a score must exceed to enter. Keys come in rising order, so an equal score loses to the one that
    /// is there.
    fn bar(&self) -> f32 {
        if self.entries.len() < self.k {
            f32::NEG_INFINITY
        } else {
            self.entries.last().map_or(f32::NEG_INFINITY, |e| e.0)
        }
    }

    fn offer(&mut self, scores: &[f32], base: u32) {
        let mut bar = self.bar();
        for (c, chunk) in scores.chunks(LANES).enumerate() {
            // A fold over a fixed count: compiles to vector maxima.
            let hit = match <&[f32; LANES]>::try_from(chunk) {
                Ok(lanes) => {
                    let mut any = false;
                    for &s in lanes {
                        any |= s > bar;
                    }
                    any
                }
                Err(_) => true,
            };
            if hit || self.entries.len() < self.k {
                for (j, &s) in chunk.iter().enumerate() {
                    if s > bar || self.entries.len() < self.k {
                        self.insert(s, base + (c * LANES + j) as u32);
                        bar = self.bar();
                    }
                }
            }
        }
    }

    fn insert(&mut self, score: f32, key: u32) {
        let at = self.entries.partition_point(|e| e.0 >= score);
        self.entries.insert(at, (score, key));
        self.entries.truncate(self.k);
    }
}

/// Classifies `test` by the weighted vote of its `k` nearest neighbours in `train` by cosine similarity.
///
/// # Errors
/// If widths differ, labels are missing or not below `classes`, `k` is 0 or above the number of training
/// samples, or the temperature is below 0.002 (its weights overflow) or not finite.
pub fn classify(
    train: Features<'_>,
    labels: &[u32],
    test: Features<'_>,
    classes: usize,
    config: &KnnConfig,
) -> Result<Votes> {
    check_labels("kNN training labels", labels, train.n(), classes)?;
    check_width("kNN test features", train, test)?;
    if !(config.temperature.is_finite() && config.temperature >= 0.002) {
        return Err(Error::input(
            "kNN",
            format!("temperature {}, expected a number of at least 0.002", config.temperature),
        ));
    }
    let (keys, queries) = (normalize_rows(train), normalize_rows(test));
    let keys = Features::new(&keys, train.n(), train.d())?;
    let queries = Features::new(&queries, test.n(), test.d())?;
    let near = top_k(queries, keys, config.k)?;
    let mut votes = vec![0f64; test.n() * classes];
    let mut predictions = Vec::with_capacity(test.n());
    for (row, (index, score)) in
        votes.chunks_exact_mut(classes).zip(near.index.chunks(near.k).zip(near.score.chunks(near.k)))
    {
        for (&i, &s) in index.iter().zip(score) {
            row[labels[i as usize] as usize] += (f64::from(s) / config.temperature).exp();
        }
        predictions.push(crate::math::argmax(row) as u32);
    }
    Ok(Votes { votes, predictions })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;
    use proptest::prelude::*;
    use selfsup_core::Key;

    fn random(n: usize, d: usize, seed: u64) -> Matrix {
        let mut r = Key::new(seed).rng();
        Matrix::new((0..n * d).map(|_| r.normal()).collect(), n, d).unwrap()
    }

    /// Small whole numbers: exact sums, many ties.
    fn whole(n: usize, d: usize, seed: u64) -> Matrix {
        let mut r = Key::new(seed).rng();
        Matrix::new((0..n * d).map(|_| r.below(3) as f32 - 1.0).collect(), n, d).unwrap()
    }

    fn brute(q: &Matrix, x: &Matrix, k: usize) -> (Vec<u32>, Vec<f32>) {
        let (mut index, mut score) = (Vec::new(), Vec::new());
        for i in 0..q.n() {
            let mut all: Vec<(f32, u32)> = (0..x.n())
                .map(|j| (q.view().row(i).iter().zip(x.view().row(j)).map(|(a, b)| a * b).sum(), j as u32))
                .collect();
            // By value: -0.0 equals 0.0.
            all.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap().then(a.1.cmp(&b.1)));
            all[..k].iter().for_each(|e| {
                index.push(e.1);
                score.push(e.0);
            });
        }
        (index, score)
    }

    #[test]
    fn ties_go_to_the_lower_index_across_panels() {
        let (q, x) = (whole(QUERIES + 3, 4, 1), whole(2 * KEYS + 37, 4, 2));
        for k in [1, 7, 600] {
            let near = top_k(q.view(), x.view(), k).unwrap();
            assert!((near.index, near.score) == brute(&q, &x, k), "k {k}");
        }
    }

    #[test]
    fn same_bits_for_any_number_of_threads() {
        let (q, x) = (random(2 * QUERIES + 5, 33, 1), random(1000, 33, 2));
        let labels: Vec<u32> = (0..1000).map(|i| i % 7).collect();
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| classify(x.view(), &labels, q.view(), 7, &KnnConfig::default()).unwrap())
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(5));
    }

    #[test]
    fn a_sample_is_its_own_nearest_neighbour() {
        let x = random(50, 8, 3);
        let labels: Vec<u32> = (0..50).collect();
        let v = classify(x.view(), &labels, x.view(), 50, &KnnConfig { k: 1, temperature: 0.1 }).unwrap();
        assert_eq!(v.predictions, labels);
        // One vote with cosine 1: exp(10).
        assert!((v.votes[0] / 10f64.exp() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn refuses_bad_input() {
        let (x, y) = (random(5, 3, 1), [0, 1, 0, 1, 0]);
        let c = KnnConfig::default();
        assert!(classify(x.view(), &y, x.view(), 2, &c).unwrap_err().to_string().contains("k = 20"));
        let c = KnnConfig { k: 2, ..c };
        assert!(classify(x.view(), &y, random(2, 4, 1).view(), 2, &c).is_err());
        assert!(classify(x.view(), &y, x.view(), 1, &c).is_err());
        assert!(classify(x.view(), &y, x.view(), 2, &KnnConfig { temperature: 0.0, ..c.clone() }).is_err());
        assert!(classify(x.view(), &y, x.view(), 2, &KnnConfig { k: 0, ..c.clone() }).is_err());
        let zero = Matrix::new(vec![0.0; 3], 1, 3).unwrap();
        assert!(classify(x.view(), &y, zero.view(), 2, &c).unwrap().votes.iter().sum::<f64>() == 2.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn equals_brute_force(n in 1usize..40, m in 1usize..70, d in 1usize..9, k in 1usize..40, seed in 0u64..1000) {
            let (q, x) = (whole(n, d, seed), whole(m, d, seed + 1));
            let k = k.min(m);
            let near = top_k(q.view(), x.view(), k).unwrap();
            prop_assert_eq!((near.index, near.score), brute(&q, &x, k));
        }
    }
}
