//! The transposed convolution: what a convolution does to gradients, as a layer. Its geometry is that of the
//! convolution from its output to its input, whose input gradient is the forward here, whose forward is the
//! input gradient, and whose weight gradient has the two sides exchanged.

use super::Geometry;
use super::fused::{forward, input_gradient, weight_gradient};
use crate::activation::slices::{floats, with};
use crate::linear::fused::column_sums;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

struct Transposed(Geometry);

impl Transposed {
    fn shape(&self) -> Shape {
        let g = &self.0;
        let mut shape = vec![g.n];
        shape.extend_from_slice(&g.size[3 - g.rank..]);
        shape.push(g.inputs);
        shape.into()
    }

    fn gradients(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: Option<&Tensor>,
        dy: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let g = &self.0;
        let made =
            |values: Vec<f32>, like: &Tensor| Tensor::from_vec(values, like.shape(), &Device::Cpu).map(Some);
        with(dy, |dy| {
            let dx =
                if x.track_op() { made(with(w, |w| Ok(forward(g, dy, w, |_| ()).0))?, x)? } else { None };
            let dw = if w.track_op() { made(with(x, |x| Ok(weight_gradient(g, dy, x)))?, w)? } else { None };
            let db = match b {
                Some(b) if b.track_op() => made(column_sums(dy, g.inputs), b)?,
                _ => None,
            };
            Ok([dx, dw, db])
        })
    }
}

impl CustomOp2 for Transposed {
    fn name(&self) -> &'static str {
        "conv_transpose"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(input_gradient(&self.0, floats(w, lw)?, floats(x, lx)?)), self.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, _] = self.gradients(x, w, None, dy)?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for Transposed {
    fn name(&self) -> &'static str {
        "conv_transpose"
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
        let mut y = input_gradient(&self.0, floats(w, lw)?, floats(x, lx)?);
        let b = floats(b, lb)?;
        y.par_chunks_mut(64 * b.len()).for_each(|rows| {
            for row in rows.chunks_exact_mut(b.len()) {
                row.iter_mut().zip(b).for_each(|(y, b)| *y += b);
            }
        });
        Ok((CpuStorage::F32(y), self.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, db] = self.gradients(x, w, Some(b), dy)?;
        Ok((dx, dw, db))
    }
}

/// See [`super::transposed`].
pub(super) fn transposed(x: &Tensor, w: &Tensor, b: Option<&Tensor>, g: &Geometry) -> Result<Tensor> {
    let (x, w) = (x.contiguous()?, w.contiguous()?);
    match b {
        None => x.apply_op2(&w, Transposed(*g)),
        Some(b) => x.apply_op3(&w, &b.contiguous()?, Transposed(*g)),
    }
}
