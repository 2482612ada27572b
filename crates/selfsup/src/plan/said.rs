//! What a plan says: its lines, its estimate, and what a run took beside it.

use super::found::{Asked, Found};
use super::keys::looks;
use super::{budget, machine};
use crate::config::{Keys, PretrainConfig};
use crate::modality::Modality;
use std::time::Instant;

/// What a run will take.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// Seconds from the start of the plan to the end of the report.
    pub seconds: f64,
    /// The most bytes that the process holds, where the system tells.
    pub bytes: Option<f64>,
    /// When the plan began.
    pub started: Instant,
}

/// Bytes in words.
pub(super) fn gigabytes(bytes: u64) -> String {
    let bytes = bytes as f64;
    if bytes < 1e9 { format!("{:.0} MB", bytes / 1e6) } else { format!("{:.1} GB", bytes / 1e9) }
}

impl Estimate {
    pub(super) fn of<M: Modality>(
        found: &Found<M>,
        config: &PretrainConfig<M::Keys>,
        started: Instant,
    ) -> Self {
        let (choice, cost) = (&found.choice, &found.cost);
        // Parameters and two moments, at what a disk surely writes.
        let checkpoint = 0.05 + cost.trained as f64 * 12.0 / 300e6;
        let looks = if config.train.eval_every == 0 {
            0
        } else {
            (choice.epochs() / config.train.eval_every.max(1)).max(1)
        };
        let writes = match config.train.checkpoint_every {
            0 => choice.epochs(),
            every => choice.steps / every,
        };
        let on_the_way = looks as f64 * found.looks[0] + writes.max(looks) as f64 * checkpoint;
        let training = choice.steps as f64 * choice.step * found.trainings;
        let spent = started.elapsed().as_secs_f64();
        let at_once = if choice.micro > 0 { choice.micro } else { choice.batch };
        let measured = found.rehearsal.and_then(|r| r.bytes);
        Estimate {
            seconds: spent + found.between + training + on_the_way + found.looks[1],
            bytes: measured.or(cost.bytes.map(|b| b.fixed + b.each * at_once as f64)),
            started,
        }
    }
}

/// What a larger recipe would take, in words.
pub(super) fn instead<M: Modality>(found: &Found<M>) -> String {
    let (choice, keys) = (&found.choice, &found.config.keys);
    let epoch = choice.step * choice.per_epoch as f64;
    format!("{} would take {} an epoch", keys.outline(), budget::shown(epoch))
}

/// The plan in a few lines.
pub(super) fn lines<M: Modality>(
    found: &Found<M>,
    config: &PretrainConfig<M::Keys>,
    estimate: &Estimate,
    asked: &Asked,
) -> Vec<String> {
    let (choice, kind) = (&found.choice, M::Keys::KIND.samples());
    let free = machine::memory_free().map_or("unknown".into(), gigabytes);
    let data = if asked.seen.data.is_empty() { String::new() } else { format!(" ({})", asked.seen.data) };
    let mut out = vec![
        format!(
            "plan for {} {kind} to train on{data}; {} cores, {free} of memory free",
            found.sets.train.len(),
            machine::cores()
        ),
        format!(
            "  {} with {}{}",
            config.keys.outline(),
            config.keys.method(),
            found.instead.as_ref().map_or(String::new(), |i| format!(" ({i})"))
        ),
    ];
    let parts = match choice.micro {
        0 => String::new(),
        micro => format!(" in parts of {micro}, for memory"),
    };
    out.push(format!(
        "  batches of {}{parts} of {} samples, learning rate {}",
        choice.batch, found.cost.samples, config.optim.lr
    ));
    let each = choice.step;
    let step = if each < 1.0 { format!("{:.0} ms", each * 1e3) } else { format!("{each:.1} s") };
    let looks = looks(found);
    let length = match config.train.steps {
        0 => format!("{} epochs of {} steps", config.train.epochs, choice.per_epoch),
        steps => format!("{steps} steps ({} an epoch)", choice.per_epoch),
    };
    out.push(format!("  {length} of {step}, looked at {looks} times"));
    let memory = estimate.bytes.map_or("an unknown amount".into(), |b| gigabytes(b as u64));
    let whole = if asked.timed { format!(" of {}", budget::shown(asked.seconds)) } else { String::new() };
    out.push(format!("  takes about {}{whole} and {memory} of memory", budget::shown(estimate.seconds)));
    out
}

/// What a run took, beside what was planned.
pub fn taken(estimate: &Estimate) -> String {
    let seconds = estimate.started.elapsed().as_secs_f64();
    let time = format!("took {} (planned {})", budget::shown(seconds), budget::shown(estimate.seconds));
    match (machine::held(), estimate.bytes) {
        (Some((_, most)), Some(planned)) => {
            format!("{time}, {} of memory (planned {})", gigabytes(most), gigabytes(planned as u64))
        }
        _ => time,
    }
}
