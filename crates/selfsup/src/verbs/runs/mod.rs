//! `selfsup runs`: the runs of a folder, what they came to, what differs between them, and what can go.

mod clean;
mod compare;
mod entry;

pub use clean::clean;
pub use compare::compare;

use crate::say::say;
use entry::{Entry, found, size};
use selfsup_core::run::State;
use selfsup_core::{Error, Result};
use serde_json::json;
use std::path::Path;

/// The runs in `dir`, or below its folders; an error where there are none.
fn runs_in(dir: &Path) -> Result<Vec<Entry>> {
    let found = found(dir)?;
    if found.is_empty() {
        return Err(Error::file(dir, "holds no runs (folders with a config.toml)"));
    }
    Ok(found)
}

/// What runs are listed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By name.
    #[default]
    Name,
    /// The best kNN first.
    Knn,
    /// The best linear probe first.
    Linear,
    /// The lowest loss first.
    Loss,
    /// The longest first.
    Time,
    /// The largest first.
    Size,
    /// The one that was written last first.
    Newest,
}

impl Order {
    /// Their names on the command line.
    pub const NAMES: [&str; 7] = ["name", "knn", "linear", "loss", "time", "size", "newest"];

    /// The order of this name.
    ///
    /// # Errors
    /// If there is none; the message lists all.
    pub fn named(name: &str) -> Result<Self> {
        use Order::{Knn, Linear, Loss, Name, Newest, Size, Time};
        let all = [Name, Knn, Linear, Loss, Time, Size, Newest];
        let found = Self::NAMES.iter().position(|n| *n == name).and_then(|i| all.get(i).copied());
        found.ok_or_else(|| {
            Error::config(format!("--sort {name}: expected one of {}", Self::NAMES.join(", ")))
        })
    }

    /// Runs that lack the number come last.
    fn sort(self, runs: &mut [Entry]) {
        let key = |run: &Entry| -> f64 {
            let value = match self {
                Order::Name => return 0.0,
                Order::Knn => run.knn(),
                Order::Linear => run.linear(),
                Order::Loss => run.loss().map(|v| -v),
                Order::Time => run.seconds(),
                Order::Size => Some(run.bytes as f64),
                Order::Newest => run.written(),
            };
            value.filter(|v| !v.is_nan()).unwrap_or(f64::NEG_INFINITY)
        };
        runs.sort_by(|a, b| key(b).total_cmp(&key(a)));
    }
}

/// Lists the runs in `dir`: state, method, encoder, steps, the number that says most, kNN and linear probe, gauges,
/// size, and what it took.
///
/// # Errors
/// If `dir` cannot be read or holds no runs.
pub fn list(dir: &Path, order: Order) -> Result<()> {
    let mut runs = runs_in(dir)?;
    order.sort(&mut runs);
    let names: Vec<String> = runs.iter().map(|r| r.dir.display().to_string()).collect();
    let wide = names.iter().map(|n| n.chars().count()).max().unwrap_or(0).max(3);
    say!(
        "{:<wide$}  {:<10}{:<20}{:<14}{:>8}  {:<24}{:>6}{:>8}  {:<10}{:>9}  {}",
        "run",
        "state",
        "method",
        "encoder",
        "steps",
        "result",
        "kNN",
        "linear",
        "gauges",
        "size",
        "took"
    );
    for (run, name) in runs.iter().zip(&names) {
        say!(
            "{name:<wide$}  {:<10}{:<20}{:<14}{:>8}  {:<24}{:>6}{:>8}  {:<10}{:>9}  {}",
            run.ended.state.to_string(),
            run.method,
            run.encoder,
            run.steps,
            run.main.as_ref().map_or_else(|| "-".into(), |(what, v)| format!("{what} {v:.4}")),
            percent(run.knn()),
            percent(run.linear()),
            run.gauges(),
            size(run.bytes),
            run.cost(),
        );
        if let (State::Failed | State::Collapsed, Some(why)) = (run.ended.state, &run.ended.error) {
            say!("{:wide$}  {why}", "");
        }
        let unhealthy = run.unhealthy();
        if !unhealthy.is_empty() {
            say!("{:wide$}  outside the healthy band at the end: {}", "", unhealthy.join(", "));
        }
    }
    let all: Vec<_> = runs.iter().map(Entry::json).collect();
    crate::say::result(&json!({ "folder": dir, "runs": all }));
    Ok(())
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |v| format!("{v:.1}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_order_has_a_name() {
        for name in Order::NAMES {
            assert!(Order::named(name).is_ok());
        }
        let e = Order::named("speed").unwrap_err().to_string();
        assert!(e.contains("--sort speed") && e.contains("linear"), "{e}");
    }
}
