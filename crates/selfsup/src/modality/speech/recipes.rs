//! What is trained on recordings of such lengths: crops, batches of so many seconds, a network.

use crate::recipe::{Given, Recipe};
use selfsup_core::cluster::ClusterConfig;
use selfsup_speech::methods::Iteration;

/// The crop of wav2vec 2.0 (arXiv 2006.11477, section 4.2): 250,000 samples.
const LONGEST: f64 = 15.625;
/// Crops of the recipes that cost less.
const CROPS: [f64; 3] = [2.0, 4.0, 8.0];
/// Seconds of a batch (wav2vec 2.0: 1.6 hours, on 64 cards).
const BATCH: f64 = 128.0;
/// The rate of wav2vec 2.0's base model.
const RATE: f64 = 5e-4;
/// Hours from which a wider network is worth it.
const SMALL: f64 = 10.0;

/// Recipes for recordings of these seconds, so many `hours` in all, and networks of `family`.
pub(super) fn recipes(seconds: &[f64], hours: f64, family: &str, given: &Given) -> Vec<Recipe> {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    // Nine of ten recordings are whole.
    let long = sorted.get(sorted.len() * 9 / 10).copied().unwrap_or(LONGEST).clamp(1.0, LONGEST);
    let crops: Vec<f64> = CROPS.into_iter().filter(|c| *c < 0.8 * long).chain([tenths(long)]).collect();
    let of = |crop: f64| Recipe::of((BATCH / crop).ceil() as usize).at_rate(RATE);
    let mut all: Vec<Recipe> = if given.any("input.crop_seconds") {
        vec![of(long)]
    } else {
        crops.iter().map(|&crop| of(crop).with("input.crop_seconds", crop)).collect()
    };
    if !given.any("encoder") {
        let wider = all.last().filter(|_| hours > SMALL).cloned();
        all.extend(wider.map(|r| r.with("encoder.name", format!("{family}_small"))));
    }
    all
}

/// Frames of a second, and of a cluster on average at least: fewer are learnt by heart.
const FRAMES: f64 = 50.0;
const OF_CLUSTER: f64 = 20.0;

/// Seconds of a clustering: half of the batches of k-means, since most end before, at what two cores multiply
/// in a second.
pub(super) fn clustering(clusters: usize, dim: usize) -> f64 {
    let k_means = ClusterConfig::default();
    let products = (k_means.batch * k_means.steps / 2) as f64 * clusters as f64 * dim as f64;
    2.0 * products / 2e10
}

/// HuBERT's iterations on so many seconds of recordings, where those of the configuration have more clusters
/// than these fill.
pub(super) fn fewer_clusters(iterations: &[Iteration], seconds: f64) -> Option<Vec<Iteration>> {
    let most = ((seconds * FRAMES / OF_CLUSTER) as usize).max(2);
    let fewer = |i: &Iteration| Iteration { clusters: i.clusters.min(most), ..i.clone() };
    let lowered: Vec<Iteration> = iterations.iter().map(fewer).collect();
    (lowered != iterations).then_some(lowered)
}

/// Rounded up to a tenth.
fn tenths(seconds: f64) -> f64 {
    if seconds >= LONGEST { LONGEST } else { (seconds * 10.0).ceil() / 10.0 }
}

/// The factor of the Gumbel softmax's temperature at each step, so that it goes from `start` to `end` within
/// seven tenths of a run: 277,000 of the paper's 400,000 steps.
pub(super) fn gumbel_decay(start: f64, end: f64, steps: u64) -> f64 {
    (end / start).powf(1.0 / (0.7 * steps.max(2) as f64))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn crops(seconds: &[f64], given: &[&str]) -> Vec<(f64, usize)> {
        let given = Given::new(given.iter().map(|g| (*g).to_string()).collect());
        let crop =
            |r: &Recipe| r.keys.get("input").and_then(|i| i.get("crop_seconds")?.as_float()).unwrap_or(0.0);
        recipes(seconds, seconds.iter().sum::<f64>() / 3600.0, "wav2vec2", &given)
            .iter()
            .map(|r| (crop(r), r.batch))
            .collect()
    }

    #[test]
    fn crops_follow_from_lengths() {
        assert_eq!(crops(&[3.0; 20], &[]), [(2.0, 64), (3.0, 43)]);
        assert_eq!(crops(&[0.4; 20], &[]), [(1.0, 128)]);
        assert_eq!(crops(&[600.0; 2], &[]), [(2.0, 64), (4.0, 32), (8.0, 16), (15.625, 9)]);
        // 20 hours: a wider network too.
        assert_eq!(crops(&[3600.0; 20], &[]).len(), 5);
        assert_eq!(crops(&[600.0; 2], &["input.crop_seconds"]), [(0.0, 9)]);
    }

    #[test]
    fn clusters_have_frames_enough() {
        let usual = selfsup_speech::methods::HubertConfig::default().iterations;
        assert_eq!(fewer_clusters(&usual, 3600.0), None);
        // 80 seconds are 4,000 frames: 200 clusters of 20.
        let few: Vec<usize> = fewer_clusters(&usual, 80.0).unwrap().iter().map(|i| i.clusters).collect();
        assert_eq!(few, [100, 200]);
        assert!(fewer_clusters(&usual, 0.1).unwrap().iter().all(|i| i.clusters == 2));
    }

    #[test]
    fn the_temperature_ends_where_the_paper_ends() {
        let factor = gumbel_decay(2.0, 0.5, 400_000);
        assert!((factor - 0.999_995).abs() < 1e-7, "{factor}");
        assert!((2.0 * gumbel_decay(2.0, 0.5, 1000).powi(700) - 0.5).abs() < 1e-9);
    }
}
