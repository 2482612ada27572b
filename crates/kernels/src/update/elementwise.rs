//! Loops over elements, and how they reach the storages.

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Result, Storage, Tensor, Var, bail};
use rayon::prelude::*;
use std::cell::Cell;

use crate::activation::slices::Floats;
use crate::linear::simd::simd_fn;

/// Elements per task: 64 KiB of each tensor.
pub(super) const CHUNK: usize = 1 << 14;

/// Whether the loops of this file will do: everything f32 on the CPU, and what is written in one piece.
pub(super) fn on_cpu(written: &[&Var], read: &Tensor) -> bool {
    let f32 = |t: &Tensor| t.device().is_cpu() && t.dtype() == DType::F32;
    f32(read) && written.iter().all(|t| f32(t) && t.is_contiguous())
}

type Body = Box<dyn Fn(&mut [&mut [f32]], &[f32]) + Send + Sync>;

/// One tensor's update: what is written, what is read, and the loop over a chunk of all of them.
pub(super) struct Slot<'a> {
    written: Vec<&'a Var>,
    read: &'a Tensor,
    body: Body,
}

impl<'a> Slot<'a> {
    pub(super) fn new(
        written: Vec<&'a Var>,
        read: &'a Tensor,
        body: impl Fn(&mut [&mut [f32]], &[f32]) + Send + Sync + 'static,
    ) -> Self {
        Slot { written, read, body: Box::new(body) }
    }
}

/// Tells storages apart: the address of the storage inside its lock.
fn address(t: &Tensor) -> usize {
    let (storage, _) = t.storage_and_layout();
    std::ptr::from_ref::<Storage>(&storage) as usize
}

/// Carries out all updates. No storage may be written twice; one that is both written and read is read as it
/// was.
pub(super) fn run(name: &str, slots: Vec<Slot<'_>>) -> Result<()> {
    let mut written = Vec::new();
    for slot in &slots {
        for w in &slot.written {
            if w.shape() != slot.read.shape() {
                bail!("{name}: shapes {:?} and {:?}, expected the same", w.shape(), slot.read.shape())
            }
            written.push(address(w));
        }
    }
    written.sort_unstable();
    if written.windows(2).any(|w| w[0] == w[1]) {
        bail!("{name}: one storage is to be written twice, expected distinct variables")
    }
    // Copies are taken before anything is written.
    let sources = slots
        .iter()
        .map(|s| {
            if written.binary_search(&address(s.read)).is_ok() {
                s.read.copy()?.contiguous()
            } else {
                s.read.contiguous()
            }
        })
        .collect::<Result<Vec<_>>>()?;
    slots.par_iter().zip(&sources).with_max_len(1).try_for_each(|(slot, source)| {
        let data = Floats::new(source)?;
        let data: &[f32] = &data;
        lock_each(&slot.written, Vec::new(), &mut |slices: Vec<&mut [f32]>| {
            let mut chunks: Vec<(Vec<&mut [f32]>, &[f32])> =
                data.chunks(CHUNK).map(|c| (Vec::with_capacity(slices.len()), c)).collect();
            for slice in slices {
                for (chunk, part) in chunks.iter_mut().zip(slice.chunks_mut(CHUNK)) {
                    chunk.0.push(part);
                }
            }
            chunks.into_par_iter().for_each(|(mut w, r)| (slot.body)(&mut w, r));
        })
    })
}

/// Locks the variables one inside the other (candle hands out a mutable storage only to an operator) and
/// calls `f` with all their elements.
fn lock_each(vars: &[&Var], held: Vec<&mut [f32]>, f: &mut dyn FnMut(Vec<&mut [f32]>)) -> Result<()> {
    let Some((first, rest)) = vars.split_first() else {
        f(held);
        return Ok(());
    };
    let inner = |slice: &mut [f32]| {
        let mut held: Vec<&mut [f32]> = held;
        held.push(slice);
        lock_each(rest, held, f)
    };
    first.inplace_op1(&Hold(Cell::new(Some(inner))))
}

struct Hold<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut [f32]) -> Result<()>> InplaceOp1 for Hold<F> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(data), Some((a, b)), Some(f)) =
            (storage, layout.contiguous_offsets(), self.0.take())
        else {
            bail!("update: expected a contiguous f32 variable")
        };
        f(&mut data[a..b])
    }
}

simd_fn! {
    /// `c` is decay, rate, root, beta1, 1 - beta1, beta2, 1 - beta2, eps.
    pub(super) fn adamw(w: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32], c: [f32; 8]) {
        let [decay, rate, root, b1, n1, b2, n2, eps] = c;
        for (((w, m), v), &g) in w.iter_mut().zip(m).zip(v).zip(g) {
            *m = *m * b1 + g * n1;
            *v = *v * b2 + g * g * n2;
            *w = *w * decay - rate * *m / (v.sqrt() * root + eps);
        }
    }
}

simd_fn! {
    /// `c` is the learning rate, momentum, share of the gradient, weight decay and factor of the gradient.
    pub(super) fn momentum(w: &mut [f32], b: &mut [f32], g: &[f32], c: [f32; 5], nesterov: bool, first: bool) {
        let [lr, momentum, share, decay, rate] = c;
        for ((w, b), &g) in w.iter_mut().zip(b).zip(g) {
            let d = (g + decay * *w) * rate;
            let buf = if first { d } else { momentum * *b + share * d };
            *b = buf;
            *w -= lr * if nesterov { d + momentum * buf } else { buf };
        }
    }
}

simd_fn! {
    /// As [`momentum`] without momentum.
    pub(super) fn plain(w: &mut [f32], g: &[f32], c: [f32; 5]) {
        let [lr, _, _, decay, rate] = c;
        for (w, &g) in w.iter_mut().zip(g) {
            *w -= lr * ((g + decay * *w) * rate);
        }
    }
}

simd_fn! {
    /// `t = keep t + take s`
    pub(super) fn ema(t: &mut [f32], s: &[f32], keep: f32, take: f32) {
        for (t, &s) in t.iter_mut().zip(s) {
            *t = *t * keep + s * take;
        }
    }
}

/// Multiplies in place.
pub(super) struct Scale(pub f64);

impl InplaceOp1 for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(data), Some((a, b))) = (storage, layout.contiguous_offsets()) else {
            bail!("scale_in_place: expected a contiguous f32 tensor")
        };
        let factor = self.0 as f32;
        data[a..b].par_chunks_mut(CHUNK).for_each(|c| c.iter_mut().for_each(|x| *x *= factor));
        Ok(())
    }
}
