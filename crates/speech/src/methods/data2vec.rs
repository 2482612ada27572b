//! data2vec for audio (Baevski et al. 2022, arXiv 2202.03555): from a partly hidden utterance, predict what
//! an averaged copy of the network makes of the whole one.
//!
//! The teacher's target of frame `t` is the mean over its top `K` blocks of their MLP outputs (before
//! the residual), each channel normalised over the frames of the utterance. The student regresses it at the
//! hidden frames with a linear layer `R`:
//!
//! `L = 1 / sqrt(D) * |R(o_t) - y_t|^2`, mean over the hidden frames.
//!
//! Only the blocks are averaged: front, projection and positional convolution are the student's own, as in
//! the paper, and run once for both. The teacher's momentum rises linearly from `momentum` to `momentum_end`
//! over the first `anneal` of the run.

use super::frames::Rows;
use super::masked::{Masked, hidden_spread};
use crate::batch::Waves;
use crate::encoder::{Hidden, SpeechConfig, SpeechEncoder, trunk_config};
use crate::mask::SpanMask;
use candle_core::Tensor;
use selfsup_core::nn::{Linear, Transformer};
use selfsup_core::objective::{ema, embedding_std};
use selfsup_core::{
    Encoder, Error, Gauge, Init, Loss, Objective, Params, Pass, Progress, Result, Role, Scope, World,
};

/// Hyper-parameters; the defaults are those of the base model.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data2VecConfig {
    /// The hidden spans: 0.65 and 10 frames.
    pub mask: SpanMask,
    /// Blocks K whose outputs make the target (8), at most all.
    pub top_layers: usize,
    /// Momentum of the teacher at the start (0.999).
    pub momentum: f64,
    /// Its momentum from the end of the rise on (0.9999).
    pub momentum_end: f64,
    /// Share of the run over which it rises (30,000 of 400,000 steps: 0.075).
    pub anneal: f64,
}

impl Default for Data2VecConfig {
    fn default() -> Self {
        Data2VecConfig {
            mask: SpanMask::default(),
            top_layers: 8,
            momentum: 0.999,
            momentum_end: 0.9999,
            anneal: 0.075,
        }
    }
}

impl Data2VecConfig {
    fn check(&self) -> Result<()> {
        self.mask.check("method.mask")?;
        if !self.mask.hides() {
            return Err(Error::config(
                "method.mask.prob = 0: data2vec predicts hidden frames, and none would be",
            ));
        }
        let momenta = 0.0 <= self.momentum && self.momentum <= self.momentum_end && self.momentum_end <= 1.0;
        if self.top_layers == 0 || !momenta || !(0.0..=1.0).contains(&self.anneal) {
            return Err(Error::config(format!(
                "method: top_layers = {}, momentum = {}, momentum_end = {}, anneal = {}: expected at least 1, 0 <= momentum <= momentum_end <= 1, and a share",
                self.top_layers, self.momentum, self.momentum_end, self.anneal
            )));
        }
        Ok(())
    }

    /// The teacher's momentum when `fraction` of the run is done.
    pub fn momentum_at(&self, fraction: f64) -> f64 {
        if fraction >= self.anneal {
            return self.momentum_end;
        }
        self.momentum + (self.momentum_end - self.momentum) * fraction / self.anneal
    }
}

/// The method.
pub struct Data2Vec {
    config: Data2VecConfig,
    params: Params,
    encoder: SpeechEncoder,
    regression: Linear,
    teacher: Transformer,
}

const PATHS: [(&str, &str); 1] = [("encoder.blocks", "teacher.blocks")];

impl Data2Vec {
    /// Builds the student at `encoder`, the regression at `regression` and the teacher's blocks at
    /// `teacher.blocks`, a copy at the start.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn new(scope: &Scope, encoder: SpeechConfig, config: Data2VecConfig) -> Result<Self> {
        config.check()?;
        let encoder =
            SpeechEncoder::new(&scope.sub("encoder"), SpeechConfig { mask: config.mask, ..encoder })?;
        let dim = encoder.config().dim;
        let regression = Linear::new(&scope.sub("regression").top(), dim, dim, true, Init::TorchLinear)?;
        let from = scope.sub("encoder");
        let blocks = scope.sub("teacher").with_role(Role::Teacher).copying(from.path()).sub("blocks");
        let teacher = Transformer::new(&blocks, &trunk_config(encoder.config()))?;
        let params = scope.params().clone();
        Ok(Data2Vec { config, params, encoder, regression, teacher })
    }

    /// The encoder.
    pub fn speech(&self) -> &SpeechEncoder {
        &self.encoder
    }

    /// The teacher's targets `(N, L, D)` from its input; no graph.
    fn targets(&self, x: &Tensor, counts: &[usize], valid: Option<&Tensor>, pass: &Pass) -> Result<Tensor> {
        let calm = pass.calm();
        let top = self.config.top_layers.min(self.teacher.depth());
        let layers = self.teacher.mlp_outputs(&x.detach(), valid, top, &calm)?;
        let mut sum: Option<Tensor> = None;
        for layer in layers {
            let layer = over_time(&layer.detach(), counts, valid)?;
            sum = Some(match sum {
                None => layer,
                Some(sum) => (sum + layer)?,
            });
        }
        let sum = sum.ok_or_else(|| Error::config("data2vec: the teacher has no blocks"))?;
        Ok((sum / top as f64)?)
    }
}

/// Each channel of `x (N, L, D)` to mean 0 and variance 1 over the frames of its utterance, of which `counts`
/// are real; no graph.
fn over_time(x: &Tensor, counts: &[usize], valid: Option<&Tensor>) -> Result<Tensor> {
    let n: Vec<f32> = counts.iter().map(|&c| c.max(1) as f32).collect();
    let n = Tensor::from_vec(n, (counts.len(), 1, 1), x.device())?;
    let masked = |x: Tensor| -> Result<Tensor> {
        match valid {
            None => Ok(x),
            Some(v) => Ok(x.broadcast_mul(&v.unsqueeze(2)?)?),
        }
    };
    let mean = masked(x.clone())?.sum_keepdim(1)?.broadcast_div(&n)?;
    let centred = masked(x.broadcast_sub(&mean)?)?;
    let variance = centred.sqr()?.sum_keepdim(1)?.broadcast_div(&n)?;
    Ok(centred.broadcast_div(&(variance + 1e-5)?.sqrt()?)?)
}

/// Below this share of content, targets say where a frame is and hardly what is said in it.
const CONTENT: f64 = 0.3;

/// Which share of the variance of targets `(M, D)` is left within a place: 1 where the number of a frame says
/// nothing about its target, 0 where it says all, which is a collapse that the spread of the targets does not
/// show. `rows` are the frames that were picked out of utterances of `width`. Nothing where no place was
/// picked in two utterances.
fn content(rows: &Rows, targets: &Tensor, width: usize) -> Result<Option<f64>> {
    let values: Vec<Vec<f32>> = targets.to_vec2()?;
    let mut places: Vec<Vec<&[f32]>> = vec![Vec::new(); width];
    for (&row, value) in rows.flat().iter().zip(&values) {
        places[row as usize % width].push(value);
    }
    places.retain(|p| p.len() > 1);
    let all: Vec<&[f32]> = places.iter().flatten().copied().collect();
    // Variances of samples: the mean of a place takes a degree of freedom with it, and so does that of all.
    let (within, freedom) =
        places.iter().fold((0.0, 0), |(sum, n), p| (sum + squares_about_mean(p), n + p.len() - 1));
    let total = squares_about_mean(&all);
    if freedom == 0 || total == 0.0 {
        return Ok(None);
    }
    Ok(Some((within / freedom as f64) / (total / (all.len() - 1) as f64)))
}

/// The sum of squared distances from the mean.
fn squares_about_mean(rows: &[&[f32]]) -> f64 {
    let n = rows.len() as f64;
    let channels = rows.first().map_or(0, |r| r.len());
    (0..channels)
        .map(|c| {
            let mean = rows.iter().map(|r| f64::from(r[c])).sum::<f64>() / n;
            rows.iter().map(|r| (f64::from(r[c]) - mean).powi(2)).sum::<f64>()
        })
        .sum()
}

selfsup_core::embeddings! {
    /// The student's context and the teacher's targets, `(N, L, D)` each.
    pub struct Regressed {
        /// Of the masked wave.
        graph context: Tensor,
        /// `(N, L)` u8, 1 for masked frames.
        fixed mask: Tensor,
        /// Of the whole wave.
        fixed targets: Tensor,
    }
}

impl Objective for Data2Vec {
    type Batch = Waves;
    type Embeddings = Regressed;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.encoder
    }

    fn embed(&self, batch: &Waves, pass: &Pass) -> Result<Regressed> {
        let e = &self.encoder;
        let masked = Masked::of(e, &self.config.mask, batch, pass)?;
        let valid = masked.valid.as_ref();
        let projected = e.project(&masked.frames, pass)?;
        // The teacher sees the whole utterance, through the student's positions.
        let calm = pass.calm();
        let whole = e.place(&e.hide(&projected.detach(), &Hidden::default(), valid, pass)?, &calm)?;
        let targets = self.targets(&whole, &masked.counts, valid, pass)?;
        let x = e.hide(&projected, &masked.hidden(), valid, pass)?;
        let context = e.contextualize(&e.place(&x, pass)?, valid, &[], pass)?.0;
        Ok(Regressed { context, mask: masked.mask, targets: targets.detach() })
    }

    fn criterion(&self, e: &Regressed, pass: &Pass) -> Result<Loss> {
        let rows = Rows::of(&e.mask)?;
        rows.some()?;
        let d = e.context.dim(2)? as f64;
        let gap = (self.regression.forward(&rows.take(&e.context)?, pass)? - rows.take(&e.targets)?)?;
        Ok((gap.sqr()?.mean_all()? * d.sqrt())?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    fn weight(&self, _batch: &Waves, e: &Regressed) -> Result<f64> {
        Ok(Rows::of(&e.mask)?.len() as f64)
    }

    fn after_step(&self, _e: &Regressed, progress: &Progress, _world: &World) -> Result<()> {
        ema(&self.params, &PATHS, self.config.momentum_at(progress.fraction()))
    }

    fn gauges(&self, e: &Regressed, _pass: &Pass) -> Result<Vec<Gauge>> {
        let rows = Rows::of(&e.mask)?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let targets = rows.take(&e.targets)?;
        let mut gauges =
            vec![hidden_spread(&rows.take(&e.context)?)?, embedding_std(&targets)?.named("target_std")];
        if let Some(value) = content(&rows, &targets, e.targets.dim(1)?)? {
            gauges.push(Gauge::above("target_content", value, CONTENT));
        }
        Ok(gauges)
    }

    fn may_skip(&self) -> Vec<String> {
        self.encoder.may_skip().into_iter().map(|name| format!("encoder.{name}")).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn momentum_rises_to_its_end() {
        let c =
            Data2VecConfig { momentum: 0.9, momentum_end: 0.99, anneal: 0.5, ..Data2VecConfig::default() };
        assert_eq!((c.momentum_at(0.0), c.momentum_at(0.5), c.momentum_at(1.0)), (0.9, 0.99, 0.99));
        assert!((c.momentum_at(0.25) - 0.945).abs() < 1e-12);
        assert_eq!(Data2VecConfig { anneal: 0.0, ..c }.momentum_at(0.0), 0.99);
    }

    #[test]
    fn targets_are_normalised_over_real_frames() {
        let x = Tensor::new(&[[[1f32], [3.0], [100.0]], [[1.0], [2.0], [3.0]]], &Device::Cpu).unwrap();
        let valid = Tensor::new(&[[1f32, 1.0, 0.0], [1.0, 1.0, 1.0]], &Device::Cpu).unwrap();
        let y: Vec<Vec<f32>> =
            over_time(&x, &[2, 3], Some(&valid)).unwrap().squeeze(2).unwrap().to_vec2().unwrap();
        assert!((y[0][0] + 1.0).abs() < 1e-4 && (y[0][1] - 1.0).abs() < 1e-4 && y[0][2] == 0.0, "{y:?}");
        assert!(y[1][1].abs() < 1e-6 && (y[1][2] - 1.5f32.sqrt()).abs() < 1e-4, "{y:?}");
    }

    #[test]
    fn targets_that_say_where_a_frame_is_have_no_content() {
        let (n, width, dim) = (6, 20, 4);
        let rows = Rows::picked(vec![vec![true; width]; n]);
        let noise = |i: usize| selfsup_core::Key::new(3).fold(i as u64).rng().normal();
        let share = |of: &dyn Fn(usize, usize, usize) -> f32| {
            let values =
                (0..n * width * dim).map(|i| of(i / (width * dim), i / dim % width, i % dim)).collect();
            content(&rows, &Tensor::from_vec(values, (n * width, dim), &Device::Cpu).unwrap(), width).unwrap()
        };
        let place = |_: usize, t: usize, c: usize| noise(t * dim + c);
        let speech = |i: usize, t: usize, c: usize| noise((i * width + t) * dim + c);
        assert!(share(&place).unwrap() < 1e-6);
        assert!((share(&speech).unwrap() - 1.0).abs() < 0.1, "{:?}", share(&speech));
        let mixed = share(&|i, t, c| place(i, t, c) + speech(i, t, c)).unwrap();
        assert!((mixed - 0.5).abs() < 0.15, "{mixed}");
        assert_eq!(share(&|_, _, _| 1.0), None);
        let apart = Rows::picked(vec![vec![true, false], vec![false, true]]);
        assert_eq!(
            content(&apart, &Tensor::zeros((2, 4), candle_core::DType::F32, &Device::Cpu).unwrap(), 2)
                .unwrap(),
            None
        );
    }

    #[test]
    fn impossible_settings_are_refused() {
        assert!(Data2VecConfig { top_layers: 0, ..Data2VecConfig::default() }.check().is_err());
        assert!(Data2VecConfig { momentum_end: 0.9, ..Data2VecConfig::default() }.check().is_err());
        assert!(Data2VecConfig { mask: SpanMask::NONE, ..Data2VecConfig::default() }.check().is_err());
    }
}
