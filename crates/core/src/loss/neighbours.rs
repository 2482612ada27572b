//! Losses that pick other samples by distance: the nearest neighbour in a queue (NNCLR), and the negatives of
//! triplets.

use super::check::Check;
use super::contrastive::{nt_xent, triplet};
use super::rows::{dots, l2_normalize};
use crate::kernels::Path;
use crate::kernels::loss::log_sum_exp;
use crate::{Error, Result};
use candle_core::{D, Tensor};
use serde::{Deserialize, Serialize};

/// Norm below which a row counts as zero, as in PyTorch's `normalize`.
const EPS: f64 = 1e-12;

/// The rows of `queue (K, D)` with the largest cosine to each row of `z (N, D)`, normalised, `(N, D)`; no gradient.
///
/// # Errors
/// Shapes that do not fit.
pub fn nearest(z: &Tensor, queue: &Tensor) -> Result<Tensor> {
    let at = Check("nearest");
    let (z, _, d) = at.matrix("z", &z.detach(), "(N, D)")?;
    let (queue, _, width) = at.matrix("queue", &queue.detach(), "(K, D)")?;
    if width != d {
        return Err(at.wrong(
            "queue",
            format_args!("has shape {:?}, expected (K, {d}), the width of `z`", queue.dims()),
        ));
    }
    let queue = l2_normalize(&queue.to_dtype(z.dtype())?, EPS)?;
    let found = l2_normalize(&z, EPS)?.matmul(&queue.t()?)?.argmax(D::Minus1)?;
    Ok(queue.index_select(&found, 0)?)
}

/// NNCLR: the nearest neighbour of one view's projection in a queue is to find the prediction of the other view
/// among those of the batch.
///
/// `p0`, `p1`: (N, D) predictions; `z0`, `z1`: (N, D) projections of the same views and `queue`: (K, D), both
/// detached. Mean over both directions of the cross entropy of `nn(z0) p1^T / T` with the diagonal as target; all
/// normalised here.
///
/// Dwibedi et al. 2021, "With a Little Help from My Friends", arXiv 2104.14548, equation 3.
///
/// # Errors
/// Shapes that do not fit, fewer than 2 samples (no negative), a temperature that is not above 0.
pub fn nnclr(
    (p0, p1): (&Tensor, &Tensor),
    (z0, z1): (&Tensor, &Tensor),
    queue: &Tensor,
    temperature: f64,
) -> Result<Tensor> {
    let at = Check("nnclr");
    let (p0, n, _) = at.matrix("p0", p0, "(N, D)")?;
    let p1 = at.like("p1", p1, "p0", &p0)?;
    let (z0, z1) = (at.like("z0", z0, "p0", &p0)?, at.like("z1", z1, "p0", &p0)?);
    at.positive("temperature", temperature)?;
    at.pair_of_samples("p0", n, "a single sample has no negatives")?;
    let term = |z: &Tensor, p: &Tensor| -> Result<Tensor> {
        let near = (nearest(z, queue)? / temperature)?;
        let p = l2_normalize(p, EPS)?;
        // Row i: the neighbour of sample i against all predictions.
        let all = log_sum_exp(&near.matmul(&p.t()?)?, &[], Path::Auto)?;
        Ok((all - dots(&near, &p)?)?.mean_all()?)
    };
    Ok(((term(&z0, &p1)? + term(&z1, &p0)?)? * 0.5)?)
}

/// [`nnclr`] as lightly computes it: each direction is NT-Xent of the neighbours and the predictions, so that
/// neighbours repel each other too.
///
/// # Errors
/// As [`nnclr`].
pub fn nnclr_nt_xent(
    (p0, p1): (&Tensor, &Tensor),
    (z0, z1): (&Tensor, &Tensor),
    queue: &Tensor,
    temperature: f64,
) -> Result<Tensor> {
    let term = |z: &Tensor, p: &Tensor| nt_xent(&nearest(z, queue)?.to_dtype(p.dtype())?, p, temperature);
    Ok(((term(z0, p1)? + term(z1, p0)?)? * 0.5)?)
}

/// Which negative a triplet takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Mining {
    /// The nearest of those that are farther than the positive; where there is none, the farthest of all
    /// (FaceNet, arXiv 1503.03832, section 3.2).
    #[default]
    SemiHard,
    /// The nearest: quick to collapse where it is noise.
    Hardest,
}

/// Triplets over two views: each row of `a` and `b` (N, D) is an anchor, its positive the other view of its sample,
/// its negative a row of another sample of either view, chosen by `mining`; [`triplet`] of the normalised rows.
/// Returns the loss, and the share of triplets that are not yet apart by `margin`.
///
/// # Errors
/// Shapes that differ, fewer than 2 samples (no negative), a negative margin, rows that are not finite on the CPU.
pub fn mined_triplet(a: &Tensor, b: &Tensor, margin: f64, mining: Mining) -> Result<(Tensor, f64)> {
    let at = Check("mined_triplet");
    let (a, n, _) = at.matrix("a", a, "(N, D)")?;
    let b = at.like("b", b, "a", &a)?;
    at.not_negative("margin", margin)?;
    at.pair_of_samples("a", n, "a single sample has no negatives")?;
    let anchors = l2_normalize(&Tensor::cat(&[&a, &b], 0)?, EPS)?; // (2N, D)
    let positives = Tensor::cat(&[&anchors.narrow(0, n, n)?, &anchors.narrow(0, 0, n)?], 0)?;
    let fixed = anchors.detach();
    // Of rows of length 1 the distance falls with the cosine: the nearest row has the largest.
    let cosines = fixed.matmul(&fixed.t()?)?.to_dtype(candle_core::DType::F32)?.to_vec2::<f32>()?;
    let mut chosen = Vec::with_capacity(2 * n);
    let mut open = 0;
    for (i, row) in cosines.iter().enumerate() {
        let positive = row.get((i + n) % (2 * n)).copied().unwrap_or(f32::NAN);
        let others = || row.iter().copied().enumerate().filter(|(j, _)| j % n != i % n);
        let nearest = |j: &mut dyn Iterator<Item = (usize, f32)>| j.max_by(|x, y| x.1.total_cmp(&y.1));
        let found = match mining {
            Mining::Hardest => nearest(&mut others()),
            Mining::SemiHard => nearest(&mut others().filter(|(_, c)| *c < positive))
                .or_else(|| others().min_by(|x, y| x.1.total_cmp(&y.1))),
        };
        let (index, cosine) = found.ok_or_else(|| Error::Other("mined_triplet: no negative".into()))?;
        let distance = |c: f32| (2.0 - 2.0 * f64::from(c)).max(0.0).sqrt();
        open += usize::from(distance(positive) + margin > distance(cosine));
        chosen.push(index as u32);
    }
    let chosen = Tensor::from_vec(chosen, 2 * n, anchors.device())?;
    let loss = triplet(&anchors, &positives, &anchors.index_select(&chosen, 0)?, margin)?;
    Ok((loss, open as f64 / (2 * n) as f64))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Golden, f32s, finite_differences, random, value};
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn golden() {
        let inputs =
            |g: &Golden| ["const_z0", "const_z1", "const_bank"].map(|n| g.get(&format!("input.{n}")));
        let g = Golden::open("losses/nnclr");
        let [z0, z1, bank] = inputs(&g);
        g.check(&["p0", "p1"], |t| nnclr((&t[0], &t[1]), (&z0, &z1), &bank, 0.1));
        let g = Golden::open("losses/nnclr_ntxent");
        let [z0, z1, bank] = inputs(&g);
        g.check(&["p0", "p1"], |t| nnclr_nt_xent((&t[0], &t[1]), (&z0, &z1), &bank, 0.1));
    }

    /// Orthonormal samples that are their own neighbours: one logit of 1/T against N - 1 of 0.
    #[test]
    fn nnclr_closed_form() {
        let (n, t) = (5usize, 0.4f64);
        let z = Tensor::eye(n, DType::F64, &Device::Cpu).unwrap();
        let got = value(&nnclr((&z, &z), (&z, &z), &(&z * 3.0).unwrap(), t).unwrap());
        let want = ((1.0 / t).exp() + n as f64 - 1.0).ln() - 1.0 / t;
        assert!((got - want).abs() < 1e-12, "{got} {want}");
        let queue = f32s(&[0.0, 1.0, 5.0, 1.0, -1.0, 0.0], &[3, 2]);
        let near = nearest(&f32s(&[1.0, 0.0, -2.0, 0.1], &[2, 2]), &queue).unwrap().to_vec2::<f32>().unwrap();
        let far = 26f32.sqrt();
        assert!((near[0][0] - 5.0 / far).abs() < 1e-6 && (near[0][1] - 1.0 / far).abs() < 1e-6, "{near:?}");
        assert_eq!(near[1], [-1.0, 0.0]);
    }

    /// On the circle, by angles: the positive of row 0 is at 30 degrees, the others at 20, 50 and 170.
    #[test]
    fn negatives_are_mined() {
        let at = |degrees: f32| [degrees.to_radians().cos(), degrees.to_radians().sin()];
        let (a, b) = ([at(0.0), at(20.0)].concat(), [at(30.0), at(50.0)].concat());
        let (a, b) = (f32s(&a, &[2, 2]), f32s(&b, &[2, 2]));
        let chord = |degrees: f64| 2.0 * (degrees.to_radians() / 2.0).sin();
        let margin = 0.2;
        let (loss, open) = mined_triplet(&a, &b, margin, Mining::SemiHard).unwrap();
        // Anchors 0, 20, 30, 50 with positives at 30 each; farther than that: 50 from 0, none from 20 (the
        // farthest is at 20), none from 30 (20 away: the farthest), 0 from 50.
        let terms = [(30.0, 50.0), (30.0, 20.0), (30.0, 20.0), (30.0, 50.0)];
        let mean = |terms: &[(f64, f64)]| {
            terms.iter().map(|(p, n)| (chord(*p) - chord(*n) + margin).max(0.0)).sum::<f64>() / 4.0
        };
        assert!((value(&loss) - mean(&terms)).abs() < 1e-5, "{loss} {}", mean(&terms));
        assert_eq!(open, 0.5);
        let (loss, open) = mined_triplet(&a, &b, margin, Mining::Hardest).unwrap();
        let terms = [(30.0, 20.0), (30.0, 10.0), (30.0, 10.0), (30.0, 20.0)];
        assert!((value(&loss) - mean(&terms)).abs() < 1e-5, "{loss} {}", mean(&terms));
        assert_eq!(open, 1.0);
    }

    #[test]
    fn gradients() {
        let x: Vec<Tensor> = (0..4).map(|s| random(&[4, 3], s)).collect();
        let queue = random(&[6, 3], 9);
        finite_differences(&x[..2], |t| nnclr((&t[0], &t[1]), (&x[2], &x[3]), &queue, 0.3));
        finite_differences(&x[..2], |t| nnclr_nt_xent((&t[0], &t[1]), (&x[2], &x[3]), &queue, 0.3));
        finite_differences(&x[..2], |t| Ok(mined_triplet(&t[0], &t[1], 0.7, Mining::SemiHard)?.0));
    }

    #[test]
    fn wrong_arguments_are_named() {
        let (x, one) = (random(&[3, 5], 1), random(&[1, 5], 1));
        let says = |r: Result<Tensor>, parts: &[&str]| {
            let e = r.unwrap_err().to_string();
            assert!(parts.iter().all(|p| e.contains(p)), "{e}");
        };
        says(nnclr((&one, &one), (&one, &one), &x, 0.1), &["nnclr", "at least 2"]);
        says(nnclr((&x, &x), (&x, &x), &random(&[4, 6], 1), 0.1), &["`queue`", "(K, 5)"]);
        says(nnclr((&x, &x), (&x, &x), &x, 0.0), &["`temperature`"]);
        says(mined_triplet(&x, &x, -1.0, Mining::SemiHard).map(|l| l.0), &["`margin`"]);
        says(mined_triplet(&one, &one, 1.0, Mining::SemiHard).map(|l| l.0), &["at least 2"]);
    }
}
