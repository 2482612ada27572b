//! Colours as a network names them: CIE L*a*b* (D65 white, 2 degrees), and squares of its ab plane.
//!
//! L* is lightness, 0 to 100; a* and b* are green to red and blue to yellow. The plane is cut into squares of
//! 10 x 10; those that a colour of sRGB falls into are the bins.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

/// Side of a square.
const SIDE: f32 = 10.0;
/// Squares that a colour is spread over (Zhang et al. 2016, section 2.2).
pub const NEAREST: usize = 5;
/// Deviation of the spread, in units of a* and b*.
const SIGMA: f32 = 5.0;

/// White of D65.
const WHITE: [f32; 3] = [0.95047, 1.0, 1.08883];

/// Red, green and blue of sRGB in `[0, 1]` to L*, a*, b*.
pub fn lab(rgb: [f32; 3]) -> [f32; 3] {
    let [r, g, b] = rgb.map(|c| {
        let c = c.clamp(0.0, 1.0);
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    });
    let xyz = [
        0.412_453 * r + 0.357_58 * g + 0.180_423 * b,
        0.212_671 * r + 0.715_16 * g + 0.072_169 * b,
        0.019_334 * r + 0.119_193 * g + 0.950_227 * b,
    ];
    let mut f = [0f32; 3];
    for (f, (v, white)) in f.iter_mut().zip(xyz.iter().zip(WHITE)) {
        let t = v / white;
        *f = if t > 0.008_856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 };
    }
    [116.0 * f[1] - 16.0, 500.0 * (f[0] - f[1]), 200.0 * (f[1] - f[2])]
}

/// The inverse of [`lab`]; what sRGB cannot show is cut to `[0, 1]`.
pub fn rgb([l, a, b]: [f32; 3]) -> [f32; 3] {
    let y = (l + 16.0) / 116.0;
    let mut xyz = [y + a / 500.0, y, y - b / 200.0];
    for (f, white) in xyz.iter_mut().zip(WHITE) {
        let cube = f.powi(3);
        *f = white * if cube > 0.008_856 { cube } else { (*f - 16.0 / 116.0) / 7.787 };
    }
    let [x, y, z] = xyz;
    [
        3.240_481 * x - 1.537_152 * y - 0.498_536 * z,
        -0.969_255 * x + 1.875_99 * y + 0.041_556 * z,
        0.055_647 * x - 0.204_041 * y + 1.057_311 * z,
    ]
    .map(|c| {
        let c = if c <= 0.003_130_8 { 12.92 * c } else { 1.055 * c.max(0.0).powf(1.0 / 2.4) - 0.055 };
        c.clamp(0.0, 1.0)
    })
}

/// The bins of the ab plane.
#[derive(Debug)]
pub struct Bins {
    /// Their middles.
    centres: Vec<[f32; 2]>,
    /// For each square of the plane the nearest bins, the nearest first.
    near: BTreeMap<(i32, i32), Vec<usize>>,
}

impl Bins {
    /// Those of sRGB, found by asking for the square of each colour of a grid of 52 values a channel.
    pub fn of_srgb() -> &'static Bins {
        static BINS: OnceLock<Bins> = OnceLock::new();
        BINS.get_or_init(|| {
            let level = |i: usize| (5 * i) as f32 / 255.0;
            let mut squares = BTreeSet::new();
            for (r, g, b) in (0..52usize.pow(3)).map(|i| (i / 2704, i / 52 % 52, i % 52)) {
                let [_, a, b] = lab([level(r), level(g), level(b)]);
                squares.insert(square(a, b));
            }
            let centres: Vec<[f32; 2]> =
                squares.iter().map(|(a, b)| [*a as f32 * SIDE, *b as f32 * SIDE]).collect();
            // Colours between those of the grid may fall beside its squares.
            let range = -13..=13;
            let all = range.clone().flat_map(|a| range.clone().map(move |b| (a, b)));
            // More than are used: which are nearest differs within a square.
            let near = all
                .map(|(a, b)| {
                    let mut order: Vec<usize> = (0..centres.len()).collect();
                    let far = |i: &usize| distance(centres[*i], [a as f32 * SIDE, b as f32 * SIDE]);
                    order.sort_by(|i, j| far(i).total_cmp(&far(j)));
                    order.truncate(4 * NEAREST);
                    ((a, b), order)
                })
                .collect();
            Bins { centres, near }
        })
    }

    /// The middle of each bin.
    pub fn centres(&self) -> &[[f32; 2]] {
        &self.centres
    }

    /// The [`NEAREST`] bins of a colour, the nearest first, with shares of a Gaussian of their distance that
    /// add up to 1.
    pub fn spread(&self, ab: [f32; 2]) -> [(usize, f32); NEAREST] {
        let (a, b) = square(ab[0], ab[1]);
        let at = (a.clamp(-13, 13), b.clamp(-13, 13));
        let mut near: Vec<(usize, f32)> =
            self.near.get(&at).into_iter().flatten().map(|i| (*i, distance(self.centres[*i], ab))).collect();
        near.sort_by(|x, y| x.1.total_cmp(&y.1));
        let mut out = [(0, 0.0); NEAREST];
        let first = near.first().map_or(0.0, |n| n.1);
        for (out, (bin, d)) in out.iter_mut().zip(near) {
            // Relative to the nearest: far colours underflow otherwise.
            *out = (bin, (-(d - first) / (2.0 * SIGMA * SIGMA)).exp());
        }
        let sum: f32 = out.iter().map(|o| o.1).sum();
        out.map(|(bin, share)| (bin, share / sum.max(f32::MIN_POSITIVE)))
    }
}

fn square(a: f32, b: f32) -> (i32, i32) {
    ((a / SIDE).round() as i32, (b / SIDE).round() as i32)
}

fn distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of skimage.color.rgb2lab.
    #[test]
    fn colours_are_those_of_the_standard() {
        let near = |a: [f32; 3], b: [f32; 3], by: f32| a.iter().zip(b).all(|(a, b)| (a - b).abs() < by);
        for (of, want) in [
            ([1.0, 0.0, 0.0], [53.2406, 80.0923, 67.2028]),
            ([0.0, 1.0, 0.0], [87.7351, -86.1830, 83.1797]),
            ([0.0, 0.0, 1.0], [32.2957, 79.1856, -107.8573]),
            ([0.0; 3], [0.0; 3]),
        ] {
            assert!(near(lab(of), want, 0.02), "{:?}", lab(of));
            assert!(near(rgb(lab(of)), of, 2e-3), "{:?}", rgb(lab(of)));
        }
        let [l, a, b] = lab([0.5; 3]);
        assert!((l - 53.39).abs() < 0.02 && a.abs() < 0.01 && b.abs() < 0.02, "{l} {a} {b}");
        for i in 0..125 {
            let of = [i / 25, i / 5 % 5, i % 5].map(|v| v as f32 / 4.0);
            assert!(near(rgb(lab(of)), of, 2e-3), "{of:?}");
        }
    }

    #[test]
    fn bins_cover_the_colours() {
        let bins = Bins::of_srgb();
        assert_eq!(bins.centres().len(), 260);
        // Gray lies in the middle of its square: four neighbours at 10, exp(-100 / 50) of its share.
        let gray = bins.spread([0.0, 0.0]);
        let e = (-2f32).exp();
        assert_eq!(bins.centres()[gray[0].0], [0.0, 0.0]);
        assert!((gray[0].1 - 1.0 / (1.0 + 4.0 * e)).abs() < 1e-4 && (gray[4].1 - e * gray[0].1).abs() < 1e-4);
        for i in 0..216 {
            let [_, a, b] = lab([i / 36, i / 6 % 6, i % 6].map(|v| v as f32 / 5.0));
            let spread = bins.spread([a, b]);
            assert!((spread.iter().map(|s| s.1).sum::<f32>() - 1.0).abs() < 1e-5);
            let nearest = bins.centres().iter().map(|c| distance(*c, [a, b])).fold(f32::INFINITY, f32::min);
            assert!((distance(bins.centres()[spread[0].0], [a, b]) - nearest).abs() < 1e-4);
        }
        assert!(bins.spread([900.0, -900.0])[0].1 > 0.0);
    }
}
