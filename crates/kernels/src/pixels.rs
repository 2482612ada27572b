//! Loops over the values of decoded images, rows of interleaved channels with 8 or 16 bits: photometric
//! changes and blurring.
//!
//! They stand here, and not beside the transforms that use them, because here loops are compiled for the
//! instruction sets of the machine that runs them. Values are computed in f32, clamped and truncated, as
//! torchvision does for integers. No result depends on the machine: nothing is contracted or summed in
//! another order.

use crate::linear::simd::simd_fn;

/// A depth of pixels: `u8` or `u16`.
pub trait Depth: Copy + Default + Send + Sync + 'static {
    /// The largest value.
    const MAX: f32;

    /// The value.
    fn get(self) -> f32;

    /// Clamped and truncated.
    fn put(v: f32) -> Self;

    /// `factor x + shift` of all values: brightness, and contrast about a mean.
    fn scale(values: &mut [Self], factor: f32, shift: f32);

    /// The sum of all values.
    fn sum(values: &[Self]) -> u64;

    /// The sum of the whole parts of `0.2989 R + 0.587 G + 0.114 B`.
    fn sum_gray(rgb: &[Self]) -> u64;

    /// Moves each RGB pixel away from its gray: `factor x + (1 - factor) gray`.
    fn saturate(rgb: &mut [Self], factor: f32);

    /// All channels of each RGB pixel take its gray value.
    fn gray(rgb: &mut [Self]);

    /// Turns the hue of each RGB pixel by `shift` turns, -1 to 1.
    fn turn_hue(rgb: &mut [Self], shift: f32);

    /// Convolves rows of `width` pixels of `channels` values with an odd symmetric `kernel` along both axes,
    /// the border reflected; rounded.
    fn blur(values: &mut [Self], channels: usize, width: usize, kernel: &[f32]);

    /// `scale x - shift` of each channel of pixels of `affine.len()` channels, one pair `(scale, shift)` for
    /// each. `planes` is `(channels, pixels)`.
    fn to_planes(values: &[Self], affine: &[(f32, f32)], planes: &mut [f32]);
}

/// The whole part of a number of at least 0: one instruction, where `floor` is a call on older x86-64.
#[inline(always)]
fn whole(x: f32) -> f32 {
    x as i32 as f32
}

#[inline(always)]
fn luma(r: f32, g: f32, b: f32) -> f32 {
    0.2989 * r + 0.587 * g + 0.114 * b
}

/// Pixels that are taken apart into channels at a time: a few registers of each.
const BLOCK: usize = 64;

/// Runs `change` on the channels of RGB pixels, a block at a time; a block that is not full ends with old
/// values.
#[inline(always)]
fn by_channel<T: Depth>(rgb: &mut [T], change: impl Fn(&mut [[f32; BLOCK]; 3])) {
    let mut planes = [[0f32; BLOCK]; 3];
    for block in rgb.chunks_mut(3 * BLOCK) {
        for (i, p) in block.chunks_exact(3).enumerate() {
            for k in 0..3 {
                planes[k][i] = p[k].get();
            }
        }
        change(&mut planes);
        for (i, p) in block.chunks_exact_mut(3).enumerate() {
            for k in 0..3 {
                p[k] = T::put(planes[k][i]);
            }
        }
    }
}

#[inline(always)]
fn scale<T: Depth>(values: &mut [T], factor: f32, shift: f32) {
    for x in values {
        *x = T::put(x.get() * factor + shift);
    }
}

#[inline(always)]
fn sum<T: Depth>(values: &[T]) -> u64 {
    // 2^16 values of 16 bits fit into 32.
    values.chunks(1 << 16).map(|part| u64::from(part.iter().map(|x| x.get() as u32).sum::<u32>())).sum()
}

#[inline(always)]
fn sum_gray<T: Depth>(rgb: &[T]) -> u64 {
    let part = |part: &[T]| {
        part.chunks_exact(3).map(|p| luma(p[0].get(), p[1].get(), p[2].get()) as i32 as u32).sum::<u32>()
    };
    rgb.chunks(3 << 16).map(|p| u64::from(part(p))).sum()
}

#[inline(always)]
fn saturate<T: Depth>(rgb: &mut [T], factor: f32) {
    by_channel(rgb, |[r, g, b]| {
        for i in 0..BLOCK {
            let gray = (1.0 - factor) * whole(luma(r[i], g[i], b[i]));
            r[i] = r[i] * factor + gray;
            g[i] = g[i] * factor + gray;
            b[i] = b[i] * factor + gray;
        }
    });
}

#[inline(always)]
fn gray<T: Depth>(rgb: &mut [T]) {
    by_channel(rgb, |[r, g, b]| {
        for i in 0..BLOCK {
            let gray = luma(r[i], g[i], b[i]);
            (r[i], g[i], b[i]) = (gray, gray, gray);
        }
    });
}

#[inline(always)]
fn turn_hue<T: Depth>(rgb: &mut [T], shift: f32) {
    by_channel(rgb, |[red, green, blue]| {
        for i in 0..BLOCK {
            let (r, g, b) = (red[i] / T::MAX, green[i] / T::MAX, blue[i] / T::MAX);
            let (max, min) = (r.max(g).max(b), r.min(g).min(b));
            let range = max - min;
            let sector = if max == r {
                (g - b) / range
            } else if max == g {
                2.0 + (b - r) / range
            } else {
                4.0 + (r - g) / range
            };
            // Positive, so that cutting the fraction off is the remainder; `rem_euclid` calls fmod, which
            // took half of the time.
            let turns = sector / 6.0 + 1.0 + shift;
            let h = (turns - whole(turns)) * 6.0;
            // Each channel is max - range * clamp(distance from its peak - 1, 0, 1), which is the usual table
            // of six sectors.
            let channel = |offset: f32| {
                let k = if offset + h < 6.0 { offset + h } else { offset + h - 6.0 };
                (max - range * k.min(4.0 - k).clamp(0.0, 1.0)) * (T::MAX + 1.0 - 1e-3)
            };
            // A gray pixel has no hue: it stays, and what was divided by 0 above is not used.
            red[i] = if range == 0.0 { red[i] } else { channel(5.0) };
            green[i] = if range == 0.0 { green[i] } else { channel(3.0) };
            blue[i] = if range == 0.0 { blue[i] } else { channel(1.0) };
        }
    });
}

/// Index `i` of a line of `n` reflected at its first and last value, as often as needed.
fn reflect(i: i64, n: usize) -> usize {
    if n == 1 {
        return 0;
    }
    let period = 2 * (n as i64 - 1);
    let i = i.rem_euclid(period);
    (if i < n as i64 { i } else { period - i }) as usize
}

/// `start + sum_t kernel[t] from(t)[j]` for each `j`: sums stay in registers over all taps.
#[inline(always)]
fn taps<'a>(start: f32, kernel: &[f32], from: impl Fn(usize) -> &'a [f32], out: &mut [f32]) {
    let blocks = out.len() / BLOCK * BLOCK;
    let (whole, rest) = out.split_at_mut(blocks);
    for (b, out) in whole.chunks_exact_mut(BLOCK).enumerate() {
        let mut sums = [start; BLOCK];
        for (t, weight) in kernel.iter().enumerate() {
            for (o, i) in sums.iter_mut().zip(&from(t)[b * BLOCK..][..BLOCK]) {
                *o += weight * i;
            }
        }
        out.copy_from_slice(&sums);
    }
    rest.fill(start);
    for (t, weight) in kernel.iter().enumerate() {
        for (o, i) in rest.iter_mut().zip(&from(t)[blocks..]) {
            *o += weight * i;
        }
    }
}

#[inline(always)]
fn blur<T: Depth>(values: &mut [T], channels: usize, width: usize, kernel: &[f32]) {
    let (half, row) = (kernel.len() / 2, width * channels);
    let height = values.len() / row.max(1);
    let mut rows = vec![0f32; height * row];
    let mut padded = vec![0f32; row + 2 * half * channels];
    for (values, out) in values.chunks_exact(row).zip(rows.chunks_exact_mut(row)) {
        for (p, x) in padded[half * channels..].iter_mut().zip(values) {
            *p = x.get();
        }
        for x in (0..half).chain(half + width..width + 2 * half) {
            let from = reflect(x as i64 - half as i64, width);
            for k in 0..channels {
                padded[x * channels + k] = values[from * channels + k].get();
            }
        }
        taps(0.0, kernel, |t| &padded[t * channels..][..row], out);
    }
    let mut sums = vec![0f32; row];
    for (y, values) in values.chunks_exact_mut(row).enumerate() {
        // From a half on: rounded, not truncated.
        taps(
            0.5,
            kernel,
            |t| &rows[reflect(y as i64 + t as i64 - half as i64, height) * row..][..row],
            &mut sums,
        );
        for (x, o) in values.iter_mut().zip(&sums) {
            *x = T::put(*o);
        }
    }
}

#[inline(always)]
fn to_planes<T: Depth>(values: &[T], affine: &[(f32, f32)], planes: &mut [f32]) {
    let (channels, pixels) = (affine.len(), values.len() / affine.len().max(1));
    for (k, (plane, &(scale, shift))) in planes.chunks_exact_mut(pixels.max(1)).zip(affine).enumerate() {
        // The usual numbers of channels as constants: the compiler then takes pixels apart with shuffles.
        let fill = |plane: &mut [f32], step: usize| {
            for (out, pixel) in plane.iter_mut().zip(values.chunks_exact(step)) {
                *out = pixel[k].get() * scale - shift;
            }
        };
        match channels {
            1 => fill(plane, 1),
            3 => fill(plane, 3),
            n => fill(plane, n),
        }
    }
}

macro_rules! depth {
    ($type:ty) => {
        impl Depth for $type {
            const MAX: f32 = <$type>::MAX as f32;

            #[inline(always)]
            fn get(self) -> f32 {
                f32::from(self)
            }

            #[inline(always)]
            fn put(v: f32) -> Self {
                // Clamped first, which vectorises; a saturating cast to so few bits does not.
                v.max(0.0).min(<Self as Depth>::MAX) as i32 as $type
            }

            fn scale(values: &mut [Self], factor: f32, shift: f32) {
                simd_fn! { fn run(values: &mut [$type], factor: f32, shift: f32) { scale(values, factor, shift) } }
                run(values, factor, shift);
            }

            fn sum(values: &[Self]) -> u64 {
                simd_fn! { fn run(values: &[$type]) -> u64 { sum(values) } }
                run(values)
            }

            fn sum_gray(rgb: &[Self]) -> u64 {
                simd_fn! { fn run(rgb: &[$type]) -> u64 { sum_gray(rgb) } }
                run(rgb)
            }

            fn saturate(rgb: &mut [Self], factor: f32) {
                simd_fn! { fn run(rgb: &mut [$type], factor: f32) { saturate(rgb, factor) } }
                run(rgb, factor);
            }

            fn gray(rgb: &mut [Self]) {
                simd_fn! { fn run(rgb: &mut [$type]) { gray(rgb) } }
                run(rgb);
            }

            fn turn_hue(rgb: &mut [Self], shift: f32) {
                simd_fn! { fn run(rgb: &mut [$type], shift: f32) { turn_hue(rgb, shift) } }
                run(rgb, shift);
            }

            fn blur(values: &mut [Self], channels: usize, width: usize, kernel: &[f32]) {
                simd_fn! { fn run(values: &mut [$type], channels: usize, width: usize, kernel: &[f32]) { blur(values, channels, width, kernel) } }
                run(values, channels, width, kernel);
            }

            fn to_planes(values: &[Self], affine: &[(f32, f32)], planes: &mut [f32]) {
                simd_fn! { fn run(values: &[$type], affine: &[(f32, f32)], planes: &mut [f32]) { to_planes(values, affine, planes) } }
                run(values, affine, planes);
            }
        }
    };
}

depth!(u8);
depth!(u16);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Key;

    /// Sizes about the block, and one row or column.
    const SIZES: [(usize, usize); 6] = [(1, 1), (1, 7), (5, 1), (9, 21), (8, 64), (3, 65)];

    fn random<T: Depth>(n: usize) -> Vec<T> {
        let mut rng = Key::new(7).rng();
        (0..n).map(|_| T::put(rng.uniform() * (T::MAX + 1.0))).collect()
    }

    fn blur_is_the_double_sum<T: Depth + PartialEq + std::fmt::Debug>() {
        for (h, w) in SIZES {
            for (channels, kernel) in [(1, vec![0.25, 0.5, 0.25]), (3, vec![0.1, 0.2, 0.4, 0.2, 0.1])] {
                let image: Vec<T> = random(h * w * channels);
                let mut blurred = image.clone();
                T::blur(&mut blurred, channels, w, &kernel);
                let half = kernel.len() as i64 / 2;
                for (i, got) in blurred.iter().enumerate() {
                    let (y, x, k) = (i / (w * channels), i / channels % w, i % channels);
                    let mut want = 0.0;
                    for (a, ka) in kernel.iter().enumerate() {
                        for (b, kb) in kernel.iter().enumerate() {
                            let (yy, xx) = (
                                reflect(y as i64 + a as i64 - half, h),
                                reflect(x as i64 + b as i64 - half, w),
                            );
                            want += f64::from(ka * kb) * f64::from(image[(yy * w + xx) * channels + k].get());
                        }
                    }
                    assert!(
                        (f64::from(got.get()) - want).abs() < 0.52,
                        "{h} x {w} x {channels} at {i}: {got:?}, expected {want}"
                    );
                }
            }
        }
    }

    #[test]
    fn blurring_is_a_double_sum_over_the_reflected_image() {
        blur_is_the_double_sum::<u8>();
        blur_is_the_double_sum::<u16>();
    }

    #[test]
    fn pixels_behind_a_block_are_changed_like_those_in_it() {
        let all: Vec<u8> = random(3 * 200);
        let alone = |change: fn(&mut [u8])| {
            let mut whole = all.clone();
            change(&mut whole);
            let mut single = all.clone();
            single.chunks_exact_mut(3).for_each(change);
            assert_eq!(whole, single);
        };
        alone(|v| u8::saturate(v, 1.7));
        alone(|v| u8::turn_hue(v, -0.3));
        alone(u8::gray);
        alone(|v| u8::scale(v, 0.3, 9.5));
        assert_eq!(u8::sum(&all), all.iter().map(|v| u64::from(*v)).sum::<u64>());
        assert_eq!(u8::sum_gray(&all), all.chunks_exact(3).map(u8::sum_gray).sum::<u64>());
    }

    #[test]
    fn a_hue_turned_by_a_third_exchanges_the_primary_colours() {
        let mut pixels = [255u8, 0, 0, 0, 255, 0, 0, 0, 255, 90, 90, 90];
        u8::turn_hue(&mut pixels, 1.0 / 3.0);
        let near = |p: &[u8], q: [u8; 3]| {
            assert!(p.iter().zip(q).all(|(a, b)| a.abs_diff(b) <= 1), "{p:?}, expected {q:?}")
        };
        near(&pixels[..3], [0, 255, 0]);
        near(&pixels[3..6], [0, 0, 255]);
        near(&pixels[6..9], [255, 0, 0]);
        assert_eq!(&pixels[9..], [90, 90, 90]);
    }

    #[test]
    fn values_are_clamped_and_truncated() {
        let mut v = [0u8, 10, 200, 255];
        u8::scale(&mut v, 1.5, -0.25);
        assert_eq!(v, [0, 14, 255, 255]);
        assert_eq!((u8::put(f32::NAN), u16::put(1e9), u16::put(-3.0)), (0, 65535, 0));
    }

    #[test]
    fn planes_take_the_channels_apart() {
        let mut planes = [0f32; 6];
        u8::to_planes(&[1, 2, 3, 4, 5, 6], &[(1.0, 0.0), (2.0, 1.0), (0.5, 0.0)], &mut planes);
        assert_eq!(planes, [1.0, 4.0, 3.0, 9.0, 1.5, 3.0]);
    }
}
