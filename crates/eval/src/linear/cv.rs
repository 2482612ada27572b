//! `C` by stratified cross-validation inside the labels, as scikit-learn's `LogisticRegressionCV` does.

use super::fit::{check_c, logits};
use super::solver::{Preconditioner, Problem, solve};
use rayon::prelude::*;
use selfsup_core::{Error, Key, Result};

/// Settings of the cross-validation.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CvConfig {
    /// Number of folds. Default 5.
    pub folds: usize,
    /// Values of `C` that are tried. Default 1e-4 to 1e2 in decades.
    pub grid: Vec<f64>,
    /// Tolerance of the fits (see [`super::LogisticConfig::tolerance`]). Default 1e-3: on raw pixels 1e-4
    /// took twice the time, chose nearly the same `C` and gave the same accuracy.
    pub tolerance: f64,
    /// Most iterations of a fit. Default 200.
    pub max_iterations: usize,
}

impl Default for CvConfig {
    fn default() -> Self {
        CvConfig {
            folds: 5,
            grid: vec![1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2],
            tolerance: 1e-3,
            max_iterations: 200,
        }
    }
}

/// The scores of the cross-validation.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CvReport {
    /// The chosen `C`: most held-out samples right; among equals the lowest held-out loss, then the smallest
    /// `C`.
    pub c: f64,
    /// `(C, share of held-out samples that were right, mean held-out negative log-likelihood)`, by rising
    /// `C`.
    pub tried: Vec<(f64, f64, f64)>,
}

/// The fold of each sample: the samples of a class, shuffled, are dealt out in turn, and the next class goes
/// on where the last one stopped.
pub(super) fn folds(labels: &[u32], classes: usize, folds: usize, key: Key) -> Vec<usize> {
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); classes];
    for (i, &y) in labels.iter().enumerate() {
        members[y as usize].push(i);
    }
    let mut fold = vec![0; labels.len()];
    let mut next = 0;
    for (class, members) in members.iter_mut().enumerate() {
        key.fold(class as u64).rng().shuffle(members);
        for &i in members.iter() {
            fold[i] = next % folds;
            next += 1;
        }
    }
    fold
}

/// Tries the grid on `(n, d)` standardised features with this Gram matrix.
pub(super) fn choose(
    x: &[f32],
    d: usize,
    gram: Option<&[f64]>,
    labels: &[u32],
    classes: usize,
    cv: &CvConfig,
    key: Key,
) -> Result<CvReport> {
    let n = labels.len();
    if cv.folds < 2 || cv.folds > n {
        return Err(Error::input(
            "cross-validation",
            format!("{} folds for {n} samples, expected 2 to {n}", cv.folds),
        ));
    }
    if cv.grid.is_empty() {
        return Err(Error::input("cross-validation", "the grid of C is empty"));
    }
    cv.grid.iter().try_for_each(|&c| check_c(c))?;
    let mut grid = cv.grid.clone();
    grid.sort_by(f64::total_cmp);
    grid.dedup();
    let share = n * (cv.folds - 1) / cv.folds;
    let preconditioners: Vec<Preconditioner> = grid
        .par_iter()
        .map(|&c| Preconditioner::new(gram, d, share.max(1), classes, c))
        .collect::<Result<_>>()?;
    let fold = folds(labels, classes, cv.folds, key);
    // Per fold and C: samples right, sum of losses.
    let seen: Vec<Vec<(usize, f64)>> = (0..cv.folds)
        .into_par_iter()
        .map(|held| {
            let pick = |inside: bool| -> (Vec<f32>, Vec<u32>) {
                let rows = (0..n).filter(|&i| (fold[i] == held) == inside);
                let y = rows.clone().map(|i| labels[i]).collect();
                (rows.flat_map(|i| x[i * d..(i + 1) * d].iter().copied()).collect(), y)
            };
            let (train, y) = pick(false);
            let (test, truth) = pick(true);
            // Each C starts from the last one's optimum: the path is shorter than seven fits from zero.
            let mut w = vec![0f64; (d + 1) * classes];
            let mut out = Vec::with_capacity(grid.len());
            for (&c, m) in grid.iter().zip(&preconditioners) {
                let problem = Problem { x: &train, d, labels: &y, classes, c };
                w = solve(&problem, m, w, cv.tolerance, cv.max_iterations)?.w;
                let narrow: Vec<f32> = w.iter().map(|v| *v as f32).collect();
                let z = logits(&test, d, &narrow, classes)?;
                let (mut right, mut loss) = (0, 0f64);
                for (z, &y) in z.chunks_exact(classes).zip(&truth) {
                    right += usize::from(crate::math::argmax(z) == y as usize);
                    let top = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    loss += z.iter().map(|v| f64::from(v - top).exp()).sum::<f64>().ln()
                        - f64::from(z[y as usize] - top);
                }
                out.push((right, loss));
            }
            Ok(out)
        })
        .collect::<Result<_>>()?;
    let mut best: Option<(usize, f64, f64)> = None;
    let mut tried = Vec::with_capacity(grid.len());
    for (i, &c) in grid.iter().enumerate() {
        let right: usize = seen.iter().map(|s| s[i].0).sum();
        let loss: f64 = seen.iter().map(|s| s[i].1).sum();
        tried.push((c, right as f64 / n as f64, loss / n as f64));
        if best.is_none_or(|(r, l, _)| right > r || (right == r && loss < l)) {
            best = Some((right, loss, c));
        }
    }
    Ok(CvReport { c: best.map_or(grid[0], |b| b.2), tried })
}
