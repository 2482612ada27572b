//! Swin (Liu et al. 2021, arXiv 2103.14030) with timm's names: a transformer whose attention stays within windows
//! of a map, which halves from stage to stage.
//!
//! Every second block cuts the windows half a window further, so that information crosses their borders: the
//! map is turned in a circle, and patches that met over its edge do not see each other (a mask of -100).
//! Scores have a learned bias for each offset between two patches of a window. Between stages four neighbouring
//! patches become one of twice the width.
//!
//! A stage whose map is not larger than a window has one window and no shift. Maps that are not a multiple of
//! the window are padded with zeros, which take part, as in the authors' code.

use candle_core::{Device, Tensor};
use selfsup_core::encoder::{HiddenLayers, MapEncoder, Scale, no_padding};
use selfsup_core::network::channels_last;
use selfsup_core::nn::{LayerNorm, Linear, Mlp, PatchEmbed};
use selfsup_core::{Encoder, Error, Features, Init, Layer, Pass, Result, Scope, Weight};
use selfsup_kernels::Path;
use selfsup_kernels::activation::Act;
use selfsup_kernels::attention::{AttentionOpts, self_attention};
use selfsup_kernels::dropout::drop_path;
use selfsup_kernels::pool::global_avg_pool;

/// Epsilon of all norms.
const EPS: f64 = 1e-5;

/// The authors' initial values of linear layers and tables.
const INIT: Init = Init::TruncNormal(0.02);

/// What is added to the score of two patches that the shift brought together.
const APART: f32 = -100.0;

/// Shape of a [`Swin`].
#[derive(Clone, Debug, PartialEq)]
pub struct SwinConfig {
    /// Height and width of the images that the windows are made for; others go through too.
    pub size: usize,
    /// Side of a patch.
    pub patch: usize,
    /// Channels of the images.
    pub channels: usize,
    /// Width of the first stage; each next one has twice as much.
    pub dim: usize,
    /// Blocks per stage.
    pub depths: Vec<usize>,
    /// Attention heads per stage.
    pub heads: Vec<usize>,
    /// Patches along a side of a window.
    pub window: usize,
    /// Stochastic depth of the last block; earlier ones grow linearly towards it.
    pub drop_path: f32,
}

impl SwinConfig {
    /// A standard size: `swin_tiny`, `swin_small`, `swin_base`, `swin_large`, with windows of 7 patches of 4
    /// pixels.
    pub fn named(name: &str, size: usize) -> Option<Self> {
        let (dim, depths, heads) = match name {
            "swin_tiny" => (96, [2, 2, 6, 2], 3),
            "swin_small" => (96, [2, 2, 18, 2], 3),
            "swin_base" => (128, [2, 2, 18, 2], 4),
            "swin_large" => (192, [2, 2, 18, 2], 6),
            _ => return None,
        };
        Some(SwinConfig {
            size,
            patch: 4,
            channels: 3,
            dim,
            depths: depths.to_vec(),
            heads: [1, 2, 4, 8].map(|factor| factor * heads).to_vec(),
            window: 7,
            drop_path: 0.0,
        })
    }

    /// Patches along a side of a window of each stage: the map itself where it is smaller.
    pub fn windows(&self) -> Vec<usize> {
        let mut side = self.size / self.patch.max(1);
        let mut of = |_| {
            let window = self.window.min(side).max(1);
            side = side.div_ceil(2);
            window
        };
        (0..self.depths.len()).map(&mut of).collect()
    }

    fn width(&self, stage: usize) -> usize {
        self.dim << stage
    }

    fn check(&self) -> Result<()> {
        let stages = self.depths.len();
        if stages == 0
            || stages > 8
            || stages != self.heads.len()
            || self.depths.contains(&0)
            || self.heads.contains(&0)
        {
            return Err(Error::config(format!(
                "encoder.depths = {:?} and encoder.heads = {:?}: expected one to eight stages, as many heads, all above 0",
                self.depths, self.heads
            )));
        }
        if let Some(s) = (0..stages).find(|&s| self.dim == 0 || !self.width(s).is_multiple_of(self.heads[s]))
        {
            return Err(Error::config(format!(
                "{} attention heads do not divide a width of {} (encoder.dim = {}, encoder.heads = {:?})",
                self.heads[s],
                self.width(s),
                self.dim,
                self.heads
            )));
        }
        if self.patch == 0 || self.channels == 0 || self.window == 0 || !self.size.is_multiple_of(self.patch)
        {
            return Err(Error::config(format!(
                "encoder.patch = {} and encoder.window = {} for images of {} pixels: expected a patch that divides them and a window above 0",
                self.patch, self.window, self.size
            )));
        }
        Ok(())
    }
}

/// `x` turned in a circle along `axis`: what stood at `by` comes first.
fn turned(x: &Tensor, axis: usize, by: usize) -> Result<Tensor> {
    let n = x.dim(axis)?;
    if by.is_multiple_of(n) {
        return Ok(x.clone());
    }
    let (head, tail) = (x.narrow(axis, 0, by % n)?, x.narrow(axis, by % n, n - by % n)?);
    Ok(Tensor::cat(&[tail, head], axis)?)
}

/// How a map is cut into windows.
struct Cut {
    /// Height and width of the map, and with padding.
    size: [usize; 2],
    padded: [usize; 2],
    window: usize,
    shift: [usize; 2],
}

impl Cut {
    fn new(size: [usize; 2], window: usize, shifted: bool) -> Self {
        let padded = size.map(|s| s.next_multiple_of(window));
        let shift = size.map(|s| if shifted && s > window { window / 2 } else { 0 });
        Cut { size, padded, window, shift }
    }

    fn windows(&self) -> usize {
        self.padded.iter().map(|s| s / self.window).product()
    }

    /// `(N, H, W, C)` to `(N windows, w w, C)`.
    fn apart(&self, x: &Tensor) -> Result<Tensor> {
        let (n, h, w, c) = x.dims4()?;
        let x = turned(&turned(x, 1, self.shift[0])?, 2, self.shift[1])?;
        let x = x.pad_with_zeros(1, 0, self.padded[0] - h)?.pad_with_zeros(2, 0, self.padded[1] - w)?;
        let ([h, w], m) = (self.padded, self.window);
        let x = x.reshape(vec![n, h / m, m, w / m, m, c])?.permute((0, 1, 3, 2, 4, 5))?;
        Ok(x.reshape((n * self.windows(), m * m, c))?)
    }

    /// The inverse of [`Cut::apart`].
    fn together(&self, x: &Tensor, n: usize) -> Result<Tensor> {
        let (([h, w], m), c) = ((self.padded, self.window), x.dim(2)?);
        let x = x.reshape(vec![n, h / m, w / m, m, m, c])?.permute((0, 1, 3, 2, 4, 5))?;
        let x = x.reshape((n, h, w, c))?.narrow(1, 0, self.size[0])?.narrow(2, 0, self.size[1])?;
        let back = |a: usize| self.size[a] - self.shift[a];
        turned(&turned(&x, 1, back(0))?, 2, back(1))
    }

    /// What is added to scores within each window, `(windows, 1, w w, w w)`; nothing without a shift.
    fn mask(&self, device: &Device) -> Result<Option<Tensor>> {
        if self.shift == [0; 2] {
            return Ok(None);
        }
        // Along an axis the shift brings three regions together: whole windows, and the last one's two parts.
        let region = |a: usize, at: usize| match self.shift[a] {
            0 => 0,
            shift => {
                usize::from(at + self.window >= self.padded[a]) + usize::from(at + shift >= self.padded[a])
            }
        };
        let (m, across) = (self.window, self.padded[1] / self.window);
        let mut values = Vec::with_capacity(self.windows() * m.pow(4));
        for window in 0..self.windows() {
            let of = |i: usize| {
                let (y, x) = (window / across * m + i / m, window % across * m + i % m);
                (region(0, y), region(1, x))
            };
            for q in 0..m * m {
                values.extend((0..m * m).map(|k| if of(q) == of(k) { 0.0 } else { APART }));
            }
        }
        Ok(Some(Tensor::from_vec(values, (self.windows(), 1, m * m, m * m), device)?))
    }
}

struct Block {
    name: String,
    heads: usize,
    window: usize,
    shifted: bool,
    norm1: LayerNorm,
    qkv: Linear,
    table: Weight,
    proj: Linear,
    norm2: LayerNorm,
    mlp: Mlp,
    drop_path: f32,
}

impl Block {
    fn new(
        scope: &Scope,
        width: usize,
        heads: usize,
        window: usize,
        shifted: bool,
        drop_path: f32,
    ) -> Result<Self> {
        let attn = scope.sub("attn");
        let offsets = (2 * window - 1).pow(2);
        Ok(Block {
            name: scope.path().to_string(),
            heads,
            window,
            shifted,
            norm1: LayerNorm::new(&scope.sub("norm1"), width, EPS)?,
            qkv: Linear::new(&attn.sub("qkv"), width, 3 * width, true, INIT)?,
            table: attn.no_decay().get("relative_position_bias_table", (offsets, heads), INIT)?,
            proj: Linear::new(&attn.sub("proj"), width, width, true, INIT)?,
            norm2: LayerNorm::new(&scope.sub("norm2"), width, EPS)?,
            mlp: Mlp::new(&scope.sub("mlp"), width, 4 * width, Act::GeluErf, INIT)?,
            drop_path,
        })
    }

    /// The biases of all pairs of patches of a window, `(1, heads, w w, w w)`.
    fn bias(&self, pass: &Pass) -> Result<Tensor> {
        let (table, m) = (self.table.on(pass)?, self.window);
        let across = 2 * m - 1;
        let place = |q: usize, k: usize| {
            let (dy, dx) = (q / m + m - 1 - k / m, q % m + m - 1 - k % m);
            (dy * across + dx) as u32
        };
        let places: Vec<u32> = (0..m.pow(4)).map(|i| place(i / (m * m), i % (m * m))).collect();
        let places = Tensor::from_vec(places, m.pow(4), table.device())?;
        let bias = table.index_select(&places, 0)?.reshape((m * m, m * m, self.heads))?;
        Ok(bias.permute((2, 0, 1))?.unsqueeze(0)?.contiguous()?)
    }

    fn attend(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (n, h, w, c) = x.dims4()?;
        let cut = Cut::new([h, w], self.window, self.shifted);
        let parts = cut.apart(x)?;
        let (rows, l, _) = parts.dims3()?;
        let mut bias = self.bias(pass)?;
        if let Some(mask) = cut.mask(x.device())? {
            // (windows, heads, L, L) for each of the samples.
            let each = bias.broadcast_add(&mask)?.unsqueeze(0)?;
            let shape = [&[n], &each.dims()[1..]].concat();
            bias = each.broadcast_as(shape)?.contiguous()?.flatten(0, 1)?;
        }
        let qkv = self.qkv.forward(&parts, pass)?.reshape((rows, l, 3, self.heads, c / self.heads))?;
        let y = self_attention(&qkv, Some(&bias), &AttentionOpts::default(), Path::Auto)?;
        let y = self.proj.forward(&y.reshape((rows, l, c))?, pass)?;
        cut.together(&y, n)
    }

    fn branch(&self, y: Tensor, part: &str, pass: &Pass) -> Result<Tensor> {
        match pass.dropout(self.drop_path, pass.key(&self.name).named(part).named("path")) {
            Some(drop) => Ok(drop_path(&y, &drop)?),
            None => Ok(y),
        }
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let x = (x + self.branch(self.attend(&self.norm1.forward(x, pass)?, pass)?, "attn", pass)?)?;
        let y = self.mlp.forward(&self.norm2.forward(&x, pass)?, pass)?;
        Ok((&x + self.branch(y, "mlp", pass)?)?)
    }
}

/// Four neighbouring patches become one: `(N, H, W, C)` to `(N, H / 2, W / 2, 2 C)`.
struct Merging {
    norm: LayerNorm,
    reduction: Linear,
}

impl Merging {
    fn new(scope: &Scope, width: usize) -> Result<Self> {
        Ok(Merging {
            norm: LayerNorm::new(&scope.sub("norm"), 4 * width, EPS)?,
            reduction: Linear::new(&scope.sub("reduction"), 4 * width, 2 * width, false, INIT)?,
        })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (n, h, w, c) = x.dims4()?;
        let x = x.pad_with_zeros(1, 0, h % 2)?.pad_with_zeros(2, 0, w % 2)?;
        let (h, w) = (h.div_ceil(2), w.div_ceil(2));
        // Upper left, lower left, upper right, lower right.
        let x = x.reshape(vec![n, h, 2, w, 2, c])?.permute((0, 1, 3, 4, 2, 5))?.reshape((n, h, w, 4 * c))?;
        self.reduction.forward(&self.norm.forward(&x, pass)?, pass)
    }
}

/// The network without its classifier.
pub struct Swin {
    config: SwinConfig,
    patch: PatchEmbed,
    start: LayerNorm,
    stages: Vec<(Option<Merging>, Vec<Block>)>,
    norm: LayerNorm,
}

impl Swin {
    /// Builds the network: `patch_embed.proj`, `patch_embed.norm`, `layers.0.blocks.0.attn.qkv` ...,
    /// `layers.1.downsample.reduction` ..., `norm`.
    ///
    /// # Errors
    /// If heads do not divide widths, or the patch not the image.
    pub fn new(scope: &Scope, config: SwinConfig) -> Result<Self> {
        config.check()?;
        let c = &config;
        let stem = scope.sub("patch_embed").stem();
        let patch = PatchEmbed::new(&stem.sub("proj"), c.channels, c.dim, &[c.patch; 2], true, INIT)?;
        let start = LayerNorm::new(&stem.sub("norm"), c.dim, EPS)?;
        let blocks: usize = c.depths.iter().sum();
        let (mut stages, mut at) = (Vec::new(), 0);
        for (s, (&depth, window)) in c.depths.iter().zip(c.windows()).enumerate() {
            let stage = scope.sub("layers").sub(s).block(s);
            let merging = match s.checked_sub(1) {
                Some(before) => Some(Merging::new(&stage.sub("downsample"), c.width(before))?),
                None => None,
            };
            let mut list = Vec::new();
            for b in 0..depth {
                let share = if blocks > 1 { at as f32 / (blocks - 1) as f32 } else { 1.0 };
                let scope = stage.sub("blocks").sub(b);
                let shifted = b % 2 == 1;
                list.push(Block::new(&scope, c.width(s), c.heads[s], window, shifted, c.drop_path * share)?);
                at += 1;
            }
            stages.push((merging, list));
        }
        let norm = LayerNorm::new(&scope.sub("norm").top(), c.width(c.depths.len() - 1), EPS)?;
        Ok(Swin { config, patch, start, stages, norm })
    }

    /// The shape it was built with.
    pub fn config(&self) -> &SwinConfig {
        &self.config
    }

    /// Runs the network; `see` gets the output of each stage, and the last one is returned.
    fn run(&self, x: &Tensor, pass: &Pass, mut see: impl FnMut(usize, &Tensor)) -> Result<Tensor> {
        let x = channels_last(x, self.config.channels, 2)?;
        let grid = self.patch.grid(&x.dims()[1..3])?;
        let tokens = self.start.forward(&self.patch.forward(&x, pass)?, pass)?;
        let mut x = tokens.reshape((x.dim(0)?, grid[0], grid[1], self.config.dim))?;
        for (s, (merging, blocks)) in self.stages.iter().enumerate() {
            if let Some(merging) = merging {
                x = merging.forward(&x, pass)?;
            }
            for block in blocks {
                x = block.forward(&x, pass)?;
            }
            see(s, &x);
        }
        Ok(x)
    }
}

impl Encoder for Swin {
    /// `tokens` is the last map after the norm, `(N, H', W', D)`; hidden layers are those after each stage.
    fn forward(&self, x: &Tensor, valid: Option<&Tensor>, want: &[Layer], pass: &Pass) -> Result<Features> {
        no_padding(valid)?;
        let mut hidden = HiddenLayers::of(want, self.stages.len())?;
        let x = self.norm.forward(&self.run(x, pass, |s, x| hidden.see(s, x))?, pass)?;
        Ok(Features {
            pooled: global_avg_pool(&x)?,
            tokens: want.contains(&Layer::Tokens).then_some(x),
            layers: hidden.layers()?,
        })
    }

    fn dim(&self) -> usize {
        self.config.width(self.config.depths.len() - 1)
    }

    fn stride(&self) -> Vec<usize> {
        self.scales().last().map(|s| vec![s.stride; 2]).unwrap_or_default()
    }
}

impl MapEncoder for Swin {
    fn maps(&self, x: &Tensor, pass: &Pass) -> Result<Vec<Tensor>> {
        let mut maps = Vec::with_capacity(self.stages.len());
        self.run(x, pass, |_, x| maps.push(x.clone()))?;
        Ok(maps)
    }

    fn scales(&self) -> Vec<Scale> {
        let c = &self.config;
        (0..c.depths.len()).map(|s| Scale { width: c.width(s), stride: c.patch << s }).collect()
    }
}

#[cfg(test)]
#[path = "swin_tests.rs"]
mod tests;
