//! Masked autoencoder (He et al. 2021, arXiv 2111.06377): the encoder sees a quarter of the patches, a light
//! decoder paints the rest.
//!
//! Per sample, random numbers order the patches; the lowest `floor(L (1 - ratio))` stay. The decoder gets the
//! encoded ones and a shared mask token for the others, in the original order with fixed sine-cosine
//! positions. The loss is the mean squared error over the masked patches, each normalised by its own mean and
//! variance.

use super::{
    Gauge, GaugeInfo, Loss, Method, Needs, Networks, Objective, OverViews, Picture, Views, Wanted, boxed,
    joint, masks,
};
use crate::encoder::{Encoder, TokenEncoder};
use crate::error::{Error, Result};
use crate::init::Init;
use crate::loss::mae_normalized_pixels;
use crate::nn::{LayerNorm, Linear, Transformer, TransformerConfig, sin_cos, unpatchify};
use crate::params::{Params, Role, Weight};
use crate::pass::Pass;
use crate::scope::Scope;
use candle_core::{Device, Tensor};

/// Hyper-parameters.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaeConfig {
    /// Share of the patches that is removed.
    pub mask_ratio: f64,
    /// Whether each target patch is normalised by its own mean and variance.
    pub norm_pix: bool,
    /// Width of the decoder; by default two thirds of the encoder's, in steps of 32 and at most the paper's
    /// 512.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder_dim: Option<usize>,
    /// Blocks of the decoder; by default two thirds of the encoder's, at most the paper's 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder_depth: Option<usize>,
    /// Attention heads of the decoder; by default one for every 32 of its width, the paper's 16 of 512.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoder_heads: Option<usize>,
    /// Width inside the decoder's MLPs, as a multiple of its width.
    pub decoder_mlp_ratio: f64,
    /// Epsilon of the decoder's layer norms.
    pub decoder_eps: f64,
}

impl Default for MaeConfig {
    fn default() -> Self {
        MaeConfig {
            mask_ratio: 0.75,
            norm_pix: true,
            decoder_dim: None,
            decoder_depth: None,
            decoder_heads: None,
            decoder_mlp_ratio: 4.0,
            decoder_eps: 1e-6,
        }
    }
}

impl MaeConfig {
    /// Width, blocks and heads of the decoder beside an encoder of this width and depth. For a ViT-B (768 x
    /// 12) and a ViT-L (1024 x 24) they are the paper's 512 x 8 with 16 heads.
    fn decoder(&self, dim: usize, depth: usize) -> (usize, usize, usize) {
        let width = self.decoder_dim.unwrap_or_else(|| (2 * dim).div_ceil(3).next_multiple_of(32).min(512));
        let blocks = self.decoder_depth.unwrap_or_else(|| (2 * depth).div_ceil(3).clamp(1, 8));
        (width, blocks, self.decoder_heads.unwrap_or_else(|| heads_of(width)))
    }
}

/// One head for every 32 of a width: as many as divide it.
pub(super) fn heads_of(width: usize) -> usize {
    (1..=(width / 32).max(1)).rev().find(|h| width.is_multiple_of(*h)).unwrap_or(1)
}

/// Which patches stay, for a batch.
#[derive(Clone, Debug)]
pub struct Masking {
    /// Indices of the kept patches, `(N, V)`, in the order of their noise.
    pub kept: Vec<Vec<usize>>,
    /// For each patch its place in that order; places from `V` on are removed. `(N, L)`.
    pub restore: Vec<Vec<usize>>,
}

impl Masking {
    /// `(N, L)`: 1 for removed patches, 0 for visible ones.
    ///
    /// # Errors
    /// If the device refuses the tensor.
    pub fn mask(&self, device: &Device) -> Result<Tensor> {
        let (n, l, v) = (
            self.restore.len(),
            self.restore.first().map_or(0, Vec::len),
            self.kept.first().map_or(0, Vec::len),
        );
        let mask: Vec<f32> = self.restore.iter().flatten().map(|&r| if r >= v { 1.0 } else { 0.0 }).collect();
        Ok(Tensor::from_vec(mask, (n, l), device)?)
    }
}

/// Orders the patches of each sample by its row of `noise` (a stable sort) and keeps the lowest `floor(L * (1
/// - ratio))`.
///
/// # Errors
/// If no patch, or every patch, would be kept.
pub fn random_masking(noise: &[Vec<f32>], ratio: f64) -> Result<Masking> {
    let (mut kept, mut restore) = (Vec::new(), Vec::new());
    for row in noise {
        let l = row.len();
        let keep = (l as f64 * (1.0 - ratio)) as usize;
        if keep == 0 || keep >= l {
            return Err(Error::config(format!(
                "method.mask_ratio = {ratio} keeps {keep} of {l} patches: expected at least one visible and one masked"
            )));
        }
        let mut order: Vec<usize> = (0..l).collect();
        order.sort_by(|&a, &b| row[a].total_cmp(&row[b]));
        let mut place = vec![0; l];
        for (rank, &patch) in order.iter().enumerate() {
            place[patch] = rank;
        }
        order.truncate(keep);
        kept.push(order);
        restore.push(place);
    }
    Ok(Masking { kept, restore })
}

/// The one view of a method that reads one.
pub(super) fn view<'a>(batch: &'a Views, method: &str) -> Result<&'a Tensor> {
    batch
        .globals
        .first()
        .ok_or_else(|| Error::input("batch", format!("{method} needs one view of each sample, got none")))
}

/// Patches `(N, L, P)` of views like `x (N, C, S..)` put together, `(N, C, S..)`.
pub(super) fn as_view(patches: &Tensor, encoder: &dyn TokenEncoder, x: &Tensor) -> Result<Tensor> {
    let grid = encoder.grid();
    let sides: Vec<usize> = x.dims().iter().skip(2).zip(&grid).map(|(s, g)| s / g.max(&1)).collect();
    unpatchify(&patches.contiguous()?, &grid, &sides)
}

/// The output of the decoder.
#[derive(Clone, Debug)]
pub struct Reconstruction {
    /// Predicted patches `(N, L, P)`.
    pub pixels: Tensor,
    /// 1 where a patch was removed, `(N, L)`.
    pub mask: Tensor,
    /// Mean of the visible tokens, `(N, D)`, detached.
    pub pooled: Tensor,
}

crate::embeddings! {
    /// The patches that the decoder paints, and those of the input.
    pub struct Painted {
        /// Predicted patches `(N, L, P)`.
        graph pixels: Tensor,
        /// The patches of the input `(N, L, P)`.
        fixed target: Tensor,
        /// 1 where a patch was removed, `(N, L)`.
        fixed mask: Tensor,
        /// Mean of the visible tokens, `(N, D)`.
        fixed pooled: Tensor,
    }
}

/// The method.
pub struct Mae {
    config: MaeConfig,
    params: Params,
    encoder: Box<dyn TokenEncoder>,
    embed: Linear,
    mask_token: Weight,
    positions: Weight,
    blocks: Transformer,
    norm: LayerNorm,
    predict: Linear,
}

impl Mae {
    /// Builds the encoder at `encoder` and the decoder at `decoder`.
    ///
    /// # Errors
    /// If the encoder cannot be built, or the decoder's width does not fit its heads or its position
    /// embedding.
    pub fn new(
        scope: &Scope,
        build: &dyn Fn(&Scope) -> Result<Box<dyn TokenEncoder>>,
        config: MaeConfig,
    ) -> Result<Self> {
        if !(config.mask_ratio > 0.0 && config.mask_ratio < 1.0) {
            return Err(Error::config(format!(
                "method.mask_ratio = {}: expected a share between 0 and 1",
                config.mask_ratio
            )));
        }
        let encoder = build(&scope.sub("encoder"))?;
        let d = scope.sub("decoder").top();
        let ((dim, depth, heads), device) = (config.decoder(encoder.dim(), encoder.depth()), scope.device());
        let positions = sin_cos(&encoder.grid(), dim, device)?;
        let hidden = (dim as f64 * config.decoder_mlp_ratio) as usize;
        let mut trunk = TransformerConfig::vit(dim, depth, heads, hidden);
        trunk.eps = config.decoder_eps;
        trunk.init = Init::XavierUniform;
        // The class token's position is 0.
        let prefix = Tensor::zeros((1, encoder.prefix(), dim), positions.dtype(), device)?;
        let positions = if encoder.prefix() > 0 { Tensor::cat(&[prefix, positions], 1)? } else { positions };
        let fixed = d.with_role(Role::Frozen).no_decay();
        let fixed = fixed.get_with("pos_embed", positions.dims(), |_| Ok(positions.clone()))?;
        Ok(Mae {
            params: scope.params().clone(),
            embed: Linear::new(&d.sub("embed"), encoder.dim(), dim, true, Init::XavierUniform)?,
            mask_token: d.no_decay().get("mask_token", (1, 1, dim), Init::Normal(0.02))?,
            positions: fixed,
            blocks: Transformer::new(&d.sub("blocks"), &trunk)?,
            norm: LayerNorm::new(&d.sub("norm"), dim, config.decoder_eps)?,
            predict: Linear::new(&d.sub("pred"), dim, encoder.patch_dim(), true, Init::XavierUniform)?,
            encoder,
            config,
        })
    }

    /// Encodes the visible patches of `x (N, C, H, W)` and paints all of them.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn reconstruct(&self, x: &Tensor, masking: &Masking, pass: &Pass) -> Result<Reconstruction> {
        let tokens = self.encoder.embed(x, pass)?;
        let (n, l, d) = tokens.dims3()?;
        let (v, prefix, device) =
            (masking.kept.first().map_or(0, Vec::len), self.encoder.prefix(), x.device());
        if masking.kept.len() != n || masking.restore.iter().any(|r| r.len() != l) {
            return Err(Error::input(
                "masking",
                format!("made for another batch: expected {n} samples of {l} patches"),
            ));
        }
        let flat = |rows: Vec<u32>| -> Result<Tensor> {
            let count = rows.len();
            Ok(Tensor::from_vec(rows, count, device)?)
        };
        let visible = flat(
            masking
                .kept
                .iter()
                .enumerate()
                .flat_map(|(i, ids)| ids.iter().map(move |&id| (i * l + id) as u32))
                .collect(),
        )?;
        let seen = tokens.reshape((n * l, d))?.index_select(&visible, 0)?.reshape((n, v, d))?;
        let encoded = self.encoder.contextualize(&seen, None, pass)?; // (N, P + V, D)
        let pooled = encoded.narrow(1, prefix, v)?.detach().mean(1)?;
        let y = self.embed.forward(&encoded, pass)?;
        let width = y.dim(2)?;
        // Rows of all visible tokens, then one row with the mask token: each place looks up its own.
        let rows = Tensor::cat(
            &[
                y.narrow(1, prefix, v)?.reshape((n * v, width))?,
                self.mask_token.on(pass)?.reshape((1, width))?,
            ],
            0,
        )?;
        let places = masking
            .restore
            .iter()
            .enumerate()
            .flat_map(|(i, row)| row.iter().map(move |&r| if r < v { i * v + r } else { n * v } as u32));
        let patches = rows.index_select(&flat(places.collect())?, 0)?.reshape((n, l, width))?;
        let y = if prefix > 0 { Tensor::cat(&[y.narrow(1, 0, prefix)?, patches], 1)? } else { patches };
        let y = y.broadcast_add(&self.positions.on(pass)?)?;
        let (y, _) = self.blocks.forward(&y, None, &[], pass)?;
        let pixels =
            self.predict.forward(&self.norm.forward(&y.narrow(1, prefix, l)?.contiguous()?, pass)?, pass)?;
        Ok(Reconstruction { pixels, mask: masking.mask(device)?, pooled })
    }

    /// The loss of a reconstruction of `x`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn loss_of(&self, x: &Tensor, made: &Reconstruction) -> Result<Tensor> {
        mae_normalized_pixels(&made.pixels, &self.encoder.patchify(x)?, &made.mask, self.config.norm_pix)
    }
}

impl OverViews for MaeConfig {
    fn wanted(&self) -> Wanted {
        Wanted::Plain
    }

    /// MAE's class token is not trained towards anything: its papers' probes average the patches or
    /// fine-tune.
    fn needs(&self) -> Needs {
        Needs { tokens: true, fixed_positions: true, mean_pool: true }
    }

    fn build(&self, scope: &Scope, networks: &dyn Networks) -> Result<Method<Views>> {
        Ok(boxed(Mae::new(scope, &|s: &Scope| networks.tokens(s), self.clone())?))
    }

    fn shrink(&mut self) {
        // A width of sines on one to three axes.
        (self.decoder_dim, self.decoder_depth, self.decoder_heads) = (Some(24), Some(1), Some(2));
    }
}

impl Objective for Mae {
    type Batch = Views;
    type Embeddings = Painted;

    fn params(&self) -> &Params {
        &self.params
    }

    fn encoder(&self) -> &dyn Encoder {
        self.encoder.as_ref()
    }

    fn embed(&self, batch: &Views, pass: &Pass) -> Result<Painted> {
        let x = view(batch, "MAE")?;
        let (n, l) = (x.dim(0)?, self.encoder.grid().iter().product::<usize>());
        let noise: Vec<Vec<f32>> = (0..n)
            .map(|i| {
                let mut rng = pass.sample_key("mae", i).rng();
                (0..l).map(|_| rng.uniform()).collect()
            })
            .collect();
        let made = self.reconstruct(x, &random_masking(&noise, self.config.mask_ratio)?, pass)?;
        let target = self.encoder.patchify(x)?;
        Ok(Painted { pixels: made.pixels, target, mask: made.mask, pooled: made.pooled })
    }

    fn criterion(&self, e: &Painted, _pass: &Pass) -> Result<Loss> {
        Ok(mae_normalized_pixels(&e.pixels, &e.target, &e.mask, self.config.norm_pix)?.into())
    }

    fn couples_samples(&self) -> bool {
        false
    }

    fn settings(&self) -> Vec<Gauge> {
        vec![masks::ratio(self.config.mask_ratio)]
    }

    fn gauge_info(&self) -> &'static [GaugeInfo] {
        &masks::RATIO
    }

    fn gauges(&self, e: &Painted, _pass: &Pass) -> Result<Vec<Gauge>> {
        Ok(vec![joint::pooled_spread(&e.pooled)?])
    }

    /// The view, the view without the removed patches, and what is painted in their place.
    fn pictures(&self, batch: &Views, pass: &Pass) -> Result<Vec<Picture>> {
        let (x, e) = (view(batch, "MAE")?, self.embed(batch, pass)?);
        let (mask, seen) = (e.mask.unsqueeze(2)?, e.mask.affine(-1.0, 1.0)?.unsqueeze(2)?);
        // With norm_pix the prediction lacks each patch's mean and deviation: those of the target are shown.
        let painted = if self.config.norm_pix {
            let mean = e.target.mean_keepdim(2)?;
            let centred = e.target.broadcast_sub(&mean)?;
            let count = (e.target.dim(2)?.max(2) - 1) as f64;
            let sd = ((centred.sqr()?.sum_keepdim(2)? / count)? + 1e-6)?.sqrt()?;
            e.pixels.broadcast_mul(&sd)?.broadcast_add(&mean)?
        } else {
            e.pixels.clone()
        };
        let seen = e.target.broadcast_mul(&seen)?;
        let whole = |patches: &Tensor| as_view(patches, self.encoder.as_ref(), x);
        Ok(vec![
            Picture::new("target", x),
            Picture::new("input", &whole(&seen)?),
            Picture::new("prediction", &whole(&(seen.clone() + painted.broadcast_mul(&mask)?)?)?),
        ])
    }

    fn may_skip(&self) -> Vec<String> {
        self.encoder.may_skip().into_iter().map(|name| format!("encoder.{name}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decoder_follows_the_encoder() {
        let of = |dim, depth| MaeConfig::default().decoder(dim, depth);
        assert_eq!([of(768, 12), of(1024, 24)], [(512, 8, 16); 2]);
        assert_eq!([of(192, 12), of(128, 4), of(16, 1)], [(128, 8, 4), (96, 3, 3), (32, 1, 1)]);
        let given = MaeConfig { decoder_dim: Some(48), decoder_heads: Some(4), ..MaeConfig::default() };
        assert_eq!(given.decoder(768, 12), (48, 8, 4));
        assert_eq!([heads_of(100), heads_of(24), heads_of(512)], [2, 1, 16]);
    }

    #[test]
    fn keeps_the_lowest() -> Result<()> {
        let m = random_masking(&[vec![0.9, 0.1, 0.5, 0.3]], 0.5)?;
        assert_eq!(m.kept, [[1, 3]]);
        assert_eq!(m.restore, [[3, 0, 2, 1]]);
        assert_eq!(m.mask(&Device::Cpu)?.to_vec2::<f32>()?, [[1.0, 0.0, 1.0, 0.0]]);
        assert!(random_masking(&[vec![0.1]], 0.5).is_err());
        Ok(())
    }
}
