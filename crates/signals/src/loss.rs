//! TS2Vec's hierarchical contrastive loss (Yue et al. 2022, arXiv 2106.10466, section 3.3).
//!
//! `r (B, T, D)` and `r'` are the representations of two views on the steps that they share. At each step the
//! other series of the batch repel (instance), within each series the other steps do (temporal):
//!
//! `l = log sum_{k != i} exp(r_i . r_k) - r_i . r'_i`, plain dot products, without a temperature.
//!
//! Both are taken at every level of a pyramid of max pools by 2 over time, down to a single step, and averaged
//! over the levels.

use candle_core::{D, Tensor};
use selfsup_core::kernels::Path;
use selfsup_core::kernels::loss::log_sum_exp;
use selfsup_core::kernels::pool::max_pool;
use selfsup_core::{Error, Result};

/// The two parts of the loss, each with its weight: their sum is the loss.
#[derive(Clone, Debug)]
pub struct Parts {
    /// `alpha` times the instance part, a scalar.
    pub instance: Tensor,
    /// `1 - alpha` times the temporal part, a scalar.
    pub temporal: Tensor,
}

/// Contrast of the rows of `a` and `b (G, K, D)` within each of the `G` groups: each of the `2 K` rows finds
/// its counterpart among the `2 K - 1` others. The mean over all rows, a scalar.
fn contrast(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (g, k, _) = a.dims3()?;
    let rows = Tensor::cat(&[a, b], 1)?.contiguous()?; // (G, 2K, D)
    let products = rows.matmul(&rows.t()?.contiguous()?)?; // (G, 2K, 2K)
    // Row i of a group leaves column i out: i is the row's number modulo the columns.
    let all = log_sum_exp(&products.reshape((g * 2 * k, 2 * k))?, &[0], Path::Auto)?.mean_all()?;
    let positive = (a * b)?.sum(D::Minus1)?.mean_all()?;
    Ok((all - positive)?)
}

/// The loss of `a` and `b (B, T, D)`; `alpha` weighs the instance part, `1 - alpha` the temporal one, which
/// counts from level `temporal_unit` on. A batch of one series has no instance part.
///
/// # Errors
/// If the shapes differ or are empty.
pub fn hierarchical(a: &Tensor, b: &Tensor, alpha: f64, temporal_unit: usize) -> Result<Parts> {
    let (n, t, d) = a.dims3()?;
    if b.dims() != a.dims() || n * t * d == 0 {
        return Err(Error::input(
            "ts2vec",
            format!("views of shapes {:?} and {:?}: expected twice (B, T, D)", a.dims(), b.dims()),
        ));
    }
    let zero = Tensor::zeros((), a.dtype(), a.device())?;
    let (mut instance, mut temporal) = (zero.clone(), zero);
    let (mut a, mut b) = (a.contiguous()?, b.contiguous()?);
    let mut levels = 0;
    loop {
        let steps = a.dim(1)?;
        if n > 1 {
            // (B, T, D) -> (T, B, D): the groups are the steps.
            let by_step = |x: &Tensor| x.transpose(0, 1)?.contiguous();
            instance = (instance + contrast(&by_step(&a)?, &by_step(&b)?)?)?;
        }
        if steps > 1 && levels >= temporal_unit {
            temporal = (temporal + contrast(&a, &b)?)?;
        }
        levels += 1;
        if steps == 1 {
            break;
        }
        let halve = |x: &Tensor| max_pool(x, &[2], &[2], &[0], Path::Auto);
        (a, b) = (halve(&a)?, halve(&b)?);
    }
    let levels = levels as f64;
    Ok(Parts { instance: (instance * (alpha / levels))?, temporal: (temporal * ((1.0 - alpha) / levels))? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};
    use selfsup_core::Key;

    fn random(shape: &[usize], seed: u64) -> Tensor {
        let mut rng = Key::new(seed).rng();
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| f64::from(rng.normal())).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn value(a: &Tensor, b: &Tensor) -> Tensor {
        let parts = hierarchical(a, b, 0.3, 0).unwrap();
        (parts.instance + parts.temporal).unwrap()
    }

    /// Two series of one step: `log(e^{r.s} + e^{r.s'} + e^{r.r'}) - r.r'` for each of the four rows.
    #[test]
    fn one_step_is_a_softmax_by_hand() {
        let row = |x: f64, y: f64| Tensor::new(&[[[x]], [[y]]], &Device::Cpu).unwrap();
        let parts = hierarchical(&row(0.5, -1.0), &row(2.0, 0.25), 0.5, 0).unwrap();
        let rows = [0.5f64, -1.0, 2.0, 0.25];
        let mut sum = 0.0;
        for i in 0..4 {
            let all: f64 = (0..4).filter(|k| *k != i).map(|k| (rows[i] * rows[k]).exp()).sum();
            sum += all.ln() - rows[i] * rows[(i + 2) % 4];
        }
        let got = parts.instance.to_scalar::<f64>().unwrap();
        assert!((got - 0.5 * sum / 4.0).abs() < 1e-12, "{got}");
        assert_eq!(parts.temporal.to_scalar::<f64>().unwrap(), 0.0);
    }

    #[test]
    fn gradients_are_central_differences() {
        let inputs = [random(&[3, 5, 2], 1), random(&[3, 5, 2], 2)];
        let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
        let grads = value(vars[0].as_tensor(), vars[1].as_tensor()).backward().unwrap();
        for (k, var) in vars.iter().enumerate() {
            let grad: Vec<f64> = grads.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let flat: Vec<f64> = inputs[k].flatten_all().unwrap().to_vec1().unwrap();
            for i in 0..flat.len() {
                let at = |step: f64| {
                    let mut moved = flat.clone();
                    moved[i] += step;
                    let mut both = inputs.clone();
                    both[k] = Tensor::from_vec(moved, (3, 5, 2), &Device::Cpu).unwrap();
                    value(&both[0], &both[1]).to_scalar::<f64>().unwrap()
                };
                let numeric = (at(1e-6) - at(-1e-6)) / 2e-6;
                assert!((numeric - grad[i]).abs() < 1e-6, "{k} {i}: {numeric} {}", grad[i]);
            }
        }
    }

    #[test]
    fn shapes_are_checked() {
        let x = random(&[2, 3, 2], 1);
        assert!(hierarchical(&x, &random(&[2, 2, 2], 1), 0.5, 0).is_err());
        // One series has nothing to be told from.
        let one = hierarchical(&random(&[1, 4, 2], 1), &random(&[1, 4, 2], 2), 0.5, 0).unwrap();
        assert_eq!(one.instance.to_scalar::<f64>().unwrap(), 0.0);
        assert!(one.temporal.to_scalar::<f64>().unwrap() != 0.0);
    }
}
