//! Draws from the distributions that rows of logits describe.

use crate::Path;
use crate::activation::slices::{Floats, wants_fused};
use crate::softmax::softmax;
use candle_core::{D, DType, Result, Tensor, bail};
use rayon::prelude::*;

/// For each row of `logits (M, V)` the first index at which the cumulated softmax exceeds the row's number of
/// `uniform (M)`, which lies in `[0, 1)`: `(M)` of u32, on the device of the logits. An index without
/// probability is never drawn. On devices other than the CPU nothing is copied to the host; sums are in
/// single precision there, in double precision on the CPU.
///
/// # Errors
/// If shapes do not fit, or `path` asks for the fused kernel and `logits` are not f32 on the CPU.
pub fn categorical(logits: &Tensor, uniform: &[f32], path: Path) -> Result<Tensor> {
    let (m, v) = logits.dims2()?;
    if v == 0 || uniform.len() != m {
        bail!(
            "categorical: logits {:?} and {} uniform numbers, expected (M, V) and M",
            logits.dims(),
            uniform.len()
        )
    }
    let p = softmax(&logits.detach(), path)?;
    if wants_fused("categorical", path, &[logits])? {
        let values = Floats::new(&p)?;
        let values: &[f32] = &values;
        let drawn: Vec<u32> = values.par_chunks_exact(v).zip(uniform).map(|(p, &u)| draw(p, u)).collect();
        return Tensor::from_vec(drawn, m, logits.device());
    }
    composed(&p.to_dtype(DType::F32)?, uniform)
}

fn draw(p: &[f32], u: f32) -> u32 {
    let target = f64::from(u) * p.iter().map(|&x| f64::from(x)).sum::<f64>();
    let mut sum = 0.0;
    for (i, &x) in p.iter().enumerate() {
        sum += f64::from(x);
        if sum > target {
            return i as u32;
        }
    }
    p.iter().rposition(|&x| x > 0.0).unwrap_or(0) as u32
}

/// In two levels, first the block of about `sqrt(V)` columns and then the column in it: a running sum over
/// all columns would be a product with a `(V, V)` matrix.
fn composed(p: &Tensor, uniform: &[f32]) -> Result<Tensor> {
    let (m, v) = p.dims2()?;
    let (device, width) = (p.device(), (v as f64).sqrt().ceil() as usize);
    let blocks = v.div_ceil(width);
    let u = Tensor::from_slice(uniform, (m, 1), device)?;
    let padded = p.pad_with_zeros(1, 0, blocks * width - v)?.reshape((m, blocks, width))?; // (M, V) -> (M, K, W)
    let sums = padded.sum(2)?;
    let through = running(&sums)?; // (M, K), with each block itself
    let target = u.broadcast_mul(&through.narrow(1, blocks - 1, 1)?)?;
    let block = passed(&through, &target)?;
    let chosen = block.to_dtype(DType::U32)?;
    let before = (through - sums)?.gather(&chosen, 1)?; // (M, 1)
    let own = chosen.unsqueeze(2)?.broadcast_as((m, 1, width))?.contiguous()?;
    let inside = running(&padded.gather(&own, 1)?.squeeze(1)?)?; // (M, W)
    let column = passed(&inside, &(target - before)?)?;
    let drawn = ((block * width as f64)? + column)?.minimum((v - 1) as f64)?.to_dtype(DType::U32)?;
    // Where rounding led past the last column with probability, the likeliest stands in.
    let likeliest = p.argmax_keepdim(D::Minus1)?;
    p.gather(&drawn, 1)?.gt(0.0)?.where_cond(&drawn, &likeliest)?.squeeze(1)
}

/// Running sums of the rows of `x (M, K)`, each with its own column.
fn running(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.matmul(&Tensor::triu2(x.dim(1)?, x.dtype(), x.device())?)
}

/// How many of the running sums `x (M, K)` are not beyond `target (M, 1)`, at most `K - 1`: `(M, 1)` of f32.
fn passed(x: &Tensor, target: &Tensor) -> Result<Tensor> {
    let last = (x.dim(1)? - 1) as f64;
    x.broadcast_le(target)?.to_dtype(DType::F32)?.sum_keepdim(1)?.minimum(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::testing::random;
    use crate::rng::Key;
    use candle_core::Device;

    #[test]
    fn draws_follow_the_probabilities() {
        let p = [0.5f32, 0.0, 0.3, 0.2];
        assert_eq!([0.0, 0.49, 0.51, 0.79, 0.81, 0.999_999].map(|u| draw(&p, u)), [0, 0, 2, 2, 3, 3]);
        assert_eq!(draw(&[0.2, 0.8, 0.0], 1.0), 1, "never an index without probability");
        let logits = Tensor::new(&p.map(f32::ln), &Device::Cpu).unwrap();
        let mut rng = Key::new(1).rng();
        let uniform: Vec<f32> = (0..20_000).map(|_| rng.uniform()).collect();
        let logits = logits.broadcast_as((uniform.len(), 4)).unwrap();
        for path in [Path::Fused, Path::Composed] {
            let mut counts = [0f64; 4];
            for i in categorical(&logits, &uniform, path).unwrap().to_vec1::<u32>().unwrap() {
                counts[i as usize] += 1.0 / 20_000.0;
            }
            assert!(
                counts.iter().zip(&p).all(|(c, p)| (c - f64::from(*p)).abs() < 0.015),
                "{path:?} {counts:?}"
            );
        }
    }

    /// But for draws within a rounding of a boundary.
    #[test]
    fn both_paths_agree() {
        for (m, v) in [(1, 1), (40, 2), (300, 7), (500, 1000)] {
            let logits = (random(&[m, v], 3) * 2.0).unwrap();
            let mut rng = Key::new(2).rng();
            let uniform: Vec<f32> = (0..m).map(|_| rng.uniform()).collect();
            let [a, b] = [Path::Fused, Path::Composed]
                .map(|path| categorical(&logits, &uniform, path).unwrap().to_vec1::<u32>().unwrap());
            let differ = a.iter().zip(&b).filter(|(a, b)| a != b).count();
            assert!(differ * 100 <= m, "{m} {v}: {differ}");
        }
        assert!(categorical(&random(&[2, 3], 1), &[0.5], Path::Auto).is_err());
    }
}
