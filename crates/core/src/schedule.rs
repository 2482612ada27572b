//! What changes over a run by formula: the learning rate, the momentum it is cycled against, weight decay and
//! EMA momentum.
//!
//! A schedule is a pure function of `(step, total)` with `step` counted from 0, so a resumed run reads the
//! same values as one that never stopped. Lengths inside a schedule are [`Span`]s: shares of the run, epochs
//! or steps. Epochs need the number of steps in an epoch, which only the loader knows:
//! [`LrSchedule::resolve`] turns them into steps, and [`LrSchedule::check`] refuses a schedule where that was
//! forgotten.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// A length within a run: `{ ratio = 0.1 }`, `{ epochs = 10 }` or `{ steps = 500 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Span {
    /// Share of all steps, in `[0, 1]`.
    Ratio(f64),
    /// Epochs, fractions allowed.
    Epochs(f64),
    /// Optimiser steps.
    Steps(u64),
}

impl Default for Span {
    fn default() -> Self {
        Span::Steps(0)
    }
}

impl Span {
    /// A share of 0.1: ten of a hundred epochs, as in SimCLR (2002.05709) and DINO (2104.14294).
    fn tenth() -> Self {
        Span::Ratio(0.1)
    }

    /// The same span with epochs turned into steps, rounded to the nearest step.
    #[must_use]
    pub fn resolve(self, steps_per_epoch: f64) -> Self {
        match self {
            Span::Epochs(e) => Span::Steps((e * steps_per_epoch).round().max(0.0) as u64),
            other => other,
        }
    }

    /// Length in steps of a run of `total` steps. Epochs that were not resolved count as 0;
    /// [`LrSchedule::check`] refuses them.
    pub fn steps(self, total: u64) -> f64 {
        match self {
            Span::Ratio(r) => (r * total as f64).round(),
            Span::Epochs(_) => 0.0,
            Span::Steps(n) => n as f64,
        }
    }

    fn check(self, key: &str, resolved: bool) -> Result<()> {
        match self {
            Span::Ratio(r) if !(0.0..=1.0).contains(&r) => {
                Err(Error::config(format!("{key}.ratio = {r}: expected a share between 0 and 1")))
            }
            Span::Epochs(e) if !e.is_finite() || e < 0.0 => {
                Err(Error::config(format!("{key}.epochs = {e}: expected 0 or more")))
            }
            Span::Epochs(e) if resolved => Err(Error::config(format!(
                "{key}.epochs = {e}: the number of steps in an epoch is not known here; give ratio or steps"
            ))),
            _ => Ok(()),
        }
    }
}

/// Learning rate over the run, as a factor of the base rate.
///
/// In TOML: `schedule = { kind = "warmup_cosine", warmup = { epochs = 10 }, end_factor = 0.0 }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum LrSchedule {
    /// The base rate throughout, after an optional linear warm-up.
    Constant {
        /// Linear warm-up from 0 (default: none).
        #[serde(default)]
        warmup: Span,
    },
    /// Linear warm-up from 0, then half a cosine down to `end_factor` times the base rate at the last step
    /// (1608.03983 without restarts).
    WarmupCosine {
        /// Linear warm-up from 0 (default: a tenth of the run).
        #[serde(default = "Span::tenth")]
        warmup: Span,
        /// Share of the base rate that is left at the end (default 0).
        #[serde(default)]
        end_factor: f64,
    },
    /// Linear warm-up from 0, then a straight line down to `end_factor` times the base rate (BERT,
    /// 1810.04805).
    WarmupLinear {
        /// Linear warm-up from 0 (default: a tenth of the run).
        #[serde(default = "Span::tenth")]
        warmup: Span,
        /// Share of the base rate that is left at the end (default 0).
        #[serde(default)]
        end_factor: f64,
    },
    /// The rate times `gamma` at each milestone (MoCo, 1911.05722: 120 and 160 of 200 epochs), after an
    /// optional linear warm-up.
    Step {
        /// Linear warm-up from 0 (default: none).
        #[serde(default)]
        warmup: Span,
        /// Where the rate falls, ascending.
        milestones: Vec<Span>,
        /// The factor (default 0.1).
        #[serde(default = "tenth")]
        gamma: f64,
    },
    /// One cycle (1708.07120) as in PyTorch's `OneCycleLR` with cosine annealing and two phases: from
    /// base/div up to base, then down to base/(div * final_div). The first momentum of the optimiser runs the
    /// other way, `max_momentum` to `base_momentum` and back.
    OneCycle {
        /// Share of the run that the rate rises (default 0.3).
        #[serde(default = "d_pct")]
        pct_start: f64,
        /// The start is base/div (default 25).
        #[serde(default = "d_div")]
        div: f64,
        /// The end is base/(div * final_div) (default 1e4).
        #[serde(default = "d_final")]
        final_div: f64,
        /// Whether momentum (AdamW: beta1) is cycled too (default true).
        #[serde(default = "yes")]
        cycle_momentum: bool,
        /// Momentum where the rate is highest (default 0.85).
        #[serde(default = "d_base_momentum")]
        base_momentum: f64,
        /// Momentum at the start and the end (default 0.95).
        #[serde(default = "d_max_momentum")]
        max_momentum: f64,
    },
}

fn tenth() -> f64 {
    0.1
}
fn d_pct() -> f64 {
    0.3
}
fn d_div() -> f64 {
    25.0
}
fn d_final() -> f64 {
    1e4
}
fn yes() -> bool {
    true
}
fn d_base_momentum() -> f64 {
    0.85
}
fn d_max_momentum() -> f64 {
    0.95
}

impl Default for LrSchedule {
    fn default() -> Self {
        LrSchedule::warmup_cosine(Span::tenth(), 0.0)
    }
}

impl LrSchedule {
    /// The base rate throughout.
    pub fn constant() -> Self {
        LrSchedule::Constant { warmup: Span::default() }
    }

    /// Warm-up and cosine.
    pub fn warmup_cosine(warmup: Span, end_factor: f64) -> Self {
        LrSchedule::WarmupCosine { warmup, end_factor }
    }

    /// One cycle with PyTorch's defaults.
    pub fn one_cycle() -> Self {
        LrSchedule::OneCycle {
            pct_start: d_pct(),
            div: d_div(),
            final_div: d_final(),
            cycle_momentum: true,
            base_momentum: d_base_momentum(),
            max_momentum: d_max_momentum(),
        }
    }

    /// The same schedule with epochs turned into steps.
    #[must_use]
    pub fn resolve(&self, steps_per_epoch: f64) -> Self {
        let mut s = self.clone();
        match &mut s {
            LrSchedule::Constant { warmup }
            | LrSchedule::WarmupCosine { warmup, .. }
            | LrSchedule::WarmupLinear { warmup, .. } => {
                *warmup = warmup.resolve(steps_per_epoch);
            }
            LrSchedule::Step { warmup, milestones, .. } => {
                *warmup = warmup.resolve(steps_per_epoch);
                for m in milestones {
                    *m = m.resolve(steps_per_epoch);
                }
            }
            LrSchedule::OneCycle { .. } => {}
        }
        s
    }

    /// Checks the values of a schedule; with `resolved`, also that no length is left in epochs.
    ///
    /// # Errors
    /// Naming the key and what was expected.
    pub fn check(&self, resolved: bool) -> Result<()> {
        let positive = |key: &str, v: f64| {
            if v.is_finite() && v > 0.0 {
                Ok(())
            } else {
                Err(Error::config(format!("schedule.{key} = {v}: expected more than 0")))
            }
        };
        let share = |key: &str, v: f64| {
            if (0.0..=1.0).contains(&v) {
                Ok(())
            } else {
                Err(Error::config(format!("schedule.{key} = {v}: expected 0 to 1")))
            }
        };
        match self {
            LrSchedule::Constant { warmup } => warmup.check("schedule.warmup", resolved),
            LrSchedule::WarmupCosine { warmup, end_factor }
            | LrSchedule::WarmupLinear { warmup, end_factor } => {
                warmup.check("schedule.warmup", resolved)?;
                share("end_factor", *end_factor)
            }
            LrSchedule::Step { warmup, milestones, gamma } => {
                warmup.check("schedule.warmup", resolved)?;
                for (i, m) in milestones.iter().enumerate() {
                    m.check(&format!("schedule.milestones[{i}]"), resolved)?;
                }
                positive("gamma", *gamma)
            }
            LrSchedule::OneCycle { pct_start, div, final_div, base_momentum, max_momentum, .. } => {
                share("pct_start", *pct_start)?;
                share("base_momentum", *base_momentum)?;
                share("max_momentum", *max_momentum)?;
                positive("div", *div)?;
                positive("final_div", *final_div)
            }
        }
    }

    /// Learning rate of step `step` (from 0) of `total`, for the base rate `base`. Past the end it stays at
    /// the last value.
    pub fn lr(&self, base: f64, step: u64, total: u64) -> f64 {
        match self {
            LrSchedule::Constant { warmup } => base * rise(*warmup, step, total),
            LrSchedule::WarmupCosine { warmup, end_factor } => match rise(*warmup, step, total) {
                f if f < 1.0 => base * f,
                _ => cosine(base, base * end_factor, after(*warmup, step, total)),
            },
            LrSchedule::WarmupLinear { warmup, end_factor } => match rise(*warmup, step, total) {
                f if f < 1.0 => base * f,
                _ => base + (base * end_factor - base) * after(*warmup, step, total),
            },
            LrSchedule::Step { warmup, milestones, gamma } => {
                let passed = milestones.iter().filter(|m| step as f64 >= m.steps(total)).count();
                base * rise(*warmup, step, total) * gamma.powi(passed as i32)
            }
            LrSchedule::OneCycle { pct_start, div, final_div, .. } => {
                let low = base / div;
                one_cycle(*pct_start, step, total, [low, base, low / final_div])
            }
        }
    }

    /// Cycled first momentum (beta1 of AdamW, momentum of SGD) of step `step` of `total`; `None` where the
    /// schedule leaves it alone.
    pub fn beta1(&self, step: u64, total: u64) -> Option<f64> {
        match self {
            LrSchedule::OneCycle { pct_start, cycle_momentum: true, base_momentum, max_momentum, .. } => {
                Some(one_cycle(*pct_start, step, total, [*max_momentum, *base_momentum, *max_momentum]))
            }
            _ => None,
        }
    }
}

/// Factor of a linear warm-up from 0, 1 from the step at which it is over.
fn rise(warmup: Span, step: u64, total: u64) -> f64 {
    let w = warmup.steps(total);
    if (step as f64) < w { step as f64 / w } else { 1.0 }
}

/// Share of what comes after the warm-up that is over, in `[0, 1]`.
fn after(warmup: Span, step: u64, total: u64) -> f64 {
    let w = warmup.steps(total);
    let rest = total as f64 - w;
    if rest > 0.0 { ((step as f64 - w) / rest).clamp(0.0, 1.0) } else { 1.0 }
}

/// Half a cosine from `start` (t = 0) to `end` (t = 1). The sum is in PyTorch's order, so that values agree
/// to the last digits.
pub fn cosine(start: f64, end: f64, t: f64) -> f64 {
    end + (start - end) / 2.0 * ((PI * t).cos() + 1.0)
}

/// The two cosine phases of one cycle through `values`. PyTorch's boundaries: pct_start * total - 1 and total
/// - 1.
fn one_cycle(pct_start: f64, step: u64, total: u64, values: [f64; 3]) -> f64 {
    let step = step.min(total.saturating_sub(1)) as f64;
    let (first, last) = (pct_start * total as f64 - 1.0, total as f64 - 1.0);
    // A phase without length (PyTorch divides by zero there) is at its end.
    let part =
        |from: f64, to: f64| if to > from { ((step - from) / (to - from)).clamp(0.0, 1.0) } else { 1.0 };
    if step <= first {
        cosine(values[0], values[1], part(0.0, first))
    } else {
        cosine(values[1], values[2], part(first, last))
    }
}

/// Momentum of an exponential moving average over the run: `teacher = m * teacher + (1 - m) * student`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum EmaSchedule {
    /// The same throughout (MoCo, 1911.05722: 0.999).
    Constant {
        /// The momentum.
        momentum: f64,
    },
    /// Half a cosine from `momentum` to `end` (BYOL, 2006.07733: 0.996 to 1).
    Cosine {
        /// The momentum at the first step (default 0.996).
        #[serde(default = "d_ema")]
        momentum: f64,
        /// The momentum at the end of the run (default 1).
        #[serde(default = "one")]
        end: f64,
    },
}

fn d_ema() -> f64 {
    0.996
}
fn one() -> f64 {
    1.0
}

impl Default for EmaSchedule {
    fn default() -> Self {
        EmaSchedule::Cosine { momentum: d_ema(), end: one() }
    }
}

impl EmaSchedule {
    /// Checks that every momentum lies in `[0, 1]`.
    ///
    /// # Errors
    /// Naming the value.
    pub fn check(&self) -> Result<()> {
        let (EmaSchedule::Constant { momentum: a } | EmaSchedule::Cosine { momentum: a, .. }) = *self;
        let b = if let EmaSchedule::Cosine { end, .. } = *self { end } else { a };
        match [a, b].iter().find(|m| !(0.0..=1.0).contains(*m)) {
            Some(m) => Err(Error::config(format!("ema momentum {m}: expected 0 to 1"))),
            None => Ok(()),
        }
    }

    /// The momentum of step `step` (from 0) of `total`: for the cosine, `1 - (1 - m) (cos(pi k / K) + 1) / 2`
    /// where `end` is 1.
    pub fn value(&self, step: u64, total: u64) -> f64 {
        match *self {
            EmaSchedule::Constant { momentum } => momentum,
            EmaSchedule::Cosine { momentum, end } => cosine(momentum, end, share(step, total)),
        }
    }
}

/// `step / total` in `[0, 1]`; 1 for a run without steps.
pub fn share(step: u64, total: u64) -> f64 {
    if total == 0 { 1.0 } else { (step as f64 / total as f64).min(1.0) }
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
