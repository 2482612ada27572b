//! What is trained on recordings of such lengths: crops, batches of so many seconds, a network.

use crate::recipe::{Given, Recipe};

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
    fn the_temperature_ends_where_the_paper_ends() {
        let factor = gumbel_decay(2.0, 0.5, 400_000);
        assert!((factor - 0.999_995).abs() < 1e-7, "{factor}");
        assert!((2.0 * gumbel_decay(2.0, 0.5, 1000).powi(700) - 0.5).abs() < 1e-9);
    }
}
