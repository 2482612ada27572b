//! t-SNE (van der Maaten and Hinton 2008): points in a plane such that neighbours stay neighbours.
//!
//! `p(j|i) ~ exp(-beta_i |x_i - x_j|^2)`, with `beta_i` such that the entropy is the logarithm of the
//! perplexity;
//! `p_ij = (p(j|i) + p(i|j)) / 2n`; `q_ij ~ 1 / (1 + |y_i - y_j|^2)`. Gradient descent on `KL(P | Q)`:
//!
//! `dKL/dy_i = 4 sum_j (p_ij - q_ij) (y_i - y_j) / (1 + |y_i - y_j|^2)`
//!
//! Exact, so `O(n^2)` a step: for up to a few thousand points. The schedule is scikit-learn's: attraction is
//! exaggerated twelvefold at first, the learning rate is `n / 48` (Belkina et al. 2019: `n / 12` for a
//! gradient without the factor 4), momentum 0.5, then 0.8, and a gain for each coordinate. The start is given
//! (principal components keep the global order: Kobak and Berens 2019), so nothing is drawn.

use crate::data::Features;
use rayon::prelude::*;
use selfsup_core::{Error, Result};

/// How t-SNE runs.
#[derive(Clone, Debug, PartialEq)]
pub struct TsneConfig {
    /// The number of neighbours that count, about; lowered to a third of the samples.
    pub perplexity: f64,
    /// Steps in all.
    pub steps: usize,
    /// Steps in which attraction is exaggerated.
    pub early: usize,
    /// By how much.
    pub exaggeration: f64,
}

impl Default for TsneConfig {
    fn default() -> Self {
        TsneConfig { perplexity: 30.0, steps: 750, early: 250, exaggeration: 12.0 }
    }
}

/// Values that are added side by side.
const LANES: usize = 8;
/// Steps of the search for the width of a point's neighbourhood.
const SEARCH: usize = 60;
/// Standard deviation of the first coordinate at the start.
const START: f64 = 1e-4;

/// Places of the samples `x`, `(n, d)`, in a plane: `(n, 2)`. The descent starts from `start`, `(n, 2)`,
/// whose scale does not count. The result does not depend on the number of threads.
///
/// # Errors
/// If there are fewer than 4 samples, `start` has another length, or the perplexity is below 1.
pub fn tsne(x: Features<'_>, start: &[f64], config: &TsneConfig) -> Result<Vec<f64>> {
    let n = x.n();
    if n < 4 || start.len() != 2 * n {
        let problem =
            format!("{n} samples and {} starting coordinates: expected 4 or more, two each", start.len());
        return Err(Error::input("t-SNE", problem));
    }
    if !(config.perplexity >= 1.0 && config.perplexity.is_finite()) {
        let problem = format!("perplexity {}, expected a number of at least 1", config.perplexity);
        return Err(Error::input("t-SNE", problem));
    }
    let p = affinities(x, config.perplexity.min((n - 1) as f64 / 3.0).max(1.0));
    let rate = (n as f64 / config.exaggeration / 4.0).max(50.0);
    let spread = (start.iter().step_by(2).map(|v| v * v).sum::<f64>() / n as f64).sqrt();
    let scale = if spread > 0.0 { START / spread } else { 0.0 };
    let mut y: Vec<f64> = start.iter().map(|v| v * scale).collect();
    if scale == 0.0 {
        // All alike: any start will do that has no two points in one place.
        y = (0..2 * n).map(|i| START * ((i as f64) * 0.618_033_988_749_895).fract()).collect();
    }
    let (mut speed, mut gain) = (vec![0.0; 2 * n], vec![1.0; 2 * n]);
    for step in 0..config.steps {
        let (exaggeration, momentum) =
            if step < config.early { (config.exaggeration, 0.5) } else { (1.0, 0.8) };
        let gradient = gradient(&p, &y, exaggeration);
        for k in 0..2 * n {
            let same = (gradient[k] > 0.0) == (speed[k] > 0.0);
            gain[k] = if same { (gain[k] * 0.8_f64).max(0.01) } else { gain[k] + 0.2 };
            speed[k] = momentum * speed[k] - rate * gain[k] * gradient[k];
            y[k] += speed[k];
        }
        let centre = [0, 1].map(|c| y.iter().skip(c).step_by(2).sum::<f64>() / n as f64);
        y.iter_mut().enumerate().for_each(|(k, v)| *v -= centre[k % 2]);
    }
    Ok(y)
}

/// `p_ij`, `(n, n)`, symmetric, with sum 1.
fn affinities(x: Features<'_>, perplexity: f64) -> Vec<f32> {
    let n = x.n();
    let mut p = vec![0f32; n * n];
    p.par_chunks_mut(n).enumerate().for_each(|(i, row)| {
        let own = x.row(i);
        for (j, p) in row.iter_mut().enumerate() {
            *p = own.iter().zip(x.row(j)).map(|(a, b)| (a - b) * (a - b)).sum();
        }
        conditional(row, i, perplexity);
    });
    let half = 0.5 / n as f32;
    for i in 0..n {
        for j in 0..i {
            let mean = half * (p[i * n + j] + p[j * n + i]);
            (p[i * n + j], p[j * n + i]) = (mean, mean);
        }
        p[i * n + i] = 0.0;
    }
    p
}

/// Squared distances of sample `own` become `p(j|own)` of this perplexity.
fn conditional(row: &mut [f32], own: usize, perplexity: f64) {
    let others = || row.iter().enumerate().filter(|(j, _)| *j != own).map(|(_, d)| f64::from(*d));
    let nearest = others().fold(f64::INFINITY, f64::min);
    let mean = others().sum::<f64>() / (row.len() - 1) as f64;
    let want = perplexity.ln();
    // Distances are counted from the nearest, so that one weight at least is 1.
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut beta = 1.0 / (mean - nearest).max(f64::MIN_POSITIVE);
    if !beta.is_finite() {
        beta = 1.0;
    }
    for _ in 0..SEARCH {
        let (mut sum, mut weighted) = (0.0, 0.0);
        for d in others() {
            let w = (-beta * (d - nearest)).exp();
            sum += w;
            weighted += w * (d - nearest);
        }
        let entropy = sum.ln() + beta * weighted / sum;
        if (entropy - want).abs() < 1e-6 {
            break;
        }
        if entropy > want {
            low = beta;
            beta = if high.is_finite() { 0.5 * (beta + high) } else { beta * 2.0 };
        } else {
            high = beta;
            beta = 0.5 * (beta + low);
        }
        if !beta.is_finite() {
            beta = f64::MAX;
            break;
        }
    }
    let sum: f64 = others().map(|d| (-beta * (d - nearest)).exp()).sum();
    for (j, v) in row.iter_mut().enumerate() {
        *v = if j == own { 0.0 } else { ((-beta * (f64::from(*v) - nearest)).exp() / sum) as f32 };
    }
}

/// The gradient of the divergence, `(n, 2)`. Pairs in single precision, sums over rows in double.
fn gradient(p: &[f32], y: &[f64], exaggeration: f64) -> Vec<f64> {
    let n = y.len() / 2;
    let (xs, ys): (Vec<f32>, Vec<f32>) = y.chunks_exact(2).map(|p| (p[0] as f32, p[1] as f32)).unzip();
    let mut sums = vec![[0f64; 5]; n];
    sums.par_iter_mut().with_min_len(16).enumerate().for_each(|(i, sum)| {
        *sum = row(&p[i * n..(i + 1) * n], &xs, &ys, i);
    });
    // The pair of a point with itself has weight 1.
    let z = sums.iter().map(|s| s[0]).sum::<f64>() - n as f64;
    let z = z.max(f64::MIN_POSITIVE);
    let of = |s: &[f64; 5]| [1, 2].map(|c| 4.0 * (exaggeration * s[c] - s[c + 2] / z));
    sums.iter().flat_map(of).collect()
}

/// Of a point the sum of its weights, of `p w (y_i - y_j)` and of `w^2 (y_i - y_j)`.
fn row(p: &[f32], xs: &[f32], ys: &[f32], i: usize) -> [f64; 5] {
    let (x, y) = (xs[i], ys[i]);
    let mut lanes = [[0f32; LANES]; 5];
    let mut add = |l: usize, p: f32, xj: f32, yj: f32| {
        let (dx, dy) = (x - xj, y - yj);
        let w = 1.0 / (1.0 + dx * dx + dy * dy);
        let (a, r) = (p * w, w * w);
        lanes[0][l] += w;
        lanes[1][l] += a * dx;
        lanes[2][l] += a * dy;
        lanes[3][l] += r * dx;
        lanes[4][l] += r * dy;
    };
    let parts = p.chunks(LANES).zip(xs.chunks(LANES)).zip(ys.chunks(LANES));
    for ((p, xs), ys) in parts {
        for (l, ((p, xj), yj)) in p.iter().zip(xs).zip(ys).enumerate() {
            add(l, *p, *xj, *yj);
        }
    }
    lanes.map(|lane| lane.iter().map(|v| f64::from(*v)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;
    use crate::projection::pca;
    use selfsup_core::Key;

    /// `each` points in each of `groups` blobs in ten dimensions, far from one another.
    fn blobs(groups: usize, each: usize) -> Matrix {
        let mut r = Key::new(3).rng();
        let rows = (0..groups * each).flat_map(|i| {
            let own = i % groups;
            (0..10).map(|k| r.normal() + if k == own { 14.0 } else { 0.0 }).collect::<Vec<_>>()
        });
        Matrix::new(rows.collect(), groups * each, 10).unwrap()
    }

    fn placed(x: &Matrix, config: &TsneConfig) -> Vec<f64> {
        tsne(x.view(), &pca(x.view(), 2).unwrap().scores, config).unwrap()
    }

    /// Every point's nearest neighbours in the plane are of its own blob, and blobs lie further apart than
    /// they are wide.
    #[test]
    fn well_separated_clusters_stay_apart() {
        let (groups, each) = (5, 40);
        let x = blobs(groups, each);
        let y = placed(&x, &TsneConfig::default());
        let apart = |i: usize, j: usize| (y[2 * i] - y[2 * j]).hypot(y[2 * i + 1] - y[2 * j + 1]);
        let n = groups * each;
        let (mut widest, mut nearest) = (0f64, f64::INFINITY);
        for i in 0..n {
            for j in 0..i {
                if i % groups == j % groups {
                    widest = widest.max(apart(i, j));
                } else {
                    nearest = nearest.min(apart(i, j));
                }
            }
        }
        assert!(nearest > 0.5 * widest, "nearest strangers {nearest}, widest blob {widest}");
        for i in 0..n {
            let mut others: Vec<usize> = (0..n).filter(|j| *j != i).collect();
            others.sort_by(|a, b| apart(i, *a).total_cmp(&apart(i, *b)));
            assert!(others[..10].iter().all(|j| j % groups == i % groups), "{i}");
        }
    }

    #[test]
    fn same_bits_again_and_for_any_number_of_threads() {
        let x = blobs(3, 31);
        let config = TsneConfig { steps: 60, early: 30, ..TsneConfig::default() };
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| placed(&x, &config)).into_iter().map(f64::to_bits).collect::<Vec<_>>()
        };
        let one = run(1);
        assert_eq!(one, run(1));
        assert_eq!(one, run(3));
    }

    /// The gradient against a central difference of the divergence.
    #[test]
    fn gradient_of_the_divergence() {
        let x = blobs(2, 4);
        let (n, p) = (8, affinities(x.view(), 2.0));
        assert!((p.iter().map(|v| f64::from(*v)).sum::<f64>() - 1.0).abs() < 1e-5);
        let y: Vec<f64> = (0..2 * n).map(|i| (i as f64 * 1.7).sin() * 2.0).collect();
        let divergence = |y: &[f64]| {
            let w = |i: usize, j: usize| {
                1.0 / (1.0 + (y[2 * i] - y[2 * j]).powi(2) + (y[2 * i + 1] - y[2 * j + 1]).powi(2))
            };
            let pairs = || (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).filter(|(i, j)| i != j);
            let z: f64 = pairs().map(|(i, j)| w(i, j)).sum();
            pairs().map(|(i, j)| -f64::from(p[i * n + j]) * (w(i, j) / z).ln()).sum::<f64>()
        };
        let found = gradient(&p, &y, 1.0);
        for k in 0..2 * n {
            let (mut up, mut down) = (y.clone(), y.clone());
            up[k] += 1e-5;
            down[k] -= 1e-5;
            let want = (divergence(&up) - divergence(&down)) / 2e-5;
            assert!((found[k] - want).abs() < 1e-5 * (1.0 + want.abs()), "{k}: {} {want}", found[k]);
        }
    }

    #[test]
    fn the_perplexity_is_that_of_each_row() {
        let x = blobs(2, 30);
        let n = x.n();
        for i in [0, 17] {
            let mut row: Vec<f32> = (0..n)
                .map(|j| x.view().row(i).iter().zip(x.view().row(j)).map(|(a, b)| (a - b).powi(2)).sum())
                .collect();
            conditional(&mut row, i, 9.0);
            let entropy: f64 =
                row.iter().filter(|p| **p > 0.0).map(|p| -f64::from(*p) * f64::from(*p).ln()).sum();
            assert!((entropy.exp() - 9.0).abs() < 1e-2, "{}", entropy.exp());
        }
    }

    /// Copies, samples that are all alike, and too few of them.
    #[test]
    fn odd_input() {
        let config = TsneConfig { steps: 100, early: 50, ..TsneConfig::default() };
        let same = Matrix::new(vec![1.0; 24], 12, 2).unwrap();
        assert!(placed(&same, &config).iter().all(|v| v.is_finite()));
        let mut rows = vec![0.0; 20];
        rows.extend([1e6, 1e6]);
        let far = Matrix::new(rows, 11, 2).unwrap();
        assert!(placed(&far, &config).iter().all(|v| v.is_finite()));
        let few = Matrix::new(vec![1.0, 2.0, 3.0], 3, 1).unwrap();
        assert!(tsne(few.view(), &[0.0; 6], &config).is_err());
        assert!(tsne(same.view(), &[0.0; 3], &config).is_err());
        let none = TsneConfig { perplexity: 0.0, ..config };
        assert!(tsne(same.view(), &[0.0; 24], &none).is_err());
    }
}
