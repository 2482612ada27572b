//! How fused kernels reach the numbers of tensors, and how they cut loops: by shape only, so that the result
//! has the same bits for any number of threads.

use crate::Path;
use candle_core::{CpuStorage, DType, Device, Layout, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;
use std::ops::{Deref, Range};

/// Elements of a task: 64 KiB.
pub(crate) const CHUNK: usize = 1 << 14;

/// Whether the fused kernel is to run. An error if it is demanded for tensors that are not f32 on the CPU.
pub(crate) fn wants_fused(name: &str, path: Path, tensors: &[&Tensor]) -> Result<bool> {
    let unfit = tensors.iter().find(|t| !t.device().is_cpu() || t.dtype() != DType::F32);
    match (path, unfit) {
        (Path::Composed, _) | (Path::Auto, Some(_)) => Ok(false),
        (Path::Auto | Path::Fused, None) => Ok(true),
        (Path::Fused, Some(t)) => {
            bail!(
                "{name}: the fused kernel needs f32 on the CPU, got {:?} on {:?}",
                t.dtype(),
                t.device().location()
            )
        }
    }
}

fn range(layout: &Layout) -> Result<Range<usize>> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(from..to),
        None => bail!("a fused kernel got a tensor of shape {:?} that is not contiguous", layout.shape()),
    }
}

/// The numbers of an operator's argument, which must be contiguous.
pub(crate) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    Ok(&storage.as_slice::<f32>()?[range(layout)?])
}

/// The numbers of a contiguous tensor on the CPU, for as long as this lives.
pub(crate) struct Floats<'a> {
    /// A read lock of a type that candle does not name.
    guard: Box<dyn Deref<Target = Storage> + 'a>,
    range: Range<usize>,
}

impl<'a> Floats<'a> {
    pub(crate) fn new(t: &'a Tensor) -> Result<Self> {
        let (guard, layout) = t.storage_and_layout();
        let range = range(layout)?;
        match &*guard {
            Storage::Cpu(CpuStorage::F32(v)) if range.end <= v.len() => {
                Ok(Floats { guard: Box::new(guard), range })
            }
            _ => bail!(
                "a fused kernel needs f32 on the CPU, got {:?} on {:?}",
                t.dtype(),
                t.device().location()
            ),
        }
    }
}

impl Deref for Floats<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &**self.guard {
            Storage::Cpu(CpuStorage::F32(v)) => &v[self.range.clone()],
            _ => &[], // `new` lets nothing else in
        }
    }
}

/// Calls `f` with the numbers of a tensor on the CPU, in order also where the tensor is a view.
pub(crate) fn with<R>(t: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let t = t.contiguous()?;
    f(&Floats::new(&t)?)
}

/// A tensor on the CPU that takes over `values`.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape.into(), &Device::Cpu)
}

/// What a `cpu_fwd` returns.
pub(crate) fn output(values: Vec<f32>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (CpuStorage::F32(values), shape.into())
}

/// `f(index, chunk)` for every chunk of `size` elements, in parallel where there are several.
pub(crate) fn for_chunks<T: Send>(out: &mut [T], size: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let size = size.max(1);
    if out.len() <= size {
        if !out.is_empty() {
            f(0, out);
        }
    } else {
        out.par_chunks_mut(size).enumerate().for_each(|(i, chunk)| f(i, chunk));
    }
}

/// Rows of `width` elements that make up about `elements`, at least one.
pub(crate) fn rows_of(width: usize, elements: usize) -> usize {
    (elements / width.max(1)).max(1)
}
