//! From an order and edges to sections: the analogue prototype, its transform to the band, the bilinear transform, and
//! the pairing of poles and zeros. Edges are shares of the Nyquist frequency.

use super::complex::Complex;
use std::f64::consts::PI;

/// `b0 b1 b2 a0 a1 a2`.
type Section = [f64; 6];

/// Zeros, poles and gain; both lists of the same length in the end.
struct Roots {
    zeros: Vec<Complex>,
    poles: Vec<Complex>,
    gain: f64,
}

pub(super) fn band(order: usize, low: f64, high: f64) -> Vec<Section> {
    let (low, high) = (warped(low), warped(high));
    let (width, centre) = (Complex::real(high - low), Complex::real(low * high));
    let half = Complex::real(0.5);
    let mut poles = Vec::new();
    for sign in [1.0, -1.0] {
        for p in prototype(order) {
            let p = p * width * half;
            poles.push(p + Complex::real(sign) * (p * p - centre).sqrt());
        }
    }
    let zeros = vec![Complex::real(0.0); order];
    sections(bilinear(Roots { zeros, poles, gain: (high - low).powi(order as i32) }))
}

pub(super) fn below(order: usize, end: f64) -> Vec<Section> {
    let end = warped(end);
    let poles = prototype(order).into_iter().map(|p| p * Complex::real(end)).collect();
    sections(bilinear(Roots { zeros: Vec::new(), poles, gain: end.powi(order as i32) }))
}

pub(super) fn above(order: usize, end: f64) -> Vec<Section> {
    let end = Complex::real(warped(end));
    let prototype = prototype(order);
    let product = prototype.iter().fold(Complex::real(1.0), |product, p| product * (Complex::real(0.0) - *p));
    let poles = prototype.into_iter().map(|p| end / p).collect();
    let zeros = vec![Complex::real(0.0); order];
    sections(bilinear(Roots { zeros, poles, gain: (Complex::real(1.0) / product).re }))
}

/// The analogue frequency that the bilinear transform at a rate of 2 brings to an edge.
fn warped(edge: f64) -> f64 {
    4.0 * (PI * edge / 2.0).tan()
}

/// The poles of the low pass at 1: on the left half of the unit circle.
fn prototype(order: usize) -> Vec<Complex> {
    let n = order as i64;
    (0..n)
        .map(|i| {
            let angle = PI * (2 * i - n + 1) as f64 / (2 * n) as f64;
            // The middle pole of an odd order is real, without rounding.
            if 2 * i + 1 == n { Complex::real(-1.0) } else { Complex::new(-angle.cos(), -angle.sin()) }
        })
        .collect()
}

fn bilinear(analogue: Roots) -> Roots {
    let four = Complex::real(4.0);
    let moved = |roots: &[Complex]| roots.iter().map(|r| (four + *r) / (four - *r)).collect::<Vec<_>>();
    let product = |roots: &[Complex]| roots.iter().fold(Complex::real(1.0), |p, r| p * (four - *r));
    let (mut zeros, poles) = (moved(&analogue.zeros), moved(&analogue.poles));
    zeros.resize(poles.len(), Complex::real(-1.0));
    let gain = analogue.gain * (product(&analogue.zeros) / product(&analogue.poles)).re;
    Roots { zeros, poles, gain }
}

fn is_real(c: Complex) -> bool {
    c.im.abs() <= 100.0 * f64::EPSILON * c.abs()
}

/// Takes the root nearest to `to` out of `roots`; a real one, where `real`.
fn take_nearest(roots: &mut Vec<Complex>, to: Complex, real: bool) -> Option<Complex> {
    let candidates = roots.iter().enumerate().filter(|(_, r)| !real || is_real(**r));
    let (at, _) = candidates.min_by(|a, b| (*a.1 - to).abs().total_cmp(&(*b.1 - to).abs()))?;
    Some(roots.remove(at))
}

/// The pole nearest to the unit circle goes into the last section, with the zeros nearest to it, and so on to the first
/// one, which gets the gain. All zeros here are real.
fn sections(roots: Roots) -> Vec<Section> {
    let Roots { mut zeros, poles, gain } = roots;
    // Of a pair of conjugates one stands for both.
    let mut left: Vec<Complex> = poles.into_iter().filter(|p| is_real(*p) || p.im > 0.0).collect();
    if zeros.len() % 2 == 1 {
        zeros.push(Complex::real(0.0));
        left.push(Complex::real(0.0));
    }
    let mut out = Vec::new();
    while !left.is_empty() {
        let edge = |p: &Complex| (1.0 - p.abs()).abs();
        let worst = (0..left.len()).min_by(|a, b| edge(&left[*a]).total_cmp(&edge(&left[*b]))).unwrap_or(0);
        let first = left.remove(worst);
        let (second, z) = if is_real(first) {
            // Beside a real pole stands the real one nearest to the unit circle.
            let other = (0..left.len())
                .filter(|i| is_real(left[*i]))
                .min_by(|a, b| edge(&left[*a]).total_cmp(&edge(&left[*b])));
            (other.map(|i| left.remove(i)), [first, first])
        } else {
            (Some(Complex::new(first.re, -first.im)), [first, first])
        };
        let pair = z.map(|to| take_nearest(&mut zeros, to, true).map_or(0.0, |z| z.re));
        let second = second.unwrap_or(Complex::real(0.0));
        let (sum, product) = (first + second, first * second);
        out.push([1.0, -(pair[0] + pair[1]), pair[0] * pair[1], 1.0, -sum.re, product.re]);
    }
    out.reverse();
    if let Some(section) = out.first_mut() {
        section[..3].iter_mut().for_each(|b| *b *= gain);
    }
    out
}
