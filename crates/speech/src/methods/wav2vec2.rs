//! wav2vec 2.0 (Baevski et al. 2020, arXiv 2006.11477): of a hidden frame the context says which quantised
//! frame belongs there.
//!
//! A product quantiser picks one of `V` entries in each of `G` codebooks by a Gumbel softmax (straight
//! through: the forward is one entry, the gradient that of the softmax at temperature `tau`), giving `q`.
//! With `c` the projected context and `K` distractors drawn from the other hidden frames of the same
//! utterance,
//!
//! `L_m = -log exp(cos(c_t, q_t) / T) / sum over q in {q_t, distractors} of exp(cos(c_t, q) / T)`, mean over
//! the hidden frames, and `L = L_m + alpha (G V - sum_g exp H(mean p_g)) / (G V) + beta mean(z^2)`: the
//! diversity term wants all entries used alike, the last, which fairseq adds to the paper's, keeps the
//! front's activations `z` (before their normalisation) small.
//!
//! The first term is in `contrast.rs`. Frames that are not hidden are not quantised.

use super::contrast::{contrastive, draw_negatives};
use super::frames::{Rows, Splice};
use super::masked::Masked;
use super::quantizer::{Quantized, Quantizer};
use crate::batch::Waves;
use crate::encoder::{SpeechConfig, SpeechEncoder};
use crate::mask::SpanMask;
use candle_core::Tensor;
use selfsup_core::kernels::Path;
use selfsup_core::kernels::dropout::dropout;
use selfsup_core::nn::Linear;
use selfsup_core::objective::gauge::COLD;
use selfsup_core::objective::{GaugeInfo, embedding_std};
use selfsup_core::{Encoder, Error, Gauge, Init, Loss, Objective, Params, Pass, Result, Scope};

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
    /// Weight beta of the mean square of the front's activations (transformers has none; fairseq's base model
    /// 10).
    pub feature_penalty: f64,
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
            feature_penalty: 0.0,
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
            return wrong(
                "method.mask.prob = 0: wav2vec 2.0 predicts hidden frames, and none would be".into(),
            );
        }
        if self.groups == 0
            || self.codes < 2
            || !self.code_dim.is_multiple_of(self.groups)
            || self.code_dim == 0
            || self.out_dim == 0
        {
            return wrong(format!(
                "method: groups = {}, codes = {}, code_dim = {}, out_dim = {}: expected at least one group, two codes, and a code_dim that the groups divide",
                self.groups, self.codes, self.code_dim, self.out_dim
            ));
        }
        if self.negatives == 0
            || self.temperature <= 0.0
            || self.gumbel_end <= 0.0
            || self.gumbel_start < self.gumbel_end
        {
            return wrong("method: negatives, temperature and gumbel_end must be above 0, and gumbel_start at least gumbel_end".into());
        }
        if !(self.diversity_weight >= 0.0 && self.feature_penalty >= 0.0) {
            return wrong(format!(
                "method: diversity_weight = {}, feature_penalty = {}: expected 0 or more",
                self.diversity_weight, self.feature_penalty
            ));
        }
        if !(0.0..1.0).contains(&self.quantizer_dropout) {
            return wrong(format!(
                "method.quantizer_dropout = {}: expected 0 or more and below 1",
                self.quantizer_dropout
            ));
        }
        Ok(())
    }

    /// The Gumbel softmax's temperature at a step.
    pub fn gumbel_temperature(&self, step: u64) -> f64 {
        (self.gumbel_start * self.gumbel_decay.powf(step as f64)).max(self.gumbel_end)
    }
}

/// What its settings mean.
static INFO: [GaugeInfo; 2] = [
    COLD,
    GaugeInfo::new("method.diversity_weight", "weight of the diversity term").too_low(
        "nothing asks for all entries of the codebooks: a few of them take all frames",
        "method.diversity_weight = 0.1",
    ),
];

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
    /// Builds the encoder at `encoder`, and `quantizer`, `project_q` and `project_hid` beside it, as
    /// transformers names them.
    ///
    /// # Errors
    /// If the configuration is not possible.
    pub fn new(scope: &Scope, encoder: SpeechConfig, config: Wav2Vec2Config) -> Result<Self> {
        config.check()?;
        let encoder =
            SpeechEncoder::new(&scope.sub("encoder"), SpeechConfig { mask: config.mask, ..encoder })?;
        let (c, inputs) = (&config, encoder.config().conv_dim.last().copied().unwrap_or(1));
        Ok(Wav2Vec2 {
            params: scope.params().clone(),
            quantizer: Quantizer::new(&scope.sub("quantizer").top(), inputs, c.groups, c.codes, c.code_dim)?,
            project_q: Linear::new(
                &scope.sub("project_q").top(),
                c.code_dim,
                c.out_dim,
                true,
                Init::TorchLinear,
            )?,
            project_hid: Linear::new(
                &scope.sub("project_hid").top(),
                encoder.config().dim,
                c.out_dim,
                true,
                Init::TorchLinear,
            )?,
            encoder,
            config,
        })
    }

    /// The encoder.
    pub fn speech(&self) -> &SpeechEncoder {
        &self.encoder
    }

    /// Quantises frames `(M, C)`. In training with Gumbel noise `(M, G V)` at temperature `tau`; else the
    /// largest score wins.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn quantize(&self, frames: &Tensor, noise: Option<(&Tensor, f64)>, pass: &Pass) -> Result<Quantized> {
        self.quantizer.quantize(frames, noise, pass)
    }

    /// Context `(M, D)` and quantised frames in the space in which they are compared, `(M, out_dim)`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn project(&self, context: &Tensor, quantized: &Tensor, pass: &Pass) -> Result<(Tensor, Tensor)> {
        Ok((self.project_hid.forward(context, pass)?, self.project_q.forward(quantized, pass)?))
    }

    /// [`contrastive`] with this method's settings.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn contrast(
        &self,
        context: &Tensor,
        targets: &Tensor,
        counts: &[f32],
        codes: &[u32],
    ) -> Result<Tensor> {
        contrastive(context, targets, counts, codes, self.config.groups, self.config.temperature)
    }
}

selfsup_core::embeddings! {
    /// Frames in their context, and as the convolutions made them.
    pub struct Contrasted {
        /// `(N, L, D)`.
        graph context: Tensor,
        /// `(N, L, C)`.
        graph frames: Tensor,
        /// Mean square of the front's activations, `(N)`.
        graph energy: Tensor,
        /// `(N, L)` u8, 1 for masked frames.
        fixed mask: Tensor,
    }
}

impl Objective for Wav2Vec2 {
    type Batch = Waves;
    type Embeddings = Contrasted;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        &self.encoder
    }

    fn embed(&self, batch: &Waves, pass: &Pass) -> Result<Contrasted> {
        let front = self.encoder.convolve(&batch.values, pass)?;
        let energy = front.sqr()?.mean((1, 2))?; // (N, L, C) -> (N)
        let masked = Masked::behind(
            &self.encoder,
            self.encoder.normalize(&front, pass)?,
            &self.config.mask,
            batch,
            pass,
        )?;
        let context = masked.encode(&self.encoder, pass)?;
        Ok(Contrasted { context, frames: masked.frames, energy, mask: masked.mask })
    }

    fn criterion(&self, e: &Contrasted, pass: &Pass) -> Result<Loss> {
        let rows = Rows::of(&e.mask)?;
        rows.some()?;
        let context = rows.take(&e.context)?;
        // Dropout comes before the masked frames are taken out, while samples are dimension 0.
        let frames = match pass.dropout(self.config.quantizer_dropout, pass.key("quantizer")) {
            Some(drop) => rows.take(&dropout(&e.frames, &drop, Path::Auto)?)?, // (N, L, C) -> (M, C)
            None => rows.take(&e.frames)?,
        };
        let quantized = if pass.train {
            let noise = self.quantizer.noise(rows.counts(), pass, frames.device())?;
            self.quantize(&frames, Some((&noise, self.config.gumbel_temperature(pass.progress.step))), pass)?
        } else {
            self.quantize(&frames, None, pass)?
        };
        let (context, targets) = self.project(&context, &quantized.values, pass)?;
        let (g, mut sums) = (self.config.groups, Vec::new());
        for (i, Splice { start, len }) in rows.splices().enumerate() {
            if len == 0 {
                continue;
            }
            let counts =
                draw_negatives(len, self.config.negatives, &mut pass.sample_key("negatives", i).rng());
            let codes = &quantized.codes[start * g..(start + len) * g];
            sums.push(self.contrast(
                &context.narrow(0, start, len)?,
                &targets.narrow(0, start, len)?,
                &counts,
                codes,
            )?);
        }
        let contrastive = (Tensor::stack(&sums, 0)?.sum_all()? / rows.len() as f64)?;
        let all = (g * self.config.codes) as f64;
        let diversity = quantized.perplexity.affine(-1.0 / all, 1.0)?;
        let energy = e.energy.mean_all()?;
        let mut value = contrastive.clone();
        for (term, weight) in
            [(&diversity, self.config.diversity_weight), (&energy, self.config.feature_penalty)]
        {
            if weight > 0.0 {
                value = (value + (term * weight)?)?;
            }
        }
        let parts = vec![
            ("contrastive", contrastive.detach()),
            ("diversity", diversity.detach()),
            ("code_perplexity", quantized.perplexity.detach()),
            ("feature_energy", energy.detach()),
        ];
        Ok(Loss { value, parts })
    }

    fn settings(&self) -> Vec<Gauge> {
        let Wav2Vec2Config { temperature, diversity_weight, .. } = self.config;
        vec![
            Gauge::above("method.temperature", temperature, 0.01),
            Gauge::above("method.diversity_weight", diversity_weight, 1e-3),
        ]
    }

    fn gauge_info(&self) -> &'static [GaugeInfo] {
        &INFO
    }

    fn gauges(&self, e: &Contrasted, pass: &Pass) -> Result<Vec<Gauge>> {
        let rows = Rows::of(&e.mask)?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let hard = self.quantize(&rows.take(&e.frames)?, None, pass)?;
        // Two entries in each codebook, of hundreds: the quantiser has collapsed.
        let bound = 2.0 * self.config.groups as f64;
        Ok(vec![
            Gauge::above("codes_used", f64::from(hard.perplexity.to_scalar::<f32>()?), bound),
            embedding_std(&rows.take(&e.context)?.detach())?,
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

    #[test]
    fn the_temperature_falls_to_its_end() {
        let c = Wav2Vec2Config { gumbel_decay: 0.9, ..Wav2Vec2Config::default() };
        assert_eq!(c.gumbel_temperature(0), 2.0);
        assert!((c.gumbel_temperature(1) - 1.8).abs() < 1e-12);
        assert_eq!(c.gumbel_temperature(1000), 0.5);
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
        wrong(&|c| c.feature_penalty = -1.0);
    }
}
