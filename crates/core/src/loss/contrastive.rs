//! Contrastive losses: similar pairs against the rest of a batch, a queue, or one negative.
//!
//! All but the triplet loss are a softmax cross entropy over cosine similarities divided by a temperature T.
//! Written as `log sum exp(similarities) - positive similarity`, each is two small products and one
//! log-sum-exp node; 1/T is applied to the (N, D) rows and not to the similarities, which are the large
//! tensor.

use super::check::Check;
use super::rows::{dots, l2_normalize, relu};
use crate::Result;
use crate::kernels::Path;
use crate::kernels::loss::log_sum_exp;
use candle_core::{D, DType, Tensor};

/// Norm below which a row counts as zero, as in PyTorch's `normalize`.
const EPS: f64 = 1e-12;

/// NT-Xent: for each of the 2N rows, cross entropy of its positive among the 2N - 1 others; mean over the
/// rows.
///
/// `z0`, `z1`: (N, D) projections of the two views; normalised here.
///
/// `l_i = -log( exp(s_ip / T) / sum_{k != i} exp(s_ik / T) )`, `s` cosine similarity, `p` the other view of
/// `i`.
///
/// Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations" (SimCLR), arXiv
/// 2002.05709, equation 1.
///
/// # Errors
/// Shapes that differ, fewer than 2 samples (no negative), a temperature that is not above 0.
pub fn nt_xent(z0: &Tensor, z1: &Tensor, temperature: f64) -> Result<Tensor> {
    nt_xent_on(z0, z1, temperature, Path::Auto)
}

fn nt_xent_on(z0: &Tensor, z1: &Tensor, temperature: f64, path: Path) -> Result<Tensor> {
    in_batch(Check("nt_xent"), z0, z1, temperature, Form::Coupled, path)
}

/// DCL, decoupled contrastive learning: NT-Xent whose denominator leaves the positive out.
///
/// `z0`, `z1`: (N, D), normalised here. `l_i = -s_ip / T + log sum_{k != i, p} exp(s_ik / T)`, mean over the
/// 2N rows.
///
/// Yeh et al. 2021, "Decoupled Contrastive Learning", arXiv 2110.06848, equation 6.
///
/// # Errors
/// Shapes that differ, fewer than 2 samples (no negative), a temperature that is not above 0.
pub fn dcl(z0: &Tensor, z1: &Tensor, temperature: f64) -> Result<Tensor> {
    dcl_on(z0, z1, temperature, Path::Auto)
}

fn dcl_on(z0: &Tensor, z1: &Tensor, temperature: f64, path: Path) -> Result<Tensor> {
    in_batch(Check("dcl"), z0, z1, temperature, Form::Decoupled, path)
}

/// DCLW: [`dcl`] whose positives weigh `2 - exp(s_i / sigma) / mean_j exp(s_j / sigma)`, s the cosines of the
/// pairs, without gradient: pairs that are apart weigh more. The weights have the mean 1.
///
/// Yeh et al. 2021, arXiv 2110.06848, section 3.2 (sigma 0.5).
///
/// # Errors
/// As [`dcl`]; a sigma that is not above 0.
pub fn dclw(z0: &Tensor, z1: &Tensor, temperature: f64, sigma: f64) -> Result<Tensor> {
    dclw_on(z0, z1, temperature, sigma, Path::Auto)
}

fn dclw_on(z0: &Tensor, z1: &Tensor, temperature: f64, sigma: f64, path: Path) -> Result<Tensor> {
    Check("dclw").positive("sigma", sigma)?;
    in_batch(Check("dclw"), z0, z1, temperature, Form::Weighted(sigma), path)
}

/// What becomes of the positive in the loss of a batch.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// It is in the denominator.
    Coupled,
    /// It is not.
    Decoupled,
    /// It is not, and weighs by how near it is.
    Weighted(f64),
}

fn in_batch(at: Check, z0: &Tensor, z1: &Tensor, temperature: f64, form: Form, path: Path) -> Result<Tensor> {
    let (z0, n, _) = at.matrix("z0", z0, "(N, D)")?;
    let z1 = at.like("z1", z1, "z0", &z0)?;
    at.positive("temperature", temperature)?;
    at.pair_of_samples("z0", n, "a single sample has no negatives")?;
    let u = (l2_normalize(&Tensor::cat(&[z0, z1], 0)?, EPS)? / temperature.sqrt())?; // (2N, D)
    let similarity = u.matmul(&u.t()?)?; // (2N, 2N), over T
    // Row i leaves itself out, and if decoupled its positive i + N (modulo 2N) too.
    let skip: &[usize] = if form == Form::Coupled { &[0] } else { &[0, n] };
    let all = log_sum_exp(&similarity, skip, path)?.mean_all()?;
    let mut positive = dots(&u.narrow(0, 0, n)?, &u.narrow(0, n, n)?)?; // (N), over T
    if let Form::Weighted(sigma) = form {
        let near = (positive.detach() * (temperature / sigma))?;
        let e = near.broadcast_sub(&near.max_keepdim(0)?)?.exp()?;
        positive = (positive * e.broadcast_div(&e.mean_keepdim(0)?)?.affine(-1.0, 2.0)?)?;
    }
    Ok((all - positive.mean_all()?)?)
}

/// InfoNCE with a queue: cross entropy of the positive key against the K negatives of the queue, mean over
/// the queries.
///
/// `q`: (N, D) queries, `k`: (N, D) keys of the same samples, both normalised here, `k` detached. `queue`:
/// (K, D) keys of earlier batches, already normalised, detached. Logits are `[q.k | q queue^T] / T`, the
/// target is column 0.
///
/// He et al. 2019, "Momentum Contrast for Unsupervised Visual Representation Learning" (MoCo), arXiv
/// 1911.05722, equation 1.
///
/// # Errors
/// Shapes that do not fit, an empty queue, a temperature that is not above 0.
pub fn info_nce_queue(q: &Tensor, k: &Tensor, queue: &Tensor, temperature: f64) -> Result<Tensor> {
    info_nce_queue_on(q, k, queue, temperature, Path::Auto)
}

fn info_nce_queue_on(q: &Tensor, k: &Tensor, queue: &Tensor, temperature: f64, path: Path) -> Result<Tensor> {
    let at = Check("info_nce_queue");
    let (q, _, d) = at.matrix("q", q, "(N, D)")?;
    let k = at.like("k", k, "q", &q)?.detach();
    let (queue, _, queue_d) = at.matrix("queue", queue, "(K, D)")?;
    if queue_d != d {
        return Err(at.wrong(
            "queue",
            format_args!("has shape {:?}, expected (K, {d}), the width of `q`", queue.dims()),
        ));
    }
    at.positive("temperature", temperature)?;
    let q = (l2_normalize(&q, EPS)? / temperature)?;
    let positive = dots(&q, &l2_normalize(&k, EPS)?)?.unsqueeze(1)?; // (N, 1)
    let negatives = q.matmul(&queue.detach().to_dtype(q.dtype())?.t()?)?; // (N, K)
    // log(e^positive + sum e^negatives) of (N, 2): the large tensor is never copied behind the positives.
    let negatives = log_sum_exp(&negatives, &[], path)?.unsqueeze(1)?;
    let all = log_sum_exp(&Tensor::cat(&[&positive, &negatives], 1)?, &[], path)?;
    Ok((all - positive.squeeze(1)?)?.mean_all()?)
}

/// MoCo v3: `ctr(q1, k2) + ctr(q2, k1)`, each the cross entropy of `q k^T / T` with the diagonal as target,
/// times `2 T`.
///
/// `q1`, `q2`: (N, D) predictions of the two views; `k1`, `k2`: (N, D) outputs of the momentum encoder,
/// detached. All normalised here.
///
/// Chen, Xie and He 2021, "An Empirical Study of Training Self-Supervised Vision Transformers", arXiv
/// 2104.02057, algorithm 1.
///
/// # Errors
/// Shapes that differ, fewer than 2 samples (no negative), a temperature that is not above 0.
pub fn moco_v3(q1: &Tensor, q2: &Tensor, k1: &Tensor, k2: &Tensor, temperature: f64) -> Result<Tensor> {
    moco_v3_on(q1, q2, k1, k2, temperature, Path::Auto)
}

fn moco_v3_on(
    q1: &Tensor,
    q2: &Tensor,
    k1: &Tensor,
    k2: &Tensor,
    temperature: f64,
    path: Path,
) -> Result<Tensor> {
    let at = Check("moco_v3");
    let (q1, n, _) = at.matrix("q1", q1, "(N, D)")?;
    let q2 = at.like("q2", q2, "q1", &q1)?;
    let k1 = at.like("k1", k1, "q1", &q1)?.detach();
    let k2 = at.like("k2", k2, "q1", &q1)?.detach();
    at.positive("temperature", temperature)?;
    at.pair_of_samples("q1", n, "a single sample has no negatives")?;
    let term = |q: &Tensor, k: &Tensor| -> Result<Tensor> {
        let q = (l2_normalize(q, EPS)? / temperature)?;
        let k = l2_normalize(k, EPS)?;
        let all = log_sum_exp(&q.matmul(&k.t()?)?, &[], path)?;
        Ok((all - dots(&q, &k)?)?.mean_all()?)
    };
    Ok(((term(&q1, &k2)? + term(&q2, &k1)?)? * (2.0 * temperature))?)
}

/// Supervised contrastive loss, `L_out`: for each anchor the mean over its positives (the other rows of its
/// label) of `-log softmax` over all other rows; mean over the anchors that have a positive.
///
/// `z`: (N, D), normalised here. `labels`: (N) integers. For several views of each sample, concatenate the
/// views and repeat the labels.
///
/// Khosla et al. 2020, "Supervised Contrastive Learning", arXiv 2004.11362, equation 2. The factor `T /
/// T_base` of the published code is left out.
///
/// # Errors
/// Shapes that do not fit, fewer than 2 rows, a temperature that is not above 0, no two rows with the same
/// label (an error on the CPU; on other devices the loss is then not a number).
pub fn sup_con(z: &Tensor, labels: &Tensor, temperature: f64) -> Result<Tensor> {
    sup_con_on(z, labels, temperature, Path::Auto)
}

fn sup_con_on(z: &Tensor, labels: &Tensor, temperature: f64, path: Path) -> Result<Tensor> {
    let at = Check("sup_con");
    let (z, n, _) = at.matrix("z", z, "(N, D)")?;
    at.shape("labels", labels, &[n], "(N)")?;
    let labels = at.integers("labels", labels)?;
    at.positive("temperature", temperature)?;
    at.pair_of_samples("z", n, "a single row has no positive")?;
    let u = (l2_normalize(&z, EPS)? / temperature.sqrt())?;
    let similarity = u.matmul(&u.t()?)?;
    // positives[i, j] = 1 where i and j != i share a label
    let same = labels.reshape((n, 1))?.broadcast_eq(&labels.reshape((1, n))?)?;
    let eye = Tensor::eye(n, DType::U8, z.device())?;
    let positives = (same - eye)?.to_dtype(z.dtype())?;
    let counts = positives.sum_keepdim(1)?; // (N, 1)
    let anchors = counts.gt(0.0)?.to_dtype(z.dtype())?; // 1 where there is a positive
    let anchor_count = anchors.sum_all()?;
    if z.device().is_cpu() && anchor_count.to_dtype(DType::F64)?.to_scalar::<f64>()? == 0.0 {
        return Err(at.wrong("labels", "are all different, expected at least two rows with the same label"));
    }
    // sum_i [ log sum exp_i - mean over the positives of s_ij ]; anchors without a positive weigh nothing
    let weights = positives.broadcast_div(&counts.maximum(1.0)?)?;
    let all = (log_sum_exp(&similarity, &[0], path)? * anchors.squeeze(1)?)?.sum_all()?;
    let positive = (similarity * weights)?.sum_all()?;
    Ok(((all - positive)? / anchor_count)?)
}

/// Triplet margin loss: mean of `max(d(a, p) - d(a, n) + margin, 0)` with `d(x, y) = ||x - y + 1e-6||`.
///
/// `anchor`, `positive`, `negative`: (N, D), not normalised here. The small shift, PyTorch's, keeps the
/// root's derivative finite where two rows are equal.
///
/// Schroff et al. 2015, "FaceNet", arXiv 1503.03832, equation 1 (there with squared distances).
///
/// # Errors
/// Shapes that differ, a negative margin.
pub fn triplet(anchor: &Tensor, positive: &Tensor, negative: &Tensor, margin: f64) -> Result<Tensor> {
    let at = Check("triplet");
    let (anchor, ..) = at.matrix("anchor", anchor, "(N, D)")?;
    let positive = at.like("positive", positive, "anchor", &anchor)?;
    let negative = at.like("negative", negative, "anchor", &anchor)?;
    at.not_negative("margin", margin)?;
    let distance = |y: &Tensor| -> candle_core::Result<Tensor> {
        (&anchor - y)?.affine(1.0, 1e-6)?.sqr()?.sum(D::Minus1)?.sqrt()
    };
    Ok(relu(&((distance(&positive)? - distance(&negative)?)? + margin)?)?.mean_all()?)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Golden, agree, f32s, finite_differences, random, value};
    use super::*;
    use candle_core::Device;

    #[test]
    fn golden() {
        for path in [Path::Fused, Path::Composed] {
            Golden::open("losses/ntxent").check(&["z0", "z1"], |t| nt_xent_on(&t[0], &t[1], 0.5, path));
            Golden::open("losses/dcl").check(&["z0", "z1"], |t| dcl_on(&t[0], &t[1], 0.1, path));
            let g = Golden::open("losses/infonce_queue");
            g.check(&["q"], |t| {
                info_nce_queue_on(&t[0], &g.get("input.const_k"), &g.get("input.const_queue"), 0.07, path)
            });
            let g = Golden::open("losses/mocov3");
            g.check(&["q1", "q2"], |t| {
                moco_v3_on(&t[0], &t[1], &g.get("input.const_k1"), &g.get("input.const_k2"), 0.2, path)
            });
            let g = Golden::open("losses/supcon");
            g.check(&["z"], |t| sup_con_on(&t[0], &g.get("input.labels"), 0.1, path));
        }
        Golden::open("losses/triplet").check(&["a", "p", "q"], |t| triplet(&t[0], &t[1], &t[2], 1.0));
    }

    /// Orthonormal samples with equal views: similarities are 1 with the positive and 0 with the 2N - 2
    /// others.
    #[test]
    fn orthonormal_pairs() {
        let (n, t) = (5usize, 0.4f64);
        let z = Tensor::eye(n, DType::F64, &Device::Cpu).unwrap();
        let e = (1.0 / t).exp();
        let others = 2.0 * n as f64 - 2.0;
        let near = |loss: Result<Tensor>, want: f64| {
            let got = value(&loss.unwrap());
            assert!((got - want).abs() < 1e-12, "{got} for {want}");
        };
        near(nt_xent(&z, &z, t), (e + others).ln() - 1.0 / t);
        near(dcl(&z, &z, t), others.ln() - 1.0 / t);
        near(dclw(&z, &z, t, 0.5), others.ln() - 1.0 / t); // equal pairs weigh 1
        near(moco_v3(&z, &z, &z, &z, t), 4.0 * t * ((e + n as f64 - 1.0).ln() - 1.0 / t));
        // The queries' own axes as queue: one negative equal to the positive, n - 1 orthogonal ones.
        near(info_nce_queue(&z, &z, &z, t), (2.0 * e + n as f64 - 1.0).ln() - 1.0 / t);
        // With each sample its own label and two views, the supervised loss is NT-Xent.
        let both = Tensor::cat(&[&z, &z], 0).unwrap();
        let labels = Tensor::arange(0i64, n as i64, &Device::Cpu).unwrap();
        near(sup_con(&both, &Tensor::cat(&[&labels, &labels], 0).unwrap(), t), (e + others).ln() - 1.0 / t);
    }

    #[test]
    fn sup_con_with_view_labels_is_nt_xent() {
        let (z0, z1) = (random(&[6, 5], 1), random(&[6, 5], 2));
        let l = Tensor::new(&[0i64, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5], &Device::Cpu).unwrap();
        let a = value(&sup_con(&Tensor::cat(&[&z0, &z1], 0).unwrap(), &l, 0.2).unwrap());
        let b = value(&nt_xent(&z0, &z1, 0.2).unwrap());
        assert!((a - b).abs() < 1e-12, "{a} {b}");
    }

    /// Two pairs with cosines 1 and 0: weights `2 - 2 e / (1 + e)` and `2 - 2 / (1 + e)`, e = exp(1 / sigma).
    #[test]
    fn dclw_weighs_pairs_that_are_apart() {
        let z0 = f32s(&[1.0, 0.0, 0.0, 0.0, 1.0, 0.0], &[2, 3]).to_dtype(DType::F64).unwrap();
        let z1 = f32s(&[1.0, 0.0, 0.0, 0.0, 0.0, 1.0], &[2, 3]).to_dtype(DType::F64).unwrap();
        let (t, sigma) = (0.4, 0.5);
        let e = (1.0f64 / sigma).exp();
        // The positive of cosine 0 counts nothing; all negatives are orthogonal.
        let want = 2f64.ln() - (2.0 - 2.0 * e / (1.0 + e)) / t / 2.0;
        let got = value(&dclw(&z0, &z1, t, sigma).unwrap());
        assert!((got - want).abs() < 1e-12, "{got} {want}");
        let x = [random(&[37, 19], 1), random(&[37, 19], 2)];
        agree(&x, |t, p| dclw_on(&t[0], &t[1], 0.1, 0.5, p));
    }

    #[test]
    fn triplet_closed_form() {
        let (a, p, n) = (f32s(&[0.0, 0.0], &[1, 2]), f32s(&[3.0, 4.0], &[1, 2]), f32s(&[0.0, 2.0], &[1, 2]));
        assert!((value(&triplet(&a, &p, &n, 1.0).unwrap()) - 4.0).abs() < 1e-5);
        assert_eq!(value(&triplet(&a, &n, &p, 1.0).unwrap()), 0.0);
    }

    #[test]
    fn gradients() {
        let x: Vec<Tensor> = (0..4).map(|s| random(&[4, 3], s)).collect();
        let queue = random(&[6, 3], 9);
        let labels = Tensor::new(&[0u32, 1, 0, 7], &Device::Cpu).unwrap();
        finite_differences(&x[..2], |t| nt_xent(&t[0], &t[1], 0.5));
        finite_differences(&x[..2], |t| dcl(&t[0], &t[1], 0.5));
        finite_differences(&x[..1], |t| info_nce_queue(&t[0], &x[1], &queue, 0.3));
        finite_differences(&x[..2], |t| moco_v3(&t[0], &t[1], &x[2], &x[3], 0.3));
        finite_differences(&x[..1], |t| sup_con(&t[0], &labels, 0.3));
        finite_differences(&x[..3], |t| triplet(&t[0], &t[1], &t[2], 1.0));
    }

    #[test]
    fn paths_agree() {
        let x: Vec<Tensor> = (0..4).map(|s| random(&[37, 19], s)).collect();
        let like = |t: &[Tensor], x: &Tensor| x.to_dtype(t[0].dtype()).unwrap();
        let queue = random(&[53, 19], 9);
        let labels =
            Tensor::from_vec((0..37i64).map(|i| i * i % 23).collect::<Vec<_>>(), 37, &Device::Cpu).unwrap();
        agree(&x[..2], |t, p| nt_xent_on(&t[0], &t[1], 0.1, p));
        agree(&x[..2], |t, p| dcl_on(&t[0], &t[1], 0.1, p));
        agree(&x[..1], |t, p| info_nce_queue_on(&t[0], &like(t, &x[1]), &like(t, &queue), 0.07, p));
        agree(&x[..2], |t, p| moco_v3_on(&t[0], &t[1], &like(t, &x[2]), &like(t, &x[3]), 0.2, p));
        agree(&x[..1], |t, p| sup_con_on(&t[0], &labels, 0.1, p));
    }

    #[test]
    fn wrong_arguments_are_named() {
        let (x, one) = (random(&[3, 5], 1), random(&[1, 5], 1));
        let says = |r: Result<Tensor>, parts: &[&str]| {
            let e = r.unwrap_err().to_string();
            assert!(parts.iter().all(|p| e.contains(p)), "{e}");
        };
        says(nt_xent(&one, &one, 0.5), &["nt_xent", "batch of 1", "at least 2"]);
        says(dcl(&one, &one, 0.5), &["dcl", "at least 2"]);
        says(dclw(&x, &x, 0.5, 0.0), &["dclw", "`sigma`"]);
        says(moco_v3(&one, &one, &one, &one, 0.5), &["moco_v3", "at least 2"]);
        says(nt_xent(&x, &one, 0.5), &["`z1`", "[1, 5]", "[3, 5]"]);
        says(nt_xent(&x, &x, 0.0), &["`temperature`"]);
        says(nt_xent(&x, &x, f64::NAN), &["`temperature`"]);
        says(info_nce_queue(&x, &x, &random(&[4, 6], 1), 0.1), &["`queue`", "(K, 5)"]);
        let empty = Tensor::zeros((0, 5), DType::F64, &Device::Cpu).unwrap();
        says(info_nce_queue(&x, &x, &empty, 0.1), &["`queue`", "(K, D)"]);
        says(sup_con(&x, &Tensor::new(&[1i64, 2], &Device::Cpu).unwrap(), 0.1), &["`labels`", "[3]"]);
        says(
            sup_con(&x, &Tensor::new(&[1i64, 2, 3], &Device::Cpu).unwrap(), 0.1),
            &["`labels`", "all different"],
        );
        says(
            sup_con(&x, &Tensor::new(&[1f32, 2., 3.], &Device::Cpu).unwrap(), 0.1),
            &["`labels`", "integers"],
        );
        says(triplet(&x, &x, &x, -1.0), &["`margin`"]);
        says(
            nt_xent(&Tensor::new(&[[1i64, 2], [3, 4]], &Device::Cpu).unwrap(), &x, 0.5),
            &["`z0`", "floating-point"],
        );
    }

    /// A single query has a positive and a queue: that is a loss.
    #[test]
    fn one_query_is_enough_for_a_queue() {
        let one = random(&[1, 5], 1);
        assert!(value(&info_nce_queue(&one, &one, &random(&[3, 5], 2), 0.1).unwrap()).is_finite());
    }
}
