//! What is written between steps: optimiser updates, moving averages, and the gradient norm.
//!
//! On the CPU (f32) an update reads and writes each element once, in place, in parallel over and within
//! tensors. Every element's value depends on its own inputs alone and sums are taken over chunks of a fixed
//! size in order, so the bits do not depend on the number of threads. Tensors on other devices or of other
//! types are updated by candle's operators.
//!
//! Updates write into storage that a live graph may still read: never call them between forward and backward.

mod elementwise;
mod norms;

use candle_core::{Result, Tensor, Var, bail};
use elementwise::{Slot, on_cpu, run};
use rayon::prelude::*;

pub use norms::{sq_norm, sq_norms};

/// Constants of [`adamw`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWArgs {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the mean of the gradients.
    pub beta1: f64,
    /// Decay of the mean of their squares.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Number of this update of the tensor, from 1, for the bias correction.
    pub step: u64,
}

/// One tensor of [`adamw_all`]: parameter, gradient, first moment, second moment, constants.
pub type AdamWSlot = (Var, Tensor, Var, Var, AdamWArgs);

/// AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101) as PyTorch computes it: `w *= 1 - lr wd`, then
/// `w -= lr / (1 - beta1^step) m / (sqrt(v / (1 - beta2^step)) + eps)`. Moments start at zero.
///
/// # Errors
/// If the shapes differ, `step` is 0, or two of the tensors share their storage.
pub fn adamw(var: &Var, grad: &Tensor, m: &Var, v: &Var, args: &AdamWArgs) -> Result<()> {
    adamw_all(&[(var.clone(), grad.clone(), m.clone(), v.clone(), *args)])
}

/// [`adamw`] for many tensors in one parallel pass.
///
/// # Errors
/// As [`adamw`].
pub fn adamw_all(slots: &[AdamWSlot]) -> Result<()> {
    if slots.iter().any(|s| s.4.step == 0) {
        bail!("adamw: step 0, expected the number of the update, from 1")
    }
    let (fast, slow): (Vec<_>, Vec<_>) = slots.iter().partition(|(w, g, m, v, _)| on_cpu(&[w, m, v], g));
    let fast = fast.into_iter().map(|(w, g, m, v, a)| {
        let (c1, c2) = (1.0 - a.beta1.powf(a.step as f64), 1.0 - a.beta2.powf(a.step as f64));
        let (decay, rate, root) =
            ((1.0 - a.lr * a.weight_decay) as f32, (a.lr / c1) as f32, (1.0 / c2.sqrt()) as f32);
        let (b1, b2, eps) = (a.beta1 as f32, a.beta2 as f32, a.eps as f32);
        let (n1, n2) = ((1.0 - a.beta1) as f32, (1.0 - a.beta2) as f32);
        Slot::new(vec![w, m, v], g, move |w, g| {
            let [w, m, v] = w else { return };
            elementwise::adamw(w, m, v, g, [decay, rate, root, b1, n1, b2, n2, eps]);
        })
    });
    run("adamw", fast.collect())?;
    for (w, g, m, v, a) in slow {
        let (c1, c2) = (1.0 - a.beta1.powf(a.step as f64), 1.0 - a.beta2.powf(a.step as f64));
        let g = g.detach();
        let new_m = ((m.as_detached_tensor() * a.beta1)? + (&g * (1.0 - a.beta1))?)?;
        let new_v = ((v.as_detached_tensor() * a.beta2)? + (g.sqr()? * (1.0 - a.beta2))?)?;
        let step = ((&new_m * (a.lr / c1))? / ((new_v.sqrt()? * (1.0 / c2.sqrt()))? + a.eps)?)?;
        w.set(&((w.as_detached_tensor() * (1.0 - a.lr * a.weight_decay))? - step)?)?;
        m.set(&new_m)?;
        v.set(&new_v)?;
    }
    Ok(())
}

/// Constants of [`sgd`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdArgs {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the gradient buffer; 0 needs no buffer.
    pub momentum: f64,
    /// Share of the gradient that does not enter the buffer.
    pub dampening: f64,
    /// Weight decay, added to the gradient.
    pub weight_decay: f64,
    /// Nesterov's look-ahead.
    pub nesterov: bool,
    /// Whether this is the first update: the buffer becomes the gradient itself, whatever it held.
    pub first: bool,
}

/// One tensor of [`sgd_all`]: parameter, gradient, momentum buffer, constants.
pub type SgdSlot = (Var, Tensor, Option<Var>, SgdArgs);

/// Stochastic gradient descent as PyTorch computes it: `g += wd w`; `buf = momentum buf + (1 - dampening) g`
/// (at first `buf = g`); with Nesterov `g += momentum buf`, else `g = buf`; `w -= lr g`.
///
/// # Errors
/// If the shapes differ, momentum has no buffer, or two of the tensors share their storage.
pub fn sgd(var: &Var, grad: &Tensor, buf: Option<&Var>, args: &SgdArgs) -> Result<()> {
    sgd_all(&[(var.clone(), grad.clone(), buf.cloned(), *args)])
}

/// [`sgd`] for many tensors in one parallel pass.
///
/// # Errors
/// As [`sgd`].
pub fn sgd_all(slots: &[SgdSlot]) -> Result<()> {
    momentum_all("sgd", slots.iter().map(|(w, g, b, a)| (w, g, b.as_ref(), *a, 1.0)).collect())
}

/// Constants of [`lars`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LarsArgs {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the gradient buffer; 0 needs no buffer.
    pub momentum: f64,
    /// Share of the gradient that does not enter the buffer.
    pub dampening: f64,
    /// Weight decay, added to the gradient. A tensor without decay is not adapted.
    pub weight_decay: f64,
    /// Nesterov's look-ahead.
    pub nesterov: bool,
    /// Trust coefficient.
    pub trust: f64,
    /// Added to the denominator of the local rate.
    pub eps: f64,
    /// Whether this is the first update: the buffer becomes the adapted gradient itself, whatever it held.
    pub first: bool,
}

/// One tensor of [`lars_all`]: parameter, gradient, momentum buffer, constants.
pub type LarsSlot = (Var, Tensor, Option<Var>, LarsArgs);

/// Layer-wise adaptive rate scaling (You et al. 2017, arXiv 1708.03888): if there is weight decay and neither
/// norm is 0, `d = (g + wd w) trust |w| / (|g| + wd |w| + eps)`, else `d = g`; then momentum and the step as
/// in [`sgd`] with `d` for the gradient.
///
/// # Errors
/// As [`sgd`].
pub fn lars(var: &Var, grad: &Tensor, buf: Option<&Var>, args: &LarsArgs) -> Result<()> {
    lars_all(&[(var.clone(), grad.clone(), buf.cloned(), *args)])
}

/// [`lars`] for many tensors in one parallel pass.
///
/// # Errors
/// As [`lars`].
pub fn lars_all(slots: &[LarsSlot]) -> Result<()> {
    let norms =
        |t: Vec<Tensor>| -> Result<Vec<f64>> { Ok(sq_norms(&t)?.into_iter().map(f64::sqrt).collect()) };
    let w = norms(slots.iter().map(|s| s.0.as_detached_tensor()).collect())?;
    let g = norms(slots.iter().map(|s| s.1.detach()).collect())?;
    let all = slots.iter().zip(w.iter().zip(&g)).map(|((var, grad, buf, a), (&w, &g))| {
        let adapted = a.weight_decay != 0.0 && w != 0.0 && g != 0.0;
        let rate = if adapted { a.trust * w / (g + a.weight_decay * w + a.eps) } else { 1.0 };
        let sgd = SgdArgs {
            lr: a.lr,
            momentum: a.momentum,
            dampening: a.dampening,
            weight_decay: if adapted { a.weight_decay } else { 0.0 },
            nesterov: a.nesterov,
            first: a.first,
        };
        (var, grad, buf.as_ref(), sgd, rate)
    });
    momentum_all("lars", all.collect())
}

/// [`sgd`] of the gradient `(g + wd w) * rate`.
fn momentum_all(name: &str, slots: Vec<(&Var, &Tensor, Option<&Var>, SgdArgs, f64)>) -> Result<()> {
    if slots.iter().any(|(_, _, b, a, _)| a.momentum != 0.0 && b.is_none()) {
        bail!("{name}: momentum without a buffer, expected one for every tensor")
    }
    let (fast, slow): (Vec<_>, Vec<_>) = slots.into_iter().partition(|(w, g, b, ..)| match b {
        Some(b) => on_cpu(&[w, b], g),
        None => on_cpu(&[w], g),
    });
    let fast = fast.into_iter().map(|(w, g, b, a, rate)| {
        // At first the buffer is the gradient: 0 * buf + 1 * g, where an old infinity or NaN must not come
        // through.
        let c =
            [a.lr as f32, a.momentum as f32, (1.0 - a.dampening) as f32, a.weight_decay as f32, rate as f32];
        match b.filter(|_| a.momentum != 0.0) {
            Some(b) => Slot::new(vec![w, b], g, move |w, g| {
                let [w, b] = w else { return };
                elementwise::momentum(w, b, g, c, a.nesterov, a.first);
            }),
            None => Slot::new(vec![w], g, move |w, g| {
                let [w] = w else { return };
                elementwise::plain(w, g, c);
            }),
        }
    });
    run(name, fast.collect())?;
    for (w, g, b, a, rate) in slow {
        let old = w.as_detached_tensor();
        let mut d = ((g.detach() + (&old * a.weight_decay)?)? * rate)?;
        if let Some(b) = b.filter(|_| a.momentum != 0.0) {
            let buf = if a.first {
                d.clone()
            } else {
                ((b.as_detached_tensor() * a.momentum)? + (&d * (1.0 - a.dampening))?)?
            };
            d = if a.nesterov { (d + (&buf * a.momentum)?)? } else { buf.clone() };
            b.set(&buf.contiguous()?)?;
        }
        w.set(&(old - (d * a.lr)?)?)?;
    }
    Ok(())
}

/// Moving average, in place: `target = momentum target + (1 - momentum) source`.
///
/// # Errors
/// If the shapes differ.
pub fn ema(target: &Var, source: &Tensor, momentum: f64) -> Result<()> {
    ema_all(&[(target.clone(), source.clone())], momentum)
}

/// [`ema`] for many pairs of target and source in one parallel pass.
///
/// # Errors
/// As [`ema`].
pub fn ema_all(pairs: &[(Var, Tensor)], momentum: f64) -> Result<()> {
    let (fast, slow): (Vec<_>, Vec<_>) = pairs.iter().partition(|(t, s)| on_cpu(&[t], s));
    let (keep, take) = (momentum as f32, (1.0 - momentum) as f32);
    let fast = fast.into_iter().map(|(t, s)| {
        Slot::new(vec![t], s, move |t, s| {
            let [t] = t else { return };
            elementwise::ema(t, s, keep, take);
        })
    });
    run("ema", fast.collect())?;
    for (t, s) in slow {
        t.set(&((t.as_detached_tensor() * momentum)? + (s.detach() * (1.0 - momentum))?)?)?;
    }
    Ok(())
}

/// Multiplies a tensor in place by `factor`: a gradient by the clipping factor, say. Everything that shares
/// its storage sees the change.
///
/// # Errors
/// If the tensor is not f32, contiguous and on the CPU ([`scale`] takes all others).
pub fn scale_in_place(x: &Tensor, factor: f64) -> Result<()> {
    x.inplace_op1(&elementwise::Scale(factor))
}

/// The tensors times `factor`, in parallel, as new tensors outside any graph.
///
/// # Errors
/// What candle reports.
pub fn scale(xs: &[Tensor], factor: f64) -> Result<Vec<Tensor>> {
    xs.par_iter().map(|x| x.detach() * factor).collect()
}

#[cfg(test)]
mod tests;
