//! Convolutions in place of position embeddings (Mohamed et al. 2019, arXiv 1904.11660).
//!
//! wav2vec 2.0 and HuBERT have one of 128 taps in 16 groups, whose weight is `g v / ||v||` with a length `g`
//! for each tap (weight normalisation over all but the last dimension); data2vec has five of 19 taps, each
//! followed by a layer norm without parameters.

use super::config::{Family, SpeechConfig};
use candle_core::{Device, Tensor};
use selfsup_core::kernels::Path;
use selfsup_core::kernels::activation::Act;
use selfsup_core::kernels::conv::{ConvSpec, conv_act};
use selfsup_core::kernels::norm::layer_norm;
use selfsup_core::kernels::weight_norm::weight_norm;
use selfsup_core::{Init, Pass, Result, Scope, Weight};

#[derive(Clone, Debug)]
enum Kind {
    /// Lengths `(1, 1, K)` and directions `(D, D / G, K)`.
    WeightNorm { length: Weight, direction: Weight, bias: Weight },
    /// Weights and biases.
    Stack(Vec<(Weight, Weight)>),
}

/// What is added to the frames to tell their places.
#[derive(Clone, Debug)]
pub struct Positions {
    kind: Kind,
    spec: ConvSpec,
    even: bool,
    act: Act,
    eps: f64,
}

impl Positions {
    /// Weight normalisation lives at `scope.length` and `scope.direction`; the stack at `scope.0`, `scope.1`
    /// ...
    ///
    /// # Errors
    /// If a name is taken by a tensor of another shape.
    pub fn new(scope: &Scope, c: &SpeechConfig) -> Result<Self> {
        let (d, k, groups) = (c.dim, c.position_kernel, c.position_groups);
        let shape = (d, d / groups, k);
        let kind = if c.family == Family::Data2vecAudio {
            let reach = 1.0 / ((d / groups * k) as f32).sqrt();
            let layer = |i: usize| -> Result<_> {
                let s = scope.sub(i);
                Ok((s.get("weight", shape, Init::TorchLinear)?, s.get("bias", d, Init::Uniform(reach))?))
            };
            Kind::Stack((0..c.position_layers).map(layer).collect::<Result<_>>()?)
        } else {
            let direction = scope.get("direction", shape, Init::Normal(2.0 / ((k * d) as f32).sqrt()))?;
            // The weight starts as the direction itself.
            let norm = |_: &Device| Ok(direction.value().sqr()?.sum_keepdim(0)?.sum_keepdim(1)?.sqrt()?);
            let length = scope.get_with("length", (1, 1, k), norm)?;
            Kind::WeightNorm { length, direction, bias: scope.get("bias", d, Init::Const(0.0))? }
        };
        let spec = ConvSpec::new().padding(k / 2).groups(groups);
        Ok(Positions { kind, spec, even: k.is_multiple_of(2), act: c.act, eps: 1e-5 })
    }

    /// Frames `(N, L, D)` to what is added to them, `(N, L, D)`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let l = x.dim(1)?;
        // With an even number of taps the padding on both sides makes one frame too many.
        let cut = |y: Tensor| if self.even { y.narrow(1, 0, l)?.contiguous() } else { Ok(y) };
        match &self.kind {
            Kind::WeightNorm { length, direction, bias } => {
                let weight = weight_norm(&direction.on(pass)?, &length.on(pass)?, 2, Path::Auto)?;
                Ok(cut(conv_act(x, &weight, Some(&bias.on(pass)?), &self.spec, self.act, Path::Auto)?)?)
            }
            Kind::Stack(layers) => {
                let mut x = x.clone();
                for (weight, bias) in layers {
                    let y = cut(conv_act(
                        &x,
                        &weight.on(pass)?,
                        Some(&bias.on(pass)?),
                        &self.spec,
                        Act::None,
                        Path::Auto,
                    )?)?;
                    x = self.act.apply(&layer_norm(&y, None, self.eps, Path::Auto)?, Path::Auto)?;
                }
                Ok(x)
            }
        }
    }
}
