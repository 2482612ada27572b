//! The contrastive term of wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477, equation 3) over the hidden
//! frames of one utterance:
//!
//! `-log exp(cos(c_t, q_t) / T) / sum over q in {q_t, distractors} of exp(cos(c_t, q) / T)`.
//!
//! Distractors are drawn with replacement from the other hidden frames; one that equals the positive counts
//! nothing, as in fairseq and transformers. Since all of them are rows of the same utterance, the scores are
//! one matrix product over its hidden frames, and how often a row was drawn enters as the logarithm of its
//! count.

use candle_core::Tensor;
use selfsup_core::kernels::Path;
use selfsup_core::kernels::loss::cross_entropy_sum;
use selfsup_core::kernels::norm::l2_normalize;
use selfsup_core::{Error, Result, Rng};

/// Sum of the loss over the `m` hidden frames of one utterance: context and targets `(m, D)`, and how often
/// each row was drawn as a distractor for each, `(m, m)` row by row ([`draw_negatives`]). `codes (m, groups)`
/// tell which rows are the same entries.
///
/// # Errors
/// If shapes do not fit.
pub fn contrastive(
    context: &Tensor,
    targets: &Tensor,
    counts: &[f32],
    codes: &[u32],
    groups: usize,
    temperature: f64,
) -> Result<Tensor> {
    let (m, g) = (context.dim(0)?, groups);
    if counts.len() != m * m || codes.len() != m * g {
        return Err(Error::input(
            "contrast",
            format!("{} counts and {} codes for {m} frames in {g} groups", counts.len(), codes.len()),
        ));
    }
    let mut weight = Vec::with_capacity(m * m);
    for i in 0..m {
        for j in 0..m {
            let same = codes[i * g..(i + 1) * g] == codes[j * g..(j + 1) * g];
            weight.push(match (i == j, counts[i * m + j]) {
                (true, _) => 0.0,
                (false, n) if n > 0.0 && !same => n.ln(),
                // Not minus infinity, so that differences stay numbers.
                _ => -1e30,
            });
        }
    }
    let weight = Tensor::from_vec(weight, (m, m), context.device())?;
    let unit = |x: &Tensor| l2_normalize(x, 1e-8, Path::Auto);
    let cosines = unit(context)?.matmul(&unit(targets)?.t()?)?;
    let logits = ((cosines / temperature)? + weight)?;
    let positives = Tensor::arange(0i64, m as i64, context.device())?;
    Ok(cross_entropy_sum(&logits, &positives, 0.0, Path::Auto)?)
}

/// How often each of `m` frames is drawn as one of `k` distractors of each other, `(m, m)` row by row; with
/// fewer than two frames there are none.
pub fn draw_negatives(m: usize, k: usize, rng: &mut Rng) -> Vec<f32> {
    let mut counts = vec![0f32; m * m];
    if m > 1 {
        for i in 0..m {
            for _ in 0..k {
                let j = rng.below(m - 1);
                counts[i * m + if j >= i { j + 1 } else { j }] += 1.0;
            }
        }
    }
    counts
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert_eq, proptest};
    use selfsup_core::Key;

    proptest! {
        #[test]
        fn negatives_are_others_of_the_same_utterance(m in 0usize..40, k in 1usize..30, seed in 0u64..500) {
            let counts = draw_negatives(m, k, &mut Key::new(seed).rng());
            prop_assert_eq!(counts.len(), m * m);
            for i in 0..m {
                let row = &counts[i * m..(i + 1) * m];
                prop_assert_eq!(row[i], 0.0, "a frame is its own distractor");
                prop_assert_eq!(row.iter().sum::<f32>(), if m > 1 { k as f32 } else { 0.0 });
            }
        }
    }

    #[test]
    fn counted_distractors_equal_listed_ones() {
        // The loss written out frame by frame over the drawn list, repeats included.
        let mut rng = Key::new(3).rng();
        let m = 5;
        let random = |rng: &mut Rng| {
            Tensor::from_vec(
                (0..m * 8).map(|_| rng.normal()).collect::<Vec<f32>>(),
                (m, 8),
                &candle_core::Device::Cpu,
            )
            .unwrap()
        };
        let (c, q) = (random(&mut rng), random(&mut rng));
        let counts = draw_negatives(m, 7, &mut rng);
        let codes: Vec<u32> = vec![0, 0, 1, 0, 1, 1, 0, 0, 2, 3]; // frames 0 and 3 took the same entries
        let got = contrastive(&c, &q, &counts, &codes, 2, 0.1).unwrap().to_scalar::<f32>().unwrap();
        let (c, q): (Vec<Vec<f32>>, Vec<Vec<f32>>) = (c.to_vec2().unwrap(), q.to_vec2().unwrap());
        let cos = |a: &[f32], b: &[f32]| {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let mut expected = 0.0;
        for i in 0..m {
            let positive = cos(&c[i], &q[i]) / 0.1;
            let mut sum = positive.exp();
            for j in 0..m {
                let same = codes[2 * i..2 * i + 2] == codes[2 * j..2 * j + 2];
                if !same {
                    sum += f64::from(counts[i * m + j]) * (cos(&c[i], &q[j]) / 0.1).exp();
                }
            }
            expected += sum.ln() - positive;
        }
        assert!((f64::from(got) - expected).abs() < 1e-4 * expected, "{got} {expected}");
    }
}
