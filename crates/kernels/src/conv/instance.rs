//! Convolution + instance norm + activation as one node of the graph: the block of U-Nets on volumes.
//!
//! It keeps the convolution's output, two numbers per sample and channel, and its own result. Three nodes
//! would keep the normalised values as well, and candle would add up the gradient of each of them on one
//! thread.

use super::Geometry;
use super::fused::forward;
use super::node::gradients;
use crate::activation::Act;
use crate::activation::slices::{floats, with};
use crate::norm::channels::{Affine, Groups, Stats, statistics, weight_gradient};
use candle_core::{CpuStorage, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};
use std::sync::OnceLock;

struct ConvInstance {
    g: Geometry,
    eps: f64,
    act: Act,
    /// The convolution's output and its statistics.
    saved: OnceLock<(Vec<f32>, Stats)>,
}

impl ConvInstance {
    fn groups(&self) -> Groups {
        let c = self.g.outputs;
        Groups { samples: self.g.n, positions: self.g.out.iter().product(), channels: c, groups: c }
    }
}

impl CustomOp3 for ConvInstance {
    fn name(&self) -> &'static str {
        "conv_instance_act"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        gb: &CpuStorage,
        lgb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let g = &self.g;
        let (weight, bias) = floats(gb, lgb)?.split_at(g.outputs);
        let (y, _) = forward(g, floats(x, lx)?, floats(w, lw)?, |_| ());
        let (y, stats) = self.saved.get_or_init(|| {
            let stats = statistics(&y, self.groups(), self.eps);
            (y, stats)
        });
        let out = Affine::new(self.groups(), stats, weight, bias, self.act).forward(y);
        Ok((CpuStorage::F32(out), g.out_shape().into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        gb: &Tensor,
        _out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let Some((y, stats)) = self.saved.get() else { bail!("conv_instance_act: backward before forward") };
        let c = self.g.outputs;
        let (sums, dy) = with(grad, |grad| {
            with(gb, |gb| {
                let affine = Affine::new(self.groups(), stats, &gb[..c], &gb[c..], self.act);
                let sums = affine.sums(y, grad);
                let dy = affine.norm_gradient(y, grad, &sums);
                Ok((sums, dy))
            })
        })?;
        let (dx, dw) = gradients(&self.g, x, w, &dy)?;
        let dgb = if gb.track_op() {
            Some(Tensor::from_vec(weight_gradient(&sums, c), gb.shape(), &Device::Cpu)?)
        } else {
            None
        };
        Ok((dx, dw, dgb))
    }
}

/// See [`super::conv_instance_act`].
pub(super) fn conv_instance_act(
    x: &Tensor,
    w: &Tensor,
    gb: Option<&Tensor>,
    g: &Geometry,
    eps: f64,
    act: Act,
) -> Result<Tensor> {
    let c = g.outputs;
    let gb = match gb {
        Some(gb) => gb.contiguous()?,
        None => Tensor::from_vec([vec![1f32; c], vec![0f32; c]].concat(), (2, c), &Device::Cpu)?,
    };
    let op = ConvInstance { g: *g, eps, act, saved: OnceLock::new() };
    x.contiguous()?.apply_op3(&w.contiguous()?, &gb, op)
}
