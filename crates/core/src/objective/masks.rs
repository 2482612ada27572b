//! Which patches a method hides: units of several patches, and blocks on the grid; and how tokens are picked.
//!
//! A mask is drawn for one sample from its own generator. Sizes that the whole batch must share are drawn
//! from the step's key, so that micro-batches and processes draw those of the whole batch.

use super::{Band, Gauge, GaugeInfo};
use crate::error::{Error, Result};
use candle_core::{DType, Tensor};
use selfsup_kernels::rng::Rng;

/// What the gauge of a mask ratio means.
pub(super) static RATIO: [GaugeInfo; 1] =
    [GaugeInfo::new("method.mask_ratio", "share of the patches that is hidden")
        .too_low(
            "nearly all of the image is seen: what is hidden can be filled in from next to it",
            "method.mask_ratio of 0.6 (SimMIM) to 0.75 (MAE)",
        )
        .too_high(
            "next to nothing is seen: there is little to predict from",
            "method.mask_ratio of 0.6 to 0.75",
        )];

/// The gauge of a mask ratio.
pub(super) fn ratio(ratio: f64) -> Gauge {
    Gauge::plain("method.mask_ratio", ratio).healthy(Band::within(0.2, 0.95))
}

/// The places of the patches in the box of `sides` at `start` on `grid`, in the grid's order.
pub(super) fn block(grid: &[usize], start: &[usize], sides: &[usize]) -> Vec<usize> {
    let mut places = vec![0];
    for a in 0..grid.len() {
        let along = start[a]..(start[a] + sides[a]).min(grid[a]);
        places = places.iter().flat_map(|p| along.clone().map(move |i| p * grid[a] + i)).collect();
    }
    places
}

/// A random start of a box of `sides` inside `grid`.
pub(super) fn start(grid: &[usize], sides: &[usize], rng: &mut Rng) -> Vec<usize> {
    grid.iter().zip(sides).map(|(g, s)| rng.below(g - s.min(g) + 1)).collect()
}

/// The sides of a box of about `count` patches on `grid`, whose last two sides have the ratio `aspect`: `h =
/// round(sqrt(count aspect))`, `w = round(sqrt(count / aspect))`. Of three axes the first takes the cube root
/// of the count; a single one takes all. No side is below 1 or above the grid's.
pub(super) fn sides(grid: &[usize], count: f64, aspect: f64) -> Vec<usize> {
    let fit = |value: f64, axis: usize| (value.round() as usize).clamp(1, grid[axis].max(1));
    match grid.len() {
        0 => Vec::new(),
        1 => vec![fit(count, 0)],
        rank => {
            let mut made: Vec<usize> = Vec::with_capacity(rank);
            let mut rest = count;
            for axis in 0..rank - 2 {
                made.push(fit(rest.powf(1.0 / (rank - axis) as f64), axis));
                rest /= made[axis] as f64;
            }
            made.extend([fit((rest * aspect).sqrt(), rank - 2), fit((rest / aspect).sqrt(), rank - 1)]);
            made
        }
    }
}

/// Hides `ceil(ratio U)` of the `U` units of `unit` patches a side that cover `grid`; units at the far edges
/// may be cut. True where a patch is hidden.
///
/// # Errors
/// If that is no unit or every unit.
pub(super) fn units(grid: &[usize], unit: usize, ratio: f64, rng: &mut Rng) -> Result<Vec<bool>> {
    let coarse: Vec<usize> = grid.iter().map(|g| g.div_ceil(unit.max(1))).collect();
    let all: usize = coarse.iter().product();
    let hidden = (all as f64 * ratio).ceil() as usize;
    if hidden == 0 || hidden >= all {
        return Err(Error::config(format!(
            "method.mask_ratio = {ratio} hides {hidden} of {all} units of {unit} patches a side on a grid of {grid:?}: expected at least one hidden and one visible; lower method.mask_unit or encoder.patch"
        )));
    }
    let mut mask = vec![false; grid.iter().product()];
    for u in rng.permutation(all).into_iter().take(hidden) {
        let mut rest = u;
        let mut at = vec![0; grid.len()];
        for a in (0..grid.len()).rev() {
            at[a] = rest % coarse[a] * unit;
            rest /= coarse[a];
        }
        block(grid, &at, &vec![unit; grid.len()]).into_iter().for_each(|p| mask[p] = true);
    }
    Ok(mask)
}

/// Tries for the next block of [`block_mask`] before single patches fill up what is left.
const TRIES: usize = 10;

/// Hides exactly `count` patches of `grid` in blocks (Bao et al. 2021, "BEiT", arXiv 2106.08254): blocks of
/// at least `smallest` patches and an aspect ratio between 0.3 and 1 / 0.3, which may overlap, until the next
/// one does not fit into the count; then single patches. True where a patch is hidden.
pub fn block_mask(grid: &[usize], count: usize, smallest: usize, rng: &mut Rng) -> Vec<bool> {
    let l: usize = grid.iter().product();
    let (mut mask, mut left) = (vec![false; l], count.min(l));
    let mut failed = 0;
    while left >= smallest.max(1) && failed < TRIES {
        let area = rng.range_f32(smallest as f32, left as f32 + 1.0).min(left as f32);
        let bound = 0.3f32.ln();
        let sides = sides(grid, f64::from(area), f64::from(rng.range_f32(bound, -bound).exp()));
        let places = block(grid, &start(grid, &sides, rng), &sides);
        let new = places.iter().filter(|p| !mask[**p]).count();
        if new == 0 || new > left {
            failed += 1;
            continue;
        }
        places.into_iter().for_each(|p| mask[p] = true);
        (left, failed) = (left - new, 0);
    }
    let free = rng.permutation(l).into_iter().filter(|p| !mask[*p]).take(left).collect::<Vec<_>>();
    free.into_iter().for_each(|p| mask[p] = true);
    mask
}

/// `(N, L)` of 1 where a patch is hidden.
pub(super) fn tensor(masks: &[Vec<bool>], like: &Tensor) -> Result<Tensor> {
    let l = masks.first().map_or(0, Vec::len);
    let values: Vec<f32> = masks.iter().flatten().map(|m| f32::from(u8::from(*m))).collect();
    Ok(Tensor::from_vec(values, (masks.len(), l), like.device())?.to_dtype(like.dtype())?)
}

/// The tokens of `tokens (N, L, D)`, or of one table `(1, L, D)` for all samples, at `places` of each sample,
/// which are equally many: `(N, V, D)`.
///
/// # Errors
/// If a place is outside.
pub(super) fn pick(tokens: &Tensor, places: &[Vec<usize>]) -> Result<Tensor> {
    let (n, l, d) = tokens.dims3()?;
    let (samples, v) = (places.len(), places.first().map_or(0, Vec::len));
    if n != samples && n != 1 || places.iter().any(|p| p.len() != v || p.iter().any(|i| *i >= l)) {
        return Err(Error::input(
            "masks",
            format!("made for {samples} samples, but the tokens are {:?}", tokens.dims()),
        ));
    }
    let rows: Vec<u32> = places
        .iter()
        .enumerate()
        .flat_map(|(i, p)| p.iter().map(move |at| ((if n == 1 { 0 } else { i * l }) + at) as u32))
        .collect();
    let rows = Tensor::from_vec(rows, samples * v, tokens.device())?;
    Ok(tokens.reshape((n * l, d))?.index_select(&rows, 0)?.reshape((samples, v, d))?)
}

/// `a` where `mask (N, L, 1)` is 0 and `b` where it is 1.
pub(super) fn blend(a: &Tensor, b: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let mask = mask.to_dtype(DType::U8)?.broadcast_as(a.shape())?;
    Ok(mask.where_cond(&b.broadcast_as(a.shape())?, a)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use selfsup_kernels::rng::Key;

    #[test]
    fn boxes_have_the_sides_of_their_share() {
        assert_eq!(sides(&[14, 14], 36.0, 1.0), [6, 6]);
        // I-JEPA's int(round(sqrt(39 * 1.5))) = 8 and int(round(sqrt(39 / 1.5))) = 5.
        assert_eq!(sides(&[14, 14], 39.0, 1.5), [8, 5]);
        assert_eq!(sides(&[8, 8, 8], 64.0, 1.0), [4, 4, 4]);
        assert_eq!((sides(&[100], 20.0, 3.0), sides(&[2, 2], 9.0, 1.0)), (vec![20], vec![2, 2]));
        assert_eq!(block(&[3, 4], &[1, 2], &[2, 2]), [6, 7, 10, 11]);
        assert_eq!(block(&[2, 2, 2], &[0, 1, 0], &[2, 1, 2]), [2, 3, 6, 7]);
    }

    #[test]
    fn units_hide_their_share() -> Result<()> {
        for seed in 0..20 {
            let mask = units(&[4, 6], 2, 0.6, &mut Key::new(seed).rng())?;
            // ceil(0.6 * 6) = 4 units of 4 patches; both patches of a unit's first row are alike.
            assert_eq!(mask.iter().filter(|m| **m).count(), 16);
            assert!((0..4).all(|y| (0..3).all(|x| mask[y * 6 + 2 * x] == mask[y * 6 + 2 * x + 1])));
        }
        // A grid of 3 has two units along each axis, the second of one patch.
        let mask = units(&[3, 3], 2, 0.25, &mut Key::new(1).rng())?;
        assert!([1, 2, 4].contains(&mask.iter().filter(|m| **m).count()));
        let error = units(&[2, 2], 2, 0.6, &mut Key::new(1).rng()).unwrap_err().to_string();
        assert!(error.contains("method.mask_unit"), "{error}");
        Ok(())
    }

    #[test]
    fn blocks_hide_as_many_as_they_should() {
        for (grid, smallest) in [(vec![14, 14], 4), (vec![7, 7], 4), (vec![4, 4, 4], 4), (vec![2, 2], 1)] {
            let l: usize = grid.iter().product();
            for seed in 0..20 {
                for count in [0, 1, l / 10, l / 3, l / 2, l] {
                    let mask = block_mask(&grid, count, smallest, &mut Key::new(seed).rng());
                    assert_eq!(mask.iter().filter(|m| **m).count(), count, "{grid:?}");
                }
            }
        }
        // Blocks, not scattered patches: of a hidden patch the right neighbour is mostly hidden too.
        let (mut pairs, mut hidden) = (0, 0);
        for seed in 0..50 {
            let mask = block_mask(&[14, 14], 60, 4, &mut Key::new(seed).rng());
            for p in (0..196).filter(|p| p % 14 < 13 && mask[*p]) {
                hidden += 1;
                pairs += usize::from(mask[p + 1]);
            }
        }
        // Of scattered ones 30 in 100 would be.
        assert!(f64::from(pairs as u32) > 0.55 * f64::from(hidden as u32), "{pairs} of {hidden}");
    }

    #[test]
    fn tokens_are_picked_from_samples_and_from_a_table() -> Result<()> {
        let x = Tensor::arange(0f32, 6.0, &Device::Cpu)?.reshape((2, 3, 1))?;
        let flat = |t: Tensor| -> Result<Vec<f32>> { Ok(t.flatten_all()?.to_vec1()?) };
        let places = [vec![2, 0], vec![1, 1]];
        assert_eq!(flat(pick(&x, &places)?)?, [2.0, 0.0, 4.0, 4.0]);
        assert_eq!(flat(pick(&x.narrow(0, 0, 1)?, &places)?)?, [2.0, 0.0, 1.0, 1.0]);
        assert!(pick(&x, &[vec![3], vec![0]]).is_err());
        let mask = tensor(&[vec![true, false, false], vec![false, true, true]], &x)?.unsqueeze(2)?;
        assert_eq!(
            flat(blend(&x, &Tensor::new(&[[[9f32]]], &Device::Cpu)?, &mask)?)?,
            [9.0, 1.0, 2.0, 3.0, 9.0, 9.0]
        );
        Ok(())
    }
}
