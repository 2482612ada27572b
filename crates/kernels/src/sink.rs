//! Gradients of parameters past candle's store.
//!
//! candle's backward adds every gradient to a tensor of zeros: three passes over memory on one thread, also
//! for a weight that is used once. For the leaves of the graph that is wasted work, since nobody reads their
//! gradient before the end: kernels hand it over here instead.

use candle_core::{Result, Tensor, TensorId};
use std::cell::RefCell;
use std::collections::HashMap;

thread_local! {
    static SINK: RefCell<Option<HashMap<TensorId, Tensor>>> = const { RefCell::new(None) };
}

/// What [`collect`] gathered, by the leaf's id.
#[derive(Debug, Default)]
pub struct Leaves(HashMap<TensorId, Tensor>);

impl Leaves {
    /// The gradient of a leaf, if a kernel handed one over.
    pub fn get(&self, leaf: &Tensor) -> Option<&Tensor> {
        self.0.get(&leaf.id())
    }
}

/// Runs a backward; gradients of leaves (variables) that this crate's kernels computed are returned beside
/// what `backward` returns and are absent from candle's store. A leaf may have a part in both: add them.
///
/// # Errors
/// Those of `backward`.
pub fn collect<R>(backward: impl FnOnce() -> Result<R>) -> Result<(R, Leaves)> {
    struct Restore(Option<HashMap<TensorId, Tensor>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let old = self.0.take();
            SINK.with_borrow_mut(|sink| *sink = old);
        }
    }
    // Also after a panic: a backward outside must not be robbed of its gradients.
    let restore = Restore(SINK.with_borrow_mut(|sink| sink.replace(HashMap::new())));
    let done = backward()?;
    let leaves = SINK.with_borrow_mut(Option::take).unwrap_or_default();
    drop(restore);
    Ok((done, Leaves(leaves)))
}

/// What a kernel's backward returns for its argument `leaf`: nothing, if it is a variable and somebody
/// collects.
pub(crate) fn deliver(leaf: &Tensor, grad: Tensor) -> Result<Option<Tensor>> {
    if !leaf.is_variable() {
        return Ok(Some(grad));
    }
    SINK.with_borrow_mut(|sink| match sink {
        None => Ok(Some(grad)),
        Some(leaves) => {
            let sum = match leaves.remove(&leaf.id()) {
                None => grad,
                Some(before) => before.add(&grad)?,
            };
            leaves.insert(leaf.id(), sum);
            Ok(None)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Path;
    use crate::linear::linear;
    use crate::linear::testing::random;
    use candle_core::Var;

    #[test]
    fn leaves_are_collected_and_only_there() -> Result<()> {
        let x = Var::from_tensor(&random(&[5, 3], 1))?;
        let (w, v) = (Var::from_tensor(&random(&[4, 3], 2))?, Var::from_tensor(&random(&[3, 4], 3))?);
        // w is used by a kernel twice, v by a kernel and by candle, x by candle alone.
        let loss = || -> Result<Tensor> {
            let x = (x.as_tensor() * 2.0)?;
            let y = (linear(&x, &w, None, Path::Auto)? + linear(&x.sin()?, &w, None, Path::Auto)?)?;
            linear(&y, &v, None, Path::Auto)?.sqr()?.sum_all()? + v.as_tensor().sqr()?.sum_all()?
        };
        let plain = loss()?.backward()?;
        let loss = loss()?;
        let (store, leaves) = collect(|| loss.backward())?;
        for var in [&x, &w, &v] {
            let want = plain.get(var.as_tensor()).unwrap().flatten_all()?.to_vec1::<f32>()?;
            let parts = [store.get(var.as_tensor()), leaves.get(var.as_tensor())];
            let got = parts
                .into_iter()
                .flatten()
                .cloned()
                .reduce(|a, b| (a + b).unwrap())
                .unwrap()
                .flatten_all()?
                .to_vec1::<f32>()?;
            for (a, b) in want.iter().zip(&got) {
                assert!((a - b).abs() <= 1e-4 * (1.0 + a.abs()), "{a} {b}");
            }
        }
        assert!(store.get(w.as_tensor()).is_none() && leaves.get(x.as_tensor()).is_none());
        assert!(leaves.get(v.as_tensor()).is_some() && store.get(v.as_tensor()).is_some());
        // Nothing is left behind.
        assert!(collect(|| Ok(()))?.1.0.is_empty());
        Ok(())
    }
}
