//! The geometry of features, which needs no labels: how evenly variance is spread, how many dimensions the
//! samples fill, and how soon clusters can be told.

use selfsup_core::{Key, Result};
use selfsup_eval::Features;
use selfsup_eval::metrics::{alpha_range, alpha_req, cluster_learnability, two_nn};
use std::time::Instant;

/// Samples that are looked at.
const SAMPLES: usize = 1000;
/// Clusterings that learnability is averaged over.
const CLUSTERINGS: u64 = 5;

/// Measures of one set of features; `None` where one is not defined (all samples alike, too few of them).
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Geometry {
    /// Decay of the spectrum (alpha-ReQ): about 1 in good representations.
    pub alpha: Option<f64>,
    /// Share of that decay which a straight line explains.
    pub alpha_r2: Option<f64>,
    /// Intrinsic dimension by two nearest neighbours.
    pub intrinsic_dimension: Option<f64>,
    /// Cluster learnability, between 0 and 1.
    pub learnability: Option<f64>,
    /// Samples that were looked at.
    pub samples: usize,
    /// What it took.
    pub seconds: f64,
}

impl Geometry {
    /// Measures up to 1,000 rows of `z`, evenly over the whole.
    ///
    /// # Errors
    /// Never for features that exist.
    pub fn of(z: Features<'_>) -> Result<Self> {
        let started = Instant::now();
        let n = z.n().min(SAMPLES);
        let rows = z.select(&(0..n).map(|i| i * z.n() / n).collect::<Vec<_>>())?;
        let z = rows.view();
        let (first, last) = alpha_range(z.n(), z.d());
        let decay = alpha_req(z, first, last).ok();
        Ok(Geometry {
            alpha: decay.as_ref().map(|d| d.alpha),
            alpha_r2: decay.as_ref().map(|d| d.r2),
            intrinsic_dimension: two_nn(z, 0.1).ok().map(|d| d.likelihood),
            learnability: cluster_learnability(z, CLUSTERINGS, Key::new(0)).ok(),
            samples: n,
            seconds: started.elapsed().as_secs_f64(),
        })
    }

    /// Names and values for a table.
    pub fn rows(&self) -> [(&'static str, String); 3] {
        let shown = |v: Option<f64>, digits: usize| v.map_or("-".into(), |v| format!("{v:.digits$}"));
        let alpha = match (self.alpha, self.alpha_r2) {
            (Some(alpha), Some(r2)) => format!("{alpha:.2} ({r2:.2})"),
            _ => "-".into(),
        };
        [
            ("decay of variance (its fit)", alpha),
            ("intrinsic dimension", shown(self.intrinsic_dimension, 1)),
            ("cluster learnability", shown(self.learnability, 2)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_eval::Matrix;

    #[test]
    fn a_plane_in_many_dimensions() {
        let mut r = Key::new(1).rng();
        let data = (0..2400).flat_map(|_| {
            let (a, b) = (r.uniform(), r.uniform());
            (0..30).map(move |j| (a * (j % 7) as f32) + b * (j % 5) as f32)
        });
        let z = Matrix::new(data.collect(), 2400, 30).unwrap();
        let g = Geometry::of(z.view()).unwrap();
        assert_eq!(g.samples, 1000);
        assert!((g.intrinsic_dimension.unwrap() - 2.0).abs() < 0.2, "{g:?}");
        assert!(g.alpha.is_none(), "two directions have no decay: {g:?}");
        assert!(g.learnability.unwrap() > 0.5, "{g:?}");
        let same = Matrix::new(vec![1.0; 40], 20, 2).unwrap();
        let g = Geometry::of(same.view()).unwrap();
        assert_eq!((g.alpha, g.intrinsic_dimension), (None, None));
        assert_eq!(g.rows()[0].1, "-");
    }
}
