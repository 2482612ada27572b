//! DINO (Caron et al. 2021, arXiv 2104.14294): the student's output on every crop is to be the teacher's on the
//! other full-size views, as distributions over K outputs; the teacher is the student's moving average.
//!
//! `L = mean over (teacher view t, student view s != t) of H(softmax((g_t(x_t) - c) / T_t), softmax(g_s(x_s) /
//! T_s))`. Two forces prevent collapse: the centre c, which follows the mean of the teacher's outputs, keeps one
//! output from winning everywhere; the low temperature T_t keeps all outputs from being alike.
//!
//! Where we differ: momentum and the number of outputs are those of small data by default (the paper's are 0.996
//! and 65,536), the teacher's temperature warms up over a share of the run and not over 30 epochs, and views go
//! through the encoder one by one, so batch norm sees one at a time. The gradient's clipping by tensor, the rise
//! of weight decay and stochastic depth are keys of `[optim]` and `[encoder]`.

use super::dino_head::{Centre, DinoHead, DinoHeadSizes, TEACHER, centre_moves, teacher_gauges, warmed};
use super::{
    BuildEncoder, Gauge, GaugeInfo, Loss, Lowered, Method, Networks, Objective, OverViews, Views, Wanted,
    boxed, joint,
};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::loss::dino;
use crate::optim::Grads;
use crate::params::Params;
use crate::pass::{Pass, Progress};
use crate::scope::Scope;
use crate::world::World;
use candle_core::Tensor;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DinoConfig {
    /// Number of outputs K (the paper's 65,536; 4,096 to 8,192 for tens of thousands of images).
    pub out_dim: usize,
    /// Width of the head's two hidden layers (the paper's 2048).
    pub hidden_dim: usize,
    /// Width of the layer before the outputs, which is normalised (the paper's 256).
    pub bottleneck_dim: usize,
    /// Whether the last layer's rows keep length 1; learned lengths can gain a little and are less stable.
    pub norm_last_layer: bool,
    /// Epochs at the start in which the last layer is left alone, a tenth of the run at most (the paper's 1).
    pub freeze_last_layer: u64,
    /// Temperature of the student (the paper's 0.1).
    pub student_temperature: f64,
    /// Temperature of the teacher at the start (the paper's 0.04).
    pub teacher_temperature: f64,
    /// Temperature of the teacher at the end of its warm-up (the paper's 0.07; above that it is unstable).
    pub teacher_temperature_end: f64,
    /// Share of the run over which the teacher's temperature rises along a line.
    pub teacher_warmup: f64,
    /// Teacher momentum at the start, rising to 1 along a half cosine: 0.99 for thousands of steps, the paper's
    /// 0.996 and up to 0.9995 for batches of 256 in long runs.
    pub momentum: f64,
    /// Momentum of the centre (the paper's 0.9).
    pub center_momentum: f64,
}

impl Default for DinoConfig {
    fn default() -> Self {
        DinoConfig {
            out_dim: 4096,
            hidden_dim: 2048,
            bottleneck_dim: 256,
            norm_last_layer: true,
            freeze_last_layer: 1,
            student_temperature: 0.1,
            teacher_temperature: 0.04,
            teacher_temperature_end: 0.07,
            teacher_warmup: 0.3,
            momentum: 0.99,
            center_momentum: 0.9,
        }
    }
}

impl DinoConfig {
    fn check(&self) -> Result<()> {
        let bad = |key: &str, value: f64, expected: &str| {
            Err(Error::config(format!("method.{key} = {value}: expected {expected}")))
        };
        for (key, t) in [
            ("student_temperature", self.student_temperature),
            ("teacher_temperature", self.teacher_temperature),
            ("teacher_temperature_end", self.teacher_temperature_end),
        ] {
            if !(t > 0.0 && t.is_finite()) {
                return bad(key, t, "above 0");
            }
        }
        for (key, share) in [
            ("teacher_warmup", self.teacher_warmup),
            ("momentum", self.momentum),
            ("center_momentum", self.center_momentum),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return bad(key, share, "0 to 1");
            }
        }
        Ok(())
    }
}

crate::embeddings! {
    /// Outputs of student and teacher.
    pub struct Outcomes {
        /// Of the student on each view, `(N, K)`, the full-size ones first.
        graph student: Vec<Tensor>,
        /// Of the teacher on each full-size view, `(N, K)`.
        fixed teacher: Vec<Tensor>,
        /// The teacher's features of the first view, `(N, D)`.
        fixed features: Tensor,
    }
}

/// The method.
pub struct Dino {
    config: DinoConfig,
    params: Params,
    student: joint::Branch<DinoHead>,
    teacher: joint::Teacher<DinoHead>,
    center: Centre,
}

impl Dino {
    /// Builds student (`encoder`, `projector`), teacher (`teacher.*`), which starts as a copy, and `center`.
    ///
    /// # Errors
    /// If the encoder cannot be built, or a number of the configuration is not possible.
    pub fn new(scope: &Scope, build: &BuildEncoder, config: DinoConfig) -> Result<Self> {
        config.check()?;
        let sizes = DinoHeadSizes {
            hidden: config.hidden_dim,
            bottleneck: config.bottleneck_dim,
            outputs: config.out_dim,
            unit_rows: config.norm_last_layer,
        };
        let head = |s: &Scope, d| DinoHead::new(s, d, sizes);
        let student = joint::Branch::new(scope, build, head)?;
        let teacher = joint::Teacher::new(scope, build, head)?;
        let center = Centre::new(&scope.top(), "center", config.out_dim, config.center_momentum)?;
        Ok(Dino { config, params: scope.params().clone(), student, teacher, center })
    }

    fn teacher_temperature(&self, progress: &Progress) -> f64 {
        let c = &self.config;
        warmed((c.teacher_temperature, c.teacher_temperature_end), c.teacher_warmup, progress)
    }
}

impl OverViews for DinoConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Multi(2)
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(Dino::new(scope, &|s: &Scope| networks.encoder(s), self.clone())?))
    }

    fn fit(&mut self, samples: usize) -> Option<Lowered> {
        let (from, to) = (self.out_dim, samples.max(2));
        if from <= to {
            return None;
        }
        self.out_dim = to;
        let why = "of more outputs than samples some are never used";
        Some(Lowered { key: "method.out_dim", from, to, why })
    }

    fn shrink(&mut self) {
        (self.hidden_dim, self.bottleneck_dim, self.out_dim, self.momentum) = (16, 8, 12, 0.9);
    }
}

impl Objective for Dino {
    type Batch = Views;
    type Embeddings = Outcomes;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.student.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Outcomes> {
        let (full, small) = joint::crops(batch, "DINO")?;
        // The teacher is the whole network: nothing is dropped.
        let whole = pass.undropped();
        let (mut teacher, mut features) = (Vec::new(), Vec::new());
        for view in full {
            let seen = self.teacher.branch.features(view, &whole)?.detach();
            teacher.push(self.teacher.branch.projector.forward(&seen, &whole)?.detach());
            features.push(seen);
        }
        let features = features.swap_remove(0);
        Ok(Outcomes { student: self.student.each(full.iter().chain(small), pass)?, teacher, features })
    }

    fn criterion(&self, e: &Outcomes, pass: &Pass) -> Result<Loss> {
        let temperatures = (self.config.student_temperature, self.teacher_temperature(&pass.progress));
        Ok(dino(&e.student, &e.teacher, self.center.value(), temperatures.0, temperatures.1)?.into())
    }

    /// The centre is of earlier steps, so the loss is a mean over samples.
    fn couples_samples(&self) -> bool {
        false
    }

    /// The prototypes stand still at first.
    fn adjust_grads(&self, grads: &mut Grads, progress: &Progress) -> Result<()> {
        DinoHead::hold_last_layer(grads, "projector", self.config.freeze_last_layer, progress);
        Ok(())
    }

    /// Moves the teacher, and the centre towards the mean of the teacher's outputs of this step.
    fn after_step(&self, e: &Outcomes, progress: &Progress, world: &World) -> Result<()> {
        self.teacher.follow(joint::cosine_to_one(self.config.momentum, progress.fraction()))?;
        self.center.follow(&e.teacher, world)
    }

    fn settings(&self) -> Vec<Gauge> {
        vec![centre_moves(self.config.center_momentum)]
    }

    fn gauge_info(&self) -> &'static [GaugeInfo] {
        &TEACHER
    }

    /// The spread of the teacher's features; and of its targets on the first view, in nats: how sharp they are,
    /// and how much they say about the sample, which is 0 in either collapse.
    fn gauges(&self, e: &Outcomes, pass: &Pass) -> Result<Vec<Gauge>> {
        let mut gauges = vec![joint::embedding_std(&e.features)?];
        if let Some(first) = e.teacher.first() {
            let scaled = first.broadcast_sub(self.center.value())?;
            let scaled = (scaled / self.teacher_temperature(&pass.progress))?;
            let p = scaled.broadcast_sub(&scaled.max_keepdim(1)?)?.exp()?;
            gauges.extend(teacher_gauges(&p.broadcast_div(&p.sum_keepdim(1)?)?)?);
        }
        Ok(gauges)
    }

    fn may_skip(&self) -> Vec<String> {
        self.student.encoder.may_skip().into_iter().map(|name| format!("encoder.{name}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::toy::{self, Parts};
    use super::*;

    fn build(scope: &Scope) -> Result<Box<Dino>> {
        let mut config = DinoConfig::default();
        config.shrink();
        Ok(Box::new(Dino::new(scope, &toy::encoder, config)?))
    }

    #[test]
    fn passes_the_conformance_checks() -> Result<()> {
        toy::conforms("dino", 3, Parts::Exact, &build)
    }

    /// The teacher begins as a copy: without small crops the loss is the cross entropy of a view with the other.
    #[test]
    fn targets_come_from_the_other_view() -> Result<()> {
        let method = build(&toy::scope(1))?;
        let start = Progress { step: 0, total_steps: 10, epoch: 0 };
        let (dropping, batch) = (Pass::train(0, start), toy::batch(0, 0, 0)?);
        let pass = dropping.undropped();
        let e = method.embed(&batch, &pass)?;
        assert_eq!((e.student.len(), e.teacher.len()), (2, 2));
        let dropped = method.embed(&batch, &dropping)?;
        for (i, (s, t)) in e.student.iter().zip(&e.teacher).enumerate() {
            assert_eq!(s.to_vec2::<f32>()?, t.to_vec2::<f32>()?);
            assert_eq!(
                dropped.teacher[i].to_vec2::<f32>()?,
                t.to_vec2::<f32>()?,
                "the teacher drops nothing"
            );
            assert_ne!(dropped.student[i].to_vec2::<f32>()?, s.to_vec2::<f32>()?);
        }
        let loss = method.criterion(&e, &pass)?.value.to_scalar::<f32>()?;
        let softmax = |row: &[f32], t: f32| -> Vec<f64> {
            let e: Vec<f64> = row.iter().map(|v| f64::from(v / t).exp()).collect();
            let sum: f64 = e.iter().sum();
            e.into_iter().map(|v| v / sum).collect()
        };
        let (a, b) = (e.student[0].to_vec2::<f32>()?, e.student[1].to_vec2::<f32>()?);
        let cross = |x: &[Vec<f32>], y: &[Vec<f32>]| -> f64 {
            let row = |(t, s): (&Vec<f32>, &Vec<f32>)| -> f64 {
                softmax(t, 0.04).iter().zip(softmax(s, 0.1)).map(|(t, s)| -t * s.ln()).sum()
            };
            x.iter().zip(y).map(row).sum::<f64>() / x.len() as f64
        };
        let want = (cross(&a, &b) + cross(&b, &a)) / 2.0;
        assert!((f64::from(loss) - want).abs() < 1e-5, "{loss} {want}");
        Ok(())
    }

    #[test]
    fn one_view_and_odd_numbers_are_refused() -> Result<()> {
        let batch = toy::batch(0, 0, 0)?;
        let one = Views::of(batch.globals[..1].to_vec(), batch.indices);
        let error = build(&toy::scope(0))?.embed(&one, &Pass::eval()).unwrap_err().to_string();
        assert!(error.contains("DINO") && error.contains("got 1"), "{error}");
        for config in [
            DinoConfig { teacher_temperature: 0.0, ..DinoConfig::default() },
            DinoConfig { momentum: 1.5, ..DinoConfig::default() },
            DinoConfig { out_dim: 0, ..DinoConfig::default() },
        ] {
            let error = Dino::new(&toy::scope(0), &toy::encoder, config).err().unwrap().to_string();
            assert!(error.contains("method."), "{error}");
        }
        Ok(())
    }

    #[test]
    fn outputs_are_no_more_than_the_data() {
        let mut config = DinoConfig::default();
        assert_eq!(config.fit(10_000), None);
        let lowered = config.fit(600).unwrap();
        assert_eq!((lowered.key, lowered.to, config.out_dim), ("method.out_dim", 600, 600));
    }
}
