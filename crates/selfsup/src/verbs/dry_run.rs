//! `selfsup pretrain --dry-run`: one batch, and what a step takes.

use crate::config::{Keys, PretrainConfig};
use crate::modality::{Modality, Training};
use crate::say::say;
use crate::set::Sets;
use candle_core::Device;
use selfsup_core::data::Source;
use selfsup_core::objective::{Batch, Objective};
use selfsup_core::run::time_text;
use selfsup_core::trainer::gradients;
use selfsup_core::{Error, Pass, Progress, Result, Role};
use serde_json::json;
use std::time::Instant;

/// One batch: shapes, parameters, memory, and what the method sees of the samples.
pub(super) fn dry_run<M: Modality>(
    modality: &M,
    config: &PretrainConfig<M::Keys>,
    sets: &Sets,
    loader: &dyn Source<M::Batch>,
    method: &(impl Objective<Batch = M::Batch> + ?Sized),
    device: &Device,
) -> Result<()> {
    let batch = match loader.epoch_from(0, 0)?.next() {
        Some(batch) => batch?.batch,
        None => return Err(Error::input("data", "not a single batch can be made from it")),
    };
    say!(
        "{}: {} to train on, {} held out, {} to test on",
        M::Keys::KIND.samples(),
        sets.train.len(),
        sets.held_out.as_ref().map_or(0, |d| d.len()),
        sets.test.as_ref().map_or(0, |d| d.len())
    );
    say!(
        "classes: {}",
        if sets.train.classes().is_empty() { "none".into() } else { sets.train.classes().join(", ") }
    );
    for line in modality.preview(&batch, &sets.train)? {
        say!("{line}");
    }
    for (role, what) in [
        (Role::Trained, "trained"),
        (Role::Teacher, "teacher"),
        (Role::Frozen, "frozen"),
        (Role::Buffer, "buffers"),
    ] {
        let count = method.params().count(role);
        if count > 0 {
            say!("{what}: {:.3} M values, {:.1} MB", count as f64 / 1e6, count as f64 * 4e-6);
        }
    }
    if let Training::Plan(plan) = modality.training() {
        let stages = plan.stages(&config.train, loader.batches() as u64);
        say!("in all: {stages}");
        crate::say::result(&json!({ "dry_run": true, "train": sets.train.len(), "stages": stages }));
        say!(
            "no run was made; the method makes its targets first, so no step is shown; leave out --dry-run to train"
        );
        return Ok(());
    }
    let pass = Pass::train(config.train.seed, Progress { step: 0, total_steps: 1, epoch: 0 });
    let batch = batch.to_device(device)?;
    let step = || gradients(method, &batch, config.train.micro_batch_size, &pass);
    // The first step asks for the memory that the later ones reuse.
    drop(step()?);
    let started = Instant::now();
    let made = step()?;
    let seconds = started.elapsed().as_secs_f64();
    let steps = config.train.total_steps(loader.batches() as u64);
    say!("one step: {seconds:.2} s, loss {:.4}, gradient norm {:.4}", made.loss, made.grads.norm()?);
    say!("in all: {steps} steps, about {} without the evaluation", time_text(seconds * steps as f64));
    for gauge in method.gauges(&made.embeddings, &pass.calm())? {
        say!("{}: {:.4}", gauge.name, gauge.value);
    }
    let peak = peak_memory_mb();
    if let Some(mb) = peak {
        say!("peak memory: {mb} MB");
    }
    crate::say::result(&json!({
        "dry_run": true, "train": sets.train.len(), "steps": steps, "seconds_per_step": seconds,
        "seconds": seconds * steps as f64, "loss": made.loss, "peak_memory_mb": peak,
    }));
    say!("no run was made; leave out --dry-run to train");
    Ok(())
}

fn peak_memory_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}
