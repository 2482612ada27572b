//! wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477): of a hidden frame the context says which quantised frame belongs there.
//!
//! A product quantiser picks one of `V` entries in each of `G` codebooks by a Gumbel softmax (straight through: the forward is one entry,
//! the gradient that of the softmax at temperature `tau`), giving `q`. With `c` the projected context and `K` distractors drawn from the
//! other hidden frames of the same utterance,
//!
//! `L_m = -log exp(cos(c_t, q_t) / T) / sum over q in {q_t, distractors} of exp(cos(c_t, q) / T)`, mean over the hidden frames, and
//! `L = L_m + alpha (G V - sum_g exp H(mean p_g)) / (G V)`: the diversity term wants all entries used alike.
//!
//! Distractors are drawn with replacement; one that equals the positive counts nothing, as in fairseq and transformers. Since all of them
//! are rows of the same utterance, the scores are one matrix product over its hidden frames, and how often a row was drawn enters as the
//! logarithm of its count. Frames that are not hidden are not quantised. The penalty on the front's activations that fairseq adds is absent.

use super::frames::{Rows, Splice};
use super::quantizer::{Quantized, Quantizer};
use crate::batch::Waves;
use crate::encoder::{Hidden, SpeechConfig, SpeechEncoder};
use crate::mask::SpanMask;
use candle_core::Tensor;
use selfsup_core::kernels::Path;
use selfsup_core::kernels::dropout::dropout;
use selfsup_core::kernels::loss::cross_entropy_sum;
use selfsup_core::kernels::norm::l2_normalize;
use selfsup_core::nn::Linear;
use selfsup_core::objective::embedding_std;
use selfsup_core::{Embeddings, Encoder, Error, Init, Loss, Objective, Params, Pass, Result, Rng, Scope, Vital};

/// Hyper-parameters; the defaults are those of the base model.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wav2Vec2Config {
    /// The hidden spans: starts with probability 0.065, 10 frames.
    pub mask: SpanMask,
    /// Codebooks G (2).
    pub groups: usize,
    /// Entries V of each (320).
    pub codes: usize,
    /// Width of a quantised frame, all codebooks together (256).
    pub code_dim: usize,
    /// Width in which context and quantised frames are compared (256).
    pub out_dim: usize,
    /// Distractors K (100).
    pub negatives: usize,
    /// Temperature T of the cosines (0.1).
    pub temperature: f64,
    /// Weight alpha of the diversity term (0.1).
    pub diversity_weight: f64,
    /// Temperature tau of the Gumbel softmax at the start (2).
    pub gumbel_start: f64,
    /// Its lowest value (0.5).
    pub gumbel_end: f64,
    /// Its factor at each step (0.999995: half after 138,600 steps; short runs want less).
    pub gumbel_decay: f64,
    /// Dropout of the quantiser's input (transformers 0, fairseq's base model 0.1).
    pub quantizer_dropout: f32,
}

impl Default for Wav2Vec2Config {
    fn default() -> Self {
        Wav2Vec2Config {
            mask: SpanMask::default(),
            groups: 2,
            codes: 320,
            code_dim: 256,
            out_dim: 256,
            negatives: 100,
            temperature: 0.1,
            diversity_weight: 0.1,
            gumbel_start: 2.0,
            gumbel_end: 0.5,
            gumbel_decay: 0.999_995,
            quantizer_dropout: 0.0,
        }
    }
}

impl Wav2Vec2Config {
    fn check(&self) -> Result<()> {
        self.mask.check("method.mask")?;
        let wrong = |what: String| Err(Error::config(what));
        if !self.mask.hides() {
            return wrong("method.mask.prob = 0: wav2vec 2.0 predicts hidden frames, and none would be".into());
        }
        if self.groups == 0 || self.codes < 2 || !self.code_dim.is_multiple_of(self.groups) || self.code_dim == 0 || self.out_dim == 0 {
            return wrong(format!(
                "method: groups = {}, codes = {}, code_dim = {}, out_dim = {}: expected at least one group, two codes, and a code_dim that the groups divide",
                self.groups, self.codes, self.code_dim, self.out_dim
            ));
        }
        if self.negatives == 0 || self.temperature <= 0.0 || self.gumbel_end <= 0.0 || self.gumbel_start < self.gumbel_end {
            return wrong("method: negatives, temperature and gumbel_end must be above 0, and gumbel_start at least gumbel_end".into());
        }
        if !(0.0..1.0).contains(&self.quantizer_dropout) {
            return wrong(format!("method.quantizer_dropout = {}: expected 0 or more and below 1", self.quantizer_dropout));
        }
        Ok(())
    }

    /// The Gumbel softmax's temperature at a step.
    pub fn gumbel_temperature(&self, step: u64) -> f64 {
        (self.gumbel_start * self.gumbel_decay.powf(step as f64)).max(self.gumbel_end)
    }
}

/// The method.
pub struct Wav2Vec2 {
    config: Wav2Vec2Config,
    params: Params,
    encoder: SpeechEncoder,
    quantizer: Quantizer,
    project_q: Linear,
    project_hid: Linear,
}

impl Wav2Vec2 {
    /// Builds the encoder at `encoder`, and `quantizer`, `project_q` and `project_hid` beside it, as transformers names them.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn new(scope: &Scope, encoder: SpeechConfig, config: Wav2Vec2Config) -> Result<Self> {
        config.check()?;
        let encoder = SpeechEncoder::new(&scope.sub("encoder"), SpeechConfig { mask: config.mask, ..encoder })?;
        let (c, inputs) = (&config, encoder.config().conv_dim.last().copied().unwrap_or(1));
        Ok(Wav2Vec2 {
            params: scope.params().clone(),
            quantizer: Quantizer::new(&scope.sub("quantizer"), inputs, c.groups, c.codes, c.code_dim)?,
            project_q: Linear::new(&scope.sub("project_q"), c.code_dim, c.out_dim, true, Init::TorchLinear)?,
            project_hid: Linear::new(&scope.sub("project_hid"), encoder.config().dim, c.out_dim, true, Init::TorchLinear)?,
            encoder,
            config,
        })
    }

    /// The encoder.
    pub fn speech(&self) -> &SpeechEncoder {
        &self.encoder
    }

    /// Quantises frames `(M, C)`. In training with Gumbel noise `(M, G V)` at temperature `tau`; else the largest score wins.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn quantize(&self, frames: &Tensor, noise: Option<(&Tensor, f64)>) -> Result<Quantized> {
        self.quantizer.quantize(frames, noise)
    }

    /// Context `(M, D)` and quantised frames in the space in which they are compared, `(M, out_dim)`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn project(&self, context: &Tensor, quantized: &Tensor) -> Result<(Tensor, Tensor)> {
        Ok((self.project_hid.forward(context)?, self.project_q.forward(quantized)?))
    }

    /// Sum of the contrastive loss over the hidden frames of one utterance: context and targets `(M, out_dim)`, and how often each row was
    /// drawn as a distractor for each, `(M, M)` row by row. `codes (M, G)` tell which rows are the same entry.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn contrast(&self, context: &Tensor, targets: &Tensor, counts: &[f32], codes: &[u32]) -> Result<Tensor> {
        let (m, g) = (context.dim(0)?, self.config.groups);
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
        let logits = ((cosines / self.config.temperature)? + weight)?;
        let positives = Tensor::arange(0i64, m as i64, context.device())?;
        Ok(cross_entropy_sum(&logits, &positives, 0.0, Path::Auto)?)
    }
}

/// How often each of `m` frames is drawn as one of `k` distractors of each other, `(m, m)` row by row; with fewer than two frames there are none.
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

impl Objective for Wav2Vec2 {
    type Batch = Waves;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.encoder
    }

    fn embed(&self, batch: &Waves, pass: &Pass) -> Result<Embeddings> {
        let e = &self.encoder;
        let counts = e.frame_counts(&batch.lengths)?;
        let frames = e.frames(&batch.values)?;
        let (width, device) = (frames.dim(1)?, frames.device());
        let valid = e.frame_mask(&counts, width, device)?;
        let mask = self.config.mask.batch(&counts, width, |i| pass.sample_key("mask", i), device)?;
        let context = e.encode(&frames, &Hidden { frames: Some(mask.clone()), channels: None }, valid.as_ref(), pass)?;
        Ok(Embeddings { graph: vec![context, frames], fixed: vec![mask] })
    }

    fn criterion(&self, e: &Embeddings, pass: &Pass) -> Result<Loss> {
        let rows = Rows::of(&e.fixed[0])?;
        rows.some()?;
        let context = rows.take(&e.graph[0])?;
        let mut frames = rows.take(&e.graph[1])?;
        let quantized = if pass.train {
            if self.config.quantizer_dropout > 0.0 {
                frames = dropout(&frames, self.config.quantizer_dropout, pass.key("quantizer"), Path::Auto)?;
            }
            let noise = self.quantizer.noise(rows.counts(), pass, frames.device())?;
            self.quantize(&frames, Some((&noise, self.config.gumbel_temperature(pass.progress.step))))?
        } else {
            self.quantize(&frames, None)?
        };
        let (context, targets) = self.project(&context, &quantized.values)?;
        let (g, mut sums) = (self.config.groups, Vec::new());
        for (i, Splice { start, len }) in rows.splices().enumerate() {
            if len == 0 {
                continue;
            }
            let counts = draw_negatives(len, self.config.negatives, &mut pass.sample_key("negatives", i).rng());
            let codes = &quantized.codes[start * g..(start + len) * g];
            sums.push(self.contrast(&context.narrow(0, start, len)?, &targets.narrow(0, start, len)?, &counts, codes)?);
        }
        let contrastive = (Tensor::stack(&sums, 0)?.sum_all()? / rows.len() as f64)?;
        let all = (g * self.config.codes) as f64;
        let diversity = quantized.perplexity.affine(-1.0 / all, 1.0)?;
        let value = if self.config.diversity_weight > 0.0 {
            (&contrastive + (&diversity * self.config.diversity_weight)?)?
        } else {
            contrastive.clone()
        };
        let parts = vec![
            ("contrastive", contrastive.detach()),
            ("diversity", diversity.detach()),
            ("code_perplexity", quantized.perplexity.detach()),
        ];
        Ok(Loss { value, parts })
    }

    fn vitals(&self, e: &Embeddings) -> Result<Vec<Vital>> {
        let rows = Rows::of(&e.fixed[0])?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let hard = self.quantize(&rows.take(&e.graph[1])?, None)?;
        // Two entries in each codebook, of hundreds: the quantiser has collapsed.
        let bound = 2.0 * self.config.groups as f64;
        Ok(vec![
            Vital { name: "codes_used", value: f64::from(hard.perplexity.to_scalar::<f32>()?), healthy_above: Some(bound) },
            embedding_std(&rows.take(&e.graph[0])?.detach())?,
        ])
    }

    fn may_skip(&self) -> Vec<String> {
        self.encoder.may_skip().into_iter().map(|name| format!("encoder.{name}")).collect()
    }
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
    fn the_temperature_falls_to_its_end() {
        let c = Wav2Vec2Config { gumbel_decay: 0.9, ..Wav2Vec2Config::default() };
        assert_eq!(c.gumbel_temperature(0), 2.0);
        assert!((c.gumbel_temperature(1) - 1.8).abs() < 1e-12);
        assert_eq!(c.gumbel_temperature(1000), 0.5);
    }

    fn small() -> Wav2Vec2 {
        let encoder = SpeechConfig {
            dim: 16,
            depth: 1,
            heads: 2,
            hidden: 32,
            conv_dim: vec![8; 7],
            position_groups: 2,
            position_kernel: 8,
            ..SpeechConfig::default()
        };
        let config = Wav2Vec2Config { codes: 4, code_dim: 8, out_dim: 8, ..Wav2Vec2Config::default() };
        Wav2Vec2::new(&Scope::root(&Params::new(), 0, &candle_core::Device::Cpu), encoder, config).unwrap()
    }

    #[test]
    fn counted_distractors_equal_listed_ones() {
        // The loss written out frame by frame over the drawn list, repeats included.
        let method = small();
        let mut rng = Key::new(3).rng();
        let m = 5;
        let random = |rng: &mut Rng| {
            Tensor::from_vec((0..m * 8).map(|_| rng.normal()).collect::<Vec<f32>>(), (m, 8), &candle_core::Device::Cpu).unwrap()
        };
        let (c, q) = (random(&mut rng), random(&mut rng));
        let counts = draw_negatives(m, 7, &mut rng);
        let codes: Vec<u32> = vec![0, 0, 1, 0, 1, 1, 0, 0, 2, 3]; // frames 0 and 3 took the same entries
        let got = method.contrast(&c, &q, &counts, &codes).unwrap().to_scalar::<f32>().unwrap();
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

    #[test]
    fn impossible_settings_are_refused() {
        let wrong = |f: &dyn Fn(&mut Wav2Vec2Config)| {
            let mut c = Wav2Vec2Config::default();
            f(&mut c);
            assert!(c.check().is_err());
        };
        wrong(&|c| c.mask.prob = 0.0);
        wrong(&|c| c.code_dim = 255);
        wrong(&|c| c.codes = 1);
        wrong(&|c| c.temperature = 0.0);
        wrong(&|c| c.gumbel_start = 0.1);
    }
}
