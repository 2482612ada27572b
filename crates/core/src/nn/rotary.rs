//! Rotary positions (Su et al. 2021, arXiv 2104.09864) over a grid of patches, as DINOv3 has them (Siméoni et
//! al. 2025, arXiv 2508.10104).
//!
//! Each head of width `d` turns pairs of its queries and keys by angles that depend on the place of the patch,
//! so a score depends on how far apart two patches are. Places are those of patch centres from -1 to 1 along
//! each axis, whatever the size of the image: a crop needs no interpolation. Along `A` axes a head has
//! `d / 2A` angles for each, `2 pi place / base^(2A k / d)`. Tokens in front of the patches are not turned.
//!
//! The authors also stretch and shift the places at random in training; here they stay.

use crate::error::{Error, Result};
use candle_core::{D, Device, Tensor};

/// The angles of all tokens.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// `(1, P + L, 1, 1, d)`.
    cos: Tensor,
    sin: Tensor,
}

impl Rotation {
    /// For `prefix` tokens that stay and the patches of `grid` behind them, in heads of width `head`.
    ///
    /// # Errors
    /// If `head` is not a multiple of twice the number of axes.
    pub fn new(grid: &[usize], prefix: usize, head: usize, base: f64, device: &Device) -> Result<Self> {
        let axes = grid.len();
        if axes == 0 || head == 0 || !head.is_multiple_of(2 * axes) {
            return Err(Error::config(format!(
                "rotary positions over {axes} axes need attention heads whose width is a multiple of {}, got {head}",
                2 * axes
            )));
        }
        let each = head / (2 * axes);
        let length: usize = grid.iter().product();
        let mut angles = vec![0f64; prefix * head / 2];
        for i in 0..length {
            let mut behind = length;
            for &n in grid {
                behind /= n;
                let place = (((i / behind) % n) as f64 + 0.5) / n as f64 * 2.0 - 1.0;
                let angle =
                    |k: usize| std::f64::consts::TAU * place / base.powf((2 * axes * k) as f64 / head as f64);
                angles.extend((0..each).map(angle));
            }
        }
        let table = |f: fn(f64) -> f64| -> Result<Tensor> {
            let half: Vec<f32> = angles.iter().map(|a| f(*a) as f32).collect();
            let half = Tensor::from_vec(half, (1, prefix + length, 1, 1, head / 2), device)?;
            Ok(Tensor::cat(&[&half, &half], D::Minus1)?)
        };
        Ok(Rotation { cos: table(f64::cos)?, sin: table(f64::sin)? })
    }

    /// Turns queries and keys of `qkv (N, P + L, 3, H, d)`: halves `(a, b)` to `(a cos - b sin, b cos + a
    /// sin)`.
    ///
    /// # Errors
    /// If there are other numbers of tokens, or heads of another width.
    pub fn apply(&self, qkv: &Tensor) -> Result<Tensor> {
        let (_, tokens, _, _, head) = qkv.dims5()?;
        if (tokens, head) != (self.cos.dim(1)?, self.cos.dim(4)?) {
            return Err(Error::input(
                "tokens",
                format!(
                    "{tokens} in heads of width {head}: expected {} of width {}",
                    self.cos.dim(1)?,
                    self.cos.dim(4)?
                ),
            ));
        }
        let (turned, half) = (qkv.narrow(2, 0, 2)?, head / 2);
        let (a, b) = (turned.narrow(4, 0, half)?, turned.narrow(4, half, half)?);
        let across = Tensor::cat(&[b.neg()?, a], 4)?;
        let turned = (turned.broadcast_mul(&self.cos)? + across.broadcast_mul(&self.sin)?)?;
        Ok(Tensor::cat(&[turned, qkv.narrow(2, 2, 1)?], 2)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    fn waves(shape: &[usize]) -> Tensor {
        let count = shape.iter().product::<usize>() as i64;
        let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.7).sin()).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// A score depends on the distance of two patches alone, and the values stay.
    #[test]
    fn scores_depend_on_distances() -> Result<()> {
        let (grid, head) = ([3, 4], 8);
        let rotation = Rotation::new(&grid, 2, head, 100.0, &Device::Cpu)?;
        // The same query and key everywhere.
        let one = waves(&[1, 1, 3, 1, head]);
        let qkv = one.broadcast_as((1, 2 + 12, 3, 1, head))?.contiguous()?;
        let out = rotation.apply(&qkv)?;
        let part =
            |i: usize| -> Result<Vec<Vec<f32>>> { Ok(out.narrow(2, i, 1)?.reshape((14, head))?.to_vec2()?) };
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let score = |i: usize, j: usize| q[i].iter().zip(&k[j]).map(|(a, b)| a * b).sum::<f32>();
        // Patches (row, column) stand at 2 + 4 row + column.
        for (i, j, m, n) in [(2, 3, 4, 5), (2, 7, 6, 11), (2, 6, 9, 13)] {
            assert!((score(i, j) - score(m, n)).abs() < 1e-5, "{i} {j} and {m} {n}");
        }
        assert!((score(2, 3) - score(2, 4)).abs() > 1e-3);
        let plain = one.narrow(2, 2, 1)?.flatten_all()?.to_vec1::<f32>()?;
        assert!(v.iter().all(|row| *row == plain));
        // Tokens in front are not turned.
        assert_eq!(q[1], one.narrow(2, 0, 1)?.flatten_all()?.to_vec1::<f32>()?);
        assert!(Rotation::new(&grid, 0, 6, 100.0, &Device::Cpu).is_err());
        assert!(rotation.apply(&waves(&[1, 13, 3, 1, head])).is_err());
        Ok(())
    }

    #[test]
    fn gradients_are_slopes() -> Result<()> {
        let rotation = Rotation::new(&[2, 1], 1, 4, 10.0, &Device::Cpu)?;
        let (x, w) = (waves(&[1, 3, 3, 1, 4]), waves(&[1, 3, 3, 1, 4]).exp()?);
        let loss = |x: &Tensor| -> Result<Tensor> { Ok((rotation.apply(x)? * &w)?.sum_all()?) };
        let var = Var::from_tensor(&x)?;
        let grads = loss(var.as_tensor())?.backward()?;
        let grad = grads.get(&var).unwrap().flatten_all()?.to_vec1::<f32>()?;
        // The map is linear: its value at a unit vector is the slope.
        for (i, g) in grad.iter().enumerate() {
            let mut unit = vec![0f32; 36];
            unit[i] = 1.0;
            let slope = loss(&Tensor::from_vec(unit, x.shape(), &Device::Cpu)?)?.to_scalar::<f32>()?;
            assert!((slope - g).abs() < 1e-5, "{i}: {slope} and {g}");
        }
        Ok(())
    }
}
