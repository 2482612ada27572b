//! The hierarchical contrast of TS2Vec (Yue et al. 2021, arXiv 2106.10466).

use candle_core::{D, DType, Tensor};
use selfsup_core::loss::cross_entropy;
use selfsup_core::{Error, Result};

/// The loss of two views `a`, `b` `(B, T, D)` of the same series at the same instants.
///
/// At each level `alpha` times the instance contrast (at an instant, a series against the others in both views) plus
/// `1 - alpha` times the temporal contrast (in a series, an instant against the others in both views), by plain dot
/// products; then both are max-pooled over pairs of instants, an odd last one left out, down to one instant, where only
/// the instance contrast is left. The mean over the levels.
///
/// # Errors
/// If shapes differ, are empty or have another rank, or there is neither a second series nor a second instant.
pub fn ts2vec(a: &Tensor, b: &Tensor, alpha: f64) -> Result<Tensor> {
    let (n, t, _) = a.dims3()?;
    if a.dims() != b.dims() || n * t < 2 {
        let problem = format!(
            "views of shape {:?} and {:?}: expected the same, with two series or two instants at least",
            a.dims(),
            b.dims()
        );
        return Err(Error::input("the contrast of TS2Vec", problem));
    }
    let (mut a, mut b, mut levels, mut total) = (a.clone(), b.clone(), 0usize, None::<Tensor>);
    loop {
        let t = a.dim(1)?;
        let mut level = Vec::new();
        if n > 1 && alpha > 0.0 {
            // (T, B, D): the rows of an instant together.
            let by_instant = |x: &Tensor| x.transpose(0, 1)?.contiguous();
            level.push((contrast(&by_instant(&a)?, &by_instant(&b)?)? * alpha)?);
        }
        if t > 1 && alpha < 1.0 {
            level.push((contrast(&a, &b)? * (1.0 - alpha))?);
        }
        for part in level {
            total = Some(match total {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
        levels += 1;
        if t == 1 {
            break;
        }
        (a, b) = (halved(&a)?, halved(&b)?);
    }
    let total = total.ok_or_else(|| Error::input("the contrast of TS2Vec", "nothing to contrast with"))?;
    Ok((total / levels as f64)?)
}

/// In each group `(G, N, D)` the `2 N` rows of both views: each is to find its other view among all but itself.
fn contrast(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (groups, n, _) = a.dims3()?;
    let z = Tensor::cat(&[a, b], 1)?.contiguous()?; // (G, 2 N, D)
    let scores = z.matmul(&z.transpose(D::Minus2, D::Minus1)?.contiguous()?)?; // (G, 2 N, 2 N)
    let own = (Tensor::eye(2 * n, DType::F32, a.device())?.to_dtype(scores.dtype())? * -1e9)?;
    let scores = scores.broadcast_add(&own)?.reshape((groups * 2 * n, 2 * n))?;
    let other: Vec<i64> =
        (0..groups).flat_map(|_| (0..2 * n).map(move |i| ((i + n) % (2 * n)) as i64)).collect();
    let other = Tensor::from_vec(other, groups * 2 * n, a.device())?;
    cross_entropy(&scores, &other, 0.0)
}

/// The larger of each pair of instants.
fn halved(x: &Tensor) -> Result<Tensor> {
    let (n, t, d) = x.dims3()?;
    let pairs = x.narrow(1, 0, t / 2 * 2)?.contiguous()?.reshape((n, t / 2, 2, d))?;
    let (first, second) = (pairs.narrow(2, 0, 1)?.squeeze(2)?, pairs.narrow(2, 1, 1)?.squeeze(2)?);
    Ok(first.maximum(&second)?)
}
