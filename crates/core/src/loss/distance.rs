//! Distances of a prediction from a target, element by element, averaged over all elements.
//!
//! With `d = pred - target`; the target is detached.

use super::check::Check;
use crate::Result;
use candle_core::Tensor;

/// `pred - target`, the target without gradient.
fn gap(at: Check, pred: &Tensor, target: &Tensor) -> Result<Tensor> {
    let pred = at.float("pred", pred)?;
    if pred.elem_count() == 0 {
        return Err(at.wrong("pred", format_args!("has shape {:?}, expected elements", pred.dims())));
    }
    let target = at.like("target", target, "pred", &pred)?;
    Ok((pred - target.detach())?)
}

/// Mean squared error: the mean of `d^2`, of tensors of one shape.
///
/// # Errors
/// Shapes that differ, no elements.
pub fn mse(pred: &Tensor, target: &Tensor) -> Result<Tensor> {
    Ok(gap(Check("mse"), pred, target)?.sqr()?.mean_all()?)
}

/// Mean absolute error: the mean of `|d|`, of tensors of one shape.
///
/// # Errors
/// Shapes that differ, no elements.
pub fn l1(pred: &Tensor, target: &Tensor) -> Result<Tensor> {
    Ok(gap(Check("l1"), pred, target)?.abs()?.mean_all()?)
}

/// Smooth L1: the mean of `d^2 / (2 beta)` where `|d| < beta`, and of `|d| - beta / 2` elsewhere, of tensors
/// of one shape. For a small `beta` it is [`l1`] without the kink.
///
/// Girshick 2015, "Fast R-CNN", arXiv 1504.08083, equation 3 (`beta = 1`).
///
/// # Errors
/// Shapes that differ, no elements, a `beta` that is not above 0.
pub fn smooth_l1(pred: &Tensor, target: &Tensor, beta: f64) -> Result<Tensor> {
    smoothed(Check("smooth_l1"), pred, target, ("beta", beta))
}

/// Huber's loss: the mean of `d^2 / 2` where `|d| <= delta`, and of `delta (|d| - delta / 2)` elsewhere, of
/// tensors of one shape; `delta` times [`smooth_l1`].
///
/// Huber 1964, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35.
///
/// # Errors
/// Shapes that differ, no elements, a `delta` that is not above 0.
pub fn huber(pred: &Tensor, target: &Tensor, delta: f64) -> Result<Tensor> {
    Ok((smoothed(Check("huber"), pred, target, ("delta", delta))? * delta)?)
}

fn smoothed(at: Check, pred: &Tensor, target: &Tensor, (name, bend): (&str, f64)) -> Result<Tensor> {
    at.positive(name, bend)?;
    let d = gap(at, pred, target)?;
    let (square, line) = ((d.sqr()? * (0.5 / bend))?, (d.abs()? - 0.5 * bend)?);
    Ok(d.detach().abs()?.lt(bend)?.where_cond(&square, &line)?.mean_all()?)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Golden, f32s, finite_differences, random, value};
    use super::*;
    use candle_core::Var;

    fn target(g: &Golden) -> Tensor {
        g.get("input.const_target")
    }

    #[test]
    fn golden() {
        let g = Golden::open("losses/mse");
        g.check(&["pred"], |t| mse(&t[0], &target(&g)));
        let g = Golden::open("losses/smooth_l1");
        g.check(&["pred"], |t| smooth_l1(&t[0], &target(&g), 0.5));
        let g = Golden::open("losses/huber");
        g.check(&["pred"], |t| huber(&t[0], &target(&g), 0.7));
    }

    /// I-JEPA's targets are `(blocks, N, K, D)` there, with us the samples come first.
    #[test]
    fn golden_ijepa() {
        let g = Golden::open("losses/ijepa_smooth_l1");
        let masks = g.get("input.masks").to_dtype(candle_core::DType::I64).unwrap().transpose(0, 1).unwrap();
        let places: Vec<Vec<Vec<usize>>> = masks
            .to_vec3::<i64>()
            .unwrap()
            .into_iter()
            .map(|s| s.into_iter().map(|b| b.into_iter().map(|p| p as usize).collect()).collect())
            .collect();
        let targets = crate::objective::ijepa_targets(&target(&g), &places).unwrap();
        g.check(&["pred"], |t| smooth_l1(&t[0].transpose(0, 1).unwrap(), &targets, 1.0));
    }

    #[test]
    fn closed_forms() {
        let (x, y) = (f32s(&[0.0, 3.0, -1.0, 5.0], &[2, 2]), f32s(&[0.0, 1.0, -1.5, 5.0], &[2, 2]));
        // d is 0, 2, 0.5, 0.
        let close = |loss: Result<Tensor>, want: f64| assert!((value(&loss.unwrap()) - want).abs() < 1e-6);
        close(mse(&x, &y), (4.0 + 0.25) / 4.0);
        close(l1(&x, &y), 2.5 / 4.0);
        close(smooth_l1(&x, &y, 1.0), (1.5 + 0.125) / 4.0);
        close(huber(&x, &y, 0.25), 0.25 * (1.875 + 0.375) / 4.0);
    }

    #[test]
    fn finite_differences_and_stop_gradient() {
        let (x, y) = (random(&[3, 4], 1), random(&[3, 4], 2));
        finite_differences(std::slice::from_ref(&x), |t| mse(&t[0], &y));
        finite_differences(std::slice::from_ref(&x), |t| l1(&t[0], &y));
        finite_differences(std::slice::from_ref(&x), |t| smooth_l1(&t[0], &y, 0.8));
        finite_differences(std::slice::from_ref(&x), |t| huber(&t[0], &y, 0.8));
        let v = [Var::from_tensor(&x).unwrap(), Var::from_tensor(&y).unwrap()];
        let grads = smooth_l1(&v[0], &v[1], 1.0).unwrap().backward().unwrap();
        assert!(grads.get(&v[0]).is_some() && grads.get(&v[1]).is_none());
    }

    #[test]
    fn equal_tensors_have_no_loss_and_no_gradient() {
        let x = f32s(&[1.0, -2.0], &[2]);
        let v = Var::from_tensor(&x).unwrap();
        let loss = smooth_l1(&v, &x, 0.1).unwrap();
        let grads = loss.backward().unwrap();
        assert_eq!(value(&loss), 0.0);
        assert_eq!(grads.get(&v).unwrap().to_vec1::<f32>().unwrap(), [0.0, 0.0]);
    }

    #[test]
    fn wrong_arguments_are_named() {
        let (x, y) = (random(&[3, 5], 1), random(&[3, 4], 1));
        let e = mse(&x, &y).unwrap_err().to_string();
        assert!(e.contains("mse") && e.contains("`target`") && e.contains("[3, 5]"), "{e}");
        let e = huber(&x, &x, 0.0).unwrap_err().to_string();
        assert!(e.contains("huber") && e.contains("`delta`"), "{e}");
        let none = random(&[0, 5], 1);
        assert!(l1(&none, &none).unwrap_err().to_string().contains("`pred`"));
    }
}
