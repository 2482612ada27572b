//! From CTC's scores to labels: the best path, and prefix beam search.
//!
//! CTC (Graves et al. 2006) gives each frame a distribution over labels and a blank; a labelling's
//! probability is the sum over all paths that become it when repeats are merged and blanks removed.
//! [`greedy`] takes the one best path. [`beam`] sums over paths per prefix, with the probabilities of ending
//! in a blank and in the last label kept apart (Hannun et al. 2014, arXiv 1408.2873, without its language
//! model). There is no n-gram language model here: scores are the acoustic model's alone.

use selfsup_core::{Error, Result};
use std::collections::HashMap;

/// A labelling and the logarithm of its probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// Labels without blanks.
    pub labels: Vec<u32>,
    /// Natural logarithm of the probability that the search found for it: of one path (greedy), or of a sum
    /// of paths (beam).
    pub log_prob: f64,
}

/// Repeats merged, then blanks removed.
pub fn collapse(path: &[u32], blank: u32) -> Vec<u32> {
    let mut out = Vec::new();
    let mut last = blank;
    for &label in path {
        if label != blank && label != last {
            out.push(label);
        }
        last = label;
    }
    out
}

/// The labels of the best path: the best label of each frame, collapsed. `scores` are logits or
/// log-probabilities `(frames, labels)`.
///
/// # Errors
/// If the scores are not whole rows, there is no such blank, or a score is NaN.
pub fn greedy(scores: &[f32], labels: usize, blank: u32) -> Result<Hypothesis> {
    check(scores, labels, blank)?;
    let (mut path, mut log_prob) = (Vec::with_capacity(scores.len() / labels), 0f64);
    for row in scores.chunks_exact(labels) {
        let best = (0..labels).fold(0, |b, i| if row[i] > row[b] { i } else { b });
        log_prob += f64::from(row[best]) - log_sum(row);
        path.push(best as u32);
    }
    Ok(Hypothesis { labels: collapse(&path, blank), log_prob })
}

/// How prefix beam search prunes.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BeamConfig {
    /// Prefixes that are kept after each frame. Default 16.
    pub width: usize,
    /// Labels of a frame whose log-probability is below this are not followed. Default -12: one in 160,000.
    pub least_log_prob: f64,
    /// Hypotheses that are returned, best first. Default 1.
    pub best: usize,
}

impl Default for BeamConfig {
    fn default() -> Self {
        BeamConfig { width: 16, least_log_prob: -12.0, best: 1 }
    }
}

/// A prefix in the tree of prefixes: its last label and the prefix before it.
#[derive(Clone, Copy)]
struct Node {
    parent: usize,
    label: u32,
}

/// Log-probabilities of a prefix: of its paths that end in a blank, and in its last label.
#[derive(Clone, Copy)]
struct Mass {
    blank: f64,
    label: f64,
}

const NOTHING: Mass = Mass { blank: f64::NEG_INFINITY, label: f64::NEG_INFINITY };

impl Mass {
    fn total(self) -> f64 {
        log_add(self.blank, self.label)
    }
}

/// The most probable labellings by prefix beam search, best first. `scores` are logits or log-probabilities
/// `(frames, labels)`.
///
/// # Errors
/// As [`greedy`]; also if the width or the number of results is 0.
pub fn beam(scores: &[f32], labels: usize, blank: u32, config: &BeamConfig) -> Result<Vec<Hypothesis>> {
    check(scores, labels, blank)?;
    if config.width == 0 || config.best == 0 {
        return Err(Error::config(format!(
            "beam: width {} and {} results, expected at least 1",
            config.width, config.best
        )));
    }
    // Node 0 is the empty prefix. `children` finds the node of a prefix and one label more; it is never
    // iterated.
    let mut nodes = vec![Node { parent: usize::MAX, label: blank }];
    let mut children: HashMap<(usize, u32), usize> = HashMap::new();
    let mut beam = vec![(0usize, Mass { blank: 0.0, label: f64::NEG_INFINITY })];
    for row in scores.chunks_exact(labels) {
        let total = log_sum(row);
        let log_prob: Vec<f64> = row.iter().map(|s| f64::from(*s) - total).collect();
        // Prefixes in the order in which they are first reached, so that ties are broken alike everywhere.
        let mut next: Vec<(usize, Mass)> = Vec::with_capacity(beam.len() * 4);
        let mut places: HashMap<usize, usize> = HashMap::with_capacity(beam.len() * 4);
        let mut place = |next: &mut Vec<(usize, Mass)>, node: usize| {
            *places.entry(node).or_insert_with(|| {
                next.push((node, NOTHING));
                next.len() - 1
            })
        };
        for &(node, mass) in &beam {
            let last = nodes[node].label;
            let here = place(&mut next, node);
            next[here].1.blank = log_add(next[here].1.blank, mass.total() + log_prob[blank as usize]);
            if node != 0 {
                next[here].1.label = log_add(next[here].1.label, mass.label + log_prob[last as usize]);
            }
            for (label, &p) in log_prob.iter().enumerate() {
                let label = label as u32;
                if label == blank || p < config.least_log_prob {
                    continue;
                }
                // The label that stands last is a new one only after a blank.
                let from = if node != 0 && label == last { mass.blank } else { mass.total() };
                if from == f64::NEG_INFINITY {
                    continue;
                }
                let child = *children.entry((node, label)).or_insert_with(|| {
                    nodes.push(Node { parent: node, label });
                    nodes.len() - 1
                });
                let there = place(&mut next, child);
                next[there].1.label = log_add(next[there].1.label, from + p);
            }
        }
        // Stable: of equals the one that was reached first stays.
        next.sort_by(|a, b| b.1.total().total_cmp(&a.1.total()));
        next.truncate(config.width);
        beam = next;
    }
    let spell = |mut node: usize| {
        let mut labels = Vec::new();
        while node != 0 {
            labels.push(nodes[node].label);
            node = nodes[node].parent;
        }
        labels.reverse();
        labels
    };
    Ok(beam
        .into_iter()
        .take(config.best)
        .map(|(node, mass)| Hypothesis { labels: spell(node), log_prob: mass.total() })
        .collect())
}

fn check(scores: &[f32], labels: usize, blank: u32) -> Result<()> {
    if labels == 0 || blank as usize >= labels || !scores.len().is_multiple_of(labels) {
        return Err(Error::input(
            "CTC scores",
            format!("{} values as rows of {labels} labels with blank {blank}", scores.len()),
        ));
    }
    match scores.iter().position(|s| s.is_nan() || *s == f32::INFINITY) {
        None => Ok(()),
        Some(i) => Err(Error::input(
            "CTC scores",
            format!("frame {}, label {} is {}", i / labels, i % labels, scores[i]),
        )),
    }
}

fn log_sum(row: &[f32]) -> f64 {
    let most = row.iter().fold(f32::NEG_INFINITY, |m, v| m.max(*v));
    if most == f32::NEG_INFINITY {
        return 0.0;
    }
    f64::from(most) + row.iter().map(|v| f64::from(v - most).exp()).sum::<f64>().ln()
}

fn log_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use selfsup_core::Key;
    use std::collections::BTreeMap;

    #[test]
    fn repeats_and_blanks() {
        assert_eq!(collapse(&[0, 1, 1, 0, 1, 2, 2, 0], 0), [1, 1, 2]);
        assert_eq!(collapse(&[0, 0], 0), [] as [u32; 0]);
        assert_eq!(collapse(&[2, 2, 1], 2), [1]);
    }

    /// The classic case: the best path is blank twice (0.36), but `a` has three paths (0.64).
    #[test]
    fn the_best_labelling_is_not_the_best_path() {
        let scores: Vec<f32> = [0.6f32, 0.4, 0.6, 0.4].iter().map(|p| p.ln()).collect();
        let path = greedy(&scores, 2, 0).unwrap();
        assert_eq!(path.labels, [] as [u32; 0]);
        assert!((path.log_prob.exp() - 0.36).abs() < 1e-6);
        let best = beam(&scores, 2, 0, &BeamConfig::default()).unwrap();
        assert_eq!(best[0].labels, [1]);
        assert!((best[0].log_prob.exp() - 0.64).abs() < 1e-6);
    }

    #[test]
    fn wrong_scores_are_refused() {
        assert!(
            greedy(&[0.0; 5], 2, 0).is_err()
                && greedy(&[0.0; 4], 2, 2).is_err()
                && greedy(&[], 0, 0).is_err()
        );
        let e = greedy(&[0.0, f32::NAN], 2, 0).unwrap_err().to_string();
        assert!(e.contains("frame 0, label 1"), "{e}");
        assert!(beam(&[0.0; 4], 2, 0, &BeamConfig { width: 0, ..BeamConfig::default() }).is_err());
        assert_eq!(greedy(&[], 3, 0).unwrap().labels, [] as [u32; 0]);
        assert_eq!(
            beam(&[], 3, 0, &BeamConfig::default()).unwrap()[0],
            Hypothesis { labels: vec![], log_prob: 0.0 }
        );
    }

    /// Every labelling's probability by walking all paths.
    fn all_paths(scores: &[f32], labels: usize, blank: u32) -> BTreeMap<Vec<u32>, f64> {
        let frames = scores.len() / labels;
        let mut sums = BTreeMap::new();
        for code in 0..labels.pow(frames as u32) {
            let path: Vec<u32> = (0..frames).map(|t| (code / labels.pow(t as u32) % labels) as u32).collect();
            let log: f64 = path
                .iter()
                .enumerate()
                .map(|(t, &l)| {
                    let row = &scores[t * labels..(t + 1) * labels];
                    f64::from(row[l as usize]) - log_sum(row)
                })
                .sum();
            *sums.entry(collapse(&path, blank)).or_insert(0.0) += log.exp();
        }
        sums
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        /// With room for every prefix the search is exact: its probabilities are the sums over all paths.
        #[test]
        fn a_wide_beam_is_exact(frames in 1_usize..6, labels in 2_usize..5, blank_seed in 0_usize..4, seed in 0_u64..1000) {
            let blank = (blank_seed % labels) as u32;
            let mut r = Key::new(seed).rng();
            let scores: Vec<f32> = (0..frames * labels).map(|_| 2.0 * r.normal()).collect();
            let truth = all_paths(&scores, labels, blank);
            let config = BeamConfig { width: 10_000, least_log_prob: f64::NEG_INFINITY, best: 10_000 };
            let found = beam(&scores, labels, blank, &config).unwrap();
            prop_assert_eq!(found.len(), truth.len());
            for h in &found {
                prop_assert!((h.log_prob.exp() - truth[&h.labels]).abs() < 1e-6);
            }
            prop_assert!((found.iter().map(|h| h.log_prob.exp()).sum::<f64>() - 1.0).abs() < 1e-6);
            prop_assert!(found.windows(2).all(|w| w[0].log_prob >= w[1].log_prob));
            // A narrow beam finds a labelling whose probability is at most the true one, and never beats the
            // best.
            let narrow = &beam(&scores, labels, blank, &BeamConfig { width: 2, ..BeamConfig::default() }).unwrap()[0];
            prop_assert!(narrow.log_prob.exp() <= truth[&narrow.labels] + 1e-6);
            prop_assert!(narrow.log_prob <= found[0].log_prob + 1e-9);
        }

        #[test]
        fn adding_a_constant_to_a_frame_changes_nothing(seed in 0_u64..100, shift in -50.0_f32..50.0) {
            let mut r = Key::new(seed).rng();
            let scores: Vec<f32> = (0..24).map(|_| r.normal()).collect();
            let moved: Vec<f32> = scores.iter().enumerate().map(|(i, v)| if i / 4 == 2 { v + shift } else { *v }).collect();
            let (a, b) = (beam(&scores, 4, 0, &BeamConfig::default()).unwrap(), beam(&moved, 4, 0, &BeamConfig::default()).unwrap());
            prop_assert_eq!(&a[0].labels, &b[0].labels);
            prop_assert!((a[0].log_prob - b[0].log_prob).abs() < 1e-3);
            prop_assert_eq!(greedy(&scores, 4, 0).unwrap().labels, greedy(&moved, 4, 0).unwrap().labels);
        }
    }
}
