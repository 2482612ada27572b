//! Milliseconds of whole training steps of wav2vec 2.0 and HuBERT, as `cargo bench --bench steps` has them,
//! from this crate alone.
//!
//! `cargo bench -p selfsup-speech --bench recording_speed -- [STEPS]`
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

#[path = "../../../benches/steps/speech.rs"]
mod speech;

use selfsup_core::objective::Objective;
use selfsup_core::optim::{OptimConfig, OptimKind, Optimizer};
use selfsup_core::schedule::LrSchedule;
use selfsup_core::trainer::gradients;
use selfsup_core::{Pass, Progress};
use std::time::Instant;

pub type Step = Box<dyn FnMut()>;

pub fn adamw(lr: f64, weight_decay: f64) -> OptimConfig {
    OptimConfig {
        kind: OptimKind::Adamw,
        lr,
        weight_decay,
        schedule: LrSchedule::constant(),
        ..OptimConfig::default()
    }
}

pub fn training<O: Objective<Batch: 'static> + 'static>(
    objective: O,
    batch: O::Batch,
    optim: OptimConfig,
) -> Step {
    let mut optimizer = Optimizer::new(objective.params(), optim).unwrap();
    let mut n = 0;
    Box::new(move || {
        let progress = Progress { step: n, total_steps: 1000, epoch: 0 };
        let pass = Pass::train(0, progress);
        let made = gradients(&objective, &batch, 0, &pass).unwrap();
        optimizer.step(&made.grads, n, 1000).unwrap();
        objective.after_step(&made.embeddings, &progress, &pass.world).unwrap();
        n += 1;
    })
}

fn main() {
    let steps: usize = std::env::args().nth(1).and_then(|v| v.parse().ok()).unwrap_or(5);
    for (name, case) in [("wav2vec2", speech::wav2vec2 as fn() -> (usize, Step)), ("hubert", speech::hubert)]
    {
        let (_, mut step) = case();
        let mut times: Vec<f64> = (0..steps + 2)
            .map(|_| {
                let start = Instant::now();
                step();
                start.elapsed().as_secs_f64() * 1e3
            })
            .skip(2)
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{name}: {:.1} ms", times[times.len() / 2]);
    }
}
