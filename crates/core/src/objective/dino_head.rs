//! What DINO and its followers (iBOT, DINOv2) share: the head whose last layer holds the prototypes, the centre
//! of the teacher's outputs, and the temperature that the teacher warms up to.
//!
//! Caron et al. 2021, arXiv 2104.14294, section 3.2 and appendix C.

use super::gauge::{Gauge, GaugeInfo};
use super::joint::{FEWEST, Head};
use crate::error::{Error, Result};
use crate::init::Init;
use crate::nn::Linear;
use crate::optim::Grads;
use crate::params::{Params, Weight};
use crate::pass::{Pass, Progress};
use crate::scope::{Buffer, Scope};
use crate::world::World;
use candle_core::Tensor;
use selfsup_kernels::Path;
use selfsup_kernels::activation::Act;
use selfsup_kernels::linear::linear;
use selfsup_kernels::norm::l2_normalize;
use selfsup_kernels::weight_norm::weight_norm;

/// Sizes of a [`DinoHead`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DinoHeadSizes {
    /// Width of the two hidden layers.
    pub hidden: usize,
    /// Width of the layer that is normalised.
    pub bottleneck: usize,
    /// Number of outputs K.
    pub outputs: usize,
    /// Whether the rows of the last layer have length 1; else their lengths are learned.
    pub unit_rows: bool,
}

/// Linear, GELU, linear, GELU, linear to the bottleneck; normalised; then K outputs without bias by a layer of
/// normalised weight. With rows of length 1 an output is the cosine with a prototype.
#[derive(Clone, Debug)]
pub struct DinoHead {
    /// `layers.0`, `layers.2`, `layers.4`.
    layers: [Linear; 3],
    /// `last_layer.weight_v`, `(K, bottleneck)`.
    directions: Weight,
    /// `last_layer.weight_g`, `(K)`.
    lengths: Option<Weight>,
}

/// The last layer, below the scope of a head.
const LAST: &str = "last_layer";

impl DinoHead {
    /// A head of features of width `dim`: weights from a normal distribution of 0.02 cut at twice that, biases
    /// 0; the last layer as PyTorch draws it.
    ///
    /// # Errors
    /// If the names are taken by tensors of other shapes, or a size is 0.
    pub fn new(scope: &Scope, dim: usize, sizes: DinoHeadSizes) -> Result<Self> {
        let DinoHeadSizes { hidden, bottleneck, outputs, unit_rows } = sizes;
        if hidden == 0 || bottleneck == 0 || outputs == 0 {
            return Err(Error::config(format!(
                "method.hidden_dim = {hidden}, method.bottleneck_dim = {bottleneck}, method.out_dim = {outputs}: \
                 expected at least 1 each"
            )));
        }
        let layer = |i: usize, from, to| {
            Linear::new(&scope.sub(format!("layers.{i}")), from, to, true, Init::TruncNormal(0.02))
        };
        let layers = [layer(0, dim, hidden)?, layer(2, hidden, hidden)?, layer(4, hidden, bottleneck)?];
        let last = scope.sub(LAST);
        let directions = last.get("weight_v", (outputs, bottleneck), Init::TorchLinear)?;
        let lengths = if unit_rows { None } else { Some(last.get("weight_g", outputs, Init::Const(1.0))?) };
        Ok(DinoHead { layers, directions, lengths })
    }

    /// `(.., D)` to `(.., K)`.
    ///
    /// # Errors
    /// If the last dimension of `x` is not that of the features.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.prototypes(&self.bottleneck(x, pass)?, pass)
    }

    /// What the last layer gets, of length 1: `(.., D)` to `(.., bottleneck)`.
    ///
    /// # Errors
    /// If the last dimension of `x` is not that of the features.
    pub fn bottleneck(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let [first, second, third] = &self.layers;
        let x = second.forward_act(&first.forward_act(x, Act::GeluErf, pass)?, Act::GeluErf, pass)?;
        Ok(l2_normalize(&third.forward(&x, pass)?, 1e-12, Path::Auto)?)
    }

    /// The last layer: `(.., bottleneck)` to `(.., K)`.
    ///
    /// # Errors
    /// If the last dimension of `x` is not that of the bottleneck.
    pub fn prototypes(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let directions = self.directions.on(pass)?;
        let rows = match &self.lengths {
            None => l2_normalize(&directions, 1e-12, Path::Auto)?,
            Some(lengths) => weight_norm(&directions, &lengths.on(pass)?, 0, Path::Auto)?,
        };
        Ok(linear(x, &rows, None, Path::Auto)?)
    }

    /// Takes out the gradients of the last layer of the head at `path` in the first `epochs`, so that features
    /// move before the prototypes run after them; in a tenth of the run at most, since a short run has few
    /// epochs.
    pub fn hold_last_layer(grads: &mut Grads, path: &str, epochs: u64, progress: &Progress) {
        if progress.epoch < epochs && progress.fraction() < 0.1 {
            grads.remove_under(&format!("{path}.{LAST}"));
        }
    }
}

impl Head for DinoHead {
    fn project(&self, features: &Tensor, pass: &Pass) -> Result<Tensor> {
        self.forward(features, pass)
    }
}

/// The moving average of the teacher's outputs, which is subtracted from them: no output can win everywhere.
#[derive(Clone, Debug)]
pub struct Centre {
    params: Params,
    buffer: Buffer,
    momentum: f64,
}

impl Centre {
    /// The buffer `name`, `(1, K)`, zero at first.
    ///
    /// # Errors
    /// If the name is taken by a tensor of another shape.
    pub fn new(scope: &Scope, name: &str, outputs: usize, momentum: f64) -> Result<Self> {
        let buffer = scope.buffer(name, (1, outputs), Init::Const(0.0))?;
        Ok(Centre { params: scope.params().clone(), buffer, momentum })
    }

    /// Its present value, `(1, K)`.
    pub fn value(&self) -> &Tensor {
        &self.buffer.tensor
    }

    /// `c = m c + (1 - m) mean`, the mean over all rows of `outputs`, each `(N, K)`, of all processes. Called
    /// after the loss. Without rows (no patch was masked) the centre stays.
    ///
    /// # Errors
    /// If shapes differ, or another process fails.
    pub fn follow(&self, outputs: &[Tensor], world: &World) -> Result<()> {
        let (mut sum, mut rows) = (self.value().zeros_like()?, 0);
        for view in outputs {
            rows += view.dim(0)?;
            if view.dim(0)? > 0 {
                sum = (sum + view.detach().sum_keepdim(0)?)?;
            }
        }
        let rows = world.total(rows as f64)?;
        let sum = world.all_reduce(&sum)?;
        if rows == 0.0 {
            return Ok(());
        }
        let mean = (sum / rows)?;
        let moved = ((self.value() * self.momentum)? + (mean * (1.0 - self.momentum))?)?;
        self.params.set(&self.buffer.name, &moved)
    }
}

/// The teacher's temperature at `progress`: from the first value to the second along a line over the first
/// `share` of the run, then the second.
pub fn warmed((from, to): (f64, f64), share: f64, progress: &Progress) -> f64 {
    let done = progress.fraction();
    if done >= share { to } else { from + (to - from) * done / share }
}

/// `(sharpness, information)` of distributions `(N, K)`, in nats: `-mean H(p)` and `H(mean p) - mean H(p)`. The
/// second is what an output says about which sample it is of: 0 when all samples have the same output, whether
/// that is one entry or all of them.
///
/// # Errors
/// If `p` has another rank.
pub fn information(p: &Tensor) -> Result<(f64, f64)> {
    let entropy = |p: &Tensor| -> Result<f64> {
        let each = (p * (p + 1e-12)?.log()?)?.sum(1)?.mean_all()?;
        Ok(-f64::from(each.to_scalar::<f32>()?))
    };
    let (each, mean) = (entropy(p)?, entropy(&p.mean_keepdim(0)?)?);
    Ok((-each, mean - each))
}

/// What the gauges of a teacher's targets mean.
pub static TEACHER: [GaugeInfo; 2] = [
    GaugeInfo::new("teacher_information", "nats that the teacher's targets say about the sample").too_low(
        "all samples get nearly the same target, one output or all of them alike: the targets are not sharpened or \
         not centred, the teacher copies its student, the learning rate is too high, or the samples hardly differ",
        "method.teacher_temperature of 0.04 to 0.07, method.center_momentum of 0.9, method.momentum of 0.99 and \
         more, a lower optim.lr",
    ),
    GaugeInfo::new("method.center_momentum", "share of the centre that stays in a step").too_high(
        "the centre stands still, so it holds no output back: one of them may take all samples",
        "method.center_momentum = 0.9",
    ),
];

/// Whether the centre follows the teacher's outputs.
pub fn centre_moves(momentum: f64) -> Gauge {
    Gauge::below("method.center_momentum", momentum, 0.9999)
}

/// Gauges of a teacher's targets `(N, K)`: their entropy, and what they say about the sample, which is 0 in either
/// collapse. Short healthy runs were above 0.06 nats (docs/benchmarks/collapse.md).
///
/// # Errors
/// If `p` has another rank.
pub fn teacher_gauges(p: &Tensor) -> Result<[Gauge; 2]> {
    let (sharpness, said) = information(p)?;
    let said = if p.dim(0)? < FEWEST {
        Gauge::plain("teacher_information", said)
    } else {
        Gauge::above("teacher_information", said, 0.02)
    };
    Ok([Gauge::plain("teacher_entropy", -sharpness), said])
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn targets_that_are_alike_are_outside_the_band() -> Result<()> {
        let p = |f: &dyn Fn(usize, usize) -> f32| -> Result<[Gauge; 2]> {
            let values: Vec<f32> = (0..32 * 4).map(|i| f(i / 4, i % 4)).collect();
            teacher_gauges(&Tensor::from_vec(values, (32, 4), &Device::Cpu)?)
        };
        let [_, apart] = p(&|i, k| f32::from(u8::from(i % 4 == k)))?;
        assert!((apart.value - 4f64.ln()).abs() < 1e-5 && apart.band.low == Some(0.02), "{apart:?}");
        for alike in [p(&|_, _| 0.25)?, p(&|_, k| f32::from(u8::from(k == 0)))?] {
            assert!(alike[1].value.abs() < 1e-5, "{alike:?}");
        }
        Ok(())
    }

    fn head(unit_rows: bool) -> (Params, DinoHead) {
        let params = Params::new();
        let scope = Scope::root(&params, 4, &Device::Cpu).sub("projector").top();
        let sizes = DinoHeadSizes { hidden: 6, bottleneck: 3, outputs: 5, unit_rows };
        (params, DinoHead::new(&scope, 4, sizes).unwrap())
    }

    /// Outputs are cosines with the rows of the last layer, whatever their lengths; learned lengths scale them.
    #[test]
    fn outputs_are_cosines() -> Result<()> {
        let x = Tensor::new(&[[1f32, -2.0, 0.5, 3.0], [0.1, 0.0, -4.0, 1.0]], &Device::Cpu)?;
        let (params, unit) = head(true);
        let before = unit.forward(&x, &Pass::eval())?.to_vec2::<f32>()?;
        assert!(before.iter().flatten().all(|v| v.abs() <= 1.0 + 1e-6));
        let name = "projector.last_layer.weight_v";
        let longer = (params.get(name).unwrap().var.as_detached_tensor() * 7.0)?;
        params.set(name, &longer)?;
        let after = unit.forward(&x, &Pass::eval())?.to_vec2::<f32>()?;
        let same = |a: &[Vec<f32>], b: &[Vec<f32>], by: f32| {
            a.iter().flatten().zip(b.iter().flatten()).all(|(a, b)| (a * by - b).abs() < 1e-5)
        };
        assert!(same(&before, &after, 1.0));
        let (params, free) = head(false);
        assert!(
            same(&before, &free.forward(&x, &Pass::eval())?.to_vec2::<f32>()?, 1.0),
            "lengths start at 1"
        );
        params.set("projector.last_layer.weight_g", &Tensor::full(2f32, 5, &Device::Cpu)?)?;
        assert!(same(&before, &free.forward(&x, &Pass::eval())?.to_vec2::<f32>()?, 2.0));
        Ok(())
    }

    #[test]
    fn the_last_layer_is_held_in_the_first_epochs() {
        let grads = || {
            let mut g = Grads::default();
            for name in ["projector.last_layer.weight_v", "projector.layers.0.weight"] {
                g.insert(name, Tensor::new(&[1f32], &Device::Cpu).unwrap());
            }
            g
        };
        let left = |epochs, step, epoch| {
            let mut g = grads();
            let progress = Progress { step, total_steps: 100, epoch };
            DinoHead::hold_last_layer(&mut g, "projector", epochs, &progress);
            g.len()
        };
        assert_eq!([left(1, 0, 0), left(1, 5, 1), left(2, 5, 1), left(0, 0, 0)], [1, 2, 1, 2]);
        assert_eq!(left(1, 10, 0), 2, "not longer than a tenth of the run");
    }

    #[test]
    fn the_centre_is_the_mean_over_views_and_rows() -> Result<()> {
        let params = Params::new();
        let centre = Centre::new(&Scope::root(&params, 0, &Device::Cpu), "center", 2, 0.9)?;
        let a = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
        let b = Tensor::new(&[[5f32, 0.0]], &Device::Cpu)?;
        let none = Tensor::zeros((0, 2), candle_core::DType::F32, &Device::Cpu)?;
        centre.follow(std::slice::from_ref(&none), &World::default())?;
        assert_eq!(centre.value().to_vec2::<f32>()?, [[0.0, 0.0]]);
        centre.follow(&[a, none, b], &World::default())?;
        let got = centre.value().to_vec2::<f32>()?;
        assert!((got[0][0] - 0.3).abs() < 1e-6 && (got[0][1] - 0.2).abs() < 1e-6, "{got:?}");
        Ok(())
    }

    #[test]
    fn temperatures_warm_up() {
        let at = |step| warmed((0.04, 0.07), 0.3, &Progress { step, total_steps: 100, epoch: 0 });
        assert!((at(0) - 0.04).abs() < 1e-12 && (at(15) - 0.055).abs() < 1e-12 && at(30) == 0.07);
        assert_eq!(warmed((0.04, 0.07), 0.0, &Progress::default()), 0.07);
    }

    #[test]
    fn both_collapses_have_no_information() -> Result<()> {
        let of = |rows: &[[f32; 2]; 2]| information(&Tensor::new(rows, &Device::Cpu)?);
        let ln2 = 2f64.ln();
        let near =
            |(a, b): (f64, f64), want: (f64, f64)| (a - want.0).abs() < 1e-6 && (b - want.1).abs() < 1e-6;
        assert!(near(of(&[[1.0, 0.0], [1.0, 0.0]])?, (0.0, 0.0)), "one output for all");
        assert!(near(of(&[[0.5, 0.5], [0.5, 0.5]])?, (-ln2, 0.0)), "all outputs alike");
        assert!(near(of(&[[1.0, 0.0], [0.0, 1.0]])?, (0.0, ln2)), "one output each");
        Ok(())
    }
}
