//! Samples from elsewhere: scores that are higher for samples like those of the training, and how well they
//! tell the two apart.

use crate::data::{Features, check_labels, check_width};
use crate::knn::{normalize_rows, top_k};
use crate::math::{centered, cholesky, cross, dot, invert_lower};
use crate::metrics::auroc;
use crate::product::{View, multiply};
use selfsup_core::{Error, Result};

/// Gaussians of the classes with one covariance (Lee et al. 2018, arXiv 1807.03888), and one Gaussian of all
/// (Ren et al. 2021, arXiv 2106.09022).
#[derive(Clone, Debug)]
pub struct Mahalanobis {
    d: usize,
    /// Means of the classes that have samples.
    means: Vec<Vec<f64>>,
    /// `L^-1` of the covariance within classes.
    within: Vec<f64>,
    mean: Vec<f64>,
    /// `L^-1` of the covariance of all.
    whole: Vec<f64>,
}

impl Mahalanobis {
    /// Fits to the training features `x`, `(n, d)`, of `classes` classes. Covariances `S` are shrunk to `(1 -
    /// shrinkage) S + shrinkage tr(S) / d I`.
    ///
    /// # Errors
    /// If shapes do not fit, a label is out of range, `shrinkage` is not between 0 and 1, or a covariance is
    /// singular.
    pub fn fit(x: Features<'_>, labels: &[u32], classes: usize, shrinkage: f64) -> Result<Self> {
        check_labels("labels", labels, x.n(), classes)?;
        if !(0.0..=1.0).contains(&shrinkage) {
            let problem = format!("shrinkage {shrinkage}, expected a share between 0 and 1");
            return Err(Error::input("Mahalanobis distance", problem));
        }
        let d = x.d();
        let (mut all, mean) = centered(x.as_slice(), d);
        let whole = whiten(&all, d, shrinkage, "of all samples")?;
        // Relative to the mean of all, so that nothing cancels.
        let mut sums = vec![(vec![0f64; d], 0usize); classes];
        for (row, y) in all.chunks_exact(d).zip(labels) {
            let (sum, count) = &mut sums[*y as usize];
            sum.iter_mut().zip(row).for_each(|(s, v)| *s += v);
            *count += 1;
        }
        for (sum, count) in &mut sums {
            sum.iter_mut().for_each(|s| *s /= (*count).max(1) as f64);
        }
        for (row, y) in all.chunks_exact_mut(d).zip(labels) {
            row.iter_mut().zip(&sums[*y as usize].0).for_each(|(v, m)| *v -= m);
        }
        let within = whiten(&all, d, shrinkage, "within classes")?;
        let means = sums.into_iter().filter(|(_, count)| *count > 0).map(|(mean, _)| mean).collect();
        Ok(Mahalanobis { d, means, within, mean, whole })
    }

    /// For each row of `x`, `(n, d)`: minus the squared distance to the nearest class.
    ///
    /// # Errors
    /// If the width is another.
    pub fn scores(&self, x: Features<'_>) -> Result<Vec<f64>> {
        self.check(x)?;
        let rows = self.shifted(x);
        let whitened = times_transposed(&rows, &self.within, self.d)?;
        let centres = times_transposed(&self.means.concat(), &self.within, self.d)?;
        let nearest = |row: &[f64]| {
            let gap = |c: &[f64]| -> f64 { row.iter().zip(c).map(|(a, b)| (a - b).powi(2)).sum() };
            centres.chunks_exact(self.d).map(gap).fold(f64::INFINITY, f64::min)
        };
        Ok(whitened.chunks_exact(self.d).map(|row| -nearest(row)).collect())
    }

    /// [`Mahalanobis::scores`] plus the squared distance to the Gaussian of all samples: what is far from
    /// everything alike counts less.
    ///
    /// # Errors
    /// If the width is another.
    pub fn relative_scores(&self, x: Features<'_>) -> Result<Vec<f64>> {
        let own = self.scores(x)?;
        let whitened = times_transposed(&self.shifted(x), &self.whole, self.d)?;
        Ok(own.iter().zip(whitened.chunks_exact(self.d)).map(|(s, row)| s + dot(row, row)).collect())
    }

    fn check(&self, x: Features<'_>) -> Result<()> {
        if x.d() == self.d {
            return Ok(());
        }
        let problem = format!("{} dimensions, expected {}", x.d(), self.d);
        Err(Error::input("Mahalanobis distance", problem))
    }

    fn shifted(&self, x: Features<'_>) -> Vec<f64> {
        let rows = x.as_slice().chunks_exact(self.d);
        rows.flat_map(|row| row.iter().zip(&self.mean).map(|(v, m)| f64::from(*v) - m)).collect()
    }
}

/// `L^-1` of the shrunk covariance of rows that are centred already.
fn whiten(rows: &[f64], d: usize, shrinkage: f64, which: &str) -> Result<Vec<f64>> {
    let n = (rows.len() / d) as f64;
    let mut s = cross(rows, d, rows, d)?;
    s.iter_mut().for_each(|v| *v /= n);
    let trace: f64 = (0..d).map(|i| s[i * d + i]).sum();
    s.iter_mut().for_each(|v| *v *= 1.0 - shrinkage);
    (0..d).for_each(|i| s[i * d + i] += shrinkage * trace / d as f64);
    if !cholesky(&mut s, d)? {
        let problem =
            format!("the covariance {which} is singular, expected more samples or a shrinkage above 0");
        return Err(Error::input("Mahalanobis distance", problem));
    }
    invert_lower(&s, d)
}

/// `rows m^T`, for rows `(n, d)` and a matrix `(d, d)`.
fn times_transposed(rows: &[f64], m: &[f64], d: usize) -> Result<Vec<f64>> {
    let n = rows.len() / d;
    let mut out = vec![0f64; rows.len()];
    multiply(&mut out, d, View::rows(rows, n, d, d), View::rows(m, d, d, d).t(), None)?;
    Ok(out)
}

/// For each row of `x`: minus the distance to its `k`-th nearest row of `train`, all L2-normalised (Sun et al.
/// 2022, arXiv 2204.06507; they take k = 50 of 50,000).
///
/// # Errors
/// If widths differ, or `k` is 0 or above the number of training rows.
pub fn knn_scores(train: Features<'_>, x: Features<'_>, k: usize) -> Result<Vec<f64>> {
    check_width("kNN distance", train, x)?;
    let (keys, queries) = (normalize_rows(train), normalize_rows(x));
    let (keys, queries) =
        (Features::new(&keys, train.n(), train.d())?, Features::new(&queries, x.n(), x.d())?);
    let found = top_k(queries, keys, k)?;
    let far = |(i, near): (usize, &[u32])| -> f64 {
        let last = near.last().map_or(0, |j| *j as usize);
        let gaps = queries.row(i).iter().zip(keys.row(last));
        -gaps.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
    };
    Ok(found.index.chunks_exact(k).enumerate().map(far).collect())
}

/// How well a score tells samples of the training's kind from others.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Detection {
    /// Area under the ROC curve: 1 perfect, 0.5 chance.
    pub auroc: f64,
    /// Share of the samples from elsewhere that pass where 95% of the others do: 0 perfect.
    pub fpr95: f64,
}

/// Measures scores that are higher for samples `inside`.
///
/// # Errors
/// If one side is empty or a score is NaN.
pub fn detection(inside: &[f64], outside: &[f64]) -> Result<Detection> {
    if inside.is_empty() || outside.is_empty() {
        let problem =
            format!("{} samples inside, {} outside: expected some of each", inside.len(), outside.len());
        return Err(Error::input("samples from elsewhere", problem));
    }
    // By rank, since f32 may not tell two scores apart that f64 does.
    let mut sorted: Vec<f64> = inside.iter().chain(outside).copied().collect();
    if let Some(i) = sorted.iter().position(|v| v.is_nan()) {
        return Err(Error::input("samples from elsewhere", format!("score {i} is NaN")));
    }
    sorted.sort_by(f64::total_cmp);
    let rank = |v: &f64| sorted.partition_point(|w| w < v) as f32;
    let scores: Vec<f32> = inside.iter().chain(outside).map(rank).collect();
    let positive: Vec<bool> = (0..scores.len()).map(|i| i < inside.len()).collect();
    let mut best = inside.to_vec();
    best.sort_by(|a, b| b.total_cmp(a));
    let place = (0.95 * inside.len() as f64).ceil() as usize;
    let threshold = best[place.clamp(1, best.len()) - 1];
    let passed = outside.iter().filter(|s| **s >= threshold).count();
    Ok(Detection { auroc: auroc(&scores, &positive)?, fpr95: passed as f64 / outside.len() as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;
    use selfsup_core::Key;

    #[test]
    fn distances_of_known_gaussians() {
        // Two classes at (±10, 0); within them x varies by ±2 and y by ±1.
        let mut data = Vec::new();
        let mut labels = Vec::new();
        for (y, centre) in [(0u32, -10f32), (1, 10.0)] {
            for (dx, dy) in [(2.0, 0.0), (-2.0, 0.0), (0.0, 1.0), (0.0, -1.0)] {
                data.extend([centre + dx, dy]);
                labels.push(y);
            }
        }
        let x = Matrix::new(data, 8, 2).unwrap();
        let m = Mahalanobis::fit(x.view(), &labels, 3, 0.0).unwrap();
        let at = Matrix::new(vec![12.0, 3.0, 0.0, 0.0], 2, 2).unwrap();
        // Within: variances 2 and 0.5. Of all: 102 and 0.5.
        let scores = m.scores(at.view()).unwrap();
        assert!((scores[0] + (4.0 / 2.0 + 9.0 / 0.5)).abs() < 1e-9, "{scores:?}");
        assert!((scores[1] + 50.0).abs() < 1e-9);
        let relative = m.relative_scores(at.view()).unwrap();
        assert!((relative[0] - (scores[0] + 144.0 / 102.0 + 18.0)).abs() < 1e-9);
        let line = Matrix::new(vec![1.0, 1.0, 2.0, 2.0, 3.0, 3.0], 3, 2).unwrap();
        assert!(
            Mahalanobis::fit(line.view(), &[0, 0, 1], 2, 0.0).unwrap_err().to_string().contains("singular")
        );
        assert!(Mahalanobis::fit(line.view(), &[0, 0, 1], 2, 0.1).is_ok());
        assert!(Mahalanobis::fit(line.view(), &[0, 0, 2], 2, 0.1).is_err());
        assert!(m.scores(Matrix::new(vec![0.0; 3], 1, 3).unwrap().view()).is_err());
    }

    #[test]
    fn what_lies_elsewhere_is_told() {
        let mut r = Key::new(1).rng();
        let mut cloud = |n: usize, shift: f32| {
            Matrix::new((0..n * 6).map(|i| r.normal() + if i % 6 == 0 { shift } else { 0.0 }).collect(), n, 6)
                .unwrap()
        };
        let (train, near, far) = (cloud(300, 8.0), cloud(100, 8.0), cloud(100, -8.0));
        let scores = |x: &Matrix| knn_scores(train.view(), x.view(), 5).unwrap();
        let found = detection(&scores(&near), &scores(&far)).unwrap();
        assert_eq!(found, Detection { auroc: 1.0, fpr95: 0.0 });
        let chance = detection(&[1.0; 20], &[1.0; 10]).unwrap();
        assert_eq!(chance, Detection { auroc: 0.5, fpr95: 1.0 });
        assert!(detection(&[], &[1.0]).is_err() && detection(&[f64::NAN], &[1.0]).is_err());
        assert!(knn_scores(train.view(), near.view(), 301).is_err());
    }
}
