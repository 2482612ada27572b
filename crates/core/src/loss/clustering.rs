//! Losses over scores of prototypes or of output dimensions read as classes: SwAV and DINO; and the KoLeo
//! regulariser, which spreads them.
//!
//! Both compare every target with every other view. Cross entropy is linear in its target, so the targets
//! that one view is compared with are added first: one fused cross entropy per view instead of one per pair
//! (10 nodes for DINO's 2 x 10 views, not 18).

use super::check::Check;
use super::rows::{l2_normalize, soft_cross_entropy};
use crate::kernels::Path;
use crate::{Error, Result, World};
use candle_core::{D, Tensor};

/// The matrices of `views` in one shape, each checked under the name `arg[i]`.
fn views(at: Check, arg: &str, views: &[Tensor], model: Option<(&str, &Tensor)>) -> Result<Vec<Tensor>> {
    let mut checked: Vec<Tensor> = Vec::with_capacity(views.len());
    for (i, view) in views.iter().enumerate() {
        let name = format!("{arg}[{i}]");
        let first = format!("{arg}[0]");
        let view = match model.or(checked.first().map(|x| (first.as_str(), x))) {
            Some((model_name, model)) => at.like(&name, view, model_name, model)?,
            None => at.matrix(&name, view, "(N, K)")?.0,
        };
        checked.push(view);
    }
    Ok(checked)
}

/// Sum of the tensors whose index `keep` accepts; `None` if there is none.
fn sum_where(tensors: &[Tensor], keep: impl Fn(usize) -> bool) -> Result<Option<Tensor>> {
    let mut kept = tensors.iter().enumerate().filter(|(i, _)| keep(*i)).map(|(_, t)| t);
    let Some(first) = kept.next() else { return Ok(None) };
    let mut sum = first.clone();
    for t in kept {
        sum = (sum + t)?;
    }
    Ok(Some(sum))
}

/// Sinkhorn-Knopp: soft assignments of N samples to K prototypes that use all prototypes equally; (N, K)
/// scores to (N, K), no gradient.
///
/// `Q = exp(scores / epsilon)`; `iterations` times, prototypes (columns) are scaled to sum 1/K and then
/// samples (rows) to sum 1/N; at the end times N, so that each row sums to 1. Computed as scalings of log Q:
/// `exp` neither overflows nor underflows, whatever the scores.
///
/// Cuturi 2013, "Sinkhorn Distances", arXiv 1306.0895; used as in SwAV, arXiv 2006.09882, section 3.
///
/// # Errors
/// Scores that are not (N, K), no iteration, an epsilon that is not above 0.
pub fn sinkhorn(scores: &Tensor, iterations: usize, epsilon: f64) -> Result<Tensor> {
    sinkhorn_across(&World::default(), scores, iterations, epsilon)
}

/// [`sinkhorn`] of the samples of all processes of `world`, each of which has a batch of N and gets the rows
/// of its own.
///
/// # Errors
/// As [`sinkhorn`].
pub fn sinkhorn_across(world: &World, scores: &Tensor, iterations: usize, epsilon: f64) -> Result<Tensor> {
    let at = Check("sinkhorn");
    let (scores, n, k) = at.matrix("scores", scores, "(N, K)")?;
    at.positive("epsilon", epsilon)?;
    if iterations == 0 {
        return Err(at.wrong("iterations", "is 0, expected at least 1"));
    }
    let lse = |x: &Tensor, dim: usize| -> Result<Tensor> {
        let max = x.max_keepdim(dim)?;
        Ok((x.broadcast_sub(&max)?.exp()?.sum_keepdim(dim)?.log()? + max)?)
    };
    // q holds log Q. The scale it starts from does not matter: the first step scales the columns.
    let (log_k, log_n) = ((k as f64).ln(), world.total(n as f64)?.ln());
    let mut q = (scores.detach() / epsilon)?;
    for _ in 0..iterations {
        let here = lse(&q, 0)?; // (1, K): over this process's samples
        let columns = (lse(&world.all_gather(&here)?, 0)? + log_k)?;
        let scaled = q.broadcast_sub(&columns)?;
        q = scaled.broadcast_sub(&(lse(&scaled, 1)? + log_n)?)?;
    }
    Ok((q + log_n)?.exp()?)
}

/// SwAV: swapped prediction. The code of each high-resolution view is predicted from every other view.
///
/// `high`, `low`: scores (N, K) of the views against the K prototypes (cosines: both sides normalised). For
/// each high view i the code `Q_i = sinkhorn(scores_i, sinkhorn_iterations, epsilon)` carries no gradient;
/// the loss is the mean over i of `sum_{v != i} -mean_n sum_k Q_i log_softmax(scores_v / temperature) / (V -
/// 1)`, V the number of all views. The paper: temperature 0.1, 3 iterations, epsilon 0.05.
///
/// Caron et al. 2020, "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", arXiv
/// 2006.09882, equations 1 and 2.
///
/// # Errors
/// No high view or only one view, shapes that differ, a temperature or an epsilon that is not above 0, no
/// iteration.
pub fn swav(
    high: &[Tensor],
    low: &[Tensor],
    temperature: f64,
    sinkhorn_iterations: usize,
    epsilon: f64,
) -> Result<Tensor> {
    let codes = high
        .iter()
        .map(|scores| sinkhorn(scores, sinkhorn_iterations, epsilon))
        .collect::<Result<Vec<_>>>()?;
    swav_with_codes(high, low, &codes, temperature)
}

/// The codes of the scores `high (N, K)` of a view, balanced together with the scores `earlier (Q, K)` of the
/// features of earlier batches: [`sinkhorn`] of all rows, of which the first N are returned. A batch that is
/// smaller than the number of prototypes needs the others to use them all.
///
/// # Errors
/// As [`sinkhorn`]; widths that differ.
pub fn swav_codes(
    high: &Tensor,
    earlier: Option<&Tensor>,
    iterations: usize,
    epsilon: f64,
) -> Result<Tensor> {
    let Some(earlier) = earlier else { return sinkhorn(high, iterations, epsilon) };
    let at = Check("swav_codes");
    let (high, n, k) = at.matrix("high", &high.detach(), "(N, K)")?;
    let (earlier, _, width) = at.matrix("earlier", &earlier.detach(), "(Q, K)")?;
    if width != k {
        return Err(at.wrong("earlier", format_args!("has {width} columns, expected {k} as `high` has")));
    }
    let all = Tensor::cat(&[&high, &earlier.to_dtype(high.dtype())?], 0)?;
    Ok(sinkhorn(&all, iterations, epsilon)?.narrow(0, 0, n)?)
}

/// [`swav`] with codes that the caller made, one (N, K) per high view: those of [`sinkhorn_across`] or of
/// [`swav_codes`]. They get no gradient.
///
/// # Errors
/// As [`swav`], and a number of codes that is not that of the high views.
pub fn swav_with_codes(
    high: &[Tensor],
    low: &[Tensor],
    codes: &[Tensor],
    temperature: f64,
) -> Result<Tensor> {
    swav_on(high, low, codes, temperature, Path::Auto)
}

fn swav_on(
    high: &[Tensor],
    low: &[Tensor],
    codes: &[Tensor],
    temperature: f64,
    path: Path,
) -> Result<Tensor> {
    let at = Check("swav");
    if high.is_empty() {
        return Err(at.wrong("high", "is empty, expected the scores of at least one high-resolution view"));
    }
    if codes.len() != high.len() {
        return Err(at.wrong(
            "codes",
            format_args!("has {} entries, expected {}: one for each of `high`", codes.len(), high.len()),
        ));
    }
    at.positive("temperature", temperature)?;
    let mut all = views(at, "high", high, None)?;
    let model = all[0].clone();
    all.extend(views(at, "low", low, Some(("high[0]", &model)))?);
    let codes = views(at, "codes", codes, Some(("high[0]", &model)))?;
    if all.len() < 2 {
        return Err(at.wrong("low", "is empty and `high` has one view, expected at least two views in all"));
    }
    let pairs = (codes.len() * (all.len() - 1)) as f64;
    each_against_the_others(&all, &codes, temperature, pairs, path)
}

/// `sum_v mean_n H(sum_{i != v} targets_i, softmax(views_v / temperature)) / pairs`.
fn each_against_the_others(
    views: &[Tensor],
    targets: &[Tensor],
    temperature: f64,
    pairs: f64,
    path: Path,
) -> Result<Tensor> {
    let mut total: Option<Tensor> = None;
    for (v, view) in views.iter().enumerate() {
        if let Some(target) = sum_where(targets, |i| i != v)? {
            let term = soft_cross_entropy(view, &target, temperature, path)?.mean_all()?;
            total = Some(match total {
                Some(sum) => (sum + term)?,
                None => term,
            });
        }
    }
    let total =
        total.ok_or_else(|| Error::Other("a loss over pairs of views needs two views".to_string()))?;
    Ok((total / pairs)?)
}

/// DINO: cross entropy of the student's views against the teacher's centred and sharpened ones; mean over the
/// pairs of unequal views.
///
/// `student`: (N, K) outputs, first those of the views that the teacher sees, in the teacher's order, then
/// the local crops. `teacher`: (N, K) outputs, detached. `center`: (K) or (1, K), detached. For a pair (t, s)
/// with s != t: `-mean_n sum_k softmax((teacher_t - center) / teacher_temp)_k log_softmax(student_s /
/// student_temp)_k`. The paper: student temperature 0.1, teacher 0.04 to 0.07.
///
/// Caron et al. 2021, "Emerging Properties in Self-Supervised Vision Transformers", arXiv 2104.14294,
/// equations 1 to 4.
///
/// # Errors
/// No pair of unequal views, shapes that differ, a temperature that is not above 0.
pub fn dino(
    student: &[Tensor],
    teacher: &[Tensor],
    center: &Tensor,
    student_temp: f64,
    teacher_temp: f64,
) -> Result<Tensor> {
    dino_on(student, teacher, center, student_temp, teacher_temp, Path::Auto)
}

fn dino_on(
    student: &[Tensor],
    teacher: &[Tensor],
    center: &Tensor,
    student_temp: f64,
    teacher_temp: f64,
    path: Path,
) -> Result<Tensor> {
    let at = Check("dino");
    let student = views(at, "student", student, None)?;
    let model = student.first().ok_or_else(|| at.wrong("student", "is empty, expected at least one view"))?;
    let teacher = views(at, "teacher", teacher, Some(("student[0]", model)))?;
    at.positive("student_temp", student_temp)?;
    at.positive("teacher_temp", teacher_temp)?;
    let k = model.dim(1)?;
    if !matches!(*center.dims(), [d] if d == k) && center.dims() != [1, k] {
        return Err(
            at.wrong("center", format_args!("has shape {:?}, expected [{k}] or [1, {k}]", center.dims()))
        );
    }
    let center = center.detach().to_dtype(model.dtype())?.reshape((1, k))?;
    let pairs = teacher.len() * student.len() - teacher.len().min(student.len());
    if pairs == 0 {
        return Err(at.wrong("teacher", "and `student` have no pair of unequal views, expected at least one teacher and two student views"));
    }
    let targets = teacher
        .iter()
        .map(|t| {
            let t = (t.detach().broadcast_sub(&center)? / teacher_temp)?;
            let e = t.broadcast_sub(&t.max_keepdim(D::Minus1)?)?.exp()?;
            e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
        })
        .collect::<candle_core::Result<Vec<_>>>()?;
    each_against_the_others(&student, &targets, student_temp, pairs as f64, path)
}

/// KoLeo: `-mean log(d_i + 1e-8)`, `d_i` the distance of sample i to its nearest neighbour in the batch:
/// spreads samples evenly.
///
/// `z`: (N, D), normalised here; the neighbour is the one of largest cosine, and the gradient flows through
/// both ends. As in the published code 1e-8 is added to each difference, so that equal rows have a finite
/// loss and gradient.
///
/// Sablayrolles et al. 2018, "Spreading vectors for similarity search", arXiv 1806.03198, equation 2; as in
/// DINOv2, arXiv 2304.07193.
///
/// # Errors
/// A shape that is not (N, D), fewer than 2 samples (no neighbour).
pub fn koleo(z: &Tensor) -> Result<Tensor> {
    const EPS: f64 = 1e-8;
    let at = Check("koleo");
    let (z, n, _) = at.matrix("z", z, "(N, D)")?;
    at.pair_of_samples("z", n, "a single sample has no neighbour")?;
    let u = l2_normalize(&z, EPS)?;
    let fixed = u.detach();
    // Cosines lie in [-1, 1]: 4 less takes a row out of its own neighbours.
    let itself = (Tensor::eye(n, u.dtype(), u.device())? * 4.0)?;
    let nearest = (fixed.matmul(&fixed.t()?)? - itself)?.argmax(D::Minus1)?; // (N)
    let difference = ((&u - u.index_select(&nearest, 0)?)? + EPS)?;
    let distance = difference.sqr()?.sum(D::Minus1)?.sqrt()?;
    Ok((distance + EPS)?.log()?.mean_all()?.neg()?)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Golden, agree, error, f32s, finite_differences, random, value};
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn golden() {
        let g = Golden::open("losses/swav");
        g.check(&["h0", "h1", "l0", "l1"], |t| swav(&t[..2], &t[2..], 0.1, 3, 0.05));
        let g = Golden::open("losses/dino");
        let teacher = [g.get("input.const_t0"), g.get("input.const_t1")];
        for path in [Path::Fused, Path::Composed] {
            g.check(&["s0", "s1", "s2"], |t| {
                dino_on(t, &teacher, &g.get("input.const_center"), 0.1, 0.04, path)
            });
        }
        Golden::open("losses/koleo").check(&["z"], |t| koleo(&t[0]));
    }

    #[test]
    fn sinkhorn_uses_all_prototypes_equally() {
        let (n, k) = (12, 5);
        let q = sinkhorn(&random(&[n, k], 3), 200, 0.5).unwrap();
        let rows = q.sum(1).unwrap().to_vec1::<f64>().unwrap();
        let columns = q.sum(0).unwrap().to_vec1::<f64>().unwrap();
        assert!(rows.iter().all(|s| (s - 1.0).abs() < 1e-12), "{rows:?}");
        assert!(columns.iter().all(|s| (s - n as f64 / k as f64).abs() < 1e-6), "{columns:?}");
        // After few iterations the rows are exact already: they are scaled last.
        let rows = sinkhorn(&random(&[n, k], 3), 1, 0.05).unwrap().sum(1).unwrap().to_vec1::<f64>().unwrap();
        assert!(rows.iter().all(|s| (s - 1.0).abs() < 1e-12), "{rows:?}");
    }

    /// Against the direct computation in f64 where that does not overflow; finite where it would.
    #[test]
    fn sinkhorn_is_the_direct_one_and_stable() {
        let (n, k, eps) = (6, 4, 0.3);
        let scores = random(&[n, k], 5);
        let mut q: Vec<Vec<f64>> = (scores.clone() / eps).unwrap().exp().unwrap().to_vec2().unwrap();
        for _ in 0..3 {
            for j in 0..k {
                let s: f64 = q.iter().map(|r| r[j]).sum();
                q.iter_mut().for_each(|r| r[j] /= s * k as f64);
            }
            for r in &mut q {
                let s: f64 = r.iter().sum();
                r.iter_mut().for_each(|v| *v /= s * n as f64);
            }
        }
        let want = (Tensor::new(q, &Device::Cpu).unwrap() * n as f64).unwrap();
        assert!(error(&sinkhorn(&scores, 3, eps).unwrap(), &want) < 1e-12);
        let far = sinkhorn(&f32s(&[900.0, -900.0, 900.0, -900.0], &[2, 2]), 3, 0.05).unwrap();
        assert!(far.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|v| v.is_finite()), "{far}");
        let var = Var::from_tensor(&scores).unwrap();
        assert!(!sinkhorn(&var, 3, eps).unwrap().track_op());
    }

    /// Equal scores: codes and predictions are uniform, the loss is log K.
    #[test]
    fn uniform_scores() {
        let x = f32s(&[0.3; 20], &[4, 5]);
        let five = 5f64.ln();
        let loss = swav(&[x.clone(), x.clone()], std::slice::from_ref(&x), 0.1, 3, 0.05).unwrap();
        assert!((value(&loss) - five).abs() < 1e-6);
        let center = f32s(&[0.0; 5], &[5]);
        let loss =
            dino(&[x.clone(), x.clone(), x.clone()], &[x.clone(), x.clone()], &center, 0.1, 0.04).unwrap();
        assert!((value(&loss) - five).abs() < 1e-6);
        // A teacher equal to its centre is uniform too, whatever it says.
        let t = f32s(&[1.0, 2.0, 3.0, 4.0, 5.0], &[1, 5]);
        let s = f32s(&[0.0; 5], &[1, 5]);
        assert!(
            (value(&dino(&[s.clone(), s], std::slice::from_ref(&t), &t, 0.1, 0.04).unwrap()) - five).abs()
                < 1e-6
        );
    }

    /// DINO by its definition, pair by pair.
    #[test]
    fn dino_is_the_mean_over_pairs() {
        let s: Vec<Tensor> = (0..4).map(|i| random(&[3, 6], i)).collect();
        let t: Vec<Tensor> = (0..2).map(|i| random(&[3, 6], 10 + i)).collect();
        let center = random(&[6], 20);
        let softmax = |x: &Tensor| -> Tensor {
            let e = x.exp().unwrap();
            e.broadcast_div(&e.sum_keepdim(1).unwrap()).unwrap()
        };
        let (mut sum, mut pairs) = (0.0, 0.0);
        for (i, t) in t.iter().enumerate() {
            let q = softmax(&(t.broadcast_sub(&center).unwrap() / 0.2).unwrap());
            for (_, s) in s.iter().enumerate().filter(|(j, _)| *j != i) {
                let log_p = softmax(&(s / 0.5).unwrap()).log().unwrap();
                sum -= value(&(&q * log_p).unwrap().sum(1).unwrap().mean_all().unwrap());
                pairs += 1.0;
            }
        }
        let got = value(&dino(&s, &t, &center, 0.5, 0.2).unwrap());
        assert!((got - sum / pairs).abs() < 1e-12, "{got} {}", sum / pairs);
    }

    /// Four points on the axes of the plane are sqrt(2) from their neighbours; equal points have a finite
    /// loss and gradient.
    #[test]
    fn koleo_closed_form() {
        let z = f32s(&[1.0, 0.0, 0.0, 2.0, -3.0, 0.0, 0.0, -1.0], &[4, 2]);
        assert!((value(&koleo(&z).unwrap()) + 2f64.sqrt().ln()).abs() < 1e-6);
        let same = Var::from_tensor(&f32s(&[1.0, 2.0, 1.0, 2.0], &[2, 2])).unwrap();
        let loss = koleo(&same).unwrap();
        assert!(value(&loss).is_finite());
        let g = loss.backward().unwrap().get(&same).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(g.iter().all(|g| g.is_finite()), "{g:?}");
    }

    #[test]
    fn gradients() {
        let x: Vec<Tensor> = (0..5).map(|s| random(&[3, 4], s)).collect();
        let codes: Vec<Tensor> = x[..2].iter().map(|s| sinkhorn(s, 3, 0.5).unwrap()).collect();
        finite_differences(&x[..3], |t| swav_with_codes(&t[..2], &t[2..], &codes, 0.5));
        let center = random(&[1, 4], 9);
        finite_differences(&x[..3], |t| dino(t, &x[3..], &center, 0.5, 0.3));
        finite_differences(&[random(&[6, 3], 7)], |t| koleo(&t[0]));
    }

    #[test]
    fn paths_agree() {
        let x: Vec<Tensor> = (0..5).map(|s| random(&[17, 41], s)).collect();
        let like = |t: &[Tensor], x: &[Tensor]| {
            x.iter().map(|x| x.to_dtype(t[0].dtype()).unwrap()).collect::<Vec<_>>()
        };
        let codes: Vec<Tensor> = x[..2].iter().map(|s| sinkhorn(s, 3, 0.5).unwrap()).collect();
        agree(&x[..3], |t, p| swav_on(&t[..2], &t[2..], &like(t, &codes), 0.1, p));
        agree(&x[..3], |t, p| dino_on(t, &like(t, &x[3..]), &like(t, &[random(&[41], 9)])[0], 0.1, 0.07, p));
        agree(&x[..1], |t, _| koleo(&t[0]));
    }

    #[test]
    fn wrong_arguments_are_named() {
        let (x, y) = (random(&[3, 5], 1), random(&[3, 4], 1));
        let says = |r: Result<Tensor>, parts: &[&str]| {
            let e = r.unwrap_err().to_string();
            assert!(parts.iter().all(|p| e.contains(p)), "{e}");
        };
        says(swav(&[], std::slice::from_ref(&x), 0.1, 3, 0.05), &["`high`", "empty"]);
        says(swav(std::slice::from_ref(&x), &[], 0.1, 3, 0.05), &["`low`", "two views"]);
        says(swav(std::slice::from_ref(&x), std::slice::from_ref(&y), 0.1, 3, 0.05), &["`low[0]`", "[3, 5]"]);
        says(swav(&[x.clone(), y.clone()], &[], 0.1, 3, 0.05), &["`high[1]`", "[3, 5]"]);
        says(swav(&[x.clone(), x.clone()], &[], 0.1, 0, 0.05), &["`iterations`"]);
        let two = [x.clone(), x.clone()];
        says(swav_with_codes(&two, &[], &two[..1], 0.1), &["`codes`", "expected 2"]);
        says(dino(&two, &two, &y, 0.1, 0.04), &["`center`", "[1, 5]"]);
        says(dino(&two[..1], &two[..1], &random(&[5], 1), 0.1, 0.04), &["unequal views"]);
        says(dino(&[], &two, &random(&[5], 1), 0.1, 0.04), &["`student`"]);
        says(koleo(&random(&[1, 4], 1)), &["koleo", "at least 2"]);
    }
}
