//! What was chosen, as keys of a configuration.

use super::found::Found;
use super::machine;
use crate::config::{Keys, PretrainConfig};
use crate::modality::Modality;
use crate::recipe::{Given, Recipe, set};
use selfsup_core::optim::{OptimConfig, OptimKind};
use toml::{Table, Value};

/// Evaluations and checkpoints of a run.
pub(super) const LOOKS: u64 = 10;
/// Samples of each side that the kNN accuracy on the way is of, at least.
const FEWEST: u64 = 200;
/// Below this batch a learning rate stays as it is for this one.
const LEAST: usize = 32;

/// Keys that follow from the data and a batch.
pub(super) fn of_data<K: Keys>(
    given: &Given,
    recipe: &Recipe,
    config: &PretrainConfig<K>,
    batch: usize,
) -> Table {
    let mut table = recipe.keys.clone();
    if !given.any("optim.lr") {
        let (kind, usual) = (config.optim.kind, OptimConfig::of(config.optim.kind).lr);
        let of_256 = recipe.rate.filter(|_| kind == OptimKind::Adamw).unwrap_or(usual);
        let rate = config.keys.rate().at(of_256, batch.clamp(LEAST, 4096));
        if let Ok(kind) = Value::try_from(kind) {
            // The default of another kind would replace the section.
            set(&mut table, "optim.kind", kind);
            set(&mut table, "optim.lr", rounded(rate));
        }
    }
    let workers = machine::cores().min(8);
    set(&mut table, "train.workers", whole(workers as u64));
    table
}

/// Keys of a run that was measured; with `timed` also its length, and how often it looks and writes.
pub(super) fn of_run<M: Modality>(given: &Given, found: &Found<M>, timed: bool) -> Table {
    let (choice, config) = (&found.choice, &found.config);
    let mut table = of_data(given, &found.recipe, config, choice.batch);
    let mut put = |key: &str, value: u64| set(&mut table, key, whole(value));
    put("train.batch_size", choice.batch as u64);
    if choice.micro > 0 {
        put("train.micro_batch_size", choice.micro as u64);
    }
    let at_once = if choice.micro > 0 { choice.micro } else { choice.batch };
    put("eval.batch_size", at_once.clamp(8, 256) as u64);
    if timed {
        let epochs = choice.epochs();
        let steps = if epochs >= LOOKS { epochs * choice.per_epoch } else { choice.steps };
        let open = !given.any("train.epochs") && !given.any("train.steps");
        match epochs >= LOOKS {
            true if open => put("train.epochs", epochs),
            false if open => put("train.steps", steps),
            _ => {}
        }
        put("train.eval_every", (epochs / looks(found)).max(1));
        put("train.checkpoint_every", steps.div_ceil(LOOKS).max(1));
        put("train.log_every", (steps / 50).clamp(1, 10));
        // Where epochs give fewer points, every tenth of the run is measured (`eval.measure_every`): on fewer
        // samples, if all of them took more than a tenth of its time.
        let share = 0.1 * choice.steps as f64 * choice.step / (LOOKS as f64 * found.looks[0].max(1e-3));
        if share < 1.0 && config.eval.online_knn > 0 && !given.any("eval.online_knn") {
            put("eval.online_knn", ((config.eval.online_knn as f64 * share) as u64).max(FEWEST));
        }
    }
    let steps = config.keys.for_steps(choice.steps);
    merge(&mut table, steps);
    table
}

/// Evaluations of a run: as many as take a tenth of its time, ten at most, and after whole epochs.
pub(super) fn looks<M: Modality>(found: &Found<M>) -> u64 {
    let training = found.choice.steps as f64 * found.choice.step;
    let most = found.choice.epochs().clamp(1, LOOKS);
    ((0.1 * training / found.looks[0].max(1e-3)) as u64).clamp(1, most)
}

/// Puts the keys of `upper` over those of `lower`.
fn merge(lower: &mut Table, upper: Table) {
    for (key, value) in upper {
        match (lower.get_mut(&key), value) {
            (Some(Value::Table(lower)), Value::Table(upper)) => merge(lower, upper),
            (_, value) => {
                lower.insert(key, value);
            }
        }
    }
}

fn whole(value: u64) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Two digits are as many as a rule of thumb has.
fn rounded(value: f64) -> f64 {
    format!("{value:.1e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_two_digits_and_tables_are_merged() {
        assert_eq!((rounded(0.000_649_5), rounded(0.3)), (0.000_65, 0.3));
        let table = |key: &str, value: u64| {
            let mut t = Table::new();
            set(&mut t, key, whole(value));
            t
        };
        let mut lower = table("a.b", 1);
        merge(&mut lower, table("a.c", 2));
        merge(&mut lower, table("d", 3));
        assert_eq!(toml::to_string(&lower).unwrap_or_default(), "d = 3\n\n[a]\nb = 1\nc = 2\n");
    }
}
