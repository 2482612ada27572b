//! Convolution + bias + activation as one node of the graph: the fronts and positional convolutions of speech
//! encoders.
//!
//! Of the forward only the pre-activation is kept, and only where the derivative needs it and somebody asks
//! for one.

use super::Geometry;
use super::fused::forward;
use super::node::gradients;
use crate::activation::slices::{floats, with};
use crate::activation::{Act, act_backward, act_forward};
use crate::linear::fused::column_sums;
use crate::memory::{copy, unwritten};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Rows of a task.
const ROWS: usize = 64;

struct ConvAct {
    g: Geometry,
    act: Act,
    /// Whether the backward will need the pre-activation.
    keep: bool,
    pre: OnceLock<Vec<f32>>,
}

impl ConvAct {
    fn run(&self, x: &[f32], w: &[f32], b: Option<&[f32]>) -> Vec<f32> {
        let o = self.g.outputs;
        let (mut y, _) = forward(&self.g, x, w, |_| ());
        let biased = |row: &mut [f32]| {
            for row in row.chunks_exact_mut(o) {
                for (y, b) in row.iter_mut().zip(b.unwrap_or_default()) {
                    *y += b;
                }
            }
        };
        if self.keep {
            let mut z = y;
            let mut y = unwritten(z.len());
            z.par_chunks_mut(ROWS * o).zip(y.par_chunks_mut(ROWS * o)).for_each(|(z, y)| {
                biased(z);
                act_forward(self.act, copy(y, z));
            });
            // A node runs forward once.
            let _ = self.pre.set(z);
            // SAFETY: `z` is as long, and copied block by block.
            return unsafe { y.written() };
        }
        y.par_chunks_mut(ROWS * o).for_each(|y| {
            biased(y);
            act_forward(self.act, y);
        });
        y
    }

    fn back(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: Option<&Tensor>,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let o = self.g.outputs;
        let dz = match (self.act, self.pre.get()) {
            (Act::None, _) => None,
            (Act::Relu, _) => Some(with(y, |y| with(grad, |g| Ok(self.before(y, g))))?),
            (_, Some(z)) => Some(with(grad, |g| Ok(self.before(z, g)))?),
            (_, None) => bail!("conv_act: backward before forward"),
        };
        let all = |dz: &[f32]| {
            let db = match b {
                Some(b) if b.track_op() => Some(Tensor::from_vec(column_sums(dz, o), o, &Device::Cpu)?),
                _ => None,
            };
            let (dx, dw) = gradients(&self.g, x, w, dz)?;
            Ok([dx, dw, db])
        };
        match &dz {
            Some(dz) => all(dz),
            None => with(grad, all),
        }
    }

    /// The gradient before the activation; `z` is what came before it, or for ReLU also after.
    fn before(&self, z: &[f32], grad: &[f32]) -> Vec<f32> {
        let size = ROWS * self.g.outputs;
        let mut dz = unwritten(grad.len());
        dz.par_chunks_mut(size)
            .zip(grad.par_chunks(size))
            .zip(z.par_chunks(size))
            .for_each(|((dz, g), z)| act_backward(self.act, z, copy(dz, g)));
        // SAFETY: `grad` and `z` are as long, and copied block by block.
        unsafe { dz.written() }
    }
}

impl CustomOp2 for ConvAct {
    fn name(&self) -> &'static str {
        "conv_act"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(self.run(floats(x, lx)?, floats(w, lw)?, None)), self.g.out_shape().into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, _] = self.back(x, w, None, y, grad)?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for ConvAct {
    fn name(&self) -> &'static str {
        "conv_act"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((
            CpuStorage::F32(self.run(floats(x, lx)?, floats(w, lw)?, Some(floats(b, lb)?))),
            self.g.out_shape().into(),
        ))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, db] = self.back(x, w, Some(b), y, grad)?;
        Ok((dx, dw, db))
    }
}

/// See [`super::conv_act`].
pub(super) fn conv_act(x: &Tensor, w: &Tensor, b: Option<&Tensor>, g: &Geometry, act: Act) -> Result<Tensor> {
    let tracked = x.track_op() || w.track_op() || b.is_some_and(Tensor::track_op);
    let op = ConvAct {
        g: *g,
        act,
        keep: tracked && matches!(act, Act::GeluErf | Act::GeluTanh),
        pre: OnceLock::new(),
    };
    let (x, w) = (x.contiguous()?, w.contiguous()?);
    match b {
        None => x.apply_op2(&w, op),
        Some(b) => x.apply_op3(&w, &b.contiguous()?, op),
    }
}
