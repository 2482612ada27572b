//! Looking up rows of a table: `y_i = table[id_i]`.
//!
//! One node of the graph on the CPU. The gradient of a row is the sum over the places that looked it up,
//! taken in their order by the one task that owns the row, so it has the same bits for any number of threads.

use crate::Path;
use crate::activation::slices::{CHUNK, Floats, floats, for_chunks, output, rows_of, tensor, wants_fused};
use crate::memory::{copy, fill, unwritten};
use crate::sink::deliver;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Rows of `table (V, D)` by `ids (..)`, u32 or i64, to `(.., D)`. Places that hold the id `frozen` give its
/// row no gradient, as PyTorch's `padding_idx`.
///
/// # Errors
/// If the table is not a matrix, the ids are not integers or one is not below `V` (told for ids on the CPU),
/// or `path` asks for the fused kernel and the table is not f32 on the CPU.
pub fn embedding(table: &Tensor, ids: &Tensor, frozen: Option<u32>, path: Path) -> Result<Tensor> {
    let &[rows, width] = table.dims() else {
        bail!("embedding: table of shape {:?}, expected (rows, width)", table.dims())
    };
    if !matches!(ids.dtype(), DType::U32 | DType::I64) {
        bail!("embedding: ids of {:?}, expected u32 or i64", ids.dtype())
    }
    let mut shape = ids.dims().to_vec();
    shape.push(width);
    let flat = ids.flatten_all()?;
    let mut host = Vec::new();
    if ids.device().is_cpu() {
        let wide = flat.to_dtype(DType::I64)?.to_vec1::<i64>()?;
        if let Some((place, id)) = wide.iter().enumerate().find(|(_, id)| !(0..rows as i64).contains(*id)) {
            bail!("embedding: place {place} holds the id {id}, expected one in 0..{rows}")
        }
        host = wide.into_iter().map(|id| id as u32).collect();
    }
    if wants_fused("embedding", path, &[table])? && host.len() == flat.elem_count() {
        return table.contiguous()?.apply_op1(Embedding { ids: host, frozen })?.reshape(shape);
    }
    let flat = flat.to_dtype(DType::U32)?.contiguous()?;
    let table = table.contiguous()?;
    let y = table.index_select(&flat, 0)?;
    let y = match frozen {
        None => y,
        Some(id) => {
            let held = flat.eq(id)?.unsqueeze(1)?.broadcast_as(y.shape())?.contiguous()?;
            held.where_cond(&y.detach(), &y)?
        }
    };
    y.reshape(shape)
}

struct Embedding {
    ids: Vec<u32>,
    frozen: Option<u32>,
}

impl CustomOp1 for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, width) = l.shape().dims2()?;
        let table = floats(s, l)?;
        let mut y = unwritten(self.ids.len() * width);
        if width > 0 {
            let per = rows_of(width, CHUNK);
            for_chunks(&mut y, per * width, |i, y| {
                for (y, &id) in y.chunks_exact_mut(width).zip(&self.ids[i * per..]) {
                    copy(y, &table[id as usize * width..][..width]);
                }
            });
        }
        // SAFETY: there is an id for each row of `y`, which has no elements where rows have none.
        Ok(output(unsafe { y.written() }, (self.ids.len(), width)))
    }

    fn bwd(&self, table: &Tensor, _y: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
        if !table.track_op() {
            return Ok(None);
        }
        let (rows, width) = table.dims2()?;
        let g = g.contiguous()?;
        let gs = Floats::new(&g)?;
        let gs: &[f32] = &gs;
        let mut d = unwritten(rows * width);
        if width > 0 {
            // At most 32 tasks: each reads all ids.
            let per = rows_of(width, CHUNK).max(rows.div_ceil(32));
            d.par_chunks_mut(per * width).enumerate().for_each(|(task, d)| {
                let first = task * per;
                let own = first..first + d.len() / width;
                let d = fill(d, 0.0);
                for (&id, g) in self.ids.iter().zip(gs.chunks_exact(width)) {
                    let row = id as usize;
                    if own.contains(&row) && Some(id) != self.frozen {
                        for (d, g) in d[(row - first) * width..][..width].iter_mut().zip(g) {
                            *d += g;
                        }
                    }
                }
            });
        }
        // SAFETY: each task fills its rows; there are no elements where rows have none.
        deliver(table, tensor(unsafe { d.written() }, (rows, width))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::testing::{cases, check, normal, same_bits, values};
    use crate::rng::Key;
    use candle_core::{Device, Var};
    use proptest::prelude::*;

    fn ids(n: usize, below: usize, seed: u64) -> Tensor {
        let mut rng = Key::new(seed).rng();
        Tensor::from_vec((0..n).map(|_| rng.below(below) as u32).collect::<Vec<_>>(), n, &Device::Cpu)
            .unwrap()
    }

    proptest! {
        #![proptest_config(cases(24))]
        #[test]
        fn paths_agree(rows in 1usize..40, width in 1usize..20, n in 1usize..60, seed in 0u64..1000) {
            let picked = ids(n, rows, seed);
            check(&[normal(seed, &[rows, width])], |t, path| embedding(&t[0], &picked, None, path));
        }
    }

    #[test]
    fn rows_are_picked_and_a_frozen_one_gets_no_gradient() {
        let table = Var::from_tensor(&normal(1, &[5, 3])).unwrap();
        let picked = Tensor::new(&[[0u32, 2, 2], [4, 0, 1]], &Device::Cpu).unwrap();
        for path in [Path::Fused, Path::Composed] {
            let y = embedding(table.as_tensor(), &picked, Some(2), path).unwrap();
            assert_eq!(y.dims(), [2, 3, 3]);
            let row = |t: &Tensor, i: usize| values(&t.reshape(((), 3)).unwrap().get(i).unwrap());
            for (place, id) in [0usize, 2, 2, 4, 0, 1].into_iter().enumerate() {
                assert_eq!(row(&y, place), row(table.as_tensor(), id));
            }
            let d = y.sum_all().unwrap().backward().unwrap().get(table.as_tensor()).unwrap().clone();
            let sums: Vec<f64> = (0..5).map(|i| row(&d, i)[1]).collect();
            assert_eq!(sums, [2.0, 1.0, 0.0, 0.0, 1.0], "{path:?}");
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        let (table, picked) = (normal(1, &[700, 33]), ids(5000, 700, 3));
        same_bits(&[table], |t, path| embedding(&t[0], &picked, Some(3), path));
    }

    #[test]
    fn a_wrong_id_is_named() {
        let table = normal(1, &[4, 2]);
        let e = embedding(&table, &Tensor::new(&[1u32, 4], &Device::Cpu).unwrap(), None, Path::Auto)
            .unwrap_err()
            .to_string();
        assert!(e.contains("place 1 holds the id 4, expected one in 0..4"), "{e}");
        assert!(embedding(&table, &Tensor::new(&[-1i64], &Device::Cpu).unwrap(), None, Path::Auto).is_err());
        assert!(embedding(&table, &Tensor::new(&[1f32], &Device::Cpu).unwrap(), None, Path::Auto).is_err());
        assert!(embedding(&table.get(0).unwrap(), &ids(2, 2, 1), None, Path::Auto).is_err());
    }
}
