//! Time of the whole probe report at the size of the bundled image recipe: 10,000 training and 10,000 test
//! samples, features of 128, 128 and 784 dimensions, 10 classes, 10 draws of 100 and 1,000 labels.
//!
//! `cargo bench -p selfsup-eval --bench probe_speed [SAMPLES]`
#![allow(clippy::print_stdout)]

use selfsup_eval::{Error, EvalInput, FeatureSet, Key, Matrix, Result, evaluate};
use std::time::Instant;

/// Classes overlap, and features are correlated as pixels and pooled features are: the spectrum falls like 1
/// / i.
fn features(labels: &[u32], d: usize, noise: f32, key: Key) -> Result<Matrix> {
    let rank = d.min(96);
    let mut r = Key::new(7).named("mix").fold(d as u64).rng();
    let mix: Vec<f32> = (0..rank * d).map(|i| r.normal() * 4.0 / (1 + i / d) as f32).collect();
    let means: Vec<f32> = (0..10 * rank).map(|_| r.normal()).collect();
    let mut data = vec![0f32; labels.len() * d];
    for (i, (row, &y)) in data.chunks_exact_mut(d).zip(labels).enumerate() {
        let mut r = key.fold(i as u64).rng();
        for l in 0..rank {
            let z = 0.35 * means[y as usize * rank + l] + noise * r.normal();
            row.iter_mut().zip(&mix[l * d..(l + 1) * d]).for_each(|(v, m)| *v += z * m);
        }
        row.iter_mut().for_each(|v| *v = (*v + 0.1 * r.normal()).max(-1.0));
    }
    Matrix::new(data, labels.len(), d)
}

fn main() -> Result<()> {
    let n = match std::env::args().nth(1).filter(|a| a != "--bench") {
        Some(arg) => arg.parse().map_err(|e| Error::input(&arg, format!("{e}, expected a whole number")))?,
        None => 10_000usize,
    };
    let labels = |seed: u64| -> Vec<u32> {
        let mut r = Key::new(seed).rng();
        (0..n).map(|_| r.below(10) as u32).collect()
    };
    let (y, z) = (labels(1), labels(2));
    let make = |d, noise| -> Result<(Matrix, Matrix)> {
        Ok((features(&y, d, noise, Key::new(3))?, features(&z, d, noise, Key::new(4))?))
    };
    let (trained, random, raw) = (make(128, 1.0)?, make(128, 1.5)?, make(784, 1.2)?);
    let set = |name, pair: &'_ (Matrix, Matrix)| -> (&'static str, Matrix, Matrix) {
        (name, pair.0.clone(), pair.1.clone())
    };
    for part in [vec![set("trained", &trained)], vec![set("random", &random)], vec![set("raw", &raw)]] {
        let sets: Vec<FeatureSet<'_>> =
            part.iter().map(|(name, a, b)| FeatureSet { name, train: a.view(), test: b.view() }).collect();
        for few in [&[][..], &[100], &[1000]] {
            let start = Instant::now();
            let report = evaluate(&EvalInput { few, ..EvalInput::new(&sets, &y, &z, 10) })?;
            println!("few {few:?}: {:.2} s\n{report}\n{:?}", start.elapsed().as_secs_f64(), report.fit.0);
            for (_, few) in &report.linear_at.0 {
                println!("C {:?}", few.c.0);
            }
        }
    }
    Ok(())
}
