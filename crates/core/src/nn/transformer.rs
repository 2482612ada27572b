//! The transformer trunk that all modalities share (Vaswani et al. 2017, arXiv 1706.03762), with
//! normalisation before (ViT, GPT) or after (BERT) each part. Names are timm's: `blocks.0.norm1`, `attn.qkv`,
//! `attn.proj`, `attn.q_norm`, `attn.q_bias`, `norm2`, `mlp.fc1`, `mlp.fc2`, `ls1.gamma`.

use super::layers::{LayerNorm, Linear, Mlp, MlpForm};
use super::rotary::Rotation;
use crate::encoder::HiddenLayers;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::params::Weight;
use crate::pass::Pass;
use crate::scope::Scope;
use candle_core::{D, Tensor};
use selfsup_kernels::Path;
use selfsup_kernels::activation::Act;
use selfsup_kernels::attention::{AttentionOpts, self_attention};
use selfsup_kernels::dropout::{drop_path, dropout};

/// The shape and the regularisation of a [`Transformer`].
#[derive(Clone, Debug, PartialEq)]
pub struct TransformerConfig {
    /// Width of a token.
    pub dim: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads; must divide `dim`.
    pub heads: usize,
    /// Width inside the MLP.
    pub hidden: usize,
    /// Its activation.
    pub act: Act,
    /// What it computes: the activation counts in the plain form.
    pub mlp: MlpForm,
    /// Normalise before each part (ViT, GPT) or after it (BERT).
    pub pre_norm: bool,
    /// Epsilon of the layer norms.
    pub eps: f64,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether the bias of keys is one of them. Without it the others are `attn.q_bias` and `attn.v_bias`
    /// (timm's names).
    pub key_bias: bool,
    /// Layer norms of the queries and the keys of each head (Dehghani et al. 2023, arXiv 2302.05442).
    pub qk_norm: bool,
    /// Attend only to earlier tokens.
    pub causal: bool,
    /// Dropout of the outputs of both parts.
    pub dropout: f32,
    /// Dropout of attention weights.
    pub attention_dropout: f32,
    /// Dropout inside the MLP, after its activation.
    pub activation_dropout: f32,
    /// Stochastic depth of the last block; earlier ones grow linearly towards it.
    pub drop_path: f32,
    /// Chance that a block is left out of a training step, for all samples alike (LayerDrop, Fan et al. 2019,
    /// arXiv 1909.11556).
    pub layer_drop: f32,
    /// Initial value of LayerScale (Touvron et al. 2021, arXiv 2103.17239), if used.
    pub layer_scale: Option<f32>,
    /// Initial values of linear weights.
    pub init: Init,
    /// Initial values of the two projections that are added to the residual, where they differ (GPT-2:
    /// deviation 0.02 / sqrt(2 depth)).
    pub residual_init: Option<Init>,
}

impl TransformerConfig {
    /// ViT's defaults: normalisation before, erf GELU, epsilon 1e-6, no dropout, truncated normal 0.02.
    pub fn vit(dim: usize, depth: usize, heads: usize, hidden: usize) -> Self {
        TransformerConfig {
            dim,
            depth,
            heads,
            hidden,
            act: Act::GeluErf,
            mlp: MlpForm::Plain,
            pre_norm: true,
            eps: 1e-6,
            qkv_bias: true,
            key_bias: true,
            qk_norm: false,
            causal: false,
            dropout: 0.0,
            attention_dropout: 0.0,
            activation_dropout: 0.0,
            drop_path: 0.0,
            layer_drop: 0.0,
            layer_scale: None,
            init: Init::TruncNormal(0.02),
            residual_init: None,
        }
    }
}

/// One block: attention and MLP, each with a residual.
#[derive(Clone, Debug)]
pub struct Block {
    name: String,
    pub(super) heads: usize,
    norm1: LayerNorm,
    qkv: Linear,
    /// Biases of queries and values, where keys have none.
    biases: Option<(Weight, Weight)>,
    qk_norms: Option<(LayerNorm, LayerNorm)>,
    pub(super) proj: Linear,
    norm2: LayerNorm,
    mlp: Mlp,
    scale1: Option<Weight>,
    scale2: Option<Weight>,
    pre_norm: bool,
    pub(super) causal: bool,
    dropout: f32,
    attention_dropout: f32,
    activation_dropout: f32,
    drop_path: f32,
    layer_drop: f32,
}

impl Block {
    fn new(scope: &Scope, c: &TransformerConfig, index: usize) -> Result<Self> {
        let attn = scope.sub("attn");
        let last = c.residual_init.unwrap_or(c.init);
        let scale = |name: &str| {
            c.layer_scale.map(|v| scope.sub(name).get("gamma", c.dim, Init::Const(v))).transpose()
        };
        Ok(Block {
            name: scope.path().to_string(),
            heads: c.heads,
            norm1: LayerNorm::new(&scope.sub("norm1"), c.dim, c.eps)?,
            qkv: Linear::new(&attn.sub("qkv"), c.dim, 3 * c.dim, c.qkv_bias && c.key_bias, c.init)?,
            biases: if c.qkv_bias && !c.key_bias {
                let bias = |name: &str| attn.get(name, c.dim, Init::Const(0.0));
                Some((bias("q_bias")?, bias("v_bias")?))
            } else {
                None
            },
            qk_norms: if c.qk_norm {
                let norm = |name: &str| LayerNorm::new(&attn.sub(name), c.dim / c.heads, c.eps);
                Some((norm("q_norm")?, norm("k_norm")?))
            } else {
                None
            },
            proj: Linear::new(&attn.sub("proj"), c.dim, c.dim, true, last)?,
            norm2: LayerNorm::new(&scope.sub("norm2"), c.dim, c.eps)?,
            mlp: Mlp::with_inits(&scope.sub("mlp"), c.dim, c.hidden, (c.act, c.mlp), (c.init, last))?,
            scale1: scale("ls1")?,
            scale2: scale("ls2")?,
            pre_norm: c.pre_norm,
            causal: c.causal,
            dropout: c.dropout,
            attention_dropout: c.attention_dropout,
            activation_dropout: c.activation_dropout,
            layer_drop: c.layer_drop,
            drop_path: if c.depth > 1 {
                c.drop_path * index as f32 / (c.depth - 1) as f32
            } else {
                c.drop_path
            },
        })
    }

    /// Queries, keys and values `(N, L, 3, H, D/H)` of normalised tokens `(N, L, D)`.
    pub(super) fn projected(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (n, l, d) = x.dims3()?;
        let qkv = match &self.biases {
            Some((q, v)) => {
                let (q, v) = (q.on(pass)?, v.on(pass)?);
                self.qkv.forward_biased(x, &Tensor::cat(&[&q, &q.zeros_like()?, &v], 0)?, pass)?
            }
            None => self.qkv.forward(x, pass)?,
        };
        let qkv = qkv.reshape((n, l, 3, self.heads, d / self.heads))?; // (N, L, 3D) -> (N, L, 3, H, D/H)
        let Some((q_norm, k_norm)) = &self.qk_norms else { return Ok(qkv) };
        let part = |i: usize| -> Result<Tensor> { Ok(qkv.narrow(2, i, 1)?.contiguous()?) };
        let (q, k) = (q_norm.forward(&part(0)?, pass)?, k_norm.forward(&part(1)?, pass)?);
        Ok(Tensor::cat(&[q, k, part(2)?], 2)?)
    }

    fn attend(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        rotation: Option<&Rotation>,
        pass: &Pass,
    ) -> Result<Tensor> {
        let (n, l, d) = x.dims3()?;
        let mut qkv = self.projected(x, pass)?;
        if let Some(rotation) = rotation {
            qkv = rotation.apply(&qkv)?;
        }
        let dropout = pass.dropout(self.attention_dropout, pass.key(&self.name).named("attention"));
        let opts = AttentionOpts { causal: self.causal, scale: None, dropout };
        let y = self_attention(&qkv, bias, &opts, Path::Auto)?.reshape((n, l, d))?; // (N, L, H, D/H) -> (N, L, D)
        self.proj.forward(&y, pass)
    }

    fn feed(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let dropout = pass.dropout(self.activation_dropout, pass.key(&self.name).named("activation"));
        self.mlp.forward_dropout(x, dropout, pass)
    }

    /// Whether this training step leaves the block out: drawn for the step and not for the micro-batch, so
    /// that parts make the whole.
    fn left_out(&self, pass: &Pass) -> bool {
        pass.train
            && self.layer_drop > 0.0
            && pass.key(&self.name).named("layer").rng().chance(self.layer_drop)
    }

    /// Dropout, LayerScale and stochastic depth of a branch.
    fn branch(&self, y: Tensor, part: &str, scale: Option<&Weight>, pass: &Pass) -> Result<Tensor> {
        let mut y = y;
        let key = pass.key(&self.name).named(part);
        if let Some(drop) = pass.dropout(self.dropout, key) {
            y = dropout(&y, &drop, Path::Auto)?;
        }
        if let Some(scale) = scale {
            y = y.broadcast_mul(&scale.on(pass)?)?;
        }
        if let Some(drop) = pass.dropout(self.drop_path, key.named("path")) {
            y = drop_path(&y, &drop)?;
        }
        Ok(y)
    }

    /// The input of attention: `x`, normalised where normalisation comes first.
    pub(super) fn before(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        if self.pre_norm { self.norm1.forward(x, pass) } else { Ok(x.clone()) }
    }

    /// The block's output, from its input `x` and the output of attention.
    pub(super) fn after(&self, x: &Tensor, attended: Tensor, pass: &Pass) -> Result<Tensor> {
        Ok(self.parts(x, attended, pass)?.0)
    }

    /// The same, and beside it the MLP's output before it joins the residual.
    fn parts(&self, x: &Tensor, attended: Tensor, pass: &Pass) -> Result<(Tensor, Tensor)> {
        let (s1, s2) = (self.scale1.as_ref(), self.scale2.as_ref());
        let x = (x + self.branch(attended, "attn", s1, pass)?)?;
        if self.pre_norm {
            let y = self.branch(self.feed(&self.norm2.forward(&x, pass)?, pass)?, "mlp", s2, pass)?;
            Ok(((&x + &y)?, y))
        } else {
            let x = self.norm1.forward(&x, pass)?;
            let y = self.branch(self.feed(&x, pass)?, "mlp", s2, pass)?;
            Ok((self.norm2.forward(&(&x + &y)?, pass)?, y))
        }
    }

    /// `(N, L, D)` to `(N, L, D)`; `bias` is added to the attention scores, `(1 | N, 1 | H, 1 | L, L)`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(&self, x: &Tensor, bias: Option<&Tensor>, pass: &Pass) -> Result<Tensor> {
        self.rotated(x, bias, None, pass)
    }

    /// The same with rotary positions.
    fn rotated(
        &self,
        x: &Tensor,
        bias: Option<&Tensor>,
        rotation: Option<&Rotation>,
        pass: &Pass,
    ) -> Result<Tensor> {
        self.after(x, self.attend(&self.before(x, pass)?, bias, rotation, pass)?, pass)
    }
}

/// A stack of [`Block`]s, without a final norm.
#[derive(Clone, Debug)]
pub struct Transformer {
    pub(super) blocks: Vec<Block>,
}

impl Transformer {
    /// Blocks live at `scope.0`, `scope.1` ...
    ///
    /// # Errors
    /// If `heads` does not divide `dim`.
    pub fn new(scope: &Scope, config: &TransformerConfig) -> Result<Self> {
        if config.heads == 0 || !config.dim.is_multiple_of(config.heads) {
            return Err(Error::config(format!(
                "{} attention heads do not divide a width of {}",
                config.heads, config.dim
            )));
        }
        let blocks = (0..config.depth)
            .map(|i| Block::new(&scope.sub(i).block(i), config, i))
            .collect::<Result<_>>()?;
        Ok(Transformer { blocks })
    }

    /// `(N, L, D)` through all blocks. `valid (N, L)`, 1 for tokens and 0 for padding, hides padded keys.
    /// The hidden states after the blocks named in `keep` (0-based) are returned beside the last one, in that
    /// order.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward(
        &self,
        x: &Tensor,
        valid: Option<&Tensor>,
        keep: &[usize],
        pass: &Pass,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        self.forward_rotated(x, valid, None, keep, pass)
    }

    /// The same with rotary positions.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn forward_rotated(
        &self,
        x: &Tensor,
        valid: Option<&Tensor>,
        rotation: Option<&Rotation>,
        keep: &[usize],
        pass: &Pass,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let bias = valid.map(padding_bias).transpose()?;
        let (mut x, mut hidden) = (x.clone(), HiddenLayers::numbered(keep, self.blocks.len())?);
        for (i, block) in self.blocks.iter().enumerate() {
            if !block.left_out(pass) {
                x = block.rotated(&x, bias.as_ref(), rotation, pass)?;
            }
            hidden.see(i, &x);
        }
        Ok((x, hidden.layers()?))
    }

    /// The outputs of the last `top` MLPs, each before it joins the residual, from the lowest block to
    /// the highest: data2vec's targets. Each is `(N, L, D)`.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn mlp_outputs(
        &self,
        x: &Tensor,
        valid: Option<&Tensor>,
        top: usize,
        pass: &Pass,
    ) -> Result<Vec<Tensor>> {
        let bias = valid.map(padding_bias).transpose()?;
        let (mut x, mut kept) = (x.clone(), Vec::new());
        for (i, block) in self.blocks.iter().enumerate() {
            let attended = block.attend(&block.before(&x, pass)?, bias.as_ref(), None, pass)?;
            let (out, mlp) = block.parts(&x, attended, pass)?;
            x = out;
            if i + top >= self.blocks.len() {
                kept.push(mlp);
            }
        }
        Ok(kept)
    }

    /// Whether a training step may leave blocks out, and with them their parameters.
    pub fn drops_layers(&self) -> bool {
        self.blocks.iter().any(|b| b.layer_drop > 0.0)
    }

    /// Number of blocks.
    pub fn depth(&self) -> usize {
        self.blocks.len()
    }
}

/// `valid (N, L)` to an additive mask `(N, 1, 1, L)`: 0 for tokens, a large negative number for padding.
fn padding_bias(valid: &Tensor) -> Result<Tensor> {
    let valid = valid.to_dtype(candle_core::DType::F32)?;
    // Not -inf: a row of nothing but padding must stay finite.
    Ok(valid.affine(3e38, -3e38)?.unsqueeze(1)?.unsqueeze(D::Minus2)?)
}
