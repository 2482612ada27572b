//! Time of the exact top-20 of 10,000 queries over 50,000 keys of 512 dimensions: 512 GFLOP and the
//! selection.
//!
//! `cargo bench -p selfsup-eval --bench knn_speed [QUERIES KEYS DIMENSIONS K]` prints one line of
//! JSON.
#![allow(clippy::print_stdout)]

use selfsup_eval::knn::top_k;
use selfsup_eval::{Error, Key, Matrix, Result};
use std::time::Instant;

fn main() -> Result<()> {
    let mut sizes = [10_000usize, 50_000, 512, 20];
    for (size, arg) in sizes.iter_mut().zip(std::env::args().skip(1).filter(|a| a != "--bench")) {
        *size = arg.parse().map_err(|e| Error::input(&arg, format!("{e}, expected a whole number")))?;
    }
    let [queries, keys, d, k] = sizes;
    let matrix = |name: &str, n: usize| {
        let key = Key::new(0).named(name);
        // Uniform numbers: the time does not depend on the distribution, and they are quick to make.
        let mut v: Vec<f32> = (0..(n * d) as u64).map(|i| key.uniform_at(i) - 0.5).collect();
        for row in v.chunks_exact_mut(d.max(1)) {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter_mut().for_each(|x| *x /= norm);
        }
        Matrix::new(v, n, d)
    };
    let (q, x) = (matrix("queries", queries)?, matrix("keys", keys)?);
    let mut times = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        let near = top_k(q.view(), x.view(), k)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        std::hint::black_box(near);
    }
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    let gflops = 2e-9 * (queries * keys * d) as f64 / (median * 1e-3);
    println!(
        "{{\"case\": \"knn_k{k}_{queries}_queries_{keys}_keys_d{d}\", \"ms\": {median:.0}, \"fastest_ms\": {:.0}, \"gflops\": {gflops:.0}}}",
        times[0]
    );
    Ok(())
}
