//! How evenly clusters are used. With one cluster for nearly all frames, as silence makes it, prediction is
//! right without a look at the sound: the loss falls to nothing, and nothing is learned.

use std::collections::BTreeMap;

/// Frames of each cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage(BTreeMap<u32, usize>);

impl Usage {
    /// Counts clusters.
    pub(crate) fn of(labels: impl IntoIterator<Item = u32>) -> Self {
        let mut counts = BTreeMap::new();
        labels.into_iter().for_each(|label| *counts.entry(label).or_default() += 1);
        Usage(counts)
    }

    /// Clusters that have a frame.
    pub(crate) fn clusters(&self) -> usize {
        self.0.len()
    }

    /// `exp(-sum p_c log p_c)`: the number of clusters that would be as uncertain if all were used equally.
    pub(crate) fn perplexity(&self) -> f64 {
        let all = self.0.values().sum::<usize>() as f64;
        let entropy: f64 = self.0.values().map(|&n| n as f64 / all).map(|p| -p * p.ln()).sum();
        entropy.exp()
    }

    /// The perplexity that a healthy run of `clusters` stays above: a fiftieth of them, 1.5 at least.
    pub(crate) fn healthy_above(clusters: usize) -> f64 {
        (clusters as f64 / 50.0).max(1.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perplexity_counts_clusters_by_their_use() {
        let even = Usage::of((0..400).map(|i| i % 4));
        assert!(even.clusters() == 4 && (even.perplexity() - 4.0).abs() < 1e-9);
        let one = Usage::of([7; 30]);
        assert!(one.clusters() == 1 && (one.perplexity() - 1.0).abs() < 1e-12);
        // 0.9 and 0.1: exp(0.325083).
        let most = Usage::of((0..100).map(|i| u32::from(i < 10)));
        assert!((most.perplexity() - 0.325_082_973_391_448_f64.exp()).abs() < 1e-9);
        assert_eq!(
            (Usage::healthy_above(100), Usage::healthy_above(500), Usage::healthy_above(4)),
            (2.0, 10.0, 1.5)
        );
    }
}
