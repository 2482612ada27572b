//! Few-shot episodes: how well a handful of labelled samples tells new classes apart.
//!
//! An episode draws `ways` classes, `shots` samples of each to learn from and up to `queries` others of each to be
//! told (Vinyals et al. 2016, arXiv 1606.04080). Two classifiers on frozen features, both of L2-normalised rows:
//! the nearest class mean (Snell et al. 2017, arXiv 1703.05175), and logistic regression (Tian et al. 2020, arXiv
//! 2003.11539: C = 1, not standardised). Results are means over episodes with a 95% interval, `1.96 s / sqrt(episodes)`.

use crate::data::{Features, Matrix, check_labels};
use crate::knn::normalize_rows;
use crate::linear::{LinearProbe, LogisticConfig, Standardizer};
use crate::math::dot;
use rayon::prelude::*;
use selfsup_core::{Error, Key, Result};

/// What an episode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct EpisodeConfig {
    /// Classes of an episode.
    pub ways: usize,
    /// Labelled samples of each class.
    pub shots: usize,
    /// Samples of each class to be told, at most.
    pub queries: usize,
    /// Episodes.
    pub episodes: usize,
}

impl Default for EpisodeConfig {
    /// 600 episodes of five classes, five samples of each, 15 to be told.
    fn default() -> Self {
        EpisodeConfig { ways: 5, shots: 5, queries: 15, episodes: 600 }
    }
}

/// A mean and half of its 95% interval.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// Half of the interval.
    pub half: f64,
}

impl Interval {
    /// Of independent values; of one value the interval is not known, and 0.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / n;
        let square = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        Interval { mean, half: 1.96 * (square / n).sqrt() }
    }
}

/// Accuracies over episodes, in percent.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Episodes {
    /// What an episode was.
    pub config: EpisodeConfig,
    /// By the nearest class mean.
    pub nearest: Interval,
    /// By logistic regression.
    pub logistic: Interval,
}

/// Runs episodes on features `(n, d)` with labels. Classes with fewer than `shots + 1` samples are left out.
///
/// # Errors
/// If fewer than `ways` classes are left, a size is 0, or labels do not fit.
pub fn episodes(
    z: Features<'_>,
    labels: &[u32],
    classes: usize,
    config: &EpisodeConfig,
    key: Key,
) -> Result<Episodes> {
    check_labels("episodes", labels, z.n(), classes)?;
    let EpisodeConfig { ways, shots, queries, episodes } = *config;
    if ways < 2 || shots == 0 || queries == 0 || episodes == 0 {
        let problem = format!(
            "{ways} classes, {shots} shots, {queries} queries, {episodes} episodes: expected at least 2, 1, 1 and 1"
        );
        return Err(Error::input("episodes", problem));
    }
    let mut of_class = vec![Vec::new(); classes];
    labels.iter().enumerate().for_each(|(i, y)| of_class[*y as usize].push(i));
    of_class.retain(|samples| samples.len() > shots);
    if of_class.len() < ways {
        let problem = format!(
            "{} classes have more than {shots} samples: expected {ways} at least, or fewer shots",
            of_class.len()
        );
        return Err(Error::too_few("episodes", problem));
    }
    let unit = Matrix::new(normalize_rows(z), z.n(), z.d())?;
    let one = |i: usize| -> Result<[f64; 2]> {
        let mut rng = key.fold(i as u64).rng();
        let chosen = rng.permutation(of_class.len());
        let (mut support, mut support_labels, mut query, mut query_labels) = (vec![], vec![], vec![], vec![]);
        for (way, class) in chosen.into_iter().take(ways).enumerate() {
            let samples = &of_class[class];
            for (at, k) in rng.permutation(samples.len()).into_iter().take(shots + queries).enumerate() {
                let (to, named) = if at < shots {
                    (&mut support, &mut support_labels)
                } else {
                    (&mut query, &mut query_labels)
                };
                to.push(samples[k]);
                named.push(way as u32);
            }
        }
        let (support, query) = (unit.view().select(&support)?, unit.view().select(&query)?);
        let share = |told: &[u32]| {
            let right = told.iter().zip(&query_labels).filter(|(a, b)| a == b).count();
            100.0 * right as f64 / query_labels.len().max(1) as f64
        };
        let told = told(support.view(), &support_labels, ways, query.view())?;
        Ok([share(&told.nearest), share(&told.logistic)])
    };
    let found = (0..episodes).into_par_iter().map(one).collect::<Result<Vec<_>>>()?;
    let of = |k: usize| Interval::of(&found.iter().map(|v| v[k]).collect::<Vec<_>>());
    Ok(Episodes { config: *config, nearest: of(0), logistic: of(1) })
}

/// The classes that the two classifiers of an episode give its queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// By the nearest class mean.
    pub nearest: Vec<u32>,
    /// By logistic regression with C = 1.
    pub logistic: Vec<u32>,
}

/// Tells the classes of the `query` rows `(q, d)` from labelled `support` rows `(n, d)` of `ways` classes, all rows
/// L2-normalised already.
///
/// # Errors
/// If shapes or labels do not fit.
pub fn told(support: Features<'_>, labels: &[u32], ways: usize, query: Features<'_>) -> Result<Told> {
    let settings = LogisticConfig { c: 1.0, ..LogisticConfig::default() };
    let as_they_are = Standardizer::none(support.d());
    let probe = LinearProbe::fit_after(as_they_are, support, labels, ways, &settings)?;
    Ok(Told { nearest: nearest_means(support, labels, ways, query), logistic: probe.predict(query)? })
}

/// The class whose mean is nearest, for each query.
fn nearest_means(support: Features<'_>, labels: &[u32], ways: usize, query: Features<'_>) -> Vec<u32> {
    let d = support.d();
    let mut means = vec![vec![0f64; d]; ways];
    let mut counts = vec![0f64; ways];
    for (i, &y) in labels.iter().enumerate() {
        counts[y as usize] += 1.0;
        means[y as usize].iter_mut().zip(support.row(i)).for_each(|(m, v)| *m += f64::from(*v));
    }
    for (mean, count) in means.iter_mut().zip(&counts) {
        mean.iter_mut().for_each(|m| *m /= count.max(1.0));
    }
    let told = |row: &[f32]| {
        let row: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
        let mut best = (f64::INFINITY, 0);
        for (y, mean) in means.iter().enumerate() {
            let distance = dot(mean, mean) - 2.0 * dot(mean, &row);
            if distance < best.0 {
                best = (distance, y as u32);
            }
        }
        best.1
    };
    (0..query.n()).map(|i| told(query.row(i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Classes on axes with noise of this size.
    fn axes(noise: f32, classes: usize, each: usize) -> (Matrix, Vec<u32>) {
        let mut r = Key::new(5).rng();
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        for i in 0..classes * each {
            let class = i % classes;
            rows.extend((0..classes).map(|j| f32::from(u8::from(j == class)) + noise * r.normal()));
            labels.push(class as u32);
        }
        (Matrix::new(rows, classes * each, classes).unwrap(), labels)
    }

    #[test]
    fn classes_that_are_apart_are_told_and_noise_is_not() {
        let config = EpisodeConfig { episodes: 40, ..EpisodeConfig::default() };
        let run = |noise, config: &EpisodeConfig| {
            let (z, labels) = axes(noise, 8, 30);
            episodes(z.view(), &labels, 8, config, Key::new(1)).unwrap()
        };
        let apart = run(0.02, &config);
        assert_eq!((apart.nearest.mean, apart.nearest.half, apart.logistic.mean), (100.0, 0.0, 100.0));
        let noise = run(1e4, &config);
        assert!(
            (noise.nearest.mean - 20.0).abs() < 4.0 && (noise.logistic.mean - 20.0).abs() < 4.0,
            "{noise:?}"
        );
        assert!(noise.nearest.half > 0.5 && noise.nearest.half < 4.0);
        let (one, five) = (run(0.6, &EpisodeConfig { shots: 1, ..config }), run(0.6, &config));
        assert!(five.nearest.mean > one.nearest.mean + 5.0, "{one:?} {five:?}");
        assert_eq!(run(0.6, &config), five, "the same draws again");
    }

    #[test]
    fn too_little_is_refused() {
        let (z, labels) = axes(0.1, 4, 5);
        let of = |ways, shots| {
            let config = EpisodeConfig { ways, shots, episodes: 2, ..EpisodeConfig::default() };
            episodes(z.view(), &labels, 4, &config, Key::new(1))
        };
        assert!(of(4, 4).is_ok());
        assert!(of(5, 1).unwrap_err().to_string().contains("4 classes have more than 1 samples"));
        assert!(of(4, 5).is_err() && of(1, 1).is_err());
    }

    #[test]
    fn intervals_in_closed_form() {
        let i = Interval::of(&[1.0, 3.0, 5.0, 7.0]);
        // s^2 = 20 / 3.
        assert!((i.mean - 4.0).abs() < 1e-12 && (i.half - 1.96 * (20f64 / 12.0).sqrt()).abs() < 1e-12);
        assert_eq!(Interval::of(&[2.0]), Interval { mean: 2.0, half: 0.0 });
    }
}
