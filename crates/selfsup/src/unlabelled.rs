//! What can be said of a representation without labels: whether it has collapsed, how evenly it spreads, and
//! whether two views of a sample are nearer to each other than to other samples.

use crate::config::Read;
use crate::evaluate::{encode, encode_parts, encode_views};
use crate::geometry::Geometry;
use crate::modality::Modality;
use crate::screen::unreadable;
use crate::set::{Set, evenly};
use candle_core::Device;
use selfsup_core::data::LoaderConfig;
use selfsup_core::{Encoder, Result};
use selfsup_eval::knn::{normalize_rows, top_k};
use selfsup_eval::metrics::{alignment, lidar, uniformity};
use selfsup_eval::{Matrix, collapse};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Samples that are looked at.
const SAMPLES: usize = 1000;
/// Samples of which LiDAR sees several views, and how many.
const LIDAR: (usize, u64) = (250, 4);

/// Measures of one encoder; features are L2-normalised for alignment, uniformity and recall.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Measures {
    /// Spread, dead dimensions and effective rank.
    pub collapse: collapse::CollapseReport,
    /// Mean squared distance of two views of a sample (Wang and Isola 2020, arXiv 2005.10242): 0 if they are
    /// the same, 2 if they are unrelated. `None` for parts of one sample.
    pub alignment: Option<f64>,
    /// `log mean exp(-2 |x - y|^2)` over pairs of samples: 0 for one point, lower the more even.
    pub uniformity: f64,
    /// Share of the samples, in percent, of which one view's nearest neighbour among the other views is its own
    /// sample's. `None` for parts of one sample.
    pub view_recall: Option<f64>,
    /// Decay of variance, intrinsic dimension, learnability.
    pub geometry: Geometry,
    /// LiDAR over four views each of up to 250 samples: how many directions tell samples apart more than their
    /// views differ. `None` where views are all alike.
    pub lidar: Option<f64>,
}

/// The trained encoder beside the same one with random weights.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Unlabelled {
    /// The trained encoder.
    pub trained: Measures,
    /// The encoder with random weights.
    pub random: Measures,
    /// Samples that were looked at, or parts of the only one.
    pub samples: usize,
    /// Whether they are parts of one sample: patches of a volume, windows of a recording.
    pub parts: bool,
    /// Whether the modality makes other views of a sample each time; if not, the measures of views mean nothing
    /// and are not shown.
    pub views_differ: bool,
}

impl Unlabelled {
    /// Measures on up to 1,000 samples of `set`; of a single sample on its parts, where it has several
    /// inputs, without the measures of views. `None` where there are fewer than two to compare. Where
    /// `loader` lets samples be bad, those that cannot be read are left out.
    ///
    /// # Errors
    /// If a sample cannot be read and none may be bad.
    pub fn measure<M: Modality>(
        modality: &M,
        [trained, random]: [&dyn Encoder; 2],
        set: &Set,
        read: Read,
        loader: &LoaderConfig,
        device: &Device,
    ) -> Result<Option<Self>> {
        let mut set = set.clone().limit(SAMPLES)?;
        if loader.max_bad_fraction > 0.0 {
            let bad: BTreeSet<usize> =
                unreadable(modality, &set, loader.workers)?.into_iter().map(|(i, _)| i).collect();
            set = set.part((0..set.len()).filter(|i| !bad.contains(i)).collect())?;
        }
        if set.is_empty() {
            return Ok(None);
        }
        if set.len() == 1 {
            return Self::of_parts(modality, [trained, random], &set, read, loader, device);
        }
        let mut views_differ = false;
        let mut of = |encoder: &dyn Encoder| -> Result<Measures> {
            let views = |epoch| encode_views(modality, encoder, &set, read, loader, device, epoch);
            let plain = encode(modality, encoder, &set, read, loader, device)?;
            let (one, other) = (views(0)?, views(1)?);
            views_differ |= one.view().as_slice() != other.view().as_slice();
            let several = set.clone().limit(LIDAR.0)?;
            let mut rows = Vec::new();
            for view in 0..LIDAR.1 {
                rows.push(encode_views(modality, encoder, &several, read, loader, device, view)?);
            }
            // The views of a sample follow each other.
            let grouped: Vec<f32> = (0..several.len())
                .flat_map(|i| rows.iter().flat_map(move |view| view.view().row(i).iter().copied()))
                .collect();
            let grouped = Matrix::new(grouped, several.len() * rows.len(), plain.d())?;
            let unit = |m: &Matrix| Matrix::new(normalize_rows(m.view()), m.view().n(), m.view().d());
            let (plain_unit, one, other) = (unit(&plain)?, unit(&one)?, unit(&other)?);
            let nearest = top_k(one.view(), other.view(), 1)?;
            let own = nearest.index.iter().enumerate().filter(|(i, found)| **found as usize == *i).count();
            Ok(Measures {
                collapse: collapse::diagnose(plain.view())?,
                alignment: Some(alignment(one.view(), other.view())?),
                uniformity: uniformity(plain_unit.view())?,
                view_recall: Some(100.0 * own as f64 / set.len() as f64),
                geometry: Geometry::of(plain.view())?,
                lidar: lidar(grouped.view(), rows.len(), 1e-4).ok(),
            })
        };
        let (trained, random) = (of(trained)?, of(random)?);
        Ok(Some(Unlabelled { trained, random, samples: set.len(), parts: false, views_differ }))
    }

    /// Measures on the parts of the only sample.
    fn of_parts<M: Modality>(
        modality: &M,
        [trained, random]: [&dyn Encoder; 2],
        set: &Set,
        read: Read,
        loader: &LoaderConfig,
        device: &Device,
    ) -> Result<Option<Self>> {
        let rows = |encoder| -> Result<Matrix> {
            let all = encode_parts(modality, encoder, set, read, loader, device)?;
            let (n, d) = (all.view().n(), all.view().d());
            let some = n.min(SAMPLES);
            let kept = evenly(some, n).flat_map(|i| all.view().row(i).to_vec()).collect();
            Matrix::new(kept, some, d)
        };
        let of = |rows: &Matrix| -> Result<Measures> {
            let unit = Matrix::new(normalize_rows(rows.view()), rows.view().n(), rows.view().d())?;
            Ok(Measures {
                collapse: collapse::diagnose(rows.view())?,
                alignment: None,
                uniformity: uniformity(unit.view())?,
                view_recall: None,
                geometry: Geometry::of(rows.view())?,
                lidar: None,
            })
        };
        let (trained, random) = (rows(trained)?, rows(random)?);
        let samples = trained.view().n();
        if samples < 2 {
            return Ok(None);
        }
        let (trained, random) = (of(&trained)?, of(&random)?);
        Ok(Some(Unlabelled { trained, random, samples, parts: true, views_differ: false }))
    }

    /// The verdict, then a table.
    pub fn shown(&self) -> String {
        let mut out = String::new();
        let (trained, random) = (&self.trained, &self.random);
        let _ = writeln!(out, "without labels: {}", self.verdict());
        let _ = writeln!(out, "{:<44}{:>12}{:>16}", "", "trained", "random encoder");
        let mut row = |name: &str, of: &dyn Fn(&Measures) -> String| {
            let _ = writeln!(out, "{name:<44}{:>12}{:>16}", of(trained), of(random));
        };
        row("effective rank", &|m| format!("{:.1}", m.collapse.effective_rank));
        row("spread (0 collapsed, 1 even)", &|m| format!("{:.3}", m.collapse.spread));
        row("uniformity (lower is more even)", &|m| format!("{:.2}", m.uniformity));
        for (i, (name, _)) in trained.geometry.rows().into_iter().enumerate() {
            row(name, &|m| m.geometry.rows()[i].1.clone());
        }
        if self.views_differ {
            row("LiDAR", &|m| m.lidar.map_or("-".into(), |v| format!("{v:.1}")));
            let shown = |v: Option<f64>, digits| v.map_or("-".into(), |v| format!("{v:.digits$}"));
            row("alignment of two views (lower is closer)", &|m| shown(m.alignment, 3));
            row("view finds its sample, %", &|m| shown(m.view_recall, 1));
        }
        let _ = writeln!(
            out,
            "(on {} {}; labels say what a representation is good for: data.labels)",
            self.samples,
            if self.parts { "parts of one sample" } else { "samples" }
        );
        out
    }

    fn verdict(&self) -> String {
        let (trained, random) = (&self.trained, &self.random);
        let whole = trained.collapse.sentence.trim_end_matches('.');
        let healthy = trained.collapse.verdict == collapse::Verdict::Healthy;
        if !healthy && !self.parts {
            return trained.collapse.sentence.clone();
        }
        if self.parts {
            return format!(
                "{whole}; measured on {} parts of the only sample, since one has none to be compared with.",
                self.samples
            );
        }
        if !self.views_differ {
            return format!("{whole}.");
        }
        let (Some(a), Some(b)) = (trained.view_recall, random.view_recall) else {
            return format!("{whole}.");
        };
        let than = if a > b { "more often than" } else { "no more often than" };
        format!(
            "{whole}; a view finds its own sample among {} in {a:.1}%, {than} with random weights ({b:.1}%).",
            self.samples
        )
    }
}
