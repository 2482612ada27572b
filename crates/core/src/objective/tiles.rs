//! Tiles of a view: where they lie, how they are cut out, and what keeps a network from shortcuts through
//! them. Shared by the jigsaw puzzle and relative position.

use crate::encoder::Encoder;
use crate::error::{Error, Result};
use candle_core::{DType, Tensor};
use selfsup_kernels::rng::Key;

/// The number of spatial axes of an encoder's input.
///
/// # Errors
/// If the encoder does not say its stride.
pub(super) fn axes(encoder: &dyn Encoder) -> Result<usize> {
    match encoder.stride().len() {
        0 => Err(Error::config(
            "this method cuts views into tiles: the encoder must say its stride (Encoder::stride)",
        )),
        axes => Ok(axes),
    }
}

/// Share of the rows of `scores (N, K)` whose highest is that of their class `(N)`, in percent.
///
/// # Errors
/// If shapes do not fit.
pub(super) fn accuracy(scores: &Tensor, classes: &Tensor) -> Result<f64> {
    let told = scores.detach().argmax(1)?.to_dtype(DType::I64)?.to_vec1::<i64>()?;
    let right = told.iter().zip(classes.to_vec1::<i64>()?).filter(|(a, b)| **a == *b).count();
    Ok(100.0 * right as f64 / told.len().max(1) as f64)
}

/// The side of a tile that should have about `wanted` values and has at most `room`: the nearest multiple of
/// the encoder's `stride`, so that every place of its map sees whole input; where none fits, `wanted` itself.
pub(super) fn side(wanted: f64, room: usize, stride: usize) -> usize {
    let stride = stride.max(1);
    let nearest = ((wanted / stride as f64).round() as usize * stride).max(stride);
    match room / stride * stride {
        0 => (wanted.round() as usize).clamp(1, room.max(1)),
        most => nearest.min(most),
    }
}

/// Cuts tiles of `sides` out of `x (N, C, S..)`, the same number of each sample: those of sample `i` begin at
/// `starts[i]`. Returns `(N T, C, sides..)`, tile `t` of sample `i` in row `i T + t`.
///
/// # Errors
/// If a tile reaches beyond the view.
pub(super) fn cut(x: &Tensor, starts: &[Vec<Vec<usize>>], sides: &[usize]) -> Result<Tensor> {
    let (n, c, sizes) = (x.dim(0)?, x.dim(1)?, x.dims()[2..].to_vec());
    let (l, tiles) = (sizes.iter().product::<usize>(), starts.first().map_or(0, Vec::len));
    let mut rows = Vec::with_capacity(n * tiles * sides.iter().product::<usize>());
    for (i, tile) in starts.iter().enumerate().flat_map(|(i, s)| s.iter().map(move |t| (i, t))) {
        if tile.len() != sizes.len() || tile.iter().zip(sides).zip(&sizes).any(|((t, s), size)| t + s > *size)
        {
            return Err(Error::input("tiles", format!("{sides:?} at {tile:?} of a view of {sizes:?}")));
        }
        rows.extend(super::masks::block(&sizes, tile, sides).into_iter().map(|p| (i * l + p) as u32));
    }
    let count = rows.len();
    let places = Tensor::from_vec(rows, count, x.device())?;
    // (N, C, S..) -> (N L, C), pixels as rows
    let pixels = x.flatten_from(2)?.transpose(1, 2)?.contiguous()?.reshape((n * l, c))?;
    let picked = pixels.index_select(&places, 0)?.reshape((n * tiles, sides.iter().product::<usize>(), c))?;
    let shape: Vec<usize> = [&[n * tiles, c], sides].concat();
    Ok(picked.transpose(1, 2)?.contiguous()?.reshape(shape)?)
}

/// Puts tiles `(N T, C, sides..)` back on views of `sizes` filled with 0, where `starts` says: `(N, C, S..)`.
///
/// # Errors
/// If a tile reaches beyond the view.
pub(super) fn paste(
    tiles: &Tensor,
    starts: &[Vec<Vec<usize>>],
    sides: &[usize],
    sizes: &[usize],
) -> Result<Tensor> {
    let (rows, c, l) = (tiles.dim(0)?, tiles.dim(1)?, sizes.iter().product::<usize>());
    let of = tiles.flatten_from(1)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let area: usize = sides.iter().product();
    let mut out = vec![0f32; starts.len() * c * l];
    let all = starts.iter().enumerate().flat_map(|(i, s)| s.iter().map(move |t| (i, t)));
    for ((i, tile), values) in all.zip(&of) {
        for (k, p) in super::masks::block(sizes, tile, sides).into_iter().enumerate() {
            (0..c).for_each(|ch| out[(i * c + ch) * l + p] = values[ch * area + k]);
        }
    }
    let shape: Vec<usize> = [&[starts.len(), c], sizes].concat();
    if rows != starts.iter().map(Vec::len).sum::<usize>() {
        return Err(Error::input("tiles", format!("{rows} tiles for other places")));
    }
    Ok(Tensor::from_vec(out, shape, tiles.device())?)
}

/// Each channel of each tile `(M, C, S..)` with mean 0 and deviation 1, a flat one 0: neither brightness nor
/// contrast tells where a tile comes from.
///
/// # Errors
/// If the device refuses it.
pub(super) fn standardised(tiles: &Tensor) -> Result<Tensor> {
    let flat = tiles.flatten_from(2)?;
    let centred = flat.broadcast_sub(&flat.mean_keepdim(2)?)?;
    let sd = (centred.sqr()?.mean_keepdim(2)? + 1e-6)?.sqrt()?;
    Ok(centred.broadcast_div(&sd)?.reshape(tiles.shape())?)
}

/// The samples `(N, C, S..)` for which `gray` is true in the mean of their channels: without colours there is
/// no fringe of colour (chromatic aberration) to tell the place in the photograph by.
///
/// # Errors
/// If the device refuses it.
pub(super) fn grayed(x: &Tensor, gray: &[bool]) -> Result<Tensor> {
    if x.dim(1)? == 1 || !gray.contains(&true) {
        return Ok(x.clone());
    }
    let shape: Vec<usize> = std::iter::once(gray.len()).chain(vec![1; x.rank() - 1]).collect();
    let mask: Vec<u8> = gray.iter().map(|g| u8::from(*g)).collect();
    let mask = Tensor::from_vec(mask, shape, x.device())?.broadcast_as(x.shape())?;
    let mean = x.mean_keepdim(1)?.broadcast_as(x.shape())?;
    Ok(mask.where_cond(&mean.contiguous()?, x)?)
}

/// Leaves one channel of each tile `(M, C, S..)`, the one that its key draws, and puts noise of a hundredth
/// of that channel's deviation in place of the others (Doersch et al. 2015, section 3.1). Tiles of one
/// channel stay.
///
/// # Errors
/// If the device refuses it.
pub(super) fn one_channel(tiles: &Tensor, keys: &[Key]) -> Result<Tensor> {
    let (m, c) = (tiles.dim(0)?, tiles.dim(1)?);
    if c == 1 {
        return Ok(tiles.clone());
    }
    let area = tiles.elem_count() / (m * c).max(1);
    let (mut kept, mut noise) = (vec![0u8; m * c], Vec::with_capacity(tiles.elem_count()));
    for (i, key) in keys.iter().enumerate() {
        let mut rng = key.rng();
        kept[i * c + rng.below(c)] = 1;
        noise.extend((0..c * area).map(|_| 0.01 * rng.normal()));
    }
    let device = tiles.device();
    let kept = Tensor::from_vec(kept, (m, c, 1), device)?;
    let noise = Tensor::from_vec(noise, (m, c, area), device)?.to_dtype(tiles.dtype())?;
    let flat = tiles.flatten_from(2)?;
    let centred = flat.broadcast_sub(&flat.mean_keepdim(2)?)?;
    let sd = (centred.sqr()?.mean_keepdim(2)? + 1e-12)?.sqrt()?; // (M, C, 1)
    let own = sd.broadcast_mul(&kept.to_dtype(sd.dtype())?)?.sum_keepdim(1)?; // that of the channel that stays
    let kept = kept.broadcast_as(flat.shape())?;
    Ok(kept.where_cond(&flat, &noise.broadcast_mul(&own)?)?.reshape(tiles.shape())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn sides_fit_the_encoder_and_the_room() {
        // 224 pixels: cells of 74, tiles of 64 for patches of 16; 28 pixels: cells of 9, tiles of 8 for 4.
        assert_eq!((side(63.1, 74, 16), side(7.7, 9, 4), side(84.5, 112, 16)), (64, 8, 80));
        assert_eq!((side(4.3, 5, 4), side(3.4, 4, 4), side(7.7, 9, 1)), (4, 4, 8));
        // Nothing fits a network of stride 32: the wanted size, which a ResNet takes too.
        assert_eq!((side(7.7, 9, 32), side(0.2, 1, 1)), (8, 1));
    }

    #[test]
    fn tiles_are_cut_and_pasted() -> Result<()> {
        let x = Tensor::arange(0f32, 2.0 * 2.0 * 3.0 * 4.0, &Device::Cpu)?.reshape((2, 2, 3, 4))?;
        let starts = vec![vec![vec![0, 0], vec![1, 2]], vec![vec![1, 1], vec![0, 2]]];
        let tiles = cut(&x, &starts, &[2, 2])?;
        assert_eq!(tiles.dims(), [4, 2, 2, 2]);
        let second = tiles.get(1)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(second, [6.0, 7.0, 10.0, 11.0, 18.0, 19.0, 22.0, 23.0]);
        let back = paste(&tiles, &starts, &[2, 2], &[3, 4])?;
        assert_eq!(
            back.get(0)?.get(1)?.to_vec2::<f32>()?,
            [[12.0, 13.0, 0.0, 0.0], [16.0, 17.0, 18.0, 19.0], [0.0, 0.0, 22.0, 23.0]]
        );
        assert!(cut(&x, &[vec![vec![2, 0]], vec![vec![0, 0]]], &[2, 2]).is_err());
        Ok(())
    }

    #[test]
    fn neither_brightness_nor_colour_is_left() -> Result<()> {
        let x = Tensor::new(&[[[1f32, 3.0], [0.0, 8.0]], [[5.0, 5.0], [2.0, 2.0]]], &Device::Cpu)?;
        let flat = standardised(&x)?.flatten_all()?.to_vec1::<f32>()?;
        let want = [-1.0, 1.0, -1.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        assert!(flat.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-4), "{flat:?}");
        let gray = grayed(&x, &[true, false])?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(gray, [0.5, 5.5, 0.5, 5.5, 5.0, 5.0, 2.0, 2.0]);
        // One channel of the first tile stays; the other is noise of a hundredth of its deviation, 1 or 4.
        let kept = one_channel(&x, &[Key::new(1), Key::new(2)])?.to_vec3::<f32>()?;
        let stays = |c: usize| kept[0][c] == x.to_vec3::<f32>().unwrap()[0][c];
        assert!(stays(0) != stays(1));
        let noise = &kept[0][usize::from(stays(0))];
        assert!(noise.iter().all(|v| v.abs() < 0.2 && *v != 0.0), "{noise:?}");
        Ok(())
    }
}
