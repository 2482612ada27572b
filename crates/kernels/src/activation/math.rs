//! Exponential and error function without branches and calls, so that loops over them vectorise. Every
//! instruction set gives the same bits: plain products and sums, and in `exp_fused` fused multiply-adds.

/// `e^x` with a relative error of 2e-7 for results that are normal numbers; smaller ones become 0, larger
/// than `f32::MAX` infinite; NaN stays.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts: the first has few bits, so its product with a small integer is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and taking off 1.5 * 2^23 rounds to an integer, and leaves it in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    // Comparisons rather than f32::max, which would swallow NaN.
    let low = if x < -87.0 { -87.0 } else { x };
    let v = if low > 89.0 { 89.0 } else { low };
    let shifted = v * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (v - n * LN2_HIGH) - n * LN2_LOW;
    // |r| <= ln(2) / 2: the series to the seventh power is exact to 5e-9.
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    // 2^(n - 1) * 2: the exponent of 2^128 does not fit in one factor.
    let half_power = f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(126) << 23);
    let y = p * half_power * 2.0;
    if x < -87.0 { 0.0 } else { y }
}

/// `e^x` for `x` up to about 80 with a relative error of 2e-7; 0 below -87 (also for minus infinity): [`exp`]
/// with fused multiply-adds, for attention, where it is half of the time of a head's softmax. A machine
/// without them gives the same bits, slowly.
#[inline(always)]
pub(crate) fn exp_fused(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the sum.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts, of which the first has few bits.
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    // |r| <= ln(2) / 2: what the series leaves out is below 1.2e-7.
    let p = (1.0f32 / 720.0).mul_add(r, 1.0 / 120.0);
    let p = p.mul_add(r, 1.0 / 24.0);
    let p = p.mul_add(r, 1.0 / 6.0);
    let p = p.mul_add(r, 0.5);
    let p = p.mul_add(r, 1.0);
    let p = p.mul_add(r, 1.0);
    let y = p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    if x < -87.0 { 0.0 } else { y }
}

/// The error function with a relative error of 4e-7: a rational function of `x^2` times `x`, fitted to the
/// least largest relative error on `[0, 3.92]`; beyond, the result is +-1.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    const END: f32 = 3.92;
    let low = if x < -END { -END } else { x };
    let v = if low > END { END } else { low };
    let z = v * v;
    let p = 2.050_110_9e-6;
    let p = p * z + 2.848_826_4e-4;
    let p = p * z + 3.765_565e-3;
    let p = p * z + 5.274_856e-2;
    let p = p * z + 0.190_405_1;
    let p = p * z + std::f32::consts::FRAC_2_SQRT_PI;
    let q = 3.809_196e-5;
    let q = q * z + 1.162_525e-3;
    let q = q * z + 1.496_911e-2;
    let q = q * z + 0.114_108_56;
    let q = q * z + 0.502_074_9;
    let q = q * z + 1.0;
    v * p / q
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The sum of a value over the elements of one, two or three slices, `lanes!(|x = xs, y = ys| x * y)`: in
/// sixteen running sums that are added at the end, an order that is fixed and vectorises.
macro_rules! lanes {
    (|$x:ident = $xs:ident| $value:expr) => {{
        let mut sums = [0f32; 16];
        let whole = $xs.len() / 16 * 16;
        for part in $xs[..whole].chunks_exact(16) {
            for (sum, &$x) in sums.iter_mut().zip(part) {
                *sum += $value;
            }
        }
        for (sum, &$x) in sums.iter_mut().zip(&$xs[whole..]) {
            *sum += $value;
        }
        $crate::activation::math::total(&sums)
    }};
    (|$x:ident = $xs:ident, $y:ident = $ys:ident| $value:expr) => {{
        let mut sums = [0f32; 16];
        let whole = $xs.len() / 16 * 16;
        for (part, other) in $xs[..whole].chunks_exact(16).zip($ys[..whole].chunks_exact(16)) {
            for ((sum, &$x), &$y) in sums.iter_mut().zip(part).zip(other) {
                *sum += $value;
            }
        }
        for ((sum, &$x), &$y) in sums.iter_mut().zip(&$xs[whole..]).zip(&$ys[whole..]) {
            *sum += $value;
        }
        $crate::activation::math::total(&sums)
    }};
    (|$x:ident = $xs:ident, $y:ident = $ys:ident, $z:ident = $zs:ident| $value:expr) => {{
        let mut sums = [0f32; 16];
        let whole = $xs.len() / 16 * 16;
        let parts = $xs[..whole]
            .chunks_exact(16)
            .zip($ys[..whole].chunks_exact(16))
            .zip($zs[..whole].chunks_exact(16));
        for ((part, other), third) in parts {
            for (((sum, &$x), &$y), &$z) in sums.iter_mut().zip(part).zip(other).zip(third) {
                *sum += $value;
            }
        }
        for (((sum, &$x), &$y), &$z) in
            sums.iter_mut().zip(&$xs[whole..]).zip(&$ys[whole..]).zip(&$zs[whole..])
        {
            *sum += $value;
        }
        $crate::activation::math::total(&sums)
    }};
}
pub(crate) use lanes;

/// The sum of sixteen running sums.
#[inline(always)]
pub(crate) fn total(sums: &[f32; 16]) -> f32 {
    let mut s = *sums;
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            s[i] += s[i + half];
        }
    }
    s[0]
}

/// The largest element, NaN if there is one; `-inf` of none.
#[inline(always)]
pub(crate) fn largest(x: &[f32]) -> f32 {
    let mut best = [f32::NEG_INFINITY; 16];
    let whole = x.len() / 16 * 16;
    for part in x[..whole].chunks_exact(16) {
        for (b, &v) in best.iter_mut().zip(part) {
            // Not (v <= b) is also true of NaN, which then stays: nothing compares with it.
            *b = if v <= *b || b.is_nan() { *b } else { v };
        }
    }
    for (b, &v) in best.iter_mut().zip(&x[whole..]) {
        *b = if v <= *b || b.is_nan() { *b } else { v };
    }
    best.iter().fold(f32::NEG_INFINITY, |b, &v| if v <= b || b.is_nan() { b } else { v })
}
