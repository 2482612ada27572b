//! SIGReg and LeJEPA: embeddings that are an isotropic Gaussian, tested along random directions.

use super::check::Check;
use super::rows::l2_normalize;
use crate::{Error, Key, Result};
use candle_core::{Device, Tensor};

/// Where the characteristic functions are compared: `knots` points on `[0, end]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knots {
    /// Number of points, both ends among them (the paper's 17).
    pub number: usize,
    /// The last point (3).
    pub end: f64,
}

impl Default for Knots {
    fn default() -> Self {
        Knots { number: 17, end: 3.0 }
    }
}

/// `slices` directions of length 1 in `dim` dimensions, `(dim, slices)`, uniform on the sphere, from `key`.
///
/// # Errors
/// If the device refuses the tensor, or a size is 0.
pub fn directions(dim: usize, slices: usize, key: Key, device: &Device) -> Result<Tensor> {
    let mut rng = key.rng();
    let values: Vec<f32> = (0..dim * slices).map(|_| rng.normal()).collect();
    let rows = Tensor::from_vec(values, (slices, dim), device)?;
    let (rows, ..) = Check("directions").matrix("slices", &rows, "(M, D)")?;
    Ok(l2_normalize(&rows, 1e-12)?.t()?.contiguous()?)
}

/// SIGReg: how far views are from an isotropic Gaussian, by the Epps-Pulley test along each direction; mean over
/// directions and views.
///
/// `views`: each (N, D). `directions`: (D, M), columns of length 1, detached. For a view and a direction a:
/// `N sum_j w_j exp(-t_j^2 / 2) [ (mean_n cos(t_j a.z_n) - exp(-t_j^2 / 2))^2 + (mean_n sin(t_j a.z_n))^2 ]`, t
/// equally spaced on [0, end], w the trapezoid rule for the line from -end to end: twice the step inside, the step
/// at both ends.
///
/// Balestriero and LeCun 2025, "LeJEPA", arXiv 2511.08544, section 4.
///
/// # Errors
/// No view, shapes that do not fit, fewer than 2 knots, an end that is not above 0.
pub fn sigreg(views: &[Tensor], directions: &Tensor, knots: Knots) -> Result<Tensor> {
    let at = Check("sigreg");
    let mut sum: Option<Tensor> = None;
    for (i, view) in views.iter().enumerate() {
        let (view, _, d) = at.matrix(&format!("views[{i}]"), view, "(N, D)")?;
        let (directions, rows, _) = at.matrix("directions", directions, "(D, M)")?;
        if rows != d {
            return Err(at.wrong(
                "directions",
                format_args!("has shape {:?}, expected ({d}, M), the width of `views`", directions.dims()),
            ));
        }
        let x = view.matmul(&directions.detach().to_dtype(view.dtype())?)?; // (N, M)
        let term = epps_pulley(at, &x, knots)?;
        sum = Some(match sum {
            Some(sum) => (sum + term)?,
            None => term,
        });
    }
    let sum = sum.ok_or_else(|| at.wrong("views", "is empty, expected at least one view"))?;
    Ok((sum / views.len() as f64)?)
}

/// The statistic of each column of `x (N, M)`, mean over the columns.
///
/// Its derivative by x is known, `2 t w phi (S cos(t x) - (C - phi) sin(t x)) / M` summed over the knots, with C and
/// S the means of cosines and sines. It is summed along with the value, so no graph holds two (N, M) tensors a knot;
/// and the angles of a knot are those of the one before plus the first's, so there are two transcendental functions
/// in all.
fn epps_pulley(at: Check, x: &Tensor, knots: Knots) -> Result<Tensor> {
    if knots.number < 2 {
        return Err(at.wrong("knots", format_args!("is {}, expected at least 2", knots.number)));
    }
    at.positive("end", knots.end)?;
    let (n, m) = x.dims2()?;
    let step = knots.end / (knots.number - 1) as f64;
    let fixed = x.detach();
    let first = (&fixed * step)?;
    let (cos_1, sin_1) = (first.cos()?, first.sin()?);
    let (mut cos, mut sin) = (cos_1.clone(), sin_1.clone());
    let (mut value, mut slope) = (fixed.narrow(0, 0, 1)?.zeros_like()?, fixed.zeros_like()?);
    // At t = 0 both characteristic functions are 1.
    for j in 1..knots.number {
        if j > 1 {
            (cos, sin) = (((&cos * &cos_1)? - (&sin * &sin_1)?)?, ((&sin * &cos_1)? + (&cos * &sin_1)?)?);
        }
        let t = step * j as f64;
        let normal = (-t * t / 2.0).exp();
        let weight = normal * if j + 1 == knots.number { step } else { 2.0 * step };
        let (real, imaginary) = ((cos.mean_keepdim(0)? - normal)?, sin.mean_keepdim(0)?); // (1, M)
        value = (value + ((real.sqr()? + imaginary.sqr()?)? * weight)?)?;
        let pull = (cos.broadcast_mul(&imaginary)? - sin.broadcast_mul(&real)?)?;
        slope = (slope + (pull * (2.0 * t * weight / m as f64))?)?;
    }
    let value = (value.mean_all()? * n as f64)?;
    // The difference is 0, and its derivative by x the slope.
    let difference = ((x * &slope)?.sum_all()? - (fixed * slope)?.sum_all()?)?;
    Ok((value + difference)?)
}

/// LeJEPA's terms, weighted: `(1 - lambda)` times the invariance, the mean over views, samples and dimensions of
/// the squared distance to the mean of the full-size views; and `lambda` times [`sigreg`] of all views.
///
/// `full`, `small`: (N, D) each. `directions`: (D, M), columns of length 1.
///
/// Balestriero and LeCun 2025, arXiv 2511.08544, equation 8; the mean over dimensions and the centre are those of
/// lightly, and decide what lambda means.
///
/// # Errors
/// As [`sigreg`]; no full-size view, a lambda outside of 0 to 1.
pub fn lejepa_terms(
    full: &[Tensor],
    small: &[Tensor],
    directions: &Tensor,
    lambda: f64,
    knots: Knots,
) -> Result<Vec<(&'static str, Tensor)>> {
    let at = Check("lejepa");
    if !(0.0..=1.0).contains(&lambda) {
        return Err(at.wrong("lambda", format_args!("is {lambda}, expected a share from 0 to 1")));
    }
    let first = full.first().ok_or_else(|| at.wrong("full", "is empty, expected at least one view"))?;
    let (first, ..) = at.matrix("full[0]", first, "(N, D)")?;
    let named = full.iter().enumerate().map(|(i, z)| (format!("full[{i}]"), z));
    let named = named.chain(small.iter().enumerate().map(|(i, z)| (format!("small[{i}]"), z)));
    let views = named.map(|(name, z)| at.like(&name, z, "full[0]", &first)).collect::<Result<Vec<_>>>()?;
    let add = |views: &[Tensor]| -> Result<Tensor> {
        let (first, rest) = views.split_first().ok_or_else(|| Error::Other("no views".into()))?;
        Ok(rest.iter().try_fold(first.clone(), |sum, z| sum + z)?)
    };
    let centre = (add(&views[..full.len()])? / full.len() as f64)?;
    let gaps =
        views.iter().map(|z| Ok((z - &centre)?.sqr()?.mean_all()?)).collect::<Result<Vec<Tensor>>>()?;
    let invariance = (add(&gaps)? / views.len() as f64)?;
    let gaussian = sigreg(&views, directions, knots)?;
    Ok(vec![("invariance", (invariance * (1.0 - lambda))?), ("sigreg", (gaussian * lambda)?)])
}

/// [`lejepa_terms`], added.
///
/// # Errors
/// As [`lejepa_terms`].
pub fn lejepa(
    full: &[Tensor],
    small: &[Tensor],
    directions: &Tensor,
    lambda: f64,
    knots: Knots,
) -> Result<Tensor> {
    let mut terms = lejepa_terms(full, small, directions, lambda, knots)?.into_iter().map(|(_, term)| term);
    let first = terms.next().ok_or_else(|| Error::Other("lejepa: no terms".into()))?;
    Ok(terms.try_fold(first, |sum, term| sum + term)?)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Golden, finite_differences, random, value};
    use super::*;
    use candle_core::DType;

    fn views(z: &Tensor) -> Vec<Tensor> {
        (0..z.dim(0).unwrap()).map(|v| z.get(v).unwrap()).collect()
    }

    #[test]
    fn golden() {
        let g = Golden::open("losses/sigreg");
        let a = g.get("input.const_directions");
        g.check(&["z"], |t| sigreg(&views(&t[0]), &a, Knots::default()));
        let g = Golden::open("losses/lejepa");
        let a = g.get("input.const_directions");
        g.check(&["global_views", "local_views"], |t| {
            lejepa(&views(&t[0]), &views(&t[1]), &a, 0.05, Knots::default())
        });
    }

    /// A point at the origin: cos is 1 and sin 0, so the statistic is `N integral of exp(-t^2/2) (1 -
    /// exp(-t^2/2))^2`, over the whole line `sqrt(2 pi) (1 - 2 / sqrt(2) + 1 / sqrt(3))`.
    #[test]
    fn a_collapsed_batch_has_the_known_statistic() {
        let z = Tensor::zeros((6, 3), DType::F64, &Device::Cpu).unwrap();
        let a = directions(3, 5, Key::new(1), &Device::Cpu).unwrap();
        let got = value(&sigreg(&[z], &a, Knots { number: 401, end: 12.0 }).unwrap());
        let tau = 2.0 * std::f64::consts::PI;
        let want = 6.0 * tau.sqrt() * (1.0 - 2.0 / 2f64.sqrt() + 1.0 / 3f64.sqrt());
        assert!((got - want).abs() < 1e-6, "{got} {want}");
    }

    /// Of N Gaussian samples the statistic is the integral of `exp(-t^2/2) (1 - exp(-t^2))` in the mean, whatever
    /// N; of wider or shifted ones it grows with N.
    #[test]
    fn gaussians_pass() {
        let z = random(&[4000, 2], 3);
        let a = directions(2, 16, Key::new(1), &Device::Cpu).unwrap();
        let of = |z: &Tensor| value(&sigreg(std::slice::from_ref(z), &a, Knots::default()).unwrap());
        assert!(of(&z) < 3.0, "{}", of(&z));
        assert!(of(&(&z * 1.5).unwrap()) > 50.0 && of(&(&z + 0.5).unwrap()) > 50.0);
    }

    #[test]
    fn directions_have_length_1_and_follow_the_key() {
        let of = |seed| directions(7, 4, Key::new(seed), &Device::Cpu).unwrap();
        let lengths = of(1).sqr().unwrap().sum(0).unwrap().to_vec1::<f32>().unwrap();
        assert!(lengths.len() == 4 && lengths.iter().all(|l| (l - 1.0).abs() < 1e-5), "{lengths:?}");
        let values = |seed| of(seed).flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(values(1) == values(1) && values(1) != values(2));
    }

    #[test]
    fn gradients() {
        let x: Vec<Tensor> = (0..3).map(|s| random(&[5, 3], s)).collect();
        let a = directions(3, 4, Key::new(2), &Device::Cpu).unwrap();
        let knots = Knots { number: 6, end: 2.0 };
        finite_differences(&x[..2], |t| sigreg(t, &a, knots));
        finite_differences(&x, |t| lejepa(&t[..2], &t[2..], &a, 0.3, knots));
    }

    #[test]
    fn wrong_arguments_are_named() {
        let (x, y) = (random(&[3, 5], 1), random(&[3, 4], 1));
        let a = directions(5, 4, Key::new(2), &Device::Cpu).unwrap();
        let says = |r: Result<Tensor>, part: &str| {
            let e = r.unwrap_err().to_string();
            assert!(e.contains(part), "{e}");
        };
        says(sigreg(&[], &a, Knots::default()), "`views`");
        says(sigreg(std::slice::from_ref(&y), &a, Knots::default()), "`directions`");
        says(sigreg(std::slice::from_ref(&x), &a, Knots { number: 1, end: 3.0 }), "`knots`");
        says(lejepa(&[], &[], &a, 0.1, Knots::default()), "`full`");
        says(lejepa(std::slice::from_ref(&x), &[y], &a, 0.1, Knots::default()), "`small[0]`");
        says(lejepa(&[x], &[], &a, 1.5, Knots::default()), "`lambda`");
    }
}
