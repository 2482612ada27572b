//! The convolutional front: waves to frames (wav2vec 2.0, arXiv 2006.11477, section 2).
//!
//! Seven convolutions of strides 5, 2, 2, 2, 2, 2, 2 make a frame of every 320 samples (20 ms at 16 kHz).
//! Either the first convolution is normalised, each channel over time, or all are, each frame over its
//! channels.

use super::config::{FrontNorm, SpeechConfig};
use candle_core::Tensor;
use selfsup_core::kernels::Path;
use selfsup_core::kernels::activation::Act;
use selfsup_core::kernels::conv::{ConvSpec, conv, conv_act, conv_instance_act};
use selfsup_core::kernels::norm::{instance_norm_act, layer_norm};
use selfsup_core::{Error, Init, Pass, Result, Scope, Weight};

#[derive(Clone, Debug)]
struct Stage {
    weight: Weight,
    bias: Option<Weight>,
    spec: ConvSpec,
    norm: Option<(Weight, Weight)>,
}

/// The front of a speech encoder.
#[derive(Clone, Debug)]
pub struct Front {
    stages: Vec<Stage>,
    norm: FrontNorm,
    act: Act,
    receptive_field: usize,
}

impl Front {
    /// Convolution `i` lives at `scope.i.conv`, its normalisation at `scope.i.norm`.
    ///
    /// # Errors
    /// If a name is taken by a tensor of another shape.
    pub fn new(scope: &Scope, c: &SpeechConfig) -> Result<Self> {
        let mut stages = Vec::new();
        let mut inputs = 1;
        for (i, ((&outputs, &kernel), &stride)) in
            c.conv_dim.iter().zip(&c.conv_kernel).zip(&c.conv_stride).enumerate()
        {
            let s = scope.sub(i);
            let conv = s.sub("conv");
            // He et al.'s normal values over the inputs of a window.
            let init = Init::Normal((2.0 / (inputs * kernel) as f32).sqrt());
            let reach = 1.0 / ((inputs * kernel) as f32).sqrt();
            let norm = if c.front_norm == FrontNorm::Layer || i == 0 {
                let n = s.sub("norm");
                Some((n.get("weight", outputs, Init::Const(1.0))?, n.get("bias", outputs, Init::Const(0.0))?))
            } else {
                None
            };
            stages.push(Stage {
                weight: conv.get("weight", (outputs, inputs, kernel), init)?,
                bias: if c.conv_bias { Some(conv.get("bias", outputs, Init::Uniform(reach))?) } else { None },
                spec: ConvSpec::new().stride(stride),
                norm,
            });
            inputs = outputs;
        }
        Ok(Front { stages, norm: c.front_norm, act: c.act, receptive_field: c.receptive_field() })
    }

    /// Waves `(N, T)` to frames `(N, L, C)`.
    ///
    /// # Errors
    /// If the waves are too short for one frame.
    pub fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (_, t) =
            x.dims2().map_err(|_| Error::input("waves", format!("shape {:?}, expected (N, T)", x.dims())))?;
        if t < self.receptive_field {
            return Err(Error::input(
                "waves",
                format!("{t} samples, expected at least {}, which make one frame", self.receptive_field),
            ));
        }
        let mut x = x.unsqueeze(2)?; // (N, T) -> (N, T, 1)
        for stage in &self.stages {
            let weight = stage.weight.on(pass)?;
            let bias = stage.bias.as_ref().map(|b| b.on(pass)).transpose()?;
            x = match &stage.norm {
                None => conv_act(&x, &weight, bias.as_ref(), &stage.spec, self.act, Path::Auto)?,
                Some((w, b)) => {
                    let gb = Tensor::stack(&[w.on(pass)?, b.on(pass)?], 0)?;
                    // 1e-5 is PyTorch's epsilon, which the models leave alone here.
                    match (self.norm, &bias) {
                        (FrontNorm::Group, None) => conv_instance_act(
                            &x,
                            &weight,
                            Some(&gb),
                            &stage.spec,
                            1e-5,
                            self.act,
                            Path::Auto,
                        )?,
                        (FrontNorm::Group, bias) => {
                            let y = conv(&x, &weight, bias.as_ref(), &stage.spec, Path::Auto)?;
                            instance_norm_act(&y, Some(&gb), 1e-5, self.act, Path::Auto)?
                        }
                        (FrontNorm::Layer, bias) => {
                            let y = conv_act(&x, &weight, bias.as_ref(), &stage.spec, Act::None, Path::Auto)?;
                            self.act.apply(&layer_norm(&y, Some(&gb), 1e-5, Path::Auto)?, Path::Auto)?
                        }
                    }
                }
            };
        }
        Ok(x)
    }
}
