//! Multinomial logistic regression to convergence: L-BFGS (Nocedal 1980; Liu and Nocedal 1989),
//! preconditioned.
//!
//! Minimised is `F(W, b) = 1/n sum_i nll(x_i W + b, y_i) + |W|^2 / (2 C n)`: scikit-learn's objective `C sum
//! nll + |W|^2 / 2` divided by `C n`, so that its tolerance (on the largest entry of the gradient) means the
//! same here.
//!
//! The Hessian of the softmax is at most `1/2 I (x) X^T X / n` (Boehning and Lindsay 1988), so `M = a X^T X /
//! n + I / (C n)` captures how badly conditioned the features are. With `M^-1` as the initial inverse Hessian
//! of the two-loop recursion, correlated features (raw pixels) take tens of iterations instead of hundreds.

use crate::math::{axpy, cholesky, cross, dot, invert_lower};
use crate::product::{View, multiply};
use rayon::prelude::*;
use selfsup_core::Result;

/// Rows of a parallel task.
const TASK: usize = 1024;
/// Rows that pass through both products while they are in cache.
const ROWS: usize = 128;
/// Pairs that L-BFGS remembers.
const MEMORY: usize = 10;
/// Widest features that get the full preconditioner: its factorisation takes `d^3` flops and `d^2` doubles.
const WIDEST: usize = 2560;

/// The data of a fit: standardised features `(n, d)` and labels.
#[derive(Clone, Copy)]
pub(super) struct Problem<'a> {
    pub(super) x: &'a [f32],
    pub(super) d: usize,
    pub(super) labels: &'a [u32],
    pub(super) classes: usize,
    /// Inverse strength of the penalty.
    pub(super) c: f64,
}

/// Parameters and how the fit ended.
#[derive(Clone, Debug)]
pub(super) struct Solution {
    /// `(d + 1, classes)`: weights, then the row of intercepts.
    pub(super) w: Vec<f64>,
    pub(super) iterations: usize,
    pub(super) evaluations: usize,
    /// `F`, not scikit-learn's multiple of it.
    pub(super) value: f64,
    /// Largest entry of the gradient of `F`.
    pub(super) gradient: f64,
}

impl Problem<'_> {
    fn n(&self) -> usize {
        self.labels.len()
    }

    /// `F` and its gradient at `w`.
    pub(super) fn evaluate(&self, w: &[f64]) -> Result<(f64, Vec<f64>)> {
        let (n, d, k) = (self.n(), self.d, self.classes);
        let narrow: Vec<f32> = w.iter().map(|v| *v as f32).collect();
        let parts: Vec<(f64, Vec<f64>)> = self
            .labels
            .par_chunks(TASK)
            .enumerate()
            .map(|(task, labels)| {
                let x = &self.x[task * TASK * d..];
                let mut z = vec![0f32; ROWS * k];
                let mut loss = 0f64;
                let mut g = vec![0f32; d * k];
                let mut bias = vec![0f64; k];
                for (block, labels) in labels.chunks(ROWS).enumerate() {
                    let x = View::rows(&x[block * ROWS * d..], labels.len(), d, d);
                    multiply(&mut z, k, x, View::rows(&narrow, d, k, k), None)?;
                    for (z, &y) in z.chunks_exact_mut(k).zip(labels) {
                        loss += residual(z, &narrow[d * k..], y as usize);
                        bias.iter_mut().zip(z.iter()).for_each(|(b, r)| *b += f64::from(*r));
                    }
                    // (d, rows) x (rows, classes)
                    multiply(&mut g, k, x.t(), View::rows(&z, labels.len(), k, k), Some(1.0))?;
                }
                Ok((loss, g.into_iter().map(f64::from).chain(bias).collect()))
            })
            .collect::<Result<_>>()?;
        let (mut loss, mut grad) = (0f64, vec![0f64; (d + 1) * k]);
        for (part, g) in &parts {
            loss += part;
            axpy(&mut grad, 1.0, g);
        }
        let share = 1.0 / n as f64;
        let ridge = share / self.c;
        let weights = &w[..d * k];
        grad.iter_mut().for_each(|g| *g *= share);
        axpy(&mut grad[..d * k], ridge, weights);
        Ok((loss * share + 0.5 * ridge * dot(weights, weights), grad))
    }
}

/// Turns a row of logits (without intercepts) into `p - onehot(y)` and returns its negative log-likelihood.
pub(super) fn residual(z: &mut [f32], bias: &[f32], y: usize) -> f64 {
    z.iter_mut().zip(bias).for_each(|(z, b)| *z += b);
    let top = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let own = f64::from(z[y] - top);
    let mut sum = 0f64;
    for v in z.iter_mut() {
        let e = f64::from(*v - top).exp();
        sum += e;
        // Denormal numbers would slow the product down tenfold, and say nothing.
        *v = if e > 1e-25 { e as f32 } else { 0.0 };
    }
    let scale = (1.0 / sum) as f32;
    z.iter_mut().for_each(|v| *v *= scale);
    z[y] -= 1.0;
    sum.ln() - own
}

/// `X^T X / n` of `(n, d)` features, if they are narrow enough for a preconditioner.
pub(super) fn gram(x: &[f32], d: usize) -> Result<Option<Vec<f64>>> {
    if d > WIDEST {
        return Ok(None);
    }
    let n = x.len() / d;
    let mut sum = vec![0f32; d * d];
    sum.par_chunks_mut(64 * d).enumerate().try_for_each(|(i, out)| {
        let rows = out.len() / d;
        multiply(out, d, View::rows(&x[i * 64..], n, rows, d).t(), View::rows(x, n, d, d), None)
    })?;
    Ok(Some(sum.into_iter().map(|v| f64::from(v) / n as f64).collect()))
}

/// `M^-1 = L^-T L^-1`, held as `L^-1`.
pub(super) struct Preconditioner {
    /// `(d, d)` lower triangular, or empty for a multiple of the identity.
    inverse: Vec<f32>,
    d: usize,
    weight: f64,
    bias: f64,
}

impl Preconditioner {
    /// For `n` samples with this Gram matrix, and `c`.
    pub(super) fn new(gram: Option<&[f64]>, d: usize, n: usize, classes: usize, c: f64) -> Result<Self> {
        // At W = 0 the softmax has curvature 1/K (I - 11^T / K); at the optimum less. L-BFGS scales the whole
        // by what it sees.
        let a = 1.0 / classes as f64;
        let ridge = 1.0 / (c * n as f64);
        let mut inverse = Vec::new();
        if let Some(gram) = gram {
            let mut m: Vec<f64> = gram.iter().map(|v| a * v).collect();
            // f32 sums leave errors of about 1e-6 of the largest entry.
            let floor = ridge.max(1e-6 * (0..d).map(|i| m[i * d + i]).fold(0.0, f64::max));
            (0..d).for_each(|i| m[i * d + i] += floor);
            if cholesky(&mut m, d)? {
                inverse = invert_lower(&m, d)?.into_iter().map(|v| v as f32).collect();
            }
        }
        Ok(Preconditioner { inverse, d, weight: 1.0 / (a + ridge), bias: 1.0 / a })
    }

    /// `M^-1 g` for a gradient `(d + 1, classes)`.
    fn apply(&self, g: &[f64], classes: usize) -> Result<Vec<f64>> {
        let split = self.d * classes;
        let bias = g[split..].iter().map(|v| v * self.bias);
        if self.inverse.is_empty() {
            return Ok(g[..split].iter().map(|v| v * self.weight).chain(bias).collect());
        }
        let (d, k) = (self.d, classes);
        let narrow: Vec<f32> = g[..split].iter().map(|v| *v as f32).collect();
        let (mut half, mut out) = (vec![0f32; split], vec![0f32; split]);
        let l = View::rows(&self.inverse, d, d, d);
        multiply(&mut half, k, l, View::rows(&narrow, d, k, k), None)?;
        multiply(&mut out, k, l.t(), View::rows(&half, d, k, k), None)?;
        Ok(out.into_iter().map(f64::from).chain(bias).collect())
    }
}

/// Runs L-BFGS from `start` until the largest entry of the gradient is at most `tolerance`, or for `most`
/// iterations.
pub(super) fn solve(
    problem: &Problem<'_>,
    m: &Preconditioner,
    start: Vec<f64>,
    tolerance: f64,
    most: usize,
) -> Result<Solution> {
    let k = problem.classes;
    let mut w = start;
    let (mut value, mut grad) = problem.evaluate(&w)?;
    let mut pairs: Vec<Pair> = Vec::new();
    let (mut iterations, mut evaluations) = (0, 1);
    let size = |g: &[f64]| g.iter().fold(0f64, |m, v| m.max(v.abs()));
    while size(&grad) > tolerance && iterations < most {
        let mut direction = two_loop(&grad, &pairs, m, k)?;
        let mut slope = dot(&direction, &grad);
        if slope.is_nan() || slope >= 0.0 {
            // Rounding has corrupted the memory: start again from the preconditioned gradient.
            pairs.clear();
            direction = two_loop(&grad, &pairs, m, k)?;
            slope = dot(&direction, &grad);
        }
        let mut step = 1.0;
        let mut accepted = None;
        for _ in 0..30 {
            let mut next = w.clone();
            axpy(&mut next, step, &direction);
            let (v, g) = problem.evaluate(&next)?;
            evaluations += 1;
            let along = dot(&g, &direction);
            // Armijo; close to the optimum differences of F drown in rounding (f32 logits), so there the
            // slope decides (Hager and Zhang 2005, the approximate Wolfe condition).
            if v <= value + 1e-4 * step * slope || (v <= value + 1e-7 * value.abs() && along <= -0.8 * slope)
            {
                accepted = Some((next, v, g));
                break;
            }
            // The parabola through F, its slope and the new value.
            let fit = -0.5 * slope * step * step / (v - value - slope * step);
            step = if fit.is_finite() { fit.clamp(0.1 * step, 0.5 * step) } else { 0.1 * step };
        }
        let Some((next, v, g)) = accepted else {
            if pairs.is_empty() {
                break;
            }
            pairs.clear();
            iterations += 1;
            continue;
        };
        let s: Vec<f64> = next.iter().zip(&w).map(|(a, b)| a - b).collect();
        let y: Vec<f64> = g.iter().zip(&grad).map(|(a, b)| a - b).collect();
        let sy = dot(&s, &y);
        if sy > 1e-12 * (dot(&s, &s) * dot(&y, &y)).sqrt() {
            let scaled = m.apply(&y, k)?;
            let gamma = sy / dot(&y, &scaled);
            if pairs.len() == MEMORY {
                pairs.remove(0);
            }
            pairs.push(Pair { s, y, sy, gamma });
        }
        (w, value, grad) = (next, v, g);
        iterations += 1;
    }
    let gradient = size(&grad);
    Ok(Solution { w, iterations, evaluations, value, gradient })
}

/// A step, the change of the gradient along it, their product, and the scale of `M^-1` that fits them.
struct Pair {
    s: Vec<f64>,
    y: Vec<f64>,
    sy: f64,
    gamma: f64,
}

/// `-H g`, where `H` is the inverse Hessian that the pairs and the preconditioner describe.
fn two_loop(grad: &[f64], pairs: &[Pair], m: &Preconditioner, classes: usize) -> Result<Vec<f64>> {
    let mut q = grad.to_vec();
    let mut alphas = Vec::with_capacity(pairs.len());
    for p in pairs.iter().rev() {
        let alpha = dot(&p.s, &q) / p.sy;
        axpy(&mut q, -alpha, &p.y);
        alphas.push(alpha);
    }
    let mut r = m.apply(&q, classes)?;
    let gamma = pairs.last().map_or(1.0, |p| p.gamma);
    r.iter_mut().for_each(|v| *v *= gamma);
    for (p, alpha) in pairs.iter().zip(alphas.iter().rev()) {
        let beta = dot(&p.y, &r) / p.sy;
        axpy(&mut r, alpha - beta, &p.s);
    }
    r.iter_mut().for_each(|v| *v = -*v);
    Ok(r)
}

/// Fewer samples than dimensions: the same problem in the span of the samples. The penalty does not see
/// rotations, so with `X = Z Q^T` (`Q` orthonormal) the optimum is `W = Q U`, where `U` is the optimum for
/// `Z`, which is only `(n, rank)`.
pub(super) struct Span {
    /// `(n, rank)`.
    pub(super) z: Vec<f32>,
    pub(super) rank: usize,
    /// `(rank, rank)` lower triangular: rows of `z` at the pivots, in f64.
    corner: Vec<f64>,
    pivots: Vec<usize>,
}

impl Span {
    /// The span of `(n, d)` features, or nothing if it would not be much smaller.
    pub(super) fn new(x: &[f32], d: usize) -> Result<Option<Self>> {
        let n = x.len() / d;
        if 4 * n > 3 * d || n > 4096 {
            return Ok(None);
        }
        let wide: Vec<f64> = x.iter().map(|v| f64::from(*v)).collect();
        let (gram, _) = crate::math::small_gram(&wide, d)?;
        let (rows, pivots) = crate::math::pivoted_cholesky(&gram, n, 1e-10);
        let rank = pivots.len();
        if rank == 0 {
            return Ok(None);
        }
        let corner = pivots.iter().flat_map(|&p| rows[p * rank..(p + 1) * rank].iter().copied()).collect();
        Ok(Some(Span { z: rows.into_iter().map(|v| v as f32).collect(), rank, corner, pivots }))
    }

    /// `(rank + 1, classes)` parameters for `z` as `(d + 1, classes)` parameters for `x`.
    pub(super) fn lift(&self, u: &[f64], x: &[f32], d: usize, classes: usize) -> Result<Vec<f64>> {
        let (r, k) = (self.rank, classes);
        // X_pivots = Z_pivots Q^T, so W = Q U = X_pivots^T Z_pivots^-T U: substitution from the last row up.
        let mut t = u[..r * k].to_vec();
        for i in (0..r).rev() {
            let (above, row) = t.split_at_mut(i * k);
            let row = &mut row[..k];
            row.iter_mut().for_each(|v| *v /= self.corner[i * r + i]);
            for (j, above) in above.chunks_exact_mut(k).enumerate() {
                axpy(above, -self.corner[i * r + j], row);
            }
        }
        let chosen: Vec<f64> =
            self.pivots.iter().flat_map(|&p| x[p * d..(p + 1) * d].iter().map(|v| f64::from(*v))).collect();
        let mut w = cross(&chosen, d, &t, k)?;
        w.extend_from_slice(&u[r * k..]);
        Ok(w)
    }
}
