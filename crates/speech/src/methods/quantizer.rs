//! The product quantiser of wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477, section 2): one entry of each
//! of G codebooks for a frame, chosen by a Gumbel softmax (Jang et al. 2016, arXiv 1611.01144) straight
//! through: the forward is one entry, the gradient that of the softmax.

use candle_core::{D, Device, Tensor};
use selfsup_core::kernels::Path;
use selfsup_core::kernels::host::indices;
use selfsup_core::kernels::softmax::softmax;
use selfsup_core::nn::Linear;
use selfsup_core::{Init, Pass, Result, Scope, Weight};

/// The output of the quantiser at the hidden frames.
pub struct Quantized {
    /// `(M, code_dim)`.
    pub values: Tensor,
    /// The entry of each codebook that each frame took, `(M, G)` row by row.
    pub codes: Vec<u32>,
    /// Sum over the codebooks of the perplexity of their mean use, between G and G V; a scalar, with graph in
    /// training.
    pub perplexity: Tensor,
}

/// Codebooks, and the scores that choose from them.
pub(super) struct Quantizer {
    weight_proj: Linear,
    codevectors: Weight,
    groups: usize,
    codes: usize,
    dim: usize,
}

impl Quantizer {
    /// `groups` codebooks of `codes` entries, together `dim` wide, for frames of width `inputs`.
    pub(super) fn new(scope: &Scope, inputs: usize, groups: usize, codes: usize, dim: usize) -> Result<Self> {
        // N(0, 1) for the projection and U(0, 1) for the entries, as fairseq: sharp choices from the start.
        Ok(Quantizer {
            weight_proj: Linear::new(
                &scope.sub("weight_proj"),
                inputs,
                groups * codes,
                true,
                Init::Normal(1.0),
            )?,
            codevectors: scope.get("codevectors", (1, groups * codes, dim / groups), Init::Uniform(1.0))?,
            groups,
            codes,
            dim,
        })
    }

    /// Quantises frames `(M, C)`. In training with Gumbel noise `(M, G V)` at temperature `tau`; else the
    /// largest score wins.
    pub(super) fn quantize(
        &self,
        frames: &Tensor,
        noise: Option<(&Tensor, f64)>,
        pass: &Pass,
    ) -> Result<Quantized> {
        let (m, g, v) = (frames.dim(0)?, self.groups, self.codes);
        let logits = self.weight_proj.forward(frames, pass)?.reshape((m, g, v))?; // (M, G V) -> (M, G, V)
        let scores = match noise {
            Some((noise, tau)) => ((&logits + noise.reshape((m, g, v))?)? / tau)?,
            None => logits.clone(),
        };
        let codes = indices(&scores.detach().argmax(D::Minus1)?)?;
        let mut hard = vec![0f32; m * g * v];
        for (row, &code) in hard.chunks_exact_mut(v).zip(&codes) {
            row[code as usize] = 1.0;
        }
        let hard = Tensor::from_vec(hard, (m, g, v), frames.device())?;
        let (choice, used) = match noise {
            Some(_) => {
                let soft = softmax(&scores, Path::Auto)?;
                // Straight through: the value of the choice, the gradient of the softmax. Diversity is that
                // of the softmax without noise.
                ((&hard + (&soft - soft.detach())?)?, softmax(&logits, Path::Auto)?)
            }
            None => (hard.clone(), hard),
        };
        let mean = used.mean(0)?; // (G, V)
        let entropy = (&mean * (&mean + 1e-7)?.log()?)?.sum(1)?.neg()?;
        // (G, M, V) x (G, V, D/G) -> (M, G D/G)
        let books = self.codevectors.on(pass)?.reshape((g, v, self.dim / g))?;
        let values = choice.transpose(0, 1)?.contiguous()?.matmul(&books)?.transpose(0, 1)?.contiguous()?;
        Ok(Quantized { values: values.reshape((m, self.dim))?, codes, perplexity: entropy.exp()?.sum_all()? })
    }

    /// Gumbel noise `(M, G V)` for the picked frames of each sample, from its own generator.
    pub(super) fn noise(&self, counts: &[usize], pass: &Pass, device: &Device) -> Result<Tensor> {
        let width = self.groups * self.codes;
        let rows: usize = counts.iter().sum();
        let mut noise = Vec::with_capacity(rows * width);
        for (i, count) in counts.iter().enumerate() {
            let mut rng = pass.sample_key("gumbel", i).rng();
            // -ln(-ln u) of u in (0, 1).
            noise.extend((0..count * width).map(|_| -(-(f64::from(rng.uniform()) + 3e-8).ln()).ln() as f32));
        }
        Ok(Tensor::from_vec(noise, (rows, width), device)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::DType;
    use selfsup_core::{Params, Progress};

    fn small() -> Quantizer {
        Quantizer::new(&Scope::root(&Params::new(), 0, &Device::Cpu), 8, 2, 4, 6).unwrap()
    }

    #[test]
    fn perplexity_counts_what_is_used() {
        // All frames alike: one entry in each of the two codebooks.
        let one = Tensor::ones((6, 8), DType::F32, &Device::Cpu).unwrap();
        let q = small().quantize(&one, None, &Pass::eval()).unwrap();
        assert!((q.perplexity.to_scalar::<f32>().unwrap() - 2.0).abs() < 1e-3);
        assert!(q.codes.chunks_exact(2).all(|c| c == &q.codes[..2]));
        assert_eq!(q.values.dims(), [6, 6]);
    }

    #[test]
    fn noise_belongs_to_samples() {
        let (q, pass) = (small(), Pass::train(3, Progress::default()));
        let both: Vec<Vec<f32>> = q.noise(&[2, 3], &pass, &Device::Cpu).unwrap().to_vec2().unwrap();
        let second: Vec<Vec<f32>> = q.noise(&[3], &pass.at(1), &Device::Cpu).unwrap().to_vec2().unwrap();
        assert_eq!(both[2..], second[..]);
        assert!(both.iter().flatten().all(|v| v.is_finite()));
    }

    #[test]
    fn the_value_is_one_entry_and_the_gradient_that_of_all() {
        let (q, pass) = (small(), Pass::train(0, Progress::default()));
        let frames = candle_core::Var::from_tensor(
            &Tensor::arange(0f32, 24.0, &Device::Cpu)
                .unwrap()
                .affine(0.1, -1.0)
                .unwrap()
                .reshape((3, 8))
                .unwrap(),
        )
        .unwrap();
        let noise = q.noise(&[3], &pass, &Device::Cpu).unwrap();
        let made = q.quantize(&frames, Some((&noise, 1.0)), &Pass::eval()).unwrap();
        let books: Vec<Vec<f32>> = q.codevectors.value().squeeze(0).unwrap().to_vec2().unwrap();
        let values: Vec<Vec<f32>> = made.values.to_vec2().unwrap();
        for (value, codes) in values.iter().zip(made.codes.chunks_exact(2)) {
            let entry: Vec<f32> = (0..2).flat_map(|g| books[g * 4 + codes[g] as usize].clone()).collect();
            assert!(value.iter().zip(&entry).all(|(a, b)| (a - b).abs() < 1e-5), "{value:?} {entry:?}");
        }
        let grads = made.values.sum_all().unwrap().backward().unwrap();
        let g = grads.get(&frames).unwrap().abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(g > 0.0, "no gradient through the choice");
    }
}
