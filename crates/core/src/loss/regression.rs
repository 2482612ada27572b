//! Losses without negatives: one view's prediction is turned towards the other view's projection.
//!
//! Both are means of cosines; the projection is detached. That nothing but the architecture (a slow teacher,
//! or the detached branch and the predictor) keeps them from the constant solution is why their runs need the
//! collapse monitor.

use super::check::Check;
use super::rows::{dots, l2_normalize};
use crate::Result;
use candle_core::Tensor;

/// Mean cosine of `(p0, z1)` plus mean cosine of `(p1, z0)`, the second of each pair detached.
fn crossed_cosines(at: Check, p0: &Tensor, p1: &Tensor, z0: &Tensor, z1: &Tensor) -> Result<Tensor> {
    let (p0, ..) = at.matrix("p0", p0, "(N, D)")?;
    let p1 = at.like("p1", p1, "p0", &p0)?;
    let z0 = at.like("z0", z0, "p0", &p0)?;
    let z1 = at.like("z1", z1, "p0", &p0)?;
    let p = l2_normalize(&Tensor::cat(&[p0, p1], 0)?, 1e-12)?;
    let z = l2_normalize(&Tensor::cat(&[z1.detach(), z0.detach()], 0)?, 1e-12)?;
    Ok((dots(&p, &z)?.mean_all()? * 2.0)?)
}

/// BYOL: mean over both directions and the batch of `2 - 2 cos(p, stop_grad(z))`, the squared distance of the
/// unit vectors.
///
/// `p0`, `p1` are the online network's predictions of the two views and `z0`, `z1` the target network's
/// projections, all (N, D); `p0` is compared with `z1` and `p1` with `z0`. Between 0 and 4.
///
/// Grill et al. 2020, "Bootstrap your own latent", arXiv 2006.07733, equation 2. The paper sums the two
/// directions; this is their mean.
///
/// # Errors
/// Shapes that are not equal.
pub fn byol(p0: &Tensor, p1: &Tensor, z0: &Tensor, z1: &Tensor) -> Result<Tensor> {
    Ok(crossed_cosines(Check("byol"), p0, p1, z0, z1)?.affine(-1.0, 2.0)?)
}

/// SimSiam: `(D(p0, z1) + D(p1, z0)) / 2` with `D(p, z) = -cos(p, stop_grad(z))`, mean over the batch.
///
/// `p0`, `p1` are the predictions and `z0`, `z1` the projections of the two views, all (N, D). Between -1 and
/// 1; the best value is -1.
///
/// Chen and He 2020, "Exploring Simple Siamese Representation Learning", arXiv 2011.10566, equation 4.
///
/// # Errors
/// Shapes that are not equal.
pub fn sim_siam(p0: &Tensor, p1: &Tensor, z0: &Tensor, z1: &Tensor) -> Result<Tensor> {
    Ok((crossed_cosines(Check("sim_siam"), p0, p1, z0, z1)? * -0.5)?)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Golden, f32s, finite_differences, random, value};
    use super::*;
    use candle_core::Var;

    #[test]
    fn golden() {
        let g = Golden::open("losses/byol");
        g.check(&["p0", "p1"], |t| byol(&t[0], &t[1], &g.get("input.const_z0"), &g.get("input.const_z1")));
        let g = Golden::open("losses/simsiam");
        g.check(&["p0", "p1"], |t| {
            sim_siam(&t[0], &t[1], &g.get("input.const_z0"), &g.get("input.const_z1"))
        });
    }

    #[test]
    fn equal_and_opposite_vectors() {
        let x = random(&[3, 5], 1);
        let y = (&x * 7.0).unwrap();
        let minus = (&x * -2.0).unwrap();
        assert!(value(&byol(&x, &x, &y, &y).unwrap()).abs() < 1e-12);
        assert!((value(&byol(&x, &x, &minus, &minus).unwrap()) - 4.0).abs() < 1e-12);
        assert!((value(&sim_siam(&x, &x, &y, &y).unwrap()) + 1.0).abs() < 1e-12);
        // p0 goes with z1 and p1 with z0: crossed wrongly, this would be 2.
        let (a, b) = (f32s(&[1.0, 0.0], &[1, 2]), f32s(&[0.0, 3.0], &[1, 2]));
        assert_eq!(value(&byol(&a, &b, &b, &a).unwrap()), 0.0);
    }

    #[test]
    fn finite_differences_and_stop_gradient() {
        let x: Vec<Tensor> = (0..4).map(|s| random(&[3, 4], s)).collect();
        finite_differences(&x[..2], |t| byol(&t[0], &t[1], &x[2], &x[3]));
        finite_differences(&x[..2], |t| sim_siam(&t[0], &t[1], &x[2], &x[3]));
        let v: Vec<Var> = x.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
        let grads = byol(&v[0], &v[1], &v[2], &v[3]).unwrap().backward().unwrap();
        assert!(grads.get(&v[1]).is_some() && grads.get(&v[2]).is_none() && grads.get(&v[3]).is_none());
    }

    #[test]
    fn a_zero_vector_has_a_finite_gradient() {
        let v = Var::from_tensor(&f32s(&[0.0; 4], &[2, 2])).unwrap();
        let z = f32s(&[1.0, 0.0, 0.0, 1.0], &[2, 2]);
        let grads = byol(&v, &z, &z, &z).unwrap().backward().unwrap();
        assert!(
            grads
                .get(&v)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()
                .iter()
                .all(|g| g.is_finite())
        );
    }

    #[test]
    fn wrong_shapes_are_named() {
        let (x, y) = (random(&[3, 5], 1), random(&[3, 4], 1));
        let e = byol(&x, &x, &x, &y).unwrap_err().to_string();
        assert!(e.contains("byol") && e.contains("`z1`") && e.contains("[3, 5]"), "{e}");
        let e = sim_siam(&random(&[3, 5, 1], 1), &x, &x, &x).unwrap_err().to_string();
        assert!(e.contains("`p0`") && e.contains("(N, D)"), "{e}");
    }
}
