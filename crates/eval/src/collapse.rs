//! Has the encoder collapsed? Three symptoms, none of which needs labels.
//!
//! - *Spread*: standard deviation per dimension of the L2-normalised embeddings, times `sqrt(d)`. It is 0 if
//!   every sample has the same embedding and about 1 if directions are uniform (Chen and He 2021, SimSiam,
//!   arXiv 2011.10566, section 4.1).
//! - *Dead dimensions*: those that hardly vary.
//! - *Effective rank* of the centred embeddings: how many directions carry the variation (dimensional
//!   collapse: Jing et al. 2022, arXiv 2110.09348).

use crate::data::Features;
use crate::knn::normalize_rows;
use crate::math::{centered, singular_values};
use crate::metrics::rankme;
use selfsup_core::{Error, Result};

/// The verdict on the symptoms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Verdict {
    /// No sign of collapse.
    Healthy,
    /// Samples differ, but only along few directions.
    Dimensional,
    /// All samples have nearly the same embedding.
    Complete,
}

/// The symptoms, the verdict, and a sentence about it.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CollapseReport {
    /// The verdict.
    pub verdict: Verdict,
    /// The same in a sentence.
    pub sentence: String,
    /// Samples.
    pub samples: usize,
    /// Dimensions.
    pub dimensions: usize,
    /// Mean over dimensions of the standard deviation of the normalised embeddings, times `sqrt(d)`: 0
    /// collapsed, 1 uniform.
    pub spread: f64,
    /// Share of dimensions whose standard deviation is below a hundredth of the largest dimension's.
    pub dead: f64,
    /// Effective rank of the centred embeddings, at most `min(samples - 1, dimensions)`.
    pub effective_rank: f64,
    /// RankMe of the embeddings as they are.
    pub rankme: f64,
    /// Standard deviation of each dimension of the normalised embeddings, `(d)`.
    pub std: Vec<f64>,
}

/// Below this spread all embeddings count as equal: a mean cosine similarity above 0.998.
const COMPLETE: f64 = 0.05;
/// Below this share of the possible rank, variation counts as confined.
const CONFINED: f64 = 0.05;

/// Looks at embeddings `(n, d)`.
///
/// # Errors
/// If there are fewer than two samples.
pub fn diagnose(z: Features<'_>) -> Result<CollapseReport> {
    let (n, d) = (z.n(), z.d());
    if n < 2 {
        return Err(Error::input("embeddings", "1 sample, expected at least 2"));
    }
    let unit = normalize_rows(z);
    let (deviations, _) = centered(&unit, d);
    let mut std = vec![0f64; d];
    for row in deviations.chunks_exact(d) {
        std.iter_mut().zip(row).for_each(|(s, v)| *s += v * v);
    }
    std.iter_mut().for_each(|s| *s = (*s / n as f64).sqrt());
    let spread = std.iter().sum::<f64>() / d as f64 * (d as f64).sqrt();
    let largest = std.iter().copied().fold(0.0, f64::max);
    // Where nothing varies at all, every dimension is dead; 1e-6 is what f32 rounding alone leaves.
    let dead = std.iter().filter(|s| **s < 0.01 * largest || **s <= 1e-6).count() as f64 / d as f64;
    let effective_rank = if largest <= 1e-6 {
        0.0
    } else {
        crate::metrics::entropy_rank(&singular_values(&deviations, d)?, 0.0)?
    };
    let possible = (n - 1).min(d) as f64;
    let verdict = if spread < COMPLETE {
        Verdict::Complete
    } else if possible >= 8.0 && (effective_rank < (CONFINED * possible).max(2.0) || dead > 0.5) {
        Verdict::Dimensional
    } else {
        Verdict::Healthy
    };
    let percent = 100.0 * dead;
    let sentence = match verdict {
        Verdict::Complete => format!(
            "Complete collapse: all {n} samples have nearly the same embedding (spread {spread:.3}, where 0 is identical and 1 uniform); \
             the features cannot tell samples apart."
        ),
        Verdict::Dimensional => format!(
            "Dimensional collapse: the embeddings vary along only about {effective_rank:.1} of {possible:.0} possible directions, and \
             {percent:.0}% of the {d} dimensions are dead."
        ),
        Verdict::Healthy => format!(
            "No sign of collapse: the embeddings vary along about {effective_rank:.1} of {possible:.0} possible directions \
             (spread {spread:.2}, {percent:.0}% of the {d} dimensions dead)."
        ),
    };
    let rankme = rankme(z).unwrap_or(0.0);
    Ok(CollapseReport {
        verdict,
        sentence,
        samples: n,
        dimensions: d,
        spread,
        dead,
        effective_rank,
        rankme,
        std,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;
    use selfsup_core::Key;

    fn make(f: impl Fn(&mut selfsup_core::Rng, usize) -> f32, n: usize, d: usize) -> CollapseReport {
        let mut r = Key::new(1).rng();
        diagnose(Matrix::new((0..n * d).map(|i| f(&mut r, i)).collect(), n, d).unwrap().view()).unwrap()
    }

    #[test]
    fn tells_the_kinds_of_collapse_apart() {
        let healthy = make(|r, _| r.normal(), 500, 32);
        assert_eq!(healthy.verdict, Verdict::Healthy);
        assert!(
            (healthy.spread - 1.0).abs() < 0.02 && healthy.dead == 0.0 && healthy.effective_rank > 30.0,
            "{healthy:?}"
        );
        let same = make(|_, i| (i % 32) as f32 + 1.0, 100, 32);
        assert_eq!((same.verdict, same.dead, same.effective_rank), (Verdict::Complete, 1.0, 0.0));
        let nearly = make(|r, i| (i % 32) as f32 + 1.0 + 0.01 * r.normal(), 100, 32);
        assert_eq!(nearly.verdict, Verdict::Complete, "{nearly:?}");
        let dead = make(|r, i| if i % 32 < 6 { r.normal() } else { 0.0 }, 500, 32);
        assert_eq!(dead.verdict, Verdict::Dimensional);
        assert!((dead.dead - 26.0 / 32.0).abs() < 1e-9 && (dead.effective_rank - 6.0).abs() < 0.1);
        let mut r = Key::new(2).rng();
        let scalars: Vec<f32> = (0..500).map(|_| r.normal()).collect();
        let line = make(|_, i| scalars[i / 64] * ((i % 64) as f32 - 20.0), 500, 64);
        assert_eq!(line.verdict, Verdict::Dimensional, "{line:?}");
        let relu = make(|r, _| r.normal().max(0.0), 500, 32);
        assert_eq!(relu.verdict, Verdict::Healthy, "{relu:?}");
        assert!(
            healthy.sentence.starts_with("No sign") && dead.sentence.contains("81%"),
            "{}",
            dead.sentence
        );
        assert!(diagnose(Matrix::new(vec![1.0], 1, 1).unwrap().view()).is_err());
        let zero = make(|_, _| 0.0, 4, 3);
        assert_eq!(zero.verdict, Verdict::Complete);
    }
}
