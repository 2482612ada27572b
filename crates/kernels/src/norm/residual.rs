//! The end of a residual block: sum and ReLU in one node.

use crate::Path;
use crate::activation::relu;
use crate::activation::slices::{CHUNK, Floats, floats, for_chunks, output, tensor, wants_fused};
use crate::linear::simd::simd_fn;
use crate::memory::{Blank, unwritten};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

/// `max(a + b, 0)` for `a` and `b` of one shape (He et al. 2015, arXiv 1512.03385); the derivative at 0 is 0.
///
/// # Errors
/// If the shapes differ, or `path` asks for the fused kernel and a tensor is not f32 on the CPU.
pub fn add_relu(a: &Tensor, b: &Tensor, path: Path) -> Result<Tensor> {
    if a.dims() != b.dims() {
        bail!("add_relu: shapes {:?} and {:?}, expected the same", a.dims(), b.dims())
    }
    if wants_fused("add_relu", path, &[a, b])? {
        return a.contiguous()?.apply_op2(&b.contiguous()?, AddRelu);
    }
    relu(&(a + b)?, path)
}

simd_fn! {
    fn forward(a: &[f32], b: &[f32], y: &mut [Blank]) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
            let sum = a + b;
            y.write(if sum <= 0.0 { 0.0 } else { sum });
        }
    }
}

simd_fn! {
    /// The result stands for the sum: it is 0 exactly where the sum was not positive.
    fn backward(y: &[f32], g: &[f32], d: &mut [Blank]) {
        for ((d, &y), &g) in d.iter_mut().zip(y).zip(g) {
            d.write(if y <= 0.0 { 0.0 } else { g });
        }
    }
}

struct AddRelu;

impl CustomOp2 for AddRelu {
    fn name(&self) -> &'static str {
        "add-relu"
    }

    fn cpu_fwd(
        &self,
        sa: &CpuStorage,
        la: &Layout,
        sb: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (a, b) = (floats(sa, la)?, floats(sb, lb)?);
        let mut y = unwritten(a.len());
        for_chunks(&mut y, CHUNK, |i, y| {
            let at = i * CHUNK..i * CHUNK + y.len();
            forward(&a[at.clone()], &b[at], y);
        });
        // SAFETY: each chunk is written from those of `a` and `b`, which have one shape.
        Ok(output(unsafe { y.written() }, la.shape()))
    }

    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let g = g.contiguous()?;
        let (ys, gs) = (Floats::new(y)?, Floats::new(&g)?);
        let (ys, gs): (&[f32], &[f32]) = (&ys, &gs);
        let mut d = unwritten(ys.len());
        for_chunks(&mut d, CHUNK, |i, d| {
            let at = i * CHUNK..i * CHUNK + d.len();
            backward(&ys[at.clone()], &gs[at], d);
        });
        // Both have the same gradient, and may share its storage: nobody writes into it.
        // SAFETY: each chunk is written from those of `ys` and `gs`, which have one shape.
        let d = tensor(unsafe { d.written() }, a.shape())?;
        Ok((a.track_op().then(|| d.clone()), b.track_op().then_some(d)))
    }
}
