//! Writing text with a causal model: greedy, or drawn with temperature, top-k and top-p.
//!
//! Scores are divided by the temperature; of the tokens the `k` best are kept (Fan et al. 2018, arXiv
//! 1805.04833), of these the fewest whose probabilities reach `p` (Holtzman et al. 2019, arXiv 1904.09751);
//! one is drawn by its probability.

use crate::encoder::{Gpt2, T5};
use candle_core::{Device, Tensor};
use selfsup_core::kernels::host::floats;
use selfsup_core::nn::KvCache;
use selfsup_core::{Error, Key, Pass, Result, Rng};
use serde::{Deserialize, Serialize};

/// How tokens are chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GenerateConfig {
    /// Most tokens that are written.
    pub tokens: usize,
    /// 0 takes the best token each time; 1 draws from the model's probabilities; above 1 they are levelled.
    pub temperature: f64,
    /// Only the best `k` tokens; 0 for all.
    pub top_k: usize,
    /// Only the fewest tokens whose probabilities sum to at least this; 1 for all.
    pub top_p: f64,
    /// Whether keys and values of earlier tokens are kept. It changes the time, not the text.
    pub cache: bool,
}

impl Default for GenerateConfig {
    fn default() -> Self {
        GenerateConfig { tokens: 200, temperature: 1.0, top_k: 0, top_p: 1.0, cache: true }
    }
}

impl GenerateConfig {
    fn check(&self) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return Err(Error::config(format!("temperature = {}: expected 0 or more", self.temperature)));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::config(format!("top_p = {}: expected a share above 0, up to 1", self.top_p)));
        }
        Ok(())
    }

    /// Chooses a token by its scores.
    ///
    /// # Errors
    /// If there are no scores, or one is not a number.
    pub fn choose(&self, scores: &[f32], rng: &mut Rng) -> Result<u32> {
        if scores.is_empty() || scores.iter().any(|s| s.is_nan()) {
            return Err(Error::input("scores", "none, or some that are not numbers"));
        }
        // Best first; of equal ones the first.
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        let best = order[0];
        if self.temperature == 0.0 {
            return Ok(best as u32);
        }
        if self.top_k > 0 {
            order.truncate(self.top_k);
        }
        let weight = |i: usize| ((f64::from(scores[i]) - f64::from(scores[best])) / self.temperature).exp();
        let weights: Vec<f64> = order.iter().map(|&i| weight(i)).collect();
        let total: f64 = weights.iter().sum();
        let mut kept = 0.0;
        let mut n = 0;
        while n < weights.len() && (n == 0 || kept < self.top_p * total) {
            kept += weights[n];
            n += 1;
        }
        let mut left = f64::from(rng.uniform()) * kept;
        for (&i, w) in order.iter().zip(&weights).take(n) {
            left -= w;
            if left < 0.0 {
                return Ok(i as u32);
            }
        }
        Ok(order[n - 1] as u32)
    }
}

fn row(ids: &[u32], device: &Device) -> Result<Tensor> {
    Ok(Tensor::from_vec(ids.to_vec(), (1, ids.len()), device)?)
}

/// The scores after the last place of `hidden (1, L, D)`.
fn last(hidden: &Tensor, scores: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Vec<f32>> {
    let l = hidden.dim(1)?;
    Ok(floats(&scores(&hidden.narrow(1, l - 1, 1)?.contiguous()?)?)?)
}

/// Continues `prompt`, until `end` is chosen or enough is written; returns what was written, without `end`.
/// The number of the token is folded into `key`. Beyond the model's positions the earliest tokens are
/// forgotten, and nothing can be kept in a cache.
///
/// # Errors
/// If the prompt is empty or has ids that the model has not, or the configuration is impossible.
pub fn continue_text(
    model: &Gpt2,
    prompt: &[u32],
    end: Option<u32>,
    config: &GenerateConfig,
    key: Key,
) -> Result<Vec<u32>> {
    config.check()?;
    if prompt.is_empty() {
        return Err(Error::input("prompt", "no tokens: give at least one, such as the one that ends a text"));
    }
    let (window, device) = (model.config().positions, model.device());
    let mut ids = prompt.to_vec();
    let mut cache = KvCache::new();
    for i in 0..config.tokens {
        let hidden = if config.cache && ids.len() <= window {
            model.decode(&row(&ids[cache.len()..], &device)?, &mut cache)?
        } else {
            model.hidden(&row(&ids[ids.len().saturating_sub(window)..], &device)?, &Pass::eval())?
        };
        let next = config
            .choose(&last(&hidden, |h| model.scores(h, &Pass::eval()))?, &mut key.fold(i as u64).rng())?;
        if Some(next) == end {
            break;
        }
        ids.push(next);
    }
    Ok(ids.split_off(prompt.len()))
}

/// What the decoder of a T5 writes for `input`, until the model's end token or enough; without the end.
///
/// # Errors
/// As [`continue_text`].
pub fn answer(model: &T5, input: &[u32], config: &GenerateConfig, key: Key) -> Result<Vec<u32>> {
    config.check()?;
    if input.is_empty() {
        return Err(Error::input("input", "no tokens"));
    }
    let device = model.device();
    let encoded = model.encode(&row(input, &device)?, None, &Pass::eval())?;
    let mut cache = model.cache(&encoded, None, &Pass::eval())?;
    let mut ids = vec![model.config().pad];
    for i in 0..config.tokens {
        let hidden = if config.cache {
            model.decode_next(&row(&ids[ids.len() - 1..], &device)?, &mut cache)?
        } else {
            model.decode(&row(&ids, &device)?, &encoded, None, &Pass::eval())?
        };
        let next = config
            .choose(&last(&hidden, |h| model.scores(h, &Pass::eval()))?, &mut key.fold(i as u64).rng())?;
        if next == model.config().end {
            break;
        }
        ids.push(next);
    }
    Ok(ids.split_off(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::{Gpt2Config, T5Config};
    use selfsup_core::{Init, Params, Scope};

    fn draws(config: &GenerateConfig, scores: &[f32], n: u64) -> Vec<f64> {
        let mut counts = vec![0.0; scores.len()];
        (0..n).for_each(|i| {
            counts[config.choose(scores, &mut Key::new(i).rng()).unwrap() as usize] += 1.0 / n as f64
        });
        counts
    }

    #[test]
    fn choices_follow_the_probabilities() {
        let scores = [0.1f32, 0.4, 0.2, 0.3].map(f32::ln);
        let close = |got: Vec<f64>, want: [f64; 4]| {
            assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 0.02), "{got:?} {want:?}")
        };
        let plain = GenerateConfig::default();
        close(draws(&plain, &scores, 20_000), [0.1, 0.4, 0.2, 0.3]);
        close(
            draws(&GenerateConfig { temperature: 0.0, ..plain.clone() }, &scores, 100),
            [0.0, 1.0, 0.0, 0.0],
        );
        close(
            draws(&GenerateConfig { top_k: 2, ..plain.clone() }, &scores, 20_000),
            [0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0],
        );
        // 0.4 + 0.3 reach 0.65; 0.4 alone reaches 0.4.
        close(
            draws(&GenerateConfig { top_p: 0.65, ..plain.clone() }, &scores, 20_000),
            [0.0, 4.0 / 7.0, 0.0, 3.0 / 7.0],
        );
        close(draws(&GenerateConfig { top_p: 0.3, ..plain.clone() }, &scores, 100), [0.0, 1.0, 0.0, 0.0]);
        // At temperature 1/2 probabilities are squared.
        close(
            draws(&GenerateConfig { temperature: 0.5, ..plain.clone() }, &scores, 20_000),
            [1.0, 16.0, 4.0, 9.0].map(|w| w / 30.0),
        );
        assert!(
            plain.choose(&[0.0, f32::NAN], &mut Key::new(0).rng()).is_err()
                && plain.choose(&[], &mut Key::new(0).rng()).is_err()
        );
    }

    #[test]
    fn the_cache_changes_nothing() -> Result<()> {
        let params = Params::new();
        let mut config = Gpt2Config::new(13, 10, 8, 2, 2);
        // Weights large enough that the choice depends on what was written.
        (config.trunk.init, config.trunk.residual_init) = (Init::Normal(0.5), None);
        let model = Gpt2::new(&Scope::root(&params, 4, &Device::Cpu), config)?;
        let t5 = T5::new(&Scope::root(&Params::new(), 4, &Device::Cpu), T5Config::new(13, 8, 2, 2))?;
        for temperature in [0.0, 1.0] {
            // 16 tokens: beyond the 10 positions.
            let with = GenerateConfig { tokens: 16, temperature, ..GenerateConfig::default() };
            let without = GenerateConfig { cache: false, ..with.clone() };
            let a = continue_text(&model, &[1, 2], None, &with, Key::new(5))?;
            assert_eq!(a, continue_text(&model, &[1, 2], None, &without, Key::new(5))?);
            assert_eq!(a.len(), 16);
            let ended = continue_text(&model, &[1, 2], Some(a[3]), &with, Key::new(5))?;
            assert!(ended.len() <= 3 && ended[..] == a[..ended.len()]);
            assert_eq!(
                answer(&t5, &[3, 4, 1], &with, Key::new(6))?,
                answer(&t5, &[3, 4, 1], &without, Key::new(6))?
            );
        }
        assert!(continue_text(&model, &[], None, &GenerateConfig::default(), Key::new(0)).is_err());
        assert!(
            continue_text(
                &model,
                &[1],
                None,
                &GenerateConfig { top_p: 0.0, ..GenerateConfig::default() },
                Key::new(0)
            )
            .is_err()
        );
        Ok(())
    }
}
