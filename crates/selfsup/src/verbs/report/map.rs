//! The map of a run: its samples embedded anew, laid out in a plane, with their neighbours, what their
//! neighbours in the training part say they are, and how far they lie from the others.

use super::metrics::short;
use super::samples::Galleries;
use crate::config::Keys;
use crate::evaluate::encode;
use crate::modality::Modality;
use crate::screen::screened;
use crate::set::Set;
use crate::verbs::Opened;
use crate::verbs::parts::{Parts, parts};
use selfsup_core::data::LoaderConfig;
use selfsup_core::{Error, Result};
use selfsup_eval::Matrix;
use selfsup_eval::knn::{KnnConfig, classify, normalize_rows};
use selfsup_eval::metrics::Confusion;
use selfsup_eval::projection::{TsneConfig, pca, tsne};
use selfsup_eval::search::{nearest, strangeness};
use serde::Serialize;
use std::collections::BTreeMap;

/// Samples that t-SNE places: exact, so its time grows with the square.
const TSNE: usize = 2500;
/// Principal components that t-SNE reads.
const COMPONENTS: usize = 50;
/// Neighbours of each sample on the page.
const NEAR: usize = 6;
/// Places are whole numbers up to this.
const GRID: f64 = 9999.0;

/// Places of samples in a plane.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Layout {
    /// `tsne` or `pca`.
    name: &'static str,
    /// The samples that have a place, where not all have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<Vec<usize>>,
    /// Two whole numbers from 0 to 9,999 each.
    xy: Vec<u16>,
    /// What is to be known of it.
    note: String,
}

/// What the votes of neighbours come to.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Guessed {
    /// The class that each sample's neighbours say.
    class: Vec<u32>,
    /// `(classes, classes)`: true by said.
    confusion: Vec<u64>,
    /// In percent.
    accuracy: f64,
    /// Training samples that voted, and how many of them for a sample.
    voters: usize,
    k: usize,
}

/// The map of a run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Mapped {
    /// Samples.
    n: usize,
    /// Which part of the data they are.
    part: &'static str,
    /// All samples of that part.
    of: usize,
    /// Samples trained on, held out and to test on.
    counts: [usize; 3],
    /// What samples are called.
    called: String,
    /// Width of the features.
    dimensions: usize,
    /// Names of the classes.
    classes: Vec<String>,
    /// The class of each sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<Vec<Option<u32>>>,
    /// The group of each sample, numbered by their first samples: groups have no names here.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<Vec<Option<u32>>>,
    /// 1,000 times the distance to the ten nearest.
    strange: Vec<u32>,
    /// The nearest of each sample, and 1,000 times their cosine similarity.
    near: Vec<u32>,
    similar: Vec<i32>,
    k: usize,
    layouts: Vec<Layout>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guessed: Option<Guessed>,
    /// The same number for maps of the same samples.
    same: usize,
    /// The samples themselves, where they are on the page.
    #[serde(skip_serializing_if = "Option::is_none")]
    gallery: Option<usize>,
}

/// Embeds up to `points` samples: those to test on, or held out, or trained on.
///
/// # Errors
/// If samples cannot be read, or fewer than two can.
pub(super) fn map<M: Modality>(
    opened: &Opened<M>,
    data: Option<&str>,
    points: usize,
    galleries: &mut Galleries,
    samples: bool,
) -> Result<Mapped> {
    let Opened { modality, config, .. } = opened;
    let Parts { shown, voters, part, counts } = parts(opened, data)?;
    let of = shown.len();
    let shown = screened(modality, shown.limit(points)?, 1.0, config.train.workers, "samples of the map")?;
    let features = features(opened, &shown)?;
    if features.n() < 2 {
        return Err(Error::input(&config.data.path, "1 sample: a map takes 2 or more"));
    }
    let labels = (0..shown.len()).map(|i| shown.records().label(i)).collect::<Vec<_>>();
    let labels = (!shown.classes().is_empty() && labels.iter().any(Option::is_some)).then_some(labels);
    let guessed = match (&voters, shown.labels()) {
        (Some(voters), Some(labels)) => {
            Some(guess(opened, voters, &features, &labels, shown.classes().len())?)
        }
        _ => None,
    };
    let k = NEAR.min(features.n() - 1);
    let (near, similar) = neighbours(&features, k)?;
    let unit = Matrix::new(normalize_rows(features.view()), features.n(), features.d())?;
    let key = shown.description(M::Keys::KIND, false)?;
    let same = galleries.number(&key);
    let gallery = modality.shows().filter(|_| samples).and_then(|shows| galleries.of(key, shows, &shown));
    Ok(Mapped {
        n: shown.len(),
        part,
        of,
        counts,
        called: M::Keys::KIND.samples().to_string(),
        dimensions: features.d(),
        classes: shown.classes().to_vec(),
        label: labels,
        group: groups(&shown),
        strange: strangeness(features.view(), 10)?
            .iter()
            .map(|v| (v * 1000.0).round().max(0.0) as u32)
            .collect(),
        near,
        similar,
        k,
        layouts: layouts(&unit)?,
        guessed,
        same,
        gallery,
    })
}

fn features<M: Modality>(opened: &Opened<M>, set: &Set) -> Result<Matrix> {
    let Opened { modality, config, method, device, .. } = opened;
    let loader = LoaderConfig::in_order(config.eval.batch_size, config.train.workers);
    encode(modality, method.encoder(), set, config.eval.read, &loader, device)
}

/// What the nearest training samples say each sample is.
fn guess<M: Modality>(
    opened: &Opened<M>,
    voters: &Set,
    features: &Matrix,
    labels: &[u32],
    classes: usize,
) -> Result<Guessed> {
    let eval = &opened.config.eval;
    let voters = screened(
        &opened.modality,
        voters.clone(),
        1.0,
        opened.config.train.workers,
        "training samples of the map",
    )?;
    let known = voters.labels().ok_or_else(|| Error::input("training data", "has no labels"))?;
    let train = self::features(opened, &voters)?;
    let config = KnnConfig { k: eval.knn_k.min(known.len()), temperature: eval.knn_temperature };
    let votes = classify(train.view(), &known, features.view(), classes, &config)?;
    let confusion = Confusion::new(&votes.predictions, labels, classes)?;
    Ok(Guessed {
        accuracy: short(100.0 * confusion.accuracy()),
        confusion: confusion.counts().to_vec(),
        class: votes.predictions,
        voters: known.len(),
        k: config.k,
    })
}

/// The `k` nearest other samples of each, and 1,000 times their similarities.
fn neighbours(features: &Matrix, k: usize) -> Result<(Vec<u32>, Vec<i32>)> {
    let found = nearest(features.view(), features.view(), k + 1)?;
    let (mut near, mut similar) = (Vec::new(), Vec::new());
    let rows = found.index.chunks_exact(k + 1).zip(found.score.chunks_exact(k + 1));
    for (i, (index, score)) in rows.enumerate() {
        // Among copies a sample need not come first itself.
        for (j, s) in index.iter().zip(score).filter(|(j, _)| **j as usize != i).take(k) {
            near.push(*j);
            similar.push((s * 1000.0).round() as i32);
        }
    }
    Ok((near, similar))
}

/// Groups by number, in the order of their first samples; `None` where there are none.
fn groups(set: &Set) -> Option<Vec<Option<u32>>> {
    let mut numbers = BTreeMap::new();
    let mut number = |name: String| {
        let next = numbers.len() as u32;
        *numbers.entry(name).or_insert(next)
    };
    let found: Vec<Option<u32>> = (0..set.len()).map(|i| set.records().group(i).map(&mut number)).collect();
    // A group for each sample says nothing.
    (numbers.len() > 1 && numbers.len() < set.len()).then_some(found)
}

/// t-SNE, of a part where there are too many samples, and the first two principal components of all of them.
fn layouts(unit: &Matrix) -> Result<Vec<Layout>> {
    let n = unit.n();
    let plane = pca(unit.view(), 2)?;
    let share = 100.0 * plane.explained.iter().sum::<f64>();
    let mut scores = plane.scores;
    if plane.k == 1 {
        scores = scores.into_iter().flat_map(|v| [v, 0.0]).collect();
    }
    let components = Layout {
        name: "pca",
        index: None,
        xy: on_grid(&scores),
        note: format!(
            "The first two principal components of the features at unit length: they hold {share:.0}% of the \
             variance."
        ),
    };
    if n < 8 {
        return Ok(vec![components]);
    }
    let index: Option<Vec<usize>> = (n > TSNE).then(|| crate::set::evenly(TSNE, n).collect());
    let few = match &index {
        Some(index) => unit.view().select(index)?,
        None => unit.clone(),
    };
    let reduced = pca(few.view(), COMPONENTS)?;
    let start: Vec<f64> = reduced
        .scores
        .chunks_exact(reduced.k)
        .flat_map(|row| [row[0], row.get(1).copied().unwrap_or(0.0)])
        .collect();
    let rows = Matrix::new(reduced.scores.iter().map(|v| *v as f32).collect(), few.n(), reduced.k)?;
    let config = TsneConfig::default();
    let places = tsne(rows.view(), &start, &config)?;
    let shown = match &index {
        None => format!("all {n} samples"),
        Some(index) => format!("{} of the {n} samples, evenly over the whole", index.len()),
    };
    let note = format!(
        "Exact t-SNE of {shown}: perplexity {:.0}, {} steps from the first two of {} principal components. \
         Neighbours stay neighbours; distances between clusters and their sizes mean little.",
        config.perplexity.min((few.n() - 1) as f64 / 3.0),
        config.steps,
        reduced.k
    );
    Ok(vec![Layout { name: "tsne", index, xy: on_grid(&places), note }, components])
}

/// Places scaled to the grid, with the same scale for both axes.
fn on_grid(xy: &[f64]) -> Vec<u16> {
    let bounds = [0, 1].map(|c| {
        let along = || xy.iter().skip(c).step_by(2).copied();
        (along().fold(f64::INFINITY, f64::min), along().fold(f64::NEG_INFINITY, f64::max))
    });
    let widest = bounds.iter().map(|(low, high)| high - low).fold(f64::MIN_POSITIVE, f64::max);
    xy.iter()
        .enumerate()
        .map(|(i, v)| {
            let (low, high) = bounds[i % 2];
            // In the middle of the shorter axis.
            (((v - 0.5 * (low + high)) / widest + 0.5) * GRID).round().clamp(0.0, GRID) as u16
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_datasets::{Record, Records};

    #[test]
    fn places_are_on_the_grid_in_one_scale() {
        assert_eq!(on_grid(&[0.0, 0.0, 2.0, 1.0, 1.0, 0.5]), [0, 2500, 9999, 7499, 5000, 5000]);
        assert_eq!(on_grid(&[3.0, 3.0, 3.0, 3.0]), [5000; 4]);
    }

    #[test]
    fn a_sample_is_no_neighbour_of_itself() {
        let copies = Matrix::new([1.0, 0.0].repeat(5), 5, 2).unwrap();
        let (near, similar) = neighbours(&copies, 3).unwrap();
        assert_eq!((near.len(), similar), (15, vec![1000; 15]));
        assert!(near.chunks(3).enumerate().all(|(i, row)| row.iter().all(|j| *j as usize != i)), "{near:?}");
    }

    struct Grouped;

    impl Records for Grouped {
        fn len(&self) -> usize {
            5
        }
        fn get(&self, index: usize) -> Result<Record> {
            Err(Error::input(index, "is not read"))
        }
        fn group(&self, index: usize) -> Option<String> {
            ["Smith, John", "Abel", "Smith, John", "Abel", ""].get(index).map(|g| g.to_string())
        }
    }

    /// Groups are numbers in the order of the samples: their names can be those of people.
    #[test]
    fn groups_have_no_names() {
        let found = groups(&Set::new(Grouped)).unwrap();
        assert_eq!(found, [0, 1, 0, 1, 2].map(Some));
    }

    #[test]
    fn few_samples_have_the_layouts_that_they_can_have() {
        let of = |n: usize, d: usize| {
            let rows = (0..n * d).map(|i| (i as f32 * 0.37).sin()).collect();
            layouts(&Matrix::new(rows, n, d).unwrap()).unwrap()
        };
        assert_eq!(of(2, 1).iter().map(|l| (l.name, l.xy.len())).collect::<Vec<_>>(), [("pca", 4)]);
        let both: Vec<_> = of(12, 3).iter().map(|l| (l.name, l.xy.len())).collect();
        assert_eq!(both, [("tsne", 24), ("pca", 24)]);
    }
}
