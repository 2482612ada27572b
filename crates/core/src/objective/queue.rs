//! A queue of embeddings of earlier steps: first in, first out, in buffers, so that a checkpoint has it.

use crate::error::{Error, Result};
use crate::init::Init;
use crate::params::Params;
use crate::scope::{Buffer, Scope};
use candle_core::Tensor;
use selfsup_kernels::Path;
use selfsup_kernels::norm::l2_normalize;

/// Rows of length 1 in a ring.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    params: Params,
    rows: Buffer,
    /// The next place p while the ring fills for the first time; its length plus p afterwards.
    pointer: Buffer,
}

impl Queue {
    /// The buffers `name`, `(size, dim)`, of normalised random rows, and `name_pointer`.
    ///
    /// # Errors
    /// If the names are taken by tensors of other shapes, or the size is 0.
    pub(super) fn new(scope: &Scope, name: &str, size: usize, dim: usize) -> Result<Self> {
        if size == 0 {
            return Err(Error::config("method.queue = 0: expected at least 1"));
        }
        let shape = (size, dim);
        let rows =
            scope.buffer_with(name, shape, |_| unit(&scope.draw(name, shape, Init::Normal(1.0))?))?;
        let pointer = scope.buffer(&format!("{name}_pointer"), 1, Init::Const(0.0))?;
        Ok(Queue { params: scope.params().clone(), rows, pointer })
    }

    /// All rows, `(size, dim)`, those that were never written among them.
    pub(super) fn rows(&self) -> &Tensor {
        &self.rows.tensor
    }

    fn size(&self) -> Result<usize> {
        Ok(self.rows.tensor.dim(0)?)
    }

    fn place(&self) -> Result<usize> {
        Ok(self.pointer.tensor.to_vec1::<f32>()?[0] as usize)
    }

    /// The rows that were written, if there are any.
    pub(super) fn written(&self) -> Result<Option<Tensor>> {
        let rows = self.place()?.min(self.size()?);
        Ok(if rows == 0 { None } else { Some(self.rows.tensor.narrow(0, 0, rows)?) })
    }

    /// Replaces the oldest rows by `new (N, dim)`, normalised here; of more than fit, by the last.
    pub(super) fn push(&self, new: &Tensor) -> Result<()> {
        let (size, place) = (self.size()?, self.place()?);
        let new = unit(&new.detach())?;
        let new = if new.dim(0)? > size { new.narrow(0, new.dim(0)? - size, size)? } else { new };
        let (n, at) = (new.dim(0)?, place % size);
        // The part up to the end of the ring, and the part that wraps.
        let first = n.min(size - at);
        let rotated = Tensor::cat(
            &[
                &new.narrow(0, first, n - first)?,
                &self.rows.tensor.narrow(0, n - first, at - (n - first))?,
                &new.narrow(0, 0, first)?,
                &self.rows.tensor.narrow(0, at + first, size - at - first)?,
            ]
            .into_iter()
            .filter(|t| t.dim(0).is_ok_and(|d| d > 0))
            .collect::<Vec<_>>(),
            0,
        )?;
        self.params.set(&self.rows.name, &rotated)?;
        let full = place >= size || at + n >= size;
        let next = (at + n) % size + if full { size } else { 0 };
        self.params.set(&self.pointer.name, &Tensor::new(&[next as f32], self.pointer.tensor.device())?)
    }
}

/// Rows of length 1.
pub(super) fn unit(x: &Tensor) -> Result<Tensor> {
    Ok(l2_normalize(x, 1e-12, Path::Auto)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn of(values: &[f32]) -> Tensor {
        // Directions that tell which number they are.
        let rows: Vec<f32> = values.iter().flat_map(|v| [v.cos(), v.sin()]).collect();
        Tensor::from_vec(rows, (values.len(), 2), &Device::Cpu).unwrap()
    }

    fn angles(t: &Tensor) -> Vec<f32> {
        let rows = t.to_vec2::<f32>().unwrap();
        rows.iter().map(|r| (r[1].atan2(r[0]) * 10.0).round() / 10.0).collect()
    }

    #[test]
    fn the_oldest_rows_are_replaced() -> Result<()> {
        let scope = Scope::root(&Params::new(), 1, &Device::Cpu);
        let queue = Queue::new(&scope, "queue", 5, 2)?;
        assert!(queue.written()?.is_none());
        queue.push(&of(&[0.1, 0.2, 0.3]))?;
        assert_eq!(angles(&queue.written()?.unwrap()), [0.1, 0.2, 0.3]);
        queue.push(&(of(&[0.4, 0.5, 0.6]) * 3.0)?)?;
        assert_eq!(angles(&queue.written()?.unwrap()), [0.6, 0.2, 0.3, 0.4, 0.5]);
        queue.push(&of(&[0.7]))?;
        assert_eq!(angles(queue.rows()), [0.6, 0.7, 0.3, 0.4, 0.5]);
        // More than fit: the last five, from the present place on.
        queue.push(&of(&[0.8, 0.9, 1.0, 1.1, 1.2, 1.3]))?;
        assert_eq!(angles(queue.rows()), [1.2, 1.3, 0.9, 1.0, 1.1]);
        // A second build goes on where the first was.
        let again = Queue::new(&scope, "queue", 5, 2)?;
        again.push(&of(&[1.4]))?;
        assert_eq!(angles(queue.rows()), [1.2, 1.3, 1.4, 1.0, 1.1]);
        assert!(Queue::new(&scope, "none", 0, 2).unwrap_err().to_string().contains("method.queue"));
        Ok(())
    }
}
