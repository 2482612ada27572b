//! T5's blocks: RMS normalisation before each part, no biases, attention without `1 / sqrt(d)`.

use super::T5Config;
use candle_core::Tensor;
use selfsup_core::nn::{KvCache, Linear, RmsNorm};
use selfsup_core::{Init, Pass, Result, Scope};
use selfsup_kernels::Path;
use selfsup_kernels::activation::Act;
use selfsup_kernels::attention::{AttentionOpts, attention};
use selfsup_kernels::dropout::dropout;

/// Dropout in training, with the key of `name`.
pub(super) fn drop(x: Tensor, p: f32, name: &str, part: &str, pass: &Pass) -> Result<Tensor> {
    match pass.dropout(p, pass.key(name).named(part)) {
        Some(drop) => Ok(dropout(&x, &drop, Path::Auto)?),
        None => Ok(x),
    }
}

/// Attention of queries to keys and values made from another sequence, or the same.
#[derive(Clone, Debug)]
pub(super) struct Attention {
    name: String,
    q: Linear,
    kv: Linear,
    proj: Linear,
    heads: usize,
    head_dim: usize,
    dropout: f32,
}

impl Attention {
    fn new(scope: &Scope, c: &T5Config) -> Result<Self> {
        let (inner, dim) = (c.heads * c.head_dim, c.dim as f32);
        // No factor 1 / sqrt(d) in the scores: it is in the queries' initial weights instead.
        let normal = |fan: f32| Init::Normal(fan.sqrt().recip());
        Ok(Attention {
            name: scope.path().to_string(),
            q: Linear::new(&scope.sub("q"), c.dim, inner, false, normal(dim * c.head_dim as f32))?,
            kv: Linear::new(&scope.sub("kv"), c.dim, 2 * inner, false, normal(dim))?,
            proj: Linear::new(&scope.sub("proj"), inner, c.dim, false, normal(inner as f32))?,
            heads: c.heads,
            head_dim: c.head_dim,
            dropout: c.dropout,
        })
    }

    /// Keys and values of `x (N, S, D)`: `(N, S, 2, H, D/H)`.
    pub(super) fn keys_values(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let (n, s, _) = x.dims3()?;
        Ok(self.kv.forward(x, pass)?.reshape((n, s, 2, self.heads, self.head_dim))?)
    }

    fn attend(
        &self,
        x: &Tensor,
        kv: &Tensor,
        bias: Option<&Tensor>,
        causal: bool,
        pass: &Pass,
    ) -> Result<Tensor> {
        let (n, t, _) = x.dims3()?;
        let q = self.q.forward(x, pass)?.reshape((n, t, self.heads, self.head_dim))?;
        let dropout = pass.dropout(self.dropout, pass.key(&self.name).named("attention"));
        let y = attention(&q, kv, bias, &AttentionOpts { causal, scale: Some(1.0), dropout }, Path::Auto)?;
        self.proj.forward(&y.reshape((n, t, self.heads * self.head_dim))?, pass) // (N, T, H, D/H) -> (N, T, H D/H)
    }
}

/// `wo(act(wi x))`, or gated `wo(act(wi_0 x) * wi_1 x)` (Shazeer 2020, arXiv 2002.05202).
#[derive(Clone, Debug)]
struct FeedForward {
    name: String,
    wi: Linear,
    gated: Option<Linear>,
    wo: Linear,
    act: Act,
    dropout: f32,
}

impl FeedForward {
    fn new(scope: &Scope, c: &T5Config) -> Result<Self> {
        let (inner, outer) =
            (Init::Normal((c.dim as f32).sqrt().recip()), Init::Normal((c.hidden as f32).sqrt().recip()));
        let layer = |name: &str| Linear::new(&scope.sub(name), c.dim, c.hidden, false, inner);
        let (wi, gated) = if c.gated { (layer("wi_0")?, Some(layer("wi_1")?)) } else { (layer("wi")?, None) };
        Ok(FeedForward {
            name: scope.path().to_string(),
            wi,
            gated,
            wo: Linear::new(&scope.sub("wo"), c.hidden, c.dim, false, outer)?,
            act: c.act,
            dropout: c.dropout,
        })
    }

    fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let y = self.wi.forward_act(x, self.act, pass)?;
        let y = match &self.gated {
            Some(gate) => (y * gate.forward(x, pass)?)?,
            None => y,
        };
        self.wo.forward(&drop(y, self.dropout, &self.name, "hidden", pass)?, pass)
    }
}

/// A block of the encoder, or of the decoder with its attention to the encoder.
#[derive(Clone, Debug)]
pub(super) struct Block {
    name: String,
    norm1: RmsNorm,
    pub(super) own: Attention,
    cross: Option<(RmsNorm, Attention)>,
    norm_mlp: RmsNorm,
    mlp: FeedForward,
    causal: bool,
    dropout: f32,
}

/// What a decoder's block sees of the encoder.
pub(super) struct Memory<'a> {
    /// `(N, S, 2, H, D/H)`.
    pub kv: &'a Tensor,
    /// `(N, 1, 1, S)`, if some places are padded.
    pub bias: Option<&'a Tensor>,
}

impl Block {
    pub(super) fn new(scope: &Scope, c: &T5Config, decoder: bool) -> Result<Self> {
        let norm = |name: &str| RmsNorm::new(&scope.sub(name), c.dim, c.eps);
        Ok(Block {
            name: scope.path().to_string(),
            norm1: norm("norm1")?,
            own: Attention::new(&scope.sub("attn"), c)?,
            cross: if decoder {
                Some((norm("norm2")?, Attention::new(&scope.sub("cross"), c)?))
            } else {
                None
            },
            norm_mlp: norm(if decoder { "norm3" } else { "norm2" })?,
            mlp: FeedForward::new(&scope.sub("mlp"), c)?,
            causal: decoder,
            dropout: c.dropout,
        })
    }

    /// Keys and values that the cross attention makes of the encoder's output.
    pub(super) fn memory(&self, encoded: &Tensor, pass: &Pass) -> Result<Option<Tensor>> {
        self.cross.as_ref().map(|(_, cross)| cross.keys_values(encoded, pass)).transpose()
    }

    /// `x (N, T, D)`; `bias (1 | N, H, T, S)`; with a cache, its tokens stand before `x`.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        bias: &Tensor,
        memory: Option<&Memory>,
        cache: Option<(&mut KvCache, usize)>,
        pass: &Pass,
    ) -> Result<Tensor> {
        let branch = |y: Tensor, part: &str| drop(y, self.dropout, &self.name, part, pass);
        let normed = self.norm1.forward(x, pass)?;
        let new = self.own.keys_values(&normed, pass)?;
        let kv = match cache {
            Some((cache, index)) => cache.append(index, &new)?,
            None => new,
        };
        let mut x = (x + branch(self.own.attend(&normed, &kv, Some(bias), self.causal, pass)?, "own")?)?;
        if let (Some((norm, cross)), Some(memory)) = (&self.cross, memory) {
            let y = cross.attend(&norm.forward(&x, pass)?, memory.kv, memory.bias, false, pass)?;
            x = (&x + branch(y, "cross")?)?;
        }
        let y = self.mlp.forward(&self.norm_mlp.forward(&x, pass)?, pass)?;
        Ok((&x + branch(y, "mlp")?)?)
    }
}
