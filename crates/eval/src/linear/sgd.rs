//! The usual SGD probe: softmax regression with momentum and a cosine schedule on fixed features, no
//! augmentation.

use super::fit::FitReport;
use crate::product::{View, multiply};
use selfsup_core::{Error, Key, Result};

/// Settings of the SGD probe.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SgdConfig {
    /// Passes over the data. Default 100.
    pub epochs: usize,
    /// Samples of a step. Default 256.
    pub batch: usize,
    /// Learning rate at the start; it falls to 0 along a half cosine. Default 0.1 (features are
    /// standardised).
    pub learning_rate: f64,
    /// Momentum. Default 0.9.
    pub momentum: f64,
    /// Weight decay, added to the gradient of the weights (not the intercepts). Default 0.
    pub weight_decay: f64,
}

impl Default for SgdConfig {
    fn default() -> Self {
        SgdConfig { epochs: 100, batch: 256, learning_rate: 0.1, momentum: 0.9, weight_decay: 0.0 }
    }
}

impl SgdConfig {
    fn check(&self) -> Result<()> {
        let good = self.batch > 0
            && self.learning_rate.is_finite()
            && self.learning_rate > 0.0
            && (0.0..1.0).contains(&self.momentum)
            && self.weight_decay.is_finite()
            && self.weight_decay >= 0.0;
        let expected =
            "a positive batch and learning rate, momentum in [0, 1) and weight decay of at least 0";
        if good { Ok(()) } else { Err(Error::input("SGD probe", format!("{self:?}, expected {expected}"))) }
    }
}

/// Parameters `(d + 1, classes)` for standardised features.
pub(super) fn train(
    x: &[f32],
    d: usize,
    labels: &[u32],
    classes: usize,
    config: &SgdConfig,
    key: Key,
) -> Result<(Vec<f64>, FitReport)> {
    config.check()?;
    let (n, k) = (labels.len(), classes);
    let steps = config.epochs * n.div_ceil(config.batch);
    let (mut w, mut velocity) = (vec![0f32; (d + 1) * k], vec![0f32; (d + 1) * k]);
    let (mut step, mut mean) = (0usize, 0f64);
    let batch = config.batch.min(n);
    let (mut rows, mut z, mut g) = (vec![0f32; batch * d], vec![0f32; batch * k], vec![0f32; (d + 1) * k]);
    for epoch in 0..config.epochs {
        let order = key.fold(epoch as u64).rng().permutation(n);
        let mut total = 0f64;
        for chosen in order.chunks(batch) {
            for (row, &i) in rows.chunks_exact_mut(d).zip(chosen) {
                row.copy_from_slice(&x[i * d..(i + 1) * d]);
            }
            let view = View::rows(&rows, chosen.len(), d, d);
            multiply(&mut z, k, view, View::rows(&w, d, k, k), None)?;
            let share = 1.0 / chosen.len() as f32;
            g[d * k..].fill(0.0);
            for (z, &i) in z.chunks_exact_mut(k).zip(chosen) {
                total += super::solver::residual(z, &w[d * k..], labels[i] as usize);
                g[d * k..].iter_mut().zip(z.iter()).for_each(|(g, r)| *g += r * share);
            }
            multiply(&mut g, k, view.t(), View::rows(&z, chosen.len(), k, k), None)?;
            let rate = 0.5
                * config.learning_rate
                * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos());
            let (rate, momentum, decay) = (rate as f32, config.momentum as f32, config.weight_decay as f32);
            for (i, ((w, v), g)) in w.iter_mut().zip(&mut velocity).zip(&g).enumerate() {
                // The product above is a sum over the batch; the intercepts' part already is a mean.
                let g = if i < d * k { g * share + decay * *w } else { *g };
                *v = momentum * *v + g;
                *w -= rate * *v;
            }
            step += 1;
        }
        mean = total / n as f64;
        if !mean.is_finite() {
            return Err(Error::input(
                "SGD probe",
                format!("the loss is {mean} after epoch {epoch}: lower the learning rate"),
            ));
        }
    }
    let report = FitReport {
        c: 0.0,
        iterations: step,
        evaluations: step,
        objective: mean,
        gradient: 0.0,
        converged: true,
    };
    Ok((w.into_iter().map(f64::from).collect(), report))
}
