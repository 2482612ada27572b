//! Where a vision transformer looks: the attention of its last block.

use candle_core::Tensor;
use selfsup_core::network::{Pool, ViTConfig};
use selfsup_core::nn::{LayerNorm, Linear};
use selfsup_core::{Encoder, Error, Init, Layer, Params, Pass, Result, Scope};
use selfsup_kernels::Path;
use selfsup_kernels::softmax::softmax;

/// How much each patch of images `x (N, C, H, W)` is looked at in the last block, `(N, L)`, the mean over the
/// heads: by the class token where it is what the encoder gives, else by all patches. `encoder` is the
/// network of `config`, whose parameters are `params` below `encoder`.
///
/// # Errors
/// If the network has a single block, rotary positions, normalised queries and keys, or not these parameters.
pub fn last_attention(
    config: &ViTConfig<2>,
    encoder: &dyn Encoder,
    params: &Params,
    x: &Tensor,
) -> Result<Tensor> {
    let trunk = &config.trunk;
    let plain = trunk.pre_norm && trunk.key_bias && !trunk.qk_norm && config.rotary.is_none();
    if trunk.depth < 2 || !plain {
        let problem = "expected two blocks or more, normalised in front, with plain queries and keys";
        return Err(Error::input("attention", problem));
    }
    let pass = Pass::eval();
    // The input of the last block is the output of the one before.
    let found = encoder.forward(x, None, &[Layer::Hidden(trunk.depth - 2)], &pass)?;
    let input = found.layers.first().ok_or_else(|| Error::input("attention", "no hidden layer"))?.detach();
    let name = format!("encoder.blocks.{}", trunk.depth - 1);
    if params.get(&format!("{name}.attn.qkv.weight")).is_none() {
        return Err(Error::input(name, "there is no such block"));
    }
    // Layers over the tensors that are there: nothing is drawn.
    let scope = Scope::root(params, 0, x.device()).sub("encoder").sub("blocks").sub(trunk.depth - 1);
    let norm = LayerNorm::new(&scope.sub("norm1"), trunk.dim, trunk.eps)?;
    let qkv = Linear::new(
        &scope.sub("attn").sub("qkv"),
        trunk.dim,
        3 * trunk.dim,
        trunk.qkv_bias,
        Init::Const(0.0),
    )?;
    let (n, l, d) = input.dims3()?;
    let width = d / trunk.heads;
    // (N, L, 3D) -> (3, N, H, L, D/H)
    let parts = qkv.forward(&norm.forward(&input, &pass)?, &pass)?;
    let parts = parts.reshape((n, l, 3, trunk.heads, width))?.permute((2, 0, 3, 1, 4))?;
    let part = |i: usize| -> Result<Tensor> { Ok(parts.get(i)?.contiguous()?) };
    let (q, k) = (part(0)?, part(1)?);
    let prefix = config.prefix();
    let (first, queries) = if config.pool == Pool::Class { (0, 1) } else { (prefix, l - prefix) };
    let q = q.narrow(2, first, queries)?.contiguous()?;
    let scores = (q.matmul(&k.t()?.contiguous()?)? / (width as f64).sqrt())?;
    // (N, H, Q, L) -> (N, L) without class token and registers.
    let shares = softmax(&scores, Path::Auto)?.mean(2)?.mean(1)?;
    Ok(shares.narrow(1, prefix, l - prefix)?.contiguous()?)
}
