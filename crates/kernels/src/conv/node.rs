//! The fused convolution as nodes of candle's graph: alone, and with batch normalisation and an activation.

use super::Geometry;
use super::fused::{block, forward, input_gradient, weight_gradient};
use super::norm::{Affine, combine, moments};
use crate::activation::Act;
use crate::activation::slices::{floats, with};
use crate::sink::deliver;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};
use std::sync::{Arc, OnceLock};

/// Both gradients, each only where somebody asks for it.
pub(super) fn gradients(
    g: &Geometry,
    x: &Tensor,
    w: &Tensor,
    dy: &[f32],
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let dx = if x.track_op() {
        let values = with(w, |w| Ok(input_gradient(g, w, dy)))?;
        Some(Tensor::from_vec(values, x.shape(), &Device::Cpu)?)
    } else {
        None
    };
    let dw = if w.track_op() {
        let values = with(x, |x| Ok(weight_gradient(g, x, dy)))?;
        deliver(w, Tensor::from_vec(values, w.shape(), &Device::Cpu)?)?
    } else {
        None
    };
    Ok((dx, dw))
}

struct Conv(Geometry);

impl CustomOp2 for Conv {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let g = &self.0;
        let (y, _) = forward(g, floats(x, lx)?, floats(w, lw)?, |_| ());
        Ok((CpuStorage::F32(y), g.out_shape().into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        with(dy, |dy| gradients(&self.0, x, w, dy))
    }
}

/// See [`super::conv`].
pub(super) fn conv(x: &Tensor, w: &Tensor, b: Option<&Tensor>, g: &Geometry) -> Result<Tensor> {
    let y = x.contiguous()?.apply_op2(&w.contiguous()?, Conv(*g))?;
    match b {
        Some(b) => y.broadcast_add(b),
        None => Ok(y),
    }
}

/// What the forward of [`ConvBn`] leaves for its backward, and for the running statistics.
struct Saved {
    y: Vec<f32>,
    mean: Vec<f32>,
    variance: Vec<f32>,
}

struct ConvBn {
    g: Geometry,
    eps: f64,
    relu: bool,
    saved: Arc<OnceLock<Saved>>,
}

impl ConvBn {
    /// Values up to this one are cut off.
    fn floor(&self) -> f32 {
        if self.relu { 0.0 } else { f32::NEG_INFINITY }
    }
}

impl CustomOp3 for ConvBn {
    fn name(&self) -> &'static str {
        "conv_bn_act"
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
        let (g, c) = (&self.g, self.g.outputs);
        let (y, parts) = forward(g, floats(x, lx)?, floats(w, lw)?, |rows| moments(rows, c));
        let rows = y.len() / c;
        let (mean, variance) = combine(&parts, c, rows, block(rows));
        let out = Affine::new(floats(gb, lgb)?, &mean, &variance, self.eps).forward(&y, self.floor());
        let _ = self.saved.set(Saved { y, mean, variance });
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
        let Some(saved) = self.saved.get() else { bail!("conv_bn_act: backward before forward") };
        let affine = with(gb, |gb| Ok(Affine::new(gb, &saved.mean, &saved.variance, self.eps)))?;
        let (dgb, dy) = with(grad, |grad| Ok(affine.backward(&saved.y, grad, self.floor())))?;
        let (dx, dw) = gradients(&self.g, x, w, &dy)?;
        let dgb = if gb.track_op() { Some(Tensor::from_vec(dgb, gb.shape(), &Device::Cpu)?) } else { None };
        Ok((dx, dw, dgb))
    }
}

/// See [`super::conv_bn_act`]; `None` for an activation that this path does not fuse.
pub(super) fn conv_bn_act(
    x: &Tensor,
    w: &Tensor,
    gb: &Tensor,
    g: &Geometry,
    eps: f64,
    act: Act,
) -> Result<Option<(Tensor, Tensor, Tensor)>> {
    let relu = match act {
        Act::None => false,
        Act::Relu => true,
        Act::GeluErf | Act::GeluTanh => return Ok(None),
    };
    let saved = Arc::new(OnceLock::new());
    let op = ConvBn { g: *g, eps, relu, saved: saved.clone() };
    let out = x.contiguous()?.apply_op3(&w.contiguous()?, &gb.contiguous()?, op)?;
    let Some(kept) = saved.get() else { bail!("conv_bn_act: no statistics") };
    let vector = |v: &Vec<f32>| Tensor::from_slice(v, v.len(), &Device::Cpu);
    Ok(Some((out, vector(&kept.mean)?, vector(&kept.variance)?)))
}
