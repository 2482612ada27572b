//! The loops of the activations, and their nodes.

use super::act::Act;
use super::math::{erf, exp, sigmoid};
use super::slices::{CHUNK, Floats, floats, for_chunks, output, tensor};
use crate::linear::simd::simd_fn;
use crate::memory::{Blank, unwritten};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

const SQRT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
/// `1 / sqrt(2 pi)`: the height of the normal density.
const DENSITY: f32 = 0.398_942_3;
/// `2 sqrt(2 / pi)`: `(1 + tanh u) / 2` is `sigmoid(2 u)`.
const TANH_SCALE: f32 = 1.595_769;
const TANH_CUBE: f32 = 0.044_715;

/// Loops of a function: `y = f(x)`, `x = f(x)`, and `d = g f'(x)`, `g = g f'(x)`.
macro_rules! loops {
    ($forward:ident, $in_place:ident, $backward:ident, $scale:ident, |$x:ident, $g:ident| $value:expr, $slope:expr) => {
        simd_fn! {
            fn $forward(from: &[f32], to: &mut [Blank]) {
                for (to, &$x) in to.iter_mut().zip(from) {
                    to.write($value);
                }
            }
        }
        simd_fn! {
            fn $in_place(values: &mut [f32]) {
                for value in values {
                    let $x = *value;
                    *value = $value;
                }
            }
        }
        simd_fn! {
            fn $backward(from: &[f32], grad: &[f32], to: &mut [Blank]) {
                for ((to, &$g), &$x) in to.iter_mut().zip(grad).zip(from) {
                    to.write($slope);
                }
            }
        }
        simd_fn! {
            fn $scale(from: &[f32], grad: &mut [f32]) {
                for (grad, &$x) in grad.iter_mut().zip(from) {
                    let $g = *grad;
                    *grad = $slope;
                }
            }
        }
    };
}

// Comparisons with <= keep NaN.
loops!(
    relu,
    relu_in_place,
    relu_backward,
    relu_scale,
    |x, g| if x <= 0.0 { 0.0 } else { x },
    if x <= 0.0 { 0.0 } else { g }
);
loops!(
    gelu_erf,
    gelu_erf_in_place,
    gelu_erf_backward,
    gelu_erf_scale,
    |x, g| 0.5 * x * (1.0 + erf(x * SQRT_HALF)),
    g * (0.5 * (1.0 + erf(x * SQRT_HALF)) + x * DENSITY * exp(-0.5 * x * x))
);
loops!(
    gelu_tanh,
    gelu_tanh_in_place,
    gelu_tanh_backward,
    gelu_tanh_scale,
    |x, g| x * sigmoid(TANH_SCALE * (x + TANH_CUBE * x * x * x)),
    {
        let s = sigmoid(TANH_SCALE * (x + TANH_CUBE * x * x * x));
        g * (s + x * s * (1.0 - s) * TANH_SCALE * (1.0 + 3.0 * TANH_CUBE * x * x))
    }
);

simd_fn! {
    fn silu(from: &[f32], to: &mut [Blank]) {
        for (to, &x) in to.iter_mut().zip(from) {
            to.write(x * sigmoid(x));
        }
    }
}

simd_fn! {
    fn silu_backward(from: &[f32], grad: &[f32], to: &mut [Blank]) {
        for ((to, &g), &x) in to.iter_mut().zip(grad).zip(from) {
            let s = sigmoid(x);
            to.write(g * s * (1.0 + x * (1.0 - s)));
        }
    }
}

/// A function that [`Unary`] applies.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Relu,
    GeluErf,
    GeluTanh,
    Silu,
}

impl Kind {
    fn forward(self, x: &[f32], y: &mut [Blank]) {
        match self {
            Kind::Relu => relu(x, y),
            Kind::GeluErf => gelu_erf(x, y),
            Kind::GeluTanh => gelu_tanh(x, y),
            Kind::Silu => silu(x, y),
        }
    }

    fn backward(self, x: &[f32], g: &[f32], d: &mut [Blank]) {
        match self {
            Kind::Relu => relu_backward(x, g, d),
            Kind::GeluErf => gelu_erf_backward(x, g, d),
            Kind::GeluTanh => gelu_tanh_backward(x, g, d),
            Kind::Silu => silu_backward(x, g, d),
        }
    }
}

/// The activation of `x`, in place and on this thread.
pub(crate) fn act_forward(act: Act, x: &mut [f32]) {
    match act {
        Act::None => {}
        Act::Relu => relu_in_place(x),
        Act::GeluErf => gelu_erf_in_place(x),
        Act::GeluTanh => gelu_tanh_in_place(x),
    }
}

/// `g` times the derivative of the activation at `x`, in place and on this thread.
pub(crate) fn act_backward(act: Act, x: &[f32], g: &mut [f32]) {
    match act {
        Act::None => {}
        Act::Relu => relu_scale(x, g),
        Act::GeluErf => gelu_erf_scale(x, g),
        Act::GeluTanh => gelu_tanh_scale(x, g),
    }
}

/// `f(x)`, element by element.
pub(super) struct Unary(pub(super) Kind);

impl CustomOp1 for Unary {
    fn name(&self) -> &'static str {
        match self.0 {
            Kind::Relu => "relu",
            Kind::GeluErf => "gelu-erf",
            Kind::GeluTanh => "gelu-tanh",
            Kind::Silu => "silu",
        }
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = floats(storage, layout)?;
        let mut y = unwritten(x.len());
        for_chunks(&mut y, CHUNK, |i, y| self.0.forward(&x[i * CHUNK..][..y.len()], y));
        // SAFETY: each chunk is written from one of `x` that is as long.
        Ok(output(unsafe { y.written() }, layout.shape()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        let g = g.contiguous()?;
        let (xs, gs) = (Floats::new(x)?, Floats::new(&g)?);
        let (xs, gs): (&[f32], &[f32]) = (&xs, &gs);
        let mut d = unwritten(xs.len());
        for_chunks(&mut d, CHUNK, |i, d| {
            let at = i * CHUNK..i * CHUNK + d.len();
            self.0.backward(&xs[at.clone()], &gs[at], d);
        });
        // SAFETY: each chunk is written from those of `xs` and `gs` that are as long.
        Ok(Some(tensor(unsafe { d.written() }, x.shape())?))
    }
}

simd_fn! {
    fn prelu(from: &[f32], w: f32, to: &mut [Blank]) {
        for (to, &x) in to.iter_mut().zip(from) {
            to.write(if x > 0.0 { x } else { w * x });
        }
    }
}

simd_fn! {
    /// The gradient of the input, and of the weight.
    fn prelu_backward(from: &[f32], w: f32, grad: &[f32], to: &mut [Blank]) -> f32 {
        for ((to, &g), &x) in to.iter_mut().zip(grad).zip(from) {
            to.write(if x > 0.0 { g } else { w * g });
        }
        super::math::lanes!(|x = from, g = grad| if x > 0.0 { 0.0 } else { g * x })
    }
}

/// `x` where it is positive, else `w x`.
pub(super) struct Prelu;

impl CustomOp2 for Prelu {
    fn name(&self) -> &'static str {
        "prelu"
    }

    fn cpu_fwd(
        &self,
        sx: &CpuStorage,
        lx: &Layout,
        sw: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (floats(sx, lx)?, floats(sw, lw)?[0]);
        let mut y = unwritten(x.len());
        for_chunks(&mut y, CHUNK, |i, y| prelu(&x[i * CHUNK..][..y.len()], w, y));
        // SAFETY: each chunk is written from one of `x` that is as long.
        Ok(output(unsafe { y.written() }, lx.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        g: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let g = g.contiguous()?;
        let (xs, gs) = (Floats::new(x)?, Floats::new(&g)?);
        let (xs, gs): (&[f32], &[f32]) = (&xs, &gs);
        let slope = Floats::new(w)?[0];
        let mut d = unwritten(xs.len());
        let parts: Vec<f32> = d
            .par_chunks_mut(CHUNK)
            .zip(xs.par_chunks(CHUNK))
            .zip(gs.par_chunks(CHUNK))
            .map(|((d, x), g)| prelu_backward(x, slope, g, d))
            .collect();
        // SAFETY: `x`, its gradient and that of the result have one shape, so one number of chunks.
        let d = unsafe { d.written() };
        let dx = if x.track_op() { Some(tensor(d, x.shape())?) } else { None };
        let dw = if w.track_op() { Some(tensor(vec![parts.iter().sum()], w.shape())?) } else { None };
        Ok((dx, dw))
    }
}
