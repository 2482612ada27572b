//! The keys of `[optim]`.

use crate::config::Unread;
use crate::error::{Error, Result};
use crate::schedule::LrSchedule;
use serde::{Deserialize, Serialize};

/// Which update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OptimKind {
    /// Decoupled weight decay (Loshchilov and Hutter 2017, arXiv 1711.05101).
    #[default]
    Adamw,
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Layer-wise adaptive rates for large batches (You et al. 2017, arXiv 1708.03888).
    Lars,
}

/// `[optim]`. Keys that are not given take the defaults of their `kind`, see [`OptimConfig::of`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Given")]
pub struct OptimConfig {
    /// `adamw`, `sgd` or `lars`.
    pub kind: OptimKind,
    /// Base learning rate.
    pub lr: f64,
    /// Weight decay of weights (not of biases, norms, tokens and positions).
    pub weight_decay: f64,
    /// Weight decay at the end of the run, reached along half a cosine (DINO, arXiv 2104.14294: 0.04 to 0.4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay_end: Option<f64>,
    /// Whether biases, norms, tokens and positions decay too, and LARS adapts them (MoCo, arXiv 1911.05722,
    /// decays everything).
    pub decay_all: bool,
    /// AdamW's decay rates of the moments.
    pub betas: (f64, f64),
    /// AdamW's and LARS's epsilon.
    pub eps: f64,
    /// Momentum of SGD and LARS.
    pub momentum: f64,
    /// Nesterov's look-ahead for SGD and LARS.
    pub nesterov: bool,
    /// LARS's trust coefficient.
    pub trust_coefficient: f64,
    /// Factor of the learning rate from block to block, towards the input; for fine-tuning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_decay: Option<f64>,
    /// Largest global L2 norm of the gradient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_grad_norm: Option<f64>,
    /// Largest L2 norm of the gradient of each parameter tensor by itself, before `clip_grad_norm` (DINO's
    /// `clip_grad`, arXiv 2104.14294: 3.0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_grad_each: Option<f64>,
    /// Learning rate over the run.
    pub schedule: LrSchedule,
}

/// The keys as given: what is absent depends on `kind`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Given {
    kind: OptimKind,
    lr: Option<f64>,
    weight_decay: Option<f64>,
    weight_decay_end: Option<f64>,
    decay_all: bool,
    betas: (f64, f64),
    eps: f64,
    momentum: f64,
    nesterov: bool,
    trust_coefficient: f64,
    layer_decay: Option<f64>,
    clip_grad_norm: Option<f64>,
    clip_grad_each: Option<f64>,
    schedule: LrSchedule,
}

impl Default for Given {
    fn default() -> Self {
        let c = OptimConfig::default();
        Given {
            kind: c.kind,
            lr: None,
            weight_decay: None,
            weight_decay_end: c.weight_decay_end,
            decay_all: c.decay_all,
            betas: c.betas,
            eps: c.eps,
            momentum: c.momentum,
            nesterov: c.nesterov,
            trust_coefficient: c.trust_coefficient,
            layer_decay: c.layer_decay,
            clip_grad_norm: c.clip_grad_norm,
            clip_grad_each: c.clip_grad_each,
            schedule: c.schedule,
        }
    }
}

impl From<Given> for OptimConfig {
    fn from(g: Given) -> Self {
        let c = OptimConfig::of(g.kind);
        OptimConfig {
            kind: g.kind,
            lr: g.lr.unwrap_or(c.lr),
            weight_decay: g.weight_decay.unwrap_or(c.weight_decay),
            weight_decay_end: g.weight_decay_end,
            decay_all: g.decay_all,
            betas: g.betas,
            eps: g.eps,
            momentum: g.momentum,
            nesterov: g.nesterov,
            trust_coefficient: g.trust_coefficient,
            layer_decay: g.layer_decay,
            clip_grad_norm: g.clip_grad_norm,
            clip_grad_each: g.clip_grad_each,
            schedule: g.schedule,
        }
    }
}

impl Default for OptimConfig {
    fn default() -> Self {
        OptimConfig::of(OptimKind::Adamw)
    }
}

impl OptimConfig {
    /// The defaults of a kind. AdamW: rate 1e-3 and betas of its paper, decay 0.05 (MAE, arXiv 2111.06377).
    /// SGD: rate 0.03, decay 1e-4 (MoCo, arXiv 1911.05722). LARS: rate 0.3 for a batch of 256, decay 1e-6
    /// (SimCLR, arXiv 2002.05709), trust 0.001.
    pub fn of(kind: OptimKind) -> Self {
        let (lr, weight_decay) = match kind {
            OptimKind::Adamw => (1e-3, 0.05),
            OptimKind::Sgd => (0.03, 1e-4),
            OptimKind::Lars => (0.3, 1e-6),
        };
        OptimConfig {
            kind,
            lr,
            weight_decay,
            weight_decay_end: None,
            decay_all: false,
            betas: (0.9, 0.999),
            eps: 1e-8,
            momentum: 0.9,
            nesterov: false,
            trust_coefficient: 1e-3,
            layer_decay: None,
            clip_grad_norm: None,
            clip_grad_each: None,
            schedule: LrSchedule::warmup_cosine(crate::schedule::Span::Ratio(0.1), 0.0),
        }
    }
}

impl OptimConfig {
    /// Keys that an optimiser of this kind does not read.
    pub fn unread(&self) -> Vec<Unread> {
        let (unread, own): (&[&str], _) = match self.kind {
            OptimKind::Adamw => (&["momentum", "nesterov", "trust_coefficient"], "adamw"),
            OptimKind::Sgd => (&["betas", "eps", "trust_coefficient"], "sgd"),
            OptimKind::Lars => (&["betas"], "lars"),
        };
        let by = |key: &str| match key {
            "betas" => "adamw",
            "eps" => "adamw and lars",
            "trust_coefficient" => "lars",
            _ => "sgd and lars",
        };
        let of = |key: &&str| Unread::all("optim", &[key], &format!("is read by {}, this is {own}", by(key)));
        unread.iter().flat_map(of).collect()
    }

    pub(super) fn check(&self) -> Result<()> {
        let bad = |key: &str, value: f64, expected: &str| {
            Err(Error::config(format!("optim.{key} = {value}: expected {expected}")))
        };
        if !self.lr.is_finite() || self.lr < 0.0 {
            return bad("lr", self.lr, "0 or more");
        }
        for (key, v) in
            [("weight_decay", Some(self.weight_decay)), ("weight_decay_end", self.weight_decay_end)]
        {
            if let Some(v) = v.filter(|v| !v.is_finite() || *v < 0.0) {
                return bad(key, v, "0 or more");
            }
        }
        for (key, v) in [("eps", self.eps), ("trust_coefficient", self.trust_coefficient)] {
            if !(v.is_finite() && v > 0.0) {
                return bad(key, v, "above 0");
            }
        }
        if self.nesterov && self.momentum == 0.0 && self.kind != OptimKind::Adamw {
            return bad("momentum", self.momentum, "above 0 with nesterov");
        }
        for (key, v) in [("betas", self.betas.0), ("betas", self.betas.1), ("momentum", self.momentum)] {
            if !(0.0..1.0).contains(&v) {
                return bad(key, v, "at least 0 and below 1");
            }
        }
        for (key, limit) in [("clip_grad_norm", self.clip_grad_norm), ("clip_grad_each", self.clip_grad_each)]
        {
            if let Some(c) = limit.filter(|c| c.is_nan() || *c <= 0.0) {
                return bad(key, c, "above 0");
            }
        }
        if let Some(d) = self.layer_decay
            && !(d > 0.0 && d <= 1.0)
        {
            return bad("layer_decay", d, "above 0 and at most 1");
        }
        self.schedule.check(true)
    }
}
