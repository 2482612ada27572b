//! What the spectrum of the features says without labels: how evenly variance is spread (alpha-ReQ), and how
//! many directions tell samples apart more than their views differ (LiDAR).

use super::representation::entropy_rank;
use crate::data::Features;
use crate::math::{centered, cholesky, cross, eigenvalues, invert_lower};
use selfsup_core::{Error, Result};

/// The decay of the covariance's eigenvalues.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Decay {
    /// `alpha` of `lambda_i ~ i^-alpha`. About 1 in good representations: far above it few directions carry
    /// all, far below it variance is spread like noise.
    pub alpha: f64,
    /// Share of the variation of `ln lambda_i` that the straight line explains: where it is low, `alpha` says
    /// little.
    pub r2: f64,
    /// Eigenvalues of the covariance, largest first, `(d)`.
    pub eigenvalues: Vec<f64>,
}

/// alpha-ReQ (Agrawal et al. 2022, arXiv 2202.05808): the slope of `ln lambda_i` over `ln i` for the
/// eigenvalues `first..=last` (counted from 1) of the covariance of `z`, `(n, d)`. The first ten or so and the
/// tail of noise do not follow the law: leave them out.
///
/// # Errors
/// If fewer than two eigenvalues are in the range, or one of them is not positive.
pub fn alpha_req(z: Features<'_>, first: usize, last: usize) -> Result<Decay> {
    let (n, d) = (z.n(), z.d());
    if first == 0 || last <= first || last > d.min(n.saturating_sub(1)) {
        let most = d.min(n.saturating_sub(1));
        let problem = format!("eigenvalues {first} to {last}: expected at least two of 1 to {most}");
        return Err(Error::input("alpha-ReQ", problem));
    }
    let (x, _) = centered(z.as_slice(), d);
    let mut covariance = cross(&x, d, &x, d)?;
    covariance.iter_mut().for_each(|v| *v /= n as f64);
    let eigenvalues = eigenvalues(covariance, d);
    let range = &eigenvalues[first - 1..last];
    if let Some(i) = range.iter().position(|v| *v <= eigenvalues[0] * 1e-15 || *v <= 0.0) {
        let problem = format!("eigenvalue {} is zero: the features have fewer directions", first + i);
        return Err(Error::input("alpha-ReQ", problem));
    }
    let points: Vec<(f64, f64)> =
        range.iter().enumerate().map(|(i, v)| (((first + i) as f64).ln(), v.ln())).collect();
    let count = points.len() as f64;
    let (mx, my) = points.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / count, b + y / count));
    let (mut xx, mut xy, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in &points {
        xx += (x - mx).powi(2);
        xy += (x - mx) * (y - my);
        yy += (y - my).powi(2);
    }
    // A flat spectrum is a straight line.
    let r2 = if yy > 0.0 { xy * xy / (xx * yy) } else { 1.0 };
    Ok(Decay { alpha: -xy / xx, r2, eigenvalues })
}

/// The range of [`alpha_req`] for `d` eigenvalues of `n` samples where none is given: without the first ten
/// (or the first tenth, if that is less) and the last half.
pub fn alpha_range(n: usize, d: usize) -> (usize, usize) {
    let most = d.min(n.saturating_sub(1));
    (11.min(most / 10 + 1), most.div_ceil(2))
}

/// LiDAR (Thilak et al. 2023, arXiv 2312.04000): the effective rank of the covariance between samples measured
/// by the covariance within them, `S_w^-1/2 S_b S_w^-1/2`. `z` is `(samples * views, d)`: the `views` rows of
/// one sample follow each other. Between 1 and `min(samples - 1, d)`.
///
/// `S_w` gets `delta` on its diagonal (1e-4 in the paper); with fewer than `d` views in all beyond the samples
/// it is singular, and `delta` decides.
///
/// # Errors
/// If there are fewer than two views or samples, the rows are not a multiple of `views`, or all samples are
/// equal.
pub fn lidar(z: Features<'_>, views: usize, delta: f64) -> Result<f64> {
    let (n, d) = (z.n(), z.d());
    if views < 2 || !n.is_multiple_of(views) || n / views < 2 || delta.is_nan() || delta < 0.0 {
        let problem = format!(
            "{n} rows of {views} views each, delta {delta}: expected two or more samples of two or more views"
        );
        return Err(Error::input("LiDAR", problem));
    }
    let samples = n / views;
    let mut means = vec![0f64; samples * d];
    let mut within = Vec::with_capacity(n * d);
    for (mean, rows) in means.chunks_exact_mut(d).zip(z.as_slice().chunks_exact(views * d)) {
        for row in rows.chunks_exact(d) {
            mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v) / views as f64);
        }
        for row in rows.chunks_exact(d) {
            within.extend(row.iter().zip(&*mean).map(|(v, m)| f64::from(*v) - m));
        }
    }
    let mut centre = vec![0f64; d];
    for mean in means.chunks_exact(d) {
        centre.iter_mut().zip(mean).for_each(|(c, m)| *c += m / samples as f64);
    }
    means.chunks_exact_mut(d).for_each(|row| row.iter_mut().zip(&centre).for_each(|(v, c)| *v -= c));
    let mut inside = cross(&within, d, &within, d)?;
    inside.iter_mut().for_each(|v| *v /= n as f64);
    (0..d).for_each(|i| inside[i * d + i] += delta);
    if !cholesky(&mut inside, d)? {
        let problem = "the views vary in fewer directions than there are dimensions: expected delta above 0";
        return Err(Error::input("LiDAR", problem));
    }
    // With S_w = L L^T the eigenvalues are those of (L^-1 means^T)(L^-1 means^T)^T: a matrix similar to
    // S_w^-1/2 S_b S_w^-1/2.
    let inverse = invert_lower(&inside, d)?;
    let transposed: Vec<f64> = (0..d * d).map(|i| inverse[(i % d) * d + i / d]).collect();
    // (samples, d) x (d, d): rows are L^-1 mean.
    let rows = {
        let flat: Vec<f64> = (0..d * samples).map(|i| means[(i % samples) * d + i / samples]).collect();
        cross(&flat, samples, &transposed, d)?
    };
    let mut between = cross(&rows, d, &rows, d)?;
    between.iter_mut().for_each(|v| *v /= samples as f64);
    let spectrum: Vec<f64> = eigenvalues(between, d).into_iter().map(|v| v.max(0.0)).collect();
    entropy_rank(&spectrum, 1e-8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;
    use selfsup_core::Key;

    #[test]
    fn a_power_law_is_found_again() {
        // Rows ± s_i e_i: the covariance is diagonal with eigenvalues proportional to s_i^2 = i^-1.5.
        let d = 20usize;
        let mut data = Vec::new();
        for i in 1..=d {
            for sign in [1.0, -1.0] {
                data.extend((1..=d).map(|j| if i == j { sign * (i as f32).powf(-0.75) } else { 0.0 }));
            }
        }
        let z = Matrix::new(data, 2 * d, d).unwrap();
        let found = alpha_req(z.view(), 3, 18).unwrap();
        assert!((found.alpha - 1.5).abs() < 1e-5 && found.r2 > 1.0 - 1e-6, "{found:?}");
        assert!((found.eigenvalues[0] - 2.0 / 40.0).abs() < 1e-7);
        for (first, last) in [(0, 3), (3, 3), (1, 21)] {
            assert!(alpha_req(z.view(), first, last).is_err());
        }
        let flat =
            Matrix::new((0..60).map(|i| if i % 3 == 0 { i as f32 } else { 1.0 }).collect(), 20, 3).unwrap();
        assert!(alpha_req(flat.view(), 1, 3).unwrap_err().to_string().contains("eigenvalue 2"));
        assert_eq!((alpha_range(10_000, 512), alpha_range(10_000, 32)), ((11, 256), (4, 16)));
    }

    #[test]
    fn lidar_counts_directions_that_tell_samples_apart() {
        let (d, samples, views) = (6, 400, 5);
        let mut r = Key::new(3).rng();
        let mut of = |directions: usize, noise: f32| {
            let mut data = Vec::new();
            for _ in 0..samples {
                let own: Vec<f32> =
                    (0..d).map(|j| if j < directions { 5.0 * r.normal() } else { 0.0 }).collect();
                for _ in 0..views {
                    data.extend(own.iter().map(|v| v + noise * r.normal()));
                }
            }
            let z = Matrix::new(data, samples * views, d).unwrap();
            lidar(z.view(), views, 1e-4).unwrap()
        };
        assert!((of(6, 1.0) - 6.0).abs() < 0.1);
        let three = of(3, 1.0);
        assert!((three - 3.0).abs() < 0.3, "{three}");
        let z = Matrix::new(vec![1.0; 12], 6, 2).unwrap();
        assert!(lidar(z.view(), 3, 1e-4).is_err(), "all samples are equal");
        assert!(lidar(z.view(), 4, 1e-4).is_err() && lidar(z.view(), 1, 1e-4).is_err());
        assert!(lidar(z.view(), 2, 0.0).unwrap_err().to_string().contains("delta"));
    }
}
