//! Corrupted volumes, to measure how a representation stands up to a shift: noise, bias field, resolution,
//! ghosts of motion and contrast, each at five severities.
//!
//! | kind | severities 1 to 5 |
//! |---|---|
//! | `noise` | a deviation of 2, 4, 8, 12, 20% of the range of intensities; Rician where no value is below 0 |
//! | `bias_field` | coefficients up to 0.1, 0.2, 0.3, 0.5, 0.7 of a polynomial of order 3 |
//! | `resolution` | voxels of 2, 3, 4, 5, 6 times the side, brought back onto the grid |
//! | `ghosting` | 5, 10, 20, 30, 45% of the signal in two ghosts along an axis of the slice |
//! | `contrast` | an exponent of 1.2, 1.4, 1.7, 2, 2.5, or one over it |
//!
//! A volume is corrupted as it comes from its file, before its intensities are scaled: a scanner knows nothing
//! of that scaling. The range of intensities is that from their 1st to their 99th percentile. What is drawn
//! depends on the seed and on the file's name alone. Noise, bias field, resolution and gamma are those of
//! [`crate::transform`]; the bounds are about those of TorchIO (Perez-Garcia et al. 2021, arXiv 2003.04696).

use crate::Volume;
use crate::transform::{BiasField, Gamma, LowResolution, Noise};
use selfsup_core::data::Transform;
use selfsup_core::{Error, Key, Result, Rng};

/// How often severities go up.
pub const SEVERITIES: u8 = 5;

/// A kind of corruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Corruption {
    /// Gaussian or Rician noise.
    Noise,
    /// Slow brightening and darkening.
    BiasField,
    /// Larger voxels.
    Resolution,
    /// Ghosts of periodic motion.
    Ghosting,
    /// Another curve of intensities.
    Contrast,
}

impl Corruption {
    /// All kinds.
    pub const ALL: [Corruption; 5] = [
        Corruption::Noise,
        Corruption::BiasField,
        Corruption::Resolution,
        Corruption::Ghosting,
        Corruption::Contrast,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Corruption::Noise => "noise",
            Corruption::BiasField => "bias_field",
            Corruption::Resolution => "resolution",
            Corruption::Ghosting => "ghosting",
            Corruption::Contrast => "contrast",
        }
    }

    /// What the severities are.
    pub fn about(self) -> &'static str {
        match self {
            Corruption::Noise => "2, 4, 8, 12, 20% of the range of intensities",
            Corruption::BiasField => "coefficients up to 0.1, 0.2, 0.3, 0.5, 0.7",
            Corruption::Resolution => "voxels of 2, 3, 4, 5, 6 times the side",
            Corruption::Ghosting => "5, 10, 20, 30, 45% of the signal in two ghosts",
            Corruption::Contrast => "an exponent of 1.2, 1.4, 1.7, 2, 2.5 or one over it",
        }
    }

    /// The kind of this name.
    ///
    /// # Errors
    /// If there is none; the message lists all.
    pub fn named(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let all = Self::ALL.map(Corruption::name).join(", ");
            Error::config(format!("no corruption of volumes is called \"{name}\": expected one of {all}"))
        })
    }
}

/// A kind of corruption at one severity, as a transform. What it draws is that of the volume's name, not of
/// the generator that it is handed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Corrupt {
    kind: Corruption,
    severity: u8,
    seed: u64,
}

impl Corrupt {
    /// Another seed is other noise. Severity 0 leaves volumes as they are.
    ///
    /// # Errors
    /// If the severity is above 5.
    pub fn new(kind: Corruption, severity: u8, seed: u64) -> Result<Self> {
        if severity > SEVERITIES {
            return Err(Error::config(format!("severity {severity}: expected 0 (none) to {SEVERITIES}")));
        }
        Ok(Corrupt { kind, severity, seed })
    }

    fn pick<T: Copy>(&self, of: &[T; 5]) -> T {
        of[usize::from(self.severity.clamp(1, SEVERITIES)) - 1]
    }
}

/// Everything that decides what comes out, for the name of what is kept of it.
impl std::fmt::Display for Corrupt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "corrupted by {} {} of seed {}", self.kind.name(), self.severity, self.seed)
    }
}

impl Transform<Volume> for Corrupt {
    type Out = Volume;

    fn apply(&self, volume: Volume, _rng: &mut Rng) -> Result<Volume> {
        if self.severity == 0 {
            return Ok(volume);
        }
        let id = volume.id();
        let name = id.rsplit(['/', '\\']).next().unwrap_or(id);
        let rng = &mut Key::new(self.seed).named(self.kind.name()).named(name).rng();
        match self.kind {
            Corruption::Noise => {
                let (low, high) = range(volume.values());
                let sd = self.pick(&[0.02, 0.04, 0.08, 0.12, 0.2]) * (high - low);
                let rician = volume.values().iter().all(|v| *v >= 0.0);
                Noise { sd: [sd; 2], rician, p: 1.0 }.apply(volume, rng)
            }
            Corruption::BiasField => {
                let bound = self.pick(&[0.1, 0.2, 0.3, 0.5, 0.7]);
                bias(volume, &BiasField { strength: [bound; 2], p: 1.0 }, rng)
            }
            Corruption::Resolution => {
                let factor = self.pick(&[2, 3, 4, 5, 6]);
                LowResolution { factor: [factor; 2], isotropic: true }.apply(volume, rng)
            }
            Corruption::Ghosting => ghosts(volume, self.pick(&[0.05, 0.1, 0.2, 0.3, 0.45]), rng),
            Corruption::Contrast => {
                let exponent = self.pick(&[1.2f32, 1.4, 1.7, 2.0, 2.5]);
                let exponent = if rng.chance(0.5) { exponent } else { 1.0 / exponent };
                Gamma { range: [exponent; 2], invert_p: 0.0, p: 1.0 }.apply(volume, rng)
            }
        }
    }
}

/// The 1st and the 99th percentile; the lowest and the highest value where these are equal.
fn range(values: &[f32]) -> (f32, f32) {
    // A hundred thousand values tell as much as all.
    let mut some: Vec<f32> = values.iter().copied().step_by(values.len().div_ceil(100_000).max(1)).collect();
    some.sort_by(f32::total_cmp);
    let at = |share: f64| some.get((share * some.len() as f64) as usize).copied().unwrap_or(0.0);
    match (at(0.01), at(0.99)) {
        (low, high) if low < high => (low, high),
        _ => values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v))),
    }
}

/// A bias field multiplies signal: intensities from the lowest up, which is 0 where there is no signal.
fn bias(mut volume: Volume, field: &BiasField, rng: &mut Rng) -> Result<Volume> {
    let low = volume.values().iter().copied().fold(f32::INFINITY, f32::min);
    volume.values_mut().iter_mut().for_each(|v| *v -= low);
    let mut made = field.apply(volume, rng)?;
    made.values_mut().iter_mut().for_each(|v| *v += low);
    Ok(made)
}

/// `(1 - a) v(x) + a / 2 (v(x + n / k) + v(x - n / k))` along an axis of `n` voxels, on a circle: the first
/// pair of ghosts of a motion whose period is `k` lines of k-space (Wood and Henkelman 1985, "MR image
/// artifacts from periodic motion"). The axis, y or x, and `k` from 3 to 8 are drawn.
fn ghosts(mut volume: Volume, share: f32, rng: &mut Rng) -> Result<Volume> {
    let along_x = rng.chance(0.5);
    let count = 3 + rng.below(6);
    let [_, h, w] = volume.shape();
    let (n, stride) = if along_x { (w, 1) } else { (h, w) };
    let shift = (n / count).max(1) % n.max(1);
    let clean = volume.values().to_vec();
    for (i, v) in volume.values_mut().iter_mut().enumerate() {
        let at = i / stride % n;
        let first = i - at * stride;
        let ghost = clean[first + (at + shift) % n * stride] + clean[first + (at + n - shift) % n * stride];
        *v = (1.0 - share) * clean[i] + 0.5 * share * ghost;
    }
    Ok(volume)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Grid;

    /// A bright ellipsoid with darker cores on black.
    fn volume(id: &str, low: f32) -> Volume {
        let shape = [20, 24, 28];
        let value = |i: usize| {
            let at = [i / (24 * 28), i / 28 % 24, i % 28];
            let r = [0, 1, 2].map(|a| (at[a] as f32 + 0.5) / shape[a] as f32 - 0.5);
            let inside = r.iter().map(|v| v * v).sum::<f32>() < 0.16;
            let core = (r[1] * 20.0).sin() * (r[2] * 15.0).cos();
            low + if inside { 600.0 + 250.0 * core } else { 0.0 }
        };
        let grid = Grid::with_spacing(shape, [1.0; 3]).unwrap();
        Volume::new(id, grid, (0..20 * 24 * 28).map(value).collect()).unwrap()
    }

    fn made(kind: Corruption, severity: u8, seed: u64, id: &str) -> Volume {
        let corrupt = Corrupt::new(kind, severity, seed).unwrap();
        corrupt.apply(volume(id, 0.0), &mut Key::new(99).rng()).unwrap()
    }

    #[test]
    fn severity_0_is_the_volume_and_more_is_further_from_it() {
        for kind in Corruption::ALL {
            assert_eq!(made(kind, 0, 1, "a"), volume("a", 0.0));
            let distance = |severity: u8| {
                let of = |seed: u64| {
                    let made = made(kind, severity, seed, "a");
                    let clean = volume("a", 0.0);
                    made.values()
                        .iter()
                        .zip(clean.values())
                        .map(|(a, b)| f64::from((a - b).abs()))
                        .sum::<f64>()
                };
                (0..8).map(of).sum::<f64>()
            };
            let distances: Vec<f64> = (1..=5).map(distance).collect();
            assert!(distances[0] > 0.0, "{}", kind.name());
            assert!(distances.windows(2).all(|d| d[1] > d[0]), "{}: {distances:?}", kind.name());
        }
    }

    #[test]
    fn what_is_drawn_depends_on_seed_and_name() {
        for kind in [Corruption::Noise, Corruption::BiasField, Corruption::Ghosting] {
            assert_eq!(made(kind, 3, 1, "x/a.nii").values(), made(kind, 3, 1, "y/a.nii").values());
            assert!(
                (0..8).any(|seed| made(kind, 3, seed, "a").values() != made(kind, 3, 8, "a").values()),
                "{}",
                kind.name()
            );
            assert!((0..8).any(|s| made(kind, 3, s, "a").values() != made(kind, 3, s, "b").values()));
        }
    }

    #[test]
    fn closed_forms() {
        // Of nothing but signal the noise has the stated deviation; CT may be negative, so it is Gaussian.
        let noisy = Corrupt::new(Corruption::Noise, 5, 0)
            .unwrap()
            .apply(volume("a", -1000.0), &mut Key::new(0).rng())
            .unwrap();
        let clean = volume("a", -1000.0);
        let gap: Vec<f64> =
            noisy.values().iter().zip(clean.values()).map(|(a, b)| f64::from(a - b)).collect();
        let sd = (gap.iter().map(|g| g * g).sum::<f64>() / gap.len() as f64).sqrt();
        let (low, high) = range(clean.values());
        assert!((sd / f64::from(0.2 * (high - low)) - 1.0).abs() < 0.03, "{sd}");
        // Ghosts keep the sum, and what has no signal in its row has no ghost.
        let ghosted = made(Corruption::Ghosting, 4, 0, "a");
        let sum = |v: &Volume| v.values().iter().map(|v| f64::from(*v)).sum::<f64>();
        assert!((sum(&ghosted) / sum(&volume("a", 0.0)) - 1.0).abs() < 1e-4);
        // A bias field leaves the lowest value where it is, at any offset.
        let biased = Corrupt::new(Corruption::BiasField, 5, 0)
            .unwrap()
            .apply(volume("a", -1000.0), &mut Key::new(0).rng())
            .unwrap();
        assert_eq!(biased.values().iter().copied().fold(f32::INFINITY, f32::min), -1000.0);
    }

    #[test]
    fn wrong_names_severities_and_small_volumes() {
        for kind in Corruption::ALL {
            assert_eq!(Corruption::named(kind.name()).unwrap(), kind);
            let one = Volume::new("v", Grid::with_spacing([1, 1, 1], [1.0; 3]).unwrap(), vec![3.0]).unwrap();
            let flat =
                Volume::new("v", Grid::with_spacing([2, 3, 1], [1.0; 3]).unwrap(), vec![0.0; 6]).unwrap();
            for v in [one, flat] {
                let made = Corrupt::new(kind, 5, 0).unwrap().apply(v, &mut Key::new(0).rng()).unwrap();
                assert!(made.values().iter().all(|v| v.is_finite()), "{}", kind.name());
            }
        }
        let error = Corruption::named("fog").unwrap_err().to_string();
        assert!(error.contains("fog") && error.contains("bias_field, resolution"), "{error}");
        assert!(Corrupt::new(Corruption::Noise, 6, 0).unwrap_err().to_string().contains("severity 6"));
    }
}
