//! I-JEPA (Assran et al. 2023, "Self-Supervised Learning from Images with a Joint-Embedding Predictive
//! Architecture", arXiv 2301.08243): from the features of a context block, predict those of other blocks.
//!
//! ```text
//! L = mean over target blocks and their patches of smooth_l1(g(f(x_context), places), LN(f_teacher(x))_places)
//! ```
//!
//! The teacher is the encoder's moving average and sees the whole sample; its output is normalised over the
//! features of each token, without weight and bias. The predictor `g` is a narrow transformer over the
//! context and one mask token for each patch of a block, each block by itself.
//!
//! The sizes of the blocks are drawn once a step, their places for each sample. What is left of a context
//! block without the targets differs between samples. The authors cut all to the shortest of the batch, so
//! that a sample's context depends on its neighbours. We keep as many patches as are left on average, a
//! number of the step alone: longer contexts lose random patches, shorter ones are padded. So micro-batches
//! and processes compute the gradient of the whole batch. A block may span an axis of the grid; theirs is at
//! least one patch shorter. Volumes have blocks of three axes.

use super::gauge::GAIN_OVER_MEAN;
use super::mae::{heads_of, view};
use super::multiblock::{Blocks, Multiblock};
use super::{
    Gauge, GaugeInfo, Loss, Method, Needs, Networks, Objective, OverViews, Views, Wanted, boxed, joint, masks,
};
use crate::encoder::{Encoder, TokenEncoder};
use crate::error::{Error, Result};
use crate::init::Init;
use crate::loss::smooth_l1;
use crate::nn::{LayerNorm, Linear, Transformer, TransformerConfig, sin_cos};
use crate::params::{Params, Role, Weight};
use crate::pass::{Pass, Progress};
use crate::scope::Scope;
use crate::world::World;
use candle_core::Tensor;
use selfsup_kernels::Path;
use selfsup_kernels::norm::layer_norm;

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IJepaConfig {
    /// Target blocks of a sample.
    pub targets: usize,
    /// Smallest and largest share of the patches in a target block.
    pub target_scale: [f64; 2],
    /// Narrowest and widest aspect ratio of a target block.
    pub target_ratio: [f64; 2],
    /// Smallest and largest share of the patches in the context block, before the targets are taken out.
    pub context_scale: [f64; 2],
    /// Patches that a context has at least, on a grid of at least four times as many.
    pub min_context: usize,
    /// Width of the predictor; by default half of the encoder's, in steps of 32 and at most the paper's 384.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predictor_dim: Option<usize>,
    /// Blocks of the predictor; by default half of the encoder's, at most the paper's 12.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predictor_depth: Option<usize>,
    /// Attention heads of the predictor; by default one for every 32 of its width.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predictor_heads: Option<usize>,
    /// Teacher momentum at the start; rises to 1 in a line.
    pub momentum: f64,
}

impl Default for IJepaConfig {
    fn default() -> Self {
        IJepaConfig {
            targets: 4,
            target_scale: [0.15, 0.2],
            target_ratio: [0.75, 1.5],
            context_scale: [0.85, 1.0],
            min_context: 10,
            predictor_dim: None,
            predictor_depth: None,
            predictor_heads: None,
            momentum: 0.996,
        }
    }
}

impl IJepaConfig {
    fn check(&self) -> Result<()> {
        let shares = [("target_scale", self.target_scale), ("context_scale", self.context_scale)];
        for (key, [low, high]) in shares {
            if !(low > 0.0 && low <= high && high <= 1.0) {
                return Err(Error::config(format!(
                    "method.{key} = [{low}, {high}]: expected two shares above 0 and at most 1, the smaller first"
                )));
            }
        }
        let [low, high] = self.target_ratio;
        if !(low > 0.0 && low <= high && high.is_finite()) {
            return Err(Error::config(format!(
                "method.target_ratio = [{low}, {high}]: expected two ratios above 0, the smaller first"
            )));
        }
        if self.min_context == 0 {
            return Err(Error::config("method.min_context = 0: expected at least one patch"));
        }
        if self.targets == 0 {
            return Err(Error::config("method.targets = 0: expected at least one block to predict"));
        }
        if !(0.0..=1.0).contains(&self.momentum) {
            return Err(Error::config(format!("method.momentum = {}: expected 0 to 1", self.momentum)));
        }
        Ok(())
    }

    /// How blocks are drawn.
    fn draw(&self) -> Multiblock {
        Multiblock {
            targets: self.targets,
            target_scale: self.target_scale,
            target_ratio: self.target_ratio,
            context_scale: self.context_scale,
            min_context: self.min_context,
        }
    }

    /// Width, blocks and heads of the predictor: for a ViT-B (768 x 12) the paper's 384 x 6, for a ViT-H
    /// (1280 x 32) its 384 x 12.
    fn predictor(&self, dim: usize, depth: usize) -> (usize, usize, usize) {
        let width = self.predictor_dim.unwrap_or_else(|| dim.div_ceil(2).next_multiple_of(32).min(384));
        let blocks = self.predictor_depth.unwrap_or_else(|| depth.div_ceil(2).clamp(1, 12));
        (width, blocks, self.predictor_heads.unwrap_or_else(|| heads_of(width)))
    }
}

/// What the predictor should say: `tokens (N, L, D)` of the teacher, each normalised over its features
/// (epsilon 1e-5, no weight, no bias), at the `places` of the target blocks of each sample, equally many
/// everywhere: `(N, B, K, D)`.
///
/// # Errors
/// If a place is outside.
pub fn ijepa_targets(tokens: &Tensor, places: &[Vec<Vec<usize>>]) -> Result<Tensor> {
    let (n, d) = (tokens.dim(0)?, tokens.dim(2)?);
    let blocks = places.first().map_or(0, Vec::len);
    let flat: Vec<Vec<usize>> = places.iter().map(|blocks| blocks.concat()).collect();
    let normal = layer_norm(&tokens.detach().contiguous()?, None, 1e-5, Path::Auto)?;
    let picked = masks::pick(&normal, &flat)?;
    let k = picked.dim(1)? / blocks.max(1);
    Ok(picked.reshape((n, blocks, k, d))?)
}

crate::embeddings! {
    /// Predicted and true features of the target blocks.
    pub struct Foreseen {
        /// Predictions `(N, B, K, D)`.
        graph predictions: Tensor,
        /// What the teacher sees there, normalised, `(N, B, K, D)`.
        fixed targets: Tensor,
        /// Mean of the teacher's patch tokens, `(N, D)`.
        fixed pooled: Tensor,
    }
}

/// The narrow transformer from a context to the patches of a block.
struct Predictor {
    embed: Linear,
    mask_token: Weight,
    positions: Weight,
    blocks: Transformer,
    norm: LayerNorm,
    project: Linear,
}

impl Predictor {
    fn new(scope: &Scope, encoder: &dyn TokenEncoder, config: &IJepaConfig) -> Result<Self> {
        let (dim, depth, heads) = config.predictor(encoder.dim(), encoder.depth());
        let p = scope.sub("predictor").top();
        let (init, table) = (Init::TruncNormal(0.02), sin_cos(&encoder.grid(), dim, scope.device())?);
        let fixed = p.with_role(Role::Frozen).no_decay();
        Ok(Predictor {
            embed: Linear::new(&p.sub("embed"), encoder.dim(), dim, true, init)?,
            mask_token: p.no_decay().get("mask_token", (1, 1, dim), init)?,
            positions: fixed.get_with("pos_embed", table.dims(), |_| Ok(table.clone()))?,
            blocks: Transformer::new(&p.sub("blocks"), &TransformerConfig::vit(dim, depth, heads, 4 * dim))?,
            norm: LayerNorm::new(&p.sub("norm"), dim, 1e-6)?,
            project: Linear::new(&p.sub("proj"), dim, encoder.dim(), true, init)?,
        })
    }

    /// Features of `blocks`, `(N, B, K, D)`, from the context's `(N, V, D)` at the patches `seen`, of which
    /// `valid (N, V)` are no padding.
    fn forward(
        &self,
        context: &Tensor,
        seen: &[Vec<usize>],
        valid: Option<&Tensor>,
        blocks: &[Blocks],
        pass: &Pass,
    ) -> Result<Tensor> {
        let (n, v, d) = context.dims3()?;
        let table = self.positions.on(pass)?;
        let known = (self.embed.forward(context, pass)? + masks::pick(&table, seen)?)?;
        let width = known.dim(2)?;
        let b = blocks.first().map_or(0, |s| s.targets.len());
        // Each block is predicted by itself: sample i, block j stands in row i B + j.
        let again = |t: &Tensor, size: &[usize]| -> Result<Tensor> {
            let wide: Vec<usize> = [&[n, b], size].concat();
            Ok(t.unsqueeze(1)?.broadcast_as(wide)?.contiguous()?.flatten(0, 1)?)
        };
        let known = again(&known, &[v, width])?; // (N, V, W) -> (N B, V, W)
        let places: Vec<Vec<usize>> = blocks.iter().flat_map(|s| s.targets.iter().cloned()).collect();
        let asked = masks::pick(&table, &places)?; // (N B, K, W)
        let k = asked.dim(1)?;
        let asked = asked.broadcast_add(&self.mask_token.on(pass)?)?;
        let valid = match valid {
            Some(valid) => {
                let more = Tensor::ones((n * b, k), valid.dtype(), valid.device())?;
                Some(Tensor::cat(&[again(valid, &[v])?, more], 1)?)
            }
            None => None,
        };
        let all = Tensor::cat(&[known, asked], 1)?;
        let y = self.blocks.forward(&all, valid.as_ref(), &[], pass)?.0.narrow(1, v, k)?.contiguous()?;
        Ok(self.project.forward(&self.norm.forward(&y, pass)?, pass)?.reshape((n, b, k, d))?)
    }
}

/// The gain has no bound: the targets move, and short healthy runs stay below the mean of theirs for long.
static INFO: [GaugeInfo; 1] = [GaugeInfo::new(
    GAIN_OVER_MEAN,
    "how much better the prediction is than the mean of the targets, 1 at best",
)];

/// The method.
pub struct IJepa {
    config: IJepaConfig,
    params: Params,
    encoder: Box<dyn TokenEncoder>,
    teacher: Box<dyn TokenEncoder>,
    predictor: Predictor,
}

impl IJepa {
    /// Builds the encoder at `encoder`, the predictor at `predictor` and the teacher, which starts as a copy,
    /// at `teacher.encoder`.
    ///
    /// # Errors
    /// If the encoder cannot be built, or the configuration is not possible.
    pub fn new(
        scope: &Scope,
        build: &dyn Fn(&Scope) -> Result<Box<dyn TokenEncoder>>,
        config: IJepaConfig,
    ) -> Result<Self> {
        config.check()?;
        let encoder = build(&scope.sub("encoder"))?;
        if encoder.grid().iter().product::<usize>() < 4 {
            return Err(Error::config(format!(
                "I-JEPA on a grid of {:?} patches: expected at least 4; lower encoder.patch or use larger views",
                encoder.grid()
            )));
        }
        let predictor = Predictor::new(scope, encoder.as_ref(), &config)?;
        let slow = scope.sub("teacher").with_role(Role::Teacher).copying(scope.path());
        let teacher = build(&slow.sub("encoder"))?;
        Ok(IJepa { config, params: scope.params().clone(), encoder, teacher, predictor })
    }
}

impl OverViews for IJepaConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Plain
    }

    /// No class token is trained: the mean of the patches is what the paper probes.
    fn needs(&self) -> Needs {
        Needs { tokens: true, fixed_positions: true, mean_pool: true }
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(IJepa::new(scope, &|s: &Scope| networks.tokens(s), self.clone())?))
    }

    fn shrink(&mut self) {
        self.targets = 2;
        (self.predictor_dim, self.predictor_depth, self.predictor_heads) = (Some(12), Some(1), Some(2));
    }
}

impl Objective for IJepa {
    type Batch = Views;
    type Embeddings = Foreseen;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Foreseen> {
        let x = view(batch, "I-JEPA")?;
        let grid = self.encoder.grid();
        // From the step alone: the same for every part of the batch.
        let draw = self.config.draw();
        let sizes = draw.sizes(&grid, &mut pass.key("ijepa sizes").rng());
        let blocks: Vec<Blocks> = (0..x.dim(0)?)
            .map(|i| draw.blocks(&grid, &sizes, &mut pass.sample_key("ijepa", i).rng()))
            .collect();
        let (seen, valid) = padded(&blocks, sizes.kept, x)?;
        let visible = masks::pick(&self.encoder.embed(x, pass)?, &seen)?;
        let context = self.encoder.contextualize(&visible, valid.as_ref(), pass)?;
        let context = context.narrow(1, self.encoder.prefix(), visible.dim(1)?)?.contiguous()?;
        let predictions = self.predictor.forward(&context, &seen, valid.as_ref(), &blocks, pass)?;

        let calm = pass.calm();
        let tokens = self.teacher.embed(x, &calm)?;
        let whole = self.teacher.contextualize(&tokens, None, &calm)?;
        let whole = whole.narrow(1, self.teacher.prefix(), tokens.dim(1)?)?.detach();
        let places: Vec<Vec<Vec<usize>>> = blocks.into_iter().map(|b| b.targets).collect();
        Ok(Foreseen { predictions, targets: ijepa_targets(&whole, &places)?, pooled: whole.mean(1)? })
    }

    fn criterion(&self, e: &Foreseen, _pass: &Pass) -> Result<Loss> {
        Ok(smooth_l1(&e.predictions, &e.targets, 1.0)?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    fn after_step(&self, _e: &Foreseen, progress: &Progress, _world: &World) -> Result<()> {
        let m = self.config.momentum;
        joint::ema(&self.params, &[("encoder", "teacher.encoder")], m + (1.0 - m) * progress.fraction())
    }

    fn gauge_info(&self) -> &'static [GaugeInfo] {
        &INFO
    }

    /// How much better than the batch's mean token, and the spread of the teacher's features: both go to 0 in
    /// a collapse, while the loss falls.
    fn gauges(&self, e: &Foreseen, _pass: &Pass) -> Result<Vec<Gauge>> {
        let (n, b, k, d) = e.targets.dims4()?;
        let mean = e.targets.reshape((n * b * k, d))?.mean_keepdim(0)?.reshape((1, 1, 1, d))?;
        let constant = mean.broadcast_as(e.targets.shape())?.contiguous()?;
        let of = |made: &Tensor| -> Result<f64> {
            Ok(f64::from(smooth_l1(made, &e.targets, 1.0)?.to_scalar::<f32>()?))
        };
        let (own, flat) = (of(&e.predictions)?, of(&constant)?);
        let gain = if flat > 0.0 { 1.0 - own / flat } else { 0.0 };
        Ok(vec![Gauge::plain(GAIN_OVER_MEAN, gain), joint::pooled_spread(&e.pooled)?])
    }

    fn may_skip(&self) -> Vec<String> {
        self.encoder.may_skip().into_iter().map(|name| format!("encoder.{name}")).collect()
    }
}

/// The contexts of samples, filled up to `kept` patches with their first one, and `(N, V)` of 1 where a patch
/// is no filling; nothing where none is.
fn padded(blocks: &[Blocks], kept: usize, like: &Tensor) -> Result<(Vec<Vec<usize>>, Option<Tensor>)> {
    let seen: Vec<Vec<usize>> = blocks
        .iter()
        .map(|b| {
            let mut all = b.context.clone();
            all.resize(kept, b.context.first().copied().unwrap_or(0));
            all
        })
        .collect();
    if blocks.iter().all(|b| b.context.len() == kept) {
        return Ok((seen, None));
    }
    let values: Vec<f32> =
        blocks.iter().flat_map(|b| (0..kept).map(|i| if i < b.context.len() { 1.0 } else { 0.0 })).collect();
    Ok((seen, Some(Tensor::from_vec(values, (blocks.len(), kept), like.device())?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn the_predictor_follows_the_encoder() {
        let of = |dim, depth| IJepaConfig::default().predictor(dim, depth);
        assert_eq!([of(768, 12), of(1280, 32), of(192, 12)], [(384, 6, 12), (384, 12, 12), (96, 6, 3)]);
    }

    /// Token (1, 3) has mean 2 and deviation 1: normalised it is (-1, 1); (4, 0) is (1, -1).
    #[test]
    fn targets_are_normalised_and_picked() -> Result<()> {
        let tokens = Tensor::new(&[[[1f32, 3.0], [4.0, 0.0], [9.0, 9.0]]], &Device::Cpu)?;
        let made = ijepa_targets(&tokens, &[vec![vec![1], vec![0]]])?;
        assert_eq!(made.dims(), [1, 2, 1, 2]);
        let flat = made.flatten_all()?.to_vec1::<f32>()?;
        assert!(flat.iter().zip([1.0, -1.0, -1.0, 1.0]).all(|(a, b)| (a - b).abs() < 1e-4), "{flat:?}");
        Ok(())
    }

    #[test]
    fn shorter_contexts_are_marked() -> Result<()> {
        let of = |context: Vec<usize>| Blocks { context, targets: vec![vec![0]] };
        let like = Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu)?;
        let (seen, valid) = padded(&[of(vec![3, 4]), of(vec![5])], 2, &like)?;
        assert_eq!(seen, [[3, 4], [5, 5]]);
        let valid = valid.ok_or_else(|| Error::input("valid", "none"))?;
        assert_eq!(valid.to_vec2::<f32>()?, [[1.0, 1.0], [1.0, 0.0]]);
        assert!(padded(&[of(vec![3]), of(vec![5])], 1, &like)?.1.is_none());
        Ok(())
    }
}
